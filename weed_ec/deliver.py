"""Bringing shards to servers, whatever state those are in, and proving that they have arrived.

A server that has nothing of the volume mounted is sent the shard. One that has other shards of it mounted refuses that
and pulls it from this worker, or, where it cannot reach the worker, from a server in between that has nothing of the
volume. Where there is none, its shards are unmounted for the while, as long as no more than four are away by that.
The bytes come from a reader and are on no disk of ours. Nothing is mounted before it is whole, and it counts only when
its holder has given it back: size, run, sampled bytes. Each shard is a step of the journal from before its first byte.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeVar

from weed_cluster.address import Address
from weed_core.errors import Busy, Mismatch, ServerFailed, TaskError
from weed_core.release import Generation
from weed_core.runtime import give_memory_back
from weed_ec.deletions import deletions_of
from weed_ec.proof import SAMPLED
from weed_ec.reader import ShardReader, Unsound
from weed_ec.runs import Run
from weed_ec.shards import ShardSet, await_senders, fetch, file_time, look, remove_some, send
from weed_ec.sinks import Pull, Push, Sink
from weed_ec.stream import PIECE, Slot, read_piece
from weed_safety.context import Context
from weed_safety.journal import Entry
from weed_safety.lease import Lease
from weed_safety.steps import Planned, kind, of_kind, plan
from weed_storage.checksums import crc32c, dump_ecsum
from weed_storage.ec_layout import DATA_SHARDS, MOST_TOGETHER, TOTAL_SHARDS
from weed_storage.index import pack_ecj
from weed_storage.volume_info import dump_vif

PUSHED, PULLED, STAGED, REMOUNTED = "sent", "pulled from this worker", "over {}", "sent while its others were unmounted"
"""How a shard came to its server."""

TRIES = 5
"""How often the bytes are sent at most, where inputs prove wrong behind their beginning: each time one copy fewer."""

T = TypeVar("T")


@kind("ec_deliver")
@dataclass(frozen=True)
class Delivered:
    """The journal step of one shard of `size` bytes from before its first byte until it is proved.

    `for_server` is the one it is for, where `server` is only one in between.
    """

    volume_id: int
    collection: str
    run: int
    shard_id: int
    server: Address
    size: int
    for_server: Address | None = None


@kind("ec_unmount")
@dataclass(frozen=True)
class Unmounted:
    """The journal step of shards that are unmounted for the while."""

    volume_id: int
    collection: str
    server: Address
    shard_ids: tuple[int, ...]


@dataclass
class Delivery:
    """Shards of one run for some servers: shard id -> where. Use deliver().

    `between` are servers that may hold a shard for the while: they must have nothing of the volume. `rate` is bytes per
    second for what servers copy among themselves. `lease`, where there is one, is checked before each change.
    """

    ctx: Context
    reader: ShardReader
    places: Mapping[int, Slot]
    lease: Lease | None = None
    between: Collection[Address] = ()
    rate: int = 0
    ways: dict[int, str] = field(default_factory=dict)
    _held: dict[Address, ShardSet] = field(default_factory=dict)
    _steps: dict[tuple[int, Address], Planned[Delivered]] = field(default_factory=dict)
    _unmounted: dict[Address, Planned[Unmounted]] = field(default_factory=dict)
    _staged: dict[int, Address] = field(default_factory=dict)
    _crcs: dict[int, array[int]] = field(default_factory=dict)

    @property
    def run(self) -> Run:
        """The run that the shards are of."""
        return self.reader.run

    # -- the course of it

    def carry_out(self) -> dict[int, str]:
        """Bring all shards to their places; return how each came there."""
        self._look()
        try:
            self._prepare()
            for attempt in range(1, TRIES + 1):
                try:
                    self._stream()
                    break
                except Unsound as error:
                    if attempt == TRIES:
                        raise
                    self.ctx.log(f"sending the shards of {self.run.name} anew, without a bad one: {error}")
            for shard, server in self._staged.items():
                self._pull_staged(shard, server)
            self._send_indexes()
            self.ctx.progress(0.75, "mounting shards")
            self._mount()
            self.ctx.progress(0.8, "proving shards")
            for server in self._servers():
                self._prove(server)
        except BaseException:
            with self.ctx.cluster.leash.shielded():
                self._give_up()
            raise
        for step in self._steps.values():
            self.ctx.journal.settle(step)
        for away in self._unmounted.values():
            self.ctx.journal.settle(away)
        return self.ways

    def _servers(self) -> list[Address]:
        return list(dict.fromkeys(slot.server for slot in self.places.values()))

    def _shards_for(self, server: Address) -> list[int]:
        return sorted(shard for shard, slot in self.places.items() if slot.server == server)

    def _look(self) -> None:
        run, ctx = self.run, self.ctx
        found = ctx.each(lambda server: look(ctx, server, run.volume_id, run.collection), self._servers())
        self._held = {held.server: held for held in found}
        for shard, slot in self.places.items():
            held = self._held[slot.server]
            if shard in held.mounted:
                raise Busy(f"{slot.server} has shard {shard} of {run.name} mounted already; nothing was touched")
            if held.mounted and held.generation.knows_ecsum and held.run != run.run:
                raise Mismatch(
                    f"{slot.server} has shards of {run.name} mounted that are not of the encode run {run.run}; "
                    "nothing was touched"
                )
            if not held.mounted and held.vif is not None and held.run not in (0, run.run) and held.shards:
                raise Mismatch(f"{slot.server} has files of another encode run of {run.name}; nothing was touched")

    def _prepare(self) -> None:
        """Wait for senders of what lies there, and send new holders what must be there before the shard."""
        run, ctx = self.run, self.ctx
        for server, held in self._held.items():
            mine = {shard: held.files[shard] for shard in self._shards_for(server) if shard in held.files}
            loose = ShardSet(server, held.generation, {}, mine)
            await_senders(ctx, [loose], run.volume_id, run.collection)
        self._check()
        for shard, slot in self.places.items():
            self._plan(shard, slot.server)
        for server, held in self._held.items():
            if held.vif is None:
                self._send(server, ".vif", dump_vif(run.vif, held.generation))
            takes_sums = run.sums is not None and held.generation.knows_ecsum and not held.mounted
            if takes_sums and run.sums is not None and self._absent(server, ".ecsum"):
                self._send(server, ".ecsum", dump_ecsum(run.sums))

    def _plan(self, shard: int, server: Address, for_server: Address | None = None) -> None:
        run = self.run
        change = Delivered(run.volume_id, run.collection, run.run, shard, server, run.shard_size, for_server)
        self._steps[shard, server] = plan(self.ctx.journal, change)

    def _check(self) -> None:
        self.ctx.cluster.leash.check()
        if self.lease is not None:
            self.lease.check()

    # -- the bytes

    def _stream(self) -> None:
        size, done = self.run.shard_size, 0
        with ExitStack() as closing:
            sinks: list[Sink] = []
            for shard, slot in self.places.items():
                sink = self._open(shard, slot)
                closing.callback(sink.close)
                sinks.append(sink)
            self._crcs = {shard: array("I") for shard in self.places}
            try:
                for part in self.reader.stream(self.places):
                    for sink in sinks:
                        self._give(sink, part.shards[sink.shard_id])
                    done += PIECE
                    fraction = 0.2 + 0.5 * min(done, size) / max(size, 1)
                    self.ctx.progress(fraction, "sending shards", bytes=done * len(sinks))
            except Unsound:
                for sink in sinks:
                    sink.abandon()
                raise
            self._check()
            self.ctx.progress(0.7, "waiting until servers have written them")
            for sink in sinks:
                sink.finish()

    def _give(self, sink: Sink, piece: bytes | memoryview) -> None:
        self._crcs[sink.shard_id].append(self.ctx.compute(crc32c, piece))
        self.ctx.rates.spend(str(sink.server), len(piece), self.ctx.wait)
        waited, stall = 0.0, self.ctx.options.stall_seconds
        while not sink.give(piece, 0.5):
            waited += 0.5
            self.ctx.cluster.leash.check()
            if waited > stall:
                raise TaskError(f"{sink.server} took no byte of shard {sink.shard_id} for {stall:.0f} s")

    def _open(self, shard: int, slot: Slot) -> Sink:
        """The way on which a server can take a shard in the state it is in."""
        ctx, run, held = self.ctx, self.run, self._held[slot.server]
        # Servers before 4.22 take shards beside mounted ones; the release tells only that it may be one of them.
        if not held.mounted or slot.server in self._unmounted or not held.generation.knows_ecsum:
            self.ways.setdefault(shard, REMOUNTED if slot.server in self._unmounted else PUSHED)
            return Push(ctx, run, shard, slot)
        if shard in self._staged:
            return Push(ctx, run, shard, Slot(self._staged[shard]))
        why = "it was not asked"
        pull: Pull | None = None
        try:
            pull = Pull(ctx, run, shard, slot, self.rate)
            why = pull.await_asked()
        except ServerFailed as error:
            why = str(error)
        except BaseException:
            if pull is not None:
                pull.close()
            raise
        if pull is not None and not why:
            self.ways[shard] = PULLED
            return pull
        if pull is not None:
            pull.close()
        ctx.log(f"{slot.server} cannot pull shard {shard} of {run.name} from this worker: {why}")
        if self.between:
            return self._stage(shard)
        self._unmount(slot.server)
        self.ways[shard] = REMOUNTED
        return Push(ctx, run, shard, slot)

    def _stage(self, shard: int) -> Push:
        run, ctx = self.run, self.ctx
        for server in self.between:
            held = look(ctx, server, run.volume_id, run.collection)
            if not held.shards and server not in self._held:
                self._check()
                self._plan(shard, server, for_server=self.places[shard].server)
                self._staged[shard] = server
                self.ways[shard] = STAGED.format(server)
                return Push(ctx, run, shard, Slot(server))
        raise TaskError(f"no server is free of {run.name} to pass its shard {shard} on")

    def _unmount(self, server: Address) -> None:
        """Unmount a server's shards for the while; Busy where more than four would be away by that."""
        run, ctx, held = self.run, self.ctx, self._held[server]
        others = {shard for shard, where in run.copies.items() if set(where) - {server, *self._unmounted}}
        away = {shard for shard in range(TOTAL_SHARDS) if shard not in others}
        if len(away) > MOST_TOGETHER:
            raise Busy(
                f"{server} can neither pull from this worker nor from a server in between, and {len(away)} shards of "
                f"{run.name} would be away if its own were unmounted meanwhile; open the way from {server} to this "
                "host, or add a server"
            )
        self._check()
        shards = sorted(held.mounted)
        self._unmounted[server] = plan(ctx.journal, Unmounted(run.volume_id, run.collection, server, tuple(shards)))
        ctx.volume(server).volume_ec_shards_unmount(volume_id=run.volume_id, shard_ids=shards)

    def _pull_staged(self, shard: int, source: Address) -> None:
        """Have the server pull a shard from the one in between, which then drops it."""
        run, ctx, slot = self.run, self.ctx, self.places[shard]
        self._check()
        ctx.volume(slot.server).volume_ec_shards_copy(
            volume_id=run.volume_id,
            collection=run.collection,
            shard_ids=[shard],
            source_data_node=str(source),
            disk_id=slot.disk_id,
            io_byte_per_second=ctx.rates.for_server_side(self.rate),
            timeout=600.0 + run.shard_size / (10 << 20),
        )
        step = self._steps.pop((shard, source))
        drop(ctx, step.change)
        ctx.journal.settle(step)

    # -- beside them

    def _send(self, server: Address, ext: str, content: bytes) -> None:
        self._check()
        disks = {slot.disk_id for slot in self.places.values() if slot.server == server}
        for disk_id in sorted(disks):
            send(self.ctx.volume(server), self.run.volume_id, self.run.collection, ext, content, disk_id)

    def _absent(self, server: Address, ext: str) -> bool:
        return file_time(self.ctx.volume(server), self.run.volume_id, self.run.collection, ext) is None

    def _send_indexes(self) -> None:
        """Send new holders the deletions that are known, and the index last: without one they mount nothing."""
        run, ctx = self.run, self.ctx
        bare = [one for one in self._servers() if not self._held[one].mounted and self._absent(one, ".ecx")]
        if not bare:
            return
        known = deletions_of(ctx, run)
        if known.index_from is None:
            raise Mismatch(f"no holder has the .ecx of {run.name}; nothing was mounted on {', '.join(map(str, bare))}")
        journal = pack_ecj(sorted(known.all))
        index = fetch(ctx.volume(known.index_from), run.volume_id, run.collection, ".ecx") or b""

        def give(server: Address) -> None:
            if self._absent(server, ".ecj"):
                self._send(server, ".ecj", journal)
            self._send(server, ".ecx", index)

        ctx.each(give, bare)

    def _mount(self) -> None:
        run, ctx = self.run, self.ctx
        for server in self._servers():
            volume = ctx.volume(server)
            if self._held[server].generation >= Generation.V4_44 and self._absent(server, ".vif"):
                raise Mismatch(f"{server} has no .vif of {run.name}: its shards could not be read if they were mounted")
            self._check()
            shards = self._shards_for(server)
            step = self._unmounted.get(server)
            shards += [shard for shard in (step.change.shard_ids if step else ()) if shard not in shards]
            volume.volume_ec_shards_mount(volume_id=run.volume_id, collection=run.collection, shard_ids=shards)

    # -- the proof

    def _prove(self, server: Address) -> None:
        """Mismatch unless the server gives back what it was sent."""
        run, ctx = self.run, self.ctx
        held = look(ctx, server, run.volume_id, run.collection)
        for shard in self._shards_for(server):
            where = f"shard {shard} of {run.name} on {server}"
            if shard not in held.mounted or shard not in held.files:
                raise Mismatch(f"{where} is not mounted after it was sent")
            if held.mounted[shard] != run.shard_size:
                raise Mismatch(f"{where} has {held.mounted[shard]} of {run.shard_size} bytes")
            if held.generation.knows_ecsum and held.run != run.run:
                raise Mismatch(f"{where} is of encode run {held.run}, not {run.run}")
            crcs = self._crcs[shard]
            last = len(crcs) - 1
            for piece in sorted({0, last, *(random.randint(0, last) for _ in range(SAMPLED - 2))}):
                if crc32c(read_piece(ctx.volume(server), run.volume_id, shard, piece, run.run)) != crcs[piece]:
                    raise Mismatch(f"{where} does not read back as it was sent, at byte {piece * PIECE}")

    # -- giving up

    def _give_up(self) -> None:
        """Drop what was sent, mount what was unmounted; what cannot be done now is left in the journal."""
        if self.lease is not None and self.lease.is_lost:
            return
        for step in self._steps.values():
            self._undo(step, drop)
        for away in self._unmounted.values():
            self._undo(away, mount_again)

    def _undo(self, step: Planned[T], undoing: Callable[[Context, T], None]) -> None:
        try:
            undoing(self.ctx, step.change)
        except TaskError as error:
            self.ctx.log(f"left for recovery: {error}")
            return
        self.ctx.journal.settle(step)


