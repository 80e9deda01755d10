"""Uploads to a remote storage backend and downloads from it, against an S3 stand-in on loopback."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from proto_gen import worker_pb2
from tests.support import eventually
from tests.support.cluster import OPTIONS, Cluster, Files, Kind, Server, real_kinds, request, start_cluster
from tests.support.dying import DyingWorker, at_change
from tests.support.rpcs import changes_seen, see_nothing_yet
from tests.support.s3 import MASTER_TOML, Store, free_address, start_gateway, start_stand_in
from weed_core.errors import BadTask, ConfigError, Mismatch, ServerFailed, StaleTask, TaskError
from weed_core.model import Detection, DetectionRequest, Job, Result
from weed_safety.journal import Entry
from weed_sandbox.launcher import Launcher
from weed_tasks import remote_upload, replication


@pytest.fixture(scope="module")
def s3(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """An S3 stand-in with an empty bucket."""
    store = Store(free_address())
    process = start_stand_in(launcher, store.address, tmp_path_factory.mktemp("s3"))
    store.ready()
    yield store
    process.kill()


@pytest.fixture
def tiered(make_cluster: Callable[..., Cluster], s3: Store) -> Cluster:
    """Three servers of 4.44 whose master knows the backend s3.default."""
    return make_cluster(era="4.44", master_toml=MASTER_TOML.format(endpoint=s3.address.http), volume_size_limit_mb=1)


def move(cluster: Cluster, volume_id: int, journal: Entry | None = None, **config: Any) -> Result:
    config = {"backend": "s3.default", **config}
    job = Job("job", "remote_upload", worker_pb2.TaskParams(volume_id=volume_id), config=config)
    return remote_upload.run(job, cluster.context(journal, timeout=100))


def look(cluster: Cluster, **config: Any) -> Detection:
    config = {"backend": "s3.default", "quiet_for_seconds": 0, **config}
    wanted = DetectionRequest("remote_upload", config, (str(cluster.master),))
    return remote_upload.detect(wanted, cluster.context(timeout=60))


def full(cluster: Cluster, copies: int = 2, **wishes: Any) -> Files:
    """A volume of about 1 MB with a few deleted files, on the first servers."""
    files = cluster.fill(
        40, size=(20_000, 32_000), replication=f"00{copies - 1}", servers=cluster.servers[:copies], **wishes
    )
    cluster.delete(list(files)[3:5])
    cluster.settle()
    return files


def is_read_only(cluster: Cluster, server: Server, volume_id: int) -> bool:
    return cluster.volume(server).volume_status(volume_id=volume_id).is_read_only


def keys_of(cluster: Cluster, volume_id: int) -> list[list[str]]:
    """The object keys that each holder of a volume names."""
    return [
        [file.key for file in cluster.volume(server).read_volume_file_status(volume_id=volume_id).volume_info.files]
        for server in cluster.locations(volume_id)
    ]


def has_keys(cluster: Cluster, volume_id: int, keys: list[str]) -> None:
    """Wait until the master shows both replicas; each must name these objects."""
    eventually(lambda: len(cluster.locations(volume_id)) == 2)
    assert keys_of(cluster, volume_id) == [keys, keys]


def has_dat(server: Server) -> bool:
    return any(name.endswith(".dat") for name in server.files())


def test_a_full_volume_is_uploaded_once_and_read_through_the_backend_by_every_replica(
    tiered: Cluster, s3: Store
) -> None:
    files = full(tiered, collection="archive")
    (volume_id,) = files.volume_ids
    before = s3.objects()
    (late,) = look(tiered, min_frozen_seconds=10**9).proposals
    assert late.summary.endswith("; it refuses writes for 1000000000 s first, since it was written to lately")
    found = look(tiered)
    (proposal,) = found.proposals
    job = Job("job", "remote_upload", proposal.params, proposal.parameters)
    result = remote_upload.run(job, tiered.context(timeout=100))
    (key,) = set(s3.objects()) - set(before)
    assert result.outputs["key"] == key
    assert key in result.summary
    assert keys_of(tiered, volume_id) == [[key], [key]]
    assert not any(has_dat(server) for server in tiered.servers)
    tiered.check(files)
    eventually(lambda: {r.remote_name for r in tiered.topology().replicas(volume_id)} == {"s3.default"}, timeout=20)
    assert [(skipped.key, skipped.volume_id) for skipped in look(tiered).skipped] == [("remote", volume_id)]
    assert "already; nothing to do" in move(tiered, volume_id).summary
    assert len(s3.objects()) == len(before) + 1


def test_a_volume_written_to_lately_refuses_writes_on_every_replica_before_its_local_files_go(
    tiered: Cluster, s3: Store
) -> None:
    files = full(tiered)
    (volume_id,) = files.volume_ids
    tiered.age(volume_id, 0)
    seen: list[tuple[bool, bool]] = []
    context = tiered.context(timeout=100)

    @contextmanager
    def slot() -> Iterator[None]:
        holders = tiered.locations(volume_id)
        began = time.monotonic()
        shut = all(is_read_only(tiered, server, volume_id) for server in holders)
        status, _answer = request(holders[0].address, "PUT", f"/{volume_id},0112345678?type=replicate", b"late")
        yield
        kept = all(has_dat(server) for server in holders)
        seen.append((shut and status >= 400 and time.monotonic() - began >= 3, kept))

    context.outside_slot = slot
    job = Job(
        "job",
        "remote_upload",
        worker_pb2.TaskParams(volume_id=volume_id),
        config={"backend": "s3.default", "min_frozen_seconds": 5},
    )
    began = time.monotonic()
    remote_upload.run(job, context)
    assert time.monotonic() - began >= 5
    assert seen == [(True, True)], "one wait, outside the slot, read-only, with every local file there to its end"
    assert not any(has_dat(server) for server in tiered.servers)
    tiered.check(files)


def test_a_download_brings_the_data_back_and_the_volume_takes_writes_again(tiered: Cluster, s3: Store) -> None:
    files = full(tiered)
    (volume_id,) = files.volume_ids
    before = s3.objects()
    move(tiered, volume_id)
    eventually(lambda: {r.remote_name for r in tiered.topology().replicas(volume_id)} == {"s3.default"}, timeout=20)
    (proposal,) = look(tiered, direction="download").proposals
    assert proposal.summary.startswith(f"download volume {volume_id} from s3.default")
    result = move(tiered, volume_id, direction="download")
    assert "is back from s3.default" in result.summary
    assert s3.objects() == before
    has_keys(tiered, volume_id, [])
    assert [has_dat(server) for server in tiered.servers] == [True, True, False]
    assert not any(is_read_only(tiered, server, volume_id) for server in tiered.locations(volume_id))
    tiered.check(files)
    tiered.write(files, volume_id, 3, 500, tiered.locations(volume_id))
    tiered.check(files)
    assert "is local already" in move(tiered, volume_id, direction="download").summary


def test_a_download_leaves_the_object_where_that_is_wanted(tiered: Cluster, s3: Store) -> None:
    files = full(tiered, copies=1)
    (volume_id,) = files.volume_ids
    key = str(move(tiered, volume_id).outputs["key"])
    result = move(tiered, volume_id, direction="download", keep_remote=True)
    assert f"object {key} is left in s3.default" in result.summary
    assert key in s3.objects()
    tiered.check(files)


def test_the_local_file_stays_where_that_is_wanted(tiered: Cluster) -> None:
    files = full(tiered, copies=1)
    (volume_id,) = files.volume_ids
    move(tiered, volume_id, keep_local=True)
    assert has_dat(tiered.servers[0])
    tiered.check(files)


def test_replicas_that_differ_are_not_uploaded(tiered: Cluster, s3: Store) -> None:
    files = full(tiered)
    (volume_id,) = files.volume_ids
    tiered.write(Files(), volume_id, 3, 500, tiered.servers[:1])
    before = s3.objects()
    with pytest.raises(Mismatch, match=f"volume {volume_id}: replicas on .* differ in 3 needles; nothing was changed"):
        move(tiered, volume_id)
    assert s3.objects() == before
    assert not any(is_read_only(tiered, server, volume_id) for server in tiered.servers[:2])


def test_an_unknown_backend_is_refused_with_the_list_of_known_ones(tiered: Cluster) -> None:
    files = full(tiered, copies=1)
    (volume_id,) = files.volume_ids
    for act in (lambda: move(tiered, volume_id, backend="s3.cold"), lambda: look(tiered, backend="s3.cold")):
        with pytest.raises(ConfigError, match=r"no storage backend 's3.cold'; it knows s3.default\."):
            act()
    with pytest.raises(BadTask, match=r"no storage backend is named; the master knows: s3.default"):
        move(tiered, volume_id, backend="")
    assert look(tiered, backend="").summary.endswith("the master knows: s3.default")
    assert look(tiered, backend="s3").proposals[0].parameters["backend"] == "s3.default"


def test_detection_says_why_a_volume_stays(tiered: Cluster) -> None:
    small = tiered.fill(2, collection="small")
    lonely = full(tiered, copies=1, collection="lonely")
    tiered.settle()

    def keys(**config: Any) -> dict[int, str]:
        return {skipped.volume_id: skipped.key for skipped in look(tiered, **config).skipped}

    assert keys()[small.volume_ids[0]] == "not full"
    assert keys(quiet_for_seconds=3600)[lonely.volume_ids[0]] == "busy"
    assert keys(min_size_mb=5, fullness_ratio=0)[lonely.volume_ids[0]] == "small"
    assert keys(direction="download") == {small.volume_ids[0]: "local", lonely.volume_ids[0]: "local"}
    assert [p.params.volume_id for p in look(tiered, collection_filter="^lonely$").proposals] == lonely.volume_ids


def test_a_job_for_another_collection_or_a_volume_that_is_gone_is_stale(tiered: Cluster) -> None:
    files = full(tiered, copies=1)
    job = Job(
        "job",
        "remote_upload",
        worker_pb2.TaskParams(volume_id=files.volume_ids[0], collection="other"),
        config={"backend": "s3.default"},
    )
    with pytest.raises(StaleTask, match="of collection '', not 'other'"):
        remote_upload.run(job, tiered.context())
    with pytest.raises(StaleTask, match="knows no replica of volume 99"):
        move(tiered, 99)


def test_a_dry_run_changes_nothing(tiered: Cluster, s3: Store) -> None:
    files = full(tiered)
    (volume_id,) = files.volume_ids
    before = s3.objects()
    job = Job("job", "remote_upload", worker_pb2.TaskParams(volume_id=volume_id), config={"backend": "s3"})
    assert "nothing was changed" in remote_upload.run(job, tiered.context(dry_run=True)).summary
    assert s3.objects() == before
    assert not any(is_read_only(tiered, server, volume_id) for server in tiered.servers[:2])


# ---- broken off


@pytest.fixture
def breakable(launcher: Launcher, tmp_path: Path, s3: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Three sandbox servers that misbehave on demand; waits are short."""
    monkeypatch.setitem(OPTIONS, "still_seconds", 0.05)
    toml = MASTER_TOML.format(endpoint=s3.address.http)
    cluster = start_cluster(Kind(), launcher, tmp_path / "cluster", master_toml=toml, volume_size_limit_mb=1)
    yield cluster
    cluster.close()


