"""A sandbox volume server: the RPCs that maintenance uses, in the behaviour of SeaweedFS 3.97, 4.13 or 4.44.

Order of steps, texts and quirks follow the real servers (weed/server/volume_grpc_*.go), harmful ones included: tasks
must be safe against them. Nothing here is atomic that is not atomic there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import grpc

from proto_gen import master_pb2 as m
from proto_gen import volume_server_pb2 as v
from proto_gen.master_pb2_grpc import SeaweedStub
from proto_gen.volume_server_pb2_grpc import (
    VolumeServerServicer,
    VolumeServerStub,
    add_VolumeServerServicer_to_server,
)
from weed_cluster.address import Address
from weed_core.errors import BadTask, Mismatch
from weed_sandbox import http_api
from weed_sandbox.faults import Faults, Refused, unimplemented
from weed_sandbox.settings import VERSIONS, Channels, Settings, chunks, grpc_server, wait_for_sigterm
from weed_sandbox.store import CREDENTIALS, Disk, EcVolume, LocalDat, RemoteDat, Store, Volume, new_needle
from weed_storage.ec_layout import DATA_SHARDS, TOTAL_SHARDS, locate
from weed_storage.needle import FileId, Needle, SuperBlock, actual_size, pack_needle, parse_header, parse_needle
from weed_storage.reed_solomon import Encoder

CHUNK = 2 << 20
"""Bytes per message of a file."""

REPORT = 128 << 20
"""Bytes between two reports of progress."""

ANY_REVISION = 0xFFFFFFFF
POLL = 2.0
"""Seconds between two looks of a tail; its idle counter counts looks, not seconds."""

PULSE = 0.1
"""Seconds within which the master learns of a change (5 in SeaweedFS)."""

GUARDED = (
    "BatchDelete",
    "VacuumVolumeCompact",
    "VacuumVolumeCommit",
    "VacuumVolumeCleanup",
    "AllocateVolume",
    "VolumeMount",
    "VolumeUnmount",
    "VolumeDelete",
    "VolumeMarkReadonly",
    "VolumeMarkWritable",
    "VolumeConfigure",
    "VolumeCopy",
    "VolumeEcShardsGenerate",
    "VolumeEcShardsCopy",
    "VolumeEcShardsDelete",
    "VolumeEcShardsUnmount",
    "VolumeNeedleStatus",
    "VolumeTierMoveDatToRemote",
    "VolumeTierMoveDatFromRemote",
    "ScrubVolume",
    "ScrubEcVolume",
    "SetState",
)
"""Calls that 4.44 takes from hosts of its -whiteList only, where it has one."""

QUIET_PULSE = 0.5
"""Seconds after which the master is told again though nothing changed."""


class VolumeServer(VolumeServerServicer):
    """One volume server; its handlers are named as the RPCs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.address = settings.address
        self.era = settings.era
        self.masters = settings.addresses("master", "mserver")
        self.leader = self.masters[0]
        self._leaving, self._left = threading.Event(), threading.Event()
        self.maintenance = False
        self.size_limit = ""  # another build's; it is told alone: files are of 4-byte offsets all the same
        self._channels = Channels()
        self._urls = self._fetch_backends()
        self.store = Store(_disks(settings), self.era, self._urls)
        self._encoder = Encoder()
        self._remembers = 0.0  # seconds; ten minutes in a real server
        self._remembered: dict[int, tuple[float, list[Address]]] = {}  # when it forgets, and what
        self._refused_writes = 0
        self._free: int | None = None  # bytes free on each disk, where a test says so
        self._friends = [host for host in settings.get("whiteList", "").split(",") if host]
        if self._friends and self.era == "4.44":
            for name in GUARDED:
                if hasattr(self, name):
                    setattr(self, name, self._guarded(getattr(self, name)))

    # ---- other servers

    def _master(self) -> Any:
        return SeaweedStub(self._channels.to(self.leader))  # type: ignore[no-untyped-call]

    def _server(self, text: str) -> Any:
        """A client for another volume server. A malformed port ends a real server's process, and so this one's."""
        try:
            address = Address.parse(text)
        except BadTask:
            if ":" in text:
                os._exit(255)
            raise Refused(f"connection to {text} failed") from None
        return VolumeServerStub(self._channels.to(address))  # type: ignore[no-untyped-call]

    def _fetch_backends(self) -> dict[str, str]:
        """Ask the master, once, under which URL each remote storage keeps its objects."""
        for _attempt in range(100):
            try:
                answer = self._master().GetMasterConfiguration(m.GetMasterConfigurationRequest(), timeout=5)
            except grpc.RpcError:
                time.sleep(0.05)
                continue
            urls = {}
            for backend in answer.storage_backends:
                url = f"{backend.properties['endpoint']}/{backend.properties['bucket']}"
                urls[f"{backend.type}.{backend.id}"] = url
            return urls
        raise Refused("no master answers")

    def heartbeats(self) -> None:
        """Tell the leader what is here whenever it changes, for ever."""
        while True:
            try:
                # A fresh channel: one that has failed would wait before it tries again.
                with grpc.insecure_channel(self.leader.grpc) as channel:
                    for answer in SeaweedStub(channel).SendHeartbeat(self._beats()):  # type: ignore[no-untyped-call]
                        if answer.leader and Address.parse(answer.leader) != self.leader:
                            self.leader = Address.parse(answer.leader)
                            break
            except grpc.RpcError:
                self.leader = self.masters[(self.masters.index(self.leader) + 1) % len(self.masters)]
            time.sleep(0.05)

    def _beats(self) -> Iterator[m.Heartbeat]:
        last, told = b"", 0.0
        while not self._leaving.is_set():
            beat = self._beat()
            data = beat.SerializeToString(deterministic=True)
            if data != last or time.monotonic() - told > QUIET_PULSE:
                yield beat
                last, told = data, time.monotonic()
            time.sleep(PULSE)
        beat = self._beat()
        for field in ("volumes", "ec_shards"):
            beat.ClearField(field)
        yield beat
        self._left.set()

    def leave(self) -> None:
        """Tell the master that nothing is here any more, as a server does that is told to stop."""
        self._leaving.set()
        self._left.wait(1.0)

    def _beat(self) -> m.Heartbeat:
        beat = m.Heartbeat(
            ip=self.address.host,
            port=self.address.port,
            grpc_port=self.address.grpc_port,
            data_center=self.settings.get("dataCenter", "") or "DefaultDataCenter",
            rack=self.settings.get("rack", "") or "DefaultRack",
        )
        for disk in self.store.disks:
            beat.max_volume_counts[disk.type] += disk.slots
            beat.disk_tags.add(disk_id=disk.id, type=disk.type, max_volume_count=disk.slots)
            usage = shutil.disk_usage(disk.directory)
            beat.disk_total_bytes[disk.type] = usage.total
            beat.disk_free_bytes[disk.type] = usage.free >> 30 << 30  # else every change on this host is a heartbeat
        with self.store.lock:
            for volume in self.store.volumes.values():
                with volume.lock:  # a commit closes it for a moment
                    if volume.dat:
                        beat.volumes.append(volume.message())
            beat.ec_shards.extend(held.message() for held in self.store.shards.values())
        return beat

    # ---- common refusals

    def _guarded(self, behaviour: Any) -> Any:
        """A call that only hosts of the white list may make."""

        def call(request: Any, context: Any) -> Any:
            host = context.peer().removeprefix("ipv4:").rpartition(":")[0]
            if host not in self._friends:
                context.abort(grpc.StatusCode.PERMISSION_DENIED, f"not authorized: {host}")
            return behaviour(request, context)

        return call

    def _refuse_in_maintenance(self) -> None:
        if self.maintenance:
            raise Refused(f"volume server {self.address.http} is in maintenance mode")

    def _volume(self, volume_id: int, text: str = "volume {} not found") -> Volume:
        volume = self.store.find(volume_id)
        if volume is None:
            raise Refused(text.format(volume_id))
        return volume

    # ---- vacuum

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

    # ---- the life of a volume

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
            _object("DELETE", url)
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
            reason = f"set volume {volume.id} to read only on master: {_words(error)}"
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

    # ---- copying

    def VolumeCopy(self, request: v.VolumeCopyRequest, _context: Any) -> Iterator[v.VolumeCopyResponse]:
        """Pull a volume from another server, replacing one that is here.

        4.44 deletes the own one when the source has answered, older servers before they ask it; either way a copy from
        itself is a loss.
        """
        self._refuse_in_maintenance()
        if self.era != "4.44":
            self._drop_for_copy(request.volume_id)
        source = self._server(request.source_data_node)
        try:
            status = source.ReadVolumeFileStatus(v.ReadVolumeFileStatusRequest(volume_id=request.volume_id))
        except grpc.RpcError as error:
            raise Refused(f"read volume file status failed, {_words(error)}") from None
        if self.era == "4.44":
            self._drop_for_copy(request.volume_id)
        remote = bool(status.volume_info.files)
        disk_type = request.disk_type or status.disk_type
        space = status.idx_file_size if remote else status.dat_file_size
        disk = self.store.free_disk(disk_type, space if self.era == "4.44" else 0)
        if disk is None:
            raise Refused(f"no space left for disk type {disk_type or 'hdd'}")
        base = disk.base(status.collection, request.volume_id)
        try:
            Path(f"{base}.note").write_text(f"copying from {request.source_data_node}")
            pace = _Pace(request.io_byte_per_second)
            parts = [(".dat", status.dat_file_size)] if not remote else []
            for extension, stop in [*parts, (".idx", status.idx_file_size), (".vif", 1 << 20)]:
                order = v.CopyFileRequest(
                    volume_id=request.volume_id,
                    ext=extension,
                    compaction_revision=status.compaction_revision,
                    stop_offset=stop,
                    collection=request.collection,
                    ignore_source_file_not_found=extension != ".idx",
                )
                for done in _pull(source, order, base + extension, pace):
                    yield v.VolumeCopyResponse(processed_bytes=done)
            Path(f"{base}.idx").touch()
            for extension, size in [*parts, (".idx", status.idx_file_size)]:
                if (got := os.path.getsize(base + extension)) != size:
                    raise Refused(
                        f"{extension[1:]} file {base}{extension} size [{got}] is not same as origin file size [{size}]"
                    )
            Path(f"{base}.note").unlink()
        except BaseException:
            for extension in (".dat", ".idx", ".vif", ".note"):
                Path(base + extension).unlink(missing_ok=True)
            raise
        self.store.mount(request.volume_id)
        volume = self._volume(request.volume_id)
        stamp = status.dat_file_timestamp_seconds * 1_000_000_000
        yield v.VolumeCopyResponse(last_append_at_ns=(volume.last_stamp() if self.era == "4.44" else 0) or stamp)

    def _drop_for_copy(self, volume_id: int) -> None:
        volume = self.store.find(volume_id)
        if volume is None:
            return
        url = volume.dat.url if isinstance(volume.dat, RemoteDat) and self.era != "4.44" else ""
        self.store.delete(volume_id, False)
        if url:
            _object("DELETE", url)

    def CopyFile(self, request: v.CopyFileRequest, _context: Any) -> Iterator[v.CopyFileResponse]:
        """Send a file of a volume, or of shards."""
        _check_names(request.ext, request.collection)
        if request.is_ec_volume:
            bases = [disk.base(request.collection, request.volume_id) for disk in self.store.disks]
            found = [Path(base + request.ext) for base in bases if Path(base + request.ext).exists()]
            if not found:
                if request.ignore_source_file_not_found:
                    return
                raise Refused(f"CopyFile not found ec volume id {request.volume_id}")
            path = found[-1]
        else:
            volume = self._volume(request.volume_id, "not found volume id {}")
            if request.compaction_revision not in (volume.block.compaction_revision, ANY_REVISION):
                raise Refused(f"volume {request.volume_id} is compacted")
            path = volume.path(request.ext)
            optional = request.ignore_source_file_not_found and self.era != "3.97"
            if not path.exists() and (optional or not request.stop_offset):
                return
        with path.open("rb") as file:
            modified, left = os.fstat(file.fileno()).st_mtime_ns, request.stop_offset
            while left > 0 and (data := file.read(min(CHUNK, left))):
                yield v.CopyFileResponse(file_content=data, modified_ts_ns=modified)
                modified = 0
                left -= len(data)
        if modified and self.era != "3.97":
            yield v.CopyFileResponse(modified_ts_ns=modified)

    def ReceiveFile(self, requests: Iterator[v.ReceiveFileRequest], context: Any) -> v.ReceiveFileResponse:
        """Take a file; neither its announced size nor how the stream ends is looked at."""
        self._refuse_in_maintenance()
        path, written = None, 0
        file: Any = None
        try:
            for request in requests:
                if request.WhichOneof("data") == "info":
                    try:
                        path = self._place(request.info)
                    except Refused as error:
                        return v.ReceiveFileResponse(error=str(error))
                    file = path.open("wb")
                elif file is None:
                    return v.ReceiveFileResponse(error="file info must be sent first")
                else:
                    written += file.write(request.file_content)
            # grpc may show a stream that the client broke off as one that ended, before it tells of the cancellation.
            time.sleep(0.01)
            if not context.is_active():
                raise grpc.RpcError("cancelled")
        except grpc.RpcError as error:
            if path is not None:
                path.unlink(missing_ok=True)
            raise Refused(f"failed to receive stream: {error}") from None
        finally:
            if file is not None:
                file.close()
        return v.ReceiveFileResponse(bytes_written=written)

    def _place(self, info: v.ReceiveFileInfo) -> Path:
        """Where an arriving file goes."""
        _check_names(info.ext, info.collection)
        if not info.is_ec_volume:
            return self._volume(info.volume_id).path(info.ext)
        mounted = [held.disk.id for held in self.store.holdings(info.volume_id)]
        if mounted and self.era == "4.44":
            disks = " ".join(map(str, mounted))
            raise Refused(f"ec volume {info.volume_id} is mounted on disk_ids:[{disks}]; unmount before ReceiveFile")
        disk = self.store.target(info.collection, info.volume_id, info.disk_id)
        if disk is None:
            raise Refused(f"invalid disk_id {info.disk_id}: only have {len(self.store.disks)} disks")
        return Path(disk.base(info.collection, info.volume_id) + info.ext)

    def VolumeTailSender(
        self, request: v.VolumeTailSenderRequest, context: Any
    ) -> Iterator[v.VolumeTailSenderResponse]:
        """Send what is appended, until nothing came for so many looks."""
        volume = self._volume(request.volume_id, "not found volume id {}")
        since, left = request.since_ns, request.idle_timeout_seconds
        while context.is_active():
            before = since
            for header, body, stamp in volume.since(since):
                since = stamp
                pieces = list(chunks(body, CHUNK))
                for number, piece in enumerate(pieces, 1):
                    yield v.VolumeTailSenderResponse(
                        needle_header=header,
                        needle_body=piece,
                        is_last_chunk=number == len(pieces),
                        version=volume.block.version,
                    )
            if since == before:
                yield v.VolumeTailSenderResponse(is_last_chunk=True, version=volume.block.version)
            time.sleep(POLL)
            if not request.idle_timeout_seconds:
                continue
            left = left - 1 if since == before else request.idle_timeout_seconds
            if left <= 0:
                return

    def VolumeTailReceiver(self, request: v.VolumeTailReceiverRequest, _context: Any) -> v.VolumeTailReceiverResponse:
        """Append what a source appends; its deletions become empty files here."""
        volume = self._volume(request.volume_id, "receiver not found volume id {}")
        order = v.VolumeTailSenderRequest(
            volume_id=request.volume_id,
            since_ns=request.since_ns,
            idle_timeout_seconds=request.idle_timeout_seconds,
        )
        body = b""
        try:
            for piece in self._server(request.source_volume_server).VolumeTailSender(order):
                body += piece.needle_body
                if piece.is_last_chunk and piece.needle_header:
                    volume.write(parse_needle(piece.needle_header + body, piece.version), check_cookie=False)
                    body = b""
        except grpc.RpcError as error:
            raise Refused(_words(error)) from None
        return v.VolumeTailReceiverResponse()

    # ---- needles

    def ReadNeedleBlob(self, request: v.ReadNeedleBlobRequest, _context: Any) -> v.ReadNeedleBlobResponse:
        """Bytes of the `.dat`, whatever lies there."""
        volume = self._volume(request.volume_id, "not found volume id {}")
        try:
            return v.ReadNeedleBlobResponse(needle_blob=volume.record(request.offset, request.size))
        except Refused as error:
            raise Refused(f"read needle blob offset {request.offset} size {request.size}: {error}") from None

    def ReadNeedleMeta(self, request: v.ReadNeedleMetaRequest, _context: Any) -> v.ReadNeedleMetaResponse:
        """What a needle carries besides its data."""
        volume = self._volume(
            request.volume_id, "not found volume id {} and read needle metadata at ec shards is not supported"
        )
        needle = parse_needle(volume.record(request.offset, max(0, request.size)), volume.block.version)
        return v.ReadNeedleMetaResponse(
            cookie=needle.cookie,
            last_modified=needle.last_modified,
            crc=_told_crc(needle),
            append_at_ns=needle.append_at_ns,
        )

    def WriteNeedleBlob(self, request: v.WriteNeedleBlobRequest, _context: Any) -> v.WriteNeedleBlobResponse:
        """Append a record; servers before 4.44 do so on a read-only volume too."""
        self._refuse_in_maintenance()
        volume = self._volume(request.volume_id, "not found volume id {}")
        try:
            volume.write_record(request.needle_id, request.needle_blob, request.size)
        except (Refused, Mismatch) as error:
            raise Refused(f"write blob needle {request.needle_id} size {request.size}: {error}") from None
        return v.WriteNeedleBlobResponse()

    def VolumeNeedleStatus(self, request: v.VolumeNeedleStatusRequest, _context: Any) -> v.VolumeNeedleStatusResponse:
        """Read a whole needle, checking it, and tell of it."""
        needle = self._needle(request.volume_id, request.needle_id)
        size = parse_header(pack_needle(needle))[2]
        return v.VolumeNeedleStatusResponse(
            needle_id=needle.id,
            cookie=needle.cookie,
            size=size,
            last_modified=needle.last_modified,
            crc=_told_crc(needle),
        )

    def _needle(self, volume_id: int, needle_id: int) -> Needle:
        volume = self.store.find(volume_id)
        if volume is None:
            if not (held := self.store.holdings(volume_id)):
                raise Refused(f"volume not found {volume_id}")
            return self._read_shards(held[0], needle_id)
        needle = volume.read(needle_id)
        if needle is None:
            raise Refused("already deleted" if needle_id in volume.needles and volume.dat else "not found")
        return needle

    def BatchDelete(self, request: v.BatchDeleteRequest, _context: Any) -> v.BatchDeleteResponse:
        """Delete needles by id; the result of each is an HTTP status."""
        self._refuse_in_maintenance()
        answer = v.BatchDeleteResponse()
        for text in request.file_ids:
            result = answer.results.add(file_id=text)
            try:
                fid = FileId.parse(text)
                needle = self._needle(fid.volume_id, fid.needle_id)
                if not request.skip_cookie_check and needle.cookie != fid.cookie:
                    result.status, result.error = 400, "File Random Cookie does not match."
                    continue
                result.size = self._volume(fid.volume_id).delete(fid.needle_id, needle.cookie)
                result.status = 202 if result.size else 304
            except ValueError as error:
                result.status, result.error = 400, str(error)
            except Refused as error:
                result.status, result.error = 500 if "read only" in str(error) else 404, str(error)
        return answer

    def ScrubVolume(self, request: v.ScrubVolumeRequest, _context: Any) -> v.ScrubVolumeResponse:
        """Read volumes through and name the broken ones."""
        if self.era == "3.97":
            unimplemented(self.era)
        answer = v.ScrubVolumeResponse()
        for volume_id in request.volume_ids or sorted(self.store.volumes):
            volume = self._volume(volume_id, "volume id {} not found")
            complaints = volume.scrub(full=request.mode != v.INDEX)
            answer.total_volumes += 1
            answer.total_files += sum(size >= 0 for _offset, size in volume.needles.values())
            if complaints:
                answer.broken_volume_ids.append(volume_id)
                answer.details.extend(complaints)
                if request.mark_broken_volumes_readonly:
                    volume.mark_read_only(can_delete=False, persist=True)
        return answer

    def ScrubEcVolume(self, request: v.ScrubEcVolumeRequest, _context: Any) -> v.ScrubEcVolumeResponse:
        """Compare the blocks of mounted shards, of the first disk alone, with the `.ecsum`; without one all is well."""
        if self.era != "4.44":
            unimplemented(self.era)
        if request.mode != v.CHECKSUM:
            raise Refused(f"unsupported EC volume scrub mode {request.mode}")
        answer = v.ScrubEcVolumeResponse()
        for volume_id in request.volume_ids:
            holdings = self.store.holdings(volume_id)
            if not holdings:
                raise Refused(f"EC volume id {volume_id} not found")
            held = holdings[0]
            answer.total_volumes += 1
            bad, complaints = held.scrub()
            for shard in bad:
                answer.broken_shard_infos.add(
                    shard_id=shard, size=held.shard_size(shard), collection=held.collection, volume_id=volume_id
                )
            if complaints:
                answer.broken_volume_ids.append(volume_id)
                answer.details.extend(complaints)
        return answer

    # ---- shards

    def VolumeEcShardsMount(
        self, request: v.VolumeEcShardsMountRequest, _context: Any
    ) -> v.VolumeEcShardsMountResponse:
        """Mount shards, one after another."""
        disk_type = request.source_disk_type if self.era == "4.44" else ""
        for shard in request.shard_ids:
            try:
                self.store.mount_shard(request.collection, request.volume_id, shard, disk_type)
            except Refused as error:
                raise Refused(f"mount {request.volume_id}.{shard}: {error}") from None
        return v.VolumeEcShardsMountResponse()

    def VolumeEcShardsUnmount(
        self, request: v.VolumeEcShardsUnmountRequest, _context: Any
    ) -> v.VolumeEcShardsUnmountResponse:
        """Unmount shards; ones that are not mounted are no error."""
        for shard in request.shard_ids:
            self.store.unmount_shard(request.volume_id, shard, self._fence(request.encode_ts_ns))
        return v.VolumeEcShardsUnmountResponse()

    def VolumeEcShardsDelete(
        self, request: v.VolumeEcShardsDeleteRequest, _context: Any
    ) -> v.VolumeEcShardsDeleteResponse:
        """Remove shard files, or from 4.44 everything."""
        if self.era != "3.97":
            self._refuse_in_maintenance()
        if request.full_teardown and self.era == "4.44":
            self.store.tear_down(request.collection, request.volume_id, request.encode_ts_ns)
            return v.VolumeEcShardsDeleteResponse(full_teardown_done=True)
        self.store.delete_shards(request.collection, request.volume_id, list(request.shard_ids))
        return v.VolumeEcShardsDeleteResponse()

    def _fence(self, encode_ts_ns: int) -> int:
        return encode_ts_ns if self.era == "4.44" else 0

    def VolumeEcShardsCopy(self, request: v.VolumeEcShardsCopyRequest, _context: Any) -> v.VolumeEcShardsCopyResponse:
        """Pull shards and what belongs to them from another server."""
        self._refuse_in_maintenance()
        disk = self.store.target(request.collection, request.volume_id, request.disk_id)
        if disk is None:
            raise Refused(f"invalid disk_id {request.disk_id}: only have {len(self.store.disks)} disks")
        base = disk.base(request.collection, request.volume_id)
        wanted = [(f".ec{shard:02d}", False) for shard in request.shard_ids]
        wanted += [(".ecx", False)] * request.copy_ecx_file
        wanted += [(".ecj", True)] * request.copy_ecj_file
        wanted += [(".vif", True)] * request.copy_vif_file
        wanted += [(".ecsum", True)] * (request.copy_ecsum_file and self.era == "4.44")
        source, pace = self._server(request.source_data_node), _Pace(request.io_byte_per_second)
        try:
            for extension, optional in wanted:
                order = v.CopyFileRequest(
                    volume_id=request.volume_id,
                    ext=extension,
                    collection=request.collection,
                    compaction_revision=ANY_REVISION,
                    stop_offset=(1 << 63) - 1,
                    is_ec_volume=True,
                    ignore_source_file_not_found=optional,
                )
                self._pull_ec_file(source, order, base + extension, pace)
        except Refused as error:
            raise Refused(f"VolumeEcShardsCopy volume {request.volume_id}: {error}") from None
        if request.copy_ecx_file and self.era == "4.44" and not os.path.getsize(f"{base}.ecx"):
            os.unlink(f"{base}.ecx")
            raise Refused(f"VolumeEcShardsCopy volume {request.volume_id}: source .ecx is 0 bytes")
        return v.VolumeEcShardsCopyResponse()

    def _pull_ec_file(self, source: Any, order: v.CopyFileRequest, path: str, pace: _Pace) -> None:
        """Copy a file beside shards: shards and `.ecx` in place, over what is there; `.ecj` over its beginning.

        Only the other optional ones are staged. Before 4.44 what a broken transfer has written stays.
        """
        if order.ignore_source_file_not_found and order.ext != ".ecj":
            for _report in _pull(source, order, path, pace):
                pass
            return
        append, modified = order.ext == ".ecj", 0
        before = Path(path).exists()
        try:
            with open(path, "r+b" if append and before else "wb") as file:
                for piece in source.CopyFile(order):
                    modified = modified or piece.modified_ts_ns
                    file.write(piece.file_content)
                    file.flush()
                    pace.spend(len(piece.file_content))
        except grpc.RpcError as error:
            if not append and self.era != "3.97":
                Path(path).unlink(missing_ok=True)
            raise Refused(f"failed to copy {path} file: {_words(error)}") from None
        if not modified and self.era != "3.97" and not (append and before):
            Path(path).unlink(missing_ok=True)

    def VolumeEcShardsInfo(self, request: v.VolumeEcShardsInfoRequest, _context: Any) -> v.VolumeEcShardsInfoResponse:
        """The mounted shards of a volume; before 4.44 of the first disk only."""
        holdings = self.store.holdings(request.volume_id)
        if not holdings:
            if self.era == "3.97":
                return v.VolumeEcShardsInfoResponse()
            raise Refused(f"VolumeEcShardsInfo: EC volume {request.volume_id} not found")
        files, deleted, size = holdings[0].counts()
        answer = v.VolumeEcShardsInfoResponse(file_count=files, file_deleted_count=deleted, volume_size=size)
        for held in holdings if self.era == "4.44" else holdings[:1]:
            for shard in sorted(held.shards):
                answer.ec_shard_infos.add(
                    shard_id=shard,
                    size=held.shard_size(shard),
                    collection=held.collection,
                    volume_id=0 if self.era == "3.97" else held.id,
                )
        return answer

    def VolumeEcShardRead(
        self, request: v.VolumeEcShardReadRequest, _context: Any
    ) -> Iterator[v.VolumeEcShardReadResponse]:
        """Send a range of a mounted shard."""
        held = self.store.holding(request.volume_id, request.shard_id)
        if held is None:
            if self.era != "4.44" and not self.store.holdings(request.volume_id):
                raise Refused(f"VolumeEcShardRead not found ec volume id {request.volume_id}")
            raise Refused(f"not found ec shard {request.volume_id}.{request.shard_id}")
        if self._fence(request.encode_ts_ns) not in (0, held.encode_ts_ns):
            raise Refused(f"ec shard {request.volume_id}.{request.shard_id} belongs to a different encode run")
        if request.file_key and held.live(request.file_key) is None:
            yield v.VolumeEcShardReadResponse(is_deleted=True, encode_ts_ns=held.encode_ts_ns)
            return
        for data in chunks(held.read(request.shard_id, request.offset, request.size), CHUNK):
            yield v.VolumeEcShardReadResponse(data=data, encode_ts_ns=held.encode_ts_ns)

    def VolumeEcBlobDelete(self, request: v.VolumeEcBlobDeleteRequest, _context: Any) -> v.VolumeEcBlobDeleteResponse:
        """Note a deletion in the journal beside the shards."""
        self._refuse_in_maintenance()
        for held in self.store.holdings(request.volume_id):
            if held.live(request.file_key):
                held.delete(request.file_key)
        return v.VolumeEcBlobDeleteResponse()

    def _read_shards(self, held: EcVolume, needle_id: int) -> Needle:
        """A needle from its shards: here, elsewhere, or rebuilt from ten others."""
        found = held.live(needle_id)
        if found is None:
            raise Refused("needle not found")
        offset, size = found
        length = actual_size(size, held.info.version or 3)
        data = b"".join(
            self._read_piece(held, piece.shard, piece.offset, piece.length)
            for piece in locate(offset, length, held.dat_size, held.strict)
        )
        return parse_needle(data, held.info.version or 3)

    def _read_piece(self, held: EcVolume, shard: int, offset: int, length: int) -> bytes:
        data = self._read_shard(held, shard, offset, length)
        if data is not None:
            return data
        others: dict[int, bytes] = {}
        for other in range(TOTAL_SHARDS):
            if len(others) < DATA_SHARDS and other != shard:
                piece = self._read_shard(held, other, offset, length)
                if piece is not None:
                    others[other] = piece
        if len(others) < DATA_SHARDS:
            raise Refused(f"can not fetch needed shard {shard}: only {len(others)} others can be read")
        return self._encoder.reconstruct(others, [shard])[shard]

    def _read_shard(self, held: EcVolume, shard: int, offset: int, length: int) -> bytes | None:
        """A range of a shard, here or on another server; None where it cannot be had."""
        if own := self.store.holding(held.id, shard):
            return own.read(shard, offset, length)
        try:
            answer = self._master().LookupEcVolume(m.LookupEcVolumeRequest(volume_id=held.id), timeout=5)
        except grpc.RpcError:
            return None
        order = v.VolumeEcShardReadRequest(
            volume_id=held.id, shard_id=shard, offset=offset, size=length, encode_ts_ns=held.encode_ts_ns
        )
        for entry in answer.shard_id_locations:
            for location in entry.locations if entry.shard_id == shard else ():
                server = self._server(f"{location.url}.{location.grpc_port}")
                try:
                    data = b"".join(piece.data for piece in server.VolumeEcShardRead(order, timeout=5))
                except grpc.RpcError:
                    continue
                if len(data) == length:
                    return data
        return None

    # ---- remote storage

    def VolumeTierMoveDatToRemote(
        self, request: v.VolumeTierMoveDatToRemoteRequest, _context: Any
    ) -> Iterator[v.VolumeTierMoveDatToRemoteResponse]:
        """Upload a `.dat` and read from there; success at once where it is remote already, wherever that is."""
        self._refuse_in_maintenance()
        volume = self._volume(request.volume_id)
        if volume.collection != request.collection:
            raise Refused(f"existing collection:{volume.collection} unexpected input: {request.collection}")
        dat = volume.dat
        if not isinstance(dat, LocalDat):
            return
        name = request.destination_backend_name
        kind, _, backend_id = name.partition(".")
        backend_id = backend_id or "default"
        url = self._urls.get(f"{kind}.{backend_id}")
        if url is None:
            raise Refused(f"destination {name} not found, supported: [{' '.join(self._urls)}]")
        key, size, modified = str(uuid.uuid4()), volume.size, volume.modified
        _object("PUT", f"{url}/{key}", dat.read(0, size))
        with suppress(GeneratorExit):  # whether the client is still there makes no difference now
            yield v.VolumeTierMoveDatToRemoteResponse(processed=size, processedPercentage=100)
        with volume.lock:
            volume.info.files.add(
                backend_type=kind,
                backend_id=backend_id,
                key=key,
                file_size=size,
                modified_time=modified if self.era == "4.44" else int(time.time()),
                extension=".dat",
            )
            volume.save_info()
            dat.close()
            volume.dat = RemoteDat(f"{url}/{key}", size)
            if not request.keep_local_dat_file:
                volume.path(".dat").unlink()

    def VolumeTierMoveDatFromRemote(
        self, request: v.VolumeTierMoveDatFromRemoteRequest, _context: Any
    ) -> Iterator[v.VolumeTierMoveDatFromRemoteResponse]:
        """Download a `.dat`; before 4.44 one that keeps the remote object stays remote."""
        volume = self._volume(request.volume_id)
        if volume.collection != request.collection:
            raise Refused(f"existing collection:{volume.collection} unexpected input: {request.collection}")
        dat = volume.dat
        if not isinstance(dat, RemoteDat):
            raise Refused(f"volume {volume.id} is already on local disk")
        volume.path(".dat").write_bytes(dat.read(0, dat.size()))
        modified = volume.info.files[0].modified_time
        os.utime(volume.path(".dat"), (modified, modified))
        yield v.VolumeTierMoveDatFromRemoteResponse(processed=dat.size(), processedPercentage=100)
        if request.keep_remote_dat_file and self.era != "4.44":
            return
        if not request.keep_remote_dat_file and self.era != "4.44":
            _object("DELETE", dat.url)
        with volume.lock:
            del volume.info.files[0]
            volume.save_info()
            volume.dat = LocalDat(str(volume.path(".dat")))
            volume.no_write = True  # until it is mounted anew
        if not request.keep_remote_dat_file and self.era == "4.44":
            _object("DELETE", dat.url)

    # ---- HTTP

    def serve(self, method: str, path: str, query: dict[str, str], body: bytes) -> http_api.Answer:
        """Read, write and delete files."""
        if path == "/status":
            return http_api.json_answer(200, {"DiskStatuses": [], "Version": self._version})
        if path == "/ui/index.html":
            return 200, f"<tr><th>Masters</th><td>[{' '.join(one.http for one in self.masters)}]</td></tr>".encode()
        try:
            fid = FileId.parse(path.lstrip("/").partition(".")[0].replace("/", ","))
        except ValueError as error:
            return http_api.json_answer(400, {"error": str(error)})
        try:
            if method in ("GET", "HEAD"):
                return self._get(fid)
            if self.maintenance:
                return http_api.json_answer(500, {"error": "volume server is in maintenance mode"})
            if method == "DELETE":
                return self._delete(fid, query)
            return self._put(fid, query, body)
        except (Refused, Mismatch, FileNotFoundError) as error:
            return http_api.json_answer(500, {"error": str(error)})

    def serve_metrics(self, _method: str, _path: str, _query: dict[str, str], _body: bytes) -> http_api.Answer:
        """The writes that failed here since the server was started."""
        name = 'SeaweedFS_volumeServer_handler_total{type="errorWriteToLocalDisk"}'
        return 200, f"{name} {self._refused_writes}\n".encode()

    def _get(self, fid: FileId) -> http_api.Answer:
        volume = self.store.find(fid.volume_id)
        try:
            if volume is None:
                needle = self._needle(fid.volume_id, fid.needle_id)
            else:
                if volume.dat is None and self.era != "4.44":
                    raise ConnectionAbortedError  # the real one panics and leaves its client without an answer
                found = volume.read(fid.needle_id)
                if found is None:
                    return 404, b""
                needle = found
        except Refused as error:
            return (404 if "not found" in str(error) else 500), b""
        return (200, needle.data) if needle.cookie == fid.cookie else (404, b"")

    def _put(self, fid: FileId, query: dict[str, str], body: bytes) -> http_api.Answer:
        is_first = query.get("type") != "replicate"
        volume = self.store.find(fid.volume_id)
        others = self._to_replicate(fid.volume_id, volume) if is_first else []
        # One that lacks the volume passes it on, or stores nothing, and acknowledges it as real ones do.
        try:
            unchanged = volume is not None and not volume.write(new_needle(fid.needle_id, fid.cookie, body))
        except Refused:
            self._refused_writes += 1
            raise
        for address in others:
            _object("PUT", f"http://{address.http}/{fid}?type=replicate", body)
        return http_api.json_answer(204 if unchanged else 201, {"name": "", "size": len(body)})

    def _delete(self, fid: FileId, query: dict[str, str]) -> http_api.Answer:
        volume = self.store.find(fid.volume_id)
        if volume is None:
            return self._delete_from_shards(fid)
        found = volume.read(fid.needle_id)
        if found is None or found.cookie != fid.cookie:
            return http_api.json_answer(404, {"size": 0})
        others = self._to_replicate(fid.volume_id, volume) if query.get("type") != "replicate" else []
        size = volume.delete(fid.needle_id, fid.cookie)
        for address in others:
            _object("DELETE", f"http://{address.http}/{fid}?type=replicate")
        return http_api.json_answer(202, {"size": size})

    def _delete_from_shards(self, fid: FileId) -> http_api.Answer:
        """Tell every server with shards of the volume."""
        if self._needle(fid.volume_id, fid.needle_id).cookie != fid.cookie:
            return http_api.json_answer(400, {"error": "File Random Cookie does not match."})
        order = v.VolumeEcBlobDeleteRequest(volume_id=fid.volume_id, file_key=fid.needle_id, version=3)
        self.VolumeEcBlobDelete(order, None)
        for address in self._locations(fid.volume_id):
            if address != self.address:
                self._server(str(address)).VolumeEcBlobDelete(order, timeout=5)
        return http_api.json_answer(202, {"size": 1})

    def _to_replicate(self, volume_id: int, volume: Volume | None) -> list[Address]:
        """Where a write or deletion is sent on to; Refused where too few replicas are known: then 4.44 forgets them."""
        copies = sum(map(int, f"{volume.block.replica_placement:03d}")) + 1 if volume else 0
        if copies == 1:
            return []
        known = self._locations(volume_id)
        if len(known) < copies:
            if self.era == "4.44":
                self._remembered.pop(volume_id, None)
            raise Refused(
                f"replicating operations [{len(known)}] is less than volume {volume_id} replication copy count "
                f"[{copies}]"
            )
        return [address for address in known if address != self.address]

    def _locations(self, volume_id: int) -> list[Address]:
        known = self._remembered.get(volume_id)
        if known and time.monotonic() < known[0]:
            return known[1]
        order = m.LookupVolumeRequest(volume_or_file_ids=[str(volume_id)])
        try:
            answer = self._master().LookupVolume(order, timeout=5)
        except grpc.RpcError as error:
            raise Refused(_words(error)) from None
        holders = [
            Address.parse(f"{location.url}.{location.grpc_port}")
            for entry in answer.volume_id_locations
            for location in entry.locations
        ]
        if not holders:
            raise Refused(f"replicating lookup failed for {volume_id}: volume id {volume_id} not found")
        self._remembered[volume_id] = (time.monotonic() + self._remembers, holders)
        return holders

    def control(self, order: dict[str, Any]) -> Any:
        """Orders of tests: be clean; somebody else compacts a volume; remember replicas for so long; free bytes."""
        if "clear" in order:
            self.maintenance = False
            self._remembers = 0.0
            self._free = None
            self.size_limit = ""
            self._remembered.clear()
            for volume in list(self.store.volumes.values()):
                volume.compacting = False
        if "compacting" in order:
            self._volume(order["compacting"]).pretend_compaction()
        self._remembers = order.get("remember", self._remembers)
        self._free = order.get("free", self._free)
        self.size_limit = order.get("size limit", self.size_limit)
        return {}


