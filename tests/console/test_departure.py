"""`doctor -node`: may it be stopped, may it be removed for good, with the volumes behind each answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proto_gen.worker_pb2 import TaskParams, TaskTarget
from tests.console.console import Ended
from tests.support import eventually
from tests.support.cluster import Cluster
from weed_core.model import Job
from weed_safety.lease import hold
from weed_tasks import erasure_coding

Here = Callable[..., Ended]


def test_a_server_may_go_where_all_of_it_is_elsewhere_and_else_its_volumes_are_listed(
    make_cluster: Callable[..., Cluster], here: Here
) -> None:
    cluster = make_cluster(servers=4, racks=["dc1/r1", "dc1/r1", "dc1/r2", "dc2/r3"])
    first, second, third, _fourth = cluster.servers
    (alone,) = cluster.fill(3, servers=[first]).volume_ids
    (pair,) = cluster.fill(3, replication="001", servers=[first, second]).volume_ids
    cluster.settle()

    ended = here(cluster, "doctor", f"-node={first.address}", "-json")
    told = ended.json()
    assert ended.status == 1
    assert (told["nodes"], told["may_stop"], told["may_remove"]) == ([str(first.address)], False, False)
    assert (told["only_copies"], told["fewer_copies"]) == ([alone], [pair])

    ended = here(cluster, "doctor", f"-node={second.address}")
    assert ended.status == 5
    assert f"{second.address}: may I stop it? yes" in ended.out
    assert "remove it for good? no" in ended.out
    assert f"volume {pair} would have fewer copies than it should" in ended.out

    told = here(cluster, "doctor", f"-node={first.address},{second.address}", "-json").json()
    assert told["only_copies"] == [alone, pair], "together they hold every copy"
    assert here(cluster, "doctor", "-node=r1", "-json").json() == told, "a rack is all of its servers"
    assert here(cluster, "doctor", f"-node={third.address},dc2/r3").status == 0
    wrong = here(cluster, "doctor", "-node=dc1/r9")
    assert wrong.status == 2
    assert "no such volume server or rack" in wrong.err


def test_a_server_that_does_not_answer_is_not_counted_on(sandbox_cluster: Cluster, here: Here) -> None:
    first, second = sandbox_cluster.servers[:2]
    (pair,) = sandbox_cluster.fill(3, replication="001", servers=[first, second]).volume_ids
    sandbox_cluster.settle()
    sandbox_cluster.faults(second).fail("VolumeServerStatus", nth=0, code="UNAVAILABLE", text="gone")
    told = here(sandbox_cluster, "doctor", f"-node={first.address}", "-json").json()
    assert (told["only_copies"], told["silent"]) == ([pair], [str(second.address)])


@pytest.mark.parametrize(("lost", "field"), [((), "ec_at_edge"), ((13,), "ec_unreadable")])
def test_shards_that_would_be_left_are_counted(
    make_cluster: Callable[..., Cluster], here: Here, lost: tuple[int, ...], field: str
) -> None:
    cluster = make_cluster(servers=4)
    (volume_id,) = cluster.fill(count=10, size=200_000, servers=cluster.servers[:1]).volume_ids
    places = [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10), (11, 12, 13)]
    targets = [
        TaskTarget(node=str(server.address), shard_ids=shards) for server, shards in zip(cluster.servers, places)
    ]
    erasure_coding.run(Job("e", "erasure_coding", TaskParams(volume_id=volume_id, targets=targets)), cluster.context())
    if lost:
        last = cluster.volume(cluster.servers[3])
        last.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=lost)
        last.volume_ec_shards_delete(volume_id=volume_id, shard_ids=lost)

    def shards() -> int:
        held = cluster.topology()
        return 0 if volume_id in held.volumes else sum(len(one.shard_ids) for one in held.holdings(volume_id, ""))

    eventually(lambda: shards() == 14 - len(lost), 30)
    ended = here(cluster, "doctor", f"-node={cluster.servers[0].address}", "-json")
    assert ended.json()[field] == [volume_id]
    assert ended.status == (1 if lost else 5)
    ended = here(cluster, "doctor", f"-node={cluster.servers[2].address}", "-json")
    assert ended.json()["ec_at_edge" if lost else "ec_degraded"] == [volume_id]
    assert ended.status == 5


def test_a_job_under_way_speaks_against_a_stop(cluster: Cluster, here: Here) -> None:
    server, other = cluster.servers[:2]
    (volume_id,) = cluster.fill(3, replication="001", servers=[server, other]).volume_ids
    cluster.settle()
    with hold(cluster.context(), volume_id):
        ended = here(cluster, "doctor", f"-node={server.address}")
        assert ended.status == 1
        assert f"volume {volume_id} has a job under way" in ended.out
    assert here(cluster, "doctor", f"-node={server.address}").status == 5
