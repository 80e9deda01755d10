"""The cluster's exclusive lock: one holder at a time, kept by renewing it, and the other one is told who has it."""

from __future__ import annotations

import time

import pytest

from tests.support.cluster import Cluster
from weed_cluster import lock
from weed_cluster.lock import cluster_lock
from weed_core.errors import Busy


def test_who_holds_the_lock_is_told_to_the_next(cluster: Cluster) -> None:
    told = pytest.raises(Busy, match=r"worker one.*nothing was touched")
    one = cluster_lock(cluster.clients(), "worker one", "vacuum of volume 7")
    with one, told, cluster_lock(cluster.clients(), "worker two", "balance"):
        pass
    with cluster_lock(cluster.clients(), "worker two", "balance"):
        pass


def test_a_patient_one_gets_the_lock_when_it_is_free(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RETRY", 0.05)
    first = cluster_lock(cluster.clients(), "worker one", "vacuum")
    first.__enter__()
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            first.__exit__(None, None, None)

    with cluster_lock(cluster.clients(), "worker two", "balance", patience=5.0, wait=wait) as held:
        assert held.holder == ""
    assert len(waits) == 3


def test_a_lock_that_is_held_for_long_is_renewed(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEW", 0.5)
    with cluster_lock(cluster.clients(), "worker one", "vacuum") as held:
        ends = time.monotonic() + 11  # the master gives it away after 10 s without a renewal
        while time.monotonic() < ends:
            with pytest.raises(Busy), cluster_lock(cluster.clients(), "worker two", "balance"):
                pass
            time.sleep(0.5)
        assert held.holder == ""
