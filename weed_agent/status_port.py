"""The metrics port: a worker's page, metrics, health, readiness and status, over HTTP. Nothing can be changed there.

Everything that has a present value is asked for when somebody looks, so no figure can be stale.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from http.server import ThreadingHTTPServer
from typing import Any

from weed_agent import page
from weed_agent.http_port import open_port
from weed_agent.metrics import Metrics
from weed_agent.snapshot import JobView, Snapshot
from weed_core.text import escaped
from weed_state.history import Ended, Look

TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"


def serve(ip: str, port: int, metrics: Metrics, snapshot: Callable[[], Snapshot]) -> ThreadingHTTPServer:
    """Show a worker on a port, in threads of its own; raise ConfigError where the port cannot be had."""
    metrics.show(snapshot)
    return open_port(ip, port, lambda target, accept: answer(target, accept, metrics, snapshot))


def answer(target: str, accept: str, metrics: Metrics, snapshot: Callable[[], Snapshot]) -> tuple[int, str, bytes]:
    """Answer one GET: status, content type, body."""
    path, _, query = target.partition("?")
    match path:
        case "/":
            return 200, HTML, page.render(status(snapshot(), metrics), query).encode()
        case "/metrics":
            return 200, *metrics.exposition(accept)
        case "/health":
            return 200, TEXT, b"ok\n"
        case "/ready":
            why = snapshot().why_not_ready
            return (503 if why else 200), TEXT, f"{escaped(why) or 'ready'}\n".encode()
        case "/status":
            return 200, "application/json", json.dumps(status(snapshot(), metrics), indent=2).encode() + b"\n"
    return 404, TEXT, b"here are /, /metrics, /health, /ready and /status\n"


def status(now: Snapshot, metrics: Metrics) -> dict[str, Any]:
    """Everything an operator may ask of a worker, as JSON has it. Times are UTC, durations seconds, sizes bytes."""
    return _itself(now) | _work(now) | _results(now, metrics) | _surroundings(now) | _left(now, metrics)


def _itself(now: Snapshot) -> dict[str, Any]:
    """Who it is and how it is."""
    figures = now.figures
    return {
        "id": now.identity.worker_id,
        "version": now.identity.version,
        "address": now.identity.address,
        "time": _when(now.taken),
        "state": now.state,
        "reason": now.stopping or now.paused or now.why_not_ready,
        "stops_by": _when(now.stop_by),
        "current_load": figures.execution_used,
        "max_load": figures.execution_total,
        "detections": {"running": figures.detection_used, "max": figures.detection_total},
        "capabilities": list(now.task_types),
        "last_heartbeat": _when(now.last_beat),
        "tasks_completed": figures.completed,
        "tasks_failed": figures.failed,
        "uptime_seconds": round(figures.uptime, 1),
    }


def _work(now: Snapshot) -> dict[str, Any]:
    """What it does, what waits, and what is read-only because of it."""
    return {
        "running": _running(now),
        "waiting": [_job(view) for view in now.waiting],
        "queue": dict(now.figures.queued),
        "read_only": [
            {
                "volume": one.volume_id,
                "type": one.job_type,
                "job": one.job_id,
                "since": _when(one.since),
                "until": _when(one.until),
                "text": one.text,
            }
            for one in now.closed
        ],
    }


def _results(now: Snapshot, metrics: Metrics) -> dict[str, Any]:
    """What it has done and found."""
    read, written = metrics.bytes_moved(now)
    return {
        "ended": [_ended(one) for one in now.ended],
        "looks": {name: _look(now.looks[name]) for name in now.task_types if name in now.looks},
        "last_success": {name: _when(at) for name, at in now.well.items()},
        "last_failure": {name: _when(at) for name, at in now.badly.items()},
        "bytes_read": dict(read),
        "bytes_written": dict(written),
        "gains_bytes": {word: dict(sizes) for word, sizes in metrics.gains.items()},
    }


def _surroundings(now: Snapshot) -> dict[str, Any]:
    """Its admin, its connections, its host, its hours."""
    return {
        "admin": now.admin,
        "protocol": ", ".join(now.dialects),
        "registrations": [
            {
                "id": entry.worker_id,
                "types": list(entry.task_types),
                "connected": entry.stands,
                "admin_heard": _when(entry.heard),
            }
            for entry in now.registrations
            if entry.task_types
        ],
        "tls": now.tls,
        "certificate_ends": _when(now.certificate_ends),
        "disk_free_bytes": now.disk_free,
        "paused": now.paused,
        "windows": {name: {"hours": hours, "open": is_open} for name, (hours, is_open) in now.windows.items()},
    }


def _left(now: Snapshot, metrics: Metrics) -> dict[str, Any]:
    """What is left to undo, to deliver and to look after."""
    return {
        "journal_entries_open": now.journal_entries,
        "to_undo": list(now.to_undo),
        "results_owed": now.results_owed,
        "results_to_deliver": max(0, now.results_owed - len(now.running) - len(now.waiting)),
        "missing_servers": [
            {"server": loss.server, "seen": _when(loss.seen), "no_copy": list(loss.gone), "fewer": list(loss.fewer)}
            for loss in now.missing
        ],
        "last_error": {"time": _when(metrics.last_error_time), "message": metrics.last_error},
    }


def _running(now: Snapshot) -> list[dict[str, Any]]:
    """Jobs and detections under way."""
    views = {view.job_id: view for view in now.running}
    detections = (running for running in now.figures.running if running.kind == "detection")
    return [{"kind": "execution", **_job(view)} for view in views.values()] + [
        {
            "kind": "detection",
            "id": running.work_id,
            "type": running.job_type,
            "text": f"looking for {running.job_type}",
            "volumes": [],
            "progress": 0.0,
            "stage": "",
        }
        for running in detections
    ]


def _job(view: JobView) -> dict[str, Any]:
    return {
        "id": view.job_id,
        "type": view.task_type,
        "text": view.words,
        "volumes": list(view.volume_ids),
        "collection": view.collection,
        "progress": round(view.fraction, 4),
        "stage": view.stage,
        "seconds": round(view.seconds, 1),
        "seconds_left": None if view.left is None else round(view.left, 1),
        "moved_bytes": view.moved,
        "bytes_per_second": round(view.rate),
    }


def _ended(one: Ended) -> dict[str, Any]:
    return {
        "id": one.job_id,
        "type": one.job_type,
        "volumes": list(one.volume_ids),
        "collection": one.collection,
        "outcome": one.outcome,
        "at": _when(one.at),
        "seconds": one.seconds,
        "gains_bytes": dict(one.gains),
        "text": one.text,
    }


def _look(look: Look) -> dict[str, Any]:
    return {
        "at": _when(look.at),
        "error": look.error,
        "seen": look.seen,
        "to_do": look.to_do,
        "summary": look.summary,
        "text": look.words,
        "passed_over": dict(look.reasons),
        "skipped": [
            {"volume": skip.volume_id, "collection": skip.collection, "server": skip.server, "reason": skip.reason}
            for skip in look.skipped
        ],
    }


def _when(moment: float) -> str | None:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="seconds") if moment else None
