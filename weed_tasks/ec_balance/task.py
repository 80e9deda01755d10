"""Spreading the shards of erasure-coded volumes evenly: one shard per job, copied, proved, and only then removed.

A shard is never removed before another server is proved to have it: same collection, same size, same encode run, bytes
that read back equal, every deletion that was noted beside it. Repeating a job, or running it after another worker's
death, recognises what is done and finishes the rest. Works for servers that tell all that: from 4.44 on.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace

from weed_cluster.address import Address
from weed_cluster.topology import Topology, ec_locations, snapshot
from weed_core.errors import BadTask, Busy, Mismatch, ServerFailed, StaleTask, TaskError
from weed_core.model import Job, Result
from weed_core.release import Generation
from weed_core.values import as_int
from weed_ec.proof import FINDS_OTHERS_WITHIN
from weed_ec.shards import ALL_SHARDS, ShardSet, fetch, file_time, look
from weed_ec.stream import PIECE, read_piece
from weed_safety.alike import check_alike
from weed_safety.context import Context
from weed_safety.journal import Entry, Step
from weed_safety.lease import Lease, volume_lease
from weed_safety.parameters import server_named, text_of, volume_id_of
from weed_safety.proof import SERVED, Sample, asked_of, prove_answers, sample_of, why_unanswered
from weed_safety.readiness import close_refusing
from weed_storage.ec_layout import locate
from weed_storage.index import Live, entries, fold, read_ecj
from weed_storage.needle import actual_size
from weed_tasks.ec_balance.spread import refused_shards, why_refused

COPY, REMOVE = "ec_shard_copy", "ec_shard_remove"
"""Journal steps: a shard file that may lie on the target, and one that may be unmounted or gone at the source."""

SAMPLED = 8
"""Pieces of a shard that are read back from both servers and compared."""

LOCATED = 256
"""Needles among which one in each shard of data is looked for."""

SLOWEST = 10 << 20
"""Bytes per second that a copy must reach before its deadline gives it up."""

SEEN_WITHIN = 60.0
"""Seconds in which the master must know a new shard."""


# ---- detection


def too_old(server: Address, generation: Generation) -> str:
    if generation.knows_ecsum:
        return ""
    return f"{server} is too old to have its shards moved; SeaweedFS 4.44 or newer is needed"


# ---- execution


@dataclass(frozen=True)
class ShardOrder:
    """What one job should do: take these shards from `source`; `target` gets them, or has them already."""

    volume_id: int
    collection: str
    shard_ids: tuple[int, ...]
    source: Address
    target: Address
    target_disk: int = 0
    dedup: bool = False
    rate: int = 0

    @property
    def name(self) -> str:
        """What it is about, for sentences."""
        return f"shard {', '.join(map(str, self.shard_ids))} of volume {self.volume_id}"


def run(job: Job, ctx: Context) -> Result:
    """Move or remove what the job names; on failure the source keeps its shards and the target loses its copies."""
    topology = snapshot(ctx.master(), volume_id=volume_id_of(job))
    order = read_order(job, topology)
    _check_order(order, topology, ctx)
    if ctx.options.dry_run:
        return _look_only(order, ctx)
    with volume_lease(ctx, order.volume_id) as lease:
        _undo(ctx.journal, ctx)  # what an earlier run of this very job left
        check_alike(ctx, _both(order), f"{order.name} cannot be moved or removed")
        done = [_shard(order, shard, ctx, lease) for shard in order.shard_ids]
    return Result(
        f"{'removed' if order.dedup else 'moved'} {order.name} from {order.source}, {order.target} has it: "
        + "; ".join(done),
        {
            "volume_id": order.volume_id,
            "source_server": str(order.source),
            "target_server": str(order.target),
            "shard_ids": [str(shard) for shard in order.shard_ids],
        },
    )


def read_order(job: Job, topology: Topology | None = None) -> ShardOrder:
    """Read what a job asks for; BadTask where it is absent, contradicts itself or would touch one server twice."""
    params = job.params
    volume_id = volume_id_of(job)
    if params.sources or params.targets:
        if len(params.sources) != 1 or len(params.targets) != 1:
            raise BadTask(f"volume {volume_id}: one source and one target are needed, one each")
        source, target = params.sources[0], params.targets[0]
        names = source.node, target.node
        disks = source.disk_id, target.disk_id
        shards = tuple(source.shard_ids)
        if shards != tuple(target.shard_ids):
            raise BadTask(f"volume {volume_id}: source and target name different shards")
    else:
        names = text_of(job, "source_server"), text_of(job, "target_server")
        disks = as_int(job.parameters.get("source_disk_id"), 0), as_int(job.parameters.get("target_disk_id"), 0)
        shards = (as_int(job.parameters.get("shard_id"), -1),)
    if not shards or len(set(shards)) != len(shards) or not {*shards} <= {*ALL_SHARDS}:
        raise BadTask(f"volume {volume_id}: {list(shards)} are no shards; they are numbered 0 to {ALL_SHARDS[-1]}")
    if not all(names):
        raise BadTask(f"volume {volume_id}: the job names no source or no target server")
    collection = params.collection or text_of(job, "collection")
    rate = params.ec_balance_params.io_byte_per_second or as_int(job.parameters.get("io_byte_per_second"), 0)
    here, there = (server_named(name, topology) for name in names)
    keep = params.ec_balance_params.dedup_keep_node
    dedup = here == there
    if dedup:
        if disks[0] != disks[1]:
            raise BadTask(f"volume {volume_id}: {here} cannot move a shard between its own disks: deleting is for all")
        if not keep:
            raise BadTask(
                f"volume {volume_id}: source and target are both {here}, and no server is named that keeps it"
            )
        there = server_named(keep, topology)
        if here == there:
            raise BadTask(f"volume {volume_id}: {here} should both lose and keep the shard")
    return ShardOrder(volume_id, collection, shards, here, there, 0 if dedup else disks[1], dedup, max(0, rate))


def _check_order(order: ShardOrder, topology: Topology, ctx: Context) -> None:
    """StaleTask where the master's view or one of the two servers is against the move; nothing was touched."""
    if reason := why_refused(topology, order.volume_id, order.collection):
        raise StaleTask(reason)
    for server, answer in close_refusing(ctx, topology, (order.source, order.target)).items():
        if reason := answer.refusal or too_old(server, answer.generation):
            raise StaleTask(refused_shards(order.volume_id, reason))


