"""What a repair sees when it looks: the holders of a volume's shards, which run can be read, what is not as it should.

Asked of the servers themselves, afresh for each look. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from weed_cluster.address import Address
from weed_cluster.topology import Node, Topology
from weed_core.errors import ServerFailed, StaleTask
from weed_ec.runs import UNKNOWN_RUN, Run, runs_of, the_run
from weed_ec.shards import ShardSet, file_time, look
from weed_safety.context import Context
from weed_storage.ec_layout import DATA_SHARDS, TOTAL_SHARDS


@dataclass(frozen=True)
class Scene:
    """One look. `run` is the run that can be read; `strangers` hold shards of another one, `unknown` of no known one.

    `silent` are servers that the master lists with shards but that do not answer: those shards are neither read nor
    taken for lost.
    """

    topology: Topology
    run: Run
    unknown: tuple[ShardSet, ...]
    strangers: tuple[Run, ...]
    silent: Mapping[Address, frozenset[int]]

    @property
    def lost(self) -> tuple[int, ...]:
        """The shards that no server has in their right size, as far as all could be asked."""
        there = {shard for shards in self.silent.values() for shard in shards}
        there |= {shard for held in self.unknown for shard in held.mounted}
        return tuple(shard for shard in self.run.missing if shard not in there)

    @property
    def wrong_size(self) -> list[tuple[Address, int]]:
        """The shards that are mounted in another size than those of their run have."""
        return [
            (held.server, shard)
            for held in self.run.holders
            for shard, size in sorted(held.mounted.items())
            if size != self.run.shard_size
        ]

    @property
    def twice(self) -> dict[int, tuple[Address, ...]]:
        """The shards that several servers have in their right size."""
        return {shard: servers for shard, servers in self.run.copies.items() if len(servers) > 1}

    def nodes(self, shards: Iterable[int] = range(TOTAL_SHARDS)) -> dict[int, list[Node]]:
        """The nodes that have each of these shards mounted, as far as the master knows them."""
        found: dict[int, list[Node]] = {}
        for shard in shards:
            servers = [*self.run.copies.get(shard, ()), *(one for one, ids in self.silent.items() if shard in ids)]
            nodes = [node for server in servers if (node := self.topology.node_at(server)) is not None]
            if nodes:
                found[shard] = nodes
        return found


def see(
    ctx: Context,
    topology: Topology,
    volume_id: int,
    collection: str,
    more: Collection[Address] = (),
    may_be_few: bool = False,
) -> Scene:
    """Ask all servers that the master lists with shards of the volume, and `more`, what they have.

    Where that makes no ten shards of a run, all other servers are asked, too: the master lags, and knows nothing of
    files that are not mounted. StaleTask where no run can be read even then, unless there `may_be_few`; which shards
    are where is said then.
    """
    look_at = _Looks(ctx, topology, volume_id, collection)
    for server in more:
        look_at.listed.setdefault(server, set())
    runs = look_at.runs()
    try:
        run = the_run(runs)
    except StaleTask:
        look_at.widen()
        runs = look_at.runs()
        if not runs or not may_be_few or len(runs[0].copies) >= DATA_SHARDS:
            try:
                the_run(runs)
            except StaleTask as error:
                silent = ", ".join(map(str, look_at.silent))
                raise StaleTask(f"{error}; {silent} cannot be asked now" if silent else str(error)) from None
        run = runs[0]
    others = [one for one in runs if one is not run]
    unknown = [held for one in others if one.run == UNKNOWN_RUN for held in one.holders if held.mounted]
    strangers = tuple(one for one in others if one.run != UNKNOWN_RUN)
    return Scene(topology, run, tuple(unknown), strangers, look_at.silent)


class _Looks:
    """The servers that are asked, and what they answered."""

    def __init__(self, ctx: Context, topology: Topology, volume_id: int, collection: str) -> None:
        self.listed: dict[Address, set[int]] = {}
        self.silent: dict[Address, frozenset[int]] = {}
        self._ctx = ctx
        self._topology = topology
        self._volume = volume_id, collection
        self._found: dict[Address, ShardSet] = {}
        for holding in topology.holdings(volume_id, collection):
            self.listed.setdefault(holding.server, set()).update(holding.shard_ids)

    def widen(self) -> None:
        """Ask every server there is."""
        for node in self._topology.nodes.values():
            self.listed.setdefault(node.address, set())

    def runs(self) -> list[Run]:
        """The runs on all servers that answer, those asked that were not asked yet."""
        todo = [server for server in self.listed if server not in self._found and server not in self.silent]
        for held in self._ctx.each(self._ask, todo):
            if held is not None:
                self._found[held.server] = held
        return runs_of(self._ctx, self._found.values(), *self._volume)

    def _ask(self, server: Address) -> ShardSet | None:
        volume_id, collection = self._volume
        try:
            return look(self._ctx, server, volume_id, collection)
        except ServerFailed as error:
            self._ctx.log(f"{server} cannot be asked for its shards of volume {volume_id}: {error}")
            self.silent[server] = frozenset(self.listed[server])
            return None


def hidden(ctx: Context, scene: Scene) -> list[tuple[Address, int]]:
    """Files of lost shards that lie unmounted on any server, as after a start without an index."""
    run = scene.run
    todo = [
        (node.address, shard)
        for node in sorted(scene.topology.nodes.values(), key=lambda node: node.id)
        if node.address not in scene.silent
        for shard in scene.lost
    ]

    def is_there(one: tuple[Address, int]) -> bool:
        server, shard = one
        try:
            return file_time(ctx.volume(server), run.volume_id, run.collection, f".ec{shard:02d}") is not None
        except ServerFailed:
            return False

    mounted = {held.server: held.mounted for held in (*run.holders, *scene.unknown)}
    found = [one for one, there in zip(todo, ctx.each(is_there, todo)) if there]
    return [(server, shard) for server, shard in found if shard not in mounted.get(server, {})]
