"""How this worker's jobs ended lately, kept over restarts, and what its last looks for work saw, which are not.

For people and for alerts alone: no decision depends on it, and a file that cannot be read is forgotten. Writes are
gathered, so that thousands of jobs that end at once cost one.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from weed_core.files import read_ours, write_durably
from weed_core.job_types import BY_NAME
from weed_core.model import Detection, Skipped

log = logging.getLogger(__name__)

NAME = "history.json"

KEPT = 200
"""Ends of jobs that are kept."""

LONGEST = 1000
"""Characters of how a job ended that are kept."""

MOST_SKIPPED = 500
"""Volumes passed over that are kept of a look, each with its reason; all are counted."""

PAUSE = 2.0
"""Seconds between two writes, at least."""

DONE, FAILED, CANCELLED = "done", "failed", "cancelled"


@dataclass(frozen=True)
class Ended:
    """How one job ended: done, failed or cancelled. `at` is unix seconds, `gains` bytes as Result.gains has them."""

    job_id: str
    job_type: str
    volume_ids: tuple[int, ...]
    collection: str
    outcome: str
    at: float
    seconds: float
    text: str
    gains: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """One look for work of a type. `at` is unix seconds; `error` says why it failed, "" where it did not."""

    at: float
    error: str = ""
    seen: int = 0
    to_do: int = 0
    summary: str = ""
    reasons: Mapping[str, int] = field(default_factory=dict)  # volumes passed over, by a short reason
    skipped: tuple[Skipped, ...] = ()

    @classmethod
    def of(cls, found: Detection, at: float) -> Look:
        """What a detection found."""
        reasons = Counter(skip.key for skip in found.skipped)
        kept = tuple(found.skipped[:MOST_SKIPPED])
        return cls(at, "", found.seen, len(found.proposals), found.summary, dict(reasons.most_common()), kept)

    @property
    def passed_over(self) -> int:
        """How many volumes were passed over."""
        return sum(self.reasons.values())

    @property
    def words(self) -> str:
        """What it saw, in one sentence's part."""
        if self.error:
            return f"failed: {self.error}"
        grouped = ", ".join(f"{count} {reason}" for reason, count in self.reasons.items())
        over = f"{self.passed_over} passed over ({grouped})" if grouped and grouped not in self.summary else ""
        return "; ".join(filter(None, (self.summary or f"{self.to_do or 'nothing'} to do", over)))


class History:
    """The history of one working directory."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self.looks: dict[str, Look] = {}
        self.well: dict[str, float] = {}
        """By type, unix seconds: when a job last succeeded, or a look last found that nothing is to do."""
        self.badly: dict[str, float] = {}
        """By type, unix seconds: when a job or a look last failed."""
        self._path = directory / NAME
        self._clock = clock
        self._ended: deque[Ended] = deque(maxlen=KEPT)
        self._changed = threading.Event()
        self._load()

    @property
    def ended(self) -> list[Ended]:
        """How jobs ended, the newest first."""
        return list(reversed(self._ended))

    def add(self, ended: Ended) -> None:
        """Take note of how a job ended."""
        self._ended.append(ended)
        if ended.outcome == DONE:
            self.well[ended.job_type] = ended.at
        elif ended.outcome == FAILED:
            self.badly[ended.job_type] = ended.at
        self._changed.set()

    def looked(self, job_type: str, found: Detection | None, error: str = "") -> Look:
        """Take note of a look for work; without a detection it failed."""
        now = self._clock()
        look = Look(now, error) if found is None else Look.of(found, now)
        if job_type in BY_NAME:
            self.looks[job_type] = look
            if found is None:
                self.badly[job_type] = now
            elif not found.proposals:
                self.well[job_type] = now
            self._changed.set()
        return look

    # ---- on disk

    def run(self) -> None:
        """Keep it on disk, for ever."""
        while True:
            self._changed.wait()
            self.keep()
            time.sleep(PAUSE)

    def keep(self) -> None:
        """Write what is new to disk."""
        if not self._changed.is_set():
            return
        self._changed.clear()
        document = {"ended": [asdict(one) for one in self._ended], "well": self.well, "badly": self.badly}
        try:
            write_durably(self._path, json.dumps(document).encode())
        except OSError as error:
            log.warning("cannot keep in %s how jobs ended: %s", self._path, error)

    def _load(self) -> None:
        try:
            document = json.loads(read_ours(self._path))
            ended = [_read(record) for record in document["ended"][-KEPT:]]
            well, badly = (_moments(document[name]) for name in ("well", "badly"))
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            log.warning("cannot read %s (%s); how earlier jobs ended is forgotten", self._path, error)
            return
        self._ended.extend(ended)
        self.well, self.badly = well, badly


def _read(record: dict[str, Any]) -> Ended:
    return Ended(
        str(record["job_id"])[:LONGEST],
        str(record["job_type"])[:LONGEST],
        tuple(int(volume_id) for volume_id in record["volume_ids"]),
        str(record["collection"])[:LONGEST],
        str(record["outcome"])[:LONGEST],
        _moment(record["at"]),
        float(record["seconds"]),
        str(record["text"])[:LONGEST],
        {str(word): int(size) for word, size in record["gains"].items()},
    )


def _moments(told: dict[str, Any]) -> dict[str, float]:
    return {name: _moment(at) for name, at in told.items() if name in BY_NAME}


def _moment(at: Any) -> float:
    if not 0 <= float(at) < 1 << 36:
        raise ValueError(f"{at!r} is no time")
    return float(at)
