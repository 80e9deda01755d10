"""The ledger of a large cluster: its memory, and a look at it; and scrubs by reading against what the disk gives.

    WEED=/path/to/weed python bench/scrub.py

A ledger of 300,000 volumes (most with two replicas, a tenth erasure-coded on 14 servers each) may take 64 MB, and a
look by it 2 s of CPU beside the master's list. Reading shards through must reach 0.8 of what a plain read of the same
files from the same disk gives (up to a hard disk's 250 MB/s), none of them in memory before, and of a rate asked for.
Exits with 1 where a figure is missed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from proto_gen import master_pb2 as m
from tests.support.cluster import Cluster, Kind, real_kinds, start_cluster
from tests.support.scrub import job_of, look
from tests.support.shards import encoded, path_of, remount, settle, where
from weed_cluster.topology import Topology, read
from weed_core.scrub_ledger import CLEAN, REPLICA, Ledger, Mark, run_tag, server_tag
from weed_sandbox.launcher import Launcher
from weed_tasks import scrub
from weed_tasks.scrub.survey import DAY, survey

SERVERS, VOLUMES, SHARDED = 1000, 300_000, 30_000
MEGABYTES, SECONDS, SHARE = 64, 2.0, 0.8
HARD_DISK = 250e6
FILES, FILE_BYTES, LIMIT_MB = 400, 1_000_000, 1024
PIECE = 1 << 20


def name(server: int) -> str:
    """A server's address."""
    return f"10.{server // 250}.0.{server % 250 + 1}:8080"


def cluster_of_many() -> Topology:
    """What a master lists of such a cluster."""
    header = m.VolumeListResponse(volume_size_limit_mb=30_000)
    rack = header.topology_info.data_center_infos.add(id="dc1").rack_infos.add(id="r1")
    for server in range(SERVERS):
        rack.data_node_infos.add(id=name(server)).diskInfos[""].CopyFrom(m.DiskInfo(max_volume_count=2000))
    volumes: list[list[m.VolumeInformationMessage]] = [[] for _ in range(SERVERS)]
    shards: list[list[m.VolumeEcShardInformationMessage]] = [[] for _ in range(SERVERS)]
    for number in range(1, VOLUMES + 1):
        if number <= SHARDED:
            for shard in range(14):
                info = m.VolumeEcShardInformationMessage(
                    id=number, ec_index_bits=1 << shard, encode_ts_ns=number, shard_sizes=[3 << 30]
                )
                shards[(number + shard) % SERVERS].append(info)
            continue
        for copy in range(2):
            info_of = m.VolumeInformationMessage(id=number, size=30 << 30, version=3, replica_placement=1)
            volumes[(number + copy) % SERVERS].append(info_of)
    told = [m.VolumeListStreamResponse(header=header)]
    for server in range(SERVERS):
        told.append(
            m.VolumeListStreamResponse(
                data_center="dc1",
                rack="r1",
                data_node=name(server),
                volume_infos=volumes[server],
                ec_shard_infos=shards[server],
            )
        )
    return read(told)


def filled(topology: Topology, now: int) -> dict[str, bytes]:
    """The documents of a ledger that knows everything of a cluster."""
    ledger = Ledger()
    marks = []
    for volume_id, replicas in topology.volumes.items():
        for one in replicas:
            at = now - volume_id % 60 * DAY
            marks.append(Mark(volume_id, 0, server_tag(one.server), REPLICA, at, 1, CLEAN))
    for (volume_id, _collection), holdings in topology.ec.items():
        for held in holdings:
            tag, run = server_tag(held.server), run_tag(held.encode_ts_ns)
            marks.append(Mark(volume_id, run, tag, held.info.ec_index_bits, now - volume_id % 60 * DAY, 3, CLEAN))
    ledger.note(marks)
    return {name: ledger.document(name) for name in ledger.names()}


