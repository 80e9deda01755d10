"""A bad replica is made anew from one that proved sound; nothing goes that is not proved elsewhere."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from proto_gen.worker_pb2 import TaskParams
from tests.support.cluster import OPTIONS, Cluster, Files, Server, request
from tests.support.dying import EVERY, Death, DyingWorker, at_event, moments, never, sample
from tests.support.rpcs import changes_seen, see_nothing_yet
from tests.support.scrub import dat_of, scrub_all, spoil
from weed_core.errors import Mismatch, StaleTask
from weed_core.findings import REPLICA, Finding
from weed_core.model import Detection, DetectionRequest, Job, Result
from weed_core.shelf import Memory
from weed_safety import findings
from weed_safety.context import Context
from weed_tasks import replication

LONG_AGO = 3600.0


@pytest.fixture(autouse=True)
def _servers_forget_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers before 4.44 have a repaired volume stay read-only for ten minutes."""
    monkeypatch.setitem(OPTIONS, "remembered_seconds", 1.0)


def damaged(cluster: Cluster, *servers: Server, copies: int = 2) -> tuple[Files, int]:
    """A volume of some copies; on each of these servers a byte of another file is wrong."""
    files = cluster.fill(12, servers=cluster.servers[:copies], replication=f"00{copies - 1}")
    (volume_id,) = files.volume_ids
    cluster.age(volume_id, LONG_AGO)
    for number, server in enumerate(servers):
        spoil(cluster, list(files)[3 + number], server)
    cluster.settle()
    return files, volume_id


def detect(cluster: Cluster, ctx: Context, **config: int | bool) -> Detection:
    return replication.detect(DetectionRequest("replication", config, (str(cluster.master),)), ctx)


def job_of(found: Detection) -> Job:
    (proposal,) = found.proposals
    return Job(proposal.id, "replication", proposal.params, proposal.parameters)


def bad(volume_id: int, server: Server) -> Finding:
    return Finding(REPLICA, volume_id, server=str(server.address), found=1000.0, method="needles", words="it is bad")


def test_what_a_scrub_found_is_made_anew_on_another_server(any_cluster: Cluster) -> None:
    first, second, third = any_cluster.servers
    files, volume_id = damaged(any_cluster, second)
    good = dat_of(first, volume_id).read_bytes()
    ctx = any_cluster.context()
    scrub_all(any_cluster, ctx)
    found = detect(any_cluster, ctx)
    assert f"has a bad replica on {second.address}: 1 file cannot be read" in found.proposals[0].summary
    result = replication.run(job_of(found), ctx)
    assert f"copied to {third.address}; surplus copy on {second.address} deleted" in result.summary
    any_cluster.settle()
    assert any_cluster.locations(volume_id) == [first, third]
    assert dat_of(third, volume_id).read_bytes() == dat_of(first, volume_id).read_bytes() == good
    assert not second.files(f"{volume_id}.*")
    assert findings.read_all(ctx) == []
    any_cluster.check(files)
    for server in (first, third):
        assert not any_cluster.volume(server).volume_status(volume_id=volume_id).is_read_only
    assert "0 faults found" in scrub_all(any_cluster, ctx)[0].summary
    assert detect(any_cluster, ctx).proposals == []


def _params(volume_id: int) -> TaskParams:
    return TaskParams(volume_id=volume_id)


def test_of_three_replicas_a_bad_one_goes_only_where_another_can_be_made(sandbox_cluster: Cluster) -> None:
    third = sandbox_cluster.servers[2]
    _files, volume_id = damaged(sandbox_cluster, third, copies=3)
    ctx = sandbox_cluster.context()
    findings.note(ctx, bad(volume_id, third))
    found = detect(sandbox_cluster, ctx)
    assert found.proposals == []
    assert "no server may take another one: there is no other server" in found.skipped[0].reason
    with pytest.raises(StaleTask, match="no server may take another one"):
        replication.run(Job("x", "replication", _params(volume_id)), ctx)
    assert len(sandbox_cluster.locations(volume_id)) == 3
    assert len(findings.read_all(ctx)) == 1


def test_a_copy_too_many_that_is_bad_just_goes(sandbox_cluster: Cluster) -> None:
    first, second, third = sandbox_cluster.servers
    files = sandbox_cluster.fill(6, servers=[first, second], replication="001")
    (volume_id,) = files.volume_ids
    source = str(first.address)
    for _message in sandbox_cluster.volume(third).volume_copy(volume_id=volume_id, source_data_node=source):
        pass
    spoil(sandbox_cluster, next(iter(files)), second)
    sandbox_cluster.settle()
    ctx = sandbox_cluster.context()
    findings.note(ctx, bad(volume_id, second))
    result = replication.run(job_of(detect(sandbox_cluster, ctx)), ctx)
    assert f"surplus copy on {second.address} deleted" in result.summary
    sandbox_cluster.settle()
    assert sandbox_cluster.locations(volume_id) == [first, third]
    sandbox_cluster.check(files)


def test_a_replica_that_is_sound_after_all_stays(cluster: Cluster) -> None:
    files, volume_id = damaged(cluster)
    ctx = cluster.context()
    findings.note(ctx, bad(volume_id, cluster.servers[1]))
    assert "yet every file of it can be read now" in replication.run(job_of(detect(cluster, ctx)), ctx).summary
    assert cluster.locations(volume_id) == cluster.servers[:2]
    assert findings.read_all(ctx) == []
    cluster.check(files)


