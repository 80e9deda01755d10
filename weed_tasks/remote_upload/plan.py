"""Finding volumes to move to a remote storage backend, or back. Looks only; knows nothing of how data is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from proto_gen import worker_pb2
from weed_cluster.address import Address
from weed_cluster.master import Master
from weed_cluster.topology import Replica, Topology, collection_filter
from weed_core.errors import ConfigError, TaskError
from weed_core.model import Descriptor, Detection, DetectionRequest, Field, Proposal, Runtime, Skipped, Values
from weed_core.release import Generation
from weed_safety import late_writes
from weed_safety.alike import know_builds
from weed_safety.context import Context
from weed_safety.look import generation_of
from weed_safety.readiness import settle
from weed_tasks import forms, proposal
from weed_tasks.scope import unfit

UPLOAD, DOWNLOAD = "upload", "download"

BEGINNING = 300
"""Seconds that a job may take beside what the size asks for."""

BACKEND = "Backend"
"""The section of what is about the remote storage."""

DESCRIPTOR = Descriptor(
    name="remote_upload",
    job_type="remote_upload",
    display_name="Remote Upload",
    description="Moves the data of full, quiet volumes to a remote storage backend, or brings it back",
    icon="fas fa-cloud-upload-alt",
    fields=(
        forms.COLLECTIONS,
        Field(
            "backend",
            "Storage backend",
            "string",
            "",
            "Name of the backend as in the master's master.toml, type.id. Nothing is moved while it is empty.",
            placeholder="s3.default",
            section=BACKEND,
        ),
        Field(
            "direction",
            "Direction",
            "enum",
            UPLOAD,
            "Upload moves full, quiet volumes to the backend. Download brings back every matching volume whose data "
            "is in the backend.",
            options=((UPLOAD, "Upload: to the backend"), (DOWNLOAD, "Download: back to the volume servers")),
            section=BACKEND,
        ),
        forms.FULLNESS,
        replace(forms.QUIET, default=86400),
        forms.SMALLEST,
        late_writes.FIELD,
        Field(
            "keep_local",
            "Keep the local data file",
            "bool",
            False,
            "Leave the .dat file of the uploaded replica on its disk. It is no longer read and takes up space; it is "
            "a spare for rescue by hand.",
            section=BACKEND,
        ),
        Field(
            "keep_remote",
            "Keep the remote object",
            "bool",
            False,
            "After a download, leave the object in the backend. The result names its key; nothing deletes it later.",
            section=BACKEND,
        ),
    ),
    runtime=Runtime(
        enabled=False,
        detection_interval_minutes=60,
        max_jobs_per_detection=50,
        global_execution_concurrency=4,
        per_worker_execution_concurrency=4,
        retry_limit=2,
        retry_backoff_seconds=60,
        job_type_max_runtime_seconds=4 * 3600,
        execution_timeout_seconds=3600,
    ),
    weight=30,
)


def backends(master: Master) -> list[str]:
    """The storage backends of the master's configuration, as type.id. Their secrets come along and are dropped."""
    found = master.get_master_configuration().storage_backends
    return sorted({f"{backend.type}.{backend.id}" for backend in found})


def known_backend(master: Master, name: str) -> str:
    """Return a backend's full name ("s3" is "s3.default"); ConfigError, with the list, if the master has no such."""
    full = name if "." in name else f"{name}.default"
    known = backends(master)
    if full not in known:
        listed = f"it knows {', '.join(known)}" if known else "it knows none"
        raise ConfigError(
            f"the master has no storage backend {name!r}; {listed}. Backends stand in master.toml as "
            "[storage.backend.<type>.<id>]; volume servers read them when they start"
        )
    return full


def detect(request: DetectionRequest, ctx: Context) -> Detection:
    """Find volumes to upload, or to download; changes nothing. ConfigError for a backend that the master lacks."""
    values = Values(DESCRIPTOR, request.config)
    name = values.text("backend")
    if not name:
        known = ", ".join(backends(ctx.master())) or "none"
        return Detection([], summary=f"no storage backend is chosen, so nothing is moved; the master knows: {known}")
    backend = known_backend(ctx.master(), name)
    matches = collection_filter(values.text("collection_filter"))
    topology = know_builds(ctx, ctx.topology(request.volume_id))
    return settle(
        ctx, request, topology, DESCRIPTOR.name, lambda: _choose(request, values, backend, matches, topology, ctx)
    )


def _choose(
    request: DetectionRequest,
    values: Values,
    backend: str,
    matches: Callable[[str], bool],
    topology: Topology,
    ctx: Context,
) -> Detection:
    proposals: list[Proposal] = []
    skipped: list[Skipped] = []
    download, seen, has_more = values.text("direction") == DOWNLOAD, 0, False
    for volume_id, replicas in sorted(topology.volumes.items(), key=lambda pair: topology.turn(pair[0])):
        if not matches(replicas[0].collection):
            continue
        seen += 1
        key, reason = why_leave(replicas, topology, values, backend, time.time())
        if not key and (reason := why_refused(replicas, topology, download, _tiered(replicas))):
            key = "unfit"
        if not key and len({replica.remote_name for replica in replicas}) > 1 and not download:
            key, reason = _why_partly(ctx, replicas, backend)
        if key:
            first = replicas[0]
            skipped.append(
                Skipped(volume_id, f"volume {volume_id} {reason}", key, first.collection, str(first.server), first.size)
            )
        elif request.max_results and len(proposals) >= request.max_results:
            has_more = True
        else:
            proposals.append(_propose(replicas, values, backend))
    verb = "bring back from" if download else "move to"
    return Detection(proposals, skipped, has_more, seen, f"{seen} volumes: {len(proposals)} to {verb} {backend}")


