"""Looking at one replica on its server, asked afresh; changes nothing.

Figures are bytes of `.dat` and `.idx`, numbers of files and the compaction revision, as the server itself tells them.
"""

from __future__ import annotations

from proto_gen.volume_server_pb2 import ReadVolumeFileStatusResponse
from weed_cluster.address import Address
from weed_core.errors import Mismatch, ServerFailed
from weed_core.release import Generation, server_generation
from weed_safety.context import Context


def file_status(ctx: Context, server: Address, volume_id: int) -> ReadVolumeFileStatusResponse:
    """Ask for the sizes and counts of a volume's files; Mismatch if its data cannot be read.

    A server that has lost a volume's data file still answers the one call with zeros; the other tells.
    """
    volume = ctx.volume(server)
    volume.volume_status(volume_id=volume_id)
    status = volume.read_volume_file_status(volume_id=volume_id)
    if not status.dat_file_size:
        raise Mismatch(f"volume {volume_id} on {server} has no data file; look at the server's log")
    return status


def same_files(a: ReadVolumeFileStatusResponse, b: ReadVolumeFileStatusResponse) -> bool:
    """Whether sizes, count and revision are all equal: nothing was written, deleted or compacted in between."""
    return figures(a) == figures(b)


def figures(status: ReadVolumeFileStatusResponse) -> tuple[int, int, int, int]:
    """Return .dat bytes, .idx bytes, file count and compaction revision."""
    return status.dat_file_size, status.idx_file_size, status.file_count, status.compaction_revision


def generation_of(ctx: Context, server: Address) -> Generation:
    """Ask a server which release it is."""
    return server_generation(ctx.volume(server).volume_server_status().version)


def probe(ctx: Context, server: Address, volume_id: int) -> ReadVolumeFileStatusResponse | None:
    """Ask a server whether it holds a volume, sound or not; None if it says that it does not."""
    try:
        return ctx.volume(server).read_volume_file_status(volume_id=volume_id)
    except ServerFailed as error:
        if error.says_absent:
            return None
        raise


def prove_unchanged(
    ctx: Context, server: Address, volume_id: int, before: ReadVolumeFileStatusResponse, may_grow: bool = False
) -> None:
    """Mismatch unless a volume's sizes and revision are what they were."""
    now = file_status(ctx, server, volume_id)
    old, new = ((status.dat_file_size, status.idx_file_size) for status in (before, now))
    grown = may_grow and new[0] >= old[0] and new[1] >= old[1]
    if now.compaction_revision != before.compaction_revision or (new != old and not grown):
        raise Mismatch(
            f"volume {volume_id} on {server} changed while it was copied: it had {old[0]} bytes of data and {old[1]} "
            f"of index, now {new[0]} and {new[1]}"
        )
