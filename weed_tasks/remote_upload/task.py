"""Moving the data of full, quiet volumes to a remote storage backend, and back.

A server uploads a volume's `.dat` as one object under a random key, names it in the `.vif` and reads through it from
then on; index and replicas stay. So: freeze every replica, compare them, upload once, prove what was uploaded by
reading through it, and only then turn the other replicas into references to the same object.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field, replace
from typing import Any

from proto_gen.volume_server_pb2 import ReadVolumeFileStatusResponse, RemoteFile
from weed_cluster.address import Address
from weed_cluster.topology import snapshot
from weed_errors import BadTask, Mismatch, ServerFailed, StaleTask, TaskError
from weed_model import Job, Result, Value
from weed_safety import late_writes
from weed_safety.alike import check_alike
from weed_safety.context import Context
from weed_safety.freeze import STEP as FREEZE
from weed_safety.freeze import Frozen, freeze, seal, thaw, wait_still
from weed_safety.journal import Entry, Step
from weed_safety.late_writes import Refusal
from weed_safety.lease import LEASE_PATIENCE, Lease, hold
from weed_safety.look import file_status, probe, prove_unchanged
from weed_safety.parameters import collection_of, volume_id_of
from weed_safety.proof import CHECKSUMS, INDEX, compare_replicas, fetch_index, sample_of
from weed_safety.readiness import close_refusing
from weed_storage.volume_info import Generation
from weed_tasks.remote_upload.plan import DESCRIPTOR, DOWNLOAD, backends, known_backend, why_refused
from weed_values import as_bool, as_str, settings

SENT, REFERRED, FETCHED = "send", "refer", "fetch"
"""Journal steps: an upload (facts: until, unix seconds after which it has surely ended), a replica being replaced by a
reference (facts: source), a download. All name server and volume_id."""

SLOWEST = 2 << 20
"""Bytes per second that a transfer reaches even on a busy day; deadlines are made from it."""

TYPICAL = 50 << 20
"""Bytes per second from which progress is guessed where the server tells none."""

GRACE = 600.0
"""Seconds beyond its deadline after which a transfer whose client is gone has surely ended."""

QUIET = 1.0
"""Seconds without a change after which a frozen volume counts as still."""

TRIES = 3
"""Uploads, or copies of a reference, that are tried before the job fails."""

UNCLEAR = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL")
"""Status codes that do not tell whether the server goes on with what it was asked for."""

SAMPLE = 32
"""Needles read before and after."""


@dataclass
class _Volume:
    """The volume of a job, and what is known of each replica. `status` is as of the last look at it."""

    ctx: Context
    id: int
    collection: str
    backend: str
    keep_local: bool
    keep_remote: bool
    lease: Lease | None
    refuse: float = 0.0  # seconds for which replicas refuse writes before their local data goes
    status: dict[Address, ReadVolumeFileStatusResponse] = field(default_factory=dict)
    generation: dict[Address, Generation] = field(default_factory=dict)
    frozen: dict[Address, Frozen] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"volume {self.id}"

    @property
    def servers(self) -> list[Address]:
        return sorted(self.status, key=str)

    @property
    def tiered(self) -> list[Address]:
        """The replicas whose data is remote."""
        return [server for server in self.servers if remote_file(self.status[server])]

    def check_lease(self) -> None:
        """Raise Busy if another worker has taken the volume over."""
        if self.lease is not None:
            self.lease.check()

    def look(self, server: Address) -> ReadVolumeFileStatusResponse:
        """Ask a server afresh."""
        self.status[server] = file_status(self.ctx, server, self.id)
        return self.status[server]


def remote_file(status: ReadVolumeFileStatusResponse) -> RemoteFile | None:
    """The object that holds a volume's data, None where it is local."""
    return status.volume_info.files[0] if status.volume_info.files else None


def _backend_of(file: RemoteFile) -> str:
    return f"{file.backend_type}.{file.backend_id}"


def run(job: Job, ctx: Context) -> Result:
    """Upload or download one volume.

    Raises BadTask, StaleTask or ConfigError where nothing was touched, Mismatch where replicas disagree or a proof
    fails; the message says what was left behind.
    """
    volume_id = volume_id_of(job)
    with hold(ctx, volume_id) as lease:
        return _run(job, ctx, volume_id, lease)


