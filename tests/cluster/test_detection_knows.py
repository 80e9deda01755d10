"""What a job refuses before it touches anything, detection does not propose: and says so in the job's own words."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from proto_gen import worker_pb2
from proto_gen.volume_server_pb2 import AllocateVolumeRequest
from proto_gen.worker_pb2 import TaskParams, TaskSource, TaskTarget
from tests.conftest import MODERN, SANDBOX_KIND, clusters
from tests.support import eventually
from tests.support.cluster import LATELY, Cluster, Server
from tests.support.s3 import MASTER_TOML, Store, free_address, start_stand_in
from weed_core.errors import BadTask, StaleTask, TaskError
from weed_core.model import DetectionRequest, Job, Setback
from weed_core.values import Value
from weed_safety.lease import volume_lease
from weed_sandbox.launcher import Launcher
from weed_tasks import balance, ec_balance, erasure_coding, remote_upload, replication, vacuum

SMALL: dict[str, Value] = {"min_size_mb": 1, "fullness_ratio": 0.001, "quiet_for_seconds": 0}
STRANGER = "10.9.9.9"


_four = clusters([SANDBOX_KIND, *MODERN], servers=4)


@pytest.fixture
def four(_four: Cluster) -> Cluster:
    """Four empty servers of 4.44, all of which take orders."""
    _four.reset()
    return _four


def refused_alike(cluster: Cluster, task: ModuleType, job: Job, words: str, **config: Any) -> None:
    """Detection passes the job's volume over in the words in which the job refuses; nothing was touched."""
    (volume_id,) = job.volume_ids
    request = DetectionRequest(task.DESCRIPTOR.job_type, config, (str(cluster.master),), volume_id=0)
    found = task.detect(request, cluster.context(timeout=60))
    proposed = {
        number
        for proposal in found.proposals
        for number in Job("", task.DESCRIPTOR.name, proposal.params, proposal.parameters).volume_ids
    }
    assert volume_id not in proposed
    told = [skip.reason for skip in found.skipped if skip.volume_id == volume_id]
    with pytest.raises((StaleTask, BadTask)) as refused:
        task.run(job, cluster.context(timeout=60))
    assert str(refused.value) in told
    assert words in str(refused.value)


def in_two_collections(cluster: Cluster, count: int = 30, size: int = 3000) -> int:
    """A volume with garbage whose id is taken twice."""
    a, b = cluster.servers[:2]
    files = cluster.fill(count=count, size=size, servers=[a], collection="photos")
    (volume_id,) = files.volume_ids
    cluster.delete(list(files)[::2])
    cluster.age(volume_id, 2 * LATELY)  # balance moves first what was written to least lately
    order = AllocateVolumeRequest(volume_id=volume_id, collection="videos", replication="000", version=3)
    cluster.stub(b).AllocateVolume.future(order, timeout=20).result()
    # A master that is asked where the volume is names the servers of one of the two collections only.
    eventually(lambda: len(cluster.topology().replicas(volume_id)) == 2, 30)
    cluster.settle()
    return volume_id


def with_garbage(cluster: Cluster, servers: list[Server], copies: int = 1) -> int:
    files = cluster.fill(count=30, size=3000, servers=servers, replication=f"00{copies - 1}")
    cluster.delete(list(files)[::2], servers)
    cluster.settle()
    return files.volume_ids[0]


# ---- vacuum


def vacuum_of(volume_id: int) -> Job:
    return Job("forced", "vacuum", TaskParams(volume_id=volume_id))


def test_vacuum_passes_over_an_id_in_two_collections(four: Cluster) -> None:
    refused_alike(four, vacuum, vacuum_of(in_two_collections(four)), "one id in several collections")


def test_vacuum_passes_over_a_volume_that_lacks_a_copy(four: Cluster) -> None:
    refused_alike(four, vacuum, vacuum_of(with_garbage(four, four.servers[:1], 2)), "should have 2 copies")


def test_vacuum_passes_over_a_volume_with_a_replica_in_maintenance(four: Cluster) -> None:
    volume_id = with_garbage(four, four.servers[:2], 2)
    four.maintenance(four.servers[1], True)
    refused_alike(four, vacuum, vacuum_of(volume_id), f"{four.servers[1].address} is in maintenance mode")


