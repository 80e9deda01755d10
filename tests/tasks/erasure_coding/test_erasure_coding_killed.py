"""An encode that is broken off anywhere: nothing is lost, nothing stays read-only, no shard is left, a retry succeeds.

The worker's death is played at every boundary of a call: from then on no call leaves it, and its journal is what was
on disk at that moment. Every boundary takes minutes, so by default those of calls that change something are played;
WEED_EVERY_BOUNDARY=1 plays them all.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import REAL_KINDS, SANDBOX_KIND, clusters
from tests.support.cluster import OPTIONS, Cluster, Files, Server
from tests.support.dying import EVERY, Death, DyingWorker, Event, at_event, never
from tests.support.erasure_coding import assert_as_before, assert_encoded, fresh, job
from tests.support.rpcs import CHANGING
from weed_core.errors import TaskError
from weed_tasks import erasure_coding

ROOT = Path(__file__).parents[3]


_module_five = clusters(servers=5)


@pytest.fixture
def five(_module_five: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Five empty servers of the sandbox."""
    fresh(_module_five)
    _module_five.options["sender_seconds"] = 0.0
    monkeypatch.setitem(OPTIONS, "still_seconds", 0.05)
    return _module_five


_module_either = clusters([SANDBOX_KIND, *REAL_KINDS], servers=5)


@pytest.fixture
def either(_module_either: Cluster) -> Cluster:
    """Five empty servers of the sandbox, or of each real `weed`."""
    fresh(_module_either)
    _module_either.options["sender_seconds"] = 0.0
    return _module_either


def run_and_die(
    cluster: Cluster, directory: Path, dies: Death = never, deleted: int = 1
) -> tuple[DyingWorker, list[Server], Files]:
    """Fill a volume with two replicas, delete of its five files, and run its job until the worker is killed."""
    shutil.rmtree(directory, ignore_errors=True)
    worker = DyingWorker(cluster, directory, dies, counts_leases=True)
    holders = cluster.servers[:2]
    files = cluster.fill(count=5, size=3000, replication="001", servers=holders)
    cluster.delete(list(files)[:deleted])
    worker.run(erasure_coding.run, job(cluster, files.volume_ids[0]))
    return worker, holders, files


def after_nth(call: str, nth: int) -> Death:
    """Die behind the nth success of a call."""
    return lambda events: (
        (events[-1].call, events[-1].outcome) == (call, "OK")
        and sum((event.call, event.outcome) == (call, "OK") for event in events) == nth
    )


def chosen(trace: list[Event]) -> list[int]:
    """The boundaries to play: all, or the first and the last of calls that change something and one of all others."""
    if EVERY:
        return list(range(len(trace)))
    places: dict[tuple[str, str], list[int]] = {}
    for at, event in enumerate(trace):
        places.setdefault((event.call, event.outcome), []).append(at)
    picked = set()
    for (call, _outcome), found in places.items():
        picked |= {found[0], found[-1]} if call in CHANGING else {found[-1]}
    return sorted(picked)


@pytest.mark.timeout(900)  # many lives in one test
def test_a_worker_killed_at_any_boundary_is_recovered_from_and_its_job_done_again(
    five: Cluster, tmp_path: Path
) -> None:
    trace = run_and_die(five, tmp_path / "whole")[0].events
    played = 0
    for at in chosen(trace):
        five.reset()
        worker, holders, files = run_and_die(five, tmp_path / "journal", at_event(at))
        if not worker.is_dead:
            continue  # calls run side by side, so not each run has as many
        try:
            recovered_and_retried(five, tmp_path / "journal", holders, files)
        except BaseException:
            print(f"killed at boundary {at} of {len(trace)}: {worker.events[-1]}")
            raise
        played += 1
    assert played > 20


@pytest.mark.timeout(900)
def test_a_worker_killed_while_it_vacuums_first_is_recovered_from_and_its_job_done_again(
    five: Cluster, tmp_path: Path
) -> None:
    trace = run_and_die(five, tmp_path / "whole", deleted=3)[0].events
    vacuuming = [at for at, event in enumerate(trace) if event.call.startswith("VacuumVolumeCo")]
    assert {trace[at].call for at in vacuuming} == {"VacuumVolumeCompact", "VacuumVolumeCommit"}
    for at in range(vacuuming[0], vacuuming[-1] + 2) if EVERY else vacuuming:
        five.reset()
        worker, holders, files = run_and_die(five, tmp_path / "journal", at_event(at), deleted=3)
        assert worker.is_dead
        try:
            recovered_and_retried(five, tmp_path / "journal", holders, files)
        except BaseException:
            print(f"killed at boundary {at} of {len(trace)}: {worker.events[-1]}")
            raise


