"""Volumes that refuse writes for a reason that nobody can tell: jobs pass them over.

Another worker may have frozen such a volume and have been killed: whoever takes its state for an operator's will keeps
it shut for ever, and whoever opens it lets writes into what is half moved. Told are a disk without room, which closes
all of its volumes, data in remote storage, and the job's own journal. One question, for detection and for jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from weed_cluster.address import Address
from weed_cluster.topology import Replica, Topology, snapshot
from weed_core.errors import StaleTask
from weed_safety.context import Context
from weed_safety.freeze import open_freeze

KEY = "read-only"
"""What volumes passed over for this are counted by."""

Disk = tuple[str, str, int]


def closed_disks(topology: Topology) -> frozenset[Disk]:
    """The disks of which every volume, more than one, refuses writes: the disk is the reason."""
    replicas = [replica for held in topology.volumes.values() for replica in held]
    shut = Counter(_disk(replica) for replica in replicas if replica.read_only)
    if not shut:
        return frozenset()
    open_ones = {_disk(replica) for replica in replicas if not replica.read_only}
    return frozenset(disk for disk, count in shut.items() if count > 1 and disk not in open_ones)


def why_untold(replicas: Iterable[Replica], closed: Collection[Disk]) -> str:
    """Why a volume is to be passed over, as the rest of a sentence; "" where it is not."""
    found = list(replicas)
    if any(replica.remote_name for replica in found):
        return ""
    shut = [one.server for one in found if one.read_only and _disk(one) not in closed]
    return _words(found[0].volume_id, shut) if shut else ""


def check_told(ctx: Context, volume_id: int, servers: Iterable[Address]) -> None:
    """StaleTask where a replica refuses writes, asked now, and neither this job's journal nor the disk tells why."""
    shut = [
        server
        for server in servers
        if open_freeze(ctx.journal, server, volume_id) is None
        and ctx.volume(server).volume_status(volume_id=volume_id).is_read_only
    ]
    if not shut:
        return
    if ctx.cluster.masters:
        topology = snapshot(ctx.master())
        closed, replicas = closed_disks(topology), topology.replicas(volume_id)
        if any(replica.remote_name for replica in replicas):
            return
        told = {replica.server for replica in replicas if _disk(replica) in closed}
        shut = [server for server in shut if server not in told]
    if shut:
        raise StaleTask(f"volume {volume_id} {_words(volume_id, shut)}; nothing was touched")


def _words(volume_id: int, servers: Iterable[Address]) -> str:
    names = ", ".join(sorted(map(str, servers)))
    return names and (
        f"is read-only on {names}, and nobody can tell why: the job of another worker may hold it, even a killed one. "
        f"weed_worker doctor shows what there is, weed_worker undo -volumeId={volume_id} compares replicas and opens it"
    )


def _disk(replica: Replica) -> Disk:
    return replica.node.id, replica.disk_type, replica.disk_id
