"""Reclaiming the space of deleted files: all replicas of a volume are compacted, then all committed, then proved.

SeaweedFS tells a compaction that ran from one that did not only by its traces: the new files `.cpd` and `.cpx` that it
leaves until the commit, and the revision that the commit raises by one. So this task looks at both, before and after.
Servers before 4.44 destroy data when two parties compact one volume: there the master's own vacuum is held off for the
time, which overrides what an operator may have set with volume.vacuum.disable, since that cannot be read.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from proto_gen import volume_server_pb2 as v
from weed_cluster.address import Address
from weed_cluster.master import Master
from weed_cluster.replica_placement import ReplicaPlacement
from weed_cluster.topology import snapshot
from weed_cluster.volume_server import MasterAt
from weed_core.errors import BadTask, Busy, Mismatch, ServerFailed, StaleTask, TaskError, TimedOut
from weed_core.model import Job, Result, Values
from weed_core.release import Generation
from weed_core.values import as_bool, as_float
from weed_safety.context import Context
from weed_safety.journal import Entry, Step
from weed_safety.lease import LEASE_PATIENCE, Lease, hold, known_master
from weed_safety.look import file_status, probe, same_files
from weed_safety.parameters import collection_of, server_named, servers_known, source_names, text_of, volume_id_of
from weed_safety.proof import live_index, sample_needles
from weed_safety.readiness import check_ready, close_refusing
from weed_safety.untold import check_told
from weed_storage.index import Live, compare, entry_size, fold
from weed_storage.needle import SUPER_BLOCK_SIZE, SuperBlock
from weed_tasks.vacuum.plan import DESCRIPTOR, why_refused

COMPACT, FENCE = "compact", "fence"
"""Journal steps: a replica that may have compaction files (server, volume_id, revision before), and the master's own
vacuum being held off (master)."""

MINUTE = 60.0
COMPACT_MINUTES = 3
"""Minutes per GiB that a compaction may take; everything else may take one."""

IDLE_AFTER = 3.0
"""Seconds without a change in a compaction's files after which nobody writes them."""

OUTGROWN = "unexpected new data size"
"""What a server says of a compaction whose result is smaller than what the volume has grown to meanwhile."""

FENCE_LOOK = 1.0
"""Seconds between looks at who leads, while the master's own vacuum is held off."""

ANY_REVISION = 0xFFFFFFFF


@dataclass
class _Copy:
    """One replica during the job."""

    server: Address
    generation: Generation
    status: v.ReadVolumeFileStatusResponse
    ratio: float = 0.0
    live: Live | None = None
    step: Step | None = None
    size_after: int = 0
    done: int = 0  # bytes compacted so far
    ttl: bool = False
    notes: list[str] = field(default_factory=list)


def run(job: Job, ctx: Context) -> Result:
    """Vacuum one volume on all its replicas; raises TaskError saying which replicas were and which were not.

    Running it again goes on with the replicas that still have garbage.
    """
    volume_id = volume_id_of(job)
    wishes = _wishes(job)
    with hold(ctx, volume_id) as lease:
        return _vacuum(job, ctx, volume_id, wishes, lease)


