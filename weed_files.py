"""Files that must be whole or absent after a crash."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file in one step; when this returns the content is on disk. Raises OSError."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Put a directory's entries on disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def safe_name(text: str) -> str:
    """A file name for an id that came from outside: readable, never a path, different for different ids."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:80]
    if readable == text and readable:
        return readable
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
