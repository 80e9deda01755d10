"""What tests of shards share: an encoded volume, who has which shard, and damage done to shard files by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from proto_gen.worker_pb2 import ErasureCodingTaskParams, TaskParams, TaskTarget
from tests.support import eventually
from tests.support.cluster import Cluster, Files, Server
from weed_cluster.topology import ec_locations
from weed_core.errors import ServerFailed
from weed_core.model import Job
from weed_ec.runs import Run, runs_of, the_run
from weed_ec.shards import look_at_all
from weed_safety.context import Context
from weed_tasks import erasure_coding


def encoded(
    cluster: Cluster,
    collection: str = "",
    count: int = 30,
    size: int | tuple[int, int] = (10, 200_000),
    on: Sequence[Server] | None = None,
    run: int = 7,
) -> tuple[Files, int]:
    """Files in one new volume, erasure coded with its shards dealt over servers in turn (by default all)."""
    files = cluster.fill(count=count, size=size, collection=collection)
    (volume_id,) = files.volume_ids
    servers = list(on or cluster.servers)
    params = TaskParams(
        task_id="encode",
        volume_id=volume_id,
        collection=collection,
        targets=[
            TaskTarget(node=str(server.address), shard_ids=range(at, 14, len(servers)))
            for at, server in enumerate(servers)
        ],
        erasure_coding_params=ErasureCodingTaskParams(data_shards=10, parity_shards=4, encode_ts_ns=run),
    )
    erasure_coding.run(Job("encode", "erasure_coding", params, {"min_frozen_seconds": 0}), cluster.context())
    settle(cluster, volume_id)
    return files, volume_id


def run_of(cluster: Cluster, ctx: Context, volume_id: int, collection: str = "") -> Run:
    """The run of a volume as its servers tell of it now."""
    servers = [server.address for server in cluster.servers if server.alive]
    return the_run(runs_of(ctx, look_at_all(ctx, servers, volume_id, collection), volume_id, collection))


def path_of(server: Server, volume_id: int, ext: str, collection: str = "") -> Path:
    """Where a server has a file beside its shards, whether it is there or not."""
    name = f"{collection}_{volume_id}{ext}" if collection else f"{volume_id}{ext}"
    found = [folder / name for folder in server.data_dirs if (folder / name).exists()]
    return found[0] if found else server.data_dir / name


def holder_of(cluster: Cluster, volume_id: int, shard: int) -> Server:
    """The one server that has a file of a shard."""
    (server,) = where(cluster, volume_id)[shard]
    return server


def where(cluster: Cluster, volume_id: int) -> dict[int, list[Server]]:
    """Who has a file of which shard, mounted or not."""
    return {
        shard: [
            server
            for server in cluster.servers
            if server.files(f"*_{volume_id}.ec{shard:02d}") or server.files(f"{volume_id}.ec{shard:02d}")
        ]
        for shard in range(14)
    }


def digests(cluster: Cluster, volume_id: int, collection: str = "") -> dict[int, str]:
    """SHA-256 of each shard's file, by shard id; AssertionError where two servers have different ones."""
    found: dict[int, str] = {}
    for shard, servers in where(cluster, volume_id).items():
        contents = {path_of(server, volume_id, f".ec{shard:02d}", collection).read_bytes() for server in servers}
        assert len(contents) <= 1, f"shard {shard} differs between {servers}"
        for content in contents:
            found[shard] = hashlib.sha256(content).hexdigest()
    return found


def flip(path: Path, at: int) -> None:
    """Change one byte of a file in place."""
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 0xFF]))


def remount(cluster: Cluster, server: Server, volume_id: int, shards: Sequence[int], collection: str = "") -> None:
    """Have a server open its shards anew, as a restart does."""
    client = cluster.volume(server)
    client.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=shards)
    client.volume_ec_shards_mount(volume_id=volume_id, collection=collection, shard_ids=shards)


def take(cluster: Cluster, volume_id: int, shard: int, server: Server, collection: str = "") -> None:
    """Remove a shard by hand."""
    client = cluster.volume(server)
    client.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=[shard])
    client.volume_ec_shards_delete(volume_id=volume_id, collection=collection, shard_ids=[shard])


def settle(cluster: Cluster, volume_id: int) -> None:
    """Wait until the master shows what lies where."""

    def shown() -> bool:
        known = ec_locations(cluster.master_client(), volume_id)
        return all(
            {server.address for server in servers if server.alive} == set(known.get(shard, []))
            for shard, servers in where(cluster, volume_id).items()
        )

    eventually(shown, timeout=30)


def revive(cluster: Cluster, server: Server) -> None:
    """Start a server that was killed, and wait until it answers over channels that may have seen it die."""

    def answers() -> bool:
        try:
            return bool(cluster.volume(server).volume_server_status().version)
        except ServerFailed:
            return False

    server.start()
    cluster.ready()
    eventually(answers, timeout=30)
