"""Encoding a volume on the sandbox and on real SeaweedFS: what must be true afterwards, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REAL_KINDS, clusters
from tests.support import eventually
from tests.support.cluster import ERAS, OPTIONS, Cluster, Files, Kind, Machine, Server
from tests.support.erasure_coding import assert_as_before, assert_encoded, fresh, job, shard_files
from tests.support.rpcs import changes_seen, see_nothing_yet
from weed_core.errors import BadTask, Busy, Cancelled, Mismatch, StaleTask, TaskError
from weed_ec import shards
from weed_safety.lease import volume_lease
from weed_storage.volume_info import parse_vif
from weed_tasks import erasure_coding

GOLDEN = Path(__file__).parents[2] / "golden" / "volume-4.44"


_five = clusters([*(Kind(era) for era in ERAS), *REAL_KINDS], servers=5)
_sandbox_five = clusters(servers=5)


@pytest.fixture
def five(_five: Cluster) -> Cluster:
    """Five empty servers: the sandbox of each era, and each real `weed`."""
    fresh(_five)
    _five.options["sender_seconds"] = 0.0  # no sender outlives its test
    return _five


@pytest.fixture
def sandbox_five(_sandbox_five: Cluster) -> Cluster:
    """Five empty servers of the 4.44 sandbox."""
    fresh(_sandbox_five)
    _sandbox_five.options["sender_seconds"] = 0.0
    return _sandbox_five


def test_an_encoded_volume_reads_back_whole_and_leaves_no_replica(five: Cluster) -> None:
    files = five.fill(count=40, size=(10, 300_000), collection="photos")
    volume_id = files.volume_ids[0]
    five.delete(list(files)[:5])

    result = erasure_coding.run(job(five, volume_id, "photos"), five.context())

    assert f"volume {volume_id} is erasure coded" in result.summary
    assert_encoded(five, files)


def test_the_files_are_readable_with_one_server_dead(five: Cluster) -> None:
    files = five.fill(count=20, size=50_000)
    erasure_coding.run(job(five, files.volume_ids[0]), five.context())

    five.servers[1].kill()

    def readable() -> bool:
        for fid in files:
            body = five.read(fid, five.servers[2])
            assert hashlib.sha256(body).hexdigest() == files[fid]
        return True

    eventually(readable, timeout=30)


def test_the_golden_volume_gets_the_golden_shards(five: Cluster) -> None:
    server = five.servers[2]
    server.stop()
    for ext in ("dat", "idx"):
        shutil.copy(GOLDEN / f"before.{ext}", server.data_dir / f"77.{ext}")
    server.start()
    five.ready()
    eventually(lambda: five.topology().replicas(77), timeout=30)

    erasure_coding.run(job(five, 77), five.context())

    wanted = json.loads((GOLDEN / "shards.json").read_text())
    found = {
        path.suffix.lstrip("."): hashlib.sha256(path.read_bytes()).hexdigest()
        for server in five.servers
        for path in server.data_dir.glob("77.ec[01][0-9]")
    }
    assert found == {name.rpartition(".")[2]: shard["sha256"] for name, shard in _shards(wanted).items()}
    for server in five.servers:
        assert (server.data_dir / "77.ecx").read_bytes() == (GOLDEN / "after.ecx").read_bytes()


def _shards(document: Any) -> dict[str, dict[str, Any]]:
    if isinstance(document, dict) and "shards" in document:
        document = document["shards"]
    if isinstance(document, list):
        return {f".ec{at:02d}": shard for at, shard in enumerate(document)}
    return dict(document)


def test_the_same_job_again_after_success_finds_it_done(five: Cluster) -> None:
    files = five.fill(count=5)
    order = job(five, files.volume_ids[0])
    erasure_coding.run(order, five.context())

    again = erasure_coding.run(order, five.context())

    assert "already" in again.summary
    assert_encoded(five, files)


def test_of_two_workers_at_the_same_time_one_encodes_and_the_other_finds_it_done(five: Cluster) -> None:
    files = five.fill(count=5)
    order = job(five, files.volume_ids[0])
    outcomes: list[str] = []

    def work() -> None:
        outcomes.append(erasure_coding.run(order, five.context()).summary)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert ["already" in outcome for outcome in outcomes] == [False, True]
    assert_encoded(five, files)


def test_a_volume_that_another_worker_holds_is_left_alone(five: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    files = five.fill(count=5)
    volume_id = files.volume_ids[0]
    monkeypatch.setitem(OPTIONS, "lease_seconds", 0.5)

    with volume_lease(five.context(), volume_id), pytest.raises(Busy, match="is being worked on by"):
        erasure_coding.run(job(five, volume_id), five.context())

    assert_as_before(five, files, five.locations(volume_id))


def test_all_replicas_are_deleted(five: Cluster) -> None:
    files = five.fill(count=10, replication="001")

    erasure_coding.run(job(five, files.volume_ids[0]), five.context())

    assert_encoded(five, files)


def test_the_replica_that_holds_more_is_encoded(five: Cluster) -> None:
    files = five.fill(count=5, replication="001", servers=five.servers[:2])
    volume_id = files.volume_ids[0]
    five.write(files, volume_id, 3, 1000, five.servers[1:2])

    erasure_coding.run(job(five, volume_id), five.context())

    assert_encoded(five, files)


def test_replicas_that_each_hold_something_alone_are_refused(five: Cluster) -> None:
    both = five.fill(count=5, replication="001", servers=five.servers[:2])
    volume_id = both.volume_ids[0]
    alone = Files(), Files()
    for server, files in zip(five.servers, alone):
        five.write(files, volume_id, 2, 1000, [server])

    with pytest.raises(Mismatch, match="differ in 2 files"):
        erasure_coding.run(job(five, volume_id), five.context())

    for server, files in zip(five.servers, alone):
        assert all(five.read(fid, server) for fid in files)
    assert_as_before(five, both, five.servers[:2])


def test_a_volume_that_is_read_only_for_a_reason_nobody_can_tell_is_not_encoded(five: Cluster) -> None:
    both = five.fill(count=5, replication="001", servers=five.servers[:2])
    volume_id = both.volume_ids[0]
    five.volume(five.servers[0]).volume_mark_readonly(volume_id=volume_id, persist=True)

    with pytest.raises(StaleTask, match="nobody can tell why"):
        erasure_coding.run(job(five, volume_id), five.context())

    states = [five.volume(server).volume_status(volume_id=volume_id).is_read_only for server in five.servers[:2]]
    assert states == [True, False]
    assert shard_files(five) == {}
    five.check(both)


def test_a_volume_that_expires_does_so_as_shards_too(five: Cluster) -> None:
    files = five.fill(count=5, ttl="3d")
    erasure_coding.run(job(five, files.volume_ids[0]), five.context())

    vif = parse_vif(next(five.servers[0].data_dir.glob("*.vif")).read_bytes())

    assert vif is not None
    assert 2.9 * 86400 < vif.expire_at_sec - five.servers[0].data_dir.stat().st_mtime < 3.1 * 86400
    five.check(files)


def test_an_empty_replica_is_swept_away(five: Cluster) -> None:
    files = five.fill(count=5, servers=five.servers[:1])
    volume_id = files.volume_ids[0]
    five.allocate(five.servers[1:2], volume_id=volume_id)

    erasure_coding.run(job(five, volume_id), five.context())

    assert_encoded(five, files)


def test_an_empty_volume_is_refused(five: Cluster) -> None:
    volume_id = five.allocate(five.servers[:1])

    with pytest.raises(BadTask, match="empty"):
        erasure_coding.run(job(five, volume_id), five.context())


def test_a_collection_that_is_not_the_volumes_is_refused(five: Cluster) -> None:
    files = five.fill(count=5, collection="photos")

    with pytest.raises(StaleTask, match="collection"):
        erasure_coding.run(job(five, files.volume_ids[0], "other"), five.context())

    assert_as_before(five, files, five.locations(files.volume_ids[0]))


def test_a_target_that_is_dead_is_refused_before_anything_is_touched(five: Cluster) -> None:
    files = five.fill(count=5, servers=five.servers[:1])
    order = job(five, files.volume_ids[0])
    five.servers[4].kill()

    with pytest.raises(StaleTask, match="nothing was touched"):
        erasure_coding.run(order, five.context())

    assert_as_before(five, files, five.servers[:1])


def test_shards_without_a_source_are_never_touched(five: Cluster) -> None:
    files = five.fill(count=5)
    volume_id = files.volume_ids[0]
    order = job(five, volume_id)
    erasure_coding.run(order, five.context())
    lost = range(4, 14, 5)
    five.volume(five.servers[4]).volume_ec_shards_unmount(volume_id=volume_id, shard_ids=lost)
    five.volume(five.servers[4]).volume_ec_shards_delete(volume_id=volume_id, shard_ids=lost)
    before = shard_files(five)

    with pytest.raises(StaleTask, match="no regular copy left and not all its shards"):
        erasure_coding.run(order, five.context())

    assert shard_files(five) == before


def test_shards_that_are_only_not_mounted_are_mounted(five: Cluster) -> None:
    files = five.fill(count=5)
    volume_id = files.volume_ids[0]
    order = job(five, volume_id)
    erasure_coding.run(order, five.context())
    five.volume(five.servers[4]).volume_ec_shards_unmount(volume_id=volume_id, shard_ids=range(4, 14, 5))

    erasure_coding.run(order, five.context())

    assert_encoded(five, files)


def test_what_a_dead_attempt_left_is_removed_and_the_volume_encoded(five: Cluster) -> None:
    files = five.fill(count=5, servers=five.servers[:1])
    volume_id = files.volume_ids[0]
    for at, server in enumerate(five.servers[:3]):
        shards.send(five.volume(server), volume_id, "", f".ec{at:02d}", b"rubbish")

    erasure_coding.run(job(five, volume_id), five.context())

    assert_encoded(five, files)


def test_a_replica_that_is_left_beside_all_shards_is_compared_and_deleted(five: Cluster) -> None:
    files = five.fill(count=5, servers=five.servers[:1])
    volume_id = files.volume_ids[0]
    saved = _take_files(five.servers[0], volume_id)
    order = job(five, volume_id)
    erasure_coding.run(order, five.context())
    _put_files(five, five.servers[4], saved)

    result = erasure_coding.run(order, five.context())

    assert "1 replicas deleted" in result.summary
    assert_encoded(five, files)


def test_a_replica_with_newer_files_beside_all_shards_is_kept(five: Cluster) -> None:
    files = five.fill(count=5, servers=five.servers[:1])
    volume_id = files.volume_ids[0]
    saved = _take_files(five.servers[0], volume_id)
    order = job(five, volume_id)
    erasure_coding.run(order, five.context())
    _put_files(five, five.servers[4], saved)
    newer = Files()
    five.write(newer, volume_id, 2, 1000, [five.servers[4]])
    before = shard_files(five)

    with pytest.raises(Mismatch, match=r"neither was deleted: .*2 files"):
        erasure_coding.run(order, five.context())

    assert shard_files(five) == before
    assert all(five.read(fid, five.servers[4]) for fid in newer)
    assert not five.volume(five.servers[4]).volume_status(volume_id=volume_id).is_read_only


def _take_files(server: Server, volume_id: int) -> dict[str, bytes]:
    return {name: (server.data_dir / name).read_bytes() for name in server.files(f"{volume_id}.*")}


def _put_files(cluster: Cluster, server: Server, saved: dict[str, bytes]) -> None:
    """Give a server a replica, loaded beside the shards it has."""
    for name, content in saved.items():
        if not name.endswith(".vif"):
            (server.data_dir / name).write_bytes(content)
    volume_id = int(next(iter(saved)).partition(".")[0])
    cluster.volume(server).volume_mount(volume_id=volume_id)
    eventually(lambda: cluster.topology().replicas(volume_id), timeout=20)


def test_a_job_without_targets_gets_a_plan_of_its_own(five: Cluster) -> None:
    files = five.fill(count=5)
    order = job(five, files.volume_ids[0])
    del order.params.targets[:]

    erasure_coding.run(order, five.context())

    assert all(len(names) >= 2 for names in shard_files(five).values())
    five.check(files)


def test_a_dry_run_changes_nothing(sandbox_five: Cluster) -> None:
    files = sandbox_five.fill(count=5)
    order = job(sandbox_five, files.volume_ids[0])
    see_nothing_yet(sandbox_five)

    result = erasure_coding.run(order, sandbox_five.context(dry_run=True))

    assert "would be encoded" in result.summary
    assert changes_seen(sandbox_five) == []


def test_a_target_in_maintenance_mode_is_refused(sandbox_five: Cluster) -> None:
    files = sandbox_five.fill(count=5, servers=sandbox_five.servers[:1])
    order = job(sandbox_five, files.volume_ids[0])
    sandbox_five.maintenance(sandbox_five.servers[3], True)

    with pytest.raises(StaleTask, match="maintenance"):
        erasure_coding.run(order, sandbox_five.context())

    sandbox_five.maintenance(sandbox_five.servers[3], False)
    assert_as_before(sandbox_five, files, sandbox_five.servers[:1])


def test_a_target_that_hangs_is_given_up_and_all_is_undone(
    sandbox_five: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sandbox_five.fill(count=5, servers=sandbox_five.servers[:1])
    order = job(sandbox_five, files.volume_ids[0])
    monkeypatch.setitem(OPTIONS, "stall_seconds", 2.0)
    sandbox_five.faults(sandbox_five.servers[3]).hang("ReceiveFile", nth=2)

    with pytest.raises(TaskError, match=str(sandbox_five.servers[3].address)):
        erasure_coding.run(order, sandbox_five.context())

    sandbox_five.faults(sandbox_five.servers[3]).clear()
    assert_as_before(sandbox_five, files, sandbox_five.servers[:1])


def test_a_cancelled_encode_leaves_everything_as_it_was(sandbox_five: Cluster) -> None:
    files = sandbox_five.fill(count=5, servers=sandbox_five.servers[:1])
    ctx = sandbox_five.context()

    def cancel(_fraction: float, stage: str, _figures: Any) -> None:
        if stage == "encoding and sending shards":
            ctx.cluster.leash.cancel(Cancelled("by the operator"))

    ctx.report = cancel
    with pytest.raises(Cancelled):
        erasure_coding.run(job(sandbox_five, files.volume_ids[0]), ctx)

    eventually(lambda: shard_files(sandbox_five) == {})
    assert_as_before(sandbox_five, files, sandbox_five.servers[:1])


@pytest.mark.parametrize("nth", [1, 2])
def test_a_deletion_that_fails_is_told_and_finished_by_the_next_attempt(sandbox_five: Cluster, nth: int) -> None:
    files = sandbox_five.fill(count=5, replication="001", servers=sandbox_five.servers[:2])
    order = job(sandbox_five, files.volume_ids[0])
    failing = sandbox_five.faults(sandbox_five.servers[nth - 1])
    failing.fail("VolumeDelete", nth=0, code="UNKNOWN", text="disk trouble")

    with pytest.raises(TaskError, match="disk trouble"):
        erasure_coding.run(order, sandbox_five.context())

    sandbox_five.check(files)
    failing.clear()
    erasure_coding.run(order, sandbox_five.context())
    assert_encoded(sandbox_five, files)


def test_each_disk_gets_the_shards_planned_for_it(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(era="4.44", servers=[Machine(disks=(("hdd", 10), ("hdd", 10)))] * 4)
    files = cluster.fill(count=20, size=20_000)
    volume_id = files.volume_ids[0]
    order = job(cluster, volume_id)
    del order.params.targets[:]
    disks = [(server, disk) for disk in (1, 0) for server in cluster.servers]
    for at, (server, disk) in enumerate(disks):
        order.params.targets.add(node=str(server.address), disk_id=disk, shard_ids=range(at, 14, len(disks)))

    erasure_coding.run(order, cluster.context())

    for at, (server, disk) in enumerate(disks):
        found = {path.suffix for path in server.data_dirs[disk].glob(f"{volume_id}.ec[01][0-9]")}
        wanted = {f".ec{shard:02d}" for shard in range(at, 14, len(disks))}
        assert found >= wanted or not disk  # disk 0 means that the server chooses
    cluster.check(files)
    assert "already" in erasure_coding.run(order, cluster.context()).summary
