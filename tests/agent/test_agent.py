"""The agent's life on both dialects, against the sandbox's admins and a volume that takes as long as a test likes."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agent.agent import Agent, flags_for
from tests.agent.driver import Driver
from tests.agent.work import compactions, garbage, hold, server_of
from tests.support import eventually, free_port
from tests.support.cluster import Admin, Cluster
from weed_core.job_types import CATEGORIES

Start = Callable[..., Agent]


@pytest.fixture
def agent(start_agent: Start, admin: Admin) -> Agent:
    """One registered agent with two slots."""
    agent = start_agent(flags_for(admin), "-capabilities=vacuum")
    agent.says("registered as")
    return agent


def test_a_job_is_run_once_and_its_files_read_back(sandbox_cluster: Cluster, driver: Driver, agent: Agent) -> None:
    files = garbage(sandbox_cluster)
    (volume_id,) = files.volume_ids
    before = sandbox_cluster.topology().replicas(volume_id)[0].size
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    assert driver.ended("j1").success
    eventually(lambda: sandbox_cluster.topology().replicas(volume_id)[0].size < before / 2)
    sandbox_cluster.check(files)
    assert len(driver.completions("j1")) == 1
    assert driver.violations() == []
    agent.says(r"completed vacuum .*\[j1\]")


def test_the_log_tells_connection_assignment_and_end_in_one_sentence_each(
    sandbox_cluster: Cluster, driver: Driver, agent: Agent, dialect: str
) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    driver.ended("j1")
    assert f"{dialect} dialect, plaintext" in agent.says("admin .* gRPC")
    agent.says(f"took vacuum of volume {volume_id} \\[j1\\]$")
    agent.says(f"completed vacuum of volume {volume_id} in [0-9.]+s, [0-9.]+ KiB freed: .* \\[j1\\]$")
    agent.says("no TLS is configured")


def test_an_unknown_task_type_is_answered_with_a_failure(driver: Driver, agent: Agent, dialect: str) -> None:
    # A real admin only assigns what a worker registered for: say it on the stream.
    message: dict[str, object] = {"task_assignment": {"task_id": "j1", "task_type": "sweep", "params": {}}}
    if dialect == "plugin":
        message = {"request_id": "r1", "execute_job_request": {"job": {"job_id": "j1", "job_type": "sweep"}}}
    driver.admin.post("/sandbox/send", {"worker": driver.workers()[0], "message": message})
    ended = driver.ended("j1")
    assert not ended.success
    assert "no task type 'sweep' here" in ended.error


def test_sigterm_lets_the_running_job_finish_and_exits_with_0(
    sandbox_cluster: Cluster, driver: Driver, agent: Agent, dialect: str
) -> None:
    files = garbage(sandbox_cluster)
    (volume_id,) = files.volume_ids
    hold(sandbox_cluster, volume_id, 2.0)
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    eventually(lambda: compactions(sandbox_cluster) == 1)
    agent.terminate()
    assert agent.wait() == 0
    assert driver.ended("j1").success
    assert agent.text.count("completed vacuum of ") == 1
    assert "0 results owed" in agent.text
    if dialect == "classic":
        assert driver.said("shutdown")
    sandbox_cluster.check(files)


def test_a_second_sigterm_cancels_and_leaves_nothing_behind(
    sandbox_cluster: Cluster, driver: Driver, agent: Agent
) -> None:
    files = garbage(sandbox_cluster)
    (volume_id,) = files.volume_ids
    hold(sandbox_cluster, volume_id, 4.0)
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    eventually(lambda: compactions(sandbox_cluster) == 1)
    agent.terminate()
    agent.says("finish first")
    agent.terminate()
    assert agent.wait(60) == 0
    assert "told to stop at once" in driver.ended("j1").error
    sandbox_cluster.check(files)
    assert not sandbox_cluster.topology().replicas(volume_id)[0].read_only


def test_a_job_lost_in_a_crash_is_reported_as_failed_by_the_next_start(
    sandbox_cluster: Cluster, driver: Driver, start_agent: Start
) -> None:
    files = garbage(sandbox_cluster)
    (volume_id,) = files.volume_ids
    hold(sandbox_cluster, volume_id, 2.0)
    first = start_agent(flags_for(driver.admin), "-capabilities=vacuum")
    first.says("registered as")
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    eventually(lambda: compactions(sandbox_cluster) == 1)
    first.kill()
    sandbox_cluster.faults(sandbox_cluster.locations(volume_id)[0]).clear()
    start_agent(flags_for(driver.admin), "-capabilities=vacuum")
    ended = driver.ended("j1")
    assert (ended.success, "was killed" in ended.error) == (False, True)
    sandbox_cluster.check(files)


def test_a_job_outlives_its_stream_and_its_result_arrives_on_the_next(
    sandbox_cluster: Cluster, driver: Driver, agent: Agent
) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    hold(sandbox_cluster, volume_id, 3.0)
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    eventually(lambda: compactions(sandbox_cluster) == 1)
    for worker in driver.workers():
        driver.admin.post("/sandbox/cut", {"worker": worker})
    assert driver.ended("j1").success
    assert compactions(sandbox_cluster) == 1
    assert len(driver.completions("j1")) == 1


def test_a_result_waits_for_an_admin_that_was_restarted(sandbox_cluster: Cluster, driver: Driver, agent: Agent) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    hold(sandbox_cluster, volume_id, 2.0)
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    eventually(lambda: compactions(sandbox_cluster) == 1)
    driver.admin.kill()
    agent.says(r"completed vacuum .*\[j1\]")
    driver.start_again()
    assert driver.ended("j1", 40).success
    assert compactions(sandbox_cluster) == 1


def test_a_second_job_on_the_same_volume_never_runs_beside_the_first(
    sandbox_cluster: Cluster, driver: Driver, agent: Agent, dialect: str
) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    hold(sandbox_cluster, volume_id, 4.0)
    server = server_of(sandbox_cluster, volume_id)
    driver.give("j1", "vacuum", volume_id, server)
    eventually(lambda: compactions(sandbox_cluster) == 1)
    driver.give("j2", "vacuum", volume_id, server)
    second = driver.ended("j2")
    if dialect == "plugin":
        assert "executor is at capacity" in second.error
        assert f"volume {volume_id} is held by another job" in second.error
        assert not driver.completions("j1")
    else:
        assert second.success
        assert driver.completions("j1")
    assert driver.ended("j1").success


def test_work_beyond_the_slots_waits_or_is_sent_back(
    sandbox_cluster: Cluster, driver: Driver, start_agent: Start, dialect: str
) -> None:
    files = garbage(sandbox_cluster, volumes=3)
    agent = start_agent(flags_for(driver.admin), "-capabilities=vacuum", "-maxConcurrent=1")
    agent.says("registered as")
    for volume_id in files.volume_ids:
        hold(sandbox_cluster, volume_id, 1.0)
    for volume_id in files.volume_ids:
        driver.give(f"j{volume_id}", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    if dialect == "plugin":
        eventually(lambda: any("at capacity" in driver.ended(f"j{v}").error for v in files.volume_ids[1:]))
    else:
        assert all(driver.ended(f"j{volume_id}").success for volume_id in files.volume_ids)
        assert max(beat.get("current_load", 0) for beat in driver.said("heartbeat")) <= 1
    sandbox_cluster.check(files)


@pytest.mark.parametrize("dialect", ["classic"])
def test_with_one_slot_two_tasks_given_at_once_run_one_after_the_other(
    sandbox_cluster: Cluster, driver: Driver, start_agent: Start
) -> None:
    # More than it asked for: a worker that lost its stream meanwhile may be given a second answer.
    files = garbage(sandbox_cluster, volumes=2)
    agent = start_agent(flags_for(driver.admin), "-capabilities=vacuum", "-maxConcurrent=1")
    agent.says("registered as")
    worker = driver.workers()[0]
    for volume_id in files.volume_ids:
        params = {"volume_id": volume_id, "sources": [{"node": server_of(sandbox_cluster, volume_id)}]}
        params["vacuum_params"] = {"garbage_threshold": 0.1}
        task = {"task_id": f"j{volume_id}", "task_type": "vacuum", "params": params}
        driver.admin.post("/sandbox/send", {"worker": worker, "message": {"task_assignment": task}})
    for volume_id in files.volume_ids:
        ended = driver.ended(f"j{volume_id}", 20)
        assert ended.success, ended.error
    asked = len(driver.said("task_request"))
    eventually(lambda: len(driver.said("task_request")) > asked)


def test_cancelling_ends_the_job_and_undoes_it(
    sandbox_cluster: Cluster, driver: Driver, agent: Agent, dialect: str
) -> None:
    files = garbage(sandbox_cluster)
    (volume_id,) = files.volume_ids
    hold(sandbox_cluster, volume_id, 4.0)
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    eventually(lambda: compactions(sandbox_cluster) == 1)
    worker = driver.workers()[0]
    cancel: dict[str, object] = (
        {"request_id": "c1", "cancel_request": {"target_id": "j1", "reason": "enough"}}
        if dialect == "plugin"
        else {"task_cancellation": {"task_id": "j1", "reason": "enough"}}
    )
    driver.admin.post("/sandbox/send", {"worker": worker, "message": cancel})
    ended = driver.ended("j1", 60)
    assert not ended.success
    assert "enough" in ended.error
    sandbox_cluster.check(files)


def test_the_admin_can_ask_the_worker_to_stop(driver: Driver, agent: Agent, dialect: str) -> None:
    body = {"reason": "going home"}
    message = {"shutdown": body} if dialect == "plugin" else {"admin_shutdown": body}
    driver.admin.post("/sandbox/send", {"worker": driver.workers()[0], "message": message})
    assert agent.wait() == 0
    assert "going home" in agent.text


def completed(beat: dict[str, Any]) -> int:
    """How many jobs a heartbeat says were completed."""
    return int(beat["metadata"]["completed"] if "metadata" in beat else beat.get("tasks_completed", 0))


def test_heartbeats_tell_true_figures_at_once(sandbox_cluster: Cluster, driver: Driver, start_agent: Start) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    agent = start_agent(flags_for(driver.admin), "-capabilities=vacuum", "-heartbeat=30s", "-id=steady")
    agent.says("registered as")
    hold(sandbox_cluster, volume_id, 1.0)
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    driver.ended("j1")
    used = "execution_slots_used" if driver.dialect == "plugin" else "current_load"
    eventually(lambda: [beat.get(used, 0) for beat in driver.said("heartbeat")][-1] == 0)
    beats = driver.said("heartbeat")
    assert {beat.get(used, 0) for beat in beats} == {0, 1}
    busy = next(beat for beat in beats if beat.get(used))
    assert "j1" in json.dumps(busy)
    assert [completed(beat) for beat in (beats[0], busy, beats[-1])] == [0, 0, 1]


def test_progress_is_told_and_never_behind_the_completion(
    sandbox_cluster: Cluster, driver: Driver, agent: Agent
) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    driver.ended("j1")
    messages = [record["kind"] for record in driver.admin.get("/sandbox/messages")]
    update, done = ("job_progress_update", "job_completed")
    if driver.dialect == "classic":
        update, done = ("task_update", "task_complete")
    assert update in messages
    assert update not in messages[messages.index(done) :]


def test_a_second_process_on_the_same_directory_is_refused(driver: Driver, agent: Agent, start_agent: Start) -> None:
    second = start_agent(flags_for(driver.admin))
    assert second.wait() == 2
    assert "belongs to a running worker" in second.text


def test_a_worker_outlives_an_admin_that_is_away(driver: Driver, start_agent: Start, dialect: str) -> None:
    driver.admin.kill()
    agent = start_agent(flags_for(driver.admin), f"-protocol={dialect}")
    agent.says("connecting to admin again")
    driver.start_again()
    agent.says("registered as", 40)
    assert driver.violations() == []


def test_a_drained_worker_takes_no_new_work(sandbox_cluster: Cluster, driver: Driver, agent: Agent) -> None:
    files = garbage(sandbox_cluster, volumes=2)
    first, second = files.volume_ids
    hold(sandbox_cluster, first, 3.0)
    driver.give("j1", "vacuum", first, server_of(sandbox_cluster, first))
    eventually(lambda: compactions(sandbox_cluster) == 1)
    agent.terminate()
    agent.says("finish first")
    driver.give("j2", "vacuum", second, server_of(sandbox_cluster, second))
    assert agent.wait() == 0
    assert compactions(sandbox_cluster) == 1
    assert driver.ended("j1").success


def test_a_paused_worker_takes_no_work_and_says_why(
    sandbox_cluster: Cluster, driver: Driver, start_agent: Start, tmp_path: Path
) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    pause = tmp_path / "pause"
    pause.write_text("disk swap on rack 3\n")
    agent = start_agent(flags_for(driver.admin), "-capabilities=vacuum", f"-pauseFile={pause}")
    agent.says("registered as")
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    if driver.dialect == "plugin":
        assert "disk swap on rack 3" in driver.ended("j1").error
    else:  # it asks for none, so that the admin keeps its work for others, or for later
        beats = len(driver.said("heartbeat"))
        eventually(lambda: len(driver.said("heartbeat")) > beats + 4)  # in which an idle worker asks several times
        assert driver.said("task_request") == []
        assert driver.completions("j1") == []
    assert compactions(sandbox_cluster) == 0
    pause.unlink()
    if driver.dialect == "classic":
        assert driver.ended("j1").success
    driver.give("j2", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    assert driver.ended("j2").success


@pytest.mark.parametrize("dialect", ["classic"])
def test_a_task_log_is_sent_when_the_admin_asks(sandbox_cluster: Cluster, driver: Driver, agent: Agent) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    driver.ended("j1")
    worker = driver.workers()[0]
    request = {"task_log_request": {"task_id": "j1", "worker_id": worker, "include_metadata": True}}
    driver.admin.post("/sandbox/send", {"worker": worker, "message": request})
    (answer, *_) = eventually(lambda: driver.said("task_log_response"))
    assert answer["success"]
    assert answer["metadata"]["status"] == "completed"
    assert len(answer["log_entries"]) > 1


@pytest.mark.parametrize("dialect", ["classic"])
def test_failures_do_not_use_up_the_slots_that_a_classic_admin_counts(driver: Driver, start_agent: Start) -> None:
    agent = start_agent(flags_for(driver.admin), "-capabilities=vacuum", "-maxConcurrent=1")
    agent.says("registered as")
    for number in range(3):
        driver.give(f"j{number}", "vacuum", 999, "127.0.0.11:1")
        assert not driver.ended(f"j{number}").success


@pytest.mark.parametrize("dialect", ["plugin"])
def test_the_line_of_seaweedfs_own_chart_works_and_its_log_is_written_where_it_says(
    driver: Driver, start_agent: Start, tmp_path: Path
) -> None:
    logs, port = tmp_path / "logs", free_port()
    logs.mkdir()
    line = [f"-logdir={logs}", "-v=1", "worker", flags_for(driver.admin), "-jobType=default,iceberg", "-debug"]
    agent = start_agent(*line, "-maxDetect=1", "-maxExecute=4", f"-debug.port={port}")
    agent.says(f"registered as .* for {', '.join(CATEGORIES['default'])}")
    agent.says("WARNING -jobType=default,iceberg: this worker has no s3_lifecycle, iceberg_maintenance")
    assert "registered as" in (logs / "weed_worker.log").read_text()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/debug/pprof/goroutine?debug=2", timeout=10) as answer:
        assert b"Greenlet" in answer.read()


def test_what_does_not_end_within_the_grace_time_is_undone_within_it(
    sandbox_cluster: Cluster, driver: Driver, start_agent: Start
) -> None:
    files = garbage(sandbox_cluster)
    (volume_id,) = files.volume_ids
    hold(sandbox_cluster, volume_id, 60.0)
    agent = start_agent(flags_for(driver.admin), "-capabilities=vacuum", "-grace=10s")
    agent.says("registered as")
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    eventually(lambda: compactions(sandbox_cluster) == 1)
    began = time.monotonic()
    agent.terminate()
    agent.says(f"vacuum of volume {volume_id}: .*(needs about|nobody can tell).* \\[j1\\]$")
    assert agent.wait(20) == 0
    assert time.monotonic() - began < 10
    assert "the task did not end within the 4 s for that" in driver.ended("j1").error
    assert not list((agent.working_dir / "journal").iterdir())
    sandbox_cluster.check(files)


def test_sighup_and_sigusr1_leave_the_worker_running(driver: Driver, agent: Agent) -> None:
    agent.process.send_signal(signal.SIGHUP)
    agent.says("reloaded")
    agent.process.send_signal(signal.SIGUSR1)
    agent.says("Greenlet")
    assert agent.process.poll() is None
    assert driver.workers()


def test_sighup_takes_what_it_can_of_a_changed_file_and_names_what_waits_for_a_restart(
    driver: Driver, start_agent: Start, tmp_path: Path
) -> None:
    file = tmp_path / "worker.conf"
    file.write_text("maxMBps=10\nmaxExecute=2\n")
    agent = start_agent(flags_for(driver.admin), f"-options={file}")
    agent.says("registered as")
    file.write_text(f"maxMBps=20\nmaxExecute=3\nmetricsPort={free_port()}\npauseFile={tmp_path / 'pause'}\n")
    (tmp_path / "pause").write_text("disk swap")
    agent.process.send_signal(signal.SIGHUP)
    agent.says("only after a restart of this worker: -maxExecute, -metricsPort$")
    agent.says("reloaded: 20 MB/s in all")
    file.write_text("maxMBps=20\nmaxExecute=none\n")
    agent.process.send_signal(signal.SIGHUP)
    agent.says(f"not reloaded: {re.escape(str(file))}, line 2: -maxExecute=none is no number")


def test_json_lines_about_a_job_tell_its_facts_as_keys(
    sandbox_cluster: Cluster, driver: Driver, start_agent: Start
) -> None:
    agent = start_agent(flags_for(driver.admin), "-capabilities=vacuum", "-logFormat=json")
    agent.says("registered as")
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    assert driver.ended("j1").success
    line = json.loads(agent.says('"message": "completed vacuum'))
    assert (line["job_id"], line["type"], line["volumes"]) == ("j1", "vacuum", [volume_id])
    assert (line["outcome"], line["level"]) == ("done", "INFO")
    assert 0 < line["seconds"] < 60
    assert line["bytes"] > 0
    assert line["freed_bytes"] > 0
    driver.give("j2", "vacuum", 4711, server_of(sandbox_cluster, volume_id))
    assert not driver.ended("j2").success
    failed = json.loads(agent.says('"message": "failed vacuum of volume 4711'))
    assert (failed["job_id"], failed["outcome"], failed["level"]) == ("j2", "failed", "ERROR")
