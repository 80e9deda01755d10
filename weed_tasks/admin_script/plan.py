"""When an admin's script is due, and what each of its commands would do. Looks only.

The form, the proposal and what a job answers are those of SeaweedFS 4.44's own worker, so that a script an admin has
stored runs whichever worker is connected.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from proto_gen.worker_pb2 import TaskParams
from weed_core.errors import BadTask, ConfigError, TaskError
from weed_core.model import Descriptor, Detection, DetectionRequest, Field, Job, Proposal, Runtime, Values
from weed_core.text import time_text
from weed_safety.context import Context
from weed_tasks.admin_script.commands import BY_HAND, ELSEWHERE, Order, orders
from weed_tasks.admin_script.doing import PATIENCE, explain
from weed_tasks.admin_script.script import digest, normal

SCRIPT, NAME, INTERVAL = "script", "script_name", "run_interval_minutes"

USUAL = """\
fs.log.purge -daysAgo=7
volume.deleteEmpty -quietFor=24h -apply
volume.fix.replication -apply
s3.clean.uploads -timeAgo=24h"""

DESCRIPTOR = Descriptor(
    name="admin_script",
    job_type="admin_script",
    display_name="Admin Script",
    description="Runs a script of weed shell's maintenance commands",
    icon="fas fa-terminal",
    fields=(
        Field(
            SCRIPT,
            "Script",
            "text",
            USUAL,
            "Commands as weed shell has them, one a line or with semicolons between. Those that change volumes only "
            "tell what they would do unless they say -apply. lock and unlock are not needed.",
            placeholder="volume.balance -apply\nvolume.fix.replication -apply",
            required=True,
            scope="admin",
            section="Script",
        ),
        Field(
            INTERVAL,
            "Run interval (minutes)",
            "int",
            17,
            "How long to wait after a run that succeeded.",
            minimum=1,
            required=True,
            scope="admin",
            section="Script",
        ),
    ),
    runtime=Runtime(
        detection_interval_minutes=17,
        detection_timeout_seconds=300,
        max_jobs_per_detection=1,
        global_execution_concurrency=1,
        per_worker_execution_concurrency=1,
        retry_limit=0,
        retry_backoff_seconds=30,
        job_type_max_runtime_seconds=1800,
        execution_timeout_seconds=1800,
    ),
    weight=20,
)

SECONDS = 4 * 3600
"""How long a script may take: an admin's own limit of half an hour is too short for one that moves volumes."""


def detect(request: DetectionRequest, ctx: Context) -> Detection:
    """Propose the script where it is due; BadTask names what is in it that is not known here.

    ConfigError where a person names no script.
    """
    values = Values(DESCRIPTOR, request.config)
    script = normal(values.text(SCRIPT))
    interval, age = values.whole(INTERVAL) * 60, time.time() - request.last_run
    if 0 <= age < interval and not request.is_single:  # below 0 an admin's clock is ahead, and tells nothing
        return Detection([], summary=f"the script ran a short while ago; it is due in {time_text(interval - age)}")
    try:
        todo = orders(script, BY_HAND if request.is_single else ELSEWHERE)
    except BadTask as error:
        raise (ConfigError(str(error)) if request.is_single else error) from None
    if not todo:
        if request.is_single:
            raise ConfigError("the script has no command: weed_worker run script 'volume.vacuum', or -file=FILE")
        return Detection([], summary="the script has no command")
    proposal = _proposal(script, str(request.config.get(NAME, "")).strip(), len(todo), time.time_ns())
    if request.is_single:
        # A person decides now: there is no later look by which a fault would be known to be older.
        proposal = replace(
            proposal, detail=_explained(todo, request, ctx), parameters={**proposal.parameters, PATIENCE: 0}
        )
    return Detection([proposal], summary=f"a script of {commands_text(len(todo))} is due")


def _explained(todo: Iterable[Order], request: DetectionRequest, ctx: Context) -> str:
    """What each command would do now, as text; changes nothing, whatever the commands say."""
    said = list[str]()
    job = Job("", request.job_type, TaskParams(), {PATIENCE: 0}, masters=request.masters, filers=request.filers)
    for order in todo:
        said.append(f"$ {order.line.text}")
        try:
            explain(order, job, ctx, said.append)
        except (TaskError, ConfigError) as error:
            said.append(f"error: {error}")
    return "\n".join(said)


def commands_text(count: int) -> str:
    """So many commands."""
    return f"{count} command{'' if count == 1 else 's'}"


def _proposal(script: str, name: str, count: int, now_ns: int) -> Proposal:
    key = digest(script)
    proposal_id = f"admin-script-{key[:8]}-{now_ns}"
    return Proposal(
        id=proposal_id,
        dedupe_key=f"admin-script:{key}",
        summary=f"Run admin script: {name}" if name else "Run admin script",
        params=TaskParams(task_id=proposal_id),
        detail=f"Admin script with {count} command(s)",
        parameters={
            SCRIPT: script,
            NAME: name,
            "script_hash": key,
            "command_count": count,
            "estimated_runtime_seconds": SECONDS,
        },
        labels={"script_hash": key, **({NAME: name} if name else {})},
    )
