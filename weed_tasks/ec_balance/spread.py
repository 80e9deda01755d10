"""Which shards of erasure-coded volumes should move, so that no rack, host or disk holds more of a volume than it must.

Pure: looks at a topology only. Each step is simulated before the next one is chosen: first shards that exist twice,
then each volume's spread over racks, hosts and servers, then the fill of the servers of each rack. What is moved stays
in the master's view where it was; the plan is a proposal.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from weed_cluster.replica_placement import ReplicaPlacement, plain_type
from weed_cluster.topology import EcHolding, Node, Topology
from weed_core.model import Skipped
from weed_ec.placement import crowded
from weed_ec.shard_move import refused_shards, why_refused
from weed_storage.ec_layout import DATA_SHARDS, MOST_TOGETHER

DEDUP, CROSS_RACK, WITHIN_RACK, GLOBAL = "dedup", "cross_rack", "within_rack", "global"

MOST_GLOBAL = 10
"""Moves per rack and run that only even out how full its servers are."""

Place = TypeVar("Place", bound=Hashable)

Key = tuple[int, str]
"""A volume id and its collection."""


@dataclass(frozen=True)
class Wishes:
    """What the operator asked for."""

    threshold: float = 0.2
    min_servers: int = 3
    disk_type: str = ""  # "" for all
    placement: ReplicaPlacement = field(default_factory=ReplicaPlacement)
    tags: frozenset[str] = frozenset()
    accepts_collection: Callable[[str], bool] = lambda _name: True
    accepts_data_center: Callable[[str], bool] = lambda _name: True


@dataclass(eq=False)
class Spot:
    """One physical disk."""

    node: Node
    disk_type: str
    disk_id: int
    free: int  # shards
    tags: frozenset[str]

    @property
    def rack(self) -> tuple[str, str]:
        """The rack, whose name alone is not unique."""
        return self.node.data_center, self.node.rack


@dataclass(frozen=True)
class Move:
    """One shard that should go from one disk to another; of a `dedup`, the copy at `source` that should just go."""

    phase: str
    volume_id: int
    collection: str
    shard_id: int
    size: int  # bytes, 0 if unknown
    source: Spot
    target: Spot  # of a dedup: the copy that stays


class Plan:
    """The moves found in a topology, in the order they were simulated, and the volumes that were passed over."""

    def __init__(self, topology: Topology, wishes: Wishes) -> None:
        self.moves: list[Move] = []
        self.skipped: list[Skipped] = []
        self.seen = 0
        self._topology = topology
        self._wishes = wishes
        self._bytes: dict[tuple[str, str], float] = {}
        self._spots = self._see_spots()
        self._held: dict[Key, dict[int, Spot]] = {}
        self._sizes: dict[tuple[Key, int], int] = {}
        self._moved: Counter[str] = Counter()  # shards that came to a node in this plan, less those that left it
        self._racks = _grouped(self._spots.values(), lambda spot: spot.rack)
        self._hosts = {rack: _grouped(spots, _host) for rack, spots in self._racks.items()}
        self._nodes = {host: _grouped(spots, _node) for host, spots in _grouped(self._spots.values(), _host).items()}
        self.servers = len({spot.node.id for spot in self._spots.values()})
        if self.servers < wishes.min_servers:
            return
        for key in sorted(topology.ec, key=lambda key: (topology.turn(key[0]), key[1])):
            self._take_up(key)
        for key, held in self._held.items():
            self._spread_volume(key, held)
        on: dict[str, set[tuple[Key, int]]] = defaultdict(set)
        for key, held in self._held.items():
            for shard, spot in held.items():
                on[spot.node.id].add((key, shard))
        for rack in sorted(self._racks):
            self._level_rack(self._racks[rack], on)
        self.moves = _shortened(self.moves)
        for key, held in self._held.items():
            if words := crowded(map(_host, held.values())):
                self.skipped.append(Skipped(key[0], f"still has {words}", "crowded", key[1]))

    # ---- seeing

    def _see_spots(self) -> dict[tuple[str, str, int], Spot]:
        spots = {}
        for node in sorted(self._topology.nodes.values(), key=lambda node: node.id):
            if not self._wishes.accepts_data_center(node.data_center):
                continue
            for disk_type, disk in sorted(node.disks.items()):
                kind = plain_type(disk_type)
                if self._wishes.disk_type and kind != plain_type(self._wishes.disk_type):
                    continue
                self._bytes[node.id, kind] = disk.bytes_left
                tags = frozenset(tag.strip().lower() for tag in disk.tags)
                for disk_id in sorted(disk.physical):
                    free = 0 if node.closed else disk.free_shards(disk_id)
                    spots[node.id, kind, disk_id] = Spot(node, disk_type, disk_id, free, tags)
        return spots

    def _take_up(self, key: Key) -> None:
        """Note where a volume's shards are, dropping copies too many; pass over a volume that is in no clear state."""
        volume_id, collection = key
        if not self._wishes.accepts_collection(collection):
            return
        self.seen += 1
        holdings = self._topology.ec[key]
        if reason := why_refused(self._topology, volume_id, collection):
            self.skipped.append(Skipped(volume_id, reason, "unsettled", collection))
            return
        closed = dict.fromkeys(holding.node.closed for holding in holdings if holding.node.closed)
        for why in closed:
            self.skipped.append(Skipped(volume_id, refused_shards(volume_id, why), "not ready", collection))
        found = self._copies(key, holdings)
        held = self._held[key] = {shard: spots[0] for shard, spots in found.items()}
        for shard, spots in found.items():
            if len(spots) > 1:
                self._drop_copies(key, shard, spots, held)

    def _copies(self, key: Key, holdings: Iterable[EcHolding]) -> dict[int, list[Spot]]:
        found: dict[int, list[Spot]] = defaultdict(list)
        for holding in holdings:
            spot = self._spots.get((holding.node.id, plain_type(holding.disk_type), holding.disk_id))
            if spot is None:
                continue
            for shard in holding.shard_ids:
                if any(other.node is spot.node for other in found[shard]):
                    # The servers' delete is for all disks of a server: nothing can be done from outside.
                    why = f"shard {shard} is on two disks of {spot.node}; that server has to sort it out"
                    self.skipped.append(Skipped(key[0], why, "twice_on_a_server", key[1], str(spot.node)))
                else:
                    found[shard].append(spot)
            for shard, size in holding.sizes.items():
                self._sizes[key, shard] = size
        return dict(sorted(found.items()))

    def _drop_copies(self, key: Key, shard: int, spots: Sequence[Spot], held: dict[int, Spot]) -> None:
        """Keep the copy that leaves the volume best spread."""
        others = {other: spot for other, spot in held.items() if other != shard}
        racks = Counter(spot.rack for spot in others.values())
        hosts = Counter(spot.node.host for spot in others.values())
        keep = min(spots, key=lambda spot: (racks[spot.rack], hosts[spot.node.host], -spot.free, spot.node.id))
        held[shard] = keep
        for spot in spots:
            if spot is not keep and not spot.node.closed and not keep.node.closed:
                self._note(DEDUP, key, shard, spot, keep)

    # ---- one volume

    def _spread_volume(self, key: Key, held: dict[int, Spot]) -> None:
        self._relieve_hosts(key, held)
        self._level(CROSS_RACK, key, held, self._racks, lambda spot: spot.rack, self._wishes.placement.other_racks)
        for rack in _several(spot.rack for spot in held.values()):
            self._level(WITHIN_RACK, key, held, self._hosts[rack], _host_within(rack))
        for host in _several(spot.node.host for spot in held.values()):
            if len(self._nodes[host]) > 1:
                self._level(WITHIN_RACK, key, held, self._nodes[host], _node)

    def _relieve_hosts(self, key: Key, held: dict[int, Spot]) -> None:
        """Bring hosts whose loss would lose the volume down to four shards, wherever there is a better place."""
        while held:
            counts = Counter(map(_host, held.values()))
            high = min(counts, key=lambda host: (-counts[host], str(host)))
            if counts[high] <= MOST_TOGETHER:
                return
            racks = Counter(spot.rack for spot in held.values())
            for rack in sorted(self._racks, key=lambda rack: (racks[rack], rack)):
                better = [spot for spot in self._racks[rack] if counts[_host(spot)] < counts[high] - 1]
                low = min((_host(spot) for spot in better), key=lambda host: (counts[host], host), default=None)
                shard = self._pick(held, _host, high, low)
                spot = self._best(better, key, shard, held) if shard is not None else None
                if shard is not None and spot is not None:
                    self._move(WITHIN_RACK if spot.rack == held[shard].rack else CROSS_RACK, key, shard, spot)
                    break
            else:
                return

    def _level(
        self,
        phase: str,
        key: Key,
        held: dict[int, Spot],
        places: Mapping[Place, Sequence[Spot]],
        place_of: Callable[[Spot], Place | None],
        limit: int = 0,
    ) -> None:
        """Move shards from the place that has most to the one that has fewest, as long as that makes it more even."""
        there = (place_of(spot) for spot in held.values())
        counts = Counter(place for place in there if place is not None and place in places)
        while counts and max(counts.values()) > 1:
            high = min(counts, key=lambda place: (-counts[place], str(place)))
            average = sum(counts.values()) / len(places)
            for low in sorted(places, key=lambda place: (counts.get(place, 0), -sum(map(_free, places[place])))):
                gap = counts[high] - counts[low]
                if gap < 2 or (gap / average <= self._wishes.threshold and counts[high] <= MOST_TOGETHER):
                    return
                shard = self._pick(held, place_of, high, low)
                if shard is None:
                    return
                spot = self._best(places[low], key, shard, held) if not limit or counts[low] < limit else None
                if spot is not None:
                    self._move(phase, key, shard, spot)
                    counts[high] -= 1
                    counts[low] += 1
                    break
            else:
                return

    def _pick(
        self, held: Mapping[int, Spot], place_of: Callable[[Spot], Hashable], high: Hashable, low: Hashable
    ) -> int | None:
        """Choose the shard to move: of data and parity the kind that the two places share less evenly.

        None where the shards there lie on servers that take no orders.
        """
        surplus = {True: 0, False: 0}
        for shard, spot in held.items():
            surplus[shard < DATA_SHARDS] += (place_of(spot) == high) - (place_of(spot) == low)
        there = sorted(shard for shard, spot in held.items() if place_of(spot) == high and not spot.node.closed)
        return max(there, key=lambda shard: (surplus[shard < DATA_SHARDS], -shard), default=None)

    def _best(self, spots: Iterable[Spot], key: Key, shard: int, held: Mapping[int, Spot]) -> Spot | None:
        """Choose a disk for a shard: with room, then where host, server and disk have least of the volume."""
        source = held[shard]
        size = self._sizes.get((key, shard), 0)
        others = [spot for other, spot in held.items() if other != shard]
        hosts = Counter(spot.node.host for spot in others)
        nodes = Counter(spot.node.id for spot in others)
        disks = Counter(map(id, others))
        here = hosts[source.node.host] + 1
        limit = self._wishes.placement.same_rack
        fitting = [
            spot
            for spot in spots
            if spot.node is not source.node
            and spot.free > 0
            and not self._topology.unlike(source.node, spot.node)
            and disks[id(spot)] < MOST_TOGETHER
            and (
                hosts[spot.node.host] < MOST_TOGETHER
                or hosts[spot.node.host] + 1 < here
                or spot.node.host == source.node.host
            )
            and (not limit or nodes[spot.node.id] < limit)
            and size <= self._bytes[spot.node.id, plain_type(spot.disk_type)]
        ]
        kind = plain_type(source.disk_type)
        return min(
            fitting,
            key=lambda spot: (
                hosts[spot.node.host],
                nodes[spot.node.id],
                plain_type(spot.disk_type) != kind,
                bool(self._wishes.tags) and not self._wishes.tags & spot.tags,
                disks[id(spot)],
                -spot.free,
                spot.node.id,
                spot.disk_id,
            ),
            default=None,
        )

    # ---- one rack

    def _level_rack(self, spots: Sequence[Spot], on: dict[str, set[tuple[Key, int]]]) -> None:
        """Move shards from the fullest to the emptiest server of a rack, never to where a volume is spread worse.

        `on` tells which shards of the volumes that may move each server has.
        """
        nodes = _grouped(spots, _node)
        for _ in range(MOST_GLOBAL):
            used = {name: sum(map(_shards, of)) + self._moved[name] for name, of in nodes.items()}
            room = {name: used[name] + sum(max(0, spot.free) for spot in of) for name, of in nodes.items()}
            full = {name: used[name] / room[name] for name in nodes if room[name]}
            if len(full) < 2:
                return
            high = min(full, key=lambda name: (-full[name], str(name)))
            low = min(full, key=lambda name: (full[name], str(name)))
            if full[high] - full[low] <= self._wishes.threshold * (full[high] + full[low]) / 2:
                return
            if (used[low] + 1) / room[low] > (used[high] - 1) / room[high]:
                return
            if nodes[high][0].node.closed:
                return
            chosen = self._candidate(sorted(on[high]), nodes[low])
            if chosen is None:
                return
            key, shard, spot = chosen
            self._move(GLOBAL, key, shard, spot)
            on[high].remove((key, shard))
            on[low].add((key, shard))

    def _candidate(self, shards: Sequence[tuple[Key, int]], spots: Sequence[Spot]) -> tuple[Key, int, Spot] | None:
        """Choose a shard of a volume that the target's host has none of, else one that it has less of."""
        fallback = None
        host = spots[0].node.host
        for key, shard in shards:
            held = self._held[key]
            there = sum(spot.node.host == host for spot in held.values())
            here = sum(spot.node.host == held[shard].node.host for spot in held.values())
            if held[shard].node.host != host and there >= here:
                continue
            if there and fallback is not None:
                continue
            spot = self._best(spots, key, shard, held)
            if spot is not None:
                if not there:
                    return key, shard, spot
                fallback = (key, shard, spot)
        return fallback

    # ---- noting

    def _move(self, phase: str, key: Key, shard: int, target: Spot) -> None:
        source = self._held[key][shard]
        self._held[key][shard] = target
        target.free -= 1
        self._moved[target.node.id] += 1
        self._bytes[target.node.id, plain_type(target.disk_type)] -= self._sizes.get((key, shard), 0)
        self._note(phase, key, shard, source, target)

    def _note(self, phase: str, key: Key, shard: int, source: Spot, target: Spot) -> None:
        source.free += 1
        self._moved[source.node.id] -= 1
        self.moves.append(Move(phase, *key, shard, self._sizes.get((key, shard), 0), source, target))


