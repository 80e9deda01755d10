"""What tests of repairs share: the job an admin would send, and what must be true afterwards."""

from __future__ import annotations

from collections import Counter
from typing import Any

from proto_gen.worker_pb2 import TaskParams
from tests.support.cluster import Cluster, Server, request
from tests.support.shards import digests, where
from weed_core.findings import EC_SHARD, Finding
from weed_core.model import DetectionRequest, Job, Result
from weed_core.values import Value
from weed_ec.shards import fetch
from weed_safety.context import Context
from weed_storage.index import read_ecj
from weed_tasks import ec_repair


def job(volume_id: int, collection: str = "", **parameters: Value) -> Job:
    """The job an admin would send."""
    params = TaskParams(task_id="repair", volume_id=volume_id, collection=collection)
    return Job("repair", "ec_repair", params, parameters)


def repair(cluster: Cluster, volume_id: int, collection: str = "", ctx: Context | None = None, **more: Value) -> Result:
    """Repair a volume as it is now."""
    return ec_repair.run(job(volume_id, collection, **more), ctx or cluster.context())


def detect(cluster: Cluster, ctx: Context | None = None, **config: Any) -> Any:
    """What detection finds now."""
    wanted = {"min_fault_age_seconds": 0, **config}
    return ec_repair.detect(DetectionRequest("ec_repair", wanted, (str(cluster.master),)), ctx or cluster.context())


def bad_shard(volume_id: int, shard: int, server: Server, collection: str = "") -> Finding:
    """What a scrub says of a bad shard."""
    return Finding(EC_SHARD, volume_id, collection, 0, shard, str(server.address), 1000.0, "checksum", "it is bad")


def assert_whole(cluster: Cluster, volume_id: int, before: dict[int, str], collection: str = "") -> None:
    """Each shard is there once, byte for byte what it was; no host has more than four."""
    places = where(cluster, volume_id)
    assert {shard: len(servers) for shard, servers in places.items()} == dict.fromkeys(range(14), 1), places
    assert digests(cluster, volume_id, collection) == before
    hosts = Counter(server.address.host for servers in places.values() for server in servers)
    assert max(hosts.values()) <= 4, hosts


def journal(cluster: Cluster, server: Server, volume_id: int, collection: str = "") -> set[int]:
    """The needle ids in a server's `.ecj`."""
    return {*read_ecj(fetch(cluster.volume(server), volume_id, collection, ".ecj") or b"")}


def key_of(fid: str) -> int:
    """The needle id of a file id."""
    return int(fid.partition(",")[2][:-8], 16)


def delete_at(cluster: Cluster, fid: str, server: Server, collection: str = "") -> None:
    """Delete a file through one holder of shards alone."""
    cluster.volume(server).volume_ec_blob_delete(
        volume_id=int(fid.partition(",")[0]), collection=collection, file_key=key_of(fid), version=3
    )


def status_of(server: Server, fid: str) -> int:
    """The HTTP status with which a server answers for a file."""
    return request(server.address, "GET", f"/{fid}")[0]