def the_ledger() -> bool:
    """Print memory and time of a ledger; whether both figures are reached."""
    topology, now = cluster_of_many(), int(time.time())
    documents = filled(topology, now)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    ledger = Ledger({name: bytes(bytearray(content)) for name, content in documents.items()})
    held = (tracemalloc.get_traced_memory()[0] - before) / 2**20
    tracemalloc.stop()
    began = time.process_time()
    found = survey(topology, ledger, 30 * DAY, now, lambda _collection: True)
    seconds = time.process_time() - began
    print(
        f"ledger of {len(topology.volumes) + len(topology.ec)} volumes, {found.total} replicas and shards: "
        f"{held:.1f} MB, a look {seconds:.2f} s of CPU, {len(found.due)} due"
    )
    return held <= MEGABYTES and seconds <= SECONDS


def shard_files(cluster: Cluster, volume_id: int) -> list[Path]:
    """The files of all shards, none of which is in memory afterwards."""
    files = [path_of(held[0], volume_id, f".ec{shard:02d}") for shard, held in where(cluster, volume_id).items()]
    os.sync()
    for path in files:
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
    return files


def plain(cluster: Cluster, volume_id: int) -> float:
    """Bytes per second of all shard files read side by side and dropped: what the disk gives."""

    def drain(path: Path) -> int:
        with path.open("rb", buffering=0) as file:
            return sum(iter(lambda: len(file.read(PIECE)), 0))

    files = shard_files(cluster, volume_id)
    began = time.monotonic()
    with ThreadPoolExecutor(len(files)) as pool:
        size = sum(pool.map(drain, files))
    return size / (time.monotonic() - began)


def scrubbed(cluster: Cluster, volume_id: int, rate: int = 0) -> float:
    """Bytes per second of a scrub by reading."""
    ctx = cluster.context()
    (proposal,) = look(cluster, ctx, io_byte_per_second=rate).proposals
    shard_files(cluster, volume_id)
    began = time.monotonic()
    result = scrub.run(job_of(proposal), ctx)
    assert result.outputs["found"] == 1, result.summary  # that it has no .ecsum
    return int(result.outputs["bytes"]) / (time.monotonic() - began)  # type: ignore[arg-type]


def the_reading() -> bool:
    """Print how fast shards without checksums are read; whether that is near what the disk gives."""
    launcher = Launcher()
    kind = next((one for one in real_kinds() if one.era == "4.44"), Kind())
    try:
        directory = Path(tempfile.mkdtemp()) / "bench"
        cluster = start_cluster(kind, launcher, directory, servers=5, volume_size_limit_mb=LIMIT_MB)
        try:
            _files, volume_id = encoded(cluster, count=FILES, size=FILE_BYTES)
            for server in cluster.servers:
                path_of(server, volume_id, ".ecsum").unlink(missing_ok=True)
                held = [shard for shard, servers in where(cluster, volume_id).items() if server in servers]
                remount(cluster, server, volume_id, held)
            settle(cluster, volume_id)
            gives = max(plain(cluster, volume_id) for _try in range(2))
            reads = max(scrubbed(cluster, volume_id) for _try in range(2))
            asked = 40_000_000
            kept = scrubbed(cluster, volume_id, asked)
        finally:
            cluster.close()
    finally:
        launcher.close()
    share = reads / gives
    print(f"reading on {cluster.kind} {cluster.era}: {reads / 1e6:.0f} MB/s of {gives / 1e6:.0f} MB/s: {share:.2f}")
    print(f"at a rate of {asked / 1e6:.0f} MB/s: {kept / 1e6:.1f} MB/s: {kept / asked:.2f}")
    return reads >= SHARE * min(gives, HARD_DISK) and SHARE <= kept / asked <= 1.1


def main() -> int:
    reached = [the_ledger(), the_reading()]
    print("all figures reached" if all(reached) else "missed")
    return int(not all(reached))


if __name__ == "__main__":
    sys.exit(main())
