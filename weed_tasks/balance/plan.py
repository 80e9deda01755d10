"""Finding moves that level the servers. Looks only; knows nothing of how a volume is moved.

Compares servers by how much of their volume slots is in use, disk type by disk type, and prefers volumes that nobody
writes to: read-only ones first, then full, then cold.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proto_gen import worker_pb2
from weed_cluster.address import Address
from weed_cluster.placement import Reserved, no_room
from weed_cluster.replica_placement import plain_type
from weed_cluster.topology import Node, Replica, Topology
from weed_core.model import Descriptor, Detection, DetectionRequest, Field, Proposal, Runtime, Skipped, Values
from weed_safety import forget, late_writes, location_cache
from weed_safety.alike import know_builds
from weed_safety.context import Context
from weed_safety.move import stays, why_not_there, why_unmovable
from weed_safety.readiness import settle
from weed_safety.untold import KEY, closed_disks, why_untold
from weed_tasks import proposal
from weed_tasks.scope import FULL_FROM, SCOPE, node_scope, scope_of

MOST_MOVES = 100
MOST_CONCURRENT = 50
CONCURRENT = 5

DESCRIPTOR = Descriptor(
    name="balance",
    job_type="volume_balance",
    display_name="Volume Balance",
    description="Moves volumes from full servers to emptier ones",
    icon="fas fa-balance-scale",
    fields=(
        *SCOPE,
        Field(
            "imbalance_threshold",
            "Imbalance threshold",
            "double",
            0.2,
            "Difference between the fullest and the emptiest server, by their mean, from which on volumes move.",
            minimum=0.0,
            maximum=1.0,
            required=True,
        ),
        Field(
            "min_server_count",
            "Minimum servers",
            "int",
            2,
            "Fewer servers than this are not balanced.",
            minimum=2,
            required=True,
        ),
        late_writes.FIELD,
        Field(
            "io_byte_per_second",
            "Bytes per second",
            "int",
            0,
            "Rate of each copy; 0 for the server's own limit.",
            minimum=0,
            section="Execution",
        ),
        Field(
            "max_concurrent_moves",
            "Concurrent moves",
            "int",
            CONCURRENT,
            "Moves of one batch at a time; of these, two per server.",
            minimum=1,
            maximum=MOST_CONCURRENT,
            section="Execution",
        ),
        Field(
            "batch_size",
            "Batch size",
            "int",
            20,
            "Moves in one job; 1 for a job of its own for each.",
            minimum=1,
            maximum=MOST_MOVES,
            section="Execution",
        ),
    ),
    runtime=Runtime(
        detection_interval_minutes=30,
        detection_timeout_seconds=120,
        max_jobs_per_detection=100,
        global_execution_concurrency=16,
        per_worker_execution_concurrency=16,
        retry_limit=1,
        retry_backoff_seconds=15,
        job_type_max_runtime_seconds=1800,
        execution_timeout_seconds=1800,
    ),
    weight=50,
)

EACH_COLLECTION = "EACH_COLLECTION"

TIMEOUT_SECONDS = 600
"""What is written into the parameters of a job; moves take longer where a volume's size asks for it."""


# ---- detection ----------------------------------------------------------------------------------------------------


@dataclass
class _Move:
    replica: Replica
    target: Node
    why_shut: str = ""  # why the volume must refuse writes for a while after it

    @property
    def shut_for(self) -> int:
        """Seconds of that."""
        return int(location_cache.CACHED_FOR) if self.why_shut else 0


def detect(request: DetectionRequest, ctx: Context) -> Detection:
    """Find moves that level the servers; changes nothing."""
    topology, why_shut = know_builds(ctx, ctx.topology()), forget.asker(ctx)
    return settle(ctx, request, topology, DESCRIPTOR.name, lambda: plan(request, topology, why_shut=why_shut))


