"""Opening a volume that was left read-only, by whomever: all replicas together, and only when they are equal."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from weed_cluster.topology import snapshot
from weed_core.errors import Busy, Mismatch, StaleTask, TaskError
from weed_safety import forget, holds, location_cache
from weed_safety.context import Context
from weed_safety.freeze import Frozen, freeze_for_long, thaw, wait_still
from weed_safety.holds import Hold
from weed_safety.journal import Entry, Journal
from weed_safety.lease import Lease, holder_of
from weed_safety.lease import hold as lease_of
from weed_safety.move import STILL_FOR
from weed_safety.proof import CHECKSUMS, compare_all, names
from weed_safety.untold import closed_disks, why_untold
from weed_tasks.scope import unfit

ABSENT = 86400.0
"""Seconds after which the record of a volume that no server has any more is removed."""


MOST_STRANGE = 100
"""Volumes that are read-only for no known reason of which each is looked at."""


def end_holds(
    journal: Journal,
    context: Callable[[], Context],
    tell: Callable[[Hold, str, str], None],
    is_spared: Callable[[int], bool] = lambda _volume_id: False,
) -> list[Entry]:
    """End the holds that are over, whoever made them, but of spared volumes; return entries with open steps.

    Told is each hold with its outcome, "waiting", "done", "failed" or, with a dry run, "checked", and its words.
    TaskError where the records cannot be read.
    """
    left = []
    looking = context()
    for hold in holds.read_all(looking):
        if not hold.is_over:
            tell(hold, "waiting", hold.text())
        elif looking.options.dry_run:
            tell(hold, "checked", f"its hold is over, and would be ended: {hold.text()}")
        elif not is_spared(hold.volume_id):
            volume_id = hold.volume_id
            masters = list(map(str, looking.cluster.masters))
            entry = journal.open_entry(f"hold-{volume_id}", "replication", volume_id, masters=masters)
            ctx = context()
            ctx.journal = entry
            try:
                with lease_of(ctx, volume_id) as lease:
                    tell(hold, "done", _end(ctx, hold, lease))
            except Busy as error:
                tell(hold, "waiting", str(error))
            except TaskError as error:
                tell(hold, "failed", f"{error} ({hold.text()})")
            finally:
                entry.close()
            if entry.open:
                left.append(entry)
    return left


def _end(ctx: Context, hold: Hold, lease: Lease | None) -> str:
    """End one hold that is over; return what was done. Raises as reopen(); then its record stays."""
    volume_id = hold.volume_id
    name, now = f"volume {volume_id}", holds.read(ctx, volume_id)
    if now is None or now.token != hold.token:
        return f"{name}: its hold was ended by another meanwhile"
    topology = snapshot(ctx.master(), volume_id)
    servers = [replica.server for replica in topology.replicas(volume_id)]
    if not servers:
        if not topology.has_shards(volume_id) and time.time() < hold.until + ABSENT:
            raise StaleTask(f"no server has {name} now")
        holds.remove(ctx, hold)
        return f"{name} is no more; its record was removed"
    if any(ctx.volume(server).volume_status(volume_id=volume_id).is_read_only for server in servers):
        strange = [server for server in servers if not hold.replicas.get(str(server))]
        if strange:
            raise StaleTask(
                f"{name} is on {names(strange)}, which its hold did not make read-only; nothing was changed, "
                f"weed_worker undo -volumeId={volume_id} compares its replicas and opens them"
            )
        said = reopen(ctx, volume_id, lease, is_over=True)
    else:
        said = f"{name} is writable already; its record was removed"
    holds.remove(ctx, hold)
    return said


def strange(ctx: Context, known: Collection[int]) -> dict[int, str]:
    """The volumes that are read-only, by the masters, and neither known nor explained: who holds each, or what to do.

    Masters list no leases; they tell of one volume's to whoever asks for it. ServerFailed where none answers.
    """
    topology = snapshot(ctx.master())
    closed = closed_disks(topology)
    found: dict[int, str] = {}
    for volume_id, replicas in sorted(topology.volumes.items()):
        words = "" if volume_id in known else why_untold(replicas, closed)
        if words and len(found) < MOST_STRANGE:
            holder = holder_of(ctx.cluster, volume_id)
            found[volume_id] = f"read-only while {holder} works on it" if holder else words
    return found


def reopen(ctx: Context, volume_id: int, lease: Lease | None, is_over: bool = False) -> str:
    """Compare a volume's replicas while all are read-only, then make them writable; return what was done.

    Raises StaleTask where there is nothing to open, Mismatch where replicas are missing or differ: then all is as it
    was. Where servers may still write past a replica, and cannot be made to forget, it waits ten minutes first;
    `is_over` says that it has been read-only for so long.
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
            wait_still(ctx, server, volume_id, STILL_FOR)
        found = compare_all(ctx, volume_id, servers, CHECKSUMS)
        if found.ids:
            raise Mismatch(
                f"{name}: its replicas on {names(servers)} differ in {len(found.ids)} needles, so it was not opened; "
                f"weed_worker run replication -volumeId={volume_id} -set=reconcile=true mends what can be"
            )
        if placement.copies > 1 and not is_over:
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
    ends = time.monotonic() + location_cache.remembered(ctx)
    while (left := ends - time.monotonic()) > 0:
        if lease is not None:
            lease.check()
        ctx.progress(0.5, f"read-only for {left:.0f} s more, until servers know its replicas")
        ctx.wait(min(left, 5.0))