def _run(job: Job, ctx: Context, volume_id: int, lease: Lease | None) -> Result:
    shown = {name: value for name, value in job.parameters.items() if name in DESCRIPTOR.defaults}
    wishes, _warnings = settings(DESCRIPTOR, job.config, shown)
    if not as_str(wishes["backend"], ""):
        known = ", ".join(backends(ctx.master())) or "none"
        raise BadTask(f"volume {volume_id} cannot be moved: no storage backend is named; the master knows: {known}")
    backend = known_backend(ctx.master(), as_str(wishes["backend"], ""))
    ctx.progress(0.01, "looking at the cluster")
    topology = snapshot(ctx.master(), volume_id)
    replicas = topology.replicas(volume_id)
    if not replicas:
        raise StaleTask(f"the master knows no replica of volume {volume_id}; nothing was changed")
    collection = collection_of(job)
    if collection is not None and collection != replicas[0].collection:
        raise StaleTask(f"volume {volume_id} is of collection {replicas[0].collection!r}, not {collection!r}")
    volume = _Volume(
        ctx,
        volume_id,
        replicas[0].collection,
        backend,
        as_bool(wishes["keep_local"], False),
        as_bool(wishes["keep_remote"], False),
        lease,
        late_writes.seconds_of(job),
    )
    answers = close_refusing(ctx, topology, (replica.server for replica in replicas))
    if not any(answer.refusal for answer in answers.values()):
        for replica in replicas:
            volume.generation[replica.server] = answers[replica.server].generation
            volume.look(replica.server)
        plan = f"{volume.name} is not moved, because its replicas cannot share one object"
        check_alike(ctx, volume.servers, plan)
        _check_objects(volume)
    reason = why_refused(replicas, topology, wishes["direction"] == DOWNLOAD, volume.tiered)
    if reason:
        raise StaleTask(f"volume {volume_id} {reason}")
    return _download(volume) if wishes["direction"] == DOWNLOAD else _upload(volume)


def _check_objects(volume: _Volume) -> None:
    """Mismatch if replicas have their data in another backend, or in different objects of this one."""
    files = {server: file for server in volume.tiered if (file := remote_file(volume.status[server]))}
    others = {_backend_of(file) for file in files.values()} - {volume.backend}
    if others:
        raise Mismatch(f"{volume.name} has its data in {', '.join(sorted(others))}, not in {volume.backend}")
    keys = {file.key for file in files.values()}
    if len(keys) > 1:
        raise Mismatch(
            f"{volume.name} has its data in different objects of {volume.backend}, {' and '.join(sorted(keys))}; "
            "nothing was changed"
        )


def _upload(volume: _Volume) -> Result:
    ctx = volume.ctx
    local = [server for server in volume.servers if server not in volume.tiered]
    if not local:
        return _uploaded(volume, volume.tiered[0], [], already=True)
    if ctx.options.dry_run:
        return Result(f"{volume.name} would be uploaded to {volume.backend}; nothing was changed")
    try:
        ctx.progress(0.03, "freezing the replicas")
        for server in local:
            volume.frozen[server] = freeze(ctx, server, volume.id, persist=False)
        Refusal(ctx, volume.id, local, volume.refuse).outlast(lambda stage: ctx.progress(0.04, stage))
        volume.check_lease()
        for frozen in volume.frozen.values():
            if frozen.was_writable:
                seal(ctx, frozen)
        for server in local:
            volume.status[server] = wait_still(ctx, server, volume.id, QUIET)
        ctx.progress(0.06, "comparing the replicas")
        _agree(volume)
        # One that was uploaded by an earlier run is taken up, so that its object is used and not another one made.
        holder = volume.tiered[0] if volume.tiered else local[0]
        ctx.journal.fact(holder=str(holder))
        sample = _Sample.of(ctx, local[0], volume.id, volume.status[local[0]])
        if holder in local:
            ctx.progress(0.1, f"uploading to {volume.backend}")
            _send(volume, holder)
        _prove_uploaded(volume, holder, volume.status[local[0]], sample)
        kept = []
        for number, server in enumerate(other for other in local if other != holder):
            ctx.progress(0.8 + 0.18 * number / len(local), f"making {server} refer to the object")
            if min(volume.generation[server], volume.generation[holder]) >= Generation.V4_44:
                _refer(volume, server, holder, sample)
            else:
                # Older servers delete the shared object with any one of its references.
                kept.append(server)
                _keep_shut(volume, server)
    except BaseException:
        _give_back(volume)
        raise
    with ctx.cluster.leash.shielded():
        for frozen in volume.frozen.values():
            frozen.keep(ctx.journal)
    return _uploaded(volume, holder, kept)


