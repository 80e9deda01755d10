"""Jobs that run as parts of another one: on its leash, in its slot, each with its own journal entry and volumes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

from weed_cluster.client import Cluster
from weed_core.errors import Busy, Cancelled, TaskError
from weed_core.model import Job, Result
from weed_safety.context import Context
from weed_safety.journal import Entry, Journal
from weed_tasks import execute, load
from weed_tasks.slots import Held

PATIENCE = 300.0
"""Seconds that a part waits for its volumes while other jobs of this process have them."""


@dataclass(frozen=True)
class Parts:
    """What parts of jobs need of the process. `freed()` is called when volumes become free."""

    journal: Journal
    held: Held
    freed: Callable[[], None]
    left: Callable[[Entry], None]  # takes over what an ended part has left open, if it has
    time_limit: float  # seconds, for a part that names no time and no size

    def run(self, job: Job, context: Context) -> Result:
        """Run a part to its end; raises Cancelled or the TaskError that ended it, Busy where its volumes stay held."""
        with context.cluster.leash.part() as leash:
            own = replace(
                context,
                cluster=Cluster(context.cluster.channels, context.cluster.masters, leash),
                journal=Journal.memory(),
                report=lambda _fraction, stage, _figures: context.log(stage),
                # The slot is the whole job's, and its other parts go on meanwhile.
                outside_slot=nullcontext,
            )
            if not own.until(lambda: self.held.claim(job.volume_ids), PATIENCE):
                raise Busy("its volumes are held by other jobs, or by what a killed one left to undo")
            try:
                task = load([job.type])[job.type]
                journal = None if context.options.dry_run else self.journal
                outcome = execute.run(task, job, own, journal, self.time_limit)
                self.left(own.journal)
            finally:
                self.held.let_go(job.volume_ids)
                self.freed()
        if outcome.result is not None:
            return outcome.result
        if isinstance(outcome.failure, (Cancelled, TaskError)):
            raise outcome.failure
        raise TaskError(outcome.reason) from outcome.failure
