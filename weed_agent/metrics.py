"""What can be seen of a worker from outside: metrics, health, readiness and status, over HTTP.

Counters are told by the agent as things happen; everything that has a present value is asked of the worker when
somebody looks, so no figure can be stale. Answers are plain HTTP on the metrics port; nothing can be changed there.
"""

from __future__ import annotations

import json
import time
from collections import Counter as Tally
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from weed_agent.hand import Hand
from weed_agent.ledger import Ledger
from weed_agent.session import Session
from weed_agent.settings import Settings
from weed_agent.status_port import open_port
from weed_cluster import security
from weed_cluster.leash import Leash
from weed_core.job_types import TASK_TYPES
from weed_core.model import Detection
from weed_core.text import escaped
from weed_protocol import commands
from weed_protocol.commands import Running, Status
from weed_safety.journal import Journal
from weed_state.last_topology import LastTopology
from weed_tasks.execute import LONGEST

if TYPE_CHECKING:
    from weed_agent.session import Session

TASK_SECONDS = (1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 28800)
"""Upper bounds of the buckets of weed_worker_task_seconds."""

LATE_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)
"""Upper bounds of the buckets of weed_worker_heartbeat_late_seconds."""


class Watched(Protocol):
    """The worker, as far as it is shown."""

    completed: int
    detecting: dict[str, tuple[commands.Detect, Leash]]
    failed: int
    hand: Hand
    identity: commands.Identity
    journal: Journal
    last_topology: LastTopology
    ledger: Ledger
    security: security.Security
    sessions: list[Session]
    settings: Settings
    metrics: Metrics
    started: float
    stopping: str

    def status(self, session: Session | None = None) -> commands.Status:
        """One look at the worker; with a session, only that session's jobs are listed."""


class Metrics:
    """The worker's counters, and the HTTP port that shows them. `worker` is set by watch()."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.last_error = ""
        self.last_error_time = 0.0  # unix seconds
        self._events = Counter("weed_worker_stream_events", "Control stream events.", ["event"], registry=registry)
        self._tasks = Counter("weed_worker_tasks", "Tasks ended.", ["type", "result"], registry=registry)
        self._seconds = Histogram(
            "weed_worker_task_seconds", "Seconds a task took.", ["type"], registry=registry, buckets=TASK_SECONDS
        )
        self._detections = Counter(
            "weed_worker_detections", "Looks for work that ended.", ["type", "result"], registry=registry
        )
        self._seen = Counter("weed_worker_detection_seen", "Volumes that detections saw.", ["type"], registry=registry)
        self._skipped = Counter(
            "weed_worker_detection_skipped", "Volumes passed over, by reason.", ["type", "reason"], registry=registry
        )
        self._proposed = Counter("weed_worker_detection_proposed", "Tasks proposed.", ["type"], registry=registry)
        self._late = Histogram(
            "weed_worker_heartbeat_late_seconds",
            "Seconds by which heartbeats were made later than planned.",
            registry=registry,
            buckets=LATE_SECONDS,
        )
        self._calls = Counter("weed_worker_calls", "Calls to servers that ended.", ["call", "code"], registry=registry)
        self._read: Tally[str] = Tally()
        self._written: Tally[str] = Tally()
        ProcessCollector(registry=registry)

    # ---- told by the agent

    def stream_event(self, event: str) -> None:
        """Count connected, closed, failed, refused or shutdown."""
        self._events.labels(event).inc()
        if event in ("failed", "refused"):
            self.failed(f"the stream to admin {'failed' if event == 'failed' else 'was refused'}")

    def task_ended(self, task_type: str, result: str, seconds: float, read: int = 0, written: int = 0) -> None:
        """Count a task: success, failure or cancelled; and its bytes from and to servers."""
        self._tasks.labels(task_type, result).inc()
        self._seconds.labels(task_type).observe(seconds)
        self._read[task_type] += read
        self._written[task_type] += written

    def detection_ended(self, task_type: str, found: Detection | None) -> None:
        """Count what a detection saw; None for one that failed or was refused."""
        task_type = task_type if task_type in TASK_TYPES else "unknown"  # each name would be a series for ever
        self._detections.labels(task_type, "failure" if found is None else "success").inc()
        if found is not None:
            self._seen.labels(task_type).inc(found.seen)
            self._proposed.labels(task_type).inc(len(found.proposals))
            for key, count in Tally(skipped.key for skipped in found.skipped).items():
                self._skipped.labels(task_type, key).inc(count)

    def failed(self, message: str) -> None:
        """Remember the last thing that went wrong."""
        self.last_error, self.last_error_time = message, time.time()

    def heartbeat_late(self, seconds: float) -> None:
        """Record how much later than planned a heartbeat was made."""
        self._late.observe(seconds)

    def call(self, _server: str, rpc: str, outcome: str) -> None:
        """Count one call to a server by its code; `outcome` is "" when it starts."""
        if outcome:
            self._calls.labels(rpc, outcome).inc()

    # ---- asked from outside

    def serve(self, worker: Watched, ip: str, port: int) -> ThreadingHTTPServer:
        """Show this worker on a port, in a thread of its own; raise ConfigError where the port cannot be had."""
        self.registry.register(_Present(self, worker))
        return open_port(ip, port, partial(self.answer, worker))

    def answer(self, worker: Watched, path: str, accept: str = "") -> tuple[int, str, bytes]:
        """Answer one GET: status, content type, body."""
        text = "text/plain; charset=utf-8"
        if path == "/metrics":
            encode, kind = choose_encoder(accept)
            return 200, kind, encode(self.registry)
        if path == "/health":
            return 200, text, b"ok\n"
        if path == "/ready":
            why = why_not_ready(worker)
            return (503 if why else 200), text, f"{escaped(why) or 'ready'}\n".encode()
        if path == "/status":
            return 200, "application/json", json.dumps(status(worker), indent=2).encode() + b"\n"
        return 404, text, b"here are /metrics, /health, /ready and /status\n"

    def bytes_moved(self, worker: Watched) -> tuple[Tally[str], Tally[str]]:
        """Bytes read and written by task type: of the tasks that ended, and of those that run."""
        read, written = Tally(self._read), Tally(self._written)
        for work in worker.hand.running:
            read[work.command.job.type] += work.leash.read
            written[work.command.job.type] += work.leash.written
        return read, written


def look(worker: Watched, session: Session | None = None) -> Status:
    """One look at the worker; with a session, only that session's jobs are listed."""
    running = [
        Running(work.shown_id, "execution", work.command.job.type, work.fraction, work.stage)
        for work in worker.hand.running
        if session is None or work.session is session
    ]
    running += [
        Running(key[:LONGEST], "detection", command.request.job_type, 0.0, "")
        for key, (command, _) in list(worker.detecting.items())
    ]
    slots, max_detect = worker.hand.slots, worker.settings.max_detect
    used = min(slots.used, slots.total)
    return Status(
        state="busy" if used >= slots.total else "active" if used else "idle",
        running=tuple(running),
        execution_used=used,
        execution_total=slots.total,
        detection_used=min(len(worker.detecting), max_detect),
        detection_total=max_detect,
        queued=worker.hand.queued,
        completed=worker.completed,
        failed=worker.failed,
        uptime=time.monotonic() - worker.started,
        execution_outside=slots.outside,
    )


