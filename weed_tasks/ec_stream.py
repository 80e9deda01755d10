"""The way of a volume's bytes through this worker: read in rows, encoded, sent as fourteen shards, nothing on disk.

A reader fills stripes (ten equal pieces of a row, contiguous in memory), native threads add the four parity pieces and
take checksums, and fourteen uploads drain them side by side. A stripe is used again when all fourteen pieces of it
are sent, so the number of stripes bounds the memory, whatever the volume's size, and the slowest server holds the
reader. Knows nothing of which servers should get the shards, nor of what is done with them there.
"""

from __future__ import annotations

import os
import random
import threading
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

from proto_gen.volume_server_pb2 import ReceiveFileInfo
from weed_cluster.address import Address
from weed_cluster.client import Cluster, Upload, VolumeServer
from weed_cluster.leash import Leash
from weed_errors import Cancelled, Mismatch, ServerTimedOut, TaskError
from weed_storage.checksums import BlockChecksums, ShardChecksums, crc32c
from weed_storage.needle import SUPER_BLOCK_SIZE, SuperBlock, actual_size
from weed_storage.reed_solomon import (
    DATA_SHARDS,
    LARGE_BLOCK,
    PARITY_SHARDS,
    SMALL_BLOCK,
    TOTAL_SHARDS,
    Encoder,
    Row,
    layout,
    shard_size,
)
from weed_tasks import Context

PIECE = SMALL_BLOCK
"""Bytes of each shard in one stripe, and under one of the checksums that the proof samples."""

MESSAGE = 1 << 19
"""Bytes of one upload message."""

STALL = 120.0
"""Seconds without any progress after which the encode gives up."""

FOREVER = 24 * 3600.0
"""Deadline in seconds of the streams, whose length is the volume's: it is STALL that guards them."""

PROBES, PROBE = 8, 4096
"""How many places, of how many bytes, must agree before a local file passes for what the server holds."""


@dataclass(frozen=True)
class Source:
    """A frozen volume as its server describes it.

    `strict` rows are what servers before 4.44 read; `large_block` is the bytes of a block in the first rows.
    """

    server: Address
    volume_id: int
    collection: str
    dat_size: int
    version: int
    revision: int
    strict: bool = False
    large_block: int = LARGE_BLOCK

    @property
    def shard_size(self) -> int:
        """Bytes of each of its shards."""
        return shard_size(self.dat_size, self.strict, self.large_block)

    def rows(self) -> Iterator[Row]:
        """How its bytes are cut."""
        return layout(self.dat_size, self.strict, self.large_block)

    @property
    def base(self) -> str:
        """The name of its files, without extension."""
        return f"{self.collection}_{self.volume_id}" if self.collection else str(self.volume_id)


@dataclass(frozen=True)
class Slot:
    """Where one shard goes: `disk_id` 0 leaves the choice of the disk to the server."""

    server: Address
    disk_id: int = 0


@dataclass
class ShardSums:
    """What is known of one shard's bytes: checksums by block of 16 MiB, as `.ecsum` has them, and by piece."""

    blocks: BlockChecksums = field(default_factory=BlockChecksums)
    pieces: array[int] = field(default_factory=lambda: array("I"))

    @property
    def size(self) -> int:
        """Bytes of the shard."""
        return self.blocks.covered_size

    def result(self) -> ShardChecksums:
        """The part of `.ecsum` that is about this shard."""
        return self.blocks.result()


class Reader(Protocol):
    """A way to the bytes of a `.dat`."""

    def fill(self, offset: int, view: memoryview) -> None:
        """Put the bytes from `offset` on into `view`, which does not reach past the end of the file."""


class _Streamed:
    """The whole file in order from one CopyFile; only for rows that lie in it one after another."""

    def __init__(self, server: VolumeServer, source: Source) -> None:
        self._source = source
        self._messages = server.copy_file_content(
            volume_id=source.volume_id,
            ext=".dat",
            compaction_revision=source.revision,
            stop_offset=source.dat_size,
            timeout=FOREVER,
        )
        self._rest = memoryview(b"")

    def fill(self, offset: int, view: memoryview) -> None:
        while view:
            while not self._rest:
                content = next(self._messages, None)
                if content is None:
                    raise Mismatch(f"the .dat of volume {self._source.volume_id} on {self._source.server} ended early")
                self._rest = content
            taken = min(len(view), len(self._rest))
            view[:taken] = self._rest[:taken]
            view, self._rest = view[taken:], self._rest[taken:]


