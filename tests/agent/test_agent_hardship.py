"""The agent where things go wrong around it: a hung admin, a full disk, a deadline, work that comes twice."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agent.agent import Agent, flags_for
from tests.agent.driver import Driver
from tests.agent.work import COMPACT, compactions, garbage, hold, server_of
from tests.support import eventually, free_port
from tests.support.cluster import Cluster
from weed_safety.journal import Journal
from weed_tasks.slots import MOST_OUTSIDE

Start = Callable[..., Agent]
QUICK_413 = "-era=4.13"  # answers "no work", so a worker need not fear for its old stream as with 3.97


def give(driver: Driver, cluster: Cluster, job_id: str, volume_id: int) -> None:
    driver.give(job_id, "vacuum", volume_id, server_of(cluster, volume_id))


@pytest.fixture
def driver(sandbox_cluster: Cluster, dialect: str) -> Driver:
    """An admin that does not crash when a stream of its worker breaks."""
    return Driver(sandbox_cluster.start_admin(dialect, *([QUICK_413] if dialect == "classic" else [])), dialect)


@pytest.fixture
def agent(start_agent: Start, driver: Driver) -> Agent:
    """One registered agent with two slots."""
    agent = start_agent(flags_for(driver.admin), "-capabilities=vacuum")
    agent.says("registered as")
    return agent


def await_owed(agent: Agent) -> None:
    """Wait until a result is on disk: it is written behind the log line that tells it."""
    owed = agent.working_dir / "owed"
    eventually(lambda: any("vacuumed on" in path.read_text() for path in owed.glob("*.json")))


def test_a_result_told_to_a_hung_admin_that_dies_is_told_again(
    sandbox_cluster: Cluster, driver: Driver, agent: Agent
) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    hold(sandbox_cluster, volume_id, 1.5)
    give(driver, sandbox_cluster, "j1", volume_id)
    eventually(lambda: compactions(sandbox_cluster) == 1)
    driver.admin.post("/sandbox/hang", {"on": True})
    agent.says(r"completed vacuum .*\[j1\]")
    time.sleep(1.5)  # the completion has long left, and nobody reads it
    driver.admin.kill()
    driver.start_again()
    assert driver.ended("j1").success
    assert compactions(sandbox_cluster) == 1
    assert driver.violations() == []


@pytest.mark.parametrize("dialect", ["classic"])
def test_an_admin_that_answers_no_heartbeat_is_dropped_and_taken_up_again(driver: Driver, agent: Agent) -> None:
    eventually(lambda: driver.said("task_request"))
    driver.admin.post("/sandbox/hang", {"on": True})
    agent.says("it has not answered for 11 s; is it hung", 30)
    driver.admin.post("/sandbox/hang", {"on": False})
    eventually(lambda: agent.text.count("registered as") == 2, 30)
    assert agent.process.poll() is None


@pytest.mark.parametrize("dialect", ["plugin"])  # before 4.13 the old stream must be waited for besides
def test_an_admin_that_does_not_greet_is_dropped_and_tried_again(driver: Driver, start_agent: Start) -> None:
    driver.admin.post("/sandbox/hang", {"on": True})
    agent = start_agent(flags_for(driver.admin), "-capabilities=vacuum")
    agent.says("it has not answered for 11 s", 30)
    driver.admin.post("/sandbox/hang", {"on": False})
    agent.says("registered as", 30)


def test_a_result_survives_the_worker_s_death_right_after_the_job(
    sandbox_cluster: Cluster, driver: Driver, agent: Agent, start_agent: Start
) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    hold(sandbox_cluster, volume_id, 1.0)
    give(driver, sandbox_cluster, "j1", volume_id)
    eventually(lambda: compactions(sandbox_cluster) == 1)
    driver.admin.kill()
    agent.says(r"completed vacuum .*\[j1\]")
    await_owed(agent)
    agent.kill()
    driver.start_again()
    start_agent(flags_for(driver.admin), "-capabilities=vacuum")
    assert driver.ended("j1").success
    assert compactions(sandbox_cluster) == 1


@pytest.mark.parametrize("dialect", ["plugin"])
def test_a_job_sent_again_under_another_request_is_at_capacity_while_the_first_runs(
    sandbox_cluster: Cluster, driver: Driver, agent: Agent
) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    hold(sandbox_cluster, volume_id, 2.0)
    give(driver, sandbox_cluster, "j1", volume_id)
    eventually(lambda: compactions(sandbox_cluster) == 1)
    again = {"request_id": "r2", "execute_job_request": {"job": {"job_id": "j1", "job_type": "vacuum"}}}
    driver.admin.post("/sandbox/send", {"worker": driver.workers()[0], "message": again})
    eventually(lambda: len(driver.completions("j1")) == 2)
    first, second = driver.completions("j1")
    assert (first["request_id"], first["success"]) == ("r2", False)
    assert "executor is at capacity: not started: an earlier request for this job" in first["error_message"]
    assert second["success"]


@pytest.mark.parametrize("dialect", ["plugin"])
def test_a_request_that_comes_twice_is_done_and_told_once(
    sandbox_cluster: Cluster, driver: Driver, agent: Agent
) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    hold(sandbox_cluster, volume_id, 1.5)
    parameters = {
        "volume_id": {"int64_value": str(volume_id)},
        "server": {"string_value": server_of(sandbox_cluster, volume_id)},
    }
    job = {"job_id": "j1", "job_type": "vacuum", "parameters": parameters}
    request = {"request_id": "r1", "execute_job_request": {"job": job}}
    for _ in range(2):
        driver.admin.post("/sandbox/send", {"worker": driver.workers()[0], "message": request})
    agent.says("task j1 is assigned again")
    ended = driver.ended("j1")
    assert ended.success, ended.error
    agent.terminate()
    assert agent.wait() == 0
    agent.says("0 results owed")
    assert "Traceback" not in agent.text
    assert (len(driver.completions("j1")), compactions(sandbox_cluster)) == (1, 1)


@pytest.mark.parametrize("dialect", ["classic"])
def test_a_task_assigned_again_while_it_runs_is_done_and_told_once(
    sandbox_cluster: Cluster, driver: Driver, agent: Agent
) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    hold(sandbox_cluster, volume_id, 2.0)
    give(driver, sandbox_cluster, "j1", volume_id)
    eventually(lambda: compactions(sandbox_cluster) == 1)
    again = {"task_assignment": {"task_id": "j1", "task_type": "vacuum", "params": {"volume_id": volume_id}}}
    driver.admin.post("/sandbox/send", {"worker": driver.workers()[0], "message": again})
    agent.says("task j1 is assigned again")
    assert driver.ended("j1").success
    agent.terminate()
    assert agent.wait() == 0
    assert (len(driver.completions("j1")), compactions(sandbox_cluster)) == (1, 1)
    assert driver.violations() == []


@pytest.mark.parametrize("dialect", ["plugin"])
def test_a_result_owed_in_one_dialect_is_never_told_in_the_other(
    sandbox_cluster: Cluster, driver: Driver, agent: Agent, start_agent: Start
) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    hold(sandbox_cluster, volume_id, 1.0)
    give(driver, sandbox_cluster, "j1", volume_id)
    eventually(lambda: compactions(sandbox_cluster) == 1)
    driver.admin.kill()
    agent.says(r"completed vacuum .*\[j1\]")
    await_owed(agent)
    agent.kill()
    older = Driver(sandbox_cluster.start_admin("classic", QUICK_413), "classic")
    between = start_agent(flags_for(older.admin), "-capabilities=vacuum")
    eventually(lambda: older.said("heartbeat"))
    between.terminate()
    assert between.wait() == 0
    between.says("1 results owed")
    assert older.said("task_complete") == []
    driver.start_again()
    start_agent(flags_for(driver.admin), "-capabilities=vacuum")
    assert driver.ended("j1").success


def test_a_disk_that_takes_nothing_fails_no_heartbeat_and_no_answer(
    sandbox_cluster: Cluster, driver: Driver, agent: Agent
) -> None:
    files = garbage(sandbox_cluster)
    (volume_id,) = files.volume_ids
    for name in ("owed", "journal", "task_logs"):
        folder = agent.working_dir / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.write_text("no directory any more")
    (agent.working_dir / f"failures.{driver.workers()[0]}").mkdir()
    give(driver, sandbox_cluster, "j1", volume_id)
    driver.ended("j1")
    driver.give("j2", "vacuum", 999, "127.0.0.11:1")
    assert not driver.ended("j2").success
    agent.says("cannot keep the result of task j1 on disk")
    beats = len(driver.said("heartbeat"))
    eventually(lambda: len(driver.said("heartbeat")) > beats)
    sandbox_cluster.check(files)
    assert not sandbox_cluster.topology().replicas(volume_id)[0].read_only


def test_passing_the_deadline_ends_in_undo_and_a_report(
    sandbox_cluster: Cluster, driver: Driver, start_agent: Start
) -> None:
    agent = start_agent(flags_for(driver.admin), "-capabilities=vacuum", "-taskTimeout=1500ms")
    agent.says("registered as")
    files = garbage(sandbox_cluster)
    (volume_id,) = files.volume_ids
    server = sandbox_cluster.locations(volume_id)[0]
    sandbox_cluster.faults(server).hang(COMPACT)
    give(driver, sandbox_cluster, "j1", volume_id)
    ended = driver.ended("j1")
    assert not ended.success
    assert "passed its deadline of 2 s" in ended.error
    sandbox_cluster.faults(server).clear()
    sandbox_cluster.check(files)
    assert not sandbox_cluster.volume(server).volume_status(volume_id=volume_id).is_read_only
    assert not list((agent.working_dir / "journal").iterdir())


def test_a_server_away_for_a_moment_costs_no_job(sandbox_cluster: Cluster, driver: Driver, agent: Agent) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    faults = sandbox_cluster.faults(sandbox_cluster.locations(volume_id)[0])
    for method in ("VacuumVolumeCheck", "VolumeStatus", "ReadVolumeFileStatus"):
        faults.fail(method)
    give(driver, sandbox_cluster, "j1", volume_id)
    ended = driver.ended("j1")
    assert ended.success, ended.error


def test_no_job_runs_on_a_volume_where_a_killed_one_left_something_to_undo(
    sandbox_cluster: Cluster, driver: Driver, start_agent: Start, tmp_path: Path
) -> None:
    held, free = garbage(sandbox_cluster, volumes=2).volume_ids
    (tmp_path / "worker").mkdir()
    entry = Journal(tmp_path / "worker" / "journal").open_entry("old", "sweep", held)
    entry.plan("sweep", volume_id=held, server="127.0.0.1:1")
    entry.close()
    agent = start_agent(flags_for(driver.admin), "-capabilities=vacuum")
    agent.says("registered as")
    agent.says(f"cannot yet undo what sweep old left behind on volume {held}.*knows no task type 'sweep'")
    give(driver, sandbox_cluster, "j1", held)
    give(driver, sandbox_cluster, "j2", free)
    assert driver.ended("j2").success
    if driver.dialect == "plugin":
        assert "what a killed one left to undo" in driver.ended("j1").error
    else:
        agent.says(r"took vacuum .*\[j1\]")
    assert compactions(sandbox_cluster) == 1


@pytest.mark.parametrize("dialect", ["plugin"])
def test_a_worker_that_stops_answers_the_detections_under_way(
    sandbox_cluster: Cluster, driver: Driver, agent: Agent
) -> None:
    sandbox_cluster.faults(sandbox_cluster.master).hang("VolumeListStream")
    threading.Thread(target=detect, args=(driver,), daemon=True).start()
    eventually(lambda: any(beat.get("detection_slots_used") for beat in driver.said("heartbeat")))
    agent.terminate()
    (answer, *_) = eventually(lambda: driver.said("detection_complete"))
    assert "the worker stops (SIGTERM)" in answer["error_message"]
    assert agent.wait() == 0


def detect(driver: Driver) -> None:
    try:
        driver.admin.post("/api/plugin/job-types/vacuum/detect")
    except (AssertionError, OSError):
        pass  # the admin tells of a failed detection so


def test_todays_flag_names_win_over_the_manual_s(driver: Driver, start_agent: Start) -> None:
    flags = ("-jobType=vacuum,ec", "-capabilities=balance", "-maxExecute=3", "-maxConcurrent=1")
    start_agent(flags_for(driver.admin), *flags).says("registered as")
    kind = "hello" if driver.dialect == "plugin" else "registration"
    said: list[Any] = eventually(lambda: driver.said(kind))
    if driver.dialect == "plugin":
        told = {entry["job_type"]: entry["max_execution_concurrency"] for entry in said[0]["capabilities"]}
        assert told == {"vacuum": 3 + MOST_OUTSIDE, "erasure_coding": 3 + MOST_OUTSIDE}
    else:
        eventually(lambda: len(driver.said(kind)) == 2)
        assert {name for record in driver.said(kind) for name in record["capabilities"]} == {"vacuum", "erasure_coding"}
        assert {record["max_concurrent"] for record in driver.said(kind)} == {3}


@pytest.mark.parametrize("dialect", ["plugin"])
def test_an_admin_flag_that_points_at_something_else_is_no_reason_to_end(start_agent: Start, driver: Driver) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server:

        def mumble() -> None:
            while True:
                try:
                    connection, _peer = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                    time.sleep(0.2)

        threading.Thread(target=mumble, daemon=True).start()
        agent = start_agent(f"-admin=127.0.0.1:{port}.{port}")
        agent.says("does not answer gRPC: .*name it: -admin=host:port.grpcPort")
        agent.says("connecting to admin again")
        assert agent.process.poll() is None


@pytest.mark.parametrize("dialect", ["classic"], indirect=True)
def test_a_classic_admin_is_offered_a_task_type_only_in_its_window(
    sandbox_cluster: Cluster, driver: Driver, start_agent: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would count a refused task as failed, and give up after some."""
    opens = 20.0  # seconds from now, and a window opens on a full minute: so the agent's clock is set forward
    ahead = int(120 - (time.time() + opens) % 60)
    monkeypatch.setenv("TZ", f"AHEAD-00:{ahead // 60:02}:{ahead % 60:02}")
    begin, end = (time.strftime("%H:%M", time.gmtime(time.time() + ahead + opens + more)) for more in (1, 3600))
    window = f"-window=erasure_coding={begin}-{end}"
    agent = start_agent(flags_for(driver.admin), "-capabilities=balance,erasure_coding", window)
    assert "erasure_coding" not in agent.says("registered as")
    server = str(sandbox_cluster.servers[0].address)
    driver.give("j1", "erasure_coding", 4711, server)
    driver.give("j2", "balance", 4711, server)
    assert driver.ended("j2").error
    assert not driver.completions("j1")
    agent.says("registered as .* for balance, erasure_coding", timeout=opens + 20)
    assert "4711" in driver.ended("j1").error


@pytest.mark.parametrize("dialect", ["plugin", "classic"])
def test_a_job_id_with_a_line_break_writes_no_log_line(sandbox_cluster: Cluster, driver: Driver, agent: Agent) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    name = "j1\n2026-01-01 00:00:00,000 INFO forged\x1b[2J"
    give(driver, sandbox_cluster, name, volume_id)
    assert driver.ended(name).success
    agent.says(r"completed vacuum .* \[j1\\n2026-01-01 00:00:00,000 INFO forged\\x1b\[2J\]$")
    assert "\x1b" not in agent.text
    assert not [line for line in agent.text.splitlines() if line.startswith("2026-01-01")]


@pytest.mark.parametrize("dialect", ["plugin"])  # a classic admin names a file after the id
@pytest.mark.parametrize("length", [5_000, 1_000_000])
def test_a_job_with_an_endless_id_is_refused_and_the_next_one_is_done(
    sandbox_cluster: Cluster, driver: Driver, agent: Agent, length: int
) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    give(driver, sandbox_cluster, "x" * length, volume_id)
    assert not driver.ended("x" * length).success
    give(driver, sandbox_cluster, "j2", volume_id)
    assert driver.ended("j2").success
    assert len(agent.text) < 200_000
