"""Replication repair that is broken off: the worker dies, a server fails or dies, at every call that changes anything.

Whatever happens, no file is lost, no volume stays shut, and the next run completes the repair.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from proto_gen import worker_pb2
from tests.support import eventually
from tests.support.cluster import OPTIONS, Cluster, Files, Server
from tests.support.dying import DyingWorker, at_change
from tests.support.rpcs import changes_seen, see_nothing_yet
from weed_core.errors import Cancelled, TaskError
from weed_core.model import Job
from weed_tasks import replication


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less for volumes to be still."""
    monkeypatch.setitem(OPTIONS, "still_seconds", 0.05)
    monkeypatch.setitem(OPTIONS, "remembered_seconds", 0.0)


def job_for(volume_id: int) -> Job:
    params = worker_pb2.TaskParams(volume_id=volume_id)
    return Job("job", "replication", params, config={"delete_surplus": True, "reconcile": True})


def repair(worker: DyingWorker, volume_id: int, job_id: str = "job") -> bool:
    """Run the job; whether the worker lived to its end."""
    return worker.run(replication.run, replace(job_for(volume_id), id=job_id)) is not None


def recovers(worker: DyingWorker) -> bool:
    """Clear up; False where that cannot be done yet."""
    try:
        worker.recover(replication.recover)
    except TaskError:
        return False
    return True


def holders(cluster: Cluster, volume_id: int) -> list[Server]:
    return [server for server in cluster.servers if f"{volume_id}.dat" in server.files()]


def is_shut(cluster: Cluster, volume_id: int) -> list[Server]:
    return [
        server
        for server in holders(cluster, volume_id)
        if cluster.volume(server).volume_status(volume_id=volume_id).is_read_only
    ]


def misplaced(cluster: Cluster) -> tuple[int, Files]:
    """Two replicas of a volume that wants one, one of which lacks a write and the other a deletion."""
    first, second = cluster.servers[:2]
    files = cluster.fill(6, size=300, replication="000", servers=[first, second])
    (volume_id,) = files.volume_ids
    gone = next(iter(files))
    cluster.write(files, volume_id, 1, 300, [first])
    cluster.delete([gone], [second])
    del files[gone]
    files.deleted.add(gone)
    cluster.settle()
    return volume_id, files


def lonely(cluster: Cluster) -> tuple[int, Files]:
    """One replica of a volume that wants two."""
    files = cluster.fill(6, size=300, replication="001", servers=cluster.servers[:1])
    cluster.settle()
    return files.volume_ids[0], files


SCENES = {"misplaced": (misplaced, 1), "lonely": (lonely, 2)}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("scene", SCENES)
def test_a_worker_killed_at_any_change_leaves_what_the_next_one_completes(
    sandbox_cluster: Cluster, tmp_path: Path, scene: str, after: bool
) -> None:
    cluster = sandbox_cluster
    prepare, copies = SCENES[scene]
    dies_at = 0
    finished = False
    while not finished:
        dies_at += 1
        volume_id, files = prepare(cluster)
        worker = DyingWorker(cluster, tmp_path / str(dies_at), at_change(dies_at, after))
        finished = repair(worker, volume_id)
        where = f"killed {'after' if after else 'before'} {worker.changes[-1]}, the {dies_at}th change"
        heir = DyingWorker(cluster, tmp_path / str(dies_at))
        heir.recover(replication.recover)
        assert heir.journal.count() == 0, where
        assert is_shut(cluster, volume_id) == [], where
        assert repair(heir, volume_id, "again"), where
        _has_copies(cluster, volume_id, copies)
        assert is_shut(cluster, volume_id) == [], where
        cluster.check(files)
    assert dies_at > 4


def _has_copies(cluster: Cluster, volume_id: int, copies: int) -> None:
    eventually(lambda: len(cluster.locations(volume_id)) == copies)
    assert len(holders(cluster, volume_id)) == copies


