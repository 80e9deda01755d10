"""Finding volumes worth encoding: full, quiet, local, and with room for their shards elsewhere. Looks only.

A volume that has all its shards and still a replica is proposed, too: encoding it again recognises that and only
compares and deletes what is left. Knows nothing of how a volume is encoded.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from proto_gen.worker_pb2 import ErasureCodingTaskParams, TaskParams
from weed_cluster.address import Address
from weed_cluster.replica_placement import ReplicaPlacement
from weed_cluster.topology import EcHolding, Replica, Topology, either_filter
from weed_core.errors import BadTask, ConfigError
from weed_core.model import LOW, Descriptor, Detection, DetectionRequest, Field, Proposal, Runtime, Skipped, Values
from weed_core.values import Value
from weed_ec.placement import EcPlanner, EcTarget, crowded
from weed_ec.places import RESERVE
from weed_safety import late_writes
from weed_safety.alike import know_builds
from weed_safety.context import Context
from weed_safety.readiness import SETBACK, Answer, Answers, close_refusing, settle
from weed_safety.untold import KEY, closed_disks, why_untold
from weed_storage.ec_layout import DATA_SHARDS, PARITY_SHARDS, TOTAL_SHARDS
from weed_storage.needle import SUPER_BLOCK_SIZE
from weed_tasks import forms, proposal
from weed_tasks.ec_targets import unplaced, why_not_there

GARBAGE = "garbage_threshold"

DESCRIPTOR = Descriptor(
    name="erasure_coding",
    job_type="erasure_coding",
    display_name="EC Encoding",
    description="Turns full, quiet volumes into 10+4 erasure-coded shards",
    icon="fas fa-shield-alt",
    fields=(
        replace(
            forms.COLLECTIONS,
            help="Names with * and ?, separated by commas, or a regular expression; only volumes of collections that "
            "it matches take part. Empty for all.",
            placeholder="photos*",
        ),
        forms.QUIET,
        forms.FULLNESS,
        replace(forms.SMALLEST, default=30, minimum=1, required=True),
        Field(
            GARBAGE,
            "Garbage threshold",
            "double",
            0.3,
            "Share of deleted bytes from which on a volume is vacuumed before it is encoded, in the same job. "
            "1 for never.",
            minimum=0.0,
            maximum=1.0,
            section=forms.THRESHOLDS,
        ),
        forms.DISK_TAGS,
        forms.SHARD_PLACEMENT,
        late_writes.FIELD,
    ),
    runtime=Runtime(per_worker_execution_concurrency=16),  # most of them only wait; the worker has slots of its own
    weight=80,
)

HOPELESS = 10
"""Failed plans in a row, after some that worked, after which the cluster counts as full for this time."""

EMPTY, NO_FILE = "is empty; there is nothing to encode", "holds no file; there is nothing to encode"


def detect(request: DetectionRequest, ctx: Context) -> Detection:
    """Propose volumes to encode and replicas to clear away; changes nothing. ConfigError for a bad filter."""
    topology = know_builds(ctx, ctx.topology())
    return settle(ctx, request, topology, DESCRIPTOR.name, lambda: plan(request, topology, ctx), _objection)


def _objection(one: Proposal, answers: Answers) -> str:
    """What the targets of a proposal have against it."""
    params = one.params
    need = {(Address.parse(row.node), row.disk_id): len(row.shard_ids) for row in params.targets}
    kept = DATA_SHARDS * (1 + max((row.estimated_size for row in params.targets), default=0))
    size = min(params.volume_size, kept)  # smaller where it is vacuumed first
    return why_not_there(params.volume_id, size, need, answers)


def place(ctx: Context, topology: Topology, volume: Replica, config: Mapping[str, Value]) -> list[EcTarget] | str:
    """Choose targets for one volume among servers that say they take its shards, or say why there are none."""
    values = Values(DESCRIPTOR, config)
    answers: dict[Address, Answer] = {}
    kept = _kept(topology.replicas(volume.volume_id) or [volume], values)
    while True:
        targets = planner_for(topology, values).plan(volume, kept)
        if isinstance(targets, str):
            return targets
        fresh = [target.node.address for target in targets if target.node.address not in answers]
        answers |= close_refusing(ctx, topology, fresh)
        need = {(target.node.address, target.disk_id): len(target.shard_ids) for target in targets}
        if not fresh or not why_not_there(volume.volume_id, kept, need, answers):
            return targets


def planner_for(topology: Topology, values: Values) -> EcPlanner:
    """The planner that an operator's settings ask for."""
    return EcPlanner(topology, _placement(values, topology), values.texts("preferred_tags"), RESERVE)


