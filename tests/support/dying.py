"""A worker that dies at a chosen moment, as by kill -9: from then on none of its calls reaches a server, not even to
undo, and nothing of it reaches the disk. Its journal is what was there at that moment, and another worker takes it up.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tests.support import eventually
from tests.support.cluster import TIMING, Cluster
from tests.support.rpcs import CHANGING, LEASES
from weed_cluster.channels import Channels
from weed_cluster.client import Cluster as Clients
from weed_cluster.leash import Leash
from weed_cluster.timing import Timing
from weed_core.errors import TaskError
from weed_core.model import Job, Result
from weed_safety.context import Context
from weed_safety.journal import Entry, Journal

T = TypeVar("T")

EVERY = bool(os.environ.get("WEED_EVERY_BOUNDARY"))
"""Whether each death and each failure is played; else the same part of them each time, which takes minutes less."""

TIMEOUT = 100.0
"""Seconds that one job or one recovery may take."""


class Killed(BaseException):
    """The worker is dead; nothing of it runs on."""


class Event(NamedTuple):
    """What a worker's server could tell: a call that begins (outcome "") or that ended ("OK" or a status code)."""

    server: str
    call: str
    outcome: str

    @property
    def is_change(self) -> bool:
        """Whether the call may change something on a server."""
        return self.call in CHANGING


Death = Callable[[Sequence[Event]], bool]
"""Whether a worker dies of the last of its events, after which nothing of it happens."""


def never(_events: Sequence[Event]) -> bool:
    """Live to the end."""
    return False


def at_event(number: int) -> Death:
    """Die of the nth event, counted from 0: before a call that begins, behind one that ended."""
    return lambda events: len(events) == number + 1


def at_change(number: int, after: bool) -> Death:
    """Die before or after the nth call that changes something, counted from 1; after: once it succeeded."""

    def dies(events: Sequence[Event]) -> bool:
        told = [event for event in events if event.is_change and event.outcome == ("OK" if after else "")]
        return len(told) == number and told[-1] is events[-1]

    return dies


def at_first(call: str) -> Death:
    """Die right before a call is made for the first time."""
    return lambda events: events[-1].call == call


class DyingWorker:
    """Runs jobs of a cluster with a journal in a directory, until it dies.

    `events` are those it lived to see, with the one it died of. Leases are none of them, unless asked for: that of a
    dead worker ends by itself, and is given back here so that tests need not wait for that each time.
    """

    def __init__(self, cluster: Cluster, directory: Path, dies: Death = never, counts_leases: bool = False) -> None:
        self.journal = Journal(directory)
        self.events: list[Event] = []
        self.is_dead = False
        self.log: list[str] = []
        self._cluster = cluster
        self._dies = dies
        self._uncounted = {"ReleaseAdminToken"} if counts_leases else LEASES
        self._channels = Channels(observe=self._observe, timing=Timing(**TIMING))
        self._lock = threading.Lock()

    @property
    def changes(self) -> list[str]:
        """The calls it began that change something."""
        return [event.call for event in self.events if event.is_change and not event.outcome]

    def met(self, server: str, call: str, code: str) -> bool:
        """Whether a call of it ended with this code."""
        return Event(server, call, code) in self.events

    def check(self) -> None:
        """Raise Killed once it is dead."""
        if self.is_dead:
            raise Killed

    def _observe(self, server: str, call: str, outcome: str) -> None:
        with self._lock:
            if call in self._uncounted or (self.is_dead and call in LEASES):
                return
            self.check()
            self.events.append(Event(server, call, outcome))
            self.is_dead = self._dies(self.events)
            if call not in LEASES:  # the thread that renews one ends with its process, without a word
                self.check()

    def context(self, entry: Entry, **options: Any) -> Context:
        """What a job of this worker gets."""
        clients = Clients(self._channels, [master.address for master in self._cluster.masters], Leash(TIMEOUT))
        return replace(self._cluster.context(entry, **options), cluster=clients, log=self.log.append)

    def run(self, work: Callable[[Job, Context], Result], job: Job) -> Result | None:
        """Run a job; None if the worker died of it. Raises what the job raises."""
        entry = self.journal.open_entry(job.id, job.type, job.params.volume_id)
        mortal = self._mortal(entry)
        try:
            return work(job, self.context(mortal))
        except Killed:
            return None
        finally:
            mortal.close()
            self._channels.close()

    def recover(self, undo: Callable[[Entry, Context], None]) -> None:
        """What a worker does when it starts: undo once what an earlier one left. Raises what that raises."""
        for entry in self.journal.unfinished():
            mortal = self._mortal(entry)
            try:
                undo(mortal, self.context(mortal))
            finally:
                mortal.close()
                self._channels.close()

    def clear_up(self, undo: Callable[[Entry, Context], None]) -> None:
        """Undo again and again, until nothing is left of what earlier workers began."""
        problems: list[str] = []

        def is_clear() -> bool:
            try:
                self.recover(undo)
            except TaskError as error:
                problems.append(str(error))
            return self.journal.count() == 0

        try:
            eventually(is_clear)
        except AssertionError:
            raise AssertionError("; ".join(problems)) from None
        assert self.journal.damaged() == []

    def _mortal(self, entry: Entry) -> _MortalEntry:
        entry.__class__ = _MortalEntry
        assert isinstance(entry, _MortalEntry)
        entry.worker = self
        return entry


class _MortalEntry(Entry):
    """A journal entry that stays as it is on disk once its worker is dead."""

    worker: DyingWorker

    def _append(self, line: Mapping[str, Any]) -> None:
        self.worker.check()
        super()._append(line)

    def close(self) -> None:
        if self.worker.is_dead:
            self._path = None  # only the process's hold on it ends
        super().close()


def moments(events: Iterable[Event], all_of_them: bool) -> list[int]:
    """The events at which to die: before and after each call that changes something, and after each other call."""
    return [at for at, event in enumerate(events) if event.is_change or (all_of_them and event.outcome)]


def occurrences(events: Iterable[Event]) -> list[tuple[str, str, int]]:
    """Each call by server, RPC and how many-th of its kind at this server it was."""
    seen: Counter[tuple[str, str]] = Counter()
    calls = []
    for server, call, outcome in events:
        if not outcome:
            seen[server, call] += 1
            calls.append((server, call, seen[server, call]))
    return calls


def sample(cases: Sequence[T], share: int) -> Sequence[T]:
    """One in `share` of the cases, and the last one; all of them where EVERY is set."""
    if EVERY or not cases:
        return cases
    picked = list(cases[::share])
    return picked if (len(cases) - 1) % share == 0 else [*picked, cases[-1]]