def _vacuum(job: Job, ctx: Context, volume_id: int, wishes: tuple[float, bool, bool], lease: Lease | None) -> Result:
    threshold, force, verify = wishes
    ctx.progress(0.01, "looking at the cluster")
    if ctx.journal.open and not ctx.options.dry_run:
        _clear_up_entry(ctx)
    master = known_master(ctx)
    copies = _replicas(job, ctx, master, volume_id)
    check_told(ctx, volume_id, [copy.server for copy in copies])
    ctx.progress(0.05, "checking for garbage")
    for copy in copies:
        copy.ratio = ctx.volume(copy.server).vacuum_volume_check(volume_id=volume_id).garbage_ratio
    todo = [copy for copy in copies if force or copy.ratio >= threshold]
    ratios = ", ".join(f"{copy.ratio:.0%} on {copy.server}" for copy in copies)
    if not todo:
        return Result(
            f"volume {volume_id} needs no vacuum: {ratios} garbage, threshold {threshold:.0%}",
            {"volume_id": volume_id, "server": str(copies[0].server), "reclaimed_bytes": 0},
        )
    names = ", ".join(str(copy.server) for copy in todo)
    if ctx.options.dry_run:
        return Result(
            f"would vacuum volume {volume_id} on {names}: {ratios} garbage",
            {"volume_id": volume_id, "server": str(todo[0].server)},
        )
    with _fenced(ctx, master, todo):
        _check_idle(ctx, copies, todo, volume_id)
        _compact_all(ctx, volume_id, todo, lease)
        _commit_all(ctx, volume_id, todo, lease)
    reclaimed = sum(max(0, copy.status.dat_file_size - copy.size_after) for copy in todo)
    ctx.progress(0.95, "proving the result")
    if verify:
        for copy in todo:
            _verify(ctx, copy, volume_id)
    ctx.progress(1.0, "vacuumed")
    notes = "".join(f"; {note}" for copy in todo for note in copy.notes)
    return Result(
        f"volume {volume_id} vacuumed on {names}: {reclaimed} bytes reclaimed{notes}",
        {
            "volume_id": volume_id,
            "server": str(todo[0].server),
            "reclaimed_bytes": reclaimed,
            "replicas": [f"{copy.server}: {copy.status.dat_file_size} -> {copy.size_after} bytes" for copy in todo],
        },
    )


def recover(entry: Entry, ctx: Context) -> None:
    """Clear up after a killed vacuum: heal what a broken commit left unreadable, remove compaction files, lift fences.

    Every step is tried; then the first error is raised, and its steps stay open.
    """
    ctx = replace(ctx, journal=entry)
    with ctx.cluster.leash.shielded(), hold(ctx, max(entry.volume_ids, default=0), LEASE_PATIENCE):
        _clear_up_entry(ctx)


def _clear_up_entry(ctx: Context) -> None:
    failed: list[TaskError] = []
    for step in ctx.journal.open:
        try:
            if step.what == COMPACT:
                _clear_up(ctx, step)
            elif step.what == FENCE:
                _lift(ctx, step)
        except TaskError as error:
            ctx.log(str(error))
            failed.append(error)
    if failed:
        raise failed[0]


def _wishes(job: Job) -> tuple[float, bool, bool]:
    """Return threshold, force and verify."""
    params, plain = job.params.vacuum_params, job.parameters
    typed = job.params.HasField("vacuum_params")
    threshold = params.garbage_threshold if typed else as_float(plain.get("garbage_threshold"), 0.0)
    if threshold <= 0:
        threshold = Values(DESCRIPTOR, job.config).number("garbage_threshold")
    if threshold > 1:
        raise BadTask(f"garbage threshold {threshold} is not within 0 and 1")
    force = params.force_vacuum if typed else as_bool(plain.get("force_vacuum"), False)
    verify = params.verify_checksum if typed else as_bool(plain.get("verify_checksum"), True)
    return threshold, force, verify


def _replicas(job: Job, ctx: Context, master: Master | None, volume_id: int) -> list[_Copy]:
    """Find every replica of the volume, afresh; raise StaleTask unless all can be vacuumed together."""
    collection = collection_of(job)
    named = source_names(job.params) or [text for text in [text_of(job, "server", "source_server")] if text]
    plan_of = f"volume {volume_id} cannot be vacuumed"
    if master is not None:
        topology = snapshot(master, volume_id)
        listed = topology.replicas(volume_id)
        if not listed:
            is_ec = topology.has_shards(volume_id)
            raise StaleTask(f"{plan_of}: " + ("it is erasure-coded now" if is_ec else "no server holds it any more"))
        close_refusing(ctx, topology, [replica.server for replica in listed])
        refusal, _key = why_refused(listed, topology)
        if refusal:
            raise StaleTask(refusal)
        servers = [replica.server for replica in listed]
        first = next(iter(servers_known(named, topology)), servers[0])
        servers.sort(key=lambda server: server != first)
        wanted = listed[0].placement.copies
    else:
        if not named:
            raise BadTask(f"{plan_of}: the job names no server, and no master is known; name one with -master")
        servers = list(dict.fromkeys(server_named(name, None) for name in named))
        wanted = 0
    copies = [_look(ctx, server, volume_id, collection) for server in servers]
    wanted = wanted or _placement(ctx, copies[0], volume_id).copies
    if len(copies) < wanted:
        where = ", ".join(map(str, servers))
        hint = "" if master else "; name a master with -master, so that the others are found"
        raise StaleTask(f"{plan_of}: it should have {wanted} copies, but is on {where} only{hint}")
    return copies


