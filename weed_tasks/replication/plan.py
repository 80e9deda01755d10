"""Finding volumes whose replicas are missing, surplus, misplaced or different. Changes nothing.

Tells what is wrong and what a job should do about it; how that is done without loss is weed_tasks.replication.task's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from proto_gen import worker_pb2
from weed_cluster.address import Address
from weed_cluster.placement import Reserved
from weed_cluster.replica_placement import ReplicaPlacement
from weed_cluster.topology import Node, Replica, Topology, collection_filter
from weed_core.errors import Mismatch, ServerFailed, TaskError
from weed_core.findings import REPLICA
from weed_core.model import (
    HIGH,
    NORMAL,
    Descriptor,
    Detection,
    DetectionRequest,
    Field,
    Proposal,
    Runtime,
    Skipped,
    Values,
)
from weed_core.release import Generation
from weed_safety import findings, forget, location_cache
from weed_safety.alike import know_builds
from weed_safety.context import Context
from weed_safety.look import file_status, generation_of
from weed_safety.proof import BYTES, CHECKSUMS, INDEX, compare_all, names
from weed_safety.readiness import settle
from weed_tasks import forms, proposal
from weed_tasks.replication.faults import (
    BAD,
    DIVERGED,
    MISPLACED,
    OVER,
    UNDER,
    Fault,
    FirstSeen,
    additions,
    choose_targets,
    examine,
    nowhere,
    same_host,
    spoiled,
    why_shared,
)
from weed_tasks.scope import unfit

DESCRIPTOR = Descriptor(
    name="replication",
    job_type="replication",
    display_name="Replication Repair",
    description="Adds missing copies of volumes, moves misplaced ones and finds copies that differ",
    icon="fas fa-clone",
    fields=(
        forms.COLLECTIONS,
        replace(
            forms.PATIENCE,
            help=f"{forms.PATIENCE.help} Volume servers remember for ten minutes where copies were; a volume repaired "
            "sooner stays read-only for the rest of that time.",
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
            section=forms.SAFETY,
        ),
        Field(
            "delete_surplus",
            "Delete surplus copies",
            "bool",
            False,
            "Delete copies beyond what the placement asks for, and misplaced ones once a better placed copy is "
            "proved equal. Off: such volumes are only reported.",
            section=forms.SAFETY,
        ),
        Field(
            "reconcile",
            "Reconcile copies that differ",
            "bool",
            False,
            "Give each copy the writes and deletions that another copy proves it has missed. Nothing is guessed and "
            "no deleted file comes back. Off: differences are only reported.",
            section=forms.SAFETY,
        ),
        forms.RATE,
    ),
    runtime=Runtime(
        detection_interval_minutes=10, max_jobs_per_detection=200, per_worker_execution_concurrency=16, retry_limit=2
    ),
    weight=70,
)

LEVELS = {"index": INDEX, "checksums": CHECKSUMS, "full": BYTES}

MOST_COMPARED = 100
"""Volumes whose replicas one detection compares, because the master's figures for them differ."""

BEGINNING = 120
"""Seconds that a job may take beside what the size asks for."""

NOTHING_SOUND = "no other replica is there that could make it good; nothing was changed"

FRESH = "too fresh"
"""The key of volumes passed over because their fault has not been seen for long enough."""

SEEN = FirstSeen()
"""What detection remembers. One worker has one, whatever number of detections it runs."""


def detect(request: DetectionRequest, ctx: Context) -> Detection:
    """Find volumes whose replicas are too few, too many, misplaced or different; changes nothing."""
    values = Values(DESCRIPTOR, request.config)
    matches = collection_filter(values.text("collection_filter"))
    topology = know_builds(ctx, ctx.topology(request.volume_id))
    volumes = {
        volume_id: replicas
        for volume_id, replicas in sorted(topology.volumes.items())
        if matches(replicas[0].collection)
    }
    found: list[tuple[Fault, list[Replica]]] = []
    skipped: list[Skipped] = []
    suspects: list[list[Replica]] = []
    told = found_bad(ctx)
    for replicas in volumes.values():
        reason = unfit(replicas, topology)
        if reason:
            skipped.append(_skip(replicas, reason, "unfit"))
            continue
        fault = spoiled(replicas, replicas[0].placement, told.get(replicas[0].volume_id, {}))
        if fault is not None and not fault.keep:
            skipped.append(_skip(replicas, f"{fault.why}; {NOTHING_SOUND}", "nothing sound"))
            continue
        fault = fault or examine(replicas, replicas[0].placement)
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
    found.sort(key=lambda pair: (pair[0].kind not in (UNDER, BAD), len(pair[1]), pair[1][0].volume_id))
    seen = _Seen(topology, len(volumes), found, skipped)
    chosen = settle(
        ctx, request, topology, DESCRIPTOR.name, lambda: _choose(request, values, ctx, seen), spares_silent=True
    )
    return _readable(ctx, topology, chosen)


