"""Copying a volume from one server to another, and moving it: look, freeze, copy, prove, delete.

A move never tails: the source is frozen and still before the copy begins, so an equal copy is a complete one. Every
stage is in the journal; a killed move is undone, or finished where the deletion of the source had begun. Where the
volume has other replicas, they are frozen before the source goes, and stay so until no server remembers it
(weed_safety.location_cache). Knows nothing of why a volume should move.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from proto_gen.volume_server_pb2 import ReadVolumeFileStatusResponse
from weed_cluster.address import Address
from weed_cluster.master import Master
from weed_cluster.placement import Reserved, no_room, why_not_move
from weed_cluster.replica_placement import ReplicaPlacement
from weed_cluster.topology import Node, Replica, Topology, locations, snapshot
from weed_core.errors import BadTask, Mismatch, ServerFailed, StaleTask, TaskError
from weed_core.release import Generation
from weed_core.text import size_text
from weed_safety import forget as safety_forget
from weed_safety import holds
from weed_safety.alike import check_alike
from weed_safety.context import Context
from weed_safety.copy import (
    Copied,
    Copying,
    Deleting,
    Progress,
    Wishes,
    arrive,
    copy_volume,
    drop_copy,
    steps_of,
    undo_copy,
)
from weed_safety.freeze import Frozen, freeze, freeze_for_long, open_freeze, seal, thaw, wait_still
from weed_safety.journal import Entry
from weed_safety.late_writes import Refusal
from weed_safety.lease import LEASE_PATIENCE, Lease, hold, known_master
from weed_safety.location_cache import (
    Shut,
    check_over,
    forget,
    keep_shut,
    outlast,
    remembered,
    shut_steps,
    until,
    words,
)
from weed_safety.look import file_status, probe, prove_unchanged
from weed_safety.proof import prove_copy
from weed_safety.readiness import check_ready, close_refusing
from weed_safety.remains import DELETE_TIMEOUT, REGISTERED_WITHIN, clear_remains, has_files, is_remains
from weed_safety.steps import Planned, of_kind, plan
from weed_safety.untold import check_told

STILL_FOR = 2.0
"""Seconds without a change after which a frozen volume counts as still."""


DELETE_TRIES = 3


THAWED_WITHIN = 60.0
"""Seconds that a job gets for thawing, beyond its deadline if need be."""


@dataclass(frozen=True)
class Moved:
    """What a move did. `already` says that an earlier run had done it; `shut` that open_moved() is still to come.

    `why_shut` says why a volume with replicas elsewhere has to stay read-only for a while after it has moved.
    """

    volume_id: int
    source: Address
    target: Address
    size: int  # bytes
    already: bool = False
    shut: Shut | None = None
    why_shut: str = ""

    def __str__(self) -> str:
        if self.already:
            return f"volume {self.volume_id} is on {self.target} already and no longer on {self.source}"
        return f"volume {self.volume_id} moved from {self.source} to {self.target} ({size_text(self.size)})"


@dataclass(frozen=True)
class MoveOrder:
    """One move as it is asked for. `disk_type` is the target's ("" for the same as now).

    The volume refuses writes for `refuse` seconds before its source is deleted, if it was written to in that time.
    `timeout` is the least seconds that the copying is given; more where the size asks for it. A frozen source counts as
    still when its files have not changed for `quiet` seconds.
    """

    volume_id: int
    source: Address
    target: Address
    collection: str | None = None
    disk_type: str = ""
    io_bytes_per_second: int = 0
    timeout: float = 0.0
    refuse: float = 0.0
    quiet: float | None = None

    def __str__(self) -> str:
        return f"volume {self.volume_id} cannot move from {self.source} to {self.target}"


def move_volume(ctx: Context, order: MoveOrder, progress: Progress | None = None, lease: Lease | None = None) -> Moved:
    """Move a volume; with a dry run only look. Where replicas elsewhere are still frozen, open_moved() thaws them.

    Raises BadTask or StaleTask where nothing was touched. After any other failure the source is as it was and the
    target holds nothing of it; or, where a server could not be asked, the error says what is left for recovery. With a
    lease that was lost on the way nothing further is changed, not even to undo: the volume is another worker's then.
    """
    if order.source == order.target:
        raise BadTask(f"{order}: both are the same server")
    tell = progress or (lambda fraction, stage: ctx.progress(fraction, stage))
    tell(0.01, "looking at the cluster")
    _finish_earlier(ctx, order.volume_id)
    move = _Move(ctx, order, tell, lease)
    told = move.look()
    if told is not None:
        return told
    move.prepare()
    return move.delete()


class _Move:
    """One move under way: look(), then prepare(), then delete()."""

    def __init__(self, ctx: Context, order: MoveOrder, tell: Progress, lease: Lease | None) -> None:
        self.tell = tell
        self._ctx = ctx
        self._order = order
        self._lease = lease
        self._master = known_master(ctx)
        self._topology = snapshot(self._master, order.volume_id) if self._master else None
        self._others: list[Address] = []  # that hold replicas, too
        self._generation = Generation.V3_97
        self._why_shut = ""
        self._frozen: list[Frozen] = []
        self._still = ReadVolumeFileStatusResponse()
        self._copied: Copied | None = None
        self._closed: Shut | None = None

    def look(self) -> Moved | None:
        """Look whether the move makes sense; what there is to tell where nothing is to be done, else None."""
        ctx, order = self._ctx, self._order
        volume_id, source, target = order.volume_id, order.source, order.target
        original, copy = probe(ctx, source, volume_id), probe(ctx, target, volume_id)
        if original is None and copy is not None:
            return self._already(copy)
        if original is not None and copy is not None and is_remains(ctx, source, target, original, copy):
            check_told(ctx, volume_id, [source])
            if ctx.options.dry_run:
                return Moved(volume_id, source, target, original.dat_file_size)
            if self._lease is not None:
                clear_remains(ctx, volume_id, target)
                copy, self._topology = None, snapshot(ctx.master(), volume_id)
        replicas = self._topology.replicas(volume_id) if self._topology else []
        self._others = [replica.server for replica in replicas if replica.server != source]
        if self._topology is not None and original is not None and copy is None:
            close_refusing(ctx, self._topology, (source, target, *self._others))
        _check_plan(self._topology, order, original, copy)
        assert original is not None
        _check_others(ctx, volume_id, self._others)
        check_told(ctx, volume_id, [source, *self._others])
        self._generation = min(check_ready(ctx, server) for server in (source, target))
        check_alike(ctx, [source, target], str(order))
        if self._others:
            self._why_shut = safety_forget.why_not(ctx, volume_id, [source, target, *self._others])
        if self._topology is None:
            ctx.log(f"no master is known, so free slots and placement of volume {volume_id}'s target are not checked")
        if ctx.options.dry_run:
            return Moved(volume_id, source, target, original.dat_file_size, why_shut=self._why_shut)
        return None

    def _already(self, copy: ReadVolumeFileStatusResponse) -> Moved:
        """The move was made before; Mismatch where the target has the volume only as long as it runs."""
        ctx, order = self._ctx, self._order
        file_status(ctx, order.target, order.volume_id)
        if not copy.volume_info.files and not has_files(ctx, order.target, order.volume_id):
            raise Mismatch(
                f"volume {order.volume_id} is no longer on {order.source}, and {order.target} has it only as long as "
                "that server runs: its files are gone from the disk. Copy its data away before that server is restarted"
            )
        return Moved(order.volume_id, order.source, order.target, copy.dat_file_size, already=True)

    def prepare(self) -> None:
        """Freeze, copy, prove, and close all replicas, so that the source may go; on any failure all is undone."""
        ctx, order = self._ctx, self._order
        self.tell(0.03, "freezing the source")
        # A persistent freeze travels with the copy: it comes up read-only, and no client writes to it before the source
        # is gone. Older servers would open such a copy wrongly.
        persist = self._generation >= Generation.V4_44
        self._frozen.append(freeze(ctx, order.source, order.volume_id, persist=persist))
        try:
            self._copy()
            self._close_others()
            self._look_again()
        except BaseException as error:
            if self._lease is not None and self._lease.is_lost:
                ctx.log(f"volume {order.volume_id} is another worker's now; nothing is undone here")
                raise
            with ctx.cluster.leash.shielded():
                undo_copy(ctx, error, self._copied.step if self._copied else None, self._frozen)
            raise

    @property
    def _comes_up_frozen(self) -> bool:
        return self._frozen[0].persist

    def _copy(self) -> None:
        ctx, order = self._ctx, self._order
        self.tell(0.05, "waiting until the source is still")
        refusal = Refusal(ctx, order.volume_id, [order.source], order.refuse)
        if not self._comes_up_frozen:
            # The copy will take writes at once: no time may pass in which readers of the source miss them.
            refusal.outlast(lambda stage: self.tell(0.07, stage))
        self._still = wait_still(ctx, order.source, order.volume_id, STILL_FOR if order.quiet is None else order.quiet)
        wishes = Wishes(self._comes_up_frozen, order.disk_type, order.io_bytes_per_second, order.timeout)
        self._copied = copy_volume(
            ctx,
            order.volume_id,
            order.source,
            order.target,
            still=self._still,
            wishes=wishes,
            progress=lambda fraction, stage: self.tell(0.1 + 0.8 * fraction, stage),
        )
        refusal.outlast(lambda stage: self.tell(0.91, stage))

    def _close_others(self) -> None:
        """Freeze the other replicas, too; have all holders know of the new copy, or plan to outlast what they know."""
        ctx, order = self._ctx, self._order
        volume_id = order.volume_id
        self.tell(0.92, "looking again before the source is deleted")
        if self._master is not None:
            _check_registered(ctx, self._master, volume_id, order.target)
        self._frozen += [freeze_for_long(ctx, other, volume_id) for other in self._others]
        for replica in self._frozen:
            if replica is self._frozen[0] or replica.was_writable:
                seal(ctx, replica)
        if self._others and not self._comes_up_frozen:
            # Its replicas take writes together or not at all: such a copy came up writable.
            self._frozen.append(freeze_for_long(ctx, order.target, volume_id))
        self._closed = _shut(ctx, volume_id, order.source, order.target, renewed=not self._why_shut)
        if self._closed is not None and not self._why_shut:
            self.tell(0.95, "having the holders forget where the replicas were")
            self._why_shut = _renew(ctx, self._topology, volume_id, order.target, self._frozen)
            if not self._why_shut:
                ctx.journal.settle(self._closed.step)
                self._closed = None

    def _look_again(self) -> None:
        """Mismatch unless both copies are what they were; Busy where the volume is another worker's now."""
        ctx, order = self._ctx, self._order
        assert self._copied is not None
        prove_unchanged(ctx, order.source, order.volume_id, self._still)
        may_grow = not self._comes_up_frozen
        prove_unchanged(ctx, order.target, order.volume_id, self._copied.status, may_grow=may_grow)
        if self._lease is not None:
            self._lease.check()
        ctx.cluster.leash.check()

    def delete(self) -> Moved:
        """Delete the source, and thaw the replicas unless they have to stay shut for a while."""
        ctx, order, closed = self._ctx, self._order, self._closed
        assert self._copied is not None
        with ctx.cluster.leash.shielded():
            delete = plan(ctx.journal, Deleting(**vars(self._copied.step.change)))
            _delete_source(ctx, delete, self._copied.step, self._frozen)
            arrive(ctx, delete.change)
            if closed is None:
                _thaw_all(ctx, order.volume_id)
            if self._master is not None:
                _wait_registered(ctx, self._master, order.volume_id, order.source, order.target)
        if closed is not None:
            closed.ends = time.monotonic() + remembered(ctx)
        size, why_shut = self._still.dat_file_size, self._why_shut if closed else ""
        return Moved(order.volume_id, order.source, order.target, size, shut=closed, why_shut=why_shut)


