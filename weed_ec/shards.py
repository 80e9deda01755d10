"""What a volume server holds of an erasure-coded volume, and how that is removed again.

Asked of the servers themselves: the master's view lags, and knows nothing of files that are not mounted. Knows nothing
of why shards are there or must go; whether removing them is safe is the caller's to prove.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from proto_gen.volume_server_pb2 import ReceiveFileInfo, ReceiveFileResponse, VolumeInfo
from weed_cluster.address import Address
from weed_cluster.call import upload_message
from weed_cluster.volume_server import VolumeServer
from weed_core.errors import Busy, Mismatch, ServerFailed, TaskError
from weed_core.release import Generation
from weed_safety.context import Context
from weed_safety.look import generation_of
from weed_storage.ec_layout import TOTAL_SHARDS
from weed_storage.volume_info import parse_vif

ALL_SHARDS = tuple(range(TOTAL_SHARDS))

ANY_REVISION = 0xFFFFFFFF
"""The compaction revision that CopyFile takes for any."""

SENDER_SECONDS = 100.0
"""Seconds after its last write in which a shard file may still have a sender; then the server has dropped that one.

When a stream breaks, the server removes the file by its name, whoever wrote it last: shards sent over the file of a
sender that is dead but not yet dropped would vanish later. Servers ping after 60 s and wait 20 s for the answer.
"""


@dataclass
class ShardSet:
    """One server's part of an erasure-coded volume.

    `mounted` is shard id -> bytes, `files` shard id -> when it was last written (ns), whether mounted or not. `vif` is
    absent where the server has none, or only that of the regular volume that lies on the same disk.
    """

    server: Address
    generation: Generation
    mounted: dict[int, int] = field(default_factory=dict)
    files: dict[int, int] = field(default_factory=dict)
    vif: VolumeInfo | None = None

    @property
    def run(self) -> int:
        """The encode run its shards come from; 0 where that is unknown."""
        return self.vif.ec_shard_config.encode_ts_ns if self.vif is not None else 0

    @property
    def shards(self) -> list[int]:
        """The shards it holds in whatever form."""
        return sorted({*self.mounted, *self.files})


def look(ctx: Context, server: Address, volume_id: int, collection: str) -> ShardSet:
    """Ask a server for all it holds of a volume's shards; ServerFailed where it does not answer."""
    held = ShardSet(server, generation_of(ctx, server))
    volume = ctx.volume(server)
    try:
        for info in volume.volume_ec_shards_info(volume_id=volume_id).ec_shard_infos:
            # Releases before 4.13 do not fill in the volume id.
            if info.collection == collection and info.volume_id in (volume_id, 0):
                held.mounted[info.shard_id] = info.size
    except ServerFailed as error:
        if not error.says_absent:
            raise
    for shard_id in ALL_SHARDS:
        written = file_time(volume, volume_id, collection, f".ec{shard_id:02d}")
        if written is not None:
            held.files[shard_id] = written
    if held.shards:
        held.vif = parse_vif(fetch(volume, volume_id, collection, ".vif") or b"")
    return held


def look_at_all(ctx: Context, servers: Iterable[Address], volume_id: int, collection: str) -> list[ShardSet]:
    """Ask several servers side by side."""
    return ctx.each(lambda server: look(ctx, server, volume_id, collection), dict.fromkeys(servers))


def complete_run(shard_sets: Sequence[ShardSet]) -> int | None:
    """Return the encode run of which all fourteen shards are mounted and of one size; None if there is none.

    Shards of different runs do not add up. An empty shard counts as absent.
    """
    for run in sorted({held.run for held in shard_sets}, reverse=True):
        found: dict[int, set[int]] = {}
        for held in shard_sets:
            if held.run == run:
                for shard_id, size in held.mounted.items():
                    found.setdefault(shard_id, set()).add(size)
        if len(found) == TOTAL_SHARDS and len(set().union(*found.values())) == 1 and {0} not in found.values():
            return run
    return None


def describe(shard_sets: Iterable[ShardSet]) -> str:
    """Say who holds which shards."""
    return "; ".join(
        f"{held.server} shards {', '.join(map(str, held.shards))}"
        + ("" if len(held.mounted) == len(held.shards) else f" (mounted: {len(held.mounted)})")
        for held in shard_sets
        if held.shards
    )


def _sender_seconds(ctx: Context) -> float:
    wanted = ctx.options.sender_seconds
    return SENDER_SECONDS if wanted is None else wanted


def await_senders(ctx: Context, shard_sets: Iterable[ShardSet], volume_id: int, collection: str) -> None:
    """Wait until no unmounted shard file can still have a sender; Busy where one is being written."""
    for held in shard_sets:
        loose = {shard_id: at for shard_id, at in held.files.items() if shard_id not in held.mounted}
        if not loose:
            continue
        # The server's clock and ours may differ: believe an age only if it is plausible, and look twice.
        latest = max(loose.values())
        age = max(0.0, time.time() - latest / 1e9) if latest else 0.0
        left = max(0.0, _sender_seconds(ctx) - age)
        if left > 0:
            ctx.log(f"shard files of volume {volume_id} on {held.server} are new; waiting {left:.0f} s for a sender")
        ctx.wait(max(left, 1.0))
        volume = ctx.volume(held.server)
        for shard_id, written in loose.items():
            now = file_time(volume, volume_id, collection, f".ec{shard_id:02d}")
            if now is not None and now != written:
                raise Busy(
                    f"somebody is writing shard {shard_id} of volume {volume_id} to {held.server} just now; "
                    "nothing was touched"
                )


