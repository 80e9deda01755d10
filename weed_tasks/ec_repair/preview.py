"""What a repair would do, said and not done."""

from __future__ import annotations

from collections.abc import Sequence

from weed_cluster.topology import Topology
from weed_core.findings import EC_SHARD, Finding
from weed_core.model import Result
from weed_ec.deletions import deletions_of
from weed_ec.places import choose_places
from weed_safety.context import Context
from weed_storage.ec_layout import TOTAL_SHARDS
from weed_tasks.ec_repair.beside import is_about_sums, lacks, may_have_sums
from weed_tasks.ec_repair.repair import RepairOrder
from weed_tasks.ec_repair.scene import hidden, see


def look_only(ctx: Context, order: RepairOrder, topology: Topology, told: Sequence[Finding]) -> Result:
    """Say all that a repair would do, and change nothing."""
    scene = see(ctx, topology, order.volume_id, order.collection)
    run = scene.run
    words = [f"{len(run.copies)} of {TOTAL_SHARDS} shards are sound"]
    there = hidden(ctx, scene)
    words += [f"shard {shard} lies unmounted on {server} and would be looked at" for server, shard in there]
    lost = [shard for shard in scene.lost if not order.shards or shard in order.shards]
    kinds = [one.disk_type for one in topology.holdings(run.volume_id, run.collection)]
    places, trouble = choose_places(topology, scene.nodes(), lost, run.shard_size, kinds[0])
    words += [f"shard {shard} would be restored on {slot.server}" for shard, slot in places.items()]
    words += [trouble] if trouble else []
    words += [
        f"shard {shard} on {server} is of a wrong size and would be replaced" for server, shard in scene.wrong_size
    ]
    words += [
        f"shard {one.shard_id} on {one.server} would be read, and replaced if it is bad"
        for one in told
        if one.kind == EC_SHARD
    ]
    words += [
        f"all but one of shard {shard} on {', '.join(map(str, servers))} would go"
        for shard, servers in scene.twice.items()
    ]
    words += [f"{lack.words}, which it would be given" for lack in lacks(ctx, scene)]
    if may_have_sums(scene) and any(is_about_sums(one) for one in told):
        words.append("all its shards would be read, and it would get the .ecsum that it never had")
    untold = sum(map(len, deletions_of(ctx, run).untold.values()))
    words += [f"holders would be told {untold} deletions"] if untold else []
    words += [f"{len(one.copies)} shards of the encode run {one.run} would be left alone" for one in scene.strangers]
    words += [f"{server} does not answer" for server in scene.silent]
    return Result(f"volume {run.volume_id}, nothing was changed: {'; '.join(words)}", {"volume_id": run.volume_id})
