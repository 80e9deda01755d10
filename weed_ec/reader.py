"""Any range of any shard of one encode run, read from any ten that are sound, and proved while it passes by.

Every read names the run, so that shards of another encode never mix in. Where the run has an `.ecsum`, each block of
each shard is checked against it; where not, up to two shards more than ten are read and must agree with the others,
and where they do not, all that there are: k surplus shards show k bad ones and tell which k/2 they are. A copy that
fails, ends early, falls silent or proves wrong is left alone from then on, and another shard takes its place in
mid-stream. Copies are read side by side, each a few pieces ahead, so memory is bounded by that window, whatever the
shards' size. Nothing is on disk. Knows nothing of why shards are read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from queue import Empty, SimpleQueue

from weed_cluster.address import Address
from weed_cluster.client import Cluster
from weed_cluster.leash import Leash
from weed_core.errors import Cancelled, Mismatch, ServerTimedOut, TaskError
from weed_ec.runs import Run
from weed_ec.source import FOREVER
from weed_ec.stream import PIECE
from weed_safety.context import Context
from weed_storage.checksums import crc32c
from weed_storage.ec_layout import DATA_SHARDS, TOTAL_SHARDS, locate
from weed_storage.reed_solomon import Encoder

AHEAD = 2
"""Pieces of each copy that are in memory at most, beside what is on its way: as many as come in one message."""

SURPLUS = 2
"""Shards more than ten that are read where there is no `.ecsum`: as many as show one bad one and tell which it is."""

STEP = 4096
"""Bytes around a difference by which it is told which shard is wrong."""

Copy = tuple[Address, int]
"""A shard on one server."""

Bytes = bytes | memoryview


def same(one: Bytes, other: Bytes) -> bool:
    """Whether two buffers hold the same bytes. As bytes, since Python compares views byte by byte, 20 times slower."""
    return bytes(one) == bytes(other)


class Unsound(Mismatch):
    """A block proved wrong after part of it was given: what came of the stream since `offset` is not to be used.

    The copy is left alone by the same reader from now on; begin the stream again.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True)
class Part:
    """The bytes of some shards at the same place of each: `offset` into the shard, shard id -> bytes."""

    offset: int
    shards: Mapping[int, Bytes]


class ShardReader:
    """Reads the shards of one run.

    `avoid` are copies that are not to be read: those that are to be replaced, say. `spend` is asked before each piece
    and may wait, so that a rate is kept. `bad` is what proved unusable: why, by copy.
    """

    def __init__(
        self, ctx: Context, run: Run, avoid: Collection[Copy] = (), spend: Callable[[int], None] | None = None
    ) -> None:
        self.run = run
        self.bad: dict[Copy, str] = {}
        self.replaced = 0  # how often another shard took a copy's place in mid-stream
        self._ctx = ctx
        self.encoder = Encoder()
        self._avoid = frozenset(avoid)
        self._spend = spend

    def spend(self, length: int) -> None:
        """Ask for so many bytes of each shard."""
        self._ctx.cluster.leash.check()
        if self._spend is not None:
            self._spend(length)

    def usable(self) -> dict[int, list[Address]]:
        """The copies that may still be read, by shard id."""
        found = {
            shard: [server for server in servers if (server, shard) not in self._avoid | self.bad.keys()]
            for shard, servers in self.run.copies.items()
        }
        return {shard: servers for shard, servers in found.items() if servers}

    def stream(self, wanted: Collection[int], start: int = 0, end: int | None = None) -> Iterator[Part]:
        """Yield the wanted shards from byte `start` to `end` (multiples of PIECE, by default the whole), in order.

        Those that no copy is left of are computed from ten others. Mismatch where fewer than ten are left, Unsound
        where a block proved wrong behind its beginning, ServerTimedOut where nothing moves.
        """
        stop = self.run.shard_size if end is None else min(end, self.run.shard_size)
        if start % PIECE or (stop % PIECE and stop != self.run.shard_size):
            raise ValueError(f"bytes {start} to {stop} are not whole pieces of {PIECE}")
        with _Reading(self._ctx, self, tuple(sorted({*wanted})), stop) as reading:
            for offset in range(start, stop, PIECE):
                yield reading.part(offset, min(PIECE, stop - offset))

    def read(self, shard_id: int, offset: int, length: int) -> bytes:
        """Return a range of one shard, proved by blocks where there is an `.ecsum`; raises as stream() without Unsound.

        Whole blocks are read for that: of a long range, or of neighbouring ones, use stream().
        """
        if offset < 0 or offset + length > self.run.shard_size:
            raise Mismatch(f"bytes {offset} to {offset + length} are outside of shard {shard_id} of {self.run.name}")
        block = self.run.sums.block_size if self.run.sums else PIECE
        first, last = offset // block * block, min(-(-(offset + length) // block) * block, self.run.shard_size)
        while True:
            out = bytearray()
            try:
                for part in self.stream((shard_id,), first, last):
                    low, high = max(offset, part.offset), min(offset + length, part.offset + PIECE)
                    if low < high:
                        out += part.shards[shard_id][low - part.offset : high - part.offset]
            except Unsound:
                continue  # each time one copy fewer is left
            return bytes(out)

    def read_dat(self, offset: int, length: int) -> bytes:
        """Return a range of the volume behind the shards; Mismatch if it runs past its end, and as read()."""
        pieces = locate(offset, length, self.run.dat_size, self.run.strict)
        return b"".join(self.read(piece.shard, piece.offset, piece.length) for piece in pieces)


