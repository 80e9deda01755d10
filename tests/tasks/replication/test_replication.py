"""Replication repair against servers that hold real volumes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from proto_gen import worker_pb2
from tests.support import eventually
from tests.support.cluster import OPTIONS, Cluster, Files, Server, request
from weed_core.errors import BadTask, Mismatch, StaleTask
from weed_core.model import Detection, DetectionRequest, Job, Result
from weed_safety.journal import Entry
from weed_tasks import replication

AT_ONCE = {"min_fault_age_seconds": 0}


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait until servers forget where replicas were: no client writes through them here."""
    monkeypatch.setitem(OPTIONS, "remembered_seconds", 0.0)


@pytest.fixture
def racks(make_cluster: Callable[..., Cluster]) -> Cluster:
    """Four servers in two racks of one data center."""
    return make_cluster(servers=4, racks=["r1", "r2"])


def job_for(volume_id: int, params: worker_pb2.TaskParams | None = None, job_id: str = "job", **config: Any) -> Job:
    params = params or worker_pb2.TaskParams(volume_id=volume_id)
    return Job(id=job_id, type="replication", params=params, config=config)


def repair(cluster: Cluster, volume_id: int, journal: Entry | None = None, **config: Any) -> Result:
    return replication.run(job_for(volume_id, **config), cluster.context(journal, timeout=100))


def look(cluster: Cluster, **config: Any) -> Detection:
    request = DetectionRequest("replication", {**AT_ONCE, **config}, (str(cluster.master),))
    return replication.detect(request, cluster.context(timeout=60))


def is_read_only(cluster: Cluster, server: Server, volume_id: int) -> bool:
    return cluster.volume(server).volume_status(volume_id=volume_id).is_read_only


def empty_one(cluster: Cluster, server: Server) -> None:
    """Lose a server's disks: it comes back with nothing."""
    server.kill()
    server.wipe()
    cluster.start()
    eventually(lambda: all(server not in cluster.locations(vid) for vid in cluster.topology().volumes))


def remove(cluster: Cluster, server: Server, volume_id: int) -> None:
    """Lose one copy."""
    cluster.volume(server).volume_delete(volume_id=volume_id)
    eventually(lambda: server not in cluster.locations(volume_id))
    cluster.settle()


@pytest.mark.parametrize("placement", ["001", "010"])
def test_every_volume_of_an_emptied_server_gets_its_second_copy_again(
    make_cluster: Callable[..., Cluster], placement: str
) -> None:
    cluster = make_cluster(servers=4, racks=["r1", "r1", "r2", "r2"])
    one, two, three, four = cluster.servers
    pairs = ((one, two), (three, four)) if placement == "001" else ((one, three), (two, three), (one, four))
    files = [cluster.fill(10, replication=placement, servers=pair) for pair in pairs for _volume in range(2)]
    cluster.delete([next(iter(files[0]))])
    cluster.settle()
    empty_one(cluster, three)

    found = look(cluster)
    lost = {
        volume_id
        for each, pair in zip(files, [p for p in pairs for _ in range(2)])
        if three in pair
        for volume_id in each.volume_ids
    }
    assert {proposal.params.volume_id for proposal in found.proposals} == lost
    for proposal in found.proposals:
        job = Job(proposal.id, "replication", proposal.params, proposal.parameters)
        replication.run(job, cluster.context(timeout=100))
    for each in files:
        (volume_id,) = each.volume_ids
        holders = cluster.locations(volume_id)
        assert len(holders) == 2
        assert len({server.rack for server in holders}) == (1 if placement == "001" else 2)
        assert not any(is_read_only(cluster, server, volume_id) for server in holders)
        cluster.check(each)
    cluster.settle()
    assert look(cluster).proposals == []


def test_a_fault_is_proposed_only_once_it_has_lasted(cluster: Cluster) -> None:
    files = cluster.fill(3, replication="001", servers=cluster.servers[:1])
    (volume_id,) = files.volume_ids
    request = DetectionRequest("replication", {"min_fault_age_seconds": 600}, ())
    found = replication.detect(request, cluster.context())
    assert found.proposals == []
    assert [(skipped.volume_id, skipped.key) for skipped in found.skipped] == [(volume_id, "too fresh")]
    assert "has 1 of 2 copies" in found.skipped[0].reason
    assert len(look(cluster).proposals) == 1


def test_a_repaired_volume_needs_nothing_more(cluster: Cluster) -> None:
    files = cluster.fill(5, replication="001", servers=cluster.servers[:1])
    (volume_id,) = files.volume_ids
    first = repair(cluster, volume_id)
    assert first.outputs["copies"] == 2
    assert "copied to" in first.summary
    again = repair(cluster, volume_id)
    assert "which agree; nothing to do" in again.summary
    assert len(cluster.locations(volume_id)) == 2
    cluster.check(files)