class _Ranged:
    """Any place of the file, by ReadNeedleBlob: it returns whatever lies there."""

    def __init__(self, server: VolumeServer, source: Source) -> None:
        self._server = server
        self._source = source
        # What the server adds to the size that is asked for: header, checksum, time and padding.
        self._extra = actual_size(8, source.version) - 8

    def fill(self, offset: int, view: memoryview) -> None:
        for at in range(0, len(view), PIECE):
            part = view[at : at + PIECE]
            part[:] = self._read(offset + at, len(part))

    def _read(self, offset: int, length: int) -> memoryview:
        # The server gives multiples of 8 bytes and refuses what reaches past the end: so begin earlier there.
        asked = max(length + -length % 8, self._extra + 8)
        start = min(offset, self._source.dat_size - asked)
        blob = self._server.read_needle_blob(
            volume_id=self._source.volume_id, offset=start, size=asked - self._extra
        ).needle_blob
        if len(blob) != asked:
            raise Mismatch(
                f"{self._source.server} gave {len(blob)} of {asked} bytes at {start} of volume {self._source.volume_id}"
            )
        return memoryview(blob)[offset - start :][:length]


class _Local:
    """The file itself, where this host holds it."""

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self.file = file

    def fill(self, offset: int, view: memoryview) -> None:
        while view:
            got = os.preadv(self.file, [view], offset)
            if not got:
                raise Mismatch(f"{self.path} ended early")
            offset, view = offset + got, view[got:]

    def is_current(self) -> bool:
        """Whether the name still leads to the file that was read: a compaction puts another one there."""
        try:
            now, then = os.stat(self.path), os.fstat(self.file)
        except OSError:
            return False
        return (now.st_dev, now.st_ino, now.st_size) == (then.st_dev, then.st_ino, then.st_size)


