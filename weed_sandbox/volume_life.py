"""RPCs of the life of a volume: allocated, mounted, configured, frozen, deleted; and of its server."""

from __future__ import annotations

import shutil
import time
from typing import Any

import grpc

from proto_gen import master_pb2 as m
from proto_gen import volume_server_pb2 as v
from weed_sandbox.faults import Refused, unimplemented
from weed_sandbox.settings import VERSIONS
from weed_sandbox.store import RemoteDat, Volume
from weed_sandbox.volume_base import Base
from weed_sandbox.volume_files import ask_url, words_of
from weed_storage.needle import SuperBlock


class Life(Base):
    """RPCs of the life of a volume: allocated, mounted, configured, frozen, deleted; and of its server."""

    def AllocateVolume(self, request: v.AllocateVolumeRequest, _context: Any) -> v.AllocateVolumeResponse:
        """Make an empty volume."""
        self._refuse_in_maintenance()
        block = SuperBlock(replica_placement=int(request.replication or "0"), ttl=_ttl_bytes(request.ttl))
        self.store.allocate(request.volume_id, request.collection, request.disk_type, block)
        return v.AllocateVolumeResponse()

    def VolumeMount(self, request: v.VolumeMountRequest, _context: Any) -> v.VolumeMountResponse:
        """Load a volume from disk; a mounted one stays as it is."""
        self.store.mount(request.volume_id)
        return v.VolumeMountResponse()

    def VolumeUnmount(self, request: v.VolumeUnmountRequest, _context: Any) -> v.VolumeUnmountResponse:
        """Let go of a volume; one that is not there is no error."""
        self.store.unmount(request.volume_id)
        return v.VolumeUnmountResponse()

    def VolumeConfigure(self, request: v.VolumeConfigureRequest, _context: Any) -> v.VolumeConfigureResponse:
        """Give a volume another placement: it is unmounted for that, and mounted again. Errors come in the answer."""
        self._refuse_in_maintenance()
        try:
            self.store.unmount(request.volume_id)
            self.store.configure(request.volume_id, request.replication)
            self.store.mount(request.volume_id)
        except Refused as error:
            return v.VolumeConfigureResponse(error=f"volume configure {request}: {error}")
        return v.VolumeConfigureResponse()

    def VolumeDelete(self, request: v.VolumeDeleteRequest, _context: Any) -> v.VolumeDeleteResponse:
        """Remove a mounted volume; before 4.44 always with its remote object."""
        self._refuse_in_maintenance()
        volume = self.store.find(request.volume_id)
        keep = request.keep_remote_data and self.era == "4.44"
        url = volume.dat.url if volume and isinstance(volume.dat, RemoteDat) and not keep else ""
        self.store.delete(request.volume_id, request.only_empty)
        if url:
            ask_url("DELETE", url)
        return v.VolumeDeleteResponse()

    def VolumeMarkReadonly(self, request: v.VolumeMarkReadonlyRequest, _context: Any) -> v.VolumeMarkReadonlyResponse:
        """Freeze a volume, telling the master before and after."""
        volume = self._volume(request.volume_id)
        self._refuse_in_maintenance()
        self._tell_master(volume, True)
        volume.mark_read_only(request.can_delete, request.persist)
        self._tell_master(volume, True)
        return v.VolumeMarkReadonlyResponse()

    def VolumeMarkWritable(self, request: v.VolumeMarkWritableRequest, _context: Any) -> v.VolumeMarkWritableResponse:
        """Thaw a volume, then tell the master."""
        volume = self._volume(request.volume_id)
        self._refuse_in_maintenance()
        volume.mark_writable()
        self._tell_master(volume, False)
        return v.VolumeMarkWritableResponse()

    def _tell_master(self, volume: Volume, read_only: bool) -> None:
        order = m.VolumeMarkReadonlyRequest(
            ip=self.address.host, port=self.address.port, volume_id=volume.id, is_readonly=read_only
        )
        try:
            self._master().VolumeMarkReadonly(order, timeout=10)
        except grpc.RpcError as error:
            reason = f"set volume {volume.id} to read only on master: {words_of(error)}"
            raise Refused(f"grpc VolumeMarkReadonly with master {self.leader}: {reason}") from None

    def VolumeStatus(self, request: v.VolumeStatusRequest, _context: Any) -> v.VolumeStatusResponse:
        """The health of a volume; an error where it is broken."""
        volume = self._volume(request.volume_id, "not found volume id {}")
        return v.VolumeStatusResponse(
            is_read_only=volume.read_only,
            volume_size=volume.backend.size(),
            file_count=volume.file_count,
            file_deleted_count=volume.deleted_count,
        )

    def ReadVolumeFileStatus(
        self, request: v.ReadVolumeFileStatusRequest, _context: Any
    ) -> v.ReadVolumeFileStatusResponse:
        """Sizes and counts of a volume; zeros where it is broken."""
        volume = self._volume(request.volume_id, "not found volume id {}")
        info = v.VolumeInfo()
        info.CopyFrom(volume.info)
        info.bytes_offset = 4
        return v.ReadVolumeFileStatusResponse(
            volume_id=volume.id,
            idx_file_timestamp_seconds=volume.modified,
            idx_file_size=volume.index_size,
            dat_file_timestamp_seconds=volume.modified,
            dat_file_size=volume.size,
            file_count=volume.file_count if volume.dat else 0,
            compaction_revision=volume.block.compaction_revision,
            collection=volume.collection,
            disk_type=volume.disk.type,
            volume_info=info,
            version=volume.block.version,
        )

    def GetState(self, _request: v.GetStateRequest, _context: Any) -> v.GetStateResponse:
        """Whether the server is in maintenance."""
        if self.era == "3.97":
            unimplemented(self.era)
        return v.GetStateResponse(state=v.VolumeServerState(maintenance=self.maintenance))

    def SetState(self, request: v.SetStateRequest, _context: Any) -> v.SetStateResponse:
        """Put the server into maintenance or out of it."""
        if self.era == "3.97":
            unimplemented(self.era)
        self.maintenance = request.state.maintenance
        return v.SetStateResponse(state=v.VolumeServerState(maintenance=self.maintenance))

    @property
    def _version(self) -> str:
        usual = VERSIONS[self.era]
        return f"{self.size_limit} {usual.partition(' ')[2]}" if self.size_limit else usual

    def VolumeServerStatus(self, _request: Any, _context: Any) -> v.VolumeServerStatusResponse:
        """Version and disks."""
        answer = v.VolumeServerStatusResponse(
            version=self._version, data_center=self._beat().data_center, rack=self._beat().rack
        )
        if self.era != "3.97":
            answer.state.maintenance = self.maintenance
        for disk in self.store.disks:
            usage = shutil.disk_usage(disk.directory)
            free = usage.free if self._free is None else self._free
            answer.disk_statuses.add(
                dir=str(disk.directory.resolve()),
                all=usage.total,
                used=usage.total - free,
                free=free,
                percent_free=free / usage.total * 100,
                percent_used=100 - free / usage.total * 100,
                disk_type=disk.type,
            )
        return answer

    def Ping(self, _request: Any, _context: Any) -> v.PingResponse:
        """Show life."""
        now = time.time_ns()
        return v.PingResponse(start_time_ns=now, remote_time_ns=now, stop_time_ns=now)


def _ttl_bytes(text: str) -> bytes:
    """ "3d" as the superblock has it."""
    if not text:
        return b"\0\0"
    return bytes((int(text[:-1]), "0mhdwMy".index(text[-1])))
