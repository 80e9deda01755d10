"""Shards move only where that makes a volume's spread, or a rack's fill, better."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from proto_gen import master_pb2 as m
from weed_cluster.address import Address
from weed_cluster.replica_placement import ReplicaPlacement
from weed_cluster.topology import Disk, EcHolding, Node, Replica, Topology, collection_filter, wildcard_filter
from weed_storage.ec_layout import MOST_TOGETHER
from weed_tasks.ec_balance.spread import CROSS_RACK, DEDUP, GLOBAL, WITHIN_RACK, Move, Plan, Wishes

MIB = 1 << 20


class Town:
    """A cluster under construction."""

    def __init__(self) -> None:
        self.topology = Topology()

    def server(
        self, name: str, rack: str = "r1", host: str = "", center: str = "dc1", slots: int = 20, disks: int = 1,
        disk_type: str = "", tags: tuple[str, ...] = (),
    ) -> str:  # fmt: skip
        port = 8000 + len(self.topology.nodes)
        disk = Disk(disk_type, max_volume_count=slots * disks, physical=dict.fromkeys(range(disks), slots), tags=tags)
        address = Address(host or name, port + 10000, port)
        self.topology.nodes[name] = Node(name, address, center, rack, {disk_type: disk})
        return name

    def servers(self, count: int, racks: int = 1) -> list[str]:
        return [self.server(f"n{number:02}", f"r{number % racks}") for number in range(count)]

    def shards(
        self, name: str, shards: list[int], volume_id: int = 1, disk_id: int = 0, collection: str = "", run: int = 7
    ) -> None:
        node = self.topology.nodes[name]
        bits = sum(1 << shard for shard in shards)
        info = m.VolumeEcShardInformationMessage(
            id=volume_id, collection=collection, ec_index_bits=bits, disk_id=disk_id, encode_ts_ns=run,
            shard_sizes=[MIB] * len(shards),
        )  # fmt: skip
        (disk,) = node.disks.values()
        disk.shards[disk_id] = disk.shards.get(disk_id, 0) + len(shards)
        self.topology.ec.setdefault((volume_id, collection), []).append(EcHolding(node, disk.type, info))

    def plan(self, **wishes: object) -> Plan:
        return Plan(self.topology, Wishes(**{"min_servers": 2, **wishes}))  # type: ignore[arg-type]

    def after(self, moves: list[Move], what: str = "id", volume_id: int = 1) -> Counter[str]:
        """Shards of a volume by node id, "host" or "rack" once all moves are done."""
        where: dict[int, list[str]] = {}
        for holding in self.topology.ec[volume_id, ""]:
            for shard in holding.shard_ids:
                where.setdefault(shard, []).append(holding.node.id)
        for move in moves:
            if move.volume_id == volume_id:
                where[move.shard_id].remove(move.source.node.id)
                if move.phase != DEDUP:
                    where[move.shard_id].append(move.target.node.id)
        assert all(len(places) == 1 for places in where.values()), where
        nodes = [self.topology.nodes[places[0]] for places in where.values()]
        return Counter({"id": node.id, "host": node.host, "rack": node.rack}[what] for node in nodes)


def spread(town: Town, names: list[str], volume_id: int = 1) -> None:
    """Deal fourteen shards out in turn."""
    for at, name in enumerate(names[:14]):
        town.shards(name, list(range(at, 14, len(names))), volume_id)


def test_a_volume_that_is_well_spread_is_left_alone() -> None:
    for servers, racks in ((5, 1), (14, 1), (20, 4), (4, 4)):
        town = Town()
        spread(town, town.servers(servers, racks))
        assert town.plan().moves == []


def test_a_shard_on_two_servers_loses_the_copy_that_spreads_it_worse() -> None:
    town = Town()
    names = town.servers(7)
    spread(town, names)
    town.shards(names[3], [0])
    (move,) = town.plan().moves
    assert (move.phase, move.shard_id, move.source.node.id, move.target.node.id) == (DEDUP, 0, names[3], names[0])


def test_a_crowded_rack_hands_shards_over_until_the_racks_are_even() -> None:
    town = Town()
    names = town.servers(12, racks=4)
    spread(town, [name for name in names if town.topology.nodes[name].rack in ("r0", "r1")])
    plan = town.plan()
    assert {move.phase for move in plan.moves} == {CROSS_RACK}
    assert len(plan.moves) == 6
    assert sorted(town.after(plan.moves, "rack").values()) == [3, 3, 4, 4]
    assert max(town.after(plan.moves).values()) <= 2


def test_data_and_parity_are_both_handed_over() -> None:
    town = Town()
    names = town.servers(2, racks=2)
    town.server("n02", "r2")
    town.shards(names[0], list(range(14)))
    plan = town.plan(threshold=0.05)
    left = set(range(14)) - {move.shard_id for move in plan.moves}
    assert sum(shard < 10 for shard in left) <= 4
    assert sum(shard >= 10 for shard in left) <= 2


def test_the_hosts_of_a_rack_are_evened_out_whatever_their_ports() -> None:
    town = Town()
    big = [town.server(f"big{number}", host="big") for number in range(3)]
    for number in range(4):
        town.server(f"small{number}")
    spread(town, big)
    plan = town.plan()
    assert sorted(town.after(plan.moves, "host").values()) == [2, 3, 3, 3, 3]
    assert plan.moves[0].phase == WITHIN_RACK


def test_the_servers_of_a_single_machine_are_evened_out_and_the_plan_says_what_its_loss_would_lose() -> None:
    town = Town()
    here = [town.server(f"s{number}", host="only") for number in range(4)]
    town.shards(here[0], list(range(14)))
    plan = town.plan()
    assert sorted(town.after(plan.moves).values()) == [3, 3, 4, 4]
    (told,) = plan.skipped
    assert told.reason == "still has more than 4 shards on one host, whose loss would lose it: only 14"


def test_a_host_whose_loss_would_lose_the_volume_is_relieved_even_into_a_fuller_rack() -> None:
    town = Town()
    alone = town.server("alone", "ra")
    others = [town.server(f"b{number}", "rb") for number in range(6)]
    town.shards(alone, list(range(7)))
    for number, name in enumerate(others):
        town.shards(name, [7 + number] + [13] * (number == 5))
    moves = town.plan().moves
    assert town.after(moves, "host")["alone"] == MOST_TOGETHER
    assert max(town.after(moves, "host").values()) == MOST_TOGETHER


def test_small_differences_below_the_threshold_are_left_alone() -> None:
    town = Town()
    a, b, c = town.servers(3, racks=3)
    for name, shards in ((a, range(6)), (b, range(6, 10)), (c, range(10, 14))):
        town.shards(name, list(shards))
    assert len(town.plan(threshold=0.05).moves) == 0  # four, four, six: hosts cannot do better than five, five, four


def test_the_placements_digits_limit_shards_per_rack_and_server() -> None:
    town = Town()
    names = town.servers(6, racks=3)
    town.shards(names[0], list(range(14)))
    free = town.plan().moves
    assert sorted(town.after(free, "rack").values()) == [4, 5, 5]
    limited = town.plan(placement=ReplicaPlacement.parse("021")).moves
    counts = town.after(limited)
    assert all(count <= 1 for name, count in counts.items() if name != names[0])


def test_a_full_server_hands_shards_to_an_empty_one_of_its_rack() -> None:
    town = Town()
    names = town.servers(14)
    for volume_id in range(1, 9):
        spread(town, names, volume_id)
    town.server("new", "r0")
    plan = town.plan()
    assert {move.phase for move in plan.moves} == {GLOBAL}
    assert 5 <= len(plan.moves) <= 10
    assert {move.target.node.id for move in plan.moves} == {"new"}
    assert max(Counter(move.volume_id for move in plan.moves).values()) == 1


def test_a_volume_in_no_clear_state_is_passed_over_with_the_reason() -> None:
    town = Town()
    names = town.servers(4)
    town.shards(names[0], list(range(14)), volume_id=1, run=1)
    town.shards(names[1], [0, 1], volume_id=1, run=2)
    town.shards(names[0], list(range(14)), volume_id=2)
    info = m.VolumeInformationMessage(id=2)
    town.topology.volumes[2] = [Replica(town.topology.nodes[names[2]], "", info)]
    town.topology.nodes[names[3]].disks[""].physical = {0: 20, 1: 20}
    town.shards(names[3], [5], volume_id=3, disk_id=0)
    town.shards(names[3], [5], volume_id=3, disk_id=1)
    plan = town.plan()
    assert plan.moves == []
    assert [(skip.volume_id, skip.key) for skip in plan.skipped] == [
        (1, "unsettled"),
        (2, "unsettled"),
        (3, "twice_on_a_server"),
    ]
    assert "2 encode runs" in plan.skipped[0].reason
    assert "regular volume still exists" in plan.skipped[1].reason


def test_filters_narrow_what_moves_and_where() -> None:
    town = Town()
    names = town.servers(2)
    town.server("far", center="dc2")
    town.server("fast", disk_type="ssd")
    town.server("slow")
    town.shards(names[0], list(range(14)))
    town.shards(names[0], list(range(14)), volume_id=2, collection="pics")

    def touched(**wishes: object) -> set[str]:
        return {move.target.node.id for move in town.plan(**wishes).moves}

    assert touched() == {"n01", "far", "fast", "slow"}
    assert touched(accepts_data_center=wildcard_filter("dc1"), disk_type="hdd") == {"n01", "slow"}
    assert {move.volume_id for move in town.plan(accepts_collection=collection_filter("pics")).moves} == {2}
    assert town.plan(min_servers=6).moves == []
    assert touched(disk_type="ssd") == set()


def test_nothing_goes_where_there_is_no_room() -> None:
    town = Town()
    full = town.server("full", slots=20)
    town.server("none", slots=0)
    crowded = town.server("bytes")
    disk = town.topology.nodes[crowded].disks[""]
    disk.total_bytes, disk.free_bytes = 100 * MIB, 11 * MIB
    town.shards(full, list(range(14)))
    assert town.after(town.plan().moves) == {"full": 13, "bytes": 1}


SERVERS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 3), st.integers(1, 2)), min_size=2, max_size=12
)


@settings(max_examples=150, deadline=None)
@given(SERVERS, st.lists(st.lists(st.integers(0, 11), min_size=14, max_size=14), min_size=1, max_size=4), st.data())
def test_a_plan_loses_no_shard_never_worsens_a_spread_and_then_has_nothing_more_to_do(
    shapes: list[tuple[int, int, int, int]], volumes: list[list[int]], data: st.DataObject
) -> None:
    town = Town()
    names = [
        town.server(f"n{number:02}", f"r{rack}", f"h{rack}{host}", slots=slots, disks=disks)
        for number, (rack, host, slots, disks) in enumerate(shapes)
    ]
    for volume_id, places in enumerate(volumes, 1):
        by_node: dict[str, list[int]] = {}
        for shard, place in enumerate(places):
            by_node.setdefault(names[place % len(names)], []).append(shard)
        for name, shards in by_node.items():
            town.shards(name, shards, volume_id)
    plan = town.plan(threshold=data.draw(st.sampled_from([0.05, 0.2, 0.5])))
    final = Counter[str]()
    for volume_id in range(1, len(volumes) + 1):
        start = town.after([], "host", volume_id)
        end = town.after(plan.moves, "host", volume_id)
        assert sum(end.values()) == 14
        assert max(end.values()) <= max(MOST_TOGETHER, max(start.values()))
        final += town.after(plan.moves, "id", volume_id)
    for name in names:
        disk = town.topology.nodes[name].disks[""]
        assert final[name] <= sum(max(disk.shards.get(place, 0), 10 * slots) for place, slots in disk.physical.items())
    for move in plan.moves:
        assert move.source.node is not move.target.node
