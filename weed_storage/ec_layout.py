"""How a volume's bytes lie on its shards: ten of data and four of parity, in rows of large, then small blocks.

Pure: numbers alone, no bytes are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from weed_core.errors import Mismatch

DATA_SHARDS, PARITY_SHARDS = 10, 4
TOTAL_SHARDS = DATA_SHARDS + PARITY_SHARDS
LARGE_BLOCK, SMALL_BLOCK = 1 << 30, 1 << 20  # bytes

MOST_TOGETHER = 4
"""Shards of one volume that may be lost together: as many as there are parity shards."""


class Row(NamedTuple):
    """One row: ten blocks of `block_size` bytes from `offset` on in the `.dat`, to `shard_offset` of each shard."""

    offset: int
    block_size: int
    shard_offset: int


def _large_rows(dat_size: int, strict: bool, large: int) -> int:
    """Count the rows of large blocks.

    `strict` is what volume servers before 4.19 assume when they read, given the `.dat` size in the `.vif`. It differs
    where the size is a multiple of ten large blocks, or up to 9 bytes more; there their own encoders and readers
    disagree, and the reader is the one to follow.
    """
    block = dat_size // DATA_SHARDS
    return max(0, block - 1) // large if strict else block // large


def layout(dat_size: int, strict: bool = False, large: int = LARGE_BLOCK, small: int = SMALL_BLOCK) -> Iterator[Row]:
    """Yield the rows of a `.dat` of `dat_size` bytes: the large ones, then the small ones.

    What a row reads past the end of the `.dat` counts as zeros. `strict` for volume servers before 4.19.
    """
    offset = shard_offset = 0
    large_end = _large_rows(dat_size, strict, large) * large * DATA_SHARDS
    while offset < dat_size:
        block_size = large if offset < large_end else small
        yield Row(offset, block_size, shard_offset)
        offset += block_size * DATA_SHARDS
        shard_offset += block_size


def shard_size(dat_size: int, strict: bool = False, large: int = LARGE_BLOCK, small: int = SMALL_BLOCK) -> int:
    """Return the bytes of each of the fourteen shards of a `.dat` of `dat_size` bytes."""
    large_size = _large_rows(dat_size, strict, large) * large
    return large_size + -(-(dat_size - large_size * DATA_SHARDS) // (small * DATA_SHARDS)) * small


class Piece(NamedTuple):
    """A range of bytes of one data shard."""

    shard: int
    offset: int
    length: int


def locate(
    offset: int, size: int, dat_size: int, strict: bool = False, large: int = LARGE_BLOCK, small: int = SMALL_BLOCK
) -> list[Piece]:
    """Return where `size` bytes from `offset` on in the `.dat` lie in the shards, in the order of the `.dat`.

    For a needle, `size` is its actual size. Mismatch if the range runs past the end of the `.dat`.
    """
    if offset < 0 or offset + size > dat_size:
        raise Mismatch(f"bytes {offset} to {offset + size} are outside of a .dat of {dat_size} bytes")
    large_size = _large_rows(dat_size, strict, large) * large
    large_end = large_size * DATA_SHARDS
    pieces = []
    end = offset + size
    while offset < end:
        if offset < large_end:
            block_size, start, shard_start = large, 0, 0
        else:
            block_size, start, shard_start = small, large_end, large_size
        block, inner = divmod(offset - start, block_size)
        row, shard = divmod(block, DATA_SHARDS)
        length = min(end - offset, block_size - inner)
        pieces.append(Piece(shard, shard_start + row * block_size + inner, length))
        offset += length
    return pieces
