"""What the worker owes its admin: exactly one completion for every job it was given.

A debt is on disk from the moment a job is taken until a stream has carried its completion. One that has no result
when the worker starts belongs to a job that died with the process, and is reported as failed.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weed_errors import ConfigError
from weed_files import safe_name, write_durably
from weed_model import Result
from weed_protocol.commands import Completed, RunJob

log = logging.getLogger(__name__)

FORGOTTEN = 24 * 3600.0
"""Seconds after which no admin waits for a result any more (an admin expires a silent job after 24 hours)."""

KILLED = "the worker was killed while this task ran; what it had changed is undone from its journal"


@dataclass(frozen=True)
class Debt:
    """One completion owed, to the dialect and the worker id that took the job."""

    dialect: str
    worker_id: str
    completed: Completed


class Debts:
    """The completions owed, oldest first."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot create {directory}: {error.strerror}") from None
        self._owed: dict[str, Debt] = {}
        self._load()

    def _load(self) -> None:
        for path in sorted(self._directory.glob("*.json"), key=lambda file: file.stat().st_mtime):
            try:
                record = json.loads(path.read_bytes())
                debt, taken_at = _from_record(record), float(record["taken_at"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.warning("cannot read the owed result %s (%s); it is set aside", path.name, error)
                path.replace(path.with_suffix(".damaged"))
                continue
            if time.time() - taken_at > FORGOTTEN:
                path.unlink()
                continue
            self._owed[_key(debt.completed)] = debt

    def take(self, dialect: str, worker_id: str, command: RunJob) -> None:
        """Owe a completion for this job from now on; a disk that does not take it is said, and the job goes on."""
        lost = Completed(command.request_id, command.job.id, command.job.type, 0.0, error=KILLED)
        self._write(Debt(dialect, worker_id, lost))

    def finish(self, completed: Completed) -> None:
        """Turn a debt into one that can be paid."""
        self._write(replace(self._owed[_key(completed)], completed=completed))

    def _write(self, debt: Debt) -> None:
        self._owed[_key(debt.completed)] = debt
        try:
            write_durably(self._path(debt.completed), json.dumps(_to_record(debt)).encode())
        except OSError as error:
            log.error("cannot keep the result of task %s on disk: %s", debt.completed.job_id, error)

    def pay(self, completed: Completed) -> None:
        """A stream has carried this completion; the debt of a job that was given again meanwhile stays."""
        debt = self._owed.get(_key(completed))
        if debt is not None and debt.completed == completed:
            del self._owed[_key(completed)]
            try:
                self._path(completed).unlink(missing_ok=True)
            except OSError as error:
                log.error("cannot remove the delivered result of task %s: %s", completed.job_id, error)

    def due(self, dialect: str, worker_id: str, in_hand: Collection[tuple[str, str]]) -> list[Completed]:
        """The completions owed to this dialect and id, but for jobs in hand, named by (job id, request id)."""
        found = []
        for key, debt in self._owed.items():
            done = debt.completed
            if (debt.dialect, debt.worker_id) != (dialect, worker_id) or (done.job_id, done.request_id) in in_hand:
                continue
            if not done.finished_at:
                done = replace(done, finished_at=time.time())
                self._owed[key] = replace(debt, completed=done)
            found.append(done)
        return found

    def __len__(self) -> int:
        return len(self._owed)

    def _path(self, completed: Completed) -> Path:
        return self._directory / f"{safe_name(_key(completed))}.json"


def _key(completed: Completed) -> str:
    return f"{completed.job_id}@{completed.request_id}"


def _to_record(debt: Debt) -> dict[str, Any]:
    done = debt.completed
    result = None
    if done.result is not None:
        outputs = {name: value for name, value in done.result.outputs.items() if not isinstance(value, bytes)}
        result = {"summary": done.result.summary, "outputs": outputs}
    return {
        "taken_at": time.time(),
        "dialect": debt.dialect,
        "worker_id": debt.worker_id,
        "request_id": done.request_id,
        "job_id": done.job_id,
        "job_type": done.job_type,
        "finished_at": done.finished_at,
        "error": done.error,
        "cancelled": done.cancelled,
        "at_capacity": done.at_capacity,
        "result": result,
    }


def _from_record(record: dict[str, Any]) -> Debt:
    result = record["result"]
    completed = Completed(
        request_id=record["request_id"],
        job_id=record["job_id"],
        job_type=record["job_type"],
        finished_at=record["finished_at"],
        error=record["error"],
        cancelled=record["cancelled"],
        at_capacity=record.get("at_capacity", False),
        result=Result(result["summary"], result["outputs"]) if result else None,
    )
    return Debt(record["dialect"], record["worker_id"], completed)
