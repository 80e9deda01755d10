"""A log for every task, as JSON lines on disk, and the answers to an admin that asks for one.

The layout is `weed worker`'s: `task_logs/<task>_<type>_<worker>_<time>/task.log` and `metadata.json`, so the tools
that read one read the other.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from weed_core.files import read_ours, safe_name
from weed_core.model import Job
from weed_core.values import as_int
from weed_protocol.commands import Log, LogEntry, LogMetadata, SendLog

log = logging.getLogger(__name__)

KEPT = 100
"""Task logs kept; the oldest are removed when a new one is opened."""

LARGEST = 1 << 20
"""Bytes of a task's log; what comes then is left out, but for how the task ended."""

LONGEST = 4000
"""Characters of one text in a log."""


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _seconds(stamp: str | None) -> int:
    return int(datetime.fromisoformat(stamp).timestamp()) if stamp else 0


class TaskLog:
    """One task's log. A disk that does not take a line is said once, and never fails the task."""

    def __init__(self, directory: Path, job: Job, worker_id: str, server: str) -> None:
        stamp = f"{_now():%Y%m%d_%H%M%S_%f}"
        self._path = directory / f"{safe_name(job.id)}_{job.type}_{safe_name(worker_id)}_{stamp}"
        self._broken = False
        self._left = LARGEST
        self._metadata: dict[str, Any] = {
            "task_id": job.id[:LONGEST],
            "task_type": job.type,
            "worker_id": worker_id,
            "start_time": _now().isoformat(),
            "status": "started",
            "progress": 0.0,
            "volume_id": job.volume_ids[0] if job.volume_ids else 0,
            "server": server[:LONGEST],
            "collection": job.params.collection[:LONGEST],
            "log_file_path": str(self._path / "task.log"),
            "created_at": _now().isoformat(),
        }
        try:
            _remove_oldest(directory, KEPT - 1)
            self._path.mkdir(parents=True)
        except OSError as error:
            self._give_up(error)
        self._write_metadata()

    def line(self, message: str, level: str = "INFO", fields: Mapping[str, object] | None = None, **more: Any) -> None:
        """Append one line; `more` may hold progress (percent) and status."""
        record: dict[str, Any] = {"timestamp": _now().isoformat(), "level": level, "message": message[:LONGEST]}
        if fields:
            record["fields"] = {name: str(value)[:LONGEST] for name, value in fields.items()}
        record.update(more)
        self._metadata["progress"] = more.get("progress", self._metadata["progress"])
        text = json.dumps(record) + "\n"
        if self._broken or (len(text) > self._left and "status" not in more):
            return
        self._left -= len(text)
        try:
            with (self._path / "task.log").open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            self._give_up(error)

    def close(self, status: str, error: str = "") -> None:
        """Write how it ended: "completed" or "failed"."""
        if error:
            self.line(error, "ERROR", status=status)
        start, end = datetime.fromisoformat(self._metadata["start_time"]), _now()
        nanoseconds = int((end - start).total_seconds() * 1e9)
        self._metadata.update(status=status, end_time=end.isoformat(), duration=nanoseconds)
        if status == "completed":
            self._metadata["progress"] = 100.0
        self._write_metadata()

    def _write_metadata(self) -> None:
        if self._broken:
            return
        try:
            (self._path / "metadata.json").write_text(json.dumps(self._metadata, indent=2), encoding="utf-8")
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._broken = True
        log.warning("cannot write the log of task %s: %s", self._metadata["task_id"], error)


def _remove_oldest(directory: Path, keep: int) -> None:
    if directory.is_dir():
        logs = [path for path in directory.iterdir() if path.is_dir() and not path.is_symlink()]
        logs.sort(key=lambda path: path.lstat().st_mtime, reverse=True)
        for path in logs[keep:]:
            shutil.rmtree(path, ignore_errors=True)


def answer(directory: Path, request: SendLog) -> Log:
    """What an admin asked of a task's log; an unreadable line ends it there, the lines before are sent."""
    prefix = f"{safe_name(request.task_id)}_"
    found = sorted(path for path in directory.glob("*") if path.name.startswith(prefix)) if directory.is_dir() else []
    if not found:
        return Log(request.task_id, request.worker_id, error=f"Task log directory not found: {request.task_id}")
    path = found[-1]
    metadata = None
    try:
        if request.include_metadata:
            metadata = _read_metadata(json.loads(read_ours(path / "metadata.json")))
        entries = _read_entries(path / "task.log")
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        return Log(request.task_id, request.worker_id, error=f"cannot read the log of task {request.task_id}: {error}")
    wanted = [
        entry
        for entry in entries
        if (not request.level or entry.level.lower() == request.level.lower())
        and (not request.start_time or entry.timestamp >= request.start_time)
        and (not request.end_time or entry.timestamp <= request.end_time)
    ]
    if request.max_entries > 0:
        wanted = wanted[-request.max_entries :]
    return Log(request.task_id, request.worker_id, tuple(wanted), metadata)


def _read_entries(path: Path) -> list[LogEntry]:
    entries: list[LogEntry] = []
    if not path.exists():
        return entries
    for line in read_ours(path).decode(errors="replace").splitlines():
        try:
            record = json.loads(line)
            entries.append(
                LogEntry(
                    timestamp=_seconds(record["timestamp"]),
                    level=str(record["level"]),
                    message=str(record["message"]),
                    fields={str(name): str(value) for name, value in dict(record.get("fields", {})).items()},
                    progress=float(record.get("progress", 0.0)),
                    status=str(record.get("status", "")),
                )
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            break
    return entries


def _read_metadata(record: Mapping[str, Any]) -> LogMetadata:
    return LogMetadata(
        task_type=str(record["task_type"]),
        start_time=_seconds(record["start_time"]),
        end_time=_seconds(record.get("end_time")),
        duration_ms=as_int(record.get("duration"), 0, 0, 1 << 62) // 1_000_000,
        status=str(record["status"]),
        progress=float(record["progress"]),
        volume_id=as_int(record["volume_id"], 0, 0, 0xFFFFFFFF),
        server=str(record["server"]),
        collection=str(record["collection"]),
        log_file_path=str(record["log_file_path"]),
        created_at=_seconds(record["created_at"]),
    )
