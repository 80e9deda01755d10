"""What clients ask for over HTTP."""

from __future__ import annotations

import time

import grpc

from proto_gen import master_pb2 as m
from proto_gen import volume_server_pb2 as v
from weed_cluster.address import Address
from weed_core.errors import Mismatch
from weed_sandbox import http_api
from weed_sandbox.faults import Refused
from weed_sandbox.store import Volume, new_needle
from weed_sandbox.volume_files import ask_url, words_of
from weed_sandbox.volume_life import Life
from weed_sandbox.volume_needles import Needles
from weed_storage.needle import FileId


class Http(Needles, Life):
    """What clients ask for over HTTP."""

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
            ask_url("PUT", f"http://{address.http}/{fid}?type=replicate", body)
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
            ask_url("DELETE", f"http://{address.http}/{fid}?type=replicate")
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
            raise Refused(words_of(error)) from None
        holders = [
            Address.parse(f"{location.url}.{location.grpc_port}")
            for entry in answer.volume_id_locations
            for location in entry.locations
        ]
        if not holders:
            raise Refused(f"replicating lookup failed for {volume_id}: volume id {volume_id} not found")
        self._remembered[volume_id] = (time.monotonic() + self._remembers, holders)
        return holders
