"""A volume whose data is, or may be, in remote storage: what its server says of it, and samples of its needles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from typing import Any

from proto_gen.volume_server_pb2 import ReadVolumeFileStatusResponse, RemoteFile
from weed_cluster.address import Address
from weed_core.errors import BadTask, Mismatch, ServerFailed
from weed_core.release import Generation
from weed_safety.context import Context
from weed_safety.freeze import Frozen
from weed_safety.lease import Lease
from weed_safety.look import file_status, probe
from weed_safety.proof import fetch_index, sample_of
from weed_safety.steps import kind

SLOWEST = 2 << 20
"""Bytes per second that a transfer reaches even on a busy day; deadlines are made from it."""

TYPICAL = 50 << 20
"""Bytes per second from which progress is guessed where the server tells none."""

TRIES = 3
"""Uploads, or copies of a reference, that are tried before the job fails."""

SAMPLE = 32
"""Needles read before and after."""


@kind("send")
@dataclass(frozen=True)
class Uploading:
    """The journal step of an upload, which has surely ended `until` then, in unix seconds."""

    server: Address
    volume_id: int
    backend: str
    until: float


@kind("refer")
@dataclass(frozen=True)
class Referring:
    """The journal step of a replica that is being replaced by a reference to the object of `source`."""

    server: Address
    volume_id: int
    source: Address


@kind("fetch")
@dataclass(frozen=True)
class Downloading:
    """The journal step of a download."""

    server: Address
    volume_id: int


@dataclass
class RemoteVolume:
    """The volume of a job, and what is known of each replica. `status` is as of the last look at it."""

    ctx: Context
    id: int
    collection: str
    backend: str
    keep_local: bool
    keep_remote: bool
    lease: Lease | None
    refuse: float = 0.0  # seconds for which replicas refuse writes before their local data goes
    status: dict[Address, ReadVolumeFileStatusResponse] = field(default_factory=dict)
    generation: dict[Address, Generation] = field(default_factory=dict)
    frozen: dict[Address, Frozen] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"volume {self.id}"

    @property
    def servers(self) -> list[Address]:
        return sorted(self.status, key=str)

    @property
    def tiered(self) -> list[Address]:
        """The replicas whose data is remote."""
        return [server for server in self.servers if remote_file(self.status[server])]

    def check_lease(self) -> None:
        """Raise Busy if another worker has taken the volume over."""
        if self.lease is not None:
            self.lease.check()

    def look(self, server: Address) -> ReadVolumeFileStatusResponse:
        """Ask a server afresh."""
        self.status[server] = file_status(self.ctx, server, self.id)
        return self.status[server]


def remote_file(status: ReadVolumeFileStatusResponse) -> RemoteFile | None:
    """The object that holds a volume's data, None where it is local."""
    return status.volume_info.files[0] if status.volume_info.files else None


def backend_of(file: RemoteFile) -> str:
    return f"{file.backend_type}.{file.backend_id}"


@dataclass(frozen=True)
class Sample:
    """What must be the same after a transfer: the index, and some needles as their server reads and checks them."""

    index: bytes  # SHA-256
    index_size: int
    needles: Mapping[int, tuple[int, int]]  # id -> cookie and checksum

    @classmethod
    def of(cls, ctx: Context, server: Address, volume_id: int, status: ReadVolumeFileStatusResponse) -> Sample:
        """Read it from a server. ServerFailed names a needle that cannot be read."""
        index = fetch_index(ctx, server, volume_id, status)
        ids = [needle_id for needle_id, _offset, size in sample_of(index.live, SAMPLE) if size]
        return cls(index.digest, index.size, dict(zip(ids, ctx.each(reader_of(ctx, server, volume_id), ids))))

    def check(self, ctx: Context, server: Address, volume_id: int, status: ReadVolumeFileStatusResponse) -> None:
        """Mismatch if the index or a needle is another on this server now."""
        index = fetch_index(ctx, server, volume_id, status, min(self.index_size, status.idx_file_size))
        if index.digest != self.index:
            raise Mismatch(f"volume {volume_id} on {server} has another index than before")
        now = dict(zip(self.needles, ctx.each(reader_of(ctx, server, volume_id), self.needles)))
        wrong = [needle_id for needle_id, seen in self.needles.items() if now[needle_id] != seen]
        if wrong:
            raise Mismatch(f"volume {volume_id} on {server} reads other bytes than before: needle {wrong[0]:x}")


def reader_of(ctx: Context, server: Address, volume_id: int) -> Callable[[int], tuple[int, int]]:
    def read(needle_id: int) -> tuple[int, int]:
        needle = ctx.volume(server).volume_needle_status(volume_id=volume_id, needle_id=needle_id, timeout=120)
        return needle.cookie, needle.crc

    return read


def is_remote(ctx: Context, server: Address, volume_id: int) -> bool:
    """Whether a server has a volume in a backend now; False where it does not answer."""
    try:
        status = probe(ctx, server, volume_id)
    except ServerFailed:
        return False
    return status is not None and remote_file(status) is not None


def follow(ctx: Context, replies: Iterable[Any], size: int, start: float, end: float, stage: str) -> None:
    """Wait for a transfer, telling its progress: what the server says, or a guess by time where it says nothing."""
    said = 0.0

    def drain() -> None:
        nonlocal said
        for reply in replies:
            said = min(reply.processedPercentage / 100, 1.0)

    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        transfer = pool.submit(drain)
        while not wait_for([transfer], timeout=1.0).done:
            guess = min((time.monotonic() - began) * TYPICAL / max(size, 1), 0.9)
            ctx.progress(start + (end - start) * max(said, guess if not said else 0.0), stage)
    transfer.result()


def check_needles(ctx: Context, server: Address, volume_id: int, sample: Sample) -> None:
    read = reader_of(ctx, server, volume_id)
    for needle_id, seen in sample.needles.items():
        if read(needle_id) != seen:
            raise Mismatch(f"volume {volume_id} on {server} reads other bytes than its replica: needle {needle_id:x}")


def copy_reference(ctx: Context, volume_id: int, server: Address, holder: Address) -> None:
    """Make a server refer to the object that another one refers to; ServerFailed after some tries."""
    if server == holder:
        raise BadTask(f"volume {volume_id} on {server} cannot refer to itself")
    for attempt in range(1, TRIES + 1):
        try:
            list(ctx.volume(server).volume_copy(volume_id=volume_id, source_data_node=str(holder), timeout=300))
            return
        except ServerFailed as error:
            now = probe(ctx, server, volume_id)
            if now is not None and remote_file(now):
                return
            if attempt == TRIES:
                raise
            ctx.log(f"copy {attempt} of {TRIES} of the reference to {server} failed: {error}")
            ctx.wait(1.0 * attempt)


def remount(ctx: Context, server: Address, volume_id: int) -> None:
    """Have the server open the volume anew, so that it is writable if it was before the upload; never interrupted."""
    with ctx.cluster.leash.shielded():
        ctx.volume(server).volume_unmount(volume_id=volume_id)
        ctx.volume(server).volume_mount(volume_id=volume_id)


def listed(servers: Iterable[Address]) -> str:
    return " and ".join(sorted(map(str, servers)))
