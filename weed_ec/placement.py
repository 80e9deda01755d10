"""Where the shards of a volume may go, so that losing a machine, a rack or a data center loses no data.

Pure: works on a topology, asks no server. Disk ids, racks and hosts are taken as the master tells them.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from weed_cluster.replica_placement import ReplicaPlacement, plain_type
from weed_cluster.topology import Disk, Node, Replica, Topology
from weed_storage.ec_layout import DATA_SHARDS, MOST_TOGETHER, TOTAL_SHARDS

ROUNDING = 1 << 20
"""Bytes by which a shard may be longer than a tenth of its volume: the last row is filled up."""


class EcTarget(NamedTuple):
    """The shards of one volume that one disk is to hold."""

    node: Node
    disk_type: str  # as the master writes it
    disk_id: int
    shard_ids: tuple[int, ...]


def crowded(hosts: Iterable[str]) -> str:
    """Say which of the hosts that hold a volume's shards, named once a shard, have too many; "" where none has."""
    most = [f"{host} {count}" for host, count in sorted(Counter(hosts).items()) if count > MOST_TOGETHER]
    return f"more than {MOST_TOGETHER} shards on one host, whose loss would lose it: {', '.join(most)}" if most else ""


class EcPlanner:
    """Spreads the shards of volume after volume over the disks of a cluster.

    What a plan takes is remembered for the next one; a plan that fails takes nothing. Of each volume no disk gets more
    than four shards; racks, then the hosts within a rack, get as equal shares as their room allows; no host gets more
    than four while there is another way; disks of the volume's own type are preferred among equals. The placement's
    second digit limits the shards per rack and its third those per node, 0 for no limit, as long as that can be kept.
    `tags` are tried in turn: the whole plan on disks with the first one, with the first two, ..., on any.
    `reserve` bytes stay free on every disk, as far as is known what is free there. Closed servers get nothing.
    The same input gives the same plans.
    """

    def __init__(
        self,
        topology: Topology,
        placement: ReplicaPlacement | None = None,
        tags: Sequence[str] = (),
        reserve: int = 0,
    ) -> None:
        self._topology = topology
        self._reserve = reserve
        self._placement = placement or ReplicaPlacement()
        wanted = list(dict.fromkeys(tag.strip().lower() for tag in tags if tag.strip()))
        self._tiers = [*(frozenset(wanted[: count + 1]) for count in range(len(wanted))), frozenset[str]()]
        self._disks = [
            disk
            for node in sorted(topology.nodes.values(), key=lambda node: node.id)
            for name in sorted(node.disks)
            if not node.closed
            for disk in _split(_Group(node, node.disks[name], reserve), node.disks[name], reserve)
        ]
        self._by_place = {(disk.group.node.id, disk.kind, disk.id): disk for disk in self._disks}
        self._views: dict[tuple[str, frozenset[str], int], _View] = {}

    def plan(self, volume: Replica, size: int | None = None) -> list[EcTarget] | str:
        """Choose a disk for each of the fourteen shards, or say why that is impossible.

        Targets are ordered by their lowest shard. Shards of this volume that lie around already count as gone.
        """
        shard_bytes = (volume.size if size is None else size) // DATA_SHARDS
        stale: dict[_Physical, int] = defaultdict(int)
        for holding in self._topology.holdings(volume.volume_id, volume.collection):
            disk = self._by_place.get((holding.node.id, plain_type(holding.disk_type), holding.disk_id))
            if disk is not None:
                stale[disk] += len(holding.shard_ids)
        for tags in self._tiers:
            view = self._view(plain_type(volume.disk_type), tags, self._width(volume.node))
            chosen = _Attempt(view, self._placement, shard_bytes, stale).place_all()
            if chosen is not None:
                break
        else:
            return self._why_none(volume, shard_bytes)
        by_disk: dict[_Physical, list[int]] = {}
        for shard, disk in enumerate(chosen):
            by_disk.setdefault(disk, []).append(shard)
        for disk, shards in by_disk.items():
            self._take(disk, len(shards), shard_bytes)
        return [EcTarget(disk.group.node, disk.group.type, disk.id, tuple(shards)) for disk, shards in by_disk.items()]

    def _why_none(self, volume: Replica, shard_bytes: int) -> str:
        words = f"no room for {TOTAL_SHARDS} shards of {shard_bytes >> 20} MiB, at most {MOST_TOGETHER} on a disk"
        if self._reserve:
            words += f" and {self._reserve >> 20} MiB left free on each"
        nodes = sorted(self._topology.nodes.values(), key=lambda node: node.id)
        closed = [node.closed for node in nodes if node.closed]
        unlike = next((reason for node in nodes if (reason := self._topology.unlike(volume.node, node))), "")
        return words + "".join(f"; {reason}" for reason in [*closed[:3], *([unlike] if unlike else [])])

    def _width(self, node: Node) -> int:
        """The offset bytes that a node's build has; 0 where it did not say or was not asked."""
        build = self._topology.builds.get(node.address)
        return build.offset_bytes if build is not None and not build.problem else 0

    def _view(self, preferred: str, tags: frozenset[str], width: int) -> _View:
        """The disks of servers that were not asked for their builds, or are of this one."""
        view = self._views.get((preferred, tags, width))
        if view is None:
            asked = bool(self._topology.builds)
            disks = [disk for disk in self._disks if not asked or self._width(disk.group.node) == width]
            view = self._views[preferred, tags, width] = _View(disks, preferred, tags)
        return view

    def _take(self, disk: _Physical, count: int, shard_bytes: int) -> None:
        for view in self._views.values():
            view.take(disk, count)
        disk.free -= count
        disk.room -= count * shard_bytes
        disk.group.bytes_left -= count * shard_bytes


