"""A volume server's RPCs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar, cast

from proto_gen import master_pb2 as m
from proto_gen import volume_server_pb2 as v
from weed_cluster.call import LONG, SHORT, Client, FileContent, ShardContent, Upload
from weed_core.errors import ServerFailed

T = TypeVar("T")


class MasterAt(Client):
    """One master by its address, whether it leads or not."""

    SERVICE = "master_pb.Seaweed"

    def lookup_volume(
        self, *, volume_or_file_ids: Iterable[str] = (), collection: str = "", timeout: float = SHORT
    ) -> m.LookupVolumeResponse:
        return self._look(
            "LookupVolume",
            m.LookupVolumeRequest(volume_or_file_ids=volume_or_file_ids, collection=collection),
            m.LookupVolumeResponse,
            timeout,
        )

    def volume_list(
        self, *, collection: str = "", volume_id: int = 0, default_collection_only: bool = False, timeout: float = SHORT
    ) -> m.VolumeListResponse:
        return self._look(
            "VolumeList",
            m.VolumeListRequest(
                collection=collection, volume_id=volume_id, default_collection_only=default_collection_only
            ),
            m.VolumeListResponse,
            timeout,
        )

    def volume_list_stream(
        self, *, collection: str = "", volume_id: int = 0, default_collection_only: bool = False, timeout: float = LONG
    ) -> Iterator[m.VolumeListStreamResponse]:
        return self._stream(
            "VolumeListStream",
            m.VolumeListRequest(
                collection=collection, volume_id=volume_id, default_collection_only=default_collection_only
            ),
            m.VolumeListStreamResponse,
            timeout,
        )

    def collection_list(
        self, *, include_normal_volumes: bool = False, include_ec_volumes: bool = False, timeout: float = SHORT
    ) -> m.CollectionListResponse:
        return self._look(
            "CollectionList",
            m.CollectionListRequest(
                include_normal_volumes=include_normal_volumes, include_ec_volumes=include_ec_volumes
            ),
            m.CollectionListResponse,
            timeout,
        )

    def lookup_ec_volume(self, *, volume_id: int = 0, timeout: float = SHORT) -> m.LookupEcVolumeResponse:
        return self._look(
            "LookupEcVolume", m.LookupEcVolumeRequest(volume_id=volume_id), m.LookupEcVolumeResponse, timeout
        )

    def disable_vacuum(self, *, by_plugin: bool = False, timeout: float = SHORT) -> m.DisableVacuumResponse:
        return self._unary(
            "DisableVacuum", m.DisableVacuumRequest(by_plugin=by_plugin), m.DisableVacuumResponse, timeout
        )

    def enable_vacuum(self, *, by_plugin: bool = False, timeout: float = SHORT) -> m.EnableVacuumResponse:
        return self._unary("EnableVacuum", m.EnableVacuumRequest(by_plugin=by_plugin), m.EnableVacuumResponse, timeout)

    def get_master_configuration(self, *, timeout: float = SHORT) -> m.GetMasterConfigurationResponse:
        return self._look(
            "GetMasterConfiguration", m.GetMasterConfigurationRequest(), m.GetMasterConfigurationResponse, timeout
        )

    def list_cluster_nodes(self, *, client_type: str, timeout: float = SHORT) -> m.ListClusterNodesResponse:
        return self._look(
            "ListClusterNodes", m.ListClusterNodesRequest(client_type=client_type), m.ListClusterNodesResponse, timeout
        )

    def lease_admin_token(
        self,
        *,
        previous_token: int = 0,
        previous_lock_time: int = 0,
        lock_name: str = "",
        client_name: str = "",
        message: str = "",
        timeout: float = SHORT,
    ) -> m.LeaseAdminTokenResponse:
        return self._unary(
            "LeaseAdminToken",
            m.LeaseAdminTokenRequest(
                previous_token=previous_token,
                previous_lock_time=previous_lock_time,
                lock_name=lock_name,
                client_name=client_name,
                message=message,
            ),
            m.LeaseAdminTokenResponse,
            timeout,
        )

    def release_admin_token(
        self, *, previous_token: int = 0, previous_lock_time: int = 0, lock_name: str = "", timeout: float = SHORT
    ) -> m.ReleaseAdminTokenResponse:
        return self._unary(
            "ReleaseAdminToken",
            m.ReleaseAdminTokenRequest(
                previous_token=previous_token, previous_lock_time=previous_lock_time, lock_name=lock_name
            ),
            m.ReleaseAdminTokenResponse,
            timeout,
        )

    def ping(self, *, target: str = "", target_type: str = "", timeout: float = SHORT) -> m.PingResponse:
        return self._look("Ping", m.PingRequest(target=target, target_type=target_type), m.PingResponse, timeout)


class VolumeServer(Client):
    """One volume server."""

    SERVICE = "volume_server_pb.VolumeServer"

    def receive_file(self, *, info: v.ReceiveFileInfo, messages: Iterable[bytes], timeout: float = LONG) -> Upload:
        """Start sending one file: its info, then its bytes as the iterator yields them, each by upload_message().

        N.B. the server reports success for a stream that ended early: compare bytes_written with the size.
        The iterator must end even after a cancel, or its consumer thread waits for ever.
        """
        call = "ReceiveFile"
        self._begin(call)

        def counted() -> Iterator[bytes]:
            yield v.ReceiveFileRequest(info=info).SerializeToString()
            for message in messages:
                self._leash.written += len(message)
                yield message

        send = self._channels.to(self.address).stream_unary(
            f"/{self.SERVICE}/{call}", request_serializer=None, response_deserializer=v.ReceiveFileResponse.FromString
        )
        return Upload(self, call, send.future(counted(), timeout=self._leash.limit(timeout)))

    def batch_delete(
        self, *, file_ids: Iterable[str] = (), skip_cookie_check: bool = False, timeout: float = SHORT
    ) -> v.BatchDeleteResponse:
        return self._unary(
            "BatchDelete",
            v.BatchDeleteRequest(file_ids=file_ids, skip_cookie_check=skip_cookie_check),
            v.BatchDeleteResponse,
            timeout,
        )

    def vacuum_volume_check(self, *, volume_id: int, timeout: float = LONG) -> v.VacuumVolumeCheckResponse:
        return self._look(
            "VacuumVolumeCheck", v.VacuumVolumeCheckRequest(volume_id=volume_id), v.VacuumVolumeCheckResponse, timeout
        )

    def vacuum_volume_compact(
        self, *, volume_id: int, preallocate: int = 0, timeout: float = LONG
    ) -> Iterator[v.VacuumVolumeCompactResponse]:
        return self._stream(
            "VacuumVolumeCompact",
            v.VacuumVolumeCompactRequest(volume_id=volume_id, preallocate=preallocate),
            v.VacuumVolumeCompactResponse,
            timeout,
        )

    def vacuum_volume_commit(self, *, volume_id: int, timeout: float = LONG) -> v.VacuumVolumeCommitResponse:
        return self._unary(
            "VacuumVolumeCommit",
            v.VacuumVolumeCommitRequest(volume_id=volume_id),
            v.VacuumVolumeCommitResponse,
            timeout,
        )

    def vacuum_volume_cleanup(self, *, volume_id: int, timeout: float = SHORT) -> v.VacuumVolumeCleanupResponse:
        return self._unary(
            "VacuumVolumeCleanup",
            v.VacuumVolumeCleanupRequest(volume_id=volume_id),
            v.VacuumVolumeCleanupResponse,
            timeout,
        )

    def volume_mount(self, *, volume_id: int, timeout: float = SHORT) -> v.VolumeMountResponse:
        return self._look("VolumeMount", v.VolumeMountRequest(volume_id=volume_id), v.VolumeMountResponse, timeout)

    def volume_unmount(self, *, volume_id: int, timeout: float = SHORT) -> v.VolumeUnmountResponse:
        return self._look(
            "VolumeUnmount", v.VolumeUnmountRequest(volume_id=volume_id), v.VolumeUnmountResponse, timeout
        )

    def volume_configure(self, *, volume_id: int, replication: str, timeout: float = LONG) -> v.VolumeConfigureResponse:
        """Give a volume another placement; ServerFailed also for an error in the answer."""
        answer = self._unary(
            "VolumeConfigure",
            v.VolumeConfigureRequest(volume_id=volume_id, replication=replication),
            v.VolumeConfigureResponse,
            timeout,
        )
        if answer.error:
            raise ServerFailed(str(self.address), "VolumeConfigure", "UNKNOWN", answer.error)
        return answer

    def volume_delete(
        self, *, volume_id: int, only_empty: bool = False, keep_remote_data: bool = False, timeout: float = SHORT
    ) -> v.VolumeDeleteResponse:
        return self._unary(
            "VolumeDelete",
            v.VolumeDeleteRequest(volume_id=volume_id, only_empty=only_empty, keep_remote_data=keep_remote_data),
            v.VolumeDeleteResponse,
            timeout,
        )

    def volume_mark_readonly(
        self,
        *,
        volume_id: int,
        persist: bool = False,
        can_delete: bool = False,
        patient: bool = True,
        timeout: float = SHORT,
    ) -> v.VolumeMarkReadonlyResponse:
        """Have writes refused, and deletes unless `can_delete`; `persist`: over restarts. Harmless to repeat.

        `patient`: wait while the server looks for another master.
        """
        return self._passed_on(
            lambda: self._look(
                "VolumeMarkReadonly",
                v.VolumeMarkReadonlyRequest(volume_id=volume_id, persist=persist, can_delete=can_delete),
                v.VolumeMarkReadonlyResponse,
                timeout,
            ),
            patient,
        )

    def volume_mark_writable(self, *, volume_id: int, timeout: float = SHORT) -> v.VolumeMarkWritableResponse:
        return self._passed_on(
            lambda: self._unary(
                "VolumeMarkWritable",
                v.VolumeMarkWritableRequest(volume_id=volume_id),
                v.VolumeMarkWritableResponse,
                timeout,
            )
        )

    def _passed_on(self, call: Callable[[], T], patient: bool = True) -> T:
        """Make a call that the server passes on to its master, where patient again and again while it finds none.

        A server learns of another leader within seconds of the old one's death; until then it fails such calls.
        """
        until = time.monotonic() + self.timing.election
        while True:
            try:
                return call()
            except ServerFailed as error:
                if not error.lacks_master or not patient or time.monotonic() > until:
                    raise
            self._leash.wait(self.timing.search)

    def volume_status(self, *, volume_id: int, timeout: float = SHORT) -> v.VolumeStatusResponse:
        return self._look("VolumeStatus", v.VolumeStatusRequest(volume_id=volume_id), v.VolumeStatusResponse, timeout)

    def get_state(self, *, timeout: float = SHORT) -> v.GetStateResponse:
        return self._look("GetState", v.GetStateRequest(), v.GetStateResponse, timeout)

    def volume_copy(
        self,
        *,
        volume_id: int,
        collection: str = "",
        replication: str = "",
        ttl: str = "",
        source_data_node: str = "",
        disk_type: str = "",
        io_byte_per_second: int = 0,
        timeout: float = LONG,
    ) -> Iterator[v.VolumeCopyResponse]:
        return self._stream(
            "VolumeCopy",
            v.VolumeCopyRequest(
                volume_id=volume_id,
                collection=collection,
                replication=replication,
                ttl=ttl,
                source_data_node=source_data_node,
                disk_type=disk_type,
                io_byte_per_second=io_byte_per_second,
            ),
            v.VolumeCopyResponse,
            timeout,
        )

    def read_volume_file_status(self, *, volume_id: int, timeout: float = SHORT) -> v.ReadVolumeFileStatusResponse:
        return self._look(
            "ReadVolumeFileStatus",
            v.ReadVolumeFileStatusRequest(volume_id=volume_id),
            v.ReadVolumeFileStatusResponse,
            timeout,
        )

    def copy_file(
        self,
        *,
        volume_id: int,
        ext: str = "",
        compaction_revision: int = 0,
        stop_offset: int = 0,
        collection: str = "",
        is_ec_volume: bool = False,
        ignore_source_file_not_found: bool = False,
        timeout: float = LONG,
    ) -> Iterator[v.CopyFileResponse]:
        return self._stream(
            "CopyFile",
            v.CopyFileRequest(
                volume_id=volume_id,
                ext=ext,
                compaction_revision=compaction_revision,
                stop_offset=stop_offset,
                collection=collection,
                is_ec_volume=is_ec_volume,
                ignore_source_file_not_found=ignore_source_file_not_found,
            ),
            v.CopyFileResponse,
            timeout,
        )

    def copy_file_content(
        self, *, volume_id: int, ext: str, compaction_revision: int, stop_offset: int, timeout: float = LONG
    ) -> Iterator[memoryview]:
        """CopyFile of a volume's file for bulk: yields the bytes alone, without copying them."""
        request = v.CopyFileRequest(
            volume_id=volume_id, ext=ext, compaction_revision=compaction_revision, stop_offset=stop_offset
        )
        return cast("Iterator[memoryview]", self._stream("CopyFile", request, FileContent, timeout))

    def read_needle_blob(
        self, *, volume_id: int, offset: int = 0, size: int = 0, timeout: float = SHORT
    ) -> v.ReadNeedleBlobResponse:
        return self._look(
            "ReadNeedleBlob",
            v.ReadNeedleBlobRequest(volume_id=volume_id, offset=offset, size=size),
            v.ReadNeedleBlobResponse,
            timeout,
        )

    def read_needle_meta(
        self, *, volume_id: int, needle_id: int = 0, offset: int = 0, size: int = 0, timeout: float = SHORT
    ) -> v.ReadNeedleMetaResponse:
        return self._look(
            "ReadNeedleMeta",
            v.ReadNeedleMetaRequest(volume_id=volume_id, needle_id=needle_id, offset=offset, size=size),
            v.ReadNeedleMetaResponse,
            timeout,
        )

    def write_needle_blob(
        self, *, volume_id: int, needle_id: int = 0, size: int = 0, needle_blob: bytes = b"", timeout: float = SHORT
    ) -> v.WriteNeedleBlobResponse:
        return self._unary(
            "WriteNeedleBlob",
            v.WriteNeedleBlobRequest(volume_id=volume_id, needle_id=needle_id, size=size, needle_blob=needle_blob),
            v.WriteNeedleBlobResponse,
            timeout,
        )

    def volume_ec_shards_copy(
        self,
        *,
        volume_id: int,
        collection: str = "",
        shard_ids: Iterable[int] = (),
        copy_ecx_file: bool = False,
        source_data_node: str = "",
        copy_ecj_file: bool = False,
        copy_vif_file: bool = False,
        disk_id: int = 0,
        copy_ecsum_file: bool = False,
        io_byte_per_second: int = 0,
        timeout: float = LONG,
    ) -> v.VolumeEcShardsCopyResponse:
        return self._unary(
            "VolumeEcShardsCopy",
            v.VolumeEcShardsCopyRequest(
                volume_id=volume_id,
                collection=collection,
                shard_ids=shard_ids,
                copy_ecx_file=copy_ecx_file,
                source_data_node=source_data_node,
                copy_ecj_file=copy_ecj_file,
                copy_vif_file=copy_vif_file,
                disk_id=disk_id,
                copy_ecsum_file=copy_ecsum_file,
                io_byte_per_second=io_byte_per_second,
            ),
            v.VolumeEcShardsCopyResponse,
            timeout,
        )

    def volume_ec_shards_delete(
        self,
        *,
        volume_id: int,
        collection: str = "",
        shard_ids: Iterable[int] = (),
        full_teardown: bool = False,
        encode_ts_ns: int = 0,
        timeout: float = SHORT,
    ) -> v.VolumeEcShardsDeleteResponse:
        return self._unary(
            "VolumeEcShardsDelete",
            v.VolumeEcShardsDeleteRequest(
                volume_id=volume_id,
                collection=collection,
                shard_ids=shard_ids,
                full_teardown=full_teardown,
                encode_ts_ns=encode_ts_ns,
            ),
            v.VolumeEcShardsDeleteResponse,
            timeout,
        )

    def volume_ec_shards_mount(
        self,
        *,
        volume_id: int,
        collection: str = "",
        shard_ids: Iterable[int] = (),
        source_disk_type: str = "",
        recover_missing_index: bool = False,
        timeout: float = SHORT,
    ) -> v.VolumeEcShardsMountResponse:
        return self._look(
            "VolumeEcShardsMount",
            v.VolumeEcShardsMountRequest(
                volume_id=volume_id,
                collection=collection,
                shard_ids=shard_ids,
                source_disk_type=source_disk_type,
                recover_missing_index=recover_missing_index,
            ),
            v.VolumeEcShardsMountResponse,
            timeout,
        )

    def volume_ec_shards_unmount(
        self, *, volume_id: int, shard_ids: Iterable[int] = (), encode_ts_ns: int = 0, timeout: float = SHORT
    ) -> v.VolumeEcShardsUnmountResponse:
        return self._unary(
            "VolumeEcShardsUnmount",
            v.VolumeEcShardsUnmountRequest(volume_id=volume_id, shard_ids=shard_ids, encode_ts_ns=encode_ts_ns),
            v.VolumeEcShardsUnmountResponse,
            timeout,
        )

    def volume_ec_shard_read(
        self,
        *,
        volume_id: int,
        shard_id: int = 0,
        offset: int = 0,
        size: int = 0,
        file_key: int = 0,
        encode_ts_ns: int = 0,
        timeout: float = LONG,
    ) -> Iterator[v.VolumeEcShardReadResponse]:
        return self._stream(
            "VolumeEcShardRead",
            v.VolumeEcShardReadRequest(
                volume_id=volume_id,
                shard_id=shard_id,
                offset=offset,
                size=size,
                file_key=file_key,
                encode_ts_ns=encode_ts_ns,
            ),
            v.VolumeEcShardReadResponse,
            timeout,
        )

    def volume_ec_shard_content(
        self, *, volume_id: int, shard_id: int, offset: int, size: int, encode_ts_ns: int = 0, timeout: float = LONG
    ) -> Iterator[memoryview]:
        """VolumeEcShardRead for bulk: yields the bytes alone, without copying them.

        N.B. a range that reaches past the end of the shard gives fewer bytes without an error: count them.
        """
        request = v.VolumeEcShardReadRequest(
            volume_id=volume_id, shard_id=shard_id, offset=offset, size=size, encode_ts_ns=encode_ts_ns
        )
        return cast("Iterator[memoryview]", self._stream("VolumeEcShardRead", request, ShardContent, timeout))

    def volume_ec_blob_delete(
        self, *, volume_id: int, collection: str = "", file_key: int, version: int, timeout: float = SHORT
    ) -> v.VolumeEcBlobDeleteResponse:
        return self._look(
            "VolumeEcBlobDelete",
            v.VolumeEcBlobDeleteRequest(volume_id=volume_id, collection=collection, file_key=file_key, version=version),
            v.VolumeEcBlobDeleteResponse,
            timeout,
        )

    def volume_ec_shards_info(self, *, volume_id: int, timeout: float = SHORT) -> v.VolumeEcShardsInfoResponse:
        return self._look(
            "VolumeEcShardsInfo",
            v.VolumeEcShardsInfoRequest(volume_id=volume_id),
            v.VolumeEcShardsInfoResponse,
            timeout,
        )

    def volume_tier_move_dat_to_remote(
        self,
        *,
        volume_id: int,
        collection: str = "",
        destination_backend_name: str = "",
        keep_local_dat_file: bool = False,
        timeout: float = LONG,
    ) -> Iterator[v.VolumeTierMoveDatToRemoteResponse]:
        return self._stream(
            "VolumeTierMoveDatToRemote",
            v.VolumeTierMoveDatToRemoteRequest(
                volume_id=volume_id,
                collection=collection,
                destination_backend_name=destination_backend_name,
                keep_local_dat_file=keep_local_dat_file,
            ),
            v.VolumeTierMoveDatToRemoteResponse,
            timeout,
        )

    def volume_tier_move_dat_from_remote(
        self, *, volume_id: int, collection: str = "", keep_remote_dat_file: bool = False, timeout: float = LONG
    ) -> Iterator[v.VolumeTierMoveDatFromRemoteResponse]:
        return self._stream(
            "VolumeTierMoveDatFromRemote",
            v.VolumeTierMoveDatFromRemoteRequest(
                volume_id=volume_id, collection=collection, keep_remote_dat_file=keep_remote_dat_file
            ),
            v.VolumeTierMoveDatFromRemoteResponse,
            timeout,
        )

    def volume_server_status(self, *, timeout: float = SHORT) -> v.VolumeServerStatusResponse:
        return self._look("VolumeServerStatus", v.VolumeServerStatusRequest(), v.VolumeServerStatusResponse, timeout)

    def scrub_volume(
        self,
        *,
        mode: v.VolumeScrubMode,
        volume_ids: Iterable[int],
        mark_broken_volumes_readonly: bool = False,
        timeout: float = LONG,
    ) -> v.ScrubVolumeResponse:
        return self._unary(
            "ScrubVolume",
            v.ScrubVolumeRequest(
                mode=mode, volume_ids=volume_ids, mark_broken_volumes_readonly=mark_broken_volumes_readonly
            ),
            v.ScrubVolumeResponse,
            timeout,
        )

    def scrub_ec_volume(
        self, *, mode: v.VolumeScrubMode, volume_ids: Iterable[int], timeout: float = LONG
    ) -> v.ScrubEcVolumeResponse:
        return self._unary(
            "ScrubEcVolume", v.ScrubEcVolumeRequest(mode=mode, volume_ids=volume_ids), v.ScrubEcVolumeResponse, timeout
        )

    def volume_needle_status(
        self, *, volume_id: int, needle_id: int = 0, timeout: float = SHORT
    ) -> v.VolumeNeedleStatusResponse:
        return self._look(
            "VolumeNeedleStatus",
            v.VolumeNeedleStatusRequest(volume_id=volume_id, needle_id=needle_id),
            v.VolumeNeedleStatusResponse,
            timeout,
        )

    def ping(self, *, target: str = "", target_type: str = "", timeout: float = SHORT) -> v.PingResponse:
        return self._look("Ping", v.PingRequest(target=target, target_type=target_type), v.PingResponse, timeout)
