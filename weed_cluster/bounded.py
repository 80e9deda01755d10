"""Talking over a connection of one's own for a bounded time in all, whatever the other side does.

Timeouts of a socket bound one step, and neither a name that is looked up nor a handshake ends by them as a whole. So
the talk has a thread of its own, and its connection is broken off from outside when the time is over.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from weed_cluster.address import Address

T = TypeVar("T")

Dial = Callable[[], socket.socket]
"""Connect to the server; the socket is the caller's to close. Raises OSError."""


def within(seconds: float, address: Address, port: int, talk: Callable[[Dial], T]) -> T:
    """What `talk` returns or raises; TimeoutError where that takes longer than so many seconds.

    It is not to change anything outside of itself: when its time is over it may still run for a moment.
    """
    this = _Talk((address.host.strip("[]"), port), seconds, talk)
    thread = threading.Thread(target=this.run, name="talk", daemon=True)
    thread.start()
    thread.join(seconds)
    if this.error is not None:
        raise this.error
    if this.results:
        return this.results[0]
    this.hang_up()
    raise TimeoutError(f"no answer within {seconds:g} s")


class _Talk(Generic[T]):
    """One talk under way."""

    def __init__(self, where: tuple[str, int], seconds: float, talk: Callable[[Dial], T]) -> None:
        self.results: list[T] = []
        self.error: Exception | None = None
        self._where = where
        self._seconds = seconds
        self._talk = talk
        self._handles: list[socket.socket] = []  # second ones of its connections, to hang up with
        self._is_over = False

    def run(self) -> None:
        try:
            self.results.append(self._talk(self._dial))
        except Exception as error:  # noqa: BLE001  raised again by the thread that waits
            self.error = error
        finally:
            for handle in self._handles:
                handle.close()

    def hang_up(self) -> None:
        """Break its connections off, whatever they are doing."""
        self._is_over = True
        for handle in self._handles:
            with suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)

    def _dial(self) -> socket.socket:
        line = socket.create_connection(self._where, self._seconds)
        self._handles.append(line.dup())
        if self._is_over:
            line.close()
            raise TimeoutError("it is over")
        return line
