"""The systemd unit: well-formed, draining when stopped, and hardened."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from weed_agent import settings
from weed_agent.settings import UNDO_TIME
from weed_core import goflags

UNIT = Path(__file__).parents[2] / "deploy" / "weed-worker.service"
LINES = [line for line in UNIT.read_text().splitlines() if "=" in line and not line.startswith("#")]
SETTINGS = dict(line.split("=", 1) for line in LINES)


def seconds(text: str) -> float:
    """A systemd time span of hours and minutes."""
    return sum(float(n) * {"h": 3600, "min": 60, "s": 1}[unit] for n, unit in re.findall(r"(\d+)\s*(h|min|s)", text))


def test_stopping_lets_tasks_finish_and_undo() -> None:
    assert SETTINGS["KillSignal"] == "SIGTERM"
    assert SETTINGS["KillMode"] == "mixed"
    grace = goflags.parse_duration(settings.flags([])["grace"])
    assert seconds(SETTINGS["TimeoutStopSec"]) > grace + UNDO_TIME


def test_reloading_sends_the_signal_that_rereads() -> None:
    assert SETTINGS["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_a_configuration_error_is_not_tried_again() -> None:
    assert SETTINGS["Restart"] == "on-failure"
    assert "2" in SETTINGS["RestartPreventExitStatus"].split()


def test_the_command_line_is_one_that_the_worker_reads() -> None:
    program, *flags = SETTINGS["ExecStart"].split()
    assert program.endswith("weed_worker.pyz")
    assert goflags.normalise(flags, settings.USAGE, settings.WEED_FLAGS) == [f"-{flag}" for flag in flags]
    assert f"-workingDir=/var/lib/{SETTINGS['StateDirectory']}" in flags


def test_it_runs_unprivileged_and_hardened(tmp_path: Path) -> None:
    assert SETTINGS["User"] not in ("", "root")
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on this host")
    program = tmp_path / "weed_worker.pyz"
    program.touch(mode=0o755)
    unit = tmp_path / "weed-worker.service"
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/weed_worker.pyz", str(program)))
    checked = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    rated = subprocess.run(
        [analyze, "security", "--offline=yes", "--threshold=20", unit], capture_output=True, text=True, check=False
    )
    assert rated.returncode == 0, rated.stdout
