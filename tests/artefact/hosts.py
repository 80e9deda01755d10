"""The Pythons of this machine, and hosts that make a start hard: namespaces, so that nothing outlives a test."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

SUPPORTED = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
TOO_OLD = ("2.7", "3.6", "3.7", "3.8", "3.9")
TIMEOUT = 60
UNMAPPED_UID = 54321
"""A uid without a passwd entry."""


@functools.cache
def find_python(version: str) -> str | None:
    """Return the interpreter of a version, from PATH, pyenv or what runs the tests; None where the machine has none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates: list[str | Path] = list(pyenv.glob(f"versions/{version}.*/bin/python"))
    on_path = shutil.which(f"python{version}")
    candidates.append(getattr(sys, "_base_executable", sys.executable))
    for candidate in [on_path, *candidates] if on_path else candidates:
        script = "import sys; sys.stdout.write('%d.%d' % sys.version_info[:2])"
        answer = subprocess.run([candidate, "-c", script], capture_output=True, text=True, timeout=TIMEOUT)
        if answer.stdout == version:
            return str(candidate)
    return None


def python(version: str) -> str:
    """Return the interpreter of a version; skip the test, naming the version, where the machine has none."""
    found = find_python(version)
    if found is None:
        pytest.skip(f"this machine has no Python {version}")
    return found


def any_python() -> str:
    """Return one supported interpreter; the tests themselves run on one."""
    return next(found for found in map(find_python, SUPPORTED) if found)


Run = subprocess.CompletedProcess[str]


def run(command: Sequence[str | Path], environment: Mapping[str, str | Path]) -> Run:
    """Run a command with nothing in its environment but PATH and what is given; within a minute."""
    return subprocess.run(
        [str(word) for word in command],
        env={"PATH": os.environ["PATH"]} | {name: str(value) for name, value in environment.items()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


def as_unknown_user(command: Sequence[str | Path]) -> list[str | Path]:
    """Wrap a command so that it sees itself as a uid without a passwd entry; skip where the kernel forbids it."""
    wrapped = ["unshare", "--user", f"--map-user={UNMAPPED_UID}", f"--map-group={UNMAPPED_UID}"]
    require(wrapped)
    return [*wrapped, *command]


def shared_python() -> str:
    """Return a supported interpreter that every user of this machine can run; skip where it has none."""
    found = [shutil.which(f"python{version}", path="/usr/local/bin:/usr/bin") for version in SUPPORTED]
    if not any(found):
        pytest.skip("this machine has no supported Python in /usr")
    return next(filter(None, found))


def on_host_where(setup: str, command: Sequence[str | Path], after: str = "true") -> list[str | Path]:
    """Wrap a command so that it runs in a mount namespace of its own, between the shell lines `setup` and `after`.

    The exit status is the command's. Skips where the kernel forbids such namespaces.
    """
    wrapped = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    require([*wrapped, "mount -t tmpfs tmpfs /mnt"], probe=())
    return [*wrapped, f'set -e; {setup}; set +e; "$@"; status=$?; {after}; exit $status', "sh", *command]


@functools.cache
def _works(command: tuple[str, ...]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=TIMEOUT).returncode == 0
    except FileNotFoundError:
        return False


def require(command: Sequence[str], probe: Sequence[str] = ("true",)) -> None:
    """Skip the test where the kernel, or the lack of util-linux, forbids the namespaces that it needs."""
    if not _works((*command, *probe)):
        pytest.skip(f"this machine does not allow: {' '.join(command)}")


def assert_refused(result: Run, *words: str) -> None:
    """Check that the start ended in one line on standard error that has the words, and exit status 70."""
    lines = result.stderr.splitlines()
    assert (result.returncode, result.stdout, len(lines)) == (70, "", 1), result
    assert lines[0].startswith("weed_worker: "), result
    missing = [word for word in words if word not in lines[0]]
    assert not missing, result


def assert_started(result: Run) -> None:
    """Check that the agent itself answered, and nothing was said on standard error."""
    assert (result.returncode, result.stderr) == (0, ""), result
    assert result.stdout.startswith("weed_worker "), result
