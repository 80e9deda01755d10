"""What tests of erasure coding share: the job an admin would send, and what must be true of a cluster afterwards."""

from __future__ import annotations

import base64
import sys
from typing import Any

from proto_gen.worker_pb2 import ErasureCodingTaskParams, TaskParams, TaskSource, TaskTarget
from tests.support import eventually
from tests.support.cluster import Cluster, Files, Server
from weed_cluster.address import Address
from weed_cluster.channels import Channels
from weed_cluster.client import Cluster as Clients
from weed_core.errors import ServerFailed
from weed_core.model import Job
from weed_safety.context import Context
from weed_safety.journal import Journal
from weed_tasks import erasure_coding


def job(cluster: Cluster, volume_id: int, collection: str = "", name: str = "job", **coding: Any) -> Job:
    """The job an admin would send: shards in turn over all servers, sources as the master knows them."""
    servers = cluster.servers
    sources = [
        TaskSource(node=str(replica.server), volume_id=volume_id) for replica in cluster.topology().replicas(volume_id)
    ]
    targets = [
        TaskTarget(node=str(server.address), shard_ids=range(at, 14, len(servers))) for at, server in enumerate(servers)
    ]
    params = TaskParams(
        task_id=name,
        volume_id=volume_id,
        collection=collection,
        sources=sources,
        targets=targets,
        erasure_coding_params=ErasureCodingTaskParams(data_shards=10, parity_shards=4, encode_ts_ns=7, **coding),
    )
    return Job(name, "erasure_coding", params, {"min_frozen_seconds": 0})


def shard_files(cluster: Cluster) -> dict[str, list[str]]:
    """Who holds which files beside shards and of them."""
    return {str(server.address): server.files("*.ec*") for server in cluster.servers if server.files("*.ec*")}


def assert_encoded(cluster: Cluster, files: Files) -> None:
    """All files read back; the shards lie as planned, and nothing is left of the replicas."""
    for volume_id in files.volume_ids:
        for at, server in enumerate(cluster.servers):
            names = [name for name in server.files() if str(volume_id) in name.partition(".")[0]]
            assert {name[-5:] for name in names if name[-4:].startswith("ec") and name[-2:].isdigit()} == {
                f".ec{shard:02d}" for shard in range(at, 14, 5)
            }
            assert not [name for name in names if name.endswith((".dat", ".idx"))]
            assert [name for name in names if name.endswith(".vif")], names
    cluster.check(files)


def assert_as_before(cluster: Cluster, files: Files, holders: list[Server]) -> None:
    """All files read back from their replicas, which can be written to; no shard and nothing beside one is left."""
    assert shard_files(cluster) == {}
    for volume_id in files.volume_ids:
        for server in holders:
            assert not cluster.volume(server).volume_status(volume_id=volume_id).is_read_only
            cluster.write(files, volume_id, 1, 100, holders)
    cluster.check(files)


def answers(cluster: Cluster, server: Server) -> bool:
    """Whether a server that was started again can be reached over the channels that saw it die."""
    try:
        cluster.volume(server).volume_server_status()
    except ServerFailed:
        return False
    return True


def fresh(cluster: Cluster) -> None:
    """Empty a cluster, and wait until its servers can be reached over channels that may have seen them die."""
    cluster.reset()
    eventually(lambda: all(answers(cluster, server) for server in cluster.servers), timeout=30)


def work(master: str, journal: str, params: str) -> None:
    """Run one job with its journal on disk: what a worker process of its own does, to be killed from outside."""
    order = TaskParams.FromString(base64.b64decode(params))
    entry = Journal(journal).open_entry("job", "erasure_coding", order.volume_id)
    ctx = Context(Clients(Channels(), [Address.parse(master)]), entry)
    print(erasure_coding.run(Job("job", "erasure_coding", order), ctx).summary)


if __name__ == "__main__":
    work(*sys.argv[1:])