class _Pace:
    """Keeps a transfer to so many bytes per second; 0 is unlimited."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._start = time.monotonic()
        self._sent = 0

    def spend(self, count: int) -> None:
        """Wait as long as these bytes cost."""
        self._sent += count
        if self._rate > 0:
            time.sleep(max(0.0, self._sent / self._rate - (time.monotonic() - self._start)))


def _pull(source: Any, order: v.CopyFileRequest, path: str, pace: _Pace) -> Iterator[int]:
    """Copy a file from another server, yielding its progress now and then; nothing is made where there is none."""
    done, reported, modified = 0, 0, 0
    staged = f"{path}.copying"
    try:
        with open(staged, "wb") as file:
            for piece in source.CopyFile(order):
                modified = modified or piece.modified_ts_ns
                done += file.write(piece.file_content)
                pace.spend(len(piece.file_content))
                if done - reported > REPORT:
                    reported = done
                    yield done
        if modified:
            os.utime(staged, ns=(modified, modified))
            os.replace(staged, path)
    except grpc.RpcError as error:
        raise Refused(f"failed to copy {path} file: {_words(error)}") from None
    finally:
        Path(staged).unlink(missing_ok=True)


def _words(error: grpc.RpcError) -> str:
    """An error of another server, as a Go server tells it on."""
    code = "".join(word.capitalize() for word in error.code().name.split("_"))
    return f"rpc error: code = {code} desc = {error.details()}"


def _told_crc(needle: Needle) -> int:
    """A needle's checksum as servers tell it: rotated and shifted, unlike the one in the `.dat`."""
    crc = needle.checksum
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _object(method: str, url: str, body: bytes = b"") -> None:
    """One plain HTTP request whose answer is only its status."""
    headers = {**CREDENTIALS, "Content-Type": "application/octet-stream"}
    request = Request(url, data=body if method == "PUT" else None, headers=headers, method=method)
    try:
        with urlopen(request, timeout=30) as response:
            response.read()
    except URLError as error:
        raise Refused(f"{method} {url}: {error}") from None


