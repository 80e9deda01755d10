"""How many failures a classic admin was told under one worker id.

Admins before 4.44 count each retried failure as a running task of that worker for ever, and give it no more work once
that reaches its limit. A worker that registers with the count on top of its slots goes on getting work: it asks for
tasks itself, one for each slot that is really free.
"""

from __future__ import annotations

import logging
from pathlib import Path

from weed_core.files import read_ours, safe_name, write_durably

log = logging.getLogger(__name__)

MOST = 1_000_000
"""Failures that are believed; more must not be told, since an admin counts in 32 bits."""


def leaked(working_dir: Path, worker_id: str) -> int:
    """The failures told so far."""
    try:
        told = int(read_ours(_file(working_dir, worker_id), 32))
    except (OSError, ValueError):
        return 0
    return told if 0 <= told <= MOST else 0


def leak(working_dir: Path, worker_id: str) -> None:
    """Count one more; a disk that does not take it is said."""
    try:
        write_durably(_file(working_dir, worker_id), str(leaked(working_dir, worker_id) + 1).encode())
    except OSError as error:
        log.error("cannot count the failures of %s: %s", worker_id, error)


def _file(working_dir: Path, worker_id: str) -> Path:
    return working_dir / f"failures.{safe_name(worker_id)}"
