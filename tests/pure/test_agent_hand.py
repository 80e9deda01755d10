"""The jobs in hand: what starts when, and that every figure comes from one place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from proto_gen import worker_pb2
from weed_agent.hand import Assignment, Hand
from weed_core.model import Job
from weed_protocol import classic
from weed_protocol.commands import RunJob
from weed_tasks.slots import Held, Slots


def work(job_id: str, volume_id: int = 0, request_id: str = "", job_type: str = "vacuum") -> Assignment:
    job = Job(job_id, job_type, worker_pb2.TaskParams(volume_id=volume_id))
    session, leash = cast(Any, SimpleNamespace()), cast(Any, None)
    return Assignment(RunJob(request_id, job), session, classic, leash, job.volume_ids, is_kept=True)


def waiting(hand: Hand, *works: Assignment) -> None:
    for each in works:
        hand.enter(each)
        hand.wait(each)


def test_with_one_slot_the_second_starts_when_the_first_leaves() -> None:
    hand, first, second = Hand(Slots(1), Held()), work("j1", 1), work("j2", 2)
    waiting(hand, first, second)
    assert (hand.start(), hand.start()) == (first, None)
    assert (hand.slots.used, hand.room, hand.queued) == (1, -1, {"vacuum": 1})
    hand.leave(first)
    assert (hand.slots.used, hand.room) == (0, 0)
    assert hand.start() is second


def test_a_work_whose_volume_is_held_lets_those_behind_it_pass() -> None:
    left_to_undo = Held()
    hand = Hand(Slots(3), left_to_undo)
    left_to_undo.hold([4])
    first, same, other, undone = work("j1", 1), work("j2", 1), work("j3", 3), work("j4", 4)
    waiting(hand, first, same, undone, other)
    assert [hand.start() for _ in range(3)] == [first, other, None]
    hand.leave(first)
    assert [hand.start(), hand.start()] == [same, None]
    left_to_undo.let_go([4])
    assert [hand.start(), hand.start()] == [undone, None]


def test_a_work_does_not_start_before_its_completion_is_owed_on_disk() -> None:
    hand, first, second = Hand(Slots(1), Held()), work("j1", 1), work("j2", 2)
    first.is_kept = False
    waiting(hand, first, second)
    assert hand.start() is second


def test_works_of_one_job_id_under_two_requests_are_two_works() -> None:
    hand, first, second = Hand(Slots(2), Held()), work("j1", 1, "r1"), work("j1", 2, "r2")
    waiting(hand, first, second)
    assert hand.under("j1") == [first, second]
    assert hand.keys == {("j1", "r1"), ("j1", "r2")}
    hand.leave(first)
    assert hand.under("j1") == [second]
    assert hand.under_way("j1")
    hand.leave(second)
    assert not hand.under_way("j1")


def test_what_is_in_hand_and_neither_waits_nor_runs_takes_no_slot() -> None:
    hand, refused = Hand(Slots(1), Held()), work("j1", 1)
    hand.enter(refused)
    assert (hand.room, hand.under_way("j1"), hand.keys) == (1, False, {("j1", "")})
    hand.leave(refused)
    assert not hand.keys


@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from("tsl"), st.integers(0, 2)), max_size=40))
def test_no_order_of_events_runs_more_than_the_slots_or_two_on_one_volume(
    total: int, events: list[tuple[str, int]]
) -> None:
    hand, number = Hand(Slots(total), Held()), 0
    for kind, pick in events:
        if kind == "t":
            number += 1
            waiting(hand, work(f"j{number}", pick))
        elif kind == "s":
            hand.start()
        elif hand.running:
            hand.leave(hand.running[pick % hand.slots.used])
        held = [volume for running in hand.running for volume in running.volume_ids]
        assert len(held) == len(set(held))
        assert hand.slots.used == len(hand.running) <= total
        assert hand.room == total - len(hand.running) - len(hand.waiting)
        assert sum(hand.queued.values()) == len(hand.waiting)
        assert len(hand.keys) == len(hand.running) + len(hand.waiting)
