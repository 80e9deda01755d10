"""What all RPCs of a sandbox volume server share: its state, its master, other servers, and the refusals."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from proto_gen import master_pb2 as m
from proto_gen.master_pb2_grpc import SeaweedStub
from proto_gen.volume_server_pb2_grpc import (
    VolumeServerServicer,
    VolumeServerStub,
)
from weed_cluster.address import Address
from weed_core.errors import BadTask
from weed_sandbox.faults import Refused
from weed_sandbox.settings import Channels, Settings
from weed_sandbox.store import Disk, Store, Volume
from weed_storage.reed_solomon import Encoder

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


class Base(VolumeServerServicer):
    """What all handlers of one volume server share; each is named as its RPC."""

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
