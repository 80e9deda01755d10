"""Moving shards of an erasure-coded volume from one server to another: copied, proved, and only then removed.

A shard is never removed before another server is proved to have it: same collection, same size, same encode run, bytes
that read back equal, every deletion that was noted beside it. Repeating a job, or running it after another worker's
death, recognises what is done and finishes the rest. Works for servers that tell all that: from 4.44 on.
"""

from __future__ import annotations

import hashlib
import random
from contextlib import nullcontext
from dataclasses import dataclass, replace

from weed_cluster.address import Address
from weed_cluster.topology import Topology, ec_locations
from weed_core.errors import Busy, Mismatch, ServerFailed, StaleTask, TaskError
from weed_core.release import Generation
from weed_ec.deletions import tell_all
from weed_ec.runs import runs_of, the_run
from weed_ec.shards import ShardSet, fetch, file_time, look, look_at_all
from weed_ec.stream import PIECE, read_piece
from weed_safety.alike import check_alike
from weed_safety.context import Context
from weed_safety.journal import Entry
from weed_safety.lease import Lease, volume_lease
from weed_safety.proof import SERVED, Sample, asked_of, prove_answers, sample_of, why_unanswered
from weed_safety.readiness import close_refusing
from weed_safety.steps import Planned, kind, of_kind, plan
from weed_storage.ec_layout import locate
from weed_storage.index import Live, entries, fold, read_ecj
from weed_storage.needle import actual_size

SAMPLED = 8
"""Pieces of a shard that are read back from both servers and compared."""

LOCATED = 256
"""Needles among which one in each shard of data is looked for."""

SLOWEST = 10 << 20
"""Bytes per second that a copy must reach before its deadline gives it up."""

SEEN_WITHIN = 60.0
"""Seconds in which the master must know a new shard."""


@dataclass(frozen=True)
class ShardOrder:
    """What should be done: take these shards from `source`; `target` gets them, or has them already."""

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


@kind("ec_shard_copy")
@dataclass(frozen=True)
class CopyShard:
    """The journal step of a shard file that may lie on the target."""

    volume_id: int
    collection: str
    shard_id: int
    source: Address
    target: Address

    @property
    def order(self) -> ShardOrder:
        """The order to move it."""
        return ShardOrder(self.volume_id, self.collection, (self.shard_id,), self.source, self.target)


@kind("ec_shard_remove")
@dataclass(frozen=True)
class RemoveShard(CopyShard):
    """The journal step of a shard that may be unmounted or gone at the source; facts as the copy's."""


def move_shards(ctx: Context, order: ShardOrder, topology: Topology, lease: Lease | None = None) -> tuple[str, int]:
    """Move or remove what an order names; say in words what was done, and how many bytes were moved.

    On failure the source keeps its shards and the target loses its copies. With a dry run only look. `lease` is the
    volume's, where the caller holds it. Raises StaleTask where nothing was touched; Busy, Mismatch and TaskError say
    what is left.
    """
    _check_order(order, topology, ctx)
    if ctx.options.dry_run:
        return _look_only(order, ctx), 0
    with nullcontext(lease) if lease is not None else volume_lease(ctx, order.volume_id) as held:
        _undo(ctx.journal, ctx)  # what an earlier run of this very job left
        check_alike(ctx, _both(order), f"{order.name} cannot be moved or removed")
        done = [_shard(order, shard, ctx, held) for shard in order.shard_ids]
        _tell_deletions(order, ctx)
    words = "; ".join(words for words, _size in done)
    verb = "removed" if order.dedup else "moved"
    return (
        f"{verb} {order.name} from {order.source}, {order.target} has it: {words}",
        sum(size for _words, size in done),
    )


