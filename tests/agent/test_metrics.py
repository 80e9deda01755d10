"""What a running agent shows on its metrics port: metrics, health, readiness and status, on both dialects."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.agent.agent import Agent, flags_for
from tests.agent.driver import Driver
from tests.support import eventually, free_port
from tests.support.cluster import Admin, Cluster, Files

Start = Callable[..., Agent]


class Watcher:
    """Somebody who looks at an agent's metrics port."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = port
        self.flags = (f"-metricsPort={port}", f"-metricsIp={host}")

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        """Status and body of a page; (0, "") while nobody listens."""
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=10)) as connection:
            try:
                connection.request(method, path)
                answer = connection.getresponse()
            except OSError:
                return 0, ""
            return answer.status, answer.read().decode()

    def headers(self, path: str) -> dict[str, str]:
        """The headers of a page."""
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=10)) as connection:
            connection.request("GET", path)
            return dict(connection.getresponse().getheaders())

    def status(self) -> dict[str, Any]:
        """The status document."""
        code, body = self.get("/status")
        assert code == 200, body
        return dict(json.loads(body))

    def metric(self, name: str, **labels: str) -> float | None:
        """One sample's value, None where it is not there."""
        code, body = self.get("/metrics")
        assert code == 200, body
        for family in text_string_to_metric_families(body):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return None


@pytest.fixture
def driver(admin: Admin, dialect: str) -> Driver:
    """The admin, as something to give jobs to."""
    return Driver(admin, dialect)


@pytest.fixture
def watcher() -> Watcher:
    """Somebody who looks at a free port."""
    return Watcher(free_port())


def garbage(cluster: Cluster, volumes: int = 1) -> Files:
    files = cluster.fill(count=6 * volumes, size=20_000, volumes=volumes)
    for volume_id in files.volume_ids:
        cluster.delete(files.of(volume_id)[:4])
    cluster.settle()
    return files


def test_a_registered_worker_is_ready_and_tells_what_the_manual_lists(
    start_agent: Start, admin: Admin, driver: Driver, watcher: Watcher, dialect: str
) -> None:
    start_agent(flags_for(admin), "-id=w-seen", "-address=host1", "-capabilities=vacuum", *watcher.flags)
    eventually(lambda: watcher.get("/ready") == (200, "ready\n"), 20)
    assert watcher.get("/health") == (200, "ok\n")
    assert watcher.get("/ready", "HEAD") == (200, "")
    assert watcher.get("/nothing")[0] == 404
    eventually(lambda: watcher.status()["last_heartbeat"] and watcher.status()["uptime_seconds"] > 0)
    status = watcher.status()
    assert status["id"] == "w-seen"
    assert status["address"] == "host1"
    assert status["state"] == "idle"
    assert status["reason"] == ""
    assert (status["current_load"], status["max_load"]) == (0, 2)
    assert status["capabilities"] == ["vacuum"]
    assert (status["tasks_completed"], status["tasks_failed"]) == (0, 0)
    assert status["admin"] == str(admin.address)
    assert status["protocol"] == dialect
    assert [entry["connected"] for entry in status["registrations"]] == [True]
    assert watcher.metric("weed_worker_connected") == 1
    assert watcher.metric("weed_worker_stream_events_total", event="connected") == 1
    assert watcher.metric("weed_worker_slots", lane="execution") == 2
    assert watcher.metric("weed_worker_info", id="w-seen", address="host1") == 1
    assert watcher.metric("weed_worker_heartbeat_late_seconds_count") is not None
    assert watcher.metric("process_resident_memory_bytes") is not None


def test_a_worker_without_an_admin_is_healthy_and_not_ready(start_agent: Start, watcher: Watcher) -> None:
    agent = start_agent(f"-admin=127.0.0.1:{free_port()}", *watcher.flags)
    eventually(lambda: watcher.get("/health")[0] == 200, 20)
    code, why = watcher.get("/ready")
    assert code == 503
    assert "not registered with admin" in why
    assert watcher.status()["state"] == "disconnected"
    assert watcher.metric("weed_worker_connected") == 0
    assert watcher.status()["last_heartbeat"] is None
    eventually(lambda: watcher.metric("weed_worker_last_error_timestamp_seconds"), 20)
    assert "stream to admin" in watcher.status()["last_error"]["message"]
    agent.says("cannot be reached: start admin, open the port, or name it: -admin=host:port.grpcPort: ")


