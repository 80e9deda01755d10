"""What lies on servers and disks that are to be emptied, and where each volume and shard of it goes.

Looks only. The whole of it is planned before anything begins: what nothing can take stops all of it, unless the
operator says that a part will do.
"""

from __future__ import annotations

import time
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from proto_gen.worker_pb2 import EcBalanceTaskParams, EcShardMoveSpec, TaskParams
from weed_cluster.address import Address
from weed_cluster.placement import Beside, Rack, Reserved, no_room
from weed_cluster.replica_placement import ReplicaPlacement, plain_type
from weed_cluster.topology import EcHolding, Node, Replica, Topology, snapshot
from weed_core.errors import ConfigError
from weed_core.model import Descriptor, Detection, DetectionRequest, Field, Proposal, Runtime, Skipped, Values
from weed_core.text import size_text
from weed_ec.placement import crowded
from weed_ec.places import Places
from weed_ec.shard_move import refused_shards, too_old, why_refused
from weed_safety import forget, late_writes
from weed_safety.alike import know_builds
from weed_safety.context import Context
from weed_safety.move import why_unmovable
from weed_safety.readiness import Answers, settle
from weed_safety.untold import KEY, closed_disks, why_untold
from weed_tasks import forms, proposal
from weed_tasks.evacuate.leaving import Leaving
from weed_tasks.moving import TIMEOUT_SECONDS, PlannedMove, WhyShut, nothing_shut, passed_over, proposal_of

NODES, DISKS, PARTIAL = "nodes", "disks", "allow_partial"

DESCRIPTOR = Descriptor(
    name="evacuate",
    job_type="evacuate",
    display_name="Evacuate Servers and Disks",
    description="Empties volume servers or single disks, so that they may be taken away",
    icon="fas fa-people-carry",
    fields=(
        Field(
            NODES,
            "Servers to empty",
            "string",
            "",
            "Volume servers (host:port), separated by commas. Empty for none: then nothing is moved.",
            placeholder="10.0.0.1:8080",
            scope="admin",
            section=forms.SCOPE,
        ),
        Field(
            DISKS,
            "Disks to empty",
            "string",
            "",
            "Single disks (host:port#disk id), separated by commas; the ids count a server's -dir from 0 on. Empty for "
            "none.",
            placeholder="10.0.0.1:8080#2",
            scope="admin",
            section=forms.SCOPE,
        ),
        Field(
            PARTIAL,
            "Begin although not all can go",
            "bool",
            False,
            "Move what can be moved although some of it has nowhere to go; else nothing is begun that cannot end.",
            section=forms.SAFETY,
        ),
        late_writes.FIELD,
        forms.RATE,
    ),
    runtime=Runtime(
        detection_interval_minutes=5,
        detection_timeout_seconds=120,
        max_jobs_per_detection=500,
        global_execution_concurrency=16,
        per_worker_execution_concurrency=4,
        retry_limit=1,
        retry_backoff_seconds=30,
        job_type_max_runtime_seconds=1800,
        execution_timeout_seconds=1800,
    ),
    weight=70,
)

STUCK = "nowhere to go"
"""The key of what stops an evacuation: nothing can take it, whatever the time."""

LATER = "later"


@dataclass
class ShardsMove:
    """Shards of one volume that leave: each with the holding it is of, where it goes, and its bytes."""

    volume_id: int
    collection: str
    each: list[tuple[int, EcHolding, Node, int, int]] = field(default_factory=list)  # shard, from, to, disk id, bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(size for *_places, size in self.each)


@dataclass
class Evacuation:
    """The whole plan. `seen` counts volumes and erasure-coded volumes that have something on what leaves."""

    moves: list[PlannedMove] = field(default_factory=list)
    shards: list[ShardsMove] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    seen: int = 0

    @property
    def stuck(self) -> list[Skipped]:
        """What has nowhere to go."""
        return [skip for skip in self.skipped if skip.key == STUCK]


