"""What an admin server tells over HTTP before a worker dials it: its dialect, its gRPC port, its masters."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from weed_cluster import http
from weed_cluster.address import GRPC_OFFSET, Address
from weed_core.errors import BadTask, HttpFailed


@dataclass(frozen=True)
class Probe:
    """The answer: `dialect` is "plugin", "classic", or "" where the admin did not tell."""

    dialect: str
    grpc: Address


def probe(admin: Address) -> Probe:
    """Ask an admin for its dialect and gRPC port; an address that names its gRPC port keeps it.

    Admins before the plugin dialect do not know the page and say 404.
    """
    status, answer = get(admin, "/api/plugin/status")
    port = answer.get("worker_grpc_port", 0) if isinstance(answer, dict) else 0
    named = admin.grpc_port != admin.port + GRPC_OFFSET
    where = replace(admin, grpc_port=port) if type(port) is int and 0 < port < 65536 and not named else admin
    if status == 200 and isinstance(answer, dict):
        return Probe("plugin" if answer.get("enabled", True) else "classic", where)
    return Probe("classic" if status == 404 else "", where)


def masters_of(admin: Address) -> tuple[Address, ...]:
    """The master that an admin works with; () where it does not tell (an admin with a password does not).

    Its list of masters is no use: admins before 4.44 answer with a constant there.
    """
    _status, answer = get(admin, "/api/config")
    try:
        return (Address.parse(answer["config_info"]["master_address"]),)
    except (BadTask, LookupError, TypeError, AttributeError):
        return ()


def get(admin: Address, path: str) -> tuple[int, Any]:
    """The HTTP status and the JSON of a page, by http and then by https; (0, None) where neither answers."""
    for scheme in ("http", "https"):
        try:
            page = http.get(admin, path, scheme=scheme)
            if page.status != 400:  # a TLS server answers plain HTTP with 400
                return page.status, json.loads(page.body) if page.status == 200 else None
        except HttpFailed as error:
            if error.timed_out:  # it would not answer the other way either
                break
        except (ValueError, RecursionError):  # no JSON
            continue
    return 0, None
