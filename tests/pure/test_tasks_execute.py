"""The one way to run and to undo a job: whatever a task does, one outcome, and an entry that tells what is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from proto_gen import worker_pb2
from weed_cluster.channels import Channels
from weed_cluster.client import Cluster
from weed_core.errors import BadTask, Cancelled, StillShut
from weed_core.model import Job, Result
from weed_safety.context import Context
from weed_safety.journal import Journal
from weed_tasks import execute, vacuum
from weed_tasks.execute import Outcome
from weed_tasks.slots import Held

JOB = Job("j1", "vacuum", worker_pb2.TaskParams(volume_id=7), config={"garbage_threshold": "0.5"})


def task(run: Callable[[Job, Context], Result]) -> ModuleType:
    """A task module with vacuum's settings that does this."""
    module = ModuleType("task")
    module.__dict__.update(DESCRIPTOR=vacuum.DESCRIPTOR, run=run)
    return module


def context() -> Context:
    return Context(Cluster(Channels()), Journal.memory())


def ended(run: Callable[[Job, Context], Result], journal: Journal | None = None) -> tuple[Outcome, Context]:
    ctx = context()
    return execute.run(task(run), JOB, ctx, journal, 60.0), ctx


def raiser(error: BaseException) -> Callable[[Job, Context], Result]:
    def run(_job: Job, ctx: Context) -> Result:
        ctx.journal.plan("freeze", volume_id=9)
        raise error

    return run


def test_a_job_runs_with_its_settings_merged_and_what_is_wrong_with_them_said() -> None:
    seen: list[Any] = []
    ctx = context()
    ctx.warn = seen.append
    job = Job("j1", "vacuum", worker_pb2.TaskParams(), config={"garbage_threshold": 7})

    def run(job: Job, _ctx: Context) -> Result:
        seen.append((job.config["garbage_threshold"], job.config["volume_state"]))
        return Result("well")

    assert execute.run(task(run), job, ctx, None, 60.0) == Outcome(Result("well"))
    assert seen == ["vacuum: garbage_threshold cannot be 7; 1.0 is used", (1.0, "ALL")]


@pytest.mark.parametrize(
    ("error", "kind", "early", "late"),
    [
        (BadTask("no volume"), "failure", "no volume", "no volume (while sending)"),
        (Cancelled("enough"), "cancelled", "enough, while queued", "enough, while sending"),
        (StillShut("7 stays shut"), "cancelled", "7 stays shut, while queued", "7 stays shut, while sending"),
        (KeyError("x"), "failure", "KeyError: 'x'", "KeyError: 'x'"),
    ],
)
def test_whatever_a_task_raises_is_told_with_the_stage_and_leaves_a_closed_entry(
    tmp_path: Path, error: BaseException, kind: str, early: str, late: str
) -> None:
    journal = Journal(tmp_path)
    outcome, ctx = ended(raiser(error), journal)
    assert (outcome.result, outcome.failure, outcome.kind) == (None, error, kind)
    assert (outcome.error("queued"), outcome.error("sending")) == (early, late)
    assert outcome.is_shut == isinstance(error, StillShut)
    assert [entry.volume_ids for entry in journal.unfinished()] == [ctx.journal.volume_ids] == [(7, 9)]


def test_a_journal_that_cannot_be_read_fails_the_job_before_it_begins(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    (tmp_path / "journal").rmdir()
    (tmp_path / "journal").write_text("no directory")
    began: list[Job] = []

    def run(job: Job, _ctx: Context) -> Result:
        began.append(job)
        return Result("well")

    outcome, ctx = ended(run, journal)
    assert (outcome.kind, began, ctx.journal.open) == ("failure", [], [])
    assert outcome.reason.startswith("NotADirectoryError: ")


def test_what_keeps_a_job_from_beginning_fails_it() -> None:
    def begin() -> None:
        raise Cancelled("told to stop")

    outcome = execute.run(task(raiser(KeyError())), JOB, context(), None, 60.0, begin)
    assert (outcome.kind, outcome.error("starting")) == ("cancelled", "told to stop, while starting")


def test_an_entry_of_a_task_type_that_is_not_known_stays_to_be_undone(tmp_path: Path) -> None:
    entry = Journal(tmp_path).open_entry("j1", "s3_lifecycle", 7)
    entry.plan("move", volume_id=7)
    outcome = execute.undo(entry, context())
    assert outcome.reason == "this version knows no task type 's3_lifecycle'; start the one that ran it"
    assert [left.job_id for left in Journal(tmp_path).unfinished(7)] == ["j1"]


def test_volumes_held_twice_are_free_when_let_go_twice() -> None:
    held = Held()
    held.hold([1, 2])
    held.hold([2])
    held.let_go([1, 2])
    assert held.among([1, 2, 3]) == {2}
    held.let_go([2])
    assert held.among([1, 2, 3]) == set()


def test_a_job_without_a_volume_has_its_time_and_leaves_its_changes_to_undo(tmp_path: Path) -> None:
    job = Job("script", "vacuum", worker_pb2.TaskParams(), {"estimated_runtime_seconds": 900})

    def run(_job: Job, ctx: Context) -> Result:
        ctx.journal.plan("pause")
        raise BadTask("no")

    outcome = execute.run(task(run), job, context(), Journal(tmp_path), 60.0)
    assert (job.volume_ids, execute.deadline(job, 60.0), outcome.kind) == ((), 900.0, "failure")
    (left,) = Journal(tmp_path).unfinished()
    assert (left.volume_ids, left.where, len(left.open)) == ((), "in the cluster", 1)


@pytest.mark.parametrize("named", [["9", "3", "9"], "3, 9", ["3", "9", "-1", "x"]])
def test_a_job_with_many_volumes_leaves_those_that_are_not_undone(tmp_path: Path, named: list[str] | str) -> None:
    job = Job("many", "vacuum", worker_pb2.TaskParams(), {"volume_ids": named})

    def run(job: Job, ctx: Context) -> Result:
        steps = [ctx.journal.plan("freeze", volume_id=volume_id) for volume_id in job.volume_ids]
        ctx.journal.settle(steps[0])
        raise BadTask("no")

    assert job.volume_ids == (3, 9)
    execute.run(task(run), job, context(), Journal(tmp_path), 60.0)
    (left,) = Journal(tmp_path).unfinished(9)
    assert (left.volume_ids, left.where) == ((3, 9), "on volumes 3, 9")
    left.settle(left.open[0])
    assert left.where == "on volume 3"
