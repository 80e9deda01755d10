"""Finding volumes that hold no file and have been quiet. Looks only; knows nothing of how one is deleted.

A layout (collection, placement, time to live, disk type) in use keeps a writable volume, else the master would grow new
ones at the next write; of a layout that nobody uses all volumes may go, and stay away.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from proto_gen import worker_pb2
from weed_cluster.replica_placement import plain_type
from weed_cluster.topology import Replica, Topology
from weed_core.model import LOW, Descriptor, Detection, DetectionRequest, Proposal, Runtime, Skipped, Values
from weed_core.text import size_text
from weed_safety import late_writes
from weed_safety.context import Context
from weed_safety.readiness import settle
from weed_safety.untold import KEY, closed_disks, why_untold
from weed_storage.needle import SUPER_BLOCK_SIZE
from weed_tasks import forms, proposal
from weed_tasks.scope import scope_of, unfit

QUIET = forms.QUIET.name

DESCRIPTOR = Descriptor(
    name="delete_empty",
    job_type="delete_empty",
    display_name="Delete Empty Volumes",
    description="Deletes volumes that hold no file, all replicas or none",
    icon="fas fa-trash-alt",
    fields=(
        *forms.WHICH,
        replace(
            forms.QUIET,
            default=86400,
            help="How long a volume must not have been written to. Files that were deleted since count as writes.",
        ),
        late_writes.FIELD,
    ),
    runtime=Runtime(
        detection_interval_minutes=60,
        detection_timeout_seconds=120,
        max_jobs_per_detection=100,
        global_execution_concurrency=8,
        per_worker_execution_concurrency=4,
        retry_limit=0,
        job_type_max_runtime_seconds=1800,
        execution_timeout_seconds=1800,
    ),
    weight=30,
)

Layout = tuple[str, str, str, str]
"""Collection, placement, time to live and disk type: what the master takes one volume for as well as another."""

WAIT = 60
"""Seconds that a job needs beside those for which the volume refuses writes."""


def detect(request: DetectionRequest, ctx: Context) -> Detection:
    """Find volumes of which no replica holds a file; propose each with all its replicas."""
    # The whole cluster, also where one volume is asked for: whether it may go depends on the others of its layout.
    topology = ctx.topology()
    return settle(ctx, request, topology, DESCRIPTOR.name, lambda: plan(request, topology))


def plan(request: DetectionRequest, topology: Topology, now: float | None = None) -> Detection:
    """Choose from a topology what to delete, and say of each other volume why not; ConfigError for a bad filter."""
    now = time.time() if now is None else now
    values = Values(DESCRIPTOR, request.config)
    in_scope, quiet = scope_of(values, topology), values.whole(QUIET)
    closed = closed_disks(topology)
    chosen: list[int] = []
    skipped: list[Skipped] = []
    layouts: dict[Layout, list[int]] = defaultdict(list)
    for volume_id, replicas in sorted(topology.volumes.items(), key=lambda pair: topology.turn(pair[0])):
        layouts[_layout(replicas[0])].append(volume_id)
        if request.volume_id not in (0, volume_id) or not all(map(in_scope, replicas)):
            continue
        reason, key = why_stays(replicas, topology, quiet, now)
        if not reason and (untold := why_untold(replicas, closed)):
            reason, key = f"it {untold}", KEY
        if reason:
            skipped.append(_skip(replicas, reason, key))
        else:
            chosen.append(volume_id)
    for volume_id in _kept(layouts.values(), set(chosen), topology):
        chosen.remove(volume_id)
        reason = "it is the only writable volume of its collection and layout, which is in use"
        skipped.append(_skip(topology.replicas(volume_id), reason, "kept for writes"))
    most = request.max_results or len(chosen)
    refuse = values.whole(late_writes.NAME)
    proposals = [_proposal(topology.replicas(volume_id), quiet, refuse, now) for volume_id in chosen[:most]]
    reasons = Counter(skip.key for skip in skipped)
    summary = f"{len(chosen)} of {len(topology.volumes)} volumes are empty and may go" + "".join(
        f", {count} {key}" for key, count in reasons.most_common()
    )
    return Detection(proposals, skipped, len(chosen) > most, len(topology.volumes), summary)


def why_stays(replicas: Sequence[Replica], topology: Topology, quiet: int, now: float) -> tuple[str, str]:
    """Say why a volume is not to be deleted, in words that follow its name and in a key; both empty where it is."""
    files = max(replica.file_count - replica.delete_count for replica in replicas)
    if files > 0:
        return f"it holds {files} files", "with files"
    # The bytes and the counts are told one by one; a volume with data and without any count is not to be believed.
    if any(replica.size > SUPER_BLOCK_SIZE and not replica.file_count for replica in replicas):
        return "its server counts no file in it, and yet it has data", "in doubt"
    written = [replica.modified_at for replica in replicas]
    if not all(written):
        return "its server does not tell when it was last written to", "in doubt"
    if (age := now - max(written)) < quiet:
        return f"it was written to {age:.0f} s ago, less than {quiet} s", "written to lately"
    wanted = replicas[0].placement.copies
    if len(replicas) < wanted:
        names = ", ".join(str(replica.server) for replica in replicas)
        return f"it should have {wanted} copies, but is on {names} only", "incomplete"
    if any(replica.remote_name for replica in replicas):
        return "its data is in remote storage", "remote"
    if reason := unfit(replicas, topology):
        return f"it {reason}", "unfit"
    if closed := next((replica.node.closed for replica in replicas if replica.node.closed), ""):
        return closed, "not ready"
    return "", ""


def _layout(replica: Replica) -> Layout:
    return replica.collection, str(replica.placement), replica.ttl, plain_type(replica.disk_type)


def _kept(layouts: Iterable[Sequence[int]], chosen: set[int], topology: Topology) -> list[int]:
    """Of each layout in use that would be left without a writable volume: one that is to stay."""
    kept = []
    for volume_ids in layouts:
        others = [volume_id for volume_id in volume_ids if volume_id not in chosen]
        if not others or any(_is_writable(topology.replicas(volume_id), topology) for volume_id in others):
            continue
        empty = [volume_id for volume_id in volume_ids if volume_id in chosen]
        kept += [volume_id for volume_id in empty if _is_writable(topology.replicas(volume_id), topology)][:1]
    return kept


def _is_writable(replicas: Sequence[Replica], topology: Topology) -> bool:
    limit = topology.volume_size_limit
    return len(replicas) >= replicas[0].placement.copies and not any(
        replica.read_only or (limit and replica.size >= limit) for replica in replicas
    )


def _skip(replicas: Sequence[Replica], reason: str, key: str) -> Skipped:
    first = replicas[0]
    return Skipped(
        first.volume_id,
        f"volume {first.volume_id} stays: {reason}",
        key,
        first.collection,
        str(first.server),
        first.size,
    )


def _proposal(replicas: Sequence[Replica], quiet: int, refuse: int, now: float) -> Proposal:
    first = max(replicas, key=lambda replica: replica.size)
    volume_id = first.volume_id
    days = (now - max(replica.modified_at for replica in replicas)) / 86400
    params = worker_pb2.TaskParams(
        task_id=f"delete_empty_vol_{volume_id}_{now:.0f}",
        volume_id=volume_id,
        collection=first.collection,
        volume_size=first.size,
        sources=map(proposal.source, replicas),
    )
    garbage = f" ({size_text(first.size)} of deleted files)" if first.size > SUPER_BLOCK_SIZE else ""
    return proposal.of_volume(
        DESCRIPTOR.name,
        params,
        f"Delete volume {volume_id}, which holds no file{garbage} and was quiet for {days:.1f} days",
        proposal.seconds_for(DESCRIPTOR.name, first.size) + refuse + WAIT,
        0,
        detail=f"replicas on {', '.join(str(replica.server) for replica in replicas)}",
        priority=LOW,
        parameters={QUIET: quiet, late_writes.NAME: refuse},
        labels={"source_node": first.node.id},
        frees=sum(replica.size for replica in replicas),
    )