def plan(
    request: DetectionRequest,
    topology: Topology,
    now_ns: int = 0,
    why_shut: Callable[[int, list[Address]], str] = lambda _volume_id, _servers: "",
) -> Detection:
    """Choose moves from a topology, and say of each disk type how level it is. ConfigError for bad filters.

    `why_shut` says why these servers cannot be made to forget where a volume's replicas are, "" where they can.
    """
    values = Values(DESCRIPTOR, request.config)
    in_scope = scope_of(values, topology)
    nodes = [node for node in topology.nodes.values() if node_scope(values)(node)]
    scoped = [
        replica
        for replicas in topology.volumes.values()
        for replica in replicas
        if in_scope(replica) and not replica.remote_name
    ]
    barred = set(topology.volumes) - {request.volume_id} if request.volume_id else set[int]()
    groups: list[list[Replica]] = [scoped]
    if values.text("collection_filter") == EACH_COLLECTION:
        by_collection: dict[str, list[Replica]] = defaultdict(list)
        for replica in scoped:
            by_collection[replica.collection].append(replica)
        groups = [by_collection[name] for name in sorted(by_collection)]
    planner = _Planner(topology, nodes, values, request.max_results, barred)
    for group in groups:
        for disk_type in sorted({plain_type(replica.disk_type) for replica in group}):
            planner.level(disk_type, [replica for replica in group if plain_type(replica.disk_type) == disk_type])
    for move in planner.moves:
        replica = move.replica
        if replica.placement.copies > 1:
            holders = [other.server for other in topology.replicas(replica.volume_id)]
            move.why_shut = why_shut(replica.volume_id, [*holders, move.target.address])
    proposals = _proposals(planner.moves, values, now_ns or time.time_ns())
    summary = "; ".join([*planner.verdicts, *planner.passed_over]) or "no volumes to balance"
    return Detection(proposals, planner.skipped, planner.truncated, len(topology.volumes), summary)


