"""Servers that fail or die under an encode: no file is lost, nothing stays read-only, no shard stays, a retry works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import clusters
from tests.support import eventually
from tests.support.cluster import OPTIONS, Cluster
from tests.support.dying import sample
from tests.support.erasure_coding import answers, assert_as_before, assert_encoded, fresh, job
from weed_core.errors import TaskError
from weed_tasks import erasure_coding

SOURCE, TARGET = 0, 3

FAILURES = [
    ("VolumeServerStatus", TARGET, 1),
    ("VolumeEcShardsInfo", TARGET, 1),
    ("VolumeStatus", SOURCE, 1),
    ("VolumeStatus", SOURCE, 3),
    ("VolumeMarkReadonly", SOURCE, 1),
    ("ReadVolumeFileStatus", SOURCE, 2),
    ("CopyFile", SOURCE, 15),
    ("CopyFile", SOURCE, 17),
    ("ReceiveFile", TARGET, 1),
    ("ReceiveFile", TARGET, 2),
    ("ReceiveFile", SOURCE, 5),
    ("ReceiveFile", TARGET, 6),
    ("VolumeEcShardsMount", TARGET, 1),
    ("VolumeEcShardsMount", SOURCE, 1),
    ("VolumeEcShardsInfo", TARGET, 2),
    ("VolumeEcShardRead", TARGET, 1),
    ("VolumeDelete", SOURCE, 1),
]

DEATHS = [
    ("VolumeMarkReadonly", SOURCE, 1),
    ("ReceiveFile", TARGET, 2),
    ("ReceiveFile", SOURCE, 5),
    ("VolumeEcShardsMount", SOURCE, 1),
    ("VolumeEcShardRead", TARGET, 1),
    ("VolumeDelete", SOURCE, 1),
]


def both(calls: list[tuple[str, int, int]]) -> list[tuple[str, int, int, str]]:
    """Each of them before and after it took effect."""
    return [(*call, when) for call in calls for when in ("before", "after")]


_module_five = clusters(servers=5)


@pytest.fixture
def five(_module_five: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Five empty servers of the sandbox."""
    fresh(_module_five)
    _module_five.options["sender_seconds"] = 0.0
    monkeypatch.setitem(OPTIONS, "still_seconds", 0.05)
    return _module_five


@pytest.mark.parametrize(("method", "server", "nth", "when"), sample(both(FAILURES), 3))
def test_a_call_that_fails_leaves_the_volume_as_it_was_or_encoded(
    five: Cluster, method: str, server: int, nth: int, when: str
) -> None:
    files = five.fill(count=4, servers=five.servers[:1])
    order = job(five, files.volume_ids[0])
    faults = five.faults(five.servers[server])
    faults.clear()
    faults.fail(method, nth=nth, code="UNKNOWN", text="made to fail", when=when)

    failed = ""
    try:
        erasure_coding.run(order, five.context())
    except TaskError as error:
        failed = str(error)

    faults.clear()
    if five.servers[SOURCE].files("*.dat"):
        assert "made to fail" in failed
        assert_as_before(five, files, five.servers[:1])
    else:
        five.check(files)
    erasure_coding.run(order, five.context())
    assert_encoded(five, files)


@pytest.mark.parametrize(("method", "server", "nth", "when"), sample(both(DEATHS), 3))
def test_a_server_that_dies_and_comes_back_loses_nothing(
    five: Cluster, method: str, server: int, nth: int, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIONS, "shown_seconds", 2.0)
    files = five.fill(count=4, servers=five.servers[:1])
    order = job(five, files.volume_ids[0])
    five.faults(five.servers[server]).clear()
    five.faults(five.servers[server]).kill_at(method, nth=nth, when=when)
    ctx = five.context()

    try:
        erasure_coding.run(order, ctx)
    except TaskError:
        pass

    eventually(lambda: not five.servers[server].alive)
    five.start()
    eventually(lambda: answers(five, five.servers[server]), timeout=20)
    erasure_coding.recover(ctx.journal, five.context())
    assert not ctx.journal.open
    if five.servers[SOURCE].files("*.dat"):
        assert_as_before(five, files, five.servers[:1])
    else:
        five.check(files)
    erasure_coding.run(order, five.context())
    assert_encoded(five, files)


@pytest.mark.parametrize(
    ("nth", "lying"),
    [(1, False), (2, False), (4, False), (2, True), (4, True)],  # the .vif, a shard, the .ecx
    ids=["vif", "shard", "ecx", "shard-lying", "ecx-lying"],
)
def test_an_upload_that_a_server_cut_short_is_never_taken_for_whole(five: Cluster, nth: int, lying: bool) -> None:
    files = five.fill(count=4, servers=five.servers[:1])
    order = job(five, files.volume_ids[0])
    faults = five.faults(five.servers[2])
    faults.clear()
    faults.lose("ReceiveFile", nth=nth, lying=lying)

    with pytest.raises(TaskError):
        erasure_coding.run(order, five.context())

    faults.clear()
    assert_as_before(five, files, five.servers[:1])
    erasure_coding.run(order, five.context())
    assert_encoded(five, files)


def test_a_run_file_that_a_server_damaged_unseen_is_left_to_the_operator_and_the_volume_unharmed(five: Cluster) -> None:
    # The server cannot tell of which run its shards are, so they are not removed: they are named instead.
    files = five.fill(count=4, servers=five.servers[:1])
    (volume_id,) = files.volume_ids
    faults = five.faults(five.servers[2])
    faults.clear()
    faults.lose("ReceiveFile", nth=1, lying=True)

    with pytest.raises(TaskError, match=f"these may be left of it: shards .* on {five.servers[2].address}"):
        erasure_coding.run(job(five, volume_id), five.context())

    five.check(files)
    assert not five.volume(five.servers[0]).volume_status(volume_id=volume_id).is_read_only


def test_a_disk_that_fills_up_leaves_the_volume_as_it_was(five: Cluster) -> None:
    files = five.fill(count=4, servers=five.servers[:1])
    order = job(five, files.volume_ids[0])
    faults = five.faults(five.servers[2])
    faults.clear()
    faults.fail("ReceiveFile", nth=2, code="UNKNOWN", text="write 1.ec02: no space left on device", when="during")

    with pytest.raises(TaskError, match="no space left on device"):
        erasure_coding.run(order, five.context())

    faults.clear()
    assert_as_before(five, files, five.servers[:1])
    erasure_coding.run(order, five.context())
    assert_encoded(five, files)


def test_while_its_server_looks_for_another_master_a_volume_waits_outside_its_slot(five: Cluster) -> None:
    files = five.fill(count=5)
    (server,) = five.locations(files.volume_ids[0])
    five.faults(server).fail("VolumeMarkReadonly", 1, "UNKNOWN", "grpc VolumeMarkReadonly with master 127.0.0.1:1: EOF")
    gone: list[bool] = []
    ctx = five.context()

    @contextmanager
    def outside() -> Iterator[None]:
        gone.append(five.volume(server).volume_status(volume_id=files.volume_ids[0]).is_read_only)
        yield

    ctx.outside_slot = outside
    erasure_coding.run(job(five, files.volume_ids[0]), ctx)

    assert gone[0] is False
    assert_encoded(five, files)
