"""Moving the data of full, quiet volumes to a remote storage backend, and back.

A server uploads a volume's `.dat` as one object under a random key, names it in the `.vif` and reads through it from
then on; index and replicas stay. So: freeze every replica, compare them, upload once, prove what was uploaded by
reading through it, and only then turn the other replicas into references to the same object.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from proto_gen.volume_server_pb2 import ReadVolumeFileStatusResponse
from weed_cluster.address import Address
from weed_cluster.topology import snapshot
from weed_core.errors import BadTask, Mismatch, ServerFailed, StaleTask, TaskError
from weed_core.model import Job, Result, Values
from weed_core.release import Generation
from weed_core.text import size_text
from weed_core.values import Value
from weed_safety import late_writes
from weed_safety.alike import check_alike
from weed_safety.context import Context
from weed_safety.freeze import freeze, seal, wait_still
from weed_safety.journal import Entry
from weed_safety.late_writes import Refusal
from weed_safety.lease import LEASE_PATIENCE, Lease, hold
from weed_safety.look import prove_unchanged
from weed_safety.parameters import collection_of, volume_id_of
from weed_safety.proof import CHECKSUMS, INDEX, compare_replicas
from weed_safety.readiness import close_refusing
from weed_safety.steps import of_kind, plan
from weed_tasks.remote_upload.download import download
from weed_tasks.remote_upload.plan import DESCRIPTOR, DOWNLOAD, backends, known_backend, why_refused
from weed_tasks.remote_upload.undo import give_back, settle_volume
from weed_tasks.remote_upload.volume import (
    SAMPLE,
    SLOWEST,
    TRIES,
    Referring,
    RemoteVolume,
    Sample,
    Uploading,
    backend_of,
    check_needles,
    copy_reference,
    follow,
    is_remote,
    listed,
    remote_file,
)

GRACE = 600.0
"""Seconds beyond its deadline after which a transfer whose client is gone has surely ended."""

STILL_FOR = 1.0
"""Seconds without a change after which a frozen volume counts as still."""


UNCLEAR = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL")
"""Status codes that do not tell whether the server goes on with what it was asked for."""


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
    values = Values(DESCRIPTOR, job.config, shown)
    if not values.text("backend"):
        known = ", ".join(backends(ctx.master())) or "none"
        raise BadTask(f"volume {volume_id} cannot be moved: no storage backend is named; the master knows: {known}")
    backend = known_backend(ctx.master(), values.text("backend"))
    ctx.progress(0.01, "looking at the cluster")
    topology = snapshot(ctx.master(), volume_id)
    replicas = topology.replicas(volume_id)
    if not replicas:
        raise StaleTask(f"the master knows no replica of volume {volume_id}; nothing was changed")
    collection = collection_of(job)
    if collection is not None and collection != replicas[0].collection:
        raise StaleTask(f"volume {volume_id} is of collection {replicas[0].collection!r}, not {collection!r}")
    volume = RemoteVolume(
        ctx,
        volume_id,
        replicas[0].collection,
        backend,
        values.flag("keep_local"),
        values.flag("keep_remote"),
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
    reason = why_refused(replicas, topology, values.text("direction") == DOWNLOAD, volume.tiered)
    if reason:
        raise StaleTask(f"volume {volume_id} {reason}")
    return download(volume) if values.text("direction") == DOWNLOAD else _upload(volume)


def _check_objects(volume: RemoteVolume) -> None:
    """Mismatch if replicas have their data in another backend, or in different objects of this one."""
    files = {server: file for server in volume.tiered if (file := remote_file(volume.status[server]))}
    others = {backend_of(file) for file in files.values()} - {volume.backend}
    if others:
        raise Mismatch(f"{volume.name} has its data in {', '.join(sorted(others))}, not in {volume.backend}")
    keys = {file.key for file in files.values()}
    if len(keys) > 1:
        raise Mismatch(
            f"{volume.name} has its data in different objects of {volume.backend}, {' and '.join(sorted(keys))}; "
            "nothing was changed"
        )


def _upload(volume: RemoteVolume) -> Result:
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
            volume.status[server] = wait_still(ctx, server, volume.id, STILL_FOR)
        ctx.progress(0.06, "comparing the replicas")
        _agree(volume)
        # One that was uploaded by an earlier run is taken up, so that its object is used and not another one made.
        holder = volume.tiered[0] if volume.tiered else local[0]
        ctx.journal.fact(holder=str(holder))
        sample = Sample.of(ctx, local[0], volume.id, volume.status[local[0]])
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
        give_back(volume)
        raise
    with ctx.cluster.leash.shielded():
        for frozen in volume.frozen.values():
            frozen.keep(ctx.journal)
    return _uploaded(volume, holder, kept)


def _uploaded(volume: RemoteVolume, holder: Address, kept: Sequence[Address], already: bool = False) -> Result:
    file = remote_file(volume.status[holder])
    assert file is not None
    words = f"{volume.name} is in {volume.backend} as {file.key}, {size_text(file.file_size)}"
    words += " already; nothing to do" if already else ", proved by reading through it"
    if kept:
        words += f"; {listed(kept)} keeps its local copy, read-only, because its release shares no objects safely"
    outputs: dict[str, Value] = {
        "volume_id": volume.id,
        "backend": volume.backend,
        "key": file.key,
        "size": file.file_size,
        "moved_bytes": 0 if already else file.file_size,
        "references": [str(server) for server in volume.tiered],
        "local": [str(server) for server in kept],
    }
    return Result(words, outputs)


def _agree(volume: RemoteVolume) -> None:
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


def _send(volume: RemoteVolume, server: Address) -> None:
    """Upload once; again only where the server said that it failed, so that no second object is made of a first one."""
    ctx = volume.ctx
    before = volume.status[server]
    seconds = 120 + before.dat_file_size / SLOWEST
    for attempt in range(1, TRIES + 1):
        volume.check_lease()
        seal(ctx, volume.frozen[server])
        prove_unchanged(ctx, server, volume.id, before)
        step = plan(ctx.journal, Uploading(server, volume.id, volume.backend, time.time() + seconds + GRACE))
        try:
            replies = ctx.volume(server).volume_tier_move_dat_to_remote(
                volume_id=volume.id,
                collection=volume.collection,
                destination_backend_name=volume.backend,
                keep_local_dat_file=volume.keep_local,
                timeout=seconds,
            )
            follow(ctx, replies, before.dat_file_size, 0.1, 0.75, f"uploading to {volume.backend}")
        except ServerFailed as error:
            if is_remote(ctx, server, volume.id):
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


def _prove_uploaded(
    volume: RemoteVolume, server: Address, before: ReadVolumeFileStatusResponse, sample: Sample
) -> None:
    """Prove that a server reads the volume from the backend, whole and as it was before."""
    ctx = volume.ctx
    ctx.progress(0.76, "reading through the remote object")
    status = volume.look(server)
    file = remote_file(status)
    if file is None or backend_of(file) != volume.backend:
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
        check_needles(ctx, server, volume.id, sample)
    ctx.log(f"{volume.name} on {server} is read from {volume.backend}, object {file.key}, {file.file_size} bytes")


def _refer(volume: RemoteVolume, server: Address, holder: Address, sample: Sample) -> None:
    """Replace a replica by a reference to the object: the server copies index and `.vif` of the one that has it.

    Its own data is deleted by that, so it happens after the object was proved, and is tried again if it fails.
    """
    ctx = volume.ctx
    volume.check_lease()
    with ctx.cluster.leash.shielded():
        seal(ctx, volume.frozen[server])
        prove_unchanged(ctx, server, volume.id, volume.status[server])
    step = plan(ctx.journal, Referring(server, volume.id, holder))
    with ctx.cluster.leash.shielded():
        copy_reference(ctx, volume.id, server, holder)
    ctx.journal.settle(step)
    key, other = (remote_file(status) for status in (volume.status[holder], volume.look(server)))
    assert key is not None
    if other is None or other.key != key.key:
        raise Mismatch(f"{volume.name} on {server} does not refer to object {key.key} as {holder} does")
    check_needles(ctx, server, volume.id, sample)
    volume.frozen[server].keep(ctx.journal)
    ctx.log(f"{volume.name} on {server} refers to object {key.key} now; its local data is gone")


def _keep_shut(volume: RemoteVolume, server: Address) -> None:
    """Leave a replica local and read-only for good: its sibling in the backend cannot take writes."""
    volume.ctx.volume(server).volume_mark_readonly(volume_id=volume.id, persist=True)
    volume.frozen[server].keep(volume.ctx.journal)


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
                    settle_volume(ctx, entry, volume_id)
            except TaskError as error:
                failed.append(error)
    if failed:
        raise failed[0]
    for step in of_kind(entry, Uploading):
        server, volume_id = step.change.server, step.change.volume_id
        raise TaskError(f"the upload of volume {volume_id} may still be under way on {server}; it stays read-only")


# ---- the way back
