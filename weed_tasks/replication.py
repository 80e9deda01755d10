"""Giving each volume the copies that its placement asks for, where it asks for them, and equal ones.

Adds first, waits until the master shows it, proves every copy equal, and deletes last: only what is proved redundant,
never where a replica that stays is read-only, never where replicas disagree. Replicas that disagree are reported; with
`reconcile` they get from each other what their indexes prove to be missing (see weed_tasks.reconcile).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from proto_gen import worker_pb2
from weed_cluster.address import Address
from weed_cluster.placement import ReplicaPlacement, Reserved, no_room, why_not
from weed_cluster.topology import Node, Replica, Topology, collection_filter, snapshot
from weed_errors import Mismatch, ServerFailed, StaleTask, TaskError
from weed_model import (
    HIGH,
    NORMAL,
    Descriptor,
    Detection,
    DetectionRequest,
    Field,
    Job,
    Proposal,
    Result,
    Runtime,
    Skipped,
    Value,
)
from weed_storage.volume_info import Generation
from weed_tasks import Context, shut
from weed_tasks.freeze import file_status, generation_of
from weed_tasks.journal import Entry
from weed_tasks.lease import Lease
from weed_tasks.move import hold, probe, recover_moves
from weed_tasks.parameters import collection_of, server_named, source_names, source_of, volume_id_of
from weed_tasks.proof import BYTES, CHECKSUMS, INDEX
from weed_tasks.replica_plan import (
    DIVERGED,
    MISPLACED,
    OVER,
    UNDER,
    Fault,
    FirstSeen,
    additions,
    choose_targets,
    examine,
    unfit,
    wanted_placement,
    why_no_target,
)
from weed_tasks.replica_repair import TRIM, Order, Repair, compare_all, names
from weed_values import as_bool, as_int, as_str, settings

DESCRIPTOR = Descriptor(
    name="replication",
    job_type="replication",
    display_name="Replication Repair",
    description="Adds missing copies of volumes, moves misplaced ones and finds copies that differ",
    icon="fas fa-clone",
    fields=(
        Field(
            "collection_filter",
            "Collections",
            "string",
            "",
            "Regular expression; only volumes of matching collections are looked at. Empty for all.",
            placeholder="^photos$",
            scope="admin",
        ),
        Field(
            "min_fault_age_seconds",
            "Patience (seconds)",
            "int",
            600,
            "How long a fault must have been seen before it is repaired, so that a server that restarts causes no "
            "copying. 0 repairs at once. Volume servers remember for ten minutes where copies were; a volume repaired "
            "sooner stays read-only for the rest of that time.",
            minimum=0,
            maximum=7 * 86400,
            section="When",
        ),
        Field(
            "verify",
            "Proof",
            "enum",
            "checksums",
            "How deep copies are compared before one of them may be deleted.",
            options=(
                ("index", "Index: the same files exist"),
                ("checksums", "Checksums: each file's stored checksum is the same"),
                ("full", "Full: each file is read and its bytes are compared"),
            ),
            section="Safety",
        ),
        Field(
            "delete_surplus",
            "Delete surplus copies",
            "bool",
            False,
            "Delete copies beyond what the placement asks for, and misplaced ones once a better placed copy is "
            "proved equal. Off: such volumes are only reported.",
            section="Safety",
        ),
        Field(
            "reconcile",
            "Reconcile copies that differ",
            "bool",
            False,
            "Give each copy the writes and deletions that another copy proves it has missed. Nothing is guessed and "
            "no deleted file comes back. Off: differences are only reported.",
            section="Safety",
        ),
        Field(
            "io_byte_per_second",
            "Copying rate (bytes per second)",
            "int",
            0,
            "Highest rate of each copy. 0 for the volume server's own maintenance rate.",
            minimum=0,
            section="When",
        ),
    ),
    runtime=Runtime(
        detection_interval_minutes=10, max_jobs_per_detection=200, per_worker_execution_concurrency=2, retry_limit=2
    ),
    weight=70,
    aliases=(
        "fix.replication",
        "fix_replication",
        "volume.fix.replication",
        "volume_replication",
        "volume.replication",
    ),
)

LEVELS = {"index": INDEX, "checksums": CHECKSUMS, "full": BYTES}

MOST_COMPARED = 100
"""Volumes whose replicas one detection compares, because the master's figures for them differ."""

LOOK_AGAIN = 2.0
"""Seconds after which a difference seen in a volume that is written to must still be there."""

SEEN = FirstSeen()
"""What detection remembers. One worker has one, whatever number of detections it runs."""


# ---- detection