def moves(worker: DyingWorker, volume_id: int, direction: str, job_id: str = "job") -> bool:
    """Run the job; whether the worker lived to its end."""
    config = {"backend": "s3.default", "direction": direction}
    job = Job(job_id, "remote_upload", worker_pb2.TaskParams(volume_id=volume_id), config=config)
    return worker.run(remote_upload.run, job) is not None


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_a_dry_run_sends_nothing_that_changes(breakable: Cluster, direction: str) -> None:
    files = full(breakable)
    (volume_id,) = files.volume_ids
    if direction == "download":
        move(breakable, volume_id)
    see_nothing_yet(breakable)
    config = {"backend": "s3.default", "direction": direction}
    job = Job("job", "remote_upload", worker_pb2.TaskParams(volume_id=volume_id), config=config)
    assert "nothing was changed" in remote_upload.run(job, breakable.context(dry_run=True)).summary
    assert changes_seen(breakable) == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_worker_killed_at_any_change_of_an_upload_leaves_one_object_and_is_succeeded(
    breakable: Cluster, s3: Store, tmp_path: Path, after: bool
) -> None:
    dies_at, finished = 0, False
    while not finished:
        dies_at += 1
        files = full(breakable)
        (volume_id,) = files.volume_ids
        before = s3.objects()
        worker = DyingWorker(breakable, tmp_path / str(dies_at), at_change(dies_at, after))
        finished = moves(worker, volume_id, "upload")
        where = f"killed {'after' if after else 'before'} {worker.changes[-1]}, the {dies_at}th change"
        heir = DyingWorker(breakable, tmp_path / str(dies_at))
        with suppress(TaskError):  # the upload may still be under way
            heir.recover(remote_upload.recover)
        breakable.check(files)
        assert moves(heir, volume_id, "upload", "again"), where
        heir.recover(remote_upload.recover)
        assert heir.journal.count() == 0, where
        (key,) = set(s3.objects()) - set(before)
        has_keys(breakable, volume_id, [key])
        breakable.check(files)
    assert dies_at > 4


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_worker_killed_at_any_change_of_a_download_loses_nothing_and_is_succeeded(
    breakable: Cluster, s3: Store, tmp_path: Path, after: bool
) -> None:
    dies_at, finished = 0, False
    while not finished:
        dies_at += 1
        files = full(breakable)
        (volume_id,) = files.volume_ids
        before = s3.objects()
        move(breakable, volume_id)
        worker = DyingWorker(breakable, tmp_path / str(dies_at), at_change(dies_at, after))
        finished = moves(worker, volume_id, "download")
        where = f"killed {'after' if after else 'before'} {worker.changes[-1]}, the {dies_at}th change"
        heir = DyingWorker(breakable, tmp_path / str(dies_at))
        heir.recover(remote_upload.recover)
        assert heir.journal.count() == 0, where
        breakable.check(files)
        assert moves(heir, volume_id, "download", "again"), where
        has_keys(breakable, volume_id, [])
        assert s3.objects() == before, where
        assert not any(is_read_only(breakable, server, volume_id) for server in breakable.servers[:2]), where
        breakable.check(files)
    assert dies_at > 4


