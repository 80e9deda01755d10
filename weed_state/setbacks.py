"""What failed lately, on which volume and at which server, so that it is tried less and less often.

A volume that cannot be copied would else be planned in every round while others wait. Kept in the working directory,
since failures outlive a worker; bounded, and nothing depends on it: a file that cannot be read is forgotten.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from weed_core.errors import Busy, ServerFailed, TaskError
from weed_core.files import write_durably
from weed_core.model import DetectionRequest, Job, Setback

log = logging.getLogger(__name__)

NAME = "setbacks.json"

FIRST, LONGEST = 300.0, 86400.0
"""Seconds after the first failure in which it is not tried again, doubled with each further one, and at most."""

MOST = 1000
"""Failures that are kept; the oldest go."""

KEPT = 7 * 86400.0
"""Seconds after which a failure that was not repeated is forgotten."""

VOLUMES = 3
"""Volumes that must have failed at one server before it is the server that is left alone."""

WORDS = 300
"""Characters of an error that are kept."""


@dataclass(frozen=True)
class Failure:
    """How often jobs of a type failed in a row on a volume. `server` is the one that failed, "" where none is known."""

    job_type: str
    volume_id: int
    server: str
    count: int
    at: float  # unix seconds of the last one
    error: str
    holders: tuple[str, ...] = ()  # the servers that the job named as its sources

    @property
    def due(self) -> float:
        """Unix seconds from which on it may be tried again."""
        return self.at + min(FIRST * 2.0 ** min(self.count - 1, 30), LONGEST)

    @property
    def words(self) -> str:
        """The failure in one sentence's part."""
        times = "once" if self.count == 1 else f"{self.count} times"
        return f"failed {times}, last at {_clock(self.at)}: {self.error}; tried again after {_clock(self.due)} UTC"


class Setbacks:
    """The failures of one working directory."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = directory / NAME
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[tuple[str, int], Failure] = {}
        self._load()

    def __len__(self) -> int:
        return len(self._failures)

    def ended(self, job: Job, failure: BaseException | None) -> None:
        """Note how a job ended; that it was cancelled, or failed unexpectedly, says nothing about its volumes."""
        if failure is None:
            self.succeeded(job)
        elif isinstance(failure, TaskError):
            self.failed(job, failure)

    def failed(self, job: Job, error: TaskError) -> None:
        """Note that a job failed; of a batch, only its volumes that did. That another job holds one is no failure."""
        if isinstance(error, Busy):
            return
        holders = tuple(dict.fromkeys(row.node for row in job.params.sources if not row.shard_ids))
        with self._lock:
            for volume_id in error.by_volume or job.volume_ids:
                reason = error.by_volume.get(volume_id, error)
                text = " ".join(str(reason).split())
                text = text if len(text) <= WORDS else text[:WORDS] + "..."
                before = self._failures.get((job.type, volume_id))
                named = holders or tuple(
                    move.source_node for move in job.params.balance_params.moves if move.volume_id == volume_id
                )
                count = before.count + 1 if before and before.holders == named else 1
                self._failures[job.type, volume_id] = Failure(
                    job.type, volume_id, _server_of(reason), count, self._clock(), text, named
                )
            self._save()

    def succeeded(self, job: Job) -> None:
        """Forget the failures on a job's volumes."""
        with self._lock:
            forgotten = [self._failures.pop((job.type, volume_id), None) for volume_id in job.volume_ids]
            if any(forgotten):
                self._save()

    def told(self, request: DetectionRequest, job_type: str) -> DetectionRequest:
        """Return a detection's request with what failed before for this type of job."""
        with self._lock:
            mine = [failure for (name, _volume), failure in self._failures.items() if name == job_type]
        now = self._clock()
        setbacks = {one.volume_id: Setback(one.words if one.due > now else "", one.holders) for one in mine}
        return replace(request, setbacks=setbacks, avoided=_avoided(mine, now))

    # ---- on disk

    def _load(self) -> None:
        try:
            records = json.loads(self._path.read_bytes())
            failures = [_read(record) for record in records[-MOST:]]
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("cannot read %s (%s); what failed before is tried as if it had not", self._path, error)
            return
        now = self._clock()
        self._failures = {(one.job_type, one.volume_id): one for one in failures if now - KEPT < one.at < now + LONGEST}

    def _save(self) -> None:
        now = self._clock()
        kept = sorted((one for one in self._failures.values() if one.at > now - KEPT), key=lambda one: one.at)[-MOST:]
        self._failures = {(one.job_type, one.volume_id): one for one in kept}
        try:
            write_durably(self._path, json.dumps([asdict(one) for one in kept], indent=0).encode())
        except OSError as error:
            log.warning("cannot note in %s what failed: %s", self._path, error)


def _avoided(failures: Iterable[Failure], now: float) -> dict[str, str]:
    """The servers at which jobs on several volumes failed, each with the latest of these failures in words."""
    by_server: dict[str, list[Failure]] = defaultdict(list)
    for one in failures:
        if one.server and one.due > now:
            by_server[one.server].append(one)
    return {
        server: f"volume server {server} failed jobs on {len(them)} volumes: {max(them, key=lambda one: one.at).words}"
        for server, them in by_server.items()
        if len(them) >= VOLUMES
    }


def _server_of(error: BaseException | None) -> str:
    """The server whose call failed, as far as the error or what led to it tells."""
    while error is not None:
        if isinstance(error, ServerFailed):
            return error.server
        error = error.__cause__ or error.__context__
    return ""


def _read(record: dict[str, Any]) -> Failure:
    found = Failure(
        str(record["job_type"]),
        int(record["volume_id"]),
        str(record["server"]),
        max(1, int(record["count"])),
        float(record["at"]),
        str(record["error"])[: WORDS + 3],
        tuple(map(str, record["holders"])),
    )
    if not 0 < found.volume_id < 1 << 32:
        raise ValueError(f"no volume has the id {found.volume_id}")
    return found


def _clock(at: float) -> str:
    return time.strftime("%H:%M", time.gmtime(at))
