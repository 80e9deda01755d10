"""Turning a full, quiet volume into fourteen shards on other disks, then deleting its replicas.

Order: look at everything, freeze all replicas, send, mount, prove, delete. Until the proof the volume is untouched but
for being read-only, and whatever was sent can go; from the first deletion on the shards are the volume, and nothing
may remove them. The journal marks that point ("commit").

Encode runs. Shards are told apart by the run in their `.vif`. The admin stamps one number into all attempts at a job,
so two of them, one believed dead, could not be told apart. Each attempt therefore takes a number of its own, the time
in ns: it is larger than the admin's, and all removal is limited to this attempt's own run and older ones. The `.vif`
is sent before the shards, so that whatever a killed attempt leaves names its run. Servers before 4.44 keep no runs:
there, only shards that were seen or sent are named for removal. The `.ecx` comes last: without it no server mounts
shards at its start, and one that holds the volume itself removes them.

Two workers. Only one works on a volume at a time, by a lease at the master (weed_safety.lease). One that lost its lease
changes nothing any more, nor does it undo: the other found all of it. Files of an upload that may still be under way
are waited for (weed_ec.shards.QUIET). Shards are removed only where the volume itself was just seen whole.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from secrets import token_bytes

from proto_gen.volume_server_pb2 import EcShardConfig, ReadVolumeFileStatusResponse, VolumeInfo
from weed_cluster.address import Address
from weed_cluster.topology import ec_locations, snapshot
from weed_ec.proof import Claim, check_vif, prove, prove_covered, prove_found, prove_served
from weed_ec.shards import (
    Shelf,
    await_senders,
    complete_run,
    describe,
    fetch,
    file_time,
    look,
    look_at_all,
    remove,
    send,
)
from weed_ec.source import Source
from weed_ec.stream import ShardSums, encode
from weed_errors import BadTask, Mismatch, ServerFailed, StaleTask, TaskError
from weed_model import Job, Result
from weed_safety import late_writes
from weed_safety.alike import check_alike
from weed_safety.context import Context
from weed_safety.freeze import STEP as FREEZE
from weed_safety.freeze import Frozen, freeze, recover_freezes, wait_still
from weed_safety.journal import Entry, Step
from weed_safety.late_writes import Refusal
from weed_safety.lease import Lease, volume_lease
from weed_safety.look import file_status, same_files
from weed_safety.parameters import volume_id_of
from weed_safety.proof import SERVED, Index, asked_of, fetch_index, live_index, sample_of
from weed_safety.readiness import answer_of
from weed_safety.untold import check_told
from weed_storage.checksums import Ecsum, dump_ecsum
from weed_storage.ec_layout import DATA_SHARDS, PARITY_SHARDS, TOTAL_SHARDS
from weed_storage.index import TOMBSTONE, Live, compare, content_end, entries
from weed_storage.needle import SUPER_BLOCK_SIZE, ttl_seconds
from weed_storage.volume_info import Generation, dump_vif
from weed_tasks.ec_targets import row_rule, unplaced, why_not_there
from weed_tasks.erasure_coding.plan import EMPTY, NO_FILE
from weed_tasks.erasure_coding.survey import Order, Scene, ask, awaken, survey

SEND = "send"
"""The journal step of shards on their way.

Facts: volume_id, collection, run, sources, dat_size, and by server the shards and the replicas' own `.vif`.
"""

COMMIT = "commit"
"""The journal step from the first deletion of a replica to the last. Facts: volume_id, collection, sources."""

SWEEP = "sweep"
"""The journal step of an empty replica's deletion. Facts: volume_id, server."""

PATIENCE = 15.0
"""Seconds to wait for another worker's lease on the volume: that of a dead one ends after 10."""

STILL = 0.5
"""Seconds in which a frozen volume's files must not change."""

SHOWN_WITHIN = 60.0
"""Seconds within which the master must show what servers have mounted: heartbeats come every 5."""


