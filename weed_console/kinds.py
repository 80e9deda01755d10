"""What answers at an address that was taken for something else, by what its pages say.

Asks over HTTP; changes nothing.
"""

from __future__ import annotations

import re

from weed_cluster import admin as admin_http
from weed_cluster import http
from weed_cluster.address import Address
from weed_core.errors import BadTask, HttpFailed

ASK = 3.0
"""Seconds for one page."""

LARGEST = 1 << 20  # bytes of a page

MASTER, VOLUME, FILER, ADMIN, WORKER = (
    "a master",
    "a volume server",
    "a filer",
    "an admin server",
    "a weed_worker",
)


def kind(address: Address) -> str:
    """What answers there, with its article; "" where nothing does, or what is not known."""
    for path, sign, name in (
        ("/cluster/status", b'"Leader"', MASTER),
        ("/status", b'"DiskStatuses"', VOLUME),
        ("/status", b'"current_load"', WORKER),
        ("/", b"<title>SeaweedFS Filer", FILER),
        ("/", b"<title>SeaweedFS Admin", ADMIN),
    ):
        if sign in _page(address, path):
            return name
    return ADMIN if admin_http.probe(address).dialect == "plugin" else ""


def masters_of(volume_server: Address) -> tuple[Address, ...]:
    """The masters that a volume server reports to, as its page shows them; () where it does not."""
    shown = re.search(rb"<th>Masters</th>\s*<td>\[([^\]<]*)\]", _page(volume_server, "/ui/index.html"))
    try:
        return tuple(map(Address.parse, shown[1].decode().replace(",", " ").split())) if shown else ()
    except (BadTask, UnicodeDecodeError):
        return ()


def _page(address: Address, path: str) -> bytes:
    try:
        page = http.get(address, path, seconds=ASK, largest=LARGEST)
    except HttpFailed:
        return b""
    return page.body if page.status == 200 else b""
