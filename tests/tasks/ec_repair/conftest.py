"""Clusters of six servers for tests of repairs: the 4.44 sandbox, and each real `weed` that new."""

from __future__ import annotations

import pytest

from tests.conftest import MODERN, SANDBOX_KIND, clusters
from tests.support.cluster import Cluster

_six = clusters([SANDBOX_KIND, *MODERN], servers=6, racks=["r1", "r2", "r3"])


_sandbox_six = clusters(servers=6, racks=["r1", "r2", "r3"])


@pytest.fixture
def six(_six: Cluster) -> Cluster:
    """Six empty servers in three racks."""
    _six.reset()
    _six.options["sender_seconds"] = 0.0  # no sender outlives its test
    return _six


@pytest.fixture
def sandbox_six(_sandbox_six: Cluster) -> Cluster:
    """Six empty servers of the sandbox."""
    _sandbox_six.reset()
    _sandbox_six.options["sender_seconds"] = 0.0
    return _sandbox_six
