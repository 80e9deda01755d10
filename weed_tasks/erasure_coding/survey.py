"""What an encode has before it: what the job asks for, and what the servers hold of the volume.

Changes nothing, but that a server loads a replica that it passed over at its start. Knows nothing of freezing, sending
or deleting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from proto_gen.volume_server_pb2 import ReadVolumeFileStatusResponse
from weed_cluster.address import Address
from weed_cluster.topology import Topology, snapshot
from weed_core.errors import BadTask, Mismatch, ServerFailed, StaleTask
from weed_core.model import Job
from weed_ec.shards import ShardSet, look_at_all
from weed_ec.stream import Slot
from weed_safety.alike import know_builds
from weed_safety.context import Context
from weed_safety.parameters import collection_of, server_named, text_of, volume_id_of
from weed_safety.readiness import close_refusing
from weed_storage.ec_layout import DATA_SHARDS, PARITY_SHARDS, TOTAL_SHARDS
from weed_storage.needle import SUPER_BLOCK_SIZE
from weed_tasks.erasure_coding.plan import place, why_refused


@dataclass(frozen=True)
class EncodeOrder:
    """What a job asks for. The slots are this worker's own plan where the job has none, and empty where that failed."""

    volume_id: int
    collection: str | None
    sources: tuple[Address, ...]
    slots: Mapping[int, Slot]
    disk_type: str = ""
    no_slots: str = ""  # why there are none


def _read(ctx: Context, job: Job, topology: Topology) -> EncodeOrder:
    """Read the job, with a plan of our own where it has none; BadTask where it contradicts itself."""
    params, volume_id = job.params, volume_id_of(job)
    coding = params.erasure_coding_params
    if (coding.data_shards, coding.parity_shards) not in ((0, 0), (DATA_SHARDS, PARITY_SHARDS)):
        raise BadTask(f"volume {volume_id}: only 10+4 is known, not {coding.data_shards}+{coding.parity_shards}")
    # Rows with shards say where stale shards lie; the servers are asked about those anyway.
    named = [row.node for row in params.sources if not row.shard_ids]
    named = named or [name for name in (text_of(job, "source_server", "server"),) if name]
    places = [(row.node, row.disk_id, tuple(row.shard_ids)) for row in params.targets]
    if not places:
        listed = job.parameters.get("target_servers") or job.parameters.get("targets") or []
        texts = listed.split(",") if isinstance(listed, str) else listed
        if isinstance(texts, list):
            places = [(text.strip(), 0, ()) for text in texts if text.strip()]
    slots: dict[int, Slot] = {}
    for at, (node, disk_id, shard_ids) in enumerate(places):
        if not node:
            raise BadTask(f"a target of volume {volume_id} names no server")
        for shard_id in shard_ids or range(at, TOTAL_SHARDS, len(places)):
            if shard_id in slots or shard_id >= TOTAL_SHARDS:
                raise BadTask(f"shard {shard_id} of volume {volume_id} is planned twice or does not exist")
            slots[shard_id] = Slot(server_named(node, topology), disk_id)
    replicas = topology.replicas(volume_id)
    no_slots = "the job names no targets"
    if not slots and replicas:
        everywhere = know_builds(ctx, snapshot(ctx.master()))
        plan = place(ctx, everywhere, max(replicas, key=lambda replica: replica.size), job.config)
        if isinstance(plan, str):
            no_slots = plan
        else:
            slots = {shard: Slot(place.node.address, place.disk_id) for place in plan for shard in place.shard_ids}
    if slots and len(slots) != TOTAL_SHARDS:
        raise BadTask(f"shards {sorted(set(range(TOTAL_SHARDS)) - set(slots))} of volume {volume_id} have no target")
    crowded = [slot for slot, count in Counter(slots.values()).items() if count > PARITY_SHARDS]
    if crowded:
        raise BadTask(
            f"disk {crowded[0].disk_id} of {crowded[0].server} would get {Counter(slots.values())[crowded[0]]} shards "
            f"of volume {volume_id}; losing more than {PARITY_SHARDS} loses the volume"
        )
    collection = collection_of(job)
    if collection is not None and (collection in (".", "..") or "/" in collection or "\\" in collection):
        raise BadTask(f"{collection!r} is no collection")
    sources = [server_named(name, topology) for name in named] + [replica.server for replica in replicas]
    return EncodeOrder(volume_id, collection, tuple(dict.fromkeys(sources)), slots, coding.source_disk_type, no_slots)


