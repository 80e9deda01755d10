"""Keeping the memory of gRPC's native threads small."""

from __future__ import annotations

import ctypes


def share_one_heap() -> None:
    """Have all native threads allocate from one heap: of glibc's many, each would keep megabytes for itself."""
    try:
        ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX
    except (OSError, AttributeError):
        pass  # another C library
