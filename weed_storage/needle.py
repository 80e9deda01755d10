"""The `.dat` file: superblock and needle records of volume versions 2 and 3, file ids, TTLs.

Layout as in SeaweedFS 4.44, weed/storage/needle and weed/storage/super_block. Knows nothing of indexes or shards.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import NamedTuple

from weed_core.errors import Mismatch
from weed_storage.checksums import crc32c
from weed_storage.isal import Buffer

CURRENT_VERSION = 3
SUPER_BLOCK_SIZE = 8
HEADER_SIZE = 16  # bytes: cookie 4, id 8, size 4
PADDING = 8  # records begin at multiples of this many bytes

IS_COMPRESSED = 0x01
HAS_NAME = 0x02
HAS_MIME = 0x04
HAS_LAST_MODIFIED = 0x08
HAS_TTL = 0x10
HAS_PAIRS = 0x20
IS_CHUNK_MANIFEST = 0x80

NO_TTL = b"\0\0"

_SUPER_BLOCK = struct.Struct(">BB2sHH")
_HEADER = struct.Struct(">IQi")
_MINUTE = 60
_TTL_UNITS = (
    0,
    _MINUTE,
    60 * _MINUTE,
    24 * 60 * _MINUTE,
    7 * 24 * 60 * _MINUTE,
    30 * 24 * 60 * _MINUTE,
    365 * 24 * 60 * _MINUTE,
)


@dataclass(frozen=True)
class SuperBlock:
    """The first 8 bytes of a `.dat`. `replica_placement` is the byte for "xyz"; `ttl` is count and unit."""

    version: int = CURRENT_VERSION
    replica_placement: int = 0
    ttl: bytes = NO_TTL
    compaction_revision: int = 0
    extra_size: int = 0

    @classmethod
    def parse(cls, blob: Buffer) -> SuperBlock:
        """Read the superblock at the start of a `.dat`; Mismatch if it is cut short or of an unknown version."""
        if len(blob) < SUPER_BLOCK_SIZE:
            raise Mismatch(f"superblock is cut short: {len(blob)} of {SUPER_BLOCK_SIZE} bytes")
        block = cls(*_SUPER_BLOCK.unpack_from(blob))
        if block.version not in (1, 2, 3):
            raise Mismatch(f"superblock has unknown volume version {block.version}")
        return block

    def pack(self) -> bytes:
        """Return the 8 bytes."""
        return _SUPER_BLOCK.pack(
            self.version, self.replica_placement, self.ttl, self.compaction_revision, self.extra_size
        )

    @property
    def end(self) -> int:
        """The offset in bytes at which the first needle can lie."""
        return SUPER_BLOCK_SIZE + (self.extra_size if self.version > 1 else 0)


@dataclass(frozen=True)
class Needle:
    """One record of a `.dat`. `flags` name what is compressed or present; packing adds those of non-empty fields.

    `last_modified` is in Unix seconds. `checksum` is what the record carries; where there is data, packing computes it.
    A needle without data keeps none of name, mime, last_modified, ttl and pairs: so SeaweedFS writes it.
    """

    cookie: int
    id: int
    data: bytes = b""
    name: bytes = b""
    mime: bytes = b""
    flags: int = 0
    last_modified: int = 0
    ttl: bytes = NO_TTL
    pairs: bytes = b""
    append_at_ns: int = 0
    checksum: int = 0


def actual_size(size: int, version: int) -> int:
    """Return how many bytes of the `.dat` a needle of index size `size` takes; at least 1 byte of it is padding."""
    length = HEADER_SIZE + size + 4 + (8 if version == 3 else 0)
    return length + PADDING - length % PADDING


def crc_value(data: Buffer) -> int:
    """Return the checksum that SeaweedFS stores for `data` since 3.09: the plain CRC32C."""
    return crc32c(data)


def _legacy_crc(crc: int) -> int:
    """Return the rotated form of a CRC that servers before 3.09 stored."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def pack_needle(needle: Needle, version: int = CURRENT_VERSION) -> bytes:
    """Return the record as it is appended to a `.dat` of volume version 2 or 3.

    OverflowError if name or mime are over 255 bytes, pairs over 65535.
    """
    body = _pack_body(needle) if needle.data else b""
    tail = struct.pack(">I", crc_value(needle.data) if needle.data else needle.checksum)
    if version == 3:
        tail += struct.pack(">Q", needle.append_at_ns)
    record = _HEADER.pack(needle.cookie, needle.id, len(body)) + body + tail
    return record.ljust(actual_size(len(body), version), b"\0")


