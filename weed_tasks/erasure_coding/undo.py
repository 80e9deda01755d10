"""Undoing what an encode left, or finishing what it may no longer undo, as its journal says."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from proto_gen.volume_server_pb2 import ReadVolumeFileStatusResponse
from weed_cluster.address import Address
from weed_cluster.topology import snapshot
from weed_core.errors import Mismatch, ServerFailed, TaskError
from weed_core.release import Generation
from weed_ec.shards import ShardSet, complete_run, describe, fetch, look, look_at_all, remove, send
from weed_safety import compaction
from weed_safety.context import Context
from weed_safety.freeze import Freeze, recover_freezes
from weed_safety.journal import Entry
from weed_safety.lease import Lease
from weed_safety.proof import live_index
from weed_safety.steps import Planned, is_of, of_kind, read
from weed_storage.ec_layout import DATA_SHARDS
from weed_storage.index import TOMBSTONE, Live, content_end, entries
from weed_storage.needle import SUPER_BLOCK_SIZE
from weed_tasks.erasure_coding.commit import Committing, Sending, Sweeping, finish
from weed_tasks.erasure_coding.survey import EncodeOrder, Scene, ask, awaken


def undo_failed(ctx: Context, lease: Lease, error: BaseException) -> None:
    """Undo what a failed attempt changed; where that fails, too, or must not be, raise what says what was left."""
    if lease.is_lost:
        ctx.log("another worker has the volume now; leaving everything to it")
        return
    try:
        with ctx.cluster.leash.shielded():
            settle(ctx, ctx.journal, lease)
    except TaskError as left:
        ctx.log(str(left))
        if isinstance(error, TaskError):
            raise TaskError(f"{error}. Besides: {left}") from error


def settle(ctx: Context, entry: Entry, lease: Lease) -> None:
    """Undo what an entry's open steps changed, or finish it where replicas were being deleted.

    Decides by what the servers hold now. TaskError where something could not be undone: its steps stay open.
    """
    try:
        compaction.clear_up(replace(ctx, journal=entry))  # closed before the first shard was sent, so first here, too
    finally:
        _settle_encode(ctx, entry, lease)


def _settle_encode(ctx: Context, entry: Entry, lease: Lease) -> None:
    open_steps = entry.open
    finished = False
    for commit in of_kind(entry, Committing):
        finished = _settle_commit(ctx, entry, commit, lease)
    for step in open_steps:
        if sending := read(step, Sending):
            if finished:
                entry.settle(sending)
            else:
                _settle_send(ctx, entry, sending, lease)
        elif is_of(step, Sweeping):
            entry.settle(step)
    recover_freezes(entry, ctx)


def _settle_commit(ctx: Context, entry: Entry, commit: Planned[Committing], lease: Lease) -> bool:
    """Finish a deletion that was broken off; False where it had not begun and can no more: then all is to be undone."""
    volume_id, collection, sources = commit.change.volume_id, commit.change.collection, commit.change.sources
    topology = snapshot(ctx.master(), volume_id=volume_id)
    holders = [holding.server for holding in topology.holdings(volume_id, collection)]
    shard_sets = look_at_all(ctx, [*holders, *sources], volume_id, collection)
    statuses = {server: ask(ctx, server, volume_id) for server in sources}
    order = EncodeOrder(volume_id, collection, sources, {})
    left = {server: status for server, status in statuses.items() if status is not None}
    done = complete_run(shard_sets)
    if left and done is not None:
        finish(ctx, Scene(order, collection, left, [], shard_sets), done, lease, refuse=0)
    elif (
        done is None
        and len(left) < len(sources)
        and not _is_regular_again(
            ctx, volume_id, shard_sets, {*left, *(replica.server for replica in topology.replicas(volume_id))}
        )
    ):
        raise TaskError(
            f"volume {volume_id} was being deleted in favour of its shards, but they are not all there: "
            f"{describe(shard_sets) or 'none'}; replicas left: {', '.join(map(str, left)) or 'none'}; "
            "nothing was touched"
        )
    entry.settle(commit)
    if done is None and len(left) == len(sources):
        return False
    for step in entry.open:
        if is_of(step, Freeze):
            entry.settle(step)
    return True


def _is_regular_again(
    ctx: Context, volume_id: int, shard_sets: Sequence[ShardSet], servers: Collection[Address]
) -> bool:
    """Whether somebody made the volume of its shards again: its replicas can be written to, and no shard is left.

    A master lists replicas for a while after they are deleted, so each is asked for at its server.
    """
    if any(held.shards for held in shard_sets):
        return False
    there = [server for server in servers if ask(ctx, server, volume_id) is not None]
    return bool(there) and not any(
        ctx.volume(server).volume_status(volume_id=volume_id).is_read_only for server in there
    )


@dataclass
class _Remains:
    """What a broken-off encode left: replicas by server, shards, and the servers that did not say, with theirs."""

    volume_id: int
    collection: str
    replicas: dict[Address, ReadVolumeFileStatusResponse | None]
    shard_sets: list[ShardSet]
    silent: dict[Address, list[int]]

    @property
    def shards(self) -> set[int]:
        """The shards that there are, or may be."""
        return {shard for held in self.shard_sets for shard in held.shards}.union(*self.silent.values())

    def describe(self) -> str:
        """Say who holds which shards."""
        unknown = [f"{server} does not answer" for server in self.silent]
        return "; ".join(filter(None, [describe(self.shard_sets), *unknown]))


def _look_for_remains(
    ctx: Context, volume_id: int, collection: str, sources: Sequence[Address], places: Mapping[Address, list[int]]
) -> _Remains:
    """Ask all that may hold a part of the volume; ServerFailed where a source does not answer."""
    holders = [holding.server for holding in snapshot(ctx.master(), volume_id).holdings(volume_id, collection)]
    remains = _Remains(volume_id, collection, {}, [], {})

    def ask_for_shards(server: Address) -> None:
        try:
            remains.shard_sets.append(look(ctx, server, volume_id, collection))
        except (ServerFailed, Mismatch):  # Mismatch: what it says of its shards is damaged
            if server in sources:
                raise
            remains.silent[server] = places.get(server, [])

    ctx.each(ask_for_shards, dict.fromkeys([*places, *holders, *sources]))
    for server in sources:
        status = ask(ctx, server, volume_id)
        if status is None and any(
            held.server == server and held.generation >= Generation.V4_44 for held in remains.shard_sets
        ):
            status = awaken(ctx, server, volume_id)
        remains.replicas[server] = status
    return remains


def _is_whole(ctx: Context, remains: _Remains, dat_size: int) -> bool:
    """Whether a replica holds all that could be read from the shards, so that these may go.

    It does if it has all the bytes that were encoded. A vacuum makes it smaller: then it does if the shards could not
    be read at all, or if it holds every file that their indexes name.
    """
    there = {
        server: status
        for server, status in remains.replicas.items()
        if status is not None and status.dat_file_size > SUPER_BLOCK_SIZE
    }
    if any(status.dat_file_size >= dat_size for status in there.values()):
        return True
    if len(remains.shards) < DATA_SHARDS:
        return bool(there)
    if remains.silent:
        return False
    found = (
        fetch(ctx.volume(held.server), remains.volume_id, remains.collection, ".ecx")
        for held in remains.shard_sets
        if held.shards
    )
    indexes = list(filter(None, found))
    for server, status in there.items():
        live = live_index(ctx, server, remains.volume_id, status)
        version = status.version or status.volume_info.version or 3
        if content_end(live, version) <= status.dat_file_size and all(
            ctx.compute(_holds, live, ecx) for ecx in indexes
        ):
            return True
    return False


def _holds(live: Live, ecx: bytes) -> bool:
    """Whether every file that an index of shards names as living lives here, of the same size."""
    return all(
        size == TOMBSTONE or ((place := live.get(needle_id)) is not None and place[1] == size)
        for needle_id, _offset, size in entries(ecx, live.offset_bytes)
    )


def _settle_send(ctx: Context, entry: Entry, step: Planned[Sending], lease: Lease) -> None:
    """Remove the shards that were sent, provided that the volume itself is whole; TaskError where any may be left.

    Where no shard is left there is nothing to remove, whatever became of the volume meanwhile.
    """
    sent = step.change
    volume_id, collection, run, sources = sent.volume_id, sent.collection, sent.run, sent.sources
    places = {server: list(shards) for server, shards in sent.shards.items()}
    remains = _look_for_remains(ctx, volume_id, collection, sources, places)
    if not _is_whole(ctx, remains, sent.dat_size):
        if remains.shards and complete_run(remains.shard_sets) is None:
            raise TaskError(
                f"volume {volume_id} is nowhere whole: no sound replica on {', '.join(map(str, sources))}, and not all "
                f"shards are mounted ({remains.describe()}); nothing was removed"
            )
        what = "its shards are mounted" if remains.shards else "no shard of it is left"
        ctx.log(f"volume {volume_id} has no replica on {', '.join(map(str, sources))}, and {what}; nothing to undo")
        entry.settle(step)
        return
    left: list[str] = []
    at_risk = 0

    def clean(server: Address) -> str:
        try:
            lease.check()
            held = look(ctx, server, volume_id, collection)
            remove(ctx, held, volume_id, collection, run, only=places[server])
            original = sent.vifs.get(server, "")
            if original and remains.replicas.get(server) is not None:
                send(ctx.volume(server), volume_id, collection, ".vif", original.encode(), is_ec_volume=False)
        except TaskError as error:
            return f"shards {places[server]} on {server} ({error})"
        return ""

    for server, problem in zip(places, ctx.each(clean, places)):
        if problem:
            left.append(problem)
            at_risk += len(places[server])
    if left and at_risk >= DATA_SHARDS:
        raise TaskError(
            f"volume {volume_id} stays read-only, since shards that could pass for it may be left: {'; '.join(left)}"
        )
    if left:
        recover_freezes(entry, ctx)
        raise TaskError(f"volume {volume_id} is as it was, but these may be left of it: {'; '.join(left)}")
    entry.settle(step)
