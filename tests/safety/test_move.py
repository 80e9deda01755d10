"""Moving a volume: equal bytes on the target, nothing on the source, and no way to lose either on the way.

WEED_TEN_MINUTES=1 also plays, on real servers before 4.44, the one test that must wait so long for them to forget.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest

from proto_gen import worker_pb2
from tests.conftest import REAL_KINDS, SANDBOX_KIND, _params
from tests.support import eventually
from tests.support.cluster import OPTIONS, TIMING, Cluster, Files, Kind, Server, request, start_cluster
from tests.support.dying import DyingWorker, at_event, moments, occurrences, sample
from tests.support.rpcs import CHANGING
from weed_cluster.address import Address
from weed_cluster.masters import Masters
from weed_core.errors import BadTask, Busy, Cancelled, Mismatch, StaleTask, StillShut, TaskError, TimedOut
from weed_core.model import Job
from weed_safety import copy
from weed_safety.freeze import freeze
from weed_safety.journal import Journal
from weed_safety.lease import volume_lease
from weed_safety.look import file_status
from weed_safety.move import Moved, MoveOrder, move_volume, open_moved
from weed_safety.steps import plan
from weed_sandbox.launcher import Launcher
from weed_tasks import balance

QUIET = 0.3  # seconds
T = TypeVar("T")


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take it that volume servers remember nothing, but in the tests of that."""
    monkeypatch.setitem(OPTIONS, "remembered_seconds", 0.0)


def move(cluster: Cluster, volume_id: int, source: Server, target: Server, **wishes: object) -> Moved:
    journal = Journal.memory("move", "balance", volume_id)
    ctx = cluster.context(journal=journal)
    order = MoveOrder(volume_id, source.address, target.address, quiet=QUIET, **wishes)  # type: ignore[arg-type]
    moved = move_volume(ctx, order)
    open_moved(ctx, moved)
    assert journal.open == []
    return moved


def is_read_only(cluster: Cluster, server: Server, volume_id: int) -> bool:
    return cluster.volume(server).volume_status(volume_id=volume_id).is_read_only


def test_a_moved_volume_reads_back_equal_and_is_gone_from_its_source(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(count=30, size=(1, 5000), servers=[a], collection="pictures")
    cluster.delete(list(files)[:10])
    (volume_id,) = files.volume_ids
    moved = move(cluster, volume_id, a, b)
    assert not moved.already
    assert cluster.locations(volume_id) == [b]
    cluster.check(files)
    assert a.files() == []
    assert not is_read_only(cluster, b, volume_id)
    cluster.write(files, volume_id, 5, 300, [b])
    cluster.delete(list(files)[:3])
    cluster.check(files)
    b.stop()
    cluster.start()
    assert not is_read_only(cluster, b, volume_id)
    cluster.check(files)
    cluster.write(files, volume_id, 5, 300, [b])
    cluster.check(files)


def test_an_empty_volume_can_be_moved(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    volume_id = cluster.allocate([a])
    move(cluster, volume_id, a, b)
    assert cluster.locations(volume_id) == [b]
    assert a.files() == []


@pytest.mark.parametrize("persist", [True, False])
def test_a_volume_that_is_read_only_for_a_reason_nobody_can_tell_is_not_moved(cluster: Cluster, persist: bool) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a])
    (volume_id,) = files.volume_ids
    cluster.volume(a).volume_mark_readonly(volume_id=volume_id, persist=persist)
    with pytest.raises(StaleTask, match=f"read-only on {re.escape(str(a.address))}, and nobody can tell why"):
        move(cluster, volume_id, a, b)
    assert is_read_only(cluster, a, volume_id)
    assert b.files() == []
    cluster.check(files)


