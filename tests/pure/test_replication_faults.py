"""Judging replica sets against their placement, and needles by their histories: what replication repair decides."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto_gen import master_pb2 as m
from weed_cluster.address import Address
from weed_cluster.placement import Reserved, is_misplaced
from weed_cluster.replica_placement import ReplicaPlacement
from weed_cluster.topology import Disk, Node, Replica, Topology
from weed_core.errors import BadTask
from weed_tasks.replication.faults import (
    MISPLACED,
    OVER,
    UNDER,
    FirstSeen,
    additions,
    choose_targets,
    examine,
    same_host,
    wanted_placement,
    why_no_target,
)
from weed_tasks.replication.reconcile import DELETED, Fingerprint, History, decide
from weed_tasks.scope import unfit

PLACEMENTS = ["000", "001", "010", "100", "011", "110", "002", "020", "200"]


def node(center: int, rack: int, machine: int, slots: int = 8) -> Node:
    address = Address.parse(f"10.{center}.{rack}.{machine}:8080")
    disk = Disk("", 0, slots)
    return Node(str(address), address, f"dc{center}", f"r{rack}", {"": disk})


def replica(at: Node, placement: str = "000", read_only: bool = False, file_count: int = 0) -> Replica:
    number = int(placement)
    return Replica(
        at,
        "",
        m.VolumeInformationMessage(
            id=7, replica_placement=number, read_only=read_only, size=1000, file_count=file_count
        ),
    )


def cluster_of(*nodes: Node) -> Topology:
    return Topology(volume_size_limit=1 << 30, nodes={each.id: each for each in nodes})


def test_a_well_placed_set_has_no_fault() -> None:
    assert examine([replica(node(1, 1, 1)), replica(node(1, 2, 1))], ReplicaPlacement.parse("010")) is None


def test_too_few_copies_are_counted() -> None:
    fault = examine([replica(node(1, 1, 1))], ReplicaPlacement.parse("011"))
    assert fault is not None
    assert (fault.kind, fault.missing, fault.surplus) == (UNDER, 2, ())
    assert fault.why == "has 1 of 3 copies"


def test_two_copies_in_one_rack_are_misplaced_where_another_rack_is_wanted() -> None:
    first, second = replica(node(1, 1, 1), file_count=9), replica(node(1, 1, 2), file_count=5)
    fault = examine([second, first], ReplicaPlacement.parse("010"))
    assert fault is not None
    assert (fault.kind, fault.keep, fault.surplus, fault.missing) == (MISPLACED, (first,), (second,), 1)
    assert "wants no further copy in rack r1" in fault.why


def beside(center: int, rack: int, machine: int, port: int = 8081) -> Node:
    """Another server of a machine."""
    address = Address.parse(f"10.{center}.{rack}.{machine}:{port}")
    return Node(str(address), address, f"dc{center}", f"r{rack}", {"": Disk("", 0, 8)})


def test_two_copies_on_one_machine_are_where_their_placement_lets_them_be() -> None:
    assert examine([replica(node(1, 1, 1)), replica(beside(1, 1, 1))], ReplicaPlacement.parse("001")) is None


def test_of_copies_too_many_those_on_different_machines_stay() -> None:
    best, second, apart = (
        replica(node(1, 1, 1), file_count=9),
        replica(beside(1, 1, 1), file_count=8),
        replica(node(1, 1, 2)),
    )
    fault = examine([best, second, apart], ReplicaPlacement.parse("001"))
    assert fault is not None
    assert (fault.kind, fault.keep, fault.surplus) == (OVER, (best, apart), (second,))


def test_a_missing_copy_goes_to_the_same_machine_only_where_no_other_can_take_it() -> None:
    here, next_to, elsewhere = node(1, 1, 1), beside(1, 1, 1), node(1, 1, 2)
    replicas, placement = [replica(here, "001")], ReplicaPlacement.parse("001")
    fault = examine(replicas, placement)
    assert fault is not None
    everywhere = cluster_of(here, next_to, elsewhere)
    assert choose_targets(everywhere, fault, placement, 1, replicas, Reserved()) == [elsewhere]
    assert same_host([here], [elsewhere]) == ""
    alone = cluster_of(here, next_to)
    assert choose_targets(alone, fault, placement, 1, replicas, Reserved()) == [next_to]
    assert same_host([here], [next_to]) == "on the same host as another copy: 10.1.1.1"


def test_the_copy_that_stays_is_writable_rather_than_large() -> None:
    shut = replica(node(1, 1, 1), read_only=True, file_count=100)
    open_one = replica(node(1, 1, 2), file_count=50)
    fault = examine([shut, open_one], ReplicaPlacement.parse("000"))
    assert fault is not None
    assert (fault.kind, fault.keep, fault.surplus) == (OVER, (open_one,), (shut,))


def test_nothing_beyond_the_number_is_added_where_nothing_may_be_deleted() -> None:
    replicas = [replica(node(1, 1, 1)), replica(node(1, 1, 2))]
    placement = ReplicaPlacement.parse("020")
    fault = examine(replicas, placement)
    assert fault is not None
    assert additions(fault, replicas, placement, delete_surplus=False) == 1
    assert additions(fault, replicas, placement, delete_surplus=True) == 2


def test_a_target_is_never_a_server_that_has_a_copy_now() -> None:
    nodes = [node(1, 1, 1), node(1, 1, 2), node(1, 2, 1)]
    replicas = [replica(nodes[0], "010"), replica(nodes[1], "010")]
    placement = ReplicaPlacement.parse("010")
    fault = examine(replicas, placement)
    assert fault is not None
    assert choose_targets(cluster_of(*nodes), fault, placement, 1, replicas, Reserved()) == [nodes[2]]
    assert choose_targets(cluster_of(*nodes[:2]), fault, placement, 1, replicas, Reserved()) == []


def test_the_reason_for_having_no_target_is_told() -> None:
    here = replica(node(1, 1, 1), "010")
    assert why_no_target(cluster_of(here.node), [here]) == "there is no other server"
    full = node(1, 2, 1, slots=0)
    assert "has no free hdd slot" in why_no_target(cluster_of(here.node, full), [here])
    assert "allows none" in why_no_target(cluster_of(here.node, node(1, 1, 2)), [here])


def test_a_wanted_number_extends_the_placement_and_never_shrinks_it() -> None:
    placement = ReplicaPlacement.parse("010")
    assert wanted_placement(placement, 0) == placement == wanted_placement(placement, 2)
    assert wanted_placement(placement, 3) == ReplicaPlacement.parse("011")
    with pytest.raises(BadTask, match="asks for 2; change the placement first"):
        wanted_placement(placement, 1)


def test_volumes_that_must_be_left_alone_are_told_with_the_reason() -> None:
    here, there = node(1, 1, 1), node(1, 1, 2)
    topology = cluster_of(here, there)
    assert unfit([replica(here), replica(there)], topology) == ""
    assert "lies twice on 10.1.1.1:8080" in unfit([replica(here), replica(here)], topology)
    assert "different placements: 000, 001" in unfit([replica(here), replica(there, "001")], topology)
    tiered = replica(there)
    tiered.info.remote_storage_name = "s3.default"
    assert "in remote storage on some servers only: s3.default" in unfit([replica(here), tiered], topology)
    topology = cluster_of(here, there)
    topology.ec[7, ""] = []
    assert "erasure-coded" in unfit([replica(here)], topology)


NODES = [kind(center, rack, 1) for center in (1, 2) for rack in (1, 2) for kind in (node, beside)]
NODES += [node(center, 1, 2) for center in (1, 2)]


@given(
    placement=st.sampled_from(PLACEMENTS),
    places=st.lists(st.sampled_from(range(len(NODES))), min_size=1, max_size=5, unique=True),
    shut=st.sets(st.integers(0, len(NODES) - 1)),
)
@settings(max_examples=200, deadline=None)
def test_what_is_kept_always_stands_well_and_adding_what_is_missing_ends_the_fault(
    placement: str, places: list[int], shut: set[int]
) -> None:
    wanted = ReplicaPlacement.parse(placement)
    replicas = [replica(NODES[place], placement, read_only=place in shut) for place in places]
    fault = examine(replicas, wanted)
    if fault is None:
        assert len(replicas) == wanted.copies
        return
    assert set(fault.keep) | set(fault.surplus) == set(replicas)
    assert not set(fault.keep) & set(fault.surplus)
    assert fault.keep
    assert not is_misplaced(wanted, [each.node for each in fault.keep])
    assert len(fault.keep) + fault.missing == wanted.copies
    chosen = choose_targets(cluster_of(*NODES), fault, wanted, fault.missing, replicas, Reserved())
    assert not {each.address for each in chosen} & {each.node.address for each in replicas}
    if len(chosen) == fault.missing:
        assert examine([*fault.keep, *(replica(each, placement) for each in chosen)], wanted) is None


def test_a_fault_grows_older_until_it_is_gone() -> None:
    now = [100.0]
    seen = FirstSeen(lambda: now[0])
    assert seen.age(7, UNDER) == 0
    now[0] += 30
    assert seen.age(7, UNDER) == 30
    seen.forget_others({8}, set())
    assert seen.age(7, UNDER) == 30, "a look at another volume forgets nothing of this one"
    seen.forget_others({7, 8}, {(7, UNDER)})
    assert seen.age(7, UNDER) == 30
    seen.forget_others({7, 8}, {(7, OVER)})
    assert seen.age(7, UNDER) == 0


# ---- histories

A, B, C = (Address.parse(f"10.0.0.{number}:8080") for number in (1, 2, 3))
ONE, TWO, AGAIN = (1, 11, 5000), (1, 22, 6000), (1, 11, 7000)
"""Two contents of a needle; the first one written again later."""


def history(*events: Fingerprint | None, vacuumed: bool = False) -> History:
    return History(events, vacuumed)


def test_a_write_that_a_replica_never_saw_is_brought_there() -> None:
    verdict = decide({A: history(ONE), B: history(), C: history(ONE)})
    assert verdict.is_proved
    assert (verdict.write_from, verdict.write_to, verdict.delete_on) == (A, (B,), ())


def test_a_needle_that_a_vacuumed_replica_lacks_is_not_judged() -> None:
    assert not decide({A: history(ONE), B: history(vacuumed=True)}).is_proved
    assert not decide({A: history(ONE), B: history(), C: history(vacuumed=True)}).is_proved


def test_a_deletion_is_brought_to_the_replica_that_missed_it() -> None:
    verdict = decide({A: history(ONE), B: history(ONE, DELETED), C: history()})
    assert verdict.is_proved
    assert (verdict.write_to, verdict.delete_on) == ((), (A,))


def test_a_deletion_that_a_vacuum_forgot_agrees_with_a_deletion() -> None:
    verdict = decide({A: history(ONE, DELETED), B: history(vacuumed=True), C: history(ONE, vacuumed=True)})
    assert verdict.is_proved
    assert verdict.delete_on == (C,)


def test_an_overwriting_is_brought_to_the_replica_that_has_the_older_content() -> None:
    verdict = decide({A: history(ONE), B: history(ONE, TWO)})
    assert (verdict.is_proved, verdict.write_from, verdict.write_to) == (True, B, (A,))


def test_contents_of_unknown_order_are_not_judged() -> None:
    assert not decide({A: history(ONE), B: history(TWO)}).is_proved
    assert not decide({A: history(ONE, TWO), B: history(TWO, ONE)}).is_proved
    assert not decide({A: history(ONE), B: history(TWO, vacuumed=True)}).is_proved


def test_a_needle_written_again_after_its_deletion_is_not_deleted() -> None:
    assert not decide({A: history(ONE, DELETED), B: history(AGAIN, vacuumed=True)}).is_proved
    assert not decide({A: history(ONE, DELETED), B: history(AGAIN)}).is_proved
    verdict = decide({A: history(ONE, DELETED, AGAIN), B: history(ONE, DELETED)})
    assert (verdict.is_proved, verdict.write_from, verdict.write_to) == (True, A, (B,))


def test_the_same_write_may_be_stamped_a_second_apart() -> None:
    assert decide({A: history((1, 11, 5000), DELETED), B: history((1, 11, 5001))}).delete_on == (B,)


def test_a_vacuumed_history_is_a_piece_of_the_whole_one() -> None:
    verdict = decide({A: history(ONE, TWO, DELETED), B: history(TWO, vacuumed=True)})
    assert (verdict.is_proved, verdict.delete_on) == (True, (B,))


EVENTS = st.lists(st.sampled_from([ONE, TWO, AGAIN, DELETED]), max_size=4)


@given(truth=EVENTS, cuts=st.lists(st.integers(0, 4), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_replicas_that_only_missed_the_end_are_all_brought_to_what_happened_last(
    truth: list[Fingerprint | None], cuts: list[int]
) -> None:
    events: list[Fingerprint | None] = []
    for event in truth:
        before = events[-1] if events else DELETED
        if event != before:
            events.append(event)
    histories = {A: history(*events)}
    for server, cut in zip((B, C), cuts):
        histories[server] = history(*events[:cut])
    verdict = decide(histories)
    assert verdict.is_proved
    final = {
        server: (
            None
            if server in verdict.delete_on
            else histories[verdict.write_from].events[-1]
            if server in verdict.write_to and verdict.write_from
            else each.events[-1]
            if each.events
            else None
        )
        for server, each in histories.items()
    }
    assert set(final.values()) == {events[-1] if events else None}


@given(histories=st.lists(st.tuples(EVENTS, st.booleans()), min_size=2, max_size=3))
@settings(max_examples=300, deadline=None)
def test_nothing_deleted_anywhere_comes_back_unless_it_was_written_again_after_that(
    histories: list[tuple[list[Fingerprint | None], bool]],
) -> None:
    told = {server: history(*events, vacuumed=old) for server, (events, old) in zip((A, B, C), histories)}
    verdict = decide(told)
    if verdict.write_to:
        assert verdict.write_from is not None
        source = told[verdict.write_from].events
        for server in verdict.write_to:
            other = told[server].events
            if other and other[-1] is DELETED:
                assert source[: len(other)] == other or told[server].vacuumed
            assert other or not told[server].vacuumed