def _pack_body(needle: Needle) -> bytes:
    flags, fields = needle.flags, b""
    for flag, present, field in (
        (HAS_NAME, needle.name, _counted(needle.name, 1)),
        (HAS_MIME, needle.mime, _counted(needle.mime, 1)),
        (HAS_LAST_MODIFIED, needle.last_modified, needle.last_modified.to_bytes(5, "big")),
        (HAS_TTL, needle.ttl != NO_TTL, needle.ttl),
        (HAS_PAIRS, needle.pairs, _counted(needle.pairs, 2)),
    ):
        if present or flags & flag:
            flags |= flag
            fields += field
    return _counted(needle.data, 4) + bytes((flags,)) + fields


def _counted(field: bytes, width: int) -> bytes:
    return len(field).to_bytes(width, "big") + field


def parse_header(blob: Buffer) -> tuple[int, int, int]:
    """Return cookie, id and size of the record at the start of `blob`; Mismatch if it is cut short."""
    if len(blob) < HEADER_SIZE:
        raise Mismatch(f"needle header is cut short: {len(blob)} of {HEADER_SIZE} bytes")
    cookie, needle_id, size = _HEADER.unpack_from(blob)
    return cookie, needle_id, size


def parse_needle(blob: Buffer, version: int = CURRENT_VERSION) -> Needle:
    """Read the record at the start of `blob`; Mismatch if it is cut short, malformed or fails its checksum."""
    cookie, needle_id, size = parse_header(blob)
    if size < 0 or len(blob) < actual_size(size, version):
        raise Mismatch(f"needle {needle_id:x} is cut short: {len(blob)} bytes for a size of {size}")
    body = bytes(blob[HEADER_SIZE : HEADER_SIZE + size])
    (checksum,) = struct.unpack_from(">I", blob, HEADER_SIZE + size)
    append_at_ns = struct.unpack_from(">Q", blob, HEADER_SIZE + size + 4)[0] if version == 3 else 0
    needle = Needle(cookie, needle_id, append_at_ns=append_at_ns, checksum=checksum)
    if body:
        needle = _parse_body(needle, body)
    if needle.data:
        crc = crc_value(needle.data)
        if checksum not in (crc, _legacy_crc(crc)):
            raise Mismatch(f"needle {needle_id:x} is damaged: checksum {checksum:08x} on disk, {crc:08x} computed")
    return needle


def _parse_body(needle: Needle, body: bytes) -> Needle:
    position = 0

    def take(length: int) -> bytes:
        nonlocal position
        position += length
        if position > len(body):
            raise Mismatch(f"needle {needle.id:x} is damaged: a field runs past its size of {len(body)}")
        return body[position - length : position]

    data = take(int.from_bytes(take(4), "big"))
    # Like the server, take what the flags announce only as far as the body reaches.
    flags = take(1)[0] if position < len(body) else 0

    def field(flag: int, length: int, counted: bool = False) -> bytes:
        if not flags & flag or position == len(body):
            return b""
        return take(int.from_bytes(take(length), "big") if counted else length)

    return Needle(
        needle.cookie,
        needle.id,
        data,
        name=field(HAS_NAME, 1, counted=True),
        mime=field(HAS_MIME, 1, counted=True),
        flags=flags,
        last_modified=int.from_bytes(field(HAS_LAST_MODIFIED, 5), "big"),
        ttl=field(HAS_TTL, 2) or NO_TTL,
        pairs=field(HAS_PAIRS, 2, counted=True),
        append_at_ns=needle.append_at_ns,
        checksum=needle.checksum,
    )


def ttl_seconds(ttl: bytes | int) -> int:
    """Return a TTL in seconds, from its two bytes or its number (count << 8 | unit); 0 means that it never ends."""
    count, unit = ttl if isinstance(ttl, bytes) else (ttl >> 8 & 0xFF, ttl & 0xFF)
    return count * _TTL_UNITS[unit] if unit < len(_TTL_UNITS) else 0


class FileId(NamedTuple):
    """The name of one needle: "3,01637037d6" is volume 3, needle 1, cookie 637037d6."""

    volume_id: int
    needle_id: int
    cookie: int

    @classmethod
    def parse(cls, text: str) -> FileId:
        """Read a file id; ValueError if it is none."""
        parts = re.fullmatch(r"([0-9]+),([0-9a-fA-F]{1,16})([0-9a-fA-F]{8})", text)
        if not parts:
            raise ValueError(f"{text!r} is no file id; one looks like 3,01637037d6")
        return cls(int(parts[1]), int(parts[2], 16), int(parts[3], 16))

    def __str__(self) -> str:
        key = self.needle_id.to_bytes(8, "big").lstrip(b"\0")
        return f"{self.volume_id},{key.hex()}{self.cookie:08x}"