def test_a_surplus_copy_is_kept_unless_it_may_be_deleted(cluster: Cluster) -> None:
    files = cluster.fill(8, replication="001", servers=cluster.servers)
    (volume_id,) = files.volume_ids
    assert "delete_surplus is off" in repair(cluster, volume_id).summary
    assert len(cluster.locations(volume_id)) == 3
    assert [skipped.key for skipped in look(cluster).skipped] == ["over-replicated"]

    assert len(look(cluster, delete_surplus=True).proposals) == 1
    result = repair(cluster, volume_id, delete_surplus=True)
    assert result.outputs["copies"] == 2
    eventually(lambda: len(cluster.locations(volume_id)) == 2)
    assert not any(is_read_only(cluster, server, volume_id) for server in cluster.locations(volume_id))
    cluster.check(files)


def test_a_surplus_copy_is_kept_where_the_others_are_read_only(cluster: Cluster) -> None:
    files = cluster.fill(4, replication="000", servers=cluster.servers[:2])
    (volume_id,) = files.volume_ids
    for server in cluster.servers[:2]:
        cluster.volume(server).volume_mark_readonly(volume_id=volume_id)
    cluster.settle()
    assert "read-only" in repair(cluster, volume_id, delete_surplus=True).summary
    assert len(cluster.locations(volume_id)) == 2
    assert all(is_read_only(cluster, server, volume_id) for server in cluster.servers[:2])


def test_the_writable_replica_is_the_one_that_stays(cluster: Cluster) -> None:
    files = cluster.fill(4, replication="000", servers=cluster.servers[:2])
    (volume_id,) = files.volume_ids
    cluster.volume(cluster.servers[0]).volume_mark_readonly(volume_id=volume_id)
    cluster.settle()
    repair(cluster, volume_id, delete_surplus=True)
    eventually(lambda: cluster.locations(volume_id) == [cluster.servers[1]])
    assert not is_read_only(cluster, cluster.servers[1], volume_id)
    cluster.check(files)


def test_a_misplaced_copy_is_deleted_after_a_better_one_is_there(racks: Cluster) -> None:
    first, _second, same_rack, _fourth = racks.servers
    files = racks.fill(6, replication="010", servers=[first, same_rack])
    (volume_id,) = files.volume_ids
    assert "delete_surplus is off" in repair(racks, volume_id).summary
    repair(racks, volume_id, delete_surplus=True)
    holders = eventually(lambda: servers if len(servers := racks.locations(volume_id)) == 2 else [])
    assert {server.rack for server in holders} == {"r1", "r2"}
    racks.check(files)


def test_replicas_that_differ_are_reported_and_nothing_is_changed(cluster: Cluster) -> None:
    files = cluster.fill(10, replication="000", servers=cluster.servers[:2])
    (volume_id,) = files.volume_ids
    extra = Files()
    cluster.write(extra, volume_id, 3, 500, cluster.servers[:1])
    cluster.settle()
    with pytest.raises(Mismatch, match=f"volume {volume_id}: replicas on .* and .* differ in 3 needles; nothing was"):
        repair(cluster, volume_id, delete_surplus=True)
    assert len(cluster.locations(volume_id)) == 2
    assert not any(is_read_only(cluster, server, volume_id) for server in cluster.servers[:2])
    for fid in extra:
        cluster.read(fid, cluster.servers[0])


def test_detection_reports_replicas_that_differ(cluster: Cluster) -> None:
    files = cluster.fill(10, replication="001", servers=cluster.servers[:2])
    (volume_id,) = files.volume_ids
    cluster.write(Files(), volume_id, 2, 500, cluster.servers[:1])
    cluster.settle()
    eventually(lambda: len({r.file_count for r in cluster.topology().replicas(volume_id)}) == 2, timeout=20)
    found = look(cluster)
    assert [(skipped.volume_id, skipped.key) for skipped in found.skipped] == [(volume_id, "diverged")]
    assert "differ in 2 needles" in found.skipped[0].reason
    assert found.proposals == []
    assert [proposal.parameters["fault"] for proposal in look(cluster, reconcile=True).proposals] == ["diverged"]


