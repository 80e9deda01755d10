"""Finding volumes with enough garbage to be worth a vacuum. Looks only; knows nothing of how one is made."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from proto_gen import worker_pb2
from weed_cluster.topology import Replica, Topology
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
from weed_core.text import size_text
from weed_core.values import as_int
from weed_safety.context import Context
from weed_safety.readiness import SETBACK, settle
from weed_safety.untold import KEY, closed_disks, why_untold
from weed_tasks import forms, proposal
from weed_tasks.scope import scope_of

DESCRIPTOR = Descriptor(
    name="vacuum",
    job_type="vacuum",
    display_name="Volume Vacuum",
    description="Reclaims disk space of deleted files",
    icon="fas fa-broom",
    fields=(
        *forms.WHICH,
        Field(
            "garbage_threshold",
            "Garbage threshold",
            "double",
            0.3,
            "Share of deleted bytes from which on a volume is vacuumed.",
            minimum=0.0,
            maximum=1.0,
            required=True,
            section=forms.THRESHOLDS,
        ),
    ),
    runtime=Runtime(
        detection_interval_minutes=17,
        detection_timeout_seconds=120,
        max_jobs_per_detection=200,
        global_execution_concurrency=16,
        per_worker_execution_concurrency=4,
        retry_limit=1,
        retry_backoff_seconds=10,
        job_type_max_runtime_seconds=1800,
        execution_timeout_seconds=1800,
    ),
    weight=60,
)

URGENT = 0.6
"""Garbage ratio above which a proposal has high priority."""


def detect(request: DetectionRequest, ctx: Context) -> Detection:
    """Find volumes of which a replica in scope has enough garbage; propose each with all its replicas."""
    topology = ctx.topology(request.volume_id)
    return settle(ctx, request, topology, DESCRIPTOR.name, lambda: plan(request, topology))


def plan(request: DetectionRequest, topology: Topology, now: float | None = None) -> Detection:
    """Choose from a topology what to vacuum, and say of each other volume why not; ConfigError for a bad filter."""
    values = Values(DESCRIPTOR, request.config)
    threshold = values.number("garbage_threshold")
    min_age = as_int(request.config.get("min_volume_age_seconds"), 0, 0)  # no form shows it
    in_scope = scope_of(values, topology)
    closed = closed_disks(topology)
    now = time.time() if now is None else now
    proposals: list[Proposal] = []
    skipped: list[Skipped] = []
    has_more = False
    for volume_id, replicas in sorted(topology.volumes.items(), key=lambda pair: topology.turn(pair[0])):
        if request.volume_id not in (0, volume_id):
            continue
        scoped = [replica for replica in replicas if in_scope(replica)]
        if not scoped:
            continue
        worst = max(scoped, key=lambda replica: replica.garbage_ratio)
        reason, key = _why_not(worst, replicas, topology, threshold, min_age, now)
        if not reason and (untold := why_untold(replicas, closed)):
            reason, key = f"volume {volume_id} {untold}", KEY
        if reason:
            skipped.append(
                Skipped(
                    volume_id,
                    reason,
                    key,
                    worst.collection,
                    str(worst.server),
                    worst.size,
                )
            )
        elif request.max_results and len(proposals) >= request.max_results:
            has_more = True
            break
        else:
            proposals.append(_proposal(worst, replicas, threshold, now))
    reasons = Counter(skip.key for skip in skipped)
    summary = f"{len(proposals)} of {len(topology.volumes)} volumes have at least {threshold:.0%} garbage" + "".join(
        f", {count} {key}" for key, count in reasons.most_common()
    )
    return Detection(proposals, skipped, has_more, len(topology.volumes), summary)


def _why_not(
    worst: Replica, replicas: Sequence[Replica], topology: Topology, threshold: float, min_age: int, now: float
) -> tuple[str, str]:
    """Say in a sentence and in a key why a volume is passed over; empty where it is not."""
    name = f"volume {worst.volume_id}"
    if worst.garbage_ratio < threshold or not worst.deleted_bytes:
        return f"{name}: {worst.garbage_ratio:.0%} garbage, threshold {threshold:.0%}", "below the threshold"
    if now - worst.modified_at < min_age:
        return f"{name}: written {now - worst.modified_at:.0f} s ago, minimum age {min_age} s", "too young"
    return why_refused(replicas, topology)


def why_refused(replicas: Sequence[Replica], topology: Topology) -> tuple[str, str]:
    """Say why a job to vacuum a volume is refused, in a sentence and in a key; both empty where it is not."""
    volume_id, servers = replicas[0].volume_id, [replica.server for replica in replicas]
    wanted, reason, key = replicas[0].placement.copies, "", ""
    if ambiguity := topology.ambiguity(volume_id):
        reason, key = f"it {ambiguity}", "two collections"
    elif any(replica.remote_name for replica in replicas):
        reason, key = "its data is in remote storage", "remote"
    elif topology.has_shards(volume_id):
        reason, key = "it is erasure-coded or just becoming so", "erasure-coded"
    elif len(servers) < wanted:
        reason, key = f"it should have {wanted} copies, but is on {', '.join(map(str, servers))} only", "incomplete"
    elif closed := next((replica.node.closed for replica in replicas if replica.node.closed), ""):
        reason, key = closed, "not ready"
    elif words := topology.barred.get(volume_id, ""):
        reason, key = f"it {words}", SETBACK
    return (f"volume {volume_id} cannot be vacuumed: {reason}", key) if key else ("", "")


def _proposal(worst: Replica, replicas: Sequence[Replica], threshold: float, now: float) -> Proposal:
    volume_id, collection = worst.volume_id, worst.collection
    # All replicas, also those outside the scope: what is compacted on some servers only would differ.
    ordered = [worst, *(replica for replica in replicas if replica is not worst)]
    params = worker_pb2.TaskParams(
        task_id=f"vacuum_vol_{volume_id}_{now:.0f}",
        volume_id=volume_id,
        collection=collection,
        volume_size=worst.size,
        sources=map(proposal.source, ordered),
        vacuum_params=worker_pb2.VacuumTaskParams(garbage_threshold=threshold, batch_size=1000, verify_checksum=True),
    )
    return proposal.of_volume(
        DESCRIPTOR.name,
        params,
        f"Vacuum volume {volume_id}: {worst.garbage_ratio:.0%} of {size_text(worst.size)} are garbage",
        proposal.seconds_for(DESCRIPTOR.name, worst.size),
        worst.size,
        detail=f"replicas on {', '.join(str(replica.server) for replica in ordered)}; threshold {threshold:.0%}",
        priority=HIGH if worst.garbage_ratio > URGENT else NORMAL,
        parameters={"server": str(worst.server)},
        labels={"source_node": worst.node.id},
        frees=sum(replica.deleted_bytes for replica in replicas),
    )
