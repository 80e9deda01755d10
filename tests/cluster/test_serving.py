"""Before anything is deleted every new holder finds files by itself: one that does not keeps the old ones alive."""

from __future__ import annotations

import pytest

from proto_gen import worker_pb2
from tests.conftest import clusters
from tests.support import eventually
from tests.support.cluster import OPTIONS, Cluster, Server
from tests.support.erasure_coding import assert_as_before
from tests.support.erasure_coding import job as encode_job
from tests.tasks.ec_balance.test_ec_balance import job as shard_job
from weed_core.errors import Mismatch, TaskError
from weed_core.model import Job
from weed_tasks import balance, ec_balance, erasure_coding, replication

NOT_THERE = "needle not found 1"


_five = clusters(servers=5)


@pytest.fixture
def five(_five: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    _five.reset()
    monkeypatch.setitem(OPTIONS, "finds_others_seconds", 0.5)
    monkeypatch.setitem(OPTIONS, "still_seconds", 0.2)
    monkeypatch.setitem(OPTIONS, "remembered_seconds", 0.0)
    _five.options["sender_seconds"] = 0.0
    forget_calls(_five)
    return _five


def forget_calls(cluster: Cluster) -> None:
    for server in cluster.servers:
        cluster.faults(server).clear()


def finds_nothing(cluster: Cluster, server: Server, text: str = NOT_THERE) -> None:
    """Let a server hold what it holds, byte for byte, and find no file in it: as one of another build does."""
    cluster.faults(server).fail("VolumeNeedleStatus", nth=0, code="UNKNOWN", text=text)


def deletions(cluster: Cluster, server: Server) -> list[str]:
    return [method for method, _ in cluster.calls(server) if method in ("VolumeDelete", "VolumeEcShardsDelete")]


@pytest.mark.parametrize("text", [NOT_THERE, "read /dat: input/output error"])
def test_a_move_keeps_its_source_where_the_copy_is_not_served(five: Cluster, text: str) -> None:
    a, b, *_ = five.servers
    files = five.fill(count=6, servers=[a])
    (volume_id,) = files.volume_ids
    finds_nothing(five, b, text)
    params = worker_pb2.TaskParams(
        volume_id=volume_id,
        sources=[worker_pb2.TaskSource(node=str(a.address))],
        targets=[worker_pb2.TaskTarget(node=str(b.address))],
    )
    with pytest.raises(Mismatch, match=rf"{b.address} does not serve volume {volume_id}.*nothing was deleted"):
        balance.run(Job("m", "balance", params), five.context())
    assert not deletions(five, a)
    eventually(lambda: five.locations(volume_id) == [a])
    assert not five.volume(a).volume_status(volume_id=volume_id).is_read_only
    five.check(files)


def test_a_surplus_replica_stays_where_another_is_not_served(five: Cluster) -> None:
    a, b, *_ = five.servers
    files = five.fill(count=6, servers=[a, b])
    (volume_id,) = files.volume_ids
    five.settle()
    for server in (a, b):
        finds_nothing(five, server, "disk failure")
    job = Job("r", "replication", worker_pb2.TaskParams(volume_id=volume_id), config={"delete_surplus": True})
    with pytest.raises(TaskError, match="disk failure"):
        replication.run(job, five.context())
    assert not [*deletions(five, a), *deletions(five, b)]
    five.check(files)


def test_an_encode_keeps_the_volume_where_one_holder_of_shards_finds_nothing(five: Cluster) -> None:
    a, *_, last = five.servers
    files = five.fill(count=10, size=50_000, servers=[a])
    (volume_id,) = files.volume_ids
    finds_nothing(five, last)
    with pytest.raises(Mismatch, match=rf"{last.address} does not serve volume {volume_id}"):
        erasure_coding.run(encode_job(five, volume_id), five.context())
    assert not [method for method in deletions(five, a) if method == "VolumeDelete"]
    assert_as_before(five, files, [a])


def test_a_shard_stays_where_its_new_holder_finds_nothing(five: Cluster) -> None:
    a, b, *_ = five.servers
    files = five.fill(count=10, size=50_000, servers=[a])
    (volume_id,) = files.volume_ids
    erasure_coding.run(encode_job(five, volume_id), five.context())
    five.settle()
    forget_calls(five)
    finds_nothing(five, b)
    with pytest.raises(Mismatch, match=rf"{b.address} does not serve volume {volume_id}"):
        ec_balance.run(shard_job(volume_id, 0, a, b), five.context())
    assert not deletions(five, a)
    assert f"{volume_id}.ec00" in a.files("*.ec00")
    assert not b.files("*.ec00")
    five.check(files)


def test_what_the_old_holder_does_not_find_either_is_left_out(five: Cluster) -> None:
    a, b, *_ = five.servers
    files = five.fill(count=6, servers=[a])
    (volume_id,) = files.volume_ids
    for server in (a, b):  # as of a volume whose time to live has passed
        finds_nothing(five, server)
    params = worker_pb2.TaskParams(
        volume_id=volume_id,
        sources=[worker_pb2.TaskSource(node=str(a.address))],
        targets=[worker_pb2.TaskTarget(node=str(b.address))],
    )
    balance.run(Job("m", "balance", params), five.context())
    eventually(lambda: five.locations(volume_id) == [b])
    five.check(files)
