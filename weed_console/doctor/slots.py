"""Volume slots: types of disk of which none is left, and what volumes without a file hold of them."""

from __future__ import annotations

from collections import defaultdict

from weed_cluster.client import Cluster
from weed_cluster.replica_placement import plain_type
from weed_cluster.topology import Replica, Topology
from weed_console.doctor.finding import Finding, some
from weed_console.remedies import find as remedy_of

FEW = 0.1
"""Share of the slots of a type that should be free before empty volumes are worth a word."""


def look_at_slots(cluster: Cluster, topology: Topology) -> list[Finding]:
    """The types of disk of which no server has a free slot, and empty volumes where slots are few."""
    free: dict[str, int] = defaultdict(int)
    most: dict[str, int] = defaultdict(int)
    for node in topology.nodes.values():
        for name, disk in node.disks.items():
            free[plain_type(name)] += disk.free_slots
            most[plain_type(name)] += disk.max_volume_count
    findings = []
    for kind, count in sorted(most.items()):
        if count and free[kind] < FEW * count:
            empty = {number: held for number in topology.volumes if (held := _empty(topology, number, kind))}
            held = sum(empty.values())
            hold = f"; {len(empty)} volumes without a file hold {held} of them" if empty else ""
            fix = _fix(cluster, sorted(empty))
            if not free[kind]:
                what = f"no server has a free {kind} slot of {count}: no volume can grow, nothing be moved or encoded"
                findings.append(Finding("NO_SLOTS", "volume servers", f"{what}{hold}", fix, tuple(empty)))
            elif empty:
                what = f"hold {held} of {count} {kind} slots without a file, and only {free[kind]} are free"
                findings.append(Finding("EMPTY_VOLUMES", some(sorted(empty)), what, fix, tuple(empty)))
    return findings


def _empty(topology: Topology, volume_id: int, kind: str) -> int:
    """The slots of a type that a volume without a live file holds; 0 where it has one."""
    replicas = topology.volumes[volume_id]
    return sum(plain_type(one.disk_type) == kind for one in replicas) if all(map(_is_empty, replicas)) else 0


def _is_empty(replica: Replica) -> bool:
    return not replica.remote_name and replica.info.file_count <= replica.info.delete_count


def _fix(cluster: Cluster, empty: list[int]) -> str:
    """What makes room: our job for empty volumes where it takes one."""
    grow = "add a server or a disk, raise -max of a volume server, or delete volumes"
    for number in empty[:3]:
        remedy = remedy_of(cluster, "delete_empty", number, {})
        if remedy.is_plain:
            return f"weed_worker run delete_empty; else {grow}"
        grow = f"{grow} (delete_empty leaves volume {number}: {remedy.why_not})"
        break
    return grow
