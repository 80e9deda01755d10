"""Giving each volume the copies that its placement asks for, where it asks for them, and equal ones.

Adds first, waits until the master shows it, proves every copy equal, and deletes last: only what is proved redundant,
never where a replica that stays is read-only, never where replicas disagree. Replicas that disagree are reported; with
`reconcile` they get from each other what their indexes prove to be missing (see weed_tasks.reconcile).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from proto_gen import worker_pb2
from proto_gen.volume_server_pb2 import ReadVolumeFileStatusResponse
from weed_cluster.address import Address
from weed_cluster.placement import ReplicaPlacement, Reserved, no_room, why_not
from weed_cluster.topology import Node, Replica, Topology, collection_filter, locations, snapshot
from weed_errors import BadTask, Mismatch, ServerFailed, StaleTask, TaskError
from weed_model import (
    HIGH,
    NORMAL,
    Descriptor,
    Detection,
    DetectionRequest,
    Field,
    Job,
    Proposal,
    Result,
    Runtime,
    Skipped,
)
from weed_storage.volume_info import Generation
from weed_tasks import Context, reconcile
from weed_tasks.freeze import STEP as FREEZE
from weed_tasks.freeze import Frozen, file_status, freeze, generation_of, seal, thaw, wait_still
from weed_tasks.journal import Entry
from weed_tasks.move import Copied, copy_volume, drop_copy, probe, prove_unchanged, recover_moves
from weed_tasks.proof import BYTES, CHECKSUMS, INDEX, compare_replicas
from weed_tasks.replica_plan import (
    DIVERGED,
    MISPLACED,
    OVER,
    UNDER,
    Fault,
    FirstSeen,
    additions,
    choose_targets,
    examine,
    unfit,
    wanted_placement,
    why_no_target,
)
from weed_values import as_bool, as_int, as_str, settings

DESCRIPTOR = Descriptor(
    name="replication",
    job_type="replication",
    display_name="Replication Repair",
    description="Adds missing copies of volumes, moves misplaced ones and finds copies that differ",
    icon="fas fa-clone",
    fields=(
        Field(
            "collection_filter",
            "Collections",
            "string",
            "",
            "Regular expression; only volumes of matching collections are looked at. Empty for all.",
            placeholder="^photos$",
            scope="admin",
        ),
        Field(
            "min_fault_age_seconds",
            "Patience (seconds)",
            "int",
            600,
            "How long a fault must have been seen before it is repaired, so that a server that restarts causes no "
            "copying. 0 repairs at once.",
            minimum=0,
            maximum=7 * 86400,
            section="When",
        ),
        Field(
            "verify",
            "Proof",
            "enum",
            "checksums",
            "How deep copies are compared before one of them may be deleted.",
            options=(
                ("index", "Index: the same files exist"),
                ("checksums", "Checksums: each file's stored checksum is the same"),
                ("full", "Full: each file is read and its bytes are compared"),
            ),
            section="Safety",
        ),
        Field(
            "delete_surplus",
            "Delete surplus copies",
            "bool",
            False,
            "Delete copies beyond what the placement asks for, and misplaced ones once a better placed copy is "
            "proved equal. Off: such volumes are only reported.",
            section="Safety",
        ),
        Field(
            "reconcile",
            "Reconcile copies that differ",
            "bool",
            False,
            "Give each copy the writes and deletions that another copy proves it has missed. Nothing is guessed and "
            "no deleted file comes back. Off: differences are only reported.",
            section="Safety",
        ),
        Field(
            "io_byte_per_second",
            "Copying rate (bytes per second)",
            "int",
            0,
            "Highest rate of each copy. 0 for the volume server's own maintenance rate.",
            minimum=0,
            section="When",
        ),
    ),
    runtime=Runtime(
        detection_interval_minutes=10, max_jobs_per_detection=200, per_worker_execution_concurrency=2, retry_limit=2
    ),
    weight=70,
    aliases=(
        "fix.replication",
        "fix_replication",
        "volume.fix.replication",
        "volume_replication",
        "volume.replication",
    ),
)

LEVELS = {"index": INDEX, "checksums": CHECKSUMS, "full": BYTES}

MOST_COMPARED = 100
"""Volumes whose replicas one detection compares, because the master's figures for them differ."""

