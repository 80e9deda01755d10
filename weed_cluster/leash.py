"""A job's leash: its deadline, its cancellation and the calls it has under way.

Cancelling never throws into running code. It breaks off the calls under way and makes the next one, the next wait and
the next check raise, so a task is interrupted only where it talks to a server or asks; a section that must run to its
end is shielded, and the interruption is delivered behind it. Works alike for threads and greenlets.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from weed_core.errors import TimedOut


class Leash:
    """Holds one job. `timeout` is the job's deadline in seconds from now, None for none."""

    def __init__(self, timeout: float | None = None) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._timeout = timeout
        self._lock = threading.Lock()
        self._wakeup = threading.Event()
        self._reason: BaseException | None = None
        self._shields = 0
        self._calls: set[Any] = set()
        self.read = self.written = 0  # bytes of the job's calls, from and to servers
        self.moved = 0  # bytes that servers moved among themselves, or went through, for the job

    @property
    def reason(self) -> BaseException | None:
        """Why the job must end, shielded or not: what cancel() was given, or TimedOut."""
        if self._reason is None and self._deadline is not None and time.monotonic() >= self._deadline:
            self._reason = TimedOut(f"passed its deadline of {self._timeout:.0f} s")
        return self._reason

    def cancel(self, reason: BaseException) -> None:
        """End the job for this reason at its next step; break off the calls under way unless it is shielded."""
        with self._lock:
            if self._reason is None:
                self._reason = reason
            calls = [] if self._shields else list(self._calls)
        self._wakeup.set()
        for call in calls:
            call.cancel()

    def expire(self, seconds: float) -> None:
        """Set the deadline anew, in seconds from now."""
        self._timeout, self._deadline = seconds, time.monotonic() + seconds

    def leave(self, seconds: float) -> None:
        """Put the deadline off so far that at least so many seconds are left."""
        if self._deadline is not None and self._timeout is not None:
            more = max(0.0, time.monotonic() + seconds - self._deadline)
            self._timeout, self._deadline = self._timeout + more, self._deadline + more

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A section whose time does not count: the job waits there for others."""
        left = None if self._deadline is None else self._deadline - time.monotonic()
        self._deadline = None
        try:
            yield
        finally:
            if left is not None:
                self._deadline = time.monotonic() + left

    def check(self) -> None:
        """Raise the reason to end, if there is one and no shield holds it back."""
        if not self._shields and (reason := self.reason) is not None:
            raise reason

    def limit(self, timeout: float) -> float:
        """A call's timeout in seconds, cut to what is left of the job's."""
        if self._deadline is None or self._shields:
            return timeout
        return max(0.001, min(timeout, self._deadline - time.monotonic()))

    def wait(self, seconds: float) -> None:
        """Sleep, but end early when the job is cancelled or passes its deadline."""
        if self._shields:
            time.sleep(seconds)
            return
        self.check()
        self._wakeup.wait(self.limit(seconds))
        self.check()

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """A section that neither cancel nor the deadline interrupts: a commit, a deletion, an undo."""
        with self._lock:
            self._shields += 1
        try:
            yield
        finally:
            with self._lock:
                self._shields -= 1

    @contextmanager
    def part(self) -> Iterator[Leash]:
        """The leash of a job that is a part of this one: what ends this one ends it, its own deadline ends it alone.

        Its bytes count for this one, too, once it has ended.
        """
        part = _Part(self)
        try:
            with self.holding(_Breaking(part)):
                yield part
        finally:
            self.read += part.read
            self.written += part.written
            self.moved += part.moved

    @contextmanager
    def holding(self, call: Any) -> Iterator[None]:
        """A call under way, which cancel() breaks off, also where it came between the last check and this."""
        with self._lock:
            self._calls.add(call)
            is_late = self._reason is not None and not self._shields
        if is_late:
            call.cancel()
        try:
            yield
        finally:
            with self._lock:
                self._calls.discard(call)


class _Part(Leash):
    """Holds a part of a job."""

    def __init__(self, whole: Leash) -> None:
        super().__init__()
        self._whole = whole

    @property
    def reason(self) -> BaseException | None:
        """Why it must end: its own reason, or that of the whole."""
        return super().reason or self._whole.reason


class _Breaking:
    """A part as the whole's leash sees it: like a call, it can be broken off."""

    def __init__(self, part: Leash) -> None:
        self._part = part

    def cancel(self) -> None:
        """Break it off, for the reason of the whole."""
        reason = self._part.reason
        assert reason is not None  # only a whole that must end breaks its parts off
        self._part.cancel(reason)
