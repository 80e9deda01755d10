"""What jobs changed and must undo, written down before each change and replayed at the next start.

One file of JSON lines per job, made at the job's first planned change and gone when nothing is left to undo. An append
is on disk when it returns. A last line that a power cut tore apart belongs to a change that was not made yet, so it
counts for nothing. Knows nothing of what the steps mean: that is the tasks' own business.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weed_core.errors import TaskError
from weed_core.files import Untrusted, open_ours, own_directory, read_ours, safe_name, set_aside, sync, sync_directory

SUFFIX = ".journal"
DAMAGED = ".damaged"
LARGEST = 64 << 20  # bytes of an entry

_DAMAGE = (ValueError, KeyError, TypeError, RecursionError)
"""What reading a file raises that no journal wrote."""


@dataclass(frozen=True)
class Step:
    """One planned change. `what` names its kind; `facts` hold all that undoing it needs."""

    number: int
    what: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    at: float = field(default=0.0, compare=False)  # unix seconds, whole, when it was planned; 0 where nobody knows


class Entry:
    """One job's journal. Without a path it lives in memory only and nothing outlives the process."""

    def __init__(
        self, job_id: str, job_type: str, volume_id: int, facts: Mapping[str, Any], path: Path | None = None
    ) -> None:
        self.id = safe_name(job_id)
        self.job_id = job_id
        self.job_type = job_type
        self.volume_id = volume_id
        self.facts: dict[str, Any] = dict(facts)
        self._path = path
        self._file: int | None = None
        self._length = 0  # bytes of whole lines in the file
        self._open: dict[int, Step] = {}
        self._last = 0
        self._lock = threading.Lock()

    @property
    def open(self) -> list[Step]:
        """The steps that were planned and not settled, oldest first."""
        return list(self._open.values())

    @property
    def volume_ids(self) -> tuple[int, ...]:
        """The volumes that the entry and its open steps name (`volume_id` among their facts)."""
        ids = {self.volume_id, *(int(step.facts.get("volume_id", 0)) for step in self.open)}
        return tuple(sorted(ids - {0}))

    @property
    def where(self) -> str:
        """Where its changes are, for people: "on volume 3", "on volumes 3, 5", or "in the cluster" without a volume."""
        ids = ", ".join(map(str, self.volume_ids))
        return f"on volume{'s' if len(self.volume_ids) > 1 else ''} {ids}" if ids else "in the cluster"

    def plan(self, what: str, **facts: Any) -> Step:
        """Write down a change before it is made; TaskError if that fails, and then it must not be made."""
        with self._lock:
            step = Step(self._last + 1, what, facts, int(time.time()))
            self._append({"plan": step.number, "what": what, "at": step.at, "facts": facts})
            self._last = step.number
            self._open[step.number] = step
        return step

    def settle(self, step: Step) -> None:
        """Write down that a change is undone, or committed for good. Settling twice is harmless."""
        with self._lock:
            if step.number in self._open:
                self._append({"settle": step.number})
                del self._open[step.number]

    def is_open(self, step: Step) -> bool:
        """Whether a step of this entry is not settled yet."""
        return step.number in self._open

    def fact(self, **facts: Any) -> None:
        """Remember something beside the steps."""
        with self._lock:
            self._append({"facts": facts})
            self.facts.update(facts)

    def close(self) -> None:
        """End the entry: its file goes if nothing is open, else it stays for recovery."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None
            if self._path is not None and not self._open:
                self._path.unlink(missing_ok=True)
                self._length = 0

    def _append(self, line: Mapping[str, Any]) -> None:
        text = json.dumps(line)  # even in memory, so that what cannot be written shows in every test
        if self._path is None:
            return
        data = text.encode() + b"\n"
        try:
            if self._file is None:
                self._create(self._path)
            assert self._file is not None
            _write(self._file, data)
        except OSError as error:
            if self._file is not None:
                os.ftruncate(self._file, self._length)
            raise TaskError(
                f"the journal {self._path} cannot be written, so nothing further was changed: {error}"
            ) from error
        self._length += len(data)

    def _create(self, path: Path) -> None:
        """Open the file for appending; write the first line where it is new, cut off a torn last line where not."""
        self._file = open_ours(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.ftruncate(self._file, self._length)
        if not self._length:
            about = {
                "job_id": self.job_id,
                "job_type": self.job_type,
                "volume_id": self.volume_id,
                "facts": self.facts,
            }
            data = json.dumps(about).encode() + b"\n"
            _write(self._file, data)
            sync_directory(path.parent)
            self._length = len(data)

    def _replay(self, lines: Iterable[bytes]) -> None:
        for text in lines:
            line = _record(json.loads(text))
            if "plan" in line:
                self._last = _whole(line["plan"])
                self._open[self._last] = Step(self._last, _text(line["what"]), _facts(line["facts"]), _moment(line))
            elif "settle" in line:
                self._open.pop(_whole(line["settle"]), None)
            else:
                self.facts.update(_facts(line["facts"]))
            self._length += len(text)


class Journal:
    """The entries of all jobs, in one directory. One process at a time may use it."""

    def __init__(self, directory: Path | str) -> None:
        self._directory = Path(directory)
        own_directory(self._directory)

    @staticmethod
    def memory(job_id: str = "", job_type: str = "", volume_id: int = 0, **facts: Any) -> Entry:
        """An entry kept in memory: for dry runs, and where there is no working directory."""
        return Entry(job_id, job_type, volume_id, facts)

    def open_entry(self, job_id: str, job_type: str, volume_id: int, **facts: Any) -> Entry:
        """Begin a job's entry, or take up the one that an earlier run of the same job left behind, open steps and all.

        Nothing is written before the first step or fact.
        """
        path = self._directory / (safe_name(job_id) + SUFFIX)
        earlier = _read(path)
        if earlier is not None:
            return earlier
        return Entry(job_id, job_type, volume_id, facts, path)

    def unfinished(self, volume_id: int = 0) -> list[Entry]:
        """Return the entries that jobs left behind with steps to undo, oldest first; 0 for those of all volumes.

        Call it only while no job runs on the volume: the entry of a running job is unfinished, too. An entry without
        open steps is removed, one that cannot be read is set aside as `.damaged`.
        """
        found = []
        for path in sorted(self._directory.glob("*" + SUFFIX), key=_age):
            entry = _read(path)
            if entry is None:
                continue
            if not entry.open:
                path.unlink(missing_ok=True)
            elif not volume_id or volume_id in entry.volume_ids:
                found.append(entry)
        return found

    def count(self) -> int:
        """How many jobs have an entry on disk, running ones included."""
        return sum(1 for _ in self._directory.glob("*" + SUFFIX))

    def damaged(self) -> list[Path]:
        """The files that could not be read; an operator must look at them."""
        return sorted(self._directory.glob("*" + DAMAGED))


def peek(directory: Path) -> list[Entry]:
    """Read the entries of a directory that another process may be using, untouched; damaged ones are left out."""
    found = []
    for path in sorted(directory.glob("*" + SUFFIX), key=_age):
        try:
            entry = _parse(path, read_ours(path, LARGEST))
        except (OSError, *_DAMAGE):
            continue
        if entry is not None:
            found.append(entry)
    return found


def _read(path: Path) -> Entry | None:
    """Read an entry back; None where there is none or it told nothing yet."""
    try:
        entry = _parse(path, read_ours(path, LARGEST))
    except FileNotFoundError:
        return None
    except (Untrusted, *_DAMAGE):
        set_aside(path, DAMAGED)
        sync_directory(path.parent)
        return None
    if entry is None:
        path.unlink(missing_ok=True)
    return entry


def _parse(path: Path, content: bytes) -> Entry | None:
    """Make an entry of a file's content; None if that told nothing yet. One of _DAMAGE where it is damaged."""
    whole = content.splitlines(keepends=True)
    if whole and not whole[-1].endswith(b"\n"):
        whole.pop()
    if not whole:
        return None
    about = _record(json.loads(whole[0]))
    names, volume_id = (_text(about["job_id"]), _text(about["job_type"])), _whole(about["volume_id"])
    entry = Entry(*names, volume_id, _facts(about["facts"]), path)
    entry._length = len(whole[0])
    entry._replay(whole[1:])
    return entry


def _record(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no record")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise ValueError(f"{value!r} is no number of a step or a volume")
    return value


def _moment(line: Mapping[str, Any]) -> float:
    """When a step was planned; older versions did not write that."""
    at = line.get("at", 0.0)
    if not isinstance(at, (int, float)) or not 0 <= at < 1 << 40:
        raise ValueError(f"{at!r} is no time")
    return float(at)


def _facts(value: Any) -> dict[str, Any]:
    """Facts, of which those that every entry is asked for are what they should be."""
    facts = _record(value)
    _whole(facts.get("volume_id", 0))
    masters = facts.get("masters", [])
    if not isinstance(masters, list) or not all(isinstance(master, str) for master in masters):
        raise TypeError(f"{masters!r} are no masters")
    return facts


def _age(path: Path) -> tuple[float, str]:
    try:
        return path.lstat().st_mtime, path.name
    except FileNotFoundError:  # its job ended meanwhile
        return 0.0, path.name


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    sync(file)
