"""The agent when masters die: jobs, and what killed jobs left, go on at whichever master leads then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.agent import Agent, flags_for
from tests.agent.driver import Driver
from tests.agent.work import garbage
from tests.support import eventually
from tests.support.cluster import Cluster
from weed_safety.freeze import freeze
from weed_safety.journal import Journal

Start = Callable[..., Agent]


@pytest.fixture
def three(make_sandbox_cluster: Callable[..., Cluster]) -> Cluster:
    """Two servers and three masters, the first of which leads and is the only one that an admin names."""
    return make_sandbox_cluster(servers=2, masters=3)


def let_the_leader_die(cluster: Cluster) -> None:
    cluster.masters[0].kill()
    cluster.lead(cluster.masters[1].address)


def test_jobs_go_on_when_the_one_master_that_the_admin_named_dies(three: Cluster, start_agent: Start) -> None:
    files = garbage(three, volumes=2)
    servers = {volume_id: str(three.locations(volume_id)[0].address) for volume_id in files.volume_ids}
    driver = Driver(three.start_admin("classic"), "classic")
    agent = start_agent(flags_for(driver.admin))
    agent.says("registered as")
    first, second = files.volume_ids
    driver.give("j1", "vacuum", first, servers[first])
    assert driver.ended("j1").success
    let_the_leader_die(three)
    driver.give("j2", "vacuum", second, servers[second])
    ended = driver.ended("j2")
    assert ended.success, ended.error


def test_what_a_killed_job_left_is_undone_though_every_named_master_is_dead(
    three: Cluster, start_agent: Start, tmp_path: Path
) -> None:
    (volume_id,) = three.fill(count=3, servers=[three.servers[0]]).volume_ids
    known = [str(process.address) for process in three.masters]
    entry = Journal(tmp_path / "worker" / "journal").open_entry("j", "erasure_coding", volume_id, masters=known)
    freeze(three.context(journal=entry), three.servers[0].address, volume_id, persist=True)
    entry.close()
    admin = three.start_admin("plugin")
    let_the_leader_die(three)
    agent = start_agent(flags_for(admin), f"-master={known[0]}")
    agent.says("undid what erasure_coding j left behind")
    eventually(lambda: not three.volume(three.servers[0]).volume_status(volume_id=volume_id).is_read_only)
