"""What the ledger says of a cluster: which volumes are due, the oldest first, and how much is verified.

Pure: works on a topology and a ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

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
    wanted: dict[str, bool] = {}

    def is_wanted(collection: str) -> bool:
        if collection not in wanted:
            wanted[collection] = accepts(collection)
        return wanted[collection]

    number, records = -1, ledger.by_server(-1)
    for volume_id in sorted(topology.volumes):
        if volume_id // SPAN != number:
            number = volume_id // SPAN
            records = ledger.by_server(number)
        replicas = topology.volumes[volume_id]
        info = replicas[0].info
        if is_wanted(info.collection) and not info.remote_storage_name:
            at = counter.replicas(volume_id, replicas, records)
            if _is_due(volume_id, at, interval, now):
                found.due.append((at, volume_id, info.collection))
    for key in sorted(topology.ec):
        if key[0] // SPAN != number:
            number = key[0] // SPAN
            records = ledger.by_server(number)
        if is_wanted(key[1]):
            at = counter.shards(key[0], topology.ec[key], records)
            if _is_due(key[0], at, interval, now):
                found.due.append((at, *key))
    found.due.sort()
    return found


def _is_due(volume_id: int, at: int, interval: float, now: float) -> bool:
    share = (volume_id * 2654435761 & 0xFFFF) / 0x10000
    return not at or at <= now - interval * (1 - JITTER * share)


class _Counter:
    """Counts what is verified; the time of the oldest part of a volume is what each count returns, 0 for never.

    A million replicas and shards are counted in a look, so nothing here is asked twice or copied.
    """

    def __init__(self, topology: Topology, window: float, found: Survey) -> None:
        self._tags = {node.id: server_tag(node.address) for node in topology.nodes.values()}
        self._runs: dict[int, int] = {}
        self._window = window
        self._found = found

    def replicas(self, volume_id: int, replicas: Sequence[Replica], records: Records) -> int:
        """Count a regular volume."""
        found, tags, window, offset = self._found, self._tags, self._window, volume_id % SPAN << 32
        oldest = -1
        found.size += replicas[0].info.size * len(replicas)
        for replica in replicas:
            at = 0
            for one in records.get(offset | tags[replica.node.id], ()):
                if one[3] & REPLICA:
                    at = one[4]
                    found.results[one[6]] += 1
            if not at:
                found.never += 1
            else:
                if at > window:
                    found.recent += 1
                if at < found.oldest or not found.oldest:
                    found.oldest = at
            if at < oldest or oldest < 0:
                oldest = at
        found.total += len(replicas)
        return oldest

    def shards(self, volume_id: int, holdings: Sequence[EcHolding], records: Records) -> int:
        """Count an erasure-coded volume."""
        found, tags, window, offset = self._found, self._tags, self._window, volume_id % SPAN << 32
        oldest = -1
        for holding in holdings:
            info = holding.info
            left, run = info.ec_index_bits & ALL_SHARDS, self._run(info.encode_ts_ns)
            sizes = info.shard_sizes
            found.size += sizes[0] * len(sizes) if sizes else 0
            found.total += left.bit_count()
            for one in records.get(offset | tags[holding.node.id], ()):
                known, at = one[3] & left, one[4]
                if known and (one[1] == run or not run or not one[1]):
                    count = known.bit_count()
                    left &= ~known
                    found.results[one[6]] += count
                    found.recent += count if at > window else 0
                    oldest = at if oldest < 0 else min(oldest, at)
                    if at < found.oldest or not found.oldest:
                        found.oldest = at
            if left:
                found.never += left.bit_count()
                oldest = 0
        return oldest

    def _run(self, run: int) -> int:
        if run not in self._runs:
            self._runs = {run: run_tag(run)}  # the shards of one volume come together
        return self._runs[run]


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