@pytest.mark.parametrize(
    ("method", "when", "code"),
    [
        ("VolumeMarkReadonly", "after", "INTERNAL"),
        ("VolumeNeedleStatus", "before", "UNKNOWN"),
        ("VolumeTierMoveDatToRemote", "before", "UNKNOWN"),
        ("VolumeTierMoveDatToRemote", "before", "UNAVAILABLE"),
        ("VolumeTierMoveDatToRemote", "after", "UNAVAILABLE"),
        ("VolumeCopy", "before", "UNKNOWN"),
        ("VolumeCopy", "after", "UNAVAILABLE"),
    ],
)
def test_a_server_that_fails_during_an_upload_loses_nothing_and_leaks_no_object(
    breakable: Cluster, s3: Store, tmp_path: Path, method: str, when: str, code: str
) -> None:
    files = full(breakable)
    (volume_id,) = files.volume_ids
    before = s3.objects()
    for server in breakable.servers:
        breakable.faults(server).fail(method, nth=1, code=code, when=when)
    worker = DyingWorker(breakable, tmp_path)
    with suppress(TaskError):
        moves(worker, volume_id, "upload")
    assert any(worker.met(str(server.address), method, code) for server in breakable.servers)
    for server in breakable.servers:
        breakable.faults(server).clear()
    with suppress(TaskError):  # the upload may still be under way
        worker.recover(remote_upload.recover)
    breakable.check(files)
    assert moves(worker, volume_id, "upload", "again")
    worker.recover(remote_upload.recover)
    assert worker.journal.count() == 0
    (key,) = set(s3.objects()) - set(before)
    assert keys_of(breakable, volume_id) == [[key], [key]]
    breakable.check(files)