LOOK_AGAIN = 2.0
"""Seconds after which a difference seen in a volume that is written to must still be there."""

QUIET = 1.0
"""Seconds without a change after which a frozen volume counts as still."""

REGISTERED_WITHIN = 30.0
"""Seconds in which the master must show a new copy."""

ROUNDS = 3
"""Passes of reconciling; each judges afresh what the one before has left."""

SEEN = FirstSeen()
"""What detection remembers. One worker has one, whatever number of detections it runs."""


# ---- detection


def detect(request: DetectionRequest, ctx: Context) -> Detection:
    """Find volumes whose replicas are too few, too many, misplaced or different; changes nothing."""
    wishes, _warnings = settings(DESCRIPTOR, request.config)
    matches = collection_filter(as_str(wishes["collection_filter"], ""))
    topology = snapshot(ctx.master(), request.volume_id)
    volumes = {
        volume_id: replicas
        for volume_id, replicas in sorted(topology.volumes.items())
        if matches(replicas[0].collection)
    }
    found: list[tuple[Fault, list[Replica]]] = []
    skipped: list[Skipped] = []
    compared = 0
    for volume_id, replicas in volumes.items():
        reason = unfit(replicas, topology)
        if reason:
            skipped.append(_skip(replicas, reason, "unfit"))
            continue
        fault = examine(replicas, replicas[0].placement)
        if fault is None and _looks_different(replicas):
            compared += 1
            if compared > MOST_COMPARED:
                skipped.append(_skip(replicas, "may have replicas that differ; not compared yet", "not compared"))
                continue
            try:
                fault = _compare_live(ctx, volume_id, replicas)
            except TaskError as error:
                skipped.append(_skip(replicas, f"has replicas that cannot be compared: {error}", "not comparable"))
                continue
        if fault is not None:
            found.append((fault, replicas))
    SEEN.forget_others(volumes, {(replicas[0].volume_id, fault.kind) for fault, replicas in found})

    # The volumes with the fewest copies left come first: they are the ones in danger.
    found.sort(key=lambda pair: (pair[0].kind != UNDER, len(pair[1]), pair[1][0].volume_id))
    patience = as_int(wishes["min_fault_age_seconds"], 600, 0)
    proposals: list[Proposal] = []
    reserved = Reserved()
    has_more = False
    for fault, replicas in found:
        age = SEEN.age(replicas[0].volume_id, fault.kind)
        if age < patience:
            words = f"{fault.why}; seen for {age:.0f} s, repaired after {patience} s"
            skipped.append(_skip(replicas, words, "too fresh"))
            continue
        proposal = _propose(topology, fault, replicas, wishes, reserved)
        if isinstance(proposal, Skipped):
            skipped.append(proposal)
        elif request.max_results and len(proposals) >= request.max_results:
            has_more = True
        else:
            proposals.append(proposal)
    summary = f"{len(volumes)} volumes: {len(found)} with a fault, {len(proposals)} to repair now"
    return Detection(proposals, skipped, has_more, len(volumes), summary)


