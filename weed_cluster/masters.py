"""The masters of one cluster, as far as anybody has named them. Asks nobody: Master in weed_cluster.volume_server does.

Which masters there are, and which of them leads, changes while jobs run. So whatever talks to a cluster shares one
of these, and nothing keeps an address of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from weed_cluster.address import Address

AGAIN = 5.0
"""Seconds after which whoever names masters is asked for them again, at the earliest."""

REMEMBERED = 16
"""Masters kept that only an old job or journal names."""


def _nobody() -> Iterable[Address]:
    return ()


class Masters:
    """Addresses by who named them, and the one that led when it was last asked.

    `named` are the operator's, `ask` returns those that an admin names now. Iterating gives all, without repeats: the
    leader, then the operator's, the admin's, the peers that masters name, and those that only a job or journal names.
    """

    def __init__(self, named: Iterable[Address] = (), ask: Callable[[], Iterable[Address]] = _nobody) -> None:
        self._named = tuple(named)
        self._ask = ask
        self._told: tuple[Address, ...] = ()
        self._peers: tuple[Address, ...] = ()
        self._heard: dict[Address, None] = {}
        self._asked_at = -AGAIN
        self._led_at = self._listed_at = self._changed_at = float("-inf")
        self._lock = threading.Lock()
        self.leader: Address | None = None
        self.servers: frozenset[Address] = frozenset()  # that a leader listed when it knew all of them

    def __iter__(self) -> Iterator[Address]:
        with self._lock:
            first = () if self.leader is None else (self.leader,)
            return iter(list(dict.fromkeys((*first, *self._named, *self._told, *self._peers, *self._heard))))

    def __bool__(self) -> bool:
        return any(True for _ in self)

    def hear(self, addresses: Iterable[Address]) -> None:
        """A job or a journal names these; they may be gone by now."""
        with self._lock:
            for address in addresses:
                self._heard.pop(address, None)
                self._heard[address] = None
            while len(self._heard) > REMEMBERED:
                del self._heard[next(iter(self._heard))]

    def ask_again(self) -> None:
        """Have the admin name its masters afresh; what it named before stays where it names none."""
        with self._lock:
            if time.monotonic() - self._asked_at < AGAIN:
                return
            self._asked_at = time.monotonic()
        told = tuple(self._ask())
        if told:
            with self._lock:
                self._told = told

    def leads(self, address: Address) -> None:
        """A master answered as the leader just now."""
        with self._lock:
            self._led_at = time.monotonic()
            if self.leader is not None and self.leader != address:
                self._changed_at = self._led_at
            self.leader = address

    def unsettled(self, settle: float) -> float:
        """Seconds until a leader that was seen to take over surely knows its cluster, `settle` behind; 0 if it does."""
        return max(0.0, self._changed_at + settle - time.monotonic())

    def settle(self, servers: frozenset[Address]) -> None:
        """The leader lists these servers, and no others are to be waited for."""
        with self._lock:
            self.servers, self._changed_at = servers, float("-inf")

    def present(self, server: Address) -> Address:
        """Where a volume server is now: what a job or journal names may have another gRPC port since its restart."""
        if not self.servers or server in self.servers:
            return server
        same = [known for known in self.servers if (known.host, known.port) == (server.host, server.port)]
        return same[0] if len(same) == 1 and server.port else server

    def led_within(self, seconds: float) -> bool:
        """Whether the leader answered as such in the last so many seconds."""
        return self.leader is not None and time.monotonic() - self._led_at < seconds

    def doubt(self) -> None:
        """The leader failed: it is asked who leads before the next call."""
        with self._lock:
            self._led_at = float("-inf")

    def list_peers(self, addresses: Iterable[Address]) -> None:
        """A master names these as the members of its cluster: they take the place of those named before."""
        with self._lock:
            self._peers = tuple(addresses)

    def listing(self) -> None:
        """A master is being asked for its peers."""
        with self._lock:
            self._listed_at = time.monotonic()

    def listed_within(self, seconds: float) -> bool:
        """Whether a master was asked for its peers in the last so many seconds."""
        return time.monotonic() - self._listed_at < seconds