def run(job: Job, ctx: Context) -> Result:
    """Encode the job's volume, or finish what an earlier attempt left.

    Raises BadTask and StaleTask where nothing was touched; any other TaskError says what was left behind, if anything.
    """
    volume_id = volume_id_of(job)
    if ctx.options.dry_run:
        return _preview(ctx, survey(ctx, job))
    with volume_lease(ctx, volume_id, PATIENCE) as lease:
        if any(step.what in (SEND, COMMIT) for step in ctx.journal.open):
            _settle(ctx, ctx.journal, lease)
        try:
            return _carry_out(ctx, survey(ctx, job), lease, late_writes.seconds_of(job))
        except BaseException as error:
            _undo_failed(ctx, lease, error)
            raise


def recover(entry: Entry, ctx: Context) -> None:
    """Undo or finish what a killed run left, as its journal says; raises TaskError where that must be tried again."""
    if not entry.open:
        return
    ctx = replace(ctx, journal=entry)
    with volume_lease(ctx, max(entry.volume_ids), PATIENCE) as lease, ctx.cluster.leash.shielded():
        _settle(ctx, entry, lease)


# -- looking only ----------------------------------------------------------------------------------------------------


def _preview(ctx: Context, scene: Scene) -> Result:
    """Say what would be done; changes nothing."""
    name, done = f"volume {scene.volume_id}", complete_run(scene.shelves)
    if not scene.regular:
        return Result(f"{name} has no regular copy; shards: {describe(scene.shelves) or 'none'}")
    copies = ", ".join(map(str, scene.regular))
    if done is not None:
        return Result(f"{name} has all its shards; its replicas on {copies} would be compared with them and deleted")
    check_told(ctx, scene.volume_id, scene.regular)
    size = max(status.dat_file_size for status in scene.regular.values())
    if not scene.order.slots:
        raise StaleTask(unplaced(scene.volume_id, scene.order.no_slots))
    _check_targets(ctx, scene, size)
    servers = len({slot.server for slot in scene.order.slots.values()})
    return Result(f"{name} ({size >> 20} MiB on {copies}) would be encoded to {servers} servers, then deleted there")


# -- doing it -------------------------------------------------------------------------------------------------------


def _carry_out(ctx: Context, scene: Scene, lease: Lease, refuse: float) -> Result:
    done = complete_run(scene.shelves)
    if not scene.regular:
        return _without_source(ctx, scene, done)
    if done is not None:
        return _finish(ctx, scene, done, lease, refuse)
    return _encode(ctx, scene, lease, refuse)


def _without_source(ctx: Context, scene: Scene, done: int | None) -> Result:
    """Succeed where the volume is encoded already; else say what is left of it, and touch none of that."""
    volume_id = scene.volume_id
    if done is None:
        if scene.stubs and not any(shelf.shards for shelf in scene.shelves):
            raise BadTask(f"volume {volume_id} {EMPTY}")
        loose = [shelf for shelf in scene.shelves if set(shelf.files) - set(shelf.mounted)]
        if len({shard for shelf in scene.shelves for shard in shelf.shards}) < TOTAL_SHARDS or not loose:
            raise StaleTask(
                f"volume {volume_id} has no regular copy left and not all its shards: "
                f"{describe(scene.shelves) or 'no server has any'}; nothing was touched. "
                "If at least 10 are there, ec.rebuild in weed shell makes the others anew"
            )
        ctx.progress(0.7, "mounting shards")
        for shelf in loose:
            ctx.volume(shelf.server).volume_ec_shards_mount(
                volume_id=volume_id, collection=scene.collection, shard_ids=sorted(shelf.files)
            )
        shelves = look_at_all(ctx, [shelf.server for shelf in scene.shelves], volume_id, scene.collection)
        if complete_run(shelves) is None:
            raise StaleTask(f"volume {volume_id} has no regular copy, and its shards do not fit: {describe(shelves)}")
    _sweep(ctx, scene)
    _await_master(ctx, volume_id)
    ctx.progress(1.0, "done")
    return Result(f"volume {volume_id} is erasure coded already", {"already_done": True})


