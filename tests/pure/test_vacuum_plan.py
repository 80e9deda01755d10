"""Which volumes vacuum would propose, decided from a topology alone."""

from __future__ import annotations

from typing import Any

import pytest

from proto_gen import master_pb2 as m
from weed_cluster.topology import Topology, read
from weed_core.errors import ConfigError
from weed_core.model import HIGH, NORMAL, Detection, DetectionRequest
from weed_tasks.vacuum.plan import plan

NOW = 1_000_000.0
MB = 1 << 20


def volume(volume_id: int, garbage: float, **fields: Any) -> m.VolumeInformationMessage:
    size = fields.pop("size", 100 * MB)
    return m.VolumeInformationMessage(
        **{
            "id": volume_id,
            "size": size,
            "deleted_byte_count": int(size * garbage),
            "version": 3,
            "modified_at_second": int(NOW) - 3600,
            **fields,
        }
    )


def topology(*servers: list[m.VolumeInformationMessage], shards: int = 0) -> Topology:
    """Servers 10.0.0.0, 10.0.0.1, ... in racks r0, r1, ...; `shards` is an erasure-coded volume on the first."""
    racks = []
    for number, volumes in enumerate(servers):
        disk = m.DiskInfo(volume_count=len(volumes), max_volume_count=50, volume_infos=volumes)
        if shards and not number:
            disk.ec_shard_infos.add(id=shards, ec_index_bits=3)
        node = m.DataNodeInfo(id=f"10.0.0.{number}:8080", diskInfos={"": disk})
        racks.append(m.RackInfo(id=f"r{number}", data_node_infos=[node]))
    center = m.DataCenterInfo(id="dc1", rack_infos=racks)
    info = m.TopologyInfo(id="topo", data_center_infos=[center])
    header = m.VolumeListResponse(topology_info=info, volume_size_limit_mb=100)
    return read([m.VolumeListStreamResponse(header=header)])


def planned(cluster: Topology, most: int = 0, volume_id: int = 0, **config: Any) -> Detection:
    return plan(DetectionRequest("vacuum", config, (), max_results=most, volume_id=volume_id), cluster, NOW)


def proposed(detection: Detection) -> list[int]:
    return [proposal.params.volume_id for proposal in detection.proposals]


def test_volumes_with_enough_garbage_are_proposed_and_the_rest_explained() -> None:
    found = planned(topology([volume(1, 0.5), volume(2, 0.12), volume(3, 0.0), volume(4, 0.3)]))
    assert proposed(found) == [1, 4]
    assert [skip.reason for skip in found.skipped] == [
        "volume 2: 12% garbage, threshold 30%",
        "volume 3: 0% garbage, threshold 30%",
    ]
    assert found.seen == 4
    assert "2 of 4" in found.summary


def test_much_garbage_makes_it_urgent() -> None:
    found = planned(topology([volume(1, 0.61), volume(2, 0.6)]))
    assert [proposal.priority for proposal in found.proposals] == [HIGH, NORMAL]


def test_a_proposal_names_every_replica_the_worst_first() -> None:
    replicas = [volume(1, ratio, replica_placement=20, collection="c") for ratio in (0.1, 0.5, 0.2)]
    (proposal,) = planned(topology([replicas[0]], [replicas[1]], [replicas[2]])).proposals
    assert [source.node for source in proposal.params.sources] == ["10.0.0.1:8080", "10.0.0.0:8080", "10.0.0.2:8080"]
    assert proposal.dedupe_key == "vacuum:1:c"
    assert proposal.params.vacuum_params.garbage_threshold == 0.3
    assert proposal.labels == {
        "task_type": "vacuum",
        "volume_id": "1",
        "collection": "c",
        "source_node": "10.0.0.1:8080",
    }
    assert proposal.parameters["server"] == "10.0.0.1:8080"
    assert proposal.estimated_seconds == 300


def test_a_filter_that_leaves_one_replica_out_does_not_split_the_volume() -> None:
    replicas = [volume(1, 0.5, replica_placement=10) for _ in range(2)]
    (proposal,) = planned(topology([replicas[0]], [replicas[1]]), rack_filter="r1").proposals
    assert len(proposal.params.sources) == 2


def test_a_volume_whose_replicas_are_all_out_of_scope_is_not_looked_at() -> None:
    cluster = topology([volume(1, 0.5)], [volume(2, 0.5, collection="pictures")])
    assert proposed(planned(cluster, node_filter="10.0.0.1:*")) == [2]
    assert proposed(planned(cluster, collection_filter="^pic")) == [2]
    assert proposed(planned(cluster, collection_filter="ALL_COLLECTIONS")) == [1, 2]
    assert proposed(planned(cluster, volume_id=1)) == [1]


@pytest.mark.parametrize(("state", "ids"), [("ALL", [1, 2]), ("ACTIVE", [1]), ("FULL", [2]), ("nonsense", [1, 2])])
def test_the_volume_state_narrows_by_size(state: str, ids: list[int]) -> None:
    cluster = topology([volume(1, 0.5, size=100 * MB), volume(2, 0.5, size=101 * MB)])
    assert proposed(planned(cluster, volume_state=state)) == ids


def test_what_cannot_be_vacuumed_is_skipped_with_its_reason() -> None:
    cluster = topology(
        [
            volume(1, 0.5, remote_storage_name="s3.default"),
            volume(2, 0.5, replica_placement=1),
            volume(3, 0.5, modified_at_second=int(NOW) - 5),
            volume(4, 0.5),
        ],
        shards=4,
    )
    found = planned(cluster, min_volume_age_seconds=60)
    assert proposed(found) == []
    assert [skip.key for skip in found.skipped] == ["remote", "incomplete", "too young", "erasure-coded"]


def test_no_more_than_max_results_are_proposed() -> None:
    cluster = topology([volume(n, 0.5) for n in range(1, 6)])
    cut = planned(cluster, most=3)
    assert (len(cut.proposals), cut.has_more) == (3, True)
    whole = planned(cluster, most=5)
    assert (len(whole.proposals), whole.has_more) == (5, False)


def test_a_threshold_of_zero_is_kept_but_clean_volumes_are_left_alone() -> None:
    assert proposed(planned(topology([volume(1, 0.01), volume(2, 0.0)]), garbage_threshold=0)) == [1]


def test_a_bad_collection_filter_is_named() -> None:
    with pytest.raises(ConfigError, match="collection_filter"):
        planned(topology([volume(1, 0.5)]), collection_filter="(")
