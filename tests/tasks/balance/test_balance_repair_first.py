"""A look for an admin proposes fewer moves while a copy is missing; a person's plan has them all."""

from __future__ import annotations

from dataclasses import replace

from tests.support import eventually
from tests.support.cluster import Cluster
from weed_core.model import DetectionRequest
from weed_tasks import balance
from weed_tasks.filters import look


def test_a_missing_copy_goes_before_most_moves(cluster: Cluster) -> None:
    first, second = cluster.servers[:2]
    cluster.fill(2, volumes=12, servers=[first])
    (lost,) = cluster.fill(2, servers=[first, second], replication="001").volume_ids
    cluster.settle()
    request = DetectionRequest("balance", {"batch_size": 1, "imbalance_threshold": 0.0}, ())
    all_of_them = len(look(balance, request, cluster.context()).proposals)
    assert all_of_them >= 4
    cluster.volume(second).volume_delete(volume_id=lost)
    eventually(lambda: cluster.locations(lost) == [first])
    cluster.settle()
    fewer = look(balance, request, cluster.context())
    assert 1 <= len(fewer.proposals) <= all_of_them // 3
    assert fewer.summary.startswith("1 volume lacks copies or shards: ")
    assert len(look(balance, replace(request, is_single=True), cluster.context()).proposals) >= all_of_them - 1
