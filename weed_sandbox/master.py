"""The sandbox's master: it knows what volume servers tell it, hands out file ids and keeps the cluster's lock.

With `-peers` the first one leads until a test names another leader; there is no election.
"""

from __future__ import annotations

import itertools
import math
import random
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import toml

from proto_gen import master_pb2 as m
from proto_gen import volume_server_pb2 as v
from proto_gen.master_pb2_grpc import SeaweedServicer, SeaweedStub, add_SeaweedServicer_to_server
from proto_gen.volume_server_pb2_grpc import VolumeServerStub
from weed_cluster.address import Address
from weed_sandbox import http_api
from weed_sandbox.faults import Faults, Refused, unimplemented
from weed_sandbox.settings import Channels, Settings, grpc_server, wait_for_sigterm

LEASE = 10.0
"""Seconds for which the cluster's lock is held without renewal."""


FILER_LIVES = 2.0
"""Seconds after the last sign of life of a filer for which it is listed."""


class Master(SeaweedServicer):
    """One master; its handlers are named as the RPCs."""

    def __init__(self, settings: Settings) -> None:
        self.address = settings.address
        self.era = settings.era
        self.peers = settings.addresses("peers") or [self.address]
        self.leader = self.peers[0]
        self.size_limit_mb = int(settings.get("volumeSizeLimitMB", "30000"))
        self.default_replication = settings.get("defaultReplication", "000")
        self.backends = _storage_backends(Path("master.toml"))
        self.vacuum_disabled = {"operator": False, "plugin": False}
        self._nodes: dict[str, m.Heartbeat] = {}  # "ip:port" -> what it told last
        self._collections: set[str] = set()  # those that went with a server are kept, those that were deleted are not
        self._racks: set[tuple[str, str]] = set()
        self._filers: dict[str, float] = {}  # "host:port.grpcPort" -> when it last showed life
        self._locks: dict[str, tuple[str, int, float]] = {}  # name -> client, token, time
        self._keys = itertools.count(random.getrandbits(20) + 1)
        self._last_volume_id = 0
        self._mutex = threading.RLock()
        self._channels = Channels()

    # ---- volume servers report

    def SendHeartbeat(self, requests: Iterator[m.Heartbeat], _context: Any) -> Iterator[m.HeartbeatResponse]:
        """Keep what a volume server tells for as long as its stream lives."""
        name, last = "", None
        try:
            for beat in requests:
                if not self._leads:
                    yield m.HeartbeatResponse(leader=str(self.leader))
                    return
                name, last = f"{beat.ip}:{beat.port}", beat
                with self._mutex:
                    self._keep_collections(self._nodes.get(name), beat)
                    self._racks.add((beat.data_center, beat.rack))
                    self._nodes[name] = beat
                    ids = [info.id for info in beat.volumes] + [info.id for info in beat.ec_shards]
                    self._last_volume_id = max([self._last_volume_id, *ids])
                yield m.HeartbeatResponse(volume_size_limit=self.size_limit_mb << 20, leader=str(self.leader))
        finally:
            with self._mutex:
                if last is not None and self._nodes.get(name) is last:
                    del self._nodes[name]

    def _keep_collections(self, before: m.Heartbeat | None, beat: m.Heartbeat) -> None:
        others = [other for _node, other in self._beats() if other is not before]
        had = _collections_of([before] if before else [])
        self._collections -= had - _collections_of([*others, beat])
        self._collections |= _collections_of([beat])

    def CollectionList(self, request: m.CollectionListRequest, _context: Any) -> m.CollectionListResponse:
        """The collections of volumes; those whose volumes went away with their servers are among them."""
        coded = {info.collection for _node, beat in self._beats() for info in beat.ec_shards}
        names = (self._collections if request.include_normal_volumes else set()) | (
            coded if request.include_ec_volumes else set()
        )
        return m.CollectionListResponse(collections=[m.Collection(name=name) for name in sorted(names)])

    def VolumeMarkReadonly(self, request: m.VolumeMarkReadonlyRequest, _context: Any) -> m.VolumeMarkReadonlyResponse:
        """Take note; the next heartbeat tells it as well."""
        self._must_lead()
        return m.VolumeMarkReadonlyResponse()

    # ---- what the cluster looks like

    def VolumeList(self, request: m.VolumeListRequest, _context: Any) -> m.VolumeListResponse:
        """The whole topology; only 4.44 looks at the filters."""
        self._must_lead()
        answer = m.VolumeListResponse(volume_size_limit_mb=self.size_limit_mb)
        answer.topology_info.id = "topo"
        for node, beat in self._beats():
            info = _child(_child(answer.topology_info.data_center_infos, beat.data_center).rack_infos, beat.rack)
            info.data_node_infos.append(self._node_info(node, beat, request))
        for center, rack in sorted(self._racks):
            _child(_child(answer.topology_info.data_center_infos, center).rack_infos, rack)
        return answer

    def VolumeListStream(self, request: m.VolumeListRequest, context: Any) -> Iterator[m.VolumeListStreamResponse]:
        """The topology without volumes, then the volumes of one disk type of one node after another."""
        if self.era != "4.44":
            unimplemented(self.era)
        whole = self.VolumeList(request, context)
        batches = []
        for data_center in whole.topology_info.data_center_infos:
            for rack in data_center.rack_infos:
                for node in rack.data_node_infos:
                    for name, disk in node.diskInfos.items():
                        batch = m.VolumeListStreamResponse(
                            data_center=data_center.id, rack=rack.id, data_node=node.id, disk_type=name
                        )
                        batch.volume_infos.extend(disk.volume_infos)
                        batch.ec_shard_infos.extend(disk.ec_shard_infos)
                        disk.ClearField("volume_infos")
                        disk.ClearField("ec_shard_infos")
                        if batch.volume_infos or batch.ec_shard_infos:
                            batches.append(batch)
        yield m.VolumeListStreamResponse(header=whole)
        yield from batches

    def LookupVolume(self, request: m.LookupVolumeRequest, _context: Any) -> m.LookupVolumeResponse:
        """Where volumes or shards of them are; followers answer too."""
        if not self._leads:
            leader = SeaweedStub(self._channels.to(self.leader))  # type: ignore[no-untyped-call]
            return leader.LookupVolume(request, timeout=5)  # type: ignore[no-any-return]
        answer = m.LookupVolumeResponse()
        for text in request.volume_or_file_ids:
            volume_id = text.partition(",")[0]
            found = answer.volume_id_locations.add(volume_or_file_id=text)
            found.locations.extend(self.locations(int(volume_id)) if volume_id.isdigit() else [])
            if not found.locations:
                found.error = f"volume id {volume_id} not found"
        return answer

    def LookupEcVolume(self, request: m.LookupEcVolumeRequest, _context: Any) -> m.LookupEcVolumeResponse:
        """Where each shard of a volume is."""
        self._must_lead()
        holders: dict[int, list[m.Location]] = {}
        for _node, beat in self._beats():
            for info in beat.ec_shards:
                if info.id == request.volume_id:
                    for shard in (bit for bit in range(32) if info.ec_index_bits >> bit & 1):
                        holders.setdefault(shard, []).append(_location(beat))
        if not holders:
            raise Refused(f"ec volume {request.volume_id} not found")
        answer = m.LookupEcVolumeResponse(volume_id=request.volume_id)
        for shard in range(14 if self.era == "3.97" else 32):
            answer.shard_id_locations.add(shard_id=shard, locations=holders.get(shard, ()))
        return answer

    def GetMasterConfiguration(self, _request: Any, _context: Any) -> m.GetMasterConfigurationResponse:
        """What all servers must agree on; followers answer too."""
        return m.GetMasterConfigurationResponse(
            leader=str(self.leader),
            default_replication=self.default_replication,
            volume_size_limit_m_b=self.size_limit_mb,
            storage_backends=self.backends,
        )

    def ListClusterNodes(self, request: m.ListClusterNodesRequest, _context: Any) -> m.ListClusterNodesResponse:
        """The filers that live; of other kinds none is known."""
        answer = m.ListClusterNodesResponse()
        now = time.monotonic()
        for address, seen in sorted(self._filers.items()):
            if request.client_type == "filer" and not request.filer_group and now - seen < FILER_LIVES:
                answer.cluster_nodes.add(address=address)
        return answer

    def RaftListClusterServers(self, _request: Any, _context: Any) -> m.RaftListClusterServersResponse:
        """The members, dead or alive; each names itself with both its ports."""
        answer = m.RaftListClusterServersResponse()
        for peer in self.peers:
            name = f"{peer.host}:{peer.port}.{peer.grpc_port}"
            leads = peer == self.leader
            answer.cluster_servers.add(id=name, address=peer.grpc, suffrage="Voter", isLeader=leads)
        return answer

    def Ping(self, _request: Any, _context: Any) -> m.PingResponse:
        """Show life."""
        now = time.time_ns()
        return m.PingResponse(start_time_ns=now, remote_time_ns=now, stop_time_ns=now)

    # ---- locks and fences

    def LeaseAdminToken(self, request: m.LeaseAdminTokenRequest, _context: Any) -> m.LeaseAdminTokenResponse:
        """Give or renew the cluster's lock."""
        self._must_lead()
        with self._mutex:
            client, token, leased = self._locks.get(request.lock_name, ("", 0, -math.inf))
            held = time.monotonic() - leased < LEASE
            if held and not (request.previous_token and request.previous_token == token):
                raise Refused(f"already locked by {client}: ")  # no release keeps the message
            token = random.getrandbits(62)
            self._locks[request.lock_name] = (request.client_name, token, time.monotonic())
        return m.LeaseAdminTokenResponse(token=token, lock_ts_ns=time.time_ns())

    def ReleaseAdminToken(self, request: m.ReleaseAdminTokenRequest, _context: Any) -> m.ReleaseAdminTokenResponse:
        """Take the lock back from whoever shows its token."""
        self._must_lead()
        with self._mutex:
            if self._locks.get(request.lock_name, ("", 0, 0.0))[1] == request.previous_token:
                self._locks.pop(request.lock_name, None)
        return m.ReleaseAdminTokenResponse()

    def DisableVacuum(self, request: m.DisableVacuumRequest, _context: Any) -> m.DisableVacuumResponse:
        """Not leader-checked."""
        self.vacuum_disabled["plugin" if request.by_plugin and self.era == "4.44" else "operator"] = True
        return m.DisableVacuumResponse()

    def EnableVacuum(self, request: m.EnableVacuumRequest, _context: Any) -> m.EnableVacuumResponse:
        """Not leader-checked."""
        self.vacuum_disabled["plugin" if request.by_plugin and self.era == "4.44" else "operator"] = False
        return m.EnableVacuumResponse()

    # ---- HTTP

    def serve(self, _method: str, path: str, query: dict[str, str], _body: bytes) -> http_api.Answer:
        """Hand out file ids, find and make volumes."""
        if path == "/dir/assign":
            return self._assign(query)
        if path == "/dir/lookup":
            volume_id = query.get("volumeId", "").partition(",")[0]
            found = [{"url": at.url, "publicUrl": at.url} for at in self.locations(int(volume_id))]
            return http_api.json_answer(200 if found else 404, {"volumeOrFileId": volume_id, "locations": found})
        if path == "/vol/grow":
            made = [self._grow(query) for _ in range(int(query.get("count", "1")))]
            return http_api.json_answer(200, {"count": len(made)})
        known = {"MaxVolumeId": self._last_volume_id} if path == "/cluster/status" and self._leads else {}
        return http_api.json_answer(200, {"IsLeader": self._leads, "Leader": str(self.leader), **known})

    def control(self, order: dict[str, Any]) -> Any:
        """Follow another leader; hear of a filer; tell what fences stand."""
        if "filer" in order:
            self._filers[order["filer"]] = time.monotonic()
            return {}
        if "leader" in order:
            self.leader = Address.parse(order["leader"])
            if not self._leads:
                with self._mutex:
                    self._nodes.clear()
                    self._collections.clear()
                    self._racks.clear()
        if "clear" in order:
            self._locks.clear()
            self.vacuum_disabled = {"operator": False, "plugin": False}
        return {"vacuum_disabled": self.vacuum_disabled, "locks": {name: at[0] for name, at in self._locks.items()}}

    def locations(self, volume_id: int) -> list[m.Location]:
        """The servers that hold a volume, else those that hold shards of it.

        Replicas of different placements are different volumes to a master: it tells of those with one of them, any
        one. Here of the fewest.
        """
        beats = [beat for _node, beat in self._beats()]
        alike: dict[int, list[m.Location]] = {}
        for beat in beats:
            for info in beat.volumes:
                if info.id == volume_id:
                    alike.setdefault(info.replica_placement, []).append(_location(beat))
        whole = min(alike.values(), key=len, default=[])
        return whole or [_location(beat) for beat in beats if any(info.id == volume_id for info in beat.ec_shards)]

    def _assign(self, query: dict[str, str]) -> http_api.Answer:
        wanted = self._placement(query)
        limit = self.size_limit_mb << 20
        holders: dict[int, list[m.VolumeInformationMessage]] = {}
        for _node, beat in self._beats():
            for info in beat.volumes:
                if info.collection == query.get("collection", "") and info.replica_placement == int(wanted):
                    holders.setdefault(info.id, []).append(info)
        copies = sum(map(int, wanted)) + 1
        writable = [
            volume_id
            for volume_id, infos in holders.items()
            if len(infos) >= copies and not any(info.read_only or info.size >= limit for info in infos)
        ]
        try:
            volume_id = random.choice(writable) if writable else self._grow(query)
        except Refused as error:
            return http_api.json_answer(404, {"error": str(error)})
        url = self.locations(volume_id)[0].url
        fid = f"{volume_id},{next(self._keys):x}{random.getrandbits(32):08x}"
        return http_api.json_answer(200, {"fid": fid, "url": url, "publicUrl": url, "count": 1})

    def _grow(self, query: dict[str, str]) -> int:
        """Make one volume, placed as its replication wants, and wait until its servers have told of it."""
        wanted = self._placement(query)
        targets = self._targets(*map(int, wanted))
        with self._mutex:
            self._last_volume_id += 1
            volume_id = self._last_volume_id
        order = v.AllocateVolumeRequest(
            volume_id=volume_id, collection=query.get("collection", ""), replication=wanted, ttl=query.get("ttl", "")
        )
        for beat in targets:
            channel = self._channels.to(Address(beat.ip, beat.grpc_port, beat.port))
            VolumeServerStub(channel).AllocateVolume(order, timeout=10)  # type: ignore[no-untyped-call]
        for _wait in range(200):
            if len(self.locations(volume_id)) >= len(targets):
                return volume_id
            time.sleep(0.02)
        raise Refused(f"volume {volume_id} was made, but its servers do not tell of it")

    def _placement(self, query: dict[str, str]) -> str:
        return query.get("replication") or self.default_replication

    def _targets(self, data_centers: int, racks: int, same: int) -> list[m.Heartbeat]:
        """Free nodes for a replication "xyz", emptiest first."""
        free = [beat for _node, beat in self._beats() if len(beat.volumes) < sum(beat.max_volume_counts.values())]
        free.sort(key=lambda beat: len(beat.volumes))
        for first in free:
            rack = [b for b in free if (b.data_center, b.rack) == (first.data_center, first.rack) and b is not first]
            near = _distinct([b for b in free if b.data_center == first.data_center and b.rack != first.rack], "rack")
            far = _distinct([b for b in free if b.data_center != first.data_center], "data_center")
            if len(rack) >= same and len(near) >= racks and len(far) >= data_centers:
                return [first, *rack[:same], *near[:racks], *far[:data_centers]]
        raise Refused("no free volumes left")

    # ---- helpers

    @property
    def _leads(self) -> bool:
        return self.leader == self.address

    def _must_lead(self) -> None:
        if not self._leads:
            raise Refused("raft.Server: Not current leader")

    def _beats(self) -> list[tuple[str, m.Heartbeat]]:
        with self._mutex:
            return sorted(self._nodes.items())

    def _node_info(self, node: str, beat: m.Heartbeat, request: m.VolumeListRequest) -> m.DataNodeInfo:
        info = m.DataNodeInfo(id=node, grpc_port=beat.grpc_port)
        if self.era != "3.97":
            info.address = node
        for disk_type, slots in beat.max_volume_counts.items():
            disk = info.diskInfos[disk_type]
            volumes = [one for one in beat.volumes if one.disk_type == disk_type]
            shards = [one for one in beat.ec_shards if one.disk_type == disk_type]
            held = sum(bin(one.ec_index_bits).count("1") for one in shards)
            remote = sum(bool(one.remote_storage_name) for one in volumes)
            disk.type = disk_type
            disk.volume_count = len(volumes)
            disk.max_volume_count = slots
            disk.remote_volume_count = remote
            disk.free_volume_count = slots - (len(volumes) - remote) - math.ceil(held / 10)
            disk.active_volume_count = sum(not one.read_only for one in volumes)
            if self.era == "4.44":
                disk.disk_total_bytes = beat.disk_total_bytes[disk_type]
                disk.disk_free_bytes = beat.disk_free_bytes[disk_type]
                for tag in beat.disk_tags:
                    if tag.type == disk_type:
                        disk.max_volume_count_by_disk[tag.disk_id] = tag.max_volume_count
                        disk.tags.extend(tag.tags)
                volumes = [one for one in volumes if _wanted(one, request)]
                shards = [one for one in shards if _wanted(one, request)]
            disk.volume_infos.extend(volumes)
            disk.ec_shard_infos.extend(shards)
        return info