def _propose(
    topology: Topology, fault: Fault, replicas: Sequence[Replica], wishes: Mapping[str, object], reserved: Reserved
) -> Proposal | Skipped:
    first = replicas[0]
    placement = first.placement
    delete_surplus = bool(wishes["delete_surplus"])
    targets: list[Node] = []
    if fault.kind == DIVERGED:
        if not wishes["reconcile"]:
            return _skip(replicas, f"{fault.why}; nothing is changed unless reconcile is on", DIVERGED)
    elif fault.kind in (OVER, MISPLACED) and not delete_surplus:
        return _skip(replicas, f"{fault.why}; nothing is changed unless delete_surplus is on", fault.kind)
    else:
        count = additions(fault, replicas, placement, delete_surplus)
        targets = choose_targets(topology, fault, placement, count, replicas, reserved)
        if count and not targets:
            return _skip(
                replicas,
                f"{fault.why}, and no server may take another one: {why_no_target(topology, first)}",
                "no target",
            )
    size = max(replica.size for replica in replicas)
    params = worker_pb2.TaskParams(
        volume_id=first.volume_id,
        collection=first.collection,
        volume_size=size,
        sources=[
            worker_pb2.TaskSource(
                node=str(replica.server),
                rack=replica.node.rack,
                data_center=replica.node.data_center,
                volume_id=replica.volume_id,
                disk_id=replica.disk_id,
                estimated_size=replica.size,
            )
            for replica in replicas
        ],
        targets=[
            worker_pb2.TaskTarget(
                node=str(node.address),
                rack=node.rack,
                data_center=node.data_center,
                volume_id=first.volume_id,
                estimated_size=size,
            )
            for node in targets
        ],
        replication_params=worker_pb2.ReplicationTaskParams(
            replica_count=placement.copies, verify_consistency=wishes["verify"] != "index"
        ),
    )
    seconds = 120 + (size >> 30) * 300 * max(1, len(targets))
    where = f", copy to {', '.join(map(str, targets))}" if targets else ""
    name = f"{first.volume_id}:{first.collection}" if first.collection else str(first.volume_id)
    return Proposal(
        id=f"replication_vol_{first.volume_id}_{int(time.time())}",
        dedupe_key=f"replication:{name}",
        summary=f"volume {first.volume_id} {fault.why}{where}",
        detail=f"collection {first.collection!r}, placement {placement}, on "
        + ", ".join(str(replica.server) for replica in replicas),
        params=params,
        priority=HIGH if fault.kind == UNDER else NORMAL,
        parameters={
            "volume_id": first.volume_id,
            "collection": first.collection,
            "fault": fault.kind,
            "estimated_runtime_seconds": seconds,
        },
        labels={
            "task_type": DESCRIPTOR.name,
            "volume_id": str(first.volume_id),
            "collection": first.collection,
            "fault": fault.kind,
        },
        estimated_seconds=seconds,
        bytes_to_move=size * len(targets),
    )


def _skip(replicas: Sequence[Replica], reason: str, key: str) -> Skipped:
    first = replicas[0]
    return Skipped(
        first.volume_id, f"volume {first.volume_id} {reason}", key, first.collection, str(first.server), first.size
    )


def _looks_different(replicas: Sequence[Replica]) -> bool:
    """Whether the master's figures give cause to compare the replicas themselves."""
    return len({replica.file_count - replica.delete_count for replica in replicas}) > 1 and not any(
        replica.remote_name for replica in replicas
    )


def _compare_live(ctx: Context, volume_id: int, replicas: Sequence[Replica]) -> Fault | None:
    """Compare the indexes of a volume that may be written to: only what still differs a moment later does differ."""
    servers = [replica.server for replica in replicas]
    seen = [compare_all(ctx, volume_id, servers, INDEX)]
    if seen[0].ids:
        ctx.wait(LOOK_AGAIN)
        seen.append(compare_all(ctx, volume_id, servers, INDEX))
    ids = seen[0].ids & seen[-1].ids
    if not ids:
        return None
    return Fault(DIVERGED, f"has {_differ(servers, len(ids))}", tuple(replicas))


# ---- comparing


@dataclass(frozen=True)
class Comparison:
    """How the replicas of a volume differ from the most complete one, which comes first in `servers`.

    `ids` are the needles in which any two differ. `is_superset`: the first has all that any other has.
    """

    servers: tuple[Address, ...]
    ids: frozenset[int] = frozenset()
    is_superset: bool = True