def _look(ctx: Context, server: Address, volume_id: int, collection: str | None) -> _Copy:
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
    return _Copy(server, generation, status)


def _super_block(ctx: Context, copy: _Copy, volume_id: int) -> SuperBlock:
    start = b"".join(
        reply.file_content
        for reply in ctx.volume(copy.server).copy_file(
            volume_id=volume_id, ext=".dat", compaction_revision=ANY_REVISION, stop_offset=SUPER_BLOCK_SIZE
        )
    )
    return SuperBlock.parse(start)


def _placement(ctx: Context, copy: _Copy, volume_id: int) -> ReplicaPlacement:
    return ReplicaPlacement.from_byte(_super_block(ctx, copy, volume_id).replica_placement)


def _minutes(copy: _Copy, minutes: int = 1) -> float:
    """Seconds for something that takes so many minutes per GiB."""
    return minutes * MINUTE * ((copy.status.dat_file_size >> 30) + 1)


# ---- holding off the master's own vacuum


_fences: Counter[Address] = Counter()
_fences_lock = threading.Lock()


@contextmanager
def _fenced(ctx: Context, master: Master | None, copies: Sequence[_Copy]) -> Iterator[None]:
    """Keep the master from vacuuming by itself, where a server is so old that two compactions destroy data."""
    if all(copy.generation >= Generation.V4_44 for copy in copies):
        yield
        return
    if master is None:
        raise BadTask(
            "servers before 4.44 need the master's own vacuum held off, and no master is known; name one with -master"
        )
    master.find()
    fence = _Fence(ctx)
    try:
        fence.put(master.address)
        keeper = threading.Thread(target=fence.keep, name="vacuum-fence", daemon=True)
        keeper.start()
        yield
    finally:
        fence.lift()


class _Fence:
    """The vacuum of whichever master leads, held off: one that takes over knows nothing of what the last was told."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._steps: dict[Address, Step] = {}
        self._at: Address | None = None
        self._putting = threading.Lock()
        self._ended = threading.Event()

    def put(self, leader: Address) -> None:
        """Have a master that leads now hold off its vacuum; ServerFailed where it does not."""
        with self._putting:
            if leader == self._at or self._ended.is_set():
                return
            if leader not in self._steps:
                self._steps[leader] = self._ctx.journal.plan(FENCE, master=str(leader))
                with _fences_lock:
                    _fences[leader] += 1
            cluster = self._ctx.cluster
            MasterAt(cluster.channels, leader, cluster.leash).disable_vacuum()
            self._at = leader

    def keep(self) -> None:
        """Tell every new leader, until it is lifted. Who leads is noticed by the lease, which is being renewed."""
        while not self._ended.wait(FENCE_LOOK):
            leader = self._ctx.cluster.masters.leader
            if leader is None:
                continue
            try:
                self.put(leader)
            except TaskError as error:
                self._ctx.log(f"{leader} leads now, and its own vacuum is not held off yet: {error}")

    def lift(self) -> None:
        """Let all masters that were told vacuum again; what fails stays in the journal."""
        self._ended.set()
        with self._putting, self._ctx.cluster.leash.shielded():
            for leader, step in self._steps.items():
                with _fences_lock:
                    _fences[leader] -= 1
                try:
                    _lift(self._ctx, step)
                except TaskError as error:
                    self._ctx.log(f"the master's own vacuum is still held off: {error}")


def _lift(ctx: Context, step: Step) -> None:
    """Let the master vacuum again, unless another job of this worker still holds it off."""
    address = Address.parse(step.facts["master"])
    with _fences_lock:
        held = _fences[address] > 0
    if not held:
        try:
            MasterAt(ctx.cluster.channels, address, ctx.cluster.leash).enable_vacuum()
        except ServerFailed as error:
            if not _has_passed_on(ctx, address):
                raise
            # A master keeps this in memory: one that is gone has forgotten it.
            ctx.log(f"{address} leads no more and does not answer, so its own vacuum is not let loose again: {error}")
    ctx.journal.settle(step)


def _has_passed_on(ctx: Context, master: Address) -> bool:
    """Whether another master leads now."""
    leader = known_master(ctx)
    try:
        if leader is not None:
            leader.find()
    except ServerFailed:
        return False
    return leader is not None and leader.address != master


# ---- compacting


def _traces(ctx: Context, server: Address, volume_id: int, ext: str) -> int | None:
    """Return when a compaction's file was last written, in nanoseconds; None where there is no such file."""
    stamp = 0
    try:
        for reply in ctx.volume(server).copy_file(
            volume_id=volume_id,
            ext=ext,
            compaction_revision=ANY_REVISION,
            stop_offset=1,
            ignore_source_file_not_found=True,
        ):
            stamp = max(stamp, reply.modified_ts_ns, len(reply.file_content))
    except ServerFailed as error:
        if error.says_absent:
            return None
        raise
    return stamp or None