def test_vacuum_passes_over_a_volume_whose_server_does_not_trust_this_host(four: Cluster) -> None:
    volume_id = with_garbage(four, four.servers[:1])
    four.guard(four.servers[0], STRANGER)
    refused_alike(four, vacuum, vacuum_of(volume_id), "-whiteList")


def test_vacuum_says_whose_job_keeps_a_volume_read_only_and_what_opens_one_of_nobody(four: Cluster) -> None:
    a = four.servers[0]
    volume_id, _other = with_garbage(four, [a]), with_garbage(four, [a])
    four.volume(a).volume_mark_readonly(volume_id=volume_id)
    four.settle()

    def told() -> str:
        found = vacuum.detect(DetectionRequest("vacuum", {}, ()), four.context())
        return next(skip.reason for skip in found.skipped if skip.volume_id == volume_id)

    assert f"weed_worker undo -volumeId={volume_id} compares replicas and opens it" in told()
    with volume_lease(four.context(), volume_id):
        me = f"weed_worker {socket.gethostname()} {os.getpid()}"
        assert told().startswith(f"volume {volume_id} is read-only while {me}")


# ---- balance


def move_of(volume_id: int, source: Server, target: Server) -> Job:
    params = TaskParams(
        volume_id=volume_id,
        sources=[TaskSource(node=str(source.address))],
        targets=[TaskTarget(node=str(target.address))],
    )
    return Job("forced", "balance", params)


def test_balance_passes_over_an_id_in_two_collections(four: Cluster) -> None:
    a, _b, c, _d = four.servers
    volume_id = in_two_collections(four)
    four.fill(count=2, volumes=3, servers=[a], collection="photos")
    four.settle()
    refused_alike(four, balance, move_of(volume_id, a, c), "one id in several collections", collection_filter="photos")


def test_balance_passes_over_volumes_of_a_server_in_maintenance(four: Cluster) -> None:
    a, _b, c, _d = four.servers
    volume_id = four.fill(count=2, volumes=4, servers=[a]).volume_ids[0]
    four.settle()
    four.maintenance(a, True)
    refused_alike(four, balance, move_of(volume_id, a, c), f"{a.address} is in maintenance mode")


def test_balance_chooses_no_target_that_does_not_trust_this_host(four: Cluster) -> None:
    a, b, c, d = four.servers
    volume_ids = four.fill(count=2, volumes=6, servers=[a]).volume_ids
    four.fill(count=2, volumes=3, servers=[c])
    four.fill(count=2, volumes=3, servers=[d])
    four.settle()
    four.guard(b, STRANGER)
    found = balance.detect(DetectionRequest("volume_balance", {}, ()), four.context(timeout=60))
    targets = {
        name
        for proposal in found.proposals
        for name in [row.node for row in proposal.params.targets]
        + [move.target_node for move in proposal.params.balance_params.moves]
    }
    assert str(b.address) not in targets
    with pytest.raises(StaleTask, match="-whiteList"):
        balance.run(move_of(volume_ids[0], a, b), four.context())


def test_balance_says_why_no_server_may_take_a_volume(four: Cluster) -> None:
    a, b, c, d = four.servers
    volume_ids = four.fill(count=2, volumes=4, servers=[a]).volume_ids
    four.settle()
    for server in (b, c, d):
        four.maintenance(server, True)
    found = balance.detect(DetectionRequest("volume_balance", {}, ()), four.context(timeout=60))
    assert found.proposals == []
    (skip,) = found.skipped
    assert skip.volume_id in volume_ids
    for server in (b, c, d):
        with pytest.raises(StaleTask) as refused:
            balance.run(move_of(skip.volume_id, a, server), four.context())
        assert str(refused.value).partition(": ")[2] in skip.reason


# ---- erasure coding


def encode_of(volume_id: int) -> Job:
    return Job("forced", "erasure_coding", TaskParams(volume_id=volume_id), config=dict(SMALL))


def large(cluster: Cluster, servers: list[Server]) -> int:
    files = cluster.fill(count=10, size=200_000, servers=servers)
    cluster.settle()
    return files.volume_ids[0]


