"""One shard on its way to a server: pushed by ReceiveFile, or pulled by the server from this worker.

Both take the shard's pieces in order and are as slow as the server; neither keeps more than a few. A transfer that is
not ended whole leaves nothing on the server, or an unmounted file. Knows nothing of which way is right where.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, Full, Queue
from typing import Protocol

from proto_gen.volume_server_pb2 import ReceiveFileInfo
from weed_cluster.address import Address
from weed_cluster.call import upload_message
from weed_cluster.client import Cluster
from weed_cluster.leash import Leash
from weed_cluster.offer import Offer
from weed_core.errors import Cancelled, TaskError
from weed_ec.runs import Run
from weed_ec.shards import check_taken, stopped_reading
from weed_ec.source import FOREVER
from weed_ec.stream import Slot
from weed_safety.context import Context

ASKED_WITHIN = 30.0
"""Seconds in which a server that is told to pull must have asked for the file: as long as its own dialling takes."""


class Sink(Protocol):
    """One shard under way."""

    shard_id: int
    server: Address

    def give(self, piece: bytes | memoryview, timeout: float) -> bool:
        """Give the next bytes; False where those before were not taken in time. Raises what ended the transfer."""

    def finish(self) -> None:
        """Say that the shard is whole, and await that the server has it; TaskError where it has not."""

    def abandon(self) -> None:
        """End a transfer that is not whole so that the same shard may be sent anew at once."""

    def close(self) -> None:
        """Break off what is not finished; harmless afterwards."""


class Push:
    """By ReceiveFile, to a server that has no shard of the volume mounted."""

    def __init__(self, ctx: Context, run: Run, shard_id: int, slot: Slot) -> None:
        self.shard_id = shard_id
        self.server = slot.server
        self._size = run.shard_size
        self._what = f"shard {shard_id} of {run.name}"
        self._ctx = ctx
        self._pieces: Queue[bytes | memoryview | None] = Queue(1)
        self._closed = False
        info = ReceiveFileInfo(
            volume_id=run.volume_id,
            ext=f".ec{shard_id:02d}",
            collection=run.collection,
            is_ec_volume=True,
            shard_id=shard_id,
            file_size=run.shard_size,
            disk_id=slot.disk_id,
        )
        self._upload = ctx.volume(slot.server).receive_file(info=info, messages=self._messages(), timeout=FOREVER)

    def _messages(self) -> Iterator[bytes]:
        while True:
            try:
                piece = self._pieces.get(timeout=0.5)
            except Empty:
                if self._closed:
                    return
                continue
            if piece is None:
                return
            message = upload_message(piece)
            del piece
            yield message
            del message

    def give(self, piece: bytes | memoryview, timeout: float) -> bool:
        """Give the next bytes."""
        if self._upload.ended:
            raise stopped_reading(self.server, self._what, self._upload.done())
        try:
            self._pieces.put(piece, timeout=timeout)
        except Full:
            return False
        return True

    def abandon(self) -> None:
        """End the stream in order: a server removes what a broken one has sent, by its name, and late."""
        self._end()
        self._upload.done()

    def _end(self) -> None:
        while not self._upload.ended:
            try:
                self._pieces.put(None, timeout=0.5)
                break
            except Full:
                self._ctx.cluster.leash.check()

    def finish(self) -> None:
        """Await the server's answer; Mismatch if it wrote fewer bytes than the shard has."""
        self._end()
        check_taken(self.server, self._what, self._upload.done(), self._size)

    def close(self) -> None:
        """Break the stream off; the server removes the partial file."""
        if not self._upload.ended:
            self._upload.cancel()
        self._closed = True


class Pull:
    """By VolumeEcShardsCopy with this worker as the source, onto a server with other shards of the volume mounted."""

    def __init__(self, ctx: Context, run: Run, shard_id: int, slot: Slot, rate: int = 0) -> None:
        self.shard_id = shard_id
        self.server = slot.server
        self._ctx = ctx
        self._run = run
        self._slot = slot
        self._rate = rate
        self._leash = Leash()
        self._answer: BaseException | None = None
        self._ended = threading.Event()
        credentials = ctx.cluster.channels.server_credentials()
        self._offer = Offer(slot.server, credentials, run.volume_id, run.collection, f".ec{shard_id:02d}")
        threading.Thread(target=self._order, name=f"ec-pull-{run.volume_id}.{shard_id}", daemon=True).start()

    def _order(self) -> None:
        run = self._run
        server = Cluster(self._ctx.cluster.channels, self._ctx.cluster.masters, self._leash).volume(self.server)
        try:
            server.volume_ec_shards_copy(
                volume_id=run.volume_id,
                collection=run.collection,
                shard_ids=[self.shard_id],
                source_data_node=self._offer.source,
                disk_id=self._slot.disk_id,
                io_byte_per_second=self._ctx.rates.for_server_side(self._rate),
                timeout=FOREVER,
            )
        except BaseException as error:  # noqa: BLE001  told to the job's own thread
            self._answer = error
        self._ended.set()

    def await_asked(self) -> str:
        """Wait until the server has asked for the shard; say why it cannot where it does not. Raises when cancelled."""
        waited = 0.0
        while not self._offer.asked.is_set():
            if self._ended.is_set() or waited > ASKED_WITHIN:
                return self._offer.refused or str(self._answer or f"it did not ask within {ASKED_WITHIN:.0f} s")
            self._ctx.wait(0.05)
            waited += 0.05
        return ""

    def give(self, piece: bytes | memoryview, timeout: float) -> bool:
        """Give the next bytes."""
        if self._ended.is_set():
            raise self._failure("it ended the transfer early")
        return self._offer.give(piece, timeout)

    def finish(self) -> None:
        """Await the server's answer; what it wrote is to be asked of it afterwards."""
        while not self._ended.is_set() and not self._offer.end(0.5):
            self._ctx.cluster.leash.check()
        while not self._ended.wait(0.5):
            self._ctx.cluster.leash.check()
        if self._answer is not None:
            raise self._failure("")
        self._ctx.cluster.leash.written += self._run.shard_size

    def _failure(self, otherwise: str) -> TaskError:
        return TaskError(
            f"{self.server} could not pull shard {self.shard_id} of {self._run.name} from this worker: "
            f"{self._answer or otherwise}"
        )

    def abandon(self) -> None:
        """Stop serving by an error, on which the server removes what it has before it answers."""
        self.close()

    def close(self) -> None:
        """Stop serving, by an error where the shard is not whole: the server then removes what it has."""
        self._offer.close()
        if not self._ended.wait(10.0):
            self._leash.cancel(Cancelled("the transfer ended"))
