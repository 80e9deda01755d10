"""A volume that was written to lately refuses writes for a while before a replica of it is deleted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from proto_gen import worker_pb2
from tests.support import eventually, free_port
from tests.support.cluster import Cluster, request
from tests.support.erasure_coding import assert_encoded, job
from weed_core.model import Job
from weed_safety.context import Context
from weed_tasks import balance, erasure_coding

SECONDS = 4


@dataclass
class Outside:
    """The waits without a slot: how long each was, and what a look at its begin and end told."""

    look: Callable[[], object]
    waits: list[tuple[float, object, object]] = field(default_factory=list)

    @contextmanager
    def slot(self) -> Iterator[None]:
        began, before = time.monotonic(), self.look()
        yield
        self.waits.append((time.monotonic() - began, before, self.look()))

    def context(self, cluster: Cluster) -> Context:
        return replace(cluster.context(), outside_slot=self.slot)


def is_shut(cluster: Cluster, volume_id: int) -> bool:
    """Whether every replica is there and refuses writes."""
    replicas = cluster.topology().replicas(volume_id)
    return bool(replicas) and all(
        cluster.volume(replica.server).volume_status(volume_id=volume_id).is_read_only for replica in replicas
    )


@pytest.fixture
def five(make_cluster: Callable[..., Cluster]) -> Cluster:
    return make_cluster(servers=5)


def test_an_encode_deletes_replicas_only_after_they_refused_writes_for_a_while(five: Cluster) -> None:
    files = five.fill(count=5, replication="001", servers=five.servers[:2])
    (volume_id,) = files.volume_ids
    five.age(volume_id, 0)
    outside = Outside(lambda: is_shut(five, volume_id))
    order = replace(job(five, volume_id), parameters={"min_frozen_seconds": SECONDS})

    began = time.monotonic()
    erasure_coding.run(order, outside.context(five))

    assert time.monotonic() - began >= SECONDS
    assert [(before, after) for _seconds, before, after in outside.waits] == [(True, True)]
    assert_encoded(five, files)


@pytest.mark.parametrize(("age", "seconds"), [(30, 20), (0, 0)], ids=["quiet for longer", "no wait asked for"])
def test_an_encode_waits_for_nothing_where_no_upload_can_be_late(five: Cluster, age: float, seconds: int) -> None:
    files = five.fill(count=5, servers=five.servers[:1])
    (volume_id,) = files.volume_ids
    five.age(volume_id, age)
    outside = Outside(lambda: None)
    order = replace(job(five, volume_id), parameters={"min_frozen_seconds": seconds})
    erasure_coding.run(order, outside.context(five))
    assert outside.waits == []
    assert_encoded(five, files)


def test_a_move_deletes_its_source_only_after_it_refused_writes_for_a_while(five: Cluster) -> None:
    a, b = five.servers[:2]
    files = five.fill(count=5, servers=[a])
    (volume_id,) = files.volume_ids
    five.age(volume_id, 0)
    outside = Outside(lambda: five.volume(a).volume_status(volume_id=volume_id).is_read_only)
    params = worker_pb2.TaskParams(
        volume_id=volume_id,
        sources=[worker_pb2.TaskSource(node=str(a.address))],
        targets=[worker_pb2.TaskTarget(node=str(b.address))],
    )

    began = time.monotonic()
    balance.run(Job("job", "balance", params, config={"min_frozen_seconds": SECONDS}), outside.context(five))

    assert time.monotonic() - began >= SECONDS
    assert [(before, after) for _seconds, before, after in outside.waits] == [(True, True)]
    assert five.locations(volume_id) == [b]
    five.check(files)


def test_a_batch_gives_its_slot_back_while_all_its_moves_only_wait(five: Cluster) -> None:
    a, b, *_ = five.servers
    files = five.fill(count=5, volumes=3, servers=[a])
    for volume_id in files.volume_ids:
        five.age(volume_id, 0)
    outside = Outside(lambda: [is_shut(five, volume_id) for volume_id in files.volume_ids])
    moves = [
        worker_pb2.BalanceMoveSpec(volume_id=volume_id, source_node=str(a.address), target_node=str(b.address))
        for volume_id in files.volume_ids
    ]
    params = worker_pb2.TaskParams(balance_params=worker_pb2.BalanceTaskParams(moves=moves, max_concurrent_moves=3))

    balance.run(Job("job", "balance", params, config={"min_frozen_seconds": 3 * SECONDS}), outside.context(five))

    # More than two of a server's moves are under way: those that wait let others have it.
    assert [before for _seconds, before, _after in outside.waits][:1] == [[True] * 3]
    assert all(five.locations(volume_id) == [b] for volume_id in files.volume_ids)
    five.check(files)


def test_uploads_that_still_arrive_put_the_deletion_off_where_servers_tell_of_them(
    make_cluster: Callable[..., Cluster],
) -> None:
    port = free_port([f"127.0.0.{11 + number}" for number in range(2)])
    two = make_cluster(servers=2, volume_flags=[f"-metricsPort={port}"])
    a, b = two.servers
    files = two.fill(count=5, servers=[a])
    (volume_id,) = files.volume_ids
    two.age(volume_id, 0)
    outside = Outside(lambda: None)
    context = outside.context(two)
    context.options = replace(context.options, volume_metrics_port=port)
    stages: list[str] = []
    context.report = lambda _fraction, stage, _figures: stages.append(stage)
    params = worker_pb2.TaskParams(
        volume_id=volume_id,
        sources=[worker_pb2.TaskSource(node=str(a.address))],
        targets=[worker_pb2.TaskTarget(node=str(b.address))],
    )
    order = Job("job", "balance", params, config={"min_frozen_seconds": SECONDS})
    move = threading.Thread(target=balance.run, args=(order, context))
    move.start()
    eventually(lambda: any("refusing writes for" in stage for stage in stages), 20)
    status, _answer = request(a.address, "PUT", f"/{volume_id},0112345678", b"late")
    assert status >= 400
    move.join(60)

    assert any(f"uploads still arrive at {a.address}" in stage for stage in stages)
    ((seconds, _before, _after),) = outside.waits
    assert SECONDS < seconds < 3 * SECONDS
    two.check(files)