def open_moved(ctx: Context, moved: Moved, progress: Progress | None = None, lease: Lease | None = None) -> None:
    """Wait until no server remembers where a moved volume was, then thaw its replicas.

    Interrupted, it leaves them frozen for recovery to thaw when the time is over.
    """
    tell = progress or (lambda fraction, stage: ctx.progress(fraction, stage))
    if moved.shut is None:
        return
    ctx.cluster.leash.leave(moved.shut.ends - time.monotonic() + THAWED_WITHIN)
    if lease is not None:
        lease.say(until(moved.shut))

    def wait(left: float) -> None:
        if lease is not None:
            lease.check()
        tell(0.96, f"read-only for {left:.0f} s more, until servers know the new copy")

    try:
        outlast(ctx, moved.shut, wait)
    except BaseException:
        ctx.log(words(moved.volume_id, [moved.shut.step]))
        raise
    _thaw_all(ctx, moved.volume_id)


def recover_moves(entry: Entry, ctx: Context) -> None:
    """Undo the copies and finish the deletions that a killed run had under way, then thaw what it froze.

    Every volume is tried; then the first error is raised, and its steps stay open.
    """
    ctx = replace(ctx, journal=entry)
    failed: list[TaskError] = []
    with ctx.cluster.leash.shielded():
        for volume_id in entry.volume_ids:
            try:
                with hold(ctx, volume_id, LEASE_PATIENCE):
                    _recover(ctx, volume_id)
            except TaskError as error:
                ctx.log(str(error))
                failed.append(error)
    if failed:
        raise failed[0]


