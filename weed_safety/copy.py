"""Copying a volume from one server to another: asked of the target, proved there, or deleted again.

The copy is in the journal before it is asked for, and stays there until its maker lets it stay or drops it. Knows
nothing of why there should be a copy, nor of what becomes of the source.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from proto_gen.volume_server_pb2 import ReadVolumeFileStatusResponse
from weed_cluster.address import Address
from weed_core.errors import BadTask, Mismatch, ServerFailed, StaleTask, TaskError, TimedOut
from weed_safety import holds
from weed_safety.alike import check_alike
from weed_safety.context import Context
from weed_safety.freeze import STEP as FREEZE
from weed_safety.freeze import Frozen, open_freeze, thaw
from weed_safety.journal import Entry, Step
from weed_safety.lease import Lease
from weed_safety.location_cache import forget, shut_steps, words
from weed_safety.look import file_status, probe
from weed_safety.proof import CHECKSUMS, compare_replicas, prove_copy
from weed_safety.remains import DELETE_TIMEOUT, clear_remains, is_remains

COPY, DELETE = "copy", "delete"
"""Journal steps: a copy that the target was asked to pull, and the deletion of its source, once that was proved.

Their facts: volume_id, source, target, collection, persist (the copy comes up read-only and is to be thawed), frozen
(the source is), and the figures of the source when the copy began: dat and idx in bytes, revision.
"""

SLOWEST = 4 << 20
"""Bytes per second that a copy reaches even on a busy day; deadlines are made from it."""

GRACE = 2.0
"""Seconds without any trace of a copy after which a target is not about to begin it."""

STALLED = 30.0
"""Seconds without a change after which an unfinished copy counts as broken off."""

PULLS_WITHIN = 600.0
"""Seconds that a copy whose client is gone is waited for; a server notices after 128 MiB at the latest."""

LOST = ("UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL")
"""Codes that tell nothing of what the server did: it may not even have answered."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Copied:
    """A copy that was proved equal. `step` is still open: settle it when the copy is to stay, or drop_copy()."""

    step: Step
    status: ReadVolumeFileStatusResponse


def copy_volume(
    ctx: Context,
    volume_id: int,
    source: Address,
    target: Address,
    *,
    still: ReadVolumeFileStatusResponse | None = None,
    persist: bool = False,
    disk_type: str = "",
    io_bytes_per_second: int = 0,
    timeout: float = 0.0,
    progress: Progress | None = None,
    lease: Lease | None = None,
) -> Copied:
    """Have the target pull a volume from the source, and prove the copy equal; on failure nothing of it is left.

    `still` is the status of the source since it is frozen, None where it may be written to meanwhile (then the copy is
    proved to be how the source began). `persist`: the freeze is persistent, so the copy comes up read-only, and
    whoever lets it stay must thaw it. With the volume's lease, what a broken-off copy left on the target is cleared
    first. Raises BadTask for one endpoint as both, StaleTask where the target holds the volume.
    """
    tell = progress or (lambda fraction, stage: ctx.progress(fraction, stage))
    if source == target:
        # The server would delete its only copy first and then fail to read it.
        raise BadTask(f"volume {volume_id} cannot be copied from {source} to {target}: both are the same server")
    check_alike(ctx, [source, target], f"volume {volume_id} is not copied from {source} to {target}")
    before = still or file_status(ctx, source, volume_id)
    found = probe(ctx, target, volume_id)
    if found is not None:
        if lease is None or not is_remains(ctx, source, target, before, found):
            raise StaleTask(f"{target} already holds volume {volume_id}; nothing was copied")
        lease.check()
        clear_remains(ctx, volume_id, target)
    rate = ctx.rates.for_server_side(io_bytes_per_second)
    size = before.dat_file_size + before.idx_file_size
    seconds = max(timeout, 60 + 1.5 * size / min(rate or SLOWEST, SLOWEST))
    step = ctx.journal.plan(
        COPY,
        volume_id=volume_id,
        source=str(source),
        target=str(target),
        collection=before.collection,
        persist=persist,
        dat=before.dat_file_size,
        idx=before.idx_file_size,
        revision=before.compaction_revision,
        frozen=still is not None,
    )
    ended = True
    try:
        try:
            tell(0.0, f"copying to {target}")
            ended = False
            for reply in ctx.volume(target).volume_copy(
                volume_id=volume_id,
                source_data_node=str(source),
                disk_type=disk_type,
                io_byte_per_second=rate,
                timeout=seconds,
            ):
                if reply.processed_bytes:
                    tell(0.85 * min(reply.processed_bytes / max(size, 1), 1.0), f"copying to {target}")
            ended = True
        except ServerFailed as error:
            ended = error.code not in LOST
            # The server goes on pulling when its client is gone: the copy may be there, or still come.
            if ended or not _appears(ctx, step):
                raise
            ctx.log(f"{error}; yet the copy of volume {volume_id} is on {target}, going on")
            ended = True
        tell(0.87, "proving the copy")
        return Copied(step, prove_copy(ctx, volume_id, source, target, still))
    except BaseException as error:
        with ctx.cluster.leash.shielded():
            undo_copy(ctx, error, step, (), ended)
        raise


