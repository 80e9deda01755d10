"""A batch of moves in one job: side by side, two to a server, those of one volume one after the other."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from weed_core.errors import StaleTask, TaskError
from weed_core.model import Result
from weed_safety.context import Context
from weed_safety.lease import Lease, hold
from weed_safety.move import Moved, MoveOrder, move_volume, open_moved
from weed_tasks.balance.together import Together

PER_SERVER = 2
"""Moves of one batch that one server takes part in at a time: more would only make its disk seek."""


class Batch:
    """The moves of one job, with what became of each."""

    def __init__(self, ctx: Context, orders: Sequence[MoveOrder]) -> None:
        self._ctx = ctx
        self._orders = orders
        self._fractions = dict.fromkeys(orders, 0.0)
        ends = {server for order in orders for server in (order.source, order.target)}
        self._servers = {server: threading.Semaphore(PER_SERVER) for server in ends}
        self._outcomes: dict[MoveOrder, Moved | TaskError] = {}
        self._waiting: list[tuple[MoveOrder, Moved, Lease | None]] = []
        self._held = ExitStack()  # the leases of those
        self._together = Together(ctx.outside_slot)

    def run(self, most: int) -> Result:
        """Make all moves, so many at a time; TaskError, once all are done, if any failed."""
        chains: dict[int, list[MoveOrder]] = defaultdict(list)
        for order in self._orders:
            chains[order.volume_id].append(order)
        with self._held:
            self._ctx.each(self._make, chains.values(), most)
            # All volumes that must stay shut for a while do so side by side, when no more are to be moved.
            for order, moved, lease in self._waiting:
                try:
                    open_moved(self._ctx, moved, partial(self._tell, order), lease)
                except TaskError as error:
                    self._outcomes[order] = error
        return self._sum_up()

    def _tell(self, order: MoveOrder, fraction: float, stage: str) -> None:
        self._fractions[order] = fraction
        number = self._orders.index(order) + 1
        mean = sum(self._fractions.values()) / len(self._fractions)
        self._ctx.progress(mean, f"move {number}/{len(self._orders)}: volume {order.volume_id}, {stage}")

    def _make(self, chain: list[MoveOrder]) -> None:
        """Make the moves of one volume."""
        with self._together.working(), ExitStack() as leased:
            lease: Lease | None = None
            for order in chain:
                try:
                    lease = lease or leased.enter_context(hold(self._ctx, order.volume_id))
                    self._outcomes[order] = moved = self._move(order, lease)
                    if moved.shut and order is chain[-1]:
                        self._waiting.append((order, moved, lease))
                        self._held.enter_context(leased.pop_all())
                    else:
                        waits = replace(self._ctx, outside_slot=self._together.waiting)
                        open_moved(waits, moved, partial(self._tell, order), lease)
                except TaskError as error:
                    self._ctx.log(f"volume {order.volume_id}: {error}")
                    self._outcomes[order] = error
                self._fractions[order] = 1.0

    def _move(self, order: MoveOrder, lease: Lease | None) -> Moved:
        """Make one move once both servers have room for it."""
        # In one order everywhere, so that no two moves wait for each other.
        ends = [self._servers[server] for server in sorted({order.source, order.target}, key=str)]
        with ExitStack() as busy:
            for server in ends:
                busy.enter_context(server)
            working = replace(self._ctx, outside_slot=partial(self._aside, ends))
            return move_volume(working, order, partial(self._tell, order), lease)

    @contextmanager
    def _aside(self, ends: Sequence[threading.Semaphore]) -> Iterator[None]:
        """Let others have the servers, and the job's slot where no move of the batch works, while one only waits."""
        for server in ends:
            server.release()
        try:
            with self._together.waiting():
                yield
        finally:
            for server in ends:
                server.acquire()

    def _sum_up(self) -> Result:
        outcomes = self._outcomes
        moved = [outcome for outcome in outcomes.values() if isinstance(outcome, Moved)]
        failed = [(order, outcome) for order, outcome in outcomes.items() if isinstance(outcome, TaskError)]
        volumes = ", ".join(str(move.volume_id) for move in moved) or "none"
        if failed:
            kind = (
                StaleTask if all(isinstance(error, StaleTask) for _order, error in failed) and not moved else TaskError
            )
            error = kind(
                f"{len(moved)} of {len(self._orders)} volumes moved ({volumes}); "
                + "; ".join(f"volume {order.volume_id}: {why}" for order, why in failed)
            )
            error.by_volume = {order.volume_id: why for order, why in failed}
            raise error
        verb = "would be moved" if self._ctx.options.dry_run else "moved successfully"
        return Result(
            f"{len(moved)}/{len(self._orders)} volumes {verb}: {volumes}",
            {
                "total_moves": len(self._orders),
                "succeeded": len(moved),
                "failed": 0,
                "moved_bytes": sum(move.size for move in moved if not move.already),
            },
        )
