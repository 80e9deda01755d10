"""Small helpers that tests of all tiers share. Knows nothing of clusters."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

_RANDOM = random.SystemRandom()
"""For what must differ between processes that run at a time; all else that tests draw is seeded."""


def eventually(condition: Callable[[], T], timeout: float = 10.0, pause: float = 0.02) -> T:
    """Ask until the answer is true and return it; AssertionError with the last answer after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() >= end:
            raise AssertionError(f"not within {timeout} s: {condition} last gave {answer!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
    return answer


def free_port(hosts: Iterable[str] = ("127.0.0.1",), beside: int = 10000) -> int:
    """A port that is free on every host, and `beside` above it too (SeaweedFS's default place for gRPC).

    Taken from below the range that the kernel gives to outgoing connections, so that no client takes it meanwhile.
    """
    for _attempt in range(200):
        port = _RANDOM.randrange(10100, 20000)
        if all(_is_free(host, number) for host in hosts for number in (port, port + beside)):
            return port
    raise AssertionError("found no free port")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