def mounted_without_files(cluster: Cluster, volume_id: int, source: Server, target: Server) -> None:
    """What a server has that finished a pull for a dead client: it mounts the copy, then removes its files."""
    list(cluster.volume(target).volume_copy(volume_id=volume_id, source_data_node=str(source.address)))
    for path in target.data_dir.glob(f"*{volume_id}.*"):
        path.unlink()
    assert cluster.volume(target).read_volume_file_status(volume_id=volume_id).dat_file_size


def test_what_a_killed_copy_left_mounted_without_files_is_cleared_and_the_move_made(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a])
    (volume_id,) = files.volume_ids
    mounted_without_files(cluster, volume_id, a, b)
    ctx = cluster.context()
    with volume_lease(ctx, volume_id) as lease:
        move_volume(ctx, MoveOrder(volume_id, a.address, b.address), lease=lease)
    assert [name[-4:] for name in b.files("*.dat")] == [".dat"]
    assert a.files() == []
    b.kill()
    cluster.start()
    eventually(lambda: cluster.locations(volume_id) == [b], timeout=30)
    cluster.check(files)


def test_what_a_killed_copy_left_is_cleared_by_whoever_copies_with_the_volume_s_lease(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a])
    (volume_id,) = files.volume_ids
    mounted_without_files(cluster, volume_id, a, b)
    ctx = cluster.context()
    with pytest.raises(StaleTask, match="already holds"):
        copy.copy_volume(ctx, volume_id, a.address, b.address)
    with volume_lease(ctx, volume_id) as lease:
        ctx.journal.settle(copy.copy_volume(ctx, volume_id, a.address, b.address, lease=lease).step)
    assert [name[-4:] for name in b.files("*.dat")] == [".dat"]
    b.kill()
    cluster.start()
    eventually(lambda: set(cluster.locations(volume_id)) == {a, b}, timeout=30)
    cluster.check(files)


def test_a_volume_that_is_left_only_without_files_is_not_called_moved(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    (volume_id,) = cluster.fill(servers=[a]).volume_ids
    mounted_without_files(cluster, volume_id, a, b)
    cluster.volume(a).volume_delete(volume_id=volume_id)
    with pytest.raises(Mismatch, match="only as long as that server runs"):
        move(cluster, volume_id, a, b)


def test_a_move_onto_the_same_endpoint_is_refused(cluster: Cluster) -> None:
    a = cluster.servers[0]
    files = cluster.fill(servers=[a])
    with pytest.raises(BadTask, match="same server"):
        move(cluster, files.volume_ids[0], a, a)
    cluster.check(files)


def test_a_move_onto_a_server_that_holds_a_copy_is_refused(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a, b], replication="001")
    with pytest.raises(StaleTask, match="already holds"):
        move(cluster, files.volume_ids[0], a, b)
    cluster.check(files)
    assert not is_read_only(cluster, a, files.volume_ids[0])


def test_a_move_of_a_volume_that_is_elsewhere_is_refused(cluster: Cluster) -> None:
    a, b, c = cluster.servers
    files = cluster.fill(servers=[a])
    with pytest.raises(StaleTask, match="no longer holds"):
        move(cluster, files.volume_ids[0], b, c)
    cluster.check(files)


def test_a_move_of_another_collection_than_planned_is_refused(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a], collection="pictures")
    with pytest.raises(StaleTask, match="pictures"):
        move(cluster, files.volume_ids[0], a, b, collection="music")


def test_a_move_that_was_done_before_succeeds_at_once(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a])
    (volume_id,) = files.volume_ids
    move(cluster, volume_id, a, b)
    assert move(cluster, volume_id, a, b).already
    cluster.check(files)


