"""One worker per volume in the whole cluster: a lease at the master, named after the volume."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from weed_cluster.client import Cluster
from weed_cluster.leash import Leash
from weed_cluster.lock import MasterLease, kept
from weed_cluster.master import Master
from weed_core.errors import BadTask, Busy, TaskError
from weed_safety.context import Context

LEASE_PATIENCE = 30.0
"""Seconds that recovery waits for a volume's lease: that of a killed worker ends after 10."""


class Lease(MasterLease):
    """The lease of one volume."""

    def __init__(self, master: Master, volume_id: int) -> None:
        client = f"weed_worker {socket.gethostname()} {os.getpid()}"
        super().__init__(
            master,
            f"weed_worker.volume.{volume_id}",
            client,
            lambda who: f"volume {volume_id} is being worked on by {who}",
        )


def holder_of(cluster: Cluster, volume_id: int) -> str:
    """Who works on a volume now, and what for where that is told; "" for nobody. ServerFailed where no master tells."""
    lease = Lease(cluster.master(), volume_id)
    try:
        lease.take()  # masters tell only those who ask for it
    except Busy:
        return lease.holder
    lease.release()
    return ""


def holders_of(cluster: Cluster, volume_ids: Iterable[int]) -> dict[int, str]:
    """Who works on which of these volumes, as the masters have it; nothing of what they cannot tell."""
    held = {}
    for volume_id in volume_ids:
        try:
            if holder := holder_of(cluster, volume_id):
                held[volume_id] = holder
        except TaskError:
            break  # that no master answers is told elsewhere
    return held


@contextmanager
def volume_lease(ctx: Context, volume_id: int, patience: float = 0.0) -> Iterator[Lease]:
    """Hold the volume's lease; Busy where another worker holds it for longer than `patience` seconds."""
    # Not on the job's leash: an undo after a cancel needs the lease, too.
    lease = Lease(Cluster(ctx.cluster.channels, ctx.cluster.masters, Leash()).master(), volume_id)

    def taken() -> bool:
        try:
            lease.take()
        except Busy:
            return False
        return True

    if not patience or not ctx.until(taken, patience):
        lease.take()
    with kept(lease):
        yield lease


def hold(ctx: Context, volume_id: int, patience: float = 0.0) -> AbstractContextManager[Lease | None]:
    """Hold the volume against other workers, where a master is known that can say so; Busy where one has it."""
    if ctx.options.dry_run or known_master(ctx) is None:
        return nullcontext()
    return volume_lease(ctx, volume_id, patience)


@contextmanager
def hold_all(ctx: Context, volume_ids: Iterable[int], patience: float = 0.0) -> Iterator[dict[int, Lease | None]]:
    """Hold several volumes as hold() does, or none of them; Busy where another worker has one."""
    with ExitStack() as held:
        # In one order everywhere, so that no two jobs wait for each other.
        yield {volume: held.enter_context(hold(ctx, volume, patience)) for volume in sorted(set(volume_ids))}


def known_master(ctx: Context) -> Master | None:
    """The master, or None where none is known: some admins tell none."""
    try:
        return ctx.master()
    except BadTask:
        return None
