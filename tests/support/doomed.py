"""A worker that dies before or after its nth change, as by kill -9: from then on it reaches no server and no disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.cluster import Cluster
from weed_cluster.channels import Channels
from weed_cluster.client import Cluster as Clients
from weed_cluster.leash import Leash
from weed_core.model import Result
from weed_safety.context import Context
from weed_safety.journal import Entry, Journal

CHANGING = frozenset(
    {
        "BatchDelete",
        "VolumeCopy",
        "VolumeDelete",
        "VolumeMarkReadonly",
        "VolumeMarkWritable",
        "VolumeMount",
        "VolumeTierMoveDatFromRemote",
        "VolumeTierMoveDatToRemote",
        "VolumeUnmount",
        "WriteNeedleBlob",
    }
)
"""The calls that change something on a server."""


class Killed(BaseException):
    """The worker is dead; nothing of it runs on."""


class _Entry(Entry):
    """A journal entry that cannot be written to any more once its worker is dead."""

    worker: DoomedWorker

    def _append(self, line: Mapping[str, Any]) -> None:
        if self.worker.is_dead:
            raise Killed
        super()._append(line)


class DoomedWorker:
    """Runs jobs with a journal on disk. Dies at the nth changing call, if it is told to; `calls` are those it made."""

    def __init__(self, cluster: Cluster, directory: Path, dies_at: int = 0, after: bool = False) -> None:
        self.calls: list[str] = []
        self.is_dead = False
        self.log: list[str] = []
        self.journal = Journal(directory)
        self._dies_at = dies_at
        self._after = after
        self._channels = Channels(observe=self._observe)
        self._masters = [master.address for master in cluster.masters]

    def _observe(self, _server: str, call: str, outcome: str) -> None:
        if call in ("LeaseAdminToken", "ReleaseAdminToken"):
            return  # a dead worker's lease ends by itself; tests need not wait for that each time
        if self.is_dead:
            raise Killed
        if call in CHANGING and outcome == ("OK" if self._after else ""):
            self.calls.append(call)
            if len(self.calls) == self._dies_at:
                self.is_dead = True
                raise Killed

    def context(self, entry: Entry) -> Context:
        """What a job of this worker gets."""
        return Context(Clients(self._channels, self._masters, Leash(100)), entry, log=self.log.append)

    def run(self, job_id: str, job_type: str, volume_id: int, work: Callable[[Context], Result]) -> Result | None:
        """Run a job; None if the worker died of it."""
        entry = self.journal.open_entry(job_id, job_type, volume_id)
        entry.__class__ = _Entry
        entry.worker = self  # type: ignore[attr-defined]
        try:
            return work(self.context(entry))
        except Killed:
            return None
        finally:
            if not self.is_dead:
                entry.close()

    def recover(self, recover: Callable[[Entry, Context], None]) -> None:
        """What a worker does when it starts: clear up what an earlier one left."""
        for entry in self.journal.unfinished():
            recover(entry, self.context(entry))
            entry.close()
