"""A repair that is broken off anywhere, or meets a failure anywhere: no shard is lost, none half, and it converges.

The worker's death is played at boundaries of calls that change something, and behind others; WEED_EVERY_BOUNDARY=1
plays them all. The volume has everything at once that a repair can meet.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from proto_gen.volume_server_pb2 import VolumeEcShardsInfoResponse
from tests.support import eventually
from tests.support.cluster import Cluster, Files, Server
from tests.support.dying import EVERY, Death, DyingWorker, Event, at_event, never, occurrences, sample
from tests.support.ec_repair import assert_whole, bad_shard, delete_at, job, journal, key_of, status_of
from tests.support.erasure_coding import fresh
from tests.support.rpcs import CHANGING
from tests.support.shards import digests, encoded, flip, path_of, remount, revive, settle, take
from weed_cluster.topology import ec_locations
from weed_core.errors import ServerFailed, TaskError
from weed_core.model import Job, Result
from weed_core.shelf import Memory
from weed_safety.context import Context
from weed_tasks import ec_repair

GONE, BAD, DOUBLE, HIDDEN = 3, 2, 5, 9


class Sick:
    """A volume on five of six servers with two lost shards, a bad one, one twice and one unmounted, deletions that one
    holder knows alone, and a holder that has lost its `.ecsum`."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.files: Files
        self.files, self.volume_id = encoded(cluster, "photos", count=8, size=3000, on=cluster.servers[:5])
        self.before = digests(cluster, self.volume_id, "photos")
        self.findings = Memory()
        servers, volume_id = cluster.servers, self.volume_id
        self.deleted = list(self.files)[:2]
        for fid, server in zip(self.deleted, servers):
            delete_at(cluster, fid, server, "photos")
            del self.files[fid]
        for shard in (GONE, 13):
            take(cluster, volume_id, shard, servers[shard % 5], "photos")
        flip(path_of(servers[BAD % 5], volume_id, f".ec{BAD:02d}", "photos"), 100)
        finding = bad_shard(volume_id, BAD, servers[BAD % 5], "photos")
        self.findings.put(finding.key, finding.document())
        source, target = servers[DOUBLE % 5], cluster.volume(servers[1])
        target.volume_ec_shards_copy(
            volume_id=volume_id, collection="photos", shard_ids=[DOUBLE], source_data_node=str(source.address)
        )
        target.volume_ec_shards_mount(volume_id=volume_id, collection="photos", shard_ids=[DOUBLE])
        cluster.volume(servers[HIDDEN % 5]).volume_ec_shards_unmount(volume_id=volume_id, shard_ids=[HIDDEN])
        path_of(servers[0], volume_id, ".ecsum", "photos").unlink()
        remount(cluster, servers[0], volume_id, [0, 5, 10], "photos")

    def work(self, order: Job, ctx: Context) -> Result:
        """Run a repair that knows what was found."""
        ctx.findings = self.findings
        return ec_repair.run(order, ctx)

    def assert_cured(self) -> None:
        """All shards as they were, once each; every deletion known to every holder; every file there to read."""
        cluster, volume_id = self.cluster, self.volume_id
        assert_whole(cluster, volume_id, self.before, "photos")
        holders = [server for server in cluster.servers if server.files("*.ec[0-9][0-9]")]
        for server in holders:
            assert journal(cluster, server, volume_id, "photos") == {key_of(fid) for fid in self.deleted}
            assert path_of(server, volume_id, ".ecsum", "photos").exists()
        settle(cluster, volume_id)
        cluster.check(self.files)
        for fid in self.deleted:
            assert {status_of(server, fid) for server in holders} == {404}
        assert not self.findings


def run_and_die(cluster: Cluster, directory: Path, dies: Death = never) -> tuple[DyingWorker, Sick]:
    """Make a sick volume and repair it until the worker is killed."""
    shutil.rmtree(directory, ignore_errors=True)
    sick = Sick(cluster)
    worker = DyingWorker(cluster, directory, dies)
    worker.run(sick.work, job(sick.volume_id, "photos"))
    return worker, sick


def chosen(trace: list[Event]) -> list[int]:
    """The boundaries to play: all, or those of calls that change something and the last of each other kind."""
    if EVERY:
        return list(range(len(trace)))
    last = {(event.call, event.outcome): at for at, event in enumerate(trace)}
    changing = {at for at, event in enumerate(trace) if event.call in CHANGING and event.outcome in ("", "OK")}
    return sorted(changing | {*last.values()})


def test_a_volume_with_every_fault_at_once_is_cured(sandbox_six: Cluster, tmp_path: Path) -> None:
    worker, sick = run_and_die(sandbox_six, tmp_path)
    sick.assert_cured()
    assert worker.journal.count() == 0
    told = DyingWorker(sandbox_six, tmp_path).run(sick.work, job(sick.volume_id, "photos"))
    assert told is not None
    assert told.summary == f"volume {sick.volume_id} has 14 of 14 shards: nothing was to do"


