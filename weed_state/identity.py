"""Who this worker is: an id that survives restarts, and a lock so that no two processes share it.

Two live workers with one id evict each other from every admin, and crash a 3.97 one.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from weed_errors import ConfigError

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
    lock = _lock(working_dir)
    file = working_dir / "worker.id"
    if not worker_id:
        try:
            worker_id = file.read_text(encoding="utf-8").strip() if file.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {file}: {error}; remove it, or name an id with -id") from None
        if worker_id and not _SAFE.fullmatch(worker_id):
            raise ConfigError(f"{file} holds no worker id; remove it, or name an id with -id")
    if not worker_id:
        host = socket.gethostname()
        short = host if len(host) <= 6 else host.split(".")[0][:6]
        worker_id = f"w-{short}-{secrets.token_hex(2)}"
        file.write_text(worker_id, encoding="utf-8")
    return Identity(worker_id, lock)


def _lock(working_dir: Path) -> IO[str]:
    path = working_dir / "worker.lock"
    try:
        lock = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write to -workingDir={working_dir}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise ConfigError(
            f"-workingDir={working_dir} belongs to a running worker (process {holder}); give each worker its own"
        ) from None
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()))
    lock.flush()
    return lock
