"""Asking a server for a page over HTTP: bounded in time and in bytes, and never led to another host.

The one place where this project speaks HTTP as a client. What answers may be anything: a server that hangs, that drips
a byte a second, that sends without end, or that names another host to go to. Proxies of the environment are not used:
the servers of a cluster are asked themselves.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin, urlsplit

from weed_cluster.address import Address
from weed_cluster.bounded import Dial, within
from weed_core.errors import HttpFailed

SECONDS = 10.0
"""For one page in all, from looking up the name to the last byte: links with a round trip of two seconds exist."""

LARGEST = 32 << 20
"""Bytes of a page, at most; a longer one is refused, not cut."""

REDIRECTS = 3
"""Redirects followed for one page, all of them to the same host and port."""

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Page:
    """What a server answered. `location` is where a redirect leads that was not followed, "" for none.

    `cookies` are those that it set, as a request's Cookie header has them.
    """

    status: int
    body: bytes
    location: str = ""
    cookies: str = ""


def get(
    address: Address,
    path: str,
    *,
    scheme: str = "http",
    context: ssl.SSLContext | None = None,
    seconds: float = SECONDS,
    largest: int = LARGEST,
    cookies: str = "",
) -> Page:
    """The page at a path, whatever its status; HttpFailed where none came within the bounds.

    By https the server's certificate is checked as `context` says, else against the host's authorities and its name.
    """
    url, order = f"{scheme}://{address.http}{path}", _Order("GET", None, {"Cookie": cookies} if cookies else {})
    return _bounded(seconds, address, url, lambda dial: _follow(dial, address, url, context, largest, order))


def post_form(
    address: Address, path: str, fields: Mapping[str, str], *, scheme: str = "http", cookies: str = ""
) -> Page:
    """What a server answers to a form that is sent to it; as get(), but no redirect is followed."""
    url = f"{scheme}://{address.http}{path}"
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookies}
    order = _Order("POST", urlencode(fields).encode(), headers)
    return _bounded(SECONDS, address, url, lambda dial: _ask(dial, address, url, None, LARGEST, order))


def put(
    address: Address,
    path: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    scheme: str = "http",
    context: ssl.SSLContext | None = None,
    seconds: float = SECONDS,
    largest: int = 1 << 20,
) -> Page:
    """What a server answers to an upload; as get(), but no redirect is followed."""
    url = f"{scheme}://{address.http}{path}"
    order = _Order("PUT", body, headers)
    return _bounded(seconds, address, url, lambda dial: _ask(dial, address, url, context, largest, order))


@dataclass(frozen=True)
class _Order:
    method: str
    body: bytes | None
    headers: Mapping[str, str]


def _bounded(seconds: float, address: Address, url: str, ask: Callable[[Dial], Page]) -> Page:
    try:
        return within(seconds, address, address.port, ask)
    except TimeoutError:
        raise HttpFailed(f"{url} was not read whole within {seconds:g} s", timed_out=True) from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a malformed answer
        raise HttpFailed(f"{url}: {error or type(error).__name__}") from None


def _follow(
    dial: Dial, address: Address, url: str, context: ssl.SSLContext | None, largest: int, order: _Order
) -> Page:
    """Ask for a page, and follow redirects that stay with the server."""
    page = _ask(dial, address, url, context, largest, order)
    for _redirect in range(REDIRECTS):
        if not _may_follow(address, url, page.location):
            break
        url = page.location
        page = _ask(dial, address, url, context, largest, order)
    return page


def _ask(
    dial: Dial,
    address: Address,
    url: str,
    context: ssl.SSLContext | None,
    largest: int,
    order: _Order,
) -> Page:
    parts = urlsplit(url)
    host = address.host.strip("[]")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with closing(http.client.HTTPConnection(host, address.port)) as connection, closing(dial()) as line:
        if parts.scheme == "https":
            line = (context or ssl.create_default_context()).wrap_socket(line, server_hostname=host)
        connection.sock = line
        headers = {**order.headers, "Host": parts.netloc, "Connection": "close"}
        connection.request(order.method, target, order.body, headers)
        return _read(connection.getresponse(), url, largest)


def _read(reply: http.client.HTTPResponse, url: str, largest: int) -> Page:
    if (reply.length or 0) > largest:
        raise ValueError(f"it has {reply.length} bytes; at most {largest} are read")
    body = reply.read(largest + 1)
    if len(body) > largest:
        raise ValueError(f"it has more than {largest} bytes")
    if reply.length:  # read() with a size does not say so
        raise ValueError(f"it was cut short by {reply.length} bytes")
    location = reply.headers.get("Location", "") if 300 <= reply.status < 400 else ""
    cookies = "; ".join(cookie.partition(";")[0].strip() for cookie in reply.headers.get_all("Set-Cookie", []))
    return Page(reply.status, body, urljoin(url, location) if location else "", cookies)


def _may_follow(address: Address, before: str, location: str) -> bool:
    """Whether a redirect stays with this host and port, and does not leave TLS."""
    parts = urlsplit(location)
    if parts.scheme not in _PORTS or (urlsplit(before).scheme, parts.scheme) == ("https", "http"):
        return False
    port = parts.port or _PORTS[parts.scheme]
    return (parts.hostname, port) == (address.host.strip("[]"), address.port)
