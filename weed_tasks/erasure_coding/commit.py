"""The point of no return: from the first deletion of a replica on, the shards are the volume.

Everything that is proved before it, and what is swept behind it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from proto_gen.volume_server_pb2 import EcShardConfig, ReadVolumeFileStatusResponse, VolumeInfo
from weed_cluster.address import Address
from weed_cluster.topology import ec_locations, snapshot
from weed_core.errors import Mismatch, ServerFailed, TaskError
from weed_core.model import Result
from weed_ec.proof import Claim, check_vif, prove_covered, prove_found, prove_served
from weed_ec.shards import ShardSet, fetch, file_time, look, send
from weed_ec.source import Source
from weed_safety.alike import check_alike
from weed_safety.context import Context
from weed_safety.freeze import Frozen, freeze, open_freeze, recover_freezes, wait_still
from weed_safety.journal import Step
from weed_safety.late_writes import Refusal
from weed_safety.lease import Lease
from weed_safety.look import file_status, same_files
from weed_safety.proof import SERVED, asked_of, live_index, sample_of
from weed_safety.steps import kind, plan
from weed_storage.ec_layout import DATA_SHARDS, PARITY_SHARDS, TOTAL_SHARDS
from weed_storage.index import Live
from weed_storage.needle import ttl_seconds
from weed_storage.volume_info import dump_vif
from weed_tasks.erasure_coding.survey import Scene, ask

STILL_FOR = 0.5
"""Seconds in which a frozen volume's files must not change."""


@kind("send")
@dataclass(frozen=True)
class Sending:
    """The journal step of shards on their way: by server, and with the `.vif` that replicas there had of their own."""

    volume_id: int
    run: int
    collection: str
    sources: tuple[Address, ...]
    dat_size: int
    shards: Mapping[Address, tuple[int, ...]]
    vifs: Mapping[Address, str]


@kind("commit")
@dataclass(frozen=True)
class Committing:
    """The journal step from the first deletion of a replica to the last."""

    volume_id: int
    collection: str
    sources: tuple[Address, ...]


@kind("sweep")
@dataclass(frozen=True)
class Sweeping:
    """The journal step of an empty replica's deletion."""

    volume_id: int
    server: Address


def finish(ctx: Context, scene: Scene, done: int, lease: Lease, refuse: float) -> Result:
    """Delete the replicas that an earlier attempt left beside a whole set of shards, once each is proved redundant.

    `refuse` is the seconds for which they refuse writes before that, if they were written to in that time.
    """
    ctx.log(f"volume {scene.volume_id} has all its shards; comparing them with the replicas that are left")
    ctx.progress(0.1, "freezing replicas")
    shared = [held.server for held in scene.shard_sets if held.mounted and held.server in scene.regular]
    vifs = {server: fetch(ctx.volume(server), scene.volume_id, scene.collection, ".vif") or b"" for server in shared}
    frozen = freeze_replicas(ctx, scene)
    _put_back_vifs(ctx, scene, vifs)
    try:
        Refusal(ctx, scene.volume_id, scene.regular, refuse).outlast(lambda stage: ctx.progress(0.2, stage))
        lease.check()
        stills = ctx.each(lambda server: wait_still(ctx, server, scene.volume_id, STILL_FOR), scene.regular)
        scene.regular.update(zip(list(scene.regular), stills))
        claim, live = _prove_redundant(ctx, scene, done)
    except TaskError:
        recover_freezes(ctx.journal, ctx)
        _put_back_vifs(ctx, scene, vifs)
        raise
    return commit_run(ctx, scene, claim, live, frozen, lease)


def _put_back_vifs(ctx: Context, scene: Scene, vifs: Mapping[Address, bytes]) -> None:
    """Undo what freezing or thawing did to the `.vif` that a replica shares with shards on the same disk."""
    for server, vif in vifs.items():
        if vif and fetch(ctx.volume(server), scene.volume_id, scene.collection, ".vif") != vif:
            send(ctx.volume(server), scene.volume_id, scene.collection, ".vif", vif, is_ec_volume=False)


def _prove_redundant(ctx: Context, scene: Scene, done: int) -> tuple[Claim, Live]:
    """Prove that a whole set of shards is sound and holds what each frozen replica holds; Mismatch if not.

    Returns what was proved, and the needles of its source.
    """
    strict = all(held.generation.strict_rows for held in scene.shard_sets if held.mounted)
    told = {held.vif.dat_file_size for held in scene.shard_sets if held.vif and held.run == done and held.mounted}
    server, status = max(scene.regular.items(), key=lambda item: item[1].dat_file_size)
    check_alike(
        ctx,
        [*scene.regular, *(held.server for held in scene.shard_sets if held.mounted)],
        f"volume {scene.volume_id} has all its shards, but not where they can be read, so its replicas stay",
    )
    source = source_of(scene, server, status, strict)
    if told - {0}:
        source = replace(source, dat_size=max(told))
    claim = Claim(source, done, _places(scene.shard_sets, done))
    ctx.progress(0.3, "proving shards")
    lives: dict[Address, Live] = {}
    try:
        prove_found(ctx, claim)
        for server, status in scene.regular.items():
            lives[server] = live_index(ctx, server, scene.volume_id, status)
            prove_covered(ctx, claim, source_of(scene, server, status, strict), lives[server])
    except Mismatch as error:
        raise Mismatch(
            f"volume {scene.volume_id} has all its shards and replicas on {', '.join(map(str, scene.regular))}, "
            f"which do not fit together, so neither was deleted: {error}"
        ) from None
    return claim, lives[claim.source.server]


