"""Which server a job means: by address, by endpoint or by id, and never one that the masters do not know."""

from __future__ import annotations

import pytest

from proto_gen import master_pb2 as m
from weed_cluster.address import Address
from weed_cluster.topology import Topology, read
from weed_core.errors import BadTask, StaleTask
from weed_safety.parameters import server_named, servers_known


def cluster() -> Topology:
    """One server whose id is no address, one with a gRPC port of its own, and one as most are."""
    header = m.VolumeListResponse()
    rack = header.topology_info.data_center_infos.add(id="dc1").rack_infos.add(id="r1")
    rack.data_node_infos.add(id="volume-1", address="10.0.0.1:8080", grpc_port=18080)
    rack.data_node_infos.add(id="10.0.0.2:8080", grpc_port=9999)
    rack.data_node_infos.add(id="10.0.0.3:8080", grpc_port=18080)
    return read([m.VolumeListStreamResponse(header=header)])


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("volume-1", "10.0.0.1:18080"),
        ("10.0.0.1:8080", "10.0.0.1:18080"),
        ("10.0.0.1:8080.18080", "10.0.0.1:18080"),
        ("10.0.0.2:8080", "10.0.0.2:9999"),
        ("10.0.0.2:8080.9999", "10.0.0.2:9999"),
        ("10.0.0.3:1.18080", "10.0.0.3:18080"),
    ],
)
def test_a_server_is_found_by_what_admins_call_it(text: str, endpoint: str) -> None:
    assert server_named(text, cluster()).grpc == endpoint


def test_a_server_outside_of_the_cluster_is_refused_where_the_cluster_is_known() -> None:
    with pytest.raises(StaleTask, match="know no volume server 169"):
        server_named("169.254.169.254:80", cluster())
    with pytest.raises(BadTask, match="is no server address"):
        server_named("/etc/passwd", cluster())
    assert server_named("10.9.9.9:8080", None) == Address.parse("10.9.9.9:8080")


def test_servers_that_left_are_left_out_where_they_do_not_matter() -> None:
    assert servers_known(["10.9.9.9:8080", "volume-1", "nonsense"], cluster()) == [Address.parse("10.0.0.1:8080")]