def check_copy(
    ctx: Context, run: Run, server: Address, shard_id: int, spend: Callable[[int], None] | None = None
) -> list[int]:
    """Read one copy of a shard through and return the offsets of the blocks that its `.ecsum` says are wrong.

    Mismatch where the run has no `.ecsum` or the copy ends early, ServerFailed where it cannot be read. `spend` is
    asked before each piece and may wait.
    """
    if run.sums is None:
        raise Mismatch(f"{run.name} has no .ecsum by which shard {shard_id} on {server} could be checked")
    copy = (server, shard_id)
    wrong = wrong_blocks(ctx, run, copy, read_copy(ctx.cluster, run, copy), spend)
    return [block * run.sums.block_size for block in wrong]


def wrong_blocks(
    ctx: Context,
    run: Run,
    copy: Copy,
    pieces: Iterable[memoryview],
    spend: Callable[[int], None] | None = None,
) -> Iterator[int]:
    """Take a copy's pieces, in order, and yield the numbers of the blocks that the run's `.ecsum` says are wrong.

    `spend` is asked before each piece and may wait.
    """
    assert run.sums is not None
    told, size = run.sums.shards[copy[1]].crcs, run.sums.block_size
    crc = offset = 0
    for piece in pieces:
        if spend is not None:
            spend(len(piece))
        ctx.rates.spend(str(copy[0]), len(piece), ctx.wait)
        crc = ctx.compute(crc32c, piece, crc)
        offset += len(piece)
        if offset % size == 0 or offset == run.shard_size:
            if crc != told[(offset - 1) // size]:
                yield (offset - 1) // size
            crc = 0


def read_copy(
    cluster: Cluster, run: Run, copy: Copy, start: int = 0, end: int | None = None, fence: int | None = None
) -> Iterator[memoryview]:
    """Yield a copy's bytes in pieces of PIECE, unproved; Mismatch where it ends early, ServerFailed as its server does.

    `fence` is the run that is asked for, by default the run's own; 0 for whatever the server has.
    """
    server, shard_id = copy
    left = (run.shard_size if end is None else end) - start
    pending = bytearray()
    for message in cluster.volume(server).volume_ec_shard_content(
        volume_id=run.volume_id,
        shard_id=shard_id,
        offset=start,
        size=left,
        encode_ts_ns=run.run if fence is None else fence,
        timeout=FOREVER,
    ):
        while message:
            taken = message[: min(PIECE, left) - len(pending)]
            message = message[len(taken) :]
            if not pending and len(taken) == min(PIECE, left):
                left -= len(taken)
                yield taken
                continue
            pending += taken
            if len(pending) == min(PIECE, left):
                left -= len(pending)
                yield memoryview(pending)
                pending = bytearray()
            elif left <= 0:
                break
    if left:
        raise Mismatch(f"shard {shard_id} of {run.name} on {server} ended {left - len(pending)} bytes early")


class _Lane:
    """One copy being read in order, by a thread of its own that keeps a few pieces ahead."""

    def __init__(self, ctx: Context, run: Run, copy: Copy, start: int, end: int) -> None:
        self.copy = copy
        self.offset = start  # of the piece that comes next
        self.crc = 0  # of its block so far
        self.piece: memoryview | None = None  # the one that is next, once it has come
        self._waits_since = time.monotonic()
        self._run = run
        self._ctx = ctx
        self._leash = Leash()
        self._queue: SimpleQueue[memoryview | BaseException] = SimpleQueue()
        self._room = threading.Semaphore(AHEAD)
        cluster = Cluster(ctx.cluster.channels, ctx.cluster.masters, self._leash)
        name = f"ec-shard-{run.volume_id}.{copy[1]}"
        threading.Thread(target=self._read, args=(cluster, start, end), name=name, daemon=True).start()

    def await_piece(self, timeout: float) -> bool:
        """Have the next piece in `piece`; False where it has not come in time. Raises what ended the reading."""
        if self.piece is None:
            try:
                got = self._queue.get(timeout=timeout)
            except Empty:
                return False
            if isinstance(got, BaseException):
                raise got
            self.piece = got
        return True

    @property
    def waited(self) -> float:
        """Seconds since it was last given a piece, or began."""
        return time.monotonic() - self._waits_since

    def waits_from_now(self) -> None:
        """Count its silence from now on: what was before was not its own."""
        self._waits_since = time.monotonic()

    def advance(self, crc: int) -> None:
        """Go on behind the present piece; `crc` is that of the block up to there."""
        assert self.piece is not None
        self.offset += len(self.piece)
        self.crc = crc
        self.piece = None
        self._room.release()

    def close(self) -> None:
        """Break the reading off."""
        self._leash.cancel(Cancelled("the reading ended"))
        self._ctx.cluster.leash.read += self._leash.read

    def _read(self, cluster: Cluster, start: int, end: int) -> None:
        try:
            pieces = read_copy(cluster, self._run, self.copy, start, end)
            for _piece in range(start, end, PIECE):
                while not self._room.acquire(timeout=0.5):
                    self._leash.check()
                piece = next(pieces)
                self._ctx.rates.spend(str(self.copy[0]), len(piece), self._leash.wait)
                self._queue.put(piece)
                del piece
        except BaseException as error:  # noqa: BLE001  handed to the thread that waits for pieces
            self._queue.put(error)


@dataclass
class _Verdict:
    """What the pieces at one place prove: the wanted bytes, or which copies are wrong, or that more must be read."""

    found: Mapping[int, Bytes]
    crcs: Mapping[int, int]
    wrong: Mapping[int, str]
    more: bool = False


class _Reading:
    """One stream under way: the lanes it is read by, and the place that all of them have reached."""

    def __init__(self, ctx: Context, reader: ShardReader, wanted: Sequence[int], end: int) -> None:
        self._ctx = ctx
        self._reader = reader
        self._run = reader.run
        self._wanted = wanted
        self._end = end
        self._lanes: dict[int, _Lane] = {}
        self._computed: dict[int, tuple[int, int]] = {}  # offset up to which a shard was computed, and the block's CRC
        self._all_of_them = False  # whether every shard is read, because two disagreed
        self._block = self._run.sums.block_size if self._run.sums else PIECE

    def __enter__(self) -> _Reading:
        return self

    def __exit__(self, *_error: object) -> None:
        for lane in self._lanes.values():
            lane.close()

    def part(self, offset: int, length: int) -> Part:
        """The wanted shards at one place, proved as far as can be told there."""
        self._reader.spend(length)
        while True:
            self._man(offset)
            if not self._gather(offset, length):
                continue  # a lane fell out: another one takes its place
            verdict = self._ctx.compute(self._prove, offset)
            for shard, why in verdict.wrong.items():
                self._drop(self._lanes[shard], why)
            if verdict.wrong and offset % self._block:
                start = offset // self._block * self._block
                raise Unsound("; ".join(verdict.wrong.values()), start)
            if verdict.more:
                self._all_of_them = True
            elif not verdict.wrong:
                for shard, lane in self._lanes.items():
                    lane.advance(verdict.crcs.get(shard, 0))
                return Part(offset, verdict.found)

    # -- which copies are read

    def _needed(self) -> list[Copy]:
        """The copies to read: of the wanted shards where each has one, else of ten and what is surplus."""
        usable = self._reader.usable()
        order = sorted(usable, key=lambda shard: (shard not in self._lanes, shard not in self._wanted, shard))
        if self._run.sums is not None and all(shard in usable for shard in self._wanted):
            chosen = list(self._wanted)
        else:
            self._check_enough(usable)
            surplus = 0 if self._run.sums is not None else TOTAL_SHARDS if self._all_of_them else SURPLUS
            chosen = order[: DATA_SHARDS + surplus]
            chosen += [shard for shard in self._wanted if shard in usable and shard not in chosen]
        busy: dict[Address, int] = {}
        copies = []
        for shard in chosen:
            lane = self._lanes.get(shard)
            server = lane.copy[0] if lane else min(usable[shard], key=lambda one: (busy.get(one, 0), str(one)))
            busy[server] = busy.get(server, 0) + 1
            copies.append((server, shard))
        return copies

    def _check_enough(self, usable: Mapping[int, Sequence[Address]]) -> None:
        if len(usable) < DATA_SHARDS:
            bad = "".join(f"; {why}" for why in self._reader.bad.values())
            raise Mismatch(
                f"only {len(usable)} shards of {self._run.name} can be read, {DATA_SHARDS} are needed: "
                f"{', '.join(map(str, sorted(usable))) or 'none'}{bad}"
            )

    def _man(self, offset: int) -> None:
        """Have a lane for each copy that is needed; one that begins late reads the beginning of its block, too."""
        needed = self._needed()
        for shard in {*self._lanes} - {shard for _server, shard in needed}:
            self._lanes.pop(shard).close()
        for copy in needed:
            if copy[1] not in self._lanes:
                start = offset // self._block * self._block
                self._lanes[copy[1]] = _Lane(self._ctx, self._run, copy, start, self._end)

    def _drop(self, lane: _Lane, why: str) -> None:
        """Leave a copy alone from now on."""
        server, shard = lane.copy
        self._reader.bad[lane.copy] = why
        self._reader.replaced += 1
        self._ctx.log(f"shard {shard} of {self._run.name} on {server} is not read any further: {why}")
        del self._lanes[shard]
        lane.close()

    # -- the bytes

    def _gather(self, offset: int, length: int) -> bool:
        """Have the piece at `offset` of every lane; False where a lane fell out."""
        for lane in self._lanes.values():
            lane.waits_from_now()
        for lane in list(self._lanes.values()):
            while lane.piece is None or lane.offset < offset:
                try:
                    has_come = lane.await_piece(0.5)
                except (TaskError, OSError) as error:
                    self._ctx.cluster.leash.check()
                    self._drop(lane, str(error))
                    return False
                if has_come and lane.offset < offset:  # what it missed of its block
                    lane.advance(self._ctx.compute(crc32c, lane.piece, lane.crc))
                    lane.waits_from_now()
                elif not has_come:
                    self._ctx.cluster.leash.check()
                    if self._is_too_slow(lane):
                        self._drop(lane, f"it gave nothing for {self._ctx.options.silent_seconds:.0f} s")
                        return False
            if len(lane.piece) != length:
                raise ValueError(f"a piece of {len(lane.piece)} bytes where {length} were due")
        return True

    def _is_too_slow(self, lane: _Lane) -> bool:
        options = self._ctx.options
        if lane.waited > options.stall_seconds:
            raise ServerTimedOut(
                str(lane.copy[0]),
                "VolumeEcShardRead",
                "DEADLINE_EXCEEDED",
                f"gave no byte for {options.stall_seconds:.0f} s",
            )
        return lane.waited > options.silent_seconds and len(self._reader.usable()) > DATA_SHARDS

    # -- proving them; runs in a native thread

    def _prove(self, offset: int) -> _Verdict:
        pieces = {shard: lane.piece for shard, lane in self._lanes.items() if lane.piece is not None}
        crcs: dict[int, int] = {}
        verdict = _Verdict({}, {}, {})
        if self._run.sums is not None:
            crcs = {shard: crc32c(piece, self._lanes[shard].crc) for shard, piece in pieces.items()}
            verdict.wrong = {
                shard: f"block {offset // self._block} is not what its .ecsum says"
                for shard, crc in crcs.items()
                if self._is_wrong(shard, crc, offset + len(pieces[shard]))
            }
        elif len(pieces) > DATA_SHARDS:
            verdict = self._compare(pieces, offset)
        if verdict.wrong or verdict.more:
            return verdict
        found: dict[int, Bytes] = {shard: pieces[shard] for shard in self._wanted if shard in pieces}
        lost = [shard for shard in self._wanted if shard not in pieces]
        if lost:
            found.update(self._encoder_output(pieces, lost, offset))
        ends = (offset + len(next(iter(pieces.values())))) % self._block == 0
        return _Verdict(found, {} if ends else crcs, {})

    def _encoder_output(self, pieces: Mapping[int, memoryview], lost: Sequence[int], offset: int) -> dict[int, bytes]:
        """Compute lost shards, and check whole blocks of them too; Mismatch where they are not what was encoded."""
        computed = self._reader.encoder.reconstruct(pieces, lost)
        for shard, piece in computed.items():
            reached, before = self._computed.get(shard, (-1, 0))
            is_checked = offset % self._block == 0 or reached == offset
            crc = crc32c(piece, before if offset % self._block else 0)
            if is_checked and self._is_wrong(shard, crc, offset + len(piece)):
                raise Mismatch(
                    f"shard {shard} of {self._run.name}, computed from ten sound ones, is not what its .ecsum says: "
                    "the .ecsum is not of one encode; nothing of it is used"
                )
            self._computed[shard] = (offset + len(piece) if is_checked else -1, crc)
        return computed

    def _is_wrong(self, shard: int, crc: int, reached: int) -> bool:
        """Whether a block that ends at `reached` is not what the `.ecsum` says."""
        sums = self._run.sums
        if sums is None or (reached % self._block and reached != self._run.shard_size):
            return False
        return crc != sums.shards[shard].crcs[(reached - 1) // self._block]

    def _compare(self, pieces: Mapping[int, memoryview], offset: int) -> _Verdict:
        """Have surplus shards witness: they must be what ten others make them."""
        if (at := self._difference(pieces)) is None:
            return _Verdict({}, {}, {})
        if not self._all_of_them and len(self._reader.usable()) > len(pieces):
            return _Verdict({}, {}, {}, more=True)
        start = at // STEP * STEP
        around = {shard: piece[start : start + STEP] for shard, piece in pieces.items()}
        for count in range(1, (len(pieces) - DATA_SHARDS) // 2 + 1):
            for suspects in combinations(sorted(pieces), count):
                rest = {shard: piece for shard, piece in around.items() if shard not in suspects}
                if self._difference(rest) is None:
                    why = f"it is not what the other shards make it at byte {offset + start}"
                    return _Verdict({}, {}, dict.fromkeys(suspects, why))
        raise Mismatch(
            f"the shards of {self._run.name} do not fit together at byte {offset + at}, and there are too few to tell "
            f"which is wrong: {', '.join(map(str, sorted(pieces)))} were read; nothing of them is used"
        )

    def _difference(self, pieces: Mapping[int, memoryview]) -> int | None:
        """Where the shards beyond ten are not what those ten make them; None where they are."""
        ten = sorted(pieces)[:DATA_SHARDS]
        rest = [shard for shard in pieces if shard not in ten]
        computed = self._reader.encoder.reconstruct({shard: pieces[shard] for shard in ten}, rest)
        differing = [shard for shard in rest if not same(computed[shard], pieces[shard])]
        if not differing:
            return None
        shard = differing[0]
        return next(at for at, (mine, theirs) in enumerate(zip(computed[shard], pieces[shard])) if mine != theirs)
