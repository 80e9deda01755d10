"""`run balance -volumeId=7 -to=host:port`: one volume moved by hand, with all the proofs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.console.console import Ended
from tests.support.cluster import Cluster
from tests.support.rpcs import changes_seen, see_nothing_yet

Here = Callable[..., Ended]


def test_one_volume_goes_where_a_person_wants_it(cluster: Cluster, here: Here) -> None:
    files = cluster.fill(count=6, size=20_000, servers=[cluster.servers[0]])
    (volume_id,) = files.volume_ids
    cluster.settle()
    target = cluster.servers[2].address
    words = ("balance", f"-volumeId={volume_id}", f"-to={target}", "-set=min_frozen_seconds=0")
    planned = here(cluster, "plan", *words)
    assert planned.status == 0, planned.err
    assert f"run balance -master={cluster.master} -volumeId={volume_id} -to={target}" in planned.out
    ended = here(cluster, "run", *words, "-yes")
    assert ended.status == 0, ended.out + ended.err
    cluster.settle()
    assert [server.address for server in cluster.locations(volume_id)] == [target]
    cluster.check(files)
    again = here(cluster, "plan", *words)
    assert "has it already" in again.out


def test_what_may_not_hold_it_is_refused_with_the_reason(sandbox_cluster: Cluster, here: Here) -> None:
    cluster = sandbox_cluster
    a, b, _c = cluster.servers
    (volume_id,) = cluster.fill(count=4, servers=[a, b], replication="001").volume_ids
    cluster.settle()
    see_nothing_yet(cluster)
    refused = here(cluster, "run", "balance", f"-volumeId={volume_id}", f"-to={b.address}", "-yes")
    assert (refused.status, f"{b.address} has it already" in refused.out) == (1, True)
    unknown = here(cluster, "plan", "balance", f"-volumeId={volume_id}", "-to=127.0.0.99:8080")
    assert (unknown.status, "there is no such volume server; there are" in unknown.err) == (2, True)
    assert set(changes_seen(cluster)) <= {"LeaseAdminToken", "ReleaseAdminToken"}


@pytest.mark.parametrize("flag", ["-quiet", "-json"])
def test_a_quiet_run_says_nothing_where_all_is_done(sandbox_cluster: Cluster, here: Here, flag: str) -> None:
    files = sandbox_cluster.fill(count=8, size=20_000)
    sandbox_cluster.delete(files.of(files.volume_ids[0])[:6])
    sandbox_cluster.settle()
    ended = here(sandbox_cluster, "run", "vacuum", "-yes", flag)
    assert ended.status == 0
    if flag == "-quiet":
        assert (ended.out, ended.err) == ("", "")
    else:
        assert [job["outcome"] for job in ended.json()["jobs"]] == ["done"]
