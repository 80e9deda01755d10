"""What an admin server tells over HTTP before a worker dials it: its dialect, its gRPC port, its masters."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from typing import Any

from weed_cluster.address import GRPC_OFFSET, Address
from weed_errors import BadTask

TIMEOUT = 2.0
"""Seconds for each question, as `weed worker` gives it."""


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
    where = replace(admin, grpc_port=port) if isinstance(port, int) and port > 0 and not named else admin
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
            with urllib.request.urlopen(f"{scheme}://{admin.http}{path}", timeout=TIMEOUT) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            if error.code != 400:  # a TLS server answers plain HTTP with 400
                return error.code, None
        except (OSError, ValueError, http.client.HTTPException):  # the last: what answers is no web server
            continue
    return 0, None
