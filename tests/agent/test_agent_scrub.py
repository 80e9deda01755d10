"""What befalls a volume is found and mended by itself: an unchanged admin gives out scrub and ec_repair."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.agent.agent import Agent, flags_for
from tests.support import eventually
from tests.support.cluster import Admin, Cluster
from tests.support.ec_repair import assert_whole, delete_at, status_of
from tests.support.shards import digests, encoded, flip, holder_of, path_of, revive, settle, take

MakeCluster = Callable[..., Cluster]

COLLECTION = "photos"


def work(admin: Admin, agent: Agent, job_type: str) -> None:
    """Have the admin look for work, again where it is too early, as it does by itself; wait until a job is done."""
    before = agent.text.count(f"completed {job_type}")

    def is_done() -> bool:
        return agent.text.count(f"completed {job_type}") > before

    for _look in range(6):
        admin.post(f"/api/plugin/job-types/{job_type}/run", {"timeout_seconds": 60})
        with suppress(AssertionError):
            eventually(is_done, 15)
        if is_done():
            return
    raise AssertionError(f"nothing was done for {job_type}: {agent.text[-3000:]}")


@pytest.mark.timeout(400)
def test_an_admin_has_found_and_mended_all_that_can_befall_a_volume(
    make_cluster: MakeCluster, start_agent: Callable[..., Agent]
) -> None:
    cluster = make_cluster("4.44", servers=6, racks=["r1", "r2", "r3"])
    cluster.options["sender_seconds"] = 0.0
    files, volume_id = encoded(cluster, COLLECTION, count=160, size=(40_000, 100_000))
    before = digests(cluster, volume_id, COLLECTION)
    deleted = list(files)[:100]
    for at, fid in enumerate(deleted):
        delete_at(cluster, fid, cluster.servers[at % 6], COLLECTION)
        del files[fid]

    admin = cluster.start_admin()
    agent = start_agent(flags_for(admin), "-capabilities=scrub,ec_repair")
    agent.says("registered as")
    for job_type in ("scrub", "ec_repair"):
        path = f"/api/plugin/job-types/{job_type}/config"
        eventually(lambda path=path: admin.get(path), 30)  # type: ignore[misc]
    admin.configure("scrub", interval_days=0)
    admin.configure("ec_repair", min_fault_age_seconds=0)
    work(admin, agent, "scrub")  # finds that holders do not know what others know as deleted
    work(admin, agent, "ec_repair")

    for shard in (3, 9):
        take(cluster, volume_id, shard, holder_of(cluster, volume_id, shard), COLLECTION)
    flip(path_of(holder_of(cluster, volume_id, 2), volume_id, ".ec02", COLLECTION), 700_000)
    flip(path_of(holder_of(cluster, volume_id, 13), volume_id, ".ec13", COLLECTION), 5)
    settle(cluster, volume_id)
    work(admin, agent, "scrub")
    work(admin, agent, "ec_repair")
    assert_whole(cluster, volume_id, before, COLLECTION)

    short = holder_of(cluster, volume_id, 5)
    short.stop()
    half = path_of(short, volume_id, ".ec05", COLLECTION)
    with half.open("r+b") as file:
        file.truncate(half.stat().st_size // 2)
    revive(cluster, short)
    gone = next(server for server in cluster.servers if server is not short)
    gone.kill()
    for folder in gone.data_dirs:
        shutil.rmtree(folder)
    revive(cluster, gone)
    settle(cluster, volume_id)
    work(admin, agent, "scrub")
    work(admin, agent, "ec_repair")
    assert_whole(cluster, volume_id, before, COLLECTION)
    agent.terminate()
    assert agent.wait() == 0

    for server in cluster.servers:
        server.stop()
        revive(cluster, server)
    settle(cluster, volume_id)
    cluster.check(files)
    holders = [server for server in cluster.servers if server.files("*.ecx")]
    for fid in deleted:
        assert {status_of(server, fid) for server in holders} == {404}
    dead = next(server for server in holders if server is not gone)
    dead.kill()
    eventually(lambda: len(cluster.topology().nodes) == 5, timeout=30)
    cluster.check(files)