def compare_all(ctx: Context, volume_id: int, servers: Sequence[Address], level: str) -> Comparison:
    """Compare all replicas of a volume; each needle at every level but the index."""
    if len(servers) < 2:
        return Comparison(tuple(servers))

    def live_files(server: Address) -> int:
        status = ctx.volume(server).volume_status(volume_id=volume_id)
        return status.file_count - status.file_deleted_count

    counts = dict(zip(servers, ctx.each(live_files, servers)))
    best, *others = sorted(servers, key=lambda server: (-counts[server], str(server)))
    found = [compare_replicas(ctx, best, other, volume_id, level, count=0) for other in others]
    ids = {
        needle_id for one in found for part in (one.missing_in_a, one.missing_in_b, one.different) for needle_id in part
    }
    superset = not any(one.missing_in_a or one.different for one in found)
    return Comparison((best, *others), frozenset(ids), superset)


def _differ(servers: Iterable[Address], count: int) -> str:
    names = " and ".join(map(str, sorted(servers, key=str)))
    return f"replicas on {names} that differ in {count} needle{'s' if count != 1 else ''}"


# ---- execution


@dataclass(frozen=True)
class _Order:
    """What a job asks for, whichever dialect it came in."""

    volume_id: int
    collection: str
    replica_count: int
    sources: tuple[Address, ...]
    targets: tuple[Address, ...]
    level: str
    delete_surplus: bool
    reconcile: bool
    io_bytes_per_second: int

    @classmethod
    def of(cls, job: Job) -> _Order:
        params = job.params
        shown = {name: value for name, value in job.parameters.items() if name in DESCRIPTOR.defaults}
        wishes, _warnings = settings(DESCRIPTOR, job.config, shown)
        volume_id = params.volume_id or as_int(job.parameters.get("volume_id"), 0)
        if volume_id <= 0:
            raise BadTask("a replication task must name a volume; it has no volume_id")
        level = LEVELS[as_str(wishes["verify"], "checksums")]
        if params.replication_params.verify_consistency and level == INDEX:
            level = CHECKSUMS
        return cls(
            volume_id=volume_id,
            collection=params.collection or as_str(job.parameters.get("collection"), ""),
            replica_count=params.replication_params.replica_count,
            sources=tuple(Address.parse(source.node) for source in params.sources if source.node),
            targets=tuple(Address.parse(target.node) for target in params.targets if target.node),
            level=level,
            delete_surplus=as_bool(wishes["delete_surplus"], False),
            reconcile=as_bool(wishes["reconcile"], False),
            io_bytes_per_second=as_int(wishes["io_byte_per_second"], 0, 0),
        )


def run(job: Job, ctx: Context) -> Result:
    """Repair one volume's replicas, as far as is safe; the result says what was done and what was left, and why.

    Raises StaleTask or BadTask where nothing was touched, Mismatch where replicas disagree and adding copies would
    not help.
    """
    order = _Order.of(job)
    if not ctx.options.dry_run:
        recover(ctx.journal, ctx)  # what an earlier run of this very job left
    ctx.progress(0.02, "looking at the cluster")
    topology = snapshot(ctx.master(), order.volume_id)
    replicas = _replicas(ctx, order, topology)
    placement = wanted_placement(replicas[0].placement, order.replica_count)
    fault = examine(replicas, placement)
    healthy = _healthy(ctx, order.volume_id, replicas)
    targets = _targets(ctx, order, topology, replicas, placement, fault) if fault else []
    may_trim = bool(fault and fault.surplus and order.delete_surplus)
    if not targets and not may_trim:
        agreement = compare_all(ctx, order.volume_id, healthy, order.level)
        if not agreement.ids:
            return _nothing_to_do(order, replicas, healthy, fault)
    if ctx.options.dry_run:
        return Result(
            f"volume {order.volume_id} {fault.why if fault else 'has replicas that differ'}; nothing was changed"
            + (f", a copy would be made on {', '.join(map(str, targets))}" if targets else ""),
            {"volume_id": order.volume_id},
        )
    repair = _Repair(ctx, order, replicas, healthy)
    try:
        repair.hold()
        repair.agree(can_add=bool(targets))
        for number, target in enumerate(targets):
            repair.add(target, number, len(targets))
        if fault and may_trim:
            repair.trim(fault, placement)
    finally:
        repair.release()
    return repair.result(fault)