def test_a_failed_upload_leaves_the_volume_as_it_was(breakable: Cluster, s3: Store, tmp_path: Path) -> None:
    files = full(breakable)
    (volume_id,) = files.volume_ids
    before = s3.objects()
    for server in breakable.servers:
        breakable.faults(server).fail("VolumeTierMoveDatToRemote", nth=0, code="UNKNOWN", text="backend s3: denied")
    worker = DyingWorker(breakable, tmp_path)
    with pytest.raises(TaskError, match="denied"):
        moves(worker, volume_id, "upload")
    assert worker.journal.count() == 0
    assert not any(is_read_only(breakable, server, volume_id) for server in breakable.servers[:2])
    assert s3.objects() == before
    breakable.check(files)


def test_a_server_killed_in_the_middle_of_an_upload_can_be_followed_by_another_try(
    breakable: Cluster, s3: Store, tmp_path: Path
) -> None:
    files = full(breakable)
    (volume_id,) = files.volume_ids
    for server in breakable.servers:
        breakable.faults(server).kill_at("VolumeTierMoveDatToRemote", when="during")
    with pytest.raises(TaskError, match="broke off, and may go on there"):
        moves(DyingWorker(breakable, tmp_path), volume_id, "upload")
    breakable.start()
    breakable.settle()

    def recovers() -> bool:
        try:
            DyingWorker(breakable, tmp_path).recover(remote_upload.recover)
        except ServerFailed:
            return False
        return True

    eventually(recovers)
    assert moves(DyingWorker(breakable, tmp_path), volume_id, "upload", "again")
    assert len({key for keys in keys_of(breakable, volume_id) for key in keys}) == 1
    breakable.check(files)


