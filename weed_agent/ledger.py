"""A completion's whole life: owed when its job is taken, told once that is on disk, paid once a stream has carried it.

The order is what makes it safe: nothing is said to the admin, and no job starts, before the disk knows what is owed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from weed_agent.hand import Assignment, Hand
from weed_protocol.commands import Acknowledged, Completed, Dialect
from weed_state import told_failures
from weed_state.debts import Debts

AT_ONCE = 100
"""Changes that are put on disk together, before they are told."""


class Ledger:
    """What the worker owes. `kept()` is called when a job may start, `freed()` when one has been let go of.

    take(), accept() and finish() take effect at once and are told by run(), once they are on disk.
    """

    def __init__(self, working_dir: Path, hand: Hand, kept: Callable[[], None], freed: Callable[[], None]) -> None:
        self._working_dir = working_dir
        self._hand = hand
        self._kept = kept
        self._freed = freed
        self._changed = threading.Event()
        self._debts = Debts(working_dir / "owed", self._changed.set)
        self._untold: list[tuple[Assignment, Completed | None]] = []  # in the order to be told

    def __len__(self) -> int:
        return len(self._debts)

    def take(self, work: Assignment) -> None:
        """Owe a completion for this job from now on."""
        self._debts.take(work.dialect.NAME, work.session.worker_id, work.command)

    def accept(self, work: Assignment) -> None:
        """Tell that a job taken is going to run, and let it start."""
        self._untold.append((work, None))

    def finish(self, work: Assignment, done: Completed) -> None:
        """Tell how a job ended, or keep that for the next stream; then let go of it."""
        self._debts.finish(done)
        self._untold.append((work, done))

    def run(self) -> None:
        """Put changes on disk and tell them, for ever."""
        while True:
            self._changed.wait()
            self._changed.clear()
            while self._debts.keep(AT_ONCE):
                untold, self._untold = self._untold, []
                for work, done in untold:
                    if self._debts.is_kept(work.key):
                        self._tell(work, done)
                        time.sleep(0)  # they may be thousands, and others have to come in between
                    else:
                        self._untold.append((work, done))

    def _tell(self, work: Assignment, done: Completed | None) -> None:
        if done is None:
            work.is_kept = True
            work.tell(Acknowledged(work.command.request_id, True))
            self._kept()
            return
        work.tell(done)
        self._hand.leave(work)
        self._freed()
        if not done.success and work.dialect.COUNTS_FAILURES:
            told_failures.leak(self._working_dir, work.session.worker_id)
            work.session.renew()

    def due(self, dialect: Dialect, worker_id: str) -> list[Completed]:
        """The completions owed to this dialect and id whose jobs are no longer in hand: the next stream's."""
        return self._debts.due(dialect.NAME, worker_id, self._hand.keys)

    def pay(self, completed: Completed) -> None:
        """A stream has carried this completion."""
        self._debts.pay(completed)

    def failures_told(self, dialect: Dialect, worker_id: str) -> int:
        """How many failures the admin counts as running tasks of this id, by now."""
        return told_failures.leaked(self._working_dir, worker_id) if dialect.COUNTS_FAILURES else 0

    def keep(self) -> None:
        """Put on disk whatever is not, before the process ends."""
        self._debts.keep()
