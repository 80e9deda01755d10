"""Why maintenance may not work here: looks at all that a worker needs, changes nothing, names a fix for each find.

Ordinary blocking Python; knows nothing of how its finds are shown.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weed_cluster import admin as admin_http
from weed_cluster.address import Address
from weed_cluster.builds import Build
from weed_cluster.client import Cluster
from weed_cluster.past import Past, ranges
from weed_cluster.replica_placement import plain_type
from weed_cluster.security import Security
from weed_cluster.topology import EcHolding, Node, Replica, Topology, snapshot
from weed_cluster.volume_server import MasterAt
from weed_console.remedies import JUDGED, Remedy
from weed_console.remedies import find as remedy_of
from weed_core.errors import ServerFailed, TaskError, WeedError
from weed_core.values import Value
from weed_safety.context import Context
from weed_safety.freeze import Frozen
from weed_safety.holds import Hold
from weed_safety.holds import read_all as read_holds
from weed_safety.journal import DAMAGED, SUFFIX, Entry, Journal, peek
from weed_safety.lease import holder_of
from weed_storage.ec_layout import DATA_SHARDS, TOTAL_SHARDS

OK, NOTE, WARNING, PROBLEM = "ok", "note", "warning", "problem"

ASK = 8.0
"""Deadline in seconds of each question."""

AT_ONCE = 16
"""Servers asked at once."""

SKEW = 2.0
"""Seconds by which a server's clock may differ from this host's."""

FULL = 5.0
"""Percent of a disk that should be free: servers refuse writes when it gets low (-minFreeSpace)."""

WORK_SPACE = 64 << 20
"""Bytes that the working directory should have free: journals are small, task logs grow."""

MOST_IDS = 1_000_000
"""Volume ids up to which gaps are looked for."""

ENCODE_NOW: dict[str, Value] = {"min_size_mb": 1, "fullness_ratio": 0, "quiet_for_seconds": 0}
"""Settings with which erasure coding takes up an encode that did not end, of a volume that it would not choose."""

END_HOLD = "weed_worker undo; it compares the replicas and opens them together when that time is over"

ASKED_AFRESH = 200
"""Read-only volumes whose server is asked whether they still are."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `level`: ok and note are healthy, warning and problem have a fix."""

    level: str
    where: str
    what: str
    fix: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether something should be done about it."""
        return self.level in (WARNING, PROBLEM)

    def text(self) -> str:
        """What was seen, and the fix."""
        return f"{self.what}. Fix: {self.fix}" if self.fix else self.what

    def document(self) -> dict[str, Any]:
        """The finding in JSON."""
        return {"level": self.level, "where": self.where, "what": self.what, "fix": self.fix}


def examine(
    cluster: Cluster,
    security: Security,
    admin: Address | None,
    directories: Sequence[Path],
    remember: Callable[[Topology, bool], Past],
    narrow: Callable[[Topology], Topology],
) -> list[Finding]:
    """Look at everything: TLS, admin, masters, volume servers, volumes, shards, and our own directories.

    `remember` takes the look at the whole cluster and tells what it was. Who is missing comes first. `narrow` leaves
    the volumes that are asked about.
    """
    findings = [Finding(OK, "TLS", security.describe())]
    findings += [Finding(NOTE, "TLS", warning) for warning in security.warnings]
    findings += _directories(directories)
    if admin is not None:
        findings += _admin(admin)
    masters, reachable = _masters(cluster)
    findings += masters
    if not reachable:
        return findings
    try:
        topology = snapshot(cluster.master())
    except WeedError as error:
        return [*findings, Finding(PROBLEM, "masters", str(error), "start volume servers, or wait a minute and repeat")]
    servers, low = _servers(cluster, topology)
    findings += servers
    asked = narrow(topology)
    findings += _volumes(cluster, asked, _frozen_by(directories), low)
    findings += _shards(cluster, asked)
    findings += _full(topology)
    return _missing(remember(topology, True), topology) + findings


def with_tls_problem(findings: Sequence[Finding], problem: str) -> list[Finding]:
    """What was found without TLS because it cannot be used as configured: that comes first, and explains the rest."""
    fix = "mend that file, or name another directory with -config_dir; until then no worker starts with it"
    return [Finding(PROBLEM, "TLS", problem, fix), *(found for found in findings if found.where != "TLS")]


# ---- what is ours -------------------------------------------------------------------------------------------------


def _directories(directories: Iterable[Path]) -> list[Finding]:
    findings = []
    for directory in directories:
        where = str(directory)
        if not directory.exists():
            findings.append(Finding(NOTE, where, "not there yet; no worker or run was started with it"))
            continue
        if not os.access(directory, os.W_OK | os.X_OK):
            findings.append(
                Finding(
                    PROBLEM,
                    where,
                    "this user cannot write there",
                    f"chown {os.getuid()} it, or name another -workingDir",
                )
            )
            continue
        free = shutil.disk_usage(directory).free
        if free < WORK_SPACE:
            findings.append(
                Finding(
                    PROBLEM,
                    where,
                    f"only {free >> 20} MiB free",
                    "make room: no job starts when its journal cannot be written",
                )
            )
        findings += _journals(directory)
        damaged = [path.name for folder in ("journal", "owed") for path in (directory / folder).glob("*" + DAMAGED)]
        if damaged:
            findings.append(
                Finding(
                    PROBLEM,
                    where,
                    f"damaged records were set aside: {', '.join(sorted(damaged)[:3])}",
                    "read them, mend the volumes they name by hand, then remove them",
                )
            )
        if not any(finding.where == where for finding in findings):
            findings.append(Finding(OK, where, f"writable, {free >> 30} GiB free, nothing left to undo"))
    return findings


def _journals(directory: Path) -> list[Finding]:
    unfinished = [entry for entry in peek(directory / "journal") if entry.open]
    if not unfinished:
        return []
    jobs = ", ".join(_job(entry) for entry in unfinished[:3]) + (", ..." if len(unfinished) > 3 else "")
    if _is_held(directory):
        return [Finding(NOTE, str(directory), f"{len(unfinished)} jobs are under way: {jobs}")]
    again = "weed_worker run" if directory.name.startswith("console-") else f"the worker with -workingDir={directory}"
    return [
        Finding(
            WARNING,
            str(directory),
            f"killed jobs left changes behind: {jobs}",
            f"start {again}; it undoes them first",
        )
    ]


def _job(entry: Entry) -> str:
    return f"{entry.job_type} of volume {', '.join(map(str, entry.volume_ids)) or 'unknown'} ({entry.job_id})"


def _is_held(directory: Path) -> bool:
    """Whether a worker or a run uses the directory now."""
    for name in ("worker.lock", "lock"):
        try:
            with (directory / name).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            continue
        except OSError:
            return True
    return False


def _frozen_by(directories: Iterable[Path]) -> dict[tuple[Address, int], str]:
    """Which journal's job made a volume read-only on a server; jobs under way tell by their leases."""
    frozen = {}
    for directory in filter(lambda place: not _is_held(place), directories):
        for entry in peek(directory / "journal"):
            for step in entry.open:
                found = Frozen.of(step)
                if found is not None:
                    frozen[found.server, found.volume_id] = (
                        f"{_job(entry)}, journal {directory / 'journal' / entry.id}{SUFFIX}"
                    )
    return frozen