def test_replicas_on_old_servers_stay_local_and_read_only(make_cluster: Callable[..., Cluster], s3: Store) -> None:
    cluster = make_cluster(era="4.13", master_toml=MASTER_TOML.format(endpoint=s3.address.http), volume_size_limit_mb=1)
    files = full(cluster)
    (volume_id,) = files.volume_ids
    result = move(cluster, volume_id)
    assert "keeps its local copy, read-only" in result.summary
    assert sorted(map(len, keys_of(cluster, volume_id))) == [0, 1]
    assert all(is_read_only(cluster, server, volume_id) for server in cluster.servers[:2])
    cluster.check(files)
    eventually(lambda: "s3.default" in {r.remote_name for r in cluster.topology().replicas(volume_id)}, timeout=20)
    assert [(skipped.key, skipped.volume_id) for skipped in look(cluster).skipped] == [("remote", volume_id)]
    move(cluster, volume_id, direction="download")
    has_keys(cluster, volume_id, [])
    cluster.check(files)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=str(kind), marks=pytest.mark.real) for kind in real_kinds() if kind.era == "4.44"]
)
def test_the_s3_gateway_of_seaweedfs_itself_serves_as_backend(launcher: Launcher, tmp_path: Path, kind: Kind) -> None:
    store = Store(free_address())
    toml = MASTER_TOML.format(endpoint=store.address.http)
    cluster = start_cluster(kind, launcher, tmp_path / "cluster", master_toml=toml, volume_size_limit_mb=4)
    filer = start_gateway(launcher, kind.binary, cluster.master, store.address, tmp_path / "filer")
    try:
        store.ready()
        files = cluster.fill(60, size=(20_000, 60_000), replication="001", servers=cluster.servers[:2])
        cluster.delete(list(files)[5:9])
        cluster.settle()
        (volume_id,) = files.volume_ids
        key = move(cluster, volume_id).outputs["key"]
        assert store.objects() == [key]
        assert [key] in keys_of(cluster, volume_id)
        local = [server for server in cluster.servers if f"{volume_id}.dat" in server.files()]
        assert len(local) == (0 if cluster.era == "4.44" else 1)
        cluster.check(files)
        move(cluster, volume_id, direction="download")
        assert store.objects() == []
        has_keys(cluster, volume_id, [])
        cluster.check(files)
    finally:
        filer.kill()
        cluster.close()


def test_replication_gives_a_tiered_volume_a_second_reference_and_keeps_its_object(tiered: Cluster, s3: Store) -> None:
    files = full(tiered)
    (volume_id,) = files.volume_ids
    key = move(tiered, volume_id).outputs["key"]
    tiered.volume(tiered.servers[1]).volume_delete(volume_id=volume_id, keep_remote_data=True)
    eventually(lambda: tiered.locations(volume_id) == [tiered.servers[0]])
    eventually(lambda: {r.remote_name for r in tiered.topology().replicas(volume_id)} == {"s3.default"}, timeout=20)
    job = Job("job", "replication", worker_pb2.TaskParams(volume_id=volume_id), config={"delete_surplus": True})
    replication.run(job, tiered.context(timeout=60))
    assert keys_of(tiered, volume_id) == [[key], [key]]
    assert key in s3.objects()
    tiered.check(files)