class _Planner:
    """Moves planned in one detection, over all disk types and collections: they share slots and bytes."""

    def __init__(self, topology: Topology, nodes: Sequence[Node], values: Values, most: int, barred: set[int]) -> None:
        self.moves: list[_Move] = []
        self.skipped: list[Skipped] = []
        self.verdicts: list[str] = []
        self.truncated = False
        self._topology = topology
        self._closed = closed_disks(topology)
        self._nodes = nodes
        self._threshold = values.number("imbalance_threshold")
        self._min_servers = values.whole("min_server_count")
        self._most = most
        self._taken = barred
        self._reserved = Reserved()
        self._unlike: dict[str, str] = {}

    @property
    def passed_over(self) -> list[str]:
        """The servers that may take nothing of others, and why."""
        return list(self._unlike.values())

    def level(self, disk_type: str, replicas: Sequence[Replica]) -> None:
        """Plan moves between the servers that have disks of one type, until they are level or nothing can move."""
        disks = {node.id: disk for node in self._nodes if (disk := node.disk(disk_type))}
        nodes = sorted((node for node in self._nodes if node.id in disks), key=lambda node: node.id)
        if len(nodes) < self._min_servers or len(replicas) < 2:
            self.verdicts.append(f"{disk_type}: {len(nodes)} servers and {len(replicas)} volumes, nothing to level")
            return
        counts = Counter({node.id: 0 for node in nodes})
        candidates: dict[str, list[Replica]] = defaultdict(list)
        for replica in replicas:
            counts[replica.node.id] += 1
            candidates[replica.node.id].append(replica)
        for waiting in candidates.values():
            waiting.sort(key=self._disturbance, reverse=True)  # taken from the end
        share = all(disk.max_volume_count > 0 for disk in disks.values())

        def use(node: Node, more: int = 0) -> float:
            count = counts[node.id] + more
            return count / disks[node.id].max_volume_count if share else float(count)

        exhausted: set[str] = set()
        planned = 0
        while True:
            sources = [node for node in nodes if node.id not in exhausted]
            source = max(sources, key=lambda node: (use(node), node.id), default=None)
            emptiest = min(nodes, key=lambda node: (use(node), node.id))
            spread = _imbalance(use(source), use(emptiest)) if source else 0.0
            if source is None or spread <= self._threshold:
                break
            if self._most and len(self.moves) >= self._most:
                self.truncated = True
                break
            targets = sorted(
                (
                    node
                    for node in nodes
                    if node is not source
                    and use(node, 1) <= use(source, -1)
                    and not no_room(node, disk_type, 0, self._reserved)
                    and not self._pass_over(source, node)
                ),
                key=lambda node: (use(node), node.id),
            )
            if not targets:
                self._note_no_target(source, nodes, candidates[source.id], disk_type)
            move = self._next(source, targets, candidates[source.id], disk_type) if targets else None
            if move is None:
                exhausted.add(source.id)
                continue
            self.moves.append(move)
            self._taken.add(move.replica.volume_id)
            self._reserved.add(move.target, disk_type, move.replica.size)
            counts[source.id] -= 1
            counts[move.target.id] += 1
            planned += 1
        uses = [use(node) for node in nodes]
        self.verdicts.append(
            f"{disk_type}: {planned} moves planned among {len(nodes)} servers, imbalance then "
            f"{_imbalance(max(uses), min(uses)):.2f}, threshold {self._threshold:.2f}"
        )

    def _pass_over(self, source: Node, target: Node) -> str:
        """Say why a server takes nothing of another one, and note it, once for each target; "" where it may."""
        reason = self._topology.unlike(source, target)
        if reason:
            self._unlike.setdefault(target.id, f"{target} takes nothing: {reason}")
        return reason

    def _next(self, source: Node, targets: Sequence[Node], waiting: list[Replica], disk_type: str) -> _Move | None:
        """Take the next volume off a server that some target may hold; report those that none may."""
        while waiting:
            replica = waiting.pop()
            if replica.volume_id in self._taken:
                continue
            if unmovable := why_unmovable(replica, self._topology):
                self._skip(replica, unmovable, "not movable")
                continue
            if untold := why_untold(self._topology.replicas(replica.volume_id), self._closed):
                self._skip(replica, f"it {untold}", KEY)
                continue
            hosts = {other.node.host for other in self._topology.replicas(replica.volume_id) if other is not replica}
            reasons = []
            for target in sorted(targets, key=lambda node: node.host in hosts):
                reason = why_not_there(replica, target, self._topology, disk_type, replica.size, self._reserved)
                if not reason:
                    return _Move(replica, target)
                reasons.append(reason)
            self._skip(replica, "; ".join(dict.fromkeys(reasons)), "no target")
        return None

    def _note_no_target(self, source: Node, nodes: Sequence[Node], waiting: list[Replica], disk_type: str) -> None:
        """Report, for the one that would have gone first, why no server may take a volume."""
        replica = next((replica for replica in reversed(waiting) if replica.volume_id not in self._taken), None)
        full = [no_room(node, disk_type, 0, self._reserved) for node in nodes if node is not source]
        reasons = [reason for reason in dict.fromkeys(full) if reason]
        if replica is not None and reasons:
            self._skip(replica, why_unmovable(replica, self._topology) or "; ".join(reasons), "no target")

    def _skip(self, replica: Replica, reason: str, key: str) -> None:
        self.skipped.append(
            Skipped(
                replica.volume_id,
                stays(replica, reason),
                key,
                replica.collection,
                str(replica.node),
                replica.size,
            )
        )

    def _disturbance(self, replica: Replica) -> tuple[bool, bool, int, int]:
        """Order volumes by how much their clients would notice a move: full, cold ones first, what failed last."""
        limit = self._topology.volume_size_limit
        return (
            replica.volume_id in self._topology.late,
            not (limit and replica.size >= FULL_FROM * limit),
            replica.modified_at,
            replica.volume_id,
        )


def _imbalance(most: float, least: float) -> float:
    """The difference between two servers, by their mean."""
    return 2 * (most - least) / (most + least) if most + least else 0.0


