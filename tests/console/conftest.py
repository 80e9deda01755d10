"""Offers `console`: the one-shot commands on the test's cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.console.console import Console, Ended, Running
from tests.support.cluster import Cluster
from weed_console import commands


@pytest.fixture
def console_of(tmp_path: Path) -> Callable[[Cluster | None], Console]:
    """Commands on a given cluster, or none."""
    return lambda cluster: Console(cluster, tmp_path / "console")


@pytest.fixture
def here(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Ended]]:
    """Commands run inside of the test's process, which is quicker: here(cluster, "plan", "vacuum")."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    root = logging.getLogger()
    handlers, level = root.handlers, root.level

    def run(cluster: Cluster, *words: str) -> Ended:
        capsys.readouterr()
        own = [f"-workingDir={tmp_path}"] if words[0] in ("run", "undo", "doctor") else []
        status = commands.main([words[0], f"-master={cluster.master}", *own, *words[1:]])
        told = capsys.readouterr()
        return Ended(status, told.out, told.err)

    yield run
    root.handlers, root.level = handlers, level


@pytest.fixture
def started() -> Iterator[Callable[[Running], Running]]:
    """Has a command that was started end with the test."""
    all_started: list[Running] = []

    def keep(running: Running) -> Running:
        all_started.append(running)
        return running

    yield keep
    for running in all_started:
        running.kill()
