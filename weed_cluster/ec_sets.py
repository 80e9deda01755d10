"""What the master lists of an erasure-coded volume, sorted by encode run, and what is wrong with it by that alone.

Pure. A mount is first told to the master with one size for all shards and without the others' sizes, so what is wrong
here has to be seen again some minutes later before it is believed. Shards of different runs do not add up.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from weed_cluster.topology import EcHolding, Topology
from weed_storage.ec_layout import DATA_SHARDS, MOST_TOGETHER, TOTAL_SHARDS

ALL_BITS = (1 << TOTAL_SHARDS) - 1

MISSING, SHORT, TWICE, NO_RUN = "missing", "short", "twice", "no run"
"""Faults of single shards: listed nowhere; listed in another size than the others, or empty; listed on more than one
server; listed without the run that the others are of, so that nobody can read them."""


@dataclass(frozen=True)
class EcSet:
    """The shards of one encode run as the master lists them. `size` is what most of them have, 0 where none is told."""

    volume_id: int
    collection: str
    run: int
    size: int
    places: Mapping[int, tuple[EcHolding, ...]]  # by shard id, those of a right size
    short: Mapping[int, tuple[EcHolding, ...]]  # those of another size

    @property
    def sound(self) -> int:
        """How many different shards are there in their right size."""
        return len(self.places)

    @property
    def holdings(self) -> list[EcHolding]:
        """Every disk that has shards of it."""
        found = {id(one): one for group in (self.places, self.short) for ones in group.values() for one in ones}
        return list(found.values())


@dataclass(frozen=True)
class EcFaults:
    """What is wrong with a volume: the best run, others beside it, and the faults of single shards by kind.

    `crowded` are hosts with more than four of its shards.
    """

    best: EcSet
    others: tuple[EcSet, ...] = ()
    shards: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    crowded: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_lost(self) -> bool:
        """Whether fewer than ten are left, of whatever size: that may be told wrong for a minute and more."""
        return len({*self.best.places, *self.best.short}) < DATA_SHARDS

    @property
    def codes(self) -> list[str]:
        """The faults of single shards, each in a word, to be remembered by."""
        return [f"{kind} {shard}" for kind in sorted(self.shards) for shard in self.shards[kind]]

    @property
    def words(self) -> str:
        """What is wrong, in words that follow the volume's name."""
        told = [f"{_shards(ids)} {kind}" for kind, ids in ((MISSING, self.shards.get(MISSING, ())),) if ids]
        for kind, what in ((SHORT, "of a wrong size"), (TWICE, "on more than one server")):
            if ids := self.shards.get(kind, ()):
                told.append(f"{_shards(ids)} {what}")
        if ids := self.shards.get(NO_RUN, ()):
            told.append(f"{_shards(ids)} on servers that have lost the .vif and give them to nobody")
        return f"has {self.best.sound} of {TOTAL_SHARDS} shards" + (f": {'; '.join(told)}" if told else "")


def faults_of(topology: Topology) -> dict[tuple[int, str], EcFaults]:
    """The volumes of a topology with which something is wrong, by id and collection."""
    return {key: found for key, holdings in topology.ec.items() if (found := examine(holdings)) is not None}


def examine(holdings: Sequence[EcHolding]) -> EcFaults | None:
    """What is wrong with one volume; None where all fourteen shards are listed once, alike, and well spread."""
    if _is_well(holdings):
        return None
    sets = sets_of(holdings)
    best, *others = sets
    unknown = [one for one in others if one.run == 0 and best.run]
    others = [one for one in others if one not in unknown]
    lacking = {*range(TOTAL_SHARDS)} - {*best.places}
    no_run = {shard for one in unknown for shard in (*one.places, *one.short)}
    found = {
        MISSING: lacking - {*best.short} - no_run,
        SHORT: {*best.short},
        TWICE: {shard for shard, places in best.places.items() if len({one.node.id for one in places}) > 1},
        NO_RUN: no_run,
    }
    hosts: dict[str, set[int]] = defaultdict(set)
    for shard, places in best.places.items():
        for one in places:
            hosts[one.node.host].add(shard)
    crowded = {host: len(shards) for host, shards in hosts.items() if len(shards) > MOST_TOGETHER}
    shards = {kind: tuple(sorted(ids)) for kind, ids in found.items() if ids}
    if not shards and not others and not crowded:
        return None
    return EcFaults(best, tuple(others), shards, crowded)


def sets_of(holdings: Iterable[EcHolding]) -> list[EcSet]:
    """The runs among a volume's holdings: that with most shards first, one without a number last among equals."""
    by_run: dict[int, list[EcHolding]] = defaultdict(list)
    for one in holdings:
        by_run[one.encode_ts_ns].append(one)
    sets = [_set(run, ones) for run, ones in by_run.items()]
    return sorted(sets, key=lambda one: (-one.sound, one.run == 0, -one.run))


def _set(run: int, holdings: Sequence[EcHolding]) -> EcSet:
    sizes = Counter(size for one in holdings for size in one.sizes.values() if size)
    size = max(sizes, key=lambda each: (sizes[each], each), default=0)
    places: dict[int, list[EcHolding]] = defaultdict(list)
    short: dict[int, list[EcHolding]] = defaultdict(list)
    for one in holdings:
        told = one.sizes
        for shard in one.shard_ids:
            (places if not size or told.get(shard, size) == size else short)[shard].append(one)
    first = holdings[0]
    return EcSet(
        first.volume_id,
        first.collection,
        run,
        size,
        {shard: tuple(places[shard]) for shard in sorted(places)},
        {shard: tuple(short[shard]) for shard in sorted(short)},
    )


def _is_well(holdings: Sequence[EcHolding]) -> bool:
    """The quick answer for the many volumes with which nothing is wrong."""
    bits = count = 0
    first = holdings[0].info
    run, size = first.encode_ts_ns, first.shard_sizes[0] if first.shard_sizes else -1
    hosts: dict[str, int] = {}
    for one in holdings:
        info = one.info
        if info.encode_ts_ns != run:
            return False
        for told in info.shard_sizes:
            if told != size or not told:
                return False
        mask = info.ec_index_bits
        mine = mask.bit_count()
        bits |= mask
        count += mine
        host = one.node.address.host
        hosts[host] = mine = hosts.get(host, 0) + mine
        if mine > MOST_TOGETHER:
            return False
    return bits == ALL_BITS and count == TOTAL_SHARDS


def _shards(ids: Iterable[int]) -> str:
    names = list(map(str, ids))
    return f"shard{'s' if len(names) > 1 else ''} {', '.join(names)}"
