"""The metrics port: a worker's metrics, health, readiness and status, over HTTP. Nothing can be changed there.

Everything that has a present value is asked for when somebody looks, so no figure can be stale.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from http.server import ThreadingHTTPServer
from typing import Any

from weed_agent.http_port import open_port
from weed_agent.metrics import Metrics
from weed_agent.snapshot import Snapshot
from weed_core.text import escaped

TEXT = "text/plain; charset=utf-8"


def serve(ip: str, port: int, metrics: Metrics, snapshot: Callable[[], Snapshot]) -> ThreadingHTTPServer:
    """Show a worker on a port, in threads of its own; raise ConfigError where the port cannot be had."""
    metrics.show(snapshot)
    return open_port(ip, port, lambda path, accept: answer(path, accept, metrics, snapshot))


def answer(path: str, accept: str, metrics: Metrics, snapshot: Callable[[], Snapshot]) -> tuple[int, str, bytes]:
    """Answer one GET: status, content type, body."""
    match path:
        case "/metrics":
            return 200, *metrics.exposition(accept)
        case "/health":
            return 200, TEXT, b"ok\n"
        case "/ready":
            why = snapshot().why_not_ready
            return (503 if why else 200), TEXT, f"{escaped(why) or 'ready'}\n".encode()
        case "/status":
            return 200, "application/json", json.dumps(status(snapshot(), metrics), indent=2).encode() + b"\n"
    return 404, TEXT, b"here are /metrics, /health, /ready and /status\n"


def status(now: Snapshot, metrics: Metrics) -> dict[str, Any]:
    """Everything an operator may ask of a worker, as JSON has it. Times are UTC, durations seconds."""
    figures = now.figures
    read, written = metrics.bytes_moved(now)
    return {
        "id": now.identity.worker_id,
        "version": now.identity.version,
        "address": now.identity.address,
        "state": now.state,
        "reason": now.stopping or now.paused or now.why_not_ready,
        "current_load": figures.execution_used,
        "max_load": figures.execution_total,
        "detections": {"running": figures.detection_used, "max": figures.detection_total},
        "capabilities": list(now.task_types),
        "last_heartbeat": _when(now.last_beat),
        "tasks_completed": figures.completed,
        "tasks_failed": figures.failed,
        "uptime_seconds": round(figures.uptime, 1),
        "running": [
            {
                "id": running.work_id,
                "kind": running.kind,
                "type": running.job_type,
                "volumes": list(now.volumes.get(running.work_id, ())),
                "progress": round(running.fraction, 4),
                "stage": running.stage,
            }
            for running in figures.running
        ],
        "queue": dict(figures.queued),
        "bytes_read": dict(read),
        "bytes_written": dict(written),
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
        "paused": now.paused,
        "windows": {name: {"hours": hours, "open": is_open} for name, (hours, is_open) in now.windows.items()},
        "journal_entries_open": now.journal_entries,
        "results_owed": now.results_owed,
        "missing_servers": [
            {"server": loss.server, "seen": _when(loss.seen), "no_copy": list(loss.gone), "fewer": list(loss.fewer)}
            for loss in now.missing
        ],
        "last_error": {"time": _when(metrics.last_error_time), "message": metrics.last_error},
    }


def _when(moment: float) -> str | None:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="seconds") if moment else None
