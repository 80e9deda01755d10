"""What a broken-off copy leaves on its target: a volume that is mounted without files.

A server that goes on pulling for a client that is gone mounts the copy at the end and then removes its files: it serves
them until it is restarted, and refuses to pull the volume again.
"""

from __future__ import annotations

from proto_gen.volume_server_pb2 import ReadVolumeFileStatusResponse
from weed_cluster.address import Address
from weed_cluster.topology import locations
from weed_core.errors import ServerFailed, TaskError
from weed_safety.context import Context
from weed_safety.look import probe

ANY_REVISION = 0xFFFFFFFF
"""The compaction revision that CopyFile takes for any."""

DELETE_TIMEOUT = 120.0  # seconds

REGISTERED_WITHIN = 20.0
"""Seconds in which a master learns of a mounted or deleted volume, even where it is told by full heartbeats only."""


def has_files(ctx: Context, server: Address, volume_id: int) -> bool:
    """Whether the files of a volume are on its server's disk: one may be served from files that are removed."""
    for ext in (".dat", ".idx"):
        try:
            list(
                ctx.volume(server).copy_file(
                    volume_id=volume_id, ext=ext, compaction_revision=ANY_REVISION, stop_offset=1
                )
            )
        except ServerFailed as error:
            if not error.says_absent:
                raise
            return False
    return True


def is_remains(
    ctx: Context,
    source: Address,
    target: Address,
    original: ReadVolumeFileStatusResponse,
    copy: ReadVolumeFileStatusResponse,
) -> bool:
    """Whether a copy is what a pull left whose client died: a server mounts it and then removes its files.

    It must hold nothing that the original, which is on disk, does not.
    """
    volume_id = original.volume_id
    is_contained = (
        copy.compaction_revision == original.compaction_revision
        and copy.dat_file_size <= original.dat_file_size
        and copy.idx_file_size <= original.idx_file_size
    )
    if copy.volume_info.files or original.volume_info.files or not is_contained:
        return False
    return not has_files(ctx, target, volume_id) and has_files(ctx, source, volume_id)


def clear_remains(ctx: Context, volume_id: int, target: Address) -> None:
    """Delete what a broken-off copy left on a server, and wait until the master lists it no more."""
    ctx.log(f"clearing what a broken-off copy of volume {volume_id} left on {target}: it is mounted without files")
    ctx.volume(target).volume_delete(volume_id=volume_id, keep_remote_data=True, timeout=DELETE_TIMEOUT)
    if probe(ctx, target, volume_id) is not None:
        raise TaskError(f"{target} still holds the remains of a copy of volume {volume_id} after deleting them")
    if not ctx.until(lambda: target not in locations(ctx.master(), volume_id), timeout=REGISTERED_WITHIN):
        raise TaskError(f"the master still lists the remains of a copy of volume {volume_id} on {target}")
