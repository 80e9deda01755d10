"""Commands as whoever reads them may type them: with the program as it was started, and the flags it needs. Pure."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from weed_console.flags import COMMANDS, SCRIPT_JOB, Flags
from weed_core.job_types import TASK_TYPES

NAME = "weed_worker"

_COMMAND = re.compile(
    rf"\b{NAME} (?P<verb>{'|'.join(COMMANDS)})\b"
    rf"(?P<job>(?: (?:{'|'.join(TASK_TYPES)})\b)?)"
    r"(?P<flags>(?: -[\w]+(?:=[^\s;,]+)?)*)"
)


def program() -> str:
    """How this program is started here: by its name where that finds it, else by its path."""
    path = Path(sys.argv[0])
    if not path.name.startswith(NAME):
        return NAME
    found = shutil.which(path.name)
    if found and os.path.realpath(found) == os.path.realpath(path):
        return path.name
    shown = shlex.quote(str(path) if path.is_absolute() or os.sep in str(path) else f"./{path}")
    return shown if os.access(path, os.X_OK) and path.suffix != ".py" else f"python3 {shown}"


def where(flags: Flags) -> list[str]:
    """The flags that every further command about this cluster needs."""
    words = [f"-master={','.join(map(str, flags.masters))}"] if flags.masters else []
    words += [f"-config_dir={flags.config_dir}"] if flags.config_dir else []
    words += [f"-workingDir={flags.working_dir}"] if flags.working_dir else []
    return [shlex.quote(word) for word in words]


def command(flags: Flags, verb: str, job: str = "", extra: Mapping[str, str] | None = None) -> str:
    """A command in full, about the volumes and with the settings that this one was asked for."""
    words = [program(), verb, *([job] if job else []), *_script(flags, job), *where(flags)]
    narrowing = {
        "volumeId": ",".join(map(str, sorted(flags.volume_ids))),
        "collection": ",".join(flags.collections),
        "to": str(flags.target or ""),
        **(extra or {}),
    }
    words += [shlex.quote(f"-{name}={value}") for name, value in narrowing.items() if value]
    if job and job == flags.job:
        words += [
            shlex.quote(f"-node={value}" if name == "nodes" else f"-set={name}={value}")
            for name, value in flags.given.items()
            if name != "script"
        ]
        words += [f"-max={flags.most}"] if flags.most and "volumeId" not in (extra or {}) else []
    return " ".join(words)


def _script(flags: Flags, job: str) -> list[str]:
    """The script that a command is about, as it was given."""
    if job != SCRIPT_JOB or job != flags.job:
        return []
    words = [f"-file={flags.file}"] if flags.file else [flags.given["script"]]
    words += [f"-filer={','.join(map(str, flags.filers))}"] if flags.filers else []
    return [shlex.quote(word) for word in words]


def completed(text: str, flags: Flags) -> str:
    """A text with every command of ours in it written in full."""

    def full(found: re.Match[str]) -> str:
        words = where(flags)
        if found["verb"] == "status":
            words = [f"-admin={flags.admin}"] if flags.admin else []
        given = {word.partition("=")[0] for word in found["flags"].split()}
        words = [word for word in words if word.partition("=")[0] not in given]
        return " ".join([f"{program()} {found['verb']}{found['job']}{found['flags']}", *words])

    return _COMMAND.sub(full, text)