def _shortened(moves: Iterable[Move]) -> list[Move]:
    """Join the moves of one shard into one, at the first one's place; back to where it began is no move."""
    joined: dict[tuple[object, ...], Move] = {}
    for move in moves:
        name = (move.phase == DEDUP and move.source, move.volume_id, move.collection, move.shard_id)
        first = joined.get(name)
        joined[name] = replace(first, target=move.target) if first else move
    return [move for move in joined.values() if move.source.node is not move.target.node]


def _several(places: Iterable[Place]) -> list[Place]:
    """The places that come up more than once: one shard alone is well spread."""
    return [place for place, count in Counter(places).items() if count > 1]


def _host(spot: Spot) -> str:
    return spot.node.host


def _host_within(rack: tuple[str, str]) -> Callable[[Spot], str | None]:
    return lambda spot: spot.node.host if spot.rack == rack else None


def _node(spot: Spot) -> str:
    return spot.node.id


def _free(spot: Spot) -> int:
    return spot.free


def _shards(spot: Spot) -> int:
    return spot.node.disks[spot.disk_type].shards.get(spot.disk_id, 0)


def _grouped(spots: Iterable[Spot], name_of: Callable[[Spot], Place]) -> dict[Place, list[Spot]]:
    groups: dict[Place, list[Spot]] = defaultdict(list)
    for spot in spots:
        groups[name_of(spot)].append(spot)
    return groups