def _look_only(order: ShardOrder, ctx: Context) -> Result:
    source, target = (look(ctx, server, order.volume_id, order.collection) for server in (order.source, order.target))
    held = {side.server: sorted({*order.shard_ids} & {*side.mounted}) or "none of them" for side in (source, target)}
    return Result(
        f"would {'remove' if order.dedup else 'move'} {order.name} from {order.source}, which has {held[order.source]}"
        f" mounted; {order.target} has {held[order.target]}"
    )


def _shard(order: ShardOrder, shard: int, ctx: Context, lease: Lease) -> str:
    """Do it for one shard; say what was done."""
    _check_no_volume(order, ctx)
    source, target = _look(order, ctx)
    if shard in source.files and shard not in source.mounted:
        # An earlier run died between unmounting and deleting: only what is mounted can be compared.
        _mount(order, shard, order.source, ctx)
        source, target = _look(order, ctx)
    if shard not in source.shards:
        if shard in target.mounted and target.mounted[shard] > 0:
            return f"shard {shard} was there already"
        raise StaleTask(f"{order.source} has no shard {shard} of volume {order.volume_id}; nothing was touched")
    copied = None
    if shard not in target.mounted:
        if order.dedup:
            raise StaleTask(
                f"{order.target} does not have shard {shard} of volume {order.volume_id}; nothing was touched"
            )
        copied = _copy(order, shard, source, target, ctx)
    try:
        _prove(order, shard, ctx)
        if copied is not None:
            _await_master(order, shard, ctx)
        known = _prove_served(order, source, ctx)
        with ctx.cluster.leash.shielded():
            _remove(order, shard, ctx, lease)
    except BaseException:
        if copied is not None and not _removing(order, shard, ctx) and not lease.is_lost:
            with ctx.cluster.leash.shielded():
                _drop(order, shard, copied, ctx)
        raise
    if copied is not None:
        ctx.journal.settle(copied)
    _teach(order, shard, known, ctx)
    return f"shard {shard} " + ("moved" if copied else "removed, a proved copy stays")


def _look(order: ShardOrder, ctx: Context) -> tuple[ShardSet, ShardSet]:
    """Ask both servers; StaleTask where their shards are not of one encode run."""
    source, target = ctx.each(
        lambda server: look(ctx, server, order.volume_id, order.collection), (order.source, order.target)
    )
    if source.mounted and target.mounted and source.run != target.run:
        raise StaleTask(
            f"{source.server} and {target.server} hold shards of volume {order.volume_id} of different encode runs; "
            "nothing was touched"
        )
    return source, target


