"""Copying a volume from one server to another: asked of the target, proved there, or deleted again.

The copy is in the journal before it is asked for, and stays there until its maker lets it stay or drops it. Knows
nothing of why there should be a copy, nor of what becomes of the source.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proto_gen.volume_server_pb2 import ReadVolumeFileStatusResponse
from weed_cluster.address import Address
from weed_core.errors import BadTask, Mismatch, ServerFailed, StaleTask, TaskError, TimedOut
from weed_safety import holds
from weed_safety.alike import check_alike
from weed_safety.context import Context
from weed_safety.freeze import Frozen, open_freeze, thaw
from weed_safety.journal import Entry, Step
from weed_safety.lease import Lease
from weed_safety.location_cache import forget, shut_steps, words
from weed_safety.look import file_status, probe
from weed_safety.proof import CHECKSUMS, compare_replicas, prove_copy
from weed_safety.remains import DELETE_TIMEOUT, clear_remains, is_remains
from weed_safety.steps import Planned, kind, of_kind, plan

SLOWEST = 4 << 20
"""Bytes per second that a copy reaches even on a busy day; deadlines are made from it."""

PULLS_WITHIN = 600.0
"""Seconds that a copy whose client is gone is waited for; a server notices after 128 MiB at the latest."""

LOST = ("UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL")
"""Codes that tell nothing of what the server did: it may not even have answered."""

Progress = Callable[[float, str], None]


@kind("copy")
@dataclass(frozen=True)
class Copying:
    """The journal step of a copy that the target was asked to pull.

    `persist`: it comes up read-only and is to be thawed; `frozen`: the source is. `dat` and `idx` in bytes, and
    `revision`, are the figures of the source when the copy began.
    """

    volume_id: int
    source: Address
    target: Address
    collection: str
    persist: bool
    dat: int
    idx: int
    revision: int
    frozen: bool

    @property
    def way(self) -> tuple[int, Address, Address]:
        """Which volume is copied from where to where."""
        return self.volume_id, self.source, self.target


@kind("delete")
@dataclass(frozen=True)
class Deleting(Copying):
    """The journal step of the deletion of a copy's source, once the copy was proved; facts as the copy's."""


@dataclass(frozen=True)
class Copied:
    """A copy that was proved equal. `step` is still open: settle it when the copy is to stay, or drop_copy()."""

    step: Planned[Copying]
    status: ReadVolumeFileStatusResponse


@dataclass(frozen=True)
class Wishes:
    """How a volume is to be copied. `persist`: the source's freeze is persistent, so that the copy comes up read-only,
    and whoever lets it stay must thaw it. `disk_type`: the target's, "" for the same as now. `timeout`: the least
    seconds that the copying is given; more where the size asks for it.
    """

    persist: bool = False
    disk_type: str = ""
    io_bytes_per_second: int = 0
    timeout: float = 0.0


def copy_volume(
    ctx: Context,
    volume_id: int,
    source: Address,
    target: Address,
    *,
    still: ReadVolumeFileStatusResponse | None = None,
    wishes: Wishes = Wishes(),
    progress: Progress | None = None,
    lease: Lease | None = None,
) -> Copied:
    """Have the target pull a volume from the source, and prove the copy equal; on failure nothing of it is left.

    `still` is the status of the source since it is frozen, None where it may be written to meanwhile (then the copy is
    proved to be how the source began). With the volume's lease, what a broken-off copy left on the target is cleared
    first. Raises BadTask for one endpoint as both, StaleTask where the target holds the volume.
    """
    tell = progress or (lambda fraction, stage: ctx.progress(fraction, stage))
    if source == target:
        # The server would delete its only copy first and then fail to read it.
        raise BadTask(f"volume {volume_id} cannot be copied from {source} to {target}: both are the same server")
    check_alike(ctx, [source, target], f"volume {volume_id} is not copied from {source} to {target}")
    before = still or file_status(ctx, source, volume_id)
    _clear_target(ctx, volume_id, source, target, before, lease)
    copying = Copying(
        volume_id,
        source,
        target,
        before.collection,
        persist=wishes.persist,
        dat=before.dat_file_size,
        idx=before.idx_file_size,
        revision=before.compaction_revision,
        frozen=still is not None,
    )
    step = plan(ctx.journal, copying)
    pull = _Pull(ctx, copying, wishes, before.dat_file_size + before.idx_file_size, tell)
    try:
        pull.run()
        tell(0.87, "proving the copy")
        return Copied(step, prove_copy(ctx, volume_id, source, target, still))
    except BaseException as error:
        with ctx.cluster.leash.shielded():
            undo_copy(ctx, error, step, (), pull.has_ended)
        raise


def _clear_target(
    ctx: Context,
    volume_id: int,
    source: Address,
    target: Address,
    original: ReadVolumeFileStatusResponse,
    lease: Lease | None,
) -> None:
    """StaleTask where the target holds the volume; with its lease, what a broken-off copy left there is cleared."""
    found = probe(ctx, target, volume_id)
    if found is None:
        return
    if lease is None or not is_remains(ctx, source, target, original, found):
        raise StaleTask(f"{target} already holds volume {volume_id}; nothing was copied")
    lease.check()
    clear_remains(ctx, volume_id, target)


class _Pull:
    """A server's pulling of `size` bytes from another; `has_ended`: it is known to do so no more."""

    def __init__(self, ctx: Context, copying: Copying, wishes: Wishes, size: int, tell: Progress) -> None:
        self.has_ended = True
        self._ctx = ctx
        self._copying = copying
        self._wishes = wishes
        self._size = size
        self._tell = tell

    def run(self) -> None:
        """Have it pull; ServerFailed where it did not. One that goes on when its client is gone is waited for."""
        volume_id, _source, target = self._copying.way
        self._tell(0.0, f"copying to {target}")
        self.has_ended = False
        try:
            self._follow()
        except ServerFailed as error:
            self.has_ended = error.code not in LOST
            # The server goes on pulling when its client is gone: the copy may be there, or still come.
            if self.has_ended or not _appears(self._ctx, self._copying):
                raise
            self._ctx.log(f"{error}; yet the copy of volume {volume_id} is on {target}, going on")
        self.has_ended = True

    def _follow(self) -> None:
        volume_id, source, target = self._copying.way
        rate = self._ctx.rates.for_server_side(self._wishes.io_bytes_per_second)
        replies = self._ctx.volume(target).volume_copy(
            volume_id=volume_id,
            source_data_node=str(source),
            disk_type=self._wishes.disk_type,
            io_byte_per_second=rate,
            timeout=max(self._wishes.timeout, 60 + 1.5 * self._size / min(rate or SLOWEST, SLOWEST)),
        )
        moved, leash = 0, self._ctx.cluster.leash
        for reply in replies:
            if reply.processed_bytes:
                leash.moved += max(0, reply.processed_bytes - moved)
                moved = max(moved, reply.processed_bytes)
                done = min(reply.processed_bytes / max(self._size, 1), 1.0)
                self._tell(0.85 * done, f"copying to {target}")


