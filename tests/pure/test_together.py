"""The one slot of a batch of moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from weed_tasks.balance.together import Together


class Slot:
    """A slot that tells whether it is given back."""

    def __init__(self) -> None:
        self.away = False
        self.times = 0

    @contextmanager
    def outside(self) -> Iterator[None]:
        assert not self.away
        self.away = True
        self.times += 1
        yield
        self.away = False


def test_a_batch_keeps_its_slot_while_any_of_its_moves_works() -> None:
    slot = Slot()
    batch = Together(slot.outside)
    with batch.working(), batch.working(), batch.waiting():
        assert not slot.away
    assert slot.times == 0


def test_a_batch_gives_its_slot_back_when_the_last_of_its_moves_waits_or_ends() -> None:
    slot = Slot()
    batch = Together(slot.outside)
    with batch.working():
        first, second = batch.waiting(), batch.working()
        second.__enter__()
        with first:
            assert not slot.away
            second.__exit__(None, None, None)
            assert slot.away
        assert not slot.away
    assert (slot.away, slot.times) == (False, 1)


def test_a_move_that_begins_while_all_others_wait_has_the_batch_s_slot() -> None:
    slot = Slot()
    batch = Together(slot.outside)
    with batch.working(), batch.waiting():
        assert slot.away
        with batch.working():
            assert not slot.away
        assert slot.away
    assert (slot.away, slot.times) == (False, 2)


def test_a_wait_that_is_broken_off_has_the_slot_for_its_undoing() -> None:
    slot = Slot()
    batch = Together(slot.outside)
    with batch.working():
        with pytest.raises(RuntimeError), batch.waiting():
            raise RuntimeError("enough")
        assert not slot.away
