"""Volumes that refuse writes, and who keeps them so."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from weed_cluster.address import Address
from weed_cluster.client import Cluster
from weed_cluster.past import Past
from weed_cluster.topology import Replica, Topology
from weed_console.admin_jobs import AdminJob
from weed_console.doctor.copies import ambiguous, copies
from weed_console.doctor.directories import Left
from weed_console.doctor.finding import ASK, AT_ONCE, Finding, some
from weed_core.errors import ServerFailed, TaskError
from weed_safety.context import Context
from weed_safety.holds import Hold
from weed_safety.holds import read_all as read_holds
from weed_safety.journal import Journal
from weed_safety.lease import holders_of

END_HOLD = "weed_worker undo; it compares the replicas and opens them together when that time is over"


ASKED_AFRESH = 200
"""Read-only volumes whose server is asked whether they still are."""


def look_at_volumes(
    cluster: Cluster,
    topology: Topology,
    left: Left,
    low: Collection[Address],
    jobs: Sequence[AdminJob],
    past: Past,
) -> list[Finding]:
    """What is wrong with the volumes of a topology: copies that are missing, and those that refuse writes.

    `left` is what killed jobs of this host left, `low` the servers without room, `jobs` those under way.
    """
    missing: dict[str, list[int]] = defaultdict(list)
    for volume_id, replicas in sorted(topology.volumes.items()):
        copies_wanted = replicas[0].placement.copies
        held = len([one for one in replicas if (one.server, volume_id) not in left.copies])
        if held != copies_wanted:
            too_few = "ONE_COPY_LEFT" if held == 1 else "TOO_FEW_COPIES"
            missing[too_few if held < copies_wanted else "TOO_MANY_COPIES"].append(volume_id)
    findings = [found for code, volume_ids in missing.items() for found in copies(cluster, code, volume_ids)]
    half = _half_read_only(topology)
    read_only, full = _refusing(topology, half, left.frozen, low)
    # Writes come back by themselves where a disk has room again, and not before.
    for server, count in Counter(str(one.server) for one in full).items():
        why = f"{count} volumes are read-only there for want of room; they take writes again when it has room"
        findings.append(Finding("READ_ONLY_NO_ROOM", f"volume server {server}", why))
    findings += _read_only(cluster, read_only, half, left.frozen, jobs, past)
    findings += ambiguous(topology)
    if not findings:
        what = f"{len(topology.volumes)}, none left read-only, all with their copies"
        findings.append(Finding("OK", "volumes", what))
    return findings


def _refusing(
    topology: Topology,
    half: Mapping[int, Sequence[Replica]],
    frozen: Mapping[tuple[Address, int], str],
    low: Collection[Address],
) -> tuple[list[Replica], list[Replica]]:
    """The replicas that refuse writes though their volume is not full: those that need a reason, those without room."""
    refusing = [
        replica
        for volume_id, replicas in sorted(topology.volumes.items())
        for replica in replicas
        if replica.read_only
        and not replica.remote_name
        and (replica.size < topology.volume_size_limit or volume_id in half)
    ]
    full = {
        id(one)
        for one in refusing
        if one.server in low and (one.server, one.volume_id) not in frozen and one.volume_id not in half
    }
    return [one for one in refusing if id(one) not in full], [one for one in refusing if id(one) in full]


def _read_only(
    cluster: Cluster,
    read_only: Sequence[Replica],
    half: Mapping[int, Sequence[Replica]],
    frozen: Mapping[tuple[Address, int], str],
    jobs: Sequence[AdminJob],
    past: Past,
) -> list[Finding]:
    """Who keeps these read-only, else what is to be done about it."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        still = list(pool.map(lambda replica: is_read_only(cluster, replica), read_only[:ASKED_AFRESH]))
    shut = [replica for replica, is_so in zip(read_only, still) if is_so]
    ids, left = {replica.volume_id for replica in shut}, {volume_id for _server, volume_id in frozen}
    # A worker that keeps no lease is known to work on a volume only by its admin.
    holders = {number: f"{job} (as its admin says)" for job in jobs for number in job.volume_ids if number in ids}
    holders |= holders_of(cluster, ids - left)
    recorded = _recorded(cluster, ids - left - set(holders))
    findings = _held(holders, recorded.values())
    for replica in shut:
        if replica.volume_id in holders:
            continue
        found = _left_read_only(replica, frozen.get((replica.server, replica.volume_id), ""), past)
        if replica.volume_id in recorded:
            if replica.volume_id not in half:
                continue
            found = replace(found, what=recorded[replica.volume_id].text(), fix=END_HOLD)
        takes = [other for other in half.get(replica.volume_id, ()) if not is_read_only(cluster, other)]
        findings.append(_while_others_write(found, takes) if takes else found)
    if len(read_only) > ASKED_AFRESH:
        what = f"{len(read_only) - ASKED_AFRESH} more are read-only"
        findings.append(Finding("READ_ONLY", "volumes", what, "mend these first, then repeat"))
    return findings


