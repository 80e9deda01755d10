"""A job that names a server outside of the cluster is refused, whatever its type, before that server is dialled."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from google.protobuf import text_format

from proto_gen.worker_pb2 import (
    BalanceMoveSpec,
    BalanceTaskParams,
    EcBalanceTaskParams,
    TaskParams,
    TaskSource,
    TaskTarget,
)
from tests.support.cluster import Cluster
from weed_core.errors import WeedError
from weed_core.model import Job
from weed_tasks import load

STRANGER, MEMBER = "stranger", "member"
REFUSED = {"vacuum": "should have 2 copies", "remote_upload": "no storage backend is named"}
"""What else is said by jobs that go to the servers which the masters name, whatever the job names."""

JOBS = [
    ("balance", TaskParams(sources=[TaskSource(node=MEMBER)], targets=[TaskTarget(node=STRANGER)])),
    ("balance", TaskParams(sources=[TaskSource(node=STRANGER)], targets=[TaskTarget(node=MEMBER)])),
    (
        "balance",
        TaskParams(
            balance_params=BalanceTaskParams(
                moves=[BalanceMoveSpec(source_node=MEMBER, target_node=STRANGER)] * 2  # a batch
            )
        ),
    ),
    ("erasure_coding", TaskParams(sources=[TaskSource(node=STRANGER)])),
    ("erasure_coding", TaskParams(sources=[TaskSource(node=MEMBER)], targets=[TaskTarget(node=STRANGER)])),
    (
        "ec_balance",
        TaskParams(
            sources=[TaskSource(node=STRANGER, shard_ids=[1])], targets=[TaskTarget(node=MEMBER, shard_ids=[1])]
        ),
    ),
    (
        "ec_balance",
        TaskParams(
            sources=[TaskSource(node=MEMBER, shard_ids=[1])],
            targets=[TaskTarget(node=MEMBER, shard_ids=[1])],
            ec_balance_params=EcBalanceTaskParams(dedup_keep_node=STRANGER),
        ),
    ),
    ("replication", TaskParams(targets=[TaskTarget(node=STRANGER)])),
    ("vacuum", TaskParams(sources=[TaskSource(node=STRANGER)])),
    ("remote_upload", TaskParams(sources=[TaskSource(node=STRANGER)])),
]


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    """A server that nobody should dial."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        yield listening


@pytest.mark.parametrize(("job_type", "wanted"), JOBS)
def test_no_job_dials_a_server_that_the_masters_do_not_know(
    cluster: Cluster, stranger: socket.socket, job_type: str, wanted: TaskParams
) -> None:
    files = cluster.fill(count=5, servers=cluster.servers[:1], replication="001")
    host, port = stranger.getsockname()
    text = str(wanted).replace(STRANGER, f"{host}:9.{port}").replace(MEMBER, str(cluster.servers[0].address))
    params = text_format.Parse(text, TaskParams(volume_id=files.volume_ids[0]))
    for move in params.balance_params.moves:
        move.volume_id = params.volume_id
    words = REFUSED.get(job_type, "the masters know no volume server")
    with pytest.raises(WeedError, match=words):
        load([job_type])[job_type].run(Job("job", job_type, params), cluster.context(timeout=30))
    with pytest.raises(BlockingIOError):
        stranger.accept()
    cluster.check(files)
