"""The jobs that an admin server counts as under way, and which volumes each is about.

Asks over HTTP, admins of both dialects, and changes nothing. A worker that keeps no leases, as the one of SeaweedFS
itself, is known to work on a volume only there.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from google.protobuf.message import DecodeError

from proto_gen.worker_pb2 import TaskParams
from weed_cluster import admin as admin_http
from weed_cluster.address import Address
from weed_core.model import Job
from weed_core.values import as_int

LISTED = 500
"""Jobs of which an admin is asked for the state."""

MOST = 100
"""Jobs under way of which an admin is asked for the volumes."""

WORDS = {
    "pending": "waiting",
    "created": "waiting",
    "queued": "waiting",
    "assigned": "running",
    "in_progress": "running",
    "running": "running",
    "succeeded": "done",
    "completed": "done",
    "canceled": "cancelled",
    "cancelled": "cancelled",
    "failed": "failed",
}
"""The states of a job in either dialect, without the plugin dialect's prefix, in the words of a person."""


@dataclass(frozen=True)
class AdminJob:
    """One job that a worker has, as its admin knows it."""

    id: str
    type: str
    worker: str
    since: str  # when its record last changed, as the admin writes it
    volume_ids: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.type} {self.id} at worker {self.worker or 'unknown'}"


def under_way(admin: Address, dialect: str) -> list[AdminJob]:
    """The jobs that workers have; none where the admin does not tell (one with a password does not)."""
    return list((_plugin if dialect == "plugin" else _classic)(admin))


def _plugin(admin: Address) -> Iterator[AdminJob]:
    active = [
        job for job in listed(admin, f"/api/plugin/jobs?limit={LISTED}") if state_of(job.get("state")) == "running"
    ]
    for job in active[:MOST]:
        name = str(job.get("job_id", ""))
        _code, answer = admin_http.get(admin, f"/api/plugin/jobs/{quote(name, safe='')}/detail")
        detail = answer.get("job") if isinstance(answer, dict) else None
        yield AdminJob(
            name,
            str(job.get("job_type", "")),
            str(job.get("worker_id", "")),
            str(job.get("updated_at", "")),
            _volumes(detail if isinstance(detail, dict) else {}),
        )


def _classic(admin: Address) -> Iterator[AdminJob]:
    for task in listed(admin, "/api/maintenance/tasks"):
        if state_of(task.get("status")) == "running":
            volume_id = as_int(task.get("volume_id"), 0, 0)
            yield AdminJob(
                str(task.get("id", "")),
                str(task.get("type", "")),
                str(task.get("worker_id", "")),
                str(task.get("started_at", "")),
                (volume_id,) if volume_id else (),
            )


def state_of(text: object) -> str:
    """A job's state in our words; one that is not known as it is."""
    name = str(text or "").removeprefix("job_state_")
    return WORDS.get(name, name or "unknown")


def listed(admin: Address, path: str) -> list[dict[str, Any]]:
    """The entries of a list that an admin serves; none where it does not."""
    _code, answer = admin_http.get(admin, path)
    return [entry for entry in answer if isinstance(entry, dict)] if isinstance(answer, list) else []


def params_of(job: Mapping[str, Any]) -> TaskParams:
    """The typed parameters of a job's detail; empty ones where it has none that can be read."""
    parameters = job.get("parameters")
    try:
        typed = plain(parameters.get("task_params_pb")) if isinstance(parameters, dict) else ""
        return TaskParams.FromString(base64.b64decode(typed or ""))
    except (binascii.Error, DecodeError, TypeError, ValueError):
        return TaskParams()


def _volumes(job: Mapping[str, Any]) -> tuple[int, ...]:
    """The volumes of a job's detail: by its typed parameters and its plain one, else by its label."""
    parameters, labels = (value if isinstance(value, dict) else {} for value in map(job.get, ("parameters", "labels")))
    named = plain(parameters.get("volume_id")) or labels.get("volume_id")
    return Job("", "", params_of(job), {"volume_id": as_int(named, 0, 0)}).volume_ids


def plain(value: Any) -> Any:
    """A parameter as it is, or out of the message in which admins keep it."""
    return next(iter(value.values()), None) if isinstance(value, dict) else value