def _traces_of(ctx: Context, servers: Sequence[Address], volume_id: int) -> list[int | None]:
    return [_traces(ctx, server, volume_id, ext) for server in servers for ext in (".cpd", ".cpx")]


def _is_being_compacted(ctx: Context, servers: Sequence[Address], volume_id: int) -> bool:
    """Whether somebody writes compaction files on one of the servers: watched for as long as it takes to tell."""
    before = _traces_of(ctx, servers, volume_id)
    if not any(before):
        return False
    ctx.wait(IDLE_AFTER)
    return _traces_of(ctx, servers, volume_id) != before


def _check_idle(ctx: Context, copies: Sequence[_Copy], todo: Sequence[_Copy], volume_id: int) -> None:
    """Busy if somebody else compacts a replica; what a dead compaction left is removed.

    All replicas are watched: complete files on one may wait for those of another before they are committed.
    """
    if _is_being_compacted(ctx, [copy.server for copy in copies], volume_id):
        raise Busy(f"volume {volume_id} is being compacted by somebody else; nothing was touched")
    for copy in todo:
        if any(_traces_of(ctx, [copy.server], volume_id)):
            ctx.log(f"removing what an unfinished compaction of volume {volume_id} left on {copy.server}")
            ctx.volume(copy.server).vacuum_volume_cleanup(volume_id=volume_id, timeout=_minutes(copy))


