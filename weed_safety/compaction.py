"""Compacting a volume: all replicas, then all committed, each proved before and after; undone where it breaks off.

SeaweedFS tells a compaction that ran from one that did not only by its traces: the new files `.cpd` and `.cpx` that it
leaves until the commit, and the revision that the commit raises by one. So both are looked at, before and after.
Knows nothing of why a volume is compacted.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from proto_gen import volume_server_pb2 as v
from weed_cluster.address import Address
from weed_cluster.master import Master
from weed_cluster.replica_placement import ReplicaPlacement
from weed_core.errors import Busy, Mismatch, ServerFailed, StaleTask, TaskError, TimedOut
from weed_core.release import Generation
from weed_safety import fence
from weed_safety.context import Context
from weed_safety.lease import Lease
from weed_safety.look import file_status, probe, same_files
from weed_safety.proof import SERVED, live_index, sample_needles
from weed_safety.readiness import check_ready
from weed_safety.steps import Planned, kind, plan, read
from weed_storage.index import Live, compare, entry_size, fold
from weed_storage.needle import SUPER_BLOCK_SIZE, SuperBlock

COMPACTING = 3
"""How much longer than anything else a compaction may take."""

OUTGROWN = "unexpected new data size"
"""What a server says of a compaction whose result is smaller than what the volume has grown to meanwhile."""

READ_BACK = 16
"""Needles that are read back from a replica after its commit, where its server does not read all of them."""

SMALL = 64 << 20
"""Bytes of `.dat` up to which a server reads a volume through at once: clients wait for a tenth of a second at most."""

ANY_REVISION = 0xFFFFFFFF


@kind("compact")
@dataclass(frozen=True)
class Compaction:
    """The journal step of a replica that may have compaction files; `revision` is the one before."""

    server: Address
    volume_id: int
    revision: int


@dataclass
class Copy:
    """One replica during the job."""

    server: Address
    generation: Generation
    status: v.ReadVolumeFileStatusResponse
    ratio: float = 0.0
    live: Live | None = None
    step: Planned[Compaction] | None = None
    committed: v.ReadVolumeFileStatusResponse | None = None  # what it is after the commit
    kept: Live | None = None  # its needles then
    done: int = 0  # bytes compacted so far
    ttl: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def size_after(self) -> int:
        """Bytes of `.dat` after the commit; 0 before it."""
        return 0 if self.committed is None else self.committed.dat_file_size


def look(ctx: Context, server: Address, volume_id: int, collection: str | None) -> Copy:
    generation = check_ready(ctx, server)
    if probe(ctx, server, volume_id) is None:
        raise StaleTask(f"volume {volume_id} cannot be vacuumed: {server} no longer holds it")
    try:
        status = file_status(ctx, server, volume_id)
    except ServerFailed as error:
        if not error.says_absent:
            raise
        raise Mismatch(
            f"volume {volume_id} on {server} has lost its data file in memory; unmount and mount it there: {error}"
        ) from error
    if status.volume_info.files:
        raise StaleTask(f"volume {volume_id} cannot be vacuumed: its data is in remote storage")
    if collection is not None and status.collection != collection:
        raise StaleTask(
            f"volume {volume_id} cannot be vacuumed: it belongs to collection {status.collection!r}, not {collection!r}"
        )
    return Copy(server, generation, status)


def compact(
    ctx: Context,
    volume_id: int,
    copies: Sequence[Copy],
    todo: Sequence[Copy],
    master: Master | None,
    lease: Lease | None,
) -> None:
    """Compact and commit the replicas of `todo`, among all `copies` of a volume.

    Busy where somebody else compacts one of them, Mismatch where a live needle would be lost: then nothing is
    committed. TaskError names those replicas that were committed and those that were not.
    """
    is_old = any(copy.generation < Generation.V4_44 for copy in todo)
    with fence.fenced(ctx, master) if is_old else nullcontext():
        _check_idle(ctx, copies, todo, volume_id)
        _compact_all(ctx, volume_id, todo, lease)
        _commit_all(ctx, volume_id, todo, lease)


def clear_up(ctx: Context) -> None:
    """Settle what the journal entry has open of compactions and fences; try every step, then raise the first error."""
    failed: list[TaskError] = []
    for step in ctx.journal.open:
        try:
            if begun := read(step, Compaction):
                _clear_up(ctx, begun)
            elif told := read(step, fence.HeldOff):
                fence.lift(ctx, told)
        except TaskError as error:
            ctx.log(str(error))
            failed.append(error)
    if failed:
        raise failed[0]


def verify(ctx: Context, copy: Copy, volume_id: int) -> None:
    """Prove that a committed replica's files can be read; Mismatch names what cannot.

    A server of today reads a small volume through by itself, which is one call; of a larger one, which would keep its
    clients waiting, it checks the index. Some needles are read back from every replica.
    """
    server, status = copy.server, copy.committed
    assert status is not None
    live = copy.kept or live_index(ctx, server, volume_id, status)
    can_scrub = copy.generation >= Generation.V4_44  # 3.97 cannot, and 4.13 takes deletions for overlapping files
    mode = v.FULL if status.dat_file_size <= SMALL else v.INDEX
    count = SERVED if can_scrub and mode == v.FULL else READ_BACK
    sample_needles(ctx, server, volume_id, live, status.version or 3, count)
    if not can_scrub:
        return
    scrubbed = ctx.volume(server).scrub_volume(mode=mode, volume_ids=[volume_id], timeout=_limit(ctx, copy.status))
    if scrubbed.broken_volume_ids:
        raise Mismatch(f"volume {volume_id} on {server} is vacuumed, but broken: {'; '.join(scrubbed.details)}")


def _super_block(ctx: Context, copy: Copy, volume_id: int) -> SuperBlock:
    start = b"".join(
        reply.file_content
        for reply in ctx.volume(copy.server).copy_file(
            volume_id=volume_id, ext=".dat", compaction_revision=ANY_REVISION, stop_offset=SUPER_BLOCK_SIZE
        )
    )
    return SuperBlock.parse(start)


def placement(ctx: Context, copy: Copy, volume_id: int) -> ReplicaPlacement:
    return ReplicaPlacement.from_byte(_super_block(ctx, copy, volume_id).replica_placement)


def _limit(ctx: Context, status: v.ReadVolumeFileStatusResponse) -> float:
    """Seconds for something that a server does once with all of a volume."""
    return ctx.options.gib_seconds * ((status.dat_file_size >> 30) + 1)


# ---- compacting


def _traces(ctx: Context, server: Address, volume_id: int, ext: str) -> int | None:
    """Return when a compaction's file was last written, in nanoseconds; None where there is no such file.

    Servers of 3.97 send nothing of an empty file, which the new index is where no file lives: then 1.
    """
    stamp = 1
    try:
        for reply in ctx.volume(server).copy_file(
            volume_id=volume_id, ext=ext, compaction_revision=ANY_REVISION, stop_offset=1
        ):
            stamp = max(stamp, reply.modified_ts_ns, len(reply.file_content))
    except ServerFailed as error:
        if error.says_absent:
            return None
        raise
    return stamp


def _traces_of(ctx: Context, servers: Sequence[Address], volume_id: int) -> list[int | None]:
    return [_traces(ctx, server, volume_id, ext) for server in servers for ext in (".cpd", ".cpx")]


def _is_being_compacted(ctx: Context, servers: Sequence[Address], volume_id: int) -> bool:
    """Whether somebody writes compaction files on one of the servers: watched for as long as it takes to tell."""
    before = _traces_of(ctx, servers, volume_id)
    if not any(before):
        return False
    ctx.wait(ctx.options.compaction_rests_seconds)
    return _traces_of(ctx, servers, volume_id) != before


def _check_idle(ctx: Context, copies: Sequence[Copy], todo: Sequence[Copy], volume_id: int) -> None:
    """Busy if somebody else compacts a replica; what a dead compaction left is removed.

    All replicas are watched: complete files on one may wait for those of another before they are committed.
    """
    servers = [copy.server for copy in copies]
    if not any(_traces_of(ctx, servers, volume_id)):
        return
    if _is_being_compacted(ctx, servers, volume_id):
        raise Busy(f"volume {volume_id} is being compacted by somebody else; nothing was touched")
    for copy in todo:
        if any(_traces_of(ctx, [copy.server], volume_id)):
            ctx.log(f"removing what an unfinished compaction of volume {volume_id} left on {copy.server}")
            ctx.volume(copy.server).vacuum_volume_cleanup(volume_id=volume_id, timeout=_limit(ctx, copy.status))


def _compact_all(ctx: Context, volume_id: int, copies: Sequence[Copy], lease: Lease | None) -> None:
    """Compact every replica and prove the new files; on any failure none is left compacted."""
    total = sum(copy.status.dat_file_size for copy in copies)

    def compact(copy: Copy) -> None:
        # Fetched first: whatever lives now and is not touched meanwhile must be in the new index.
        copy.live = live_index(ctx, copy.server, volume_id, copy.status)
        copy.ttl = _super_block(ctx, copy, volume_id).ttl != b"\0\0"
        copy.step = plan(ctx.journal, Compaction(copy.server, volume_id, copy.status.compaction_revision))
        try:
            for reply in ctx.volume(copy.server).vacuum_volume_compact(
                volume_id=volume_id, timeout=COMPACTING * _limit(ctx, copy.status)
            ):
                copy.done = reply.processed_bytes
                done = sum(other.done for other in copies)
                ctx.progress(0.1 + 0.7 * min(1.0, done / max(total, 1)), "compacting", processed_bytes=done)
        except ServerFailed as error:
            if OUTGROWN not in error.detail:
                raise
            raise TaskError(
                f"volume {volume_id} is written to faster than {copy.server} compacts it, which that server takes for "
                "a loss and gives up; nothing was changed. Vacuum it at a quieter time (-window), or with writes held "
                f"off: volume.mark -volumeId={volume_id} -readonly in weed shell, -writable afterwards. {error}"
            ) from error
        _prove_compacted(ctx, copy, volume_id)
        copy.done = copy.status.dat_file_size

    try:
        ctx.progress(0.1, "compacting")
        ctx.each(compact, copies)
    except BaseException as error:
        _clear_up_all(ctx, copies, error, lease)
        raise


def _prove_compacted(ctx: Context, copy: Copy, volume_id: int) -> None:
    """Busy if the compaction was not this job's, Mismatch if a live needle is absent from its result."""
    server = copy.server
    if not all(_traces_of(ctx, [server], volume_id)):
        raise Busy(f"volume {volume_id} on {server} was not compacted though the server says so: somebody else was")
    now = file_status(ctx, server, volume_id)
    if now.compaction_revision != copy.status.compaction_revision:
        raise Busy(f"volume {volume_id} on {server} was vacuumed by somebody else meanwhile")
    compacted = fold(
        (
            reply.file_content
            for reply in ctx.volume(server).copy_file(
                volume_id=volume_id, ext=".cpx", compaction_revision=ANY_REVISION, stop_offset=1 << 62
            )
        ),
        now.volume_info.bytes_offset or 4,
    )
    current = copy.live if same_files(copy.status, now) else live_index(ctx, server, volume_id, now)
    assert copy.live is not None
    assert current is not None
    lost = ctx.compute(_lost, copy.live, current, compacted)
    if lost and copy.ttl:
        copy.notes.append(f"{len(lost)} expired files dropped on {server}")
    elif lost:
        raise Mismatch(
            f"the compaction of volume {volume_id} on {server} would drop {len(lost)} live files "
            f"(first: needle {lost[0]:x}), which that replica cannot read; it is not committed"
        )


