"""Doing one command of a script: what its job type finds, done by jobs of that type and told line by line."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from weed_core import model
from weed_core.errors import NotAllDone, TaskError
from weed_core.model import GAINS, Detection, DetectionRequest, Job, Proposal
from weed_core.text import some
from weed_core.values import Value, as_int
from weed_safety.context import Context
from weed_tasks import filters, load
from weed_tasks.admin_script.commands import Order
from weed_tasks.admin_script.housekeeping import do_chore

LISTED = 20
"""Things of one kind that a command lists."""

ROUNDS = 100
"""Looks of one command, at most."""

PATIENCE = "min_fault_age_seconds"
"""The setting of jobs that mend by which they let a fault grow old; a script's job may say another one for all."""

Say = Callable[[str], None]
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
    patience = {PATIENCE: job.parameters[PATIENCE]} if {PATIENCE} <= {*descriptor.defaults} & {*job.parameters} else {}
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
    config = _settings(order, job)
    done = Counter[str]()

    def run(proposal: Proposal) -> tuple[str, str]:
        part = Job(proposal.id, order.job_type, proposal.params, proposal.parameters, config, job.masters, job.filers)
        try:
            result = ctx.part(part, ctx)
            told, failed = result.summary, ""
            gains.update({name: as_int(result.outputs.get(name), 0, 0) for name in GAINS})
        except TaskError as error:
            told, failed = "", str(error)
        done["all"] += 1
        progress(done["all"] / len(proposals), f"{order.line.name}: {done['all']} of {len(proposals)}")
        return told, failed

    ends = ctx.each(run, proposals, order.at_once)
    failures = [failed for _told, failed in ends if failed]
    _list([told for told, _failed in ends if told], order, say)
    for failed in failures[:LISTED]:
        say(f"failed: {failed}")
    if failures:
        raise NotAllDone(f"{len(failures)} of {len(proposals)} failed: {some(failures)}", "", {})


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
