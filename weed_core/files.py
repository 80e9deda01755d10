"""Files that must be whole or absent after a crash, and those that somebody else may have put there or damaged.

A file of ours is opened without following a link, and only where it is a plain file that belongs to us, to root or
to whoever owns its directory. Everything is read up to a size, and nothing is waited for.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
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


LARGEST = 16 << 20
"""Bytes of a file of ours that are read, unless the caller knows better."""


class Untrusted(OSError):
    """A file that is not what it should be; str() says in which way, beginning with its path."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(errno.EPERM, f"{path} {why}")

    def __str__(self) -> str:
        return str(self.strerror)


def open_ours(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a file of ours and return its descriptor; Untrusted where it is none, other OSErrors as they come.

    Do not truncate with a flag: what turns out not to be ours would be empty by then.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Untrusted(path, "is a symbolic link") from None
        if error.errno == errno.EISDIR:
            raise Untrusted(path, "is no plain file") from None
        raise
    try:
        _check(path, os.fstat(handle))
    except OSError:
        os.close(handle)
        raise
    return handle


def _check(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Untrusted(path, "is no plain file")
    if found.st_uid not in (os.geteuid(), 0, path.parent.stat().st_uid):
        raise Untrusted(path, f"belongs to another user ({found.st_uid})")


def read_ours(path: Path, largest: int = LARGEST) -> bytes:
    """The whole content of a file of ours; Untrusted where it is none, or has more bytes than that."""
    return _read(path, open_ours(path, os.O_RDONLY), largest)


def read_named(path: Path, largest: int) -> bytes:
    """The whole content of a file that an operator has named, links followed; Untrusted as read_ours()."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Untrusted(path, "is no plain file")
    return _read(path, handle, largest)


def _read(path: Path, handle: int, largest: int) -> bytes:
    with open(handle, "rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise Untrusted(path, f"has more than {largest} bytes")
    return content


def own_directory(path: Path) -> None:
    """Make a directory for files of ours, if it is not there; Untrusted where somebody else owns it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (owner := path.stat().st_uid) not in (os.geteuid(), 0, path.parent.stat().st_uid):
        raise Untrusted(path, f"belongs to another user ({owner})")


def set_aside(path: Path, suffix: str = ".damaged") -> Path:
    """Give a file that cannot be used another name, for an operator to look at; return that. Raises OSError."""
    aside = path.with_suffix(suffix)
    path.rename(aside)
    return aside


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
    temporary.unlink(missing_ok=True)  # of a process that was killed, or a link that somebody put there
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with open(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def safe_name(text: str) -> str:
    """A file name for an id that came from outside: readable, never a path, different for different ids."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:80]
    if readable == text and readable:
        return readable
    return f"{readable}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:12]}"