def remove(ctx: Context, held: ShardSet, volume_id: int, collection: str, run: int, only: Collection[int] = ()) -> None:
    """Remove a server's shards of encode runs up to and including `run` and, where the run is unknown, those in `only`.

    Newer ones stay. Without `only`, all that `held` names are meant. Mismatch if some are still there after it.
    Only to be called where the volume itself is proved whole and frozen.
    """
    volume = ctx.volume(held.server)
    wanted = sorted(only or held.shards)
    if held.generation.knows_ecsum:
        # The server compares with the run in the .vif of each disk, and removes what is older than the one named.
        volume.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=ALL_SHARDS, encode_ts_ns=run + 1)
        volume.volume_ec_shards_delete(
            volume_id=volume_id, collection=collection, shard_ids=ALL_SHARDS, full_teardown=True, encode_ts_ns=run + 1
        )
        held = look(ctx, held.server, volume_id, collection)
        if not held.shards:
            return
        if held.run > run:
            raise Busy(f"{held.server} holds shards of volume {volume_id} of a newer encode; they were left alone")
        wanted = sorted({*wanted} & {*held.shards})
    remove_some(ctx, held, volume_id, collection, wanted)


def remove_some(ctx: Context, held: ShardSet, volume_id: int, collection: str, wanted: Collection[int]) -> None:
    """Remove some of a server's shards, whatever run they are of; its others stay. Mismatch if one is there after it.

    With its last shard of the volume a server drops the index, too. Only to be called where these very files are
    proved to be redundant, or to be nothing.
    """
    volume = ctx.volume(held.server)
    chosen = sorted({*wanted})
    if chosen:
        volume.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=chosen)
        if not held.generation.knows_ecsum and file_time(volume, volume_id, collection, ".ecx") is None:
            send(volume, volume_id, collection, ".ecx", b"")  # without one, servers before 4.44 delete nothing
        volume.volume_ec_shards_delete(volume_id=volume_id, collection=collection, shard_ids=chosen)
    left = {*chosen} & {*look(ctx, held.server, volume_id, collection).shards}
    if left:
        raise Mismatch(f"{held.server} still holds shards {sorted(left)} of volume {volume_id} after deleting them")


def file_time(volume: VolumeServer, volume_id: int, collection: str, ext: str) -> int | None:
    """Return when a file beside the shards was last written, in ns; 0 where the server keeps silent, None if absent."""
    try:
        messages = list(
            volume.copy_file(
                volume_id=volume_id,
                collection=collection,
                ext=ext,
                is_ec_volume=True,
                compaction_revision=ANY_REVISION,
                stop_offset=1,
                timeout=30.0,
            )
        )
    except ServerFailed as error:
        if error.says_absent:
            return None
        raise
    return max((message.modified_ts_ns for message in messages), default=0)


def fetch(volume: VolumeServer, volume_id: int, collection: str, ext: str) -> bytes | None:
    """Read a whole file beside the shards; None if the server has none."""
    try:
        return b"".join(_content(volume, volume_id, collection, ext))
    except ServerFailed as error:
        if error.says_absent:
            return None
        raise


def digest(volume: VolumeServer, volume_id: int, collection: str, ext: str) -> bytes | None:
    """The SHA-256 of a whole file beside the shards, which is not kept; None if the server has none."""
    found = hashlib.sha256()
    try:
        for content in _content(volume, volume_id, collection, ext):
            found.update(content)
    except ServerFailed as error:
        if error.says_absent:
            return None
        raise
    return found.digest()


def _content(volume: VolumeServer, volume_id: int, collection: str, ext: str) -> Iterator[bytes]:
    for message in volume.copy_file(
        volume_id=volume_id,
        collection=collection,
        ext=ext,
        is_ec_volume=True,
        compaction_revision=ANY_REVISION,
        stop_offset=1 << 62,
    ):
        yield message.file_content


def check_taken(server: Address, what: str, answer: ReceiveFileResponse, size: int) -> None:
    """TaskError or Mismatch where a server did not take all of a file of `size` bytes that was sent to it."""
    if answer.error:
        raise TaskError(f"{server} did not take {what}: {answer.error}")
    if answer.bytes_written != size:
        raise Mismatch(f"{server} wrote {answer.bytes_written} of {size} bytes of {what}")


def stopped_reading(server: Address, what: str, answer: ReceiveFileResponse) -> TaskError:
    """The error of a server that ended a file's stream before all of it was sent."""
    why = answer.error or f"it stopped reading after {answer.bytes_written} bytes"
    return TaskError(f"{server} did not take {what}: {why}")


def send(
    volume: VolumeServer,
    volume_id: int,
    collection: str,
    ext: str,
    content: bytes | Iterable[bytes],
    disk_id: int = 0,
    is_ec_volume: bool = True,
) -> None:
    """Send a whole file that lies beside the shards, its bytes at once or in chunks.

    TaskError or Mismatch where the server did not take it all. With `is_ec_volume` false it is one of the regular
    volume's files.
    """
    info = ReceiveFileInfo(
        volume_id=volume_id, ext=ext, collection=collection, is_ec_volume=is_ec_volume, disk_id=disk_id
    )
    sent = 0

    def messages() -> Iterator[bytes]:
        nonlocal sent
        for chunk in (content,) if isinstance(content, bytes) else content:
            sent += len(chunk)
            yield upload_message(chunk)

    answer = volume.receive_file(info=info, messages=messages()).done()
    check_taken(volume.address, f"{ext} of volume {volume_id}", answer, sent)