def recovered_and_retried(cluster: Cluster, directory: Path, holders: list[Server], files: Files) -> None:
    """Start the worker again: it undoes or finishes what it had begun, and then its job succeeds."""
    heir = DyingWorker(cluster, directory)
    heir.recover(erasure_coding.recover)
    assert heir.journal.count() == 0
    if any(server.files("*.dat") for server in cluster.servers):
        assert_as_before(cluster, files, holders)
    else:
        assert_encoded(cluster, files)
    assert heir.run(erasure_coding.run, job(cluster, files.volume_ids[0]))
    assert_encoded(cluster, files)


@pytest.mark.parametrize(("call", "nth"), [("VolumeMarkReadonly", 2), ("ReceiveFile", 9), ("VolumeEcShardsMount", 5)])
def test_a_volume_that_somebody_compacted_after_its_encode_was_killed_is_opened_again(
    either: Cluster, tmp_path: Path, call: str, nth: int
) -> None:
    worker, holders, files = run_and_die(either, tmp_path, after_nth(call, nth))
    assert worker.is_dead
    for server in holders:
        compact(either, server, files.volume_ids[0])

    recovered_and_retried(either, tmp_path, holders, files)


def test_nothing_is_left_to_finish_where_somebody_made_the_volume_of_its_shards_again(
    either: Cluster, tmp_path: Path
) -> None:
    worker, holders, files = run_and_die(either, tmp_path, after_nth("VolumeDelete", 2))
    volume_id = files.volume_ids[0]
    assert worker.is_dead
    assert not any(server.files("*.dat") for server in holders)
    heir = DyingWorker(either, tmp_path)
    for server in either.servers:
        volume = either.volume(server)
        volume.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=range(14))
        volume.volume_ec_shards_delete(volume_id=volume_id, shard_ids=range(14), full_teardown=True)
    with pytest.raises(TaskError, match="not all there"):
        heir.recover(erasure_coding.recover)

    either.allocate(either.servers[3:4], volume_id=volume_id)
    heir.recover(erasure_coding.recover)

    assert heir.journal.count() == 0


def compact(cluster: Cluster, server: Server, volume_id: int) -> None:
    """Vacuum one replica, as a worker did that took no notice of the freeze."""
    volume = cluster.volume(server)
    before = volume.read_volume_file_status(volume_id=volume_id)
    list(volume.vacuum_volume_compact(volume_id=volume_id))
    volume.vacuum_volume_commit(volume_id=volume_id)
    after = volume.read_volume_file_status(volume_id=volume_id)
    assert after.compaction_revision == before.compaction_revision + 1
    assert after.dat_file_size < before.dat_file_size


@pytest.mark.parametrize("after", [0.4, 0.8, 1.2, 1.6, 2.2] if EVERY else [0.9, 1.8])
def test_a_worker_process_killed_at_some_moment_is_recovered_from(
    either: Cluster, tmp_path: Path, after: float
) -> None:
    holders = either.servers[:2]
    files = either.fill(count=30, size=1_000_000, replication="001", servers=holders)
    volume_id = files.volume_ids[0]
    order = job(either, volume_id)
    arguments = [str(either.master), str(tmp_path), base64.b64encode(order.params.SerializeToString()).decode()]
    worker = subprocess.Popen([sys.executable, "-m", "tests.support.erasure_coding", *arguments], cwd=ROOT)
    with suppress(subprocess.TimeoutExpired):
        worker.wait(after)
    worker.kill()
    worker.wait()

    heir = DyingWorker(either, tmp_path)
    heir.recover(erasure_coding.recover)
    assert heir.journal.count() == 0
    if any(server.files("*.dat") for server in either.servers):
        assert_as_before(either, files, holders)
    assert heir.run(erasure_coding.run, order)
    assert_encoded(either, files)
