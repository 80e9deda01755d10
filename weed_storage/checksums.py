"""CRC32C of shard blocks, and `.ecsum`, the file in which SeaweedFS 4.44 keeps them beside the shards.

Layout as in SeaweedFS 4.44, weed/storage/erasure_coding/ec_bitrot.go. A wrong `.ecsum` makes a server raise the alarm
and refuse to rebuild, a missing one does not: so write a correct one or none. Older servers do not know the file.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from google.protobuf.message import DecodeError

from proto_gen import volume_server_pb2 as pb
from weed_core.errors import Mismatch
from weed_storage import isal
from weed_storage.ec_layout import DATA_SHARDS, PARITY_SHARDS
from weed_storage.isal import Buffer

BLOCK_SIZE = 16 << 20
"""Bytes of a shard under one checksum, as the servers write it."""

_MAGIC, _FORMAT = 0x45435355, 1
_HEADER = struct.Struct(">IHII")  # magic, format, payload length, CRC32C of the payload
_PIECE = 1 << 30  # bytes per call of ISA-L, whose lengths are C ints
_MASK = 0xFFFFFFFF


@lru_cache(maxsize=1)
def _table() -> array[int]:
    """Build the byte table of the Castagnoli polynomial, reflected."""
    table = array("I")
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


def crc32c(data: Buffer, value: int = 0, *, use_isal: bool = True) -> int:
    """Return the plain CRC32C of `data`, going on from `value`; without ISA-L some hundred times slower."""
    crc = value ^ _MASK
    library = isal.load() if use_isal else None
    if library is None:
        table = _table()
        for byte in memoryview(data).cast("B"):
            crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    else:
        with isal.address(data) as start:
            length = memoryview(data).nbytes
            for offset in range(0, length, _PIECE):
                crc = library.crc32_iscsi(start + offset, min(_PIECE, length - offset), crc)
    return crc ^ _MASK


@dataclass(frozen=True)
class ShardChecksums:
    """What `.ecsum` says of one shard: its size in bytes, and the CRC32C of each block."""

    covered_size: int
    crcs: tuple[int, ...]


class BlockChecksums:
    """The block checksums of one shard, taken while its bytes pass by in chunks of any size."""

    def __init__(self, block_size: int = BLOCK_SIZE) -> None:
        self.block_size = block_size
        self.covered_size = 0
        self._done: list[int] = []
        self._crc = 0

    def feed(self, chunk: Buffer) -> None:
        """Take the shard's next bytes."""
        view = memoryview(chunk).cast("B")
        while view:
            piece = view[: self.block_size - self.covered_size % self.block_size]
            self._crc = crc32c(piece, self._crc)
            self.covered_size += len(piece)
            if self.covered_size % self.block_size == 0:
                self._done.append(self._crc)
                self._crc = 0
            view = view[len(piece) :]

    def result(self) -> ShardChecksums:
        """Return the checksums of all bytes so far; the last block may be a partial one."""
        partial = self.covered_size % self.block_size
        return ShardChecksums(self.covered_size, (*self._done, self._crc) if partial else tuple(self._done))


@dataclass(frozen=True)
class Ecsum:
    """The content of an `.ecsum` file: shard id to checksums. `encode_uuid` is 16 random bytes, one per encode."""

    shards: Mapping[int, ShardChecksums]
    encode_uuid: bytes
    block_size: int = BLOCK_SIZE


def dump_ecsum(ecsum: Ecsum) -> bytes:
    """Return the bytes of the `.ecsum` file of a 10+4 volume."""
    shards = [
        pb.EcShardChecksums(
            shard_id=shard, covered_size=sums.covered_size, block_crc32c=struct.pack(f"<{len(sums.crcs)}I", *sums.crcs)
        )
        for shard, sums in sorted(ecsum.shards.items())
    ]
    payload = pb.EcBitrotProtection(
        algorithm=pb.CHECKSUM_CRC32C,
        block_size=ecsum.block_size,
        ec_shard_config=pb.EcShardConfig(data_shards=DATA_SHARDS, parity_shards=PARITY_SHARDS),
        shards=shards,
        encode_uuid=ecsum.encode_uuid,
    ).SerializeToString()
    return _HEADER.pack(_MAGIC, _FORMAT, len(payload), crc32c(payload)) + payload


def parse_ecsum(blob: bytes) -> Ecsum:
    """Read an `.ecsum` file; Mismatch if it is damaged, or of an algorithm or shard ratio other than ours."""
    if len(blob) < _HEADER.size:
        raise Mismatch(f".ecsum is cut short: {len(blob)} bytes")
    magic, version, length, crc = _HEADER.unpack_from(blob)
    payload = blob[_HEADER.size :]
    if (magic, version, length) != (_MAGIC, _FORMAT, len(payload)) or crc != crc32c(payload):
        raise Mismatch(".ecsum is damaged: its header does not fit its content")
    try:
        protection = pb.EcBitrotProtection.FromString(payload)
    except DecodeError as error:
        raise Mismatch(f".ecsum is damaged: {error}") from error
    config = protection.ec_shard_config
    if (config.data_shards, config.parity_shards) != (DATA_SHARDS, PARITY_SHARDS):
        raise Mismatch(f".ecsum is of a {config.data_shards}+{config.parity_shards} volume, not 10+4")
    size = protection.block_size
    if protection.algorithm != pb.CHECKSUM_CRC32C or not 1 << 20 <= size <= 64 << 20 or size & (size - 1):
        raise Mismatch(f".ecsum has algorithm {protection.algorithm} over blocks of {size} bytes")
    shards: dict[int, ShardChecksums] = {}
    for shard in protection.shards:
        blocks = -(-shard.covered_size // size)
        if shard.shard_id in shards or shard.covered_size <= 0 or len(shard.block_crc32c) != 4 * blocks:
            raise Mismatch(f".ecsum is damaged: the entry of shard {shard.shard_id} is repeated or of a wrong length")
        crcs = struct.unpack(f"<{blocks}I", shard.block_crc32c)
        shards[shard.shard_id] = ShardChecksums(shard.covered_size, crcs)
    return Ecsum(shards, protection.encode_uuid, size)
