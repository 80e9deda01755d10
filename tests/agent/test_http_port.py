"""The metrics port among those who mean no good: whatever connects there, the worker and its jobs go on."""

from __future__ import annotations

import os
import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.agent.agent import Agent, flags_for
from tests.agent.driver import Driver
from tests.agent.test_metrics import Watcher
from tests.agent.work import garbage, hold, server_of
from tests.support import eventually, free_port
from tests.support.cluster import Cluster
from weed_agent import http_port

Start = Callable[..., Agent]
USUAL = 1024


@contextmanager
def limit(soft: int, hard: int | None = None) -> Iterator[None]:
    """Processes started in here may open so many files; the hard limit cannot be raised again, so it is kept here."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def allowed(agent: Agent) -> tuple[int, int]:
    """The limits on open files of an agent: soft, hard."""
    text = Path(f"/proc/{agent.process.pid}/limits").read_text()
    match = re.search(r"Max open files +(\d+) +(\d+)", text)
    assert match is not None
    return int(match[1]), int(match[2])


def descriptors(agent: Agent) -> int:
    """How many files and connections an agent holds."""
    return len(os.listdir(f"/proc/{agent.process.pid}/fd"))


def connect(port: int) -> socket.socket:
    line = socket.socket()
    line.settimeout(5)
    line.connect(("127.0.0.1", port))
    return line


@pytest.fixture
def crowd() -> Iterator[Callable[[int, int], list[socket.socket]]]:
    """Many who connect and say nothing, until the test ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    with ExitStack() as stack:

        def come(port: int, count: int) -> list[socket.socket]:
            lines: list[socket.socket] = []
            for _one in range(count):
                try:
                    lines.append(stack.enter_context(connect(port)))
                except OSError:
                    continue  # turned away
            return lines

        yield come
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_crowd_at_the_metrics_port_costs_neither_a_job_nor_the_worker(
    sandbox_cluster: Cluster, start_agent: Start, crowd: Callable[[int, int], list[socket.socket]]
) -> None:
    watcher, driver = Watcher(free_port()), Driver(sandbox_cluster.start_admin("plugin"), "plugin")
    agent = start_agent(flags_for(driver.admin), "-capabilities=vacuum", *watcher.flags)
    resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, (USUAL, USUAL))
    agent.says("registered as")
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    hold(sandbox_cluster, volume_id, 2.0)
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    agent.says(r"took vacuum .*\[j1\]")
    crowd(watcher.port, 1100)
    assert descriptors(agent) < USUAL // 4
    assert driver.ended("j1").success
    assert watcher.get("/health") == (200, "ok\n")
    driver.admin.kill()
    driver.start_again()
    eventually(lambda: agent.text.count("registered as") == 2, 30)
    assert watcher.get("/ready") == (200, "ready\n")


def test_an_agent_raises_its_limit_as_far_as_it_may(start_agent: Start) -> None:
    with limit(256):
        agent = start_agent(f"-admin=127.0.0.1:{free_port()}")
    agent.says("connecting to admin")
    soft, hard = allowed(agent)
    assert soft == hard > 256


@pytest.fixture
def port() -> Iterator[int]:
    """A port of which each connection may last for half a second."""
    number = free_port()
    server = http_port.open_port("127.0.0.1", number, lambda _path, _accept: (200, "text/plain", b"x" * 100), 0.5)
    yield number
    server.shutdown()
    server.server_close()


def test_a_request_that_drips_is_ended_when_its_time_is_over(port: int) -> None:
    began = time.monotonic()

    def drip() -> None:
        with connect(port) as line:
            for _byte in range(200):
                line.sendall(b"G")
                time.sleep(0.05)

    with pytest.raises(OSError, match=r"reset|pipe"):
        drip()
    assert time.monotonic() - began < 5


def test_an_answer_that_nobody_reads_is_ended_when_its_time_is_over() -> None:
    number = free_port()
    server = http_port.open_port("127.0.0.1", number, lambda _path, _accept: (200, "", b"x" * (64 << 20)), 0.5)
    with connect(number) as line:
        line.sendall(b"GET / HTTP/1.0\r\n\r\n")
        eventually(lambda: not server._lines, 5)  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("head", [b"GET /" + b"a" * 200_000, b"GET / HTTP/1.0\r\n" + b"X: y\r\n" * 40_000])
def test_a_request_without_end_is_read_no_further_than_its_bound(port: int, head: bytes) -> None:
    with connect(port) as line:
        answer = b""
        try:
            line.sendall(head)
            while block := line.recv(65536):
                answer += block
        except ConnectionError:
            pass  # what was not read makes the system reset the connection
    assert len(answer) < 1000
    with connect(port) as line:
        line.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.0 200")