def last_heartbeat(worker: Watched) -> float:
    """When a heartbeat last left, unix seconds; 0 where none has."""
    return max(session.last_beat for session in worker.sessions)


def why_not_ready(worker: Watched) -> str:
    """Why the worker could not take work from its admin now; "" if it could. A paused worker is ready."""
    if worker.stopping:
        return f"draining ({worker.stopping})"
    missing = _unregistered(worker)
    return f"not registered with admin {worker.settings.admin}: {', '.join(missing)}" if missing else ""


def _unregistered(worker: Watched) -> list[str]:
    """The ids whose registration does not stand; a session without types for the admin's dialect needs none."""
    return [
        session.worker_id
        for session in worker.sessions
        if not session.connected and (session.task_types or session.dialect is None)
    ]


def status(worker: Watched) -> dict[str, Any]:
    """Everything an operator may ask of a worker, as JSON has it. Times are UTC, durations seconds."""
    now, figures, settings = time.time(), worker.status(), worker.settings
    dialects = sorted({session.dialect.NAME for session in worker.sessions if session.dialect})
    volumes = {work.shown_id: list(work.volume_ids) for work in worker.hand.running}
    read, written = worker.metrics.bytes_moved(worker)
    return {
        "id": worker.identity.worker_id,
        "version": worker.identity.version,
        "address": worker.identity.address,
        "state": _state(worker, figures.state),
        "reason": worker.stopping or worker.settings.paused() or why_not_ready(worker),
        "current_load": figures.execution_used,
        "max_load": figures.execution_total,
        "detections": {"running": figures.detection_used, "max": figures.detection_total},
        "capabilities": list(settings.task_types),
        "last_heartbeat": _when(last_heartbeat(worker)),
        "tasks_completed": figures.completed,
        "tasks_failed": figures.failed,
        "uptime_seconds": round(figures.uptime, 1),
        "running": [
            {
                "id": running.work_id,
                "kind": running.kind,
                "type": running.job_type,
                "volumes": volumes.get(running.work_id, []),
                "progress": round(running.fraction, 4),
                "stage": running.stage,
            }
            for running in figures.running
        ],
        "queue": dict(figures.queued),
        "bytes_read": dict(read),
        "bytes_written": dict(written),
        "admin": str(settings.admin),
        "protocol": ", ".join(dialects),
        "registrations": [
            {
                "id": session.worker_id,
                "types": list(session.task_types),
                "connected": session.connected,
                "admin_heard": _when(now - (time.monotonic() - session.last_heard) if session.last_heard else 0.0),
            }
            for session in worker.sessions
            if session.task_types
        ],
        "tls": worker.security.describe(),
        "paused": worker.settings.paused(),
        "windows": {
            name: {"hours": str(window), "open": window.is_open(datetime.now().time())}
            for name, window in settings.windows.items()
        },
        "journal_entries_open": worker.journal.count(),
        "results_owed": len(worker.ledger),
        "missing_servers": [
            {"server": loss.server, "seen": _when(loss.seen), "no_copy": list(loss.gone), "fewer": list(loss.fewer)}
            for loss in worker.last_topology.past.lost
        ],
        "last_error": {"time": _when(worker.metrics.last_error_time), "message": worker.metrics.last_error},
    }


