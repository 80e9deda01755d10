"""Giving each volume the copies that its placement asks for, where it asks for them, and equal ones.

Adds first, waits until the master shows it, proves every copy equal, and deletes last: only what is proved redundant,
never where a replica that stays is read-only, never where replicas disagree. Replicas that disagree are reported; with
`reconcile` they get from each other what their indexes prove to be missing (see weed_tasks.replication.reconcile).
"""

from __future__ import annotations

from collections.abc import Sequence

from weed_cluster.address import Address
from weed_cluster.placement import Reserved, no_room, why_not
from weed_cluster.replica_placement import ReplicaPlacement
from weed_cluster.topology import Node, Replica, Topology, snapshot
from weed_core.errors import Mismatch, ServerFailed, StaleTask
from weed_core.findings import REPLICA
from weed_core.model import Job, Result, Values
from weed_core.values import as_int
from weed_safety import findings, location_cache
from weed_safety.alike import know_builds
from weed_safety.context import Context
from weed_safety.journal import Entry
from weed_safety.lease import Lease, hold
from weed_safety.look import probe
from weed_safety.move import recover_moves
from weed_safety.parameters import collection_of, server_named, servers_known, source_names, volume_id_of
from weed_safety.proof import CHECKSUMS, INDEX, compare_all
from weed_safety.readiness import close_refusing
from weed_safety.steps import of_kind
from weed_tasks.replication.faults import (
    BAD,
    MISPLACED,
    Fault,
    additions,
    choose_targets,
    examine,
    nowhere,
    same_host,
    spoiled,
    wanted_placement,
    why_shared,
)
from weed_tasks.replication.plan import (
    DESCRIPTOR,
    LEVELS,
    NOTHING_SOUND,
    found_bad,
    nowhere_readable,
    remembered_for,
    share_objects,
    unreadable,
)
from weed_tasks.replication.repair import Repair, RepairOrder, Trimming
from weed_tasks.scope import unfit


def _order(job: Job) -> RepairOrder:
    """Read what a job asks for, whichever dialect it came in."""
    params = job.params
    shown = {name: value for name, value in job.parameters.items() if name in DESCRIPTOR.defaults}
    values = Values(DESCRIPTOR, job.config, shown)
    level = LEVELS[values.text("verify")]
    if params.replication_params.verify_consistency and level == INDEX:
        level = CHECKSUMS
    return RepairOrder(
        volume_id=volume_id_of(job),
        collection=collection_of(job),
        replica_count=params.replication_params.replica_count,
        sources=tuple(source_names(params)),
        targets=tuple(target.node for target in params.targets if target.node),
        level=level,
        delete_surplus=values.flag("delete_surplus"),
        reconcile=values.flag("reconcile"),
        io_bytes_per_second=values.whole("io_byte_per_second"),
        seen_for=as_int(job.parameters.get("seen_for_seconds"), 0, 0),
    )


def run(job: Job, ctx: Context) -> Result:
    """Repair one volume's replicas, as far as is safe; the result says what was done and what was left, and why.

    Raises StaleTask or BadTask where nothing was touched, Mismatch where replicas disagree and adding copies would
    not help.
    """
    order = _order(job)
    if not ctx.options.dry_run and ctx.journal.open:
        recover(ctx.journal, ctx)  # what an earlier run of this very job left
    with hold(ctx, order.volume_id) as lease:
        return _run(order, ctx, lease)


def _run(order: RepairOrder, ctx: Context, lease: Lease | None) -> Result:
    ctx.progress(0.02, "looking at the cluster")
    topology = know_builds(ctx, snapshot(ctx.master(), order.volume_id))
    replicas = _replicas(ctx, order, topology)
    placement = wanted_placement(replicas[0].placement, order.replica_count)
    if not ctx.options.dry_run:
        mine = [one for one in findings.read_all(ctx) if one.kind == REPLICA and one.volume_id == order.volume_id]
        findings.settle_gone(ctx, topology, mine)
    fault = spoiled(replicas, placement, found_bad(ctx).get(order.volume_id, {}))
    if fault and not fault.keep:
        raise StaleTask(f"volume {order.volume_id} {fault.why}; {NOTHING_SOUND}")
    fault = fault or examine(replicas, placement)
    healthy = _healthy(ctx, order.volume_id, replicas)
    targets = _targets(ctx, order, topology, replicas, placement, fault) if fault else []
    shared = same_host((replica.node for replica in replicas), targets)
    is_bad = fault is not None and fault.kind == BAD
    may_trim = bool(fault and fault.surplus and (order.delete_surplus or is_bad))
    if not targets and not may_trim:
        agreement = compare_all(ctx, order.volume_id, healthy, order.level)
        if not agreement.ids:
            return _nothing_to_do(order, replicas, healthy, fault)
    if ctx.options.dry_run:
        return _preview(order, fault, targets, shared)
    preferred = servers_known(order.sources, topology)
    remembered = remembered_for(
        fault, placement, order.seen_for, replicas[0].remote_name, location_cache.remembered(ctx)
    )
    repair = Repair(ctx, order, replicas, healthy, preferred, lease, remembered)
    repair.notes += [shared] if shared else []
    try:
        repair.hold()
        if not (fault and is_bad):
            repair.agree(can_add=bool(targets))
        elif not repair.judge(fault):
            return Result(f"volume {order.volume_id} {fault.why}; yet every file of it can be read now")
        _mend(repair, targets, fault if may_trim else None, placement)
    finally:
        repair.release()
    return repair.result(fault)


