"""What real admins sent is understood, and what a real worker sent is what ours would send in its place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proto_gen import plugin_pb2, worker_pb2
from tests.pure.protocol_samples import ME, NOW, VACUUM, recorded, recorded_by_plugin_admin, recorded_by_plugin_worker
from weed_core.model import HIGH, LOW, NORMAL, Descriptor, Detection, Field, Proposal, Result, Runtime
from weed_protocol import classic, forms, plugin
from weed_protocol.commands import (
    Acknowledged,
    AskForWork,
    Completed,
    Describe,
    Described,
    Detect,
    Detected,
    Heartbeat,
    HeartbeatSeen,
    Hello,
    Progress,
    Report,
    RunJob,
    Running,
    Status,
    Welcome,
)

PRIORITY = {
    plugin_pb2.JOB_PRIORITY_LOW: LOW,
    plugin_pb2.JOB_PRIORITY_NORMAL: NORMAL,
    plugin_pb2.JOB_PRIORITY_HIGH: HIGH,
}
KIND = {"BOOL": "bool", "INT64": "int", "DOUBLE": "double", "STRING": "string", "ENUM": "enum"}


def say(report: Report) -> list[plugin_pb2.WorkerToAdminMessage]:
    return [plugin_pb2.WorkerToAdminMessage.FromString(message) for message in plugin.encode(report, ME, NOW)]


def test_every_recorded_classic_message_is_understood() -> None:
    commands = [classic.decode(message) for message in recorded("classic-3.97", "admin")]
    jobs = [command.job for command in commands if isinstance(command, RunJob) and not command.problem]
    assert commands[0] == Welcome("Worker registered successfully")
    assert [job.type for job in jobs] == ["vacuum", "vacuum", "balance", "erasure_coding"]
    assert [job.volume_ids for job in jobs] == [(6,), (5,), (16,), (6,)]
    assert sum(isinstance(command, HeartbeatSeen) for command in commands) == 2
    assert len(commands) == 1 + len(jobs) + 2


def test_recorded_classic_requests_and_heartbeats_are_what_ours_would_be() -> None:
    said = [worker_pb2.WorkerMessage.FromString(message) for message in recorded("classic-3.97", "worker")]
    bare = Descriptor("", "", "", "", "", (), Runtime(), 0)
    names = ("vacuum", "erasure_coding", "balance")
    me = replace(ME, worker_id="py-proto-1", descriptors=tuple(replace(bare, name=name) for name in names))
    idle = Status("active", (), 0, 4, 0, 1, {}, 0, 0, 0.0)
    for message in said:
        reports: dict[str | None, Report] = {"heartbeat": Heartbeat(idle), "task_request": AskForWork(4)}
        report = reports.get(message.WhichOneof("message"), Hello())
        (ours,) = classic.encode(report, replace(me, address="127.0.0.1"), message.timestamp)
        parsed = worker_pb2.WorkerMessage.FromString(ours)
        parsed.registration.ClearField("metadata") if isinstance(report, Hello) else None
        assert parsed == message


def test_every_recorded_plugin_message_is_understood() -> None:
    commands = [plugin.decode(message) for message in recorded("plugin-4.44", "admin")]
    assert commands[0] == Welcome("plugin connected")
    assert sum(isinstance(command, Describe) for command in commands) == 4
    assert sum(isinstance(command, Detect) for command in commands) == 8
    assert sum(isinstance(command, RunJob) and not command.problem for command in commands) == 12
    assert len(commands) == 25


def test_a_recorded_execution_carries_the_job_whole() -> None:
    for message in recorded_by_plugin_admin("execute_job_request"):
        command = plugin.decode(message.SerializeToString())
        assert isinstance(command, RunJob)
        spec, job = message.execute_job_request.job, command.job
        assert command.request_id == message.request_id
        assert (job.id, plugin.job_type_of(job.type)) == (spec.job_id, spec.job_type)
        assert job.params.SerializeToString() == spec.parameters["task_params_pb"].bytes_value
        assert job.parameters.get("volume_id") == job.params.volume_id or job.params.balance_params.moves
        assert "task_params_pb" not in job.parameters
        assert job.masters == ("127.0.0.1:26333",)
        assert job.volume_ids


def test_a_recorded_detection_carries_both_forms_values() -> None:
    command = plugin.decode(recorded_by_plugin_admin("run_detection_request")[0].SerializeToString())
    assert isinstance(command, Detect)
    assert command.request.job_type == "vacuum"
    assert command.request.config["volume_state"] == "ALL"
    assert command.request.config["garbage_threshold"] == 0.3
    assert command.request.sequence == 1795393909490442068


def test_our_hello_is_a_recorded_hello_with_our_name() -> None:
    (recorded_hello,) = recorded_by_plugin_worker("hello")
    theirs = recorded_hello.hello
    descriptors = tuple(
        replace(
            VACUUM,
            job_type=entry.job_type,
            display_name=entry.display_name,
            description=entry.description,
            weight=entry.weight,
        )
        for entry in theirs.capabilities
    )
    me = replace(
        ME,
        worker_id=theirs.worker_id,
        instance_id=theirs.worker_instance_id,
        address=theirs.address,
        version=theirs.worker_version,
        descriptors=descriptors,
        max_outside=0,
    )
    (ours,) = plugin.encode(Hello(), me, NOW)
    assert plugin_pb2.WorkerToAdminMessage.FromString(ours).hello == theirs


def test_our_acknowledgements_are_the_recorded_ones() -> None:
    for message in recorded_by_plugin_worker("acknowledge"):
        theirs = message.acknowledge
        (ours,) = say(Acknowledged(theirs.request_id, theirs.accepted, theirs.message))
        assert ours.acknowledge == theirs


def test_our_completions_are_the_recorded_ones() -> None:
    for message in recorded_by_plugin_worker("job_completed"):
        theirs = message.job_completed
        finished = theirs.completed_at.seconds + theirs.completed_at.nanos / 1e9
        result = Result(theirs.result.summary, forms.plain_values(theirs.result.output_values))
        (said,) = say(
            Completed(theirs.request_id, theirs.job_id, plugin.name_of(theirs.job_type), finished, result=result)
        )
        ours = said.job_completed
        assert ours.completed_at.seconds == theirs.completed_at.seconds
        assert ours.completed_at.nanos == pytest.approx(theirs.completed_at.nanos, abs=1000)
        assert set(ours.result.output_values) == set(theirs.result.output_values)
        ours.completed_at.CopyFrom(theirs.completed_at)
        theirs.ClearField("activities")  # with which the admin would list each end twice
        assert ours == theirs


def test_our_progress_is_the_recorded_one() -> None:
    compared = 0
    for message in recorded_by_plugin_worker("job_progress_update"):
        theirs = message.job_progress_update
        if not theirs.job_id or theirs.state != plugin_pb2.JOB_STATE_RUNNING or theirs.stage.startswith("move "):
            continue  # decisions; the first word on a job; and moves, whose two stages differ
        (said,) = say(
            Progress(
                theirs.request_id,
                theirs.job_id,
                plugin.name_of(theirs.job_type),
                theirs.progress_percent / 100,
                theirs.stage,
                theirs.message,
            )
        )
        ours = said.job_progress_update
        assert ours.progress_percent == pytest.approx(theirs.progress_percent)
        ours.progress_percent = theirs.progress_percent
        ours.updated_at.CopyFrom(theirs.updated_at)
        theirs.ClearField("activities")  # with which the admin would list each stage twice
        assert ours == theirs
        compared += 1
    assert compared > 20


def test_our_heartbeats_are_the_recorded_ones() -> None:
    for message in recorded_by_plugin_worker("heartbeat"):
        theirs = message.heartbeat
        if any(work.state != plugin_pb2.JOB_STATE_RUNNING for work in theirs.running_work):
            continue  # work that waits is a figure of ours, not a running one
        kinds = {plugin_pb2.WORK_KIND_DETECTION: "detection", plugin_pb2.WORK_KIND_EXECUTION: "execution"}
        running = tuple(
            Running(
                work.work_id, kinds[work.kind], plugin.name_of(work.job_type), work.progress_percent / 100, work.stage
            )
            for work in theirs.running_work
        )
        status = Status(
            "active",
            running,
            theirs.execution_slots_used,
            theirs.execution_slots_total,
            theirs.detection_slots_used,
            theirs.detection_slots_total,
            {},
            0,
            0,
            0.0,
        )
        (ours,) = plugin.encode(Heartbeat(status), replace(ME, worker_id=theirs.worker_id), NOW)
        parsed = plugin_pb2.WorkerToAdminMessage.FromString(ours).heartbeat
        assert parsed.metadata.pop("state") == "active"
        for key in ("completed", "failed", "uptime_seconds"):
            assert parsed.metadata.pop(key) == "0"
        for work, their_work in zip(parsed.running_work, theirs.running_work, strict=True):
            assert work.progress_percent == pytest.approx(their_work.progress_percent)
            work.progress_percent = their_work.progress_percent
        assert parsed == theirs


def test_our_proposals_are_the_recorded_ones() -> None:
    for message in recorded_by_plugin_worker("detection_proposals"):
        theirs = message.detection_proposals
        proposals = []
        for entry in theirs.proposals:
            parameters = forms.plain_values(entry.parameters)
            params_pb, seconds = parameters.pop("task_params_pb"), parameters.pop("estimated_runtime_seconds")
            assert isinstance(params_pb, bytes)
            assert isinstance(seconds, int)
            proposals.append(
                Proposal(
                    entry.proposal_id,
                    entry.dedupe_key,
                    entry.summary,
                    worker_pb2.TaskParams.FromString(params_pb),
                    entry.detail,
                    PRIORITY[entry.priority],
                    parameters,
                    dict(entry.labels),
                    seconds,
                )
            )
        detection = Detection(proposals, has_more=theirs.has_more)
        said = say(Detected(theirs.request_id, plugin.name_of(theirs.job_type), detection))
        (ours,) = (m.detection_proposals for m in said if m.WhichOneof("body") == "detection_proposals")
        assert ours == theirs
        complete = said[-1].detection_complete
        (their_complete,) = (
            m.detection_complete
            for m in recorded_by_plugin_worker("detection_complete")
            if m.detection_complete.request_id == theirs.request_id
        )
        assert complete == their_complete


def _fields(form: plugin_pb2.ConfigForm, scope: str) -> list[Field]:
    return [
        Field(
            name=entry.name,
            label=entry.label,
            kind=KIND[plugin_pb2.ConfigFieldType.Name(entry.field_type).removeprefix("CONFIG_FIELD_TYPE_")],
            default=forms.plain_value(form.default_values[entry.name]) or 0,
            help=entry.description,
            minimum=_bound(entry, "min_value"),
            maximum=_bound(entry, "max_value"),
            required=entry.required,
            placeholder=entry.placeholder,
            options=tuple((option.value, option.label) for option in entry.options),
            scope=scope,
            section=section.title,
        )
        for section in form.sections
        for entry in section.fields
    ]


def _bound(entry: plugin_pb2.ConfigField, name: str) -> float | None:
    value = forms.plain_value(getattr(entry, name))
    assert value is None or isinstance(value, (int, float))
    return value


def test_our_forms_are_the_recorded_ones_but_for_titles() -> None:
    for message in recorded_by_plugin_worker("config_schema_response"):
        theirs = message.config_schema_response.job_type_descriptor
        fields = _fields(theirs.admin_config_form, "admin") + _fields(theirs.worker_config_form, "worker")
        fields = [replace(f, default="") if f.kind == "string" and f.default == 0 else f for f in fields]
        runtime = theirs.admin_runtime_defaults
        descriptor = Descriptor(
            name=plugin.name_of(theirs.job_type),
            job_type=theirs.job_type,
            display_name=theirs.display_name,
            description=theirs.description,
            icon=theirs.icon,
            fields=tuple(fields),
            runtime=Runtime(**{field.name: value for field, value in runtime.ListFields()}),
            weight=0,
            version=theirs.descriptor_version,
        )
        (said,) = say(Described(message.config_schema_response.request_id, descriptor.name, descriptor))
        ours = said.config_schema_response
        for form, their_form in (
            (ours.job_type_descriptor.admin_config_form, theirs.admin_config_form),
            (ours.job_type_descriptor.worker_config_form, theirs.worker_config_form),
        ):
            assert form.form_id == their_form.form_id
            form.title, form.description = their_form.title, their_form.description
            for section, their_section in zip(form.sections, their_form.sections, strict=True):
                section.section_id, section.description = their_section.section_id, their_section.description
                for field, their_field in zip(section.fields, their_section.fields, strict=True):
                    field.placeholder = their_field.placeholder  # of numbers ours show the default
        defaults = theirs.worker_default_values  # a real worker leaves out what its form has, here and there
        assert all(ours.job_type_descriptor.worker_default_values[key] == defaults[key] for key in defaults)
        theirs.ClearField("worker_default_values")
        ours.job_type_descriptor.ClearField("worker_default_values")
        assert ours == message.config_schema_response
