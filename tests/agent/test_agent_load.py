"""The agent under load: the heartbeat keeps its beat, slow servers starve nothing, and streams leave nothing behind."""

from __future__ import annotations

import base64
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.agent.agent import Agent, flags_for
from tests.agent.driver import Driver
from tests.agent.work import COMPACT, garbage, server_of
from tests.conftest import clusters
from tests.support import erasure_coding, eventually
from tests.support.cluster import Cluster

Start = Callable[..., Agent]
BEAT = 0.2
"""Seconds between heartbeats in these tests."""

LATE = 0.5
"""Seconds by which a heartbeat may be later."""


class Metronome(threading.Thread):
    """Wakes at every beat in this idle process: what it is late is the host's fault."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._done = threading.Event()
        self.late = 0.0

    def run(self) -> None:
        while not self._done.is_set():
            due = time.monotonic() + BEAT
            self._done.wait(BEAT)
            self.late = max(self.late, time.monotonic() - due)

    def __enter__(self) -> Metronome:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()


def longest_gap(driver: Driver, since: float) -> float:
    """Seconds between two heartbeats at the admin, at most."""
    told: list[float] = [record["at"] for record in driver.admin.get("/sandbox/messages?kind=heartbeat")]
    beats = [since, *(at for at in told if at > since), time.time()]
    return max(later - earlier for earlier, later in pairwise(beats))


_many_servers = clusters(servers=15)


@pytest.fixture
def many_servers(_many_servers: Cluster) -> Cluster:
    """A sandbox of more servers than gevent's own thread pool has threads."""
    _many_servers.reset()
    return _many_servers


@pytest.fixture
def driver_of_many(many_servers: Cluster) -> Driver:
    """Their admin."""
    return Driver(many_servers.start_admin("plugin"), "plugin")


def encode(driver: Driver, cluster: Cluster, volume_id: int) -> None:
    """Have a volume erasure coded; does not wait for it."""
    job_id = f"e{volume_id}"
    params = erasure_coding.job(cluster, volume_id, name=job_id).params.SerializeToString()
    parameters = {"task_params_pb": {"bytes_value": base64.b64encode(params).decode()}}
    order = {"job": {"job_id": job_id, "job_type": "erasure_coding", "parameters": parameters}, "timeout_seconds": 120}
    threading.Thread(target=driver.execute, args=(order,), daemon=True).start()


def test_the_heartbeat_keeps_its_beat_while_volumes_are_encoded(
    many_servers: Cluster, driver_of_many: Driver, start_agent: Start
) -> None:
    # Each encode reads one stream, computes in native threads, and feeds fourteen streams at once.
    driver = driver_of_many
    files = many_servers.fill(count=12, size=1_000_000, volumes=4)
    agent = start_agent(flags_for(driver.admin), f"-heartbeat={BEAT}s", "-capabilities=ec", "-maxConcurrent=4")
    agent.says("registered as")
    with Metronome() as host:
        since = time.time()
        for volume_id in files.volume_ids:
            encode(driver, many_servers, volume_id)
        for volume_id in files.volume_ids:
            ended = driver.ended(f"e{volume_id}", 120)
            assert ended.success, ended.error
        gap = longest_gap(driver, since)
    assert max(beat.get("execution_slots_used", 0) for beat in driver.said("heartbeat")) >= 3
    assert gap <= BEAT + LATE + host.late
    many_servers.check(files)


def test_many_servers_that_hang_delay_neither_the_heartbeat_nor_other_work(
    many_servers: Cluster, driver_of_many: Driver, start_agent: Start
) -> None:
    # N.B. under gevent each channel with a call under way holds a native thread of the hub's pool.
    driver = driver_of_many
    files = garbage(many_servers, volumes=15)
    *hung, free = files.volume_ids
    for volume_id in hung:
        many_servers.faults(many_servers.locations(volume_id)[0]).hang(COMPACT)
    agent = start_agent(flags_for(driver.admin), f"-heartbeat={BEAT}s", "-jobType=vacuum", "-maxConcurrent=15")
    agent.says("registered as")
    with Metronome() as host:
        for volume_id in hung:
            driver.give(f"j{volume_id}", "vacuum", volume_id, server_of(many_servers, volume_id))
        eventually(lambda: driver.said("heartbeat")[-1].get("execution_slots_used") == len(hung), 30)
        since = time.time()
        driver.give("free", "vacuum", free, server_of(many_servers, free))
        assert driver.ended("free", 20).success
        time.sleep(10 * BEAT)
        gap = longest_gap(driver, since)
    assert gap <= BEAT + LATE + host.late
    agent.terminate()
    agent.says("finish first")
    agent.terminate()
    assert agent.wait() == 0
    many_servers.check(files)


