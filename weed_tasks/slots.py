"""How many jobs work at a time, and which volumes are held: one truth for what is advertised, started and told.

A job that only waits gives its slot back meanwhile; when it goes on it is served before any job that is to start.
Knows nothing of what a job is.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from weed_cluster.leash import Leash

MOST_OUTSIDE = 64
"""Jobs that may wait without a slot; what they hold still in the cluster has to have a bound."""

LOOK = 0.5
"""Seconds after which a job that waits for its slot looks whether it was cancelled."""


class Slots:
    """The slots of one worker or run. `changed()` is called, without any lock held, when one is given or regained."""

    def __init__(self, total: int, changed: Callable[[], None] = lambda: None) -> None:
        self.total = total
        self.used = 0  # more than `total` only while jobs that were cancelled outside undo what they did
        self.outside = 0  # jobs that wait without one
        self.returning = 0  # of those, the ones that would go on if they had one
        self._changed = changed
        self._given = threading.Condition()

    @property
    def free(self) -> int:
        """How many jobs can start now."""
        return max(0, self.total - self.used - self.returning)

    def take(self) -> bool:
        """Take a slot for a job that is to start; False where none is free."""
        with self._given:
            if not self.free:
                return False
            self.used += 1
            return True

    def give(self) -> None:
        """Give a slot back."""
        with self._given:
            self.used -= 1
            self._given.notify_all()
        self._changed()

    @contextmanager
    def without(self, leash: Leash) -> Iterator[None]:
        """Give a job's slot back while the body only waits; its deadline does not run meanwhile.

        A job that is broken off there has a slot again at once, since it must undo what it did.
        """
        with self._given:
            is_one_too_many = self.outside >= MOST_OUTSIDE
            if not is_one_too_many:
                self.outside += 1
        if is_one_too_many:
            yield
            return
        self.give()
        try:
            with leash.paused():
                yield
                self._await(leash)
        finally:
            with self._given:
                self.outside -= 1
                self.used += 1
            self._changed()

    def _await(self, leash: Leash) -> None:
        with self._given:
            self.returning += 1
            try:
                while self.used >= self.total and leash.reason is None:
                    self._given.wait(LOOK)
            finally:
                self.returning -= 1


class Held:
    """The volumes that jobs hold, or what jobs left to undo does. One that is held twice is free when let go twice."""

    def __init__(self) -> None:
        self._count: Counter[int] = Counter()
        self._changing = threading.Lock()

    def hold(self, volume_ids: Iterable[int]) -> None:
        """Hold volumes, once more where they are held."""
        with self._changing:
            self._count.update(volume_ids)

    def claim(self, volume_ids: Iterable[int]) -> bool:
        """Hold volumes if none of them is held; tells whether it has."""
        ids = list(volume_ids)
        with self._changing:
            if self.among(ids):
                return False
            self._count.update(ids)
        return True

    def let_go(self, volume_ids: Iterable[int]) -> None:
        """Hold volumes once less."""
        with self._changing:
            self._count.subtract(volume_ids)
            self._count = +self._count

    def among(self, volume_ids: Iterable[int]) -> set[int]:
        """Which of these volumes are held."""
        return {volume for volume in volume_ids if self._count[volume]} if self._count else set()