def _recorded(cluster: Cluster, volume_ids: Collection[int]) -> dict[int, Hold]:
    """What filers have on record of these volumes; nothing of what they cannot tell."""
    try:
        told = read_holds(Context(cluster, Journal.memory())) if volume_ids else []
    except TaskError:
        return {}
    return {hold.volume_id: hold for hold in told if hold.volume_id in volume_ids}


def _held(holders: Mapping[int, str], recorded: Iterable[Hold]) -> list[Finding]:
    """One note for each worker whose job keeps volumes read-only now, and for each job that left volumes so."""
    findings = []
    workers: dict[str, dict[int, str]] = defaultdict(dict)
    for volume_id, holder in sorted(holders.items()):
        worker, _space, what = holder.partition(" (")
        workers[worker][volume_id] = f" ({what}" if what else ""
    for worker, held in sorted(workers.items()):
        what = f"read-only while a job is under way: {worker}{next(iter(held.values()))}"
        findings.append(
            Finding("HELD", some(list(held)), what + (", and the like" if len(set(held.values())) > 1 else ""))
        )
    jobs: dict[tuple[str, str, bool], list[Hold]] = defaultdict(list)
    for hold in recorded:
        jobs[hold.why, hold.who, hold.is_over].append(hold)
    for (_why, _who, is_over), left in sorted(jobs.items()):
        last = max(left, key=lambda hold: hold.until)
        code, where = "HOLD_OVER" if is_over else "HELD", some(sorted(hold.volume_id for hold in left))
        findings.append(Finding(code, where, last.text(), END_HOLD if is_over else ""))
    return findings


def is_read_only(cluster: Cluster, replica: Replica) -> bool:
    """Ask the server itself, since the master's word is a heartbeat old; that word where the server does not say."""
    try:
        return cluster.volume(replica.server).volume_status(volume_id=replica.volume_id, timeout=ASK).is_read_only
    except ServerFailed as error:
        return replica.read_only and not error.says_absent
    except TaskError:
        return replica.read_only


def _left_read_only(replica: Replica, owner: str, past: Past) -> Finding:
    where = f"volume {replica.volume_id} on {replica.server}"
    if owner:
        what = f"left read-only by {owner}"
        fix = "start that worker or run again; it makes the volume writable"
        return Finding("READ_ONLY", where, what, fix, (replica.volume_id,))
    shut = past.shut.get(replica.volume_id)
    return Finding(
        "READ_ONLY",
        where,
        "read-only although not full, and no journal here says why (a full disk, an operator, another worker)"
        + (f"; {shut.text()}" if shut else ""),
        f"if nobody needs it so: weed_worker undo -volumeId={replica.volume_id}; it compares its replicas first",
        (replica.volume_id,),
    )


def _half_read_only(topology: Topology) -> dict[int, list[Replica]]:
    """The copies that take writes of the volumes of which another copy does not."""
    return {
        volume_id: [replica for replica in replicas if not replica.read_only]
        for volume_id, replicas in topology.volumes.items()
        if len({replica.read_only for replica in replicas}) > 1
    }


def _while_others_write(found: Finding, takes: Sequence[Replica]) -> Finding:
    """The finding about a copy that is read-only while others of its volume are not."""
    servers = ", ".join(str(replica.server) for replica in takes)
    harm = (
        f"the copy on {servers} takes writes: clients' writes fail, yet are stored there, and the copies come to differ"
    )
    return replace(found, code="HALF_READ_ONLY", what=f"{found.what}; {harm}")