class _Group:
    """All disks of one type on one node; bytes are only reported for them together."""

    __slots__ = ("bytes_left", "node", "tags", "type")

    def __init__(self, node: Node, disk: Disk, reserve: int) -> None:
        self.node = node
        self.type = disk.type
        self.tags = frozenset(tag.strip().lower() for tag in disk.tags)
        self.bytes_left = disk.bytes_left
        if disk.total_bytes:
            self.bytes_left = min(self.bytes_left, disk.free_bytes - reserve)


class _Physical:
    """One physical disk. `free` is the shards that still fit, by slots; `room` the bytes, where the server told."""

    __slots__ = ("free", "group", "host", "id", "kind", "rack", "room")

    def __init__(self, group: _Group, disk_id: int, free: int, room: float) -> None:
        self.group = group
        self.room = room
        self.id = disk_id
        self.kind = plain_type(group.type)
        self.free = free
        self.rack = (group.node.data_center, group.node.rack)
        self.host = (group.node.host,)


def _split(group: _Group, disk: Disk, reserve: int) -> Iterator[_Physical]:
    for disk_id in sorted(disk.physical):
        told = disk.free_by_disk.get(disk_id)
        room = float("inf") if told is None else told - reserve - MOST_TOGETHER * ROUNDING
        yield _Physical(group, disk_id, disk.free_shards(disk_id), room)


_Name = tuple[str, ...]
"""A rack (data center, rack) or a host (host,)."""

_Rank = tuple[bool, int, _Name]
"""Whether nothing of the preferred type is free, the negated free shards, the name: the smallest is filled first."""


class _Bin:
    """A rack or a host in one view: what is free in it, and its children ranked."""

    __slots__ = ("children", "disks", "free", "name", "order", "preferred")

    def __init__(self, name: _Name) -> None:
        self.name = name
        self.free = 0
        self.preferred = 0  # the part of it on disks of the preferred type
        self.children: dict[_Name, _Bin] = {}
        self.order: list[_Rank] = []
        self.disks: list[_Physical] = []

    @property
    def rank(self) -> _Rank:
        lacks = self.preferred <= 0
        return lacks, -(self.free if lacks else self.preferred), self.name


class _View:
    """The disks that one tier of tags admits, in racks and hosts, ranked for one preferred disk type."""

    def __init__(self, disks: Sequence[_Physical], preferred: str, tags: frozenset[str]) -> None:
        self.preferred = preferred
        self._disks = frozenset(disk for disk in disks if not tags or tags & disk.group.tags)
        self.root = _Bin(())
        for disk in disks:
            if self._admits(disk):
                rack = self.root.children.setdefault(disk.rack, _Bin(disk.rack))
                host = rack.children.setdefault(disk.host, _Bin(disk.host))
                host.disks.append(disk)
                for each in (rack, host):
                    self._add(each, disk, max(0, disk.free))
        for parent in (self.root, *self.root.children.values()):
            parent.order = sorted(child.rank for child in parent.children.values())

    def take(self, disk: _Physical, count: int) -> None:
        """Account for shards that a disk is given."""
        if self._admits(disk):
            rack = self.root.children[disk.rack]
            for parent, child in ((self.root, rack), (rack, rack.children[disk.host])):
                del parent.order[bisect_left(parent.order, child.rank)]
                self._add(child, disk, -count)
                insort(parent.order, child.rank)

    def _admits(self, disk: _Physical) -> bool:
        return disk in self._disks

    def _add(self, place: _Bin, disk: _Physical, free: int) -> None:
        place.free += free
        if disk.kind == self.preferred:
            place.preferred += free


class _Stage(NamedTuple):
    """How strict an attempt still is; each stage gives up one wish of the one before."""

    spare_hosts: bool  # at most MOST_TOGETHER shards on a host
    keep_placement: bool  # the replica placement's limits per rack and node


_STAGES = (_Stage(True, True), _Stage(False, True), _Stage(False, False))