# ---- admin and masters --------------------------------------------------------------------------------------------


def _admin(admin: Address) -> list[Finding]:
    where = f"admin {admin}"
    found = admin_http.probe(admin)
    if not found.dialect:
        code, _answer = admin_http.get(admin, "/health")
        if not code:
            return [
                Finding(
                    PROBLEM,
                    where,
                    f"nothing answers HTTP at {admin.http}",
                    "start weed admin, open the port, or mend -admin",
                )
            ]
    try:
        with socket.create_connection((found.grpc.host.strip("[]"), found.grpc.grpc_port), ASK):
            pass
    except OSError as error:
        return [
            Finding(
                PROBLEM,
                where,
                f"its gRPC port {found.grpc.grpc} cannot be reached: {error.strerror or error}",
                "open that port between this host and admin, or name it: -admin=host:port.grpcPort",
            )
        ]
    said = f"{found.dialect} dialect" if found.dialect else "it did not tell its dialect (a password?)"
    findings = [Finding(OK, where, f"gRPC at {found.grpc.grpc}, {said}")]
    page = "/api/plugin/workers" if found.dialect == "plugin" else "/api/maintenance/workers"
    code, workers = admin_http.get(admin, page)
    if code == 200 and not workers:
        findings.append(
            Finding(WARNING, where, "no worker is connected to it", f"start one: weed_worker -admin={admin}")
        )
    elif code == 200:
        findings.append(Finding(OK, where, f"{len(workers)} workers connected"))
    return findings