def found_bad(ctx: Context) -> dict[int, dict[Address, str]]:
    """What was found wrong with replicas and is not settled, by volume and server."""
    told: dict[int, dict[Address, str]] = {}
    for one in findings.read_all(ctx):
        if one.kind == REPLICA and one.server:
            told.setdefault(one.volume_id, {})[Address.parse(one.server)] = one.words
    return told


def unreadable(ctx: Context, volume_id: int, servers: Iterable[Address]) -> dict[Address, str]:
    """Why the replica on each server cannot be read; "" where it can."""

    def reason(server: Address) -> str:
        try:
            file_status(ctx, server, volume_id)
        except (ServerFailed, Mismatch) as error:
            return str(error)
        return ""

    todo = list(servers)
    return dict(zip(todo, ctx.each(reason, todo)))


def nowhere_readable(reasons: Mapping[Address, str]) -> str:
    """Say, in words that follow its name, that no replica of a volume can be read, and why not; "" where one can."""
    if not all(reasons.values()):
        return ""
    return f"has no replica that can be read: {'; '.join(reasons.values())}"


def _readable(ctx: Context, topology: Topology, found: Detection) -> Detection:
    """Pass over the proposals of volumes of which no replica can be read."""

    def words(one: Proposal) -> str:
        volume_id = one.params.volume_id
        servers = [replica.server for replica in topology.replicas(volume_id)]
        return nowhere_readable(unreadable(ctx, volume_id, servers))

    words_of = dict(zip((one.id for one in found.proposals), ctx.each(words, found.proposals, most=4)))
    skipped = [
        _skip(topology.replicas(one.params.volume_id), words_of[one.id], "not readable")
        for one in found.proposals
        if words_of[one.id]
    ]
    kept = [one for one in found.proposals if not words_of[one.id]]
    return replace(found, proposals=kept, skipped=[*found.skipped, *skipped])


@dataclass(frozen=True)
class _Seen:
    """What one look at the cluster found: volumes with a fault, the most pressing first, and others passed over."""

    topology: Topology
    volumes: int
    found: list[tuple[Fault, list[Replica]]]
    skipped: list[Skipped]


def _choose(request: DetectionRequest, values: Values, ctx: Context, seen: _Seen) -> Detection:
    """Propose what may be repaired now."""
    patience = values.whole("min_fault_age_seconds")
    why_shut = forget.asker(ctx)
    proposals: list[Proposal] = []
    skipped = list(seen.skipped)
    reserved = Reserved()
    has_more = False
    # Nothing is late before settle() has looked at what failed; the sort is stable.
    for fault, replicas in sorted(seen.found, key=lambda pair: pair[1][0].volume_id in seen.topology.late):
        age = SEEN.age(replicas[0].volume_id, fault.kind)
        if wait := _too_fresh(ctx, request, fault, replicas, age, patience):
            skipped.append(_skip(replicas, wait, FRESH))
            continue
        if reason := unfit(replicas, seen.topology):
            skipped.append(_skip(replicas, reason, "unfit"))
            continue
        if fault.kind == UNDER and replicas[0].remote_name and not share_objects(ctx, replicas):
            skipped.append(_skip(replicas, why_shared(replicas[0], fault), "remote"))
            continue
        found = _propose(seen.topology, fault, replicas, values, reserved, age, why_shut)
        if isinstance(found, Skipped):
            skipped.append(found)
        elif request.max_results and len(proposals) >= request.max_results:
            has_more = True
        else:
            proposals.append(found)
    summary = f"{seen.volumes} volumes: {len(seen.found)} with a fault, {len(proposals)} to repair now"
    return Detection(proposals, skipped, has_more, seen.volumes, summary)


