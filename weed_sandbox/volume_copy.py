"""RPCs that copy volumes and files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from proto_gen import volume_server_pb2 as v
from weed_sandbox.faults import Refused
from weed_sandbox.settings import chunks
from weed_sandbox.store import RemoteDat
from weed_sandbox.volume_base import Base
from weed_sandbox.volume_files import ANY_REVISION, Pace, ask_url, check_names, pull, words_of
from weed_storage.needle import parse_needle

CHUNK = 2 << 20
"""Bytes per message of a file."""

POLL = 2.0
"""Seconds between two looks of a tail; its idle counter counts looks, not seconds."""


class Copying(Base):
    """RPCs that copy volumes and files."""

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
            raise Refused(f"read volume file status failed, {words_of(error)}") from None
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
            pace = Pace(request.io_byte_per_second)
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
                for done in pull(source, order, base + extension, pace):
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
            ask_url("DELETE", url)

    def CopyFile(self, request: v.CopyFileRequest, _context: Any) -> Iterator[v.CopyFileResponse]:
        """Send a file of a volume, or of shards."""
        check_names(request.ext, request.collection)
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
        check_names(info.ext, info.collection)
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
            raise Refused(words_of(error)) from None
        return v.VolumeTailReceiverResponse()
