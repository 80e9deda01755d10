"""The encode runs of a volume as its holders tell of them: who has which shards of each, and what proves their bytes.

Shards of different runs do not add up, however alike they look. Asked of the servers themselves. Knows nothing of what
is done with the shards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from proto_gen.volume_server_pb2 import VolumeInfo
from weed_cluster.address import Address
from weed_core.errors import Mismatch, StaleTask
from weed_ec.shards import ShardSet, fetch
from weed_safety.context import Context
from weed_storage.checksums import Ecsum, parse_ecsum
from weed_storage.ec_layout import DATA_SHARDS, TOTAL_SHARDS, shard_size

UNKNOWN_RUN = 0
"""What servers tell that know no run: those before 4.44, and those whose `.vif` is lost."""


@dataclass(frozen=True)
class Run:
    """One encode run of a volume.

    `run` is its encode_ts_ns; `shard_size` the bytes that each of its shards must have; `holders` the servers whose
    shards are of it. `sums` is its `.ecsum`, where all holders that have one agree; `vif` the `.vif` of one of them.
    """

    volume_id: int
    collection: str
    run: int
    shard_size: int
    holders: tuple[ShardSet, ...]
    sums: Ecsum | None = None
    vif: VolumeInfo = field(default_factory=VolumeInfo)
    sums_trouble: str = ""  # why there is no `sums` although holders have an .ecsum

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"volume {self.volume_id}"

    @property
    def copies(self) -> Mapping[int, tuple[Address, ...]]:
        """The servers that have each shard mounted in its right size, by shard id."""
        found: dict[int, list[Address]] = {}
        for held in self.holders:
            for shard_id, size in held.mounted.items():
                if size == self.shard_size:
                    found.setdefault(shard_id, []).append(held.server)
        return {shard_id: tuple(found[shard_id]) for shard_id in sorted(found)}

    @property
    def missing(self) -> tuple[int, ...]:
        """The shards that no server has mounted in their right size."""
        return tuple(sorted({*range(TOTAL_SHARDS)} - {*self.copies}))

    @property
    def strict(self) -> bool:
        """Whether its holders read rows by the strict rule of weed_storage.ec_layout.layout."""
        return any(held.generation.strict_rows for held in self.holders)

    @property
    def dat_size(self) -> int:
        """Bytes of the volume that was encoded; what the shards cover where no `.vif` tells."""
        return self.vif.dat_file_size or self.shard_size * DATA_SHARDS

    def holder(self, server: Address) -> ShardSet | None:
        """What one server has of it."""
        return next((held for held in self.holders if held.server == server), None)


def runs_of(ctx: Context, shard_sets: Iterable[ShardSet], volume_id: int, collection: str) -> list[Run]:
    """Sort what servers hold (by shards.look) into runs, the one with most shards first; one `.ecsum` asked of each.

    Where some servers know their run, those that know none are in a run of their own, UNKNOWN_RUN.
    """
    by_run: dict[int, list[ShardSet]] = {}
    for held in shard_sets:
        if held.shards:
            by_run.setdefault(held.run, []).append(held)
    runs = [_run(ctx, number, holders, volume_id, collection) for number, holders in by_run.items()]
    return sorted(runs, key=lambda one: (-len(one.copies), one.run == UNKNOWN_RUN, -one.run))


def the_run(runs: Sequence[Run]) -> Run:
    """The only run that can be read: ten of its shards or more are there. StaleTask where there is none, or two."""
    if not runs:
        raise StaleTask("no server holds a shard of the volume")
    able = [one for one in runs if len(one.copies) >= DATA_SHARDS]
    if len(able) > 1:
        raise StaleTask(
            f"{able[0].name} has two complete sets of shards, of the encode runs "
            f"{' and '.join(str(one.run) for one in able)}; nothing was touched"
        )
    if not able:
        best = runs[0]
        where = "; ".join(f"{held.server} has {_ids(held.mounted)}" for held in best.holders if held.mounted)
        raise StaleTask(
            f"{best.name} cannot be repaired: {len(best.copies)} of the {DATA_SHARDS} shards that are needed are there "
            f"({where or 'none is mounted'}); missing are {_ids(best.missing)}: bring back a server that had "
            f"{'one' if len(best.copies) == DATA_SHARDS - 1 else 'some'} of them; nothing was touched"
        )
    return able[0]


def _ids(shards: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(shards)))


def _run(ctx: Context, number: int, holders: Sequence[ShardSet], volume_id: int, collection: str) -> Run:
    vif = next((held.vif for held in holders if held.vif is not None), VolumeInfo())
    strict = any(held.generation.strict_rows for held in holders)
    sums, trouble = _sums(ctx, holders, volume_id, collection)
    sizes = Counter(size for held in holders for size in held.mounted.values() if size)
    size = shard_size(vif.dat_file_size, strict) if vif.dat_file_size else 0
    covered = {one.covered_size for one in sums.shards.values()} if sums else set()
    if not size:
        size = covered.pop() if len(covered) == 1 else max(sizes, key=lambda one: (sizes[one], one), default=0)
    if sums is not None and {one.covered_size for one in sums.shards.values()} != {size}:
        sums, trouble = None, "its .ecsum is about shards of another size"
    return Run(volume_id, collection, number, size, tuple(holders), sums, vif, trouble)


def _sums(ctx: Context, holders: Sequence[ShardSet], volume_id: int, collection: str) -> tuple[Ecsum | None, str]:
    """The `.ecsum` that the holders agree on, or why there is none."""
    able = [held.server for held in holders if held.generation.knows_ecsum]
    found = ctx.each(lambda server: fetch(ctx.volume(server), volume_id, collection, ".ecsum"), able)
    parsed: list[Ecsum] = []
    for server, content in zip(able, found):
        if content:
            try:
                parsed.append(parse_ecsum(content))
            except Mismatch as error:
                ctx.log(f"the .ecsum of volume {volume_id} on {server} is not used: {error}")
    if not parsed:
        return None, ""
    if any(one.shards != parsed[0].shards or one.block_size != parsed[0].block_size for one in parsed):
        return None, "its holders have different .ecsum files"
    if {*parsed[0].shards} != {*range(TOTAL_SHARDS)}:
        return None, "its .ecsum is not about all fourteen shards"
    return parsed[0], ""
