"""The plugin dialect, plugin.PluginControlService: SeaweedFS 4.44.

The admin pushes: it asks for forms, for detections and for executions, each under a request id that the answer repeats.
It drops an answer without a job type, takes a job whose state it does not know for a finished one, and waits for a
DetectionComplete or a JobCompleted until its own timeout, so each of them is always whole and always last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from proto_gen import plugin_pb2, worker_pb2
from weed_core.job_types import TO_PLUGIN
from weed_core.model import HIGH, LOW, NORMAL, Detection, DetectionRequest, Job, Proposal, Skipped
from weed_core.values import Value
from weed_protocol import forms
from weed_protocol.commands import (
    Acknowledged,
    Cancel,
    Command,
    Completed,
    Describe,
    Described,
    Detect,
    Detected,
    Heartbeat,
    Hello,
    Identity,
    Progress,
    Refused,
    Report,
    RunJob,
    Running,
    Status,
    Stop,
    Unknown,
    Welcome,
)
from weed_protocol.text import oversized, printable, valid

NAME = "plugin"
METHOD = "/plugin.PluginControlService/WorkerStream"

PULLS = False
ANSWERS_HEARTBEATS = False
COUNTS_FAILURES = False
QUEUES = False

PROTOCOL_VERSION = "plugin.v1"
AT_CAPACITY = "executor is at capacity"  # the admin looks for these words, and sends the job again
BATCH = 100  # proposals in one message
SKIPS = 200  # volumes of one detection whose skipping is told one by one; the admin keeps 4000 activities in all

_NAMES = {job_type: name for name, job_type in TO_PLUGIN.items()}

_PRIORITIES = {
    LOW: plugin_pb2.JOB_PRIORITY_LOW,
    NORMAL: plugin_pb2.JOB_PRIORITY_NORMAL,
    HIGH: plugin_pb2.JOB_PRIORITY_HIGH,
}
_KINDS = {"detection": plugin_pb2.WORK_KIND_DETECTION, "execution": plugin_pb2.WORK_KIND_EXECUTION}


def job_type_of(name: str) -> str:
    """Give the admin's job type of a task module; what already is one stays."""
    return TO_PLUGIN.get(name, name)


def name_of(job_type: str) -> str:
    """Give the task module's name of an admin's job type; what already is one stays."""
    return _NAMES.get(job_type, job_type)


def decode(message: bytes) -> Command:
    """Read an admin's message; what cannot be read is Unknown, or a RunJob that names its problem."""
    try:
        admin = plugin_pb2.AdminToWorkerMessage.FromString(message)
    except DecodeError as error:
        return Unknown("", f"unreadable message: {error}")
    kind = admin.WhichOneof("body")
    if kind == "hello":
        hello = admin.hello
        if not hello.accepted:
            return Refused(hello.message)
        return Welcome(hello.message)
    if kind == "request_config_schema":
        return Describe(admin.request_id, name_of(admin.request_config_schema.job_type))
    if kind == "run_detection_request":
        return _detection(admin.request_id, admin.run_detection_request)
    if kind == "execute_job_request":
        return _execution(admin.request_id, admin.execute_job_request)
    if kind == "cancel_request":
        cancel = admin.cancel_request
        return Cancel(admin.request_id, cancel.target_id, cancel.reason)
    if kind == "shutdown":
        return Stop(admin.request_id, admin.shutdown.reason, max(0, admin.shutdown.grace_period_seconds))
    return Unknown(admin.request_id, f"a {kind}" if kind else "a message of a kind this worker does not know")


def encode(report: Report, identity: Identity, now: float) -> list[bytes]:
    """Write a report, empty where this dialect has no words for it. `now` is unix seconds."""
    return [message.SerializeToString() for message in _messages(report, identity, now)]