def _check_plan(
    topology: Topology | None,
    order: MoveOrder,
    original: ReadVolumeFileStatusResponse | None,
    copy: ReadVolumeFileStatusResponse | None,
) -> None:
    """Raise StaleTask, saying why, unless the move still makes sense; nothing was touched yet."""
    volume_id, source, target, plan = order.volume_id, order.source, order.target, str(order)
    if original is None:
        raise StaleTask(f"{plan}: {source} no longer holds it")
    if copy is not None:
        raise StaleTask(
            f"{plan}: {target} already holds a copy; where that is one too many, replication with delete_surplus "
            "removes what is proved equal"
        )
    if order.collection is not None and original.collection != order.collection:
        raise StaleTask(f"{plan}: it belongs to collection {original.collection!r}, not {order.collection!r}")
    if original.volume_info.files:
        raise StaleTask(f"{plan}: its data is in remote storage; moving such volumes is not supported")
    if topology is None:
        return
    node = topology.node_at(target)
    if node is None:
        raise StaleTask(f"{plan}: the master does not know {target}")
    replicas = topology.replicas(volume_id)
    ours = next((replica for replica in replicas if replica.server == source), None)
    if ours is None:
        raise StaleTask(f"{plan}: the master does not list it on {source}")
    reason = why_unmovable(ours, topology) or why_not_there(
        ours, node, topology, order.disk_type or ours.disk_type, original.dat_file_size
    )
    if reason:
        raise StaleTask(stays(ours, reason))