def deliver(
    ctx: Context,
    reader: ShardReader,
    places: Mapping[int, Slot],
    lease: Lease | None = None,
    between: Collection[Address] = (),
    rate: int = 0,
) -> dict[int, str]:
    """Bring shards of the reader's run to servers, mount and prove them; return in words how each came there.

    Whether a shard is read from a holder or computed is the reader's. A server must not have the shard mounted, and
    what it has mounted must be of the run. On an error what was sent is removed again; what cannot be is left in the
    journal, see undo(). Raises Mismatch and TaskError, ServerFailed where a server fails, Busy where a shard is mounted
    there or cannot be brought there without too many others being away.
    """
    try:
        return Delivery(ctx, reader, places, lease, between, rate).carry_out()
    finally:
        give_memory_back()


def undo(entry: Entry, ctx: Context, sound: Mapping[int, Iterable[Address]]) -> None:
    """Undo what deliveries of a killed job left: mount what was unmounted, remove what was not proved.

    `sound` are the servers that have each shard mounted in its right size, now: a shard that is nowhere else stays,
    whatever became of its proof. TaskError where a server cannot be asked yet; the entry then keeps its steps.
    """
    for away in of_kind(entry, Unmounted):
        mount_again(ctx, away.change)
        entry.settle(away)
    for step in of_kind(entry, Delivered):
        sent = step.change
        others = {*sound.get(sent.shard_id, ())} - {sent.server}
        held = look(ctx, sent.server, sent.volume_id, sent.collection)
        is_whole = held.mounted.get(sent.shard_id, 0) == sent.size
        if (is_whole and not others) or len(sound) < DATA_SHARDS:
            ctx.log(f"shard {sent.shard_id} of volume {sent.volume_id} stays on {sent.server}")
        else:
            drop(ctx, sent)
        entry.settle(step)


def drop(ctx: Context, sent: Delivered) -> None:
    """Remove a shard that a delivery brought to a server and that is not proved."""
    server, volume_id, collection, shard = sent.server, sent.volume_id, sent.collection, sent.shard_id
    held = look(ctx, server, volume_id, collection)
    if shard in held.shards and (not held.run or held.run == sent.run):
        remove_some(ctx, held, volume_id, collection, [shard])
    elif not held.shards and held.generation.knows_ecsum:
        # What lies beside shards may be there already: it goes with the last one, which need not be there for that.
        volume = ctx.volume(server)
        if file_time(volume, volume_id, collection, ".vif") is not None:
            volume.volume_ec_shards_delete(volume_id=volume_id, collection=collection, shard_ids=[shard])


def mount_again(ctx: Context, away: Unmounted) -> None:
    """Mount shards that were unmounted for the while."""
    server, volume_id, collection = away.server, away.volume_id, away.collection
    held = look(ctx, server, volume_id, collection)
    left = [shard for shard in away.shard_ids if shard in held.files and shard not in held.mounted]
    if left:
        ctx.volume(server).volume_ec_shards_mount(volume_id=volume_id, collection=collection, shard_ids=left)
