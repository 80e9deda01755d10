"""Files that must be whole or absent after a crash."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_run: Callable[..., Any] = lambda function, *args: function(*args)  # noqa: E731


def wait_elsewhere(run: Callable[..., Any]) -> None:
    """From now on let run(function, *args) do what waits for the disk: a hub of greenlets must not wait itself."""
    global _run
    _run = run


def sync(handle: int) -> None:
    """Put an open file on disk. Raises OSError."""
    _run(os.fsync, handle)


def sync_directory(directory: Path) -> None:
    """Put a directory's entries on disk. Raises OSError."""
    # N.B. opened and closed here: gevent's close() leaves a directory open in a thread whose hub does not run.
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file in one step; when this returns the content is on disk. Raises OSError."""
    for error in write_all_durably({path: content}).values():
        raise error


def write_all_durably(changes: Mapping[Path, bytes | None]) -> dict[Path, OSError]:
    """Replace or (None) remove files, each in one step, all on disk when this returns; return what failed, by path."""
    failed: dict[Path, OSError] = _run(_write_all, changes)
    for directory in {path.parent for path, content in changes.items() if content is not None}:
        try:
            sync_directory(directory)
        except OSError as error:
            failed |= {path: error for path in changes if path.parent == directory}
    return failed


def _write_all(changes: Mapping[Path, bytes | None]) -> dict[Path, OSError]:
    failed: dict[Path, OSError] = {}
    for path, content in changes.items():
        try:
            if content is None:
                path.unlink(missing_ok=True)
            else:
                _replace(path, content)
        except OSError as error:
            failed[path] = error
    return failed


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def safe_name(text: str) -> str:
    """A file name for an id that came from outside: readable, never a path, different for different ids."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:80]
    if readable == text and readable:
        return readable
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