def _check_no_volume(order: ShardOrder, ctx: Context) -> None:
    """StaleTask where the regular volume still exists on either server: then an encode has not finished."""
    for server in (order.source, order.target):
        try:
            ctx.volume(server).volume_status(volume_id=order.volume_id)
        except ServerFailed as error:
            if error.says_absent:
                continue
            raise
        raise StaleTask(f"{server} still has the regular volume {order.volume_id}; its encode has to finish first")


def _copy(order: ShardOrder, shard: int, source: ShardSet, target: ShardSet, ctx: Context) -> Step:
    """Let the target pull the shard, with index and journal where it has none of the volume yet, and mount it."""
    volume, size = ctx.volume(order.target), source.mounted[shard]
    ext = f".ec{shard:02d}"
    if shard in target.files:
        ctx.wait(1.5)
        if file_time(volume, order.volume_id, order.collection, ext) != target.files[shard]:
            raise Busy(f"somebody is writing shard {shard} of volume {order.volume_id} to {order.target} just now")
    ctx.progress(0.1, f"copying shard {shard} to {order.target}", bytes=size)
    step = ctx.journal.plan(COPY, **_facts(order, shard))
    try:
        volume.volume_ec_shards_copy(
            volume_id=order.volume_id,
            collection=order.collection,
            shard_ids=[shard],
            # Beside mounted shards an index of the target's own is in use, with deletions that only it may know.
            copy_ecx_file=not target.mounted,
            copy_ecj_file=not target.mounted,
            copy_vif_file=True,
            copy_ecsum_file=True,
            source_data_node=str(order.source),
            disk_id=order.target_disk,
            io_byte_per_second=ctx.rates.for_server_side(order.rate),
            timeout=600.0 + size / SLOWEST,
        )
        _mount(order, shard, order.target, ctx)
    except BaseException:
        with ctx.cluster.leash.shielded():
            _drop(order, shard, step, ctx)
        raise
    return step


def _facts(order: ShardOrder, shard: int) -> dict[str, object]:
    return {
        "volume_id": order.volume_id,
        "collection": order.collection,
        "shard_id": shard,
        "source": str(order.source),
        "target": str(order.target),
    }


def _mount(order: ShardOrder, shard: int, server: Address, ctx: Context) -> None:
    ctx.volume(server).volume_ec_shards_mount(volume_id=order.volume_id, collection=order.collection, shard_ids=[shard])


