"""Where copies and shards may go, so that losing a machine, a rack or a data center loses no data.

Pure: works on a topology, asks no server. Disk ids, racks and hosts are taken as the master tells them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

from weed_cluster.address import Address
from weed_cluster.replica_placement import ReplicaPlacement, plain_type
from weed_cluster.topology import FULL, Node, Topology


def why_not(placement: ReplicaPlacement, holders: Sequence[Node], target: Node) -> str:
    """Say why the target may not take one more copy beside these holders; "" where it may.

    The rules are SeaweedFS's: data centers, racks and servers count, machines do not. Other machines are preferred by
    whoever chooses a target.
    """
    if any(holder.address == target.address for holder in holders):
        return f"{target} already holds a copy"
    centers = Counter(holder.data_center for holder in holders)
    if target.data_center not in centers:
        if len(centers) <= placement.other_data_centers:
            return ""
        return f"placement {placement} wants no copy outside data center {_names(centers)}"
    if centers[target.data_center] < max(centers.values()):
        return f"data center {target.data_center} has its copies already"
    racks = Counter(holder.rack for holder in holders if holder.data_center == target.data_center)
    if target.rack not in racks:
        if len(racks) <= placement.other_racks:
            return ""
        return f"placement {placement} wants no copy outside rack {_names(racks)}"
    if racks[target.rack] < max(racks.values()):
        return f"rack {target.rack} has its copies already"
    if racks[target.rack] <= placement.same_rack:
        return ""
    return f"placement {placement} wants no further copy in rack {target.rack}"


def satisfies(placement: ReplicaPlacement, holders: Sequence[Node], target: Node) -> bool:
    """Tell whether the target may take one more copy beside these holders."""
    return not why_not(placement, holders, target)


def why_not_move(placement: ReplicaPlacement, source: Node, others: Sequence[Node], target: Node) -> str:
    """Say why a copy may not move beside the other ones; "" where it may.

    A move never brings two copies to one machine that stood on two; between servers of one machine it may go.
    """
    reason = why_not(placement, others, target)
    hosts = {other.host for other in others}
    if not reason and target.host in hosts and source.host not in hosts:
        return f"{target.host} already holds a copy on another of its servers"
    return reason


Rack = tuple[str, str]
"""A data center and a rack in it."""


class Beside:
    """What a placement says of a copy that moves beside some others; worked out once for all targets in a rack.

    `known` keeps that for all volumes of a look whose copies stand in the same racks.
    """

    def __init__(
        self,
        placement: ReplicaPlacement,
        source: Node,
        others: Sequence[Node],
        known: dict[tuple[ReplicaPlacement, tuple[Rack, ...]], dict[Rack, str]],
    ) -> None:
        self._placement = placement
        self._source = source
        self._others = others
        self._hosts = {other.host for other in others}
        racks = tuple((other.data_center, other.rack) for other in others)
        self._by_rack = known.setdefault((placement, racks), {})

    def shares_host(self, target: Node) -> bool:
        """Whether the target's machine has a copy on one of its servers."""
        return target.host in self._hosts

    def why_not_move(self, target: Node) -> str:
        """As the function of this name."""
        if self.shares_host(target):
            return why_not_move(self._placement, self._source, self._others, target)
        rack = (target.data_center, target.rack)
        if rack not in self._by_rack:
            self._by_rack[rack] = why_not_move(self._placement, self._source, self._others, target)
        return self._by_rack[rack]


def is_misplaced(placement: ReplicaPlacement, holders: Sequence[Node]) -> bool:
    """Tell whether some copy stands where it may not, seen from the others."""
    return any(
        not satisfies(placement, [*holders[:place], *holders[place + 1 :]], holder)
        for place, holder in enumerate(holders)
    )


def _names(names: Collection[str]) -> str:
    return ", ".join(sorted(names))


class Reserved:
    """Slots and bytes promised in this run but not yet seen by the master."""

    def __init__(self) -> None:
        self._slots: dict[tuple[Address, str], int] = defaultdict(int)
        self._bytes: dict[tuple[Address, str], int] = defaultdict(int)

    def add(self, node: Node, disk_type: str, size: int, slots: int = 1) -> None:
        """Promise a volume of this many bytes to a node; negative figures take it back."""
        self._slots[node.address, plain_type(disk_type)] += slots
        self._bytes[node.address, plain_type(disk_type)] += size

    def slots(self, node: Node, disk_type: str) -> int:
        """Volumes promised to the node's disks of a type."""
        return self._slots.get((node.address, plain_type(disk_type)), 0)

    def bytes(self, node: Node, disk_type: str) -> int:
        """Bytes promised to the node's disks of a type."""
        return self._bytes.get((node.address, plain_type(disk_type)), 0)


def no_room(node: Node, disk_type: str, size: int, reserved: Reserved | None = None) -> str:
    """Say why a node cannot take a volume of this many bytes on a disk type; "" where it can.

    Bytes are looked at only where the server reports them.
    """
    kind = plain_type(disk_type)
    disk = node.disk(disk_type)
    if disk is None:
        return f"{node} has no {kind} disk"
    if disk.closed:
        return disk.closed
    if disk.free_slots <= (reserved.slots(node, disk_type) if reserved else 0):
        return f"{node} has no free {kind} slot"
    if size + (reserved.bytes(node, disk_type) if reserved else 0) > disk.bytes_left:
        return f"the {kind} disks of {node} would be fuller than {FULL:.0%}"
    return ""


def pick_target(
    topology: Topology,
    placement: ReplicaPlacement,
    holders: Sequence[Node],
    disk_type: str,
    size: int,
    exclude: Collection[Node] = (),
    reserved: Reserved | None = None,
    sources: Sequence[Node] = (),
) -> Node | None:
    """Choose the node for one more copy of `size` bytes: allowed beside the holders, with room, relatively emptiest.

    Machines that hold none and are not excluded come first. Equally empty nodes are taken in the order of their ids.
    None where no node will do, or none that can read the files of any of the sources.
    """
    best: tuple[bool, float, str] | None = None
    chosen = None
    hosts = {node.host for node in (*holders, *exclude)}
    for node in topology.nodes.values():
        if node in exclude or no_room(node, disk_type, size, reserved) or not satisfies(placement, holders, node):
            continue
        if topology.all_unlike(sources, node):
            continue
        disk = node.disk(disk_type)
        assert disk is not None  # else there was no room
        free = disk.free_slots - (reserved.slots(node, disk_type) if reserved else 0)
        rank = (node.host in hosts, -free / disk.max_volume_count, node.id)
        if best is None or rank < best:
            best, chosen = rank, node
    return chosen
