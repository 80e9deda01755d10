"""What the ledger says of a cluster: which volumes are due, the oldest first, and how much is verified.

Pure: works on a topology and a ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from weed_cluster.topology import EcHolding, Replica, Topology
from weed_core.scrub_ledger import BAD, DIFFERS, REPLICA, SPAN, UNCLEAR, Coverage, Ledger, Packed, run_tag, server_tag

DAY = 86400

JITTER = 0.2
"""Share of the interval by which volumes are due earlier, each by its own part: so that they do not come at once."""

SPEED = 100 << 20
"""Bytes per second that one server is taken to read."""

EACH = 0.5
"""Seconds that a volume takes beside its bytes."""

ALL_SHARDS = (1 << 14) - 1

LATEST = 1 << 62
"""Later than every time: where the search for the oldest begins."""

Records = Mapping[int, tuple[Packed, ...]]
"""As Ledger.by_server gives them: volume in the segment, run, server, things, at, method, result."""


@dataclass(frozen=True)
class Due:
    """A volume that is to be read. `at` is when its oldest part was verified (0 for never), `seconds` an estimate."""

    at: int
    volume_id: int
    collection: str
    size: int  # bytes of all its replicas, or shards
    things: int
    seconds: float


@dataclass
class Survey:
    """What one look found: due volumes, the oldest first, and how much is verified."""

    due: list[tuple[int, int, str]] = field(default_factory=list)  # since when, volume id, collection
    total: int = 0
    recent: int = 0
    never: int = 0
    oldest: int = 0  # unix seconds
    results: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    size: int = 0

    def coverage(self, days: int, now: float) -> Coverage:
        """It in figures."""
        return Coverage(
            days,
            self.total,
            self.recent,
            self.never,
            max(0.0, now - self.oldest) if self.oldest else 0.0,
            self.results[BAD],
            self.results[DIFFERS],
            self.results[UNCLEAR],
        )


def survey(topology: Topology, ledger: Ledger, interval: float, now: float, accepts: Callable[[str], bool]) -> Survey:
    """Go through a cluster; `interval` in seconds, 0: everything is due."""
    found = Survey()
    counter = _Counter(topology, now - (interval or 30 * DAY), found)
    volumes, sharded = topology.volumes, topology.ec
    wanted = _Wanted(accepts)
    for number, ids in groupby(sorted(volumes), _segment_of):
        read = [(one, volumes[one]) for one in ids]
        read = [one for one in read if wanted[one[1][0].info.collection] and not one[1][0].info.remote_storage_name]
        for (volume_id, replicas), at in zip(read, counter.replicas(read, ledger.by_server(number))):
            if _is_due(volume_id, at, interval, now):
                found.due.append((at, volume_id, replicas[0].info.collection))
    for number, keys in groupby(sorted(sharded), lambda key: _segment_of(key[0])):
        chosen = [key for key in keys if wanted[key[1]]]
        held = [(key[0], sharded[key]) for key in chosen]
        for key, at in zip(chosen, counter.shards(held, ledger.by_server(number))):
            if _is_due(key[0], at, interval, now):
                found.due.append((at, *key))
    found.due.sort()
    return found


class _Wanted(dict[str, bool]):
    """Which collections are accepted, each asked about once."""

    def __init__(self, accepts: Callable[[str], bool]) -> None:
        super().__init__()
        self._accepts = accepts

    def __missing__(self, collection: str) -> bool:
        self[collection] = self._accepts(collection)
        return self[collection]


def _segment_of(volume_id: int) -> int:
    return volume_id // SPAN


def _is_due(volume_id: int, at: int, interval: float, now: float) -> bool:
    share = (volume_id * 2654435761 & 0xFFFF) / 0x10000
    return not at or at <= now - interval * (1 - JITTER * share)


class _Counter:
    """Counts what is verified; of each volume the time of its oldest part is returned, 0 for never.

    A million replicas and shards are counted in a look: so a segment at a time, with nothing asked twice or copied.
    """

    def __init__(self, topology: Topology, window: float, found: Survey) -> None:
        self._tags = {node.id: server_tag(node.address) for node in topology.nodes.values()}
        self._window = window
        self._found = found

    def replicas(self, volumes: Iterable[tuple[int, Sequence[Replica]]], records: Records) -> list[int]:
        """Count regular volumes of one segment."""
        found, tags, window, oldest = self._found, self._tags, self._window, self._found.oldest or LATEST
        total = recent = never = size = 0
        ages = []
        for volume_id, replicas in volumes:
            offset, least = volume_id % SPAN << 32, LATEST
            for replica in replicas:
                at = 0
                for one in records.get(offset | tags[replica.node.id], ()):
                    if one[3] & REPLICA:
                        at = one[4]
                        if one[6]:
                            found.results[one[6]] += 1
                if at > window:
                    recent += 1
                elif not at:
                    never += 1
                if at < least:
                    least = at
                if at and at < oldest:
                    oldest = at
            ages.append(least)
            total += len(replicas)
            size += replicas[0].info.size * len(replicas)
        self._add(total, recent, never, size, oldest)
        return ages

    def shards(self, volumes: Iterable[tuple[int, Sequence[EcHolding]]], records: Records) -> list[int]:
        """Count erasure-coded volumes of one segment."""
        found, tags, window, oldest = self._found, self._tags, self._window, self._found.oldest or LATEST
        total = recent = never = size = told_run = run = 0
        ages = []
        for volume_id, holdings in volumes:
            offset, least, count = volume_id % SPAN << 32, LATEST, 0
            for holding in holdings:
                info = holding.info
                left = info.ec_index_bits & ALL_SHARDS
                count += left.bit_count()
                if (encoded := info.encode_ts_ns) != told_run:  # the shards of one volume come together
                    told_run, run = encoded, run_tag(encoded)
                for one in records.get(offset | tags[holding.node.id], ()):
                    known, at = one[3] & left, one[4]
                    if known and (one[1] == run or not run or not one[1]):
                        left ^= known
                        if one[6]:
                            found.results[one[6]] += known.bit_count()
                        if at > window:
                            recent += known.bit_count()
                        if at < least:
                            least = at
                        if at < oldest:
                            oldest = at
                if left:
                    never += left.bit_count()
                    least = 0
            ages.append(least)
            total += count
            sizes = holdings[0].info.shard_sizes
            size += sizes[0] * count if sizes else 0
        self._add(total, recent, never, size, oldest)
        return ages

    def _add(self, total: int, recent: int, never: int, size: int, oldest: int) -> None:
        found = self._found
        found.total += total
        found.recent += recent
        found.never += never
        found.size += size
        found.oldest = oldest if oldest < LATEST else 0


def weigh(topology: Topology, at: int, volume_id: int, collection: str, rate: int) -> Due:
    """What it takes to read a due volume."""
    replicas, holdings = topology.replicas(volume_id), topology.ec.get((volume_id, collection), [])
    if replicas:
        sizes, things = [replica.size for replica in replicas], len(replicas)
    else:
        sizes = [sum(holding.info.shard_sizes) for holding in holdings]
        things = sum((holding.info.ec_index_bits & ALL_SHARDS).bit_count() for holding in holdings)
    longest = sum(sizes) / rate if rate else max(sizes) / SPEED
    return Due(at, volume_id, collection, sum(sizes), things, EACH + longest)