def test_the_last_heartbeat_shown_is_one_that_left(
    start_agent: Start, driver: Driver, watcher: Watcher, dialect: str
) -> None:
    start_agent(flags_for(driver.admin), "-capabilities=vacuum", "-heartbeat=1s", *watcher.flags)
    eventually(lambda: watcher.get("/ready")[0] == 200, 20)
    eventually(lambda: watcher.status()["last_heartbeat"])
    driver.admin.kill()
    eventually(lambda: watcher.status()["state"] == "disconnected", 20)
    told = watcher.status()["last_heartbeat"]
    time.sleep(2.5)  # more than two beats, with nobody to hear them
    assert watcher.status()["last_heartbeat"] == told


def test_a_running_job_is_seen_with_its_stage_and_its_end_is_counted(
    sandbox_cluster: Cluster, start_agent: Start, admin: Admin, driver: Driver, watcher: Watcher
) -> None:
    start_agent(flags_for(admin), "-capabilities=vacuum", *watcher.flags)
    eventually(lambda: watcher.get("/ready")[0] == 200, 20)
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    server = sandbox_cluster.locations(volume_id)[0]
    sandbox_cluster.faults(server).slow("VacuumVolumeCompact", 2.0)
    driver.give("j1", "vacuum", volume_id, str(server.address))
    (running,) = eventually(lambda: watcher.status()["running"], 20)
    assert running["id"] == "j1"
    assert running["type"] == "vacuum"
    assert running["volumes"] == [volume_id]
    assert watcher.metric("weed_worker_slots_used", lane="execution") == 1
    eventually(lambda: [job["stage"] for job in watcher.status()["running"]] not in ([""], ["queued"]), 20)
    assert driver.ended("j1").success
    eventually(lambda: watcher.metric("weed_worker_tasks_total", type="vacuum", result="success") == 1)
    assert watcher.status()["tasks_completed"] == 1
    assert watcher.metric("weed_worker_task_duration_seconds_count", type="vacuum") == 1
    assert (watcher.metric("weed_worker_read_bytes_total", type="vacuum") or 0) > 0
    assert (watcher.metric("weed_worker_written_bytes_total", type="vacuum") or 0) > 0
    assert watcher.metric("weed_worker_slots_used", lane="execution") == 0
    eventually(lambda: watcher.metric("weed_worker_journal_entries_open") == 0)


def test_a_draining_worker_is_not_ready_and_still_answers(
    sandbox_cluster: Cluster, start_agent: Start, admin: Admin, driver: Driver, watcher: Watcher
) -> None:
    agent = start_agent(flags_for(admin), "-capabilities=vacuum", *watcher.flags)
    eventually(lambda: watcher.get("/ready")[0] == 200, 20)
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    server = sandbox_cluster.locations(volume_id)[0]
    sandbox_cluster.faults(server).slow("VacuumVolumeCompact", 3.0)
    driver.give("j1", "vacuum", volume_id, str(server.address))
    eventually(lambda: watcher.status()["running"], 20)
    agent.terminate()
    eventually(lambda: watcher.get("/ready")[0] == 503)
    assert "draining (SIGTERM)" in watcher.get("/ready")[1]
    assert watcher.status()["state"] == "draining"
    assert watcher.metric("weed_worker_draining") == 1
    assert agent.wait() == 0


def test_a_pause_is_seen_with_its_reason_and_holds_work_back_until_it_ends(
    sandbox_cluster: Cluster, start_agent: Start, admin: Admin, driver: Driver, watcher: Watcher, tmp_path: Path
) -> None:
    pause = tmp_path / "pause"
    pause.write_text("disk swap on host3\nask Ada\n")
    start_agent(flags_for(admin), "-capabilities=vacuum", f"-pauseFile={pause}", *watcher.flags)
    eventually(lambda: watcher.get("/ready")[0] == 200, 20)
    status = watcher.status()
    assert status["state"] == "paused"
    assert status["paused"] == status["reason"] == "disk swap on host3"
    assert watcher.metric("weed_worker_paused") == 1
    pause.unlink()
    eventually(lambda: watcher.metric("weed_worker_paused") == 0)
    assert watcher.status()["state"] == "idle"


def test_windows_are_shown_as_open_or_closed(start_agent: Start, admin: Admin, watcher: Watcher) -> None:
    always, never = "vacuum=00:00-23:59", "balance=23:59-23:59"
    start_agent(flags_for(admin), "-capabilities=vacuum,balance", f"-window={always},{never}", *watcher.flags)
    eventually(lambda: watcher.get("/ready")[0] == 200, 20)
    assert watcher.status()["windows"]["balance"] == {"hours": "23:59-23:59", "open": False}
    assert watcher.metric("weed_worker_window_open", type="balance") == 0
    assert watcher.metric("weed_worker_window_open", type="vacuum") is not None


