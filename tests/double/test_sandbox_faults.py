"""The sandbox misbehaves as it is told, and tells what it saw; two quirks that real servers show only in a race."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.support import eventually
from tests.support.cluster import TIMING, Cluster
from weed_cluster.address import Address
from weed_core.errors import ServerFailed, ServerTimedOut


def test_a_call_fails_at_its_nth_time_only(sandbox_cluster: Cluster) -> None:
    server = sandbox_cluster.servers[0]
    volume_id = sandbox_cluster.allocate([server])
    sandbox_cluster.faults(server).fail("VolumeStatus", nth=2, code="INTERNAL", text="broken wire")
    client = sandbox_cluster.volume(server)
    client.volume_status(volume_id=volume_id)
    with pytest.raises(ServerFailed) as failure:
        client.volume_status(volume_id=volume_id)
    assert (failure.value.code, failure.value.detail) == ("INTERNAL", "broken wire")
    client.volume_status(volume_id=volume_id)


def test_a_call_that_fails_afterwards_has_taken_effect(sandbox_cluster: Cluster) -> None:
    server = sandbox_cluster.servers[0]
    volume_id = sandbox_cluster.allocate([server])
    sandbox_cluster.faults(server).fail("VolumeDelete", when="after")
    with pytest.raises(ServerFailed):
        sandbox_cluster.volume(server).volume_delete(volume_id=volume_id)
    assert server.files(f"{volume_id}.*") == []


def test_a_call_that_hangs_ends_at_its_deadline_and_is_let_go_when_cleared(sandbox_cluster: Cluster) -> None:
    server = sandbox_cluster.servers[0]
    volume_id = sandbox_cluster.allocate([server])
    client = sandbox_cluster.volume(server)
    sandbox_cluster.faults(server).hang("VolumeMarkWritable", nth=0)
    with pytest.raises(ServerTimedOut):
        client.volume_mark_writable(volume_id=volume_id, timeout=0.3)
    sandbox_cluster.faults(server).clear()
    client.volume_mark_writable(volume_id=volume_id, timeout=5)


def test_a_slow_call_is_answered_late(sandbox_cluster: Cluster) -> None:
    server = sandbox_cluster.servers[0]
    sandbox_cluster.faults(server).slow("Ping", seconds=0.4)
    start = time.monotonic()
    sandbox_cluster.volume(server).ping()
    assert time.monotonic() - start >= 0.4


@pytest.mark.parametrize(("when", "left"), [("before", 3), ("after", 0)])
def test_a_server_dies_before_or_after_a_call_took_effect(sandbox_cluster: Cluster, when: str, left: int) -> None:
    server = sandbox_cluster.servers[0]
    volume_id = sandbox_cluster.allocate([server])
    sandbox_cluster.faults(server).kill_at("VolumeDelete", when=when)
    with pytest.raises(ServerFailed):
        sandbox_cluster.volume(server).volume_delete(volume_id=volume_id)
    eventually(lambda: not server.alive)
    assert len(server.files(f"{volume_id}.*")) == left
    eventually(lambda: not sandbox_cluster.locations(volume_id))
    sandbox_cluster.start()
    eventually(lambda: bool(sandbox_cluster.locations(volume_id)) == bool(left))


def test_a_copy_that_died_in_its_middle_leaves_nothing_after_a_restart(sandbox_cluster: Cluster) -> None:
    source, target = sandbox_cluster.servers[:2]
    files = sandbox_cluster.fill(count=4, size=1 << 20, servers=[source])
    volume_id = files.volume_ids[0]
    sandbox_cluster.faults(source).kill_at("CopyFile", when="during")
    with pytest.raises(ServerFailed):
        list(sandbox_cluster.volume(target).volume_copy(volume_id=volume_id, source_data_node=str(source.address)))
    eventually(lambda: not source.alive)
    assert target.files() == []
    sandbox_cluster.start()
    eventually(lambda: sandbox_cluster.locations(volume_id) == [source])
    sandbox_cluster.check(files)


def test_the_calls_a_server_saw_are_told_with_their_requests(sandbox_cluster: Cluster) -> None:
    server = sandbox_cluster.servers[0]
    volume_id = sandbox_cluster.allocate([server])
    sandbox_cluster.faults(server).clear()
    sandbox_cluster.volume(server).volume_mark_readonly(volume_id=volume_id, persist=True)
    assert sandbox_cluster.calls(server) == [("VolumeMarkReadonly", {"volume_id": volume_id, "persist": True})]


def test_a_freeze_needs_a_master(sandbox_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TIMING, "election", 0.0)
    server = sandbox_cluster.servers[0]
    volume_id = sandbox_cluster.allocate([server])
    sandbox_cluster.faults(sandbox_cluster.master).fail("VolumeMarkReadonly", nth=2)
    with pytest.raises(ServerFailed, match="with master"):
        sandbox_cluster.volume(server).volume_mark_readonly(volume_id=volume_id)
    assert sandbox_cluster.volume(server).volume_status(volume_id=volume_id).is_read_only


@pytest.mark.parametrize("era", ["3.97", "4.13", "4.44"])
def test_a_commit_into_somebody_elses_compaction(make_sandbox_cluster: Callable[..., Cluster], era: str) -> None:
    cluster = make_sandbox_cluster(servers=1, era=era)
    server = cluster.servers[0]
    files = cluster.fill(count=20)
    volume_id = files.volume_ids[0]
    client = cluster.volume(server)
    cluster.delete(list(files)[:10])
    cluster.faults(server).compacting(volume_id)

    assert list(client.vacuum_volume_compact(volume_id=volume_id)) == []
    if era == "4.44":
        client.vacuum_volume_commit(volume_id=volume_id)
        assert client.read_volume_file_status(volume_id=volume_id).compaction_revision == 0
        cluster.check(files)
    else:
        size = (server.data_dir / f"{volume_id}.dat").stat().st_size
        with pytest.raises(ServerFailed, match="no such file"):
            client.vacuum_volume_commit(volume_id=volume_id)
        assert (server.data_dir / f"{volume_id}.dat").stat().st_size < size


def test_calls_follow_the_leader(make_sandbox_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TIMING, "settle", 0.0)
    cluster = make_sandbox_cluster(servers=1, masters=3)
    files = cluster.fill()
    follower = cluster.masters[1].address
    client = cluster.clients().master()
    assert Address.parse(client.get_master_configuration().leader) == cluster.master
    cluster.lead(follower)
    cluster.ready()
    eventually(lambda: cluster.locations(files.volume_ids[0]))
    client.volume_list()
    assert client.address == follower
    cluster.check(files)
