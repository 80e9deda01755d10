"""Clusters of five servers for tests of shards: the sandbox, and each real `weed` that is as new."""

from __future__ import annotations

import pytest

from tests.conftest import MODERN, SANDBOX_KIND, clusters
from tests.support.cluster import Cluster

_five = clusters([SANDBOX_KIND, *MODERN], servers=5)


@pytest.fixture
def five(_five: Cluster) -> Cluster:
    """Five empty servers: the 4.44 sandbox, and each real `weed` that new."""
    _five.reset()
    _five.options["sender_seconds"] = 0.0
    return _five


_sandbox_five = clusters(servers=5)


@pytest.fixture
def sandbox_five(_sandbox_five: Cluster) -> Cluster:
    """Five empty servers of the sandbox, which misbehave on demand."""
    _sandbox_five.reset()
    _sandbox_five.options["sender_seconds"] = 0.0
    return _sandbox_five
