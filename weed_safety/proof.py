"""Proving that copies of a volume hold the same files, from what the servers themselves read back.

Three depths: the index (every needle's id, size and whether it lives), the needles' checksums as they are stored, and
the bytes of a sample. Knows nothing of why two copies are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from proto_gen.volume_server_pb2 import ReadVolumeFileStatusResponse
from weed_cluster.address import Address
from weed_core.errors import Mismatch, ServerFailed
from weed_safety.context import Context
from weed_safety.look import file_status
from weed_storage.index import Fold, Live, compare
from weed_storage.needle import actual_size, parse_needle

SAMPLE = 64
"""Needles of a sample."""

SAMPLE_BYTES = 64 << 20
"""Bytes after which a sample ends, whatever it still lacks."""

SERVED = 4
"""Needles that every new holder is asked for before anything is deleted."""

ANSWERS = 60.0
"""Seconds in which a server must find and read one needle."""

PIECE = 1 << 20
"""Bytes of an index worked on in one go."""

BATCH = 1000
"""Needles compared at a time."""

INDEX, CHECKSUMS, BYTES = "index", "checksums", "bytes"
"""How deep compare_replicas looks: at which needles live; at a sample's stored checksums too; at its bytes too."""


@dataclass(frozen=True)
class Index:
    """A volume's `.idx` as a server sent it: what lives, and the SHA-256 of its first bytes."""

    live: Live
    digest: bytes
    size: int  # bytes


@dataclass(frozen=True)
class Difference:
    """How two replicas differ, as needle ids; false if they do not."""

    missing_in_a: Sequence[int] = ()
    missing_in_b: Sequence[int] = ()
    different: Sequence[int] = field(default=())  # in both, with another size or other content

    def __bool__(self) -> bool:
        return bool(self.missing_in_a or self.missing_in_b or self.different)

    def __str__(self) -> str:
        figures = (
            (self.missing_in_a, "missing in the first"),
            (self.missing_in_b, "missing in the second"),
            (self.different, "of different content"),
        )
        return ", ".join(f"{len(ids)} needles {words}" for ids, words in figures if ids) or "no difference"


def live_index(ctx: Context, server: Address, volume_id: int, status: ReadVolumeFileStatusResponse) -> Live:
    """Fetch the needles that a volume holds, as of `status`. ServerFailed if it was compacted since then."""
    return fetch_index(ctx, server, volume_id, status).live


def fetch_index(
    ctx: Context, server: Address, volume_id: int, status: ReadVolumeFileStatusResponse, size: int | None = None
) -> Index:
    """Fetch a volume's index as of `status`, or only its first `size` bytes.

    ServerFailed if the volume was compacted since then, Mismatch if fewer bytes come than were announced.
    """
    wanted = status.idx_file_size if size is None else size
    folding = Fold(status.volume_info.bytes_offset or 4)
    digest = hashlib.sha256()
    taken = 0
    chunks = ctx.volume(server).copy_file(
        volume_id=volume_id,
        ext=".idx",
        compaction_revision=status.compaction_revision,
        stop_offset=wanted,
        collection=status.collection,
    )
    for chunk in chunks if wanted else ():
        # The last chunk may run past the offset at which it was asked to stop.
        content = chunk.file_content[: wanted - taken]
        taken += len(content)
        ctx.rates.spend(str(server), len(content), ctx.wait)
        ctx.compute(digest.update, content)
        for start in range(0, len(content), PIECE):
            ctx.compute(folding.feed, content[start : start + PIECE])
    if taken != wanted:
        raise Mismatch(f"the index of volume {volume_id} on {server} ended after {taken} of {wanted} bytes")
    return Index(ctx.compute(folding.live), digest.digest(), taken)


