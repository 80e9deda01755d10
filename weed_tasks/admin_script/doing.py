"""Doing one command of a script: what its job type finds, done by jobs of that type and told line by line."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from weed_core import model
from weed_core.errors import TaskError
from weed_core.model import GAINS, Detection, DetectionRequest, Job, Proposal, Result
from weed_core.text import some
from weed_core.values import Value, as_int
from weed_safety.context import Context
from weed_tasks import filters, load
from weed_tasks.admin_script.commands import Order
from weed_tasks.admin_script.housekeeping import Say, do_chore

LISTED = 20
"""Things of one kind that a command lists."""

ROUNDS = 100
"""Looks of one command, at most."""

PATIENCE = "min_fault_age_seconds"
"""The setting of jobs that mend by which they let a fault grow old; a script's job may say another one for all."""

Progress = Callable[[float, str], None]


def do(order: Order, job: Job, ctx: Context, say: Say, progress: Progress, gains: Counter[str]) -> None:
    """Do what a command asks for, as a part of the script's job; TaskError where some of it failed.

    `progress` is told the share of it that is done, and what is being done; `gains` gets what GAINS names. Where it
    does not apply what it finds, and in a dry run, nothing is changed.
    """
    if not order.job_type:
        do_chore(order, job.filers, ctx, say)
        return
    if not order.is_applied:
        explain(order, job, ctx, say)
        say("nothing was changed: it does not say -apply")
        return
    for _round in range(ROUNDS):
        found = _look(order, job, ctx)
        proposals = _chosen(order, found)
        if not proposals:
            say(found.summary or "nothing to do")
            _tell_skipped(order, found, say)
            return
        _run_all(order, proposals, job, ctx, say, progress, gains)
        if not order.goes_on or ctx.options.dry_run:
            _tell_skipped(order, found, say)
            return


def explain(order: Order, job: Job, ctx: Context, say: Say) -> None:
    """Say what a command would do now, whether it applies that or not; changes nothing."""
    if not order.job_type:
        do_chore(replace(order, is_applied=False), job.filers, ctx, say)
        return
    found = _look(order, job, ctx)
    say(found.summary or "nothing to do")
    _list([f"would: {proposal.summary}" for proposal in _chosen(order, found)], order, say)
    _tell_skipped(order, found, say)


def _look(order: Order, job: Job, ctx: Context) -> Detection:
    task = load([order.job_type])[order.job_type]
    config = _settings(order, job)
    only = next(iter(order.volume_ids)) if len(order.volume_ids) == 1 else 0
    request = DetectionRequest(
        order.job_type,
        config,
        job.masters,
        sequence=time.time_ns(),
        volume_id=only,
        is_single=True,
        filers=job.filers,
    )
    found = filters.look(task, request, ctx)
    if ctx.seen is not None and (said := filters.unknown(order.volume_ids, (), ctx.topology() if only else ctx.seen)):
        raise TaskError("; ".join(said))
    return found


def _settings(order: Order, job: Job) -> dict[str, Value]:
    descriptor = load([order.job_type])[order.job_type].DESCRIPTOR
    has_own = PATIENCE in descriptor.defaults and PATIENCE in job.parameters
    patience = {PATIENCE: job.parameters[PATIENCE]} if has_own else {}
    config, _warnings = model.settings(descriptor, patience, order.settings)
    return config


def _chosen(order: Order, found: Detection) -> list[Proposal]:
    """What is found and asked for."""
    chosen = [one for one in found.proposals if not order.volume_ids or order.volume_ids.issuperset(_ids(order, one))]
    return chosen[: order.most or len(chosen)]


def _ids(order: Order, proposal: Proposal) -> tuple[int, ...]:
    return Job("", order.job_type, proposal.params, proposal.parameters).volume_ids


def _run_all(
    order: Order,
    proposals: Sequence[Proposal],
    job: Job,
    ctx: Context,
    say: Say,
    progress: Progress,
    gains: Counter[str],
) -> None:
    config, ended = _settings(order, job), count(1)

    def run(proposal: Proposal) -> Result | TaskError:
        part = Job(proposal.id, order.job_type, proposal.params, proposal.parameters, config, job.masters, job.filers)
        end: Result | TaskError
        try:
            end = ctx.part(part, ctx)
        except TaskError as error:
            end = error
        number = next(ended)
        progress(number / len(proposals), f"{order.line.name}: {number} of {len(proposals)}")
        return end

    ends = ctx.each(run, proposals, order.at_once)
    results = [end for end in ends if isinstance(end, Result)]
    failures = [str(end) for end in ends if isinstance(end, TaskError)]
    for result in results:
        gains.update({name: as_int(result.outputs.get(name), 0, 0) for name in GAINS})
    _list([result.summary for result in results], order, say)
    for failed in failures[:LISTED]:
        say(f"failed: {failed}")
    if failures:
        raise TaskError(f"{len(failures)} of {len(proposals)} failed: {some(failures)}")


def _tell_skipped(order: Order, found: Detection, say: Say) -> None:
    """Why volumes are passed over, where the command asks for that."""
    if order.is_verbose:
        _list([f"passed over: volume {skip.volume_id}: {skip.reason}" for skip in found.skipped], order, say)


def _list(lines: Sequence[str], order: Order, say: Say) -> None:
    most = len(lines) if order.is_verbose else LISTED
    for line in lines[:most]:
        say(line)
    if len(lines) > most:
        say(f"and {len(lines) - most} more")