def _lost(before: Live, now: Live, compacted: Live) -> list[int]:
    """Return the needles that live as they did before the compaction, and yet are not in its result."""
    lost = []
    for needle_id, place in before.items():
        found = compacted.get(needle_id)
        if (found is None or found[1] != place[1]) and now.get(needle_id) == place:
            lost.append(needle_id)
    return lost


def _clear_up_all(ctx: Context, copies: Sequence[Copy], error: BaseException, lease: Lease | None) -> None:
    """Remove the new files of every replica that has not been committed; where that fails, say both."""
    if lease is not None and lease.is_lost:
        ctx.log("the volume is another worker's now; nothing is cleared up here")
        return
    left = []
    with ctx.cluster.leash.shielded():
        for copy in copies:
            if copy.step is None or not ctx.journal.is_open(copy.step):
                continue
            try:
                _clear_up(ctx, copy.step)
            except TaskError as second:
                left.append(str(second))
    if left:
        ctx.log("; ".join(left))
        if isinstance(error, TaskError):
            raise TaskError(f"{error}; and what was begun could not be cleared up yet: {'; '.join(left)}") from error


def _clear_up(ctx: Context, step: Planned[Compaction]) -> None:
    """Bring a replica back to rest after an interrupted compaction or commit: healthy, without compaction files."""
    server, volume_id = step.change.server, step.change.volume_id
    status = probe(ctx, server, volume_id)
    if status is not None:
        _heal(ctx, server, volume_id)
        status = file_status(ctx, server, volume_id)
        if status.compaction_revision == step.change.revision and any(_traces_of(ctx, [server], volume_id)):
            # A server goes on compacting when its client is gone; removing files under it would break the volume.
            limit = COMPACTING * _limit(ctx, status)
            if not ctx.until(lambda: not _is_being_compacted(ctx, [server], volume_id), timeout=limit):
                raise TimedOut(f"volume {volume_id} on {server} is still being compacted; left as it is")
            ctx.volume(server).vacuum_volume_cleanup(volume_id=volume_id, timeout=limit)
            ctx.log(f"removed the unfinished compaction of volume {volume_id} on {server}")
    ctx.journal.settle(step)


