"""Bringing a volume's data back from remote storage."""

from __future__ import annotations

from proto_gen.volume_server_pb2 import RemoteFile
from weed_cluster.address import Address
from weed_core.errors import Mismatch, ServerFailed, TaskError
from weed_core.model import Result
from weed_core.release import Generation
from weed_core.text import size_text
from weed_safety.steps import of_kind, plan
from weed_tasks.remote_upload.volume import (
    SLOWEST,
    Downloading,
    RemoteVolume,
    Sample,
    follow,
    is_remote,
    listed,
    remote_file,
    remount,
)


def download(volume: RemoteVolume) -> Result:
    ctx = volume.ctx
    tiered = volume.tiered
    if not tiered:
        return Result(f"{volume.name} is local already; nothing to do", {"volume_id": volume.id})
    file = remote_file(volume.status[tiered[0]])
    assert file is not None
    old = [server for server in tiered if volume.generation[server] < Generation.V4_44]
    if old and (len(tiered) > 1 or volume.keep_remote):
        raise TaskError(
            f"{volume.name} refers to object {file.key} on {listed(tiered)}; servers of the release of {listed(old)} "
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
        remount(ctx, server, volume.id)
        for step in of_kind(ctx.journal, Downloading, volume.id):
            if step.change.server == server:
                ctx.journal.settle(step)
    left = f"; object {file.key} is left in {volume.backend}" if volume.keep_remote else ""
    return Result(
        f"{volume.name} is back from {volume.backend} on {listed(tiered)}, {size_text(file.file_size)}{left}",
        {
            "volume_id": volume.id,
            "backend": volume.backend,
            "key": file.key,
            "size": file.file_size,
            "moved_bytes": file.file_size,
            "local": [str(server) for server in tiered],
        },
    )


def _fetch(volume: RemoteVolume, server: Address, file: RemoteFile, keep: bool, start: float, end: float) -> None:
    """Bring the data back to one server and prove it."""
    ctx = volume.ctx
    ctx.progress(start, f"downloading to {server}")
    sample = Sample.of(ctx, server, volume.id, volume.status[server])
    volume.check_lease()
    plan(ctx.journal, Downloading(server, volume.id))
    try:
        replies = ctx.volume(server).volume_tier_move_dat_from_remote(
            volume_id=volume.id,
            collection=volume.collection,
            keep_remote_dat_file=keep,
            timeout=120 + file.file_size / SLOWEST,
        )
        follow(ctx, replies, file.file_size, start, end, f"downloading to {server}")
    except ServerFailed as error:
        if is_remote(ctx, server, volume.id):
            raise
        ctx.log(f"{error}; yet {volume.name} is local on {server}, going on")
    if volume.generation[server] < Generation.V4_44:
        remount(ctx, server, volume.id)  # such a server has closed the volume
    status = volume.look(server)
    if remote_file(status) or status.dat_file_size != file.file_size:
        raise Mismatch(
            f"{volume.name} on {server} has {status.dat_file_size} bytes after the download of {file.file_size}; "
            f"object {file.key} in {volume.backend} is {'kept' if keep else 'gone if the server deleted it'}"
        )
    sample.check(ctx, server, volume.id, status)
    ctx.log(f"{volume.name} is local on {server} again, {status.dat_file_size} bytes, proved")
