"""Completion by shells, and the man page: they know what the program knows, and shells and man take them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.console.console import PROGRAM
from weed_agent.settings import USAGE
from weed_console.completion import NAMES, SHELLS, completion, manual
from weed_console.flags import COMMANDS, OPTIONS
from weed_core.errors import ConfigError
from weed_core.goflags import described, variable
from weed_core.job_types import TASK_TYPES


def printed(*words: str) -> str:
    done = subprocess.run([sys.executable, str(PROGRAM), *words], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_flag_of_the_usage_is_described() -> None:
    found = {one.name: one for one in described(USAGE)}
    assert set(found) == set(re.findall(r"^  -([\w.]+)", USAGE, re.M))
    assert all(one.text for one in found.values())
    assert found["admin"].value == "host:port"
    assert (found["tlsFallback"].value, "[default: 2h]" in found["taskTimeout"].text) == ("", True)
    assert "Flags of weed" not in found["h"].text


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shells_completion_knows_every_command_job_and_flag(shell: str) -> None:
    text = completion([shell], USAGE)
    for word in (*COMMANDS, *TASK_TYPES, *NAMES):
        assert word in text
    for name in (one.name for known in (OPTIONS, described(USAGE)) for one in known):
        assert f"-o {name} " in text if shell == "fish" else f"-{name}" in text
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"NOT TESTED: no {shell} is here to read its completion")
    done = subprocess.run([program, "-n"], input=text, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def completed(line: str) -> list[str]:
    """What bash offers for a line whose last word is being typed."""
    script = f"""
    compopt() {{ :; }}
    {completion(["bash"], USAGE)}
    COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=($COMP_LINE)
    [[ $COMP_LINE == *' ' ]] && COMP_WORDS+=('')
    COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
    _weed_worker
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_jobs_flags_and_values() -> None:
    assert completed("weed_worker pl") == ["plan"]
    assert set(completed("weed_worker plan ")) >= {*TASK_TYPES, "-master=", "-all"}
    assert completed("weed_worker run vac") == ["vacuum"]
    assert completed("weed_worker plan vacuum -volu") == ["-volumeId="]
    assert "garbage_threshold=" in completed("weed_worker run vacuum -set=garbage")
    assert "-forget=" not in completed("weed_worker plan -")
    assert completed("weed_worker -prof") == ["-profile=", "-profile=background", "-profile=balanced", "-profile=fast"]
    assert completed("weed_worker -profile=f") == ["fast"]
    assert completed("weed_worker completion z") == ["zsh"]


def test_another_shell_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"one shell: bash, zsh, fish; did you mean fish\?"):
        completion(["fsh"], USAGE)
    with pytest.raises(ConfigError, match=r"one shell: bash, zsh, fish$"):
        completion([], USAGE)


def test_the_man_page_names_every_flag_and_variable_and_is_sound(tmp_path: Path) -> None:
    text = manual(USAGE, "0.1.0")
    plain = text.replace("\\-", "-")
    for name in (one.name for known in (OPTIONS, described(USAGE)) for one in known):
        assert f"\\fB-{name}\\fR" in plain
        if name not in ("h", "version"):
            assert variable(name) in plain
    for line in text.splitlines():
        assert line
        assert not line.startswith((".", "'")) or re.match(r"\.(TH|SH|TP|PP|B|br|nf|fi)\b", line)
        assert not re.sub(r"\\(f[BIR]|-|e|&)", "", line).count("\\")
    man = shutil.which("man")
    if man is None:
        pytest.skip("NOT TESTED: no man is here to format the page")
    page = tmp_path / "weed_worker.8"
    page.write_text(text)
    done = subprocess.run([man, "--warnings", "-l", str(page)], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_both_are_printed_by_the_program() -> None:
    assert printed("completion", "bash") == completion(["bash"], USAGE)
    assert printed("man").startswith(".TH WEED_WORKER 8")
