"""What masters say."""

from __future__ import annotations

from collections import defaultdict

from weed_cluster.address import Address
from weed_cluster.client import Cluster
from weed_cluster.volume_server import MasterAt
from weed_console.doctor.finding import ASK, Finding
from weed_console.doctor.reach import clock, how_to_reach, skew_of, words_of
from weed_core.errors import WeedError


def look_at_masters(cluster: Cluster) -> tuple[list[Finding], bool]:
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
            skew = skew_of(lambda master=master: master.ping(timeout=ASK).start_time_ns)  # type: ignore[misc]
        except WeedError as error:
            findings.append(
                Finding("MASTER_UNREACHABLE", where, words_of(error), how_to_reach("master", address.grpc, error))
            )
            continue
        leaders[leader].append(str(address))
        findings.append(
            Finding("OK", where, f"answers; leader is {Address.parse(leader) if leader else 'not elected'}")
        )
        findings += clock(where, skew)
    if "" in leaders:
        findings.append(
            Finding("NO_LEADER", "masters", "no leader is elected", "start the other masters: more than half must run")
        )
    if len({_endpoint(leader) for leader in leaders if leader}) > 1:
        findings.append(
            Finding(
                "MASTERS_DISAGREE",
                "masters",
                f"they follow different leaders: {', '.join(leaders)}",
                "name one cluster's masters",
            )
        )
    return findings, bool(leaders)


def _endpoint(text: str) -> str:
    return Address.parse(text).grpc
