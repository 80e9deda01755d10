"""Waiting until nobody still writes to where a volume is about to vanish.

A client may hold a file id that was assigned before the volume was frozen. Refused, it asks for another one. But a
server that no longer has the volume acknowledges a write that is forwarded to it and stores nothing, so that an upload
which comes after the deletion is lost. So a volume that was written to lately has to refuse writes for a while first.
Knows nothing of why a replica goes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from weed_cluster import http
from weed_cluster.address import Address
from weed_cluster.topology import Replica
from weed_core.errors import HttpFailed
from weed_core.model import Field, Job
from weed_core.values import as_int
from weed_safety.context import Context

NAME, DEFAULT = "min_frozen_seconds", 60

FIELD = Field(
    NAME,
    "Refuses writes for (seconds)",
    "int",
    DEFAULT,
    "How long a volume refuses writes before a replica of it is deleted, so that uploads assigned earlier fail and are "
    "assigned anew; one that was not written to for so long does not wait. 0 for no wait.",
    minimum=0,
    section="Safety",
)


def seconds_of(job: Job) -> int:
    """What a job asks for, or the settings, or the default."""
    return as_int(job.parameters.get(NAME, job.config.get(NAME)), DEFAULT, 0)


AGAIN = 5
"""How often at most the time is waited again for uploads that still arrive, as far as servers tell of them."""

LOOK = 5.0
"""Seconds between looks at what servers refused."""

_REFUSED = re.compile(rb'^SeaweedFS_volumeServer_handler_total\{type="errorWriteToLocalDisk"\} ([\d.e+]+)$', re.M)
"""How a server's metrics count the writes that it could not store, of all volumes together (3.97 to 4.44)."""


class Refusal:
    """Since when a volume refuses writes, and for how long it has to. To be made when all its freezes are confirmed.

    The age of the last write is told by each server's own clock; the time since then is measured by ours. A volume that
    the master assigned until now (`may_be_assigned`) waits for those who have an id in it and have not written yet.
    """

    def __init__(
        self, ctx: Context, volume_id: int, servers: Iterable[Address], seconds: float, may_be_assigned: bool = False
    ) -> None:
        self._ctx = ctx
        self._volume_id = volume_id
        self._servers = list(servers)
        self._why = "was assigned" if may_be_assigned else "was written to"
        since = time.monotonic()
        is_fresh = seconds > 0 and (
            may_be_assigned or any(age(ctx, server, volume_id) < seconds for server in self._servers)
        )
        self._ends = since + seconds if is_fresh else since
        self._last = since + AGAIN * seconds
        self._seconds = seconds
        self._refused = self._count() if is_fresh else {}

    @property
    def left(self) -> float:
        """Seconds that are still to be waited."""
        return max(0.0, self._ends - time.monotonic())

    def outlast(self, tell: Callable[[str], None]) -> None:
        """Wait for the rest of the time, without a slot; all that was looked at before is to be looked at again."""
        if not self.left:
            return
        tell(f"refusing writes for {self.left:.0f} s more, since volume {self._volume_id} {self._why} lately")
        with self._ctx.outside_slot():
            while self.left:
                self._ctx.wait(min(self.left, LOOK))
                self._put_off(tell)

    def _put_off(self, tell: Callable[[str], None]) -> None:
        """Begin to wait anew where a server refused a write since the last look, if it tells; a few times at most."""
        refused = self._count()
        risen = [server for server, count in refused.items() if count > self._refused.get(server, count)]
        self._refused |= refused
        ends = min(time.monotonic() + self._seconds, self._last)
        if risen and ends > self._ends:
            self._ends = ends
            tell(f"refusing writes for {self.left:.0f} s more, since uploads still arrive at {risen[0]}")

    def _count(self) -> dict[Address, float]:
        """The writes that servers refused since they were started; nothing of those that do not tell."""
        counts = {}
        port = self._ctx.options.volume_metrics_port
        for server in self._servers if port else ():
            try:
                page = http.get(replace(server, port=port), "/metrics", seconds=LOOK)
            except HttpFailed:
                continue
            found = _REFUSED.search(page.body)
            counts[server] = float(found[1]) if found else 0.0
        return counts


def words(replicas: Iterable[Replica], seconds: float, now: float) -> str:
    """What a plan says of the wait, as the rest of a sentence; "" where there is none to be expected."""
    is_fresh = any(now - replica.modified_at < seconds for replica in replicas)
    return f"refuses writes for {seconds:.0f} s first, since it was written to lately" if is_fresh else ""


def words_for_many(replicas: Iterable[Replica], seconds: float, now: float) -> str:
    """The same of several volumes, one replica of each, as a sentence of its own."""
    ids = [str(replica.volume_id) for replica in replicas if now - replica.modified_at < seconds]
    who = f"volume {ids[0]} refuses" if len(ids) == 1 else f"volumes {', '.join(ids)} refuse"
    return f"{who} writes for {seconds:.0f} s first, since written to lately" if ids else ""


def age(ctx: Context, server: Address, volume_id: int) -> float:
    """Seconds since a volume's data file was last written, by its server's clock."""
    volume = ctx.volume(server)
    written = volume.read_volume_file_status(volume_id=volume_id).dat_file_timestamp_seconds
    return volume.ping().start_time_ns / 1e9 - written
