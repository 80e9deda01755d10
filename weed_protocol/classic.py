"""The classic dialect, worker_pb.WorkerService: what admins spoke before plugins, and 4.44 still understands.

The admin assigns tasks one by one as the worker asks. It hands out task parameters and nothing else: no detection, no
forms, no masters. Its task types are the names of our task modules: vacuum, erasure_coding, balance, ec_balance, and,
should an admin ever send them, replication and remote_upload.
"""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import DecodeError

from proto_gen import worker_pb2
from weed_core.model import Job
from weed_core.values import Value
from weed_protocol.commands import (
    AskForWork,
    Cancel,
    Command,
    Completed,
    Goodbye,
    Heartbeat,
    HeartbeatSeen,
    Hello,
    Identity,
    Log,
    LogEntry,
    NoWork,
    Progress,
    Refused,
    Report,
    RunJob,
    SendLog,
    Status,
    Stop,
    Unknown,
    Welcome,
)
from weed_protocol.text import oversized, printable, retriable, valid

NAME = "classic"
METHOD = "/worker_pb.WorkerService/WorkerStream"

PULLS = True
ANSWERS_HEARTBEATS = True
COUNTS_FAILURES = True
QUEUES = True


def decode(message: bytes) -> Command:
    """Read an admin's message; what cannot be read is Unknown, or a RunJob that names its problem."""
    try:
        admin = worker_pb2.AdminMessage.FromString(message)
    except DecodeError as error:
        return Unknown("", f"unreadable message: {error}")
    kind = admin.WhichOneof("message")
    if kind == "registration_response":
        answer = admin.registration_response
        return Welcome(answer.message) if answer.success else Refused(answer.message)
    if kind == "heartbeat_response":
        return HeartbeatSeen()
    if kind == "task_assignment":
        return _assignment(admin.task_assignment)
    if kind == "task_cancellation":
        cancel = admin.task_cancellation
        return Cancel("", cancel.task_id, cancel.reason)
    if kind == "admin_shutdown":
        return Stop("", admin.admin_shutdown.reason, max(0, admin.admin_shutdown.graceful_shutdown_seconds))
    if kind == "task_log_request":
        wanted = admin.task_log_request
        return SendLog(
            task_id=wanted.task_id,
            worker_id=wanted.worker_id,
            include_metadata=wanted.include_metadata,
            max_entries=wanted.max_entries,
            level=wanted.log_level,
            start_time=wanted.start_time,
            end_time=wanted.end_time,
        )
    return Unknown("", "a message of a kind this worker does not know")


def encode(report: Report, identity: Identity, now: float) -> list[bytes]:
    """Write a report, empty where this dialect has no words for it. `now` is unix seconds."""
    message = worker_pb2.WorkerMessage(worker_id=identity.worker_id, timestamp=int(now))
    if isinstance(report, Hello):
        message.registration.CopyFrom(_registration(identity))
    elif isinstance(report, Heartbeat):
        message.heartbeat.CopyFrom(_heartbeat(report.status, identity))
    elif isinstance(report, AskForWork):
        message.task_request.CopyFrom(
            worker_pb2.TaskRequest(
                worker_id=identity.worker_id, capabilities=_capabilities(identity), available_slots=report.free_slots
            )
        )
    elif isinstance(report, Progress):
        message.task_update.CopyFrom(_update(report, identity))
    elif isinstance(report, Completed):
        message.task_complete.CopyFrom(_complete(report, identity))
    elif isinstance(report, Log):
        message.task_log_response.CopyFrom(_log(report))
    elif isinstance(report, Goodbye):
        message.shutdown.CopyFrom(
            worker_pb2.WorkerShutdown(worker_id=identity.worker_id, reason=printable(report.reason))
        )
    else:
        return []
    return [message.SerializeToString()]