def drop_copy(ctx: Context, step: Step, ended: bool = False) -> None:
    """Delete what a copy step made on its target, after a look at both sides; settle the step.

    `ended`: the target is known to be pulling no more; else the copy may still come and is waited for. Mismatch, and
    nothing is deleted, where the source is not sound or the copy was written to since; ServerFailed where a server
    cannot be asked. Both leave the step open.
    """
    volume_id, source, target = parts_of(step)
    facts = step.facts
    original = probe(ctx, source, volume_id)
    if original is None:
        # Somebody else finished the move or deleted the volume: the copy is all there may be.
        ctx.log(f"volume {volume_id} is no longer on {source}; what there is of it on {target} stays")
        arrive(ctx, step)
        return
    if probe(ctx, target, volume_id) is None and (ended or not _appears(ctx, step)):
        ctx.journal.settle(step)
        return
    file_status(ctx, source, volume_id)
    client = ctx.volume(target)
    client.volume_mark_readonly(volume_id=volume_id)
    copy = client.read_volume_file_status(volume_id=volume_id)
    most = (facts["dat"], facts["idx"]) if facts["frozen"] else (original.dat_file_size, original.idx_file_size)
    is_as_made = (
        copy.dat_file_size <= most[0]
        and copy.idx_file_size <= most[1]
        and copy.compaction_revision == facts["revision"]
    )
    # One of the two may have been vacuumed meanwhile: then what they hold tells, not how long their files are.
    if copy.dat_file_size and not is_as_made and compare_replicas(ctx, source, target, volume_id, CHECKSUMS, count=0):
        raise Mismatch(
            f"the copy of volume {volume_id} on {target} was written to since it was made: it and the original on "
            f"{source} are both kept, read-only; compare them and delete one"
        )
    client.volume_delete(volume_id=volume_id, keep_remote_data=True, timeout=DELETE_TIMEOUT)
    if probe(ctx, target, volume_id) is not None:
        raise TaskError(f"{target} still holds the unfinished copy of volume {volume_id} after deleting it")
    ctx.log(f"deleted the unfinished copy of volume {volume_id} on {target}; the original on {source} is sound")
    ctx.journal.settle(step)