def _masters(cluster: Cluster) -> tuple[list[Finding], bool]:
    """What each master says; and whether any answers."""
    findings: list[Finding] = []
    leaders: dict[str, list[str]] = defaultdict(list)
    try:
        cluster.master().find()  # so that its peers are looked at, too
    except WeedError:
        pass
    for address in cluster.masters:
        where, master = f"master {address}", MasterAt(cluster.channels, address, cluster.leash)
        try:
            leader = master.get_master_configuration(timeout=ASK).leader
            skew = _skew(lambda master=master: master.ping(timeout=ASK).start_time_ns)  # type: ignore[misc]
        except WeedError as error:
            findings.append(Finding(PROBLEM, where, _words(error), _reach("master", address.grpc, error)))
            continue
        leaders[leader].append(str(address))
        findings.append(Finding(OK, where, f"answers; leader is {Address.parse(leader) if leader else 'not elected'}"))
        findings += _clock(where, skew)
    if "" in leaders:
        findings.append(
            Finding(PROBLEM, "masters", "no leader is elected", "start the other masters: more than half must run")
        )
    if len({_endpoint(leader) for leader in leaders if leader}) > 1:
        findings.append(
            Finding(
                PROBLEM, "masters", f"they follow different leaders: {', '.join(leaders)}", "name one cluster's masters"
            )
        )
    return findings, bool(leaders)


def _endpoint(text: str) -> str:
    return Address.parse(text).grpc


# ---- volume servers -----------------------------------------------------------------------------------------------


def _servers(cluster: Cluster, topology: Topology) -> tuple[list[Finding], list[Address]]:
    """What is wrong with volume servers; and those of which a disk has no room."""
    nodes = sorted(topology.nodes.values(), key=lambda node: str(node.address))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        looked = list(pool.map(lambda node: _server(cluster, node), nodes))
    findings = [finding for found, _told, _is_low in looked for finding in found]
    versions = sorted({_release(told) for _found, told, _is_low in looked if told})
    builds = {str(node.address): Build(told) for node, (_found, told, _is_low) in zip(nodes, looked) if told}
    findings += _builds(builds)
    if len(versions) > 1:
        findings.append(
            Finding(
                WARNING,
                "volume servers",
                f"they run different versions: {', '.join(versions)}",
                "bring all to one version: moves between versions may be refused",
            )
        )
    return findings, [node.address for node, (_found, _version, is_low) in zip(nodes, looked) if is_low]


