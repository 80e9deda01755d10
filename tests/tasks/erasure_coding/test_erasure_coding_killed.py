"""An encode that is broken off anywhere: nothing is lost, nothing stays read-only, no shard is left, a retry succeeds.

The worker's death is played at every boundary of a call: from then on no call leaves it, and its journal is what was
on disk at that moment. Every boundary takes minutes, so by default those of calls that change something are played;
WEED_EVERY_BOUNDARY=1 plays them all.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import REAL_KINDS, SANDBOX_KIND, _params
from tests.support.cluster import Cluster, Files, Server, start_cluster
from tests.support.erasure_coding import assert_as_before, assert_encoded, fresh, job
from weed_cluster.channels import Channels
from weed_cluster.client import Cluster as Clients
from weed_core.errors import TaskError
from weed_ec import shards
from weed_safety.context import Context
from weed_safety.journal import Journal
from weed_sandbox.launcher import Launcher
from weed_tasks import erasure_coding
from weed_tasks.erasure_coding import commit

CHANGING = {
    "LeaseAdminToken",
    "ReceiveFile",
    "VolumeDelete",
    "VolumeEcShardsDelete",
    "VolumeEcShardsMount",
    "VolumeEcShardsUnmount",
    "VolumeMarkReadonly",
    "VolumeMarkWritable",
}
ROOT = Path(__file__).parents[3]
EVERY = bool(os.environ.get("WEED_EVERY_BOUNDARY"))


class Killed(BaseException):
    """The worker is dead."""


class Reaper:
    """Kills a worker at its nth boundary, a call's beginning or its end, as far as its servers and journal can tell."""

    def __init__(self, at: int, journal: Path) -> None:
        self.boundaries: list[str] = []
        self.is_dead = False
        self._at = at
        self._journal = journal
        self._lock = threading.Lock()

    def __call__(self, _server: str, call: str, outcome: str) -> None:
        with self._lock:
            # A dead worker's lease ends after 10 s. Another test waits for that; here it is given back at once.
            if call == "ReleaseAdminToken":
                return
            if not self.is_dead:
                self.boundaries.append(f"{call} {outcome or 'begins'}")
                if len(self.boundaries) == self._at:
                    self.is_dead = True
                    shutil.copytree(self._journal, self._grave)
            if self.is_dead:
                raise Killed

    @property
    def _grave(self) -> Path:
        return self._journal.with_suffix(".at-death")

    def power_back(self) -> Journal:
        """The journal as the dead worker left it on disk."""
        shutil.rmtree(self._journal)
        self._grave.rename(self._journal)
        return Journal(self._journal)


