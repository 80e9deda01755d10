"""One look at the worker: every present value that it shows, taken at one moment, as plain data."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from weed_agent.hand import Hand
from weed_agent.ledger import Ledger
from weed_agent.session import Session
from weed_agent.settings import Settings
from weed_cluster import security
from weed_cluster.leash import Leash
from weed_cluster.past import Loss
from weed_protocol import commands
from weed_protocol.commands import Running, Status
from weed_safety.journal import Journal
from weed_state.last_topology import LastTopology
from weed_tasks.execute import LONGEST


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
    started: float
    stopping: str


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
    """The worker at one moment."""

    identity: commands.Identity
    task_types: tuple[str, ...]
    admin: str
    dialects: tuple[str, ...]
    tls: str
    figures: Status
    volumes: Mapping[str, tuple[int, ...]]  # of the jobs that run, by id as it is shown
    moving: tuple[Moving, ...]
    registrations: tuple[Registration, ...]
    last_beat: float  # unix seconds of the last heartbeat that left, 0 for none
    stopping: str  # why it drains; "" where it does not
    paused: str  # why it takes no new work; "" where it does
    windows: Mapping[str, tuple[str, bool]]  # by task type: its hours, and whether that is now
    journal_entries: int
    results_owed: int
    missing: tuple[Loss, ...]

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
    settings, running = worker.settings, worker.hand.running
    now = datetime.now().time()
    return Snapshot(
        identity=worker.identity,
        task_types=settings.task_types,
        admin=str(settings.admin),
        dialects=tuple(sorted({session.dialect.NAME for session in worker.sessions if session.dialect})),
        tls=worker.security.describe(),
        figures=look(worker),
        volumes={work.shown_id: work.volume_ids for work in running},
        moving=tuple(Moving(work.command.job.type, work.leash.read, work.leash.written) for work in running),
        registrations=tuple(map(_registration, worker.sessions)),
        last_beat=max(session.last_beat for session in worker.sessions),
        stopping=worker.stopping,
        paused=settings.paused(),
        windows={name: (str(window), window.is_open(now)) for name, window in settings.windows.items()},
        journal_entries=worker.journal.count(),
        results_owed=len(worker.ledger),
        missing=tuple(worker.last_topology.past.lost),
    )


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
        completed=worker.completed,
        failed=worker.failed,
        uptime=time.monotonic() - worker.started,
        execution_outside=slots.outside,
    )