def _server(cluster: Cluster, node: Node) -> tuple[list[Finding], str, bool]:
    """What is wrong with one volume server, the version that it tells, and whether a disk of it has no room."""
    where, server = f"volume server {node.address}", cluster.volume(node.address)
    try:
        told = server.volume_server_status(timeout=ASK)
        skew = _skew(lambda: server.ping(timeout=ASK).start_time_ns)
    except WeedError as error:
        return [Finding(PROBLEM, where, _words(error), _reach("volume server", node.address.grpc, error))], "", False
    findings = _clock(where, skew)
    for disk in told.disk_statuses:
        if disk.all and disk.percent_free < FULL:
            findings.append(
                Finding(
                    WARNING,
                    where,
                    f"only {disk.percent_free:.1f} % of {disk.dir} is free; its volumes turn read-only",
                    "add a disk or a server, then: weed_worker run balance",
                )
            )
    try:
        if server.get_state(timeout=ASK).state.maintenance:
            findings.append(
                Finding(
                    PROBLEM,
                    where,
                    "it is in maintenance mode and refuses every job",
                    f"weed shell: volumeServer.state -nodes {node.address.http} -maintenanceOff",
                )
            )
    except ServerFailed:
        pass  # servers before 4.13 have no such mode
    try:
        server.volume_needle_status(volume_id=0, timeout=ASK)  # asks for admin rights, and there is no volume 0
    except ServerFailed as error:
        if error.code == "PERMISSION_DENIED":
            findings.append(
                Finding(
                    PROBLEM,
                    where,
                    f"this host may not give it orders: {error.detail}",
                    "add this host's address to -whiteList of that server",
                )
            )
    if not findings:
        slots = sum(disk.max_volume_count for disk in node.disks.values())
        used = sum(disk.volume_count for disk in node.disks.values())
        findings = [Finding(OK, where, f"version {_release(told.version) or 'unknown'}, {used} volumes of {slots}")]
    is_low = any(disk.all and disk.percent_free < FULL for disk in told.disk_statuses)
    return findings, told.version, is_low


def _release(told: str) -> str:
    """The release in "30GB 4.44 1a2b3c": between the largest volume's size and the commit."""
    words = told.split()
    return words[1] if len(words) > 1 else "".join(words)


def _builds(builds: Mapping[str, Build]) -> list[Finding]:
    """Say which servers are of which build, where there are two."""
    servers: dict[int, list[str]] = defaultdict(list)
    for server, build in builds.items():
        servers[build.offset_bytes].append(server)
    if len(servers) < 2:
        return []
    said = "; ".join(f"{builds[those[0]]}: {', '.join(those)}" for _width, those in sorted(servers.items()))
    return [
        Finding(
            PROBLEM,
            "volume servers",
            f"they are of two builds, and neither reads the other's files: {said}",
            "run one build everywhere; until then no copy, shard or repair goes from one to the other",
        )
    ]


def _skew(ask: Callable[[], int]) -> float:
    """Seconds by which a server's clock is ahead, beyond what the call took."""
    before = time.time()
    theirs = ask() / 1e9
    after = time.time()
    return theirs - after if theirs > after else min(0.0, theirs - before)


def _clock(where: str, skew: float) -> list[Finding]:
    if abs(skew) < SKEW:
        return []
    ahead = "ahead of" if skew > 0 else "behind"
    return [Finding(WARNING, where, f"its clock is {abs(skew):.1f} s {ahead} this host's", "let NTP keep both clocks")]


def _words(error: WeedError) -> str:
    return f"{error.call}: {error.detail or error.code}" if isinstance(error, ServerFailed) else str(error)


def _reach(role: str, endpoint: str, error: WeedError) -> str:
    text = str(error).lower()
    if any(word in text for word in ("tls", "ssl", "certificate", "handshake", "socket closed", "reset by peer")):
        return (
            f"{endpoint} and this host differ in TLS: set [grpc] ca and [grpc.worker] cert and key in security.toml"
            " as the servers have it, signed by their CA"
        )
    if "frame" in text or "http/2" in text:
        return f"{endpoint} is no gRPC port, or wants TLS: name host:port.grpcPort, or set up security.toml"
    return f"start the {role}, or open {endpoint} between this host and it"


# ---- who is missing ------------------------------------------------------------------------------------------------


