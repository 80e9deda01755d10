"""Undoing what jobs left behind that were killed, or could not clear up by themselves.

A volume with something left to undo is held: no job may run on what another one left half done. Knows the journal and
the tasks' recover(); what each step means is the tasks' own business.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import weed_tasks
from weed_core.errors import TaskError
from weed_safety.context import Context
from weed_safety.journal import Entry, Journal

log = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0
"""Seconds between tries, at most."""


class Recovery:
    """The entries of a journal that wait to be undone. `recovered()` is called when volumes become free."""

    def __init__(self, journal: Journal, context: Callable[[Entry], Context], recovered: Callable[[], None]) -> None:
        self._journal = journal
        self._context = context
        self._recovered = recovered
        # What an entry names shrinks as its steps are settled; its volumes are held until all are.
        self._waiting = [(entry, frozenset(entry.volume_ids)) for entry in journal.unfinished()]
        self._said: dict[str, str] = {}
        self._more = threading.Event()

    @property
    def volumes(self) -> frozenset[int]:
        """The volumes that no job may touch yet."""
        return frozenset[int]().union(*(volumes for _entry, volumes in self._waiting))

    def take(self, entry: Entry) -> None:
        """Take over what an ended job has left open, if it has."""
        if entry.open:
            self._waiting.append((entry, frozenset(entry.volume_ids)))
            self._more.set()

    def run(self) -> None:
        """Undo everything, for ever; try again, less and less often, what cannot be undone yet."""
        for path in self._journal.damaged():
            log.error("the journal entry %s cannot be read; a job it belongs to may have left a volume frozen", path)
        pause = 0.5
        while True:
            for waiting in list(self._waiting):
                if self._undo(waiting[0]):
                    self._waiting.remove(waiting)
                    self._recovered()
            pause = min(pause * 2, LONGEST_PAUSE) if self._waiting and not self._more.is_set() else 1.0
            self._more.clear()
            self._more.wait(pause if self._waiting else None)

    def _undo(self, entry: Entry) -> bool:
        """Replay one entry; False, and said once for each reason, where it must be tried again."""
        what = f"what {entry.job_type} {entry.job_id} left behind on volume {entry.volume_id}"
        try:
            if entry.job_type not in weed_tasks.NAMES:
                raise TaskError(f"this version knows no task type {entry.job_type!r}; start the one that ran it")
            weed_tasks.load([entry.job_type])[entry.job_type].recover(entry, self._context(entry))
        except TaskError as error:
            reason = str(error)
        except Exception as error:
            log.exception("undoing %s failed unexpectedly", what)
            reason = f"{type(error).__name__}: {error}"
        else:
            log.info("undid %s", what)
            return True
        finally:
            entry.close()
        if self._said.get(entry.id) != reason:
            self._said[entry.id] = reason
            log.error("cannot yet undo %s; no job runs there until then: %s", what, reason)
        return False
