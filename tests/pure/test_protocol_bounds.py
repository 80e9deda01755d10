"""Names of any length: a job that holds one is refused with words of a decent size, in both dialects."""

from __future__ import annotations

import pytest

from proto_gen import plugin_pb2, worker_pb2
from tests.pure.protocol_samples import ME, NOW, to_classic_worker, to_worker
from weed_protocol import classic, forms, plugin
from weed_protocol.commands import Completed, RunJob
from weed_protocol.text import LONGEST_NAME

LONG = "x" * (LONGEST_NAME + 1)
TOO_LONG = [
    worker_pb2.TaskParams(volume_id=1, collection=LONG),
    worker_pb2.TaskParams(volume_id=1, sources=[worker_pb2.TaskSource(node="a:1"), worker_pb2.TaskSource(node=LONG)]),
    worker_pb2.TaskParams(balance_params=worker_pb2.BalanceTaskParams(moves=[{"target_node": LONG}])),
]


def by_classic(params: worker_pb2.TaskParams, task_id: str = "t") -> RunJob:
    assignment = worker_pb2.TaskAssignment(task_id=task_id, task_type="vacuum", params=params)
    command = classic.decode(to_classic_worker(task_assignment=assignment))
    assert isinstance(command, RunJob)
    return command


def by_plugin(params: worker_pb2.TaskParams, job_id: str = "t") -> RunJob:
    parameters = forms.config_values({"task_params_pb": params.SerializeToString()})
    spec = plugin_pb2.JobSpec(job_id=job_id, job_type="vacuum", parameters=parameters)
    command = plugin.decode(to_worker(execute_job_request=plugin_pb2.ExecuteJobRequest(job=spec)))
    assert isinstance(command, RunJob)
    return command


@pytest.mark.parametrize("params", TOO_LONG)
def test_a_name_longer_than_any_server_has_is_a_problem_said_in_short(params: worker_pb2.TaskParams) -> None:
    for command in (by_classic(params), by_plugin(params)):
        assert f"has {LONGEST_NAME + 1} characters" in command.problem
        assert len(command.problem) < 200


def test_a_name_of_the_longest_length_is_none() -> None:
    fitting = worker_pb2.TaskParams(volume_id=1, collection="x" * LONGEST_NAME)
    assert by_classic(fitting).problem == by_plugin(fitting).problem == ""


def test_a_job_with_an_endless_id_is_refused_under_that_id() -> None:
    params = worker_pb2.TaskParams(volume_id=1)
    for command in (by_classic(params, LONG), by_plugin(params, LONG)):
        assert "id has" in command.problem
        assert command.job.id == LONG
        refused = Completed(command.request_id, command.job.id, "vacuum", NOW, error=command.problem)
        assert plugin.encode(refused, ME, NOW)
        assert classic.encode(refused, ME, NOW)