def recover(entry: Entry, ctx: Context) -> None:
    """Undo what a killed run left: half-proved copies go, as long as their source is sound; what it froze is thawed.

    A deletion that was begun needs nothing: whatever was deleted had been proved redundant.
    """
    for step in entry.open:
        if step.what == TRIM:
            entry.settle(step)
    recover_moves(entry, ctx)


TRIM = "trim"
"""Journal step of a surplus replica's deletion; its facts are server and volume_id."""


def _replicas(ctx: Context, order: _Order, topology: Topology) -> list[Replica]:
    """The volume's replicas as master and servers see them now; StaleTask where the job no longer fits them."""

    def exists(replica: Replica) -> bool:
        try:
            return probe(ctx, replica.server, order.volume_id) is not None
        except ServerFailed:
            return True  # it cannot be asked, so what the master says stands

    listed = topology.replicas(order.volume_id)
    # The master learns late of what a server has lost or deleted.
    replicas = [replica for replica, there in zip(listed, ctx.each(exists, listed)) if there]
    name = f"volume {order.volume_id}"
    if not replicas:
        raise StaleTask(f"the master knows no replica of {name}; nothing was changed")
    if order.collection and order.collection != replicas[0].collection:
        raise StaleTask(f"{name} is of collection {replicas[0].collection!r}, not {order.collection!r}")
    reason = unfit(replicas, topology)
    if reason:
        raise StaleTask(f"{name} {reason}; nothing was changed")
    if order.sources and not {replica.server for replica in replicas} & set(order.sources):
        raise StaleTask(f"{name} is on none of the servers named as its sources any more; nothing was changed")
    return replicas


def _healthy(ctx: Context, volume_id: int, replicas: Sequence[Replica]) -> list[Address]:
    """The servers whose replica can be read; Mismatch, naming each one's reason, where there is none."""

    def reason(replica: Replica) -> str:
        try:
            file_status(ctx, replica.server, volume_id)
        except (ServerFailed, Mismatch) as error:
            return str(error)
        return ""

    reasons = dict(zip((replica.server for replica in replicas), ctx.each(reason, replicas)))
    for server, words in reasons.items():
        if words:
            ctx.log(f"the replica of volume {volume_id} on {server} cannot be used: {words}")
    healthy = [server for server, words in reasons.items() if not words]
    if not healthy:
        raise Mismatch(
            f"no replica of volume {volume_id} can be read; nothing was changed: {'; '.join(reasons.values())}"
        )
    return healthy


def _targets(
    ctx: Context,
    order: _Order,
    topology: Topology,
    replicas: Sequence[Replica],
    placement: ReplicaPlacement,
    fault: Fault,
) -> list[Address]:
    """Where copies are to be added: where the job says, or else wherever is best; StaleTask where nothing will do."""
    count = additions(fault, replicas, placement, order.delete_surplus)
    if not count or (fault.kind == MISPLACED and not order.delete_surplus):
        return []
    first = replicas[0]
    if first.remote_name and min(generation_of(ctx, replica.server) for replica in replicas) < Generation.V4_44:
        raise StaleTask(
            f"volume {order.volume_id} has its data in {first.remote_name}, and its servers are of a release that "
            "deletes the remote data with any of its copies; no further one is made"
        )
    holders = [replica.node for replica in fault.keep]
    chosen: list[Node] = []
    held = {replica.server for replica in replicas}
    for address in [target for target in order.targets if target not in held][:count]:
        node = topology.node_at(address)
        if node is None:
            raise StaleTask(f"the master does not know {address}; volume {order.volume_id} was not copied there")
        if any(replica.node.host == node.host for replica in replicas):
            reason = f"{node.host} already holds a copy"
        else:
            reason = why_not(placement, [*holders, *chosen], node) or no_room(node, first.disk_type, first.size)
        if reason:
            raise StaleTask(f"volume {order.volume_id} cannot get a copy on {address}: {reason}; nothing was changed")
        chosen.append(node)
    if not chosen:
        chosen = choose_targets(topology, fault, placement, count, replicas, Reserved())
    if not chosen:
        reason = why_no_target(topology, first)
        raise StaleTask(f"volume {order.volume_id} {fault.why}, and no server may take another one: {reason}")
    return [node.address for node in chosen]