def _open_local(ctx: Context, source: Source) -> _Local | None:
    """Open the volume's file in one of the directories this worker may read; None where it is not there or another.

    Size and revision must be the server's, and so must the bytes at some random places: two servers of one host may
    both hold the volume.
    """
    server = _Ranged(ctx.volume(source.server), source)
    for directory in ctx.options.data_dirs:
        path = directory / f"{source.base}.dat"
        try:
            local = _Local(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            continue
        try:
            size = os.fstat(local.file).st_size
            head = os.pread(local.file, SUPER_BLOCK_SIZE, 0)
            if size == source.dat_size and SuperBlock.parse(head).compaction_revision == source.revision:
                places = [0, *(random.randrange(0, max(1, size - PROBE), 8) for _ in range(PROBES))]
                if all(_same(local, server, place, min(PROBE, size - place)) for place in places):
                    return local
        except Mismatch:
            pass
        os.close(local.file)
        ctx.log(f"{path} is not what {source.server} holds; reading volume {source.volume_id} from the server")
    return None


def _same(a: Reader, b: Reader, offset: int, length: int) -> bool:
    left, right = bytearray(length), bytearray(length)
    a.fill(offset, memoryview(left))
    b.fill(offset, memoryview(right))
    return left == right


class _Stripe:
    """Ten pieces of a row and their four parity pieces; used again and again."""

    def __init__(self) -> None:
        self.data = bytearray(DATA_SHARDS * PIECE)
        self.parity = bytearray(PARITY_SHARDS * PIECE)
        self.views = [memoryview(self.data)[at * PIECE :][:PIECE] for at in range(DATA_SHARDS)]
        self.views += [memoryview(self.parity)[at * PIECE :][:PIECE] for at in range(PARITY_SHARDS)]
        self.unsent = 0


class _Lane:
    """One shard on its way to its server."""

    def __init__(self, pipeline: Pipeline, server: VolumeServer, shard_id: int, info: ReceiveFileInfo) -> None:
        self.server = server.address
        self.shard_id = shard_id
        self.stripes: SimpleQueue[_Stripe | None] = SimpleQueue()
        self.backlog = 0  # stripes given to it and not sent yet
        self._pipeline = pipeline
        self.upload: Upload = server.receive_file(info=info, chunks=self._chunks(), timeout=FOREVER)

    def _chunks(self) -> Iterator[memoryview]:
        """Yield the shard's bytes; run by the call's own thread, which ends with the None that close() puts."""
        while (stripe := self.stripes.get()) is not None:
            view = stripe.views[self.shard_id]
            for at in range(0, PIECE, MESSAGE):
                yield view[at : at + MESSAGE]
            self.backlog -= 1
            self._pipeline.sent(stripe)

    def give(self, stripe: _Stripe) -> None:
        """Queue the next stripe."""
        self.backlog += 1
        self.stripes.put(stripe)

    def close(self) -> None:
        """End the stream after what is queued."""
        self.stripes.put(None)


class Pipeline:
    """One encode under way. Use encode()."""

    def __init__(self, ctx: Context, source: Source, slots: Mapping[int, Slot]) -> None:
        self._ctx = ctx
        self._source = source
        self._slots = slots
        self._shard_size = source.shard_size
        self._encoder = Encoder()
        self._reading = Leash()  # so that the reader can be broken off alone
        self._reader_error: BaseException | None = None
        self._free: SimpleQueue[_Stripe | None] = SimpleQueue()
        self._full: SimpleQueue[_Stripe | None] = SimpleQueue()
        self._counting = threading.Lock()
        self._lanes: list[_Lane] = []
        self._stalled_since = time.monotonic()
        self._all_given = False
        self.sums = [ShardSums() for _ in range(TOTAL_SHARDS)]

    def run(self) -> list[ShardSums]:
        """Read, encode and send the whole volume; return what was sent of each shard."""
        ctx, source = self._ctx, self._source
        stripes = -(-self._shard_size // PIECE)
        for _ in range(min(stripes, max(2, ctx.options.ec_window // (DATA_SHARDS * PIECE)))):
            self._free.put(_Stripe())
        if self._encoder.backend == "python":
            ctx.log(self._encoder.describe())
        reader = threading.Thread(target=self._read, name=f"ec-read-{source.volume_id}", daemon=True)
        try:
            for shard_id, slot in sorted(self._slots.items()):
                self._lanes.append(_Lane(self, ctx.volume(slot.server), shard_id, self._info(shard_id, slot)))
            reader.start()
            for count in range(1, stripes + 1):
                stripe = self._take_full()
                ctx.compute(self._encode, stripe)
                for lane in self._lanes:
                    ctx.rates.spend(str(lane.server), PIECE, ctx.wait)
                stripe.unsent = len(self._lanes)
                for lane in self._lanes:
                    lane.give(stripe)
                ctx.progress(0.2 + 0.45 * count / stripes, "encoding and sending shards", bytes=count * PIECE)
            self._all_given = True
            for lane in self._lanes:
                lane.close()
            for lane in self._lanes:
                self._finish(lane)
        finally:
            self._stop(reader)
        return self.sums

    def sent(self, stripe: _Stripe) -> None:
        """Count one piece of a stripe as sent; the last one frees it."""
        with self._counting:
            stripe.unsent -= 1
            done = not stripe.unsent
            self._stalled_since = time.monotonic()
        if done:
            self._free.put(stripe)

    def _info(self, shard_id: int, slot: Slot) -> ReceiveFileInfo:
        return ReceiveFileInfo(
            volume_id=self._source.volume_id,
            ext=f".ec{shard_id:02d}",
            collection=self._source.collection,
            is_ec_volume=True,
            shard_id=shard_id,
            file_size=self._shard_size,
            disk_id=slot.disk_id,
        )

    def _encode(self, stripe: _Stripe) -> None:
        """Add the parity and take the checksums of a stripe; runs in a native thread."""
        self._encoder.encode_rows(stripe.data, PIECE, stripe.parity)
        for sums, view in zip(self.sums, stripe.views):
            sums.pieces.append(crc32c(view))
            sums.blocks.feed(view)

    def _take_full(self) -> _Stripe:
        """Await the next stripe with data, watching over the uploads meanwhile."""
        while True:
            for lane in self._lanes:
                if lane.upload.ended:
                    self._raise_ended(lane)
            try:
                stripe = self._full.get(timeout=0.5)
            except Empty:
                self._check_stall()
                continue
            if stripe is not None:
                return stripe
            assert self._reader_error is not None
            raise self._reader_error

    def _finish(self, lane: _Lane) -> None:
        """Await the server's answer to a whole shard; Mismatch if it wrote fewer bytes than it was sent."""
        while not lane.upload.ended:
            self._check_stall()
            self._ctx.wait(0.01)
        answer = lane.upload.done()
        if answer.error:
            raise TaskError(f"{lane.server} did not take shard {lane.shard_id}: {answer.error}")
        if answer.bytes_written != self._shard_size:
            raise Mismatch(
                f"{lane.server} wrote {answer.bytes_written} of {self._shard_size} bytes of shard {lane.shard_id}"
            )

    def _raise_ended(self, lane: _Lane) -> None:
        answer = lane.upload.done()
        raise TaskError(
            f"{lane.server} did not take shard {lane.shard_id} of volume {self._source.volume_id}: "
            f"{answer.error or f'it stopped reading after {answer.bytes_written} bytes'}"
        )

    def _check_stall(self) -> None:
        """Raise where the job must end, or nothing has moved for too long: name who holds it up."""
        self._ctx.cluster.leash.check()
        if time.monotonic() - self._stalled_since < STALL:
            return
        waiting = [lane for lane in self._lanes if not lane.upload.ended and (lane.backlog or self._all_given)]
        if waiting:
            most = max(lane.backlog for lane in waiting)
            slow = sorted({str(lane.server) for lane in waiting if lane.backlog == most})
            raise ServerTimedOut(", ".join(slow), "ReceiveFile", "DEADLINE_EXCEEDED", f"took no byte for {STALL:.0f} s")
        raise ServerTimedOut(
            str(self._source.server), "CopyFile", "DEADLINE_EXCEEDED", f"gave no byte for {STALL:.0f} s"
        )

    # -- the reader's thread ----------------------------------------------------------------------------------------

    def _read(self) -> None:
        source = self._source
        try:
            with ExitStack() as closing:
                reader, calls = self._open(closing)
                for row in source.rows():
                    for inner in range(0, row.block_size, PIECE):
                        stripe = self._free.get()
                        if stripe is None:
                            return
                        self._fill(reader, calls, row, inner, stripe)
                        self._full.put(stripe)
                if isinstance(reader, _Local) and not reader.is_current():
                    raise Mismatch(f"{reader.path} was replaced while it was read")
        except BaseException as error:  # noqa: BLE001  handed to the job's own thread
            self._reader_error = error
            self._full.put(None)

    def _open(self, closing: ExitStack) -> tuple[Reader, bool]:
        """Choose the way to the bytes; also say whether it is one of calls, which bear to be made side by side."""
        source = self._source
        local = _open_local(self._ctx, source) if self._ctx.options.data_dirs else None
        if local is not None:
            closing.callback(os.close, local.file)
            self._ctx.log(f"reading {local.path} of this host")
            return local, False
        server = Cluster(self._ctx.cluster.channels, leash=self._reading).volume(source.server)
        first: Row | None = next(source.rows(), None)
        if first is not None and first.block_size > PIECE:
            return _Ranged(server, source), True
        return _Streamed(server, source), False

    def _fill(self, reader: Reader, calls: bool, row: Row, inner: int, stripe: _Stripe) -> None:
        """Fill a stripe from a row, `inner` bytes into its blocks, with zeros for what lies past the end."""
        size = self._source.dat_size
        if not isinstance(reader, _Local):
            self._ctx.rates.spend(str(self._source.server), DATA_SHARDS * PIECE, self._reading.wait)
        if row.block_size == PIECE:
            parts: Sequence[tuple[int, memoryview]] = [(row.offset, memoryview(stripe.data))]
        else:
            parts = [(row.offset + at * row.block_size + inner, stripe.views[at]) for at in range(DATA_SHARDS)]

        def fill(part: tuple[int, memoryview]) -> None:
            offset, view = part
            inside = max(0, min(len(view), size - offset))
            if inside:
                reader.fill(offset, view[:inside])
            view[inside:] = bytes(len(view) - inside)

        if calls:
            self._ctx.each(fill, parts, most=DATA_SHARDS)
        else:
            for part in parts:
                fill(part)

    def _stop(self, reader: threading.Thread) -> None:
        """End every thread and stream, whatever the outcome."""
        self._reading.cancel(Cancelled("the encode ended"))
        self._free.put(None)
        for lane in self._lanes:
            if not lane.upload.ended:
                lane.upload.cancel()
            lane.close()
        if reader.ident is not None:
            reader.join(timeout=10.0)


def encode(ctx: Context, source: Source, slots: Mapping[int, Slot]) -> list[ShardSums]:
    """Stream a volume through the encoder into fourteen shard files; return what was sent of each, by shard id.

    Raises ServerFailed, Mismatch where a server took or gave fewer bytes than it should, and ServerTimedOut where
    nothing moves. Whatever was not sent whole is removed by its server; whole shards are the caller's to remove.
    """
    return Pipeline(ctx, source, slots).run()


def piece_crcs(pieces: Sequence[bytes]) -> list[int]:
    """Return the CRC32C of the fourteen pieces of the stripe whose ten data pieces are given."""
    parity = Encoder().encode_rows(b"".join(pieces), len(pieces[0]))
    return [*map(crc32c, pieces), *map(crc32c, parity)]


def read_piece(server: VolumeServer, volume_id: int, shard_id: int, piece: int, run: int) -> bytes:
    """Read one piece of a mounted shard back; ServerFailed where it belongs to another run."""
    return b"".join(
        message.data
        for message in server.volume_ec_shard_read(
            volume_id=volume_id, shard_id=shard_id, offset=piece * PIECE, size=PIECE, encode_ts_ns=run, timeout=60.0
        )
    )
