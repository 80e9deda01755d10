"""The one slot of a batch: kept while any of its moves works, given back while all of them only wait.

Knows nothing of what moves wait for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager


class Together:
    """Counts the moves of a batch that work and those that only wait; `outside` is the batch's own way to wait."""

    def __init__(self, outside: Callable[[], AbstractContextManager[None]]) -> None:
        self._outside = outside
        self._lock = threading.Lock()
        self._working = 0
        self._waiting = 0
        self._away: AbstractContextManager[None] | None = None  # while the slot is given back

    @contextmanager
    def working(self) -> Iterator[None]:
        """The body works; it begins once the batch has its slot."""
        self._begin()
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The body only waits, inside of working(); behind it the batch has its slot again."""
        self._end(waits=1)
        try:
            yield
        finally:
            self._begin(waits=1)

    def _begin(self, waits: int = 0) -> None:
        # Whoever else is to go on waits here for the slot, too.
        with self._lock:
            self._working += 1
            self._waiting -= waits
            away, self._away = self._away, None
            if away is not None:
                away.__exit__(None, None, None)

    def _end(self, waits: int = 0) -> None:
        with self._lock:
            self._working -= 1
            self._waiting += waits
            if self._waiting and not self._working:
                away = self._outside()
                away.__enter__()
                self._away = away