def test_a_replica_moves_while_its_sibling_stays(cluster: Cluster) -> None:
    a, b, c = cluster.servers
    files = cluster.fill(servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    move(cluster, volume_id, b, c)
    assert cluster.locations(volume_id) == [a, c]
    cluster.check(files)
    assert [is_read_only(cluster, server, volume_id) for server in (a, c)] == [False, False]
    cluster.write(files, volume_id, 5, 300, [a, c])
    cluster.check(files)


def test_a_volume_of_which_another_replica_is_read_only_for_no_known_reason_is_not_moved(cluster: Cluster) -> None:
    a, b, c = cluster.servers
    files = cluster.fill(servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    cluster.volume(a).volume_mark_readonly(volume_id=volume_id, persist=True)
    with pytest.raises(StaleTask, match="nobody can tell why"):
        move(cluster, volume_id, b, c)
    assert [is_read_only(cluster, server, volume_id) for server in (a, b)] == [True, False]
    cluster.check(files)


def test_a_volume_with_a_replica_that_cannot_be_asked_is_not_moved(sandbox_cluster: Cluster) -> None:
    cluster = sandbox_cluster
    a, b, c = cluster.servers
    files = cluster.fill(servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    cluster.faults(b).fail("ReadVolumeFileStatus", nth=0, code="UNKNOWN")
    with pytest.raises(StaleTask, match=rf"volume {volume_id} has a replica that cannot be asked.*{b.address}"):
        move(cluster, volume_id, a, c)
    assert not is_read_only(cluster, a, volume_id)
    assert c.files() == []
    cluster.check(files)


class Client(threading.Thread):
    """Writes to a volume through one server until it is told to stop, and deletes every fourth file a little later.

    `acknowledged` is what that server took and was not asked to delete, `deleted` what it said to have deleted.
    """

    def __init__(self, server: Server, volume_id: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged: dict[str, bytes] = {}
        self.deleted: list[str] = []
        self.refused: list[float] = []  # when
        self._server = server
        self._volume_id = volume_id
        self._ended = threading.Event()

    def run(self) -> None:
        salt = self._server.address.host.rpartition(".")[2]
        for number in itertools.count(0x10000):
            fid, data = f"{self._volume_id},{salt}{number:x}0badcafe", b"written meanwhile %d" % number
            if self._ask("PUT", fid, data) in (200, 201):
                self.acknowledged[fid] = data
            if number % 4 == 0 and len(self.acknowledged) > 4:
                old = list(self.acknowledged)[-4]
                del self.acknowledged[old]
                if self._ask("DELETE", old) == 202:
                    self.deleted.append(old)
            if self._ended.wait(0.01):
                return

    def _ask(self, method: str, fid: str, data: bytes | None = None) -> int:
        status, _answer = request(self._server.address, method, f"/{fid}", data)
        if status >= 500:
            self.refused.append(time.monotonic())
        return status

    def stop(self) -> None:
        """End after the write under way."""
        self._ended.set()
        self.join()


FORGETTING = [kind for kind in REAL_KINDS if kind.era == "4.44" or os.environ.get("WEED_TEN_MINUTES")]


@pytest.fixture(params=_params([SANDBOX_KIND, Kind("4.13"), *FORGETTING]))
def forgetting(
    request: pytest.FixtureRequest,
    launcher: Launcher,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cluster]:
    """Servers that remember replicas for ten minutes; in the sandbox for three seconds, where they forget no sooner."""
    cluster = start_cluster(request.param, launcher, tmp_path_factory.mktemp("forgetting"))
    can_forget = cluster.era == "4.44"
    monkeypatch.setitem(OPTIONS, "remembered_seconds", 610.0 if cluster.kind == "real" or can_forget else 4.0)
    for server in cluster.servers if cluster.kind == "sandbox" else ():
        cluster.faults(server).remember(600.0 if can_forget else 3.0)
    yield cluster
    cluster.close()


@pytest.mark.timeout(900)
def test_no_write_acknowledged_by_a_server_that_remembers_the_old_place_is_missing_at_the_new_one(
    forgetting: Cluster, record_property: Callable[[str, object], None]
) -> None:
    """Servers that can be made to forget let the volume be written to at once, others when the time is over."""
    cluster = forgetting
    a, b, c = cluster.servers
    files = cluster.fill(servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    clients = [Client(server, volume_id) for server in (a, b)]
    for client in clients:
        client.start()
    try:
        eventually(lambda: all(len(client.acknowledged) > 3 for client in clients))
        move(cluster, volume_id, a, c)
        clients.append(Client(c, volume_id))
        clients[-1].start()
        before = [len(client.acknowledged) for client in clients]
        eventually(lambda: all(len(client.acknowledged) > had + 30 for client, had in zip(clients, before)))
    finally:
        for client in clients:
            client.stop()
    shut_for = clients[1].refused[-1] - clients[1].refused[0]
    record_property("read_only_seconds", round(shut_for, 1))
    assert (shut_for < 30.0) == (cluster.era == "4.44" or cluster.kind == "sandbox")
    for server in (b, c):
        for client in clients:
            for fid, data in client.acknowledged.items():
                assert cluster.read(fid, server) == data, server
            for fid in client.deleted:
                assert request(server.address, "GET", f"/{fid}")[0] == 404, server
    assert [str(replica.placement) for replica in cluster.topology().replicas(volume_id)] == ["001", "001"]
    cluster.check(files)


def test_volumes_of_a_batch_are_shut_side_by_side(
    make_sandbox_cluster: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIONS, "remembered_seconds", 1.0)
    cluster = make_sandbox_cluster(era="4.13")
    a, b, c = cluster.servers
    volume_ids = [cluster.fill(servers=[a, b], replication="001").volume_ids[0] for _ in range(3)]
    moves = [
        worker_pb2.BalanceMoveSpec(volume_id=volume_id, source_node=str(a.address), target_node=str(c.address))
        for volume_id in volume_ids
    ]
    params = worker_pb2.BalanceTaskParams(moves=moves, max_concurrent_moves=1)
    ctx = cluster.context(journal=Journal.memory("batch", "balance", 0))
    seen: list[list[Server]] = []

    def look(_fraction: float, stage: str, _figures: object) -> None:
        if "read-only for" in stage:
            seen.extend(cluster.locations(volume_id) for volume_id in volume_ids)

    ctx.report = look
    result = balance.run(Job("batch", "balance", worker_pb2.TaskParams(balance_params=params)), ctx)
    assert result.outputs["succeeded"] == 3
    assert seen
    assert all(holders == [b, c] for holders in seen)
    assert ctx.journal.open == []
    assert not any(is_read_only(cluster, server, volume_id) for server in (b, c) for volume_id in volume_ids)


# ---- dying on the way


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIONS, "still_seconds", 0.1)
    monkeypatch.setitem(OPTIONS, "copy_begins_seconds", 0.3)
    monkeypatch.setitem(TIMING, "retry_pauses", (0.01, 0.02))


def move_job(volume_id: int, source: Server, target: Server) -> Job:
    params = worker_pb2.TaskParams(
        volume_id=volume_id,
        sources=[worker_pb2.TaskSource(node=str(source.address), volume_id=volume_id)],
        targets=[worker_pb2.TaskTarget(node=str(target.address), volume_id=volume_id)],
        balance_params=worker_pb2.BalanceTaskParams(),
    )
    return Job(f"move-{volume_id}", "balance", params)


def check_at_rest(cluster: Cluster, files: Files, volume_id: int, *wanted: list[Server]) -> None:
    """The volume is on one of these sets of servers alone, whole and writable; nothing lies about."""
    held = [server for server in cluster.servers if server.files(f"*{volume_id}.*")]
    assert held in wanted, f"volume {volume_id} is on {held}"
    assert [server for server in held if is_read_only(cluster, server, volume_id)] == []
    eventually(lambda: cluster.locations(volume_id) == held)
    placements = {str(replica.placement) for replica in cluster.topology().replicas(volume_id)}
    assert len(placements) == 1, placements
    cluster.check(files)


def some(events: list[T], copies: int) -> Sequence[T]:
    """A part of them, less of the many of a replicated move; an odd share, so that before and after take turns."""
    return sample(events, 5 if copies == 1 else 11)


def old_and_new(cluster: Cluster, copies: int) -> tuple[list[Server], list[Server]]:
    """Where a volume is that moves from the first server to the second, and where then; in the servers' order."""
    a, b, c = cluster.servers
    return ([a], [b]) if copies == 1 else ([a, c], [b, c])


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("copies", [1, 2])
def test_a_worker_killed_at_any_call_of_a_move_leaves_what_the_next_start_clears_up(
    cluster: Cluster, tmp_path: Path, copies: int
) -> None:
    a, b, _c = cluster.servers
    old, new = old_and_new(cluster, copies)
    placement = f"00{copies - 1}"
    whole = DyingWorker(cluster, tmp_path / "whole")
    files = cluster.fill(count=3, replication=placement, servers=old)
    whole.run(balance.run, move_job(files.volume_ids[0], a, b))
    lives: list[DyingWorker] = []
    for at in some(moments(whole.events, all_of_them=cluster.kind == "sandbox"), copies):
        files = cluster.fill(count=3, replication=placement, servers=old)
        (volume_id,) = files.volume_ids
        job, directory = move_job(volume_id, a, b), tmp_path / str(at)
        lives.append(DyingWorker(cluster, directory, at_event(at)))
        # How often the master is asked whether it has learned of the move differs: the last moments may not come.
        lives[-1].run(balance.run, job)
        DyingWorker(cluster, directory).clear_up(balance.recover)
        check_at_rest(cluster, files, volume_id, old, new)
        DyingWorker(cluster, directory).run(balance.run, job)
        check_at_rest(cluster, files, volume_id, new)
        cluster.write(files, volume_id, 1, 100, new)
        cluster.check(files)
        for server in new:
            cluster.volume(server).volume_delete(volume_id=volume_id)
    assert sum(life.is_dead for life in lives) > len(lives) / 2


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("copies", [1, 2])
def test_a_failure_at_any_call_of_a_move_is_undone_or_left_to_recovery(
    sandbox_cluster: Cluster, tmp_path: Path, copies: int
) -> None:
    cluster = sandbox_cluster
    a, b, _c = cluster.servers
    old, new = old_and_new(cluster, copies)
    placement = f"00{copies - 1}"
    whole = DyingWorker(cluster, tmp_path / "whole")
    files = cluster.fill(count=3, replication=placement, servers=old)
    whole.run(balance.run, move_job(files.volume_ids[0], a, b))
    struck: list[bool] = []
    for number, (server, call, nth) in enumerate(some(occurrences(whole.events), copies)):
        # Looks that go unanswered are repeated by the client.
        for code, when in (("UNKNOWN", "before"), ("UNAVAILABLE", "after"))[: 2 if call in CHANGING else 1]:
            files = cluster.fill(count=3, replication=placement, servers=old)
            (volume_id,) = files.volume_ids
            job, directory = move_job(volume_id, a, b), tmp_path / f"{number}{when}"
            address = Address.parse(server)
            cluster.faults(address).fail(call, nth=nth, code=code, when=when)
            worker = DyingWorker(cluster, directory)
            with suppress(TaskError):
                worker.run(balance.run, job)
            struck.append(worker.met(server, call, code))
            cluster.faults(address).clear()
            DyingWorker(cluster, directory).clear_up(balance.recover)
            check_at_rest(cluster, files, volume_id, old, new)
            DyingWorker(cluster, directory).run(balance.run, job)
            check_at_rest(cluster, files, volume_id, new)
            for holder in new:
                cluster.volume(holder).volume_delete(volume_id=volume_id)
    # How often the master is asked differs: the last calls may not come.
    assert sum(struck) > len(struck) / 2


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_killed_at_any_change_of_a_move_loses_nothing(
    sandbox_cluster: Cluster, tmp_path: Path, when: str, copies: int
) -> None:
    cluster = sandbox_cluster
    a, b, _c = cluster.servers
    old, new = old_and_new(cluster, copies)
    placement = f"00{copies - 1}"
    whole = DyingWorker(cluster, tmp_path / "whole")
    files = cluster.fill(count=3, replication=placement, servers=old)
    whole.run(balance.run, move_job(files.volume_ids[0], a, b))
    changes = some([event for event in occurrences(whole.events) if event[1] in CHANGING], copies)
    assert changes
    for number, (server, call, nth) in enumerate(changes):
        files = cluster.fill(count=3, replication=placement, servers=old)
        (volume_id,) = files.volume_ids
        job, directory = move_job(volume_id, a, b), tmp_path / str(number)
        cluster.faults(Address.parse(server)).kill_at(call, nth=nth, when=when)
        with pytest.raises(TaskError):
            DyingWorker(cluster, directory).run(balance.run, job)
        killed = cluster.server_at(server)
        eventually(lambda killed=killed: not killed.alive)  # type: ignore[misc]
        cluster.start()
        DyingWorker(cluster, directory).clear_up(balance.recover)
        check_at_rest(cluster, files, volume_id, old, new)
        DyingWorker(cluster, directory).run(balance.run, job)
        check_at_rest(cluster, files, volume_id, new)
        for holder in new:
            cluster.volume(holder).volume_delete(volume_id=volume_id)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("after", [False, True])
def test_a_worker_killed_while_holders_are_to_forget_leaves_nothing_that_has_to_be_waited_for(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    monkeypatch.setitem(OPTIONS, "remembered_seconds", 610.0)
    if cluster.era != "4.44":
        pytest.skip("older servers cannot be made to forget")
    a, b, c = cluster.servers
    files = cluster.fill(count=3, servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    cluster.settle()
    wanted = ("VolumeConfigure", "OK" if after else "")
    worker = DyingWorker(cluster, tmp_path, lambda events: (events[-1].call, events[-1].outcome) == wanted)
    worker.run(balance.run, move_job(volume_id, a, c))
    assert worker.is_dead
    DyingWorker(cluster, tmp_path).clear_up(balance.recover)
    check_at_rest(cluster, files, volume_id, [a, b])
    fid = f"{volume_id},f100000001"
    assert request(a.address, "PUT", f"/{fid}", b"data")[0] == 201
    assert cluster.read(fid, b) == b"data"


@pytest.mark.usefixtures("_impatient")
def test_a_move_broken_off_while_its_volume_is_shut_is_opened_by_recovery_when_the_time_is_over(
    make_sandbox_cluster: Callable[..., Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIONS, "remembered_seconds", 4.0)
    cluster = make_sandbox_cluster(era="4.13")
    a, b, c = cluster.servers
    files = cluster.fill(count=3, replication="001", servers=[a, c])
    (volume_id,) = files.volume_ids
    entry = Journal(tmp_path).open_entry("job", "balance", volume_id)
    ctx = cluster.context(journal=entry)

    said = ""

    def cancel(_fraction: float, stage: str, _figures: object) -> None:
        nonlocal said
        if "read-only for" in stage:
            with pytest.raises(Busy) as busy, volume_lease(cluster.context(), volume_id):
                pass
            said = str(busy.value)
            ctx.cluster.leash.cancel(Cancelled("by the admin"))

    ctx.report = cancel
    with pytest.raises(StillShut, match=rf"by the admin; volume {volume_id} stays read-only until \d\d:\d\d:\d\d UTC"):
        balance.run(move_job(volume_id, a, b), ctx)
    assert f"(volume {volume_id} has its new copy; read-only until " in said
    entry.close()
    (left,) = Journal(tmp_path).unfinished()
    with pytest.raises(TaskError, match=rf"volume {volume_id} stays read-only until .* UTC"):
        balance.recover(left, cluster.context(journal=left))
    assert is_read_only(cluster, c, volume_id)  # the copy is open before 4.44, where its freeze would not travel well
    left.close()
    DyingWorker(cluster, tmp_path).clear_up(balance.recover)
    check_at_rest(cluster, files, volume_id, [b, c])


@pytest.mark.usefixtures("_impatient")
def test_a_cancelled_move_is_undone(sandbox_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIONS, "copy_begins_seconds", 3.0)
    cluster = sandbox_cluster
    a, b, _c = cluster.servers
    files = cluster.fill(count=3, servers=[a])
    (volume_id,) = files.volume_ids
    entry = Journal(tmp_path).open_entry("job", "balance", volume_id)
    ctx = cluster.context(journal=entry)
    cluster.faults(b).slow("VolumeCopy", 1.0)

    def cancel_soon(fraction: float, _stage: str, _figures: object) -> None:
        if fraction >= 0.1:
            threading.Timer(0.2, ctx.cluster.leash.cancel, [Cancelled("by the admin")]).start()

    ctx.report = cancel_soon
    with pytest.raises(Cancelled, match="by the admin"):
        balance.run(move_job(volume_id, a, b), ctx)
    DyingWorker(cluster, tmp_path).clear_up(balance.recover)
    eventually(lambda: not b.files(f"{volume_id}.*"))
    check_at_rest(cluster, files, volume_id, [a])


@pytest.mark.usefixtures("_impatient")
def test_a_copy_that_was_written_to_is_never_deleted(cluster: Cluster, tmp_path: Path) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(count=3, servers=[a])
    (volume_id,) = files.volume_ids
    entry = Journal(tmp_path).open_entry("job", "balance", volume_id)
    ctx = cluster.context(journal=entry)
    frozen = freeze(ctx, a.address, volume_id, persist=False)
    copied = copy.copy_volume(ctx, volume_id, a.address, b.address, still=file_status(ctx, a.address, volume_id))
    assert frozen.was_writable
    assert copied.status.dat_file_size > 8
    cluster.write(files, volume_id, 1, 100, [b])
    with pytest.raises(Mismatch, match="both kept"):
        balance.recover(entry, ctx)
    assert is_read_only(cluster, a, volume_id)
    assert b.files("*.dat") == [f"{volume_id}.dat"]
    assert [step.what for step in entry.open] == ["freeze", "copy"]


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("vacuumed", ["the copy", "the original", "both"])
def test_a_copy_is_undone_though_it_or_the_original_was_vacuumed_meanwhile(
    cluster: Cluster, tmp_path: Path, vacuumed: str
) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(count=6, servers=[a])
    (volume_id,) = files.volume_ids
    cluster.delete(list(files)[:3])
    entry = Journal(tmp_path).open_entry("job", "balance", volume_id)
    ctx = cluster.context(journal=entry)
    freeze(ctx, a.address, volume_id, persist=False)
    copy.copy_volume(ctx, volume_id, a.address, b.address, still=file_status(ctx, a.address, volume_id))
    for server, name in ((a, "the original"), (b, "the copy")):
        if vacuumed in (name, "both"):
            vacuum(cluster, server, volume_id)
    entry.close()
    DyingWorker(cluster, tmp_path).clear_up(balance.recover)
    eventually(lambda: not b.files(f"{volume_id}.*"))
    check_at_rest(cluster, files, volume_id, [a])


def vacuum(cluster: Cluster, server: Server, volume_id: int) -> None:
    """Compact one replica, as a vacuum of another does that knows nothing of a copy."""
    client = cluster.volume(server)
    list(client.vacuum_volume_compact(volume_id=volume_id))
    client.vacuum_volume_commit(volume_id=volume_id)
    client.vacuum_volume_cleanup(volume_id=volume_id)


@pytest.mark.usefixtures("_impatient")
def test_a_copy_that_hangs_ends_at_the_deadline_and_is_undone(sandbox_cluster: Cluster, tmp_path: Path) -> None:
    cluster = sandbox_cluster
    a, b, _c = cluster.servers
    files = cluster.fill(count=3, servers=[a])
    (volume_id,) = files.volume_ids
    entry = Journal(tmp_path).open_entry("job", "balance", volume_id)
    cluster.faults(b).hang("VolumeCopy")
    with pytest.raises(TimedOut, match="deadline"):
        balance.run(move_job(volume_id, a, b), cluster.context(journal=entry, timeout=2.0))
    entry.close()
    cluster.faults(b).clear()
    DyingWorker(cluster, tmp_path).clear_up(balance.recover)
    eventually(lambda: not b.files(f"{volume_id}.*"))
    check_at_rest(cluster, files, volume_id, [a])


def test_a_volume_that_another_worker_holds_is_not_moved(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(count=3, servers=[a])
    (volume_id,) = files.volume_ids
    other = volume_lease(cluster.context(), volume_id)
    with other, pytest.raises(Busy, match="worked on by"):
        balance.run(move_job(volume_id, a, b), cluster.context())
    check_at_rest(cluster, files, volume_id, [a])


@pytest.mark.usefixtures("_impatient")
def test_a_move_without_a_known_master_still_proves_and_moves(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(count=3, servers=[a])
    (volume_id,) = files.volume_ids
    ctx = cluster.context()
    ctx.cluster.masters = Masters()
    balance.run(move_job(volume_id, a, b), ctx)
    check_at_rest(cluster, files, volume_id, [b])


def test_a_dry_run_of_a_move_sends_nothing_that_changes(cluster: Cluster, tmp_path: Path) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(count=3, servers=[a])
    (volume_id,) = files.volume_ids
    worker = DyingWorker(cluster, tmp_path)
    result = balance.run(move_job(volume_id, a, b), worker.context(Journal.memory(), dry_run=True))
    assert result.summary.startswith("would move")
    assert worker.events
    assert worker.changes == []


@pytest.mark.usefixtures("_impatient")
def test_what_a_broken_off_copy_left_on_the_target_is_overwritten(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(count=3, servers=[a])
    (volume_id,) = files.volume_ids
    for ext in (".note", ".dat", ".idx"):
        (b.data_dir / f"{volume_id}{ext}").write_bytes(b"x" * 5000)
    move(cluster, volume_id, a, b)
    assert b.files("*.note") == []
    check_at_rest(cluster, files, volume_id, [b])


@pytest.mark.usefixtures("_impatient")
def test_a_copy_that_is_still_being_pulled_is_waited_for(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIONS, "copy_stalls_seconds", 1.0)
    a, b, _c = cluster.servers
    files = cluster.fill(count=3, servers=[a])
    (volume_id,) = files.volume_ids
    entry = Journal(tmp_path).open_entry("job", "balance", volume_id)
    size = cluster.volume(a).read_volume_file_status(volume_id=volume_id)
    dat, idx = size.dat_file_size, size.idx_file_size
    plan(entry, copy.Copying(volume_id, a.address, b.address, "", False, dat, idx, revision=0, frozen=True))
    unfinished = b.data_dir / f"{volume_id}.dat"
    (b.data_dir / f"{volume_id}.note").write_bytes(b"copying")
    pulled = threading.Event()

    def pull() -> None:
        for _write in range(8):
            unfinished.write_bytes(b"x")
            pulled.wait(0.25)
        list(cluster.volume(b).volume_copy(volume_id=volume_id, source_data_node=str(a.address)))

    puller = threading.Thread(target=pull)
    puller.start()
    balance.recover(entry, cluster.context())
    puller.join()
    assert entry.open == []
    check_at_rest(cluster, files, volume_id, [a])