def _missing(past: Past, topology: Topology) -> list[Finding]:
    """The servers that were here and are not, worst first; where there is no memory yet, the ids that are nowhere."""
    findings = []
    for loss in past.lost:
        level = PROBLEM if loss.gone else WARNING if loss.fewer else NOTE
        fix = f"start it; only if it is lost for good: weed_worker run replication, then doctor -forget={loss.server}"
        if level == NOTE:
            fix = f"if it will not come back: weed_worker doctor -forget={loss.server}"
        findings.append(Finding(level, f"volume server {loss.server}", loss.text(), fix))
    known = {*topology.volumes, *(volume_id for volume_id, _collection in topology.ec)}
    gaps = set(range(1, max(known, default=0))) - known if max(known, default=0) < MOST_IDS else set()
    if past.is_first and gaps:
        shown = ranges(gaps).split(",")
        more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
        what = f"ids that no server has: {', '.join(shown[:10])}{more}: deleted, or lost before this first look"
        findings.append(Finding(NOTE, "volumes", what))
    return findings


# ---- volumes and shards -------------------------------------------------------------------------------------------


def _volumes(
    cluster: Cluster, topology: Topology, frozen: dict[tuple[Address, int], str], low: Collection[Address]
) -> list[Finding]:
    findings = []
    read_only: list[Replica] = []
    half = _half_read_only(topology)
    missing: dict[str, list[int]] = defaultdict(list)
    for volume_id, replicas in sorted(topology.volumes.items()):
        placement, held = replicas[0].placement, len(replicas)
        if held != placement.copies:
            missing[f"{'too few' if held < placement.copies else 'too many'} copies"].append(volume_id)
        read_only += [
            replica
            for replica in replicas
            if replica.read_only
            and not replica.remote_name
            and (replica.size < topology.volume_size_limit or volume_id in half)
        ]
    for what, volume_ids in missing.items():
        findings += _copies(cluster, what, volume_ids)
    # Writes come back by themselves where a disk has room again, and not before.
    full = [
        one
        for one in read_only
        if one.server in low and (one.server, one.volume_id) not in frozen and one.volume_id not in half
    ]
    read_only = [one for one in read_only if one not in full]
    for server, count in Counter(str(one.server) for one in full).items():
        why = f"{count} volumes are read-only there for want of room; they take writes again when it has room"
        findings.append(Finding(NOTE, f"volume server {server}", why))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        still = list(pool.map(lambda replica: _is_read_only(cluster, replica), read_only[:ASKED_AFRESH]))
    shut = [replica for replica, is_so in zip(read_only, still) if is_so]
    left = {volume_id for _server, volume_id in frozen}
    holders = _holders(cluster, {replica.volume_id for replica in shut} - left)
    recorded = _recorded(cluster, {replica.volume_id for replica in shut} - left - set(holders))
    findings += _held(holders, recorded.values())
    for replica in shut:
        if replica.volume_id in holders:
            continue
        found = _left_read_only(replica, frozen.get((replica.server, replica.volume_id), ""))
        if replica.volume_id in recorded:
            if replica.volume_id not in half:
                continue
            found = replace(found, what=recorded[replica.volume_id].text(), fix=END_HOLD)
        takes = [other for other in half.get(replica.volume_id, ()) if not _is_read_only(cluster, other)]
        findings.append(_while_others_write(found, takes) if takes else found)
    findings += _ambiguous(topology)
    if len(read_only) > ASKED_AFRESH:
        findings.append(
            Finding(
                WARNING,
                "volumes",
                f"{len(read_only) - ASKED_AFRESH} more are read-only",
                "mend these first, then repeat",
            )
        )
    if not findings:
        findings.append(Finding(OK, "volumes", f"{len(topology.volumes)}, none left read-only, all with their copies"))
    return findings


def _copies(cluster: Cluster, what: str, volume_ids: Sequence[int]) -> list[Finding]:
    """Volumes with too few or too many copies, with what mends them: nothing is named that its job would not do."""
    tries: list[dict[str, Value]] = [{}, {"delete_surplus": True}] if "many" in what else [{}]
    remedies = {number: remedy_of(cluster, "replication", number, *tries) for number in volume_ids[:JUDGED]}
    alike = [number for number in volume_ids if number not in remedies or remedies[number].is_plain]
    findings = [Finding(WARNING, _some(alike), what, "weed_worker run replication")] if alike else []
    for number, remedy in remedies.items():
        if number not in alike:
            findings.append(_told(f"volume {number}", what, "replication", remedy))
    return findings


