"""How full the servers are by the disks of one type, kept in order while moves are planned.

Every planned move changes two servers of a thousand, so the order is mended there instead of being made anew.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence

from weed_cluster.placement import Reserved, no_room
from weed_cluster.topology import Node

Rank = tuple[float, str]
"""How full a server is, and its id."""


class Scale:
    """The servers by how much of their slots volumes fill, or by volumes alone where one does not tell its slots.

    `held` has the volumes of each server by its id. What is promised to a target is noted in `reserved`.
    """

    def __init__(self, disk_type: str, nodes: Sequence[Node], held: Mapping[str, int], reserved: Reserved) -> None:
        self._disk_type = disk_type
        self._reserved = reserved
        self._nodes = {node.id: node for node in nodes}
        self._held = dict(held)
        slots = {node.id: disk.max_volume_count for node in nodes if (disk := node.disk(disk_type))}
        self._slots = slots if all(count > 0 for count in slots.values()) else dict.fromkeys(slots, 1)
        self._all = sorted(self._rank(node) for node in nodes)
        self._givers = list(self._all)
        self._takers = list(self._all)
        self._has_room: set[str] = set()  # asked since the last promise
        self.full: dict[str, str] = {}
        """Why servers have no room for one volume more, by id, as far as it was asked."""

    @property
    def fullest(self) -> Node | None:
        """The fullest of the servers that may still have a volume to give."""
        return self._nodes[self._givers[-1][1]] if self._givers else None

    def imbalance(self, source: Node | None = None) -> float:
        """How much fuller a server, or the fullest of all, is than the emptiest, by their mean."""
        most = self._rank(source)[0] if source else self._all[-1][0]
        least = self._all[0][0]
        return 2 * (most - least) / (most + least) if most + least else 0.0

    def targets(self, source: Node) -> Iterator[Node]:
        """The servers with room that one more volume leaves no fuller than it leaves the source; emptiest first."""
        bound = self._use(source, -1)
        place = 0
        while place < len(self._takers) and self._takers[place][0] <= bound:
            node = self._nodes[self._takers[place][1]]
            if node.id not in self._has_room:
                if reason := no_room(node, self._disk_type, 0, self._reserved):
                    # Promises are only made, so it has none for the rest of this look.
                    self.full[node.id] = reason
                    del self._takers[place]
                    continue
                self._has_room.add(node.id)
            place += 1
            if node is not source and self._use(node, 1) <= bound:
                yield node

    def exhaust(self, source: Node) -> None:
        """Note that a server has nothing more to give."""
        _take(self._givers, self._rank(source))

    def moved(self, source: Node, target: Node, size: int) -> None:
        """Note a planned move of one volume of `size` bytes."""
        for node, more in ((source, -1), (target, 1)):
            before = self._rank(node)
            self._held[node.id] += more
            for ranks in (self._all, self._givers, self._takers):
                if _take(ranks, before):
                    insort(ranks, self._rank(node))
        self._reserved.add(target, self._disk_type, size)
        self._has_room.discard(target.id)

    def _use(self, node: Node, more: int = 0) -> float:
        return (self._held[node.id] + more) / self._slots[node.id]

    def _rank(self, node: Node) -> Rank:
        return self._use(node), node.id


def _take(ranks: list[Rank], rank: Rank) -> bool:
    """Take a rank out of an ordered list; False where it is not in it."""
    place = bisect_left(ranks, rank)
    found = place < len(ranks) and ranks[place] == rank
    if found:
        del ranks[place]
    return found
