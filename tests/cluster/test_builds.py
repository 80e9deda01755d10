"""Builds with offsets of 4 and of 5 bytes: no copy, shard or repair goes from one to the other."""

from __future__ import annotations

import pytest

from proto_gen import worker_pb2
from tests.conftest import clusters
from tests.support import eventually
from tests.support.cluster import OPTIONS, Cluster, Server
from tests.support.erasure_coding import job as encode_job
from tests.support.rpcs import CHANGING, see_nothing_yet
from weed_cluster.address import Address
from weed_cluster.builds import Build, Builds, why_unlike
from weed_core.errors import StaleTask
from weed_core.model import DetectionRequest, Job
from weed_safety.alike import BUILDS
from weed_tasks import balance, erasure_coding, replication

_five = clusters(servers=5)


@pytest.fixture
def mixed(_five: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Five servers, the last of which says that it is the build with 5-byte offsets."""
    _five.reset()
    BUILDS.forget()
    _five.options["sender_seconds"] = 0.0
    monkeypatch.setitem(OPTIONS, "still_seconds", 0.2)
    monkeypatch.setitem(OPTIONS, "still_seconds", 0.2)
    see_nothing_yet(_five)
    _five.faults(_five.servers[4]).size_limit("8000GB")
    return _five


def request(name: str, **config: int | float | str) -> DetectionRequest:
    return DetectionRequest(name, config, ())


def changes(cluster: Cluster, server: Server) -> set[str]:
    """What changing calls a server has seen, but for those that filled it."""
    return {method for method, _request in cluster.calls(server)} & CHANGING - {"AllocateVolume"}


def test_balancing_takes_the_other_build_for_no_target(mixed: Cluster) -> None:
    mixed.fill(count=10, volumes=10, servers=[mixed.servers[0]])
    found = balance.detect(request("balance", batch_size=1), mixed.context())
    targets = {proposal.parameters["target_server"] for proposal in found.proposals}
    assert targets == {str(server.address) for server in mixed.servers[1:4]}
    assert f"{mixed.servers[4].address} takes nothing" in found.summary
    assert "build '8000GB 4.44' with 5-byte offsets" in found.summary


def test_a_move_to_the_other_build_touches_nothing(mixed: Cluster) -> None:
    a, large = mixed.servers[0], mixed.servers[4]
    files = mixed.fill(count=3, servers=[a])
    params = worker_pb2.TaskParams(
        volume_id=files.volume_ids[0],
        sources=[worker_pb2.TaskSource(node=str(a.address))],
        targets=[worker_pb2.TaskTarget(node=str(large.address))],
    )
    with pytest.raises(StaleTask, match=r"5-byte offsets.*nothing was touched"):
        balance.run(Job("m", "balance", params), mixed.context())
    assert not changes(mixed, a) | changes(mixed, large)
    mixed.check(files)


def test_shards_are_planned_among_servers_of_the_volumes_build(mixed: Cluster) -> None:
    mixed.fill(count=20, size=100_000, servers=[mixed.servers[0]])
    mixed.settle()
    wishes = request("erasure_coding", fullness_ratio=0, quiet_for_seconds=0, min_size_mb=1)
    (proposal,) = erasure_coding.detect(wishes, mixed.context()).proposals
    targets = {target.node for target in proposal.params.targets}
    assert targets == {str(server.address) for server in mixed.servers[:4]}


def test_an_encode_onto_the_other_build_touches_nothing(mixed: Cluster) -> None:
    files = mixed.fill(count=10, size=100_000, servers=[mixed.servers[0]])
    (volume_id,) = files.volume_ids
    with pytest.raises(StaleTask, match=r"is not encoded.*5-byte offsets.*nothing was touched"):
        erasure_coding.run(encode_job(mixed, volume_id), mixed.context())
    assert not set().union(*(changes(mixed, server) for server in mixed.servers))
    mixed.check(files)


def test_a_missing_copy_goes_to_a_server_of_the_replicas_build(mixed: Cluster) -> None:
    a, b, c, d, large = mixed.servers
    files = mixed.fill(count=5, servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    mixed.volume(b).volume_delete(volume_id=volume_id)
    for full in (b, c, d):
        full.kill()
    eventually(lambda: len(mixed.topology().nodes) == 2)
    wishes = request("replication", min_fault_age_seconds=0)
    found = replication.detect(wishes, mixed.context())
    assert not found.proposals
    assert "5-byte offsets" in found.skipped[0].reason
    params = worker_pb2.TaskParams(
        volume_id=volume_id,
        sources=[worker_pb2.TaskSource(node=str(a.address))],
        targets=[worker_pb2.TaskTarget(node=str(large.address))],
    )
    with pytest.raises(StaleTask, match="5-byte offsets"):
        replication.run(Job("r", "replication", params), mixed.context())
    assert not changes(mixed, a) | changes(mixed, large)
    assert a.files(f"{volume_id}.dat")


def test_a_server_that_does_not_say_its_build_gets_nothing(mixed: Cluster) -> None:
    mixed.fill(count=10, volumes=10, servers=[mixed.servers[0]])
    mixed.faults(mixed.servers[1]).fail("VolumeServerStatus", nth=0, code="INTERNAL")
    found = balance.detect(request("balance", batch_size=1), mixed.context())
    targets = {proposal.parameters["target_server"] for proposal in found.proposals}
    assert targets == {str(server.address) for server in mixed.servers[2:4]}
    assert f"{mixed.servers[1].address} does not say which build it is" in found.summary


def test_plans_ask_each_server_once_in_ten_minutes(mixed: Cluster) -> None:
    mixed.fill(count=2, servers=[mixed.servers[0]])
    for _ in range(3):
        balance.detect(request("balance"), mixed.context())
    for server in mixed.servers:
        assert [method for method, _ in mixed.calls(server)].count("VolumeServerStatus") == 1


def test_builds_are_told_from_the_size_in_their_version() -> None:
    a, b = Address.parse("10.0.0.1:80"), Address.parse("10.0.0.2:80")
    small, large, odd = Build("30GB 4.44 1a2b3c"), Build("8000GB 3.97 "), Build("4.44")
    assert (small.offset_bytes, large.offset_bytes, odd.offset_bytes) == (4, 5, 4)
    assert Builds().of([], lambda address: pytest.fail(str(address))) == {}
    assert "neither can read the other's files" in why_unlike(a, small, b, large)
    assert not why_unlike(a, small, b, odd)
