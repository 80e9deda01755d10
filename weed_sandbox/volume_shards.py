"""RPCs of shards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from proto_gen import master_pb2 as m
from proto_gen import volume_server_pb2 as v
from weed_sandbox.faults import Refused
from weed_sandbox.settings import chunks
from weed_sandbox.store import EcVolume
from weed_sandbox.volume_base import Base
from weed_sandbox.volume_files import ANY_REVISION, Pace, pull, words_of
from weed_storage.ec_layout import DATA_SHARDS, TOTAL_SHARDS, locate
from weed_storage.needle import Needle, actual_size, parse_needle

CHUNK = 2 << 20
"""Bytes per message of a file."""


class Shards(Base):
    """RPCs of shards."""

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
        source, pace = self._server(request.source_data_node), Pace(request.io_byte_per_second)
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

    def _pull_ec_file(self, source: Any, order: v.CopyFileRequest, path: str, pace: Pace) -> None:
        """Copy a file beside shards: shards and `.ecx` in place, over what is there; `.ecj` over its beginning.

        Only the other optional ones are staged. Before 4.44 what a broken transfer has written stays.
        """
        if order.ignore_source_file_not_found and order.ext != ".ecj":
            for _report in pull(source, order, path, pace):
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
            raise Refused(f"failed to copy {path} file: {words_of(error)}") from None
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
