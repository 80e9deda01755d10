"""Where single shards of a volume may go beside those that are there: by host, rack and free bytes.

Pure: works on a topology, asks no server. For all fourteen at once see placement.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from weed_cluster.replica_placement import plain_type
from weed_cluster.topology import Disk, Node, Topology
from weed_ec.placement import crowded
from weed_ec.stream import Slot
from weed_storage.ec_layout import MOST_TOGETHER

RESERVE = 1 << 30
"""Bytes that must stay free on a disk, as far as is known what is free there."""


def choose_places(
    topology: Topology, held: Mapping[int, Iterable[Node]], shards: Iterable[int], size: int, disk_type: str
) -> tuple[dict[int, Slot], str]:
    """Choose places for shards of one volume alone; see Places.choose()."""
    return Places(topology).choose(held, shards, size, disk_type)


@dataclass(frozen=True)
class _Disk:
    """One physical disk that may be given shards."""

    node: Node
    disk: Disk
    kind: str
    id: int
    free: int  # shards, by slots
    room: float  # bytes, for choosing
    told: float  # bytes that may be written, as far as the server tells them of this disk

    @property
    def name(self) -> tuple[str, str, int]:
        return self.node.id, self.kind, self.id


class Places:
    """The disks of a cluster, from which volume after volume gets places for some of its shards.

    What was chosen is promised and not given twice. Closed nodes get nothing, nor those whose ids are `spared`.
    """

    def __init__(self, topology: Topology, spared: Collection[str] = ()) -> None:
        self._topology = topology
        self._disks = [
            _Disk(
                node,
                disk,
                plain_type(disk.type),
                disk_id,
                disk.free_shards(disk_id),
                disk.free_by_disk.get(disk_id, disk.free_bytes),
                disk.free_by_disk[disk_id] - RESERVE if disk_id in disk.free_by_disk else float("inf"),
            )
            for node in topology.nodes.values()
            if not node.closed and node.id not in spared
            for disk in node.disks.values()
            for disk_id in disk.physical
        ]
        self._shards: Counter[tuple[str, str, int]] = Counter()  # promised to a disk
        self._bytes: Counter[tuple[str, str, int]] = Counter()
        self._bytes_of_kind: Counter[tuple[str, str]] = Counter()  # promised to all disks of a type on a node

    def choose(
        self, held: Mapping[int, Iterable[Node]], shards: Iterable[int], size: int, disk_type: str
    ) -> tuple[dict[int, Slot], str]:
        """Choose a place for each of these shards, of `size` bytes, beside the others that nodes hold.

        No host gets more than four while there is another way; then racks, hosts and servers with the fewest shards of
        the volume come first, disks of the type, and those with most room. Returns the places, and why the others have
        none, or what is not as it should be with those that have; "" where all is well.
        """
        on: Counter[tuple[str, ...]] = Counter()
        holders: dict[str, Node] = {}
        for nodes in held.values():
            for node in nodes:
                holders[node.id] = node
                _count(on, node)
        readable = self._readable(list(holders.values()))
        places: dict[int, Slot] = {}
        for shard in shards:
            fitting = [disk for disk in readable if self._fits(disk, size)]
            if not fitting:
                return places, _why_none(self._topology, size)
            best = min(fitting, key=lambda disk: self._rank(on, disk, disk_type))
            places[shard] = Slot(best.node.address, best.id)
            self._promise(best, size)
            _count(on, best.node)
        hosts = Counter({key[1]: count for key, count in on.items() if key[0] == "host"})
        return places, crowded(hosts.elements())

    def take_back(self, places: Iterable[Slot], size: int) -> None:
        """Promise these places, chosen for shards of so many bytes, to nobody after all."""
        for slot in places:
            for disk in self._disks:
                if (disk.node.address, disk.id) == (slot.server, slot.disk_id):
                    self._promise(disk, size, -1)

    def _promise(self, disk: _Disk, size: int, count: int = 1) -> None:
        self._shards[disk.name] += count
        self._bytes[disk.name] += count * size
        self._bytes_of_kind[disk.node.id, disk.kind] += count * size

    def _readable(self, holders: Sequence[Node]) -> Sequence[_Disk]:
        """The disks of servers that can read what the holders have, as far as builds were asked for."""
        builds, why = self._topology.builds, dict[object, str]()
        if not builds:
            return self._disks
        for disk in self._disks:
            build = builds.get(disk.node.address)
            if build not in why:
                why[build] = self._topology.all_unlike(holders, disk.node)
        return [disk for disk in self._disks if not why[builds.get(disk.node.address)]]

    def _fits(self, disk: _Disk, size: int) -> bool:
        name = disk.name
        return (
            disk.free > self._shards[name]
            and self._bytes_of_kind[name[0], name[1]] + size <= disk.disk.bytes_left
            and self._bytes[name] + size <= disk.told
        )

    def _rank(self, on: Counter[tuple[str, ...]], disk: _Disk, disk_type: str) -> tuple[object, ...]:
        node = disk.node
        return (
            on["host", node.host] >= MOST_TOGETHER,
            on["rack", node.data_center, node.rack],
            on["host", node.host],
            on["node", node.id],
            disk.kind != plain_type(disk_type),
            self._shards[disk.name],
            -disk.room,
            node.id,
            disk.id,
        )


def _count(on: Counter[tuple[str, ...]], node: Node) -> None:
    on["host", node.host] += 1
    on["rack", node.data_center, node.rack] += 1
    on["node", node.id] += 1


def _why_none(topology: Topology, size: int) -> str:
    nodes = sorted(topology.nodes.values(), key=lambda node: node.id)
    closed = [node.closed for node in nodes if node.closed]
    words = f"no server has room for a shard of {size >> 20} MiB"
    return "; ".join([words, *closed[:3]])