def _assignment(assignment: worker_pb2.TaskAssignment) -> Command:
    if not assignment.task_id:
        return NoWork()
    problem = ""
    if not assignment.task_type:
        problem = f"task {assignment.task_id} has no type"
    elif not assignment.HasField("params"):
        problem = f"task {assignment.task_id} has no parameters"
    else:
        problem = oversized(assignment)
    job = Job(
        id=assignment.task_id,
        type=assignment.task_type,
        params=assignment.params,
        parameters=dict(assignment.metadata),
    )
    return RunJob("", job, problem)


def _capabilities(identity: Identity) -> list[str]:
    return [descriptor.name for descriptor in identity.descriptors]


def _registration(identity: Identity) -> worker_pb2.WorkerRegistration:
    return worker_pb2.WorkerRegistration(
        worker_id=identity.worker_id,
        address=identity.address,
        capabilities=_capabilities(identity),
        max_concurrent=identity.max_execute,
        metadata={"version": identity.version, "instance_id": identity.instance_id},
    )


def _heartbeat(status: Status, identity: Identity) -> worker_pb2.WorkerHeartbeat:
    return worker_pb2.WorkerHeartbeat(
        worker_id=identity.worker_id,
        status=status.state,
        current_load=status.execution_used,
        max_concurrent=status.execution_total,
        current_task_ids=[work.work_id for work in status.running if work.kind == "execution"],
        tasks_completed=status.completed,
        tasks_failed=status.failed,
        uptime_seconds=int(status.uptime),
    )


def _update(report: Progress, identity: Identity) -> worker_pb2.TaskUpdate:
    return worker_pb2.TaskUpdate(
        task_id=report.job_id,
        worker_id=identity.worker_id,
        status="in_progress",
        progress=100 * min(report.fraction, 1.0) if report.fraction > 0 else 0.0,
        message=printable(report.message or report.stage),
        metadata=_figures({"stage": report.stage, **report.figures}),
    )


def _complete(report: Completed, identity: Identity) -> worker_pb2.TaskComplete:
    message = worker_pb2.TaskComplete(
        task_id=report.job_id,
        worker_id=identity.worker_id,
        success=report.success,
        completion_time=int(report.finished_at),
    )
    if told := report.result or report.told:
        message.result_metadata.update(_figures({"summary": told.summary, **told.outputs}))
    if report.result is None:
        message.error_message = printable(retriable(report.error or _unexplained(report)))
    return message


def _unexplained(report: Completed) -> str:
    if report.at_capacity:
        return "the worker is at capacity"
    return "cancelled" if report.cancelled else "failed without an explanation"


def _figures(values: Mapping[str, Value]) -> dict[str, str]:
    """Write values as text; raw bytes say nothing to a reader and are left out."""
    return {valid(key): _figure(value) for key, value in values.items() if not isinstance(value, bytes)}


def _figure(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return printable(", ".join(value) if isinstance(value, list) else str(value))


def _log(report: Log) -> worker_pb2.TaskLogResponse:
    message = worker_pb2.TaskLogResponse(
        task_id=report.task_id,
        worker_id=report.worker_id,
        success=not report.error,
        error_message=printable(report.error),
        log_entries=[_log_entry(entry) for entry in report.entries],
    )
    if report.metadata is not None:
        about = report.metadata
        message.metadata.CopyFrom(
            worker_pb2.TaskLogMetadata(
                task_id=report.task_id,
                task_type=valid(about.task_type),
                worker_id=report.worker_id,
                start_time=about.start_time,
                end_time=about.end_time,
                duration_ms=about.duration_ms,
                status=valid(about.status),
                progress=about.progress,
                volume_id=about.volume_id,
                server=valid(about.server),
                collection=valid(about.collection),
                log_file_path=valid(about.log_file_path),
                created_at=about.created_at,
            )
        )
    return message


def _log_entry(entry: LogEntry) -> worker_pb2.TaskLogEntry:
    return worker_pb2.TaskLogEntry(
        timestamp=entry.timestamp,
        level=valid(entry.level),
        message=printable(entry.message),
        fields={valid(key): printable(value) for key, value in entry.fields.items()},
        progress=entry.progress,
        status=valid(entry.status),
    )