def _state(worker: Watched, state: str) -> str:
    """One word: draining and disconnected weigh more than paused, and paused more than idle, active or busy."""
    if worker.stopping:
        return "draining"
    if why_not_ready(worker):
        return "disconnected"
    return "paused" if worker.settings.paused() else state


def _when(moment: float) -> str | None:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="seconds") if moment else None


class _Present:
    """The metrics that have a present value, read from the worker at each look."""

    def __init__(self, metrics: Metrics, worker: Watched) -> None:
        self._metrics = metrics
        self._worker = worker

    def describe(self) -> list[Metric]:
        """Nothing: the registry need not look before somebody asks."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One look at the worker."""
        worker, who, figures = self._worker, self._worker.identity, self._worker.status()
        yield InfoMetricFamily(
            "weed_worker",
            "Who this worker is.",
            {"id": who.worker_id, "version": who.version, "address": who.address},
        )
        yield _gauge("connected", "Whether every registration with the admin stands.", not _unregistered(worker))
        yield _gauge("draining", "Whether the worker is about to stop.", bool(worker.stopping))
        yield _gauge("paused", "Whether -pauseFile holds new work back.", bool(worker.settings.paused()))
        lanes = {
            "execution": (figures.execution_used, figures.execution_total),
            "detection": (figures.detection_used, figures.detection_total),
        }
        yield _gauges("slots_used", "Tasks and detections that run.", "lane", {k: v[0] for k, v in lanes.items()})
        yield _gauges("slots_total", "How many may run.", "lane", {k: v[1] for k, v in lanes.items()})
        queued = {name: figures.queued.get(name, 0) for name in worker.settings.task_types}
        yield _gauges("tasks_queued", "Tasks assigned that wait for a slot or a volume.", "type", queued)
        now = datetime.now().time()
        windows = {name: window.is_open(now) for name, window in worker.settings.windows.items()}
        yield _gauges("window_open", "Whether a task type's -window is open.", "type", windows)
        for name, help_text, moved in zip(
            ("bytes_read", "bytes_written"),
            ("Bytes that tasks received from servers.", "Bytes that tasks sent to servers."),
            self._metrics.bytes_moved(worker),
        ):
            counter = CounterMetricFamily(f"weed_worker_{name}", help_text, labels=["type"])
            for task_type in worker.settings.task_types:
                counter.add_metric([task_type], moved[task_type])
            yield counter
        yield _gauge("journal_entries_open", "Jobs with changes that may have to be undone.", worker.journal.count())
        yield _gauge("results_owed", "Results that no admin has taken yet.", len(worker.ledger))
        yield _gauge("last_heartbeat_timestamp_seconds", "When the last heartbeat was sent.", last_heartbeat(worker))
        yield _gauge("last_error_timestamp_seconds", "When something last failed.", self._metrics.last_error_time)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"weed_worker_{name}", help_text, value=float(value))


def _gauges(name: str, help_text: str, label: str, values: dict[str, Any]) -> Metric:
    family = GaugeMetricFamily(f"weed_worker_{name}", help_text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], float(value))
    return family
