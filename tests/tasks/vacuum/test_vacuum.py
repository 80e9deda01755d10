"""Vacuuming: garbage goes, files stay, on every replica alike; and nobody else's compaction is taken for one's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proto_gen import worker_pb2
from tests.support import eventually
from tests.support.cluster import OPTIONS, TIMING, Cluster, Files, Kind, Server, request, start_cluster
from tests.support.dying import DyingWorker, at_event, moments, occurrences, sample
from tests.support.rpcs import CHANGING, changes_seen, see_nothing_yet
from tests.support.scrub import spoil
from weed_cluster.address import Address
from weed_cluster.masters import Masters
from weed_core.errors import BadTask, Busy, Cancelled, Mismatch, StaleTask, TaskError
from weed_core.model import DetectionRequest, Job, Result
from weed_core.values import Value
from weed_safety import compaction
from weed_safety.context import Context
from weed_safety.journal import Journal
from weed_safety.steps import plan
from weed_sandbox.launcher import Launcher
from weed_storage.needle import SUPER_BLOCK_SIZE
from weed_tasks import vacuum


def job_for(cluster: Cluster, volume_id: int, servers: Sequence[Server], **wishes: Any) -> Job:
    params = worker_pb2.TaskParams(
        volume_id=volume_id,
        sources=[worker_pb2.TaskSource(node=str(server.address), volume_id=volume_id) for server in servers],
        vacuum_params=worker_pb2.VacuumTaskParams(**{"garbage_threshold": 0.3, "verify_checksum": True, **wishes}),
    )
    return Job(f"vacuum-{volume_id}", "vacuum", params)


def run(cluster: Cluster, job: Job) -> Result:
    entry = Journal.memory(job.id, job.type)
    result = vacuum.run(job, cluster.context(journal=entry))
    assert entry.open == []
    return result


def half_deleted(cluster: Cluster, servers: Sequence[Server], count: int = 30, **wishes: Any) -> tuple[int, Files]:
    replication = f"00{len(servers) - 1}"
    wishes = {"size": (1000, 5000), **wishes}
    files = cluster.fill(count=count, servers=servers, replication=replication, **wishes)
    cluster.delete(list(files)[::2])
    return files.volume_ids[0], files


def size_on(cluster: Cluster, server: Server, volume_id: int) -> int:
    return cluster.volume(server).read_volume_file_status(volume_id=volume_id).dat_file_size


def revision_on(cluster: Cluster, server: Server, volume_id: int) -> int:
    return cluster.volume(server).read_volume_file_status(volume_id=volume_id).compaction_revision


def is_read_only(cluster: Cluster, server: Server, volume_id: int) -> bool:
    return cluster.volume(server).volume_status(volume_id=volume_id).is_read_only


def test_a_vacuum_shrinks_every_replica_and_keeps_every_file(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    volume_id, files = half_deleted(cluster, [a, b], collection="pictures")
    before = size_on(cluster, a, volume_id)
    result = run(cluster, job_for(cluster, volume_id, [a]))
    for server in (a, b):
        assert size_on(cluster, server, volume_id) < 0.7 * before
        assert revision_on(cluster, server, volume_id) == 1
        assert server.files("*.cp*") == []
        assert not is_read_only(cluster, server, volume_id)
    assert int(result.outputs["reclaimed_bytes"]) > 0  # type: ignore[arg-type]
    cluster.check(files)
    cluster.write(files, volume_id, 5, 700, [a, b])
    cluster.check(files)
    for server in (a, b):
        server.kill()
    cluster.start()
    cluster.check(files)


def test_a_volume_whose_files_were_all_deleted_is_vacuumed(cluster: Cluster) -> None:
    a = cluster.servers[0]
    files = cluster.fill(count=4, servers=[a])
    (volume_id,) = files.volume_ids
    cluster.delete(list(files))
    run(cluster, job_for(cluster, volume_id, [a]))
    assert size_on(cluster, a, volume_id) == SUPER_BLOCK_SIZE
    cluster.check(files)


def test_a_second_vacuum_finds_nothing_to_do(cluster: Cluster) -> None:
    a = cluster.servers[0]
    volume_id, files = half_deleted(cluster, [a])
    run(cluster, job_for(cluster, volume_id, [a]))
    assert "needs no vacuum" in run(cluster, job_for(cluster, volume_id, [a])).summary
    assert revision_on(cluster, a, volume_id) == 1
    cluster.check(files)


def test_a_forced_vacuum_runs_below_the_threshold(cluster: Cluster) -> None:
    a = cluster.servers[0]
    files = cluster.fill(servers=[a])
    (volume_id,) = files.volume_ids
    run(cluster, job_for(cluster, volume_id, [a], force_vacuum=True))
    assert revision_on(cluster, a, volume_id) == 1
    cluster.check(files)


def test_a_volume_vacuumed_twice_has_both_revisions(cluster: Cluster) -> None:
    a = cluster.servers[0]
    volume_id, files = half_deleted(cluster, [a])
    run(cluster, job_for(cluster, volume_id, [a]))
    cluster.delete(list(files)[::2])
    run(cluster, job_for(cluster, volume_id, [a]))
    assert revision_on(cluster, a, volume_id) == 2
    cluster.check(files)


def test_a_volume_that_is_read_only_for_a_reason_nobody_can_tell_is_refused_untouched(cluster: Cluster) -> None:
    a = cluster.servers[0]
    volume_id, files = half_deleted(cluster, [a])
    cluster.volume(a).volume_mark_readonly(volume_id=volume_id, persist=True)
    with pytest.raises(StaleTask, match="nobody can tell why"):
        run(cluster, job_for(cluster, volume_id, [a]))
    assert revision_on(cluster, a, volume_id) == 0
    assert is_read_only(cluster, a, volume_id)
    cluster.check(files)


def test_a_volume_short_of_a_copy_is_refused_untouched(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    volume_id, files = half_deleted(cluster, [a, b])
    cluster.volume(b).volume_delete(volume_id=volume_id)
    eventually(lambda: cluster.locations(volume_id) == [a])
    with pytest.raises(StaleTask, match="2 copies"):
        run(cluster, job_for(cluster, volume_id, [a, b]))
    assert revision_on(cluster, a, volume_id) == 0
    cluster.check(files)


def test_a_volume_that_is_gone_is_refused(cluster: Cluster) -> None:
    a = cluster.servers[0]
    with pytest.raises(StaleTask, match="no server holds it"):
        run(cluster, job_for(cluster, 4711, [a]))


def test_a_job_without_a_volume_is_refused(cluster: Cluster) -> None:
    with pytest.raises(BadTask, match="names no volume"):
        run(cluster, job_for(cluster, 0, []))


def test_another_collection_than_planned_is_refused(cluster: Cluster) -> None:
    a = cluster.servers[0]
    volume_id, _files = half_deleted(cluster, [a], collection="pictures")
    job = job_for(cluster, volume_id, [a])
    job.params.collection = "music"
    with pytest.raises(StaleTask, match="pictures"):
        run(cluster, job)


def test_a_job_of_plain_parameters_is_understood(cluster: Cluster) -> None:
    a = cluster.servers[0]
    volume_id, files = half_deleted(cluster, [a])
    plain: dict[str, Value] = {"volume_id": volume_id, "server": str(a.address), "collection": ""}
    run(cluster, Job("plain", "vacuum", worker_pb2.TaskParams(), parameters=plain))
    assert revision_on(cluster, a, volume_id) == 1
    cluster.check(files)


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(cluster: Cluster) -> None:
    a = cluster.servers[0]
    volume_id, _files = half_deleted(cluster, [a])
    result = vacuum.run(job_for(cluster, volume_id, [a]), cluster.context(dry_run=True))
    assert "would vacuum" in result.summary
    assert revision_on(cluster, a, volume_id) == 0
    assert a.files("*.cp*") == []


def test_what_a_dead_compaction_left_is_removed(cluster: Cluster) -> None:
    a = cluster.servers[0]
    volume_id, files = half_deleted(cluster, [a])
    list(cluster.volume(a).vacuum_volume_compact(volume_id=volume_id))
    assert a.files("*.cp*") != []
    run(cluster, job_for(cluster, volume_id, [a]))
    assert a.files("*.cp*") == []
    assert revision_on(cluster, a, volume_id) == 1
    cluster.check(files)


def test_a_replica_with_unreadable_files_is_not_committed(cluster: Cluster) -> None:
    a = cluster.servers[0]
    volume_id, files = half_deleted(cluster, [a])
    broken = list(files)[3]
    data = cluster.read(broken)
    a.kill()
    dat = a.data_dir / f"{volume_id}.dat"
    content = dat.read_bytes()
    dat.write_bytes(content.replace(data, bytes([data[0] ^ 1]) + data[1:]))
    cluster.start()
    with pytest.raises(Exception, match=r"would drop|CRC|corrupt|invalid|checksum"):
        run(cluster, job_for(cluster, volume_id, [a]))
    assert revision_on(cluster, a, volume_id) == 0
    assert a.files("*.cp*") == []
    del files[broken]
    cluster.check(files)


def test_a_file_that_cannot_be_read_after_the_commit_is_told_whichever_it_is(cluster: Cluster) -> None:
    a = cluster.servers[0]
    volume_id, files = half_deleted(cluster, [a], count=80)

    def at_the_end(_fraction: float, stage: str, _figures: object) -> None:
        if stage == "proving the result":
            spoil(cluster, list(files)[7], a)

    with pytest.raises(Mismatch, match=f"volume {volume_id} on .* is vacuumed, but broken"):
        vacuum.run(job_for(cluster, volume_id, [a]), replace(cluster.context(), report=at_the_end))


def test_a_commit_of_nothing_is_healed_by_recovery(cluster: Cluster, tmp_path: Path) -> None:
    a = cluster.servers[0]
    volume_id, files = half_deleted(cluster, [a])
    journal = Journal(tmp_path)
    entry = journal.open_entry("killed", "vacuum", volume_id)
    plan(entry, compaction.Compaction(a.address, volume_id, revision=0))
    with pytest.raises(Exception, match="VacuumVolumeCommit"):
        cluster.volume(a).vacuum_volume_commit(volume_id=volume_id)
    (found,) = journal.unfinished()
    vacuum.recover(found, cluster.context())
    found.close()
    assert journal.count() == 0
    eventually(lambda: cluster.locations(volume_id) == [a])
    cluster.check(files)
    run(cluster, job_for(cluster, volume_id, [a]))
    cluster.check(files)


def test_detection_proposes_what_has_garbage_and_says_why_not_of_the_rest(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    dirty, _files = half_deleted(cluster, [a, b], collection="pictures")
    clean = cluster.fill(servers=[b]).volume_ids[0]
    cluster.settle()
    config = {"node_filter": f"{a.address.http}"}
    found = vacuum.detect(DetectionRequest("vacuum", {}, ()), cluster.context())
    assert [proposal.params.volume_id for proposal in found.proposals] == [dirty]
    (proposal,) = found.proposals
    assert proposal.dedupe_key == f"vacuum:{dirty}:pictures"
    assert {source.node for source in proposal.params.sources} == {str(a.address), str(b.address)}
    (skip,) = found.skipped
    assert (skip.volume_id, skip.reason) == (clean, f"volume {clean}: 0% garbage, threshold 30%")
    scoped = vacuum.detect(DetectionRequest("vacuum", config, ()), cluster.context())
    # All replicas of a volume are vacuumed together, in scope or not.
    assert len(scoped.proposals[0].params.sources) == 2
    result = vacuum.run(Job("detected", "vacuum", scoped.proposals[0].params), cluster.context())
    assert "vacuumed" in result.summary


# ---- somebody else's compaction


def pretend_compaction(cluster: Cluster, server: Server, volume_id: int) -> None:
    status, answer = request(server.address, "POST", "/_control", json.dumps({"compacting": volume_id}).encode())
    assert status == 200, answer


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIONS, "compaction_rests_seconds", 0.2)
    monkeypatch.setitem(TIMING, "retry_pauses", (0.01, 0.02))


@pytest.mark.parametrize("era", ["3.97", "4.13", "4.44"])
@pytest.mark.usefixtures("_impatient")
def test_a_false_success_of_the_server_is_no_success(launcher: Launcher, tmp_path: Path, era: str) -> None:
    with closing(start_cluster(Kind(era), launcher, tmp_path / "cluster", servers=1)) as cluster:
        a = cluster.servers[0]
        volume_id, files = half_deleted(cluster, [a])
        somebody_begins = cluster.once("VacuumVolumeCompact", "", lambda: pretend_compaction(cluster, a, volume_id))
        with somebody_begins, pytest.raises(Busy, match="somebody else"):
            run(cluster, job_for(cluster, volume_id, [a]))
        cluster.faults(a).clear()
        cluster.check(files)
        run(cluster, job_for(cluster, volume_id, [a]))
        assert revision_on(cluster, a, volume_id) == 1
        cluster.check(files)


@pytest.mark.parametrize("era", ["3.97", "4.13"])
def test_the_masters_own_vacuum_is_held_off_where_it_would_destroy_data(
    launcher: Launcher, tmp_path: Path, era: str
) -> None:
    with closing(start_cluster(Kind(era), launcher, tmp_path / "cluster", servers=1)) as cluster:
        volume_id, _files = half_deleted(cluster, cluster.servers)
        worker = DyingWorker(cluster, tmp_path / "worker")
        vacuum.run(job_for(cluster, volume_id, cluster.servers), worker.context(Journal.memory()))
        assert worker.changes == ["DisableVacuum", "VacuumVolumeCompact", "VacuumVolumeCommit", "EnableVacuum"]


def test_a_master_that_takes_over_is_told_to_hold_off_its_own_vacuum_too(launcher: Launcher, tmp_path: Path) -> None:
    with closing(start_cluster(Kind("4.13"), launcher, tmp_path / "cluster", servers=1, masters=3)) as cluster:
        volume_id, files = half_deleted(cluster, cluster.servers)
        first, second, _third = (process.address for process in cluster.masters)
        cluster.lead(first)
        eventually(lambda: cluster.locations(volume_id) == cluster.servers)

        def the_leader_changes() -> None:
            assert cluster.holds_vacuum_off(first)
            cluster.lead(second)
            eventually(lambda: cluster.holds_vacuum_off(second), 20)

        with cluster.once("VacuumVolumeCommit", "", the_leader_changes):
            run(cluster, job_for(cluster, volume_id, cluster.servers))
        assert revision_on(cluster, cluster.servers[0], volume_id) == 1
        assert not any(cluster.holds_vacuum_off(process.address) for process in cluster.masters)
        cluster.check(files)


# ---- dying on the way


def check_at_rest(cluster: Cluster, files: Files, volume_id: int, servers: Sequence[Server]) -> None:
    for server in servers:
        assert server.files(f"{volume_id}.cp*") == []
        assert not is_read_only(cluster, server, volume_id)
    eventually(lambda: cluster.locations(volume_id) == list(servers))
    cluster.check(files)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("_impatient")
def test_a_worker_killed_at_any_call_of_a_vacuum_leaves_what_the_next_start_clears_up(
    cluster: Cluster, tmp_path: Path
) -> None:
    # At every call of one replica, or at the changes of two: calls to both at once come in any order.
    servers = cluster.servers[: 1 if cluster.kind == "sandbox" else 2]
    whole = DyingWorker(cluster, tmp_path / "whole")
    volume_id, _files = half_deleted(cluster, servers, 4, size=2000)
    whole.run(vacuum.run, job_for(cluster, volume_id, servers))
    for at in sample(moments(whole.events, all_of_them=cluster.kind == "sandbox"), 3):
        volume_id, files = half_deleted(cluster, servers, 4, size=2000)
        job, directory = job_for(cluster, volume_id, servers), tmp_path / str(at)
        DyingWorker(cluster, directory, at_event(at)).run(vacuum.run, job)
        DyingWorker(cluster, directory).clear_up(vacuum.recover)
        check_at_rest(cluster, files, volume_id, servers)
        DyingWorker(cluster, directory).run(vacuum.run, job)
        assert [revision_on(cluster, server, volume_id) for server in servers] == [1] * len(servers)
        check_at_rest(cluster, files, volume_id, servers)
        for server in servers:
            cluster.volume(server).volume_delete(volume_id=volume_id)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("_impatient")
def test_a_failure_at_any_call_of_a_vacuum_is_cleared_up(sandbox_cluster: Cluster, tmp_path: Path) -> None:
    cluster = sandbox_cluster
    servers = cluster.servers[:2]
    whole = DyingWorker(cluster, tmp_path / "whole")
    volume_id, _files = half_deleted(cluster, servers, 4, size=2000)
    whole.run(vacuum.run, job_for(cluster, volume_id, servers))
    for number, (server, call, nth) in enumerate(sample(occurrences(whole.events), 3)):
        for code, when in (("UNKNOWN", "before"), ("UNAVAILABLE", "after"))[: 2 if call in CHANGING else 1]:
            volume_id, files = half_deleted(cluster, servers, 4, size=2000)
            job, directory = job_for(cluster, volume_id, servers), tmp_path / f"{number}{when}"
            address = Address.parse(server)
            cluster.faults(address).fail(call, nth=nth, code=code, when=when)
            worker = DyingWorker(cluster, directory)
            with suppress(TaskError):
                worker.run(vacuum.run, job)
            assert worker.met(server, call, code), f"no {call} of {server} failed"
            cluster.faults(address).clear()
            DyingWorker(cluster, directory).clear_up(vacuum.recover)
            check_at_rest(cluster, files, volume_id, servers)
            DyingWorker(cluster, directory).run(vacuum.run, job)
            assert [revision_on(cluster, server, volume_id) for server in servers] == [1, 1]
            check_at_rest(cluster, files, volume_id, servers)
            for holder in servers:
                cluster.volume(holder).volume_delete(volume_id=volume_id)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_killed_at_any_change_of_a_vacuum_loses_nothing(
    sandbox_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setitem(OPTIONS, "gib_seconds", 1.0)
    cluster = sandbox_cluster
    servers = cluster.servers[:2]
    whole = DyingWorker(cluster, tmp_path / "whole")
    volume_id, _files = half_deleted(cluster, servers, 4, size=2000)
    whole.run(vacuum.run, job_for(cluster, volume_id, servers))
    changes = [event for event in occurrences(whole.events) if event[1] in CHANGING]
    for number, (server, call, nth) in enumerate(sample(changes, 3)):
        volume_id, files = half_deleted(cluster, servers, 4, size=2000)
        job, directory = job_for(cluster, volume_id, servers), tmp_path / str(number)
        cluster.faults(Address.parse(server)).kill_at(call, nth=nth, when=when)
        with pytest.raises(TaskError):
            DyingWorker(cluster, directory).run(vacuum.run, job)
        killed = cluster.server_at(server)
        eventually(lambda killed=killed: not killed.alive)  # type: ignore[misc]
        cluster.start()
        DyingWorker(cluster, directory).clear_up(vacuum.recover)
        check_at_rest(cluster, files, volume_id, servers)
        DyingWorker(cluster, directory).run(vacuum.run, job)
        check_at_rest(cluster, files, volume_id, servers)


@pytest.mark.usefixtures("_impatient")
def test_files_written_and_deleted_during_a_vacuum_are_kept_and_gone(cluster: Cluster) -> None:
    servers = cluster.servers[:2]
    volume_id, files = half_deleted(cluster, servers, 4, size=2000)

    def write_and_delete() -> None:
        cluster.write(files, volume_id, 3, 400, servers)
        cluster.delete(list(files)[:3])

    with cluster.once("VacuumVolumeCompact", "OK", write_and_delete):
        run(cluster, job_for(cluster, volume_id, servers))
    assert [revision_on(cluster, server, volume_id) for server in servers] == [1, 1]
    cluster.check(files)


def test_a_server_in_maintenance_is_named_and_nothing_is_touched(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    if cluster.era == "3.97":
        pytest.skip("servers of 3.97 have no maintenance mode")
    volume_id, files = half_deleted(cluster, [a, b])
    cluster.maintenance(b, True)
    try:
        with pytest.raises(TaskError, match=f"{b.address} is in maintenance mode"):
            run(cluster, job_for(cluster, volume_id, [a, b]))
    finally:
        cluster.maintenance(b, False)
    assert revision_on(cluster, a, volume_id) == 0
    cluster.check(files)


def test_a_dry_run_sends_nothing_that_changes(sandbox_cluster: Cluster, tmp_path: Path) -> None:
    a = sandbox_cluster.servers[0]
    volume_id, _files = half_deleted(sandbox_cluster, [a])
    see_nothing_yet(sandbox_cluster)
    worker = DyingWorker(sandbox_cluster, tmp_path)
    ctx = worker.context(Journal.memory(), dry_run=True)
    vacuum.run(job_for(sandbox_cluster, volume_id, [a]), ctx)
    assert worker.events
    assert worker.changes == []
    assert changes_seen(sandbox_cluster) == []


def without_master(cluster: Cluster) -> Context:
    ctx = cluster.context()
    ctx.cluster.masters = Masters()
    return ctx


def test_without_a_known_master_the_job_must_name_every_replica(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    volume_id, files = half_deleted(cluster, [a, b])
    with pytest.raises(StaleTask, match="name a master"):
        vacuum.run(job_for(cluster, volume_id, [a]), without_master(cluster))
    job = job_for(cluster, volume_id, [a, b])
    if cluster.era != "4.44":
        with pytest.raises(BadTask, match="no master is known"):
            vacuum.run(job, without_master(cluster))
        return
    vacuum.run(job, without_master(cluster))
    assert [revision_on(cluster, server, volume_id) for server in (a, b)] == [1, 1]
    cluster.check(files)


@pytest.mark.usefixtures("_impatient")
def test_a_cancelled_compaction_is_cleared_up(sandbox_cluster: Cluster, tmp_path: Path) -> None:
    cluster = sandbox_cluster
    a = cluster.servers[0]
    volume_id, files = half_deleted(cluster, [a])
    entry = Journal(tmp_path).open_entry("job", "vacuum", volume_id)
    ctx = cluster.context(journal=entry)
    cluster.faults(a).slow("VacuumVolumeCompact", 1.0)
    threading.Timer(0.5, ctx.cluster.leash.cancel, [Cancelled("by the admin")]).start()
    with pytest.raises(Cancelled, match="by the admin"):
        vacuum.run(job_for(cluster, volume_id, [a]), ctx)
    entry.close()
    DyingWorker(cluster, tmp_path).clear_up(vacuum.recover)
    run(cluster, job_for(cluster, volume_id, [a]))
    check_at_rest(cluster, files, volume_id, [a])