def _heal(ctx: Context, server: Address, volume_id: int) -> bool:
    """Open a volume's files anew where a failed commit closed them; return whether that was necessary."""
    volume = ctx.volume(server)
    try:
        volume.volume_status(volume_id=volume_id)
        return False
    except ServerFailed as error:
        if "backend" not in error.detail:
            raise
    ctx.log(f"volume {volume_id} on {server} has lost its data file in memory; mounting it anew")
    volume.volume_unmount(volume_id=volume_id)
    volume.volume_mount(volume_id=volume_id)
    volume.volume_status(volume_id=volume_id)
    return True


# ---- committing


def _commit_all(ctx: Context, volume_id: int, copies: Sequence[Copy], lease: Lease | None) -> None:
    """Commit replica by replica and prove each; raise TaskError naming those that were not."""
    failures: list[str] = []
    done: list[str] = []
    try:
        for number, copy in enumerate(copies):
            ctx.progress(0.8 + 0.15 * number / len(copies), f"committing on {copy.server}")
            if lease is not None:
                lease.check()
            with ctx.cluster.leash.shielded():
                try:
                    _commit(ctx, copy, volume_id)
                    done.append(str(copy.server))
                except TaskError as error:
                    failures.append(str(error))
        if failures:
            raise TaskError(
                f"volume {volume_id} was vacuumed on {', '.join(done) or 'no replica'}, but not everywhere: "
                + "; ".join(failures)
            )
    except BaseException as error:
        _clear_up_all(ctx, copies, error, lease)
        raise


