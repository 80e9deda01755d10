"""The plugin dialect: what a 4.44 admin hears and says, the malformed and the merely odd included."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto_gen import plugin_pb2, worker_pb2
from tests.pure.protocol_samples import BALANCE, ME, NOW, STATUS, VACUUM, to_worker
from weed_core.model import Detection, Proposal, Result, Skipped
from weed_core.values import Value
from weed_protocol import forms, plugin
from weed_protocol.commands import (
    AskForWork,
    Cancel,
    Completed,
    Describe,
    Described,
    Detect,
    Detected,
    Goodbye,
    Heartbeat,
    Hello,
    Log,
    Progress,
    Refused,
    Report,
    RunJob,
    Stop,
    Unknown,
    Welcome,
)


def say(report: Report) -> list[plugin_pb2.WorkerToAdminMessage]:
    messages = [plugin_pb2.WorkerToAdminMessage.FromString(message) for message in plugin.encode(report, ME, NOW)]
    for message in messages:
        assert message.worker_id == "w-host-1a2b"
        assert message.sent_at.seconds + message.sent_at.nanos / 1e9 == NOW
    return messages


def execute(spec: plugin_pb2.JobSpec | None, **request: object) -> RunJob:
    body = plugin_pb2.ExecuteJobRequest(job=spec, **request)  # type: ignore[arg-type]
    command = plugin.decode(to_worker(execute_job_request=body))
    assert isinstance(command, RunJob)
    return command


# ---- admin -> worker ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "command"),
    [
        ({"hello": plugin_pb2.AdminHello(message="no")}, Refused("no")),
        ({"hello": plugin_pb2.AdminHello(accepted=True, heartbeat_interval_seconds=-1)}, Welcome("")),
        (
            {"request_config_schema": plugin_pb2.RequestConfigSchema(job_type="volume_balance")},
            Describe("request-1", "balance"),
        ),
        (
            {"cancel_request": plugin_pb2.CancelRequest(target_id="t", reason="r", force=True)},
            Cancel("request-1", "t", "r"),
        ),
        (
            {"shutdown": plugin_pb2.AdminShutdown(reason="r", grace_period_seconds=9)},
            Stop("request-1", "r", 9),
        ),
        (
            {"request_object_preview": plugin_pb2.RequestObjectPreview()},
            Unknown("request-1", "a request_object_preview"),
        ),
    ],
)
def test_each_message_of_an_admin_has_its_command(body: dict[str, object], command: object) -> None:
    assert plugin.decode(to_worker(**body)) == command


def test_an_empty_or_unreadable_message_is_unknown() -> None:
    assert isinstance(plugin.decode(b""), Unknown)
    assert isinstance(plugin.decode(b"\xff\xff"), Unknown)


def test_a_request_without_a_job_is_a_job_with_a_problem() -> None:
    command = execute(None)
    assert (command.request_id, command.problem) == ("request-1", "the request carries no job")
    completed = say(Completed(command.request_id, command.job.id, command.job.type, NOW, error="x"))[0].job_completed
    assert completed.job_type
    assert completed.job_id


def test_a_job_without_an_id_or_a_type_has_a_problem() -> None:
    assert execute(plugin_pb2.JobSpec(job_type="vacuum")).problem == "the job has no id"
    assert execute(plugin_pb2.JobSpec(job_id="j")).problem == "job j has no type"


def test_task_params_that_cannot_be_read_are_a_problem_that_names_them() -> None:
    for value in (forms.config_value(b"\xff\xff"), forms.config_value("text")):
        command = execute(plugin_pb2.JobSpec(job_id="j", job_type="vacuum", parameters={"task_params_pb": value}))
        assert "task_params_pb" in command.problem
        assert command.job.params == worker_pb2.TaskParams()


def test_a_job_of_scalars_only_keeps_them() -> None:
    parameters: dict[str, Value] = {"volume_id": "7", "server": "a:1"}
    command = execute(
        plugin_pb2.JobSpec(job_id="j", job_type="volume_balance", parameters=forms.config_values(parameters)),
        admin_config_values=forms.config_values({"a": 1, "b": 1}),
        worker_config_values=forms.config_values({"b": 2}),
        attempt=3,
    )
    assert command.problem == ""
    assert command.job.type == "balance"
    assert command.job.parameters == parameters
    assert command.job.volume_ids == (7,)
    assert command.job.config == {"a": 1, "b": 2}


def test_a_batch_of_moves_touches_each_of_its_volumes() -> None:
    moves = [worker_pb2.BalanceMoveSpec(volume_id=volume_id) for volume_id in (9, 3, 9)]
    params = worker_pb2.TaskParams(balance_params=worker_pb2.BalanceTaskParams(moves=moves))
    packed = forms.config_values({"task_params_pb": params.SerializeToString()})
    command = execute(plugin_pb2.JobSpec(job_id="j", job_type="volume_balance", parameters=packed))
    assert command.job.volume_ids == (3, 9)


@given(st.binary(max_size=200))
def test_no_bytes_make_decoding_fail(noise: bytes) -> None:
    plugin.decode(noise)


texts = st.text(max_size=12)
config_values = st.recursive(
    st.builds(plugin_pb2.ConfigValue)
    | st.builds(plugin_pb2.ConfigValue, int64_value=st.integers(-(2**63), 2**63 - 1))
    | st.builds(plugin_pb2.ConfigValue, double_value=st.floats())
    | st.builds(plugin_pb2.ConfigValue, string_value=texts)
    | st.builds(plugin_pb2.ConfigValue, bytes_value=st.binary(max_size=12))
    | st.builds(plugin_pb2.ConfigValue, bool_list=st.builds(plugin_pb2.BoolList, values=st.lists(st.booleans()))),
    lambda inner: (
        st.builds(plugin_pb2.ConfigValue, list_value=st.builds(plugin_pb2.ValueList, values=st.lists(inner)))
        | st.builds(
            plugin_pb2.ConfigValue,
            map_value=st.builds(plugin_pb2.ValueMap, fields=st.dictionaries(texts, inner, max_size=2)),
        )
    ),
    max_leaves=4,
)
value_maps = st.dictionaries(texts | st.sampled_from(["task_params_pb", "volume_id"]), config_values, max_size=4)
requests = st.builds(
    plugin_pb2.ExecuteJobRequest,
    job=st.none() | st.builds(plugin_pb2.JobSpec, job_id=texts, job_type=texts, parameters=value_maps),
    admin_config_values=value_maps,
    worker_config_values=value_maps,
    attempt=st.integers(-(2**31), 2**31 - 1),
)
detections = st.builds(
    plugin_pb2.RunDetectionRequest,
    job_type=texts,
    admin_config_values=value_maps,
    max_results=st.integers(-(2**31), 2**31 - 1),
)


@given(requests)
def test_every_execution_becomes_a_job_with_locks(request: plugin_pb2.ExecuteJobRequest) -> None:
    command = plugin.decode(to_worker(execute_job_request=request))
    assert isinstance(command, RunJob)
    assert command.job.id
    assert all(volume_id > 0 for volume_id in command.job.volume_ids)


@given(detections)
def test_every_detection_becomes_a_request(request: plugin_pb2.RunDetectionRequest) -> None:
    command = plugin.decode(to_worker(run_detection_request=request))
    assert isinstance(command, Detect)
    assert command.request.max_results >= 0


# ---- worker -> admin ----------------------------------------------------------------------------------------------


def test_the_hello_offers_each_job_type_with_the_workers_slots_and_room_for_jobs_that_only_wait() -> None:
    hello = say(Hello())[0].hello
    assert hello.protocol_version == "plugin.v1"
    assert [capability.job_type for capability in hello.capabilities] == ["vacuum", "volume_balance"]
    assert {capability.max_execution_concurrency for capability in hello.capabilities} == {64}
    assert {capability.max_detection_concurrency for capability in hello.capabilities} == {1}


def test_a_heartbeat_carries_true_figures() -> None:
    heartbeat = say(Heartbeat(STATUS))[0].heartbeat
    assert [(work.work_id, work.job_type) for work in heartbeat.running_work] == [
        ("detect-1", "volume_balance"),
        ("job-1", "volume_balance"),
    ]
    assert dict(heartbeat.queued_jobs_by_type) == {"volume_balance": 2}
    assert heartbeat.execution_slots_used == heartbeat.execution_slots_total == 1
    assert heartbeat.metadata["completed"] == "7"


def test_jobs_that_only_wait_leave_the_admin_its_slots() -> None:
    heartbeat = say(Heartbeat(replace(STATUS, execution_outside=3)))[0].heartbeat
    assert (heartbeat.execution_slots_used, heartbeat.execution_slots_total) == (1, 4)


def test_a_job_type_we_do_not_have_is_refused_by_name() -> None:
    response = say(Described("r", "iceberg", None))[0].config_schema_response
    assert (response.request_id, response.job_type, response.success) == ("r", "iceberg", False)
    assert "iceberg" in response.error_message


def proposal(number: int) -> Proposal:
    return Proposal(f"p{number}", f"k{number}", "s", worker_pb2.TaskParams(volume_id=number), estimated_seconds=300)


def test_proposals_come_in_modest_batches_before_the_end() -> None:
    messages = say(Detected("r", "balance", Detection([proposal(n) for n in range(1, 251)], has_more=True, seen=300)))
    batches = [m.detection_proposals for m in messages if m.WhichOneof("body") == "detection_proposals"]
    assert [len(batch.proposals) for batch in batches] == [100, 100, 50]
    assert all(batch.has_more and batch.job_type == "volume_balance" for batch in batches)
    assert messages[-1].detection_complete == plugin_pb2.DetectionComplete(
        request_id="r", job_type="volume_balance", success=True, total_proposals=250
    )
    assert sum(message.WhichOneof("body") == "detection_complete" for message in messages) == 1


def test_a_proposal_carries_its_parameters_in_full_and_in_words() -> None:
    own = Proposal(
        "p", "k", "s", worker_pb2.TaskParams(volume_id=5, collection="c"), "d", "high", {"server": "a:1"}, {"x": "y"}
    )
    messages = say(Detected("r", "vacuum", Detection([own])))
    (told,) = messages[1].detection_proposals.proposals
    assert told.priority == plugin_pb2.JOB_PRIORITY_HIGH
    assert forms.plain_values(told.parameters) == {
        "task_params_pb": own.params.SerializeToString(),
        "volume_id": 5,
        "collection": "c",
        "server": "a:1",
    }
    assert dict(told.labels) == {"task_type": "vacuum", "volume_id": "5", "collection": "c", "x": "y"}


def test_a_detection_says_of_each_volume_why_it_was_passed_over() -> None:
    skipped = [Skipped(n, "too young", "age" if n % 2 else "size") for n in range(1, 501)]
    update = say(Detected("r", "vacuum", Detection([], skipped, seen=500, summary="nothing")))[0].job_progress_update
    assert (update.job_id, update.request_id, update.job_type) == ("", "r", "vacuum")
    assert update.state == plugin_pb2.JOB_STATE_RUNNING
    summary, *volumes, rest = update.activities
    assert (summary.stage, summary.message) == ("decision_summary", "nothing")
    assert forms.plain_values(summary.details)["skipped_age"] == 250
    assert len(volumes) == 200
    assert (volumes[4].stage, volumes[4].message) == ("decision_volume", "volume 5: too young")
    assert rest.message == "300 more volumes were passed over: 150 age, 150 size"


def test_a_failed_detection_says_why_and_proposes_nothing() -> None:
    (message,) = say(Detected("r", "vacuum", None, "the master is away"))
    assert message.detection_complete == plugin_pb2.DetectionComplete(
        request_id="r", job_type="vacuum", error_message="the master is away"
    )


def test_progress_is_always_running() -> None:
    update = say(Progress("r", "j", "balance", 0.25, "copying", figures={"bytes": 7}))[0].job_progress_update
    assert update.state == plugin_pb2.JOB_STATE_RUNNING
    assert (update.job_type, update.progress_percent, update.message) == ("volume_balance", 25.0, "copying")
    assert forms.plain_values(update.metrics) == {"bytes": 7}


def test_each_stage_is_told_in_words_once_for_the_admins_list_of_activities() -> None:
    first, again = (
        say(Progress("r", "j", "balance", 0.25, "copying", is_new=is_new))[0].job_progress_update
        for is_new in (True, False)
    )
    assert (first.stage, first.message, len(first.activities)) == ("copying", "copying", 0)
    assert (again.stage, again.message, again.progress_percent, len(again.activities)) == ("", "", 25.0, 0)


def test_a_completion_at_capacity_says_so_in_the_admins_words() -> None:
    bare = say(Completed("r", "j", "vacuum", NOW, at_capacity=True))[0].job_completed
    assert bare.error_message == "executor is at capacity"
    told = say(Completed("r", "j", "vacuum", NOW, error="volume 5 is busy", at_capacity=True))[0].job_completed
    assert "executor is at capacity" in told.error_message
    assert "volume 5 is busy" in told.error_message


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_failure_always_has_a_text(cancelled: bool) -> None:
    completed = say(Completed("r", "j", "vacuum", NOW, cancelled=cancelled))[0].job_completed
    assert not completed.success
    assert completed.error_message
    assert not completed.activities  # the admin lists each end itself


def test_what_only_classic_admins_know_is_not_said() -> None:
    for report in (AskForWork(1), Log("t", "w"), Goodbye("bye")):
        assert plugin.encode(report, ME, NOW) == []


plain_values: st.SearchStrategy[Value] = (
    st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=9) | st.lists(texts)
)
figures = st.dictionaries(st.text(max_size=9), plain_values, max_size=3)
odd_texts = st.text(st.characters(), max_size=9)  # lone surrogates too
reports: st.SearchStrategy[Report] = (
    st.builds(
        Completed,
        request_id=texts,
        job_id=texts,
        job_type=texts,
        finished_at=st.floats(0, 2**33),
        result=st.none() | st.builds(Result, summary=odd_texts, outputs=figures),
        error=odd_texts,
    )
    | st.builds(
        Progress,
        request_id=texts,
        job_id=texts,
        job_type=texts,
        fraction=st.floats(),
        stage=odd_texts,
        message=odd_texts,
        figures=figures,
    )
    | st.builds(
        Detected,
        request_id=texts,
        job_type=texts,
        detection=st.none()
        | st.builds(
            Detection,
            proposals=st.lists(st.integers(0, 9).map(proposal), max_size=3),
            skipped=st.lists(st.builds(Skipped, volume_id=st.integers(0, 9), reason=odd_texts, key=texts), max_size=3),
        ),
        error=odd_texts,
    )
    | st.builds(Described, request_id=texts, job_type=texts, descriptor=st.sampled_from([None, VACUUM, BALANCE]))
)


@given(reports)
def test_every_report_travels_whatever_its_texts_and_figures(report: Report) -> None:
    for message in say(report):
        assert message.WhichOneof("body")