def detect(request: DetectionRequest, ctx: Context) -> Detection:
    """Find volumes whose replicas are too few, too many, misplaced or different; changes nothing."""
    wishes, _warnings = settings(DESCRIPTOR, request.config)
    matches = collection_filter(as_str(wishes["collection_filter"], ""))
    topology = snapshot(ctx.master(), request.volume_id)
    volumes = {
        volume_id: replicas
        for volume_id, replicas in sorted(topology.volumes.items())
        if matches(replicas[0].collection)
    }
    found: list[tuple[Fault, list[Replica]]] = []
    skipped: list[Skipped] = []
    suspects: list[list[Replica]] = []
    for replicas in volumes.values():
        reason = unfit(replicas, topology)
        if reason:
            skipped.append(_skip(replicas, reason, "unfit"))
            continue
        fault = examine(replicas, replicas[0].placement)
        if fault is not None:
            found.append((fault, replicas))
        elif _looks_different(replicas):
            suspects.append(replicas)
    for replicas in suspects[MOST_COMPARED:]:
        skipped.append(_skip(replicas, "may have replicas that differ; not compared yet", "not compared"))
    for replicas, differs in _compare_live(ctx, suspects[:MOST_COMPARED]):
        if isinstance(differs, Fault):
            found.append((differs, replicas))
        else:
            skipped.append(_skip(replicas, f"has replicas that cannot be compared: {differs}", "not comparable"))
    SEEN.forget_others(volumes, {(replicas[0].volume_id, fault.kind) for fault, replicas in found})

    # The volumes with the fewest copies left come first: they are the ones in danger.
    found.sort(key=lambda pair: (pair[0].kind != UNDER, len(pair[1]), pair[1][0].volume_id))
    patience = as_int(wishes["min_fault_age_seconds"], 600, 0)
    proposals: list[Proposal] = []
    reserved = Reserved()
    has_more = False
    for fault, replicas in found:
        age = SEEN.age(replicas[0].volume_id, fault.kind)
        if age < patience:
            words = f"{fault.why}; seen for {age:.0f} s, repaired after {patience} s"
            skipped.append(_skip(replicas, words, "too fresh"))
            continue
        if fault.kind == UNDER and replicas[0].remote_name and not _share_objects(ctx, replicas):
            words = f"{fault.why}, and its data is in {replicas[0].remote_name}, which old servers cannot share safely"
            skipped.append(_skip(replicas, words, "remote"))
            continue
        proposal = _propose(topology, fault, replicas, wishes, reserved, age)
        if isinstance(proposal, Skipped):
            skipped.append(proposal)
        elif request.max_results and len(proposals) >= request.max_results:
            has_more = True
        else:
            proposals.append(proposal)
    summary = f"{len(volumes)} volumes: {len(found)} with a fault, {len(proposals)} to repair now"
    return Detection(proposals, skipped, has_more, len(volumes), summary)