def test_encoding_passes_over_an_id_in_two_collections(four: Cluster) -> None:
    volume_id = in_two_collections(four, 20, 200_000)
    refused_alike(four, erasure_coding, encode_of(volume_id), "one id in several collections", **SMALL)


def test_encoding_passes_over_a_volume_of_which_all_files_are_deleted(four: Cluster) -> None:
    files = four.fill(count=10, size=200_000, servers=four.servers[:1])
    (volume_id,) = files.volume_ids
    four.delete(list(files))
    four.settle()
    refused_alike(four, erasure_coding, encode_of(volume_id), "holds no file", **SMALL)


def test_encoding_passes_over_a_volume_on_a_server_in_maintenance(four: Cluster) -> None:
    volume_id = large(four, four.servers[:1])
    four.maintenance(four.servers[0], True)
    refused_alike(four, erasure_coding, encode_of(volume_id), "is in maintenance mode", **SMALL)


def test_encoding_says_which_servers_leave_too_few_places_for_shards(four: Cluster) -> None:
    volume_id = large(four, four.servers[:1])
    four.guard(four.servers[3], STRANGER)
    refused_alike(four, erasure_coding, encode_of(volume_id), "-whiteList", **SMALL)


def test_encoding_plans_no_shards_where_the_reserve_would_not_stay_free(
    make_sandbox_cluster: Callable[..., Cluster],
) -> None:
    five = make_sandbox_cluster(servers=5)
    volume_id = large(five, five.servers[:1])
    crowded = five.servers[4]
    five.faults(crowded).crowd((1 << 30) - 1)
    request = DetectionRequest("erasure_coding", SMALL, ())
    (proposal,) = erasure_coding.detect(request, five.context()).proposals
    assert str(crowded.address) not in [target.node for target in proposal.params.targets]
    forced = TaskParams(
        volume_id=volume_id,
        targets=[
            TaskTarget(node=str(server.address), shard_ids=range(at, 14, 5)) for at, server in enumerate(five.servers)
        ],
    )
    with pytest.raises(StaleTask, match="1023 MiB free, too little for 2 shards of 1 MiB and the 1024 MiB that must"):
        erasure_coding.run(Job("forced", "erasure_coding", forced), five.context())
    five.faults(five.servers[3]).crowd(1 << 30)
    refused_alike(five, erasure_coding, encode_of(volume_id), "1024 MiB left free on each", **SMALL)


# ---- moves of shards


def half_moved(cluster: Cluster) -> int:
    """An encoded volume of which one server has all the shards of another one besides its own."""
    volume_id = large(cluster, cluster.servers[:1])
    params = TaskParams(
        volume_id=volume_id,
        targets=[
            TaskTarget(node=str(server.address), shard_ids=range(at, 14, 4))
            for at, server in enumerate(cluster.servers)
        ],
    )
    erasure_coding.run(Job("encode", "erasure_coding", params), cluster.context())
    a, b = cluster.servers[:2]
    for shard in range(1, 14, 4):
        client, there = cluster.volume(a), cluster.volume(b)
        client.volume_ec_shards_copy(volume_id=volume_id, shard_ids=[shard], source_data_node=str(b.address))
        client.volume_ec_shards_mount(volume_id=volume_id, shard_ids=[shard])
        there.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=[shard])
        there.volume_ec_shards_delete(volume_id=volume_id, shard_ids=[shard])
    eventually(lambda: {len(one.shard_ids) for one in cluster.topology().holdings(volume_id, "")} == {8, 3}, 30)
    return volume_id


def again(cluster: Cluster, volume_id: int, collection: str) -> None:
    """Make a regular volume beside the shards of that id."""
    cluster.allocate([cluster.servers[2]], volume_id=volume_id, collection=collection)
    eventually(lambda: cluster.topology().replicas(volume_id), 30)


def shard_of(volume_id: int, shard: int, source: Server, target: Server) -> Job:
    params = TaskParams(
        volume_id=volume_id,
        sources=[TaskSource(node=str(source.address), shard_ids=[shard])],
        targets=[TaskTarget(node=str(target.address), shard_ids=[shard])],
        ec_balance_params=worker_pb2.EcBalanceTaskParams(),
    )
    return Job("forced", "ec_balance", params)