def _told(where: str, what: str, job: str, remedy: Remedy) -> Finding:
    if remedy.command:
        return Finding(WARNING, where, what, remedy.command)
    return Finding(WARNING, where, f"{what}; {job} leaves it: {remedy.why_not}", "mend that first, then repeat doctor")


def _holders(cluster: Cluster, volume_ids: Iterable[int]) -> dict[int, str]:
    """Who works on which of these volumes, as the masters have it; nothing of what they cannot tell."""
    held = {}
    for volume_id in volume_ids:
        try:
            if holder := holder_of(cluster, volume_id):
                held[volume_id] = holder
        except TaskError:
            break  # that no master answers is told elsewhere
    return held


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
            Finding(NOTE, _some(list(held)), what + (", and the like" if len(set(held.values())) > 1 else ""))
        )
    jobs: dict[tuple[str, str, bool], list[Hold]] = defaultdict(list)
    for hold in recorded:
        jobs[hold.why, hold.who, hold.is_over].append(hold)
    for (_why, _who, is_over), left in sorted(jobs.items()):
        last = max(left, key=lambda hold: hold.until)
        level, where = WARNING if is_over else NOTE, _some(sorted(hold.volume_id for hold in left))
        findings.append(Finding(level, where, last.text(), END_HOLD if is_over else ""))
    return findings


def _is_read_only(cluster: Cluster, replica: Replica) -> bool:
    """Ask the server itself: the master's word is a heartbeat old."""
    try:
        return cluster.volume(replica.server).volume_status(volume_id=replica.volume_id, timeout=ASK).is_read_only
    except TaskError:
        return False  # the server, or the volume's absence, is told elsewhere


