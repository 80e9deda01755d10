"""While volumes lack copies or shards, less of what only tidies up is proposed."""

from __future__ import annotations

import pytest

from proto_gen import master_pb2 as m
from proto_gen.worker_pb2 import TaskParams
from weed_cluster.address import Address
from weed_cluster.topology import Disk, EcHolding, Node, Replica, Topology
from weed_core.job_types import JOB_TYPES
from weed_core.model import Detection, Proposal
from weed_tasks.repair_first import incomplete, yielding


def cluster(copies: int = 2, shards: int = 14, beside: bool = False) -> Topology:
    """Volume 1 (001) with so many copies, and volume 2 in so many shards, maybe beside the volume itself."""
    topology = Topology(volume_size_limit=1000)
    for number in range(2):
        address = Address.parse(f"10.0.0.{number}:8080")
        topology.nodes[str(address)] = Node(str(address), address, "dc1", "r1", {"": Disk("")})
    first, *_others = nodes = list(topology.nodes.values())
    info = m.VolumeInformationMessage(id=1, size=10, replica_placement=1)
    topology.volumes[1] = [Replica(node, "", info) for node in nodes[:copies]]
    held = m.VolumeEcShardInformationMessage(id=2, ec_index_bits=(1 << shards) - 1)
    topology.ec[2, ""] = [EcHolding(first, "", held)]
    if beside:
        topology.volumes[2] = [Replica(first, "", m.VolumeInformationMessage(id=2, size=10))]
    return topology


def found(count: int) -> Detection:
    return Detection([Proposal(str(n), str(n), "", TaskParams()) for n in range(count)], summary="as planned")


def test_what_is_missing_is_counted_and_an_encode_under_way_is_not() -> None:
    assert incomplete(cluster()) == 0
    assert incomplete(cluster(copies=1)) == 1
    assert incomplete(cluster(copies=1, shards=13)) == 2
    assert incomplete(cluster(shards=3, beside=True)) == 0


@pytest.mark.parametrize(("count", "kept"), [(40, 10), (7, 1), (2, 1), (1, 1), (0, 0)])
def test_one_in_four_is_proposed_and_one_at_least(count: int, kept: int) -> None:
    less = yielding(found(count), "balance", cluster(copies=1))
    assert [proposal.id for proposal in less.proposals] == [str(number) for number in range(kept)]
    assert less.has_more == (kept < count)
    assert ("1 volume lacks copies or shards: " in less.summary) == (kept < count)
    assert less.summary.endswith("as planned")


def test_where_nothing_is_missing_all_is_proposed() -> None:
    assert yielding(found(40), "balance", cluster()) == found(40)
    assert yielding(found(40), "balance", None) == found(40)


def test_what_mends_and_what_costs_others_nothing_never_yields() -> None:
    yields = {row.name for row in JOB_TYPES if len(yielding(found(8), row.name, cluster(shards=10)).proposals) < 8}
    assert yields == {"balance", "erasure_coding", "tier_move"}
