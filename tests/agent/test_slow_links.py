"""The agent behind links that are slow, and servers that do not answer at all: it connects, or says what is wrong."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.agent.agent import Agent
from tests.agent.driver import Driver
from tests.agent.test_agent_tls import authority, secure_admin, security  # noqa: F401  fixtures
from tests.agent.work import garbage, server_of
from tests.support import free_port
from tests.support.certificates import Authority
from tests.support.cluster import Admin, Cluster
from tests.support.slow_link import SlowLink

Start = Callable[..., Agent]
Slow = Callable[[Admin, float], str]


@pytest.fixture
def slowly() -> Iterator[Slow]:
    """The flag that names an admin over a link with this round trip in seconds."""
    links: list[SlowLink] = []

    def to(admin: Admin, round_trip: float) -> str:
        links.extend(SlowLink(port, round_trip) for port in (admin.address.port, admin.address.grpc_port))
        return f"-admin=127.0.0.1:{links[-2].port}.{links[-1].port}"

    yield to
    for link in links:
        link.close()


@pytest.mark.parametrize("round_trip", [0.6, 2.0])
def test_a_worker_works_over_a_slow_link(
    sandbox_cluster: Cluster, admin: Admin, driver: Driver, start_agent: Start, slowly: Slow, round_trip: float
) -> None:
    agent = start_agent(slowly(admin, round_trip), "-capabilities=vacuum", "-heartbeat=2s")
    agent.says("registered as", 40)
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    assert driver.ended("j1").success
    assert agent.text.count("registered as") == 1


def test_a_worker_reaches_each_admin_over_a_slow_link(cluster: Cluster, start_agent: Start, slowly: Slow) -> None:
    agent = start_agent(slowly(cluster.start_admin(), 2.0), "-capabilities=vacuum", "-heartbeat=5s")
    agent.says("registered as", 60)
    assert "does not answer" not in agent.text


@pytest.mark.parametrize("dialect", ["plugin"])
@pytest.mark.parametrize("round_trip", [0.2, 2.0])
def test_a_worker_connects_over_a_slow_link_with_tls(
    secure_admin: Admin,  # noqa: F811
    authority: Authority,  # noqa: F811
    start_agent: Start,
    slowly: Slow,
    tmp_path: Path,
    round_trip: float,
) -> None:
    flags = (slowly(secure_admin, round_trip), f"-config_dir={security(tmp_path / 'w', authority, 'worker', 'w1')}")
    agent = start_agent(*flags, "-heartbeat=2s")
    agent.says("registered as", 50)
    assert "connecting to admin again" not in agent.text


@pytest.mark.parametrize("with_tls", [False, True])
@pytest.mark.parametrize("takes_connections", [True, False])
def test_a_server_from_which_nothing_comes_is_not_taken_for_one_that_wants_tls(
    start_agent: Start, tmp_path: Path, takes_connections: bool, with_tls: bool
) -> None:
    flags = [f"-config_dir={security(tmp_path / 'w', Authority(tmp_path / 'ca'), 'worker', 'w1')}"] if with_tls else []
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = silent.getsockname()[1]
        for _one in range(0 if takes_connections else 3):  # once its queue is full the packets of others are dropped
            other = stack.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
        agent = start_agent(f"-admin=127.0.0.1:{free_port()}.{port}", *flags)
        told = agent.says("WARNING admin", 40)
    assert "wants TLS" not in told
    assert "must both have certificates" not in told
    assert re.search(rf"127\.0\.0\.1:.*{port}.* within 10 s|no answer within 10 s", told)