def drop_copy(ctx: Context, step: Planned[Copying], ended: bool = False) -> None:
    """Delete what a copy step made on its target, after a look at both sides; settle the step.

    `ended`: the target is known to be pulling no more; else the copy may still come and is waited for. Mismatch, and
    nothing is deleted, where the source is not sound or the copy was written to since; ServerFailed where a server
    cannot be asked. Both leave the step open.
    """
    copying = step.change
    volume_id, source, target = copying.way
    original = probe(ctx, source, volume_id)
    if original is None:
        # Somebody else finished the move or deleted the volume: the copy is all there may be.
        ctx.log(f"volume {volume_id} is no longer on {source}; what there is of it on {target} stays")
        arrive(ctx, copying)
        return
    if probe(ctx, target, volume_id) is None and (ended or not _appears(ctx, copying)):
        ctx.journal.settle(step)
        return
    file_status(ctx, source, volume_id)
    client = ctx.volume(target)
    client.volume_mark_readonly(volume_id=volume_id)
    copy = client.read_volume_file_status(volume_id=volume_id)
    most = (copying.dat, copying.idx) if copying.frozen else (original.dat_file_size, original.idx_file_size)
    is_as_made = (
        copy.dat_file_size <= most[0] and copy.idx_file_size <= most[1] and copy.compaction_revision == copying.revision
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
    ctx: Context, error: BaseException, copy: Planned[Copying] | None, frozen: Sequence[Frozen], ended: bool = True
) -> None:
    """Undo a failed copy and thaw the replicas, the source first; where that fails too, TaskError says what is left."""
    try:
        if copy is not None and ctx.journal.is_open(copy):
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


