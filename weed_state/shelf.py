"""Shelves in a directory, so that they outlive the worker: what was found wrong, and what was verified when.

A memory and no more: where it cannot be read or written nothing fails, since whoever looks finds it again. Documents
are read once and again when they changed, since a worker and a one-shot run may share the directory.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path

from weed_core import findings, scrub_ledger
from weed_core.files import own_directory, read_ours, safe_name, write_durably

log = logging.getLogger(__name__)

MOST_FINDINGS = 10_000
"""Findings that are told; with more than that wrong, the next look finds the rest again."""


class DirectoryShelf:
    """Documents of one kind in a directory, one small file each. `what` is what they tell, for a line of the log."""

    def __init__(self, directory: Path, suffix: str, largest: int, what: str, most: int | None = None) -> None:
        self._directory = directory
        self._suffix = suffix
        self._largest = largest  # bytes of a document
        self._what = what
        self._most = most
        self._lock = threading.Lock()
        self._read: dict[str, tuple[tuple[int, int, int], bytes]] = {}  # as they were, and what was in them

    def get(self, name: str) -> bytes | None:
        """One document; None where there is none."""
        with self._lock, suppress(OSError):
            return self._document(self._path(name))
        return None

    def all(self) -> Mapping[str, bytes]:
        """Every document."""
        with self._lock:
            found = {}
            with suppress(OSError):
                for path in islice(sorted(self._directory.glob(f"*{self._suffix}")), self._most):
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
            log.warning("cannot note in %s %s: %s", self._directory, self._what, error)

    def remove(self, name: str) -> None:
        """Forget one, if it is there."""
        with suppress(OSError):
            self._path(name).unlink(missing_ok=True)

    def _document(self, path: Path) -> bytes:
        found = path.stat()
        stamp = found.st_mtime_ns, found.st_size, found.st_ino
        known = self._read.get(path.stem)
        if known is None or known[0] != stamp:
            known = self._read[path.stem] = stamp, read_ours(path, self._largest)
        return known[1]

    def _path(self, name: str) -> Path:
        return self._directory / f"{safe_name(name)}{self._suffix}"


def findings_in(state: Path) -> DirectoryShelf:
    """The findings (weed_core.findings) in a state directory."""
    return DirectoryShelf(state / "findings", ".json", findings.LARGEST, "what was found wrong", MOST_FINDINGS)


def scrubs_in(state: Path) -> DirectoryShelf:
    """The ledger of scrubs (weed_core.scrub_ledger) in a state directory."""
    return DirectoryShelf(state / "scrub", ".ledger", scrub_ledger.MOST_BYTES, "what was verified")
