"""How the cluster is, as this worker last saw it when it looked for work: kept for who asks for its metrics.

Costs no call but that for findings; nothing fails where that does.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from weed_cluster.health import Health, health_of
from weed_core.model import Detection
from weed_core.scrub_ledger import Coverage
from weed_safety import findings
from weed_safety.context import Context

AGAIN = 60.0
"""Seconds in which all looks for work share one count."""

LASTS = 3600.0
"""Seconds after which a look says nothing any more: another worker may look by now."""

DIFFERS = "diverged"
"""How the looks of replication name volumes of which replicas differ."""


class Sight:
    """The last look. `health` and `coverage` are None where there is none that still says something."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._health: tuple[float, Health] = (0.0, Health())
        self._coverage: tuple[float, Coverage] = (0.0, Coverage(0))
        self._differing: frozenset[int] = frozenset()

    @property
    def health(self) -> Health | None:
        """How the volumes were."""
        at, health = self._health
        return health if self._clock() - at < LASTS else None

    @property
    def coverage(self) -> Coverage | None:
        """How much was verified."""
        at, coverage = self._coverage
        return coverage if self._clock() - at < LASTS else None

    def looked(self, job_type: str, found: Detection, ctx: Context, is_whole: bool) -> None:
        """Take in what a look for work saw, if it was at the whole cluster."""
        if not is_whole or ctx.seen is None:
            return
        now = self._clock()
        self.saw(None, found.coverage, now)
        if job_type == "replication":
            told = {skip.volume_id for skip in found.skipped if skip.key == DIFFERS}
            told |= {one.params.volume_id for one in found.proposals if one.labels.get("fault") == DIFFERS}
            self._differing = frozenset(told)
        elif now - self._health[0] < AGAIN:
            return
        health = ctx.compute(health_of, ctx.seen, findings.read_all(ctx), self._differing, now)
        self.saw(health, None, now)

    def saw(self, health: Health | None, coverage: Coverage | None, now: float) -> None:
        """Keep what was counted; None for what was not looked at."""
        if health is not None:
            self._health = now, health
        if coverage is not None:
            self._coverage = now, coverage
