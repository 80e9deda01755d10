"""What a process needs before its first channel: threads enough, one heap for them, descriptors."""

from __future__ import annotations

import ctypes
import logging
import resource

HUB_THREADS = 200
"""Every channel with a call under way holds a hub thread."""

log = logging.getLogger(__name__)

ENOUGH = 512
"""For some hundreds of volume servers, the admin, the journals and whoever looks at the metrics port."""


def make_ready() -> None:
    """Give this process its heap and its descriptors."""
    share_one_heap()
    allow_many()


def share_one_heap() -> None:
    """Have all native threads allocate from one heap: of glibc's many, each would keep megabytes for itself."""
    try:
        ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX
    except (OSError, AttributeError):
        pass  # another C library


def give_memory_back() -> None:
    """Have the heap return what is free to the host, as after a transfer: else the next one is put beside the holes."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        pass  # another C library


def allow_many() -> int:
    """Raise the limit as far as this user may, as Go's runtime does; return it, with a warning where it is small."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        hard = soft
    if hard != resource.RLIM_INFINITY and hard < ENOUGH:
        log.warning(
            "this process may open only %d files and connections; with many volume servers that is too few, and it"
            " would end in the middle of its tasks: raise LimitNOFILE or `ulimit -Hn`",
            hard,
        )
    return hard
