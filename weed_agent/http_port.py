"""A port that answers GET over HTTP to anyone who can reach it, and that nobody can use to harm the process.

However many connect and however little they say, this port holds a fixed number of descriptors, bytes and seconds: a
connection too many ends the oldest one, since somebody who only looks is done in milliseconds.
"""

from __future__ import annotations

import errno
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO

from weed_core.errors import ConfigError

log = logging.getLogger(__name__)

CONNECTIONS = 32
"""Held at once; twice as many for the moment in which the oldest ones end."""

LIFETIME = 10.0
"""Seconds that a connection may take in all."""

LARGEST_REQUEST = 16 << 10
"""Bytes of a request; what lies beyond is not read."""

Answer = Callable[[str, str], tuple[int, str, bytes]]
"""(path and query, the Accept header) -> (status, content type, body)."""

SEALED = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Headers of every answer: a browser loads nothing else for it, runs nothing in it, sends nothing from it."""


def open_port(ip: str, port: int, answer: Answer, lifetime: float = LIFETIME) -> ThreadingHTTPServer:
    """Answer on a port, in threads of its own; raise ConfigError where the port cannot be had."""

    class Handler(_Handler):
        timeout = lifetime

        def answer(self, path: str) -> tuple[int, str, bytes]:
            return answer(path, self.headers.get("Accept", ""))

    try:
        server = (_Port6 if ":" in ip else _Port)((ip, port), Handler, lifetime)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"-metricsPort={port} on -metricsIp={ip} cannot be had: {error}") from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


class _Port(ThreadingHTTPServer):
    """Holds a bounded number of connections, each for a bounded time."""

    daemon_threads = True
    request_queue_size = 1024  # of the kernel; none of ours until it is taken from there

    def __init__(self, where: tuple[str, int], handler: type[BaseHTTPRequestHandler], lifetime: float) -> None:
        self._lifetime = lifetime
        self._lines: dict[socket.socket, float] = {}  # when each came, oldest first
        super().__init__(where, handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(0.1)  # the connection stays in the queue, and asks again at once
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        self._lines[request] = time.monotonic()
        excess = list(self._lines)[:-CONNECTIONS]
        for line in excess:
            _hang_up(line)
        if len(excess) >= CONNECTIONS:  # they come faster than they end
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._lines.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End those whose time is over; asked twice a second, and after every connection."""
        latest = time.monotonic() - self._lifetime
        for line in [line for line, came in list(self._lines.items()) if came < latest]:
            _hang_up(line)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody who hangs up is no news; a fault of ours is."""
        if not isinstance(sys.exc_info()[1], OSError):
            log.exception("the metrics port could not answer")


class _Port6(_Port):
    address_family = socket.AF_INET6


def _hang_up(line: socket.socket) -> None:
    """End a connection; the thread that serves it closes it."""
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD, one request a connection."""

    server_version = "weed_worker"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile: Any = _Request(self.rfile)

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body of a path."""
        raise NotImplementedError

    def do_GET(self) -> None:
        code, kind, body = self.answer(self.path)
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in SEALED.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Scrapes are no news."""


class _Request:
    """The lines of a request, as far as they are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = LARGEST_REQUEST

    def readline(self, most: int = -1) -> bytes:
        line = self._file.readline(min(most, self._left) if most >= 0 else self._left)
        self._left -= len(line)
        return line

    def close(self) -> None:
        self._file.close()
