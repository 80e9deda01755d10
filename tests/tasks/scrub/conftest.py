"""Clusters of five servers for tests of shards: the sandbox of the oldest and the newest era, and each real `weed`."""

from __future__ import annotations

import pytest

from tests.conftest import REAL_KINDS, SANDBOX_KIND, clusters
from tests.support.cluster import ERAS, Cluster, Kind

_five = clusters([Kind(ERAS[0]), SANDBOX_KIND, *REAL_KINDS], servers=5)
_sandbox_five = clusters(servers=5)


@pytest.fixture
def five(_five: Cluster) -> Cluster:
    """Five empty servers."""
    _five.reset()
    _five.options["sender_seconds"] = 0.0  # no sender outlives its test
    return _five


@pytest.fixture
def sandbox_five(_sandbox_five: Cluster) -> Cluster:
    """Five empty servers of the sandbox."""
    _sandbox_five.reset()
    return _sandbox_five