def sample_of(live: Live, count: int = SAMPLE) -> list[tuple[int, int, int]]:
    """Choose needles spread evenly over a volume, the outermost ones included: id, offset in bytes, size."""
    total = len(live)
    if not total:
        return []
    places = sorted({total * step // max(count - 1, 1) if step < count - 1 else total - 1 for step in range(count)})
    ids = [live.ids[min(place, total - 1)] for place in places]
    return [(needle_id, *live[needle_id]) for needle_id in dict.fromkeys(ids)]


Sample = Sequence[tuple[int, int, int]]
"""Needles as id, offset in bytes and size."""


def prove_serves(ctx: Context, volume_id: int, witness: Address, holders: Sequence[Address], sample: Sample) -> None:
    """Prove that each holder finds needles by itself, as clients will have it do; Mismatch names one that does not.

    Equal bytes are no copy where the server cannot look them up. Cookie and checksum must be what the witness, which
    holds the volume, answers; what it no longer finds itself (expired, deleted since) is left out. `holders` may have
    the volume or shards of it; of a server that has both only the volume is asked.
    """
    known = asked_of(ctx, volume_id, witness, sample)
    ctx.each(lambda holder: prove_answers(ctx, volume_id, holder, known), holders)


def asked_of(
    ctx: Context, volume_id: int, witness: Address, sample: Sample, within: float = 0.0
) -> dict[int, tuple[int, int]]:
    """Ask the witness for the needles that it still has: id to cookie and checksum.

    One that cannot answer is asked again for so many seconds, then ServerFailed: with shards, it may have to learn
    first where others of the volume went.
    """
    answers: dict[int, tuple[int, int] | None] = {}
    failures: list[ServerFailed] = []

    def ask(needle_id: int) -> None:
        try:
            answers[needle_id] = _needle(ctx, volume_id, witness, needle_id)
        except ServerFailed as error:
            failures.append(error)

    def answered() -> bool:
        failures.clear()
        ctx.each(ask, [needle_id for needle_id, _offset, size in sample if size and needle_id not in answers])
        return not failures

    if not ctx.until(answered, within, pause=0.5):
        raise failures[-1]
    return {needle_id: needle for needle_id, needle in answers.items() if needle is not None}


def prove_answers(
    ctx: Context, volume_id: int, holder: Address, known: Mapping[int, tuple[int, int]], within: float = 0.0
) -> None:
    """Mismatch unless a holder finds these needles, within so many seconds: one with shards first learns of the others.

    ServerFailed is answered with a Mismatch, too: whatever keeps it from answering would keep clients from reading.
    """
    if reason := why_unanswered(ctx, volume_id, holder, known, within):
        raise Mismatch(f"{holder} does not serve volume {volume_id}: {reason}; nothing was deleted")


def why_unanswered(
    ctx: Context, volume_id: int, holder: Address, known: Mapping[int, tuple[int, int]], within: float
) -> str:
    """Say what a holder answers when asked for these needles, where it is still wrong after so many seconds; else "".

    All that fail are asked for in turn. A server of 4.44 forgets where a shard was when it wants it to recover another
    one, not when it wants it for itself, and asks the master anew, after 11 s, only when it knows fewer than ten.
    """
    reasons: dict[int, str] = {}
    open_ids = list(known)

    def finds(needle_id: int) -> bool:
        try:
            found = _needle(ctx, volume_id, holder, needle_id)
        except ServerFailed as error:
            reasons[needle_id] = str(error)
            return False
        reasons[needle_id] = "it says there is none" if found is None else "it reads another one"
        return found == known[needle_id]

    def finds_all() -> bool:
        open_ids[:] = [needle_id for needle_id in open_ids if not finds(needle_id)]
        return not open_ids

    if ctx.until(finds_all, within, pause=0.5):
        return ""
    return f"asked for needle {open_ids[0]:x}, {reasons[open_ids[0]]}"


def _needle(ctx: Context, volume_id: int, server: Address, needle_id: int) -> tuple[int, int] | None:
    """Cookie and checksum of a needle as its server finds and reads it; None where it says that it has none."""
    try:
        needle = ctx.volume(server).volume_needle_status(volume_id=volume_id, needle_id=needle_id, timeout=ANSWERS)
    except ServerFailed as error:
        if error.says_absent or "deleted" in error.detail.lower():
            return None
        raise
    return needle.cookie, needle.crc


def sample_needles(ctx: Context, server: Address, volume_id: int, live: Live, version: int, count: int = SAMPLE) -> int:
    """Read a sample of needles and check their checksums; return how many. Mismatch names the first bad one."""
    done = budget = 0
    for needle_id, offset, size in sample_of(live, count):
        if budget > SAMPLE_BYTES:
            break
        _read(ctx, server, volume_id, needle_id, offset, size, version)
        budget += size
        done += 1
    return done


def prove_copy(
    ctx: Context,
    volume_id: int,
    source: Address,
    target: Address,
    still: ReadVolumeFileStatusResponse | None = None,
    may_grow: bool = False,
) -> ReadVolumeFileStatusResponse:
    """Prove that the target's files are a copy of the source's; return the target's status. Mismatch if they are not.

    With `still`, the status of a frozen source, the copy must be of exactly its sizes and revision. Without it, the
    source may have gone on since the copy: then the copy must be how the source began. `may_grow` allows the copy
    to have gone on since; then the source must be how it began.
    """
    names = f"the copy of volume {volume_id} on {target}", f"the original on {source}"
    of_source, of_target = still or file_status(ctx, source, volume_id), file_status(ctx, target, volume_id)
    _prove_sizes(names, of_source, of_target, is_still=still is not None, may_grow=may_grow)
    common = (of_source if may_grow else of_target).idx_file_size
    indexes = ctx.each(
        lambda side: fetch_index(ctx, side[0], volume_id, side[1], common),
        [(source, of_source), (target, of_target)],
    )
    if indexes[0].digest != indexes[1].digest:
        raise Mismatch(f"{names[0]} has another index than {names[1]}")
    _prove_needles(ctx, volume_id, (source, target), names, sample_of(indexes[0].live), of_source.version or 3)
    sample = sample_of(indexes[0].live, SERVED)
    if may_grow and of_target.idx_file_size > common:
        now = live_index(ctx, target, volume_id, of_target)  # what clients changed there is no longer the source's
        sample = [needle for needle in sample if now.get(needle[0]) == needle[1:]]
    prove_serves(ctx, volume_id, source, [target], sample)
    return of_target


Status = ReadVolumeFileStatusResponse
Names = tuple[str, str]
"""The copy and the original, in words."""


def _prove_sizes(names: Names, of_source: Status, of_target: Status, is_still: bool, may_grow: bool) -> None:
    """Mismatch unless revisions are equal, and sizes too, but for the side that may have gone on since the copy."""
    if of_source.compaction_revision != of_target.compaction_revision:
        raise Mismatch(
            f"{names[0]} has compaction revision {of_target.compaction_revision}, "
            f"{names[1]} has {of_source.compaction_revision}"
        )
    sizes = [(status.dat_file_size, status.idx_file_size) for status in (of_source, of_target)]
    shorter, longer = sizes if may_grow else sizes[::-1]
    is_shorter = shorter[0] <= longer[0] and shorter[1] <= longer[1]
    if shorter != longer and ((is_still and not may_grow) or not is_shorter):
        raise Mismatch(
            f"{names[0]} has {sizes[1][0]} bytes of data and {sizes[1][1]} of index, "
            f"{names[1]} has {sizes[0][0]} and {sizes[0][1]}"
        )


def _prove_needles(
    ctx: Context, volume_id: int, ends: tuple[Address, Address], names: Names, sample: Sample, version: int
) -> None:
    """Mismatch unless a sample of needles is the same, byte for byte, at the source and the target."""
    budget = 0
    for needle_id, offset, size in sample:
        if budget > SAMPLE_BYTES:
            return
        budget += size
        blobs = [_read(ctx, server, volume_id, needle_id, offset, size, version) for server in ends]
        if blobs[0] != blobs[1]:
            raise Mismatch(f"needle {needle_id:x} of {names[0]} differs from {names[1]}")


def compare_replicas(
    ctx: Context, a: Address, b: Address, volume_id: int, level: str = CHECKSUMS, count: int = SAMPLE
) -> Difference:
    """Compare what two replicas of a volume hold, wherever in their files it lies.

    `count` needles are read beyond the indexes, 0 for all of them.

    Replicas that were written to by clients differ in layout and in stamps, yet hold the same needles. A needle that
    is missing may have been deleted there: absence alone does not tell which replica is right.
    """
    sides = [(server, file_status(ctx, server, volume_id)) for server in (a, b)]
    lives = ctx.each(lambda side: live_index(ctx, side[0], volume_id, side[1]), sides)
    found = ctx.compute(compare, *lives)
    # A replica may lack the name that another keeps with a needle, so another size alone is no other content.
    suspects = list(found.different_size)
    if level in (CHECKSUMS, BYTES):
        known = {*found.missing_in_a, *found.missing_in_b, *found.different_size}
        suspects += [needle[0] for needle in sample_of(lives[0], count or len(lives[0])) if needle[0] not in known]

    def is_same(needle_id: int) -> bool:
        places = [(server, *live[needle_id]) for server, live in zip((a, b), lives)]
        return _same_needle(ctx, volume_id, needle_id, places, sides[0][1].version or 3, level)

    different: list[int] = []
    for start in range(0, len(suspects), BATCH):
        batch = suspects[start : start + BATCH]
        different += [needle_id for needle_id, same in zip(batch, ctx.each(is_same, batch)) if not same]
    return Difference(found.missing_in_a, found.missing_in_b, sorted(different))


def _same_needle(
    ctx: Context, volume_id: int, needle_id: int, places: list[tuple[Address, int, int]], version: int, level: str
) -> bool:
    if level == BYTES:
        needles = [
            ctx.compute(parse_needle, _read(ctx, server, volume_id, needle_id, offset, size, version), version)
            for server, offset, size in places
        ]
        return bool((needles[0].cookie, needles[0].data) == (needles[1].cookie, needles[1].data))
    metas = [
        ctx.volume(server).read_needle_meta(volume_id=volume_id, needle_id=needle_id, offset=offset, size=size)
        for server, offset, size in places
    ]
    return (metas[0].cookie, metas[0].crc) == (metas[1].cookie, metas[1].crc)


def _read(ctx: Context, server: Address, volume_id: int, needle_id: int, offset: int, size: int, version: int) -> bytes:
    """Read one needle's record and check it; Mismatch says what is wrong with it."""
    blob = ctx.volume(server).read_needle_blob(volume_id=volume_id, offset=offset, size=size).needle_blob
    ctx.rates.spend(str(server), len(blob), ctx.wait)
    blob = blob[: actual_size(size, version)]
    try:
        needle = ctx.compute(parse_needle, blob, version)
    except Mismatch as error:
        raise Mismatch(f"volume {volume_id} on {server}: {error}") from None
    if needle.id != needle_id:
        raise Mismatch(f"volume {volume_id} on {server} has needle {needle.id:x} where its index says {needle_id:x}")
    return bytes(blob)


@dataclass(frozen=True)
class Comparison:
    """How the replicas of a volume differ from the most complete one, which comes first in `servers`.

    `ids` are the needles in which any two differ. `is_superset`: the first has all that any other has.
    """

    servers: tuple[Address, ...]
    ids: frozenset[int] = frozenset()
    is_superset: bool = True


def compare_all(ctx: Context, volume_id: int, servers: Sequence[Address], level: str) -> Comparison:
    """Compare all replicas of a volume; each needle at every level but the index."""
    if len(servers) < 2:
        return Comparison(tuple(servers))

    def live_files(server: Address) -> int:
        status = ctx.volume(server).volume_status(volume_id=volume_id)
        return status.file_count - status.file_deleted_count

    counts = dict(zip(servers, ctx.each(live_files, servers)))
    best, *others = sorted(servers, key=lambda server: (-counts[server], str(server)))
    found = [compare_replicas(ctx, best, other, volume_id, level, count=0) for other in others]
    ids = {
        needle_id for one in found for part in (one.missing_in_a, one.missing_in_b, one.different) for needle_id in part
    }
    superset = not any(one.missing_in_a or one.different for one in found)
    return Comparison((best, *others), frozenset(ids), superset)


def names(servers: Iterable[Address]) -> str:
    """List servers in words."""
    texts = sorted(map(str, servers))
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))