def _check_names(extension: str, collection: str) -> None:
    """A name never becomes a path."""
    if not re.fullmatch(r"\.[0-9A-Za-z]+", extension):
        raise Refused(f"invalid file extension {json.dumps(extension)}")
    if collection in (".", "..") or re.search(r"[/\\]", collection):
        raise Refused(f"invalid collection {json.dumps(collection)}")


def _ttl_bytes(text: str) -> bytes:
    """ "3d" as the superblock has it."""
    if not text:
        return b"\0\0"
    return bytes((int(text[:-1]), "0mhdwMy".index(text[-1])))


def _disks(settings: Settings) -> list[Disk]:
    """The disks that -dir, -disk and -max name."""

    def listed(name: str, default: str, wanted: int) -> list[str]:
        words = settings.get(name, default).split(",")
        return words * wanted if len(words) == 1 else words

    directories = settings["dir"].split(",")
    types = listed("disk", "hdd", len(directories))
    slots = listed("max", "8", len(directories))
    return [
        Disk(number, Path(directory), "" if types[number] == "hdd" else types[number], int(slots[number]))
        for number, directory in enumerate(directories)
    ]


def main(argv: list[str]) -> None:
    """Run a volume server until SIGTERM."""
    faults = Faults()
    server = VolumeServer(Settings.of(argv))
    rpc = grpc_server(server.address, faults)
    add_VolumeServerServicer_to_server(server, rpc)  # type: ignore[no-untyped-call]
    rpc.start()
    http_api.start(server.address.host, server.address.port, server.serve, faults, server.control)
    if port := int(server.settings.get("metricsPort", "0")):
        http_api.start(server.address.host, port, server.serve_metrics, faults, server.control)
    threading.Thread(target=server.heartbeats, daemon=True).start()
    wait_for_sigterm(server.leave)
