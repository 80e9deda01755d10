"""Who this worker is: an id that survives restarts, and a lock so that no two processes share it.

Two live workers with one id evict each other from every admin, and crash a 3.97 one.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from weed_core.errors import ConfigError
from weed_core.files import Untrusted, open_ours, read_ours, write_durably

log = logging.getLogger(__name__)

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,127}")


@dataclass(frozen=True)
class Identity:
    """A worker id, held for as long as `lock` is open."""

    worker_id: str
    lock: IO[str]


def claim(working_dir: Path, worker_id: str = "") -> Identity:
    """Take the id given, else the one in `worker.id`, else a new one written there; raise ConfigError if it is in use.

    The file and the form of the id are `weed worker`'s, so replacing one by the other keeps the id.
    """
    if worker_id and not _SAFE.fullmatch(worker_id):
        raise ConfigError(f"-id={worker_id} is no worker id; use letters, digits and . _ : @ - only")
    _warn_of_others(working_dir)
    lock = _lock(working_dir)
    file = working_dir / "worker.id"
    if not worker_id:
        try:
            worker_id = read_ours(file, 4096).decode().strip() if os.path.lexists(file) else ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {file}: {error}; remove it, or name an id with -id") from None
        if worker_id and not _SAFE.fullmatch(worker_id):
            raise ConfigError(f"{file} holds no worker id; remove it, or name an id with -id")
    if not worker_id:
        host = socket.gethostname()
        short = host if len(host) <= 6 else host.split(".")[0][:6]
        worker_id = f"w-{short}-{secrets.token_hex(2)}"
        try:
            write_durably(file, worker_id.encode())
        except OSError as error:
            raise ConfigError(f"cannot write {file}: {error.strerror}; name an id with -id") from None
    return Identity(worker_id, lock)


def _lock(working_dir: Path) -> IO[str]:
    path = working_dir / "worker.lock"
    try:
        lock = os.fdopen(open_ours(path, os.O_RDWR | os.O_CREAT, 0o644), "r+", encoding="utf-8", errors="replace")
    except Untrusted as error:
        raise ConfigError(f"{error}; it is left alone: remove it, or name another -workingDir") from None
    except OSError as error:
        raise ConfigError(f"cannot write to -workingDir={working_dir}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = lock.read(20).strip() or "unknown"
        lock.close()
        raise ConfigError(
            f"-workingDir={working_dir} belongs to a running worker (process {holder}); give each worker its own"
        ) from None
    if os.fstat(lock.fileno()).st_nlink != 1:
        lock.close()
        raise ConfigError(
            f"{path} has a second name elsewhere; it is left alone: remove it, or name another -workingDir"
        )
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _warn_of_others(working_dir: Path) -> None:
    """Say so where somebody else may change what the worker keeps."""
    found = working_dir.stat()
    if found.st_mode & stat.S_IWOTH:
        why = "everybody may write to it"
    elif found.st_uid not in (os.geteuid(), 0):
        why = f"it belongs to another user ({found.st_uid})"
    else:
        return
    log.warning(
        "-workingDir=%s keeps this worker's id, its journal and results not yet delivered, and %s: give the worker a"
        " directory of its own",
        working_dir,
        why,
    )
