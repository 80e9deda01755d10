"""Bringing one volume, or the shards of one, away from servers and disks that are to be emptied.

Volumes move as weed_safety.move does it, shards as weed_ec.shard_move: copied, proved, and only then removed.
"""

from __future__ import annotations

from proto_gen.worker_pb2 import EcShardMoveSpec
from weed_cluster.topology import Topology, snapshot
from weed_core.errors import BadTask
from weed_core.model import Job, Result
from weed_core.values import as_int
from weed_ec.shard_move import CopyShard, RemoveShard, ShardOrder, move_shards, recover_shard_moves
from weed_ec.shards import ALL_SHARDS
from weed_safety.context import Context
from weed_safety.journal import Entry
from weed_safety.lease import known_master, volume_lease
from weed_safety.move import recover_moves
from weed_safety.parameters import server_named, volume_id_of
from weed_safety.steps import is_of
from weed_tasks.moving import move_one, order_of


def run(job: Job, ctx: Context) -> Result:
    """Move what the job names; TaskError says what is left where it was. Running it again does the rest."""
    ctx.progress(0.0, "looking at the cluster")
    volume_id = volume_id_of(job)
    if job.params.ec_balance_params.moves:
        return _run_shards(job, ctx, volume_id)
    master = known_master(ctx)
    return move_one(ctx, order_of(job, snapshot(master, volume_id) if master else None))


def recover(entry: Entry, ctx: Context) -> None:
    """Undo, or finish, what a killed run had under way."""
    if any(is_of(step, CopyShard, RemoveShard) for step in entry.open):
        recover_shard_moves(entry, ctx)
    else:
        recover_moves(entry, ctx)


def _run_shards(job: Job, ctx: Context, volume_id: int) -> Result:
    """Move shard after shard; those that have moved stay where they came to, whatever becomes of the others."""
    specs = job.params.ec_balance_params.moves
    topology = snapshot(ctx.master(), volume_id)
    orders = [_shard_order(job, spec, topology) for spec in specs]
    if ctx.options.dry_run:
        told = [move_shards(ctx, order, topology)[0] for order in orders]
        return Result("; ".join(told), {"volume_id": volume_id})
    moved = 0
    with volume_lease(ctx, volume_id) as lease:
        for done, order in enumerate(orders, 1):
            moved += move_shards(ctx, order, snapshot(ctx.master(), volume_id), lease)[1]
            ctx.progress(done / len(orders), f"{done} of {len(orders)} shards are away", bytes=moved)
    shards = ", ".join(str(spec.shard_id) for spec in specs)
    sources = ", ".join(dict.fromkeys(str(order.source) for order in orders))
    targets = ", ".join(dict.fromkeys(str(order.target) for order in orders))
    return Result(
        f"shards {shards} of volume {volume_id} moved from {sources} to {targets}",
        {
            "volume_id": volume_id,
            "source_server": sources,
            "target_server": targets,
            "shard_ids": [str(spec.shard_id) for spec in specs],
            "moved_bytes": moved,
        },
    )


def _shard_order(job: Job, spec: EcShardMoveSpec, topology: Topology) -> ShardOrder:
    volume_id = job.params.volume_id
    if spec.volume_id != volume_id or spec.shard_id not in ALL_SHARDS:
        raise BadTask(f"volume {volume_id}: a move names shard {spec.shard_id} of volume {spec.volume_id}")
    source, target = server_named(spec.source_node, topology), server_named(spec.target_node, topology)
    if source == target:
        raise BadTask(f"volume {volume_id}: {source} cannot move shard {spec.shard_id} between its own disks")
    rate = job.params.ec_balance_params.io_byte_per_second or as_int(job.config.get("io_byte_per_second"), 0, 0)
    return ShardOrder(
        volume_id,
        job.params.collection,
        (spec.shard_id,),
        source,
        target,
        spec.target_disk_id,
        rate=rate,
    )
