"""Finding moves that level the servers. Looks only; knows nothing of how a volume is moved.

Compares servers by how much of their volume slots is in use, disk type by disk type, and prefers volumes that nobody
writes to: read-only ones first, then full, then cold.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from proto_gen import worker_pb2
from weed_cluster.placement import Beside, Rack, Reserved, no_room
from weed_cluster.replica_placement import ReplicaPlacement, plain_type
from weed_cluster.topology import Node, Replica, Topology
from weed_core.errors import ConfigError
from weed_core.model import Descriptor, Detection, DetectionRequest, Field, Proposal, Runtime, Skipped, Values
from weed_core.text import some
from weed_safety import forget, late_writes
from weed_safety.alike import know_builds
from weed_safety.context import Context
from weed_safety.move import stays, why_unmovable
from weed_safety.readiness import settle
from weed_safety.untold import KEY, closed_disks, why_untold
from weed_tasks import forms, proposal
from weed_tasks.balance.scale import Scale
from weed_tasks.moving import TIMEOUT_SECONDS, PlannedMove, WhyShut, nothing_shut, passed_over, proposal_of
from weed_tasks.scope import FULL_FROM, node_scope, scope_of

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
        *forms.WHICH,
        forms.IMBALANCE,
        forms.FEWEST_SERVERS,
        late_writes.FIELD,
        forms.RATE,
        Field(
            "max_concurrent_moves",
            "Concurrent moves",
            "int",
            CONCURRENT,
            "Moves of one batch at a time; of these, two per server.",
            minimum=1,
            maximum=MOST_CONCURRENT,
            section=forms.LIMITS,
        ),
        Field(
            "batch_size",
            "Batch size",
            "int",
            20,
            "Moves in one job; 1 for a job of its own for each.",
            minimum=1,
            maximum=MOST_MOVES,
            section=forms.LIMITS,
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


# ---- detection ----------------------------------------------------------------------------------------------------


def detect(request: DetectionRequest, ctx: Context) -> Detection:
    """Find moves that level the servers; changes nothing."""
    topology, why_shut = know_builds(ctx, ctx.topology()), forget.asker(ctx)
    make = by_hand if request.target else plan
    return settle(ctx, request, topology, DESCRIPTOR.name, lambda: make(request, topology, why_shut=why_shut))


def plan(
    request: DetectionRequest,
    topology: Topology,
    now_ns: int = 0,
    why_shut: WhyShut = nothing_shut,
) -> Detection:
    """Choose moves from a topology, and say of each disk type how level it is. ConfigError for bad filters."""
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
        move.ask_why_shut(topology, why_shut)
    proposals = _proposals(planner.moves, values, now_ns or time.time_ns())
    summary = "; ".join([*planner.verdicts, *planner.passed_over]) or "no volumes to balance"
    return Detection(proposals, planner.skipped, planner.truncated, len(topology.volumes), summary)


def by_hand(
    request: DetectionRequest,
    topology: Topology,
    now_ns: int = 0,
    why_shut: WhyShut = nothing_shut,
) -> Detection:
    """Propose the one move that a person asks for, from the fullest holder, or say what is against it.

    ConfigError where there is no such server. Whether the servers are level is no matter; all else is.
    """
    values = Values(DESCRIPTOR, request.config)
    target = next((node for node in topology.nodes.values() if str(node.address) == request.target), None)
    if target is None:
        there = ", ".join(sorted(str(node.address) for node in topology.nodes.values()))
        raise ConfigError(f"-to={request.target}: there is no such volume server; there are {there}")
    replicas = topology.replicas(request.volume_id)
    if not replicas:
        return Detection([], summary=f"volume {request.volume_id} is not there, or is erasure-coded")
    planner = _Planner(topology, list(topology.nodes.values()), values, 0, set())
    refused: dict[str, Replica] = {}
    for replica in sorted(replicas, key=lambda replica: -_fullness(replica)):
        reason = planner.why_not(replica, target)
        if not reason:
            move = PlannedMove(replica, target)
            move.ask_why_shut(topology, why_shut)
            return Detection([_single(move, values, now_ns or time.time_ns())], seen=len(topology.volumes))
        refused.setdefault(reason, replica)
    skipped = [
        Skipped(request.volume_id, stays(replica, reason), "no target", replica.collection, str(replica.node))
        for reason, replica in refused.items()
    ]
    return Detection([], skipped, seen=len(topology.volumes), summary=f"it cannot move to {target}")


def _fullness(replica: Replica) -> float:
    disk = replica.node.disk(replica.disk_type)
    return disk.volume_count / disk.max_volume_count if disk and disk.max_volume_count else 0.0


class _Planner:
    """Moves planned in one detection, over all disk types and collections: they share slots and bytes."""

    def __init__(self, topology: Topology, nodes: Sequence[Node], values: Values, most: int, barred: set[int]) -> None:
        self.moves: list[PlannedMove] = []
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
        self._by_racks: dict[tuple[ReplicaPlacement, tuple[Rack, ...]], dict[Rack, str]] = {}
        self._unlike: dict[str, str] = {}

    @property
    def passed_over(self) -> list[str]:
        """The servers that may take nothing of others, and why."""
        return list(self._unlike.values())

    def level(self, disk_type: str, replicas: Sequence[Replica]) -> None:
        """Plan moves between the servers that have disks of one type, until they are level or nothing can move."""
        nodes = [node for node in self._nodes if node.disk(disk_type)]
        if len(nodes) < self._min_servers or len(replicas) < 2:
            self.verdicts.append(f"{disk_type}: {len(nodes)} servers and {len(replicas)} volumes, nothing to level")
            return
        candidates: dict[str, list[Replica]] = {node.id: [] for node in nodes}
        for replica in replicas:
            candidates[replica.node.id].append(replica)
        scale = Scale(disk_type, nodes, {node_id: len(held) for node_id, held in candidates.items()}, self._reserved)
        queues = _Queues(candidates, self._disturbance)
        before = len(self.moves)
        while (source := scale.fullest) is not None and scale.imbalance(source) > self._threshold:
            if self._most and len(self.moves) >= self._most:
                self.truncated = True
                break
            move = self._next(source, scale, queues[source], disk_type)
            if move is None:
                scale.exhaust(source)
                continue
            self.moves.append(move)
            self._taken.add(move.replica.volume_id)
            scale.moved(source, move.target, move.replica.size)
        self.verdicts.append(
            f"{disk_type}: {len(self.moves) - before} moves planned among {len(nodes)} servers, imbalance then "
            f"{scale.imbalance():.2f}, threshold {self._threshold:.2f}"
        )

    def _pass_over(self, source: Node, target: Node) -> str:
        """Say why a server takes nothing of another one, and note it, once for each target; "" where it may."""
        reason = self._topology.unlike(source, target)
        if reason:
            self._unlike.setdefault(target.id, f"{target} takes nothing: {reason}")
        return reason

    def _next(self, source: Node, scale: Scale, waiting: list[Replica], disk_type: str) -> PlannedMove | None:
        """Take the next volume off a server that some target may hold; report those that none may."""

        if all(self._pass_over(source, node) for node in scale.targets(source)):
            self._note_no_target(scale, waiting)
            return None
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
            target, reasons = self._target(replica, scale.targets(source), disk_type)
            if target is not None:
                return PlannedMove(replica, target)
            self._skip(replica, some(reasons), "no target")
        return None

    def why_not(self, replica: Replica, target: Node) -> str:
        """Say why one replica may not go to one server; "" where it may."""
        replicas = self._topology.replicas(replica.volume_id)
        if any(other.node == target for other in replicas):
            return f"{target} has it already"
        untold = why_untold(replicas, self._closed)
        return (
            why_unmovable(replica, self._topology)
            or (f"it {untold}" if untold else "")
            or self._why_not_there(self._beside(replica), replica, target, plain_type(replica.disk_type))
        )

    def _beside(self, replica: Replica) -> Beside:
        others = [other.node for other in self._topology.replicas(replica.volume_id) if other is not replica]
        return Beside(replica.placement, replica.node, others, self._by_racks)

    def _why_not_there(self, beside: Beside, replica: Replica, target: Node, disk_type: str) -> str:
        return (
            beside.why_not_move(target)
            or self._pass_over(replica.node, target)
            or no_room(target, disk_type, replica.size, self._reserved)
        )

    def _target(self, replica: Replica, targets: Iterator[Node], disk_type: str) -> tuple[Node | None, list[str]]:
        """The first target that may hold a replica, another machine if there is one; or why each may not."""
        beside, same_host = self._beside(replica), None
        reasons: dict[str, None] = {}
        for target in targets:
            if reason := self._why_not_there(beside, replica, target, disk_type):
                reasons[reason] = None
            elif not beside.shares_host(target):
                return target, []
            else:
                same_host = same_host or target
        return same_host, list(reasons)

    def _note_no_target(self, scale: Scale, waiting: list[Replica]) -> None:
        """Report, for the one that would have gone first, why no server may take a volume."""
        replica = next((replica for replica in reversed(waiting) if replica.volume_id not in self._taken), None)
        if replica is not None and scale.full:
            why = why_unmovable(replica, self._topology) or some(list(dict.fromkeys(scale.full.values())))
            self._skip(replica, why, "no target")

    def _skip(self, replica: Replica, reason: str, key: str) -> None:
        self.skipped.append(passed_over(replica, reason, key))

    def _disturbance(self, replica: Replica) -> tuple[bool, bool, int, int]:
        """Order volumes by how much their clients would notice a move: full, cold ones first, what failed last."""
        limit = self._topology.volume_size_limit
        return (
            replica.volume_id in self._topology.late,
            not (limit and replica.size >= FULL_FROM * limit),
            replica.modified_at,
            replica.volume_id,
        )


class _Queues:
    """The volumes of each server, those whose move would be noticed least at the end; ordered once asked for."""

    def __init__(self, held: dict[str, list[Replica]], disturbance: Callable[[Replica], tuple[bool, bool, int, int]]):
        self._held = held
        self._disturbance = disturbance
        self._ordered: set[str] = set()

    def __getitem__(self, node: Node) -> list[Replica]:
        waiting = self._held[node.id]
        if node.id not in self._ordered:
            self._ordered.add(node.id)
            waiting.sort(key=self._disturbance, reverse=True)
        return waiting


def _proposals(moves: Sequence[PlannedMove], values: Values, now_ns: int) -> list[Proposal]:
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


def _key(move: PlannedMove) -> str:
    return proposal.key_of(DESCRIPTOR.job_type, move.replica.volume_id, move.replica.collection)


def _single(move: PlannedMove, values: Values, now_ns: int) -> Proposal:
    replica, target = move.replica, move.target
    return proposal_of(
        DESCRIPTOR.name,
        move,
        f"Move volume {replica.volume_id} from {replica.node} to {target}",
        values,
        now_ns,
        prefix=DESCRIPTOR.job_type,
        labels={"source_server": str(replica.server), "target_server": str(target.address)},
    )


def _batch(moves: Sequence[PlannedMove], values: Values, now_ns: int, start: int) -> Proposal:
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
        waits=max(*(move.shut_for for move in moves), refuse if late else 0),
        shut={move.replica.volume_id: move.why_shut for move in moves if move.why_shut},
    )
