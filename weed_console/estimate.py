"""How long jobs take: by the bytes they move and by how fast those before them moved theirs here.

What ended is remembered in a file of the run's directory. Files only; asks no server.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from weed_core.files import write_durably

FILE = "pace.json"

SMALL = 16 << 20
"""Bytes up to which a job's time is that of its calls, not of its bytes."""

FADES = 0.8
"""How much of what was seen before counts when a job more has ended."""


@dataclass
class Pace:
    """How fast jobs of one type were: seconds of the small ones, bytes and seconds of the others."""

    small_jobs: float = 0.0
    small_seconds: float = 0.0
    large_bytes: float = 0.0
    large_seconds: float = 0.0

    @property
    def each(self) -> float:
        """Seconds that a job takes beside its bytes; two where none was seen."""
        return self.small_seconds / self.small_jobs if self.small_jobs else 2.0

    @property
    def rate(self) -> float:
        """Bytes per second; 50 MB, what one hard disk gives while it serves others, where none was seen."""
        return self.large_bytes / self.large_seconds if self.large_seconds > 0 and self.large_bytes else 50e6

    def add(self, size: int, seconds: float) -> None:
        """Take note of a job of so many bytes that took so long, waits apart."""
        if size <= SMALL:
            self.small_jobs, self.small_seconds = self.small_jobs * FADES + 1, self.small_seconds * FADES + seconds
        else:
            self.large_bytes, self.large_seconds = self.large_bytes * FADES + size, self.large_seconds * FADES + seconds


class Paces:
    """The paces of all job types, as kept in a directory; what cannot be read or written counts as not seen."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._paces: dict[str, Pace] = {}
        try:
            told = json.loads(self._path.read_text())
            self._paces = {str(job): Pace(**{name: float(n) for name, n in pace.items()}) for job, pace in told.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            pass

    def of(self, job: str) -> Pace:
        """The pace of a job type."""
        return self._paces.setdefault(job, Pace())

    def seconds(self, job: str, moved: int, limit: float, waits: float) -> float:
        """Seconds that one job should take; `limit` is the bytes per second it may move, 0 for any number."""
        pace = self.of(job)
        rate = min(pace.rate, limit / 3) if limit else pace.rate  # copied once, and read on both sides as a proof
        return pace.each + moved / rate + waits

    def keep(self) -> None:
        """Write them down."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            told = {job: asdict(pace) for job, pace in self._paces.items()}
            write_durably(self._path, json.dumps(told).encode())
        except OSError:
            pass


def together(works: Iterable[tuple[float, float]], at_once: int) -> float:
    """Seconds for jobs of (seconds, of these only waited), so many at once; those that wait leave room to others."""
    pairs: Sequence[tuple[float, float]] = list(works)
    if not pairs:
        return 0.0
    busy = sum(seconds - waits for seconds, waits in pairs) / at_once
    return max(busy + max(waits for _seconds, waits in pairs), *(seconds for seconds, _waits in pairs))