def _preview(order: RepairOrder, fault: Fault | None, targets: Sequence[Node], shared: str) -> Result:
    """What would be done."""
    return Result(
        f"volume {order.volume_id} {fault.why if fault else 'has replicas that differ'}; nothing was changed"
        + (f", a copy would be made on {', '.join(map(str, targets))}" if targets else "")
        + (f", {shared}" if shared else ""),
        {"volume_id": order.volume_id},
    )


def _mend(repair: Repair, targets: Sequence[Node], trimmed: Fault | None, placement: ReplicaPlacement) -> None:
    """Add the copies that are wanted, then take away what is more than that."""
    try:
        for number, target in enumerate(targets):
            repair.add(target.address, number, len(targets))
        repair.renew_memories()
        if trimmed:
            repair.trim(trimmed, placement)
    finally:
        repair.outlast_memories()


def recover(entry: Entry, ctx: Context) -> None:
    """Undo what a killed run left: half-proved copies go, as long as their source is sound; what it froze is thawed.

    A deletion that was begun needs nothing: whatever was deleted had been proved redundant. TaskError as long as the
    volume must stay frozen because servers may write past a new copy.
    """
    for step in of_kind(entry, Trimming):
        entry.settle(step)
    recover_moves(entry, ctx)


def _replicas(ctx: Context, order: RepairOrder, topology: Topology) -> list[Replica]:
    """The volume's replicas as master and servers see them now; StaleTask where the job no longer fits them."""

    def exists(replica: Replica) -> bool:
        try:
            return probe(ctx, replica.server, order.volume_id) is not None
        except ServerFailed:
            return True  # it cannot be asked, so what the master says stands

    listed = topology.replicas(order.volume_id)
    # The master learns late of what a server has lost or deleted.
    replicas = [replica for replica, there in zip(listed, ctx.each(exists, listed)) if there]
    name = f"volume {order.volume_id}"
    if not replicas:
        raise StaleTask(f"the master knows no replica of {name}; nothing was changed")
    if order.collection is not None and order.collection != replicas[0].collection:
        raise StaleTask(f"{name} is of collection {replicas[0].collection!r}, not {order.collection!r}")
    answers = close_refusing(ctx, topology, (replica.server for replica in replicas))
    for server in (server for server, answer in answers.items() if answer.is_silent):
        ctx.log(f"{server} cannot be asked about {name}: {answers[server].refusal}")
    reason = unfit(replicas, topology)
    if reason:
        raise StaleTask(f"{name} {reason}")
    sources = set(servers_known(order.sources, topology))
    if order.sources and not {replica.server for replica in replicas} & sources:
        raise StaleTask(f"{name} is on none of the servers named as its sources any more; nothing was changed")
    return replicas


def _healthy(ctx: Context, volume_id: int, replicas: Sequence[Replica]) -> list[Address]:
    """The servers whose replica can be read; Mismatch, naming each one's reason, where there is none."""
    reasons = unreadable(ctx, volume_id, (replica.server for replica in replicas))
    for server, words in reasons.items():
        if words:
            ctx.log(f"the replica of volume {volume_id} on {server} cannot be used: {words}")
    healthy = [server for server, words in reasons.items() if not words]
    if not healthy:
        raise Mismatch(f"volume {volume_id} {nowhere_readable(reasons)}")
    return healthy


def _targets(
    ctx: Context,
    order: RepairOrder,
    topology: Topology,
    replicas: Sequence[Replica],
    placement: ReplicaPlacement,
    fault: Fault,
) -> list[Node]:
    """Where copies are to be added: where the job says, or else wherever is best; StaleTask where nothing will do."""
    count = additions(fault, replicas, placement, order.delete_surplus)
    if not count or (fault.kind == MISPLACED and not order.delete_surplus):
        return []
    first = replicas[0]
    if first.remote_name and not share_objects(ctx, replicas):
        raise StaleTask(f"volume {order.volume_id} {why_shared(first, fault)}")
    holders = [replica.node for replica in fault.keep]
    chosen: list[Node] = []
    held = {replica.server for replica in replicas}
    named = [server_named(name, topology) for name in order.targets]
    close_refusing(ctx, topology, named)
    for address in [target for target in named if target not in held][:count]:
        node = topology.node_at(address)
        if node is None:
            raise StaleTask(f"the master does not know {address}; volume {order.volume_id} was not copied there")
        reason = (
            why_not(placement, [*holders, *chosen], node)
            or no_room(node, first.disk_type, first.size)
            or topology.all_unlike((replica.node for replica in replicas), node)
        )
        if reason:
            raise StaleTask(f"volume {order.volume_id} cannot get a copy on {address}: {reason}; nothing was changed")
        chosen.append(node)
    while not chosen:
        chosen = choose_targets(topology, fault, placement, count, replicas, Reserved())
        if not chosen:
            raise StaleTask(f"volume {order.volume_id} {nowhere(topology, replicas, fault)}")
        close_refusing(ctx, topology, [node.address for node in chosen])
        if any(node.closed for node in chosen):
            chosen = []
    return chosen


def _nothing_to_do(
    order: RepairOrder, replicas: Sequence[Replica], healthy: Sequence[Address], fault: Fault | None
) -> Result:
    name = f"volume {order.volume_id}"
    broken = len(replicas) - len(healthy)
    if broken:
        raise Mismatch(f"{name} has {broken} of {len(replicas)} replicas that cannot be read; nothing was changed")
    outputs = {"volume_id": order.volume_id, "copies": len(replicas)}
    if fault is not None:
        return Result(f"{name} {fault.why}; nothing was changed, because delete_surplus is off", outputs)
    copies = "one copy" if len(replicas) == 1 else f"{len(replicas)} copies, which agree"
    return Result(f"{name} has its {copies}; nothing to do", outputs)
