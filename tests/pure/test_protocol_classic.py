"""The classic dialect: what an admin before plugins hears and says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto_gen import worker_pb2
from tests.pure.protocol_samples import BALANCE, ME, NOW, STATUS, VACUUM, to_classic_worker
from weed_core.model import Detection, Result
from weed_protocol import classic
from weed_protocol.commands import (
    Acknowledged,
    AskForWork,
    Cancel,
    Completed,
    Described,
    Detected,
    Goodbye,
    Heartbeat,
    HeartbeatSeen,
    Hello,
    Log,
    LogEntry,
    LogMetadata,
    NoWork,
    Progress,
    Refused,
    Report,
    RunJob,
    SendLog,
    Stop,
    Unknown,
    Welcome,
)


def say(report: Report) -> worker_pb2.WorkerMessage:
    (message,) = classic.encode(report, ME, NOW)
    parsed = worker_pb2.WorkerMessage.FromString(message)
    assert parsed.worker_id == "w-host-1a2b"
    assert parsed.timestamp == int(NOW)
    return parsed


@pytest.mark.parametrize(
    ("body", "command"),
    [
        ({"registration_response": worker_pb2.RegistrationResponse(success=True, message="hi")}, Welcome("hi")),
        ({"registration_response": worker_pb2.RegistrationResponse(message="no")}, Refused("no")),
        ({"heartbeat_response": worker_pb2.HeartbeatResponse(success=True)}, HeartbeatSeen()),
        ({"task_assignment": worker_pb2.TaskAssignment()}, NoWork()),
        (
            {"task_cancellation": worker_pb2.TaskCancellation(task_id="t", reason="r", force=True)},
            Cancel("", "t", "r"),
        ),
        ({"admin_shutdown": worker_pb2.AdminShutdown(reason="r", graceful_shutdown_seconds=7)}, Stop("", "r", 7)),
        ({"admin_shutdown": worker_pb2.AdminShutdown(graceful_shutdown_seconds=-7)}, Stop("", "", 0)),
        (
            {"task_log_request": worker_pb2.TaskLogRequest(task_id="t", worker_id="w", max_entries=9, log_level="x")},
            SendLog("t", "w", False, 9, "x", 0, 0),
        ),
    ],
)
def test_each_message_of_an_admin_has_its_command(body: dict[str, object], command: object) -> None:
    assert classic.decode(to_classic_worker(**body)) == command


def test_an_empty_or_unreadable_message_is_unknown() -> None:
    assert isinstance(classic.decode(b""), Unknown)
    assert isinstance(classic.decode(b"\xff\xff"), Unknown)


def test_an_assignment_without_parameters_is_a_job_with_a_problem() -> None:
    command = classic.decode(to_classic_worker(task_assignment=worker_pb2.TaskAssignment(task_id="t", task_type="x")))
    assert isinstance(command, RunJob)
    assert (command.job.id, command.job.type, command.problem) == ("t", "x", "task t has no parameters")
    assert command.job.volume_ids == ()


def test_an_assignment_without_a_type_is_a_job_with_a_problem() -> None:
    assignment = worker_pb2.TaskAssignment(task_id="t", params=worker_pb2.TaskParams(volume_id=1))
    command = classic.decode(to_classic_worker(task_assignment=assignment))
    assert isinstance(command, RunJob)
    assert command.problem == "task t has no type"


@given(st.binary(max_size=200))
def test_no_bytes_make_decoding_fail(noise: bytes) -> None:
    classic.decode(noise)


texts = st.text(max_size=12)
assignments = st.builds(
    worker_pb2.TaskAssignment,
    task_id=texts,
    task_type=texts,
    params=st.none() | st.builds(worker_pb2.TaskParams, volume_id=st.integers(0, 2**32 - 1), task_id=texts),
    metadata=st.dictionaries(texts | st.just("volume_id"), texts, max_size=3),
)


@given(assignments)
def test_every_assignment_becomes_a_job_or_none(assignment: worker_pb2.TaskAssignment) -> None:
    command = classic.decode(to_classic_worker(task_assignment=assignment))
    if not assignment.task_id:
        assert command == NoWork()
    else:
        assert isinstance(command, RunJob)
        assert command.job.id == assignment.task_id
        assert all(volume_id > 0 for volume_id in command.job.volume_ids)


def test_the_registration_names_the_tasks_as_the_admin_does() -> None:
    registration = say(Hello()).registration
    assert list(registration.capabilities) == ["vacuum", "balance"]
    assert registration.max_concurrent == 4


def test_a_heartbeat_carries_true_figures() -> None:
    assert say(Heartbeat(STATUS)).heartbeat == worker_pb2.WorkerHeartbeat(
        worker_id="w-host-1a2b",
        status="busy",
        current_load=1,
        max_concurrent=1,
        current_task_ids=["job-1"],
        tasks_completed=7,
        tasks_failed=2,
        uptime_seconds=61,
    )


def test_a_request_names_the_free_slots() -> None:
    assert say(AskForWork(3)).task_request.available_slots == 3


def test_progress_is_in_percent_and_in_progress() -> None:
    update = say(Progress("", "t", "vacuum", 0.5, "compacting", "volume 5", {"bytes": 7, "done": False})).task_update
    assert (update.status, update.progress, update.message) == ("in_progress", 50.0, "volume 5")
    assert dict(update.metadata) == {"stage": "compacting", "bytes": "7", "done": "false"}


@pytest.mark.parametrize(("fraction", "percent"), [(-1.0, 0.0), (7.0, 100.0), (float("nan"), 0.0)])
def test_progress_stays_between_nothing_and_all(fraction: float, percent: float) -> None:
    assert say(Progress("", "t", "vacuum", fraction, "")).task_update.progress == percent


def test_a_success_carries_its_figures_as_text() -> None:
    result = Result("moved", {"bytes": 7, "ok": True, "left": ["a", "b"], "raw": b"\xff"})
    complete = say(Completed("", "t", "balance", 1795393000.9, result=result)).task_complete
    assert (complete.task_id, complete.success, complete.error_message) == ("t", True, "")
    assert complete.completion_time == 1795393000
    assert dict(complete.result_metadata) == {"summary": "moved", "bytes": "7", "ok": "true", "left": "a, b"}


def test_a_failure_never_says_the_words_that_make_it_permanent() -> None:
    for words in ("volume 5 not found on a:1", "Not Found", "not\nfound", "NOT  FOUND, foundation not foundational"):
        complete = say(Completed("", "t", "vacuum", NOW, error=words)).task_complete
        assert not complete.success
        assert "missing" in complete.error_message
        assert "not found" not in complete.error_message.lower()


def test_a_failure_always_has_a_text() -> None:
    assert say(Completed("", "t", "vacuum", NOW)).task_complete.error_message
    assert say(Completed("", "t", "vacuum", NOW, cancelled=True)).task_complete.error_message == "cancelled"
    assert "capacity" in say(Completed("", "t", "vacuum", NOW, at_capacity=True)).task_complete.error_message


def test_an_odd_or_endless_text_still_travels() -> None:
    complete = say(Completed("", "t", "vacuum", NOW, error="\udcff" + "x" * 10_000)).task_complete
    assert complete.error_message.startswith("\\udcffxxx")
    assert len(complete.error_message) == 4000


def test_a_log_travels_with_its_metadata() -> None:
    about = LogMetadata("vacuum", 1, 2, 1000, "completed", 100.0, 5, "a:1", "c", "/tmp/task.log", 1)
    log = Log("t", "w", (LogEntry(1, "INFO", "line", {"k": "v"}, 10.0, "started"),), about)
    response = say(log).task_log_response
    assert (response.task_id, response.worker_id, response.success) == ("t", "w", True)
    assert response.log_entries[0] == worker_pb2.TaskLogEntry(
        timestamp=1, level="INFO", message="line", fields={"k": "v"}, progress=10.0, status="started"
    )
    assert response.metadata.duration_ms == 1000
    assert response.metadata.worker_id == "w"


def test_a_log_that_could_not_be_read_says_why() -> None:
    response = say(Log("t", "w", error="Task log directory not found: x")).task_log_response
    assert (response.success, response.error_message) == (False, "Task log directory not found: x")


def test_the_last_word_says_why() -> None:
    assert say(Goodbye("stopped by the operator")).shutdown.reason == "stopped by the operator"


@pytest.mark.parametrize(
    "report",
    [
        Acknowledged("r", True),
        Described("r", "vacuum", VACUUM),
        Detected("r", "balance", Detection([])),
        Described("r", "balance", BALANCE),
    ],
)
def test_what_only_plugins_know_is_not_said(report: Report) -> None:
    assert classic.encode(report, ME, NOW) == []