@pytest.mark.parametrize(
    ("method", "when"),
    [
        ("VolumeMarkReadonly", "before"),
        ("VolumeMarkReadonly", "after"),
        ("ReadVolumeFileStatus", "before"),
        ("CopyFile", "before"),
        ("ReadNeedleMeta", "before"),
        ("ReadNeedleBlob", "before"),
        ("WriteNeedleBlob", "before"),
        ("WriteNeedleBlob", "after"),
        ("BatchDelete", "after"),
        ("VolumeDelete", "before"),
        ("VolumeDelete", "after"),
        ("VolumeMarkWritable", "before"),
        ("VolumeMarkWritable", "after"),
    ],
)
def test_a_server_that_fails_at_a_call_loses_nothing(
    sandbox_cluster: Cluster, tmp_path: Path, method: str, when: str
) -> None:
    cluster = sandbox_cluster
    volume_id, files = misplaced(cluster)
    for server in cluster.servers:
        cluster.faults(server).fail(method, nth=1, code="INTERNAL", when=when)
    worker = DyingWorker(cluster, tmp_path)
    with suppress(TaskError):
        repair(worker, volume_id)
    assert any(worker.met(str(server.address), method, "INTERNAL") for server in cluster.servers)
    for server in cluster.servers:
        cluster.faults(server).clear()
    worker.recover(replication.recover)
    assert is_shut(cluster, volume_id) == []
    repair(worker, volume_id, "again")
    _has_copies(cluster, volume_id, 1)
    cluster.check(files)
    assert is_shut(cluster, volume_id) == []


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_a_target_that_dies_while_it_copies_leaves_no_half_copy(
    sandbox_cluster: Cluster, tmp_path: Path, when: str
) -> None:
    cluster = sandbox_cluster
    volume_id, files = lonely(cluster)
    source, target = cluster.servers[:2]
    cluster.faults(cluster.servers[2]).fail("VolumeCopy", nth=0, text="no space left for disk type hdd")
    cluster.faults(target).kill_at("VolumeCopy", when=when)
    with pytest.raises(TaskError):
        repair(DyingWorker(cluster, tmp_path), volume_id)
    cluster.start()
    heir = DyingWorker(cluster, tmp_path)
    eventually(lambda: recovers(heir))
    assert source not in is_shut(cluster, volume_id)
    cluster.faults(cluster.servers[2]).clear()
    repair(heir, volume_id, "again")
    _has_copies(cluster, volume_id, 2)
    cluster.check(files)
    assert is_shut(cluster, volume_id) == []


def test_a_job_cancelled_while_servers_may_write_past_the_new_copy_leaves_the_volume_shut_until_they_do_not(
    make_sandbox_cluster: Callable[..., Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIONS, "remembered_seconds", 4.0)
    cluster = make_sandbox_cluster(era="4.13")
    volume_id, files = lonely(cluster)
    worker = DyingWorker(cluster, tmp_path)
    entry = worker.journal.open_entry("job", "replication", volume_id)
    context = worker.context(entry)

    def cancel(_fraction: float, stage: str, _figures: object) -> None:
        if stage.startswith("read-only until"):
            context.cluster.leash.cancel(Cancelled("told to stop"))

    context.report = cancel
    began = time.monotonic()
    with pytest.raises(Cancelled):
        replication.run(job_for(volume_id), context)
    entry.close()
    assert len(holders(cluster, volume_id)) == 2
    with pytest.raises(TaskError, match=f"volume {volume_id} stays read-only until .* UTC"):
        worker.recover(replication.recover)
    assert len(is_shut(cluster, volume_id)) == 2
    eventually(lambda: recovers(worker))
    assert time.monotonic() - began > 4.0
    assert is_shut(cluster, volume_id) == []
    assert worker.journal.count() == 0
    cluster.check(files)


def test_a_dry_run_sends_nothing_that_changes(sandbox_cluster: Cluster) -> None:
    volume_id, _files = misplaced(sandbox_cluster)
    see_nothing_yet(sandbox_cluster)
    result = replication.run(job_for(volume_id), sandbox_cluster.context(dry_run=True))
    assert "nothing was changed" in result.summary
    assert changes_seen(sandbox_cluster) == []