def _prove(order: ShardOrder, shard: int, ctx: Context) -> None:
    """Ask both servers afresh whether the target's shard can stand for the source's; Mismatch says why not."""
    ctx.progress(0.4, f"proving shard {shard} on {order.target}")
    source, target = _look(order, ctx)
    where = f"shard {shard} of volume {order.volume_id} on {order.target}"
    if shard not in target.mounted or shard not in target.files:
        raise Mismatch(f"{where} is not mounted; the source is kept")
    size = target.mounted[shard]
    sizes = {size, *target.mounted.values(), *source.mounted.values()}
    if size <= 0 or len(sizes) != 1:
        raise Mismatch(f"{where} has {size} bytes, others of the volume {sorted(sizes - {size})}; the source is kept")
    if shard not in source.mounted:
        raise Mismatch(f"{order.source} no longer serves {where.partition(' on ')[0]}; nothing was removed")
    pieces = range(size // PIECE)
    chosen = {*pieces[:1], *pieces[-1:], *random.sample(pieces, min(SAMPLED - 2, len(pieces)))}
    for piece in sorted(chosen):
        read = [
            read_piece(ctx.volume(side.server), order.volume_id, shard, piece, side.run) for side in (source, target)
        ]
        if read[0] != read[1]:
            raise Mismatch(f"{where} differs from the source's at byte {piece * PIECE}; the source is kept")
    _pass_on_deletions(order, target, ctx)


def _pass_on_deletions(order: ShardOrder, target: ShardSet, ctx: Context) -> None:
    """Note at the target every deletion that the source knows of: files must not come back with the shard's move."""
    index = [fetch(ctx.volume(server), order.volume_id, order.collection, ".ecx") for server in _both(order)]
    if index[0] is None or index[1] is None:
        raise Mismatch(f"the index of volume {order.volume_id} cannot be read on {order.source} and {order.target}")
    deleted = [
        {*read_ecj(fetch(ctx.volume(server), order.volume_id, order.collection, ".ecj") or b"")}
        for server in _both(order)
    ]
    offset_bytes = (target.vif.bytes_offset if target.vif else 0) or 4
    if hashlib.sha256(index[0]).digest() != hashlib.sha256(index[1]).digest():
        ids = []
        for content, known in zip(index, deleted):
            all_of, gone = ctx.compute(_ids, content, offset_bytes)
            ids.append(all_of)
            known |= gone
        if ids[0] != ids[1]:
            raise Mismatch(f"{order.source} and {order.target} have different indexes of volume {order.volume_id}")
    version = (target.vif.version if target.vif else 0) or 3
    for needle_id in sorted(deleted[0] - deleted[1]):
        ctx.volume(order.target).volume_ec_blob_delete(
            volume_id=order.volume_id, collection=order.collection, file_key=needle_id, version=version
        )


def _prove_served(order: ShardOrder, source: ShardSet, ctx: Context) -> dict[int, tuple[int, int]]:
    """Mismatch unless the target finds files of the volume by itself, as the source does; return what it found."""
    index = fetch(ctx.volume(order.source), order.volume_id, order.collection, ".ecx")
    offset_bytes = (source.vif.bytes_offset if source.vif else 0) or 4
    live = ctx.compute(fold, index or b"", offset_bytes)
    known = asked_of(ctx, order.volume_id, order.source, _one_in_each(live, source), FINDS_OTHERS_WITHIN)
    prove_answers(ctx, order.volume_id, order.target, known, FINDS_OTHERS_WITHIN)
    return known


def _one_in_each(live: Live, source: ShardSet) -> Sample:
    """Choose a needle in each shard of data, as far as a sample has one there."""
    size = source.vif.dat_file_size if source.vif is not None else 0
    if source.vif is None or not size:
        return sample_of(live, SERVED)
    version, strict = source.vif.version or 3, source.generation.strict_rows
    chosen = {
        locate(offset, actual_size(length, version), size, strict)[0].shard: (needle_id, offset, length)
        for needle_id, offset, length in sample_of(live, LOCATED)
        if length > 0
    }
    return list(chosen.values())


def _teach(order: ShardOrder, shard: int, known: dict[int, tuple[int, int]], ctx: Context) -> None:
    """Have every holder find files without the place that the shard left, before another shard goes.

    A server looks for shards where they were when it last asked, for up to seven minutes: with more than four of them
    gone from there it reads nothing, unless it is made to notice.
    """

    def learn(server: Address) -> None:
        if reason := why_unanswered(ctx, order.volume_id, server, known, FINDS_OTHERS_WITHIN):
            ctx.log(
                f"reads of volume {order.volume_id} through {server} may fail for up to seven minutes, until it looks "
                f"anew for shard {shard}: {reason}"
            )

    ctx.progress(0.9, "having every holder find the shard's new place")
    try:
        holders = {server for servers in ec_locations(ctx.master(), order.volume_id).values() for server in servers}
    except ServerFailed as error:  # the shard has moved all the same
        ctx.log(f"the holders of volume {order.volume_id} were not asked to find shard {shard} anew: {error}")
        return
    ctx.each(learn, sorted(holders, key=str))


def _both(order: ShardOrder) -> tuple[Address, Address]:
    return order.source, order.target


def _ids(index: bytes, offset_bytes: int) -> tuple[set[int], set[int]]:
    """Read an .ecx: all needle ids in it, and those that it marks as deleted."""
    found = [(needle_id, size) for needle_id, _offset, size in entries(index, offset_bytes)]
    return {needle_id for needle_id, _ in found}, {needle_id for needle_id, size in found if size < 0}


def _await_master(order: ShardOrder, shard: int, ctx: Context) -> None:
    """Wait until the master sends readers to the target too; TaskError if it does not in time."""
    master = ctx.master()
    ctx.progress(0.6, f"waiting until the master knows shard {shard} on {order.target}")
    if not ctx.until(lambda: order.target in ec_locations(master, order.volume_id).get(shard, []), SEEN_WITHIN):
        raise TaskError(
            f"the master does not show shard {shard} of volume {order.volume_id} on {order.target} after "
            f"{SEEN_WITHIN:.0f} s; the copy was removed again, the source is kept"
        )


def _remove(order: ShardOrder, shard: int, ctx: Context, lease: Lease) -> None:
    """Take the shard from the source, having proved the target's once more; Mismatch if it is still there then."""
    _prove(order, shard, ctx)
    ctx.progress(0.75, f"removing shard {shard} from {order.source}")
    lease.check()
    step = ctx.journal.plan(REMOVE, **_facts(order, shard))
    volume = ctx.volume(order.source)
    volume.volume_ec_shards_unmount(volume_id=order.volume_id, shard_ids=[shard])
    there = look(ctx, order.target, order.volume_id, order.collection)
    if shard not in there.mounted or shard not in there.files:
        _mount(order, shard, order.source, ctx)
        ctx.journal.settle(step)
        raise Mismatch(f"{order.target} lost shard {shard} of volume {order.volume_id} just now; the source is kept")
    _pass_on_deletions(order, there, ctx)  # what was deleted since the last look
    volume.volume_ec_shards_delete(volume_id=order.volume_id, collection=order.collection, shard_ids=[shard])
    if shard in look(ctx, order.source, order.volume_id, order.collection).shards:
        raise Mismatch(f"{order.source} still has shard {shard} of volume {order.volume_id} after deleting it")
    ctx.journal.settle(step)


def _removing(order: ShardOrder, shard: int, ctx: Context) -> bool:
    """Whether the removal at the source had begun: then the target's copy may be the only one and stays."""
    return any(step.what == REMOVE and dict(step.facts) == _facts(order, shard) for step in ctx.journal.open)


def _drop(order: ShardOrder, shard: int, step: Step, ctx: Context) -> None:
    """Remove the copy that this job made, if the source is proved to serve the shard; else it stays, and the step open.

    A server that cannot be asked leaves the step open too: recovery tries again.
    """
    try:
        source = look(ctx, order.source, order.volume_id, order.collection)
        if source.mounted.get(shard, 0) <= 0:
            ctx.log(f"{order.source} does not serve {order.name}: the copy on {order.target} stays")
            return
        volume = ctx.volume(order.target)
        volume.volume_ec_shards_unmount(volume_id=order.volume_id, shard_ids=[shard])
        volume.volume_ec_shards_delete(volume_id=order.volume_id, collection=order.collection, shard_ids=[shard])
        if shard in look(ctx, order.target, order.volume_id, order.collection).shards:
            raise Mismatch(f"{order.target} still has shard {shard} of volume {order.volume_id} after deleting it")
    except TaskError as error:
        ctx.log(f"the copy of {order.name} on {order.target} is left for recovery: {error}")
        return
    ctx.journal.settle(step)


# ---- recovery


def recover(entry: Entry, ctx: Context) -> None:
    """Undo what a killed run left: what it unmounted is mounted again, and a copy it made is dropped.

    Raises TaskError where a server cannot be asked yet; the entry then keeps its steps.
    """
    with volume_lease(ctx, entry.volume_id, patience=30.0), ctx.cluster.leash.shielded():
        _undo(entry, ctx)


def _undo(entry: Entry, ctx: Context) -> None:
    for step in sorted(entry.open, key=lambda step: step.what != REMOVE):
        order = _order_of(step)
        shard = order.shard_ids[0]
        source, target = (look(ctx, server, order.volume_id, order.collection) for server in _both(order))
        if step.what == REMOVE:
            if shard in source.files and shard not in source.mounted:
                _mount(order, shard, order.source, ctx)
            elif shard not in source.shards and target.mounted.get(shard, 0) <= 0:
                raise TaskError(f"neither {order.source} nor {order.target} has {order.name}; ec.rebuild restores it")
            entry.settle(step)
        elif step.what == COPY:
            if shard not in target.shards or (shard not in source.shards and shard in target.mounted):
                entry.settle(step)  # there is nothing of it, or it is all that is left
            elif source.mounted and target.mounted and source.run != target.run:
                entry.settle(step)  # somebody encoded the volume anew: these shards are not ours
            else:
                _drop(order, shard, step, replace(ctx, journal=entry))
                if step in entry.open:
                    raise TaskError(f"the copy of {order.name} on {order.target} cannot be removed yet")


def _order_of(step: Step) -> ShardOrder:
    facts = step.facts
    return ShardOrder(
        int(facts["volume_id"]),
        str(facts["collection"]),
        (int(facts["shard_id"]),),
        Address.parse(str(facts["source"])),
        Address.parse(str(facts["target"])),
    )