def why_unmovable(replica: Replica, topology: Topology) -> str:
    """Say why a replica may not move, wherever to; "" where it may."""
    volume_id = replica.volume_id
    if ambiguity := topology.ambiguity(volume_id):
        return f"it {ambiguity}"
    if topology.has_shards(volume_id):
        return "it is erasure-coded or just becoming so"
    if words := topology.barred.get(volume_id, ""):
        return f"it {words}"
    # All of a volume's replicas are kept from taking writes while one of them moves.
    return next((one.node.closed for one in topology.replicas(volume_id) if one.node.closed), "")


def why_not_there(
    replica: Replica, target: Node, topology: Topology, disk_type: str, size: int, reserved: Reserved | None = None
) -> str:
    """Say why a replica of `size` bytes may not move to a node; "" where it may."""
    others = [other.node for other in topology.replicas(replica.volume_id) if other is not replica]
    return why_not_move(replica.placement, replica.node, others, target) or no_room(target, disk_type, size, reserved)


def stays(replica: Replica, reason: str) -> str:
    """Say that a replica does not move, and why."""
    return f"volume {replica.volume_id} stays on {replica.server}: {reason}"


def _check_others(ctx: Context, volume_id: int, others: Iterable[Address]) -> None:
    """StaleTask where a replica elsewhere cannot be asked: it could not be kept from taking writes meanwhile."""
    try:
        for server in others:
            probe(ctx, server, volume_id)
    except ServerFailed as error:
        raise StaleTask(
            f"volume {volume_id} has a replica that cannot be asked, so it was not moved and nothing touched: {error}"
        ) from error