def _uploaded(volume: _Volume, holder: Address, kept: Sequence[Address], already: bool = False) -> Result:
    file = remote_file(volume.status[holder])
    assert file is not None
    words = f"{volume.name} is in {volume.backend} as {file.key}, {file.file_size} bytes"
    words += " already; nothing to do" if already else ", proved by reading through it"
    if kept:
        words += f"; {_names(kept)} keeps its local copy, read-only, because its release shares no objects safely"
    outputs: dict[str, Value] = {
        "volume_id": volume.id,
        "backend": volume.backend,
        "key": file.key,
        "size": file.file_size,
        "references": [str(server) for server in volume.tiered],
        "local": [str(server) for server in kept],
    }
    return Result(words, outputs)


def _agree(volume: _Volume) -> None:
    """Mismatch, with the number of needles, if the replicas do not hold the same files."""
    first, *others = volume.servers
    for other in others:
        # A needle of a remote replica costs a request to the backend: there a sample must do.
        remote = {first, other} & set(volume.tiered)
        found = compare_replicas(
            volume.ctx, first, other, volume.id, INDEX if remote else CHECKSUMS, SAMPLE if remote else 0
        )
        count = len({*found.missing_in_a, *found.missing_in_b, *found.different})
        if count:
            raise Mismatch(
                f"{volume.name}: replicas on {first} and {other} differ in {count} needle{'s' if count != 1 else ''}; "
                "nothing was changed. Reconcile them with a replication task first"
            )


@dataclass(frozen=True)
class _Sample:
    """What must be the same after a transfer: the index, and some needles as their server reads and checks them."""

    index: bytes  # SHA-256
    index_size: int
    needles: Mapping[int, tuple[int, int]]  # id -> cookie and checksum

    @classmethod
    def of(cls, ctx: Context, server: Address, volume_id: int, status: ReadVolumeFileStatusResponse) -> _Sample:
        """Read it from a server. ServerFailed names a needle that cannot be read."""
        index = fetch_index(ctx, server, volume_id, status)
        ids = [needle_id for needle_id, _offset, size in sample_of(index.live, SAMPLE) if size]
        return cls(index.digest, index.size, dict(zip(ids, ctx.each(_reader(ctx, server, volume_id), ids))))

    def check(self, ctx: Context, server: Address, volume_id: int, status: ReadVolumeFileStatusResponse) -> None:
        """Mismatch if the index or a needle is another on this server now."""
        index = fetch_index(ctx, server, volume_id, status, min(self.index_size, status.idx_file_size))
        if index.digest != self.index:
            raise Mismatch(f"volume {volume_id} on {server} has another index than before")
        now = dict(zip(self.needles, ctx.each(_reader(ctx, server, volume_id), self.needles)))
        wrong = [needle_id for needle_id, seen in self.needles.items() if now[needle_id] != seen]
        if wrong:
            raise Mismatch(f"volume {volume_id} on {server} reads other bytes than before: needle {wrong[0]:x}")


def _reader(ctx: Context, server: Address, volume_id: int) -> Callable[[int], tuple[int, int]]:
    def read(needle_id: int) -> tuple[int, int]:
        needle = ctx.volume(server).volume_needle_status(volume_id=volume_id, needle_id=needle_id, timeout=120)
        return needle.cookie, needle.crc

    return read


def _send(volume: _Volume, server: Address) -> None:
    """Upload once; again only where the server said that it failed, so that no second object is made of a first one."""
    ctx = volume.ctx
    before = volume.status[server]
    seconds = 120 + before.dat_file_size / SLOWEST
    for attempt in range(1, TRIES + 1):
        volume.check_lease()
        seal(ctx, volume.frozen[server])
        prove_unchanged(ctx, server, volume.id, before)
        step = ctx.journal.plan(
            SENT, server=str(server), volume_id=volume.id, backend=volume.backend, until=time.time() + seconds + GRACE
        )
        try:
            replies = ctx.volume(server).volume_tier_move_dat_to_remote(
                volume_id=volume.id,
                collection=volume.collection,
                destination_backend_name=volume.backend,
                keep_local_dat_file=volume.keep_local,
                timeout=seconds,
            )
            _follow(ctx, replies, before.dat_file_size, 0.1, 0.75, f"uploading to {volume.backend}")
        except ServerFailed as error:
            if _is_remote(ctx, server, volume.id):
                ctx.log(f"{error}; yet {volume.name} on {server} is uploaded, going on")
            elif error.code in UNCLEAR:
                # It may still be under way: the step stays open, and with it the freeze.
                raise TaskError(
                    f"the upload of {volume.name} from {server} broke off, and may go on there: {error}. The volume "
                    "stays read-only; a later run takes up what it finds"
                ) from error
            else:
                ctx.journal.settle(step)
                if attempt == TRIES:
                    raise
                ctx.log(f"upload {attempt} of {TRIES} failed: {error}")
                ctx.wait(2.0 * attempt)
                continue
        ctx.journal.settle(step)
        return