def why_refused(topology: Topology, volume_id: int, collection: str) -> str:
    """Say, in a sentence, why no shard of a volume may be moved; "" where they may."""
    runs = {holding.encode_ts_ns for holding in topology.holdings(volume_id, collection)}
    if ambiguity := topology.ambiguity(volume_id):
        reason = f"the volume {ambiguity}"
    elif len(runs) > 1:
        reason = f"they come from {len(runs)} encode runs; erasure coding has to settle that first"
    elif topology.replicas(volume_id):
        reason = "its regular volume still exists; erasure coding has to finish first"
    elif words := topology.barred.get(volume_id, ""):
        reason = f"a job on them {words}"
    elif unlike := topology.mixed(holding.node for holding in topology.holdings(volume_id, collection)):
        reason = f"not all of them can be read where they lie: {unlike}"
    else:
        return ""
    return refused_shards(volume_id, reason)


def refused_shards(volume_id: int, reason: str) -> str:
    """Say that a volume's shards stay where they are, and why."""
    return f"the shards of volume {volume_id} stay where they are: {reason}"


def too_old(server: Address, generation: Generation) -> str:
    """Say that a server's release cannot have its shards moved; "" where it can."""
    if generation.knows_ecsum:
        return ""
    return f"{server} is too old to have its shards moved; SeaweedFS 4.44 or newer is needed"


def _check_order(order: ShardOrder, topology: Topology, ctx: Context) -> None:
    """StaleTask where the master's view or one of the two servers is against the move; nothing was touched."""
    if reason := why_refused(topology, order.volume_id, order.collection):
        raise StaleTask(reason)
    for server, answer in close_refusing(ctx, topology, (order.source, order.target)).items():
        if reason := answer.refusal or too_old(server, answer.generation):
            raise StaleTask(refused_shards(order.volume_id, reason))


def _look_only(order: ShardOrder, ctx: Context) -> str:
    source, target = (look(ctx, server, order.volume_id, order.collection) for server in (order.source, order.target))
    held = {side.server: sorted({*order.shard_ids} & {*side.mounted}) or "none of them" for side in (source, target)}
    return (
        f"would {'remove' if order.dedup else 'move'} {order.name} from {order.source}, which has {held[order.source]}"
        f" mounted; {order.target} has {held[order.target]}"
    )


def _shard(order: ShardOrder, shard: int, ctx: Context, lease: Lease) -> tuple[str, int]:
    """Do it for one shard; say what was done, and how many bytes were moved."""
    _check_no_volume(order, ctx)
    source, target = _look(order, ctx)
    if shard in source.files and shard not in source.mounted:
        # An earlier run died between unmounting and deleting: only what is mounted can be compared.
        _mount(order, shard, order.source, ctx)
        source, target = _look(order, ctx)
    if shard not in source.shards:
        if shard in target.mounted and target.mounted[shard] > 0:
            return f"shard {shard} was there already", 0
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
    left = None if set(source.mounted) - {shard} else order.source
    _teach(order, shard, known, left, ctx)
    if copied is None:
        return f"shard {shard} removed, a proved copy stays", 0
    return f"shard {shard} moved", source.mounted[shard]


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


