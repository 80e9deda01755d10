"""Levelling volumes over servers: one move, or a batch of them, each made by weed_safety.move."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from proto_gen import worker_pb2
from weed_cluster.address import Address
from weed_cluster.topology import Topology, snapshot
from weed_core.errors import BadTask, StaleTask, TaskError
from weed_core.model import Job, Result
from weed_core.values import as_int
from weed_safety import late_writes
from weed_safety.context import Context
from weed_safety.copy import Progress
from weed_safety.journal import Entry
from weed_safety.lease import Lease, hold, known_master
from weed_safety.move import Moved, move_volume, open_moved, recover_moves
from weed_safety.parameters import collection_of, server_named, text_of, volume_id_of
from weed_tasks.balance.plan import CONCURRENT, MOST_CONCURRENT, MOST_MOVES
from weed_tasks.balance.together import Together

PER_SERVER = 2
"""Moves of one batch that one server takes part in at a time: more would only make its disk seek."""


@dataclass(frozen=True)
class _MoveOrder:
    """One move as the job asks for it."""

    volume_id: int
    source: Address
    target: Address
    collection: str | None


def run(job: Job, ctx: Context) -> Result:
    """Make the job's move or moves.

    Raises TaskError if any of them failed, saying which were made; running the job again makes the rest.
    """
    ctx.progress(0.0, "looking at the cluster")
    master = known_master(ctx)
    # Only for the servers' names, so of one volume: each move looks again for itself.
    topology = snapshot(master, max(job.volume_ids, default=0)) if master else None
    if job.params.balance_params.moves:
        return _run_batch(job, ctx, topology)
    order = _order(job, topology)
    with hold(ctx, order.volume_id) as lease:
        moved = _move(job, ctx, order, lease)
        open_moved(ctx, moved, lease=lease)
    verb = "would move: " if ctx.options.dry_run and not moved.already else ""
    return Result(
        f"{verb}{moved}",
        {
            "volume_id": order.volume_id,
            "source_server": str(order.source),
            "target_server": str(order.target),
            "moved_bytes": 0 if moved.already else moved.size,
        },
    )


def recover(entry: Entry, ctx: Context) -> None:
    """Undo, or finish, the moves that a killed run had under way."""
    recover_moves(entry, ctx)


def _order(job: Job, topology: Topology | None) -> _MoveOrder:
    volume_id = volume_id_of(job)
    params = job.params
    if len(params.sources) > 1 or len(params.targets) > 1:
        raise BadTask(
            f"the move of volume {volume_id} names {len(params.sources)} sources, {len(params.targets)} targets"
        )
    source = params.sources[0].node if params.sources else text_of(job, "source_server", "server")
    target = params.targets[0].node if params.targets else text_of(job, "target_server", "target")
    if not source or not target:
        raise BadTask(f"the move of volume {volume_id} names no {'target' if source else 'source'} server")
    return _MoveOrder(volume_id, server_named(source, topology), server_named(target, topology), collection_of(job))


def _move(job: Job, ctx: Context, order: _MoveOrder, lease: Lease | None, progress: Progress | None = None) -> Moved:
    typed = job.params.balance_params
    plain = job.parameters
    return move_volume(
        ctx,
        order.volume_id,
        order.source,
        order.target,
        collection=order.collection,
        io_bytes_per_second=typed.io_byte_per_second
        or as_int(plain.get("io_byte_per_second", job.config.get("io_byte_per_second")), 0, 0),
        timeout=typed.timeout_seconds or as_int(plain.get("timeout_seconds"), 0, 0),
        progress=progress,
        lease=lease,
        refuse=late_writes.seconds_of(job),
    )


def _run_batch(job: Job, ctx: Context, topology: Topology | None) -> Result:
    typed = job.params.balance_params
    if len(typed.moves) > MOST_MOVES:
        raise BadTask(f"the batch has {len(typed.moves)} moves; at most {MOST_MOVES} are taken")
    orders = list(dict.fromkeys(_orders(typed.moves, topology)))
    if not orders:
        raise BadTask("the batch has no move that names a volume, a source and a target")
    fractions = dict.fromkeys(orders, 0.0)
    servers = {server: threading.Semaphore(PER_SERVER) for order in orders for server in (order.source, order.target)}
    outcomes: dict[_MoveOrder, Moved | TaskError] = {}

    def tell(order: _MoveOrder, fraction: float, stage: str) -> None:
        fractions[order] = fraction
        number = orders.index(order) + 1
        mean = sum(fractions.values()) / len(fractions)
        ctx.progress(mean, f"move {number}/{len(orders)}: volume {order.volume_id}, {stage}")

    waiting: list[tuple[_MoveOrder, Moved, Lease | None]] = []
    held = ExitStack()

    together = Together(ctx.outside_slot)

    @contextmanager
    def aside(ends: Sequence[threading.Semaphore]) -> Iterator[None]:
        """Let others have the servers, and the job's slot where no move of the batch works, while one only waits."""
        for server in ends:
            server.release()
        try:
            with together.waiting():
                yield
        finally:
            for server in ends:
                server.acquire()

    def make(chain: list[_MoveOrder]) -> None:
        with together.working(), ExitStack() as leased:
            lease: Lease | None = None
            for order in chain:
                progress = partial(tell, order)
                try:
                    lease = lease or leased.enter_context(hold(ctx, order.volume_id))
                    with ExitStack() as busy:
                        # In one order everywhere, so that no two moves wait for each other.
                        ends = [servers[server] for server in sorted({order.source, order.target}, key=str)]
                        for server in ends:
                            busy.enter_context(server)
                        working = replace(ctx, outside_slot=partial(aside, ends))
                        outcomes[order] = moved = _move(job, working, order, lease, progress)
                    if moved.shut and order is chain[-1]:
                        waiting.append((order, moved, lease))
                        held.enter_context(leased.pop_all())
                    else:
                        open_moved(replace(ctx, outside_slot=together.waiting), moved, progress, lease)
                except TaskError as error:
                    ctx.log(f"volume {order.volume_id}: {error}")
                    outcomes[order] = error
                fractions[order] = 1.0

    chains: dict[int, list[_MoveOrder]] = defaultdict(list)
    for order in orders:
        chains[order.volume_id].append(order)
    most = typed.max_concurrent_moves if typed.max_concurrent_moves > 0 else CONCURRENT
    with held:
        ctx.each(make, chains.values(), min(most, MOST_CONCURRENT))
        # All volumes that must stay shut for a while do so side by side, when no more are to be moved.
        for order, moved, lease in waiting:
            try:
                open_moved(ctx, moved, partial(tell, order), lease)
            except TaskError as error:
                outcomes[order] = error
    return _sum_up(ctx, orders, outcomes)