def _finish(ctx: Context, scene: Scene, done: int, lease: Lease, refuse: float) -> Result:
    """Delete the replicas that an earlier attempt left beside a whole set of shards, once each is proved redundant.

    `refuse` is the seconds for which they refuse writes before that, if they were written to in that time.
    """
    ctx.log(f"volume {scene.volume_id} has all its shards; comparing them with the replicas that are left")
    ctx.progress(0.1, "freezing replicas")
    shared = [shelf.server for shelf in scene.shelves if shelf.mounted and shelf.server in scene.regular]
    vifs = {server: fetch(ctx.volume(server), scene.volume_id, scene.collection, ".vif") or b"" for server in shared}
    frozen = _freeze(ctx, scene)
    _put_back_vifs(ctx, scene, vifs)
    try:
        Refusal(ctx, scene.volume_id, scene.regular, refuse).outlast(lambda stage: ctx.progress(0.2, stage))
        lease.check()
        stills = ctx.each(lambda server: wait_still(ctx, server, scene.volume_id, STILL), scene.regular)
        scene.regular.update(zip(list(scene.regular), stills))
        claim, live = _prove_redundant(ctx, scene, done)
    except TaskError:
        recover_freezes(ctx.journal, ctx)
        _put_back_vifs(ctx, scene, vifs)
        raise
    return _commit(ctx, scene, claim, live, frozen, lease)


def _put_back_vifs(ctx: Context, scene: Scene, vifs: Mapping[Address, bytes]) -> None:
    """Undo what freezing or thawing did to the `.vif` that a replica shares with shards on the same disk."""
    for server, vif in vifs.items():
        if vif and fetch(ctx.volume(server), scene.volume_id, scene.collection, ".vif") != vif:
            send(ctx.volume(server), scene.volume_id, scene.collection, ".vif", vif, is_ec_volume=False)


def _prove_redundant(ctx: Context, scene: Scene, done: int) -> tuple[Claim, Live]:
    """Prove that a whole set of shards is sound and holds what each frozen replica holds; Mismatch if not.

    Returns what was proved, and the needles of its source.
    """
    strict = all(shelf.generation.strict_rows for shelf in scene.shelves if shelf.mounted)
    told = {shelf.vif.dat_file_size for shelf in scene.shelves if shelf.vif and shelf.run == done and shelf.mounted}
    server, status = max(scene.regular.items(), key=lambda item: item[1].dat_file_size)
    check_alike(
        ctx,
        [*scene.regular, *(shelf.server for shelf in scene.shelves if shelf.mounted)],
        f"volume {scene.volume_id} has all its shards, but not where they can be read, so its replicas stay",
    )
    source = _source(scene, server, status, strict)
    if told - {0}:
        source = replace(source, dat_size=max(told))
    claim = Claim(source, done, _places(scene.shelves, done))
    ctx.progress(0.3, "proving shards")
    lives: dict[Address, Live] = {}
    try:
        prove_found(ctx, claim)
        for server, status in scene.regular.items():
            lives[server] = live_index(ctx, server, scene.volume_id, status)
            prove_covered(ctx, claim, _source(scene, server, status, strict), lives[server])
    except Mismatch as error:
        raise Mismatch(
            f"volume {scene.volume_id} has all its shards and replicas on {', '.join(map(str, scene.regular))}, "
            f"which do not fit together, so neither was deleted: {error}"
        ) from None
    return claim, lives[claim.source.server]


def _places(shelves: Sequence[Shelf], done: int) -> dict[Address, list[int]]:
    """Which server answers for which shard of a run; where two hold one, the first does."""
    places: dict[Address, list[int]] = {}
    seen: set[int] = set()
    for shelf in shelves:
        if shelf.run == done:
            mine = [shard for shard in sorted(shelf.mounted) if shard not in seen]
            if mine:
                places[shelf.server] = mine
                seen.update(mine)
    return places