def why_refused(replicas: Sequence[Replica], topology: Topology) -> tuple[str, str]:
    """Say why a job to encode a volume is refused, as a key and in words after its name; both empty where not."""
    volume_id = replicas[0].volume_id
    if ambiguity := topology.ambiguity(volume_id):
        return "two collections", ambiguity
    if remote := next((replica.remote_name for replica in replicas if replica.remote_name), ""):
        return "remote", f"is tiered to {remote}; it cannot be encoded"
    if all(0 < replica.file_count <= replica.delete_count for replica in replicas):
        return "no file", NO_FILE
    if closed := next((replica.node.closed for replica in replicas if replica.node.closed), ""):
        return "not ready", f"cannot be encoded now: {closed}"
    if words := topology.barred.get(volume_id, ""):
        return SETBACK, words
    if unlike := topology.mixed(replica.node for replica in replicas):
        return "other build", f"has replicas that cannot become one set of shards: {unlike}"
    return "", ""


def plan(request: DetectionRequest, topology: Topology, ctx: Context) -> Detection:
    """Plan over a topology that is given."""
    values = Values(DESCRIPTOR, request.config)
    wanted = either_filter(values.text("collection_filter"))
    quiet, least = values.whole("quiet_for_seconds"), values.whole("min_size_mb") << 20
    fullness, now = values.number("fullness_ratio"), time.time()
    planner = planner_for(topology, values)
    found = Detection([], seen=len(topology.volumes))
    closed = closed_disks(topology)
    holdings: dict[int, list[EcHolding]] = {}
    for (volume_id, _), held in topology.ec.items():
        holdings.setdefault(volume_id, []).extend(held)
    counts: Counter[str] = Counter()
    failed, has_more = 0, False

    for volume_id in [request.volume_id] if request.volume_id else sorted(topology.volumes, key=topology.turn):
        replicas = topology.replicas(volume_id)
        if not replicas:
            continue
        main = _main(replicas)
        complete = is_complete(topology, volume_id, main.collection)
        reason = ("collection", "not in the collections asked for") if not wanted(main.collection) else None
        if reason is None and not complete:
            reason = _unfit(main, topology, quiet, fullness, least, now)
        if reason is None and (refused := why_refused(replicas, topology))[0]:
            reason = refused
        if reason is None and not complete and (untold := why_untold(replicas, closed)):
            reason = (KEY, untold)
        if reason is None and request.max_results and len(found.proposals) >= request.max_results:
            has_more = True
            break
        targets: list[EcTarget] = []
        if reason is None and not complete:
            planned = planner.plan(main, _kept(replicas, values))
            if isinstance(planned, str):
                reason = ("no room", unplaced(volume_id, planned))
                failed += 1
            else:
                targets, failed = planned, 0
        if reason is None:
            kept = _kept(replicas, values)
            one = _propose(request, main, replicas, holdings.get(volume_id, []), targets, int(now), kept)
            if targets and (littered := _littered(replicas, values)):
                worst = max(replica.garbage_ratio for replica in littered)
                one = replace(one, summary=f"{one.summary}; vacuumed first, for {worst:.0%} of it is garbage")
            if late := late_writes.words(replicas, values.whole(late_writes.NAME), now):
                one = replace(one, summary=f"{one.summary}; it {late}")
            found.proposals.append(one)
            counts["to clear away" if complete else "to encode"] += 1
            continue
        counts[reason[0]] += 1
        words = reason[1] if reason[0] == "no room" else f"volume {volume_id} {reason[1]}"
        found.skipped.append(Skipped(volume_id, words, reason[0], main.collection, str(main.server), main.size))
        if failed >= HOPELESS and len(found.proposals) >= HOPELESS:
            has_more = True
            break
    summary = ", ".join(f"{count} {word}" for word, count in counts.most_common()) or "nothing to look at"
    return Detection(found.proposals, found.skipped, has_more, found.seen, f"{found.seen} volumes: {summary}")


def _placement(values: Values, topology: Topology) -> ReplicaPlacement | None:
    text = values.text("replica_placement")
    try:
        return ReplicaPlacement.parse(text or topology.default_replication or "000")
    except BadTask as error:
        if text:
            raise ConfigError(f"replica_placement: {error}") from None
        return None


