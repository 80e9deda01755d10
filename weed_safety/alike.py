"""Servers that may exchange files: those of one build (weed_cluster.builds). For plans and for the jobs that copy."""

from __future__ import annotations

from collections.abc import Iterable

from weed_cluster.address import Address
from weed_cluster.builds import Builds, ask, why_unlike
from weed_cluster.topology import Topology
from weed_core.errors import StaleTask
from weed_safety.context import Context

BUILDS = Builds()
"""What detections remember; the jobs ask afresh."""


def know_builds(ctx: Context, topology: Topology) -> Topology:
    """Have a plan know the builds of all servers."""
    topology.builds = BUILDS.of((node.address for node in topology.nodes.values()), ctx.volume)
    return topology


def check_alike(ctx: Context, servers: Iterable[Address], plan: str) -> None:
    """StaleTask, saying which and why, unless all these servers read each other's files; `plan` is what is not done."""
    wanted = list(dict.fromkeys(servers))
    builds = ctx.each(lambda server: ask(ctx.volume(server)), wanted)
    for server, build in zip(wanted, builds):
        if reason := why_unlike(wanted[0], builds[0], server, build):
            raise StaleTask(f"{plan}: {reason}; nothing was touched")
