"""The ledger of scrubs, kept in a directory so that it outlives the worker.

A memory and no more: where it cannot be read or written nothing fails, and what is not remembered is read again.
Documents are read once and again when they changed, since a worker and a one-shot run may share the directory.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from weed_core.files import own_directory, read_ours, safe_name, write_durably
from weed_core.scrub_ledger import MOST_BYTES

log = logging.getLogger(__name__)

NAME = "scrub"
SUFFIX = ".ledger"


class LedgerDirectory:
    """The documents of the ledger in a state directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / NAME
        self._lock = threading.Lock()
        self._read: dict[str, tuple[tuple[int, int, int], bytes]] = {}  # as they were, and what was in them

    def all(self) -> Mapping[str, bytes]:
        """Every document."""
        with self._lock:
            found = {}
            with suppress(OSError):
                for path in self._directory.glob(f"*{SUFFIX}"):
                    with suppress(OSError):
                        found[path.stem] = self._document(path)
            self._read = {name: self._read[name] for name in found}
            return found

    def put(self, name: str, document: bytes) -> None:
        """Keep one, in place of an earlier one."""
        try:
            own_directory(self._directory)
            write_durably(self._path(name), document)
        except OSError as error:
            log.warning("cannot note in %s what was verified: %s", self._directory, error)

    def remove(self, name: str) -> None:
        """Forget one, if it is there."""
        with suppress(OSError):
            self._path(name).unlink(missing_ok=True)

    def _document(self, path: Path) -> bytes:
        found = path.stat()
        stamp = found.st_mtime_ns, found.st_size, found.st_ino
        known = self._read.get(path.stem)
        if known is None or known[0] != stamp:
            known = self._read[path.stem] = stamp, read_ours(path, MOST_BYTES)
        return known[1]

    def _path(self, name: str) -> Path:
        return self._directory / f"{safe_name(name)}{SUFFIX}"
