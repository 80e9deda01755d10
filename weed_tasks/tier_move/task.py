"""Moving one replica of a volume to a disk of another type, as weed_safety.move does it."""

from __future__ import annotations

from weed_cluster.topology import snapshot
from weed_core.model import Job, Result
from weed_safety.context import Context
from weed_safety.journal import Entry
from weed_safety.lease import known_master
from weed_safety.move import recover_moves
from weed_safety.parameters import text_of, volume_id_of
from weed_tasks.moving import move_one, order_of


def run(job: Job, ctx: Context) -> Result:
    """Move the replica that the job names to its target's disks of the type; running it again finishes it."""
    ctx.progress(0.0, "looking at the cluster")
    master = known_master(ctx)
    topology = snapshot(master, volume_id_of(job)) if master else None
    return move_one(ctx, order_of(job, topology, text_of(job, "disk_type")))


def recover(entry: Entry, ctx: Context) -> None:
    """Undo, or finish, the move that a killed run had under way."""
    recover_moves(entry, ctx)