def undo_copy(
    ctx: Context, error: BaseException, copy: Step | None, frozen: Sequence[Frozen], ended: bool = True
) -> None:
    """Undo a failed copy and thaw the replicas, the source first; where that fails too, TaskError says what is left."""
    try:
        if copy is not None and copy in ctx.journal.open:
            drop_copy(ctx, copy, ended)
        if frozen and _copies_of(ctx.journal, frozen[0]):
            source = frozen[0]
            ctx.log(f"volume {source.volume_id} on {source.server} stays read-only until its copy is cleared up")
            return
        if frozen:
            forget(ctx.journal, frozen[0].volume_id)
            if still := shut_steps(ctx.journal, frozen[0].volume_id):
                ctx.log(words(frozen[0].volume_id, still))
                return
        for replica in frozen:
            thaw(ctx, replica)
        if frozen:
            holds.release(ctx, frozen[0].volume_id)
    except TaskError as second:
        ctx.log(f"{second}; this is left to be cleared up")
        if isinstance(error, TaskError):
            raise TaskError(f"{error}; and what was begun could not be undone yet: {second}") from error


def _copies_of(entry: Entry, frozen: Frozen) -> list[Step]:
    """The copies of a frozen volume that may still be there: while one is, two replicas could be written to."""
    return [
        step for step in entry.open if step.what == COPY and parts_of(step)[:2] == (frozen.volume_id, frozen.server)
    ]


def arrive(ctx: Context, step: Step) -> None:
    """The source is gone: let the copy be written to if the source could be, and settle all of this move.

    A volume that must stay shut is only handed over: its copy is thawed with the other replicas.
    """
    volume_id, source, target = parts_of(step)
    client = ctx.volume(target)
    try:
        if step.facts["persist"] and client.volume_status(volume_id=volume_id).is_read_only:
            if shut_steps(ctx.journal, volume_id):
                ctx.journal.plan(FREEZE, server=str(target), volume_id=volume_id, persist=True)
            else:
                client.volume_mark_writable(volume_id=volume_id)
    except ServerFailed as error:
        if not error.says_absent:
            raise
        ctx.log(f"volume {volume_id} is not on {target} either; somebody deleted it")
    for other in ctx.journal.open:
        if other.what in (COPY, DELETE) and parts_of(other) == (volume_id, source, target):
            ctx.journal.settle(other)
    frozen = open_freeze(ctx.journal, source, volume_id)
    if frozen is not None:
        frozen.keep(ctx.journal)


def steps_of(entry: Entry, volume_id: int) -> list[Step]:
    return [step for step in entry.open if int(step.facts.get("volume_id", 0)) == volume_id]


def _appears(ctx: Context, step: Step) -> bool:
    """Whether the target holds the volume, once a pull that lost its client has ended; TimedOut if it does not end.

    A pull writes a `.note` beside the files that it has not finished, and leaves all of them where it is broken off.
    """
    volume_id, _source, target = parts_of(step)
    seen: list[int] | None = None
    began = since = time.monotonic()
    while probe(ctx, target, volume_id) is None:
        now = _unfinished(ctx, step)
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since >= (STALLED if any(now) else GRACE):
            if any(now):
                ctx.log(f"{target} keeps files of an unfinished copy of volume {volume_id} until it is restarted")
            return False
        if time.monotonic() - began > PULLS_WITHIN:
            raise TimedOut(f"{target} is still pulling volume {volume_id}")
        ctx.wait(0.25)
    return True


def _unfinished(ctx: Context, step: Step) -> list[int]:
    """Return when the files of an unfinished copy were last written, in nanoseconds; 0 for each that is not there."""
    volume_id, _source, target = parts_of(step)
    stamps = []
    for ext in (".note", ".dat", ".idx"):
        # Files of a volume that is not loaded can be asked for as if they belonged to shards.
        try:
            replies = list(
                ctx.volume(target).copy_file(
                    volume_id=volume_id,
                    ext=ext,
                    collection=step.facts["collection"],
                    is_ec_volume=True,
                    stop_offset=1,
                    ignore_source_file_not_found=True,
                )
            )
        except ServerFailed as error:
            if not error.says_absent:
                raise
            replies = []
        stamps.append(max((reply.modified_ts_ns for reply in replies), default=0))
    return stamps


def parts_of(step: Step) -> tuple[int, Address, Address]:
    facts: Any = step.facts
    return int(facts["volume_id"]), Address.parse(facts["source"]), Address.parse(facts["target"])
