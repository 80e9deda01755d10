"""Asking a server for a page over HTTP: bounded in time and in bytes, and never led to another host.

The one place where this project speaks HTTP as a client. What answers may be anything: a server that hangs, that drips
a byte a second, that sends without end, or that names another host to go to. Proxies of the environment are not used:
the servers of a cluster are asked themselves.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from weed_cluster.address import Address
from weed_errors import HttpFailed

SECONDS = 10.0
"""For one page in all, from looking up the name to the last byte: links with a round trip of two seconds exist."""

LARGEST = 32 << 20
"""Bytes of a page, at most; a longer one is refused, not cut."""

REDIRECTS = 3
"""Redirects followed for one page, all of them to the same host and port."""

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Page:
    """What a server answered. `location` is where a redirect leads that was not followed, "" for none."""

    status: int
    body: bytes
    location: str = ""


def get(
    address: Address,
    path: str,
    *,
    scheme: str = "http",
    context: ssl.SSLContext | None = None,
    seconds: float = SECONDS,
    largest: int = LARGEST,
) -> Page:
    """The page at a path, whatever its status; HttpFailed where none came within the bounds.

    By https the server's certificate is checked as `context` says, else against the host's authorities and its name.
    """
    asked = _Question(address, f"{scheme}://{address.http}{path}", context, seconds, largest)
    # A thread of its own, because neither a name that is looked up nor a handshake can be told when to end.
    thread = threading.Thread(target=asked.run, name="http", daemon=True)
    thread.start()
    thread.join(seconds)
    if asked.page is not None:
        return asked.page
    if thread.is_alive():
        asked.hang_up()
        raise HttpFailed(f"{asked.url} was not read whole within {seconds:g} s", timed_out=True)
    raise HttpFailed(f"{asked.url}: {asked.error}")


class _Question:
    """One page being asked for: `page` or `error` is set when run() ends."""

    def __init__(
        self, address: Address, url: str, context: ssl.SSLContext | None, seconds: float, largest: int
    ) -> None:
        self.url = url
        self.page: Page | None = None
        self.error = "nothing was answered"
        self._address = address
        self._context = context
        self._seconds = seconds
        self._largest = largest
        self._line: socket.socket | None = None  # a second handle of the connection, to hang up with
        self._given_up = False

    def run(self) -> None:
        """Ask, and follow redirects that stay with the server."""
        try:
            page = self._ask()
            for _redirect in range(REDIRECTS):
                if not self._may_follow(page.location):
                    break
                self.url = page.location
                page = self._ask()
            self.page = page
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a malformed answer
            self.error = (
                f"{type(error).__name__}: {error}" if isinstance(error, http.client.HTTPException) else f"{error}"
            )

    def hang_up(self) -> None:
        """Break the connection off, whatever it is doing."""
        self._given_up = True
        if (line := self._line) is not None:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _ask(self) -> Page:
        parts = urlsplit(self.url)
        host = self._address.host.strip("[]")
        connection = http.client.HTTPConnection(host, self._address.port)
        plain = socket.create_connection((host, self._address.port), self._seconds)
        self._line = plain.dup()
        try:
            if self._given_up:
                raise TimeoutError("given up")
            if parts.scheme == "https":
                context = self._context or ssl.create_default_context()
                connection.sock = context.wrap_socket(plain, server_hostname=host)
            else:
                connection.sock = plain
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", target, headers={"Host": parts.netloc, "Connection": "close"})
            return self._read(connection.getresponse())
        finally:
            connection.close()
            plain.close()
            self._line.close()

    def _read(self, reply: http.client.HTTPResponse) -> Page:
        if (reply.length or 0) > self._largest:
            raise ValueError(f"it has {reply.length} bytes; at most {self._largest} are read")
        body = reply.read(self._largest + 1)
        if len(body) > self._largest:
            raise ValueError(f"it has more than {self._largest} bytes")
        if reply.length:  # read() with a size does not say so
            raise ValueError(f"it was cut short by {reply.length} bytes")
        location = reply.headers.get("Location", "") if 300 <= reply.status < 400 else ""
        return Page(reply.status, body, urljoin(self.url, location) if location else "")

    def _may_follow(self, location: str) -> bool:
        """Whether a redirect stays with this host and port, and does not leave TLS."""
        parts, before = urlsplit(location), urlsplit(self.url)
        if parts.scheme not in _PORTS or (before.scheme, parts.scheme) == ("https", "http"):
            return False
        port = parts.port or _PORTS[parts.scheme]
        return (parts.hostname, port) == (self._address.host.strip("[]"), self._address.port)
