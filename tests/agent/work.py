"""Volumes that need a vacuum, and vacuums that take as long as a test likes."""

from __future__ import annotations

from typing import Any

from tests.support.cluster import Cluster, Files

COMPACT = "VacuumVolumeCompact"


def garbage(cluster: Cluster, volumes: int = 1, **wishes: Any) -> Files:
    """Volumes of which the greater part is deleted."""
    files = cluster.fill(count=6, size=20_000, volumes=volumes, **wishes)
    for volume_id in files.volume_ids:
        cluster.delete(files.of(volume_id)[:4])
    cluster.settle()
    return files


def server_of(cluster: Cluster, volume_id: int) -> str:
    """The (first) server that holds a volume."""
    return str(cluster.locations(volume_id)[0].address)


def hold(cluster: Cluster, volume_id: int, seconds: float) -> None:
    """Let the compaction of a volume take this long."""
    cluster.faults(cluster.locations(volume_id)[0]).slow(COMPACT, seconds)


def compactions(cluster: Cluster) -> int:
    """How many compactions were asked for."""
    return sum(method == COMPACT for server in cluster.servers for method, _ in cluster.calls(server))