def detect(request: DetectionRequest, ctx: Context) -> Detection:
    """Plan what leaves; where nothing is left, look once more and say so.

    ConfigError where a person names none, or a server or disk that there is not.
    """
    values = Values(DESCRIPTOR, request.config)
    nodes, disks = values.texts(NODES), values.texts(DISKS)
    if request.is_single and not (nodes or disks):
        raise ConfigError("evacuate empties the servers that are named: -node=host:port, -disk=0 for one disk")
    topology = ctx.topology()
    leaving, unknown = Leaving.read(nodes, disks, topology)
    if unknown and request.is_single:
        raise ConfigError(unknown[0])
    # In an admin's form names stay when their servers are long gone; that is no failure of each later look.
    gone = "".join(f"; {words}" for words in unknown)
    if not leaving:
        return Detection([], summary=f"no server and no disk is named that there is: set {NODES} or {DISKS}{gone}")
    topology, why_shut = know_builds(ctx, topology), forget.asker(ctx)
    found = settle(
        ctx,
        request,
        topology,
        DESCRIPTOR.name,
        lambda: plan(request, topology, leaving, why_shut),
        _objection,
    )
    return replace(found, summary=(found.summary if found.seen else _empty(ctx, leaving, topology)) + gone)


def plan(
    request: DetectionRequest,
    topology: Topology,
    leaving: Leaving,
    why_shut: WhyShut = nothing_shut,
) -> Detection:
    """Choose from a topology where everything goes; nothing, where some of it cannot and a part will not do."""
    values = Values(DESCRIPTOR, request.config)
    whole = _Planner(topology, leaving).plan()
    name = leaving.text(topology)
    stuck = whole.stuck
    if stuck and not values.flag(PARTIAL):
        summary = (
            f"{name} cannot be emptied, and nothing is begun: {len(stuck)} of {whole.seen} volumes have nowhere to go "
            f"({stuck[0].reason}); {PARTIAL} moves the others"
        )
        return Detection([], whole.skipped, False, whole.seen, summary)
    now_ns = time.time_ns()
    wanted = [move for move in whole.moves if request.volume_id in (0, move.replica.volume_id)]
    coded = [move for move in whole.shards if request.volume_id in (0, move.volume_id)]
    most = request.max_results or len(wanted) + len(coded)
    for move in wanted[:most]:
        move.ask_why_shut(topology, why_shut)
    proposals = [_of_volume(move, values, now_ns) for move in wanted[:most]]
    proposals += [_of_shards(move, values, now_ns) for move in coded[: most - len(proposals)]]
    size = sum(move.replica.size for move in whole.moves) + sum(move.size for move in whole.shards)
    count = sum(len(move.each) for move in whole.shards)
    summary = f"{name}: {len(whole.moves)} volumes and {count} shards are to go, {size_text(size)}" + "".join(
        f", {number} {key}" for key, number in Counter(skip.key for skip in whole.skipped).most_common()
    )
    return Detection(proposals, whole.skipped, len(wanted) + len(coded) > most, whole.seen, summary)


_Place = tuple[float, str]
"""How full a server is, and its node id."""


