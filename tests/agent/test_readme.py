"""What the README says is so: its flags exist, its commands run, its log lines are the program's."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.agent import PROGRAM, Agent, flags_for
from tests.support.cluster import Cluster
from weed_agent import settings
from weed_core import job_types

ROOT = PROGRAM.parent
README = (ROOT / "README.md").read_text()
SESSION = README.split("## A maintenance session")[1].split("```")[1]
COMMANDS = [line.split("#")[0].strip() for line in SESSION.splitlines() if line.startswith("python3 ")]


def test_the_table_of_flags_names_every_flag_and_no_other() -> None:
    table = README.split("## Flags")[1].split("## Capabilities")[0]
    told = {name for row in re.findall(r"^\| (`-.*?) \|", table, re.M) for name in re.findall(r"`-([\w.]+)`", row)}
    known = set(re.findall(r"^  -([\w.]+)", settings.USAGE, re.M))
    assert told == known - {"options"}


def test_the_defaults_in_the_table_are_the_programs() -> None:
    table = README.split("## Flags")[1].split("## Capabilities")[0]
    defaults = settings.flags([])
    for names, default in re.findall(r"^\| (`-[^|]*?) \| `?([^|`]+?)`? \|", table, re.M):
        name = re.findall(r"`-(\w+)`", names)[0]
        if name in defaults and "," not in names:
            assert default == defaults[name], name


def test_every_capability_and_alias_in_the_table_is_understood() -> None:
    table = README.split("## Capabilities")[1].split("##")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.M)
    assert [name for name, _ in rows] == sorted(job_types.TASK_TYPES, key=[name for name, _ in rows].index)
    for name, aliases in rows:
        for alias in re.findall(r"`([\w.]+)`", aliases):
            assert settings.parse_task_types(alias) == (name,)


@pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(command.split()[2:4]) for command in COMMANDS])
def test_each_command_of_a_maintenance_session_runs(
    sandbox_cluster: Cluster, start_agent: Callable[..., Agent], tmp_path: Path, command: str
) -> None:
    files = sandbox_cluster.fill(count=6, size=20_000, volumes=3, servers=[sandbox_cluster.servers[0]])
    sandbox_cluster.delete(files.of(files.volume_ids[0])[:4])
    sandbox_cluster.settle()
    admin = sandbox_cluster.start_admin("plugin")
    start_agent(flags_for(admin)).says("registered as")
    words = [
        word.replace("10.0.0.1:9333", str(sandbox_cluster.master)).replace("10.0.0.1:23646", str(admin.address))
        for word in shlex.split(command)[2:]
    ]
    words = [f"-to={sandbox_cluster.servers[1].address}" if word.startswith("-to=") else word for word in words]
    words = [f"-volumeId={files.volume_ids[0]}" if word == "-volumeId=7" else word for word in words]
    extra = [f"-workingDir={tmp_path}"] if words[0] in ("run", "doctor") else []
    extra += ["-yes"] if words[0] == "run" and "-dryRun" not in words else []
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *words, *extra], capture_output=True, text=True, timeout=100, cwd=ROOT
    )
    assert done.returncode in ((0, 1) if words[0] == "doctor" else (0,)), done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    sandbox_cluster.check(files)


@pytest.mark.parametrize("quoted", re.findall(r"`((?:WARNING|ERROR|weed_worker:|not started:|outside)[^`]*)`", README))
def test_quoted_log_lines_are_the_programs(quoted: str) -> None:
    source = "\n".join(path.read_text() for path in [*ROOT.glob("weed_*.py"), *ROOT.glob("weed_*/**/*.py")])
    ours = re.sub(r"failed to connect.*|Connection refused", "", quoted)  # the rest is gRPC's own words
    constant = re.split(r"\.\.\.|host:\d+|WARNING|ERROR|weed_worker:|\d\d:\d\d-\d\d:\d\d|[()]|vacuum", ours)
    words = [part.strip(" :;") for part in constant if len(part.strip(" :;")) > 8]
    joined = re.sub(r'"\s*\n\s*f?"', "", source)
    missing = [part for part in words if part not in joined]
    assert not missing, f"{quoted!r}: {missing}"