def test_reconciling_brings_missed_writes_and_deletions_but_no_deleted_file_back(cluster: Cluster) -> None:
    first, second = cluster.servers[:2]
    files = cluster.fill(12, replication="001", servers=[first, second])
    (volume_id,) = files.volume_ids
    on_first, on_second = Files(), Files()
    cluster.write(on_first, volume_id, 3, 700, [first])
    cluster.write(on_second, volume_id, 2, 700, [second])
    gone = list(files)[:2]
    cluster.delete(gone[:1], [first])
    cluster.delete(gone[1:], [second])
    result = repair(cluster, volume_id, reconcile=True)
    assert "5 needles written and 2 deleted" in result.summary
    for fid in gone:
        files.pop(fid)
        files.deleted.add(fid)
    files.update(on_first)
    files.update(on_second)
    cluster.check(files)
    assert not any(is_read_only(cluster, server, volume_id) for server in (first, second))
    assert "nothing to do" in repair(cluster, volume_id).summary


def test_a_needle_that_a_vacuumed_replica_lacks_is_left_alone(cluster: Cluster) -> None:
    first, second = cluster.servers[:2]
    files = cluster.fill(12, replication="001", servers=[first, second])
    (volume_id,) = files.volume_ids
    gone = next(iter(files))
    cluster.delete([gone], [second])
    client = cluster.volume(second)
    list(client.vacuum_volume_compact(volume_id=volume_id))
    client.vacuum_volume_commit(volume_id=volume_id)
    with pytest.raises(Mismatch, match="differ in 1 needle;"):
        repair(cluster, volume_id, reconcile=True)
    cluster.read(gone, first)
    with pytest.raises(AssertionError, match="404"):
        cluster.read(gone, second)


def test_a_copy_is_made_from_the_replica_that_has_everything(cluster: Cluster) -> None:
    first, second, third = cluster.servers
    files = cluster.fill(10, replication="002", servers=[first, second])
    (volume_id,) = files.volume_ids
    cluster.write(files, volume_id, 2, 400, [second])
    result = repair(cluster, volume_id)
    assert "differ in 2 needles" in result.summary
    for fid in files:
        cluster.read(fid, third)


def test_a_job_for_a_volume_that_is_gone_is_stale(cluster: Cluster) -> None:
    with pytest.raises(StaleTask, match="knows no replica of volume 77"):
        repair(cluster, 77)
    with pytest.raises(BadTask, match="volume_id"):
        repair(cluster, 0)


def test_a_target_that_cannot_take_the_copy_is_refused_with_the_reason(racks: Cluster) -> None:
    first, second, same_rack, _fourth = racks.servers
    files = racks.fill(2, replication="010", servers=[first])
    (volume_id,) = files.volume_ids
    params = worker_pb2.TaskParams(volume_id=volume_id, targets=[worker_pb2.TaskTarget(node=str(same_rack.address))])
    with pytest.raises(StaleTask, match="wants no further copy in rack r1"):
        replication.run(job_for(volume_id, params), racks.context())
    params.targets[0].node = str(second.address)
    replication.run(job_for(volume_id, params), racks.context())
    assert racks.locations(volume_id) == [first, second]


def test_a_wanted_number_of_copies_beyond_the_placement_is_made(cluster: Cluster) -> None:
    files = cluster.fill(2, replication="000", servers=cluster.servers[:1])
    (volume_id,) = files.volume_ids
    params = worker_pb2.TaskParams(
        volume_id=volume_id,
        replication_params=worker_pb2.ReplicationTaskParams(replica_count=2, verify_consistency=True),
    )
    replication.run(job_for(volume_id, params), cluster.context())
    assert len(cluster.locations(volume_id)) == 2
    cluster.check(files)


def test_no_acknowledged_write_is_lost_while_a_misplaced_copy_is_replaced(racks: Cluster) -> None:
    first, _second, same_rack, _fourth = racks.servers
    files = racks.fill(6, replication="010", servers=[first, same_rack])
    (volume_id,) = files.volume_ids
    acknowledged: dict[str, bytes] = {}
    ended = threading.Event()

    def write() -> None:
        for number in range(1, 100_000):
            if ended.is_set():
                return
            fid, data = f"{volume_id},{0x10000 + number:x}0badcafe", b"written meanwhile %d" % number
            status, _answer = request(first.address, "PUT", f"/{fid}", data)
            if status not in (200, 201):
                return  # frozen
            acknowledged[fid] = data
            ended.wait(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        eventually(lambda: len(acknowledged) > 3)
        repair(racks, volume_id, delete_surplus=True, reconcile=True)
    finally:
        ended.set()
        writer.join()
    holders = eventually(lambda: servers if len(servers := racks.locations(volume_id)) == 2 else [])
    assert {server.rack for server in holders} == {"r1", "r2"}
    assert acknowledged
    for fid, data in acknowledged.items():
        for server in holders:
            assert racks.read(fid, server) == data
    racks.check(files)
