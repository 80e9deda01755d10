"""May these volume servers be stopped, and may they be removed for good? With the list behind each answer.

Counts on no server that does not answer. Changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from weed_cluster.address import Address
from weed_cluster.client import Cluster
from weed_cluster.topology import EcHolding, Node, Topology
from weed_console.admin_jobs import AdminJob
from weed_console.doctor.finding import ASK, AT_ONCE, several
from weed_core.errors import BadTask, ConfigError, WeedError
from weed_core.guess import meant
from weed_safety.lease import holders_of
from weed_storage.ec_layout import DATA_SHARDS, TOTAL_SHARDS

ASKED = 100
"""Volumes of which the masters are asked for the holder of the lease: they give no list."""


@dataclass
class Departure:
    """What would be if these servers went. Volume ids in each list; those in `busy` with who works on them."""

    nodes: list[Node]
    only_copies: list[int] = field(default_factory=list)  # no other server has the volume
    ec_unreadable: list[int] = field(default_factory=list)  # fewer than ten shards would be left
    ec_at_edge: list[int] = field(default_factory=list)  # exactly ten
    ec_degraded: list[int] = field(default_factory=list)  # 11 to 13
    fewer_copies: list[int] = field(default_factory=list)  # fewer than the placement asks for
    busy: dict[int, str] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)  # other servers that do not answer: nothing on them is counted
    not_asked: int = 0  # volumes of which nobody was asked whether a job works on them

    @property
    def may_stop(self) -> bool:
        """Whether every file stays readable without them, and no job is under way on their volumes."""
        return not (self.only_copies or self.ec_unreadable or self.busy)

    @property
    def may_remove(self) -> bool:
        """Whether all that they hold is in full on other servers."""
        return self.may_stop and not (self.ec_at_edge or self.ec_degraded or self.fewer_copies)

    def reasons(self) -> list[tuple[str, str, list[int]]]:
        """What speaks against it, the gravest first: against which of the two, why, and the volumes."""
        told = [
            ("stop", "have their only copy there: they cannot be read meanwhile", self.only_copies),
            ("stop", f"would have fewer than {DATA_SHARDS} shards: they cannot be read meanwhile", self.ec_unreadable),
            ("stop", "have a job under way", sorted(self.busy)),
            ("remove", f"would have exactly {DATA_SHARDS} of {TOTAL_SHARDS} shards", self.ec_at_edge),
            ("remove", "would have fewer copies than they should", self.fewer_copies),
            (
                "remove",
                f"would have {DATA_SHARDS + 1} to {TOTAL_SHARDS - 1} of {TOTAL_SHARDS} shards",
                self.ec_degraded,
            ),
        ]
        return [reason for reason in told if reason[2]]

    def document(self) -> dict[str, Any]:
        """All of it in JSON."""
        return {
            "nodes": [str(node) for node in self.nodes],
            "may_stop": self.may_stop,
            "may_remove": self.may_remove,
            "only_copies": self.only_copies,
            "ec_unreadable": self.ec_unreadable,
            "ec_at_edge": self.ec_at_edge,
            "ec_degraded": self.ec_degraded,
            "fewer_copies": self.fewer_copies,
            "busy": {str(number): who for number, who in self.busy.items()},
            "silent": self.silent,
            "not_asked": self.not_asked,
        }


def look_at_departure(
    cluster: Cluster, topology: Topology, nodes: Sequence[Node], jobs: Iterable[AdminJob]
) -> Departure:
    """What would be if these servers went; `jobs` are those that the admin counts as under way."""
    leaving = {node.id for node in nodes}
    found = Departure(list(nodes))
    others = [node for node in topology.nodes.values() if node.id not in leaving]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda node: _answers(cluster, node), others))
    found.silent = sorted(str(node) for node, is_there in zip(others, answers) if not is_there)
    staying = {node.id for node, is_there in zip(others, answers) if is_there}
    _count_copies(topology, leaving, staying, found)
    _count_shards(topology, leaving, staying, found)
    there = {
        *(number for number, held in topology.volumes.items() if any(one.node.id in leaving for one in held)),
        *(key[0] for key, held in topology.ec.items() if any(one.node.id in leaving for one in held)),
    }
    asked = sorted(there)[:ASKED]
    found.not_asked = len(there) - len(asked)
    found.busy = {number: str(job) for job in jobs for number in job.volume_ids if number in there}
    found.busy |= holders_of(cluster, asked)
    return found


def _answers(cluster: Cluster, node: Node) -> bool:
    try:
        cluster.volume(node.address).volume_server_status(timeout=ASK)
    except WeedError:
        return False
    return True


def _count_copies(topology: Topology, leaving: Collection[str], staying: Collection[str], found: Departure) -> None:
    for volume_id, replicas in sorted(topology.volumes.items()):
        if any(one.node.id in leaving for one in replicas):
            left = sum(one.node.id in staying for one in replicas)
            if not left:
                found.only_copies.append(volume_id)
            elif left < replicas[0].placement.copies:
                found.fewer_copies.append(volume_id)


def _count_shards(topology: Topology, leaving: Collection[str], staying: Collection[str], found: Departure) -> None:
    for (volume_id, _collection), holdings in sorted(topology.ec.items()):
        if volume_id in topology.volumes or not any(one.node.id in leaving for one in holdings):
            continue  # beside the volume itself, shards are what an encode left
        left = _fullest(one for one in holdings if one.node.id in staying)
        if left < DATA_SHARDS:
            found.ec_unreadable.append(volume_id)
        elif left == DATA_SHARDS:
            found.ec_at_edge.append(volume_id)
        elif left < TOTAL_SHARDS:
            found.ec_degraded.append(volume_id)


def _fullest(holdings: Iterable[EcHolding]) -> int:
    """How many shards the fullest encode run has."""
    runs: dict[int, set[int]] = defaultdict(set)
    for holding in holdings:
        runs[holding.encode_ts_ns].update(holding.shard_ids)
    return max(map(len, runs.values()), default=0)


def nodes_of(topology: Topology, words: Iterable[str]) -> list[Node]:
    """The servers that are named: by address, or all of a rack by its name or as data center/rack. ConfigError."""
    racks: dict[str, list[Node]] = defaultdict(list)
    for node in topology.nodes.values():
        racks[f"{node.data_center}/{node.rack}"].append(node)
    found: dict[str, Node] = {}
    for word in words:
        named = [node for node in topology.nodes.values() if _is_named(node, word)]
        alike = [rack for rack in racks if word in (rack, rack.partition("/")[2])]
        if not named and len(alike) > 1:
            raise ConfigError(f"-node={word} is a rack of several data centers: {', '.join(sorted(alike))}")
        named = named or [node for rack in alike for node in racks[rack]]
        if not named:
            known = [str(node) for node in topology.nodes.values()]
            guess = meant(word, [*known, *racks])
            raise ConfigError(
                f"-node={word}: the master knows no such volume server or rack; "
                + (f"did you mean {guess}?" if guess else f"there are {several(known, 6)}; racks {several(racks, 6)}")
            )
        found |= {node.id: node for node in named}
    return sorted(found.values(), key=str)


def _is_named(node: Node, word: str) -> bool:
    try:
        address = Address.parse(word)
    except BadTask:
        return word == node.id
    return word == node.id or address.http == node.address.http or address == node.address
