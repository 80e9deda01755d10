"""Which erasure-coded volumes lack something: what the master's list and earlier findings tell, as proposals."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from proto_gen.worker_pb2 import TaskParams
from weed_cluster.ec_sets import EcFaults, faults_of
from weed_cluster.topology import Topology, collection_filter
from weed_core.findings import EC_DELETIONS, EC_INDEX, EC_SHARD, Finding
from weed_core.model import (
    HIGH,
    NORMAL,
    Descriptor,
    Detection,
    DetectionRequest,
    Proposal,
    Runtime,
    Skipped,
    Values,
)
from weed_safety import findings
from weed_safety.context import Context
from weed_storage.ec_layout import DATA_SHARDS, TOTAL_SHARDS
from weed_tasks import forms, proposal

DESCRIPTOR = Descriptor(
    name="ec_repair",
    job_type="ec_repair",
    display_name="EC Shard Repair",
    description="Restores lost and damaged shards of erasure-coded volumes and tells every holder what was deleted",
    icon="fas fa-first-aid",
    fields=(
        forms.COLLECTIONS,
        replace(forms.PATIENCE, help=f"{forms.PATIENCE.help} What is on record as found bad waits for nothing."),
        forms.RATE,
    ),
    runtime=Runtime(
        detection_interval_minutes=10,
        max_jobs_per_detection=200,
        global_execution_concurrency=8,
        per_worker_execution_concurrency=1,
        retry_limit=2,
        execution_timeout_seconds=3600,
    ),
    weight=75,
)

KINDS = (EC_SHARD, EC_INDEX, EC_DELETIONS)
"""What is mended here of what others find."""

FRESH = "too fresh"
"""The key of volumes passed over because their fault has not been seen for long enough."""

BEGINNING = 300
"""Seconds that a job may take beside what the size asks for."""

Key = tuple[int, str]
"""A volume id and its collection."""


def detect(request: DetectionRequest, ctx: Context) -> Detection:
    """Find volumes whose shards are missing, short, twice there or unreadable, or found bad; changes nothing."""
    values = Values(DESCRIPTOR, request.config)
    accepts = collection_filter(values.text("collection_filter"))
    topology = ctx.topology(request.volume_id)
    wanted = {key for key in topology.ec if accepts(key[1])}
    faults = {key: found for key, found in ctx.compute(faults_of, topology).items() if key in wanted}
    told: dict[Key, list[Finding]] = defaultdict(list)
    for finding in findings.read_all(ctx):
        key = finding.volume_id, finding.collection
        if finding.kind in KINDS and key in wanted:
            told[key].append(finding)
    skipped: list[Skipped] = []
    ready: list[tuple[Key, EcFaults | None, tuple[int, ...]]] = []
    for key in {**faults, **told}:
        found = faults.get(key)
        shards, reason, why = _ready(ctx, request, key, found, told[key], values, topology)
        if reason:
            skipped.append(Skipped(key[0], f"volume {key[0]} {reason}", why, key[1]))
        else:
            ready.append((key, found, shards))
        if not reason and found is not None and (beside := _beside(found)):
            skipped.append(Skipped(key[0], f"volume {key[0]} {beside}", "another run", key[1]))
    ready.sort(key=lambda one: (one[0][0] in topology.late, one[1].best.sound if one[1] else TOTAL_SHARDS, one[0]))
    proposals = [_proposal(key, found, shards, told[key], topology, values) for key, found, shards in ready]
    most = request.max_results or None
    return Detection(
        proposals[:most],
        skipped,
        has_more=most is not None and len(proposals) > most,
        seen=len(wanted),
        summary=f"{len(wanted)} erasure-coded volumes: {len(faults)} with a fault, {len(told)} with something found "
        f"by a scrub, {len(proposals[:most])} to repair now",
    )


def _ready(
    ctx: Context,
    request: DetectionRequest,
    key: Key,
    found: EcFaults | None,
    told: Sequence[Finding],
    values: Values,
    topology: Topology,
) -> tuple[tuple[int, ...], str, str]:
    """The shards that have been faulty for long enough; or why nothing is to be done, and a key to count that by."""
    volume_id = key[0]
    if reason := why_left_alone(topology, volume_id):
        return (), reason, "unsettled"
    if found is not None and found.is_lost:
        return (), _lost(found), "too few shards"
    now, patience = time.time(), values.whole("min_fault_age_seconds")
    ages = {code: ctx.past.faulty_for(volume_id, code, now) for code in (found.codes if found else ())}
    old = tuple(sorted({int(code.rpartition(" ")[2]) for code, age in ages.items() if age >= patience}))
    if old or told:
        return old, "", ""
    if found is None or not found.codes:
        return (), _beside(found) if found else "has no fault", "another run" if found and found.others else "crowded"
    age = max(ages.values())
    return (), f"{found.words}; seen for {age:.0f} s, repaired after {patience} s", FRESH


def why_left_alone(topology: Topology, volume_id: int) -> str:
    """Say, in words that follow its name, why a volume's shards are not to be touched now; "" where they may be."""
    if ambiguity := topology.ambiguity(volume_id):
        return ambiguity
    if topology.replicas(volume_id):
        return "is there as a regular volume as well: its encode or decode has to finish first"
    return topology.barred.get(volume_id, "")


