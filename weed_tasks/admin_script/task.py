"""Running a script: command after command, each by the job type that does it, and what they said as one text.

What a command finds is done by ordinary jobs, several at once, each with its own proof, journal entry and lease; so a
script has nothing to undo itself. A command that fails does not keep the next ones from being run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from weed_core.errors import BadTask, ConfigError, NotAllDone, TaskError
from weed_core.model import Job, Result
from weed_core.values import Value, as_str
from weed_safety.context import Context
from weed_safety.journal import Entry
from weed_tasks.admin_script.commands import orders
from weed_tasks.admin_script.doing import do
from weed_tasks.admin_script.plan import NAME, SCRIPT, commands_text
from weed_tasks.admin_script.script import digest, normal

MOST_OUTPUT = 16 << 10
"""Bytes of output that are told, as by SeaweedFS's own worker."""


def run(job: Job, ctx: Context) -> Result:
    """Run the job's script; NotAllDone where commands failed, BadTask where one is not known: then none was run."""
    script = normal(as_str(job.parameters.get(SCRIPT), "") or as_str(job.config.get(SCRIPT), ""))
    name = as_str(job.parameters.get(NAME), "") or as_str(job.config.get(NAME), "")
    todo = orders(script)
    if not todo:
        raise BadTask("the script has no command")
    output, errors, gains = list[str](), list[str](), Counter[str]()
    for number, order in enumerate(todo):
        ctx.progress(number / len(todo), order.line.text)
        output.append(f"$ {order.line.text}")

        def progress(share: float, stage: str, before: int = number) -> None:
            ctx.progress((before + share) / len(todo), stage)

        try:
            do(order, job, ctx, output.append, progress, gains)
        except (TaskError, ConfigError) as error:
            errors.append(f"{order.line.name}: {error}")
            output.append(f"error: {error}")
    outputs: dict[str, Value] = {
        "command_count": len(todo),
        "error_count": len(errors),
        "script_hash": digest(script),
        "commands": [order.line.text for order in todo],
        **({NAME: name} if name else {}),
        **+gains,
        **_output(output),
    }
    summary = f"admin script {f'{name!r} ' if name else ''}executed ({commands_text(len(todo))})"
    if errors:
        raise NotAllDone("; ".join(errors), summary, outputs)
    return Result(summary, outputs)


def recover(_entry: Entry, _ctx: Context) -> None:
    """Undo nothing: the jobs that a script ran have entries of their own."""


def _output(lines: Sequence[str]) -> dict[str, Value]:
    text = "\n".join(lines).encode()
    if len(text) <= MOST_OUTPUT:
        return {"output": text.decode()}
    return {"output": text[:MOST_OUTPUT].decode(errors="ignore"), "output_truncated": True}
