"""Which volumes are proposed for encoding, with what, and why others are not."""

from __future__ import annotations

import time
from typing import Any

import pytest

from proto_gen import master_pb2 as m
from weed_cluster.channels import Channels
from weed_cluster.client import Cluster
from weed_cluster.topology import Topology, read
from weed_core.errors import ConfigError
from weed_core.model import Detection, DetectionRequest
from weed_safety.context import Context
from weed_safety.journal import Journal
from weed_tasks.erasure_coding.plan import plan

LIMIT_MB = 1000
NOW = int(time.time())


def cluster(*volumes: dict[str, Any], servers: int = 14, shards: tuple[dict[str, Any], ...] = ()) -> Topology:
    """Servers in seven racks; the volumes lie on the first one unless `node` says otherwise."""
    header = m.VolumeListResponse(volume_size_limit_mb=LIMIT_MB)
    center = header.topology_info.data_center_infos.add(id="dc1")
    racks = [center.rack_infos.add(id=f"r{at}") for at in range(7)]
    nodes = []
    for at in range(servers):
        node = racks[at % 7].data_node_infos.add(id=f"10.0.0.{at + 1}:8080")
        node.diskInfos[""].max_volume_count = 50
        node.diskInfos[""].free_volume_count = 40
        nodes.append(node)
    for volume in volumes:
        fields = {"size": 990 << 20, "modified_at_second": NOW - 86400, "version": 3, **volume}
        nodes[fields.pop("node", 0)].diskInfos[""].volume_infos.add(**fields)
    for holding in shards:
        fields = dict(holding)
        nodes[fields.pop("node", 0)].diskInfos[""].ec_shard_infos.add(**fields)
    return read([m.VolumeListStreamResponse(header=header)])


def detect(topology: Topology, most: int = 0, **config: Any) -> Detection:
    request = DetectionRequest("erasure_coding", config, (), max_results=most, sequence=44)
    return plan(request, topology, Context(Cluster(Channels()), Journal.memory()))


def reasons(found: Detection) -> dict[int, str]:
    return {skipped.volume_id: skipped.key for skipped in found.skipped}


def test_a_full_quiet_volume_is_proposed_with_all_its_shards_planned() -> None:
    found = detect(cluster({"id": 7, "collection": "photos"}, {"id": 7, "collection": "photos", "node": 1}))

    (proposal,) = found.proposals
    params = proposal.params
    assert proposal.dedupe_key == "erasure_coding:7:photos"
    assert sorted(shard for target in params.targets for shard in target.shard_ids) == list(range(14))
    assert [source.node for source in params.sources] == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert all(not source.shard_ids and source.volume_id == 7 for source in params.sources)
    coding = params.erasure_coding_params
    assert (coding.data_shards, coding.parity_shards, coding.encode_ts_ns) == (10, 4, 44)
    assert proposal.parameters["source_server"] == "10.0.0.1:8080"
    assert proposal.parameters["target_count"] == len(params.targets)


def test_volumes_that_do_not_qualify_are_skipped_and_told_why() -> None:
    found = detect(
        cluster(
            {"id": 1, "size": 20 << 20},
            {"id": 2, "modified_at_second": NOW - 60},
            {"id": 3, "size": 500 << 20},
            {"id": 4, "remote_storage_name": "s3.default"},
            {"id": 5},
        )
    )

    assert reasons(found) == {1: "too small", 2: "not quiet", 3: "not full", 4: "remote"}
    assert [proposal.params.volume_id for proposal in found.proposals] == [5]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("", {1, 2, 3}), ("ALL_COLLECTIONS", {1, 2, 3}), ("pics,docs", {1, 2}), ("p*", {1}), ("^(docs|logs)$", {2, 3})],
)
def test_the_filter_reads_names_wildcards_and_expressions(text: str, wanted: set[int]) -> None:
    topology = cluster(
        {"id": 1, "collection": "pics"}, {"id": 2, "collection": "docs"}, {"id": 3, "collection": "logs"}
    )

    found = detect(topology, collection_filter=text)

    assert {proposal.params.volume_id for proposal in found.proposals} == wanted


