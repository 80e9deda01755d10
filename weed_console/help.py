"""What a person is told who asks how a command is written, or what a job can be told. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import weed_tasks
from weed_console.flags import COMMANDS, OPTIONS, Option, bounds
from weed_core.goflags import variable
from weed_core.job_types import BY_NAME, SHOWN
from weed_core.model import Field

WIDTH = 80

SAYS = {
    "plan": "shows what there is to do, for one job or for all, and why other volumes are passed over; changes nothing",
    "run": "plans and does it: holds the cluster's lock as weed shell does, asks first, undoes what it cannot finish",
    "undo": (
        "clears up what killed or stopped runs left, as run does first, and opens volumes that a worker elsewhere left "
        "read-only until a time that is over; with -volumeId it compares the replicas of these volumes, and opens them "
        "together where they are equal, whoever left them read-only"
    ),
    "status": "shows the workers and jobs of an admin server (-admin), or one worker by its metrics port (-worker)",
    "doctor": "looks for whatever keeps maintenance from working, and names the fix",
}

EXAMPLES = {
    "plan": (
        "weed_worker plan -master=10.0.0.1:9333",
        "weed_worker plan vacuum -master=10.0.0.1:9333 -all",
        "weed_worker plan balance -volumeId=7 -to=10.0.0.12:8080 -master=10.0.0.1:9333",
    ),
    "run": (
        "weed_worker run vacuum -master=10.0.0.1:9333 -dryRun",
        "weed_worker run balance -master=10.0.0.1:9333 -max=10",
        "weed_worker run balance -volumeId=7 -to=10.0.0.12:8080 -master=10.0.0.1:9333",
        "weed_worker run vacuum -set=garbage_threshold=0.1 -yes -quiet -master=10.0.0.1:9333",
    ),
    "undo": (
        "weed_worker undo -dryRun -master=10.0.0.1:9333",
        "weed_worker undo -volumeId=7 -master=10.0.0.1:9333",
    ),
    "status": (
        "weed_worker status -admin=10.0.0.1:23646",
        "weed_worker status -worker=10.0.0.11:9327",
    ),
    "doctor": (
        "weed_worker doctor -master=10.0.0.1:9333 -admin=10.0.0.1:23646",
        "weed_worker doctor -master=10.0.0.1:9333 -forget=10.0.0.15:8080",
        "weed_worker doctor -master=10.0.0.1:9333 -node=10.0.0.12:8080,10.0.0.13:8080",
        "weed_worker doctor -master=10.0.0.1:9333 -node=dc1/r2",
    ),
}

STATUSES = (
    ("0", "all is done, nothing was to do, you said no; or healthy"),
    ("1", "a job failed or was put off, or doctor found something; with doctor -node: it must not be stopped"),
    ("2", "wrong flags or configuration; with plan -exitCode also: there is work"),
    ("3", "busy: the cluster is locked by another, or another run of this host is under way"),
    ("4", "the cluster, the admin or the worker that was asked cannot be reached"),
    ("5", "doctor -node: it may be stopped, and not be removed for good"),
    ("130", "interrupted: what ran was finished (Ctrl-C) or undone (Ctrl-C twice, SIGTERM)"),
)
"""Exit statuses, with their meaning."""


def overview() -> str:
    """What there is, for somebody who starts."""
    lines = ["One-shot maintenance of a SeaweedFS cluster, without an admin server.", "", "Examples:"]
    lines += ["  weed_worker doctor -master=10.0.0.1:9333"]
    lines += [f"  {EXAMPLES['plan'][0]}", f"  {EXAMPLES['run'][0]}", "", "Commands:"]
    for name in COMMANDS:
        lines += _item(name, SAYS[name], 9)
    lines += _item("help", "help COMMAND lists its flags, help JOB the settings of a job", 9)
    lines += _item(
        "completion", "completion bash, zsh or fish prints a file for that shell; man prints the man page", 13
    )
    lines += _item("(none)", "the worker itself, which serves an admin server: weed_worker -h lists its flags", 9)
    lines += ["", *textwrap.wrap(f"Jobs: {SHOWN}", WIDTH, subsequent_indent=" " * 6), "", *_statuses()]
    return "\n".join(lines)


def of_command(command: str) -> str:
    """How one command is written: examples first, then its own flags."""
    word = {"plan": " [JOB]", "run": " JOB"}.get(command, "")
    lines = [f"weed_worker {command}{word} [flags]", *_wrapped(SAYS[command]), "", "Examples:"]
    lines += [f"  {example}" for example in EXAMPLES[command]]
    lines += ["", "Flags (-flag=value, -flag value and --flag=value mean the same):"]
    for option in OPTIONS:
        if command in option.commands:
            lines += _flag(option)
    lines += ["", *_wrapped("Beside each stands the variable of the environment that may give it, too.", "")]
    if word:
        lines += textwrap.wrap(f"Jobs: {SHOWN}", WIDTH, subsequent_indent=" " * 6)
    return "\n".join([*lines, "", *_statuses()])


def of_job(job: str) -> str:
    """What a job does, and its settings with defaults, units and what they may be."""
    descriptor = weed_tasks.load([job])[job].DESCRIPTOR
    others = BY_NAME[job].aliases
    lines = [f"{job}: {descriptor.description}"]
    lines += _wrapped(f"also called {', '.join(others)}") if others else []
    lines += ["", "Examples:", f"  weed_worker plan {job} -master=10.0.0.1:9333"]
    setting = next((field for field in descriptor.fields if field.minimum is not None), None)
    change = f" -set={setting.name}={_shown(setting)}" if setting else ""
    lines += [f"  weed_worker run {job} -master=10.0.0.1:9333{change} -dryRun", "", "Settings (-set=name=value):"]
    for field in descriptor.fields:
        lines += [f"  {field.name}={_shown(field)}", *_wrapped(f"{field.help} It is {bounds(field)}.", " " * 6)]
    return "\n".join([*lines, "", "docs/tasks.md has its steps, guarantees and refusals."])


def _shown(field: Field) -> str:
    value = field.default
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flag(option: Option) -> Iterator[str]:
    default = f" (default {option.default})" if option.default not in ("", "0") else ""
    name = f"-{option.name}" + (f"=<{option.value}>" if option.value else "")
    yield f"  {name:<32}{variable(option.name)}"
    yield from _wrapped(option.text + default, " " * 6)


def _item(name: str, text: str, indent: int) -> list[str]:
    return textwrap.wrap(f"  {name:<{indent - 2}}{text}", WIDTH, subsequent_indent=" " * indent)


def _statuses() -> list[str]:
    return ["Exit status:", *(line for code, text in STATUSES for line in _item(code, text, 7))]


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
