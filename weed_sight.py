"""What can be seen of a worker from outside: its metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from weed_model import Detection


class Sight:
    """The worker's counters, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._events = Counter("weed_worker_stream_events", "Control stream events", ["event"], registry=self.registry)
        self._tasks = Counter("weed_worker_tasks", "Tasks ended", ["type", "result"], registry=self.registry)
        self._seconds = Histogram("weed_worker_task_seconds", "Seconds a task took", ["type"], registry=self.registry)
        self._late = Histogram("weed_worker_heartbeat_late_seconds", "Heartbeat lateness", registry=self.registry)

    def stream_event(self, event: str) -> None:
        """Count connected, closed, failed, refused or shutdown."""
        self._events.labels(event).inc()

    def task_ended(self, task_type: str, result: str, seconds: float) -> None:
        """Count a task: success, failure or cancelled."""
        self._tasks.labels(task_type, result).inc()
        self._seconds.labels(task_type).observe(seconds)

    def detection_ended(self, task_type: str, found: Detection | None) -> None:
        """Count what a detection saw; None for one that failed."""

    def heartbeat_late(self, seconds: float) -> None:
        """Record how much later than planned a heartbeat was made."""
        self._late.observe(seconds)

    def call(self, server: str, rpc: str, outcome: str) -> None:
        """Count one call to a server; `outcome` is "" when it starts."""