def _shut(ctx: Context, volume_id: int, source: Address, target: Address, renewed: bool = False) -> Shut | None:
    """Keep the volume's other replicas frozen once the source is gone; None where this job froze none."""
    ours = {frozen.server for frozen in map(Frozen.of, steps_of(ctx.journal, volume_id)) if frozen is not None}
    if not ours - {source, target}:
        return None
    master = known_master(ctx)
    servers = {target, *ours, *(locations(master, volume_id) if master else ())} - {source}
    seconds = remembered(ctx)
    margin = seconds * (0.5 if renewed else 0.1)  # forgetting takes its time, too
    was_writable = {server: server == target or server in ours for server in servers}
    return keep_shut(ctx, volume_id, seconds, was_writable, margin, renewed)


def _renew(ctx: Context, topology: Topology | None, volume_id: int, target: Address, frozen: Sequence[Frozen]) -> str:
    """Have all holders know of the new copy before the source goes; or say why they may not."""
    if topology is None or not all(replica.was_writable for replica in frozen):
        return "a replica of it was not frozen by this job"
    copy = Frozen(target, volume_id, frozen[0].persist, None)
    return safety_forget.renew(ctx, volume_id, [*frozen, copy], topology.replicas(volume_id)[0].placement)


def _thaw_all(ctx: Context, volume_id: int) -> None:
    """Make writable what this job froze: as good as at once, since a write that one replica refuses makes them differ.

    All are tried; then the first error is raised, and its step stays open.
    """
    ctx.each(lambda replica: thaw(ctx, replica), filter(None, map(Frozen.of, steps_of(ctx.journal, volume_id))))
    holds.release(ctx, volume_id)


def _check_registered(ctx: Context, master: Master, volume_id: int, target: Address) -> None:
    """Mismatch unless the master lists the copy: clients must find it when the source is gone."""
    if not ctx.until(lambda: target in locations(master, volume_id), timeout=REGISTERED_WITHIN, pause=0.05):
        raise Mismatch(f"the master does not list the copy of volume {volume_id} on {target}")


def _delete_source(ctx: Context, delete: Planned[Deleting], copy: Planned[Copying], frozen: Sequence[Frozen]) -> None:
    """Delete the source of a proved copy, and look until it is gone; where the server refuses, undo the move."""
    volume_id, source, target = delete.change.way
    reason: object = ""
    for attempt in range(DELETE_TRIES):
        ctx.wait(attempt)
        try:
            ctx.volume(source).volume_delete(volume_id=volume_id, keep_remote_data=True, timeout=DELETE_TIMEOUT)
            reason = "it says that it did, and still holds it"
        except ServerFailed as error:
            reason = error
        try:
            # Whatever was answered, only what the server holds now counts.
            if probe(ctx, source, volume_id) is None:
                ctx.log(f"deleted volume {volume_id} on {source} ({delete.change.dat} bytes), proved on {target}")
                return
        except ServerFailed as error:
            raise TaskError(
                f"whether {source} has deleted volume {volume_id} is unknown: {error}; its copy on {target} is "
                f"complete, both stay read-only until {source} can be asked"
            ) from error
    ctx.journal.settle(delete)
    failure = TaskError(f"volume {volume_id} stays on {source}, which does not delete it: {reason}")
    undo_copy(ctx, failure, copy, frozen, ended=True)
    raise failure


def _wait_registered(ctx: Context, master: Master, volume_id: int, source: Address, target: Address) -> None:
    """Give the master time to learn of the move, so that the next look at the cluster is right; only logged."""

    def learned() -> bool:
        where = locations(master, volume_id)
        return target in where and source not in where

    try:
        if not ctx.until(learned, timeout=REGISTERED_WITHIN, pause=0.05):
            ctx.log(f"the master has not learned yet that volume {volume_id} moved to {target}")
    except TaskError as error:
        ctx.log(f"volume {volume_id} moved to {target}, but the master cannot be asked: {error}")


def _finish_earlier(ctx: Context, volume_id: int) -> None:
    """Settle what an earlier run of this job left open for the volume."""
    if not ctx.options.dry_run and steps_of(ctx.journal, volume_id):
        with ctx.cluster.leash.shielded():
            _recover(ctx, volume_id)


