"""Encodes from memory on one core: gigabytes of volume data per second, and how often that is the plain reference's.

    python bench/encoder.py

Exits with 1 where the figure is missed.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from weed_storage.ec_layout import DATA_SHARDS, PARITY_SHARDS, SMALL_BLOCK
from weed_storage.reed_solomon import Encoder

LEAST = 5.0
"""Gigabytes of volume data per second and core."""


def speed(encoder: Encoder, block: int, seconds: float) -> float:
    """Encode one row of that block size over and over; bytes per second of CPU time, the best of three."""
    row, parity = os.urandom(DATA_SHARDS * block), bytearray(PARITY_SHARDS * block)
    encoder.encode_rows(row, block, parity)
    best = 0.0
    for _try in range(3):
        rows, began, end = 0, time.thread_time(), time.monotonic() + seconds
        while time.monotonic() < end:
            encoder.encode_rows(row, block, parity)
            rows += 1
        best = max(best, rows * len(row) / (time.thread_time() - began))
    return best


def main() -> int:
    encoder = Encoder()
    if encoder.backend != "isa-l":
        sys.exit(encoder.describe())
    plain = speed(Encoder(use_isal=False), 1 << 16, 0.3)
    fastest = 0.0
    for block in (1 << 16, 1 << 18, SMALL_BLOCK):
        found = speed(encoder, block, 0.5)
        fastest = max(fastest, found)
        print(f"rows of 10 x {block >> 10:4} KiB: {found / 1e9:6.2f} GB/s, {found / plain:,.0f} x plain Python")
    print(f"plain Python: {plain / 1e6:.1f} MB/s")
    print("figure reached" if fastest >= LEAST * 1e9 else f"missed: less than {LEAST} GB/s")
    return int(fastest < LEAST * 1e9)


if __name__ == "__main__":
    sys.exit(main())