def _lost(found: EcFaults) -> str:
    holdings = sorted(found.best.holdings, key=lambda one: one.node.id)
    where = "; ".join(f"{one.node} has {', '.join(map(str, one.shard_ids))}" for one in holdings)
    return (
        f"cannot be repaired: {found.best.sound} of the {DATA_SHARDS} shards that are needed are there ({where}); "
        "bring back a server that had others of them"
    )


def _beside(found: EcFaults) -> str:
    """What is wrong besides and not mended here, in words that follow the volume's name; "" where nothing is."""
    words = [
        f"has {one.sound} shards of another encode run, {one.run}, too, which are left where they are: "
        + ", ".join(sorted({str(holding.node) for holding in one.holdings}))
        for one in found.others
    ]
    if found.crowded:
        most = ", ".join(f"{host} {count}" for host, count in sorted(found.crowded.items()))
        words.append(f"has more than four shards on one host ({most}), which ec_balance spreads")
    return "; ".join(words)


def _proposal(
    key: Key,
    found: EcFaults | None,
    shards: tuple[int, ...],
    told: Sequence[Finding],
    topology: Topology,
    values: Values,
) -> Proposal:
    volume_id, collection = key
    size = (
        found.best.size
        if found
        else max((one.info.shard_sizes[0] for one in topology.ec[key] if one.info.shard_sizes), default=0)
    )
    left = found.best.sound if found else TOTAL_SHARDS
    words = [found.words] if found and shards else []
    words += sorted({f"a scrub found {_what(one)}" for one in told})
    rate = values.whole("io_byte_per_second")
    seconds = BEGINNING + max(
        proposal.seconds_for(DESCRIPTOR.name, size * DATA_SHARDS), 3 * size // rate if rate else 0
    )
    params = TaskParams(
        task_id=f"ec_repair_{volume_id}_{time.time_ns()}",
        volume_id=volume_id,
        collection=collection,
        volume_size=size * DATA_SHARDS,
    )
    summary = f"volume {volume_id} {'; '.join(words)}"
    return proposal.of_volume(
        DESCRIPTOR.name,
        params,
        summary,
        seconds,
        size * (DATA_SHARDS + len(shards)),
        detail=f"collection {collection!r}, {left} of {TOTAL_SHARDS} shards are sound",
        priority=HIGH if left < TOTAL_SHARDS else NORMAL,
        parameters={"shards": ",".join(map(str, shards)), "io_byte_per_second": rate},
        labels={"sound_shards": str(left)},
    )


def _what(finding: Finding) -> str:
    if finding.kind == EC_SHARD:
        return f"shard {finding.shard_id} on {finding.server} bad ({finding.method})"
    if finding.kind == EC_INDEX:
        return f"files lost beside the shards on {finding.server}"
    return "deletions that not every holder knows"