@pytest.fixture(scope="module")
def _module_five(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = start_cluster(SANDBOX_KIND, launcher, tmp_path_factory.mktemp("killed"), servers=5)
    yield cluster
    cluster.close()


@pytest.fixture
def five(_module_five: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Five empty servers of the sandbox."""
    fresh(_module_five)
    monkeypatch.setattr(shards, "QUIET", 0.0)
    monkeypatch.setattr(commit, "STILL", 0.05)
    return _module_five


@pytest.fixture(scope="module", params=_params([SANDBOX_KIND, *REAL_KINDS]))
def _module_either(
    request: pytest.FixtureRequest, launcher: Launcher, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    cluster = start_cluster(request.param, launcher, tmp_path_factory.mktemp(f"killed-{request.param}"), servers=5)
    yield cluster
    cluster.close()


@pytest.fixture
def either(_module_either: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Five empty servers of the sandbox, or of each real `weed`."""
    fresh(_module_either)
    monkeypatch.setattr(shards, "QUIET", 0.0)
    return _module_either


def context(cluster: Cluster, journal: Journal, volume_id: int, observe: Reaper | None = None) -> Context:
    """What a worker with a journal on disk gives its task."""
    channels = Channels(observe=observe) if observe else Channels()
    entry = journal.open_entry("job", "erasure_coding", volume_id)
    return Context(Clients(channels, [cluster.master]), entry)


def run_and_die(cluster: Cluster, tmp_path: Path, at: int) -> tuple[Reaper, list[Server], Files]:
    """Fill a volume with two replicas and run its job until the worker is killed."""
    shutil.rmtree(tmp_path / "journal", ignore_errors=True)
    journal = Journal(tmp_path / "journal")
    reaper = Reaper(at, tmp_path / "journal")
    holders = cluster.servers[:2]
    files = cluster.fill(count=5, size=3000, replication="001", servers=holders)
    cluster.delete(list(files)[:1])
    ctx = context(cluster, journal, files.volume_ids[0], reaper)
    try:
        erasure_coding.run(job(cluster, files.volume_ids[0]), ctx)
    except Killed:
        pass
    finally:
        ctx.cluster.channels.close()
    return reaper, holders, files


def boundaries(cluster: Cluster, tmp_path: Path) -> list[str]:
    """All boundaries of one undisturbed run."""
    return run_and_die(cluster, tmp_path, 0)[0].boundaries


def chosen(trace: list[str]) -> list[int]:
    """The boundaries to play: all, or the first and the last of calls that change something and one of all others."""
    if EVERY:
        return list(range(1, len(trace) + 1))
    places: dict[str, list[int]] = {}
    for at, name in enumerate(trace, 1):
        places.setdefault(name, []).append(at)
    picked = set()
    for name, found in places.items():
        picked |= {found[0], found[-1]} if name.split()[0] in CHANGING else {found[-1]}
    return sorted(picked)


@pytest.mark.timeout(900)  # many lives in one test
def test_a_worker_killed_at_any_boundary_is_recovered_from_and_its_job_done_again(
    five: Cluster, tmp_path: Path
) -> None:
    trace = boundaries(five, tmp_path)
    played = 0
    for at in chosen(trace):
        five.reset()
        reaper, holders, files = run_and_die(five, tmp_path, at)
        if not reaper.is_dead:
            continue  # calls run side by side, so not each run has as many
        try:
            recovered_and_retried(five, reaper, holders, files)
        except BaseException:
            print(f"killed at boundary {at} of {len(trace)}: {reaper.boundaries[-1]}")
            raise
        played += 1
    assert played > 20


def recovered_and_retried(cluster: Cluster, reaper: Reaper, holders: list[Server], files: Files) -> None:
    """Start the worker again: it undoes or finishes what it had begun, and then its job succeeds."""
    journal = reaper.power_back()
    volume_id = files.volume_ids[0]
    for entry in journal.unfinished():
        erasure_coding.recover(entry, context(cluster, journal, volume_id))
        entry.close()
        assert not entry.open
    if any(server.files("*.dat") for server in cluster.servers):
        assert_as_before(cluster, files, holders)
    else:
        assert_encoded(cluster, files)
    erasure_coding.run(job(cluster, volume_id), context(cluster, journal, volume_id))
    assert_encoded(cluster, files)


@pytest.mark.parametrize(("call", "nth"), [("VolumeMarkReadonly", 2), ("ReceiveFile", 9), ("VolumeEcShardsMount", 5)])
def test_a_volume_that_somebody_compacted_after_its_encode_was_killed_is_opened_again(
    either: Cluster, tmp_path: Path, call: str, nth: int
) -> None:
    ends = [at for at, name in enumerate(boundaries(either, tmp_path), 1) if name == f"{call} OK"]
    fresh(either)
    reaper, holders, files = run_and_die(either, tmp_path, ends[nth - 1])
    assert reaper.is_dead
    for server in holders:
        compact(either, server, files.volume_ids[0])

    recovered_and_retried(either, reaper, holders, files)


def test_nothing_is_left_to_finish_where_somebody_made_the_volume_of_its_shards_again(
    either: Cluster, tmp_path: Path
) -> None:
    deleted = [at for at, name in enumerate(boundaries(either, tmp_path), 1) if name == "VolumeDelete OK"]
    fresh(either)
    reaper, holders, files = run_and_die(either, tmp_path, deleted[1])
    volume_id = files.volume_ids[0]
    assert reaper.is_dead
    assert not any(server.files("*.dat") for server in holders)
    journal = reaper.power_back()
    for server in either.servers:
        volume = either.volume(server)
        volume.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=range(14))
        volume.volume_ec_shards_delete(volume_id=volume_id, shard_ids=range(14), full_teardown=True)
    (entry,) = journal.unfinished()
    with pytest.raises(TaskError, match="not all there"):
        erasure_coding.recover(entry, context(either, journal, volume_id))

    either.allocate(either.servers[3:4], volume_id=volume_id)
    erasure_coding.recover(entry, context(either, journal, volume_id))

    assert not entry.open


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

    journal = Journal(tmp_path)
    for entry in journal.unfinished():
        erasure_coding.recover(entry, context(either, journal, volume_id))
        assert not entry.open
        entry.close()
    if any(server.files("*.dat") for server in either.servers):
        assert_as_before(either, files, holders)
    erasure_coding.run(order, context(either, journal, volume_id))
    assert_encoded(either, files)
