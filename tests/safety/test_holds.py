"""Holds that outlive the disk of their maker: recorded at the filer, and ended by whoever finds them over."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from proto_gen import worker_pb2
from tests.conftest import REAL_KINDS, SANDBOX_KIND, _params
from tests.support import eventually
from tests.support.cluster import OPTIONS, Cluster, Files, Kind, Server, request, start_cluster
from tests.support.dying import DyingWorker, at_event, moments, sample
from weed_cluster.channels import Channels
from weed_cluster.client import Cluster as Clients
from weed_cluster.filer import Filer
from weed_core.errors import Cancelled, ServerFailed, StillShut, TaskError
from weed_core.model import Job
from weed_safety import forget, holds, records
from weed_safety.context import Context
from weed_safety.journal import Entry, Journal
from weed_safety.lease import volume_lease
from weed_safety.steps import of_kind
from weed_sandbox.launcher import Launcher
from weed_tasks import balance
from weed_tasks.reopen import end_holds, reopen

REMEMBERED = 3.0
"""Seconds for which servers are taken to remember: no client writes through one here."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIONS, "still_seconds", 0.1)
    monkeypatch.setitem(OPTIONS, "copy_begins_seconds", 0.3)
    monkeypatch.setattr(holds, "SLACK", 1.0)


CANNOT_FORGET = [Kind("4.13"), *(kind for kind in REAL_KINDS if kind.era == "4.13")]


