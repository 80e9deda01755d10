"""What jobs keep read-only, since when and until when, by their journal entries. Pure; asks no server."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from weed_core.errors import TaskError
from weed_safety import holds
from weed_safety.freeze import Freeze
from weed_safety.journal import Entry
from weed_safety.location_cache import StayShut
from weed_safety.steps import read


@dataclass(frozen=True)
class Closed:
    """One volume that a job keeps read-only. Times are unix seconds; 0 where they are not known."""

    volume_id: int
    job_type: str
    job_id: str
    since: float
    until: float  # 0: as long as the job works on it

    @property
    def ends(self) -> str:
        """Until when, in words."""
        if not self.until:
            return f"while {self.job_type} works on it"
        return f"until {time.strftime('%H:%M:%S', time.gmtime(self.until + 1))} UTC"

    @property
    def text(self) -> str:
        """The volume, and until when, in words."""
        return f"volume {self.volume_id} is read-only {self.ends}"


def closed(entries: Iterable[Entry]) -> list[Closed]:
    """The volumes that these jobs keep read-only, by volume."""
    found: dict[int, Closed] = {}
    for entry in entries:
        for step in entry.open:
            try:
                shut = read(step, StayShut)
                frozen = read(step, Freeze)
            except TaskError:
                continue  # what is to undo it says so
            until = 0.0
            if shut:
                volume_id = shut.change.volume_id
                until = shut.change.until + (holds.SLACK if holds.is_recorded(entry, [volume_id]) else 0.0)
            elif frozen:
                volume_id = frozen.change.volume_id
            else:
                continue
            before = found.get(volume_id, Closed(volume_id, entry.job_type, entry.job_id, step.at, until))
            since = min((at for at in (before.since, step.at) if at), default=0.0)
            found[volume_id] = Closed(volume_id, entry.job_type, entry.job_id, since, max(before.until, until))
    return sorted(found.values(), key=lambda one: one.volume_id)
