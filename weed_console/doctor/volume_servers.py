"""What is wrong with volume servers: reach, room, builds, modes, ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from proto_gen import volume_server_pb2 as v
from weed_cluster.address import Address
from weed_cluster.builds import Build
from weed_cluster.client import Cluster
from weed_cluster.topology import Node, Topology
from weed_cluster.volume_server import VolumeServer
from weed_console.doctor.finding import ASK, AT_ONCE, Finding, several
from weed_console.doctor.reach import clock, how_to_reach, skew_of, words_of
from weed_core.errors import ServerFailed, WeedError

FULL = 5.0
"""Percent of a disk below which its server refuses writes, or soon will: its -minFreeSpace is not told."""

NEARLY_FULL = 10.0
"""Percent of a disk that should be free."""


@dataclass(frozen=True)
class Look:
    """What one server said: what is wrong with it, its version, and whether a disk of it has no room for writes."""

    findings: list[Finding]
    version: str = ""
    is_low: bool = False


def look_at_servers(cluster: Cluster, topology: Topology) -> tuple[list[Finding], list[Address]]:
    """What is wrong with volume servers; and those of which a disk has no room."""
    nodes = sorted(topology.nodes.values(), key=lambda node: str(node.address))
    shut = _shut(topology)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        looks = list(pool.map(lambda node: _server(cluster, node, node.id in shut), nodes))
    findings = [finding for look in looks for finding in look.findings]
    versions = sorted({_release(look.version) for look in looks if look.version})
    findings += _builds({str(node.address): Build(look.version) for node, look in zip(nodes, looks) if look.version})
    if len(versions) > 1:
        what = f"they run different versions: {', '.join(versions)}"
        fix = "bring all to one version: moves between versions may be refused"
        findings.append(Finding("VERSIONS_MIXED", "volume servers", what, fix))
    findings += [
        Finding(
            "TWO_SERVERS_ONE_ID",
            f"volume servers {several(addresses)}",
            f"are both {node_id!r} to the master, which takes one for the other: it loses sight of volumes of each",
            "stop one, give it an -id of its own, or its own -ip and -port, and start it again",
        )
        for node_id, addresses in sorted(topology.twins.items())
    ]
    return findings, [node.address for node, look in zip(nodes, looks) if look.is_low]


def _shut(topology: Topology) -> set[str]:
    """The ids of nodes of which no volume takes writes, though some are not full: as below the free-space limit."""
    takes: dict[str, set[bool]] = defaultdict(set)
    for replicas in topology.volumes.values():
        for replica in replicas:
            if not replica.remote_name and replica.size < topology.volume_size_limit:
                takes[replica.node.id].add(not replica.read_only)
    return {node_id for node_id, found in takes.items() if found == {False}}


def _server(cluster: Cluster, node: Node, is_shut: bool) -> Look:
    where, server = f"volume server {node.address}", cluster.volume(node.address)
    try:
        told = server.volume_server_status(timeout=ASK)
        skew = skew_of(lambda: server.ping(timeout=ASK).start_time_ns)
    except WeedError as error:
        reach = how_to_reach("volume server", node.address.grpc, error)
        return Look([Finding("SERVER_UNREACHABLE", where, words_of(error), reach)])
    low = [disk for disk in told.disk_statuses if disk.all and disk.percent_free < (NEARLY_FULL if is_shut else FULL)]
    findings = clock(where, skew) + [_room(where, disk, disk in low) for disk in told.disk_statuses if _is_short(disk)]
    findings += _modes(server, node, where)
    if not findings:
        slots = sum(disk.max_volume_count for disk in node.disks.values())
        used = sum(disk.volume_count for disk in node.disks.values())
        findings = [Finding("OK", where, f"version {_release(told.version) or 'unknown'}, {used} volumes of {slots}")]
    return Look(findings, told.version, bool(low))


def _is_short(disk: v.DiskStatus) -> bool:
    return bool(disk.all) and disk.percent_free < NEARLY_FULL


def _room(where: str, disk: v.DiskStatus, is_low: bool) -> Finding:
    left = f"only {disk.percent_free:.1f}% of {disk.dir} is free"
    if not is_low:
        return Finding("DISK_NEARLY_FULL", where, left, "add a disk or a server, then: weed_worker run balance")
    what = f"{left}: its volumes turn read-only, and nothing but room opens them again"
    return Finding("DISK_FULL", where, what, "add a disk or a server, then: weed_worker run balance")


def _modes(server: VolumeServer, node: Node, where: str) -> list[Finding]:
    """Whether a server refuses jobs, or us."""
    findings = []
    try:
        if server.get_state(timeout=ASK).state.maintenance:
            fix = f"weed shell: volumeServer.state -nodes {node.address.http} -maintenanceOff"
            findings.append(
                Finding("SERVER_MAINTENANCE", where, "it is in maintenance mode and refuses every job", fix)
            )
    except ServerFailed:
        pass  # servers before 4.13 have no such mode
    try:
        server.volume_needle_status(volume_id=0, timeout=ASK)  # asks for admin rights, and there is no volume 0
    except ServerFailed as error:
        if error.code == "PERMISSION_DENIED":
            what, fix = f"this host may not give it orders: {error.detail}", "add this host's address to its -whiteList"
            findings.append(Finding("SERVER_REFUSES", where, what, fix))
    return findings


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
            "BUILDS_MIXED",
            "volume servers",
            f"they are of two builds, and neither reads the other's files: {said}",
            "run one build everywhere; until then no copy, shard or repair goes from one to the other",
        )
    ]
