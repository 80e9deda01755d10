"""Making one erasure-coded volume whole again: fourteen sound shards of one run, and every deletion known to all.

Nothing is believed that was not asked of the servers or proved from their bytes in this run; nothing is given up before
ten others are proved, or the copy that stays. Two encode runs are never mixed. Killed anywhere and run again, by this
worker or another, it finds from the cluster alone what is left to do.
"""

from __future__ import annotations

from weed_cluster.topology import Topology, snapshot
from weed_core.errors import BadTask, StaleTask
from weed_core.model import Job, Result
from weed_core.values import as_int, as_list
from weed_ec import deliver
from weed_ec.deliver import Delivered, Unmounted
from weed_ec.runs import runs_of
from weed_ec.shards import look_at_all
from weed_safety import findings
from weed_safety.alike import know_builds
from weed_safety.context import Context
from weed_safety.journal import Entry
from weed_safety.lease import LEASE_PATIENCE, volume_lease
from weed_safety.parameters import collection_of, volume_id_of
from weed_safety.steps import of_kind
from weed_storage.ec_layout import TOTAL_SHARDS
from weed_tasks.ec_repair.plan import KINDS, why_left_alone
from weed_tasks.ec_repair.preview import look_only
from weed_tasks.ec_repair.repair import Repair, RepairOrder


def run(job: Job, ctx: Context) -> Result:
    """Repair the volume that the job names, as far as is safe; the result says what was done and what was left.

    Raises StaleTask or BadTask where nothing was touched, among them a volume of which fewer than ten shards are left;
    Mismatch where what is there proves wrong and nothing better can be made of it.
    """
    topology = know_builds(ctx, snapshot(ctx.master()))
    order = _order(job, topology)
    if reason := why_left_alone(topology, order.volume_id):
        raise StaleTask(f"volume {order.volume_id} {reason}; nothing was touched")
    if reason := topology.mixed(one.node for one in topology.holdings(order.volume_id, order.collection)):
        raise StaleTask(f"volume {order.volume_id} has shards that not all of its servers can read: {reason}")
    told = [
        one
        for one in findings.read_all(ctx)
        if (one.volume_id, one.collection) == (order.volume_id, order.collection) and one.kind in KINDS
    ]
    if ctx.options.dry_run:
        return look_only(ctx, order, topology, told)
    with volume_lease(ctx, order.volume_id) as lease:
        _undo(ctx.journal, ctx)  # what an earlier run of this very job left
        return Repair(ctx, order, topology, lease, told).carry_out()


def recover(entry: Entry, ctx: Context) -> None:
    """Undo what a killed run left: shards that it unmounted are mounted, shards that it had not proved are removed.

    Raises TaskError where a server cannot be asked yet; the entry then keeps its steps.
    """
    with volume_lease(ctx, entry.volume_id, patience=LEASE_PATIENCE), ctx.cluster.leash.shielded():
        _undo(entry, ctx)


def _order(job: Job, topology: Topology) -> RepairOrder:
    volume_id, named = volume_id_of(job), collection_of(job)
    known = [collection for number, collection in topology.ec if number == volume_id]
    if not known:
        raise StaleTask(f"the master knows no shard of volume {volume_id}; nothing was touched")
    if named is not None and named not in known:
        raise StaleTask(f"volume {volume_id} is of collection {known[0]!r}, not {named!r}; nothing was touched")
    try:
        shards = tuple(sorted(map(int, as_list(job.parameters.get("shards"), []))))
    except ValueError:
        shards = (-1,)
    if not {*shards} <= {*range(TOTAL_SHARDS)}:
        raise BadTask(f"volume {volume_id}: {job.parameters.get('shards')!r} are no shards; they are numbered 0 to 13")
    rate = as_int(job.parameters.get("io_byte_per_second") or job.config.get("io_byte_per_second"), 0, 0)
    return RepairOrder(volume_id, named if named is not None else known[0], shards, rate)


def _undo(entry: Entry, ctx: Context) -> None:
    if not entry.open:
        return
    begun: list[Delivered | Unmounted] = [step.change for step in of_kind(entry, Delivered)]
    begun += [step.change for step in of_kind(entry, Unmounted)]
    volume_id, collection = begun[0].volume_id, begun[0].collection
    topology = snapshot(ctx.master(), volume_id=volume_id)
    servers = {one.server for one in topology.holdings(volume_id, collection)}
    servers |= {change.server for change in begun}
    runs = runs_of(ctx, look_at_all(ctx, sorted(servers, key=str), volume_id, collection), volume_id, collection)
    deliver.undo(entry, ctx, runs[0].copies if runs else {})
