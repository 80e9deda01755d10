"""Turning a full, quiet volume into fourteen shards on other disks, then deleting its replicas.

Order: look at everything, vacuum where much of it is garbage, freeze all replicas, send, mount, prove, delete. Until
the proof the volume is untouched but for its garbage and for being read-only, and whatever was sent can go; from the
first deletion on the shards are the volume, and nothing may remove them. The journal marks that point ("commit").

Encode runs. Shards are told apart by the run in their `.vif`. The admin stamps one number into all attempts at a job,
so two of them, one believed dead, could not be told apart. Each attempt therefore takes a number of its own, the time
in ns: it is larger than the admin's, and all removal is limited to this attempt's own run and older ones. The `.vif`
is sent before the shards, so that whatever a killed attempt leaves names its run. Servers before 4.44 keep no runs:
there, only shards that were seen or sent are named for removal. The `.ecx` comes last: without it no server mounts
shards at its start, and one that holds the volume itself removes them.

Two workers. Only one works on a volume at a time, by a lease at the master (weed_safety.lease). One that lost its lease
changes nothing any more, nor does it undo: the other found all of it. Files of an upload that may still be under way
are waited for (weed_ec.shards.SENDER_SECONDS). Shards are removed only where the volume itself was just seen whole.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from secrets import token_bytes

from proto_gen.volume_server_pb2 import ReadVolumeFileStatusResponse
from weed_cluster.address import Address
from weed_core.errors import BadTask, Mismatch, StaleTask
from weed_core.model import Job, Result, Values
from weed_core.release import Generation
from weed_core.text import size_text
from weed_ec.proof import Claim, prove
from weed_ec.shards import (
    await_senders,
    complete_run,
    describe,
    look_at_all,
    remove,
    send,
)
from weed_ec.source import Source
from weed_ec.stream import ShardSums, encode
from weed_safety import late_writes
from weed_safety.alike import check_alike
from weed_safety.compaction import Compaction
from weed_safety.context import Context
from weed_safety.fence import HeldOff
from weed_safety.freeze import wait_still
from weed_safety.journal import Entry
from weed_safety.late_writes import Refusal
from weed_safety.lease import Lease, volume_lease
from weed_safety.look import file_status, same_files
from weed_safety.parameters import volume_id_of
from weed_safety.proof import Index, fetch_index
from weed_safety.readiness import answer_of
from weed_safety.steps import is_of, plan
from weed_safety.untold import check_told
from weed_storage.checksums import Ecsum, dump_ecsum
from weed_storage.ec_layout import TOTAL_SHARDS
from weed_storage.index import Live, compare, content_end
from weed_storage.volume_info import dump_vif
from weed_tasks.ec_targets import row_rule, unplaced, why_not_there
from weed_tasks.erasure_coding import squeeze
from weed_tasks.erasure_coding.commit import (
    STILL_FOR,
    Committing,
    Sending,
    await_master,
    commit_run,
    finish,
    freeze_replicas,
    source_of,
    sweep,
    volume_info_of,
)
from weed_tasks.erasure_coding.plan import DESCRIPTOR, EMPTY, GARBAGE, NO_FILE
from weed_tasks.erasure_coding.squeeze import Squeeze
from weed_tasks.erasure_coding.survey import EncodeOrder, Scene, survey
from weed_tasks.erasure_coding.undo import settle, undo_failed


def run(job: Job, ctx: Context) -> Result:
    """Encode the job's volume, or finish what an earlier attempt left.

    Raises BadTask and StaleTask where nothing was touched; any other TaskError says what was left behind, if anything.
    """
    volume_id, threshold = volume_id_of(job), Values(DESCRIPTOR, job.config).number(GARBAGE)
    if ctx.options.dry_run:
        return _preview(ctx, survey(ctx, job), threshold)
    with volume_lease(ctx, volume_id, ctx.options.lease_seconds) as lease:
        if any(is_of(step, Sending, Committing, Compaction, HeldOff) for step in ctx.journal.open):
            settle(ctx, ctx.journal, lease)
        try:
            return _carry_out(ctx, survey(ctx, job), lease, late_writes.seconds_of(job), threshold)
        except BaseException as error:
            undo_failed(ctx, lease, error)
            raise


def recover(entry: Entry, ctx: Context) -> None:
    """Undo or finish what a killed run left, as its journal says; raises TaskError where that must be tried again."""
    if not entry.open:
        return
    ctx = replace(ctx, journal=entry)
    with volume_lease(ctx, max(entry.volume_ids), ctx.options.lease_seconds) as lease, ctx.cluster.leash.shielded():
        settle(ctx, entry, lease)


# -- looking only ----------------------------------------------------------------------------------------------------


def _preview(ctx: Context, scene: Scene, threshold: float) -> Result:
    """Say what would be done; changes nothing."""
    name, done = f"volume {scene.volume_id}", complete_run(scene.shard_sets)
    if not scene.regular:
        return Result(f"{name} has no regular copy; shards: {describe(scene.shard_sets) or 'none'}")
    copies = ", ".join(map(str, scene.regular))
    if done is not None:
        return Result(f"{name} has all its shards; its replicas on {copies} would be compared with them and deleted")
    check_told(ctx, scene.volume_id, scene.regular)
    if not scene.order.slots:
        raise StaleTask(unplaced(scene.volume_id, scene.order.no_slots))
    found = squeeze.look(ctx, scene, threshold)
    size = squeeze.size_after(scene, found)
    _check_targets(ctx, scene, size)
    servers = len({slot.server for slot in scene.order.slots.values()})
    first = f"be vacuumed first ({found.words} is garbage) and " if found.todo else ""
    return Result(
        f"{name} ({size >> 20} MiB on {copies}) would {first}be encoded to {servers} servers, then deleted there"
    )


# -- doing it -------------------------------------------------------------------------------------------------------


def _carry_out(ctx: Context, scene: Scene, lease: Lease, refuse: float, threshold: float) -> Result:
    done = complete_run(scene.shard_sets)
    if not scene.regular:
        return _without_source(ctx, scene, done)
    if done is not None:
        return finish(ctx, scene, done, lease, refuse)
    if not scene.order.slots:
        raise StaleTask(unplaced(scene.volume_id, scene.order.no_slots))
    check_told(ctx, scene.volume_id, scene.regular)
    found = squeeze.look(ctx, scene, threshold)
    generations = _check_targets(ctx, scene, squeeze.size_after(scene, found))
    await_senders(ctx, scene.shard_sets, scene.volume_id, scene.collection)
    if not found.todo:
        return _encode(ctx, scene, lease, refuse, generations)
    freed = squeeze.squeeze(ctx, scene, found, lease)
    result = _encode(ctx, scene, lease, refuse, _check_targets(ctx, scene, squeeze.size_after(scene, Squeeze())))
    return replace(result, summary=f"{result.summary}; {size_text(freed)} of garbage were vacuumed first")


def _without_source(ctx: Context, scene: Scene, done: int | None) -> Result:
    """Succeed where the volume is encoded already; else say what is left of it, and touch none of that."""
    volume_id = scene.volume_id
    if done is None:
        if scene.stubs and not any(held.shards for held in scene.shard_sets):
            raise BadTask(f"volume {volume_id} {EMPTY}")
        loose = [held for held in scene.shard_sets if set(held.files) - set(held.mounted)]
        if len({shard for held in scene.shard_sets for shard in held.shards}) < TOTAL_SHARDS or not loose:
            raise StaleTask(
                f"volume {volume_id} has no regular copy left and not all its shards: "
                f"{describe(scene.shard_sets) or 'no server has any'}; nothing was touched. "
                "If at least 10 are there, ec.rebuild in weed shell makes the others anew"
            )
        ctx.progress(0.7, "mounting shards")
        for held in loose:
            ctx.volume(held.server).volume_ec_shards_mount(
                volume_id=volume_id, collection=scene.collection, shard_ids=sorted(held.files)
            )
        shard_sets = look_at_all(ctx, [held.server for held in scene.shard_sets], volume_id, scene.collection)
        if complete_run(shard_sets) is None:
            raise StaleTask(
                f"volume {volume_id} has no regular copy, and its shards do not fit: {describe(shard_sets)}"
            )
    sweep(ctx, scene)
    await_master(ctx, volume_id)
    ctx.progress(1.0, "done")
    return Result(f"volume {volume_id} is erasure coded already", {"already_done": True})


def _encode(
    ctx: Context, scene: Scene, lease: Lease, refuse: float, generations: Mapping[Address, Generation]
) -> Result:
    volume_id, collection, order = scene.volume_id, scene.collection, scene.order
    biggest = max(status.dat_file_size for status in scene.regular.values())
    ctx.progress(0.05, "freezing replicas")
    frozen = freeze_replicas(ctx, scene)
    refusal = Refusal(ctx, volume_id, scene.regular, refuse)
    ctx.progress(0.1, "comparing replicas")
    source, live = _source(ctx, scene, strict=bool(row_rule(biggest, generations.values())))
    run = max(time.time_ns(), *(held.run + 1 for held in scene.shard_sets))
    _remove_earlier(ctx, scene, lease, run)

    places = _places(order)
    vifs = {
        target: dump_vif(
            volume_info_of(source, scene.regular[source.server], scene.ttl, run, target in scene.regular),
            generations[target],
        )
        for target in places
    }
    lease.check()
    shards = {target: tuple(ids) for target, ids in places.items()}
    vifs_before = _own_vifs(ctx, scene, places)
    step = Sending(volume_id, run, collection, tuple(scene.regular), source.dat_size, shards, vifs_before)
    sending = plan(ctx.journal, step)
    for target, disk_id in dict.fromkeys((slot.server, slot.disk_id) for slot in order.slots.values()):
        send(ctx.volume(target), volume_id, collection, ".vif", vifs[target], disk_id)
    sums = encode(ctx, source, order.slots)
    _send_indexes(ctx, scene, places, generations, sums, live)
    _mount(ctx, scene, places, lease)
    refusal.outlast(lambda stage: ctx.progress(0.72, stage))
    lease.check()
    ctx.progress(0.75, "proving shards")
    claim = Claim(source, run, places)
    prove(ctx, claim, live, sums)
    return commit_run(ctx, scene, claim, live, frozen, lease, sending, vifs)


def _source(ctx: Context, scene: Scene, strict: bool) -> tuple[Source, Live]:
    """The replica to encode from, and what lives in it; BadTask where nothing does, Mismatch for a wrong index."""
    volume_id = scene.volume_id
    indexes = _read_still(ctx, scene)
    server = _choose(ctx, scene, {server: index.live for server, index in indexes.items()})
    live = indexes[server].live
    source = replace(source_of(scene, server, scene.regular[server], strict), index_sha256=indexes[server].digest)
    end = content_end(live, source.version)
    if end > source.dat_size:
        raise Mismatch(
            f"the index of volume {volume_id} on {server} points {end - source.dat_size} bytes past its data"
        )
    if not live:
        raise BadTask(f"volume {volume_id} {NO_FILE}")
    return source, live


def _remove_earlier(ctx: Context, scene: Scene, lease: Lease, run: int) -> None:
    """Remove the shards that earlier encodes left."""
    for held in scene.shard_sets:
        if held.shards:
            lease.check()
            ctx.log(f"removing shards {held.shards} that an earlier encode left on {held.server}")
            remove(ctx, held, scene.volume_id, scene.collection, run - 1)
    sweep(ctx, scene)


def _places(order: EncodeOrder) -> dict[Address, list[int]]:
    """The shards by the server that gets them."""
    places: dict[Address, list[int]] = {}
    for shard_id, slot in sorted(order.slots.items()):
        places.setdefault(slot.server, []).append(shard_id)
    return places


def _mount(ctx: Context, scene: Scene, places: Mapping[Address, list[int]], lease: Lease) -> None:
    ctx.progress(0.7, "mounting shards")
    lease.check()
    ctx.each(
        lambda target: ctx.volume(target).volume_ec_shards_mount(
            volume_id=scene.volume_id,
            collection=scene.collection,
            shard_ids=places[target],
            source_disk_type=scene.order.disk_type,
        ),
        places,
    )


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


def _own_vifs(ctx: Context, scene: Scene, places: Mapping[Address, Sequence[int]]) -> dict[Address, str]:
    """The `.vif` files of replicas that shards will lie beside, to be put back if they do not stay."""
    found: dict[Address, str] = {}
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
            found[server] = b"".join(chunk.file_content for chunk in chunks).decode(errors="replace")
    return found


def _read_still(ctx: Context, scene: Scene) -> dict[Address, Index]:
    """Read the index of each frozen replica, once its last admitted write has ended; the scene gets their statuses."""

    def read(server: Address) -> tuple[ReadVolumeFileStatusResponse, Index]:
        before = file_status(ctx, server, scene.volume_id)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(fetch_index, ctx, server, scene.volume_id, before)
            still = wait_still(ctx, server, scene.volume_id, STILL_FOR)
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