def _messages(report: Report, identity: Identity, now: float) -> Iterator[plugin_pb2.WorkerToAdminMessage]:
    at = _timestamp(now)
    if isinstance(report, Detected):
        yield from _detected(report, identity, at)
        return
    message = _envelope(identity, at)
    if isinstance(report, Hello):
        message.hello.CopyFrom(_hello(identity))
    elif isinstance(report, Heartbeat):
        message.heartbeat.CopyFrom(_heartbeat(report.status, identity))
    elif isinstance(report, Acknowledged):
        message.acknowledge.CopyFrom(
            plugin_pb2.WorkerAcknowledge(
                request_id=report.request_id, accepted=report.accepted, message=printable(report.message)
            )
        )
    elif isinstance(report, Described):
        message.config_schema_response.CopyFrom(_described(report))
    elif isinstance(report, Progress):
        message.job_progress_update.CopyFrom(_progress(report, at))
    elif isinstance(report, Completed):
        message.job_completed.CopyFrom(_completed(report))
    else:
        return
    yield message


# ---- admin -> worker ----------------------------------------------------------------------------------------------


def _detection(request_id: str, request: plugin_pb2.RunDetectionRequest) -> Detect:
    return Detect(
        request_id or request.request_id,
        DetectionRequest(
            job_type=name_of(request.job_type),
            config=_config(request),
            masters=tuple(request.cluster_context.master_grpc_addresses),
            max_results=max(0, request.max_results),
            sequence=request.detection_sequence,
            filers=tuple(request.cluster_context.filer_addresses),
            last_run=request.last_successful_run.seconds,
        ),
    )


def _execution(request_id: str, request: plugin_pb2.ExecuteJobRequest) -> RunJob:
    request_id = request_id or request.request_id
    spec = request.job
    parameters = forms.plain_values(spec.parameters)
    params, problem = _task_params(parameters.pop("task_params_pb", b""))
    if not request.HasField("job"):
        problem = "the request carries no job"
    elif not spec.job_id:
        problem = "the job has no id"
    elif not spec.job_type:
        problem = f"job {spec.job_id} has no type"
    else:
        problem = (
            problem or oversized(params) or oversized(plugin_pb2.JobSpec(job_id=spec.job_id, job_type=spec.job_type))
        )
    job = Job(
        id=spec.job_id or request_id,
        type=name_of(spec.job_type),
        params=params,
        parameters=parameters,
        config=_config(request),
        masters=tuple(request.cluster_context.master_grpc_addresses),
        filers=tuple(request.cluster_context.filer_addresses),
    )
    return RunJob(request_id, job, problem)


def _task_params(value: Value) -> tuple[worker_pb2.TaskParams, str]:
    """Read the job parameter task_params_pb; the text names what is wrong with it."""
    if not isinstance(value, bytes):
        return worker_pb2.TaskParams(), "the job parameter task_params_pb is not made of bytes"
    try:
        return worker_pb2.TaskParams.FromString(value), ""
    except DecodeError as error:
        return worker_pb2.TaskParams(), f"the job parameter task_params_pb cannot be decoded: {error}"


def _config(request: plugin_pb2.RunDetectionRequest | plugin_pb2.ExecuteJobRequest) -> dict[str, Value]:
    return {**forms.plain_values(request.admin_config_values), **forms.plain_values(request.worker_config_values)}


# ---- worker -> admin ----------------------------------------------------------------------------------------------


def _envelope(identity: Identity, at: Timestamp) -> plugin_pb2.WorkerToAdminMessage:
    return plugin_pb2.WorkerToAdminMessage(worker_id=identity.worker_id, sent_at=at)


