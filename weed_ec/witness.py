"""Whether one copy of a shard, mounted or a mere file, is what the other shards and the checksums make it.

With an `.ecsum` by its blocks; without one by computing the shard from ten others that agree. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import zip_longest

from weed_cluster.address import Address
from weed_core.errors import Mismatch, ServerFailed
from weed_ec.reader import Copy, ShardReader, Unsound, read_copy, same, wrong_blocks
from weed_ec.runs import Run
from weed_ec.shards import ANY_REVISION
from weed_ec.source import FOREVER
from weed_ec.stream import PIECE
from weed_safety.context import Context
from weed_storage.ec_layout import DATA_SHARDS

TRIES = 5
"""How often what others make a shard is computed, where one of them proves wrong meanwhile."""


def why_wrong(ctx: Context, run: Run, copy: Copy, avoid: Iterable[Copy] = (), fence: int | None = None) -> str:
    """Say what is wrong with a mounted copy; "" where it is sound. ServerFailed where it cannot be read.

    `avoid` are other copies that are not to witness. `fence` is the run to ask for, where that is not the run's own: 0
    for a server that has lost its `.vif`. Mismatch where too few others are left to tell.
    """
    pieces = read_copy(ctx.cluster, run, copy, fence=fence)
    return _why_wrong(ctx, run, copy, pieces, avoid)


def why_file_wrong(ctx: Context, run: Run, copy: Copy, avoid: Iterable[Copy] = ()) -> str:
    """As why_wrong(), of a shard's file that is not mounted."""
    return _why_wrong(ctx, run, copy, _file(ctx, run, copy), avoid)


def prove_ten(ctx: Context, run: Run, shards: Iterable[int], avoid: Collection[Copy]) -> ShardReader:
    """Read ten other shards through, and see that they make these: what is there of them may be given up then.

    Returns the reader, which knows by then what else is bad. Mismatch where fewer than ten prove sound, or none can be
    proved because there is neither an `.ecsum` nor a surplus shard.
    """
    reader = ShardReader(ctx, run, avoid)
    if run.sums is None and len(reader.usable()) <= DATA_SHARDS:
        raise Mismatch(
            f"{run.name} has no .ecsum, and no shard more than the ten that are needed: nothing can prove them, so no "
            "shard that is there is given up"
        )
    for _attempt in range(TRIES):
        try:
            for part in reader.stream(tuple(shards)):
                ctx.progress(0.1 + 0.1 * part.offset / run.shard_size, "proving ten other shards")
            return reader
        except Unsound as error:
            ctx.log(f"reading {run.name} anew, without a bad shard: {error}")
    raise Mismatch(f"{run.name} has too many bad shards: {'; '.join(reader.bad.values())}")


def _why_wrong(ctx: Context, run: Run, copy: Copy, pieces: Iterator[memoryview], avoid: Iterable[Copy]) -> str:
    try:
        if run.sums is not None:
            return _by_checksums(ctx, run, copy, pieces)
        return _by_others(ctx, run, copy, pieces, avoid)
    except Mismatch as error:
        if "early" in str(error):  # it is short
            return str(error)
        raise


def _by_checksums(ctx: Context, run: Run, copy: Copy, pieces: Iterator[memoryview]) -> str:
    block = next(wrong_blocks(ctx, run, copy, pieces), None)
    return "" if block is None else f"block {block} is not what its .ecsum says"


def _by_others(ctx: Context, run: Run, copy: Copy, pieces: Iterator[memoryview], avoid: Iterable[Copy]) -> str:
    others = ShardReader(ctx, run, [*avoid, copy]).stream((copy[1],))
    for piece, part in zip_longest(pieces, others):
        if piece is None or part is None:
            return "it is of another size than the other shards"
        ctx.rates.spend(str(copy[0]), len(piece), ctx.wait)
        if not same(piece, part.shards[copy[1]]):
            return f"it is not what the other shards make it, at byte {part.offset} or up to {PIECE} behind that"
    return ""


def _file(ctx: Context, run: Run, copy: Copy) -> Iterator[memoryview]:
    """The bytes of a shard's file in pieces; Mismatch where it is shorter than a shard of the run."""
    server, shard = copy
    pending = bytearray()
    left = run.shard_size
    for message in ctx.volume(server).copy_file(
        volume_id=run.volume_id,
        collection=run.collection,
        ext=f".ec{shard:02d}",
        is_ec_volume=True,
        compaction_revision=ANY_REVISION,
        stop_offset=run.shard_size + 1,
        timeout=FOREVER,
    ):
        pending += message.file_content
        while len(pending) >= min(PIECE, left) > 0:
            size = min(PIECE, left)
            left -= size
            yield memoryview(bytes(pending[:size]))
            del pending[:size]
    if left or pending:
        raise Mismatch(f"the file of shard {shard} of {run.name} on {server} ended early, or is too long")


def holds_run(ctx: Context, run: Run, server: Address, shard: int) -> bool:
    """Whether a server gives a mounted shard to those who ask for this run: others cannot read it."""
    try:
        for _piece in ctx.volume(server).volume_ec_shard_content(
            volume_id=run.volume_id, shard_id=shard, offset=0, size=1, encode_ts_ns=run.run, timeout=30.0
        ):
            pass
    except ServerFailed as error:
        if "different encode run" in error.detail:
            return False
        raise
    return True
