"""The last look at the cluster, kept in a state directory so that a lost server is noticed.

A memory and no more: where it cannot be read or written nothing fails, and what is not known is called unknown.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from weed_cluster.past import Past
from weed_cluster.topology import Topology
from weed_core.files import write_durably

log = logging.getLogger(__name__)

NAME = "last_topology.json"

MOST_BYTES = 64 << 20
"""A longer file is none of ours."""


class LastTopology:
    """The memory in one directory, with those of other directories taken in where they are of the same cluster."""

    def __init__(self, directory: Path, others: Iterable[Path] = (), clock: Callable[[], float] = time.time) -> None:
        self.past = Past()  # as of the last look
        self._directory = directory
        self._others = tuple(others)
        self._clock = clock

    def look(self, topology: Topology, is_whole: bool = True) -> Past:
        """Take in a look at the cluster, and return what it was; a look at a part only reads."""
        known = load(self._directory)
        if known.servers and not known.knows(topology):
            known = Past()  # the directory served another cluster before
        for directory in self._others:
            other = load(directory)
            if other.knows(topology):
                known.merge(other)
        if is_whole:
            known.look(topology, self._clock())
            self._save(known)
            for loss in known.lost:
                if loss.missed == known.looked:
                    log.warning("volume server %s %s", loss.server, loss.text())
        self.past = known
        return known

    def forget(self, server: str) -> bool:
        """Forget a server that is missed; False where it is not."""
        forgotten = False
        for directory in (self._directory, *self._others):
            past = load(directory)
            if past.forget(server):
                forgotten = LastTopology(directory)._save(past) or forgotten
        return forgotten

    def give_up(self, server: str) -> bool:
        """Hear no more of a server that only others tell of; False where it is there."""
        past = load(self._directory)
        if server in past.servers:
            return False
        past.give_up(server, self._clock())
        return self._save(past)

    def _save(self, past: Past) -> bool:
        """Write it, unless another process does so right now."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._directory.stat().st_uid not in (os.getuid(), 0):
                return False  # whoever owns it could turn the file into a link
            handle = os.open(
                self._directory / f"{NAME}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                write_durably(self._directory / NAME, json.dumps(past.document(), separators=(",", ":")).encode())
            finally:
                os.close(handle)
        except OSError as error:
            log.debug("cannot keep what the cluster looks like in %s: %s", self._directory, error)
            return False
        return True


def load(directory: Path) -> Past:
    """The memory in a directory; an empty one where there is none, or none that can be read."""
    with suppress(OSError, ValueError, RecursionError):
        handle = os.open(directory / NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) <= MOST_BYTES:
            return Past.read(json.loads(content))
    return Past()
