"""How many files and connections the process may hold: gRPC ends it where it gets no further one."""

from __future__ import annotations

import logging
import resource

ENOUGH = 512
"""For some hundreds of volume servers, the admin, the journals and whoever looks at the metrics port."""

log = logging.getLogger(__name__)


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