def test_shards_of_an_id_in_two_collections_stay(four: Cluster) -> None:
    volume_id = half_moved(four)
    again(four, volume_id, "videos")
    job = shard_of(volume_id, 1, four.servers[0], four.servers[1])
    refused_alike(four, ec_balance, job, "one id in several collections")


def test_shards_of_a_volume_that_still_exists_stay(four: Cluster) -> None:
    volume_id = half_moved(four)
    again(four, volume_id, "")
    job = shard_of(volume_id, 1, four.servers[0], four.servers[1])
    refused_alike(four, ec_balance, job, "its regular volume still exists")


def test_shards_on_a_server_in_maintenance_stay(four: Cluster) -> None:
    volume_id = half_moved(four)
    four.maintenance(four.servers[0], True)
    job = shard_of(volume_id, 1, four.servers[0], four.servers[1])
    refused_alike(four, ec_balance, job, "is in maintenance mode")


# ---- replication


def repair_of(volume_id: int) -> Job:
    return Job("forced", "replication", TaskParams(volume_id=volume_id))


def test_replication_passes_over_an_id_in_two_collections(four: Cluster) -> None:
    volume_id = in_two_collections(four)
    refused_alike(four, replication, repair_of(volume_id), "one id in several collections", min_fault_age_seconds=0)


def test_replication_passes_over_a_volume_on_a_server_in_maintenance(four: Cluster) -> None:
    volume_id = with_garbage(four, four.servers[:1], 2)
    four.maintenance(four.servers[0], True)
    refused_alike(four, replication, repair_of(volume_id), "is in maintenance mode", min_fault_age_seconds=0)


def test_replication_says_which_servers_take_no_copy(four: Cluster) -> None:
    volume_id = with_garbage(four, four.servers[:1], 2)
    for server in four.servers[1:3]:
        four.maintenance(server, True)
    four.guard(four.servers[3], STRANGER)
    refused_alike(four, replication, repair_of(volume_id), "-whiteList", min_fault_age_seconds=0)


# ---- remote storage


