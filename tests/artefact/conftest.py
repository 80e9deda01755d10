"""Builds the file once per session, with the same command as `make pyz`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def build(root: Path, output: Path, architecture: str = "x86_64") -> Path:
    """Build the file from the sources in `root`; the wheels come from pip, at most once per state of the pins."""
    command: list[str | Path] = [root / "build_zipapp.sh", architecture, output]
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, cwd=output.parent, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="session")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file as it is shipped for x86_64."""
    return build(ROOT, tmp_path_factory.mktemp("artefact") / "weed_worker.pyz")


@pytest.fixture(scope="session")
def aarch64_pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file as it is shipped for aarch64."""
    return build(ROOT, tmp_path_factory.mktemp("artefact") / "weed_worker-aarch64.pyz", "aarch64")
