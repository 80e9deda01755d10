"""Which servers and disks are to be emptied, as an operator names them. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from weed_cluster.address import Address
from weed_cluster.topology import Node, Topology
from weed_core.guess import did_you_mean
from weed_core.text import first_of
from weed_safety.parameters import servers_known

_DISK = re.compile(r"(?P<server>.+)#(?P<disk>\d+)")


@dataclass(frozen=True)
class Leaving:
    """What is to be emptied: whole servers by node id, and single disks by node id and disk id."""

    nodes: frozenset[str] = frozenset()
    disks: frozenset[tuple[str, int]] = frozenset()

    @classmethod
    def read(cls, nodes: Sequence[str], disks: Sequence[str], topology: Topology) -> tuple[Leaving, list[str]]:
        """Find `host:port` and `host:port#disk_id` among what the masters know; say of the others that they are not."""
        unknown: list[str] = []
        whole, places = set[str](), set[tuple[str, int]]()
        for text in nodes:
            if (node := _node(text, topology, unknown)) is not None:
                whole.add(node.id)
        for text in disks:
            found = _DISK.fullmatch(text)
            if found is None:
                unknown.append(f"{text!r} is no disk; write host:port#disk_id, as in 10.0.0.1:8080#2")
                continue
            node, disk_id = _node(found["server"], topology, unknown), int(found["disk"])
            if node is None:
                continue
            there = sorted({number for disk in node.disks.values() for number in disk.physical})
            if disk_id in there:
                places.add((node.id, disk_id))
            else:
                unknown.append(f"volume server {node} has no disk {disk_id}; it has {', '.join(map(str, there))}")
        return cls(frozenset(whole), frozenset(places)), unknown

    def __bool__(self) -> bool:
        return bool(self.nodes or self.disks)

    def has(self, node: Node, disk_id: int) -> bool:
        """Whether what lies on this disk is to go."""
        return node.id in self.nodes or (node.id, disk_id) in self.disks

    def touches(self, node: Node) -> bool:
        """Whether a server is to be emptied, or one of its disks.

        Nothing is sent there: servers choose the disk by themselves, and cannot move a volume between their own.
        """
        return node.id in self.nodes or any(name == node.id for name, _disk in self.disks)

    def servers(self, topology: Topology) -> list[Address]:
        """The servers that it is about."""
        return [node.address for node in topology.nodes.values() if self.touches(node)]

    def text(self, topology: Topology) -> str:
        """Name it."""
        nodes = [str(node) for node in topology.nodes.values() if node.id in self.nodes]
        disks = [
            f"disk {disk_id} of {node}"
            for node in topology.nodes.values()
            for name, disk_id in sorted(self.disks)
            if name == node.id and name not in self.nodes
        ]
        return ", ".join([*nodes, *disks])


def _node(text: str, topology: Topology, unknown: list[str]) -> Node | None:
    """The volume server of a name; None where there is none, which is noted."""
    for address in servers_known([text], topology):
        return topology.node_at(address)
    there = sorted(str(node.address) for node in topology.nodes.values())
    unknown.append(
        f"there is no volume server {text}{did_you_mean(text, there)}; the masters list {first_of(there, 10)}"
    )
    return None
