"""How many failures a classic admin was told under one worker id.

Admins before 4.44 count each retried failure as a running task of that worker for ever, and give it no more work once
that reaches its limit. A worker that registers with the count on top of its slots goes on getting work: it asks for
tasks itself, one for each slot that is really free.
"""

from __future__ import annotations

from pathlib import Path

from weed_state.files import safe_name


def leaked(working_dir: Path, worker_id: str) -> int:
    """The failures told so far."""
    file = _file(working_dir, worker_id)
    text = file.read_text() if file.exists() else ""
    return int(text) if text.isdigit() else 0


def leak(working_dir: Path, worker_id: str) -> None:
    """Count one more."""
    _file(working_dir, worker_id).write_text(str(leaked(working_dir, worker_id) + 1))


def _file(working_dir: Path, worker_id: str) -> Path:
    return working_dir / f"failures.{safe_name(worker_id)}"