FLOOD = {"plugin": 5000, "classic": 2000}
"""Jobs that an admin gives at once."""


def flood(dialect: str, count: int) -> list[dict[str, Any]]:
    """So many jobs of different volumes, on a server that refuses connections; each second classic one is unknown."""
    if dialect == "classic":
        return [
            {
                "task_assignment": {
                    "task_id": f"j{number}",
                    "task_type": "vacuum" if number % 2 else "sweep",
                    "params": {"volume_id": number, "sources": [{"node": "127.0.0.11:1"}]},
                }
            }
            for number in range(1, count + 1)
        ]
    return [
        {
            "request_id": f"r{number}",
            "execute_job_request": {
                "job": {
                    "job_id": f"j{number}",
                    "job_type": "vacuum",
                    "parameters": {
                        "volume_id": {"int64_value": str(number)},
                        "server": {"string_value": "127.0.0.11:1"},
                    },
                }
            },
        }
        for number in range(1, count + 1)
    ]


def test_the_heartbeat_keeps_its_beat_while_thousands_of_jobs_come_at_once(
    driver: Driver, start_agent: Start, dialect: str
) -> None:
    # N.B. each of them is owed on disk before it is answered.
    agent = start_agent(flags_for(driver.admin), f"-heartbeat={BEAT}s", "-capabilities=vacuum", "-v=0", "-id=w-flood")
    agent.says("registered as")
    eventually(lambda: driver.said("heartbeat"))
    answers, key = ("job_completed", "job_id") if dialect == "plugin" else ("task_complete", "task_id")
    count = FLOOD[dialect]
    with Metronome() as host:
        since = time.time()
        driver.admin.post("/sandbox/send", {"worker": "w-flood", "messages": flood(dialect, count)})
        at_once = count if dialect == "plugin" else count // 2  # classic ones wait for a slot
        eventually(lambda: driver.admin.get("/sandbox/counts").get(answers, 0) >= at_once, 110)
        gap = longest_gap(driver, since)
        agent.terminate()  # what waits is handed back, for as long as the admin takes it
        assert agent.wait(110) == 0
    told = Counter(record[key] for record in driver.said(answers))
    assert (len(told), set(told.values())) == (count, {1})
    assert gap <= BEAT + LATE + host.late
    agent.says("0 results owed")


def held(agent: Agent) -> tuple[int, int, int]:
    """Descriptors, native threads and greenlets of a process."""
    proc = Path(f"/proc/{agent.process.pid}")
    before = len(agent.text)
    agent.process.send_signal(signal.SIGUSR1)
    eventually(lambda: "Greenlet Locals" in agent.text[before:] or "Threads" in agent.text[before:])
    stacks = eventually(lambda: re.search(r"\* Greenlets\n.*", agent.text[before:], re.S))
    assert stacks is not None
    threads = int(re.search(r"Threads:\s+(\d+)", (proc / "status").read_text())[1])  # type: ignore[index]
    return len(list((proc / "fd").iterdir())), threads, stacks[0].count('Greenlet "')


@pytest.mark.parametrize("dialect", ["classic"])
def test_streams_one_after_another_leave_no_descriptor_thread_or_greenlet(
    sandbox_cluster: Cluster, driver: Driver, start_agent: Start
) -> None:
    # With every failure the agent registers again: fifty streams that end in order.
    agent = start_agent(flags_for(driver.admin), "-capabilities=vacuum", "-taskInterval=50ms")
    agent.says("registered as")

    def fail(first: int, last: int) -> None:
        for number in range(first, last):
            driver.give(f"j{number}", "vacuum", 900 + number, "127.0.0.11:1")
        eventually(lambda: len(driver.said("task_complete")) == last, 60)
        eventually(lambda: len(driver.said("registration")) > len(driver.said("shutdown")) > 0, 10)

    fail(0, 5)
    before = held(agent)
    fail(5, 55)
    after = held(agent)
    assert len(driver.said("registration")) > 20  # several failures may be told by one
    assert driver.violations() == []
    assert all(now <= then + 3 for now, then in zip(after, before)), f"{before} became {after}"


@pytest.mark.parametrize("dialect", ["plugin"])
def test_streams_that_break_leave_no_descriptor_thread_or_greenlet(driver: Driver, start_agent: Start) -> None:
    agent = start_agent(flags_for(driver.admin), "-reconnect=50ms")

    def cut(times: int) -> None:
        for _ in range(times):
            worker = eventually(driver.workers)[0]
            driver.admin.post("/sandbox/cut", {"worker": worker, "code": "UNAVAILABLE"})
            eventually(lambda: not driver.workers())
        eventually(driver.workers, 20)

    cut(2)
    before = held(agent)
    cut(4)
    after = held(agent)
    assert all(now <= then + 2 for now, then in zip(after, before)), f"{before} became {after}"
