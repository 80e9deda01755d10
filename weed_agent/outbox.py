"""What waits to be sent on one stream, in the order that admins need.

The only writer of a stream. Answers and completions leave first and in order; heartbeats and progress are news, kept
only in their newest form, so a slow admin gets fewer of them instead of a growing backlog. Where answers come so thick
that none is ever the last, heartbeats go between them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from weed_protocol.commands import Completed, Heartbeat, Hello, Progress, Report

log = logging.getLogger(__name__)

LONGEST_SILENCE = 110.0
"""Seconds: an admin sweeps a stream silent for two minutes, and one before 4.44 crashes on what comes after."""

PATIENCE = 0.2
"""Seconds since the last heartbeat left after which one passes the answers that wait."""

Encode = Callable[[Report], list[bytes]]


def awake() -> float:
    """Seconds on a clock that goes on while the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Outbox:
    """One stream's outgoing reports. `sent(report)` is called once the transport has asked for what follows it."""

    def __init__(self, encode: Encode, sent: Callable[[Report], None], clock: Callable[[], float] = awake) -> None:
        self._clock = clock
        self._encode = encode
        self._sent = sent
        self._ready = threading.Condition()
        self._queue: deque[Report] = deque([Hello()])
        self._beat: Heartbeat | None = None
        self._progress: dict[str, Progress] = {}
        self._ended = False
        self._last_sent = clock()
        self._last_beat = float("inf")  # none before the first message

    def put(self, report: Report) -> None:
        """Send this as soon as the stream takes it; behind the end nothing is taken."""
        with self._ready:
            if self._ended:
                return
            if isinstance(report, Heartbeat):
                self._beat = report
            elif isinstance(report, Progress):
                self._progress[report.job_id] = report
            else:
                if isinstance(report, Completed):
                    # N.B. an update behind the completion brings a task back to life on every admin.
                    self._progress.pop(report.job_id, None)
                self._queue.append(report)
            self._ready.notify()

    def end(self) -> None:
        """End the stream behind what is queued; heartbeats and progress still waiting are dropped."""
        with self._ready:
            self._ended = True
            self._ready.notify()

    def messages(self) -> Iterator[bytes]:
        """The stream's request iterator: gRPC asks for the next message when it has taken the one before."""
        while (report := self._next()) is not None:
            if self._clock() - self._last_sent > LONGEST_SILENCE:
                log.warning("this host slept, or the stream stood still; the stream is given up unsent")
                return
            yield from self._encode(report)
            self._last_sent = self._clock()
            self._sent(report)

    def is_drained(self) -> bool:
        """Whether nothing but news waits."""
        return not self._queue

    def _next(self) -> Report | None:
        with self._ready:
            while True:
                is_urgent = self._beat is not None and self._clock() - self._last_beat > PATIENCE
                if self._queue and not is_urgent:
                    report = self._queue.popleft()
                    self._last_beat = min(self._last_beat, self._clock())
                    return report
                if self._ended and not self._queue:
                    return None
                if self._beat is not None:
                    beat, self._last_beat = self._beat, self._clock()
                    # One that passes what waits goes again behind it: its answer tells that all of it has arrived.
                    self._beat = beat if self._queue else None
                    return beat
                if self._progress:
                    return self._progress.pop(next(iter(self._progress)))
                self._ready.wait()
