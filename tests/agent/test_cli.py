"""The command line of the process itself: what it prints, and its exit status before anything is dialled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import weed_worker
from tests.agent.agent import PROGRAM


def run(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the worker with these words until it ends by itself."""
    return subprocess.run(
        [sys.executable, str(PROGRAM), *words],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def test_version_and_help_are_printed_and_end_with_0() -> None:
    assert run("-version").stdout == f"weed_worker {weed_worker.__version__}\n"
    for flag in ("-h", "-help", "--help"):
        told = run(flag)
        assert told.returncode == 0
        assert "-capabilities=<types>" in told.stdout
        assert "-maxConcurrent=<n>" in told.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-capabilites=vacuum"], "unknown flag -capabilites"),
        (["-capabilities=vacumm"], "unknown task type 'vacumm'"),
        (["-heartbeat=soon"], "'soon' is no duration"),
        (["-workingDir=/nonexistent"], "is not a directory"),
        (["-admin=nowhere"], "'nowhere' is no server address"),
        (["-id=../x"], "no worker id"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_status_2(tmp_path: Path, words: list[str], says: str) -> None:
    ended = run(f"-workingDir={tmp_path}", *words)
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = [line for line in ended.stderr.splitlines() if " WARNING " not in line]
    assert line.startswith("weed_worker: ")
    assert says in line


def test_half_configured_tls_is_refused_naming_the_file(tmp_path: Path) -> None:
    (tmp_path / "security.toml").write_text('[grpc]\nca = "/nonexistent/ca.crt"\n[grpc.worker]\ncert = "a.crt"\n')
    ended = run(f"-workingDir={tmp_path}", f"-config_dir={tmp_path}")
    assert ended.returncode == 2
    assert "weed_worker: " in ended.stderr
    assert "security.toml" in ended.stderr or "grpc" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_directory_that_is_not_writable_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        # Root may write anywhere; a file in place of the directory is refused for every user.
        blocked = tmp_path / "blocked"
        blocked.write_text("")
    else:
        blocked = tmp_path / "sealed"
        blocked.mkdir(mode=0o500)
    ended = run(f"-workingDir={blocked}")
    assert ended.returncode == 2
    assert str(blocked) in ended.stderr


def test_a_line_that_names_only_what_this_worker_lacks_is_refused(tmp_path: Path) -> None:
    ended = run("-logtostderr=true", "-v=1", "worker", f"-workingDir={tmp_path}", "-jobType=iceberg")
    assert ended.returncode == 2
    assert "iceberg_maintenance" in ended.stderr
