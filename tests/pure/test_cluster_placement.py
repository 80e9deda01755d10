"""Copies and shards are placed so that one machine's loss is survived, within the room there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto_gen import master_pb2 as m
from weed_cluster.address import Address
from weed_cluster.placement import (
    Reserved,
    is_misplaced,
    no_room,
    pick_target,
    satisfies,
    why_not,
    why_not_move,
)
from weed_cluster.replica_placement import ReplicaPlacement
from weed_cluster.topology import Disk, EcHolding, Node, Replica, Topology
from weed_core.errors import BadTask
from weed_ec.placement import EcPlanner, EcTarget, crowded
from weed_storage.ec_layout import TOTAL_SHARDS

GIB = 1 << 30


def node(name: str, rack: str = "r1", center: str = "dc1", host: str = "", port: int = 8080, **disks: Disk) -> Node:
    return Node(name, Address(host or name, port + 10000, port), center, rack, {d.type: d for d in disks.values()})


def disk(slots: int = 10, disk_type: str = "", count: int = 1, **more: object) -> Disk:
    """`count` physical disks with this many slots each."""
    physical = dict.fromkeys(range(count), slots)
    return Disk(type=disk_type, max_volume_count=slots * count, physical=physical, **more)  # type: ignore[arg-type]


def cluster(*nodes: Node) -> Topology:
    return Topology(volume_size_limit=30 * GIB, nodes={each.id: each for each in nodes})


def volume(volume_id: int = 1, size: int = GIB, disk_type: str = "") -> Replica:
    return Replica(node("source"), disk_type, m.VolumeInformationMessage(id=volume_id, size=size))


def planned(topology: Topology, volume_id: int = 1, **wishes: object) -> list[EcTarget]:
    targets = EcPlanner(topology, **wishes).plan(volume(volume_id))  # type: ignore[arg-type]
    assert not isinstance(targets, str), targets
    return targets


def per(targets: list[EcTarget], what: str) -> Counter[str]:
    """Shards by "rack", "host", "id" (of the node), "disk" or disk "type"."""
    counts: Counter[str] = Counter()
    for target in targets:
        place = target.node
        key = {
            "disk": f"{place.id} {target.disk_type} {target.disk_id}",
            "rack": place.rack,
            "host": place.host,
            "id": place.id,
            "type": target.disk_type,
        }[what]
        counts[key] += len(target.shard_ids)
    return counts


# --- copies


def test_placements_are_written_as_three_digits() -> None:
    assert ReplicaPlacement.parse("012") == ReplicaPlacement(0, 1, 2) == ReplicaPlacement.from_byte(12)
    assert ReplicaPlacement.parse("1") == ReplicaPlacement(0, 0, 1)
    assert ReplicaPlacement.parse("") == ReplicaPlacement()
    assert (str(ReplicaPlacement(1, 2, 0)), ReplicaPlacement(1, 2, 0).copies) == ("120", 4)
    for text in ("0010", "a", "-1", "٣٣٣"):
        with pytest.raises(BadTask, match="no replica placement"):
            ReplicaPlacement.parse(text)


A1, A2 = node("a1", "ra"), node("a2", "ra")
B1, B2 = node("b1", "rb"), node("b2", "rb")
FAR = node("far", "rf", "dc2")


@pytest.mark.parametrize(
    ("placement", "holders", "target", "reason"),
    [
        ("000", [], A1, ""),
        ("000", [A1], B1, "outside rack ra"),
        ("000", [A1], A2, "no further copy in rack ra"),
        ("001", [A1], A2, ""),
        ("001", [A1], B1, "outside rack ra"),
        ("001", [A1, A2], node("a3", "ra"), "no further copy in rack ra"),
        ("010", [A1], B1, ""),
        ("010", [A1], A2, "no further copy in rack ra"),
        ("010", [A1], FAR, "outside data center dc1"),
        ("010", [A1, B1], node("c1", "rc"), "outside rack ra, rb"),
        ("100", [A1], FAR, ""),
        ("100", [A1], B1, "outside rack ra"),
        ("110", [A1, B1], FAR, ""),
        ("110", [A1, FAR], B1, ""),
        ("110", [A1, B1, FAR], node("far2", "rg", "dc2"), "data center dc2 has its copies"),
        ("011", [A1, A2], B1, ""),
        ("011", [A1, B1], A2, ""),
        ("011", [A1, A2, B1], B2, "rack rb has its copies"),
    ],
)
def test_a_copy_goes_only_where_its_placement_lets_it(
    placement: str, holders: list[Node], target: Node, reason: str
) -> None:
    said = why_not(ReplicaPlacement.parse(placement), holders, target)
    assert reason in said
    assert satisfies(ReplicaPlacement.parse(placement), holders, target) is (not reason) is (not said)


def test_a_server_never_holds_two_copies_and_two_servers_of_one_host_may() -> None:
    neighbour = node("a1b", "rb", host="a1", port=8081)
    assert why_not(ReplicaPlacement.parse("010"), [A1], A1) == "a1:8080 already holds a copy"
    assert why_not(ReplicaPlacement.parse("010"), [A1], neighbour) == ""
    assert not is_misplaced(ReplicaPlacement.parse("010"), [A1, neighbour])


def test_a_target_on_another_host_is_preferred_however_empty_a_server_of_the_same_one_is() -> None:
    holder, beside = node("a1", d=disk()), node("a1b", host="a1", port=8081, d=disk(99))
    elsewhere = node("b1", d=disk(2))
    topology = cluster(holder, beside, elsewhere)
    assert pick_target(topology, ReplicaPlacement(0, 0, 1), [holder], "", GIB) is elsewhere
    elsewhere.disks[""].volume_count = 2
    assert pick_target(topology, ReplicaPlacement(0, 0, 1), [holder], "", GIB) is beside


def test_a_move_stays_among_the_servers_of_a_host_rather_than_bring_two_copies_together() -> None:
    beside, other = node("a1b", "ra", host="a1", port=8081), ReplicaPlacement.parse("001")
    assert why_not_move(other, A1, [A2], beside) == ""
    assert "already holds a copy on another of its servers" in why_not_move(other, A2, [A1], beside)
    third = node("a1c", "ra", host="a1", port=8082)
    assert why_not_move(other, A1, [beside], third) == ""


NODES = st.builds(
    node,
    st.sampled_from("pqrstuv"),
    st.sampled_from(["r1", "r2", "r3"]),
    st.sampled_from(["dc1", "dc2"]),
    host=st.sampled_from(["h1", "h2", "h3", "h4", "h5"]),
    port=st.sampled_from([8080, 8081, 8082]),
)


@given(st.builds(ReplicaPlacement, *[st.integers(0, 2)] * 3), st.lists(NODES, max_size=5), NODES)
def test_whether_a_copy_may_go_somewhere_depends_on_servers_racks_and_data_centers_and_never_on_hosts(
    placement: ReplicaPlacement, holders: list[Node], target: Node
) -> None:
    apart = {each: replace(each, address=Address(f"m{n}", 18080, 8080)) for n, each in enumerate({*holders, target})}
    if target.address not in {holder.address for holder in holders}:
        assert satisfies(placement, holders, target) == satisfies(
            placement, [apart[holder] for holder in holders], apart[target]
        )


@given(st.lists(NODES, min_size=1, max_size=4), st.lists(NODES, min_size=1, max_size=8))
def test_a_target_shares_a_host_only_where_every_other_one_would(holders: list[Node], others: list[Node]) -> None:
    topology = cluster(*(replace(each, disks={"": disk()}) for each in {n.address: n for n in others}.values()))
    topology.nodes = {str(number): each for number, each in enumerate(topology.nodes.values())}
    wide = ReplicaPlacement(9, 9, 9)
    chosen = pick_target(topology, wide, holders, "", GIB)
    hosts = {holder.host for holder in holders}
    if chosen is not None and chosen.host in hosts:
        for each in topology.nodes.values():
            assert each.host in hosts or not satisfies(wide, holders, each)


def is_spread(placement: ReplicaPlacement, holders: Sequence[Node]) -> bool:
    """Tell whether the copies span as many data centers and racks as they should."""
    racks = Counter((holder.data_center, holder.rack) for holder in holders)
    return (
        len({holder.data_center for holder in holders}) > placement.other_data_centers
        and len(racks) > placement.other_racks
        and max(racks.values(), default=0) > placement.same_rack
    )


@given(st.builds(ReplicaPlacement, *[st.integers(0, 2)] * 3), st.permutations(range(24)))
def test_copies_placed_one_by_one_end_well_spread_and_then_nothing_more_is_allowed(
    placement: ReplicaPlacement, order: list[int]
) -> None:
    everywhere = [node(f"n{n}", f"r{n % 8 % 4}{n % 3}", f"dc{n % 3}") for n in order]
    holders: list[Node] = []
    for candidate in everywhere:
        if satisfies(placement, holders, candidate):
            holders.append(candidate)
    assert len(holders) <= placement.copies
    if len(holders) == placement.copies and is_spread(placement, holders):
        assert not is_misplaced(placement, holders) or len(holders) > 3


def test_good_and_bad_places_are_told_apart() -> None:
    one_other_rack = ReplicaPlacement.parse("010")
    assert is_spread(one_other_rack, [A1, B1])
    assert not is_misplaced(one_other_rack, [A1, B1])
    assert not is_spread(one_other_rack, [A1, A2])
    assert is_misplaced(one_other_rack, [A1, A2])
    assert is_misplaced(ReplicaPlacement(), [A1, A2])
    assert not is_spread(ReplicaPlacement(), [])


def test_the_target_is_the_relatively_emptiest_node_with_room() -> None:
    crowded, roomy = node("crowded", d=disk(100)), node("roomy", "r2", d=disk(10))
    full = node("full", "r3", d=disk(10))
    crowded.disks[""].volume_count, roomy.disks[""].volume_count, full.disks[""].volume_count = 60, 2, 10
    topology, anywhere = cluster(crowded, roomy, full), ReplicaPlacement(0, 2, 0)
    assert pick_target(topology, anywhere, [], "hdd", GIB) is roomy
    assert pick_target(topology, anywhere, [roomy], "", GIB) is crowded
    assert pick_target(topology, anywhere, [], "", GIB, exclude=[roomy]) is crowded
    assert pick_target(topology, anywhere, [], "ssd", GIB) is None
    reserved = Reserved()
    for _ in range(8):
        reserved.add(roomy, "hdd", GIB)
    assert pick_target(topology, anywhere, [], "", GIB, reserved=reserved) is crowded
    reserved.add(roomy, "", -GIB, slots=-7)
    assert pick_target(topology, anywhere, [], "", GIB, reserved=reserved) is roomy


def test_a_disk_is_never_filled_above_nine_tenths() -> None:
    nearly = node("nearly", d=disk(10, total_bytes=100 * GIB, free_bytes=20 * GIB))
    assert no_room(nearly, "", 10 * GIB) == ""
    assert "fuller than 90%" in no_room(nearly, "", 10 * GIB + 1)
    reserved = Reserved()
    reserved.add(nearly, "", 5 * GIB)
    assert no_room(nearly, "", 5 * GIB, reserved) == ""
    assert "fuller than 90%" in no_room(nearly, "", 6 * GIB, reserved)


# --- shards


def test_shards_go_to_as_many_racks_and_hosts_as_there_are() -> None:
    targets = planned(cluster(*(node(f"n{n:02}", f"r{n % 5}", d=disk()) for n in range(20))))
    assert sorted(per(targets, "rack").values()) == [2, 3, 3, 3, 3]
    assert set(per(targets, "host").values()) == {1}
    assert [shard for target in targets for shard in target.shard_ids] == list(range(TOTAL_SHARDS))


def test_data_and_parity_are_each_spread_over_the_racks() -> None:
    targets = planned(cluster(*(node(f"n{n:02}", f"r{n % 4}", d=disk()) for n in range(16))))
    data, parity = Counter[str](), Counter[str]()
    for target in targets:
        for shard in target.shard_ids:
            (data if shard < 10 else parity)[target.node.rack] += 1
    assert (max(data.values()), max(parity.values()), max((data + parity).values())) == (3, 1, 4)


def test_all_physical_disks_of_a_server_are_used_before_one_is_used_twice() -> None:
    targets = planned(cluster(*(node(f"n{n}", d=disk(count=2)) for n in range(7))))
    assert len(targets) == 14
    assert set(per(targets, "disk").values()) == {1}


def test_few_disks_are_packed_but_never_above_four() -> None:
    targets = planned(cluster(*(node(f"n{n}", d=disk()) for n in range(4))))
    assert sorted(per(targets, "disk").values()) == [3, 3, 4, 4]


def test_fewer_than_four_disks_are_refused_and_nothing_is_taken() -> None:
    topology = cluster(*(node(f"n{n}", d=disk()) for n in range(3)))
    planner = EcPlanner(topology)
    assert "no room for 14 shards" in str(planner.plan(volume()))
    assert planner.plan(volume()) == planner.plan(volume())
    enough = cluster(*(node(f"n{n}", d=disk(1)) for n in range(3)), node("tight", d=disk(1, count=2)))
    tight = EcPlanner(enough)
    for _ in range(3):  # fifty shards fit, three times fourteen of them with never more than four on a disk
        assert not isinstance(tight.plan(volume()), str)
    assert isinstance(tight.plan(volume()), str)


def test_what_a_plan_takes_the_next_one_does_not() -> None:
    topology = cluster(*(node(f"n{n:02}", f"r{n % 7}", d=disk(1)) for n in range(14)))
    planner = EcPlanner(topology)
    plans = [planner.plan(volume(number)) for number in range(11)]
    assert [isinstance(plan, str) for plan in plans] == [False] * 10 + [True]
    shards = per([target for plan in plans[:10] for target in plan if isinstance(target, EcTarget)], "id")
    assert set(shards.values()) == {10}


def test_the_same_cluster_gives_the_same_plans() -> None:
    def plans(order: list[int]) -> list[object]:
        topology = cluster(*(node(f"n{n:02}", f"r{n % 3}", d=disk(count=2)) for n in order))
        planner = EcPlanner(topology)
        return [planner.plan(volume(number)) for number in range(20)]

    assert plans(list(range(12))) == plans(list(reversed(range(12))))


def test_one_host_with_many_servers_gets_no_more_than_four_while_others_have_room() -> None:
    big = [node(f"big{n}", "r1", host="big", port=8080 + n, d=disk()) for n in range(8)]
    small = [node(f"s{n}", "r2", d=disk()) for n in range(5)]
    assert per(planned(cluster(*big, *small)), "host")["big"] == 4
    assert per(planned(cluster(*big)), "host") == {"big": 14}
    assert crowded(["big"] * 4) == ""
    assert crowded(["big"] * 9 + ["small"] * 5).endswith("big 9, small 5")


def test_the_volumes_own_disk_type_is_preferred_among_equals() -> None:
    mixed = [node(f"n{n:02}", s=disk(disk_type="ssd"), d=disk()) for n in range(14)]
    targets = EcPlanner(cluster(*mixed)).plan(volume(disk_type="ssd"))
    assert not isinstance(targets, str)
    assert per(targets, "type") == {"ssd": 14}
    scarce = [node("fast", s=disk(disk_type="ssd")), *(node(f"n{n:02}", d=disk()) for n in range(13))]
    targets = EcPlanner(cluster(*scarce)).plan(volume(disk_type="ssd"))
    assert not isinstance(targets, str)
    assert per(targets, "type") == {"ssd": 1, "": 13}
    fast = [node(f"f{n:02}", s=disk(disk_type="ssd")) for n in range(14)]
    slow = [node(f"a{n:02}", d=disk(100)) for n in range(14)]
    targets = EcPlanner(cluster(*fast, *slow)).plan(volume(disk_type="ssd"))
    assert not isinstance(targets, str)
    assert per(targets, "type") == {"ssd": 14}


def test_tags_are_tried_in_turn_for_the_whole_plan() -> None:
    def topology(cold: int) -> Topology:
        return cluster(
            *(node(f"c{n}", d=disk(tags=("Cold",))) for n in range(cold)),
            *(node(f"l{n}", d=disk(tags=("luke",))) for n in range(3)),
            *(node(f"x{n}", d=disk(99)) for n in range(9)),
        )

    assert all(t.node.id.startswith("c") for t in planned(topology(4), tags=["cold", "luke"]))
    assert {t.node.id[0] for t in planned(topology(3), tags=["cold ", "luke"])} == {"c", "l"}
    assert {t.node.id[0] for t in planned(topology(0), tags=["cold", "luke"])} == {"l", "x"}
    assert "x" in {t.node.id[0] for t in planned(topology(4))}


def test_a_placement_limits_shards_per_rack_and_node_as_long_as_it_can() -> None:
    nodes = [node(f"n{n:02}", "r1" if n < 20 else "r2", d=disk(count=4)) for n in range(24)]
    nodes += [node(f"m{n}", "r3", d=disk(count=4)) for n in range(4)]
    even = planned(cluster(*nodes))
    assert sorted(per(even, "rack").values()) == [4, 5, 5]
    limited = planned(cluster(*nodes[:20]), placement=ReplicaPlacement.parse("001"))
    assert set(per(limited, "id").values()) == {1}
    impossible = planned(cluster(*nodes[:5]), placement=ReplicaPlacement.parse("021"))
    assert sorted(per(impossible, "id").values()) == [2, 3, 3, 3, 3]


def test_shards_that_will_be_replaced_count_as_gone() -> None:
    nodes = [node(f"n{n:02}", d=disk(1)) for n in range(14)]
    topology = cluster(*nodes)
    for number, each in enumerate(nodes):
        each.disks[""].shards = {0: 10}
        info = m.VolumeEcShardInformationMessage(id=1, ec_index_bits=1 << number)
        topology.ec.setdefault((1, ""), []).append(EcHolding(each, "", info))
    assert isinstance(EcPlanner(topology).plan(volume(2)), str)
    assert len(planned(topology, 1)) == 14


def test_a_disk_that_is_nearly_full_by_bytes_gets_only_what_fits() -> None:
    nodes = [node(f"n{n}", d=disk(count=4, total_bytes=1000 * GIB, free_bytes=500 * GIB)) for n in range(5)]
    nodes[0].disks[""].free_bytes = 101 * GIB
    targets = EcPlanner(cluster(*nodes)).plan(volume(size=10 * GIB))
    assert not isinstance(targets, str)
    assert per(targets, "id")["n0"] == 1


NODE_SHAPES = st.tuples(
    st.integers(0, 4),  # rack
    st.integers(0, 9),  # host
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 25)), min_size=1, max_size=3),  # slots, shards per disk
    st.sampled_from(["", "ssd"]),
)


def built(shapes: list[tuple[int, int, list[tuple[int, int]], str]]) -> Topology:
    nodes = []
    for number, (rack, host, disks, disk_type) in enumerate(shapes):
        slots = {place: slots for place, (slots, _) in enumerate(disks)}
        shards = {place: shards for place, (_, shards) in enumerate(disks)}
        each = Disk(disk_type, max_volume_count=sum(slots.values()), physical=slots, shards=shards)
        nodes.append(node(f"n{number:02}", f"r{rack}", host=f"h{host}", port=8000 + number, d=each))
    return cluster(*nodes)


@settings(max_examples=150, deadline=None)
@given(st.lists(NODE_SHAPES, min_size=1, max_size=18), st.integers(1, 6), st.sampled_from(["000", "021", "002"]))
def test_plans_place_every_shard_once_within_the_room_there_is(
    shapes: list[tuple[int, int, list[tuple[int, int]], str]], volumes: int, placement: str
) -> None:
    topology = built(shapes)
    planner = EcPlanner(topology, ReplicaPlacement.parse(placement))
    free = {
        (each.id, place): max(0, slots * 10 - each.disks[name].shards[place])
        for each in topology.nodes.values()
        for name in each.disks
        for place, slots in each.disks[name].physical.items()
    }
    for number in range(volumes):
        plan = planner.plan(volume(number))
        if isinstance(plan, str):
            assert sum(min(4, room) for room in free.values()) < TOTAL_SHARDS, "there was room for it"
            continue
        assert sorted(shard for target in plan for shard in target.shard_ids) == list(range(TOTAL_SHARDS))
        assert len({(target.node.id, target.disk_id) for target in plan}) == len(plan)
        for target in plan:
            assert len(target.shard_ids) <= 4
            free[target.node.id, target.disk_id] -= len(target.shard_ids)
            assert free[target.node.id, target.disk_id] >= 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=20), st.integers(1, 4))
def test_shards_are_spread_as_evenly_as_the_racks_allow(hosts_per_rack: list[int], disks: int) -> None:
    nodes = [
        node(f"n{rack:02}-{host}", f"r{rack}", d=disk(5, count=disks))
        for rack, hosts in enumerate(hosts_per_rack)
        for host in range(hosts)
    ]
    plan = EcPlanner(cluster(*nodes)).plan(volume())
    if isinstance(plan, str):
        assert sum(hosts_per_rack) * disks < 4
        return
    by_rack, by_host = per(plan, "rack"), per(plan, "host")
    if sum(hosts_per_rack) * 4 >= TOTAL_SHARDS:
        assert max(by_host.values()) <= 4, "no host's loss loses the volume where there are hosts enough"
        for more, less in permutations(range(len(hosts_per_rack)), 2):
            if by_rack[f"r{more}"] > by_rack[f"r{less}"] + 1:
                assert by_rack[f"r{less}"] == 4 * hosts_per_rack[less], "a rack is behind another only where it is full"
    for each in nodes:
        for other in nodes:
            if each.rack == other.rack:
                assert abs(by_host[each.host] - by_host[other.host]) <= 1
