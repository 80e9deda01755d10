"""The worker's metrics: counters, told as things happen, and gauges, read from a snapshot at each look.

Names follow Prometheus' rules: base units, `_total` on counters alone, labels without blanks.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from weed_agent.snapshot import Snapshot
from weed_core.job_types import TASK_TYPES
from weed_core.model import GAINS, Detection

TASK_SECONDS = (1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 28800)
"""Upper bounds of the buckets of weed_worker_task_duration_seconds."""

LATE_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)
"""Upper bounds of the buckets of weed_worker_heartbeat_late_seconds."""


GAINED = {
    "freed": "Bytes of disk space that tasks gave back.",
    "moved": "Bytes of volumes and shards that tasks brought to another place.",
    "encoded": "Bytes of volumes that tasks turned into shards.",
    "restored": "Bytes of lost shards and copies that tasks made anew.",
}
"""The help texts of what tasks did, by the words of weed_core.model.GAINS."""


class Metrics:
    """What has been counted since the start, and what is shown of the present once show() says where to look."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self.last_error = ""
        self.last_error_time = 0.0  # unix seconds
        self._events = Counter("weed_worker_stream_events", "Control stream events.", ["event"], registry=registry)
        self._tasks = Counter("weed_worker_tasks", "Tasks ended.", ["type", "result"], registry=registry)
        self._seconds = Histogram(
            "weed_worker_task_duration_seconds",
            "Seconds a task took.",
            ["type"],
            registry=registry,
            buckets=TASK_SECONDS,
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
        self.gains: dict[str, Tally[str]] = {word: Tally() for word in GAINS.values()}
        """Bytes that tasks freed, moved, encoded and restored, by task type."""
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

    def gained(self, task_type: str, gains: Mapping[str, int]) -> None:
        """Count the bytes of what a task did, as Result.gains has them."""
        for word, size in gains.items():
            self.gains[word][task_type] += size

    def detection_ended(self, task_type: str, found: Detection | None) -> None:
        """Count what a detection saw; None for one that failed or was refused."""
        task_type = task_type if task_type in TASK_TYPES else "unknown"  # each name would be a series for ever
        self._detections.labels(task_type, "failure" if found is None else "success").inc()
        if found is not None:
            self._seen.labels(task_type).inc(found.seen)
            self._proposed.labels(task_type).inc(len(found.proposals))
            for key, count in Tally(skipped.key for skipped in found.skipped).items():
                self._skipped.labels(task_type, label(key)).inc(count)

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

    def show(self, snapshot: Callable[[], Snapshot]) -> None:
        """Show what has a present value, too, as one snapshot for each look has it."""
        self.registry.register(_Present(self, snapshot))

    def exposition(self, accept: str = "") -> tuple[str, bytes]:
        """All metrics, in the format that an Accept header asks for: content type, body."""
        encode, kind = choose_encoder(accept)
        return kind, encode(self.registry)

    def bytes_moved(self, now: Snapshot) -> tuple[Tally[str], Tally[str]]:
        """Bytes read and written by task type: of the tasks that ended, and of those that run."""
        read, written = Tally(self._read), Tally(self._written)
        for moving in now.moving:
            read[moving.task_type] += moving.read
            written[moving.task_type] += moving.written
        return read, written


class _Present:
    """The metrics that have a present value."""

    def __init__(self, metrics: Metrics, snapshot: Callable[[], Snapshot]) -> None:
        self._metrics = metrics
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        """Nothing: the registry need not look before somebody asks."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One look at the worker."""
        now = self._snapshot()
        who, figures = now.identity, now.figures
        yield InfoMetricFamily(
            "weed_worker",
            "Who this worker is.",
            {"id": who.worker_id, "version": who.version, "address": who.address},
        )
        yield _gauge("connected", "Whether every registration with the admin stands.", not now.unregistered)
        yield _gauge("draining", "Whether the worker is about to stop.", bool(now.stopping))
        yield _gauge("paused", "Whether -pauseFile holds new work back.", bool(now.paused))
        lanes = {
            "execution": (figures.execution_used, figures.execution_total),
            "detection": (figures.detection_used, figures.detection_total),
        }
        yield _gauges("slots_used", "Tasks and detections that run.", "lane", {k: v[0] for k, v in lanes.items()})
        yield _gauges("slots", "How many may run.", "lane", {k: v[1] for k, v in lanes.items()})
        queued = {name: figures.queued.get(name, 0) for name in now.task_types}
        yield _gauges("tasks_queued", "Tasks assigned that wait for a slot or a volume.", "type", queued)
        windows = {name: is_open for name, (_hours, is_open) in now.windows.items()}
        yield _gauges("window_open", "Whether a task type's -window is open.", "type", windows)
        read, written = self._metrics.bytes_moved(now)
        yield _counter("read_bytes", "Bytes that tasks received from servers.", now.task_types, read)
        yield _counter("written_bytes", "Bytes that tasks sent to servers.", now.task_types, written)
        for word, sizes in self._metrics.gains.items():
            yield _counter(f"{word}_bytes", GAINED[word], now.task_types, sizes)
        yield from _outcomes(now)
        yield from _sight(now)
        yield _gauge("journal_entries_open", "Jobs with changes that may have to be undone.", now.journal_entries)
        yield _gauge("results_owed", "Results that no admin has taken yet.", now.results_owed)
        yield _gauge("last_heartbeat_timestamp_seconds", "When the last heartbeat was sent.", now.last_beat)
        yield _gauge("last_error_timestamp_seconds", "When something last failed.", self._metrics.last_error_time)
        ends = now.certificate_ends
        yield _gauge("certificate_expiry_timestamp_seconds", "When this worker's certificate ends; 0: none.", ends)
        if now.disk_free >= 0:
            yield _gauge("working_directory_free_bytes", "Bytes free where -workingDir is.", now.disk_free)


def _sight(now: Snapshot) -> Iterator[Metric]:
    """How the cluster was at the last look; nothing where that is long ago, since another worker may look now."""
    if now.health is not None:
        health = now.health
        ec = "Erasure-coded volumes by how many of their 14 shards are sound."
        yield _states("ec_volumes", ec, health.ec)
        yield _states(
            "volumes", "Volumes that lack copies, whose copies differ, or that are read-only.", health.volumes
        )
        yield _gauges("garbage_bytes", "Bytes of deleted files in volumes.", "collection", dict(health.garbage))
        yield _states(
            "faults_open", "What was found wrong and is not mended, by how long that is known.", health.faults
        )
    if now.coverage is not None:
        seen = now.coverage
        yield _gauge("scrub_covered_ratio", "Share of replicas and shards verified within the interval.", seen.share)
        yield _gauge("scrub_oldest_seconds", "How long ago the oldest of them was verified.", seen.oldest)
        counts = {"verified": seen.recent, "never": seen.never, "overdue": seen.total - seen.recent - seen.never}
        counts |= {"bad": seen.bad, "differ": seen.differ, "unclear": seen.unclear}
        yield _gauges("scrub_things", "Replicas and shards by when and how they were verified.", "state", counts)


def label(reason: str) -> str:
    """A reason as a label has it: without blanks."""
    return "_".join(reason.split())


def _outcomes(now: Snapshot) -> Iterator[Metric]:
    """How jobs and looks for work ended, and what is kept read-only meanwhile."""
    well = "When a task of this type last succeeded, or a look for work last found that nothing was to do."
    yield _gauges("last_success_timestamp_seconds", well, "type", _known(now.well, now))
    badly = "When a task of this type, or a look for its work, last failed."
    yield _gauges("last_failure_timestamp_seconds", badly, "type", _known(now.badly, now))
    looks = _known(now.looks, now)
    at = {name: look.at for name, look in looks.items()}
    yield _gauges("last_look_timestamp_seconds", "When this worker last looked for work of this type.", "type", at)
    whole = {name: look for name, look in looks.items() if not look.error}
    to_do = {name: look.to_do for name, look in whole.items()}
    yield _gauges("jobs_to_do", "Jobs that the last look found worth doing.", "type", to_do)
    over = GaugeMetricFamily(
        "weed_worker_volumes_passed_over", "Volumes that the last look passed over.", labels=["type", "reason"]
    )
    for name, look in whole.items():
        for reason, count in look.reasons.items():
            over.add_metric([name, label(reason)], float(count))
    yield over
    yield _gauge("holds", "Volumes that this worker's jobs keep read-only.", len(now.closed))
    oldest = min((one.since for one in now.closed if one.since), default=0.0)
    yield _gauge("oldest_hold_timestamp_seconds", "Since when the oldest of them is so; 0 without one.", oldest)


def _known(values: Mapping[str, Any], now: Snapshot) -> dict[str, Any]:
    """What there is of the types that this worker does."""
    return {name: values[name] for name in now.task_types if name in values}


def _counter(name: str, help_text: str, types: Iterable[str], values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"weed_worker_{name}", help_text, labels=["type"])
    for task_type in types:
        family.add_metric([task_type], values[task_type])
    return family


def _states(name: str, help_text: str, counts: Mapping[tuple[str, str], int]) -> Metric:
    family = GaugeMetricFamily(f"weed_worker_{name}", help_text, labels=["collection", "state"])
    for key, count in counts.items():
        family.add_metric(list(key), float(count))
    return family


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"weed_worker_{name}", help_text, value=float(value))


def _gauges(name: str, help_text: str, label: str, values: dict[str, Any]) -> Metric:
    family = GaugeMetricFamily(f"weed_worker_{name}", help_text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], float(value))
    return family
