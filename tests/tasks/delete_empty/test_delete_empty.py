"""Deleting empty volumes: all replicas or none, never one with a file, whoever dies on the way."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from proto_gen import worker_pb2
from tests.support import eventually
from tests.support.cluster import OPTIONS, Cluster, Files, Server, request
from tests.support.dying import DyingWorker, at_event, moments, occurrences, sample
from tests.support.rpcs import CHANGING, changes_seen, see_nothing_yet
from weed_cluster.address import Address
from weed_core.errors import BadTask, ServerFailed, StaleTask, TaskError
from weed_core.model import DetectionRequest, Job, Result
from weed_safety import late_writes
from weed_safety.journal import Journal
from weed_tasks import delete_empty
from weed_tasks.delete_empty.plan import QUIET


def job_for(volume_id: int, **wishes: Any) -> Job:
    params = worker_pb2.TaskParams(volume_id=volume_id)
    return Job(f"delete-{volume_id}", "delete_empty", params, {QUIET: 0, late_writes.NAME: 0, **wishes})


def run(cluster: Cluster, job: Job, **options: Any) -> Result:
    entry = Journal.memory(job.id, job.type)
    try:
        return delete_empty.run(job, cluster.context(entry, **options))
    finally:
        assert entry.open == []


def emptied(cluster: Cluster, servers: Sequence[Server]) -> tuple[int, Files]:
    """A volume of which all files were deleted, and of which the masters know it."""
    files = cluster.fill(4, servers=servers, replication=f"00{len(servers) - 1}")
    cluster.delete(list(files))
    cluster.settle()
    return files.volume_ids[0], files


def is_whole(cluster: Cluster, volume_id: int, servers: Sequence[Server]) -> bool:
    """Whether the volume is where it was, and takes writes."""
    try:
        shut = [cluster.volume(server).volume_status(volume_id=volume_id).is_read_only for server in servers]
    except ServerFailed:
        return False
    return not any(shut) and cluster.locations(volume_id) == list(servers)


def is_gone(cluster: Cluster, volume_id: int) -> bool:
    """Whether nothing of the volume is left, at the masters and on any disk."""
    return not cluster.locations(volume_id) and not any(server.files(f"{volume_id}.*") for server in cluster.servers)


def test_a_volume_without_a_file_goes_from_all_its_servers(cluster: Cluster) -> None:
    volume_id = cluster.allocate(cluster.servers[:2], replication="001")
    cluster.settle()
    told = run(cluster, job_for(volume_id))
    assert set(told.outputs["replicas"]) == {str(server.address) for server in cluster.servers[:2]}  # type: ignore[arg-type]
    eventually(lambda: is_gone(cluster, volume_id))


def test_a_volume_whose_files_were_all_deleted_is_vacuumed_and_goes(cluster: Cluster) -> None:
    volume_id, files = emptied(cluster, cluster.servers[:2])
    assert int(run(cluster, job_for(volume_id)).outputs["reclaimed_bytes"]) > 4 * 2000  # type: ignore[arg-type]
    eventually(lambda: is_gone(cluster, volume_id))
    cluster.check(files)


def test_a_look_finds_what_a_job_then_deletes(cluster: Cluster) -> None:
    volume_id, _files = emptied(cluster, cluster.servers[:2])
    request = DetectionRequest("delete_empty", {QUIET: 0, late_writes.NAME: 0}, (), volume_id=volume_id)
    (proposal,) = delete_empty.detect(request, cluster.context()).proposals
    run(cluster, Job(proposal.id, "delete_empty", proposal.params, proposal.parameters))
    eventually(lambda: is_gone(cluster, volume_id))


def test_a_file_that_only_one_replica_has_keeps_them_all(cluster: Cluster) -> None:
    servers = cluster.servers[:2]
    volume_id = cluster.allocate(servers, replication="001")
    files = Files()
    cluster.write(files, volume_id, 1, 300, servers[1:])
    cluster.settle()
    with pytest.raises(StaleTask, match=r"holds 1 files"):
        run(cluster, job_for(volume_id))
    assert is_whole(cluster, volume_id, servers)
    assert cluster.read(next(iter(files)), servers[1])


def test_a_volume_that_was_written_to_lately_stays(cluster: Cluster) -> None:
    volume_id, _files = emptied(cluster, cluster.servers[:1])
    with pytest.raises(StaleTask, match=r"was written to \d+ s ago on .* less than 86400 s; nothing was touched"):
        run(cluster, job_for(volume_id, **{QUIET: 86400}))
    assert is_whole(cluster, volume_id, cluster.servers[:1])


def test_a_volume_short_of_a_copy_stays(cluster: Cluster) -> None:
    a, b = cluster.servers[:2]
    volume_id = cluster.allocate([a, b], replication="001")
    cluster.volume(b).volume_delete(volume_id=volume_id)
    eventually(lambda: cluster.locations(volume_id) == [a])
    cluster.settle()
    with pytest.raises(StaleTask, match="should have 2 copies"):
        run(cluster, job_for(volume_id))
    assert is_whole(cluster, volume_id, [a])


def test_a_volume_that_is_read_only_for_a_reason_nobody_can_tell_stays(cluster: Cluster) -> None:
    a = cluster.servers[0]
    volume_id = cluster.allocate([a])
    other = cluster.allocate([a])  # else the disk would be the reason
    cluster.volume(a).volume_mark_readonly(volume_id=volume_id)
    cluster.settle()
    with pytest.raises(StaleTask, match="nobody can tell why"):
        run(cluster, job_for(volume_id))
    assert cluster.locations(volume_id) == cluster.locations(other) == [a]


def test_a_volume_that_is_nowhere_and_a_job_without_one_are_refused(cluster: Cluster) -> None:
    with pytest.raises(StaleTask, match="is on no server any more"):
        run(cluster, job_for(4711))
    with pytest.raises(BadTask, match="names no volume"):
        run(cluster, job_for(0))


def test_who_was_given_an_id_in_it_and_writes_late_is_refused_until_it_is_gone(cluster: Cluster) -> None:
    a = cluster.servers[0]
    volume_id = cluster.allocate([a])
    cluster.settle()
    stages: list[str] = []
    context = cluster.context()
    context.report = lambda _fraction, stage, _figures: stages.append(stage)
    job = threading.Thread(target=delete_empty.run, args=(job_for(volume_id, **{late_writes.NAME: 3}), context))
    job.start()
    eventually(lambda: any("refusing writes for" in stage for stage in stages))
    status, _answer = request(a.address, "PUT", f"/{volume_id},0112345678", b"late")
    assert status >= 400
    job.join(30)
    eventually(lambda: is_gone(cluster, volume_id))


def test_a_dry_run_looks_and_changes_nothing(sandbox_cluster: Cluster) -> None:
    cluster = sandbox_cluster
    volume_id, _files = emptied(cluster, cluster.servers[:2])
    see_nothing_yet(cluster)
    assert "would delete" in run(cluster, job_for(volume_id), dry_run=True).summary
    assert changes_seen(cluster) == []
    assert is_whole(cluster, volume_id, cluster.servers[:2])


# ---- dying on the way


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIONS, "compaction_rests_seconds", 0.2)


def check_all_or_none(cluster: Cluster, volume_id: int, servers: Sequence[Server], job: Job, directory: Path) -> None:
    """Behind an undo the volume is whole and takes writes, or gone; and the job run again ends what it began."""
    eventually(lambda: is_whole(cluster, volume_id, servers) or is_gone(cluster, volume_id))
    cluster.settle()
    with suppress(StaleTask):
        DyingWorker(cluster, directory).run(delete_empty.run, job)
    eventually(lambda: is_gone(cluster, volume_id))


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("_impatient")
def test_a_worker_killed_at_any_call_leaves_all_replicas_or_none(cluster: Cluster, tmp_path: Path) -> None:
    servers = cluster.servers[:2]
    whole = DyingWorker(cluster, tmp_path / "whole")
    volume_id, _files = emptied(cluster, servers)
    whole.run(delete_empty.run, job_for(volume_id))
    for at in sample(moments(whole.events, all_of_them=False), 3):
        volume_id, _files = emptied(cluster, servers)
        job, directory = job_for(volume_id), tmp_path / str(at)
        DyingWorker(cluster, directory, at_event(at)).run(delete_empty.run, job)
        DyingWorker(cluster, directory).clear_up(delete_empty.recover)
        check_all_or_none(cluster, volume_id, servers, job, directory)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("_impatient")
def test_a_failure_at_any_call_leaves_all_replicas_or_none(sandbox_cluster: Cluster, tmp_path: Path) -> None:
    cluster = sandbox_cluster
    servers = cluster.servers[:2]
    whole = DyingWorker(cluster, tmp_path / "whole")
    volume_id, _files = emptied(cluster, servers)
    whole.run(delete_empty.run, job_for(volume_id))
    for number, (server, call, nth) in enumerate(sample(occurrences(whole.events), 3)):
        for code, when in (("UNKNOWN", "before"), ("UNAVAILABLE", "after"))[: 2 if call in CHANGING else 1]:
            volume_id, _files = emptied(cluster, servers)
            job, directory = job_for(volume_id), tmp_path / f"{number}{when}"
            address = Address.parse(server)
            cluster.faults(address).fail(call, nth=nth, code=code, when=when)
            worker = DyingWorker(cluster, directory)
            with suppress(TaskError):
                worker.run(delete_empty.run, job)
            assert worker.met(server, call, code), f"no {call} of {server} failed"
            cluster.faults(address).clear()
            DyingWorker(cluster, directory).clear_up(delete_empty.recover)
            check_all_or_none(cluster, volume_id, servers, job, directory)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_killed_at_any_deletion_leaves_all_replicas_or_none(
    sandbox_cluster: Cluster, tmp_path: Path, when: str
) -> None:
    cluster = sandbox_cluster
    servers = cluster.servers[:2]
    for number, server in enumerate(servers):
        volume_id = cluster.allocate(servers, replication="001")
        cluster.settle()
        job, directory = job_for(volume_id), tmp_path / str(number)
        cluster.faults(server).kill_at("VolumeDelete", when=when)
        with pytest.raises(TaskError):
            DyingWorker(cluster, directory).run(delete_empty.run, job)
        eventually(lambda server=server: not server.alive)  # type: ignore[misc]
        cluster.start()
        DyingWorker(cluster, directory).clear_up(delete_empty.recover)
        check_all_or_none(cluster, volume_id, servers, job, directory)


def test_a_volume_that_went_stays_away_when_its_servers_start_again(cluster: Cluster) -> None:
    servers = cluster.servers[:2]
    volume_id = cluster.allocate(servers, replication="001")
    cluster.settle()
    run(cluster, job_for(volume_id))
    for server in servers:
        server.stop()
    cluster.start()
    assert is_gone(cluster, volume_id)