@dataclass
class Scene:
    """What the servers say of the volume: `regular` are its replicas with data, `stubs` those without."""

    order: EncodeOrder
    collection: str
    regular: dict[Address, ReadVolumeFileStatusResponse]
    stubs: list[Address]
    shard_sets: list[ShardSet]
    ttl: int = 0  # as the master tells it: count << 8 | unit
    disks: Mapping[Address, int] = field(default_factory=dict)  # which disk of its server a replica is on

    @property
    def volume_id(self) -> int:
        """The volume."""
        return self.order.volume_id


def survey(ctx: Context, job: Job) -> Scene:
    """Ask every server that may hold the volume or a part of it; StaleTask where one does not answer."""
    ctx.progress(0.02, "checking servers and volume")
    topology = snapshot(ctx.master(), volume_id=volume_id_of(job))
    order = _read(ctx, job, topology)
    volume_id = order.volume_id
    replicas = topology.replicas(volume_id)
    if replicas:
        close_refusing(ctx, topology, (replica.server for replica in replicas))
        _key, refusal = why_refused(replicas, topology)
        if refusal:
            raise StaleTask(f"volume {volume_id} {refusal}")
    told = {order.collection, *(replica.collection for replica in replicas)} - {None}
    told |= {name for number, name in topology.ec if number == volume_id} if not told else set()
    if len(told) > 1:
        raise StaleTask(f"volume {volume_id} is of collection {' and of '.join(sorted(map(repr, told)))}")
    collection = next(iter(told), "") or ""
    holders = [holding.server for holding in topology.holdings(volume_id, collection)]
    servers = [*(slot.server for slot in order.slots.values()), *holders, *order.sources]
    try:
        shard_sets = look_at_all(ctx, servers, volume_id, collection)
        statuses = dict(zip(order.sources, ctx.each(lambda server: ask(ctx, server, volume_id), order.sources)))
        for held in shard_sets:
            passed_over = statuses.get(held.server, True) is None and held.files and held.generation.knows_ecsum
            if passed_over and not ctx.options.dry_run:
                statuses[held.server] = awaken(ctx, held.server, volume_id)
    except ServerFailed as error:
        raise StaleTask(f"volume {volume_id} cannot be judged, nothing was touched: {error}") from error
    there = {server: status for server, status in statuses.items() if status is not None}
    for server, status in there.items():
        if status.collection != collection:
            raise StaleTask(
                f"volume {volume_id} on {server} is of collection {status.collection!r}, not {collection!r}"
            )
        if status.volume_info.files:
            raise BadTask(f"volume {volume_id} on {server} is tiered to remote storage; it cannot be encoded")
    return Scene(
        order=order,
        collection=collection,
        regular={server: status for server, status in there.items() if status.dat_file_size > SUPER_BLOCK_SIZE},
        stubs=[server for server, status in there.items() if status.dat_file_size <= SUPER_BLOCK_SIZE],
        shard_sets=shard_sets,
        ttl=max((replica.info.ttl for replica in replicas), default=0),
        disks={replica.server: replica.disk_id for replica in replicas},
    )


def ask(ctx: Context, server: Address, volume_id: int) -> ReadVolumeFileStatusResponse | None:
    """A replica's status, None where the server has none; Mismatch where its data cannot be read."""
    volume = ctx.volume(server)
    try:
        volume.volume_status(volume_id=volume_id)
        return volume.read_volume_file_status(volume_id=volume_id)
    except ServerFailed as error:
        if "backend" in error.detail:
            raise Mismatch(f"volume {volume_id} on {server} cannot be read: {error.detail}") from None
        if error.says_absent:
            return None
        raise


def awaken(ctx: Context, server: Address, volume_id: int) -> ReadVolumeFileStatusResponse | None:
    """Have a server load a replica that it passed over at its start because shards of the volume lie beside it."""
    try:
        ctx.volume(server).volume_mount(volume_id=volume_id)
    except ServerFailed:
        return None
    return ask(ctx, server, volume_id)
