"""Rates in bytes per second: one for the whole worker, one per server, changed while work goes on.

A token bucket that may run into debt: a block is always let through whole, and the debt is waited for afterwards.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BURST = 0.25
"""Seconds of a rate that may be spent at once after a pause."""


class Bucket:
    """One rate. `rate` is bytes per second, 0 for no limit."""

    def __init__(self, rate: float = 0.0) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def spend(self, amount: int) -> float:
        """Take this many bytes; return the seconds to wait before taking more."""
        if self.rate <= 0:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - BURST) + amount / self.rate
            return max(0.0, self._free_at - now)


class Rates:
    """The worker's limits. Both are bytes per second, 0 for no limit; set() takes effect at the next block."""

    def __init__(self, total: float = 0.0, per_server: float = 0.0) -> None:
        self._total = Bucket(total)
        self._per_server = per_server
        self._servers: dict[str, Bucket] = {}
        self._lock = threading.Lock()

    def set(self, total: float, per_server: float) -> None:
        """Change both limits."""
        with self._lock:
            self._total.rate = total
            self._per_server = per_server
            for bucket in self._servers.values():
                bucket.rate = per_server

    def spend(self, server: str, amount: int, wait: Callable[[float], None]) -> None:
        """Take this many bytes to or from a server, waiting as long as the limits ask."""
        with self._lock:
            bucket = self._servers.setdefault(server, Bucket(self._per_server))
        pause = max(self._total.spend(amount), bucket.spend(amount))
        if pause > 0:
            wait(pause)

    def for_server_side(self, asked: int) -> int:
        """The io_byte_per_second to send with a copy that servers do among themselves: the lowest limit that is set."""
        limits = [int(limit) for limit in (asked, self._total.rate, self._per_server) if limit > 0]
        return min(limits, default=0)
