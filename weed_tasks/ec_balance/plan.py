"""Which shards should move or go: what a look finds, as proposals."""

from __future__ import annotations

import time
from dataclasses import replace

from proto_gen.worker_pb2 import EcBalanceTaskParams, TaskParams
from weed_cluster.address import Address
from weed_cluster.replica_placement import ReplicaPlacement
from weed_cluster.topology import Topology, collection_filter, wildcard_filter
from weed_core.errors import BadTask
from weed_core.model import (
    HIGH,
    LOW,
    NORMAL,
    Descriptor,
    Detection,
    DetectionRequest,
    Proposal,
    Runtime,
    Values,
)
from weed_ec.shard_move import refused_shards, too_old
from weed_safety.alike import know_builds
from weed_safety.context import Context
from weed_safety.readiness import Answers, settle
from weed_tasks import forms, proposal
from weed_tasks.ec_balance.spread import CROSS_RACK, DEDUP, Move, Plan, Wishes

DESCRIPTOR = Descriptor(
    name="ec_balance",
    job_type="ec_balance",
    display_name="EC Shard Balance",
    description="Spreads the shards of erasure-coded volumes over racks, hosts and disks",
    icon="fas fa-balance-scale-left",
    fields=(
        forms.COLLECTIONS,
        forms.DATA_CENTERS,
        forms.DISK_TYPE,
        replace(forms.SHARD_PLACEMENT, name="shard_replica_placement", scope="admin", section=forms.SCOPE),
        replace(
            forms.IMBALANCE,
            help="How uneven a volume's spread, or the fill of a rack's servers, must be before anything moves: the "
            "difference between most and fewest, as a share of the average.",
            minimum=0.05,
            maximum=0.5,
        ),
        replace(forms.FEWEST_SERVERS, default=3),
        forms.DISK_TAGS,
        forms.RATE,
    ),
    runtime=Runtime(detection_interval_minutes=30),
    weight=60,
)

PRIORITY = {DEDUP: HIGH, CROSS_RACK: NORMAL}


def detect(request: DetectionRequest, ctx: Context) -> Detection:
    """Propose moves of single shards, and the removal of shards that exist twice."""
    values = Values(DESCRIPTOR, request.config)
    topology = know_builds(ctx, ctx.topology())
    accepts = collection_filter(values.text("collection_filter"))
    wishes = Wishes(
        threshold=values.number("imbalance_threshold"),
        min_servers=values.whole("min_server_count"),
        disk_type=values.text("disk_type"),
        placement=_placement(values.text("shard_replica_placement") or topology.default_replication),
        tags=frozenset(tag.lower() for tag in values.texts("preferred_tags")),
        accepts_collection=accepts,
        accepts_data_center=wildcard_filter(values.text("data_center_filter")),
    )
    _only(topology, request.volume_id)
    rate = values.whole("io_byte_per_second")
    return settle(
        ctx, request, topology, DESCRIPTOR.name, lambda: _choose(request, topology, wishes, rate, ctx), _objection
    )


def _choose(request: DetectionRequest, topology: Topology, wishes: Wishes, rate: int, ctx: Context) -> Detection:
    plan = ctx.compute(Plan, topology, wishes)
    moves = plan.moves[: request.max_results or None]
    summary = f"{len(plan.moves)} shards of {plan.seen} erasure-coded volumes should move"
    if plan.servers < wishes.min_servers:
        summary = f"only {plan.servers} servers take part, {wishes.min_servers} are asked for: nothing is moved"
    return Detection(
        proposals=[_proposal(move, rate, number) for number, move in enumerate(moves)],
        skipped=plan.skipped,
        has_more=len(moves) < len(plan.moves),
        seen=plan.seen,
        summary=summary,
    )


def _objection(one: Proposal, answers: Answers) -> str:
    """What the release of its servers has against a proposal."""
    params = one.params
    names = [row.node for row in params.sources] + [row.node for row in params.targets]
    names.append(params.ec_balance_params.dedup_keep_node)
    for server in (Address.parse(name) for name in names if name):
        if server in answers and (reason := too_old(server, answers[server].generation)):
            return refused_shards(params.volume_id, reason)
    return ""


def _placement(text: str) -> ReplicaPlacement:
    try:
        return ReplicaPlacement.parse(text)
    except BadTask:  # the limits of a placement that nobody can read are none
        return ReplicaPlacement()


def _only(topology: Topology, volume_id: int) -> None:
    if volume_id:
        topology.ec = {key: holdings for key, holdings in topology.ec.items() if key[0] == volume_id}


def _proposal(move: Move, rate: int, number: int) -> Proposal:
    source, target = move.source.node, move.target.node
    name = f"shard {move.shard_id} of volume {move.volume_id}"
    dedup = move.phase == DEDUP
    goal = move.source if dedup else move.target
    seconds = proposal.seconds_for(DESCRIPTOR.name, move.size)
    identity = f"ec_balance_{move.volume_id}_{move.shard_id}_{source.address}_{target.address}"
    disk, shards = move.source.disk_id, [move.shard_id]
    params = TaskParams(
        task_id=f"{identity}_{time.time_ns()}_{number}",
        volume_id=move.volume_id,
        collection=move.collection,
        volume_size=move.size,
        sources=[proposal.shards_source(source, move.volume_id, disk, shards, move.size)],
        targets=[proposal.target(goal.node, move.volume_id, move.size, goal.disk_id, shards)],
        ec_balance_params=EcBalanceTaskParams(
            disk_type=move.source.disk_type,
            timeout_seconds=max(600, seconds),
            dedup_keep_node=str(target.address) if dedup else "",
            io_byte_per_second=rate,
        ),
    )
    what = f"Remove {name} from {source}, {target} has it too" if dedup else f"Move {name} from {source} to {target}"
    return proposal.of_volume(
        DESCRIPTOR.name,
        params,
        what,
        seconds,
        0 if dedup else move.size,
        detail=f"{what} ({move.phase.replace('_', ' ')})",
        priority=PRIORITY.get(move.phase, LOW),
        parameters={"source_server": str(source.address), "target_server": str(goal.node.address)},
        labels={"phase": move.phase, "source_node": source.id, "target_node": goal.node.id},
    )