def _is_remote(ctx: Context, server: Address, volume_id: int) -> bool:
    """Whether a server has a volume in a backend now; False where it does not answer."""
    try:
        status = probe(ctx, server, volume_id)
    except ServerFailed:
        return False
    return status is not None and remote_file(status) is not None


def _follow(ctx: Context, replies: Iterable[Any], size: int, start: float, end: float, stage: str) -> None:
    """Wait for a transfer, telling its progress: what the server says, or a guess by time where it says nothing."""
    said = 0.0

    def drain() -> None:
        nonlocal said
        for reply in replies:
            said = min(reply.processedPercentage / 100, 1.0)

    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        transfer = pool.submit(drain)
        while not wait_for([transfer], timeout=1.0).done:
            guess = min((time.monotonic() - began) * TYPICAL / max(size, 1), 0.9)
            ctx.progress(start + (end - start) * max(said, guess if not said else 0.0), stage)
    transfer.result()


def _prove_uploaded(volume: _Volume, server: Address, before: ReadVolumeFileStatusResponse, sample: _Sample) -> None:
    """Prove that a server reads the volume from the backend, whole and as it was before."""
    ctx = volume.ctx
    ctx.progress(0.76, "reading through the remote object")
    status = volume.look(server)
    file = remote_file(status)
    if file is None or _backend_of(file) != volume.backend:
        raise Mismatch(
            f"{server} says that it uploaded {volume.name}, and does not name the object; it is kept as it is"
        )
    # A replica that was written to on its own has another layout, so only its own size can be compared.
    expected = before.dat_file_size if server in volume.frozen else status.dat_file_size
    if file.file_size != expected:
        raise Mismatch(
            f"{volume.name} on {server} has {expected} bytes, its object {file.key} in {volume.backend} "
            f"{file.file_size}; the other replicas are kept as they are"
        )
    if server in volume.frozen:
        sample.check(ctx, server, volume.id, status)
    else:
        _check_needles(ctx, server, volume.id, sample)
    ctx.log(f"{volume.name} on {server} is read from {volume.backend}, object {file.key}, {file.file_size} bytes")


def _check_needles(ctx: Context, server: Address, volume_id: int, sample: _Sample) -> None:
    read = _reader(ctx, server, volume_id)
    for needle_id, seen in sample.needles.items():
        if read(needle_id) != seen:
            raise Mismatch(f"volume {volume_id} on {server} reads other bytes than its replica: needle {needle_id:x}")


def _refer(volume: _Volume, server: Address, holder: Address, sample: _Sample) -> None:
    """Replace a replica by a reference to the object: the server copies index and `.vif` of the one that has it.

    Its own data is deleted by that, so it happens after the object was proved, and is tried again if it fails.
    """
    ctx = volume.ctx
    volume.check_lease()
    with ctx.cluster.leash.shielded():
        seal(ctx, volume.frozen[server])
        prove_unchanged(ctx, server, volume.id, volume.status[server])
    step = ctx.journal.plan(REFERRED, server=str(server), volume_id=volume.id, source=str(holder))
    with ctx.cluster.leash.shielded():
        _copy_reference(ctx, volume.id, server, holder)
    ctx.journal.settle(step)
    key, other = (remote_file(status) for status in (volume.status[holder], volume.look(server)))
    assert key is not None
    if other is None or other.key != key.key:
        raise Mismatch(f"{volume.name} on {server} does not refer to object {key.key} as {holder} does")
    _check_needles(ctx, server, volume.id, sample)
    volume.frozen[server].keep(ctx.journal)
    ctx.log(f"{volume.name} on {server} refers to object {key.key} now; its local data is gone")


