"""The way of a volume's bytes through this worker: read in rows, encoded, sent as fourteen shards, nothing on disk.

A reader fills stripes (ten equal pieces of a row, contiguous in memory), native threads add the four parity pieces and
take checksums, and fourteen uploads drain them side by side. A stripe is used again when all fourteen pieces of it
are sent, so the number of stripes bounds the memory, whatever the volume's size, and the slowest server holds the
reader. Knows nothing of which servers should get the shards, nor of what is done with them there.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from proto_gen.volume_server_pb2 import ReceiveFileInfo
from weed_cluster.address import Address
from weed_cluster.call import Upload, upload_message
from weed_cluster.client import Cluster
from weed_cluster.leash import Leash
from weed_cluster.volume_server import VolumeServer
from weed_core.errors import Cancelled, Mismatch, ServerTimedOut
from weed_ec.shards import check_taken, stopped_reading
from weed_ec.source import FOREVER, Local, Ranged, Reader, Source, Streamed, open_local
from weed_safety.context import Context
from weed_storage.checksums import BlockChecksums, ShardChecksums, crc32c
from weed_storage.ec_layout import DATA_SHARDS, PARITY_SHARDS, SMALL_BLOCK, TOTAL_SHARDS, Row
from weed_storage.reed_solomon import Encoder

PIECE = SMALL_BLOCK
"""Bytes of each shard in one stripe, in one upload message, and under one of the checksums that the proof samples."""


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


class _Stripe:
    """Ten pieces of a row and their four parity pieces; used again and again."""

    def __init__(self) -> None:
        self.data = bytearray(DATA_SHARDS * PIECE)
        self.parity = bytearray(PARITY_SHARDS * PIECE)
        self.views = [memoryview(self.data)[at * PIECE :][:PIECE] for at in range(DATA_SHARDS)]
        self.views += [memoryview(self.parity)[at * PIECE :][:PIECE] for at in range(PARITY_SHARDS)]
        self.waiting = 0  # pieces that no upload has taken yet


class _Lane:
    """One shard on its way to its server."""

    def __init__(self, pipeline: Pipeline, server: VolumeServer, shard_id: int, info: ReceiveFileInfo) -> None:
        self.server = server.address
        self.shard_id = shard_id
        self.stripes: SimpleQueue[_Stripe | None] = SimpleQueue()
        self.backlog = 0  # stripes given to it and not sent yet
        self._pipeline = pipeline
        self.upload: Upload = server.receive_file(info=info, messages=self._messages(), timeout=FOREVER)

    def _messages(self) -> Iterator[bytes]:
        """Yield the shard's bytes; run by the call's own thread, which ends with the None that close() puts."""
        while (stripe := self.stripes.get()) is not None:
            # gRPC needs a copy. Made here, it frees the stripe before the server has taken the bytes.
            message = upload_message(stripe.views[self.shard_id])
            self._pipeline.taken(stripe)
            yield message
            del message  # before the next one is made
            self.backlog -= 1

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
        for _ in range(min(stripes, max(1, ctx.options.ec_window // (DATA_SHARDS * PIECE) - 1))):
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
                stripe.waiting = len(self._lanes)
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

    def taken(self, stripe: _Stripe) -> None:
        """Count one piece of a stripe as taken by its upload, whose last one was sent; the last piece frees it."""
        with self._counting:
            stripe.waiting -= 1
            done = not stripe.waiting
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
        check_taken(lane.server, f"shard {lane.shard_id}", lane.upload.done(), self._shard_size)

    def _raise_ended(self, lane: _Lane) -> None:
        what = f"shard {lane.shard_id} of volume {self._source.volume_id}"
        raise stopped_reading(lane.server, what, lane.upload.done())

    def _check_stall(self) -> None:
        """Raise where the job must end, or nothing has moved for too long: name who holds it up."""
        self._ctx.cluster.leash.check()
        stall = self._ctx.options.stall_seconds
        if time.monotonic() - self._stalled_since < stall:
            return
        waiting = [lane for lane in self._lanes if not lane.upload.ended and (lane.backlog or self._all_given)]
        if waiting:
            most = max(lane.backlog for lane in waiting)
            slow = sorted({str(lane.server) for lane in waiting if lane.backlog == most})
            raise ServerTimedOut(", ".join(slow), "ReceiveFile", "DEADLINE_EXCEEDED", f"took no byte for {stall:.0f} s")
        raise ServerTimedOut(
            str(self._source.server), "CopyFile", "DEADLINE_EXCEEDED", f"gave no byte for {stall:.0f} s"
        )

    # -- the reader's thread ----------------------------------------------------------------------------------------

    def _read(self) -> None:
        source = self._source
        try:
            with ExitStack() as closing:
                reader = self._open(closing)
                for row in source.rows():
                    for inner in range(0, row.block_size, PIECE):
                        stripe = self._free.get()
                        if stripe is None:
                            return
                        self._fill(reader, row, inner, stripe)
                        self._full.put(stripe)
                if isinstance(reader, Local) and not reader.is_current():
                    raise Mismatch(f"{reader.path} was replaced while it was read")
        except BaseException as error:  # noqa: BLE001  handed to the job's own thread
            self._reader_error = error
            self._full.put(None)

    def _open(self, closing: ExitStack) -> Reader:
        """Choose the way to the bytes."""
        source = self._source
        server = Cluster(self._ctx.cluster.channels, leash=self._reading).volume(source.server)
        local = open_local(self._ctx, source, server)
        if local is not None:
            closing.callback(local.close)
            self._ctx.log(f"reading {local.path} of this host")
            return local
        first: Row | None = next(source.rows(), None)
        if first is not None and first.block_size > PIECE:
            return Ranged(server, source)
        return Streamed(server, source)

    def _fill(self, reader: Reader, row: Row, inner: int, stripe: _Stripe) -> None:
        """Fill a stripe from a row, `inner` bytes into its blocks, with zeros for what lies past the end."""
        size = self._source.dat_size
        if row.block_size == PIECE:
            parts: Sequence[tuple[int, memoryview]] = [(row.offset, memoryview(stripe.data))]
        else:
            parts = [(row.offset + at * row.block_size + inner, stripe.views[at]) for at in range(DATA_SHARDS)]
        read = sum(max(0, min(len(view), size - offset)) for offset, view in parts)
        self._ctx.rates.spend(str(self._source.server), read, self._reading.wait)

        def fill(part: tuple[int, memoryview]) -> None:
            offset, view = part
            inside = max(0, min(len(view), size - offset))
            if inside:
                reader.fill(offset, view[:inside])
            view[inside:] = bytes(len(view) - inside)

        if isinstance(reader, Ranged):  # its calls bear to be made side by side
            self._ctx.each(fill, parts, most=DATA_SHARDS)
        elif isinstance(reader, Local):  # the disk must not hold up other greenlets
            for part in parts:
                self._ctx.compute(fill, part)
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