@pytest.mark.timeout(1500)  # many lives in one test
def test_a_worker_killed_at_any_boundary_is_recovered_from_and_its_job_done_again(
    sandbox_six: Cluster, tmp_path: Path
) -> None:
    trace = run_and_die(sandbox_six, tmp_path / "whole")[0].events
    played = 0
    for at in sample(chosen(trace), 9):
        sandbox_six.reset()
        worker, sick = run_and_die(sandbox_six, tmp_path / "journal", at_event(at))
        if not worker.is_dead:
            continue  # calls run side by side, so not each run has as many
        try:
            heir = DyingWorker(sandbox_six, tmp_path / "journal")
            heir.clear_up(ec_repair.recover)
            assert heir.run(sick.work, job(sick.volume_id, "photos"))
            sick.assert_cured()
        except BaseException:
            print(f"killed at boundary {at} of {len(trace)}: {worker.events[-1]}")
            raise
        played += 1
    assert played > len(chosen(trace)) // 11


@pytest.mark.timeout(1500)
def test_a_worker_that_never_comes_back_leaves_nothing_that_another_cannot_mend(
    sandbox_six: Cluster, tmp_path: Path
) -> None:
    trace = run_and_die(sandbox_six, tmp_path / "whole")[0].events
    for at in sample([at for at in chosen(trace) if trace[at].call in CHANGING], 11):
        sandbox_six.reset()
        worker, sick = run_and_die(sandbox_six, tmp_path / "lost", at_event(at))
        try:
            assert DyingWorker(sandbox_six, tmp_path / "another").run(sick.work, job(sick.volume_id, "photos"))
            sick.assert_cured()
        except BaseException:
            print(f"killed for good at boundary {at} of {len(trace)}: {worker.events[-1]}")
            raise


def servers_of(cluster: Cluster, name: str) -> object:
    """The process that an event's server names."""
    return next(process for process in (*cluster.masters, *cluster.servers) if str(process.address) == name)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("when", ["before", "after"])
def test_any_call_that_fails_leaves_the_volume_as_sound_as_it_was_and_the_next_job_cures_it(
    sandbox_six: Cluster, tmp_path: Path, when: str
) -> None:
    trace = run_and_die(sandbox_six, tmp_path / "whole")[0].events
    wanted = [one for one in occurrences(trace) if one[1] in CHANGING]
    for server, call, nth in sample(wanted, 9):
        sandbox_six.reset()
        shutil.rmtree(tmp_path / "journal", ignore_errors=True)
        sick = Sick(sandbox_six)
        process = servers_of(sandbox_six, server)
        sandbox_six.faults(process.address).fail(call, nth=nth, code="UNKNOWN", text="made to fail", when=when)  # type: ignore[attr-defined]
        worker = DyingWorker(sandbox_six, tmp_path / "journal")
        try:
            with suppress(TaskError):
                worker.run(sick.work, job(sick.volume_id, "photos"))
            heir = DyingWorker(sandbox_six, tmp_path / "journal")
            heir.clear_up(ec_repair.recover)
            assert heir.run(sick.work, job(sick.volume_id, "photos"))
            sick.assert_cured()
        except BaseException:
            print(f"{call} {nth} on {server} failed {when}")
            raise


def is_shown(cluster: Cluster, server: Server, volume_id: int) -> bool:
    """Whether the master knows every shard that a server has mounted."""
    try:
        answer = cluster.volume(server).volume_ec_shards_info(volume_id=volume_id)
    except ServerFailed as error:
        if not error.says_absent:
            return False  # it is not there yet
        answer = VolumeEcShardsInfoResponse()
    mounted = {one.shard_id for one in answer.ec_shard_infos}
    known = ec_locations(cluster.master_client(), volume_id)
    return mounted == {shard for shard, places in known.items() if server.address in places}


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_that_dies_at_any_call_costs_no_shard(sandbox_six: Cluster, tmp_path: Path, when: str) -> None:
    trace = run_and_die(sandbox_six, tmp_path / "whole")[0].events
    volumes = {str(server.address) for server in sandbox_six.servers}
    wanted = [one for one in occurrences(trace) if one[1] in CHANGING and one[0] in volumes]
    for server, call, nth in sample(wanted, 11):
        fresh(sandbox_six)
        sandbox_six.options["sender_seconds"] = 0.0
        shutil.rmtree(tmp_path / "journal", ignore_errors=True)
        sick = Sick(sandbox_six)
        victim = sandbox_six.server_at(server)
        sandbox_six.faults(victim).kill_at(call, nth=nth, when=when)
        try:
            with suppress(TaskError):
                DyingWorker(sandbox_six, tmp_path / "journal").run(sick.work, job(sick.volume_id, "photos"))
            with suppress(AssertionError):  # calls run side by side, so not each run has as many
                eventually(lambda: not victim.alive, timeout=1)  # noqa: B023
            if not victim.alive:
                revive(sandbox_six, victim)
            heir = DyingWorker(sandbox_six, tmp_path / "journal")
            heir.clear_up(ec_repair.recover)
            for _job in range(2):
                eventually(partial(is_shown, sandbox_six, victim, sick.volume_id))
                assert DyingWorker(sandbox_six, tmp_path / "journal").run(sick.work, job(sick.volume_id, "photos"))
            sick.assert_cured()
        except BaseException:
            print(f"{server} died {when} {call} {nth}")
            raise
