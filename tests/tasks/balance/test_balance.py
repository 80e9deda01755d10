"""Balancing: planned moves level the servers, a batch tells of each move, and running it again makes the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from proto_gen import worker_pb2
from tests.support import eventually
from tests.support.cluster import OPTIONS, Cluster, Server
from weed_core.errors import BadTask, StaleTask, TaskError
from weed_core.model import DetectionRequest, Job, Result
from weed_safety.journal import Journal
from weed_tasks import balance


@pytest.fixture(autouse=True)
def _quickly_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIONS, "still_seconds", 0.3)


def run(cluster: Cluster, job: Job, **options: Any) -> Result:
    entry = Journal.memory(job.id, job.type)
    try:
        return balance.run(job, cluster.context(journal=entry, **options))
    finally:
        assert entry.open == []


def one(volume_id: int, source: Server, target: Server, collection: str = "") -> Job:
    params = worker_pb2.TaskParams(
        volume_id=volume_id,
        collection=collection,
        sources=[worker_pb2.TaskSource(node=str(source.address), volume_id=volume_id)],
        targets=[worker_pb2.TaskTarget(node=str(target.address), volume_id=volume_id)],
        balance_params=worker_pb2.BalanceTaskParams(timeout_seconds=600),
    )
    return Job(f"balance-{volume_id}", "balance", params)


def batch(moves: Iterable[tuple[int, Server, Server]], concurrent: int = 3) -> Job:
    specs = [
        worker_pb2.BalanceMoveSpec(volume_id=volume_id, source_node=str(a.address), target_node=str(b.address))
        for volume_id, a, b in moves
    ]
    params = worker_pb2.BalanceTaskParams(moves=specs, max_concurrent_moves=concurrent)
    return Job("batch", "balance", worker_pb2.TaskParams(balance_params=params))


def test_what_detection_proposes_levels_the_servers(cluster: Cluster) -> None:
    a = cluster.servers[0]
    files = cluster.fill(count=5, volumes=6, servers=[a])
    found = balance.detect(DetectionRequest("volume_balance", {}, ()), cluster.context())
    (proposal,) = found.proposals
    result = run(cluster, Job("detected", "balance", proposal.params))
    assert result.outputs["succeeded"] == len(proposal.params.balance_params.moves) == 4
    held = [len(server.files("*.dat")) for server in cluster.servers]
    assert held == [2, 2, 2]
    cluster.check(files)
    cluster.settle()
    assert balance.detect(DetectionRequest("volume_balance", {}, ()), cluster.context()).proposals == []


def test_a_single_move_tells_what_it_did(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a], collection="pictures")
    (volume_id,) = files.volume_ids
    result = run(cluster, one(volume_id, a, b, "pictures"))
    assert result.outputs["source_server"] == str(a.address)
    assert f"volume {volume_id} moved" in result.summary
    again = run(cluster, one(volume_id, a, b, "pictures"))
    assert "already" in again.summary
    cluster.check(files)


def test_a_move_of_plain_parameters_is_understood(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a])
    (volume_id,) = files.volume_ids
    plain = {"volume_id": str(volume_id), "source_server": a.address.http, "target_server": str(b.address)}
    run(cluster, Job("plain", "balance", worker_pb2.TaskParams(), parameters=plain))
    assert cluster.locations(volume_id) == [b]
    cluster.check(files)


def test_a_move_without_a_target_is_refused(cluster: Cluster) -> None:
    job = one(7, cluster.servers[0], cluster.servers[1])
    del job.params.targets[:]
    with pytest.raises(BadTask, match="names no target"):
        run(cluster, job)


def test_a_batch_with_a_failure_says_what_moved_and_is_finished_by_the_next_run(cluster: Cluster) -> None:
    a, b, c = cluster.servers
    files = cluster.fill(count=5, volumes=3, servers=[a])
    first, second, third = files.volume_ids
    stray = cluster.allocate([c], volume_id=second)
    job = batch([(first, a, b), (second, a, c), (third, a, b)])
    with pytest.raises(TaskError, match=r"2 of 3 volumes moved") as caught:
        run(cluster, job)
    assert f"volume {second}: " in str(caught.value)
    assert "already holds" in str(caught.value)
    cluster.volume(c).volume_delete(volume_id=stray)
    eventually(lambda: cluster.locations(second) == [a])
    result = run(cluster, job)
    assert (result.outputs["total_moves"], result.outputs["succeeded"]) == (3, 3)
    assert cluster.locations(second) == [c]
    cluster.check(files)


def test_moves_of_one_volume_in_a_batch_are_made_one_after_another(cluster: Cluster) -> None:
    a, b, c = cluster.servers
    files = cluster.fill(servers=[a])
    (volume_id,) = files.volume_ids
    run(cluster, batch([(volume_id, a, b), (volume_id, b, c)]))
    assert cluster.locations(volume_id) == [c]
    cluster.check(files)


def test_a_batch_of_nothing_usable_is_refused(cluster: Cluster) -> None:
    job = batch([(0, cluster.servers[0], cluster.servers[1])])
    with pytest.raises(BadTask, match="no move"):
        run(cluster, job)


def test_a_batch_of_too_many_moves_is_refused(cluster: Cluster) -> None:
    job = batch([(number, cluster.servers[0], cluster.servers[1]) for number in range(1, 102)])
    with pytest.raises(BadTask, match="101 moves"):
        run(cluster, job)


def test_a_batch_of_stale_moves_is_stale(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    with pytest.raises(StaleTask, match="0 of 2"):
        run(cluster, batch([(901, a, b), (902, a, b)]))


def test_a_move_that_breaks_placement_is_refused_untouched(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a], replication="000")
    (volume_id,) = files.volume_ids
    stray = cluster.volume(b)
    list(stray.volume_copy(volume_id=volume_id, source_data_node=str(a.address)))
    eventually(lambda: cluster.locations(volume_id) == [a, b])
    with pytest.raises(StaleTask, match=r"placement 000|already holds"):
        run(cluster, one(volume_id, a, cluster.servers[2]))
    assert not cluster.volume(a).volume_status(volume_id=volume_id).is_read_only


def test_a_dry_run_of_a_batch_moves_nothing(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(count=3, volumes=2, servers=[a])
    result = run(cluster, batch([(volume_id, a, b) for volume_id in files.volume_ids]), dry_run=True)
    assert "would be moved" in result.summary
    assert b.files() == []