class _Ranking:
    """The children of a bin: those with the fewest shards of the volume first, and by their rank among equals.

    Those that have their share of the shards being placed (data, then parity) come last.
    """

    def __init__(self, parent: _Bin, on: dict[object, int]) -> None:
        self._parent = parent
        self._on = on
        self._alike: dict[_Name, int] = defaultdict(int)
        self._share = TOTAL_SHARDS
        self._next = 0  # untouched children are read off their parent's order, which costs nothing to set up
        self._touched: list[tuple[bool, int, bool, int, _Name]] = []

    def expect(self, shards: int) -> None:
        """From now on shards of another kind are placed, this many."""
        self._alike.clear()
        self._share = -(-shards // max(1, len(self._parent.children)))
        self._touched = [self._entry(self._parent.children[entry[-1]]) for entry in self._touched]
        heapq.heapify(self._touched)

    def pick(self) -> _Bin | None:
        """Take the best child out of the ranking."""
        order = self._parent.order
        while self._next < len(order):
            child = self._parent.children[order[self._next][2]]
            self._next += 1
            if not self._on[child.name]:
                return child
            self.put_back(child)
        while self._touched:
            entry = heapq.heappop(self._touched)
            child = self._parent.children[entry[-1]]
            if entry == self._entry(child):
                return child
            self.put_back(child)  # it got shards by another parent meanwhile
        return None

    def use(self, child: _Bin) -> None:
        """Put a child back that was given a shard."""
        self._alike[child.name] += 1
        self.put_back(child)

    def put_back(self, child: _Bin) -> None:
        """Put a child back as it is."""
        heapq.heappush(self._touched, self._entry(child))

    def _entry(self, child: _Bin) -> tuple[bool, int, bool, int, _Name]:
        return self._alike[child.name] >= self._share, self._on[child.name], *child.rank


class _Attempt:
    """One try to place one volume's shards within a view; takes nothing."""

    def __init__(self, view: _View, placement: ReplicaPlacement, shard_bytes: int, stale: dict[_Physical, int]) -> None:
        self._view = view
        self._placement = placement
        self._shard_bytes = shard_bytes
        self._stale = stale
        self._on: dict[object, int] = defaultdict(int)  # shards by rack name, host name, node id, group and disk
        self._stages = iter(_STAGES)
        self._relax()

    def place_all(self) -> list[_Physical] | None:
        """Choose the disk of each shard; None where they do not all fit."""
        chosen: list[_Physical] = []
        while len(chosen) < TOTAL_SHARDS:
            if len(chosen) == DATA_SHARDS:
                self._racks.expect(TOTAL_SHARDS - DATA_SHARDS)
            disk = self._place()
            if disk is not None:
                chosen.append(disk)
            elif not self._relax():
                return None
        return chosen

    def _relax(self) -> bool:
        """Go on with the next, less strict stage; False where there is none."""
        stage = next(self._stages, None)
        if stage is None:
            return False
        self._stage = stage
        self._racks = _Ranking(self._view.root, self._on)
        self._racks.expect(DATA_SHARDS)
        self._hosts: dict[_Name, _Ranking] = {}
        return True

    def _place(self) -> _Physical | None:
        limit = self._placement.other_racks if self._stage.keep_placement else 0
        # A rack or host that cannot take this shard cannot take a later one: it is not put back.
        while (rack := self._racks.pick()) is not None:
            if limit and self._on[rack.name] >= limit:
                continue
            disk = self._place_in(rack)
            if disk is not None:
                for place in (rack.name, disk.group.node.id, disk.group, disk):
                    self._on[place] += 1
                self._racks.use(rack)
                return disk
        return None

    def _place_in(self, rack: _Bin) -> _Physical | None:
        hosts = self._hosts.get(rack.name)
        if hosts is None:
            hosts = self._hosts[rack.name] = _Ranking(rack, self._on)
        while (host := hosts.pick()) is not None:
            if self._stage.spare_hosts and self._on[host.name] >= MOST_TOGETHER:
                continue
            disk = min(filter(self._fits, host.disks), key=self._rank, default=None)
            if disk is not None:
                self._on[host.name] += 1
                hosts.use(host)
                return disk
        return None

    def _fits(self, disk: _Physical) -> bool:
        limit = self._placement.same_rack if self._stage.keep_placement else 0
        return (
            self._on[disk] < min(MOST_TOGETHER, disk.free + self._stale[disk])
            and (not limit or self._on[disk.group.node.id] < limit)
            and self._shard_bytes * (self._on[disk.group] + 1) <= disk.group.bytes_left
            and self._shard_bytes * (self._on[disk] + 1) <= disk.room
        )

    def _rank(self, disk: _Physical) -> tuple[int, bool, int, int, str, str, int]:
        node, on = disk.group.node, self._on[disk]
        return self._on[node.id], disk.kind != self._view.preferred, on, on - disk.free, node.id, disk.kind, disk.id
