"""One move of a volume as a job of its own: as it is planned, proposed, read back and made.

For every job type that moves volumes; why a volume should move, and where to, is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proto_gen.worker_pb2 import BalanceTaskParams, TaskParams
from weed_cluster.address import Address
from weed_cluster.replica_placement import plain_type
from weed_cluster.topology import Node, Replica, Topology
from weed_core.errors import BadTask
from weed_core.model import NORMAL, Job, Proposal, Result, Skipped, Values
from weed_core.text import size_text
from weed_core.values import Value, as_int
from weed_safety import late_writes, location_cache
from weed_safety.context import Context
from weed_safety.lease import hold
from weed_safety.move import MoveOrder, move_volume, open_moved, stays
from weed_safety.parameters import collection_of, server_named, volume_id_of
from weed_tasks import proposal

TIMEOUT_SECONDS = 600
"""What is written into the parameters of a job; moves take longer where a volume's size asks for it."""

WhyShut = Callable[[int, list[Address]], str]
"""(volume id, servers) -> why these servers cannot be made to forget where its replicas are, "" where they can."""


def nothing_shut(_volume_id: int, _servers: list[Address]) -> str:
    """All servers can be made to forget."""
    return ""


@dataclass
class PlannedMove:
    """One replica that is to move, and where to."""

    replica: Replica
    target: Node
    why_shut: str = ""  # why the volume must refuse writes for a while after it

    @property
    def shut_for(self) -> int:
        """Seconds of that."""
        return int(location_cache.CACHED_FOR) if self.why_shut else 0

    def ask_why_shut(self, topology: Topology, why_shut: WhyShut) -> None:
        """Note why the holders cannot be made to forget where the volume was, if it has several."""
        volume_id = self.replica.volume_id
        if self.replica.placement.copies > 1:
            holders = [other.server for other in topology.replicas(volume_id)]
            self.why_shut = why_shut(volume_id, [*holders, self.target.address])


def passed_over(replica: Replica, reason: str, key: str) -> Skipped:
    """Say that a replica does not move, and why."""
    return Skipped(
        replica.volume_id, stays(replica, reason), key, replica.collection, str(replica.server), replica.size
    )


def proposal_of(
    job_type: str,
    move: PlannedMove,
    summary: str,
    values: Values,
    now_ns: int,
    *,
    priority: str = NORMAL,
    prefix: str = "",
    parameters: Mapping[str, Value] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Proposal:
    """The proposal of one move, which `summary` says; order_of() reads it. For the rest see proposal.of_volume()."""
    replica, target = move.replica, move.target
    refuse = values.whole(late_writes.NAME)
    late = late_writes.words([replica], refuse, now_ns / 1e9)
    params = TaskParams(
        task_id=f"{job_type}_vol_{replica.volume_id}_{now_ns}",
        volume_id=replica.volume_id,
        collection=replica.collection,
        volume_size=replica.size,
        sources=[proposal.source(replica)],
        targets=[proposal.target(target, replica.volume_id, replica.size)],
        balance_params=BalanceTaskParams(
            timeout_seconds=TIMEOUT_SECONDS, io_byte_per_second=values.whole("io_byte_per_second")
        ),
    )
    return proposal.of_volume(
        job_type,
        params,
        summary + (f"; it {late}" if late else ""),
        proposal.seconds_for(job_type, replica.size) + move.shut_for,
        replica.size,
        detail=f"{size_text(replica.size)}, {plain_type(replica.disk_type)}",
        priority=priority,
        prefix=prefix,
        parameters={
            "source_server": str(replica.server),
            "target_server": str(target.address),
            **(parameters or {}),
        },
        labels={"source_node": replica.node.id, "target_node": target.id, **(labels or {})},
        why_shut=move.why_shut,
        waits=max(move.shut_for, refuse if late else 0),
    )


def move_one(ctx: Context, order: MoveOrder) -> Result:
    """Make one move; TaskError says what is left where it was. Running it again finishes it."""
    with hold(ctx, order.volume_id) as lease:
        moved = move_volume(ctx, order, lease=lease)
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


def order_of(job: Job, topology: Topology | None, disk_type: str = "") -> MoveOrder:
    """Read the one move that a job's typed parameters name; BadTask where they name none."""
    volume_id, params = volume_id_of(job), job.params
    if len(params.sources) != 1 or len(params.targets) != 1:
        raise BadTask(f"volume {volume_id} cannot be moved: the job has to name one source and one target server")
    typed = params.balance_params
    return MoveOrder(
        volume_id,
        server_named(params.sources[0].node, topology),
        server_named(params.targets[0].node, topology),
        collection_of(job),
        disk_type=disk_type,
        io_bytes_per_second=typed.io_byte_per_second or as_int(job.config.get("io_byte_per_second"), 0, 0),
        timeout=typed.timeout_seconds,
        refuse=late_writes.seconds_of(job),
    )