def _encode(ctx: Context, scene: Scene, lease: Lease, refuse: float) -> Result:
    volume_id, collection = scene.volume_id, scene.collection
    order = scene.order
    if not order.slots:
        raise StaleTask(unplaced(volume_id, order.no_slots))
    check_told(ctx, volume_id, scene.regular)
    biggest = max(status.dat_file_size for status in scene.regular.values())
    generations = _check_targets(ctx, scene, biggest)
    strict = bool(row_rule(biggest, generations.values()))
    await_senders(ctx, scene.shelves, volume_id, collection)

    ctx.progress(0.05, "freezing replicas")
    frozen = _freeze(ctx, scene)
    refusal = Refusal(ctx, volume_id, scene.regular, refuse)
    ctx.progress(0.1, "comparing replicas")
    indexes = _read_still(ctx, scene)
    server = _choose(ctx, scene, {server: index.live for server, index in indexes.items()})
    status, live = scene.regular[server], indexes[server].live
    source = replace(_source(scene, server, status, strict), index_sha256=indexes[server].digest)
    end = content_end(live, source.version)
    if end > source.dat_size:
        raise Mismatch(
            f"the index of volume {volume_id} on {server} points {end - source.dat_size} bytes past its data"
        )
    if not live:
        raise BadTask(f"volume {volume_id} {NO_FILE}")

    run = max(time.time_ns(), *(shelf.run + 1 for shelf in scene.shelves))
    for shelf in scene.shelves:
        if shelf.shards:
            lease.check()
            ctx.log(f"removing shards {shelf.shards} that an earlier encode left on {shelf.server}")
            remove(ctx, shelf, volume_id, collection, run - 1)
    _sweep(ctx, scene)

    places: dict[Address, list[int]] = {}
    for shard_id, slot in sorted(order.slots.items()):
        places.setdefault(slot.server, []).append(shard_id)
    vifs = {
        target: dump_vif(_info(source, status, scene.ttl, run, target in scene.regular), generations[target])
        for target in places
    }
    lease.check()
    sending = ctx.journal.plan(
        SEND,
        volume_id=volume_id,
        run=run,
        collection=collection,
        sources=[str(address) for address in scene.regular],
        dat_size=source.dat_size,
        shards={str(target): shards for target, shards in places.items()},
        vifs=_own_vifs(ctx, scene, places),
    )
    for target, disk_id in dict.fromkeys((slot.server, slot.disk_id) for slot in order.slots.values()):
        send(ctx.volume(target), volume_id, collection, ".vif", vifs[target], disk_id)
    sums = encode(ctx, source, order.slots)
    _send_indexes(ctx, scene, places, generations, sums, live)
    ctx.progress(0.7, "mounting shards")
    lease.check()
    ctx.each(
        lambda target: ctx.volume(target).volume_ec_shards_mount(
            volume_id=volume_id,
            collection=collection,
            shard_ids=places[target],
            source_disk_type=order.disk_type,
        ),
        places,
    )
    refusal.outlast(lambda stage: ctx.progress(0.72, stage))
    lease.check()
    ctx.progress(0.75, "proving shards")
    claim = Claim(source, run, places)
    prove(ctx, claim, live, sums)
    return _commit(ctx, scene, claim, live, frozen, lease, sending, vifs)


def _check_targets(ctx: Context, scene: Scene, biggest: int) -> dict[Address, Generation]:
    """Check that every target answers, takes orders and has room; StaleTask if not, nothing was touched."""
    need = Counter((slot.server, slot.disk_id) for slot in scene.order.slots.values())
    targets = list(dict.fromkeys(server for server, _disk in need))
    answers = dict(zip(targets, ctx.each(lambda target: answer_of(ctx, target), targets)))
    reason = why_not_there(scene.volume_id, biggest, need, answers)
    if reason:
        raise StaleTask(reason)
    check_alike(ctx, [*scene.regular, *targets], f"volume {scene.volume_id} is not encoded")
    return {target: answer.generation for target, answer in answers.items()}


def _source(scene: Scene, server: Address, status: ReadVolumeFileStatusResponse, strict: bool) -> Source:
    return Source(
        server=server,
        volume_id=scene.volume_id,
        collection=scene.collection,
        dat_size=status.dat_file_size,
        version=status.version or status.volume_info.version or 3,
        revision=status.compaction_revision,
        strict=strict,
    )


def _info(source: Source, status: ReadVolumeFileStatusResponse, ttl: int, run: int, beside: bool) -> VolumeInfo:
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


