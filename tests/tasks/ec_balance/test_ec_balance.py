"""Moving single shards on the sandbox and on real SeaweedFS: nothing is removed before its copy is proved."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from proto_gen import volume_server_pb2 as v
from proto_gen.worker_pb2 import EcBalanceTaskParams, ErasureCodingTaskParams, TaskParams, TaskSource, TaskTarget
from tests.conftest import MODERN, SANDBOX_KIND, clusters
from tests.support import eventually
from tests.support.cluster import Cluster, Files, Server, request
from tests.support.dying import DyingWorker, at_first, sample
from tests.support.rpcs import changes_seen, see_nothing_yet
from tests.support.shards import revive, take, where
from weed_cluster.topology import ec_locations
from weed_core.errors import BadTask, Cancelled, Mismatch, StaleTask, TaskError
from weed_core.model import DetectionRequest, Job
from weed_core.values import Value
from weed_ec import shards as ec_shards
from weed_safety.journal import Journal
from weed_tasks import ec_balance, erasure_coding

_four = clusters([SANDBOX_KIND, *MODERN], servers=4, racks=["r1", "r2"])


_sandbox_four = clusters(servers=4, racks=["r1", "r2"])


@pytest.fixture
def four(_four: Cluster) -> Cluster:
    """Four empty servers in two racks: the 4.44 sandbox, and each real `weed` that new."""
    _four.reset()
    _four.options["sender_seconds"] = 0.0  # no sender outlives its test
    return _four


@pytest.fixture
def sandbox_four(_sandbox_four: Cluster) -> Cluster:
    """Four empty servers of the sandbox."""
    _sandbox_four.reset()
    _sandbox_four.options["sender_seconds"] = 0.0
    return _sandbox_four


def encoded(
    cluster: Cluster, places: list[list[int]], collection: str = "", size: tuple[int, int] = (10, 200_000)
) -> tuple[Files, int]:
    """Files in one volume, erasure coded with these shards on each server."""
    files = cluster.fill(count=30, size=size, collection=collection)
    (volume_id,) = files.volume_ids
    encode(cluster, volume_id, places, collection)
    return files, volume_id


def encode(cluster: Cluster, volume_id: int, places: list[list[int]], collection: str = "") -> None:
    # No disk may get more than four shards from an encode: it deals them out, then they are moved by hand.
    params = TaskParams(
        task_id="encode",
        volume_id=volume_id,
        collection=collection,
        targets=[
            TaskTarget(node=str(server.address), shard_ids=range(at, 14, 4))
            for at, server in enumerate(cluster.servers)
        ],
        erasure_coding_params=ErasureCodingTaskParams(data_shards=10, parity_shards=4),
    )
    erasure_coding.run(Job("encode", "erasure_coding", params), cluster.context())
    for at, shards in enumerate(places):
        for shard in shards:
            if shard % 4 != at:
                source, target = cluster.servers[shard % 4], cluster.servers[at]
                put(cluster, volume_id, shard, source, target, collection)
                take(cluster, volume_id, shard, source, collection)
    for at, shards in enumerate(places):  # mounted anew, no server looks for shards where they were
        client = cluster.volume(cluster.servers[at])
        client.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=shards)
        client.volume_ec_shards_mount(volume_id=volume_id, collection=collection, shard_ids=shards)
    settle(cluster, volume_id)


def put(cluster: Cluster, volume_id: int, shard: int, source: Server, target: Server, collection: str = "") -> None:
    """Copy a shard by hand and mount it."""
    volume = cluster.volume(target)
    has_index = bool(target.files(f"*{volume_id}.ecx"))
    volume.volume_ec_shards_copy(
        volume_id=volume_id,
        collection=collection,
        shard_ids=[shard],
        copy_ecx_file=not has_index,
        copy_ecj_file=not has_index,
        copy_vif_file=True,
        source_data_node=str(source.address),
    )
    volume.volume_ec_shards_mount(volume_id=volume_id, collection=collection, shard_ids=[shard])


def settle(cluster: Cluster, volume_id: int) -> None:
    """Wait until the master shows what lies where."""

    def shown() -> bool:
        known = ec_locations(cluster.master_client(), volume_id)
        return all(
            {server.address for server in servers} == set(known.get(shard, []))
            for shard, servers in where(cluster, volume_id).items()
        )

    eventually(shown, timeout=30)


def job(
    volume_id: int, shard: int, source: Server | str, target: Server | str, collection: str = "", keep: object = ""
) -> Job:
    """The job an admin would send."""

    def name(server: Server | str) -> str:
        return server if isinstance(server, str) else str(server.address)

    params = TaskParams(
        task_id="move",
        volume_id=volume_id,
        collection=collection,
        sources=[TaskSource(node=name(source), volume_id=volume_id, shard_ids=[shard])],
        targets=[TaskTarget(node=name(target), volume_id=volume_id, shard_ids=[shard])],
        ec_balance_params=EcBalanceTaskParams(
            timeout_seconds=600, dedup_keep_node=str(keep.address) if isinstance(keep, Server) else str(keep)
        ),
    )
    return Job("move", "ec_balance", params)


def dealt() -> list[list[int]]:
    return [list(range(at, 14, 4)) for at in range(4)]


def detect(cluster: Cluster, **config: Any) -> list[Job]:
    """What detection proposes now, as jobs."""
    request = DetectionRequest("ec_balance", {"min_server_count": 2, **config}, (str(cluster.master),))
    found = ec_balance.detect(request, cluster.context())
    return [Job(proposal.id, "ec_balance", proposal.params) for proposal in found.proposals]


def test_a_shard_moves_with_all_files_readable(four: Cluster) -> None:
    files, volume_id = encoded(four, dealt(), "photos")
    a, b, *_ = four.servers
    result = ec_balance.run(job(volume_id, 4, a, b, "photos"), four.context())
    assert "moved shard 4" in result.summary
    assert where(four, volume_id)[4] == [b]
    settle(four, volume_id)
    four.check(files)


def test_a_shard_moves_to_a_server_that_had_nothing_of_the_volume(four: Cluster) -> None:
    files, volume_id = encoded(four, [list(range(at, 14, 3)) for at in range(3)] + [[]])
    *_, c, d = four.servers
    assert d.files() == []
    ec_balance.run(job(volume_id, 2, c, d), four.context())
    assert where(four, volume_id)[2] == [d]
    names = {name.partition(".")[2] for name in d.files()}
    assert {"ec02", "ecx", "vif"} <= names
    settle(four, volume_id)
    four.check(files)
    for server in four.servers:
        server.kill()
        revive(four, server)
    settle(four, volume_id)
    four.check(files)


def test_the_last_shard_of_a_server_takes_everything_else_with_it(four: Cluster) -> None:
    files, volume_id = encoded(four, [[*range(13)], [], [], [13]])
    a, *_, d = four.servers
    ec_balance.run(job(volume_id, 13, d, a), four.context())
    assert d.files() == []
    settle(four, volume_id)
    four.check(files)


def test_what_was_deleted_stays_deleted_after_a_move(four: Cluster) -> None:
    files, volume_id = encoded(four, dealt())
    a, b, c, _ = four.servers
    deleted = list(files)[:6]
    for fid in deleted:
        status, answer = request(a.address, "DELETE", f"/{fid}")
        assert status in (200, 202), answer
        del files[fid]
    for shard, source, target in ((0, a, b), (4, a, b), (8, a, c), (12, a, b)):  # all that `a` has
        ec_balance.run(job(volume_id, shard, source, target), four.context())
    settle(four, volume_id)
    four.check(files)
    for fid in deleted:
        for server in four.locations(volume_id):
            # A server that remembers where a shard was gives an error of its own, for minutes; but never the file.
            assert request(server.address, "GET", f"/{fid}")[0] in (404, 500)


def test_a_deletion_that_only_the_source_knows_is_passed_on(four: Cluster) -> None:
    files, volume_id = encoded(four, dealt())
    a, b, *_ = four.servers
    needle_id = int(next(iter(files)).partition(",")[2][:-8], 16)
    four.volume(a).volume_ec_blob_delete(volume_id=volume_id, file_key=needle_id, version=3)
    assert four.volume(b).volume_ec_shards_info(volume_id=volume_id).file_deleted_count == 0
    ec_balance.run(job(volume_id, 0, a, b), four.context())
    journal = ec_shards.fetch(four.volume(b), volume_id, "", ".ecj") or b""
    assert needle_id.to_bytes(8, "big") in journal


def test_after_a_move_every_holder_knows_every_deletion(four: Cluster) -> None:
    files, volume_id = encoded(four, dealt())
    a, b, c, d = four.servers
    ids = [int(fid.partition(",")[2][:-8], 16) for fid in list(files)[:2]]
    for needle_id, server in zip(ids, (c, d)):
        four.volume(server).volume_ec_blob_delete(volume_id=volume_id, file_key=needle_id, version=3)
    ec_balance.run(job(volume_id, 0, a, b), four.context())
    for server in four.servers:
        journal = ec_shards.fetch(four.volume(server), volume_id, "", ".ecj") or b""
        assert all(needle_id.to_bytes(8, "big") in journal for needle_id in ids), server


def test_the_same_job_again_finds_nothing_left_to_do(four: Cluster) -> None:
    files, volume_id = encoded(four, dealt())
    a, b, *_ = four.servers
    for _ in range(2):
        result = ec_balance.run(job(volume_id, 4, a, b), four.context())
    assert "was there already" in result.summary
    assert where(four, volume_id)[4] == [b]
    settle(four, volume_id)
    four.check(files)


def test_a_copy_that_lies_there_already_is_proved_and_the_source_removed(four: Cluster) -> None:
    files, volume_id = encoded(four, dealt())
    a, b, *_ = four.servers
    put(four, volume_id, 4, a, b)
    ec_balance.run(job(volume_id, 4, a, b), four.context())
    assert where(four, volume_id)[4] == [b]
    settle(four, volume_id)
    four.check(files)


def test_a_source_that_was_unmounted_but_not_deleted_is_compared_and_removed(four: Cluster) -> None:
    files, volume_id = encoded(four, dealt())
    a, b, *_ = four.servers
    put(four, volume_id, 4, a, b)
    four.volume(a).volume_ec_shards_unmount(volume_id=volume_id, shard_ids=[4])
    ec_balance.run(job(volume_id, 4, a, b), four.context())
    assert where(four, volume_id)[4] == [b]
    settle(four, volume_id)
    four.check(files)


def test_a_shard_that_exists_twice_loses_the_surplus_copy_only(four: Cluster) -> None:
    files, volume_id = encoded(four, dealt(), "photos")
    a, b, *_ = four.servers
    put(four, volume_id, 4, a, b, "photos")
    settle(four, volume_id)
    (surplus,) = [found for found in detect(four) if found.params.ec_balance_params.dedup_keep_node]
    ec_balance.run(surplus, four.context())
    assert len(where(four, volume_id)[4]) == 1
    settle(four, volume_id)
    four.check(files)
    assert detect(four) == []


def test_a_surplus_copy_stays_where_the_keeper_does_not_have_the_shard(four: Cluster) -> None:
    files, volume_id = encoded(four, dealt())
    a, b, *_ = four.servers
    with pytest.raises(StaleTask, match="does not have shard 4"):
        ec_balance.run(job(volume_id, 4, a, a, keep=b), four.context())
    assert where(four, volume_id)[4] == [a]
    four.check(files)


def test_a_surplus_copy_stays_where_the_keeper_holds_another_collection(four: Cluster) -> None:
    _files, volume_id = encoded(four, dealt(), "photos")
    a, b, *_ = four.servers
    with pytest.raises(StaleTask, match="nothing was touched"):
        ec_balance.run(job(volume_id, 4, a, a, "other", keep=b), four.context())
    assert where(four, volume_id)[4] == [a]


def test_a_surplus_copy_stays_where_the_keeper_cannot_be_asked(four: Cluster) -> None:
    _files, volume_id = encoded(four, dealt())
    a, b, *_ = four.servers
    put(four, volume_id, 4, a, b)
    b.kill()
    try:
        with pytest.raises(TaskError):
            ec_balance.run(job(volume_id, 4, a, a, keep=b), four.context())
        assert a in where(four, volume_id)[4]
    finally:
        revive(four, b)


def test_what_detection_proposes_ends_in_an_even_spread(four: Cluster) -> None:
    # Large enough to lie in every shard of data: what has moved is then noticed, whichever shards those are.
    files, volume_id = encoded(four, [[*range(0, 14, 2)], [], [*range(1, 14, 2)], []], size=(400_000, 600_000))
    for _round in range(8):
        jobs = detect(four)
        if not jobs:
            break
        for found in jobs:
            ec_balance.run(found, four.context())
        settle(four, volume_id)
    counts = [sum(server in servers for servers in where(four, volume_id).values()) for server in four.servers]
    assert sorted(counts) == [3, 3, 4, 4]
    four.check(files)


def test_a_dry_run_changes_nothing(sandbox_four: Cluster) -> None:
    _files, volume_id = encoded(sandbox_four, dealt())
    a, b, *_ = sandbox_four.servers
    see_nothing_yet(sandbox_four)
    result = ec_balance.run(job(volume_id, 4, a, b), sandbox_four.context(dry_run=True))
    assert "would move shard 4" in result.summary
    detect(sandbox_four)
    assert changes_seen(sandbox_four) == []


def test_a_volume_whose_encode_is_not_finished_is_left_alone(sandbox_four: Cluster) -> None:
    _files, volume_id = encoded(sandbox_four, dealt())
    a, b, *_ = sandbox_four.servers
    sandbox_four.stub(b).AllocateVolume.future(
        v.AllocateVolumeRequest(volume_id=volume_id, replication="000", version=3)
    ).result()
    with pytest.raises(StaleTask, match="regular volume"):
        ec_balance.run(job(volume_id, 4, a, b), sandbox_four.context())
    assert where(sandbox_four, volume_id)[4] == [a]


def test_a_copy_that_differs_is_removed_again_and_the_source_kept(sandbox_four: Cluster) -> None:
    files, volume_id = encoded(sandbox_four, dealt())
    a, b, *_ = sandbox_four.servers
    put(sandbox_four, volume_id, 4, a, b)
    path = next(b.data_dir.glob("*.ec04"))
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    with pytest.raises(Mismatch, match="differs from the source's"):
        ec_balance.run(job(volume_id, 4, a, b), sandbox_four.context())
    assert where(sandbox_four, volume_id)[4] == [a, b], "a copy that was there before is not ours to remove"
    take(sandbox_four, volume_id, 4, b)
    sandbox_four.check(files)


FAULTS = [
    (method, server, when)
    for method, server in (
        ("VolumeEcShardsCopy", "target"),
        ("VolumeEcShardsMount", "target"),
        ("VolumeEcShardsUnmount", "source"),
        ("VolumeEcShardsDelete", "source"),
    )
    for when in ("before", "after")
] + [("VolumeEcShardRead", "target", "before"), ("VolumeEcShardRead", "source", "before")]


@pytest.mark.parametrize(("method", "server", "when"), sample(FAULTS, 3))
def test_a_call_that_fails_leaves_every_shard_and_the_job_converges(
    sandbox_four: Cluster, tmp_path: Any, method: str, server: str, when: str
) -> None:
    files, volume_id = encoded(sandbox_four, dealt())
    a, b, *_ = sandbox_four.servers
    journal = Journal(tmp_path)
    entry = journal.open_entry("move", "ec_balance", volume_id)
    sandbox_four.faults(a if server == "source" else b).fail(method, code="UNKNOWN", text="made to fail", when=when)
    with pytest.raises(TaskError):
        ec_balance.run(job(volume_id, 4, a, b), sandbox_four.context(entry))
    entry.close()
    assert where(sandbox_four, volume_id)[4]
    for left in journal.unfinished():
        ec_balance.recover(left, sandbox_four.context(left))
        left.close()
    assert journal.count() == 0
    again = journal.open_entry("move", "ec_balance", volume_id)
    ec_balance.run(job(volume_id, 4, a, b), sandbox_four.context(again))
    again.close()
    assert where(sandbox_four, volume_id)[4] == [b]
    assert journal.count() == 0
    settle(sandbox_four, volume_id)
    sandbox_four.check(files)


KILLS = [
    (method, server, when)
    for method, server in (
        ("VolumeEcShardsCopy", "target"),
        ("VolumeEcShardsMount", "target"),
        ("VolumeEcShardsUnmount", "source"),
        ("VolumeEcShardsDelete", "source"),
    )
    for when in ("before", "after")
]


@pytest.mark.parametrize(("method", "server", "when"), sample(KILLS, 3))
def test_a_server_that_dies_at_any_step_costs_no_shard(
    sandbox_four: Cluster, tmp_path: Any, method: str, server: str, when: str
) -> None:
    files, volume_id = encoded(sandbox_four, dealt())
    a, b, *_ = sandbox_four.servers
    victim = a if server == "source" else b
    journal = Journal(tmp_path)
    entry = journal.open_entry("move", "ec_balance", volume_id)
    sandbox_four.faults(victim).kill_at(method, when=when)
    with pytest.raises(TaskError):
        ec_balance.run(job(volume_id, 4, a, b), sandbox_four.context(entry))
    entry.close()
    eventually(lambda: not victim.alive)
    revive(sandbox_four, victim)
    for left in journal.unfinished():
        ec_balance.recover(left, sandbox_four.context(left))
        left.close()
    assert journal.count() == 0
    ec_balance.run(job(volume_id, 4, a, b), sandbox_four.context())
    assert where(sandbox_four, volume_id)[4] == [b]
    settle(sandbox_four, volume_id)
    sandbox_four.check(files)


@pytest.mark.parametrize("call", ["VolumeEcShardsMount", "VolumeEcShardsDelete"])
def test_a_worker_killed_before_any_change_is_cleaned_up_after_and_the_job_repeated(
    four: Cluster, tmp_path: Any, call: str
) -> None:
    files, volume_id = encoded(four, dealt())
    a, b, *_ = four.servers
    worker = DyingWorker(four, tmp_path, at_first(call))
    assert worker.run(ec_balance.run, job(volume_id, 4, a, b)) is None
    assert worker.is_dead
    assert where(four, volume_id)[4]
    heir = DyingWorker(four, tmp_path)
    heir.recover(ec_balance.recover)
    assert heir.journal.count() == 0
    assert where(four, volume_id)[4] == [a], "what was not finished is undone"
    ec_balance.run(job(volume_id, 4, a, b), four.context())
    assert where(four, volume_id)[4] == [b]
    settle(four, volume_id)
    four.check(files)


def test_a_cancelled_move_leaves_no_copy(sandbox_four: Cluster) -> None:
    files, volume_id = encoded(sandbox_four, dealt())
    a, b, *_ = sandbox_four.servers
    context = sandbox_four.context()
    sandbox_four.faults(b).slow("VolumeEcShardsCopy", 20.0)
    cancel: Callable[[], None] = lambda: context.cluster.leash.cancel(Cancelled())  # noqa: E731
    threading.Timer(1.0, cancel).start()
    with pytest.raises(Cancelled):
        ec_balance.run(job(volume_id, 4, a, b), context)
    sandbox_four.faults(b).clear()
    assert a in where(sandbox_four, volume_id)[4]
    assert context.journal.open == []
    sandbox_four.check(files)


def test_jobs_that_make_no_sense_are_refused_before_anything_is_touched(sandbox_four: Cluster) -> None:
    a, b, *_ = sandbox_four.servers
    good = job(7, 4, a, b)
    bad: list[tuple[str, Job]] = [
        ("are no shards", job(7, 14, a, b)),
        ("are no shards", job(7, 259, a, b)),
        ("no server is named that keeps it", job(7, 4, a, a)),
        ("both lose and keep", job(7, 4, a, a, keep=a)),
        ("is no server address", job(7, 4, a, "nowhere")),
        ("no source or no target", job(7, 4, a, "")),
        ("names no volume", replace(job(0, 4, a, b), parameters={})),
        ("one source and one target", replace(good, params=TaskParams(volume_id=7, sources=good.params.sources))),
        ("are no shards", replace(good, params=TaskParams(volume_id=7), parameters={"volume_id": 7})),
    ]
    for reason, order in bad:
        with pytest.raises(BadTask, match=reason):
            ec_balance.run(order, sandbox_four.context())
    across = job(7, 4, a, a, keep=b)
    across.params.targets[0].disk_id = 1
    with pytest.raises(BadTask, match="between its own disks"):
        ec_balance.run(across, sandbox_four.context())


def test_plain_parameters_serve_as_well_as_typed_ones(four: Cluster) -> None:
    files, volume_id = encoded(four, dealt())
    a, b, *_ = four.servers
    parameters: dict[str, Value] = {
        "volume_id": volume_id,
        "source_server": str(a.address),
        "target_server": str(b.address),
        "shard_id": 4,
    }
    ec_balance.run(Job("plain", "ec_balance", TaskParams(), parameters), four.context())
    assert where(four, volume_id)[4] == [b]
    settle(four, volume_id)
    four.check(files)