def _main(replicas: Sequence[Replica]) -> Replica:
    """The replica that stands for its volume: one with data, the lowest node id among equals."""
    return min(replicas, key=lambda replica: (replica.size <= SUPER_BLOCK_SIZE, replica.node.id))


def _unfit(
    main: Replica, topology: Topology, quiet: int, fullness: float, least: int, now: float
) -> tuple[str, str] | None:
    """Why a volume is not to be encoded, as a key and in words; None if it is."""
    if main.size <= SUPER_BLOCK_SIZE:
        return "empty", EMPTY
    if main.size < least:
        return "too small", f"has {main.size >> 20} MB, less than {least >> 20}"
    if len(topology.nodes) < PARITY_SHARDS:
        return "few servers", f"needs {PARITY_SHARDS} servers or more, there are {len(topology.nodes)}"
    if now - main.modified_at < quiet:
        return "not quiet", f"was written to {now - main.modified_at:.0f} s ago, less than {quiet}"
    if topology.volume_size_limit and main.size < fullness * topology.volume_size_limit:
        return "not full", f"is {100 * main.size / topology.volume_size_limit:.0f} % full, less than {fullness:.0%}"
    return None


def _littered(replicas: Sequence[Replica], values: Values) -> list[Replica]:
    """The replicas that the job vacuums first: those with much garbage; none where a copy is missing."""
    threshold = values.number(GARBAGE)
    if threshold >= 1 or len(replicas) < replicas[0].placement.copies:
        return []
    return [replica for replica in replicas if replica.garbage_ratio >= threshold]


def _kept(replicas: Sequence[Replica], values: Values) -> int:
    """Bytes that are encoded: those of the biggest replica once all are vacuumed that will be."""
    littered = _littered(replicas, values)
    return max(
        max(SUPER_BLOCK_SIZE, replica.size - (replica.info.deleted_byte_count if replica in littered else 0))
        for replica in replicas
    )


def _propose(
    request: DetectionRequest,
    main: Replica,
    replicas: Sequence[Replica],
    holdings: Sequence[EcHolding],
    targets: Sequence[EcTarget],
    now: int,
    kept: int,
) -> Proposal:
    volume_id, collection = main.volume_id, main.collection
    sources = [proposal.source(replica) for replica in [main, *(other for other in replicas if other is not main)]]
    own = {(replica.node.id, replica.disk_id) for replica in replicas}
    sources += [
        proposal.shards_source(holding.node, volume_id, holding.disk_id, holding.shard_ids)
        for holding in holdings
        if holding.collection == collection and (holding.node.id, holding.disk_id) not in own
    ]
    params = TaskParams(
        task_id=f"ec_vol_{volume_id}_{now}",
        volume_id=volume_id,
        collection=collection,
        volume_size=main.size,
        sources=sources,
        targets=[proposal.target(one.node, 0, kept // DATA_SHARDS, one.disk_id, one.shard_ids) for one in targets],
        erasure_coding_params=ErasureCodingTaskParams(
            data_shards=DATA_SHARDS,
            parity_shards=PARITY_SHARDS,
            source_disk_type=main.disk_type,
            encode_ts_ns=request.sequence,
            cleanup_source=True,
        ),
    )
    if targets:
        summary = f"Erasure code volume {volume_id} from {main.server}"
        if words := crowded(target.node.host for target in targets for _shard in target.shard_ids):
            summary += f"; {words}"
    else:
        summary = f"Clear away what replicas volume {volume_id} has left beside its shards"
    coded = kept * (DATA_SHARDS + PARITY_SHARDS) // DATA_SHARDS
    return proposal.of_volume(
        DESCRIPTOR.name,
        params,
        summary,
        proposal.seconds_for(DESCRIPTOR.name, main.size),
        coded,
        priority=LOW,
        parameters={"source_server": str(main.server), "target_count": len(targets)},
        labels={"source_node": str(main.server), "target_count": str(len(targets))},
        frees=sum(replica.size for replica in replicas) - (coded if targets else 0),
    )


def is_complete(topology: Topology, volume_id: int, collection: str) -> bool:
    """Whether one encode run has all its shards in the cluster; shards of different runs do not add up."""
    runs: dict[int, int] = defaultdict(int)
    for holding in topology.holdings(volume_id, collection):
        runs[holding.encode_ts_ns] |= holding.info.ec_index_bits
    return any(bin(bits).count("1") >= TOTAL_SHARDS for bits in runs.values())