def _own_vifs(ctx: Context, scene: Scene, places: Mapping[Address, Sequence[int]]) -> dict[str, str]:
    """The `.vif` files of replicas that shards will lie beside, to be put back if they do not stay."""
    found: dict[str, str] = {}
    for server in scene.regular:
        if server in places:
            chunks = ctx.volume(server).copy_file(
                volume_id=scene.volume_id,
                ext=".vif",
                collection=scene.collection,
                compaction_revision=scene.regular[server].compaction_revision,
                stop_offset=1 << 20,
                ignore_source_file_not_found=True,
            )
            found[str(server)] = b"".join(chunk.file_content for chunk in chunks).decode(errors="replace")
    return found


def _freeze(ctx: Context, scene: Scene) -> dict[Address, Frozen]:
    """Freeze all replicas; writes that were admitted before may still end."""
    frozen = {}
    for server in scene.regular:
        frozen[server] = _hold(ctx, server, scene.volume_id)
    return frozen


def _hold(ctx: Context, server: Address, volume_id: int) -> Frozen:
    """Freeze a replica; one that an earlier attempt at this job froze is this attempt's, without freezing it again."""
    for step in ctx.journal.open:
        is_mine = step.what == FREEZE and Address.parse(step.facts["server"]) == server
        if is_mine and ctx.volume(server).volume_status(volume_id=volume_id).is_read_only:
            return Frozen(server, volume_id, True, step)
    return freeze(ctx, server, volume_id, persist=True)


def _read_still(ctx: Context, scene: Scene) -> dict[Address, Index]:
    """Read the index of each frozen replica, once its last admitted write has ended; the scene gets their statuses."""

    def read(server: Address) -> tuple[ReadVolumeFileStatusResponse, Index]:
        before = file_status(ctx, server, scene.volume_id)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(fetch_index, ctx, server, scene.volume_id, before)
            still = wait_still(ctx, server, scene.volume_id, STILL)
        index = reading.result()
        return still, index if same_files(before, still) else fetch_index(ctx, server, scene.volume_id, still)

    servers = list(scene.regular)
    read_all = dict(zip(servers, ctx.each(read, servers)))
    scene.regular.update({server: still for server, (still, _index) in read_all.items()})
    return {server: index for server, (_still, index) in read_all.items()}


def _choose(ctx: Context, scene: Scene, lives: Mapping[Address, Live]) -> Address:
    """Choose the replica that holds all that any other one holds; Mismatch if there is none."""
    best = max(lives, key=lambda server: (len(lives[server]), -scene.regular[server].dat_file_size))
    for server, live in lives.items():
        if server == best:
            continue
        found = ctx.compute(compare, lives[best], live)
        differing = len(found.missing_in_a) + len(found.different_size)
        if differing:
            raise Mismatch(
                f"the replicas of volume {scene.volume_id} on {best} and {server} differ in {differing} files that "
                f"{server} alone holds or holds otherwise; repair its replication first. Nothing was deleted"
            )
        if found.missing_in_b:
            ctx.log(f"volume {scene.volume_id} on {server} lacks {len(found.missing_in_b)} files that {best} holds")
    return best


def _sweep(ctx: Context, scene: Scene) -> None:
    """Delete replicas without any data: beside shards they would be taken for what was encoded."""
    for server in scene.stubs:
        step = ctx.journal.plan(SWEEP, volume_id=scene.volume_id, server=str(server))
        try:
            ctx.volume(server).volume_delete(volume_id=scene.volume_id, only_empty=True)
            ctx.log(f"deleted the empty replica of volume {scene.volume_id} on {server}")
        except ServerFailed as error:
            if not error.says_absent:
                raise
        finally:
            ctx.journal.settle(step)


