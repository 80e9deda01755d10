"""Ids from an admin that are longer than any that it makes itself: they are repeated exactly, and silence nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.agent.agent import Agent, flags_for
from tests.agent.driver import Driver
from tests.agent.work import garbage, hold, server_of
from tests.support import eventually
from tests.support.cluster import Cluster

Start = Callable[..., Agent]
LONG = "x" * 1_000_000
LONGER_THAN_A_FILE_NAME = "x" * 4000


def order(dialect: str, job_id: str, job_type: str) -> dict[str, Any]:
    """A job on a server that is not there, or of a type that nobody has."""
    if dialect == "classic":
        params = {"volume_id": 7, "sources": [{"node": "127.0.0.11:1"}]}
        return {"task_assignment": {"task_id": job_id, "task_type": job_type, "params": params}}
    parameters = {"volume_id": {"int64_value": "7"}, "server": {"string_value": "127.0.0.11:1"}}
    job = {"job_id": job_id, "job_type": job_type, "parameters": parameters}
    return {"request_id": f"r-{job_id[:9]}", "execute_job_request": {"job": job}}


@pytest.mark.parametrize("job_type", ["vacuum", "sweep"])
def test_a_job_id_of_a_megabyte_is_answered_exactly_and_silences_nothing(
    driver: Driver, start_agent: Start, dialect: str, job_type: str
) -> None:
    agent = start_agent(flags_for(driver.admin), "-capabilities=vacuum", "-id=w1")
    agent.says("registered as")
    driver.admin.post("/sandbox/send", {"worker": "w1", "message": order(dialect, LONG, job_type)})
    kind, key = ("job_completed", "job_id") if dialect == "plugin" else ("task_complete", "task_id")
    (done,) = eventually(lambda: driver.said(kind), 30)
    assert done[key] == LONG
    assert len(done["error_message"]) < 10_000
    beats = driver.admin.get("/sandbox/counts")["heartbeat"]
    eventually(lambda: driver.admin.get("/sandbox/counts")["heartbeat"] > beats + 3)
    driver.admin.post("/sandbox/send", {"worker": "w1", "message": order(dialect, "short", job_type)})
    eventually(lambda: len(driver.said(kind)) == 2, 30)
    assert agent.text.count("registered as") == 1 or dialect == "classic"
    assert len(agent.text) < 200_000
    assert max(len(json.dumps(beat)) for beat in driver.said("heartbeat")) < 10_000


@pytest.mark.parametrize("era", ["3.97", "4.13", "4.44"])
def test_a_task_whose_id_is_longer_than_a_file_s_name_is_done_like_any_other(
    sandbox_cluster: Cluster, start_agent: Start, era: str
) -> None:
    # No admin can keep such a task on its disk; each says so and goes on.
    driver = Driver(sandbox_cluster.start_admin("classic", f"-era={era}"), "classic")
    (long, short) = garbage(sandbox_cluster, volumes=2).volume_ids
    hold(sandbox_cluster, long, 2.0)
    agent = start_agent(flags_for(driver.admin), "-capabilities=vacuum", "-id=w1")
    agent.says("registered as")
    driver.give(LONGER_THAN_A_FILE_NAME, "vacuum", long, server_of(sandbox_cluster, long))
    eventually(lambda: any(beat.get("current_load") for beat in driver.said("heartbeat")), 20)
    driver.give("short", "vacuum", short, server_of(sandbox_cluster, short))
    assert driver.ended(LONGER_THAN_A_FILE_NAME).success
    assert driver.ended("short").success
    assert max(len(json.dumps(beat)) for beat in driver.said("heartbeat")) < 10_000