def _left_read_only(replica: Replica, owner: str) -> Finding:
    where = f"volume {replica.volume_id} on {replica.server}"
    if owner:
        what = f"left read-only by {owner}"
        return Finding(WARNING, where, what, "start that worker or run again; it makes the volume writable")
    return Finding(
        WARNING,
        where,
        "read-only although not full, and no journal here says why (a full disk, an operator, another worker)",
        f"if nobody needs it so: weed_worker undo -volumeId={replica.volume_id}; it compares its replicas first",
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
    return replace(found, level=PROBLEM, what=f"{found.what}; {harm}")


def _ambiguous(topology: Topology) -> list[Finding]:
    """Volume ids that two collections use, and volumes whose copies lie on different types of disk."""
    findings = []
    users: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for volume_id, replicas in topology.volumes.items():
        for replica in replicas:
            users[volume_id][replica.collection].add(str(replica.server))
    for (volume_id, collection), holdings in topology.ec.items():
        users[volume_id][collection].update(str(holding.server) for holding in holdings)
    for volume_id, collections in sorted(users.items()):
        if len(collections) > 1:
            used = "; ".join(f"{name or '_default'} on {_several(at)}" for name, at in sorted(collections.items()))
            what = f"two collections use this id ({used}): no job touches it, and a file is read from either"
            fix = "find out which one clients mean; copy the other's files to new ids before one is deleted"
            findings.append(Finding(PROBLEM, f"volume {volume_id}", what, fix))
    for volume_id, replicas in sorted(topology.volumes.items()):
        kinds: dict[str, set[str]] = defaultdict(set)
        for replica in replicas:
            kinds[plain_type(replica.disk_type)].add(str(replica.server))
        if len(kinds) > 1:
            on = ", ".join(f"{kind} on {_several(at)}" for kind, at in sorted(kinds.items()))
            findings.append(
                Finding(
                    WARNING,
                    f"volume {volume_id}",
                    f"its copies are on different types of disk: {on}",
                    f"weed shell: volume.move -volumeId={volume_id} -disk=<type> with -source and -target",
                )
            )
    return findings


def _full(topology: Topology) -> list[Finding]:
    """The types of disk of which no server has a free slot."""
    slots: dict[str, tuple[int, int]] = {}
    for node in topology.nodes.values():
        for name, disk in node.disks.items():
            free, most = slots.get(plain_type(name), (0, 0))
            slots[plain_type(name)] = free + disk.free_slots, most + disk.max_volume_count
    return [
        Finding(
            PROBLEM,
            "volume servers",
            f"no server has a free {kind} slot of {most}: no volume can grow, and no copy, move or encode has a place",
            "add a server or a disk, raise -max of a volume server, or delete volumes",
        )
        for kind, (free, most) in sorted(slots.items())
        if not free and most
    ]


def _several(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")


def _shards(cluster: Cluster, topology: Topology) -> list[Finding]:
    findings = []
    for (volume_id, collection), holdings in sorted(topology.ec.items()):
        where = f"EC volume {volume_id}" + (f" ({collection})" if collection else "")
        if volume_id in topology.volumes:
            findings.append(_orphans(cluster, where, volume_id, holdings))
        else:
            findings += _ec_volume(where, holdings)
    if topology.ec and not findings:
        findings.append(Finding(OK, "EC volumes", f"{len(topology.ec)}, all with {TOTAL_SHARDS} shards"))
    return findings


def _runs(holdings: Iterable[EcHolding]) -> tuple[int, int, str]:
    """How many encode runs shards come from, how many shards the fullest has, and where they are."""
    runs: dict[int, set[int]] = defaultdict(set)
    servers = set()
    for holding in holdings:
        runs[holding.encode_ts_ns].update(holding.shard_ids)
        servers.add(str(holding.node))
    on = f"on {', '.join(sorted(servers)[:3])}" + (" and others" if len(servers) > 3 else "")
    return len(runs), max(map(len, runs.values())), on


def _orphans(cluster: Cluster, where: str, volume_id: int, holdings: Iterable[EcHolding]) -> Finding:
    _count, most, on = _runs(holdings)
    what = f"orphan shards ({most} of {TOTAL_SHARDS}) {on} beside the volume itself: an encode did not end"
    remedy = remedy_of(cluster, "erasure_coding", volume_id, {}, ENCODE_NOW)
    if remedy.command:
        return Finding(WARNING, where, what, f"{remedy.command}; it clears them away or completes them")
    return _told(where, what, "erasure_coding", remedy)


def _older(holdings: Iterable[EcHolding]) -> str:
    """Say where the shards of all encode runs but the newest lie."""
    found = list(holdings)
    newest = max(holding.encode_ts_ns for holding in found)
    stale = [
        f"{', '.join(map(str, holding.shard_ids))} on {holding.node}"
        for holding in found
        if holding.encode_ts_ns != newest
    ]
    return f"shards of older runs are {'; '.join(stale)}"


def _ec_volume(where: str, holdings: Sequence[EcHolding]) -> list[Finding]:
    count, most, on = _runs(holdings)
    findings = []
    if count > 1:
        findings.append(
            Finding(
                WARNING,
                where,
                f"shards of {count} different encode runs {on}; they do not fit together",
                f"{_older(holdings)}; where the newer run is whole, remove these files on their servers",
            )
        )
    if most < DATA_SHARDS:
        findings.append(
            Finding(
                PROBLEM,
                where,
                f"only {most} of {TOTAL_SHARDS} shards {on}: it cannot be read",
                "start the servers that hold the other shards",
            )
        )
    elif most < TOTAL_SHARDS:
        findings.append(
            Finding(
                WARNING,
                where,
                f"partial: {most} of {TOTAL_SHARDS} shards {on}",
                "start the servers that hold the others; where they are lost, weed shell: ec.rebuild -apply",
            )
        )
    return findings


def _some(volume_ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, volume_ids[:5])) + (f" and {len(volume_ids) - 5} more" if len(volume_ids) > 5 else "")
    return f"volume{'' if len(volume_ids) == 1 else 's'} {shown}"