def _send_indexes(
    ctx: Context,
    scene: Scene,
    places: Mapping[Address, Sequence[int]],
    generations: Mapping[Address, Generation],
    sums: Sequence[ShardSums],
    live: Live,
) -> None:
    """Send what servers need to mount the shards; the `.ecx` last."""
    slots = scene.order.slots
    ecsum = dump_ecsum(Ecsum({at: shard.result() for at, shard in enumerate(sums)}, token_bytes(16)))
    for target, disk_id in dict.fromkeys((slot.server, slot.disk_id) for slot in slots.values()):
        if generations[target].knows_ecsum:
            send(ctx.volume(target), scene.volume_id, scene.collection, ".ecsum", ecsum, disk_id)

    def send_ecx(target: Address) -> None:
        disk_id = slots[places[target][0]].disk_id
        send(ctx.volume(target), scene.volume_id, scene.collection, ".ecx", live.ecx(), disk_id)

    ctx.each(send_ecx, places)


# -- the point of no return -----------------------------------------------------------------------------------------


def _commit(
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
    _await_master(ctx, volume_id)
    ctx.progress(0.87, "having every holder find files")
    witness = claim.source.server
    prove_served(ctx, claim, scene.regular, asked_of(ctx, volume_id, witness, sample_of(live, SERVED)))
    for server in scene.regular:
        _prove_frozen(ctx, scene, server)
    ctx.progress(0.9, "deleting replicas")
    with ctx.cluster.leash.shielded():
        lease.check()
        commit = ctx.journal.plan(
            COMMIT,
            volume_id=volume_id,
            collection=scene.collection,
            sources=[str(server) for server in scene.regular],
        )
        for server in scene.regular:
            lease.check()
            _prove_frozen(ctx, scene, server)
            _delete(ctx, scene, server)
            if sending is not None:
                ctx.journal.settle(sending)
            frozen[server].keep(ctx.journal)
        _sweep(ctx, scene)
        ctx.each(lambda server: _mend_vif(ctx, scene, claim, server, (vifs or {}).get(server)), claim.places)
        ctx.journal.settle(commit)
    ctx.progress(0.97, "waiting for the master to show the shards alone")
    _await_master(ctx, volume_id)
    if not ctx.until(lambda: not snapshot(ctx.master(), volume_id=volume_id).replicas(volume_id), SHOWN_WITHIN):
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
        },
    )


def _await_master(ctx: Context, volume_id: int) -> None:
    """Wait until clients can find all shards; TaskError if they cannot."""
    missing: list[int] = []

    def shown() -> bool:
        known = ec_locations(ctx.master(), volume_id)
        missing[:] = [shard for shard in range(TOTAL_SHARDS) if not known.get(shard)]
        return not missing

    if not ctx.until(shown, SHOWN_WITHIN):
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
    shelf = look(ctx, server, volume_id, collection)
    try:
        check_vif(shelf, claim.source, claim.run)
    except Mismatch as error:
        if vif is None:
            info = _info(claim.source, scene.regular[claim.source.server], scene.ttl, claim.run, False)
            vif = dump_vif(info, shelf.generation)
        ctx.log(f"{error}; sending it again")
        if shelf.generation.knows_ecsum:
            volume.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=shards)
        for disk_id in dict.fromkeys(slot.disk_id for slot in scene.order.slots.values() if slot.server == server):
            send(volume, volume_id, collection, ".vif", vif, disk_id)
        volume.volume_ec_shards_mount(
            volume_id=volume_id, collection=collection, shard_ids=shards, source_disk_type=scene.order.disk_type
        )
        shelf = look(ctx, server, volume_id, collection)
        check_vif(shelf, claim.source, claim.run)
    if not set(shards) <= set(shelf.mounted) or file_time(volume, volume_id, collection, ".ecx") is None:
        raise Mismatch(f"{server} has lost shards or the .ecx of volume {volume_id} with the replica; run ec.rebuild")


# -- undoing --------------------------------------------------------------------------------------------------------


def _undo_failed(ctx: Context, lease: Lease, error: BaseException) -> None:
    """Undo what a failed attempt changed; where that fails, too, or must not be, raise what says what was left."""
    if lease.is_lost:
        ctx.log("another worker has the volume now; leaving everything to it")
        return
    try:
        with ctx.cluster.leash.shielded():
            _settle(ctx, ctx.journal, lease)
    except TaskError as left:
        ctx.log(str(left))
        if isinstance(error, TaskError):
            raise TaskError(f"{error}. Besides: {left}") from error


