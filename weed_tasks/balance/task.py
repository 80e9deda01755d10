"""Levelling volumes over servers: one move, or a batch of them, each made by weed_safety.move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from proto_gen import worker_pb2
from weed_cluster.topology import Topology, snapshot
from weed_core.errors import BadTask
from weed_core.model import Job, Result
from weed_core.values import as_int
from weed_safety import late_writes
from weed_safety.context import Context
from weed_safety.journal import Entry
from weed_safety.lease import known_master
from weed_safety.move import MoveOrder, recover_moves
from weed_safety.parameters import collection_of, server_named, text_of, volume_id_of
from weed_tasks.balance.batch import Batch
from weed_tasks.balance.plan import CONCURRENT, MOST_CONCURRENT, MOST_MOVES
from weed_tasks.moving import move_one


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
    return move_one(ctx, _order(job, topology))


def recover(entry: Entry, ctx: Context) -> None:
    """Undo, or finish, the moves that a killed run had under way."""
    recover_moves(entry, ctx)


def _order(job: Job, topology: Topology | None) -> MoveOrder:
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
    ends = server_named(source, topology), server_named(target, topology)
    return _as_wished(job, MoveOrder(volume_id, *ends, collection_of(job)))


def _as_wished(job: Job, order: MoveOrder) -> MoveOrder:
    """The order with the rate and the times that the job asks for."""
    typed, plain = job.params.balance_params, job.parameters
    rate = as_int(plain.get("io_byte_per_second", job.config.get("io_byte_per_second")), 0, 0)
    return replace(
        order,
        io_bytes_per_second=typed.io_byte_per_second or rate,
        timeout=typed.timeout_seconds or as_int(plain.get("timeout_seconds"), 0, 0),
        refuse=late_writes.seconds_of(job),
    )


def _run_batch(job: Job, ctx: Context, topology: Topology | None) -> Result:
    typed = job.params.balance_params
    if len(typed.moves) > MOST_MOVES:
        raise BadTask(f"the batch has {len(typed.moves)} moves; at most {MOST_MOVES} are taken")
    orders = [_as_wished(job, order) for order in dict.fromkeys(_orders(typed.moves, topology))]
    if not orders:
        raise BadTask("the batch has no move that names a volume, a source and a target")
    most = typed.max_concurrent_moves if typed.max_concurrent_moves > 0 else CONCURRENT
    return Batch(ctx, orders).run(min(most, MOST_CONCURRENT))


def _orders(moves: Sequence[worker_pb2.BalanceMoveSpec], topology: Topology | None) -> Iterator[MoveOrder]:
    """Read the moves of a batch; those that lack something are left out."""
    for move in moves:
        if move.volume_id and move.source_node and move.target_node:
            yield MoveOrder(
                move.volume_id,
                server_named(move.source_node, topology),
                server_named(move.target_node, topology),
                move.collection or None,
            )