def _copy(order: ShardOrder, shard: int, source: ShardSet, target: ShardSet, ctx: Context) -> Planned[CopyShard]:
    """Let the target pull the shard, with index and journal where it has none of the volume yet, and mount it."""
    volume, size = ctx.volume(order.target), source.mounted[shard]
    ext = f".ec{shard:02d}"
    if shard in target.files:
        ctx.wait(1.5)
        if file_time(volume, order.volume_id, order.collection, ext) != target.files[shard]:
            raise Busy(f"somebody is writing shard {shard} of volume {order.volume_id} to {order.target} just now")
    ctx.progress(0.1, f"copying shard {shard} to {order.target}", bytes=size)
    step = plan(ctx.journal, CopyShard(*_parts(order, shard)))
    try:
        volume.volume_ec_shards_copy(
            volume_id=order.volume_id,
            collection=order.collection,
            shard_ids=[shard],
            # Beside mounted shards an index of the target's own is in use, with deletions that only it may know.
            copy_ecx_file=not target.mounted,
            # Servers copy a journal over the beginning of one that is there: what that knows would be undone.
            copy_ecj_file=not target.mounted and file_time(volume, order.volume_id, order.collection, ".ecj") is None,
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


def _parts(order: ShardOrder, shard: int) -> tuple[int, str, int, Address, Address]:
    return order.volume_id, order.collection, shard, order.source, order.target


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


def _tell_deletions(order: ShardOrder, ctx: Context) -> None:
    """Tell every holder every deletion that any of them knows: servers write each into one journal alone."""
    try:
        holders = {one for servers in ec_locations(ctx.master(), order.volume_id).values() for one in servers}
        found = look_at_all(ctx, sorted({*holders, order.target}, key=str), order.volume_id, order.collection)
        count = tell_all(ctx, the_run(runs_of(ctx, found, order.volume_id, order.collection)))
    except TaskError as error:  # the shard has moved all the same
        ctx.log(f"not every holder of volume {order.volume_id} was told what was deleted: {error}")
        return
    if count:
        ctx.log(f"told holders of volume {order.volume_id} {count} deletions that only others knew")


def _prove_served(order: ShardOrder, source: ShardSet, ctx: Context) -> dict[int, tuple[int, int]]:
    """Mismatch unless the target finds files of the volume by itself, as the source does; return what it found."""
    index = fetch(ctx.volume(order.source), order.volume_id, order.collection, ".ecx")
    offset_bytes = (source.vif.bytes_offset if source.vif else 0) or 4
    live = ctx.compute(fold, index or b"", offset_bytes)
    known = asked_of(ctx, order.volume_id, order.source, _one_in_each(live, source), ctx.options.finds_others_seconds)
    prove_answers(ctx, order.volume_id, order.target, known, ctx.options.finds_others_seconds)
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


def _teach(
    order: ShardOrder, shard: int, known: dict[int, tuple[int, int]], left: Address | None, ctx: Context
) -> None:
    """Have every holder find files without the place that the shard left, before another shard goes.

    `left` is a server that holds none any more: the master lists it for a while yet, and it rightly finds nothing.

    A server looks for shards where they were when it last asked, for up to seven minutes: with more than four of them
    gone from there it reads nothing, unless it is made to notice.
    """

    def learn(server: Address) -> None:
        if reason := why_unanswered(ctx, order.volume_id, server, known, ctx.options.finds_others_seconds):
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
    ctx.each(learn, sorted(holders - {left}, key=str))


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
    step = plan(ctx.journal, RemoveShard(*_parts(order, shard)))
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
    removal = RemoveShard(*_parts(order, shard))
    return any(step.change == removal for step in of_kind(ctx.journal, RemoveShard))


def _drop(order: ShardOrder, shard: int, step: Planned[CopyShard], ctx: Context) -> None:
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


def recover_shard_moves(entry: Entry, ctx: Context) -> None:
    """Undo what a killed run left: what it unmounted is mounted again, and a copy it made is dropped.

    Raises TaskError where a server cannot be asked yet; the entry then keeps its steps.
    """
    with volume_lease(ctx, entry.volume_id, patience=30.0), ctx.cluster.leash.shielded():
        _undo(entry, ctx)


def _undo(entry: Entry, ctx: Context) -> None:
    for removal in of_kind(entry, RemoveShard):
        order = removal.change.order
        shard = removal.change.shard_id
        source, target = (look(ctx, server, order.volume_id, order.collection) for server in _both(order))
        if shard in source.files and shard not in source.mounted:
            _mount(order, shard, order.source, ctx)
        elif shard not in source.shards and target.mounted.get(shard, 0) <= 0:
            raise TaskError(f"neither {order.source} nor {order.target} has {order.name}; ec.rebuild restores it")
        entry.settle(removal)
    for copy in of_kind(entry, CopyShard):
        order = copy.change.order
        shard = copy.change.shard_id
        source, target = (look(ctx, server, order.volume_id, order.collection) for server in _both(order))
        if shard not in target.shards or (shard not in source.shards and shard in target.mounted):
            entry.settle(copy)  # there is nothing of it, or it is all that is left
        elif source.mounted and target.mounted and source.run != target.run:
            entry.settle(copy)  # somebody encoded the volume anew: these shards are not ours
        else:
            _drop(order, shard, copy, replace(ctx, journal=entry))
            if entry.is_open(copy):
                raise TaskError(f"the copy of {order.name} on {order.target} cannot be removed yet")