def _settle(ctx: Context, entry: Entry, lease: Lease) -> None:
    """Undo what an entry's open steps changed, or finish it where replicas were being deleted.

    Decides by what the servers hold now. TaskError where something could not be undone: its steps stay open.
    """
    open_steps = entry.open
    finished = False
    for step in open_steps:
        if step.what == COMMIT:
            finished = _settle_commit(ctx, entry, step, lease)
    for step in open_steps:
        if step.what == SEND and finished:
            entry.settle(step)
        elif step.what == SEND:
            _settle_send(ctx, entry, step, lease)
        elif step.what == SWEEP:
            entry.settle(step)
    recover_freezes(entry, ctx)


def _settle_commit(ctx: Context, entry: Entry, commit: Step, lease: Lease) -> bool:
    """Finish a deletion that was broken off; False where it had not begun and can no more: then all is to be undone."""
    volume_id, collection = int(commit.facts["volume_id"]), str(commit.facts["collection"])
    sources = tuple(map(Address.parse, commit.facts["sources"]))
    topology = snapshot(ctx.master(), volume_id=volume_id)
    holders = [holding.server for holding in topology.holdings(volume_id, collection)]
    shelves = look_at_all(ctx, [*holders, *sources], volume_id, collection)
    statuses = {server: ask(ctx, server, volume_id) for server in sources}
    order = Order(volume_id, collection, sources, {})
    left = {server: status for server, status in statuses.items() if status is not None}
    done = complete_run(shelves)
    if left and done is not None:
        _finish(ctx, Scene(order, collection, left, [], shelves), done, lease, refuse=0)
    elif (
        done is None
        and len(left) < len(sources)
        and not _is_regular_again(
            ctx, volume_id, shelves, {*left, *(replica.server for replica in topology.replicas(volume_id))}
        )
    ):
        raise TaskError(
            f"volume {volume_id} was being deleted in favour of its shards, but they are not all there: "
            f"{describe(shelves) or 'none'}; replicas left: {', '.join(map(str, left)) or 'none'}; nothing was touched"
        )
    entry.settle(commit)
    if done is None and len(left) == len(sources):
        return False
    for step in entry.open:
        if step.what == FREEZE:
            entry.settle(step)
    return True


def _is_regular_again(ctx: Context, volume_id: int, shelves: Sequence[Shelf], servers: Collection[Address]) -> bool:
    """Whether somebody made the volume of its shards again: its replicas can be written to, and no shard is left."""
    if not servers or any(shelf.shards for shelf in shelves):
        return False
    return not any(ctx.volume(server).volume_status(volume_id=volume_id).is_read_only for server in servers)


@dataclass
class _Remains:
    """What a broken-off encode left: replicas by server, shards, and the servers that did not say, with theirs."""

    volume_id: int
    collection: str
    replicas: dict[Address, ReadVolumeFileStatusResponse | None]
    shelves: list[Shelf]
    silent: dict[Address, list[int]]

    @property
    def shards(self) -> set[int]:
        """The shards that there are, or may be."""
        return {shard for shelf in self.shelves for shard in shelf.shards}.union(*self.silent.values())

    def describe(self) -> str:
        """Say who holds which shards."""
        unknown = [f"{server} does not answer" for server in self.silent]
        return "; ".join(filter(None, [describe(self.shelves), *unknown]))


def _look_for_remains(
    ctx: Context, volume_id: int, collection: str, sources: Sequence[Address], places: Mapping[Address, list[int]]
) -> _Remains:
    """Ask all that may hold a part of the volume; ServerFailed where a source does not answer."""
    holders = [holding.server for holding in snapshot(ctx.master(), volume_id).holdings(volume_id, collection)]
    remains = _Remains(volume_id, collection, {}, [], {})

    def ask_for_shards(server: Address) -> None:
        try:
            remains.shelves.append(look(ctx, server, volume_id, collection))
        except (ServerFailed, Mismatch):  # Mismatch: what it says of its shards is damaged
            if server in sources:
                raise
            remains.silent[server] = places.get(server, [])

    ctx.each(ask_for_shards, dict.fromkeys([*places, *holders, *sources]))
    for server in sources:
        status = ask(ctx, server, volume_id)
        if status is None and any(
            shelf.server == server and shelf.generation >= Generation.V4_44 for shelf in remains.shelves
        ):
            status = awaken(ctx, server, volume_id)
        remains.replicas[server] = status
    return remains


