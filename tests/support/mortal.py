"""A worker that dies at a chosen moment, as by kill -9: from then on none of its calls goes out, not even to undo.

The journal survives it on disk, as it would survive the process.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.support import eventually
from tests.support.cluster import Cluster
from weed_cluster.channels import Channels
from weed_cluster.client import Cluster as Clients
from weed_cluster.leash import Leash
from weed_core.errors import TaskError
from weed_core.model import Job, Result
from weed_safety.context import Context
from weed_safety.journal import Journal

CHANGING = frozenset(
    {
        "VolumeMarkReadonly",
        "VolumeMarkWritable",
        "VolumeCopy",
        "VolumeDelete",
        "VolumeConfigure",
        "VolumeMount",
        "VolumeUnmount",
        "VacuumVolumeCompact",
        "VacuumVolumeCommit",
        "VacuumVolumeCleanup",
        "DisableVacuum",
        "EnableVacuum",
        "LeaseAdminToken",
        "ReleaseAdminToken",
    }
)
"""RPCs that change something; a dry run must send none of them."""


class Died(BaseException):
    """The worker is dead."""


@dataclass
class Life:
    """What a worker lived through, as (server, RPC, "" for its begin or its outcome), and where it dies."""

    dies_at: int = -1
    events: list[tuple[str, str, str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def observe(self, server: str, call: str, outcome: str) -> None:
        """Note an event; die at the chosen one and ever after.

        Leases are left out: a dead worker's ends by itself, and the tests need not wait for that each time.
        """
        if call in ("LeaseAdminToken", "ReleaseAdminToken"):
            return
        with self._lock:
            if 0 <= self.dies_at <= len(self.events):
                raise Died(f"at event {self.dies_at}")
            self.events.append((server, call, outcome))

    @property
    def dead(self) -> bool:
        """Whether it died."""
        return 0 <= self.dies_at <= len(self.events)


def live(cluster: Cluster, life: Life, directory: Path, run: Callable[[Job, Context], Result], job: Job) -> Result:
    """Run a job in a worker that may die on the way; its journal is in the directory."""
    entry = Journal(directory).open_entry(job.id, job.type, job.params.volume_id)
    ctx = context(cluster, life, entry)
    result = run(job, ctx)
    entry.close()
    return result


def context(cluster: Cluster, life: Life, entry: Any) -> Context:
    """A context whose calls the life sees."""
    clients = Clients(Channels(observe=life.observe), [master.address for master in cluster.masters], Leash())
    return replace(cluster.context(journal=entry), cluster=clients)


def recover(cluster: Cluster, directory: Path, task: Any) -> None:
    """What the next start of the worker does: clear up every unfinished entry, again and again until none is left."""
    journal = Journal(directory)

    def cleared() -> bool:
        for entry in journal.unfinished():
            try:
                task.recover(entry, cluster.context(journal=entry))
            except TaskError as error:
                problems.append(str(error))
            entry.close()
        return journal.count() == 0

    problems: list[str] = []
    try:
        eventually(cleared)
    except AssertionError:
        raise AssertionError("; ".join(problems)) from None
    assert journal.damaged() == []


def moments(events: list[tuple[str, str, str]], all_of_them: bool) -> list[int]:
    """The events at which to die: before and after each call that changes something, and after each other call."""
    return [at for at, (_server, call, outcome) in enumerate(events) if call in CHANGING or (all_of_them and outcome)]


def occurrences(events: list[tuple[str, str, str]]) -> list[tuple[str, str, int]]:
    """Each call by server, RPC and how many-th of its kind at this server it was."""
    seen: Counter[tuple[str, str]] = Counter()
    calls = []
    for server, call, outcome in events:
        if not outcome:
            seen[server, call] += 1
            calls.append((server, call, seen[server, call]))
    return calls