def _timestamp(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def _hello(identity: Identity) -> plugin_pb2.WorkerHello:
    capabilities = [
        plugin_pb2.JobTypeCapability(
            job_type=descriptor.job_type,
            can_detect=True,
            can_execute=True,
            max_detection_concurrency=identity.max_detect,
            max_execution_concurrency=identity.max_execute + identity.max_outside,
            display_name=descriptor.display_name,
            description=descriptor.description,
            weight=descriptor.weight,
        )
        for descriptor in identity.descriptors
    ]
    return plugin_pb2.WorkerHello(
        worker_id=identity.worker_id,
        worker_instance_id=identity.instance_id,
        address=identity.address,
        worker_version=identity.version,
        protocol_version=PROTOCOL_VERSION,
        capabilities=capabilities,
        metadata={"runtime": "plugin", "job_types": ",".join(entry.job_type for entry in capabilities)},
    )


def _heartbeat(status: Status, identity: Identity) -> plugin_pb2.WorkerHeartbeat:
    # The admin takes every job that it has here for one that fills a slot: those that only wait are added to the total.
    return plugin_pb2.WorkerHeartbeat(
        worker_id=identity.worker_id,
        running_work=[_running(work) for work in status.running],
        detection_slots_used=status.detection_used,
        detection_slots_total=status.detection_total,
        execution_slots_used=status.execution_used,
        execution_slots_total=status.execution_total + status.execution_outside,
        queued_jobs_by_type={job_type_of(name): waiting for name, waiting in status.queued.items() if waiting},
        metadata={
            "runtime": "plugin",
            "state": status.state,
            "completed": str(status.completed),
            "failed": str(status.failed),
            "uptime_seconds": str(int(status.uptime)),
        },
    )


def _running(work: Running) -> plugin_pb2.RunningWork:
    return plugin_pb2.RunningWork(
        work_id=work.work_id,
        kind=_KINDS[work.kind],
        job_type=job_type_of(work.job_type),
        state=plugin_pb2.JOB_STATE_RUNNING,
        progress_percent=_percent(work.fraction),
        stage=printable(work.stage),
    )


def _described(report: Described) -> plugin_pb2.ConfigSchemaResponse:
    job_type = job_type_of(report.job_type)
    if report.descriptor is None:
        return plugin_pb2.ConfigSchemaResponse(
            request_id=report.request_id,
            job_type=job_type,
            error_message=f"this worker has no job type {job_type!r}",
        )
    return plugin_pb2.ConfigSchemaResponse(
        request_id=report.request_id,
        job_type=job_type,
        success=True,
        job_type_descriptor=forms.describe(report.descriptor),
    )


def _detected(report: Detected, identity: Identity, at: Timestamp) -> Iterator[plugin_pb2.WorkerToAdminMessage]:
    """Tell what was decided, then what is proposed, then that this was all."""
    job_type = job_type_of(report.job_type)
    complete = plugin_pb2.DetectionComplete(request_id=report.request_id, job_type=job_type)
    if report.detection is None:
        complete.error_message = printable(report.error or "the detection failed without an explanation")
    else:
        found = report.detection
        decisions = _decisions(found, at)
        message = _envelope(identity, at)
        message.job_progress_update.CopyFrom(
            plugin_pb2.JobProgressUpdate(
                request_id=report.request_id,
                job_type=job_type,
                state=plugin_pb2.JOB_STATE_RUNNING,
                activities=decisions,  # with words of its own, the admin would list the first one twice
                updated_at=at,
            )
        )
        yield message
        for start in range(0, max(1, len(found.proposals)), BATCH):
            message = _envelope(identity, at)
            message.detection_proposals.CopyFrom(
                plugin_pb2.DetectionProposals(
                    request_id=report.request_id,
                    job_type=job_type,
                    proposals=[_proposal(entry, job_type) for entry in found.proposals[start : start + BATCH]],
                    has_more=found.has_more,
                )
            )
            yield message
        complete.success = True
        complete.total_proposals = len(found.proposals)
    message = _envelope(identity, at)
    message.detection_complete.CopyFrom(complete)
    yield message


def _decisions(found: Detection, at: Timestamp) -> list[plugin_pb2.ActivityEvent]:
    """Say in one sentence what came of a look for work, and of each volume passed over why."""
    reasons = Counter(skip.key for skip in found.skipped)
    figures: dict[str, Value] = {
        "total_volumes": found.seen,
        "selected_tasks": len(found.proposals),
        "has_more": found.has_more,
        **{f"skipped_{key}": count for key, count in sorted(reasons.items())},
    }
    summary = found.summary or f"{len(found.proposals)} proposals from {found.seen} volumes"
    told, untold = found.skipped[:SKIPS], found.skipped[SKIPS:]
    decisions = [_activity(at, summary, "decision_summary", figures, plugin_pb2.ACTIVITY_SOURCE_DETECTOR)]
    decisions += [
        _activity(at, _skip_text(skip), "decision_volume", _skip_figures(skip), plugin_pb2.ACTIVITY_SOURCE_DETECTOR)
        for skip in told
    ]
    if untold:
        counts = Counter(skip.key for skip in untold)
        text = ", ".join(f"{count} {key}" for key, count in sorted(counts.items()))
        decisions.append(
            _activity(
                at,
                f"{len(untold)} more volumes were passed over: {text}",
                "decision_volume",
                {"more": len(untold)},
                plugin_pb2.ACTIVITY_SOURCE_DETECTOR,
            )
        )
    return decisions


def _skip_text(skip: Skipped) -> str:
    name = f"volume {skip.volume_id}"
    return skip.reason if skip.reason.startswith((f"{name} ", f"{name}:")) else f"{name}: {skip.reason}"


def _skip_figures(skip: Skipped) -> dict[str, Value]:
    return {
        "volume_id": skip.volume_id,
        "key": skip.key,
        "collection": skip.collection,
        "server": skip.server,
        "size": skip.size,
    }


def _proposal(proposal: Proposal, job_type: str) -> plugin_pb2.JobProposal:
    params = proposal.params
    parameters: dict[str, Value] = {"task_params_pb": params.SerializeToString(deterministic=True)}
    labels = {"task_type": name_of(job_type)}
    if params.volume_id:
        parameters |= {"volume_id": params.volume_id, "collection": params.collection}
        labels |= {"volume_id": str(params.volume_id), "collection": params.collection}
    if proposal.estimated_seconds:
        parameters["estimated_runtime_seconds"] = proposal.estimated_seconds
    return plugin_pb2.JobProposal(
        proposal_id=proposal.id,
        dedupe_key=proposal.dedupe_key,
        job_type=job_type,
        priority=_PRIORITIES[proposal.priority],
        summary=printable(proposal.summary),
        detail=printable(proposal.detail),
        parameters=forms.config_values({**parameters, **proposal.parameters}),
        labels={valid(key): valid(value) for key, value in {**labels, **proposal.labels}.items()},
    )


def _progress(report: Progress, at: Timestamp) -> plugin_pb2.JobProgressUpdate:
    # The admin makes an activity of each update that has words, and of each end: with activities of ours, too, every
    # stage would be listed twice, and with words in every update once a second.
    text = (report.message or report.stage) if report.is_new else ""
    return plugin_pb2.JobProgressUpdate(
        request_id=report.request_id,
        job_id=report.job_id,
        job_type=job_type_of(report.job_type),
        state=plugin_pb2.JOB_STATE_RUNNING,
        progress_percent=_percent(report.fraction),
        stage=printable(report.stage) if report.is_new else "",
        message=printable(text),
        metrics=forms.config_values(report.figures),
        updated_at=at,
    )


def _completed(report: Completed) -> plugin_pb2.JobCompleted:
    at = _timestamp(report.finished_at)
    message = plugin_pb2.JobCompleted(
        request_id=report.request_id,
        job_id=report.job_id,
        job_type=job_type_of(report.job_type) or "unknown",  # without one the admin drops the message
        success=report.success,
        completed_at=at,
    )
    if report.result is None:
        message.error_message = printable(_failure(report))
    if told := report.result or report.told:
        message.result.summary = printable(told.summary)
        for key, value in forms.config_values(told.outputs).items():
            message.result.output_values[key].CopyFrom(value)
    return message


def _failure(report: Completed) -> str:
    if report.at_capacity:
        return f"{AT_CAPACITY}: {report.error}" if report.error else AT_CAPACITY
    return report.error or ("cancelled" if report.cancelled else "failed without an explanation")


def _activity(
    at: Timestamp, message: str, stage: str, details: Mapping[str, Value], source: plugin_pb2.ActivitySource
) -> plugin_pb2.ActivityEvent:
    return plugin_pb2.ActivityEvent(
        source=source,
        message=printable(message),
        stage=printable(stage),
        details=forms.config_values(details),
        created_at=at,
    )


def _percent(fraction: float) -> float:
    """Turn a fraction into percent; the admin cannot show what is no number."""
    return 100 * min(fraction, 1.0) if fraction > 0 else 0.0
