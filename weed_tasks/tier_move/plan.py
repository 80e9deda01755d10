"""Which volumes should move to disks of another type, and to which server. Looks only.

A server cannot move a volume between its own disks: it would delete its only copy first. So a volume goes to another
server; where only its own has room on such disks, it goes over another one and comes back at a later look.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from weed_cluster.placement import Reserved, no_room
from weed_cluster.replica_placement import plain_type
from weed_cluster.topology import Node, Replica, Topology, wildcard_filter
from weed_core.errors import ConfigError
from weed_core.model import LOW, Descriptor, Detection, DetectionRequest, Field, Proposal, Runtime, Skipped, Values
from weed_safety import forget, late_writes
from weed_safety.alike import know_builds
from weed_safety.context import Context
from weed_safety.move import why_not_there, why_unmovable
from weed_safety.readiness import settle
from weed_safety.untold import KEY, closed_disks, why_untold
from weed_tasks import forms
from weed_tasks.moving import PlannedMove, WhyShut, nothing_shut, passed_over, proposal_of
from weed_tasks.scope import scope_of, unfit

FROM, TO, CENTER = "from_disk_type", "to_disk_type", "to_data_center"

DESCRIPTOR = Descriptor(
    name="tier_move",
    job_type="tier_move",
    display_name="Move to Another Disk Type",
    description="Moves full, quiet volumes from one type of disk to another",
    icon="fas fa-layer-group",
    fields=(
        *forms.WHICH,
        Field(
            FROM,
            "From disk type",
            "string",
            "",
            "Volumes on disks of this type move: hdd, ssd or your own. Empty for none: then nothing is moved.",
            placeholder="ssd",
            scope="admin",
            section=forms.SCOPE,
        ),
        Field(
            TO,
            "To disk type",
            "string",
            "",
            "The type of disk that they move to. Empty for none: then nothing is moved.",
            placeholder="hdd",
            scope="admin",
            section=forms.SCOPE,
        ),
        forms.FULLNESS,
        replace(forms.QUIET, default=86400),
        Field(
            CENTER,
            "To data centers",
            "string",
            "",
            "Names with * and ?, separated by commas, of the data centers that they may move to. Empty for all.",
            placeholder="dc2",
            scope="admin",
            section=forms.PLACEMENT,
        ),
        late_writes.FIELD,
        forms.RATE,
    ),
    runtime=Runtime(
        detection_interval_minutes=60,
        detection_timeout_seconds=120,
        max_jobs_per_detection=100,
        global_execution_concurrency=8,
        per_worker_execution_concurrency=4,
        retry_limit=1,
        retry_backoff_seconds=30,
        job_type_max_runtime_seconds=1800,
        execution_timeout_seconds=1800,
    ),
    weight=40,
)


@dataclass
class _Move(PlannedMove):
    """A move to the target's disks of a type. `over`: from there it goes back to where it was."""

    disk_type: str = ""
    over: bool = False


def detect(request: DetectionRequest, ctx: Context) -> Detection:
    """Find the replicas on disks of the one type whose volumes are full and quiet; ConfigError for types alike."""
    values = Values(DESCRIPTOR, request.config)
    if not values.text(FROM) or not values.text(TO):
        return Detection([], summary=f"nothing is moved: set {FROM} and {TO}")
    if plain_type(values.text(FROM)) == plain_type(values.text(TO)):
        raise ConfigError(f"{FROM} and {TO} are both {plain_type(values.text(TO))}; name two types of disk")
    topology, why_shut = know_builds(ctx, ctx.topology()), forget.asker(ctx)
    return settle(ctx, request, topology, DESCRIPTOR.name, lambda: plan(request, topology, why_shut=why_shut))


def plan(
    request: DetectionRequest,
    topology: Topology,
    now: float | None = None,
    why_shut: WhyShut = nothing_shut,
) -> Detection:
    """Choose from a topology what moves, one replica of a volume at a time, and say of the others why not."""
    now = time.time() if now is None else now
    planner = _Planner(topology, Values(DESCRIPTOR, request.config), now)
    moves: list[_Move] = []
    skipped: list[Skipped] = []
    most = request.max_results or len(topology.volumes)
    has_more = False
    for found in planner.look(request.volume_id):
        if isinstance(found, Skipped):
            skipped.append(found)
        elif len(moves) < most:
            moves.append(found)
        else:
            has_more = True
            break
    for move in moves:
        move.ask_why_shut(topology, why_shut)
    values = planner.values
    summary = f"{len(moves)} volumes move from {values.text(FROM)} to {values.text(TO)}" + "".join(
        f", {count} {key}" for key, count in Counter(skip.key for skip in skipped).most_common()
    )
    proposals = [_proposal(move, values, int(now * 1e9)) for move in moves]
    return Detection(proposals, skipped, has_more, len(topology.volumes), summary)