def test_a_filter_that_cannot_be_read_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError):
        detect(cluster({"id": 1}), collection_filter="(")


@pytest.mark.parametrize(("most", "has_more"), [(1, True), (2, True), (3, False), (0, False)])
def test_has_more_is_told_exactly_when_something_was_cut_off(most: int, has_more: bool) -> None:
    found = detect(cluster({"id": 1}, {"id": 2}, {"id": 3}, {"id": 4, "size": 1 << 20}), most)

    assert len(found.proposals) == (most or 3)
    assert found.has_more is has_more


def test_an_empty_stub_on_a_lower_server_does_not_stand_for_the_volume() -> None:
    found = detect(cluster({"id": 7, "size": 8}, {"id": 7, "node": 3}))

    assert found.proposals[0].parameters["source_server"] == "10.0.0.4:8080"


def test_a_replica_beside_a_whole_set_of_shards_is_proposed_to_be_cleared_away() -> None:
    whole = ({"id": 7, "ec_index_bits": (1 << 14) - 1, "encode_ts_ns": 5, "node": 2},)

    found = detect(cluster({"id": 7, "size": 1 << 20, "modified_at_second": NOW}, shards=whole))

    (proposal,) = found.proposals
    assert "Clear away" in proposal.summary
    assert not proposal.params.targets


def test_shards_of_two_encode_runs_do_not_make_a_whole_set() -> None:
    halves = (
        {"id": 7, "ec_index_bits": 0x7F, "encode_ts_ns": 5, "node": 2},
        {"id": 7, "ec_index_bits": 0x3F80, "encode_ts_ns": 6, "node": 3},
    )

    found = detect(cluster({"id": 7}, shards=halves))

    (proposal,) = found.proposals
    assert len(proposal.params.targets) > 3
    rows = [(source.node, len(source.shard_ids)) for source in proposal.params.sources]
    assert rows == [("10.0.0.1:8080", 0), ("10.0.0.3:8080", 7), ("10.0.0.4:8080", 7)]


def test_volumes_without_a_regular_replica_are_not_looked_at() -> None:
    found = detect(cluster(shards=({"id": 7, "ec_index_bits": 3, "encode_ts_ns": 5},)))

    assert (found.proposals, found.skipped, found.seen) == ([], [], 0)


def test_too_few_servers_or_no_room_are_told() -> None:
    assert reasons(detect(cluster({"id": 1}, servers=3))) == {1: "few servers"}
    full = cluster({"id": 1}, servers=5)
    for node in full.nodes.values():
        for disk in node.disks.values():
            disk.physical = dict.fromkeys(disk.physical, 0)
    assert reasons(detect(full)) == {1: "no room"}


def littered(node: int, placement: int, dead_mb: int = 900) -> dict[str, Any]:
    return {"id": 7, "node": node, "replica_placement": placement, "deleted_byte_count": dead_mb << 20}


@pytest.mark.parametrize(
    ("volumes", "kept_mb", "said"),
    [
        ((littered(0, 1), littered(1, 1)), 90, True),
        ((littered(0, 1, dead_mb=0), littered(1, 1)), 990, True),  # the biggest is encoded, and has none
        ((littered(0, 2), littered(1, 2)), 990, False),  # of three copies
        ((littered(0, 0), littered(1, 0)), 90, True),  # one more than is asked for
    ],
)
def test_a_plan_counts_garbage_out_only_where_the_job_will_vacuum(
    volumes: tuple[dict[str, Any], ...], kept_mb: int, said: bool
) -> None:
    (proposal,) = detect(cluster(*volumes)).proposals

    assert {target.estimated_size for target in proposal.params.targets} == {(kept_mb << 20) // 10}
    assert ("vacuumed first, for 91% of it is garbage" in proposal.summary) is said
    assert proposal.frees == 2 * (990 << 20) - (kept_mb << 20) * 14 // 10