def _copy_reference(ctx: Context, volume_id: int, server: Address, holder: Address) -> None:
    """Make a server refer to the object that another one refers to; ServerFailed after some tries."""
    if server == holder:
        raise BadTask(f"volume {volume_id} on {server} cannot refer to itself")
    for attempt in range(1, TRIES + 1):
        try:
            list(ctx.volume(server).volume_copy(volume_id=volume_id, source_data_node=str(holder), timeout=300))
            return
        except ServerFailed as error:
            now = probe(ctx, server, volume_id)
            if now is not None and remote_file(now):
                return
            if attempt == TRIES:
                raise
            ctx.log(f"copy {attempt} of {TRIES} of the reference to {server} failed: {error}")
            ctx.wait(1.0 * attempt)


def _keep_shut(volume: _Volume, server: Address) -> None:
    """Leave a replica local and read-only for good: its sibling in the backend cannot take writes."""
    volume.ctx.volume(server).volume_mark_readonly(volume_id=volume.id, persist=True)
    volume.frozen[server].keep(volume.ctx.journal)


def _give_back(volume: _Volume) -> None:
    """After a failure thaw what this job froze, unless the volume is in the backend by now or may come to be there.

    Where another worker has taken the volume over, nothing further is changed.
    """
    if volume.lease is not None and volume.lease.is_lost:
        volume.ctx.log(f"{volume.name} belongs to another worker now; it is cleared up later")
        return
    with volume.ctx.cluster.leash.shielded():
        try:
            _settle(volume.ctx, volume.ctx.journal, volume.id)
        except TaskError as error:
            volume.ctx.log(f"{volume.name} is cleared up later: {error}")


def recover(entry: Entry, ctx: Context) -> None:
    """Settle what a killed run left: finish a reference or a remount, thaw what is still local and not under way.

    Every step is tried; then the first error is raised, and its step stays open. TaskError as long as an upload may be
    under way: another one would make a second object.
    """
    failed: list[TaskError] = []
    with ctx.cluster.leash.shielded():
        for volume_id in entry.volume_ids:
            try:
                with hold(ctx, volume_id, LEASE_PATIENCE):
                    _settle(ctx, entry, volume_id)
            except TaskError as error:
                failed.append(error)
    if failed:
        raise failed[0]
    for step in entry.open:
        if step.what == SENT:
            server, volume_id = _place(step)
            raise TaskError(f"the upload of volume {volume_id} may still be under way on {server}; it stays read-only")


def _settle(ctx: Context, entry: Entry, volume_id: int) -> None:
    failed: list[TaskError] = []
    # What is under way decides what may be thawed, so freezes come last.
    for what, settle in (
        (SENT, _settle_upload),
        (REFERRED, _settle_reference),
        (FETCHED, _settle_download),
        (FREEZE, _settle_freeze),
    ):
        for step in entry.open:
            if step.what == what and int(step.facts["volume_id"]) == volume_id:
                try:
                    settle(ctx, entry, step)
                except TaskError as error:
                    failed.append(error)
    if failed:
        raise failed[0]


def _settle_upload(ctx: Context, entry: Entry, step: Step) -> None:
    server, volume_id = _place(step)
    status = probe(ctx, server, volume_id)
    if status is None or remote_file(status):
        entry.settle(step)
    elif not ctx.volume(server).volume_status(volume_id=volume_id).is_read_only:
        entry.settle(step)  # the server was restarted since, and its upload ended with it
    elif time.time() > float(step.facts["until"]):
        entry.settle(step)


def _settle_reference(ctx: Context, entry: Entry, step: Step) -> None:
    server, volume_id = _place(step)
    if probe(ctx, server, volume_id) is None:
        # Its own data is gone and the reference did not come: make it now.
        _copy_reference(ctx, volume_id, server, Address.parse(step.facts["source"]))
        ctx.log(f"volume {volume_id} on {server} refers to the object of {step.facts['source']} again")
    entry.settle(step)


def _settle_download(ctx: Context, entry: Entry, step: Step) -> None:
    server, volume_id = _place(step)
    status = probe(ctx, server, volume_id)
    if status is None:
        # Killed between unmounting and mounting.
        ctx.volume(server).volume_mount(volume_id=volume_id)
    elif not remote_file(status):
        _remount(ctx, server, volume_id)
    entry.settle(step)


