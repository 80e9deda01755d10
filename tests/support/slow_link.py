"""A link to a server that takes its time: a TCP proxy which delivers every byte late, both ways."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from queue import SimpleQueue


class SlowLink:
    """Forwards a port of its own to one on this host. `round_trip` is in seconds, and counts for connecting, too."""

    def __init__(self, port: int, round_trip: float) -> None:
        self._target = ("127.0.0.1", port)
        self._late = round_trip / 2
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._start(self._accept)

    def close(self) -> None:
        """Take no further connections."""
        self._server.close()

    def _start(self, *work: object) -> None:
        function, *arguments = work
        threading.Thread(target=function, args=arguments, daemon=True).start()  # type: ignore[arg-type]

    def _accept(self) -> None:
        while True:
            try:
                near, _peer = self._server.accept()
            except OSError:
                return
            self._start(self._serve, near)

    def _serve(self, near: socket.socket) -> None:
        time.sleep(2 * self._late)  # loopback has connected already
        try:
            far = socket.create_connection(self._target)
        except OSError:
            near.close()
            return
        for source, target in ((near, far), (far, near)):
            on_the_way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
            self._start(self._take, source, on_the_way)
            self._start(self._deliver, target, on_the_way)

    def _take(self, source: socket.socket, on_the_way: SimpleQueue[tuple[float, bytes]]) -> None:
        block = b" "
        while block:
            try:
                block = source.recv(65536)
            except OSError:
                block = b""
            on_the_way.put((time.monotonic() + self._late, block))

    def _deliver(self, target: socket.socket, on_the_way: SimpleQueue[tuple[float, bytes]]) -> None:
        while True:
            due, block = on_the_way.get()
            time.sleep(max(0.0, due - time.monotonic()))
            with suppress(OSError):
                if not block:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(block)