@pytest.fixture(scope="module")
def s3(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """An S3 stand-in."""
    store = Store(free_address())
    process = start_stand_in(launcher, store.address, tmp_path_factory.mktemp("s3-knows"))
    store.ready()
    yield store
    process.kill()


@pytest.fixture
def tiered(make_cluster: Callable[..., Cluster], s3: Store, tmp_path: Path) -> Cluster:
    """Three servers of 4.44 whose master knows the backend s3.default."""
    return make_cluster(era="4.44", master_toml=MASTER_TOML.format(endpoint=s3.address.http), volume_size_limit_mb=1)


REMOTE: dict[str, Value] = {"backend": "s3.default", "quiet_for_seconds": 0, "fullness_ratio": 0.01, "min_size_mb": 0}


def upload_of(volume_id: int) -> Job:
    return Job("forced", "remote_upload", TaskParams(volume_id=volume_id), config=dict(REMOTE))


def test_uploading_passes_over_what_its_job_refuses(tiered: Cluster) -> None:
    a, b = tiered.servers[:2]
    twice = in_two_collections(tiered)
    refused_alike(tiered, remote_upload, upload_of(twice), "one id in several collections", **REMOTE)
    volume_id = with_garbage(tiered, [a, b], 2)
    tiered.maintenance(b, True)
    refused_alike(tiered, remote_upload, upload_of(volume_id), f"{b.address} is in maintenance mode", **REMOTE)
    tiered.maintenance(b, False)
    tiered.guard(b, STRANGER)
    refused_alike(tiered, remote_upload, upload_of(volume_id), "-whiteList", **REMOTE)


# ---- asking


def test_each_server_of_a_plan_is_asked_once_and_no_other(sandbox_cluster: Cluster) -> None:
    a, _b, c = sandbox_cluster.servers
    for _volume in range(3):
        with_garbage(sandbox_cluster, [a])
    for server in sandbox_cluster.servers:
        sandbox_cluster.faults(server).clear()
    found = vacuum.detect(DetectionRequest("vacuum", {}, ()), sandbox_cluster.context())
    assert len(found.proposals) == 3
    asked = [[method for method, _order in sandbox_cluster.calls(server)] for server in (a, c)]
    assert asked == [["VolumeServerStatus", "VolumeNeedleStatus"], []]


def test_a_server_that_hangs_costs_a_detection_its_deadline_once(
    sandbox_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, _c = sandbox_cluster.servers
    silent, sound = with_garbage(sandbox_cluster, [a]), with_garbage(sandbox_cluster, [b])
    sandbox_cluster.faults(a).hang("VolumeServerStatus", nth=0)
    found = vacuum.detect(DetectionRequest("vacuum", {}, ()), sandbox_cluster.context(timeout=30))
    assert [proposal.params.volume_id for proposal in found.proposals] == [sound]
    (skip,) = [skip for skip in found.skipped if skip.volume_id == silent]
    assert "does not answer" in skip.reason


# ---- what failed before


def failing(volume_id: int, holder: Server, words: str) -> dict[int, Setback]:
    return {volume_id: Setback(words, (str(holder.address),))}


@pytest.mark.parametrize(
    ("task", "config"),
    [
        (vacuum, {}),
        (balance, {}),
        (erasure_coding, SMALL),
        (replication, {"min_fault_age_seconds": 0}),
    ],
)
def test_a_volume_that_failed_waits_while_others_are_planned_and_comes_last_when_it_may(
    four: Cluster, task: ModuleType, config: dict[str, Value]
) -> None:
    a = four.servers[0]
    files = four.fill(
        count=10, size=200_000, volumes=4, servers=[a], replication="001" if task is replication else "000"
    )
    for volume_id in files.volume_ids:
        four.delete(files.of(volume_id)[:6], [a])
    four.settle()
    first = min(files.volume_ids)

    def planned(setbacks: dict[int, Setback], most: int) -> tuple[list[int], list[str]]:
        wishes = {**config, "batch_size": 1}
        request = DetectionRequest(task.DESCRIPTOR.name, wishes, (), max_results=most, setbacks=setbacks)
        found = task.detect(request, four.context(timeout=60))
        reasons = [skip.reason for skip in found.skipped if skip.volume_id == first]
        return [proposal.params.volume_id for proposal in found.proposals], reasons

    ids, _reasons = planned({}, 1)
    assert ids == [first]
    ids, reasons = planned(failing(first, a, "failed twice, last at 10:00: no; tried again after 10:10 UTC"), 0)
    assert ids
    assert first not in ids
    assert any("failed twice, last at 10:00: no; tried again after 10:10 UTC" in reason for reason in reasons)
    ids, _reasons = planned(failing(first, a, ""), 1)
    assert ids
    assert first not in ids
    ids, _reasons = planned(failing(first, four.servers[3], "failed once"), 1)
    assert ids == [first]


def test_a_server_at_which_much_failed_is_left_alone(four: Cluster) -> None:
    a, b, c, d = four.servers
    four.fill(count=2, volumes=4, servers=[a])
    four.settle()
    words = "failed jobs on 3 volumes"
    request = DetectionRequest("balance", {}, (), avoided={str(one.address): words for one in (b, c)})
    found = balance.detect(request, four.context(timeout=60))
    targets = {
        name
        for proposal in found.proposals
        for name in [row.node for row in proposal.params.targets]
        + [move.target_node for move in proposal.params.balance_params.moves]
    }
    assert targets == {str(d.address)}


def test_a_vacuum_that_writers_outrun_says_what_to_do(sandbox_cluster: Cluster) -> None:
    a = sandbox_cluster.servers[0]
    volume_id = with_garbage(sandbox_cluster, [a])
    text = f"volume {volume_id} unexpected new data size: 9 does not match size of content minus deleted: 12"
    sandbox_cluster.faults(a).fail("VacuumVolumeCompact", code="UNKNOWN", text=text)
    with pytest.raises(TaskError, match="is written to faster than") as refused:
        vacuum.run(vacuum_of(volume_id), sandbox_cluster.context())
    assert "-window" in str(refused.value)
    assert text in str(refused.value)
