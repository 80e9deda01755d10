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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import hypothesis
import pytest

from tests.support.cluster import ERAS, Cluster, Kind, real_kinds, start_cluster
from weed_sandbox.launcher import Launcher

hypothesis.settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")

Scope = Literal["session", "module"]

SANDBOX_KIND = Kind()
REAL_KINDS = real_kinds()
MODERN = [kind for kind in REAL_KINDS if kind.era == "4.44"]


def _params(kinds: Sequence[Kind]) -> list[Any]:
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


def clusters(kinds: Sequence[Kind] = (), scope: Scope = "module", **wishes: Any) -> Any:
    """Return a fixture: a cluster of the sandbox, or of each of these kinds. For `wishes` see start_cluster()."""

    @pytest.fixture(scope=scope, params=_params(kinds) or None)
    def started(
        request: pytest.FixtureRequest, launcher: Launcher, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Cluster]:
        kind = request.param if kinds else SANDBOX_KIND
        cluster = start_cluster(kind, launcher, tmp_path_factory.mktemp(str(kind)), **wishes)
        yield cluster
        cluster.close()

    return started


_cluster = clusters([SANDBOX_KIND, *REAL_KINDS], scope="session")
_sandbox_cluster = clusters(scope="session")
_any_cluster = clusters([*(Kind(era) for era in ERAS), *REAL_KINDS], scope="session")


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


@pytest.fixture(params=_params(MODERN))
def make_real_cluster(
    request: pytest.FixtureRequest, launcher: Launcher, tmp_path: Path
) -> Iterator[Callable[..., Cluster]]:
    """As make_cluster, of real SeaweedFS alone, releases that speak the plugin dialect. Mark the test real."""
    yield from _factory(request.param, launcher, tmp_path)
