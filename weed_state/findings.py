"""What was found wrong and is not mended yet, kept in a directory so that it outlives the worker.

One small file for each. A memory and no more: where it cannot be read or written nothing fails, since whoever looks
for faults finds them again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from weed_core.files import own_directory, read_ours, safe_name, write_durably
from weed_core.findings import LARGEST

log = logging.getLogger(__name__)

NAME = "findings"
SUFFIX = ".json"

MOST = 10_000
"""Findings that are kept; with more than that wrong, the next look finds the rest again."""


class FindingsDirectory:
    """The findings in a state directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / NAME

    def all(self) -> Collection[bytes]:
        """Every document."""
        found = []
        with suppress(OSError):
            for path in sorted(self._directory.glob(f"*{SUFFIX}"))[:MOST]:
                with suppress(OSError):
                    found.append(read_ours(path, LARGEST))
        return found

    def put(self, key: str, document: bytes) -> None:
        """Keep one, in place of an earlier one."""
        try:
            own_directory(self._directory)
            write_durably(self._path(key), document)
        except OSError as error:
            log.warning("cannot note in %s what was found wrong: %s", self._directory, error)

    def remove(self, key: str) -> None:
        """Forget one, if it is there."""
        with suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._directory / f"{safe_name(key)}{SUFFIX}"