class _Planner:
    """Looks at volume after volume, and promises each place once."""

    def __init__(self, topology: Topology, values: Values, now: float) -> None:
        self.values = values
        self._topology = topology
        self._now = now
        self._in_scope = scope_of(values, topology)
        self._accepts_center = wildcard_filter(values.text(CENTER))
        self._reserved = Reserved()
        self._closed = closed_disks(topology)
        self._from, self._to = plain_type(values.text(FROM)), plain_type(values.text(TO))

    def look(self, only: int) -> Iterator[_Move | Skipped]:
        """What is to be done with each volume that has a replica on the type of disk; `only` one volume, 0 for all."""
        for volume_id, replicas in sorted(
            self._topology.volumes.items(), key=lambda pair: self._topology.turn(pair[0])
        ):
            ours = [one for one in replicas if plain_type(one.disk_type) == self._from and self._in_scope(one)]
            if not ours or only not in (0, volume_id):
                continue
            reason, key = self._why_stays(ours[0], replicas)
            if reason:
                yield passed_over(ours[0], reason, key)
                continue
            found = self._place(ours[0])
            yield passed_over(ours[0], found, "without a place") if isinstance(found, str) else found

    def _why_stays(self, replica: Replica, replicas: Sequence[Replica]) -> tuple[str, str]:
        """Why a volume is not to move now, in words that follow its name and in a key."""
        limit = self._topology.volume_size_limit
        size = max(one.size for one in replicas)
        fullness = size / limit if limit else 0.0
        if fullness < self.values.number("fullness_ratio"):
            return f"it is {fullness:.0%} full, moved from {self.values.number('fullness_ratio'):.0%}", "not full"
        age, quiet = self._now - max(one.modified_at for one in replicas), self.values.whole("quiet_for_seconds")
        if age < quiet:
            return f"it was written to {max(0.0, age):.0f} s ago, less than {quiet} s", "written to lately"
        if replica.remote_name:
            return "its data is in remote storage", "remote"
        if reason := why_unmovable(replica, self._topology) or unfit(replicas, self._topology):
            return reason if reason.startswith("it ") else f"it {reason}", "unfit"
        if untold := why_untold(replicas, self._closed):
            return f"it {untold}", KEY
        return "", ""

    def _place(self, replica: Replica) -> _Move | str:
        """Where a replica goes; or why nowhere."""
        reasons: Counter[str] = Counter()
        nodes = [node for node in self._topology.nodes.values() if self._accepts_center(node.data_center)]
        others = [node for node in nodes if node is not replica.node]
        target = self._best(replica, others, self._to, reasons)
        if target is not None:
            return self._promised(_Move(replica, target, disk_type=self._to))
        if replica.node in nodes and not no_room(replica.node, self._to, replica.size, self._reserved):
            elsewhere = [node for node in self._topology.nodes.values() if node is not replica.node]
            between = self._best(replica, elsewhere, self._from, reasons)
            if between is not None:
                return self._promised(_Move(replica, between, disk_type=self._from, over=True))
        told = "; ".join(reason for reason, _count in reasons.most_common(3)) or "there is no other server"
        return f"no server may take it on {self._to}: {told}"

    def _promised(self, move: _Move) -> _Move:
        self._reserved.add(move.target, move.disk_type, move.replica.size)
        if move.over:
            self._reserved.add(move.replica.node, self._to, move.replica.size)
        return move

    def _best(self, replica: Replica, nodes: Sequence[Node], disk_type: str, reasons: Counter[str]) -> Node | None:
        """The relatively emptiest server that may take a replica on a type of disk."""
        best: tuple[float, str] | None = None
        chosen = None
        for node in nodes:
            reason = self._topology.unlike(replica.node, node) or why_not_there(
                replica, node, self._topology, disk_type, replica.size, self._reserved
            )
            disk = node.disk(disk_type)
            if reason or disk is None:
                reasons[reason] += 1
                continue
            free = disk.free_slots - self._reserved.slots(node, disk_type)
            rank = (-free / disk.max_volume_count, node.id)
            if best is None or rank < best:
                best, chosen = rank, node
        return chosen


def _proposal(move: _Move, values: Values, now_ns: int) -> Proposal:
    replica, target = move.replica, move.target
    kinds = f"{plain_type(replica.disk_type)} to {values.text(TO)}"
    way = f"over {target}, since only {replica.node} has room there" if move.over else f"to {target}"
    return proposal_of(
        DESCRIPTOR.name,
        move,
        f"Move volume {replica.volume_id} from {kinds}, from {replica.node} {way}",
        values,
        now_ns,
        priority=LOW,
        parameters={"disk_type": move.disk_type, late_writes.NAME: values.whole(late_writes.NAME)},
    )