def _propose(
    topology: Topology,
    fault: Fault,
    replicas: Sequence[Replica],
    wishes: Mapping[str, Value],
    reserved: Reserved,
    age: float,
) -> Proposal | Skipped:
    first = replicas[0]
    placement = first.placement
    delete_surplus = bool(wishes["delete_surplus"])
    targets: list[Node] = []
    if fault.kind == DIVERGED:
        if not wishes["reconcile"]:
            return _skip(replicas, f"{fault.why}; nothing is changed unless reconcile is on", DIVERGED)
    elif fault.kind in (OVER, MISPLACED) and not delete_surplus:
        return _skip(replicas, f"{fault.why}; nothing is changed unless delete_surplus is on", fault.kind)
    else:
        count = additions(fault, replicas, placement, delete_surplus)
        targets = choose_targets(topology, fault, placement, count, replicas, reserved)
        if count and not targets:
            return _skip(
                replicas,
                f"{fault.why}, and no server may take another one: {why_no_target(topology, first)}",
                "no target",
            )
    size = max(replica.size for replica in replicas)
    params = worker_pb2.TaskParams(
        volume_id=first.volume_id,
        collection=first.collection,
        volume_size=size,
        sources=[source_of(replica) for replica in replicas],
        targets=[
            worker_pb2.TaskTarget(
                node=str(node.address),
                rack=node.rack,
                data_center=node.data_center,
                volume_id=first.volume_id,
                estimated_size=size,
            )
            for node in targets
        ],
        replication_params=worker_pb2.ReplicationTaskParams(
            replica_count=placement.copies, verify_consistency=wishes["verify"] != "index"
        ),
    )
    rate = as_int(wishes["io_byte_per_second"], 0, 0)
    copying = max(((size >> 30) + 1) * 300, size // rate if rate else 0) * max(1, len(targets))
    seconds = 120 + copying + (int(shut.CACHED_FOR) if targets else 0)
    where = f", copy to {', '.join(map(str, targets))}" if targets else ""
    name = f"{first.volume_id}:{first.collection}" if first.collection else str(first.volume_id)
    return Proposal(
        id=f"replication_vol_{first.volume_id}_{int(time.time())}",
        dedupe_key=f"replication:{name}",
        summary=f"volume {first.volume_id} {fault.why}{where}",
        detail=f"collection {first.collection!r}, placement {placement}, on "
        + ", ".join(str(replica.server) for replica in replicas),
        params=params,
        priority=HIGH if fault.kind == UNDER else NORMAL,
        parameters={
            "volume_id": first.volume_id,
            "collection": first.collection,
            "fault": fault.kind,
            "seen_for_seconds": int(age),
            "estimated_runtime_seconds": seconds,
        },
        labels={
            "task_type": DESCRIPTOR.name,
            "volume_id": str(first.volume_id),
            "collection": first.collection,
            "fault": fault.kind,
        },
        estimated_seconds=seconds,
        bytes_to_move=size * len(targets),
    )


def _skip(replicas: Sequence[Replica], reason: str, key: str) -> Skipped:
    first = replicas[0]
    return Skipped(
        first.volume_id, f"volume {first.volume_id} {reason}", key, first.collection, str(first.server), first.size
    )


def _share_objects(ctx: Context, replicas: Sequence[Replica]) -> bool:
    """Whether all servers keep a remote object when one of its references is deleted; False where one cannot tell."""
    try:
        return min(generation_of(ctx, replica.server) for replica in replicas) >= Generation.V4_44
    except TaskError:
        return False


def _looks_different(replicas: Sequence[Replica]) -> bool:
    """Whether the master's figures give cause to compare the replicas themselves."""
    return len({replica.file_count - replica.delete_count for replica in replicas}) > 1 and not any(
        replica.remote_name for replica in replicas
    )


def _compare_live(ctx: Context, suspects: Sequence[list[Replica]]) -> list[tuple[list[Replica], Fault | TaskError]]:
    """Compare the indexes of volumes that may be written to: only what still differs a moment later does differ.

    Returns those that differ, and those that could not be compared, with the reason.
    """

    def compare(replicas: Sequence[Replica]) -> frozenset[int] | TaskError:
        try:
            servers = [replica.server for replica in replicas]
            return compare_all(ctx, replicas[0].volume_id, servers, INDEX).ids
        except TaskError as error:
            return error

    first = ctx.each(compare, suspects, most=4)
    doubtful = [(replicas, seen) for replicas, seen in zip(suspects, first) if isinstance(seen, TaskError) or seen]
    if doubtful:
        ctx.wait(LOOK_AGAIN)
    result: list[tuple[list[Replica], Fault | TaskError]] = []
    second = ctx.each(compare, [replicas for replicas, _seen in doubtful], most=4)
    for (replicas, before), now in zip(doubtful, second):
        if isinstance(now, TaskError):
            result.append((replicas, now))
            continue
        ids = now if isinstance(before, TaskError) else before & now
        if ids:
            words = f"has {_differ((replica.server for replica in replicas), len(ids))}"
            result.append((replicas, Fault(DIVERGED, words, tuple(replicas))))
    return result


def _differ(servers: Iterable[Address], count: int) -> str:
    return f"replicas on {names(servers)} that differ in {count} needle{'s' if count != 1 else ''}"


# ---- execution


def _order(job: Job) -> Order:
    """Read what a job asks for, whichever dialect it came in."""
    params = job.params
    shown = {name: value for name, value in job.parameters.items() if name in DESCRIPTOR.defaults}
    wishes, _warnings = settings(DESCRIPTOR, job.config, shown)
    level = LEVELS[as_str(wishes["verify"], "checksums")]
    if params.replication_params.verify_consistency and level == INDEX:
        level = CHECKSUMS
    return Order(
        volume_id=volume_id_of(job),
        collection=collection_of(job),
        replica_count=params.replication_params.replica_count,
        sources=tuple(source_names(params)),
        targets=tuple(target.node for target in params.targets if target.node),
        level=level,
        delete_surplus=as_bool(wishes["delete_surplus"], False),
        reconcile=as_bool(wishes["reconcile"], False),
        io_bytes_per_second=as_int(wishes["io_byte_per_second"], 0, 0),
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


def _run(order: Order, ctx: Context, lease: Lease | None) -> Result:
    ctx.progress(0.02, "looking at the cluster")
    topology = snapshot(ctx.master(), order.volume_id)
    replicas = _replicas(ctx, order, topology)
    placement = wanted_placement(replicas[0].placement, order.replica_count)
    fault = examine(replicas, placement)
    healthy = _healthy(ctx, order.volume_id, replicas)
    targets = _targets(ctx, order, topology, replicas, placement, fault) if fault else []
    may_trim = bool(fault and fault.surplus and order.delete_surplus)
    if not targets and not may_trim:
        agreement = compare_all(ctx, order.volume_id, healthy, order.level)
        if not agreement.ids:
            return _nothing_to_do(order, replicas, healthy, fault)
    if ctx.options.dry_run:
        return Result(
            f"volume {order.volume_id} {fault.why if fault else 'has replicas that differ'}; nothing was changed"
            + (f", a copy would be made on {', '.join(map(str, targets))}" if targets else ""),
            {"volume_id": order.volume_id},
        )
    preferred = [server_named(name, topology) for name in order.sources]
    # Servers remember a complete set of replicas; of one that lacks a copy for long they do not.
    known = order.seen_for if fault and fault.kind == UNDER else 0.0
    remembered = max(0.0, shut.CACHED_FOR - known)
    if placement.copies == 1 or replicas[0].remote_name:
        remembered = 0.0  # no write is sent on
    repair = Repair(ctx, order, replicas, healthy, preferred, lease, remembered)
    try:
        repair.hold()
        repair.agree(can_add=bool(targets))
        try:
            for number, target in enumerate(targets):
                repair.add(target, number, len(targets))
            if fault and may_trim:
                repair.trim(fault, placement)
        finally:
            repair.outlast_memories()
    finally:
        repair.release()
    return repair.result(fault)


def recover(entry: Entry, ctx: Context) -> None:
    """Undo what a killed run left: half-proved copies go, as long as their source is sound; what it froze is thawed.

    A deletion that was begun needs nothing: whatever was deleted had been proved redundant. TaskError as long as the
    volume must stay frozen because servers may write past a new copy.
    """
    for step in entry.open:
        if step.what == TRIM:
            entry.settle(step)
    recover_moves(entry, ctx)


def _replicas(ctx: Context, order: Order, topology: Topology) -> list[Replica]:
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
    reason = unfit(replicas, topology)
    if reason:
        raise StaleTask(f"{name} {reason}; nothing was changed")
    sources = {server_named(name, topology) for name in order.sources}
    if sources and not {replica.server for replica in replicas} & sources:
        raise StaleTask(f"{name} is on none of the servers named as its sources any more; nothing was changed")
    return replicas


def _healthy(ctx: Context, volume_id: int, replicas: Sequence[Replica]) -> list[Address]:
    """The servers whose replica can be read; Mismatch, naming each one's reason, where there is none."""

    def reason(replica: Replica) -> str:
        try:
            file_status(ctx, replica.server, volume_id)
        except (ServerFailed, Mismatch) as error:
            return str(error)
        return ""

    reasons = dict(zip((replica.server for replica in replicas), ctx.each(reason, replicas)))
    for server, words in reasons.items():
        if words:
            ctx.log(f"the replica of volume {volume_id} on {server} cannot be used: {words}")
    healthy = [server for server, words in reasons.items() if not words]
    if not healthy:
        raise Mismatch(
            f"no replica of volume {volume_id} can be read; nothing was changed: {'; '.join(reasons.values())}"
        )
    return healthy


def _targets(
    ctx: Context,
    order: Order,
    topology: Topology,
    replicas: Sequence[Replica],
    placement: ReplicaPlacement,
    fault: Fault,
) -> list[Address]:
    """Where copies are to be added: where the job says, or else wherever is best; StaleTask where nothing will do."""
    count = additions(fault, replicas, placement, order.delete_surplus)
    if not count or (fault.kind == MISPLACED and not order.delete_surplus):
        return []
    first = replicas[0]
    if first.remote_name and not _share_objects(ctx, replicas):
        raise StaleTask(
            f"volume {order.volume_id} has its data in {first.remote_name}, and its servers are of a release that "
            "deletes the remote data with any of its copies; no further one is made"
        )
    holders = [replica.node for replica in fault.keep]
    chosen: list[Node] = []
    held = {replica.server for replica in replicas}
    named = [server_named(name, topology) for name in order.targets]
    for address in [target for target in named if target not in held][:count]:
        node = topology.node_at(address)
        if node is None:
            raise StaleTask(f"the master does not know {address}; volume {order.volume_id} was not copied there")
        if any(replica.node.host == node.host for replica in replicas):
            reason = f"{node.host} already holds a copy"
        else:
            reason = why_not(placement, [*holders, *chosen], node) or no_room(node, first.disk_type, first.size)
        if reason:
            raise StaleTask(f"volume {order.volume_id} cannot get a copy on {address}: {reason}; nothing was changed")
        chosen.append(node)
    if not chosen:
        chosen = choose_targets(topology, fault, placement, count, replicas, Reserved())
    if not chosen:
        reason = why_no_target(topology, first)
        raise StaleTask(f"volume {order.volume_id} {fault.why}, and no server may take another one: {reason}")
    return [node.address for node in chosen]


def _nothing_to_do(
    order: Order, replicas: Sequence[Replica], healthy: Sequence[Address], fault: Fault | None
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