def _settle_freeze(ctx: Context, entry: Entry, step: Step) -> None:
    """Thaw a replica, unless it or a sibling is in the backend, or on its way there."""
    server, volume_id = _place(step)
    status = probe(ctx, server, volume_id)
    if status is None or remote_file(status):
        entry.settle(step)
        return
    holder = entry.facts.get("holder", "")
    if any(other.what == SENT and _place(other)[1] == volume_id for other in entry.open):
        why = "an upload may still be under way"
    elif holder and _is_remote(ctx, Address.parse(holder), volume_id):
        why = f"its data is in remote storage on {holder}, which the next remote_upload of it finishes"
    else:
        frozen = Frozen.of(step)
        assert frozen is not None
        thaw(replace(ctx, journal=entry), frozen)
        return
    ctx.log(f"volume {volume_id} on {server} stays read-only: {why}")


def _place(step: Step) -> tuple[Address, int]:
    return Address.parse(step.facts["server"]), int(step.facts["volume_id"])


# ---- the way back


def _download(volume: _Volume) -> Result:
    ctx = volume.ctx
    tiered = volume.tiered
    if not tiered:
        return Result(f"{volume.name} is local already; nothing to do", {"volume_id": volume.id})
    file = remote_file(volume.status[tiered[0]])
    assert file is not None
    old = [server for server in tiered if volume.generation[server] < Generation.V4_44]
    if old and (len(tiered) > 1 or volume.keep_remote):
        raise TaskError(
            f"{volume.name} refers to object {file.key} on {_names(tiered)}; servers of the release of {_names(old)} "
            "delete the object with the first download. Nothing was changed"
        )
    if ctx.options.dry_run:
        return Result(f"{volume.name} would be downloaded from {volume.backend}; nothing was changed")
    share = 0.9 / len(tiered)
    for number, server in enumerate(tiered):
        # The server deletes the object with the last download: by then every other replica is proved to be local.
        keep = volume.keep_remote or number + 1 < len(tiered)
        _fetch(volume, server, file, keep, 0.05 + share * number, 0.05 + share * (number + 1))
    for server in tiered:
        _remount(ctx, server, volume.id)
        for step in ctx.journal.open:
            if step.what == FETCHED and _place(step) == (server, volume.id):
                ctx.journal.settle(step)
    left = f"; object {file.key} is left in {volume.backend}" if volume.keep_remote else ""
    return Result(
        f"{volume.name} is back from {volume.backend} on {_names(tiered)}, {file.file_size} bytes{left}",
        {
            "volume_id": volume.id,
            "backend": volume.backend,
            "key": file.key,
            "size": file.file_size,
            "local": [str(server) for server in tiered],
        },
    )


def _fetch(volume: _Volume, server: Address, file: RemoteFile, keep: bool, start: float, end: float) -> None:
    """Bring the data back to one server and prove it."""
    ctx = volume.ctx
    ctx.progress(start, f"downloading to {server}")
    sample = _Sample.of(ctx, server, volume.id, volume.status[server])
    volume.check_lease()
    ctx.journal.plan(FETCHED, server=str(server), volume_id=volume.id)
    try:
        replies = ctx.volume(server).volume_tier_move_dat_from_remote(
            volume_id=volume.id,
            collection=volume.collection,
            keep_remote_dat_file=keep,
            timeout=120 + file.file_size / SLOWEST,
        )
        _follow(ctx, replies, file.file_size, start, end, f"downloading to {server}")
    except ServerFailed as error:
        if _is_remote(ctx, server, volume.id):
            raise
        ctx.log(f"{error}; yet {volume.name} is local on {server}, going on")
    if volume.generation[server] < Generation.V4_44:
        _remount(ctx, server, volume.id)  # such a server has closed the volume
    status = volume.look(server)
    if remote_file(status) or status.dat_file_size != file.file_size:
        raise Mismatch(
            f"{volume.name} on {server} has {status.dat_file_size} bytes after the download of {file.file_size}; "
            f"object {file.key} in {volume.backend} is {'kept' if keep else 'gone if the server deleted it'}"
        )
    sample.check(ctx, server, volume.id, status)
    ctx.log(f"{volume.name} is local on {server} again, {status.dat_file_size} bytes, proved")


def _remount(ctx: Context, server: Address, volume_id: int) -> None:
    """Have the server open the volume anew, so that it is writable if it was before the upload; never interrupted."""
    with ctx.cluster.leash.shielded():
        ctx.volume(server).volume_unmount(volume_id=volume_id)
        ctx.volume(server).volume_mount(volume_id=volume_id)


def _names(servers: Iterable[Address]) -> str:
    return " and ".join(sorted(map(str, servers)))
