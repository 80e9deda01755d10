"""What was deleted from an erasure-coded volume: each holder's journal knows only some of it, the dead are the union.

From 4.21 on a deletion is written into one holder's `.ecj` and dies with that holder, unless the others are told
(VolumeEcBlobDelete, which may be repeated). A journal is never copied over another: servers overwrite its start.
Knows nothing of why it is asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from weed_cluster.address import Address
from weed_core.errors import Mismatch
from weed_ec.runs import Run
from weed_ec.shards import digest, fetch
from weed_safety.context import Context
from weed_storage.index import entries, read_ecj

EMPTY = hashlib.sha256().digest()


@dataclass(frozen=True)
class Deletions:
    """The needle ids that each holder knows as deleted, by its journal or by marks in its index.

    `journals` are those in the `.ecj` files alone. `index_from` is a holder whose `.ecx` has the most marks; None where
    no holder has an `.ecx`.
    """

    by_holder: Mapping[Address, frozenset[int]]
    journals: Mapping[Address, frozenset[int]]
    index_from: Address | None

    @property
    def all(self) -> frozenset[int]:
        """Every deletion that any holder knows."""
        return frozenset().union(*self.by_holder.values())

    @property
    def untold(self) -> dict[Address, frozenset[int]]:
        """What each holder does not know of it, for those that lack something."""
        return {server: lacks for server, knows in self.by_holder.items() if (lacks := self.all - knows)}


def deletions_of(ctx: Context, run: Run, more: Iterable[Address] = ()) -> Deletions:
    """Ask all holders of a run, and servers besides that may have a journal, for what they know as deleted.

    ServerFailed where one cannot be asked; Mismatch where their indexes name different needles.
    """
    servers = list(dict.fromkeys([*(held.server for held in run.holders), *more]))
    journals = dict(zip(servers, ctx.each(lambda server: _journal(ctx, run, server), servers)))
    digests = dict(zip(servers, ctx.each(lambda server: _index_digest(ctx, run, server), servers)))
    marks: dict[bytes, frozenset[int]] = {}
    ids: set[bytes] = set()
    for server, found in digests.items():
        if found and found not in marks:
            content = fetch(ctx.volume(server), run.volume_id, run.collection, ".ecx") or b""
            named, marks[found] = ctx.compute(_ids, content, run.vif.bytes_offset or 4)
            ids.add(named)
    if len(ids) > 1:
        raise Mismatch(f"the holders of {run.name} have indexes that name different files; nothing was touched")
    indexed = [server for server in servers if digests[server]]
    return Deletions(
        {server: journals[server] | marks.get(digests[server], frozenset()) for server in servers},
        journals,
        max(indexed, key=lambda server: (len(marks[digests[server]]), str(server)), default=None),
    )


def tell_all(ctx: Context, run: Run, known: Iterable[int] = ()) -> int:
    """Tell every holder every deletion that any of them knows, and `known` besides; return how often one was told.

    Mismatch where a holder still does not know one afterwards: a server that has no shard of the volume mounted
    answers that it does, and writes nothing down.
    """
    before = deletions_of(ctx, run)
    wanted = before.all | frozenset(known)
    lacking = {server: wanted - knows for server, knows in before.by_holder.items() if wanted - knows}

    def tell(server: Address) -> None:
        volume = ctx.volume(server)
        for needle_id in sorted(lacking[server]):
            ctx.cluster.leash.check()
            volume.volume_ec_blob_delete(
                volume_id=run.volume_id,
                collection=run.collection,
                file_key=needle_id,
                version=run.vif.version or 3,
            )

    if not lacking:
        return 0
    ctx.each(tell, lacking)
    after = deletions_of(ctx, run).by_holder
    for server, ids in lacking.items():
        if left := ids - after[server]:
            raise Mismatch(
                f"{server} did not write down {len(left)} of {len(ids)} deletions from {run.name} that it was told; "
                "they would be undone with the holder that knows them"
            )
    return sum(map(len, lacking.values()))


def _journal(ctx: Context, run: Run, server: Address) -> frozenset[int]:
    return frozenset(read_ecj(fetch(ctx.volume(server), run.volume_id, run.collection, ".ecj") or b""))


def _index_digest(ctx: Context, run: Run, server: Address) -> bytes:
    """The SHA-256 of a holder's index; nothing where it has none, or an empty one."""
    found = digest(ctx.volume(server), run.volume_id, run.collection, ".ecx")
    return b"" if found in (None, EMPTY) else found or b""


def _ids(index: bytes, offset_bytes: int) -> tuple[bytes, frozenset[int]]:
    """A digest of the needle ids in an index, and those that it marks as deleted."""
    named, marked = hashlib.sha256(), set()
    for needle_id, _offset, size in entries(index, offset_bytes):
        named.update(needle_id.to_bytes(8, "big"))
        if size < 0:
            marked.add(needle_id)
    return named.digest(), frozenset(marked)