def _proposals(moves: Sequence[_Move], values: Values, now_ns: int) -> list[Proposal]:
    size = values.whole("batch_size")
    proposals = []
    for start in range(0, len(moves), size):
        chunk = moves[start : start + size]
        if len(chunk) == 1:
            proposals.append(_single(chunk[0], values, now_ns))
        else:
            proposals.append(_batch(chunk, values, now_ns, start))
    return proposals


def _seconds(replica: Replica) -> int:
    return proposal.seconds_for(DESCRIPTOR.name, replica.size)


def _key(move: _Move) -> str:
    return proposal.key_of(DESCRIPTOR.job_type, move.replica.volume_id, move.replica.collection)


def _single(move: _Move, values: Values, now_ns: int) -> Proposal:
    replica, target = move.replica, move.target
    source = replica.node
    seconds = _seconds(replica) + move.shut_for
    late = late_writes.words([replica], values.whole(late_writes.NAME), now_ns / 1e9)
    params = worker_pb2.TaskParams(
        task_id=f"balance_vol_{replica.volume_id}_{now_ns}",
        volume_id=replica.volume_id,
        collection=replica.collection,
        volume_size=replica.size,
        sources=[proposal.source(replica)],
        targets=[proposal.target(target, replica.volume_id, replica.size)],
        balance_params=worker_pb2.BalanceTaskParams(
            timeout_seconds=TIMEOUT_SECONDS, io_byte_per_second=values.whole("io_byte_per_second")
        ),
    )
    servers = {"source_server": str(source.address), "target_server": str(target.address)}
    return proposal.of_volume(
        DESCRIPTOR.name,
        params,
        f"Move volume {replica.volume_id} from {source} to {target}" + (f"; it {late}" if late else ""),
        seconds,
        replica.size,
        detail=f"{replica.size} bytes, {plain_type(replica.disk_type)}",
        prefix=DESCRIPTOR.job_type,
        parameters=dict(servers),
        labels={"source_node": source.id, "target_node": target.id, **servers},
        why_shut=move.why_shut,
    )


def _batch(moves: Sequence[_Move], values: Values, now_ns: int, start: int) -> Proposal:
    concurrent = values.whole("max_concurrent_moves")
    rounds = -(-len(moves) // concurrent)
    each = [_seconds(move.replica) for move in moves]
    seconds = max(*each, sum(each) // len(each) * rounds, 60 * rounds)
    seconds += max(move.shut_for for move in moves)
    keys = "+".join(sorted(_key(move) for move in moves))
    key = f"volume_balance_batch:{keys}"
    if len(key) > 200:
        key = f"volume_balance_batch:{start}-{hashlib.sha256(keys.encode()).digest()[:12].hex()}"
    name = f"balance_batch_{start}_{now_ns}"
    refuse = values.whole(late_writes.NAME)
    late = late_writes.words_for_many([move.replica for move in moves], refuse, now_ns / 1e9)
    params = worker_pb2.TaskParams(
        task_id=name,
        balance_params=worker_pb2.BalanceTaskParams(
            timeout_seconds=TIMEOUT_SECONDS,
            max_concurrent_moves=concurrent,
            io_byte_per_second=values.whole("io_byte_per_second"),
            moves=[
                worker_pb2.BalanceMoveSpec(
                    volume_id=move.replica.volume_id,
                    source_node=str(move.replica.server),
                    target_node=str(move.target.address),
                    collection=move.replica.collection,
                    volume_size=move.replica.size,
                )
                for move in moves
            ],
        ),
    )
    return Proposal(
        id=name,
        dedupe_key=key,
        summary=f"Move {len(moves)} volumes" + (f"; {late}" if late else ""),
        detail=", ".join(f"{move.replica.volume_id}: {move.replica.node} to {move.target}" for move in moves),
        params=params,
        parameters={"batch_size": len(moves), "estimated_runtime_seconds": seconds},
        labels={"task_type": "balance", "batch": "true", "batch_size": str(len(moves))},
        estimated_seconds=seconds,
        bytes_to_move=sum(move.replica.size for move in moves),
        shut={move.replica.volume_id: move.why_shut for move in moves if move.why_shut},
    )
