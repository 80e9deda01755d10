"""The ways to the bytes of a frozen volume: through its server, or from the file itself where this host has it.

Knows nothing of what is done with the bytes.
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from weed_cluster.address import Address
from weed_cluster.volume_server import VolumeServer
from weed_core.errors import Mismatch
from weed_safety.context import Context
from weed_storage.ec_layout import LARGE_BLOCK, SMALL_BLOCK, Row, layout, shard_size
from weed_storage.needle import SUPER_BLOCK_SIZE, SuperBlock, actual_size

FOREVER = 24 * 3600.0
"""Deadline in seconds of streams as long as a volume; their users watch for a stall."""

PROBES, PROBE = 8, 4096
"""How many places, of how many bytes, must agree before a local file passes for what the server holds."""


@dataclass(frozen=True)
class Source:
    """A frozen volume as its server describes it.

    `strict` rows are what servers before 4.44 read; `large_block` is the bytes of a block in the first rows.
    """

    server: Address
    volume_id: int
    collection: str
    dat_size: int
    version: int
    revision: int
    strict: bool = False
    large_block: int = LARGE_BLOCK
    index_sha256: bytes = b""  # of its whole `.idx`; where it is not known, no local file passes for this volume

    @property
    def shard_size(self) -> int:
        """Bytes of each of its shards."""
        return shard_size(self.dat_size, self.strict, self.large_block)

    def rows(self) -> Iterator[Row]:
        """How its bytes are cut."""
        return layout(self.dat_size, self.strict, self.large_block)

    @property
    def base(self) -> str:
        """The name of its files, without extension."""
        return f"{self.collection}_{self.volume_id}" if self.collection else str(self.volume_id)


class Reader(Protocol):
    """A way to the bytes of a `.dat`."""

    def fill(self, offset: int, view: memoryview) -> None:
        """Put the bytes from `offset` on into `view`, which does not reach past the end of the file."""


class Streamed:
    """The whole file in order from one CopyFile; only for rows that lie in it one after another."""

    def __init__(self, server: VolumeServer, source: Source) -> None:
        self._source = source
        self._messages = server.copy_file_content(
            volume_id=source.volume_id,
            ext=".dat",
            compaction_revision=source.revision,
            stop_offset=source.dat_size,
            timeout=FOREVER,
        )
        self._rest = memoryview(b"")

    def fill(self, offset: int, view: memoryview) -> None:
        while view:
            while not self._rest:
                content = next(self._messages, None)
                if content is None:
                    raise Mismatch(f"the .dat of volume {self._source.volume_id} on {self._source.server} ended early")
                self._rest = content
            taken = min(len(view), len(self._rest))
            view[:taken] = self._rest[:taken]
            view, self._rest = view[taken:], self._rest[taken:]


class Ranged:
    """Any place of the file, by ReadNeedleBlob: it returns whatever lies there."""

    def __init__(self, server: VolumeServer, source: Source) -> None:
        self._server = server
        self._source = source
        # What the server adds to the size that is asked for: header, checksum, time and padding.
        self._extra = actual_size(8, source.version) - 8

    def fill(self, offset: int, view: memoryview) -> None:
        for at in range(0, len(view), SMALL_BLOCK):
            part = view[at : at + SMALL_BLOCK]
            part[:] = self._read(offset + at, len(part))

    def _read(self, offset: int, length: int) -> memoryview:
        # The server gives multiples of 8 bytes and refuses what reaches past the end: so begin earlier there.
        asked = max(length + -length % 8, self._extra + 8)
        start = min(offset, self._source.dat_size - asked)
        blob = self._server.read_needle_blob(
            volume_id=self._source.volume_id, offset=start, size=asked - self._extra
        ).needle_blob
        if len(blob) != asked:
            raise Mismatch(
                f"{self._source.server} gave {len(blob)} of {asked} bytes at {start} of volume {self._source.volume_id}"
            )
        return memoryview(blob)[offset - start :][:length]


class Local:
    """The file itself, where this host has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def fill(self, offset: int, view: memoryview) -> None:
        while view:
            got = os.preadv(self.file, [view], offset)
            if not got:
                raise Mismatch(f"{self.path} ended early")
            offset, view = offset + got, view[got:]

    def is_current(self) -> bool:
        """Whether the name still leads to the file that was read: a compaction puts another one there."""
        try:
            now, then = os.stat(self.path), os.fstat(self.file)
        except OSError:
            return False
        return (now.st_dev, now.st_ino, now.st_size) == (then.st_dev, then.st_ino, then.st_size)

    def close(self) -> None:
        """Close the file."""
        os.close(self.file)


def open_local(ctx: Context, source: Source, server: VolumeServer) -> Local | None:
    """Open the volume's file on this host; None where it is not there, may not be read, or is another.

    It is looked for in the directories of -dataDir; by default in those that the server names, if it is on this host.
    A name proves nothing, since a container has other directories under the same names and another server of this
    host may hold a replica. So size, revision and the bytes at some random places must be the server's, and so must
    the index to its last byte: then every needle lies where the server has it.
    """
    chosen = ctx.options.data_dirs
    directories = _directories(server) if chosen is None else chosen
    for directory in directories:
        path = directory / f"{source.base}.dat"
        try:
            local = Local(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            ctx.log(f"{path} cannot be read ({error.strerror}); reading volume {source.volume_id} from its server")
            continue
        try:
            if _is_source(local, source, server) and ctx.compute(_has_index, directories, source):
                return local
        except (Mismatch, OSError):
            pass
        local.close()
        ctx.log(f"{path} is not what {source.server} holds; reading volume {source.volume_id} from its server")
    return None


def is_this_host(host: str) -> bool:
    """Whether a name or address leads to this host."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    for family, kind, protocol, _name, address in found:
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.bind(address)
            except OSError:
                continue
            return True
    return False


def _directories(server: VolumeServer) -> Sequence[Path]:
    """Where a server on this host says that its volumes are."""
    if not is_this_host(server.address.host):
        return ()
    named = [Path(disk.dir) for disk in server.volume_server_status().disk_statuses]
    return [directory for directory in named if directory.is_absolute()]


def _is_source(local: Local, source: Source, server: VolumeServer) -> bool:
    """Whether size, revision and some random places of a file are those of the volume."""
    size = os.fstat(local.file).st_size
    head = os.pread(local.file, SUPER_BLOCK_SIZE, 0)
    if size != source.dat_size or SuperBlock.parse(head).compaction_revision != source.revision:
        return False
    ranged = Ranged(server, source)
    places = [0, *(random.randrange(0, max(1, size - PROBE), 8) for _ in range(PROBES))]
    return all(_same(local, ranged, place, min(PROBE, size - place)) for place in places)


def _has_index(directories: Sequence[Path], source: Source) -> bool:
    """Whether the volume's index lies in one of the directories."""
    for directory in directories:
        digest = hashlib.sha256()
        try:
            with open(directory / f"{source.base}.idx", "rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        except OSError:
            continue
        if digest.digest() == source.index_sha256:
            return True
    return False


def _same(a: Reader, b: Reader, offset: int, length: int) -> bool:
    left, right = bytearray(length), bytearray(length)
    a.fill(offset, memoryview(left))
    b.fill(offset, memoryview(right))
    return left == right
