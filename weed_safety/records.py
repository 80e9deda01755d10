"""Small files that a filer of the cluster keeps for all workers. Where the cluster has no filer there are none.

Filers of the default group are asked, the first that answers: they show each other's files. Knows nothing of what the
files say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from weed_cluster.address import Address
from weed_cluster.filer import Filer
from weed_core.errors import BadTask, ServerFailed
from weed_safety.context import Context

ROOT = "/etc/weed_worker"

MOST_FILERS = 3
"""Filers that are tried before it counts as failed."""

T = TypeVar("T")


def filers(ctx: Context) -> list[Filer]:
    """The filers that the master knows; none where there is no master."""
    try:
        nodes = ctx.master().list_cluster_nodes(client_type="filer").cluster_nodes
    except BadTask:
        return []
    cluster = ctx.cluster
    addresses = sorted({Address.parse(node.address) for node in nodes}, key=str)
    return [Filer(cluster.channels, address, cluster.leash) for address in addresses[:MOST_FILERS]]


def read_all(ctx: Context, directory: str) -> dict[str, bytes]:
    """The files of a directory, by name; ServerFailed where no filer answers."""
    return ask(ctx, lambda filer: {one.name: one.content for one in filer.entries(directory)}) or {}


def put(ctx: Context, directory: str, name: str, content: bytes) -> bool:
    """Write a file, whatever was there; False where the cluster has no filer, ServerFailed where none answers."""

    def write(filer: Filer) -> bool:
        filer.put(directory, name, content, "application/json")
        return True

    return ask(ctx, write) is not None


def remove(ctx: Context, directory: str, name: str) -> None:
    """Remove a file, if it is there; ServerFailed where no filer answers."""
    ask(ctx, lambda filer: filer.remove(directory, name))


def ask(ctx: Context, question: Callable[[Filer], T]) -> T | None:
    """What the first filer that answers says; None where the cluster has none, ServerFailed where none answers."""
    failed: ServerFailed | None = None
    for filer in filers(ctx):
        try:
            return question(filer)
        except ServerFailed as error:
            failed = error
    if failed is not None:
        raise failed
    return None
