"""The one way to run a job and the one way to undo what it left behind: for the agent and for one-shot commands alike.

Whatever a task does, a job has an outcome and its journal entry is closed. Knows nothing of slots, admins, terminals.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from types import ModuleType

from weed_cluster.address import Address
from weed_core import model
from weed_core.errors import Cancelled, NotAllDone, StillShut, TaskError
from weed_core.model import Job, Result
from weed_core.values import as_int
from weed_safety.context import Context
from weed_safety.journal import Entry, Journal
from weed_safety.steps import check_known
from weed_tasks import NAMES, load
from weed_tasks.proposal import seconds_for

log = logging.getLogger(__name__)

QUEUED = "queued"
"""The stage of a job that has told none yet."""

LONGEST = 200
"""Characters of a job's id in a log line."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with a result, or with what kept it from one."""

    result: Result | None = None
    failure: Cancelled | Exception | None = None

    @property
    def told(self) -> Result | None:
        """What a job that failed tells of what it did nonetheless."""
        failure = self.failure
        return Result(failure.summary, failure.outputs) if isinstance(failure, NotAllDone) else None

    @property
    def is_cancelled(self) -> bool:
        """Whether it was broken off; what it had changed is undone, or left to undo in the journal."""
        return isinstance(self.failure, Cancelled)

    @property
    def is_shut(self) -> bool:
        """Whether it was broken off behind its change, which stands, and left volumes read-only."""
        return isinstance(self.failure, StillShut)

    @property
    def kind(self) -> str:
        """success, cancelled or failure."""
        return "success" if self.failure is None else "cancelled" if self.is_cancelled else "failure"

    @property
    def reason(self) -> str:
        """What kept it from a result, in words; "" where nothing did."""
        match self.failure:
            case None:
                return ""
            case Cancelled(reason=reason):
                return reason
            case TaskError():
                return str(self.failure)
        return f"{type(self.failure).__name__}: {self.failure}"

    def error(self, stage: str) -> str:
        """The reason and the stage at which it came, which is left out where it tells nothing; "" without a failure."""
        match self.failure:
            case Cancelled():
                return f"{self.reason}, while {stage}"
            case TaskError() if stage != QUEUED:
                return f"{self.reason} (while {stage})"
        return self.reason


def deadline(job: Job, default: float) -> float:
    """Seconds this job may take: what it says itself or what its volumes' size asks for, whichever is longer."""
    moves = job.params.balance_params.moves
    size = sum(move.volume_size for move in moves) or job.params.volume_size
    said = as_int(job.parameters.get("estimated_runtime_seconds"), 0, 0)
    said = max(said, job.params.balance_params.timeout_seconds, job.params.ec_balance_params.timeout_seconds)
    return float(max(said, seconds_for(job.type, size) if size else 0)) or default


def hear_of(named: Iterable[str], ctx: Context) -> tuple[str, ...]:
    """Take note of the masters that a job names; return all that are known, once one of them was asked."""
    masters = ctx.cluster.masters
    masters.hear(map(Address.parse, named))
    with suppress(TaskError):  # whoever needs a master says so
        ctx.master().find()
    return tuple(map(str, masters))


def run(
    task: ModuleType,
    job: Job,
    ctx: Context,
    journal: Journal | None,
    time_limit: float,
    begin: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run one job to its end, on its context's leash and with its own journal entry. Whatever happens, one outcome.

    Without a journal, for a dry run, the entry is in memory. `time_limit` is in seconds, for a job that names no time
    and no size. `begin` is called right before the task; what it raises fails the job. Afterwards `ctx.journal` is the
    entry, closed; where it has open steps they are to be undone.
    """

    def work() -> Result:
        config, warnings = model.settings(task.DESCRIPTOR, job.config)
        prepared = replace(job, config=config, masters=hear_of(job.masters, ctx))
        for warning in warnings:
            ctx.warn(warning)
        ctx.cluster.leash.expire(deadline(job, time_limit))
        open_entry = journal.open_entry if journal else Journal.memory
        volume = next(iter(job.volume_ids), 0)
        ctx.journal = open_entry(job.id, job.type, volume, masters=list(prepared.masters))
        check_known(ctx.journal)  # what an earlier run left is this run's to settle
        begin()
        result: Result = task.run(prepared, ctx)
        return result

    return attempt(work, ctx, f"{job.type} {job.id[:LONGEST]}")


def undo(entry: Entry, ctx: Context) -> Outcome:
    """Undo what a job left behind; an outcome that is a failure tells why that cannot be done yet.

    No job may run on the entry's volumes meanwhile, nor before it is done.
    """

    def work() -> Result:
        if entry.job_type not in NAMES:
            raise TaskError(f"this version knows no task type {entry.job_type!r}; start the one that ran it")
        ctx.cluster.masters.hear(map(Address.parse, entry.facts.get("masters", ())))
        task = load([entry.job_type])[entry.job_type]
        check_known(entry)
        task.recover(entry, ctx)
        return Result("undone")

    ctx.journal = entry
    what = f"undoing what {entry.job_type} {entry.job_id} left behind {entry.where}"
    return attempt(work, ctx, what)


def attempt(work: Callable[[], Result], ctx: Context, what: str) -> Outcome:
    """Do some work, then close the context's journal entry. `what` names it in the log where it fails unexpectedly."""
    try:
        outcome = Outcome(work())
    except (Cancelled, TaskError) as error:
        outcome = Outcome(failure=error)
    except Exception as error:
        log.exception("%s failed unexpectedly", what)
        outcome = Outcome(failure=error)
    try:
        ctx.journal.close()
    except OSError as error:
        log.error("the journal entry %s cannot be closed: %s", ctx.journal.id, error)
    return outcome