class _Planner:
    """Finds a place for everything, volume after volume; each place is promised once."""

    def __init__(self, topology: Topology, leaving: Leaving) -> None:
        self._topology = topology
        self._leaving = leaving
        self._reserved = Reserved()
        self._closed = closed_disks(topology)
        self._spared = {node.id for node in topology.nodes.values() if leaving.touches(node)}
        self._places = Places(topology, self._spared)
        self._racks: dict[str, list[list[_Place]]] = {}  # by disk type
        self._known: dict[tuple[ReplicaPlacement, tuple[Rack, ...]], dict[Rack, str]] = {}
        self._found = Evacuation()

    def plan(self) -> Evacuation:
        """Place all of it."""
        for volume_id in sorted(self._topology.volumes, key=self._topology.turn):
            replicas = self._topology.volumes[volume_id]
            ours = [one for one in replicas if self._leaving.has(one.node, one.disk_id)]
            if ours:
                self._found.seen += 1
                self._place_volume(ours, replicas)
        for volume_id, collection in sorted(self._topology.ec, key=lambda key: (self._topology.turn(key[0]), key[1])):
            holdings = self._topology.ec[volume_id, collection]
            if any(self._leaving.has(one.node, one.disk_id) for one in holdings):
                self._found.seen += 1
                self._place_shards(volume_id, collection, holdings)
        return self._found

    # ---- volumes

    def _place_volume(self, ours: Sequence[Replica], replicas: Sequence[Replica]) -> None:
        """Move one replica of a volume in a round: another one goes when this one has arrived."""
        replica = ours[0]
        if ambiguity := self._topology.ambiguity(replica.volume_id):
            self._skip(replica, f"it {ambiguity}", STUCK)
        elif replica.remote_name:
            self._skip(replica, "its data is in remote storage; moving such volumes is not supported", STUCK)
        elif reason := why_unmovable(replica, self._topology):
            self._skip(replica, reason, LATER)
        elif untold := why_untold(replicas, self._closed):
            self._skip(replica, f"it {untold}", KEY)
        else:
            targets = [self._target(one) for one in ours]
            missing = next((one for one in targets if isinstance(one, str)), "")
            if missing:
                self._skip(replica, missing, STUCK)
            elif isinstance(targets[0], Node):
                self._found.moves.append(PlannedMove(replica, targets[0]))

    def _target(self, replica: Replica) -> Node | str:
        """The emptiest server that may take a replica, which is promised the place; or why there is none."""
        others = [one.node for one in self._topology.replicas(replica.volume_id) if one is not replica]
        beside = Beside(replica.placement, replica.node, others, self._known)
        reasons: Counter[str] = Counter()
        best: list[_Place] = []
        # Of the same machine as another copy only where there is no other.
        for shares_host in (False, True):
            for rack in sorted(self._racks_of(replica.disk_type), key=lambda rack: rack[0]):
                if best and best[0] <= rack[0]:
                    break
                found = self._first_fit(rack, replica, beside, shares_host, reasons)
                best = sorted([*best, found])[:1] if found else best
            if best:
                break
        if not best:
            told = "; ".join(reason for reason, _count in reasons.most_common(3)) or "there is no other server"
            return f"no server may take it: {told}"
        chosen = self._topology.nodes[best[0][1]]
        self._reserved.add(chosen, replica.disk_type, replica.size)
        rack = next(rack for rack in self._racks_of(replica.disk_type) if best[0] in rack)
        rack.remove(best[0])
        insort(rack, (self._fill(chosen, replica.disk_type), chosen.id))
        return chosen

    def _first_fit(
        self, rack: list[_Place], replica: Replica, beside: Beside, shares_host: bool, reasons: Counter[str]
    ) -> _Place | None:
        """The emptiest server of a rack that may take a replica; None where none may, with the reasons."""
        for place in rack:
            node = self._topology.nodes[place[1]]
            if beside.shares_host(node) != shares_host:
                continue
            if reason := beside.why_not_move(node):
                reasons[reason] += 1
                if not shares_host:  # then it is so for the whole rack
                    return None
            elif reason := no_room(node, replica.disk_type, replica.size, self._reserved) or self._topology.unlike(
                replica.node, node
            ):
                reasons[reason] += 1
            else:
                return place
        return None

    def _racks_of(self, disk_type: str) -> list[list[_Place]]:
        """The servers of each rack that may be sent something, the emptiest first."""
        kind = plain_type(disk_type)
        if kind not in self._racks:
            racks: dict[tuple[str, str], list[_Place]] = {}
            for node in self._topology.nodes.values():
                if node.id not in self._spared and not node.closed:
                    racks.setdefault((node.data_center, node.rack), []).append((self._fill(node, kind), node.id))
            self._racks[kind] = [sorted(places) for places in racks.values()]
        return self._racks[kind]

    def _fill(self, node: Node, disk_type: str) -> float:
        disk = node.disk(disk_type)
        if disk is None or not disk.max_volume_count:
            return 1.0
        free = disk.free_slots - self._reserved.slots(node, disk_type)
        return 1.0 - free / disk.max_volume_count

    def _skip(self, replica: Replica, reason: str, key: str) -> None:
        self._found.skipped.append(passed_over(replica, reason, key))

    # ---- shards

    def _place_shards(self, volume_id: int, collection: str, holdings: Sequence[EcHolding]) -> None:
        if reason := why_refused(self._topology, volume_id, collection):
            key = STUCK if self._topology.ambiguity(volume_id) else LATER
            self._found.skipped.append(Skipped(volume_id, reason, key, collection))
            return
        if closed := next((one.node.closed for one in holdings if one.node.closed), ""):
            self._found.skipped.append(Skipped(volume_id, refused_shards(volume_id, closed), LATER, collection))
            return
        ours = [one for one in holdings if self._leaving.has(one.node, one.disk_id)]
        stay: dict[int, list[Node]] = {}
        for holding in holdings:
            if holding not in ours:
                for shard in holding.shard_ids:
                    stay.setdefault(shard, []).append(holding.node)
        move = ShardsMove(volume_id, collection)
        sizes = {shard: size for holding in holdings for shard, size in holding.sizes.items()}
        size = max(sizes.values(), default=0)
        going = {shard: holding for holding in ours for shard in holding.shard_ids}
        alone = [shard for shard in going if shard not in stay]
        places, trouble = self._places.choose(stay, alone, size, ours[0].disk_type)
        before = crowded(holding.node.host for holding in holdings for _shard in holding.shard_ids)
        if len(places) < len(alone) or (trouble and not before):
            self._places.take_back(places.values(), size)
            words = refused_shards(volume_id, trouble)
            self._found.skipped.append(Skipped(volume_id, words, STUCK, collection, str(ours[0].server), size))
            return
        for shard, holding in sorted(going.items()):
            if shard in places:
                node = self._topology.node_at(places[shard].server)
                assert node is not None
                move.each.append((shard, holding, node, places[shard].disk_id, sizes.get(shard, size)))
            else:  # another server has it, too: it is compared, and goes
                move.each.append((shard, holding, stay[shard][0], 0, 0))
        self._found.shards.append(move)


