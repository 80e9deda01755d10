"""The jobs in hand: what runs, what waits for a slot, and which volumes are held. weed_tasks.slots counts the slots."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from weed_agent.session import Session
from weed_cluster.leash import Leash
from weed_core.model import Job
from weed_protocol import commands
from weed_safety.context import Context
from weed_tasks.execute import LONGEST, QUEUED
from weed_tasks.slots import Held, Slots

CHATTER = 64 << 10
"""Bytes up to which a job has done nothing but ask."""


@dataclass(eq=False)
class Assignment:
    """One job in hand, from its assignment until its completion is told or kept. Equal to no other."""

    command: commands.RunJob
    session: Session
    dialect: commands.Dialect  # that it came in; the session may speak another by the time it ends
    leash: Leash
    volume_ids: tuple[int, ...]
    fraction: float = 0.0
    stage: str = QUEUED
    told_at: float = 0.0
    started: float = 0.0
    is_kept: bool = False  # that its completion is owed is on disk; it must not start before
    has_ended: bool = False
    context: Context | None = None  # while it runs
    told_closed: dict[int, str] = field(default_factory=dict)  # what the log said of volumes that it keeps read-only

    @property
    def name(self) -> str:
        """The job for a log line: what it is about, and its id last."""
        return f"{self.words} [{self.shown_id}]"

    @property
    def words(self) -> str:
        """What the job is about: "vacuum of volume 4 (photos)"."""
        count, named = len(self.volume_ids), f" ({self.collection})" if self.collection else ""
        task_type = self.command.job.type[:LONGEST]
        if count < 2:
            return f"{task_type} of volume {self.volume_ids[0]}{named}" if count else task_type
        volumes = ", ".join(map(str, self.volume_ids[:5])) + (", ..." if count > 5 else "")
        return f"{task_type} of {count} volumes: {volumes}{named}"

    @property
    def collection(self) -> str:
        """The collection of its (first) volume, as far as its order tells."""
        params = self.command.job.params
        of_moves = (move.collection for move in params.balance_params.moves)
        return (params.collection or next(filter(None, of_moves), ""))[:LONGEST]

    @property
    def shown_id(self) -> str:
        """The job's id where nobody matches anything by it: no longer than any that an admin makes."""
        job_id = self.command.job.id
        return job_id if len(job_id) <= LONGEST else f"{job_id[:LONGEST]}... ({len(job_id)} characters)"

    def outlook(self, now: float) -> str:
        """How far it is and how long it needs at this pace, in words."""
        left = self.left(now)
        if left is None:
            return f"{self.stage}, for {now - self.started:.0f} s so far; nobody can tell how long it needs"
        return f"{self.fraction:.0%} done, {self.stage}; needs about {left:.0f} s more"

    def left(self, now: float) -> float | None:
        """Seconds that it needs at this pace; None while nobody can tell."""
        return (now - self.started) * (1 / self.fraction - 1) if self.fraction >= 0.02 else None

    @property
    def moved(self) -> int:
        """Bytes that were read, written or had moved for it so far, whichever is most: each byte is counted once.

        0 while there was nothing but questions and answers.
        """
        most = max(self.leash.read, self.leash.written, self.leash.moved)
        return most if most >= CHATTER else 0

    @property
    def key(self) -> tuple[str, str]:
        """Job id and request id; two works may share them."""
        return self.command.job.id, self.command.request_id

    def tell(self, report: commands.Report) -> None:
        """Send to the admin that gave the job, if it is there and still speaks the job's dialect."""
        if self.session.dialect is self.dialect:
            self.session.send(report)


class Hand:
    """The works in hand of one worker; each is so from enter() to leave(), and may wait() and start() between them.

    Each of these costs the same however many works there are.
    """

    def __init__(self, slots: Slots, held: Held) -> None:
        self.slots = slots
        self._held = held
        self._in_hand: dict[Assignment, None] = {}
        self._waiting: dict[Assignment, None] = {}
        self._running: dict[Assignment, None] = {}
        self._named: defaultdict[str, list[Assignment]] = defaultdict(list)  # by job id
        self._queued: Counter[str] = Counter()  # by task type

    @property
    def running(self) -> list[Assignment]:
        """What runs, in the order it was started."""
        return list(self._running)

    @property
    def waiting(self) -> list[Assignment]:
        """What waits, oldest first."""
        return list(self._waiting)

    @property
    def keys(self) -> set[tuple[str, str]]:
        """Job id and request id of all in hand."""
        return {work.key for work in self._in_hand}

    @property
    def queued(self) -> Counter[str]:
        """How many wait, by task type."""
        return +self._queued

    @property
    def room(self) -> int:
        """How many slots neither what runs nor what waits will take; below 0 where more waits than can run."""
        return self.slots.free - len(self._waiting)

    def under(self, job_id: str) -> list[Assignment]:
        """All in hand with this job id."""
        return list(self._named.get(job_id, ()))

    def under_way(self, job_id: str) -> bool:
        """Whether a work with this job id runs or waits."""
        return any(work in self._running or work in self._waiting for work in self._named.get(job_id, ()))

    def why_full(self, job: Job) -> str:
        """Why this job cannot start at once; "" if it can."""
        if self.under_way(job.id):
            return "an earlier request for this job is still under way"
        if busy := self._held.among(job.volume_ids):
            return f"volume {min(busy)} is held by another job, or by what a killed one left to undo"
        return "" if self.room > 0 else "every slot is taken"

    def enter(self, work: Assignment) -> None:
        """Take a work in hand."""
        self._in_hand[work] = None
        self._named[work.command.job.id].append(work)

    def wait(self, work: Assignment) -> None:
        """Let a work in hand wait for a slot."""
        self._waiting[work] = None
        self._queued[work.command.job.type] += 1

    def start(self) -> Assignment | None:
        """Give a slot to the oldest work whose volumes nobody holds; None without one."""
        if not self.slots.free:
            return None
        for work in self._waiting:
            is_free = work.is_kept and not self._held.among(work.volume_ids)
            if is_free and self.slots.take():
                self._stop_waiting(work)
                self._running[work] = None
                self._held.hold(work.volume_ids)
                return work
        return None

    def withdraw(self, work: Assignment) -> bool:
        """Let a work wait no longer; False where it did not."""
        if work not in self._waiting:
            return False
        self._stop_waiting(work)
        return True

    def leave(self, work: Assignment) -> None:
        """Let a work go, and with it its slot and volumes."""
        self.withdraw(work)
        if work in self._running:
            del self._running[work]
            self._held.let_go(work.volume_ids)
            self.slots.give()
        del self._in_hand[work]
        named = self._named[work.command.job.id]
        named.remove(work)
        if not named:
            del self._named[work.command.job.id]

    def _stop_waiting(self, work: Assignment) -> None:
        del self._waiting[work]
        self._queued[work.command.job.type] -= 1