def _commit(ctx: Context, copy: Copy, volume_id: int) -> None:
    """Commit one replica, once; whatever is answered, its revision tells whether it happened."""
    server, volume = copy.server, ctx.volume(copy.server)
    before = copy.status.compaction_revision
    assert copy.step is not None
    quiet = same_files(copy.status, _prove_uncommitted(ctx, copy, volume_id))
    was_writable = not volume.volume_status(volume_id=volume_id).is_read_only
    answer = "it says that it did"
    try:
        volume.vacuum_volume_commit(volume_id=volume_id, timeout=_limit(ctx, copy.status))
    except ServerFailed as error:
        answer = str(error)
        if error.code != "UNKNOWN":
            _await_answer(ctx, copy, volume_id)
    healed = _heal(ctx, server, volume_id)
    status = file_status(ctx, server, volume_id)
    if status.compaction_revision != before + 1:
        raise Mismatch(
            f"volume {volume_id} on {server} has revision {status.compaction_revision}, "
            f"expected {before + 1} after the commit ({answer}); somebody else may be compacting it"
        )
    copy.committed = status
    ctx.journal.settle(copy.step)
    if was_writable and healed and volume.volume_status(volume_id=volume_id).is_read_only:
        volume.volume_mark_writable(volume_id=volume_id)
    ratio = volume.vacuum_volume_check(volume_id=volume_id).garbage_ratio
    if copy.ratio and ratio >= copy.ratio:
        copy.notes.append(f"{ratio:.0%} garbage on {server} again")
    if quiet and not copy.ttl:
        _prove_kept(ctx, copy, volume_id, status)


def _prove_kept(ctx: Context, copy: Copy, volume_id: int, status: v.ReadVolumeFileStatusResponse) -> None:
    """Mismatch if needles are gone that nobody deleted; for a volume that was not written to while it was vacuumed."""
    live = copy.kept = live_index(ctx, copy.server, volume_id, status)
    assert copy.live is not None
    missing = ctx.compute(compare, copy.live, live).missing_in_b
    deleted_since = status.idx_file_size > len(live) * entry_size(live.offset_bytes)
    if missing and not deleted_since:
        raise Mismatch(
            f"volume {volume_id} on {copy.server} has lost {len(missing)} files in the vacuum "
            f"(first: needle {missing[0]:x}); compare it with its other replicas"
        )


def _prove_uncommitted(ctx: Context, copy: Copy, volume_id: int) -> v.ReadVolumeFileStatusResponse:
    """Return the volume's status right before the commit.

    Busy unless the new files are still there and the revision is the old one: a commit of nothing breaks the volume.
    """
    status = file_status(ctx, copy.server, volume_id)
    files_are_there = all(_traces_of(ctx, [copy.server], volume_id))
    if status.compaction_revision != copy.status.compaction_revision or not files_are_there:
        raise Busy(
            f"the compaction of volume {volume_id} on {copy.server} is gone before its commit; "
            "somebody else vacuums it or the server restarted"
        )
    return status


def _await_answer(ctx: Context, copy: Copy, volume_id: int) -> None:
    """Wait until a server that left a commit unanswered answers for the volume again; raise ServerFailed if not."""

    def answers() -> bool:
        try:
            return probe(ctx, copy.server, volume_id) is not None
        except ServerFailed as error:
            if error.is_transient:
                return False
            raise

    if not ctx.until(answers, timeout=_limit(ctx, copy.status)):
        raise TimedOut(
            f"whether volume {volume_id} on {copy.server} is committed is unknown: the server does not answer"
        )
