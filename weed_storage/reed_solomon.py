"""Reed-Solomon 10+4 as SeaweedFS computes it, and how the bytes of a `.dat` lie in the fourteen shards.

Field, matrix and rows as in SeaweedFS 4.44, weed/storage/erasure_coding. Computed by ISA-L where it loads, else by a
plain Python reference behind the same functions. Knows no files: it works on buffers that its callers own.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from typing import Literal

from weed_core.errors import Mismatch
from weed_storage import isal
from weed_storage.ec_layout import DATA_SHARDS, PARITY_SHARDS, TOTAL_SHARDS
from weed_storage.isal import Buffer

_POLYNOMIAL = 0x11D
_PYTHON_PIECE = 1 << 16  # bytes per step of the reference: stays in the cache

Factors = bytes
"""The factors of one output: byte i multiplies input i."""


# -- the field and the matrix ---------------------------------------------------------------------------------------


def _logarithms() -> tuple[bytes, dict[int, int]]:
    powers, value = bytearray(), 1
    for _ in range(255):
        powers.append(value)
        value = value << 1 ^ (_POLYNOMIAL if value & 0x80 else 0)
    return bytes(powers), {power: exponent for exponent, power in enumerate(powers)}


_POWERS, _LOGARITHMS = _logarithms()


def _times(a: int, b: int) -> int:
    return _POWERS[(_LOGARITHMS[a] + _LOGARITHMS[b]) % 255] if a and b else 0


def _product(left: Sequence[Factors], right: Sequence[Factors]) -> list[Factors]:
    result = []
    for row in left:
        out = bytearray(len(right[0]))
        for factor, other in zip(row, right):
            for column, value in enumerate(other):
                out[column] ^= _times(factor, value)
        result.append(bytes(out))
    return result


def _inverse(square: Sequence[Factors]) -> list[Factors]:
    """Invert a regular matrix by Gauss and Jordan."""
    size = len(square)
    work = [bytearray(row) + bytes(int(i == at) for i in range(size)) for at, row in enumerate(square)]
    for column in range(size):
        pivot = next(at for at in range(column, size) if work[at][column])
        work[column], work[pivot] = work[pivot], work[column]
        scale = _POWERS[-_LOGARITHMS[work[column][column]] % 255]
        work[column] = bytearray(_times(scale, value) for value in work[column])
        for at in range(size):
            factor = work[at][column]
            if at != column and factor:
                work[at] = bytearray(a ^ _times(factor, b) for a, b in zip(work[at], work[column]))
    return [bytes(row[size:]) for row in work]


def _matrix() -> tuple[Factors, ...]:
    """Make the matrix: Vandermonde, brought to a unit matrix at the top so that data shards are plain data."""

    def power(base: int, exponent: int) -> int:
        if exponent == 0:
            return 1
        return _POWERS[_LOGARITHMS[base] * exponent % 255] if base else 0

    vandermonde = [bytes(power(row, column) for column in range(DATA_SHARDS)) for row in range(TOTAL_SHARDS)]
    return tuple(_product(vandermonde, _inverse(vandermonde[:DATA_SHARDS])))


MATRIX = _matrix()
"""Fourteen rows of ten factors: shard s is the sum of MATRIX[s][i] times data block i."""


@lru_cache(maxsize=64)
def _rows_for(present: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[Factors, ...]:
    """The factors by which ten shards make the wanted ones."""
    return tuple(_product([MATRIX[shard] for shard in wanted], _inverse([MATRIX[shard] for shard in present])))


# -- the encoder ----------------------------------------------------------------------------------------------------


class Encoder:
    """Computes parity and lost shards. One may be shared by threads: it keeps no buffers."""

    def __init__(self, use_isal: bool = True) -> None:
        self._library = isal.load() if use_isal else None
        self.backend: Literal["isa-l", "python"] = "isa-l" if self._library else "python"

    def describe(self) -> str:
        """Say in one sentence which code computes; for the reference a warning with its speed, measured now."""
        if self._library is not None:
            return f"erasure coding computes with ISA-L ({self._library._name})"
        row = bytes(DATA_SHARDS * _PYTHON_PIECE)
        start = time.perf_counter()
        self.encode_rows(row, _PYTHON_PIECE)
        speed = len(row) / (time.perf_counter() - start) / 1e6
        return (
            f"erasure coding computes in plain Python, at about {speed:.0f} MB/s: no ISA-L library loads on this host; "
            "install libisal2 or name the library in WEED_ISAL"
        )

    def encode_rows(
        self, data: Buffer, block_size: int, parity: bytearray | memoryview | None = None
    ) -> list[memoryview]:
        """Compute the four parity blocks of ten data blocks that lie one after another in `data`.

        They are written into `parity` (4 * block_size bytes, allocated if not given) and returned as views of it.
        `block_size` may be any part of a row's block, as long as the ten parts start at the same place in theirs.
        Other threads run meanwhile. ValueError if a buffer has another length than that.
        """
        if parity is None:
            parity = bytearray(PARITY_SHARDS * block_size)
        source, target = memoryview(data).cast("B"), memoryview(parity).cast("B")
        if len(source) != DATA_SHARDS * block_size or len(target) != PARITY_SHARDS * block_size:
            raise ValueError(f"{len(source)} bytes in and {len(target)} out are not 10 and 4 blocks of {block_size}")
        blocks = [target[at * block_size : (at + 1) * block_size] for at in range(PARITY_SHARDS)]
        if block_size:
            inputs = [source[at * block_size : (at + 1) * block_size] for at in range(DATA_SHARDS)]
            self._apply(MATRIX[DATA_SHARDS:], inputs, blocks)
        return blocks

    def reconstruct(self, shards: Mapping[int, Buffer], wanted: Collection[int]) -> dict[int, bytes]:
        """Compute the `wanted` shards, or the same part of each, from at least ten others of equal length.

        Mismatch if fewer than ten are given or their lengths differ.
        """
        present = sorted(shards)[:DATA_SHARDS]
        sizes = {len(shards[shard]) for shard in shards}
        if len(present) < DATA_SHARDS or len(sizes) != 1:
            raise Mismatch(
                f"cannot rebuild shards {sorted(wanted)}: {len(shards)} shards with lengths {sorted(sizes)} "
                f"are given, {DATA_SHARDS} of one length are needed"
            )
        rows = _rows_for(tuple(present), tuple(wanted))
        (size,) = sizes
        outputs = [bytearray(size) for _ in wanted]
        if size and outputs:
            inputs = [memoryview(shards[shard]).cast("B") for shard in present]
            self._apply(rows, inputs, [memoryview(output) for output in outputs])
        return {shard: bytes(output) for shard, output in zip(wanted, outputs)}

    def _apply(self, rows: Sequence[Factors], inputs: Sequence[memoryview], outputs: Sequence[memoryview]) -> None:
        if self._library is None:
            _apply_python(rows, inputs, outputs)
            return
        if len(inputs[0]) > isal.MAX_LENGTH:
            raise ValueError(f"blocks of {len(inputs[0])} bytes are too long for one call; give at most 2 GiB")
        tables = _isal_tables(self._library, tuple(rows))
        with ExitStack() as pins:
            sources = [pins.enter_context(isal.address(view)) for view in inputs]
            targets = [pins.enter_context(isal.address(view, writable=True)) for view in outputs]
            self._library.ec_encode_data(
                len(inputs[0]),
                len(sources),
                len(targets),
                tables,
                (ctypes.c_void_p * len(sources))(*sources),
                (ctypes.c_void_p * len(targets))(*targets),
            )


@lru_cache(maxsize=64)
def _isal_tables(library: ctypes.CDLL, rows: tuple[Factors, ...]) -> ctypes.Array[ctypes.c_char]:
    """Expand the factors into the 32 bytes each that ISA-L multiplies by."""
    tables = ctypes.create_string_buffer(32 * DATA_SHARDS * len(rows))
    library.ec_init_tables(DATA_SHARDS, len(rows), b"".join(rows), tables)
    return tables


@lru_cache(maxsize=256)
def _factor_table(factor: int) -> bytes:
    return bytes(_times(factor, byte) for byte in range(256))


def _apply_python(rows: Sequence[Factors], inputs: Sequence[memoryview], outputs: Sequence[memoryview]) -> None:
    for start in range(0, len(inputs[0]), _PYTHON_PIECE):
        part = slice(start, start + _PYTHON_PIECE)
        pieces = [bytes(view[part]) for view in inputs]
        for row, output in zip(rows, outputs):
            total = 0
            for factor, piece in zip(row, pieces):
                if factor:
                    total ^= int.from_bytes(piece.translate(_factor_table(factor)), "little")
            output[part] = total.to_bytes(len(pieces[0]), "little")


# -- where the bytes of a .dat lie ----------------------------------------------------------------------------------
