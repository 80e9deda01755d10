"""The stand-in admins: they serve workers as real ones do, and notice what would harm a real one."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf import json_format

from proto_gen import plugin_pb2, worker_pb2
from tests.pure.protocol_samples import BALANCE, ME, NOW, VACUUM
from tests.support import eventually, free_port
from tests.support.cluster import Admin, Cluster, request
from weed_cluster.address import Address
from weed_core.model import Detection, Proposal, Result
from weed_protocol import classic, forms, plugin
from weed_protocol.commands import (
    AskForWork,
    Cancel,
    Command,
    Completed,
    Describe,
    Described,
    Detect,
    Detected,
    Heartbeat,
    HeartbeatSeen,
    Hello,
    Log,
    LogEntry,
    NoWork,
    Progress,
    Report,
    RunJob,
    SendLog,
    Status,
    Stop,
    Unknown,
    Welcome,
)
from weed_sandbox.launcher import SANDBOX, Launcher

C = TypeVar("C")
IDLE = Status("idle", (), 0, 4, 0, 1, {}, 0, 0, 1.0)
VACUUM_5 = {"task_type": "vacuum", "params": {"volume_id": 5, "vacuum_params": {"garbage_threshold": 0.3}}}


class Wire:
    """One stream to an admin, spoken by hand."""

    def __init__(self, admin: Admin, dialect: ModuleType) -> None:
        self._dialect = dialect
        self._said: queue.Queue[bytes | None] = queue.Queue()
        self.raw: list[bytes] = []
        self.heard: list[Command] = []
        self.ended = ""
        self._channel = grpc.insecure_channel(admin.address.grpc)
        call = self._channel.stream_stream(dialect.METHOD, request_serializer=bytes, response_deserializer=bytes)
        self._answers: Any = call(iter(self._said.get, None), wait_for_ready=True)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            for message in self._answers:
                self.raw.append(message)
                self.heard.append(self._dialect.decode(message))
            self.ended = "OK"
        except grpc.RpcError as error:
            self.ended = error.code().name

    def say(self, *reports: Report) -> None:
        for report in reports:
            for message in self._dialect.encode(report, ME, NOW):
                self._said.put(message)

    def hear(self, kind: type[C], number: int = 1) -> C:
        """The nth command of a kind, once it is there."""

        def found() -> Sequence[object]:
            return [command for command in self.heard if isinstance(command, kind)][number - 1 :]

        command = eventually(found)[0]
        assert isinstance(command, kind)
        return command

    def repeat(self, report: Report, until: Callable[[], bool]) -> None:
        """Say something again and again until it has its effect."""

        def say() -> bool:
            self.say(report)
            return until()

        eventually(say)

    def close(self) -> None:
        self._answers.cancel()
        self._channel.close()


class Stage:
    """Starts admins and streams, and ends them."""

    def __init__(self, launcher: Launcher, directory: Path) -> None:
        self._launcher = launcher
        self._directory = directory
        self._wires: list[Wire] = []
        self._admins: list[Admin] = []

    def admin(self, dialect: str, *flags: str) -> Admin:
        address = Address.parse(f"127.0.0.1:{free_port()}")
        argv = [SANDBOX, "admin", f"-dialect={dialect}", f"-port={address.port}", f"-dataDir={self._directory}/data"]
        admin = Admin(self._launcher, address, [*argv, *flags], self._directory)
        self._admins.append(admin)
        self.start(admin)
        return admin

    def configure(self, task_type: str, policy: worker_pb2.TaskPolicy) -> None:
        """What an admin that is started later finds configured."""
        directory = self._directory / "data" / "conf"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"task_{task_type}.pb").write_bytes(policy.SerializeToString())

    def start(self, admin: Admin) -> None:
        admin.start()
        eventually(lambda: _serves(admin))

    def wire(self, admin: Admin, dialect: ModuleType) -> Wire:
        wire = Wire(admin, dialect)
        self._wires.append(wire)
        wire.say(Hello())
        wire.hear(Welcome)
        return wire

    def close(self) -> None:
        for wire in self._wires:
            wire.close()
        for admin in self._admins:
            admin.kill()


def _serves(admin: Admin) -> bool:
    try:
        return request(admin.address, "GET", "/health", timeout=5)[0] == 200
    except OSError:
        return False


@pytest.fixture
def stage(launcher: Launcher, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(launcher, tmp_path)
    yield stage
    stage.close()


def kinds(admin: Admin) -> set[str]:
    """The kinds of violations seen."""
    return {entry["kind"] for entry in admin.get("/sandbox/violations")}


def take(wire: Wire, number: int = 1) -> RunJob:
    wire.say(AskForWork(1))
    return wire.hear(RunJob, number)


def done(job: RunJob, error: str = "") -> Completed:
    result = None if error else Result("done", {"bytes": 7})
    return Completed(job.request_id, job.job.id, job.job.type, NOW, result, error)


# ---- classic ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ["3.97", "4.13", "4.44"])
def test_a_task_goes_from_the_queue_to_completed(stage: Stage, era: str) -> None:
    admin = stage.admin("classic", f"-era={era}")
    task_id = admin.post("/sandbox/tasks", VACUUM_5)["task_id"]
    wire = stage.wire(admin, classic)
    job = take(wire)
    assert (job.job.id, job.job.type, job.job.volume_ids) == (task_id, "vacuum", (5,))
    wire.say(Progress("", task_id, "vacuum", 0.5, "compacting"))
    eventually(lambda: admin.get(f"/api/maintenance/tasks/{task_id}")["progress"] == 50)
    wire.say(done(job), Heartbeat(IDLE))
    wire.hear(HeartbeatSeen)
    assert admin.get(f"/api/maintenance/tasks/{task_id}")["status"] == "completed"
    (worker,) = admin.get("/api/maintenance/workers")
    assert (worker["id"], worker["current_load"], worker["capabilities"]) == (ME.worker_id, 0, ["vacuum", "balance"])
    assert admin.get("/api/maintenance/stats")["tasks_by_status"] == {"completed": 1}
    assert kinds(admin) == set()
    assert [entry["kind"] for entry in admin.get("/sandbox/messages")][:2] == ["registration", "task_request"]


def test_only_newer_admins_say_that_there_is_no_work(stage: Stage) -> None:
    old, new = stage.admin("classic", "-era=3.97"), stage.admin("classic", "-era=4.13")
    for admin in (old, new):
        wire = stage.wire(admin, classic)
        wire.say(AskForWork(1), Heartbeat(IDLE))
        wire.hear(HeartbeatSeen)
        assert any(isinstance(command, NoWork) for command in wire.heard) is (admin is new)


def test_one_type_runs_as_often_at_once_as_its_limit(stage: Stage) -> None:
    admin = stage.admin("classic", "-era=4.13")
    for _ in range(3):
        admin.post("/sandbox/tasks", VACUUM_5)
    wire = stage.wire(admin, classic)
    wire.say(AskForWork(4), AskForWork(3), AskForWork(2))
    wire.hear(NoWork)
    assert sum(isinstance(command, RunJob) for command in wire.heard) == 2


def test_a_word_after_the_end_of_an_older_stream_with_the_same_id_makes_397_panic(stage: Stage) -> None:
    admin = stage.admin("classic", "-era=3.97")
    first, second = stage.wire(admin, classic), stage.wire(admin, classic)
    assert kinds(admin) == {"second_stream"}
    first.close()
    second.repeat(Heartbeat(IDLE), until=lambda: not admin.alive)
    assert "panic: send on closed channel" in admin.log.read_text()


def test_a_newer_admin_ends_the_older_stream_with_the_same_id(stage: Stage) -> None:
    admin = stage.admin("classic", "-era=4.13")
    first, second = stage.wire(admin, classic), stage.wire(admin, classic)
    eventually(lambda: first.ended == "OK")
    second.say(Heartbeat(IDLE))
    second.hear(HeartbeatSeen)
    assert admin.alive


@pytest.mark.parametrize(("era", "survives"), [("4.13", False), ("4.44", True)])
def test_a_word_after_long_silence_makes_older_admins_panic(stage: Stage, era: str, survives: bool) -> None:
    admin = stage.admin("classic", f"-era={era}", "-silence=300ms")
    wire = stage.wire(admin, classic)
    eventually(lambda: kinds(admin) == {"silence"})
    wire.say(Heartbeat(IDLE))
    if survives:
        wire.hear(HeartbeatSeen)
    else:
        eventually(lambda: not admin.alive)


def test_words_after_a_completion_are_counted(stage: Stage) -> None:
    admin = stage.admin("classic", "-era=3.97")
    task_id = admin.post("/sandbox/tasks", VACUUM_5)["task_id"]
    wire = stage.wire(admin, classic)
    job = take(wire)
    wire.say(done(job), done(job), Progress("", task_id, "vacuum", 0.1, "x"))
    eventually(lambda: kinds(admin) == {"second_completion", "negative_load", "update_after_completion"})
    assert admin.get(f"/api/maintenance/tasks/{task_id}")["status"] == "in_progress"
    admin.post("/sandbox/clear")
    wire.say(Completed("", "nobody's", "vacuum", NOW, error="x"))
    eventually(lambda: kinds(admin) == {"unknown_task"})


@pytest.mark.parametrize(("era", "leaks"), [("3.97", 1), ("4.44", 0)])
def test_a_failed_task_is_tried_again_and_older_admins_leak_its_slot(stage: Stage, era: str, leaks: int) -> None:
    admin = stage.admin("classic", f"-era={era}", "-retryDelay=200ms")
    admin.post("/sandbox/tasks", VACUUM_5)
    wire = stage.wire(admin, classic)
    wire.say(done(take(wire), "the disk is full"))
    wire.repeat(AskForWork(1), until=lambda: sum(isinstance(command, RunJob) for command in wire.heard) == 2)
    (task,) = admin.get("/api/maintenance/tasks")
    assert task["retry_count"] == 1
    (worker,) = admin.get("/api/maintenance/workers")
    assert worker["current_load"] == 1 + leaks
    assert admin.get("/sandbox/leaks") == ({ME.worker_id: 1} if leaks else {})


def test_two_words_make_a_failure_permanent_on_444(stage: Stage) -> None:
    admin = stage.admin("classic", "-era=4.44")
    admin.post("/sandbox/tasks", VACUUM_5)
    wire = stage.wire(admin, classic)
    complete = worker_pb2.TaskComplete(task_id=take(wire).job.id, error_message="volume 5 not found")
    wire._said.put(worker_pb2.WorkerMessage(task_complete=complete).SerializeToString())
    eventually(lambda: admin.get("/api/maintenance/tasks")[0]["status"] == "failed")


def test_a_killed_admin_hands_out_again_what_was_under_way(stage: Stage) -> None:
    admin = stage.admin("classic", "-era=3.97", "-retryDelay=0")
    task_id = admin.post("/sandbox/tasks", VACUUM_5)["task_id"]
    wire = stage.wire(admin, classic)
    take(wire)
    tasks = admin.directory / "data" / "tasks"
    eventually(lambda: any(b"assigned" in path.read_bytes() for path in tasks.glob("*.pb")))
    admin.kill()
    eventually(lambda: wire.ended)
    stage.start(admin)
    (task,) = admin.get("/api/maintenance/tasks")
    assert (task["id"], task["status"], task["retry_count"]) == (task_id, "pending", 1)
    again = stage.wire(admin, classic)
    again.say(Completed("", task_id, "vacuum", NOW, Result("done")))
    eventually(lambda: admin.get(f"/api/maintenance/tasks/{task_id}")["status"] == "completed")
    assert kinds(admin) == set()


@pytest.mark.parametrize("era", ["3.97", "4.44"])
def test_logs_are_asked_for_when_the_era_does(stage: Stage, era: str) -> None:
    admin = stage.admin("classic", f"-era={era}")
    task_id = admin.post("/sandbox/tasks", VACUUM_5)["task_id"]
    wire = stage.wire(admin, classic)
    wire.say(done(take(wire)))
    path = f"/api/maintenance/workers/{ME.worker_id}/logs?taskId={task_id}"
    answers: list[Any] = []
    if era == "3.97":
        threading.Thread(target=lambda: answers.append(admin.get(path)), daemon=True).start()
    wanted = wire.hear(SendLog)
    assert (wanted.task_id, wanted.max_entries) == (task_id, 100 if era == "3.97" else 1000)
    wire.say(Log(task_id, ME.worker_id, (LogEntry(1, "INFO", "began"),)))
    if era != "3.97":
        answers.append(eventually(lambda: admin.get(path)["count"] and admin.get(path)))
    assert eventually(lambda: answers)[0]["logs"][0]["message"] == "began"


def test_a_test_can_say_anything_and_cut_and_hang(stage: Stage) -> None:
    admin = stage.admin("classic")
    wire = stage.wire(admin, classic)
    me = ME.worker_id
    admin.post("/sandbox/send", {"worker": me, "message": {"task_cancellation": {"task_id": "t", "force": True}}})
    assert wire.hear(Cancel) == Cancel("", "t", "")
    admin.post("/sandbox/send", {"worker": me, "message": {"admin_shutdown": {"graceful_shutdown_seconds": 5}}})
    assert wire.hear(Stop).grace == 5
    admin.post("/sandbox/send", {"worker": me, "base64": "//8="})
    assert isinstance(wire.hear(Unknown), Unknown)
    admin.post("/sandbox/hang", {"on": True})
    wire.say(Heartbeat(IDLE))
    eventually(lambda: len(admin.get("/sandbox/messages")) == 1)
    assert not any(isinstance(command, HeartbeatSeen) for command in wire.heard)
    admin.post("/sandbox/hang", {"on": False})
    wire.hear(HeartbeatSeen)
    admin.post("/sandbox/cut", {"worker": me, "code": "UNAVAILABLE"})
    eventually(lambda: wire.ended == "UNAVAILABLE")


def test_a_scan_queues_what_the_cluster_needs(stage: Stage, sandbox_cluster: Cluster) -> None:
    first = sandbox_cluster.servers[0]
    files = sandbox_cluster.fill(count=4, volumes=3, servers=[first])
    sandbox_cluster.delete([fid for fid in files if fid.startswith("1,")])
    sandbox_cluster.settle()
    stage.configure(
        "vacuum",
        worker_pb2.TaskPolicy(enabled=True, vacuum_config=worker_pb2.VacuumTaskConfig(garbage_threshold=0.3)),
    )
    admin = stage.admin("classic", f"-master={sandbox_cluster.master}")
    for _twice in range(2):
        admin.post("/api/maintenance/scan")
        eventually(lambda: len(admin.get("/api/maintenance/tasks")) == 2)
    balance, vacuum = sorted(admin.get("/api/maintenance/tasks"), key=lambda task: str(task["type"]))
    assert (vacuum["type"], vacuum["volume_id"], vacuum["server"]) == ("vacuum", 1, str(first.address))
    assert (balance["type"], balance["server"]) == ("balance", str(first.address))
    assert balance["typed_params"]["targets"][0]["node"] != str(first.address)
    wire = stage.wire(admin, classic)
    assert {take(wire, 1).job.type, take(wire, 2).job.type} == {"vacuum", "balance"}


def test_a_vacuum_task_that_a_scan_found_starves_its_workers_from_413_until_a_restart(
    stage: Stage, sandbox_cluster: Cluster
) -> None:
    files = sandbox_cluster.fill(count=4, servers=sandbox_cluster.servers[:1])
    sandbox_cluster.delete(list(files))
    sandbox_cluster.settle()
    stage.configure(
        "vacuum",
        worker_pb2.TaskPolicy(enabled=True, vacuum_config=worker_pb2.VacuumTaskConfig(garbage_threshold=0.3)),
    )
    stage.configure("balance", worker_pb2.TaskPolicy())
    admin = stage.admin("classic", "-era=4.13", f"-master={sandbox_cluster.master}", "-retryDelay=0")
    admin.post("/api/maintenance/scan")
    eventually(lambda: admin.get("/api/maintenance/tasks"))
    admin.post("/sandbox/tasks", {"task_type": "balance", "priority": 0, "params": {"volume_id": 9}})
    wire = stage.wire(admin, classic)
    wire.say(AskForWork(1))
    wire.hear(NoWork)
    admin.stop()
    stage.start(admin)
    again = stage.wire(admin, classic)
    assert [take(again, 1).job.type, take(again, 2).job.type] == ["vacuum", "balance"]


# ---- plugin -------------------------------------------------------------------------------------------------------


class PluginWorker:
    """Answers what a plugin admin asks, each job by `work`."""

    def __init__(self, stage: Stage, admin: Admin, work: Callable[[RunJob], Completed | None] = done) -> None:
        self.wire = stage.wire(admin, plugin)
        self.wire.say(Heartbeat(IDLE))
        self.jobs: list[RunJob] = []
        self._work = work
        self._seen = 0
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def attempts(self) -> list[int]:
        """Which attempt each request to run a job was."""
        said = [plugin_pb2.AdminToWorkerMessage.FromString(message) for message in self.wire.raw]
        return [message.execute_job_request.attempt for message in said if message.HasField("execute_job_request")]

    def _serve(self) -> None:
        while not self.wire.ended:
            if self._seen == len(self.wire.heard):
                threading.Event().wait(0.005)
                continue
            command = self.wire.heard[self._seen]
            self._seen += 1
            if isinstance(command, Describe):
                descriptor = {"vacuum": VACUUM, "balance": BALANCE}[command.job_type]
                self.wire.say(Described(command.request_id, command.job_type, descriptor))
            elif isinstance(command, Detect):
                found = [
                    Proposal(f"p{n}", f"vacuum:{n}", f"volume {n}", worker_pb2.TaskParams(volume_id=n)) for n in (1, 2)
                ]
                self.wire.say(Detected(command.request_id, command.request.job_type, Detection(found, seen=9)))
            elif isinstance(command, RunJob):
                self.jobs.append(command)
                completed = self._work(command)
                if completed is not None:
                    self.wire.say(Progress(command.request_id, command.job.id, command.job.type, 0.5, "half"))
                    self.wire.say(completed)


def configured(admin: Admin) -> bool:
    return bool(request(admin.address, "GET", "/api/plugin/job-types/volume_balance/descriptor")[0] == 200)


def test_a_worker_is_listed_and_asked_for_its_forms_once(stage: Stage) -> None:
    admin = stage.admin("plugin")
    worker = PluginWorker(stage, admin)
    eventually(lambda: configured(admin))
    (listed,) = admin.get("/api/plugin/workers")
    assert listed["WorkerID"] == ME.worker_id
    assert set(listed["Capabilities"]) == {"vacuum", "volume_balance"}
    assert [entry["job_type"] for entry in admin.get("/api/plugin/job-types")] == ["vacuum", "volume_balance"]
    config = admin.get("/api/plugin/job-types/vacuum/config")
    assert config["worker_config_values"]["garbage_threshold"] == {"double_value": 0.3}
    assert config["admin_runtime"]["detection_timeout_seconds"] == 120
    assert admin.get("/api/plugin/status")["worker_grpc_port"] == admin.address.grpc_port
    worker.wire.say(Hello())
    worker.wire.hear(Welcome, 2)
    assert sum(isinstance(command, Describe) for command in worker.wire.heard) == 2


def test_a_run_detects_and_executes_and_keeps_the_story(stage: Stage) -> None:
    admin = stage.admin("plugin")
    worker = PluginWorker(stage, admin)
    eventually(lambda: configured(admin))
    counts = admin.post("/api/plugin/job-types/vacuum/run")
    assert (counts["detected_count"], counts["success_count"], counts["error_count"]) == (2, 2, 0)
    assert worker.jobs[0].job.config["garbage_threshold"] == 0.3
    jobs = admin.get("/api/plugin/jobs?job_type=vacuum")
    assert {job["state"] for job in jobs} == {"job_state_succeeded"}
    stages = [entry["stage"] for entry in admin.get("/api/plugin/activities")]
    assert {"decision_summary", "half", "completed", "assigned"} <= set(stages)
    assert len(admin.get("/api/plugin/job-types/vacuum/runs")["successful_runs"]) == 2
    detail = admin.get(f"/api/plugin/jobs/{jobs[0]['job_id']}/detail")
    assert detail["run_record"]["outcome"] == "success"
    assert detail["job"]["result_output_values"] == {"bytes": {"int64_value": "7"}}
    assert kinds(admin) == set()


def test_a_detection_alone_tells_its_proposals_and_decisions(stage: Stage) -> None:
    admin = stage.admin("plugin")
    PluginWorker(stage, admin)
    found = admin.post("/api/plugin/job-types/vacuum/detect", {"max_results": 1})
    assert found["count"] == 2
    assert found["proposals"][0]["dedupe_key"] == "vacuum:1"
    assert any(entry["stage"] == "decision_summary" for entry in found["activities"])
    assert kinds(admin) == {"too_many_proposals"}


def test_a_job_refused_for_want_of_room_is_sent_again(stage: Stage) -> None:
    admin = stage.admin("plugin")
    refused: list[str] = []

    def work(job: RunJob) -> Completed:
        if len(refused) < 3:
            refused.append(job.job.id)
            return Completed(job.request_id, job.job.id, "vacuum", NOW, at_capacity=True)
        return done(job)

    worker = PluginWorker(stage, admin, work)
    eventually(lambda: configured(admin))
    assert admin.post("/api/plugin/job-types/vacuum/run")["success_count"] == 2
    assert set(worker.attempts) == {1}
    assert len(worker.jobs) == 5


def test_a_failed_job_is_tried_again_under_its_old_id(stage: Stage) -> None:
    admin = stage.admin("plugin")
    tried: list[str] = []

    def work(job: RunJob) -> Completed:
        tried.append(job.job.id)
        return done(job, "" if tried.count(job.job.id) == 2 else "no")

    worker = PluginWorker(stage, admin, work)
    eventually(lambda: configured(admin))
    config = admin.get("/api/plugin/job-types/vacuum/config")
    config["admin_runtime"]["retry_backoff_seconds"] = 1
    status, _body = request(admin.address, "PUT", "/api/plugin/job-types/vacuum/config", json.dumps(config).encode())
    assert status == 200
    assert admin.post("/api/plugin/job-types/vacuum/run")["success_count"] == 2
    assert sorted(worker.attempts) == [1, 1, 2, 2]
    assert len({job.job.id for job in worker.jobs}) == 2
    assert len({job.request_id for job in worker.jobs}) == 4


def test_one_job_can_be_executed_and_its_failure_told(stage: Stage) -> None:
    admin = stage.admin("plugin")
    worker = PluginWorker(stage, admin, lambda job: done(job, "no" if job.job.parameters.get("fail") else ""))
    order = {"job": {"job_type": "vacuum", "parameters": {"volume_id": {"int64_value": "5"}}}}
    assert admin.post("/api/plugin/jobs/execute", order)["result"]["summary"] == "done"
    assert worker.jobs[0].job.volume_ids == (5,)
    order["job"]["parameters"] = {"fail": {"bool_value": True}}
    status, body = request(admin.address, "POST", "/api/plugin/jobs/execute", json.dumps(order).encode())
    assert status == 500
    assert json.loads(body)["completion"]["error_message"] == "no"


def test_a_job_that_takes_too_long_is_cancelled_by_its_request_id(stage: Stage) -> None:
    admin = stage.admin("plugin")
    worker = PluginWorker(stage, admin, lambda _job: None)
    order = {"job": {"job_id": "j", "job_type": "vacuum"}, "timeout_seconds": 0.2}
    assert request(admin.address, "POST", "/api/plugin/jobs/execute", json.dumps(order).encode())[0] == 500
    cancel = worker.wire.hear(Cancel)
    assert cancel.target == worker.jobs[0].request_id
    worker.wire.say(done(worker.jobs[0]))
    eventually(lambda: admin.get("/api/plugin/jobs/j")["state"] == "job_state_succeeded")


def test_a_second_stream_with_one_id_ends_both(stage: Stage) -> None:
    admin = stage.admin("plugin")
    first, second = stage.wire(admin, plugin), stage.wire(admin, plugin)
    eventually(lambda: (first.ended, second.ended) == ("OK", "OK"))
    assert admin.get("/api/plugin/workers") == []
    assert kinds(admin) == {"second_stream"}


def test_what_a_worker_must_not_say_is_counted(stage: Stage) -> None:
    admin = stage.admin("plugin")
    wire = stage.wire(admin, plugin)
    order = {"job": {"job_id": "j", "job_type": "vacuum"}}
    threading.Thread(target=admin.post, args=("/api/plugin/jobs/execute", order), daemon=True).start()
    job = wire.hear(RunJob)
    nameless = plugin_pb2.JobCompleted(request_id=job.request_id, job_id="j", success=True)
    stateless = plugin_pb2.JobProgressUpdate(request_id=job.request_id, job_id="j", job_type="vacuum")
    for body in ({"job_completed": nameless}, {"job_progress_update": stateless}):
        wire._said.put(plugin_pb2.WorkerToAdminMessage(**body).SerializeToString())
    wire.say(done(job), done(job), Progress(job.request_id, "j", "vacuum", 0.5, "late"))
    expected = {"completion_without_job_type", "progress_without_state", "second_completion"}
    eventually(lambda: kinds(admin) == expected | {"progress_after_completion"})


def test_jobs_survive_a_killed_admin_and_take_a_late_completion(stage: Stage) -> None:
    admin = stage.admin("plugin")
    worker = PluginWorker(stage, admin, lambda _job: None)
    eventually(lambda: configured(admin))
    order = {"job": {"job_id": "j", "job_type": "vacuum"}}

    def ask() -> None:
        with contextlib.suppress(OSError):  # the admin is killed before it answers
            request(admin.address, "POST", "/api/plugin/jobs/execute", json.dumps(order).encode())

    asked = threading.Thread(target=ask)
    asked.start()
    eventually(lambda: worker.jobs)
    jobs = admin.directory / "data" / "plugin" / "jobs" / "tracked_jobs.json"
    eventually(lambda: jobs.exists() and "assigned" in jobs.read_text())
    admin.kill()
    eventually(lambda: worker.wire.ended)
    stage.start(admin)
    assert admin.get("/api/plugin/jobs/j")["state"] == "job_state_assigned"
    again = PluginWorker(stage, admin)
    again.wire.say(done(worker.jobs[0]))
    eventually(lambda: admin.get("/api/plugin/jobs/j")["state"] == "job_state_succeeded")
    assert not any(isinstance(command, Describe) for command in again.wire.heard)
    asked.join(5)


def test_a_job_without_a_worker_is_refused(stage: Stage) -> None:
    admin = stage.admin("plugin")
    status, body = request(admin.address, "POST", "/api/plugin/job-types/vacuum/detect", b"{}")
    assert (status, json.loads(body)["error"]) == (500, "no detector worker available for job_type=vacuum")


def test_it_can_detect_and_execute_by_itself(stage: Stage) -> None:
    admin = stage.admin("plugin", "-schedule=true")
    worker = PluginWorker(stage, admin)
    eventually(lambda: len(worker.jobs) == 4, timeout=20)  # two volumes of each job type


def test_both_dialects_stand_on_one_port(stage: Stage) -> None:
    admin = stage.admin("both")
    stage.wire(admin, classic)
    stage.wire(admin, plugin)
    assert admin.get("/api/plugin/status")["worker_count"] == 1
    assert len(admin.get("/api/maintenance/workers")) == 1


def test_an_older_admin_knows_no_plugins(stage: Stage) -> None:
    admin = stage.admin("classic")
    assert request(admin.address, "GET", "/api/plugin/status")[0] == 404
    wire = Wire(admin, plugin)
    wire.say(Hello())
    eventually(lambda: wire.ended == "UNIMPLEMENTED")
    wire.close()


def test_parameters_come_through_as_they_were_sent(stage: Stage) -> None:
    admin = stage.admin("plugin")
    worker = PluginWorker(stage, admin)
    params = worker_pb2.TaskParams(volume_id=3, collection="c")
    wire_params = {"task_params_pb": forms.config_value(params.SerializeToString())}
    spec = plugin_pb2.JobSpec(job_id="j", job_type="vacuum", parameters=wire_params)
    admin.post("/api/plugin/jobs/execute", {"job": json_format.MessageToDict(spec)})
    assert worker.jobs[0].job.params == params
