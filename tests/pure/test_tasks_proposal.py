"""Proposals, whatever the job type: the typed parameters and the plain ones say the same."""

from __future__ import annotations

import pytest

from proto_gen.worker_pb2 import TaskParams, TaskSource, TaskTarget
from weed_cluster.address import Address
from weed_cluster.topology import Node
from weed_core.model import HIGH, Job, Proposal
from weed_tasks import proposal
from weed_tasks.execute import deadline

NODE = Node("n1", Address.parse("10.0.0.1:8080"), "dc1", "r1")
GIB = 1 << 30


def of(collection: str = "", why_shut: str = "") -> Proposal:
    params = TaskParams(task_id="t1", volume_id=7, collection=collection, volume_size=GIB)
    return proposal.of_volume(
        "balance",
        params,
        "Move volume 7",
        600,
        GIB,
        priority=HIGH,
        prefix="volume_balance",
        parameters={"target_server": "b:8080"},
        labels={"target_node": "b"},
        why_shut=why_shut,
    )


def test_a_proposal_says_plainly_what_its_typed_parameters_say() -> None:
    made = of("photos")
    assert (made.id, made.dedupe_key, made.priority) == ("t1", "volume_balance:7:photos", HIGH)
    assert made.parameters == {
        "volume_id": 7,
        "collection": "photos",
        "target_server": "b:8080",
        "estimated_runtime_seconds": 600,
    }
    assert made.labels == {"task_type": "balance", "volume_id": "7", "collection": "photos", "target_node": "b"}
    assert (made.estimated_seconds, made.bytes_to_move, made.shut) == (600, GIB, {})


def test_a_volume_of_no_collection_has_a_key_without_one_and_says_why_it_will_be_shut() -> None:
    made = of(why_shut="a holder is not to be made to forget")
    assert made.dedupe_key == "volume_balance:7"
    assert made.shut == {7: "a holder is not to be made to forget"}


def test_rows_name_server_place_disk_and_shards() -> None:
    where = {"node": "10.0.0.1:8080", "rack": "r1", "data_center": "dc1"}
    shards = TaskSource(**where, volume_id=7, disk_id=2, shard_ids=[0, 3], estimated_size=5)
    assert proposal.shards_source(NODE, 7, 2, [0, 3], 5) == shards
    assert proposal.target(NODE, 7, 5, 1, [4]) == TaskTarget(
        **where, volume_id=7, disk_id=1, shard_ids=[4], estimated_size=5
    )


@pytest.mark.parametrize(("job_type", "seconds"), [("vacuum", 900), ("erasure_coding", 1800), ("remote_upload", 1800)])
def test_a_job_may_take_as_long_as_its_proposal_said(job_type: str, seconds: int) -> None:
    size = 2 * GIB + 1
    assert proposal.seconds_for(job_type, size) == seconds
    assert deadline(Job("j1", job_type, TaskParams(volume_size=size)), 60.0) == seconds