@pytest.fixture(params=_params(CANNOT_FORGET))
def old(
    request: pytest.FixtureRequest, launcher: Launcher, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Servers that cannot be made to forget where replicas were."""
    cluster = start_cluster(request.param, launcher, tmp_path_factory.mktemp("old"))
    yield cluster
    cluster.close()


def is_read_only(cluster: Cluster, server: Server, volume_id: int) -> bool:
    return cluster.volume(server).volume_status(volume_id=volume_id).is_read_only


def filer_at(cluster: Cluster, place: object) -> Filer:
    clients = cluster.clients()
    return Filer(clients.channels, place.address, clients.leash)  # type: ignore[attr-defined]


def job_of(volume_id: int, source: Server, target: Server) -> Job:
    params = worker_pb2.TaskParams(
        volume_id=volume_id,
        sources=[worker_pb2.TaskSource(node=str(source.address))],
        targets=[worker_pb2.TaskTarget(node=str(target.address))],
    )
    return Job("move", "balance", params)


def stopped_in_its_wait(cluster: Cluster, directory: Path, remembered: float = REMEMBERED) -> tuple[Files, Entry, str]:
    """A move from the first server to the third that was told to stop while its volume was shut."""
    a, b, c = cluster.servers
    files = cluster.fill(count=5, servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    cluster.settle()
    entry = Journal(directory).open_entry("move", "balance", volume_id)
    ctx = cluster.context(entry, remembered_seconds=remembered)

    def stop(_fraction: float, stage: str, _figures: object) -> None:
        if "read-only for" in stage:
            ctx.cluster.leash.cancel(Cancelled("told to stop"))

    ctx.report = stop
    with pytest.raises(StillShut) as ended:
        balance.run(job_of(volume_id, a, c), ctx)
    entry.close()
    assert cluster.locations(volume_id) == [b, c]
    return files, entry, ended.value.reason


def other_worker(cluster: Cluster, directory: Path) -> list[tuple[int, str, str]]:
    """What a worker with another directory says of the holds it finds, and does about them."""
    told: list[tuple[int, str, str]] = []

    assert (
        end_holds(Journal(directory), cluster.context, lambda hold, *said: told.append((hold.volume_id, *said))) == []
    )
    return told


def test_a_hold_is_ended_by_another_worker_when_its_maker_is_gone_with_its_disk(old: Cluster, tmp_path: Path) -> None:
    cluster = old
    _a, b, c = cluster.servers
    filer = cluster.start_filer()
    files, _entry, said = stopped_in_its_wait(cluster, tmp_path / "first")
    (volume_id,) = files.volume_ids
    assert re.search(
        rf"volume {volume_id} stays read-only until \d\d:\d\d:\d\d UTC; any run of weed_worker against this cluster "
        "then opens it",
        said,
    ), said
    shutil.rmtree(tmp_path / "first")
    assert [is_read_only(cluster, server, volume_id) for server in (b, c)] == [True, True]
    assert filer_at(cluster, filer).entries(holds.DIRECTORY)

    ((number, outcome, text),) = other_worker(cluster, tmp_path / "second")
    assert (number, outcome) == (volume_id, "waiting")
    assert re.search(r"until \d\d:\d\d:\d\d UTC for balance move by weed_worker ", text), text
    assert [is_read_only(cluster, server, volume_id) for server in (b, c)] == [True, True]

    told = eventually(lambda: (said := other_worker(cluster, tmp_path / "second"))[0][1] != "waiting" and said, 15)
    assert told[0][:2] == (volume_id, "done"), told  # type: ignore[index]
    assert [is_read_only(cluster, server, volume_id) for server in (b, c)] == [False, False]
    assert holds.read_all(cluster.context()) == []
    assert other_worker(cluster, tmp_path / "second") == []
    fid = f"{volume_id},f100000001"
    assert request(b.address, "PUT", f"/{fid}", b"data")[0] == 201
    assert cluster.read(fid, c) == b"data"
    cluster.check(files)


def test_a_hold_whose_replicas_differ_is_not_ended_and_stays_known(old: Cluster, tmp_path: Path) -> None:
    cluster = old
    _a, b, c = cluster.servers
    cluster.start_filer()
    files, _entry, _said = stopped_in_its_wait(cluster, tmp_path / "first", 1.0)
    (volume_id,) = files.volume_ids
    cluster.volume(c).volume_mark_writable(volume_id=volume_id)
    cluster.write(cluster.fill(volumes=[volume_id], count=0), volume_id, 2, 100, [c])
    told = eventually(lambda: (said := other_worker(cluster, tmp_path / "second"))[0][1] != "waiting" and said, 15)
    assert told[0][1] == "failed", told  # type: ignore[index]
    assert "differ in 2 needles, so it was not opened" in told[0][2]  # type: ignore[index]
    assert [is_read_only(cluster, server, volume_id) for server in (b, c)] == [True, False]
    assert [hold.volume_id for hold in holds.read_all(cluster.context())] == [volume_id]


def test_its_maker_opens_nothing_when_others_have_ended_its_hold_and_hold_the_volume_anew(
    old: Cluster, tmp_path: Path
) -> None:
    cluster = old
    _a, b, c = cluster.servers
    cluster.start_filer()
    files, _entry, _said = stopped_in_its_wait(cluster, tmp_path / "first", 1.0)
    (volume_id,) = files.volume_ids
    told = eventually(lambda: (said := other_worker(cluster, tmp_path / "second"))[0][1] != "waiting" and said, 15)
    assert told[0][1] == "done", told  # type: ignore[index]
    second = Journal(tmp_path / "second").open_entry("other", "balance", volume_id)
    for server in (b, c):
        cluster.volume(server).volume_mark_readonly(volume_id=volume_id)
    replicas = {server.address: True for server in (b, c)}
    assert holds.record(cluster.context(second), volume_id, time.time() + 100, replicas)
    (left,) = Journal(tmp_path / "first").unfinished()
    balance.recover(left, cluster.context(left))
    assert left.open == []
    assert [is_read_only(cluster, server, volume_id) for server in (b, c)] == [True, True]
    assert [hold.is_over for hold in holds.read_all(cluster.context())] == [False]
    cluster.check(files)


def test_its_maker_ends_it_and_removes_the_record(old: Cluster, tmp_path: Path) -> None:
    cluster = old
    _a, b, c = cluster.servers
    cluster.start_filer()
    files, _entry, _said = stopped_in_its_wait(cluster, tmp_path, 1.0)
    (volume_id,) = files.volume_ids

    def recovers() -> bool:
        (left,) = Journal(tmp_path).unfinished()
        with suppress(TaskError):  # too early
            balance.recover(left, cluster.context(left))
        left.close()
        return not left.open

    eventually(recovers, 15)
    assert Journal(tmp_path).unfinished() == []
    assert holds.read_all(cluster.context()) == []
    assert [is_read_only(cluster, server, volume_id) for server in (b, c)] == [False, False]
    cluster.check(files)


def test_without_a_filer_the_journal_alone_knows_and_the_words_say_so(old: Cluster, tmp_path: Path) -> None:
    _files, entry, said = stopped_in_its_wait(old, tmp_path, 100.0)
    assert "the next run or worker with the same -workingDir then opens it" in said
    assert of_kind(entry, holds.Recorded) == []
    assert holds.read_all(old.context()) == []


def test_a_filer_that_does_not_answer_costs_a_move_nothing_but_the_record(
    make_sandbox_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster = make_sandbox_cluster(era="4.13")
    filer = cluster.start_filer()
    cluster.faults(filer.address).fail("CreateEntry", nth=0)
    _files, entry, said = stopped_in_its_wait(cluster, tmp_path, 100.0)
    assert "the next run or worker with the same -workingDir then opens it" in said
    assert [step.change.written for step in of_kind(entry, holds.Recorded)] == [False]
    assert holds.is_ours(cluster.context(entry), entry.volume_id)


def test_a_finished_move_leaves_no_record(cluster: Cluster, tmp_path: Path) -> None:
    a, b, c = cluster.servers
    filer = cluster.start_filer()
    files = cluster.fill(count=5, servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    cluster.settle()
    entry = Journal(tmp_path).open_entry("move", "balance", volume_id)
    balance.run(job_of(volume_id, a, c), cluster.context(entry, remembered_seconds=1.0))
    assert entry.open == []
    assert holds.read_all(cluster.context()) == []
    if cluster.kind == "sandbox":
        written = [order["directory"] for name, order in cluster.calls(filer.address) if name == "CreateEntry"]
        assert written == [holds.DIRECTORY, forget.MOVED]
    cluster.check(files)


def test_a_volume_that_another_worker_has_just_moved_is_known_as_such(cluster: Cluster, tmp_path: Path) -> None:
    if cluster.era != "4.44":
        return  # earlier servers cannot be made to forget, so there is nothing to know
    a, b, c = cluster.servers
    cluster.start_filer()
    files = cluster.fill(count=5, servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    cluster.settle()
    entry = Journal(tmp_path).open_entry("move", "balance", volume_id)
    balance.run(job_of(volume_id, a, c), cluster.context(entry))

    def other() -> Context:
        return Context(Clients(Channels(), [cluster.master]), Journal.memory())

    holders = [b.address, c.address]
    assert "has moved less than ten minutes ago" in forget.why_not(other(), volume_id, holders)
    assert "has moved less than ten minutes ago" in forget.asker(other())(volume_id, holders)
    assert forget.why_not(other(), volume_id + 1, holders) == ""
    (name,) = records.read_all(other(), forget.MOVED)
    records.put(other(), forget.MOVED, name, b'{"until": 1}')  # as if the time had passed
    assert forget.why_not(other(), volume_id, holders) == ""
    again = Journal(tmp_path).open_entry("again", "balance", volume_id)
    more = cluster.fill(count=1, servers=[a, b], replication="001")
    cluster.settle()
    balance.run(job_of(more.volume_ids[0], a, c), cluster.context(again))
    assert list(records.read_all(other(), forget.MOVED)) == [f"{more.volume_ids[0]}.json"]
    cluster.check(files)


RECORD = {
    "volume_id": 7,
    "token": "t",
    "who": "w",
    "why": "y",
    "since": 1.0,
    "until": 2.0,
    "replicas": {"10.0.0.1:8080": True},
}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("7.json", b""),
        ("7.json", b"[]"),
        ("7.json", b"{}"),
        ("8.json", json.dumps(RECORD).encode()),
        ("7.json", json.dumps({**RECORD, "until": "never"}).encode()),
        ("7.json", json.dumps({**RECORD, "until": 1e300}).encode()),
        ("7.json", json.dumps({**RECORD, "replicas": {"../etc": True}}).encode()),
        ("7.json", json.dumps({**RECORD, "replicas": {}}).encode()),
        ("7.json", json.dumps({**RECORD, "who": "w" * 70_000}).encode()),
    ],
)
def test_what_is_no_record_is_passed_over(name: str, content: bytes) -> None:
    assert holds.Hold.read(name, content) is None


def test_a_record_is_read_back_as_it_was_written() -> None:
    hold = holds.Hold.read("7.json", json.dumps(RECORD).encode())
    assert hold is not None
    assert hold.is_over
    assert hold.text() == "read-only since 00:00:01 until 00:00:02 UTC for y by w"


@pytest.fixture(params=_params([SANDBOX_KIND, *REAL_KINDS]))
def any_filer(request: pytest.FixtureRequest, launcher: Launcher, tmp_path: Path) -> Iterator[Filer]:
    """A filer of a cluster with one volume server."""
    cluster = start_cluster(request.param, launcher, tmp_path / "filers", servers=1)
    yield filer_at(cluster, cluster.start_filer())
    cluster.close()


def test_a_filer_keeps_small_files_lists_them_and_forgets_what_is_removed(any_filer: Filer) -> None:
    directory = "/etc/weed_worker/test"
    assert list(any_filer.entries(directory)) == []
    any_filer.remove(directory, "none.json")
    for number in (2, 1, 10):
        any_filer.put(directory, f"{number}.json", b"first", "application/json")
    any_filer.put(directory, "2.json", b"second", "application/json")
    kept = [(entry.name, entry.content) for entry in any_filer.entries(directory)]
    assert kept == [("1.json", b"first"), ("10.json", b"first"), ("2.json", b"second")]
    any_filer.remove(directory, "10.json")
    assert [entry.name for entry in any_filer.entries(directory)] == ["1.json", "2.json"]


def test_a_listing_goes_on_behind_a_full_page(any_filer: Filer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weed_cluster.filer.PAGE", 2)
    for number in range(5):
        any_filer.put("/etc/weed_worker/test", f"{number}", b"x", "text/plain")
    assert [entry.name for entry in any_filer.entries("/etc/weed_worker/test")] == ["0", "1", "2", "3", "4"]


def test_a_filer_that_is_gone_is_said_to_have_failed(
    make_sandbox_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster = make_sandbox_cluster()
    filer = cluster.start_filer()
    cluster.faults(filer.address).fail("ListEntries", nth=0)
    with pytest.raises(ServerFailed, match="ListEntries"):
        holds.read_all(cluster.context())


def settle_from_elsewhere(cluster: Cluster, directory: Path, volume_id: int) -> None:
    """What another worker does where the first one's disk is gone; `undo -volumeId` where its words ask for it."""

    def is_told() -> bool:
        told = other_worker(cluster, directory)
        return all(
            outcome == "done" or f"weed_worker undo -volumeId={volume_id}" in text for _number, outcome, text in told
        )

    eventually(is_told, 20)
    cluster.settle(30)  # masters list a copy that was just dropped for a moment more
    if any(is_read_only(cluster, server, volume_id) for server in cluster.locations(volume_id)):
        context = cluster.context()
        with volume_lease(context, volume_id, 15.0) as lease:
            reopen(context, volume_id, lease)
    other_worker(cluster, directory)
    assert holds.read_all(cluster.context()) == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("keeps_disk", [True, False], ids=["started again", "gone with its disk"])
def test_a_worker_killed_at_any_change_of_a_move_that_is_on_record_leaves_no_volume_shut(
    old: Cluster, tmp_path: Path, keeps_disk: bool
) -> None:
    cluster = old
    a, b, c = cluster.servers
    cluster.start_filer()
    cluster.options["remembered_seconds"] = 1.0

    def filled() -> Files:
        files = cluster.fill(count=3, servers=[a, b], replication="001")
        cluster.settle()
        return files

    whole = DyingWorker(cluster, tmp_path / "whole")
    whole.run(balance.run, job_of(filled().volume_ids[0], a, c))
    assert "CreateEntry" in whole.changes
    assert "DeleteEntry" in whole.changes
    for at in sample(moments(whole.events, all_of_them=False), 1 if keeps_disk else 4):
        files = filled()
        (volume_id,) = files.volume_ids
        first, second = tmp_path / f"{at}", tmp_path / f"{at}-second"
        DyingWorker(cluster, first, at_event(at)).run(balance.run, job_of(volume_id, a, c))
        if keeps_disk:
            DyingWorker(cluster, first).clear_up(balance.recover)
        settle_from_elsewhere(cluster, second, volume_id)
        cluster.settle()
        holders = cluster.locations(volume_id)
        assert [is_read_only(cluster, server, volume_id) for server in holders] == [False] * len(holders), at
        assert len(holders) >= 2
        cluster.check(files)
        for server in holders:
            cluster.volume(server).volume_delete(volume_id=volume_id)
