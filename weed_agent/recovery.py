"""Undoing what jobs left behind that were killed, or could not clear up by themselves.

A volume with something left to undo is held: no job may run on what another one left half done.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from weed_core.errors import TaskError
from weed_safety.context import Context
from weed_safety.holds import Hold
from weed_safety.journal import Entry, Journal
from weed_tasks import execute
from weed_tasks.reopen import end_holds
from weed_tasks.slots import Held

log = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0
"""Seconds between tries, at most."""

HOLDS_EVERY, HOLDS_FIRST = 60.0, 3.0
"""Seconds between two looks for holds of any worker that are over, and before the first one."""


class Recovery:
    """The entries of a journal that wait to be undone. `recovered()` is called when volumes become free."""

    def __init__(
        self, journal: Journal, held: Held, context: Callable[[], Context], recovered: Callable[[], None]
    ) -> None:
        self._journal = journal
        self._held = held
        self._context = context
        self._recovered = recovered
        self._waiting: list[tuple[Entry, tuple[int, ...]]] = []
        self._said: dict[str, str] = {}
        self._more = threading.Event()
        self._never = threading.Event()
        for entry in journal.unfinished():
            self._wait(entry)

    @property
    def entries(self) -> list[Entry]:
        """What waits to be undone."""
        return [entry for entry, _volume_ids in self._waiting]

    def take(self, entry: Entry) -> None:
        """Take over what an ended job has left open, if it has."""
        if entry.open:
            self._wait(entry)
            self._more.set()

    def _wait(self, entry: Entry) -> None:
        # What an entry names shrinks as its steps are settled; its volumes are held until all are.
        self._waiting.append((entry, entry.volume_ids))
        self._held.hold(entry.volume_ids)

    def run(self) -> None:
        """Undo everything, for ever; try again, less and less often, what cannot be undone yet."""
        for path in self._journal.damaged():
            log.error("the journal entry %s cannot be read; a job it belongs to may have left a volume frozen", path)
        pause = 0.5
        while True:
            for entry, volume_ids in list(self._waiting):
                if self._undo(entry):
                    self._waiting.remove((entry, volume_ids))
                    self._held.let_go(volume_ids)
                    self._recovered()
            pause = min(pause * 2, LONGEST_PAUSE) if self._waiting and not self._more.is_set() else 1.0
            self._more.clear()
            self._more.wait(pause if self._waiting else None)

    def end_holds(self) -> None:
        """End holds that are over and whose makers do not, for ever; what fails is said once for each reason."""
        pause = HOLDS_FIRST
        while not self._never.wait(pause):
            pause = HOLDS_EVERY
            try:
                for entry in end_holds(self._journal, self._context, self._tell, self._is_held):
                    self.take(entry)
            except TaskError as error:
                log.debug("no records of holds can be read: %s", error)
            except Exception:
                log.exception("ending holds failed unexpectedly")

    def _is_held(self, volume_id: int) -> bool:
        return bool(self._held.among([volume_id]))

    def _tell(self, hold: Hold, outcome: str, text: str) -> None:
        if outcome == "done":
            log.info("ended a hold: %s", text)
        elif outcome == "failed" and self._said.get(hold.token) != text:
            self._said[hold.token] = text
            log.error("a hold is over and cannot be ended: %s", text)

    def _undo(self, entry: Entry) -> bool:
        """Replay one entry; False, and said once for each reason, where it must be tried again."""
        what = f"what {entry.job_type} {entry.job_id} left behind {entry.where}"
        outcome = execute.undo(entry, self._context())
        if outcome.result is not None:
            log.info("undid %s", what)
            return True
        if self._said.get(entry.id) != outcome.reason:
            self._said[entry.id] = outcome.reason
            log.error("cannot yet undo %s; no job runs there until then: %s", what, outcome.reason)
        return False
