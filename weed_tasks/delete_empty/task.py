"""Deleting a volume that holds no file: every replica looked at, frozen, proved empty again, then all deleted.

The servers refuse on their own, too, to delete what is not empty. Files that were deleted are still in a volume until
it is vacuumed, so that comes first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from weed_cluster.address import Address
from weed_cluster.topology import snapshot
from weed_core.errors import BadTask, Mismatch, ServerFailed, StaleTask, TaskError
from weed_core.model import Job, Result, Values
from weed_core.values import as_int
from weed_safety import compaction, late_writes
from weed_safety.compaction import Copy
from weed_safety.context import Context
from weed_safety.freeze import Frozen, freeze_for_long, recover_freezes, thaw
from weed_safety.journal import Entry, Step
from weed_safety.lease import LEASE_PATIENCE, Lease, hold, known_master
from weed_safety.look import file_status, probe, prove_unchanged
from weed_safety.parameters import collection_of, volume_id_of
from weed_safety.proof import live_index
from weed_safety.readiness import close_refusing
from weed_safety.steps import is_of, kind, of_kind, plan
from weed_safety.untold import check_told
from weed_storage.needle import SUPER_BLOCK_SIZE
from weed_tasks.delete_empty.plan import DESCRIPTOR, QUIET, why_stays


@kind("delete empty")
@dataclass(frozen=True)
class Deletion:
    """The journal step of a deletion that has begun; `servers` are those of all replicas."""

    volume_id: int
    servers: tuple[Address, ...]


def run(job: Job, ctx: Context) -> Result:
    """Delete one volume on all its servers, if it holds no file and was quiet; StaleTask where it is not so any more.

    Running it again goes on with the replicas that are left.
    """
    volume_id = volume_id_of(job)
    with hold(ctx, volume_id) as lease:
        if any(is_of(step, Deletion) for step in ctx.journal.open):
            _finish(ctx, volume_id)
        return _delete_empty(job, ctx, volume_id, lease)


def recover(entry: Entry, ctx: Context) -> None:
    """Finish a deletion of which some replica is gone already; else open the volume again."""
    ctx = replace(ctx, journal=entry)
    volume_id = max(entry.volume_ids, default=0)
    with ctx.cluster.leash.shielded(), hold(ctx, volume_id, LEASE_PATIENCE):
        compaction.clear_up(ctx)
        _finish(ctx, volume_id)


def _delete_empty(job: Job, ctx: Context, volume_id: int, lease: Lease | None) -> Result:
    ctx.progress(0.01, "looking at the cluster")
    master = known_master(ctx)
    if master is None:
        raise BadTask(f"volume {volume_id} cannot be deleted: no master is known that tells all its replicas")
    copies = _replicas(job, ctx, volume_id)
    servers = [copy.server for copy in copies]
    check_told(ctx, volume_id, servers)
    names, size = ", ".join(map(str, servers)), max(copy.status.dat_file_size for copy in copies)
    if ctx.options.dry_run:
        return Result(f"would delete volume {volume_id} on {names}: it holds no file", {"volume_id": volume_id})
    filled = [copy for copy in copies if copy.status.dat_file_size > SUPER_BLOCK_SIZE]
    if filled:
        compaction.compact(ctx, volume_id, copies, filled, master, lease)
    _delete_all(ctx, volume_id, servers, late_writes.seconds_of(job), lease)
    ctx.progress(1.0, "deleted")
    return Result(
        f"volume {volume_id} deleted on {names}: it held no file",
        {"volume_id": volume_id, "replicas": list(map(str, servers)), "reclaimed_bytes": size * len(servers)},
    )


def _replicas(job: Job, ctx: Context, volume_id: int) -> list[Copy]:
    """Find every replica, afresh; StaleTask unless none of them holds a file and all were quiet."""
    topology = snapshot(ctx.master(), volume_id)
    listed = topology.replicas(volume_id)
    if not listed:
        raise StaleTask(f"volume {volume_id} is on no server any more; nothing is left to delete")
    quiet = as_int(job.parameters.get(QUIET), Values(DESCRIPTOR, job.config).whole(QUIET), 0)
    close_refusing(ctx, topology, [replica.server for replica in listed])
    # What masters tell lags behind; how long ago a volume was written to is asked of its servers below.
    reason, _key = why_stays(listed, topology, quiet=0, now=math.inf)
    if reason:
        raise StaleTask(f"volume {volume_id} stays: {reason}; nothing was touched")
    copies = [compaction.look(ctx, replica.server, volume_id, collection_of(job)) for replica in listed]
    for copy in copies:
        _prove_empty(ctx, volume_id, copy.server)
        if (age := late_writes.age(ctx, copy.server, volume_id)) < quiet:
            raise StaleTask(
                f"volume {volume_id} stays: it was written to {age:.0f} s ago on {copy.server}, less than {quiet} s; "
                "nothing was touched"
            )
    return copies


def _prove_empty(ctx: Context, volume_id: int, server: Address) -> None:
    """StaleTask if a file lives in the volume, as its index says."""
    live = live_index(ctx, server, volume_id, file_status(ctx, server, volume_id))
    if live:
        raise StaleTask(f"volume {volume_id} stays: it holds {len(live)} files on {server}; nothing was deleted")


def _delete_all(ctx: Context, volume_id: int, servers: Sequence[Address], refuse: int, lease: Lease | None) -> None:
    """Freeze all replicas, wait until nobody writes to them any more, prove them empty, delete them; or none."""
    frozen: list[Frozen] = []
    try:
        ctx.progress(0.5, "refusing writes")
        frozen += [freeze_for_long(ctx, server, volume_id) for server in servers]
        before = {server: file_status(ctx, server, volume_id) for server in servers}
        was_writable = any(replica.was_writable for replica in frozen)
        refusal = late_writes.Refusal(ctx, volume_id, servers, refuse, may_be_assigned=was_writable)
        refusal.outlast(lambda words: ctx.progress(0.6, words))
        ctx.progress(0.9, "proving that it is empty")
        for server in servers:
            prove_unchanged(ctx, server, volume_id, before[server])
            _prove_empty(ctx, volume_id, server)
        if lease is not None:
            lease.check()
        step = plan(ctx.journal, Deletion(volume_id, tuple(servers)))
        with ctx.cluster.leash.shielded():
            _delete_first(ctx, volume_id, servers, step)
            _delete_rest(ctx, volume_id, servers, step)
    except BaseException:
        # Behind the first deletion the others are to follow, so what is left then is not opened again.
        if not any(is_of(step, Deletion) for step in ctx.journal.open):
            for replica in frozen:
                thaw(ctx, replica)
        raise


def _delete_first(ctx: Context, volume_id: int, servers: Sequence[Address], step: Step) -> None:
    """Delete one replica; where that is refused, none is deleted, and the step is settled."""
    try:
        _delete(ctx, volume_id, servers[0])
    except TaskError:
        if probe(ctx, servers[0], volume_id) is not None:
            ctx.journal.settle(step)
        raise


def _delete_rest(ctx: Context, volume_id: int, servers: Sequence[Address], step: Step) -> None:
    """Delete the replicas that are left; TaskError names those that could not be, and leaves the step open."""
    failed = []
    for server in servers:
        try:
            _delete(ctx, volume_id, server)
        except TaskError as error:
            failed.append(str(error))
    if failed:
        raise TaskError(
            f"volume {volume_id} held no file and is deleted, but not everywhere yet; the rest follows at the next "
            f"start: {'; '.join(failed)}"
        )
    _settle(ctx, volume_id, step)


def _delete(ctx: Context, volume_id: int, server: Address) -> None:
    """Delete an empty replica, whatever was answered; TaskError if it is still there."""
    if probe(ctx, server, volume_id) is None:
        return
    try:
        ctx.volume(server).volume_delete(volume_id=volume_id, only_empty=True)
    except ServerFailed:
        if probe(ctx, server, volume_id) is not None:
            raise
    if probe(ctx, server, volume_id) is not None:
        raise Mismatch(f"volume {volume_id} is still on {server}, which says that it deleted it")


def _finish(ctx: Context, volume_id: int) -> None:
    """Settle what the journal has open: delete the rest where one replica is gone, else thaw what was frozen."""
    for step in of_kind(ctx.journal, Deletion):
        servers = step.change.servers
        if any(probe(ctx, server, volume_id) is None for server in servers):
            _delete_rest(ctx, volume_id, servers, step)
        else:
            ctx.journal.settle(step)
    recover_freezes(ctx.journal, ctx)


def _settle(ctx: Context, volume_id: int, step: Step) -> None:
    """Write down that the volume is gone, and the freezes of its replicas with it."""
    for open_step in ctx.journal.open:
        frozen = Frozen.of(open_step)
        if frozen is not None and frozen.volume_id == volume_id:
            frozen.keep(ctx.journal)
    ctx.journal.settle(step)