def _too_fresh(
    ctx: Context, request: DetectionRequest, fault: Fault, replicas: Sequence[Replica], age: float, patience: float
) -> str:
    """Say that a fault may yet mend itself, and since when it is known; "" where it has been there long enough."""
    if fault.kind == BAD or (request.is_single and fault.kind != UNDER):
        return ""  # nobody restarts a server to get rid of a copy, and there is no later look
    volume_id, now = replicas[0].volume_id, time.time()
    lacking = ctx.past.lacking_for(volume_id, now) if fault.kind == UNDER else 0.0
    if max(age, lacking) >= patience:
        return ""
    short = ctx.past.short.get(volume_id)
    complete = f", complete {now - short.complete:.0f} s ago" if short and short.complete else ""
    return f"{fault.why}; seen for {max(age, lacking):.0f} s{complete}, repaired after {patience:.0f} s"


def _propose(
    topology: Topology,
    fault: Fault,
    replicas: Sequence[Replica],
    values: Values,
    reserved: Reserved,
    age: float,
    why_shut: Callable[[int, list[Address]], str],
) -> Proposal | Skipped:
    first = replicas[0]
    placement = first.placement
    delete_surplus = values.flag("delete_surplus")
    targets: list[Node] = []
    if fault.kind == DIVERGED:
        if not values.flag("reconcile"):
            return _skip(replicas, f"{fault.why}; nothing is changed unless reconcile is on", DIVERGED)
    elif fault.kind in (OVER, MISPLACED) and not delete_surplus:
        return _skip(replicas, f"{fault.why}; nothing is changed unless delete_surplus is on", fault.kind)
    else:
        count = additions(fault, replicas, placement, delete_surplus)
        targets = choose_targets(topology, fault, placement, count, replicas, reserved)
        if count and not targets:
            return _skip(replicas, nowhere(topology, replicas, fault), "no target")
    why = ""
    if targets and remembered_for(fault, placement, age, first.remote_name, location_cache.CACHED_FOR) > 0:
        holders = [*(replica.server for replica in replicas), *(node.address for node in targets)]
        why = why_shut(first.volume_id, holders)
    return _proposal(fault, replicas, targets, values, age, why)


def _proposal(
    fault: Fault,
    replicas: Sequence[Replica],
    targets: Sequence[Node],
    values: Values,
    age: float,
    why_shut: str,
) -> Proposal:
    first, placement = replicas[0], replicas[0].placement
    size = max(replica.size for replica in replicas)
    rate = values.whole("io_byte_per_second")
    each = max(proposal.seconds_for(DESCRIPTOR.name, size), size // rate if rate else 0)
    seconds = BEGINNING + each * max(1, len(targets)) + (int(location_cache.CACHED_FOR) if why_shut else 0)
    where = f", copy to {', '.join(map(str, targets))}" if targets else ""
    if shared := same_host((replica.node for replica in replicas), targets):
        where += f" ({shared}; no other host may take one)"
    params = worker_pb2.TaskParams(
        task_id=f"replication_vol_{first.volume_id}_{int(time.time())}",
        volume_id=first.volume_id,
        collection=first.collection,
        volume_size=size,
        sources=map(proposal.source, replicas),
        targets=[proposal.target(node, first.volume_id, size) for node in targets],
        replication_params=worker_pb2.ReplicationTaskParams(
            replica_count=placement.copies, verify_consistency=values.text("verify") != "index"
        ),
    )
    servers = ", ".join(str(replica.server) for replica in replicas)
    return proposal.of_volume(
        DESCRIPTOR.name,
        params,
        f"volume {first.volume_id} {fault.why}{where}",
        seconds,
        size * len(targets),
        detail=f"collection {first.collection!r}, placement {placement}, on {servers}",
        priority=HIGH if fault.kind in (UNDER, BAD) else NORMAL,
        parameters={"fault": fault.kind, "seen_for_seconds": int(age)},
        labels={"fault": fault.kind},
        why_shut=why_shut,
    )


def remembered_for(
    fault: Fault | None, placement: ReplicaPlacement, seen_for: float, remote_name: str, remembered: float
) -> float:
    """Seconds for which servers may write past a copy that is added now; `remembered`: as of others."""
    if placement.copies == 1 or remote_name:
        return 0.0  # no write is sent on
    # Servers remember a complete set of replicas; of one that lacks a copy for long they do not.
    known = seen_for if fault and fault.kind == UNDER else 0.0
    return max(0.0, remembered - known)


def _skip(replicas: Sequence[Replica], reason: str, key: str) -> Skipped:
    first = replicas[0]
    return Skipped(
        first.volume_id, f"volume {first.volume_id} {reason}", key, first.collection, str(first.server), first.size
    )


def share_objects(ctx: Context, replicas: Sequence[Replica]) -> bool:
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
        ctx.wait(ctx.options.reread_seconds)
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
