"""The slots of a worker or a run, and the jobs that wait without one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import eventually
from weed_cluster.leash import Leash
from weed_core.errors import Cancelled, TimedOut
from weed_tasks.slots import MOST_OUTSIDE, Slots


def test_no_more_jobs_start_than_there_are_slots() -> None:
    slots = Slots(2)
    assert [slots.take() for _ in range(3)] == [True, True, False]
    slots.give()
    assert slots.free == 1
    assert slots.take()


def test_a_job_that_waits_lets_another_start_and_says_so() -> None:
    told = threading.Event()
    slots = Slots(1, told.set)
    assert slots.take()
    with slots.without(Leash()):
        assert told.is_set()
        assert slots.take()
        slots.give()
    assert (slots.used, slots.free) == (1, 0)


def test_a_job_that_goes_on_is_served_before_one_that_is_to_start() -> None:
    slots, back = Slots(1), threading.Event()
    assert slots.take()

    def wait() -> None:
        with slots.without(Leash()):
            back.wait(10)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        eventually(slots.take)
        back.set()
        eventually(lambda: slots.returning)
        slots.give()
        assert not slots.take()
        waiting.result(10)
    assert (slots.used, slots.outside) == (1, 0)


def test_a_job_that_is_cancelled_while_it_waits_gets_a_slot_at_once_to_undo_what_it_did() -> None:
    slots, leash = Slots(1), Leash()
    assert slots.take()

    def cancelled() -> None:
        with slots.without(leash):
            assert slots.take()
            leash.cancel(Cancelled("enough"))
            leash.wait(60)

    with pytest.raises(Cancelled):
        cancelled()
    assert (slots.used, slots.free) == (2, 0)


def test_a_job_that_is_cancelled_while_it_waits_for_its_slot_gets_one_at_once() -> None:
    slots, leash = Slots(1), Leash()
    assert slots.take()
    with ThreadPoolExecutor(1) as pool:
        inside = threading.Event()

        def wait() -> None:
            with slots.without(leash):
                inside.set()
                eventually(lambda: slots.used)

        waiting = pool.submit(wait)
        assert inside.wait(10)
        assert slots.take()
        eventually(lambda: slots.returning)
        leash.cancel(Cancelled("enough"))
        waiting.result(10)
    assert slots.used == 2


def test_only_so_many_jobs_wait_without_a_slot() -> None:
    slots, end = Slots(1), threading.Event()

    def wait() -> None:
        with slots.without(Leash()):
            end.wait(30)

    with ThreadPoolExecutor(MOST_OUTSIDE + 1) as pool:
        for _ in range(MOST_OUTSIDE + 1):
            eventually(slots.take)
            pool.submit(wait)
        eventually(lambda: slots.outside == MOST_OUTSIDE)
        assert slots.used == 1, "the last one keeps its slot"
        end.set()
        for _ in range(MOST_OUTSIDE + 1):
            eventually(lambda: slots.used)
            slots.give()


def test_the_time_for_which_a_job_only_waits_is_not_taken_from_its_deadline() -> None:
    slots, leash = Slots(1), Leash(0.2)
    assert slots.take()
    with slots.without(leash):
        leash.wait(0.4)
    leash.check()
    with pytest.raises(TimedOut):
        leash.wait(1)