def _orders(moves: Sequence[worker_pb2.BalanceMoveSpec], topology: Topology | None) -> Iterator[_MoveOrder]:
    """Read the moves of a batch; those that lack something are left out."""
    for move in moves:
        if move.volume_id and move.source_node and move.target_node:
            yield _MoveOrder(
                move.volume_id,
                server_named(move.source_node, topology),
                server_named(move.target_node, topology),
                move.collection or None,
            )


def _sum_up(ctx: Context, orders: Sequence[_MoveOrder], outcomes: dict[_MoveOrder, Moved | TaskError]) -> Result:
    moved = [outcome for outcome in outcomes.values() if isinstance(outcome, Moved)]
    failed = [(order, outcome) for order, outcome in outcomes.items() if isinstance(outcome, TaskError)]
    volumes = ", ".join(str(move.volume_id) for move in moved) or "none"
    if failed:
        kind = StaleTask if all(isinstance(error, StaleTask) for _order, error in failed) and not moved else TaskError
        error = kind(
            f"{len(moved)} of {len(orders)} volumes moved ({volumes}); "
            + "; ".join(f"volume {order.volume_id}: {why}" for order, why in failed)
        )
        error.by_volume = {order.volume_id: why for order, why in failed}
        raise error
    verb = "would be moved" if ctx.options.dry_run else "moved successfully"
    return Result(
        f"{len(moved)}/{len(orders)} volumes {verb}: {volumes}",
        {
            "total_moves": len(orders),
            "succeeded": len(moved),
            "failed": 0,
            "moved_bytes": sum(move.size for move in moved if not move.already),
        },
    )