# ---- proposals


def _of_volume(move: PlannedMove, values: Values, now_ns: int) -> Proposal:
    replica = move.replica
    return proposal_of(
        DESCRIPTOR.name,
        move,
        f"Move volume {replica.volume_id} away from {replica.node} to {move.target}",
        values,
        now_ns,
        parameters={late_writes.NAME: values.whole(late_writes.NAME)},
    )


def _of_shards(move: ShardsMove, values: Values, now_ns: int) -> Proposal:
    seconds = proposal.seconds_for(DESCRIPTOR.name, move.size) + 60 * len(move.each)
    rate = values.whole("io_byte_per_second")
    params = TaskParams(
        task_id=f"evacuate_ec_{move.volume_id}_{now_ns}",
        volume_id=move.volume_id,
        collection=move.collection,
        volume_size=move.size,
        ec_balance_params=EcBalanceTaskParams(
            timeout_seconds=max(TIMEOUT_SECONDS, seconds),
            io_byte_per_second=rate,
            moves=[
                EcShardMoveSpec(
                    volume_id=move.volume_id,
                    shard_id=shard,
                    collection=move.collection,
                    source_node=str(holding.server),
                    source_disk_id=holding.disk_id,
                    target_node=str(target.address),
                    target_disk_id=disk_id,
                )
                for shard, holding, target, disk_id, _size in move.each
            ],
        ),
    )
    shards = ", ".join(str(shard) for shard, *_rest in move.each)
    sources = ", ".join(dict.fromkeys(str(holding.node) for _shard, holding, *_rest in move.each))
    return proposal.of_volume(
        DESCRIPTOR.name,
        params,
        f"Move shards {shards} of volume {move.volume_id} away from {sources}",
        seconds,
        move.size,
        detail=", ".join(f"{shard} to {target}" for shard, _holding, target, *_rest in move.each),
        prefix="evacuate_ec",
        parameters={"source_server": sources},
    )


def _objection(one: Proposal, answers: Answers) -> str:
    """What the release of its servers has against a proposal that moves shards."""
    for spec in one.params.ec_balance_params.moves:
        for server in (Address.parse(spec.source_node), Address.parse(spec.target_node)):
            if server in answers and (reason := too_old(server, answers[server].generation)):
                return refused_shards(one.params.volume_id, reason)
    return ""


# ---- the end


def _empty(ctx: Context, leaving: Leaving, topology: Topology) -> str:
    """Look once more, and say that they may go; or that something has come meanwhile."""
    name = leaving.text(topology)
    ctx.wait(ctx.options.look_again_seconds)
    now = snapshot(ctx.master())
    came = [one for replicas in now.volumes.values() for one in replicas if leaving.has(one.node, one.disk_id)]
    shards = [one for held in now.ec.values() for one in held if leaving.has(one.node, one.disk_id)]
    if came or shards:
        return f"{name} was empty, and has got {len(came) + len(shards)} volumes since; they follow at the next look"
    return f"{name}: empty, may be stopped{_unseen(ctx, leaving.servers(now))}"


def _unseen(ctx: Context, servers: Iterable[Address]) -> str:
    """What no server tells, and where to look for it."""
    places = []
    for server in servers:
        status = ctx.volume(server).volume_server_status()
        places.append(f"{', '.join(disk.dir for disk in status.disk_statuses) or 'its directories'} on {server}")
    return (
        "; files that a server has not mounted (set aside after errors, or of no volume) are not seen from here, so "
        f"look into {'; '.join(places)} before a disk is wiped"
    )
