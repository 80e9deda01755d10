"""Opening a volume that was left read-only, by whomever: all replicas together, and only when they are equal."""

from __future__ import annotations

import time

from weed_cluster.topology import snapshot
from weed_core.errors import Mismatch, StaleTask
from weed_safety import forget, location_cache
from weed_safety.context import Context
from weed_safety.freeze import Frozen, freeze_for_long, thaw, wait_still
from weed_safety.lease import Lease
from weed_safety.move import QUIET
from weed_safety.proof import CHECKSUMS, compare_all, names
from weed_tasks.scope import unfit


def reopen(ctx: Context, volume_id: int, lease: Lease | None) -> str:
    """Compare a volume's replicas while all are read-only, then make them writable; return what was done.

    Raises StaleTask where there is nothing to open, Mismatch where replicas are missing or differ: then all is as it
    was. Where servers may still write past a replica, and cannot be made to forget, it waits ten minutes first.
    """
    name = f"volume {volume_id}"
    topology = snapshot(ctx.master(), volume_id)
    replicas = topology.replicas(volume_id)
    if not replicas:
        raise StaleTask(f"the master knows no replica of {name}")
    if reason := unfit(replicas, topology):
        raise StaleTask(f"{name} {reason}; nothing was changed")
    if replicas[0].remote_name:
        raise StaleTask(f"{name} has its data in {replicas[0].remote_name}, and is read-only for that")
    placement, servers = replicas[0].placement, [replica.server for replica in replicas]
    if len(servers) < placement.copies:
        raise Mismatch(
            f"{name} has {len(servers)} of {placement.copies} copies: nothing was changed; weed_worker run replication "
            f"-volumeId={volume_id} adds the rest"
        )
    closed = [server for server in servers if ctx.volume(server).volume_status(volume_id=volume_id).is_read_only]
    if not closed:
        raise StaleTask(f"{name} is writable on {names(servers)}; there is nothing to open")
    if ctx.options.dry_run:
        return f"{name} is read-only on {names(closed)}; its replicas would be compared, and opened if they are equal"
    frozen = [freeze_for_long(ctx, server, volume_id) for server in servers]
    try:
        for server in servers:
            wait_still(ctx, server, volume_id, QUIET)
        found = compare_all(ctx, volume_id, servers, CHECKSUMS)
        if found.ids:
            raise Mismatch(
                f"{name}: its replicas on {names(servers)} differ in {len(found.ids)} needles, so it was not opened; "
                f"weed_worker run replication -volumeId={volume_id} -set=reconcile=true mends what can be"
            )
        if placement.copies > 1:
            _renew(ctx, volume_id, frozen, lease)
        if lease is not None:
            lease.check()
    except BaseException:
        with ctx.cluster.leash.shielded():
            ctx.each(lambda replica: thaw(ctx, replica), frozen)  # those that this froze
        raise
    with ctx.cluster.leash.shielded():
        ctx.each(lambda server: ctx.volume(server).volume_mark_writable(volume_id=volume_id), servers)
        ctx.each(lambda replica: thaw(ctx, replica), frozen)
    return f"{name}: {len(servers)} equal replicas on {names(servers)} are writable now"


def _renew(ctx: Context, volume_id: int, frozen: list[Frozen], lease: Lease | None) -> None:
    """See to it that no server writes past a replica: nobody tells when the last one moved."""
    placement = snapshot(ctx.master(), volume_id).replicas(volume_id)[0].placement
    reason = forget.why_not(ctx, volume_id, [replica.server for replica in frozen])
    if not reason:
        for replica in frozen:
            # Also one that somebody else froze must stay so while it is mounted anew.
            ctx.volume(replica.server).volume_mark_readonly(volume_id=volume_id, persist=True)
            replica.persist = True
        reason = forget.renew(ctx, volume_id, frozen, placement)
    if not reason:
        return
    ctx.log(f"volume {volume_id} stays read-only for ten minutes more, then it is opened: {reason}")
    ends = time.monotonic() + location_cache.CACHED_FOR
    while (left := ends - time.monotonic()) > 0:
        if lease is not None:
            lease.check()
        ctx.progress(0.5, f"read-only for {left:.0f} s more, until servers know its replicas")
        ctx.wait(min(left, 5.0))