def _is_whole(ctx: Context, remains: _Remains, dat_size: int) -> bool:
    """Whether a replica holds all that could be read from the shards, so that these may go.

    It does if it has all the bytes that were encoded. A vacuum makes it smaller: then it does if the shards could not
    be read at all, or if it holds every file that their indexes name.
    """
    there = {
        server: status
        for server, status in remains.replicas.items()
        if status is not None and status.dat_file_size > SUPER_BLOCK_SIZE
    }
    if any(status.dat_file_size >= dat_size for status in there.values()):
        return True
    if len(remains.shards) < DATA_SHARDS:
        return bool(there)
    if remains.silent:
        return False
    found = (
        fetch(ctx.volume(shelf.server), remains.volume_id, remains.collection, ".ecx")
        for shelf in remains.shelves
        if shelf.shards
    )
    indexes = list(filter(None, found))
    for server, status in there.items():
        live = live_index(ctx, server, remains.volume_id, status)
        version = status.version or status.volume_info.version or 3
        if content_end(live, version) <= status.dat_file_size and all(
            ctx.compute(_holds, live, ecx) for ecx in indexes
        ):
            return True
    return False


def _holds(live: Live, ecx: bytes) -> bool:
    """Whether every file that an index of shards names as living lives here, of the same size."""
    return all(
        size == TOMBSTONE or ((place := live.get(needle_id)) is not None and place[1] == size)
        for needle_id, _offset, size in entries(ecx, live.offset_bytes)
    )


def _settle_send(ctx: Context, entry: Entry, step: Step, lease: Lease) -> None:
    """Remove the shards that were sent, provided that the volume itself is whole; TaskError where any may be left.

    Where no shard is left there is nothing to remove, whatever became of the volume meanwhile.
    """
    volume_id, facts = int(step.facts["volume_id"]), step.facts
    collection, run = str(facts["collection"]), int(facts["run"])
    places = {Address.parse(text): list(map(int, shards)) for text, shards in facts["shards"].items()}
    sources = [Address.parse(text) for text in facts["sources"]]
    remains = _look_for_remains(ctx, volume_id, collection, sources, places)
    if not _is_whole(ctx, remains, int(facts["dat_size"])):
        if remains.shards and complete_run(remains.shelves) is None:
            raise TaskError(
                f"volume {volume_id} is nowhere whole: no sound replica on {', '.join(map(str, sources))}, and not all "
                f"shards are mounted ({remains.describe()}); nothing was removed"
            )
        what = "its shards are mounted" if remains.shards else "no shard of it is left"
        ctx.log(f"volume {volume_id} has no replica on {', '.join(map(str, sources))}, and {what}; nothing to undo")
        entry.settle(step)
        return
    left: list[str] = []
    at_risk = 0

    def clean(server: Address) -> str:
        try:
            lease.check()
            shelf = look(ctx, server, volume_id, collection)
            remove(ctx, shelf, volume_id, collection, run, only=places[server])
            original = str(facts["vifs"].get(str(server), ""))
            if original and remains.replicas.get(server) is not None:
                send(ctx.volume(server), volume_id, collection, ".vif", original.encode(), is_ec_volume=False)
        except TaskError as error:
            return f"shards {places[server]} on {server} ({error})"
        return ""

    for server, problem in zip(places, ctx.each(clean, places)):
        if problem:
            left.append(problem)
            at_risk += len(places[server])
    if left and at_risk >= DATA_SHARDS:
        raise TaskError(
            f"volume {volume_id} stays read-only, since shards that could pass for it may be left: {'; '.join(left)}"
        )
    if left:
        recover_freezes(entry, ctx)
        raise TaskError(f"volume {volume_id} is as it was, but these may be left of it: {'; '.join(left)}")
    entry.settle(step)