def why_leave(
    replicas: Sequence[Replica], topology: Topology, values: Values, backend: str, now: float
) -> tuple[str, str]:
    """Say why a volume is left where it is: a key and words that follow its name; both empty where it is to move.

    `now` is in unix seconds.
    """
    first = replicas[0]
    remote = {replica.remote_name for replica in replicas}
    elsewhere = sorted(remote - {"", backend})
    if len(replicas) > 1 and (unlike := topology.mixed(replica.node for replica in replicas)):
        return "other build", f"has replicas that cannot share one object: {unlike}"
    if elsewhere:
        return "elsewhere", f"has its data in {', '.join(elsewhere)}"
    if values.text("direction") == DOWNLOAD:
        return ("", "") if backend in remote else ("local", "is local already")
    if remote == {backend}:
        return "remote", f"is in {backend} already"
    if remote != {"", backend}:  # else an upload that was broken off is to be finished
        size = max(replica.size for replica in replicas)
        fullness = size / topology.volume_size_limit if topology.volume_size_limit else 0.0
        quiet = now - max(replica.modified_at for replica in replicas)
        if fullness < values.number("fullness_ratio"):
            return "not full", f"is {fullness:.0%} full, uploaded from {values.number('fullness_ratio'):.0%}"
        if size < values.whole("min_size_mb") << 20:
            return "small", f"has {size >> 20} MB, uploaded from {values.whole('min_size_mb')} MB"
        if quiet < values.whole("quiet_for_seconds"):
            return "busy", f"was written to {quiet:.0f} s ago, uploaded after {values.whole('quiet_for_seconds')} s"
        if first.ttl:
            return "expires", f"expires by itself (time to live {first.ttl})"
        if len(replicas) < first.placement.copies:
            return "incomplete", f"has {len(replicas)} of {first.placement.copies} copies; repair replication first"
    return "", ""


def why_refused(replicas: Sequence[Replica], topology: Topology, download: bool, tiered: Collection[Address]) -> str:
    """Say, in words that follow its name, why a job to move a volume is refused; "" where it is not.

    `tiered` are the servers whose replica has its data in the backend already.
    """
    if ambiguity := topology.ambiguity(replicas[0].volume_id):
        return ambiguity
    if closed := next((replica.node.closed for replica in replicas if replica.node.closed), ""):
        return f"cannot be moved now: {closed}"
    if words := topology.barred.get(replicas[0].volume_id, ""):
        return words
    local = [replica for replica in replicas if replica.server not in tiered]
    return "" if download else unfit(local or replicas[:1], topology)


def _tiered(replicas: Sequence[Replica]) -> list[Address]:
    return [replica.server for replica in replicas if replica.remote_name]


def _why_partly(ctx: Context, replicas: Sequence[Replica], backend: str) -> tuple[str, str]:
    """Say why a volume stays that only some replicas have in the backend, in the form of why_leave()."""
    try:
        oldest = min(generation_of(ctx, replica.server) for replica in replicas)
    except TaskError as error:
        return "not reachable", f"is in {backend} on some servers only, and another cannot be asked: {error}"
    if oldest < Generation.V4_44:
        return "remote", f"is in {backend} already; the other copies stay local on servers of release {oldest.value}"
    return "", ""


def _propose(replicas: Sequence[Replica], values: Values, backend: str) -> Proposal:
    first = replicas[0]
    size = max(replica.size for replica in replicas)
    direction = values.text("direction")
    each = proposal.seconds_for(DESCRIPTOR.name, size)
    refuse = values.whole(late_writes.NAME)
    late = late_writes.words(replicas, refuse, time.time()) if direction == UPLOAD else ""
    words = f"upload volume {first.volume_id} to" if direction == UPLOAD else f"download volume {first.volume_id} from"
    params = worker_pb2.TaskParams(
        task_id=f"remote_upload_vol_{first.volume_id}_{int(time.time())}",
        volume_id=first.volume_id,
        collection=first.collection,
        volume_size=size,
        sources=map(proposal.source, replicas),
    )
    return proposal.of_volume(
        DESCRIPTOR.name,
        params,
        f"{words} {backend} ({size >> 20} MB)" + (f"; it {late}" if late else ""),
        BEGINNING + each * (len(replicas) if direction == DOWNLOAD else 1),
        size,
        detail=f"collection {first.collection!r}, on {', '.join(str(replica.server) for replica in replicas)}",
        parameters={"backend": backend, "direction": direction},
        labels={"backend": backend, "direction": direction},
    )