def _copies_of(entry: Entry, frozen: Frozen) -> list[Planned[Copying]]:
    """The copies of a frozen volume that may still be there: while one is, two replicas could be written to."""
    return [step for step in of_kind(entry, Copying, frozen.volume_id) if step.change.source == frozen.server]


def arrive(ctx: Context, copied: Copying) -> None:
    """The source is gone: let the copy be written to if the source could be, and settle all of this move.

    A volume that must stay shut is only handed over: its copy is thawed with the other replicas.
    """
    volume_id, source, target = copied.way
    client = ctx.volume(target)
    try:
        if copied.persist and client.volume_status(volume_id=volume_id).is_read_only:
            if shut_steps(ctx.journal, volume_id):
                Frozen.plan(ctx.journal, target, volume_id, persist=True)
            else:
                client.volume_mark_writable(volume_id=volume_id)
    except ServerFailed as error:
        if not error.says_absent:
            raise
        ctx.log(f"volume {volume_id} is not on {target} either; somebody deleted it")
    steps: list[Planned[Copying]] = [*of_kind(ctx.journal, Copying, volume_id)]
    steps += of_kind(ctx.journal, Deleting, volume_id)
    for other in steps:
        if other.change.way == copied.way:
            ctx.journal.settle(other)
    frozen = open_freeze(ctx.journal, source, volume_id)
    if frozen is not None:
        frozen.keep(ctx.journal)


def steps_of(entry: Entry, volume_id: int) -> list[Step]:
    return [step for step in entry.open if int(step.facts.get("volume_id", 0)) == volume_id]


def _appears(ctx: Context, copying: Copying) -> bool:
    """Whether the target holds the volume, once a pull that lost its client has ended; TimedOut if it does not end.

    A pull writes a `.note` beside the files that it has not finished, and leaves all of them where it is broken off.
    """
    volume_id, _source, target = copying.way
    options = ctx.options
    seen: list[int] | None = None
    began = since = time.monotonic()
    while probe(ctx, target, volume_id) is None:
        now = _unfinished(ctx, copying)
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since >= (options.copy_stalls_seconds if any(now) else options.copy_begins_seconds):
            if any(now):
                ctx.log(f"{target} keeps files of an unfinished copy of volume {volume_id} until it is restarted")
            return False
        if time.monotonic() - began > PULLS_WITHIN:
            raise TimedOut(f"{target} is still pulling volume {volume_id}")
        ctx.wait(0.25)
    return True


def _unfinished(ctx: Context, copying: Copying) -> list[int]:
    """Return when the files of an unfinished copy were last written, in nanoseconds; 0 for each that is not there."""
    volume_id, _source, target = copying.way
    stamps = []
    for ext in (".note", ".dat", ".idx"):
        # Files of a volume that is not loaded can be asked for as if they belonged to shards.
        try:
            replies = list(
                ctx.volume(target).copy_file(
                    volume_id=volume_id,
                    ext=ext,
                    collection=copying.collection,
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
