"""Spreading the shards of erasure-coded volumes evenly: one shard per job, moved as weed_ec.shard_move does it."""

from __future__ import annotations

from weed_cluster.topology import Topology, snapshot
from weed_core.errors import BadTask
from weed_core.model import Job, Result
from weed_core.values import as_int
from weed_ec.shard_move import ShardOrder, move_shards, recover_shard_moves
from weed_ec.shards import ALL_SHARDS
from weed_safety.context import Context
from weed_safety.journal import Entry
from weed_safety.parameters import server_named, text_of, volume_id_of


def run(job: Job, ctx: Context) -> Result:
    """Move or remove what the job names; on failure the source keeps its shards and the target loses its copies."""
    topology = snapshot(ctx.master(), volume_id=volume_id_of(job))
    order = read_order(job, topology)
    words, moved = move_shards(ctx, order, topology)
    if ctx.options.dry_run:
        return Result(words)
    return Result(
        words,
        {
            "volume_id": order.volume_id,
            "source_server": str(order.source),
            "target_server": str(order.target),
            "shard_ids": [str(shard) for shard in order.shard_ids],
            "moved_bytes": moved,
        },
    )


def recover(entry: Entry, ctx: Context) -> None:
    """Undo, or finish, what a killed run had under way."""
    recover_shard_moves(entry, ctx)


def read_order(job: Job, topology: Topology | None = None) -> ShardOrder:
    """Read what a job asks for; BadTask where it is absent, contradicts itself or would touch one server twice."""
    params = job.params
    volume_id = volume_id_of(job)
    if params.sources or params.targets:
        if len(params.sources) != 1 or len(params.targets) != 1:
            raise BadTask(f"volume {volume_id}: one source and one target are needed, one each")
        source, target = params.sources[0], params.targets[0]
        names = source.node, target.node
        disks = source.disk_id, target.disk_id
        shards = tuple(source.shard_ids)
        if shards != tuple(target.shard_ids):
            raise BadTask(f"volume {volume_id}: source and target name different shards")
    else:
        names = text_of(job, "source_server"), text_of(job, "target_server")
        disks = as_int(job.parameters.get("source_disk_id"), 0), as_int(job.parameters.get("target_disk_id"), 0)
        shards = (as_int(job.parameters.get("shard_id"), -1),)
    if not shards or len(set(shards)) != len(shards) or not {*shards} <= {*ALL_SHARDS}:
        raise BadTask(f"volume {volume_id}: {list(shards)} are no shards; they are numbered 0 to {ALL_SHARDS[-1]}")
    if not all(names):
        raise BadTask(f"volume {volume_id}: the job names no source or no target server")
    collection = params.collection or text_of(job, "collection")
    rate = params.ec_balance_params.io_byte_per_second or as_int(job.parameters.get("io_byte_per_second"), 0)
    here, there = (server_named(name, topology) for name in names)
    keep = params.ec_balance_params.dedup_keep_node
    dedup = here == there
    if dedup:
        if disks[0] != disks[1]:
            raise BadTask(f"volume {volume_id}: {here} cannot move a shard between its own disks: deleting is for all")
        if not keep:
            raise BadTask(
                f"volume {volume_id}: source and target are both {here}, and no server is named that keeps it"
            )
        there = server_named(keep, topology)
        if here == there:
            raise BadTask(f"volume {volume_id}: {here} should both lose and keep the shard")
    return ShardOrder(volume_id, collection, shards, here, there, 0 if dedup else disks[1], dedup, max(0, rate))
