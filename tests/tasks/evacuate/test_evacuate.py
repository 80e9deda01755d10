"""Emptying servers and disks: all of it arrives elsewhere before it goes, or nothing is begun."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MODERN, SANDBOX_KIND, clusters
from tests.support import eventually
from tests.support.cluster import OPTIONS, Cluster, Files, Machine, Server, request, start_cluster
from tests.support.dying import DyingWorker, at_change, sample
from tests.support.shards import encoded, settle, where
from weed_core.errors import ConfigError
from weed_core.model import Detection, DetectionRequest, Job
from weed_sandbox.launcher import Launcher
from weed_tasks import evacuate

TWO_DISKS = Machine(disks=(("hdd", 10), ("hdd", 10)))


_five = clusters([SANDBOX_KIND, *MODERN], servers=5)


@pytest.fixture
def five(_five: Cluster) -> Cluster:
    """Five empty servers: the 4.44 sandbox, and each real `weed` that new."""
    _five.reset()
    _five.options |= {"sender_seconds": 0.0, "look_again_seconds": 0.1}
    return _five


def look(cluster: Cluster, **config: Any) -> Detection:
    wishes = {"min_frozen_seconds": 0, **config}
    return evacuate.detect(DetectionRequest("evacuate", wishes, (str(cluster.master),)), cluster.context())


def emptied(cluster: Cluster, **config: Any) -> str:
    """Do all that there is to do, look after look; return what the last one says."""
    for _round in range(6):
        found = look(cluster, **config)
        if not found.proposals:
            return found.summary
        for one in found.proposals:
            evacuate.run(Job(one.id, "evacuate", one.params, one.parameters), cluster.context())
    raise AssertionError(f"there is no end of it: {found}")


def left_on(server: Server) -> list[str]:
    return [name for name in server.files() if name.endswith(".dat") or ".ec" in name]


def test_a_server_is_emptied_while_clients_write_and_delete(five: Cluster) -> None:
    first, second = five.servers[:2]
    kept = [
        five.fill(8, size=(100, 20_000), volumes=2, servers=[first]),
        five.fill(8, size=(100, 20_000), replication="001", servers=[first, second], collection="pairs"),
        five.fill(4, servers=[second]),
    ]
    coded, volume_id = encoded(five, count=12, size=(100, 50_000))
    five.settle()
    with Clients(five, kept[1].volume_ids[0]) as clients:
        # An upload that asked where to write before the volume moved has to fail, so that it asks again: with nothing
        # refused for a while first, what it writes through the old holder is acknowledged and may be stored nowhere.
        told = emptied(five, nodes=str(first.address), min_frozen_seconds=3)
        clients.have_done(20)
    assert told.startswith(f"{first.address}: empty, may be stopped; files that a server has not mounted")
    assert str(first.data_dir) in told or five.kind == "sandbox"
    assert left_on(first) == []
    five.settle()
    for files in (*kept, coded):
        five.check(files)
    clients.check()
    settle(five, volume_id)
    holders = Counter(server for servers in where(five, volume_id).values() for server in servers)
    assert sum(holders.values()) == 14
    assert max(holders.values()) <= 4
    assert len(five.locations(kept[1].volume_ids[0])) == 2
    first.kill()
    for files in (*kept, coded):
        five.check(files)
    clients.check()
    five.start()


def test_a_server_that_gave_its_last_shard_is_not_asked_to_find_the_others(
    five: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The master lists it for a while yet; asked, it would be waited for, since it finds nothing.
    monkeypatch.setitem(OPTIONS, "finds_others_seconds", 5.0)
    files, _volume_id = encoded(five, count=5)
    first = five.servers[0]
    said: list[str] = []
    for one in look(five, nodes=str(first.address)).proposals:
        ctx = five.context()
        ctx.log = said.append
        evacuate.run(Job(one.id, "evacuate", one.params, one.parameters), ctx)
    assert left_on(first) == []
    assert [line for line in said if f"through {first.address} may fail" in line] == []
    five.check(files)


def test_nothing_is_begun_where_not_all_of_it_can_go_unless_a_part_will_do(five: Cluster) -> None:
    first, second = five.servers[:2]
    single = five.fill(4, servers=[first])
    everywhere = five.fill(4, replication="004", servers=five.servers)
    five.settle()
    found = look(five, nodes=str(first.address))
    (stuck,) = [skip for skip in found.skipped if skip.key == "nowhere to go"]
    assert found.proposals == []
    assert stuck.volume_id == everywhere.volume_ids[0]
    assert "already holds a copy" in stuck.reason
    assert "cannot be emptied, and nothing is begun: 1 of 2 volumes" in found.summary
    assert five.locations(single.volume_ids[0]) == [first]

    told = emptied(five, nodes=str(first.address), allow_partial=True)
    assert "0 volumes and 0 shards are to go" in told
    five.settle()
    assert first not in five.locations(single.volume_ids[0])
    five.check(single)
    five.check(everywhere)
    assert second in five.locations(everywhere.volume_ids[0])


def test_shards_do_not_go_where_a_lost_host_would_lose_the_volume(launcher: Launcher, tmp_path: Path) -> None:
    cluster = start_cluster(SANDBOX_KIND, launcher, tmp_path, servers=4)
    try:
        cluster.options |= {"sender_seconds": 0.0, "look_again_seconds": 0.1}
        _files, volume_id = encoded(cluster, count=5)
        found = look(cluster, nodes=str(cluster.servers[0].address))
        (stuck,) = found.skipped
        assert (stuck.volume_id, stuck.key, found.proposals) == (volume_id, "nowhere to go", [])
        assert "more than 4 shards on one host" in stuck.reason
    finally:
        cluster.close()


def test_only_the_named_disk_is_emptied_and_its_server_takes_nothing(launcher: Launcher, tmp_path: Path) -> None:
    cluster = start_cluster(SANDBOX_KIND, launcher, tmp_path, servers=[TWO_DISKS, Machine(), Machine()])
    try:
        cluster.options |= {"look_again_seconds": 0.1}
        first = cluster.servers[0]
        files = cluster.fill(4, volumes=4, servers=[first])
        cluster.settle()
        on = {one.volume_id: one.disk_id for held in cluster.topology().volumes.values() for one in held}
        told = emptied(cluster, disks=f"{first.address}#1")
        cluster.settle()
        gone = {volume_id for volume_id in files.volume_ids if first not in cluster.locations(volume_id)}
        assert told.startswith(f"disk 1 of {first.address}: empty")
        assert gone == {volume_id for volume_id, disk in on.items() if disk == 1} != set()
        assert gone != set(files.volume_ids)
        cluster.check(files)
    finally:
        cluster.close()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"nodes": "127.0.0.99:1"}, "there is no volume server 127.0.0.99:1"),
        ({"disks": "127.0.0.11"}, "is no disk; write host:port#disk_id"),
    ],
)
def test_a_server_or_disk_that_there_is_not_is_named(five: Cluster, config: dict[str, Any], says: str) -> None:
    request = DetectionRequest("evacuate", config, (str(five.master),), is_single=True)
    with pytest.raises(ConfigError, match=says):
        evacuate.detect(request, five.context())
    told = look(five, **config)
    assert (told.proposals, told.seen) == ([], 0)
    assert says in told.summary, "a form keeps the names of servers that are gone"
    kept = look(five, **{"nodes": str(five.servers[0].address), **config})
    assert says in kept.summary


def test_without_a_name_nothing_is_proposed(five: Cluster) -> None:
    five.fill(2)
    found = look(five)
    assert (found.proposals, found.skipped) == ([], [])
    assert found.summary == "no server and no disk is named that there is: set nodes or disks"


def test_a_killed_evacuation_is_taken_up_by_the_next_worker(five: Cluster, tmp_path: Path) -> None:
    first = five.servers[0]
    files = five.fill(4, servers=[first])
    coded, volume_id = encoded(five, count=6)
    five.settle()
    jobs = [
        Job(one.id, "evacuate", one.params, one.parameters) for one in look(five, nodes=str(first.address)).proposals
    ]
    assert len(jobs) == 2
    for job in jobs:
        for number in sample(range(1, 8), 3):
            worker = DyingWorker(five, tmp_path / f"{job.id}-{number}", at_change(number, after=True))
            worker.run(evacuate.run, job)
            if not worker.is_dead:
                break
            heir = DyingWorker(five, tmp_path / f"{job.id}-{number}")
            heir.recover(evacuate.recover)
            assert heir.journal.count() == 0
            five.settle()
            five.check(files)
            five.check(coded)
    five.settle()
    assert "empty, may be stopped" in emptied(five, nodes=str(first.address))
    assert left_on(first) == []
    five.settle()
    five.check(files)
    five.check(coded)
    settle(five, volume_id)


class Clients:
    """Write to and delete from one volume all the time, through whichever server the master names."""

    def __init__(self, cluster: Cluster, volume_id: int) -> None:
        self._cluster = cluster
        self._volume_id = volume_id
        self._files = Files()
        self._done = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._key = 0x7000000

    def __enter__(self) -> Clients:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def have_done(self, count: int) -> None:
        """Wait until so many files were taken and deleted."""
        eventually(lambda: self._done >= count, timeout=60)

    def check(self) -> None:
        """Every write that was acknowledged is read, and no deleted file is."""
        self._cluster.check(self._files)

    def _work(self) -> None:
        while not self._stop.wait(0.05):
            servers = self._cluster.locations(self._volume_id)
            self._key += 1
            fid, data = f"{self._volume_id},{self._key:x}{0xABCD0123:08x}", f"content {self._key}".encode()
            for server in servers[self._key % len(servers) :][:1]:
                with suppress(OSError):
                    status, _answer = request(server.address, "PUT", f"/{fid}", data)
                    # A server that no longer has the volume acknowledges what it may store nowhere (docs/tasks.md).
                    if status not in (200, 201) or request(server.address, "GET", f"/{fid}")[0] != 200:
                        continue
                    self._files[fid] = hashlib.sha256(data).hexdigest()
                    if self._key % 2:
                        self._files.pop(fid)  # a delete that fails may have reached one replica
                        status, _answer = request(server.address, "DELETE", f"/{fid}")
                        if status in (200, 202):
                            self._files.deleted.add(fid)
                    self._done += 1