def _nothing_to_do(
    order: _Order, replicas: Sequence[Replica], healthy: Sequence[Address], fault: Fault | None
) -> Result:
    name = f"volume {order.volume_id}"
    broken = len(replicas) - len(healthy)
    if broken:
        raise Mismatch(f"{name} has {broken} of {len(replicas)} replicas that cannot be read; nothing was changed")
    outputs = {"volume_id": order.volume_id, "copies": len(replicas)}
    if fault is not None:
        return Result(f"{name} {fault.why}; nothing was changed, because delete_surplus is off", outputs)
    copies = "one copy" if len(replicas) == 1 else f"{len(replicas)} copies, which agree"
    return Result(f"{name} has its {copies}; nothing to do", outputs)


@dataclass
class _Repair:
    """One volume being repaired: what is frozen, what was added, what was proved."""

    ctx: Context
    order: _Order
    replicas: list[Replica]
    healthy: list[Address]
    frozen: dict[Address, Frozen] = field(default_factory=dict)
    still: dict[Address, ReadVolumeFileStatusResponse] = field(default_factory=dict)
    copies: dict[Address, Copied] = field(default_factory=dict)
    deleted: list[Address] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    agreement: Comparison = field(default_factory=lambda: Comparison(()))

    @property
    def name(self) -> str:
        return f"volume {self.order.volume_id}"

    # ---- holding still

    def hold(self) -> None:
        """Freeze every replica that can be asked, and wait until they are still.

        A client's write succeeds only where all replicas take it, so from the first freeze on none is acknowledged
        that a copy made later could lack.
        """
        self.ctx.progress(0.05, "freezing the replicas")
        for server in self.healthy:
            self.frozen[server] = self._freeze(server)
        self._wait_still()

    def _freeze(self, server: Address) -> Frozen:
        # A persistent freeze travels with a copy, which then comes up read-only; older servers open that wrongly.
        modern = generation_of(self.ctx, server) >= Generation.V4_44
        return freeze(self.ctx, server, self.order.volume_id, persist=modern)

    def _wait_still(self) -> None:
        statuses = self.ctx.each(lambda server: wait_still(self.ctx, server, self.order.volume_id, QUIET), self.healthy)
        self.still = dict(zip(self.healthy, statuses))

    def release(self) -> None:
        """Thaw everything; then raise the first ServerFailed, if any: its step stays open for recovery."""
        failed: list[ServerFailed] = []
        for frozen in self.frozen.values():
            try:
                thaw(self.ctx, frozen)
            except ServerFailed as error:
                failed.append(error)
        if failed:
            raise failed[0]

    # ---- agreeing

    def agree(self, can_add: bool) -> None:
        """Compare the frozen replicas, and reconcile them if that is wanted.

        Mismatch where they differ, unless copies can be added from one that has all that the others have.
        """
        self.ctx.progress(0.1, "comparing the replicas")
        self.agreement = self._compare()
        written = deleted = 0
        for _round in range(ROUNDS if self.order.reconcile else 0):
            if not self.agreement.ids:
                break
            done = self._reconcile()
            if done == (0, 0):
                break
            written, deleted = written + done[0], deleted + done[1]
            self.agreement = self._compare()
        if written or deleted:
            self.notes.append(f"{written} needles written and {deleted} deleted where a replica had missed it")
        if not self.agreement.ids:
            return
        words = f"{self.name}: replicas on {_names(self.agreement.servers)} differ in {self._count()}"
        if can_add and self.agreement.is_superset:
            self.notes.append(f"replicas on {_names(self.agreement.servers)} differ in {self._count()}")
            return
        raise Mismatch(f"{words}; {'the rest cannot be proved' if written or deleted else 'nothing was changed'}")

    def _count(self) -> str:
        count = len(self.agreement.ids)
        return f"{count} needle{'s' if count != 1 else ''}"

    def _compare(self) -> Comparison:
        return compare_all(self.ctx, self.order.volume_id, self.healthy, self.order.level)

    def _reconcile(self) -> tuple[int, int]:
        """Carry out what the replicas' indexes prove; how many needles were written and deleted."""
        self.ctx.progress(0.15, "reconciling the replicas")
        ctx, volume_id = self.ctx, self.order.volume_id
        described = [reconcile.describe(ctx, server, volume_id) for server in self.healthy]
        plan = reconcile.plan(ctx, volume_id, described, self.agreement.ids)
        shut = [server for server in plan.servers if not self.frozen[server].was_writable]
        if shut:
            raise Mismatch(
                f"{self.name}: replicas on {_names(self.healthy)} differ in {self._count()}, but the one on "
                f"{_names(shut)} is read-only; nothing was changed"
            )
        versions = {replica.server: replica.version for replica in described}
        done = reconcile.carry_out(ctx, volume_id, plan, versions, self._opened)
        self._wait_still()
        return done

    def _opened(self, server: Address, work: Callable[[], None]) -> None:
        """Make one replica writable while the work is done."""
        thaw(self.ctx, self.frozen[server])
        try:
            work()
        finally:
            with self.ctx.cluster.leash.shielded():
                self.frozen[server] = self._freeze(server)

    # ---- adding

    def add(self, target: Address, number: int, total: int) -> None:
        """Copy the best replica to a target, prove the copy and wait until the master shows it."""
        ctx, volume_id = self.ctx, self.order.volume_id
        source = self._source()
        share = 0.6 / total

        def tell(fraction: float, stage: str) -> None:
            ctx.progress(0.2 + share * (number + fraction), stage)

        frozen = self.frozen[source]
        copied = copy_volume(
            ctx,
            volume_id,
            source,
            target,
            still=self.still[source],
            persist=frozen.persist and frozen.was_writable,
            io_bytes_per_second=self.order.io_bytes_per_second,
            progress=tell,
        )
        try:
            if not copied.step.facts["persist"]:
                self.frozen[target] = self._freeze(target)
                prove_unchanged(ctx, target, volume_id, copied.status)
            if not ctx.until(lambda: target in locations(ctx.master(), volume_id), REGISTERED_WITHIN):
                raise TaskError(f"the master does not show the copy of {self.name} on {target}")
            prove_unchanged(ctx, source, volume_id, self.still[source])
        except BaseException:
            with ctx.cluster.leash.shielded():
                drop_copy(ctx, copied.step)
            raise
        if copied.step.facts["persist"]:
            # From here on the copy is thawed by a freeze of its own: a kill in between leaves none shut.
            step = ctx.journal.plan(FREEZE, server=str(target), volume_id=volume_id, persist=True)
            self.frozen[target] = Frozen(target, volume_id, True, step)
        ctx.journal.settle(copied.step)
        self.copies[target] = copied
        ctx.log(f"{self.name}: copied from {source} to {target} and proved equal")

    def _source(self) -> Address:
        """The replica to copy from: one that has all the others have, of those the job names if it names any."""
        equal = self.agreement.servers if not self.agreement.ids else self.agreement.servers[:1]
        named = [server for server in equal if server in self.order.sources]
        return (named or list(equal))[0]

    # ---- trimming

    def trim(self, fault: Fault, placement: ReplicaPlacement) -> None:
        """Delete the surplus replicas, if what stays is complete, proved and writable."""
        stay = [*(replica.server for replica in fault.keep), *self.copies]
        reason = self._why_keep(fault, placement, stay)
        if reason:
            self.notes.append(f"the surplus copy on {_names(r.server for r in fault.surplus)} was kept: {reason}")
            return
        for replica in fault.surplus:
            self._delete(replica.server, stay)

    def _why_keep(self, fault: Fault, placement: ReplicaPlacement, stay: Sequence[Address]) -> str:
        """Say why nothing may be deleted; "" where it may."""
        if self.agreement.ids:
            return f"the replicas differ in {self._count()}"
        if len(stay) < placement.copies:
            return f"only {len(stay)} of {placement.copies} copies are where they should be"
        if len(self.healthy) < len(self.replicas):
            return "another replica cannot be asked"
        if self.replicas[0].remote_name:
            return f"its data is in {self.replicas[0].remote_name}"
        shut = [server for server in stay if not self._was_writable(server)]
        return f"the one on {_names(shut)}, which would stay, is read-only" if shut else ""

    def _was_writable(self, server: Address) -> bool:
        if server in self.copies:
            return self._was_writable(Address.parse(self.copies[server].step.facts["source"]))
        return self.frozen[server].was_writable

    def _delete(self, victim: Address, stay: Sequence[Address]) -> None:
        """Delete one replica after a last look at everything that justifies it."""
        ctx, volume_id = self.ctx, self.order.volume_id
        ctx.progress(0.9, f"deleting the surplus copy on {victim}")
        listed = locations(ctx.master(), volume_id)
        lost = [server for server in stay if server not in listed]
        if lost:
            raise Mismatch(f"{self.name} is no longer on {_names(lost)}; the copy on {victim} is kept")
        with ctx.cluster.leash.shielded():
            for server in [victim, *stay]:
                if server in self.frozen:
                    seal(ctx, self.frozen[server])
                before = self.copies[server].status if server in self.copies else self.still[server]
                prove_unchanged(ctx, server, volume_id, before)
            step = ctx.journal.plan(TRIM, server=str(victim), volume_id=volume_id)
            try:
                ctx.volume(victim).volume_delete(volume_id=volume_id, keep_remote_data=True, timeout=120)
            except ServerFailed as error:
                if probe(ctx, victim, volume_id) is not None:
                    ctx.journal.settle(step)
                    raise
                ctx.log(f"{error}; yet the copy on {victim} is gone")
            if not ctx.until(lambda: probe(ctx, victim, volume_id) is None, timeout=10):
                raise TaskError(f"{victim} answers that it deleted {self.name} and still holds it")
            ctx.journal.settle(step)
            self.frozen[victim].keep(ctx.journal)
            self.deleted.append(victim)
            ctx.log(
                f"{self.name}: deleted the surplus copy on {victim} ({self.still[victim].dat_file_size} bytes); "
                f"equal ones are on {_names(stay)}"
            )

    def result(self, fault: Fault | None) -> Result:
        """Say what was done."""
        parts = [f"copied to {_names(self.copies)}"] if self.copies else []
        parts += [f"surplus copy on {_names(self.deleted)} deleted"] if self.deleted else []
        parts += self.notes
        return Result(
            f"{self.name} {fault.why if fault else 'had replicas that differ'}: {'; '.join(parts)}",
            {
                "volume_id": self.order.volume_id,
                "copies": len(self.replicas) + len(self.copies) - len(self.deleted),
                "added": [str(server) for server in self.copies],
                "deleted": [str(server) for server in self.deleted],
                "differing_needles": len(self.agreement.ids),
            },
        )


def _names(servers: Iterable[Address]) -> str:
    names = sorted(map(str, servers))
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