def test_detections_count_what_was_seen_and_why_it_was_skipped(
    sandbox_cluster: Cluster, start_agent: Start, watcher: Watcher
) -> None:
    admin = sandbox_cluster.start_admin("plugin")
    start_agent(flags_for(admin), "-capabilities=vacuum", *watcher.flags)
    eventually(lambda: watcher.get("/ready")[0] == 200, 20)
    garbage(sandbox_cluster)
    sandbox_cluster.fill(count=3, size=1000)
    sandbox_cluster.settle()
    eventually(lambda: admin.post("/api/plugin/job-types/vacuum/schema"), 20)
    admin.post("/api/plugin/job-types/vacuum/detect")
    assert watcher.metric("weed_worker_detections_total", type="vacuum", result="success") == 1
    assert watcher.metric("weed_worker_detection_seen_total", type="vacuum") == 2
    assert watcher.metric("weed_worker_detection_proposed_total", type="vacuum") == 1
    assert watcher.metric("weed_worker_detection_skipped_total", type="vacuum") == 1


def test_a_metrics_port_in_use_is_refused_with_one_line(start_agent: Start, admin: Admin) -> None:
    agent = start_agent(flags_for(admin), f"-metricsPort={admin.address.port}", "-metricsIp=127.0.0.1")
    assert agent.wait() == 2
    assert f"-metricsPort={admin.address.port} on -metricsIp=127.0.0.1 cannot be had" in agent.text


ABBREVIATED = re.compile(r"_(s|ms|us|ns|sec|secs|b|kb|mb|gb|mib|bits|percent|minutes|hours|days|milliseconds)(_|$)")


def problems(family: Metric) -> Iterator[str]:
    """What `promtool check metrics` says of a family, and what it should."""
    names = {sample.name for sample in family.samples}
    if not family.documentation:
        yield "no help text"
    if family.type == "counter" and not all(name.endswith("_total") for name in names):
        yield "a counter without _total"
    if family.type != "counter" and any(name.endswith("_total") for name in names):
        yield "no counter, and ends in _total"
    if any(name.endswith("_created") for name in names):
        yield "times at which series began are noise"
    if family.type not in ("histogram", "summary") and any(re.search("_(bucket|count|sum)$", name) for name in names):
        yield "the suffix of a histogram"
    if ABBREVIATED.search(family.name) or re.search("_(counter|gauge|histogram)(_|$)", family.name):
        yield "an abbreviated unit, or a type in the name"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", family.name) or re.search(
        "_total_|_seconds_(?!bucket|count|sum)", family.name
    ):
        yield "no name by the rules"
    for sample in family.samples:
        for label, value in sample.labels.items():
            if not re.fullmatch(r"[a-z][a-z_]*", label) or (label in ("type", "reason", "result") and " " in value):
                yield f"label {label}={value!r}"


def test_metrics_follow_the_rules_of_prometheus(
    sandbox_cluster: Cluster, start_agent: Start, watcher: Watcher, tmp_path: Path
) -> None:
    admin = sandbox_cluster.start_admin("plugin")
    start_agent(flags_for(admin), "-capabilities=vacuum,balance", "-window=balance=00:00-23:59", *watcher.flags)
    eventually(lambda: watcher.get("/ready")[0] == 200, 20)
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    driver = Driver(admin, "plugin")
    driver.give("j1", "vacuum", volume_id, str(sandbox_cluster.locations(volume_id)[0].address))
    assert driver.ended("j1").success
    eventually(lambda: admin.post("/api/plugin/job-types/vacuum/schema"), 20)

    def passed_over() -> float | None:
        admin.post("/api/plugin/job-types/vacuum/detect")
        return watcher.metric("weed_worker_volumes_passed_over", type="vacuum", reason="below_the_threshold")

    eventually(passed_over, 30, pause=0.5)  # the master learns late what was vacuumed
    _code, text = watcher.get("/metrics")
    found = {family.name: list(problems(family)) for family in text_string_to_metric_families(text)}
    assert len(found) > 30
    assert not {name: words for name, words in found.items() if words}
    if promtool := shutil.which("promtool"):
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
    freed = watcher.metric("weed_worker_freed_bytes_total", type="vacuum")
    assert freed is not None
    assert freed > 0
    for name in ("last_success", "last_look"):
        at = watcher.metric(f"weed_worker_{name}_timestamp_seconds", type="vacuum") or 0
        assert abs(at - time.time()) < 60
    assert watcher.metric("weed_worker_last_failure_timestamp_seconds", type="vacuum") is None
    assert watcher.metric("weed_worker_jobs_to_do", type="vacuum") == 0
    assert (watcher.metric("weed_worker_working_directory_free_bytes") or 0) > 0
    assert watcher.metric("weed_worker_holds") == 0
