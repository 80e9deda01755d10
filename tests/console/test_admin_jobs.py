"""What an admin counts as under way is known by its volumes, so that no fix is named that would break a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.agent import Agent, flags_for
from tests.agent.driver import Driver
from tests.agent.work import garbage, hold, server_of
from tests.console.console import Ended
from tests.support import eventually
from tests.support.cluster import Cluster
from weed_console.admin_jobs import under_way


@pytest.mark.parametrize("dialect", ["plugin", "classic"])
def test_the_jobs_of_an_admin_are_told_with_their_volumes(
    sandbox_cluster: Cluster, tmp_path: Path, here: Callable[..., Ended], dialect: str
) -> None:
    cluster = sandbox_cluster
    (volume_id,) = garbage(cluster).volume_ids
    server = cluster.locations(volume_id)[0]
    driver = Driver(cluster.start_admin(dialect), dialect)
    admin = driver.admin.address
    assert under_way(admin, dialect) == []
    hold(cluster, volume_id, 20.0)
    agent = Agent(tmp_path / "worker", flags_for(driver.admin))
    try:
        agent.says("registered as")
        driver.give("j1", "vacuum", volume_id, server_of(cluster, volume_id))
        agent.says(r"took vacuum .*\[j1\]")
        (job,) = eventually(lambda: under_way(admin, dialect))
        assert (job.id, job.type, job.volume_ids) == ("j1", "vacuum", (volume_id,))
        agent.kill()  # so that only the admin still tells, as for a worker that keeps no leases
        cluster.faults(server).clear()
        cluster.volume(server).volume_mark_readonly(volume_id=volume_id)
        cluster.settle()
        told = eventually(
            lambda: "(as its admin says)" in (out := here(cluster, "doctor", f"-admin={admin}").out) and out, 20
        )
        assert f"weed_worker undo -volumeId={volume_id}" not in str(told)
    finally:
        agent.kill()
