"""Patches gevent in as the agent does; offers `cluster`, `sandbox_cluster`, `any_cluster` and `make_cluster`.

The sandbox takes part always; real SeaweedFS where WEED names a binary (or several, separated by colons).
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from gevent import monkey

monkey.patch_all()

import gevent

gevent.config.threadpool_size = 100  # before the hub's pool is made: each blocking grpc call holds one of its threads

import grpc.experimental.gevent

grpc.experimental.gevent.init_gevent()

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support.cluster import ERAS, Cluster, Kind, real_kinds, start_cluster
from weed_sandbox.launcher import Launcher

hypothesis.settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")

SANDBOX_KIND = Kind()
REAL_KINDS = real_kinds()


def _params(kinds: list[Kind]) -> list[Any]:
    return [pytest.param(kind, id=str(kind), marks=[pytest.mark.real] if kind.binary else []) for kind in kinds]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Have each test draw the same each time."""
    random.seed(item.nodeid)


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    """What starts server processes, and ends them all."""
    launcher = Launcher()
    yield launcher
    launcher.close()


def _session_cluster(kind: Kind, launcher: Launcher, directories: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = start_cluster(kind, launcher, directories.mktemp(str(kind)))
    yield cluster
    cluster.close()


@pytest.fixture(scope="session", params=_params([SANDBOX_KIND, *REAL_KINDS]))
def _cluster(
    request: pytest.FixtureRequest, launcher: Launcher, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    yield from _session_cluster(request.param, launcher, tmp_path_factory)


@pytest.fixture(scope="session")
def _sandbox_cluster(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from _session_cluster(SANDBOX_KIND, launcher, tmp_path_factory)


@pytest.fixture(scope="session", params=_params([*(Kind(era) for era in ERAS), *REAL_KINDS]))
def _any_cluster(
    request: pytest.FixtureRequest, launcher: Launcher, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    yield from _session_cluster(request.param, launcher, tmp_path_factory)


@pytest.fixture
def cluster(_cluster: Cluster) -> Cluster:
    """Three empty volume servers: the 4.44 sandbox, and each real `weed`."""
    _cluster.reset()
    return _cluster


@pytest.fixture
def sandbox_cluster(_sandbox_cluster: Cluster) -> Cluster:
    """Three empty volume servers of the 4.44 sandbox, for tests that need faults or the record of calls."""
    _sandbox_cluster.reset()
    return _sandbox_cluster


@pytest.fixture
def any_cluster(_any_cluster: Cluster) -> Cluster:
    """Three empty volume servers: the sandbox of each era, and each real `weed`."""
    _any_cluster.reset()
    return _any_cluster


def _factory(default: Kind, launcher: Launcher, directory: Path) -> Iterator[Callable[..., Cluster]]:
    made: list[Cluster] = []

    def make(era: str = "", **wishes: Any) -> Cluster:
        kind = default
        if era and era != kind.era:
            if kind.binary:
                pytest.skip(f"this test is about {era}, the binary is {kind.era}")
            kind = Kind(era)
        cluster = start_cluster(kind, launcher, directory / f"cluster{len(made)}", **wishes)
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture(params=_params([SANDBOX_KIND, *REAL_KINDS]))
def make_cluster(
    request: pytest.FixtureRequest, launcher: Launcher, tmp_path: Path
) -> Iterator[Callable[..., Cluster]]:
    """Start clusters of one's own: make_cluster(servers=4, racks=["r1", "r2"], ...), see
    tests.support.cluster.start_cluster.

    With era="3.97" the sandbox behaves as that one; a real `weed` of another era is left out, as skipped.
    """
    yield from _factory(request.param, launcher, tmp_path)


@pytest.fixture
def make_sandbox_cluster(launcher: Launcher, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """As make_cluster, of the sandbox alone."""
    yield from _factory(SANDBOX_KIND, launcher, tmp_path)
