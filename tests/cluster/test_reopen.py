"""Opening what somebody left read-only: all replicas together, and only when they are equal."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.cluster import OPTIONS, Cluster, request
from weed_core.errors import Mismatch, StaleTask
from weed_safety.journal import Journal
from weed_tasks.reopen import reopen


def read_only(cluster: Cluster, volume_id: int) -> list[bool]:
    return [
        cluster.volume(server).volume_status(volume_id=volume_id).is_read_only
        for server in cluster.locations(volume_id)
    ]


def test_a_volume_left_half_read_only_is_opened_on_all_its_servers(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    cluster.volume(a).volume_mark_readonly(volume_id=volume_id, persist=True)
    cluster.options["remembered_seconds"] = 1.0  # for servers that cannot be made to forget
    entry = Journal.memory("undo", "replication", volume_id)
    said = reopen(cluster.context(entry), volume_id, None)
    assert said.startswith(f"volume {volume_id}: 2 equal replicas on {a.address} and {b.address} are writable")
    assert read_only(cluster, volume_id) == [False, False]
    assert entry.open == []
    assert request(a.address, "PUT", f"/{volume_id},f100000001", b"data")[0] == 201
    assert cluster.read(f"{volume_id},f100000001", b) == b"data"
    cluster.check(files)


def test_replicas_that_differ_are_left_as_they_are(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    cluster.write(cluster.fill(volumes=[volume_id], count=0), volume_id, 2, 100, [b])
    cluster.volume(a).volume_mark_readonly(volume_id=volume_id, persist=True)
    entry = Journal.memory("undo", "replication", volume_id)
    with pytest.raises(Mismatch, match=rf"differ in 2 needles, so it was not opened; .* -volumeId={volume_id} "):
        reopen(cluster.context(entry), volume_id, None)
    assert read_only(cluster, volume_id) == [True, False]
    assert entry.open == []


def test_a_volume_that_lacks_a_copy_or_is_open_is_not_touched(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    (alone,) = cluster.fill(servers=[a], replication="001").volume_ids
    cluster.volume(a).volume_mark_readonly(volume_id=alone, persist=True)
    with pytest.raises(Mismatch, match=f"volume {alone} has 1 of 2 copies"):
        reopen(cluster.context(), alone, None)
    (open_one,) = cluster.fill(servers=[a, b], replication="001").volume_ids
    with pytest.raises(StaleTask, match="nothing to open"):
        reopen(cluster.context(), open_one, None)
    assert read_only(cluster, alone) == [True]


def test_where_servers_cannot_forget_the_volume_is_opened_when_their_time_is_over(
    make_sandbox_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIONS, "remembered_seconds", 1.0)
    cluster = make_sandbox_cluster(era="4.13")
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    cluster.volume(a).volume_mark_readonly(volume_id=volume_id)
    stages: list[str] = []
    ctx = cluster.context()
    ctx.report = lambda _fraction, stage, _figures: stages.append(stage)
    reopen(ctx, volume_id, None)
    assert any("until servers know its replicas" in stage for stage in stages)
    assert read_only(cluster, volume_id) == [False, False]
    cluster.check(files)
