"""One look at the worker: every present value that it shows, taken at one moment, as plain data."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from weed_agent.hand import Assignment, Hand
from weed_agent.ledger import Ledger
from weed_agent.recovery import Recovery
from weed_agent.session import Session
from weed_agent.settings import Settings
from weed_agent.sight import Sight
from weed_cluster import security
from weed_cluster.health import Health
from weed_cluster.leash import Leash
from weed_cluster.past import Loss
from weed_core.scrub_ledger import Coverage
from weed_protocol import commands
from weed_protocol.commands import Running, Status
from weed_safety.closed import Closed, closed
from weed_safety.journal import Journal
from weed_state.history import Ended, History, Look
from weed_state.last_topology import LastTopology
from weed_tasks.execute import LONGEST


class Counted(Protocol):
    """How many jobs ended well, and how many did not."""

    completed: int
    failed: int


class Watched(Protocol):
    """The worker, as far as it is shown."""

    detecting: dict[str, tuple[commands.Detect, Leash]]
    hand: Hand
    history: History
    identity: commands.Identity
    journal: Journal
    last_topology: LastTopology
    ledger: Ledger
    recovery: Recovery
    security: security.Security
    sessions: list[Session]
    settings: Settings
    sight: Sight
    started: float
    stop_by: float
    stopping: str

    @property
    def news(self) -> Counted:
        """What it told so far."""


@dataclass(frozen=True)
class JobView:
    """One job in hand. `seconds` it runs so far, 0 where it waits; `left` at this pace, None where nobody can tell."""

    job_id: str
    words: str
    task_type: str
    volume_ids: tuple[int, ...]
    collection: str
    fraction: float
    stage: str
    seconds: float
    left: float | None
    moved: int  # bytes
    rate: float  # bytes per second since it started


@dataclass(frozen=True)
class Registration:
    """One standing with the admin, whole or not."""

    worker_id: str
    task_types: tuple[str, ...]  # for the dialect that the admin speaks; none where it needs no registration
    is_wanted: bool
    stands: bool
    heard: float  # unix seconds of the admin's last word, 0 for never


@dataclass(frozen=True)
class Moving:
    """Bytes from and to servers of a job that runs."""

    task_type: str
    read: int
    written: int


@dataclass(frozen=True)
class Snapshot:
    """The worker at one moment, `taken` in unix seconds."""

    taken: float
    identity: commands.Identity
    task_types: tuple[str, ...]
    admin: str
    dialects: tuple[str, ...]
    tls: str
    figures: Status
    running: tuple[JobView, ...]
    waiting: tuple[JobView, ...]
    closed: tuple[Closed, ...]  # what it keeps read-only, jobs that were killed included
    ended: tuple[Ended, ...]  # how jobs ended lately, the newest first
    looks: Mapping[str, Look]  # the last one of each task type
    well: Mapping[str, float]  # by task type, unix seconds: when all was well
    badly: Mapping[str, float]  # by task type, unix seconds: when a job or a look last failed
    to_undo: tuple[str, ...]  # what killed jobs left, in words
    moving: tuple[Moving, ...]
    registrations: tuple[Registration, ...]
    last_beat: float  # unix seconds of the last heartbeat that left, 0 for none
    stopping: str  # why it drains; "" where it does not
    stop_by: float  # unix seconds by which it has stopped; 0 where it does not
    paused: str  # why it takes no new work; "" where it does
    windows: Mapping[str, tuple[str, bool]]  # by task type: its hours, and whether that is now
    journal_entries: int
    results_owed: int
    missing: tuple[Loss, ...]
    certificate_ends: float  # unix seconds; 0 without one
    disk_free: int  # bytes in the working directory's file system, -1 where that cannot be told
    health: Health | None  # how the cluster was when this worker last looked, where that is not long ago
    coverage: Coverage | None  # how much of it is verified

    @property
    def unregistered(self) -> tuple[str, ...]:
        """The ids whose registration does not stand; a session without types for the admin's dialect needs none."""
        return tuple(entry.worker_id for entry in self.registrations if entry.is_wanted and not entry.stands)

    @property
    def why_not_ready(self) -> str:
        """Why the worker could not take work from its admin now; "" if it could. A paused worker is ready."""
        if self.stopping:
            return f"draining ({self.stopping})"
        missing = ", ".join(self.unregistered)
        return f"not registered with admin {self.admin}: {missing}" if missing else ""

    @property
    def state(self) -> str:
        """One word: draining and disconnected weigh more than paused, and paused more than idle, active or busy."""
        if self.stopping:
            return "draining"
        if self.why_not_ready:
            return "disconnected"
        return "paused" if self.paused else self.figures.state


def take(worker: Watched) -> Snapshot:
    """Look at everything at once."""
    settings, running, left = worker.settings, worker.hand.running, worker.recovery.entries
    now = datetime.now().time()
    return Snapshot(
        taken=time.time(),
        identity=worker.identity,
        task_types=settings.task_types,
        admin=str(settings.admin),
        dialects=tuple(sorted({session.dialect.NAME for session in worker.sessions if session.dialect})),
        tls=worker.security.describe(),
        figures=look(worker),
        running=tuple(map(_view, running)),
        waiting=tuple(map(_view, worker.hand.waiting)),
        closed=tuple(closed([*(work.context.journal for work in running if work.context), *left])),
        ended=tuple(worker.history.ended),
        looks=dict(worker.history.looks),
        well=dict(worker.history.well),
        badly=dict(worker.history.badly),
        to_undo=tuple(f"{entry.job_type} {entry.where}" for entry in left),
        moving=tuple(Moving(work.command.job.type, work.leash.read, work.leash.written) for work in running),
        registrations=tuple(map(_registration, worker.sessions)),
        last_beat=max(session.last_beat for session in worker.sessions),
        stopping=worker.stopping,
        stop_by=worker.stop_by,
        paused=settings.paused(),
        windows={name: (str(window), window.is_open(now)) for name, window in settings.windows.items()},
        journal_entries=worker.journal.count(),
        results_owed=len(worker.ledger),
        missing=tuple(worker.last_topology.past.lost),
        certificate_ends=worker.security.ends,
        disk_free=_disk_free(settings),
        health=worker.sight.health,
        coverage=worker.sight.coverage,
    )


def _view(work: Assignment) -> JobView:
    now = time.monotonic()
    seconds = now - work.started if work.started else 0.0
    return JobView(
        job_id=work.shown_id,
        words=work.words,
        task_type=work.command.job.type,
        volume_ids=work.volume_ids,
        collection=work.collection,
        fraction=work.fraction,
        stage=work.stage,
        seconds=seconds,
        left=work.left(now) if work.started else None,
        moved=work.moved,
        rate=work.moved / seconds if seconds >= 1.0 else 0.0,
    )


def _disk_free(settings: Settings) -> int:
    try:
        found = os.statvfs(settings.working_dir)
    except OSError:
        return -1
    return found.f_bavail * found.f_frsize


def _registration(session: Session) -> Registration:
    return Registration(
        worker_id=session.worker_id,
        task_types=session.task_types,
        is_wanted=bool(session.task_types) or session.dialect is None,
        stands=session.connected,
        heard=time.time() - (time.monotonic() - session.last_heard) if session.last_heard else 0.0,
    )


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
        completed=worker.news.completed,
        failed=worker.news.failed,
        uptime=time.monotonic() - worker.started,
        execution_outside=slots.outside,
    )
