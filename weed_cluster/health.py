"""How well a cluster's volumes are, counted by collection and state: what a look at the master's list tells of that.

Pure: works on a topology and on what was found wrong, asks no server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from weed_cluster.ec_sets import examine
from weed_cluster.topology import Topology
from weed_core.findings import EC_SHARD, Finding
from weed_storage.ec_layout import DATA_SHARDS, TOTAL_SHARDS

FEWER = "fewer"
"""The state of an erasure-coded volume that cannot be read any more."""

SHARDS_LEFT = (*(str(left) for left in range(TOTAL_SHARDS, DATA_SHARDS - 1, -1)), FEWER)
UNDER_REPLICATED, DIVERGED, READ_ONLY = "under_replicated", "diverged", "read_only"
STATES = (UNDER_REPLICATED, DIVERGED, READ_ONLY)

AGES = (("hour", 3600.0), ("day", 86400.0), ("week", 7 * 86400.0), ("older", float("inf")))
"""How long a fault has been open at most, in a word and in seconds."""

MOST_COLLECTIONS = 100
"""Collections that are counted by themselves, those with most volumes; each would be many series for ever."""

OTHERS = "(others)"

Counts = Mapping[tuple[str, str], int]
"""Numbers by collection and state."""


@dataclass(frozen=True)
class Health:
    """One look. `ec` counts volumes by sound shards left, `faults` what was found wrong by how long that is open."""

    ec: Counts = field(default_factory=dict)
    volumes: Counts = field(default_factory=dict)
    garbage: Mapping[str, int] = field(default_factory=dict)  # bytes by collection
    faults: Counts = field(default_factory=dict)


def health_of(topology: Topology, found: Collection[Finding], differing: Collection[int], now: float) -> Health:
    """Count everything; `differing` are volumes whose replicas were seen to hold different content."""
    name_of = _namer(topology)
    bad = Counter((one.volume_id, one.collection, one.shard_id) for one in found if one.kind == EC_SHARD)
    bad_shards = Counter((volume_id, collection) for volume_id, collection, _shard in bad)
    ec: Counter[tuple[str, str]] = Counter()
    for key, holdings in topology.ec.items():
        faults = examine(holdings)
        left = (faults.best.sound if faults else TOTAL_SHARDS) - bad_shards[key]
        ec[name_of(key[1]), str(left) if left >= DATA_SHARDS else FEWER] += 1
    volumes: Counter[tuple[str, str]] = Counter()
    garbage: Counter[str] = Counter()
    for volume_id, replicas in topology.volumes.items():
        name = name_of(replicas[0].collection)
        if len(replicas) < replicas[0].placement.copies:
            volumes[name, UNDER_REPLICATED] += 1
        if any(replica.read_only for replica in replicas):
            volumes[name, READ_ONLY] += 1
        if volume_id in differing:
            volumes[name, DIVERGED] += 1
        garbage[name] += sum(replica.deleted_bytes for replica in replicas)
    open_for: Counter[tuple[str, str]] = Counter()
    for one in found:
        age = next(word for word, most in AGES if now - one.found < most)
        open_for[name_of(one.collection), age] += 1
    for name in {*garbage} or {""}:  # so that a state that ends is told as none
        volumes.update(dict.fromkeys(((name, state) for state in STATES), 0))
        open_for.update(dict.fromkeys(((name, word) for word, _most in AGES), 0))
    for name in {name for name, _state in ec}:
        ec.update(dict.fromkeys(((name, state) for state in SHARDS_LEFT), 0))
    return Health(ec, volumes, garbage, open_for)


class _namer:  # noqa: N801 - reads as a function
    """The name under which a collection is counted."""

    def __init__(self, topology: Topology) -> None:
        count = Counter(replicas[0].collection for replicas in topology.volumes.values())
        count.update(collection for _volume_id, collection in topology.ec)
        self._named = {name for name, _number in count.most_common(MOST_COLLECTIONS)}

    def __call__(self, collection: str) -> str:
        return collection if collection in self._named else OTHERS
