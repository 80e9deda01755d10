"""Vacuuming a volume before it is encoded: garbage would lie in its shards for as long as these live.

What is deleted in a volume costs its bytes; in shards it costs 1.4 times as much, and no server takes it out again.
Done while the volume still takes writes, and closed in the journal before the first shard is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from weed_cluster.address import Address
from weed_safety import compaction
from weed_safety.context import Context
from weed_safety.lease import Lease, known_master
from weed_safety.readiness import answer_of
from weed_storage.needle import SUPER_BLOCK_SIZE
from weed_tasks.erasure_coding.survey import Scene, ask

NEVER = 1.0
"""The threshold from which on nothing is vacuumed."""


@dataclass(frozen=True)
class Squeeze:
    """What is to be vacuumed: all replicas, those of them with enough garbage, and the bytes that these keep."""

    copies: tuple[compaction.Copy, ...] = ()
    todo: tuple[compaction.Copy, ...] = ()
    sizes: Mapping[Address, int] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """How much garbage there is, and where."""
        return ", ".join(f"{copy.ratio:.0%} on {copy.server}" for copy in self.todo)


def size_after(scene: Scene, squeeze: Squeeze) -> int:
    """Bytes of the biggest replica once it is vacuumed."""
    return max(squeeze.sizes.get(server, status.dat_file_size) for server, status in scene.regular.items())


def look(ctx: Context, scene: Scene, threshold: float) -> Squeeze:
    """Find out which replicas have too much garbage; changes nothing.

    None are vacuumed where that is refused to a vacuum, too, or where a disk has no room for the new file: the volume
    is then encoded with its garbage, as the log says.
    """
    if threshold >= NEVER:
        return Squeeze()
    volume_id = scene.volume_id
    ratios = dict(zip(scene.regular, ctx.each(lambda server: _ratio(ctx, server, volume_id), scene.regular)))
    if max(ratios.values()) < threshold:
        return Squeeze()
    copies = [compaction.look(ctx, server, volume_id, scene.collection) for server in scene.regular]
    for copy in copies:
        copy.ratio = ratios[copy.server]
    todo = tuple(copy for copy in copies if copy.ratio >= threshold)
    wanted = compaction.placement(ctx, copies[0], volume_id).copies
    sizes = {copy.server: SUPER_BLOCK_SIZE + int(copy.status.dat_file_size * (1 - copy.ratio)) for copy in todo}
    why_not = ""
    if len(copies) < wanted:
        why_not = f"it should have {wanted} copies and has {len(copies)}, which must be vacuumed together"
    for copy in todo:
        disks = answer_of(ctx, copy.server).status.disk_statuses
        disk_id = scene.disks.get(copy.server, 0)
        if disk_id < len(disks) and disks[disk_id].free < sizes[copy.server]:
            why_not = f"disk {disk_id} of {copy.server} has no room for what stays of it"
    if why_not:
        ctx.warn(f"volume {volume_id} is encoded with its garbage ({Squeeze(todo=todo).words}): {why_not}")
        return Squeeze()
    return Squeeze(tuple(copies), todo, sizes)


def squeeze(ctx: Context, scene: Scene, found: Squeeze, lease: Lease) -> int:
    """Vacuum what was found; the scene gets the new statuses. Return the bytes that it gave back.

    Raises as compaction.compact() does; a replica that was not committed is then as it was.
    """
    ctx.progress(0.03, "vacuuming first")
    compaction.compact(ctx, scene.volume_id, found.copies, found.todo, known_master(ctx), lease)
    for copy in found.todo:
        compaction.verify(ctx, copy, scene.volume_id)
    for server in list(scene.regular):
        status = ask(ctx, server, scene.volume_id)
        if status is not None:
            scene.regular[server] = status
    return sum(max(0, copy.status.dat_file_size - copy.size_after) for copy in found.todo)


def _ratio(ctx: Context, server: Address, volume_id: int) -> float:
    return ctx.volume(server).vacuum_volume_check(volume_id=volume_id).garbage_ratio
