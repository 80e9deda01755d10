"""Offers `start_agent`, and `admin` and its `driver`: the sandbox's admin of each dialect in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent.agent import Agent
from tests.agent.driver import Driver
from tests.support.cluster import Admin, Cluster


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Start agents that end with the test: start_agent("-admin=...", name="w1")."""
    started: list[Agent] = []

    def start(*flags: str, name: str = "worker") -> Agent:
        agent = Agent(tmp_path / name, *flags)
        started.append(agent)
        return agent

    yield start
    for agent in started:
        agent.kill()


@pytest.fixture(params=["plugin", "classic"])
def dialect(request: pytest.FixtureRequest) -> str:
    """Each dialect in turn."""
    return str(request.param)


@pytest.fixture
def admin(sandbox_cluster: Cluster, dialect: str) -> Admin:
    """An admin of that dialect, which looks for work only when a test asks."""
    return sandbox_cluster.start_admin(dialect)


@pytest.fixture
def driver(admin: Admin, dialect: str) -> Driver:
    """The admin, as something to give jobs to."""
    return Driver(admin, dialect)
