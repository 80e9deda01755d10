"""What the worker owes its admin: exactly one completion for every job it was given.

A debt is on disk from the moment a job is taken until a stream has carried its completion. One that has no result
when the worker starts belongs to a job that died with the process, and is reported as failed.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weed_core.errors import ConfigError
from weed_core.files import own_directory, read_ours, safe_name, set_aside, write_all_durably
from weed_core.model import Result
from weed_core.values import Value
from weed_protocol.commands import Completed, RunJob

log = logging.getLogger(__name__)

FORGOTTEN = 24 * 3600.0
"""Seconds after which no admin waits for a result any more (an admin expires a silent job after 24 hours)."""

LATEST = 1e11
"""Unix seconds of the last moment that is believed."""

KILLED = "the worker was killed while this task ran; what it had changed is undone from its journal"


@dataclass(frozen=True)
class Debt:
    """One completion owed, to the dialect and the worker id that took the job."""

    dialect: str
    worker_id: str
    completed: Completed


Key = tuple[str, str]  # job id and request id


class Debts:
    """The completions owed, oldest first. `changed()` is called when something is to be kept().

    take(), finish() and pay() change what is owed at once and on disk with the next keep(), which writes all changes
    together.
    """

    def __init__(self, directory: Path, changed: Callable[[], None] = lambda: None) -> None:
        self._directory = directory
        try:
            own_directory(directory)
        except OSError as error:
            raise ConfigError(f"cannot create {directory}: {error.strerror}") from None
        self._owed: dict[Key, Debt] = {}
        self._paths: dict[Key, Path] = {}
        self._changed = changed
        self._unkept: dict[Key, None] = {}
        self._keeping = threading.Lock()
        self._load()

    def _load(self) -> None:
        for path in sorted(self._directory.glob("*.json"), key=lambda file: file.lstat().st_mtime):
            try:
                record = json.loads(read_ours(path))
                debt, taken_at = _from_record(record), _moment(record, "taken_at")
            except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                log.warning("cannot use the owed result %s (%r); it is set aside", path.name, error)
                _move_away(path)
                continue
            if time.time() - taken_at > FORGOTTEN:
                path.unlink(missing_ok=True)
                continue
            self._owed[_key(debt.completed)] = debt
            self._paths[_key(debt.completed)] = path

    def take(self, dialect: str, worker_id: str, command: RunJob) -> None:
        """Owe a completion for this job from now on; the job may start once that is kept."""
        lost = Completed(command.request_id, command.job.id, command.job.type, 0.0, error=KILLED)
        self._change(Debt(dialect, worker_id, lost))

    def finish(self, completed: Completed) -> None:
        """Turn a debt into one that can be paid; the completion may be told once that is kept."""
        self._change(replace(self._owed[_key(completed)], completed=completed))

    def pay(self, completed: Completed) -> None:
        """A stream has carried this completion; the debt of a job that was given again meanwhile stays."""
        key = _key(completed)
        debt = self._owed.get(key)
        if debt is not None and debt.completed == completed:
            del self._owed[key]
            self._unkept[key] = None
            self._changed()

    def keep(self, most: int | None = None) -> bool:
        """Put all changes so far on disk, or so many of the oldest; False where there was none.

        What the disk does not take is said, and the jobs go on.
        """
        with self._keeping:
            keys = list(self._unkept)[:most]
            if not keys:
                return False
            for key in keys:
                del self._unkept[key]
            changes = {self._path(key): self._content(key) for key in keys}
            failed = write_all_durably(changes)
            for key in keys:
                if (error := failed.get(self._path(key))) is not None:
                    what = "keep the result" if key in self._owed else "remove the delivered result"
                    log.error("cannot %s of task %s on disk: %s", what, key[0], error)
                if key not in self._owed and key not in self._unkept:
                    self._paths.pop(key, None)
            return True

    def is_kept(self, key: Key) -> bool:
        """Whether the disk has what is owed for a job as it stands."""
        return key not in self._unkept

    def _change(self, debt: Debt) -> None:
        key = _key(debt.completed)
        self._owed[key] = debt
        self._unkept[key] = None
        self._changed()

    def _content(self, key: Key) -> bytes | None:
        debt = self._owed.get(key)
        return None if debt is None else json.dumps(_to_record(debt)).encode()

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

    def _path(self, key: Key) -> Path:
        if key not in self._paths:
            self._paths[key] = self._directory / f"{safe_name(f'{key[0]}@{key[1]}@{len(key[0])}')}.json"
        return self._paths[key]


def _key(completed: Completed) -> Key:
    return completed.job_id, completed.request_id


def _to_record(debt: Debt) -> dict[str, Any]:
    done = debt.completed
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
        "result": _of_result(done.result),
        "told": _of_result(done.told),
    }


def _of_result(result: Result | None) -> dict[str, Any] | None:
    if result is None:
        return None
    outputs = {name: value for name, value in result.outputs.items() if not isinstance(value, bytes)}
    return {"summary": result.summary, "outputs": outputs}


def _move_away(path: Path) -> None:
    try:
        set_aside(path)
    except OSError as error:
        log.warning("cannot set %s aside: %s", path.name, error)


def _from_record(record: dict[str, Any]) -> Debt:
    """Read a debt back. Whatever cannot be sent is refused here: no stream would outlive it."""
    completed = Completed(
        request_id=_text(record, "request_id"),
        job_id=_text(record, "job_id"),
        job_type=_text(record, "job_type"),
        finished_at=_moment(record, "finished_at"),
        error=_text(record, "error"),
        cancelled=_flag(record, "cancelled"),
        at_capacity=_flag(record, "at_capacity") if "at_capacity" in record else False,
        result=_result(record["result"]),
        told=_result(record.get("told")),  # older releases keep none
    )
    return Debt(_text(record, "dialect"), _text(record, "worker_id"), completed)


def _result(record: Any) -> Result | None:
    return Result(_text(record, "summary"), _outputs(record["outputs"])) if record else None


def _text(record: dict[str, Any], key: str) -> str:
    value = record[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is no text")
    value.encode()  # ValueError for what no message can carry
    return value


def _flag(record: dict[str, Any], key: str) -> bool:
    if not isinstance(record[key], bool):
        raise TypeError(f"{key} is neither true nor false")
    return bool(record[key])


def _moment(record: dict[str, Any], key: str) -> float:
    value = record[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < LATEST:
        raise ValueError(f"{key} is no moment")
    return float(value)


def _outputs(values: Any) -> dict[str, Value]:
    if not isinstance(values, dict):
        raise TypeError("outputs are no record")
    for value in values.values():
        texts = value if isinstance(value, list) else []
        if not isinstance(value, (bool, int, float, str, list)) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"{value!r} is no figure")
    return values
