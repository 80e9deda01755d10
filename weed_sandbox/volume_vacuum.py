"""RPCs of a vacuum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proto_gen import volume_server_pb2 as v
from weed_sandbox.volume_base import Base
from weed_sandbox.volume_files import REPORT


class Vacuum(Base):
    """RPCs of a vacuum."""

    def VacuumVolumeCheck(self, request: v.VacuumVolumeCheckRequest, _context: Any) -> v.VacuumVolumeCheckResponse:
        """How much of a volume is garbage."""
        volume = self._volume(request.volume_id, "volume id {} is not found during check compact")
        return v.VacuumVolumeCheckResponse(garbage_ratio=volume.garbage_ratio)

    def VacuumVolumeCompact(
        self, request: v.VacuumVolumeCompactRequest, _context: Any
    ) -> Iterator[v.VacuumVolumeCompactResponse]:
        """Write the compacted copy beside the volume; a success at once where another compaction runs."""
        self._refuse_in_maintenance()
        volume = self._volume(request.volume_id, "volume id {} is not found during compact")
        volume.compact()
        for reported in range(REPORT, volume.size, REPORT):
            yield v.VacuumVolumeCompactResponse(processed_bytes=reported)

    def VacuumVolumeCommit(self, request: v.VacuumVolumeCommitRequest, _context: Any) -> v.VacuumVolumeCommitResponse:
        """Put the compacted copy in place."""
        self._refuse_in_maintenance()
        volume = self._volume(request.volume_id, "volume id {} is not found during commit compact")
        read_only = volume.read_only
        volume.commit()
        return v.VacuumVolumeCommitResponse(is_read_only=read_only, volume_size=volume.size)

    def VacuumVolumeCleanup(
        self, request: v.VacuumVolumeCleanupRequest, _context: Any
    ) -> v.VacuumVolumeCleanupResponse:
        """Drop a compacted copy."""
        self._refuse_in_maintenance()
        self._volume(request.volume_id, "volume id {} is not found during cleaning up").cleanup()
        return v.VacuumVolumeCleanupResponse()