def _places(shard_sets: Sequence[ShardSet], done: int) -> dict[Address, list[int]]:
    """Which server answers for which shard of a run; where two hold one, the first does."""
    places: dict[Address, list[int]] = {}
    seen: set[int] = set()
    for held in shard_sets:
        if held.run == done:
            mine = [shard for shard in sorted(held.mounted) if shard not in seen]
            if mine:
                places[held.server] = mine
                seen.update(mine)
    return places


def source_of(scene: Scene, server: Address, status: ReadVolumeFileStatusResponse, strict: bool) -> Source:
    return Source(
        server=server,
        volume_id=scene.volume_id,
        collection=scene.collection,
        dat_size=status.dat_file_size,
        version=status.version or status.volume_info.version or 3,
        revision=status.compaction_revision,
        strict=strict,
    )


def volume_info_of(
    source: Source, status: ReadVolumeFileStatusResponse, ttl: int, run: int, beside: bool
) -> VolumeInfo:
    """What the shards' `.vif` says. `beside` a replica it is that one's `.vif`, too, and must keep it read-only."""
    seconds = ttl_seconds(ttl)
    return VolumeInfo(
        version=source.version,
        bytes_offset=status.volume_info.bytes_offset,
        replication=status.volume_info.replication if beside else "",
        dat_file_size=source.dat_size,
        expire_at_sec=int(time.time()) + seconds if seconds else 0,
        read_only=beside,
        ec_shard_config=EcShardConfig(data_shards=DATA_SHARDS, parity_shards=PARITY_SHARDS, encode_ts_ns=run),
    )


def freeze_replicas(ctx: Context, scene: Scene) -> dict[Address, Frozen]:
    """Freeze all replicas; writes that were admitted before may still end.

    While their servers look for another master, which takes as long as an election, another job has the slot.
    """
    volume_id = scene.volume_id
    try:
        return {server: _hold(ctx, server, volume_id, patient=False) for server in scene.regular}
    except ServerFailed as error:
        if not error.lacks_master:
            raise
        ctx.log(f"waiting until servers of volume {volume_id} have found another master: {error}")
    with ctx.outside_slot():
        ctx.until(lambda: set(scene.regular) <= _shown(ctx, volume_id), ctx.master().timing.election)
    return {server: _hold(ctx, server, volume_id, patient=True) for server in scene.regular}


def _shown(ctx: Context, volume_id: int) -> set[Address]:
    """The servers of a volume's replicas, as far as the master that leads now knows them."""
    try:
        return {replica.server for replica in snapshot(ctx.master(), volume_id).replicas(volume_id)}
    except TaskError:
        return set()


def _hold(ctx: Context, server: Address, volume_id: int, patient: bool) -> Frozen:
    """Freeze a replica; one that an earlier attempt at this job froze is this attempt's, without freezing it again."""
    frozen = open_freeze(ctx.journal, server, volume_id)
    if frozen is not None and ctx.volume(server).volume_status(volume_id=volume_id).is_read_only:
        return replace(frozen, persist=True)
    return freeze(ctx, server, volume_id, persist=True, patient=patient)


def sweep(ctx: Context, scene: Scene) -> None:
    """Delete replicas without any data: beside shards they would be taken for what was encoded."""
    for server in scene.stubs:
        step = plan(ctx.journal, Sweeping(scene.volume_id, server))
        try:
            ctx.volume(server).volume_delete(volume_id=scene.volume_id, only_empty=True)
            ctx.log(f"deleted the empty replica of volume {scene.volume_id} on {server}")
        except ServerFailed as error:
            if not error.says_absent:
                raise
        finally:
            ctx.journal.settle(step)