def _wanted(info: Any, request: m.VolumeListRequest) -> bool:
    if request.volume_id and info.id != request.volume_id:
        return False
    if request.default_collection_only:
        return not info.collection
    return not request.collection or info.collection == request.collection


def _child(children: Any, name: str) -> Any:
    """The data center or rack of this name, made if it is new."""
    for child in children:
        if child.id == name:
            return child
    return children.add(id=name)


def _distinct(beats: list[m.Heartbeat], attribute: str) -> list[m.Heartbeat]:
    """The first of each rack or data center."""
    return list({getattr(beat, attribute): beat for beat in reversed(beats)}.values())


def _location(beat: m.Heartbeat) -> m.Location:
    url = f"{beat.ip}:{beat.port}"
    return m.Location(url=url, public_url=url, grpc_port=beat.grpc_port, data_center=beat.data_center)


def _storage_backends(path: Path) -> list[m.StorageBackend]:
    """What master.toml has under [storage.backend.<type>.<id>]; "default" also answers to the bare type."""
    tables = toml.load(path).get("storage", {}).get("backend", {}) if path.exists() else {}
    backends = []
    for kind, named in tables.items():
        for name, properties in named.items():
            if properties.get("enabled"):
                texts = {key: str(value) for key, value in properties.items()}
                backends.append(m.StorageBackend(type=kind, id=name, properties=texts))
    return backends


def main(argv: list[str]) -> None:
    """Run a master until SIGTERM."""
    settings = Settings.of(argv)
    faults = Faults()
    master = Master(settings)
    server = grpc_server(settings.address, faults)
    add_SeaweedServicer_to_server(master, server)  # type: ignore[no-untyped-call]
    server.start()
    http_api.start(settings.address.host, settings.address.port, master.serve, faults, master.control)
    wait_for_sigterm()


def _collections_of(beats: Iterable[m.Heartbeat]) -> set[str]:
    return {info.collection for beat in beats for info in beat.volumes}
