"""`status`: workers, jobs and last runs as an admin of either dialect knows them, or one worker's own word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent.agent import Agent, flags_for
from tests.agent.driver import Driver
from tests.console.console import Ended
from tests.support import eventually, free_port
from tests.support.cluster import Cluster

Here = Callable[..., Ended]


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Start agents that end with the test."""
    started: list[Agent] = []

    def start(*flags: str) -> Agent:
        started.append(Agent(tmp_path / f"worker{len(started)}", *flags))
        return started[-1]

    yield start
    for agent in started:
        agent.kill()


@pytest.mark.parametrize("dialect", ["plugin", "classic"])
def test_an_admins_workers_and_jobs_are_shown(
    sandbox_cluster: Cluster, here: Here, start_agent: Callable[..., Agent], dialect: str
) -> None:
    admin = sandbox_cluster.start_admin(dialect)
    none = here(sandbox_cluster, "status", f"-admin={admin.address}")
    assert none.status == 0, none.err
    assert f"no workers at admin {admin.address}" in none.out
    start_agent(flags_for(admin), "-id=w-seen", "-capabilities=vacuum").says("registered")
    files = sandbox_cluster.fill(count=6, size=20_000)
    (volume_id,) = files.volume_ids
    sandbox_cluster.delete(files.of(volume_id)[:4])
    sandbox_cluster.settle()
    driver = Driver(admin, dialect)
    driver.give("j1", "vacuum", volume_id, str(sandbox_cluster.locations(volume_id)[0].address))
    assert driver.ended("j1").success
    done = "succeeded" if dialect == "plugin" else "completed"
    eventually(lambda: done in here(sandbox_cluster, "status", f"-admin={admin.address}").out)
    told = here(sandbox_cluster, "status", f"-admin={admin.address}").out
    assert f"1 worker at admin {admin.address}" in told
    assert "w-seen" in told
    document = here(sandbox_cluster, "status", f"-admin={admin.address}", "-json").json()
    assert document["dialect"] == dialect
    assert len(document["workers"]) == len(document["jobs"]) == 1


def test_a_real_or_stand_in_admin_of_the_era_answers(cluster: Cluster, here: Here) -> None:
    admin = cluster.start_admin()
    ended = here(cluster, "status", f"-admin={admin.address}")
    assert ended.status == 0, ended.err
    assert f"no workers at admin {admin.address}" in ended.out


def test_a_worker_tells_of_itself_at_its_metrics_port(
    sandbox_cluster: Cluster, here: Here, start_agent: Callable[..., Agent]
) -> None:
    port = free_port()
    start_agent(f"-admin=127.0.0.1:{free_port()}", f"-metricsPort={port}", "-id=w-alone").says("connecting to admin")
    ended = here(sandbox_cluster, "status", f"-worker=127.0.0.1:{port}")
    assert ended.status == 0, ended.err
    assert "worker w-alone" in ended.out
    assert "disconnected: not registered with admin" in ended.out
    assert here(sandbox_cluster, "status", f"-worker=127.0.0.1:{port}", "-json").json()["id"] == "w-alone"


@pytest.mark.parametrize(
    ("flag", "said"), [("-admin", "no admin server answers at"), ("-worker", "no worker answers at")]
)
def test_whoever_does_not_answer_is_named(sandbox_cluster: Cluster, here: Here, flag: str, said: str) -> None:
    port = free_port()
    ended = here(sandbox_cluster, "status", f"{flag}=127.0.0.1:{port}")
    assert ended.status == 1
    assert f"{said} 127.0.0.1:{port}" in ended.err
