"""Holding off the master's own vacuum while a job compacts, where servers are so old that two of them destroy data.

Servers before 4.44 destroy data when two parties compact one volume. Holding the master off overrides what an operator
may have set with volume.vacuum.disable, since that cannot be read. Knows nothing of how a volume is compacted.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from weed_cluster.address import Address
from weed_cluster.master import Master
from weed_cluster.volume_server import MasterAt
from weed_core.errors import BadTask, ServerFailed, TaskError
from weed_safety.context import Context
from weed_safety.lease import known_master
from weed_safety.steps import Planned, kind, plan

LOOK = 1.0
"""Seconds between looks at who leads, while the master's own vacuum is held off."""

_fences: Counter[Address] = Counter()
_fences_lock = threading.Lock()


@kind("fence")
@dataclass(frozen=True)
class HeldOff:
    """The journal step of one master that was told."""

    master: Address


@contextmanager
def fenced(ctx: Context, master: Master | None) -> Iterator[None]:
    """Keep the master from vacuuming by itself; BadTask where none is known."""
    if master is None:
        raise BadTask(
            "servers before 4.44 need the master's own vacuum held off, and no master is known; name one with -master"
        )
    master.find()
    fence = _Fence(ctx)
    try:
        fence.put(master.address)
        keeper = threading.Thread(target=fence.keep, name="vacuum-fence", daemon=True)
        keeper.start()
        yield
    finally:
        fence.lift()


class _Fence:
    """The vacuum of whichever master leads, held off: one that takes over knows nothing of what the last was told."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._steps: dict[Address, Planned[HeldOff]] = {}
        self._at: Address | None = None
        self._putting = threading.Lock()
        self._ended = threading.Event()

    def put(self, leader: Address) -> None:
        """Have a master that leads now hold off its vacuum; ServerFailed where it does not."""
        with self._putting:
            if leader == self._at or self._ended.is_set():
                return
            if leader not in self._steps:
                self._steps[leader] = plan(self._ctx.journal, HeldOff(leader))
                with _fences_lock:
                    _fences[leader] += 1
            cluster = self._ctx.cluster
            MasterAt(cluster.channels, leader, cluster.leash).disable_vacuum()
            self._at = leader

    def keep(self) -> None:
        """Tell every new leader, until it is lifted. Who leads is noticed by the lease, which is being renewed."""
        while not self._ended.wait(LOOK):
            leader = self._ctx.cluster.masters.leader
            if leader is None:
                continue
            try:
                self.put(leader)
            except TaskError as error:
                self._ctx.log(f"{leader} leads now, and its own vacuum is not held off yet: {error}")

    def lift(self) -> None:
        """Let all masters that were told vacuum again; what fails stays in the journal."""
        self._ended.set()
        with self._putting, self._ctx.cluster.leash.shielded():
            for leader, step in self._steps.items():
                with _fences_lock:
                    _fences[leader] -= 1
                try:
                    lift(self._ctx, step)
                except TaskError as error:
                    self._ctx.log(f"the master's own vacuum is still held off: {error}")


def lift(ctx: Context, step: Planned[HeldOff]) -> None:
    """Let the master vacuum again, unless another job of this worker still holds it off."""
    address = step.change.master
    with _fences_lock:
        held = _fences[address] > 0
    if not held:
        try:
            MasterAt(ctx.cluster.channels, address, ctx.cluster.leash).enable_vacuum()
        except ServerFailed as error:
            if not _has_passed_on(ctx, address):
                raise
            # A master keeps this in memory: one that is gone has forgotten it.
            ctx.log(f"{address} leads no more and does not answer, so its own vacuum is not let loose again: {error}")
    ctx.journal.settle(step)


def _has_passed_on(ctx: Context, master: Address) -> bool:
    """Whether another master leads now."""
    leader = known_master(ctx)
    try:
        if leader is not None:
            leader.find()
    except ServerFailed:
        return False
    return leader is not None and leader.address != master