def _compact_all(ctx: Context, volume_id: int, copies: Sequence[_Copy], lease: Lease | None) -> None:
    """Compact every replica and prove the new files; on any failure none is left compacted."""
    total = sum(copy.status.dat_file_size for copy in copies)

    def compact(copy: _Copy) -> None:
        # Fetched first: whatever lives now and is not touched meanwhile must be in the new index.
        copy.live = live_index(ctx, copy.server, volume_id, copy.status)
        copy.ttl = _super_block(ctx, copy, volume_id).ttl != b"\0\0"
        copy.step = ctx.journal.plan(
            COMPACT, server=str(copy.server), volume_id=volume_id, revision=copy.status.compaction_revision
        )
        try:
            for reply in ctx.volume(copy.server).vacuum_volume_compact(
                volume_id=volume_id, timeout=_minutes(copy, COMPACT_MINUTES)
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


def _prove_compacted(ctx: Context, copy: _Copy, volume_id: int) -> None:
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


def _clear_up_all(ctx: Context, copies: Sequence[_Copy], error: BaseException, lease: Lease | None) -> None:
    """Remove the new files of every replica that has not been committed; where that fails, say both."""
    if lease is not None and lease.is_lost:
        ctx.log("the volume is another worker's now; nothing is cleared up here")
        return
    left = []
    with ctx.cluster.leash.shielded():
        for copy in copies:
            if copy.step is None or copy.step not in ctx.journal.open:
                continue
            try:
                _clear_up(ctx, copy.step)
            except TaskError as second:
                left.append(str(second))
    if left:
        ctx.log("; ".join(left))
        if isinstance(error, TaskError):
            raise TaskError(f"{error}; and what was begun could not be cleared up yet: {'; '.join(left)}") from error


def _clear_up(ctx: Context, step: Step) -> None:
    """Bring a replica back to rest after an interrupted compaction or commit: healthy, without compaction files."""
    server, volume_id = Address.parse(step.facts["server"]), int(step.facts["volume_id"])
    status = probe(ctx, server, volume_id)
    if status is not None:
        _heal(ctx, server, volume_id)
        status = file_status(ctx, server, volume_id)
        if status.compaction_revision == step.facts["revision"] and any(_traces_of(ctx, [server], volume_id)):
            # A server goes on compacting when its client is gone; removing files under it would break the volume.
            limit = COMPACT_MINUTES * MINUTE * ((status.dat_file_size >> 30) + 1)
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


def _commit_all(ctx: Context, volume_id: int, copies: Sequence[_Copy], lease: Lease | None) -> None:
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


def _commit(ctx: Context, copy: _Copy, volume_id: int) -> None:
    """Commit one replica, once; whatever is answered, its revision tells whether it happened."""
    server, volume = copy.server, ctx.volume(copy.server)
    before = copy.status.compaction_revision
    assert copy.step is not None
    quiet = same_files(copy.status, _prove_uncommitted(ctx, copy, volume_id))
    was_writable = not volume.volume_status(volume_id=volume_id).is_read_only
    answer = "it says that it did"
    try:
        volume.vacuum_volume_commit(volume_id=volume_id, timeout=_minutes(copy))
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
    copy.size_after = status.dat_file_size
    ctx.journal.settle(copy.step)
    if was_writable and healed and volume.volume_status(volume_id=volume_id).is_read_only:
        volume.volume_mark_writable(volume_id=volume_id)
    ratio = volume.vacuum_volume_check(volume_id=volume_id).garbage_ratio
    if copy.ratio and ratio >= copy.ratio:
        copy.notes.append(f"{ratio:.0%} garbage on {server} again")
    if quiet and not copy.ttl:
        _prove_kept(ctx, copy, volume_id)


def _prove_kept(ctx: Context, copy: _Copy, volume_id: int) -> None:
    """Mismatch if needles are gone that nobody deleted; for a volume that was not written to while it was vacuumed."""
    status = file_status(ctx, copy.server, volume_id)
    live = live_index(ctx, copy.server, volume_id, status)
    assert copy.live is not None
    missing = ctx.compute(compare, copy.live, live).missing_in_b
    deleted_since = status.idx_file_size > len(live) * entry_size(live.offset_bytes)
    if missing and not deleted_since:
        raise Mismatch(
            f"volume {volume_id} on {copy.server} has lost {len(missing)} files in the vacuum "
            f"(first: needle {missing[0]:x}); compare it with its other replicas"
        )


def _prove_uncommitted(ctx: Context, copy: _Copy, volume_id: int) -> v.ReadVolumeFileStatusResponse:
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


def _await_answer(ctx: Context, copy: _Copy, volume_id: int) -> None:
    """Wait until a server that left a commit unanswered answers for the volume again; raise ServerFailed if not."""

    def answers() -> bool:
        try:
            return probe(ctx, copy.server, volume_id) is not None
        except ServerFailed as error:
            if error.is_transient:
                return False
            raise

    if not ctx.until(answers, timeout=_minutes(copy)):
        raise TimedOut(
            f"whether volume {volume_id} on {copy.server} is committed is unknown: the server does not answer"
        )


def _verify(ctx: Context, copy: _Copy, volume_id: int) -> None:
    """Read a sample of needles and check their checksums; have newer servers check the index, too."""
    server = copy.server
    status = file_status(ctx, server, volume_id)
    sample_needles(ctx, server, volume_id, live_index(ctx, server, volume_id, status), status.version or 3)
    if copy.generation < Generation.V4_44:
        return  # 3.97 cannot scrub, and 4.13 takes deletions for overlapping files
    scrubbed = ctx.volume(server).scrub_volume(mode=v.INDEX, volume_ids=[volume_id], timeout=_minutes(copy))
    if scrubbed.broken_volume_ids:
        raise Mismatch(f"volume {volume_id} on {server} is vacuumed, but broken: {'; '.join(scrubbed.details)}")
