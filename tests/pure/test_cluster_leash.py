"""A job's leash: cancel and deadline reach it where it waits or asks, and never inside a shield."""

from __future__ import annotations

import threading
import time

import pytest

from weed_cluster.leash import Leash
from weed_core.errors import Cancelled, TimedOut


class Call:
    """Stands for a call under way."""

    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


def test_cancel_breaks_off_the_calls_under_way_and_makes_the_next_check_raise() -> None:
    leash, call, ended = Leash(), Call(), Call()
    with leash.holding(ended):
        pass
    with leash.holding(call):
        leash.cancel(Cancelled("the operator said so"))
    assert call.cancelled
    assert not ended.cancelled
    with pytest.raises(Cancelled, match="the operator said so"):
        leash.check()


def test_the_first_reason_to_end_stays() -> None:
    leash = Leash()
    leash.cancel(Cancelled("first"))
    leash.cancel(Cancelled("second"))
    assert str(leash.reason) == "first"


def test_cancel_ends_a_wait_at_once() -> None:
    leash = Leash()
    threading.Timer(0.05, leash.cancel, [Cancelled()]).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        leash.wait(30)
    assert time.monotonic() - began < 5


def test_the_deadline_ends_a_wait_and_cuts_the_timeouts_of_calls() -> None:
    leash = Leash(timeout=0.1)
    assert leash.limit(30) <= 0.1
    with pytest.raises(TimedOut, match="passed its deadline"):
        leash.wait(30)
    assert leash.limit(30) > 0, "a call made now must fail by its deadline, not by a bad timeout"


def test_a_shielded_section_runs_to_its_end_and_the_interruption_follows() -> None:
    leash, call = Leash(timeout=0.01), Call()
    with leash.shielded(), leash.holding(call):
        leash.cancel(Cancelled())
        leash.check()
        leash.wait(0.02)
        assert leash.limit(30) == 30
        with leash.shielded():
            pass
        leash.check()
    assert not call.cancelled
    with pytest.raises(Cancelled):
        leash.check()


def test_a_new_deadline_counts_from_now() -> None:
    leash = Leash()
    leash.expire(0.0)
    with pytest.raises(TimedOut):
        leash.check()


def test_a_call_that_begins_when_the_leash_was_cancelled_is_broken_off_unless_it_is_shielded() -> None:
    leash, late, shielded = Leash(), Call(), Call()
    leash.cancel(Cancelled("between the last check and the call"))
    with leash.holding(late):
        assert late.cancelled
    with leash.shielded(), leash.holding(shielded):
        assert not shielded.cancelled


def test_a_part_ends_with_the_whole_and_not_the_whole_with_a_part() -> None:
    whole, call = Leash(), Call()
    with whole.part() as part, part.holding(call):
        part.expire(0.0)
        with pytest.raises(TimedOut):
            part.check()
        whole.check()
        assert not call.cancelled
    with whole.part() as part, part.holding(call):
        whole.cancel(Cancelled("enough"))
        assert call.cancelled
        with pytest.raises(Cancelled, match="enough"):
            part.check()


def test_a_part_of_what_was_cancelled_is_cancelled_and_its_bytes_count_for_the_whole() -> None:
    whole = Leash()
    with whole.part() as part:
        part.read, part.written, part.moved = 3, 4, 5
    assert (whole.read, whole.written, whole.moved) == (3, 4, 5)
    whole.cancel(Cancelled("enough"))
    with whole.part() as part, pytest.raises(Cancelled, match="enough"):
        part.check()
