"""Which builds volume servers are: with offsets of 4 or of 5 bytes in their indexes. Neither reads the other's files.

A server of one build that is given a volume of the other takes 16-byte entries for 17-byte ones: it ends, or finds
none of the files. Every server says what it is, in its version ("30GB 4.44", "8000GB 4.44").
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from weed_cluster.address import Address
from weed_cluster.volume_server import VolumeServer
from weed_core.errors import TaskError

OFFSETS = {"30GB": 4, "8000GB": 5}
"""Bytes of an offset by the largest volume that a build can hold."""

ASK = 5.0
"""Seconds that a server has to answer."""

AT_ONCE = 32
"""Servers asked at a time."""

KNOWN_FOR, SILENT_FOR = 600.0, 60.0
"""Seconds for which plans rely on what a server said, and on its silence; whoever copies asks afresh."""


@dataclass(frozen=True)
class Build:
    """What a server said: its version, or why it did not say it."""

    version: str
    problem: str = ""

    @property
    def offset_bytes(self) -> int:
        """4 or 5; 4 for what names no size, as there is no such build with 5."""
        return OFFSETS.get(self.version.partition(" ")[0], 4)

    def __str__(self) -> str:
        return f"build {self.version.strip()!r} with {self.offset_bytes}-byte offsets"


def ask(server: VolumeServer) -> Build:
    """Ask a server; what it does not answer is told in `problem`."""
    try:
        return Build(server.volume_server_status(timeout=ASK).version)
    except TaskError as error:
        return Build("", str(error))


def why_unlike(a: Address, of_a: Build, b: Address, of_b: Build) -> str:
    """Say why files of one server must not go to the other; "" where they may."""
    for server, build in ((a, of_a), (b, of_b)):
        if build.problem:
            return f"{server} does not say which build it is: {build.problem}"
    if of_a.offset_bytes == of_b.offset_bytes:
        return ""
    return f"{a} is {of_a}, {b} is {of_b}: neither can read the other's files"


class Builds:
    """What servers said lately, for plans: one of these serves a whole process."""

    def __init__(self) -> None:
        self._said: dict[Address, tuple[Build, float]] = {}
        self._lock = threading.Lock()

    def of(self, servers: Iterable[Address], client: Callable[[Address], VolumeServer]) -> dict[Address, Build]:
        """Ask those that have not said it lately, some at a time."""
        now = time.monotonic()
        wanted = list(dict.fromkeys(servers))
        with self._lock:
            self._said = {server: said for server, said in self._said.items() if said[1] > now}
            unknown = [server for server in wanted if server not in self._said]
        if unknown:
            with ThreadPoolExecutor(min(AT_ONCE, len(unknown))) as pool:
                builds = list(pool.map(lambda server: ask(client(server)), unknown))
            with self._lock:
                for server, build in zip(unknown, builds):
                    self._said[server] = build, now + (SILENT_FOR if build.problem else KNOWN_FOR)
                return {server: self._said[server][0] for server in wanted if server in self._said}
        with self._lock:
            return {server: self._said[server][0] for server in wanted if server in self._said}

    def forget(self) -> None:
        """Ask every server anew."""
        with self._lock:
            self._said.clear()