def _recover(ctx: Context, volume_id: int) -> None:
    """Clear up one volume: deletions first, then copies, then freezes; each may settle the later ones.

    TaskError as long as the volume must stay read-only.
    """
    safety_forget.recover(ctx, volume_id)
    for delete in of_kind(ctx.journal, Deleting, volume_id):
        _finish_or_undo(ctx, delete)
    for copy in of_kind(ctx.journal, Copying, volume_id):
        drop_copy(ctx, copy)
    try:
        _forget_instead(ctx, volume_id)
    except TaskError as error:
        ctx.log(f"volume {volume_id} has to outlast what servers remember: {error}")
    check_over(ctx.journal, volume_id)
    if not holds.is_ours(ctx, volume_id):
        ctx.log(f"others have ended the hold of volume {volume_id}, or hold it now; nothing is opened here")
        for frozen in filter(None, map(Frozen.of, steps_of(ctx.journal, volume_id))):
            frozen.keep(ctx.journal)
    _thaw_all(ctx, volume_id)


def _forget_instead(ctx: Context, volume_id: int) -> None:
    """Have the holders forget where replicas were, where a killed job did not come to that: nothing is to be outlasted.

    Only where all that the master lists were frozen by this job and are still its own to open.
    """
    shut = shut_steps(ctx.journal, volume_id)
    master = known_master(ctx)
    if not shut or master is None or not holds.is_ours(ctx, volume_id):
        return
    frozen = {one.server: one for one in filter(None, map(Frozen.of, steps_of(ctx.journal, volume_id)))}
    replicas = snapshot(master, volume_id).replicas(volume_id)
    servers = [replica.server for replica in replicas]
    own = _own_placement(ctx, replicas)
    if own is None or set(servers) != set(frozen) or len(servers) != own.copies:
        return
    if not all(ctx.volume(server).volume_status(volume_id=volume_id).is_read_only for server in servers):
        return
    if safety_forget.why_not(ctx, volume_id, servers):
        return
    if not safety_forget.renew(ctx, volume_id, [frozen[server] for server in servers], own):
        for step in shut:
            ctx.journal.settle(step)


def _own_placement(ctx: Context, replicas: Sequence[Replica]) -> ReplicaPlacement | None:
    """The placement that the master shows of all replicas and none of their servers contradicts; None without one.

    The master's list lags behind a placement that was only for the while, and it must not become the volume's own.
    """
    shown = {str(replica.placement) for replica in replicas}
    for replica in replicas:
        info = ctx.volume(replica.server).read_volume_file_status(volume_id=replica.volume_id).volume_info
        shown |= {info.replication} - {""}  # it tells none that was never changed
    return ReplicaPlacement.parse(shown.pop()) if len(shown) == 1 else None


def _finish_or_undo(ctx: Context, delete: Planned[Deleting]) -> None:
    """A killed run had proved the copy and begun to delete the source: finish where that still holds, else go back.

    The copy may have been written to since; then it holds more than the source, never less.
    """
    volume_id, source, target = delete.change.way
    if probe(ctx, source, volume_id) is not None:
        try:
            before = file_status(ctx, source, volume_id)
            prove_copy(ctx, volume_id, source, target, before, may_grow=True)
            seal(ctx, open_freeze(ctx.journal, source, volume_id) or Frozen(source, volume_id, False, None))
            for frozen in filter(None, map(Frozen.of, steps_of(ctx.journal, volume_id))):
                if frozen.server != source:
                    seal(ctx, frozen)
            prove_unchanged(ctx, source, volume_id, before)
            forget(ctx.journal, volume_id)
            _shut(ctx, volume_id, source, target)
            ctx.volume(source).volume_delete(volume_id=volume_id, keep_remote_data=True, timeout=DELETE_TIMEOUT)
        except (Mismatch, ServerFailed) as error:
            ctx.log(f"the move of volume {volume_id} to {target} cannot be finished: {error}")
        if probe(ctx, source, volume_id) is not None:
            forget(ctx.journal, volume_id)
            ctx.journal.settle(delete)
            return
        ctx.log(f"deleted volume {volume_id} on {source} ({before.dat_file_size} bytes), proved on {target}")
    arrive(ctx, delete.change)
