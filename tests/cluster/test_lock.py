"""The cluster's exclusive lock: one holder at a time, kept by renewing it, and the other one is told who has it."""

from __future__ import annotations

import time

import pytest

from tests.support import eventually
from tests.support.cluster import TIMING, Cluster
from weed_cluster.lock import cluster_lock
from weed_core.errors import Busy
from weed_safety.lease import hold_all, holder_of


def test_who_holds_the_lock_is_told_to_the_next(cluster: Cluster) -> None:
    told = pytest.raises(Busy, match=r"worker one.*nothing was touched")
    one = cluster_lock(cluster.clients(), "worker one")
    with one, told, cluster_lock(cluster.clients(), "worker two"):
        pass
    with cluster_lock(cluster.clients(), "worker two"):
        pass


def test_of_several_volumes_all_are_held_or_none(cluster: Cluster) -> None:
    ctx = cluster.context()
    with hold_all(ctx, [5, 3, 5]) as held:
        assert [(volume_id, bool(lease)) for volume_id, lease in held.items()] == [(3, True), (5, True)]
        assert [bool(holder_of(ctx.cluster, volume_id)) for volume_id in (3, 4, 5)] == [True, False, True]
        with pytest.raises(Busy, match="volume 5 is being worked on by"), hold_all(cluster.context(), [4, 5]):
            pass
        assert not holder_of(ctx.cluster, 4)
    assert not any(holder_of(ctx.cluster, volume_id) for volume_id in (3, 5))
    with hold_all(ctx, []) as nothing:
        assert nothing == {}


def test_a_patient_one_gets_the_lock_when_it_is_free(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TIMING, "lock", 0.05)
    first = cluster_lock(cluster.clients(), "worker one")
    first.__enter__()
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            first.__exit__(None, None, None)

    with cluster_lock(cluster.clients(), "worker two", patience=5.0, wait=wait) as held:
        assert held.holder == ""
    assert len(waits) == 3


def test_a_lock_that_is_given_back_in_mid_renewal_is_free(
    sandbox_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TIMING, "renew", 0.2)
    clients, faults = sandbox_cluster.clients(), sandbox_cluster.faults(sandbox_cluster.master)

    def renewals() -> int:
        return sum(method == "LeaseAdminToken" for method, _order in sandbox_cluster.calls(sandbox_cluster.master))

    with cluster_lock(clients, "worker one"):
        faults.slow("LeaseAdminToken", 0.5, when="after")
        asked = renewals()
        eventually(lambda: renewals() > asked, pause=0.01)  # it is on its way
    assert sandbox_cluster.locks(sandbox_cluster.master) == []


def test_a_lock_that_is_held_for_long_is_renewed(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TIMING, "renew", 0.5)
    with cluster_lock(cluster.clients(), "worker one") as held:
        ends = time.monotonic() + 11  # the master gives it away after 10 s without a renewal
        while time.monotonic() < ends:
            with pytest.raises(Busy), cluster_lock(cluster.clients(), "worker two"):
                pass
            time.sleep(0.5)
        assert held.holder == ""
