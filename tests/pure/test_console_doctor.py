"""What doctor says of shards that do not fit together."""

from __future__ import annotations

from proto_gen import master_pb2 as m
from weed_cluster.topology import read
from weed_console.doctor import _ec_volume


def test_shards_of_two_encode_runs_are_told_with_where_the_older_ones_lie() -> None:
    header = m.VolumeListResponse()
    rack = header.topology_info.data_center_infos.add(id="dc1").rack_infos.add(id="r1")
    for number, (bits, run) in enumerate([(0b11111111110000, 200), (0b1111, 200), (0b11, 100)]):
        node = rack.data_node_infos.add(id=f"10.0.0.{number}:8080")
        node.diskInfos[""].ec_shard_infos.add(id=7, ec_index_bits=bits, encode_ts_ns=run)
    holdings = read([m.VolumeListStreamResponse(header=header)]).holdings(7, "")
    (found,) = _ec_volume("EC volume 7", holdings)
    assert "shards of 2 different encode runs" in found.what
    assert found.fix.startswith("shards of older runs are 0, 1 on 10.0.0.2:8080; where the newer run is whole")