def commit_run(
    ctx: Context,
    scene: Scene,
    claim: Claim,
    live: Live,
    frozen: Mapping[Address, Frozen],
    lease: Lease,
    sending: Step | None = None,
    vifs: Mapping[Address, bytes] | None = None,
) -> Result:
    """Delete the replicas, now that the shards are proved; each is looked at again right before."""
    volume_id = scene.volume_id
    ctx.progress(0.85, "waiting for the master to show all shards")
    await_master(ctx, volume_id)
    ctx.progress(0.87, "having every holder find files")
    witness = claim.source.server
    prove_served(ctx, claim, scene.regular, asked_of(ctx, volume_id, witness, sample_of(live, SERVED)))
    for server in scene.regular:
        _prove_frozen(ctx, scene, server)
    ctx.progress(0.9, "deleting replicas")
    with ctx.cluster.leash.shielded():
        lease.check()
        commit = plan(ctx.journal, Committing(volume_id, scene.collection, tuple(scene.regular)))
        for server in scene.regular:
            lease.check()
            _prove_frozen(ctx, scene, server)
            _delete(ctx, scene, server)
            if sending is not None:
                ctx.journal.settle(sending)
            frozen[server].keep(ctx.journal)
        sweep(ctx, scene)
        ctx.each(lambda server: _mend_vif(ctx, scene, claim, server, (vifs or {}).get(server)), claim.places)
        ctx.journal.settle(commit)
    ctx.progress(0.97, "waiting for the master to show the shards alone")
    await_master(ctx, volume_id)
    shown = ctx.options.shown_seconds
    if not ctx.until(lambda: not snapshot(ctx.master(), volume_id=volume_id).replicas(volume_id), shown):
        ctx.log(f"the master still lists a replica of volume {volume_id}, though none is left")
    ctx.progress(1.0, "done")
    return Result(
        f"volume {volume_id} is erasure coded: {TOTAL_SHARDS} shards of {claim.source.shard_size >> 20} MiB on "
        f"{len(claim.places)} servers, {len(scene.regular)} replicas deleted",
        {
            "volume_id": volume_id,
            "source_server": str(claim.source.server),
            "target_count": len(claim.places),
            "bytes": claim.source.dat_size,
            "encoded_bytes": claim.source.dat_size,
        },
    )


def await_master(ctx: Context, volume_id: int) -> None:
    """Wait until clients can find all shards; TaskError if they cannot."""
    missing: list[int] = []

    def shown() -> bool:
        known = ec_locations(ctx.master(), volume_id)
        missing[:] = [shard for shard in range(TOTAL_SHARDS) if not known.get(shard)]
        return not missing

    if not ctx.until(shown, ctx.options.shown_seconds):
        raise TaskError(f"the master does not show shards {missing} of volume {volume_id}, though servers mounted them")


def _prove_frozen(ctx: Context, scene: Scene, server: Address) -> None:
    """Check that a replica is what was encoded or compared, and cannot change; Mismatch if not."""
    volume_id = scene.volume_id
    if not ctx.volume(server).volume_status(volume_id=volume_id).is_read_only:
        raise Mismatch(f"volume {volume_id} on {server} has become writable meanwhile; nothing was deleted there")
    if not same_files(scene.regular[server], file_status(ctx, server, volume_id)):
        raise Mismatch(f"volume {volume_id} on {server} has changed since it was encoded; nothing was deleted there")


def _delete(ctx: Context, scene: Scene, server: Address) -> None:
    """Delete one replica and have the server confirm that it is gone."""
    volume_id = scene.volume_id
    bytes_ = scene.regular[server].dat_file_size
    ctx.log(f"deleting the replica of volume {volume_id} on {server} ({bytes_} bytes): its shards are proved")
    try:
        ctx.volume(server).volume_delete(volume_id=volume_id)
    except ServerFailed as error:
        if not error.says_absent and ask(ctx, server, volume_id) is not None:
            raise TaskError(
                f"volume {volume_id} is erasure coded, but its replica on {server} could not be deleted and stays "
                f"read-only there: {error}"
            ) from error
    if ask(ctx, server, volume_id) is not None:
        raise TaskError(f"volume {volume_id} is erasure coded, but {server} still has a replica after deleting it")


def _mend_vif(ctx: Context, scene: Scene, claim: Claim, server: Address, vif: bytes | None) -> None:
    """Check that the deletion left the shards' `.vif` and `.ecx`; put back the `.vif` if not."""
    volume, volume_id, collection = ctx.volume(server), scene.volume_id, scene.collection
    shards = claim.places[server]
    held = look(ctx, server, volume_id, collection)
    try:
        check_vif(held, claim.source, claim.run)
    except Mismatch as error:
        if vif is None:
            info = volume_info_of(claim.source, scene.regular[claim.source.server], scene.ttl, claim.run, False)
            vif = dump_vif(info, held.generation)
        ctx.log(f"{error}; sending it again")
        if held.generation.knows_ecsum:
            volume.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=shards)
        for disk_id in dict.fromkeys(slot.disk_id for slot in scene.order.slots.values() if slot.server == server):
            send(volume, volume_id, collection, ".vif", vif, disk_id)
        volume.volume_ec_shards_mount(
            volume_id=volume_id, collection=collection, shard_ids=shards, source_disk_type=scene.order.disk_type
        )
        held = look(ctx, server, volume_id, collection)
        check_vif(held, claim.source, claim.run)
    if not set(shards) <= set(held.mounted) or file_time(volume, volume_id, collection, ".ecx") is None:
        raise Mismatch(f"{server} has lost shards or the .ecx of volume {volume_id} with the replica; run ec.rebuild")