def test_nothing_goes_where_every_replica_is_bad_and_the_files_are_named(cluster: Cluster) -> None:
    first, second, _third = cluster.servers
    files, volume_id = damaged(cluster, first, second)
    ctx = cluster.context()
    findings.note(ctx, bad(volume_id, second))
    with pytest.raises(Mismatch, match="every replica has files that cannot be read") as raised:
        replication.run(job_of(detect(cluster, ctx)), ctx)
    assert all(fid in str(raised.value) for fid in list(files)[3:5])
    assert cluster.locations(volume_id) == [first, second]
    assert not cluster.volume(first).volume_status(volume_id=volume_id).is_read_only
    findings.note(ctx, bad(volume_id, first))
    (skipped,) = detect(cluster, ctx).skipped
    assert "no other replica is there that could make it good" in skipped.reason


def test_nothing_goes_where_another_replica_is_bad_than_the_one_that_was_told(cluster: Cluster) -> None:
    first, second, _third = cluster.servers
    _files, volume_id = damaged(cluster, first)
    ctx = cluster.context()
    findings.note(ctx, bad(volume_id, second))
    with pytest.raises(Mismatch, match="and not on"):
        replication.run(job_of(detect(cluster, ctx)), ctx)
    assert cluster.locations(volume_id) == [first, second]
    assert findings.read_all(ctx) == []  # what was told is wrong


def test_nothing_goes_that_has_a_file_which_no_other_replica_has(cluster: Cluster) -> None:
    first, second, _third = cluster.servers
    _files, volume_id = damaged(cluster, second)
    assert request(second.address, "PUT", f"/{volume_id},0123456789?type=replicate", b"only here")[0] == 201
    cluster.settle()
    ctx = cluster.context()
    findings.note(ctx, bad(volume_id, second))
    with pytest.raises(Mismatch, match="differ in 1 files that can be read; nothing was changed"):
        replication.run(job_of(detect(cluster, ctx)), ctx)
    assert cluster.locations(volume_id) == [first, second]
    assert len(findings.read_all(ctx)) == 1


def test_a_single_copy_is_left_and_said_to_be_past_help(sandbox_cluster: Cluster) -> None:
    files = sandbox_cluster.fill(3, servers=sandbox_cluster.servers[:1])
    ctx = sandbox_cluster.context()
    findings.note(ctx, bad(files.volume_ids[0], sandbox_cluster.servers[0]))
    found = detect(sandbox_cluster, ctx)
    assert found.proposals == []
    assert "no other replica is there" in found.skipped[0].reason


def test_a_dry_run_says_what_would_be_done(sandbox_cluster: Cluster) -> None:
    _files, volume_id = damaged(sandbox_cluster, sandbox_cluster.servers[1])
    ctx = sandbox_cluster.context(dry_run=True)
    findings.note(ctx, bad(volume_id, sandbox_cluster.servers[1]))
    found = detect(sandbox_cluster, ctx)
    see_nothing_yet(sandbox_cluster)
    told = replication.run(job_of(found), ctx).summary
    assert f"a copy would be made on {sandbox_cluster.servers[2].address}" in told
    assert changes_seen(sandbox_cluster) == []


def renewed(cluster: Cluster, directory: Path, dies: Death) -> DyingWorker:
    """A bad replica made anew by a worker that may die of it, and by others after it, to the end."""
    first, second, third = cluster.servers
    files, volume_id = damaged(cluster, second)
    shelf = Memory()
    ctx = replace(cluster.context(), findings=shelf)
    findings.note(ctx, bad(volume_id, second))

    def work(job: Job, context: Context) -> Result:
        return replication.run(job, replace(context, findings=shelf))

    job = job_of(detect(cluster, ctx))
    worker = DyingWorker(cluster, directory, dies)
    worker.run(work, job)
    if not dat_of(first, volume_id).exists():
        raise AssertionError("the sound replica is gone")
    DyingWorker(cluster, directory).clear_up(replication.recover)
    assert {str(one.placement) for one in cluster.topology().replicas(volume_id)} == {"001"}
    cluster.settle()
    with suppress(StaleTask):
        DyingWorker(cluster, directory).run(work, job)
    cluster.settle()
    assert cluster.locations(volume_id) == [first, third]
    assert [server for server in cluster.servers if server.files(f"{volume_id}.dat")] == [first, third]
    assert findings.read_all(ctx) == []
    cluster.check(files)
    for server in (first, third):
        assert not cluster.volume(server).volume_status(volume_id=volume_id).is_read_only
    return worker


def test_a_worker_that_dies_anywhere_leaves_what_the_next_one_makes_good(
    sandbox_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIONS, "still_seconds", 0.1)
    monkeypatch.setitem(OPTIONS, "reread_seconds", 0.1)
    events = renewed(sandbox_cluster, tmp_path / "whole", never).events
    for at in sample(moments(events, EVERY), 6):
        sandbox_cluster.reset()
        renewed(sandbox_cluster, tmp_path / str(at), at_event(at))
