"""What the master lists becomes one picture: addresses, disks, replicas, shards, filters."""

from __future__ import annotations

import copy

import pytest

from proto_gen import master_pb2 as m
from weed_cluster.address import Address
from weed_cluster.builds import Build
from weed_cluster.replica_placement import ReplicaPlacement
from weed_cluster.topology import Disk, Topology, collection_filter, read, wildcard_filter
from weed_core.errors import BadTask, ConfigError, TaskError
from weed_tasks.erasure_coding.plan import is_complete


def header() -> m.VolumeListStreamResponse:
    """Two racks; node "a" has a free name and its own gRPC port, node "b" is named by its address."""
    chunk = m.VolumeListStreamResponse()
    chunk.header.volume_size_limit_mb = 1024
    center = chunk.header.topology_info.data_center_infos.add(id="dc1")
    a = center.rack_infos.add(id="r1").data_node_infos.add(id="a", address="10.0.0.1:8080", grpc_port=8081)
    a.diskInfos[""].max_volume_count = 10
    a.diskInfos[""].max_volume_count_by_disk[0] = 6
    a.diskInfos[""].max_volume_count_by_disk[1] = 4
    a.diskInfos["ssd"].max_volume_count = 7
    b = center.rack_infos.add(id="r2").data_node_infos.add(id="10.0.0.2:8080", grpc_port=18080)
    b.diskInfos[""].max_volume_count = 5
    return chunk


def batch(rack: str, node: str, disk_type: str = "") -> m.VolumeListStreamResponse:
    return m.VolumeListStreamResponse(data_center="dc1", rack=rack, data_node=node, disk_type=disk_type)


def full() -> Topology:
    first, second, third = batch("r1", "a"), batch("r2", "10.0.0.2:8080"), batch("r1", "a", "ssd")
    first.volume_infos.add(
        id=7,
        size=1000,
        collection="pics",
        deleted_byte_count=250,
        replica_placement=10,
        ttl=3 << 8 | 3,
        compact_revision=2,
        modified_at_second=99,
        disk_id=1,
    )
    first.volume_infos.add(id=8, remote_storage_name="s3.default", disk_id=1)
    second.volume_infos.add(id=7, size=900, collection="pics", disk_id=2)
    second.ec_shard_infos.add(
        id=9, collection="pics", ec_index_bits=0b1011, shard_sizes=[5, 6, 7], disk_id=3, encode_ts_ns=44
    )
    third.ec_shard_infos.add(id=9, collection="", ec_index_bits=1)
    return read([header(), first, second, third])


def test_nodes_are_found_by_endpoint_whatever_their_id() -> None:
    topology = full()
    assert topology.nodes["a"].address == Address.parse("10.0.0.1:8080.8081")
    found = topology.node_at(Address.parse("10.0.0.2:8080"))
    assert found is topology.nodes["10.0.0.2:8080"]
    assert (found.host, found.rack, found.data_center) == ("10.0.0.2", "r2", "dc1")
    assert topology.node_at(Address.parse("10.0.0.1:8080")) is None


def test_replicas_of_all_batches_come_together() -> None:
    topology = full()
    first, second = topology.replicas(7)
    assert (first.node.id, second.node.id, topology.replicas(404)) == ("a", "10.0.0.2:8080", [])
    assert (first.size, first.garbage_ratio, first.ttl, first.revision) == (1000, 0.25, "3d", 2)
    assert (first.placement, first.placement.copies) == (ReplicaPlacement(0, 1, 0), 2)
    assert topology.replicas(8)[0].garbage_ratio == 0.0
    assert topology.replicas(8)[0].remote_name == "s3.default"
    assert topology.volume_size_limit == 1 << 30


def test_shards_are_kept_by_volume_and_collection() -> None:
    topology = full()
    (holding,) = topology.holdings(9, "pics")
    assert (holding.shard_ids, holding.sizes, holding.encode_ts_ns) == ((0, 1, 3), {0: 5, 1: 6, 3: 7}, 44)
    assert topology.holdings(9, "")[0].disk_type == "ssd"


def test_physical_disks_are_told_apart_and_counted() -> None:
    topology = full()
    told = topology.nodes["a"].disks[""]
    assert (told.physical, told.volumes) == ({0: 6, 1: 4}, {1: 1})  # the remote volume needs no slot
    split = topology.nodes["10.0.0.2:8080"].disks[""]
    assert (split.physical, split.volumes, split.shards) == ({2: 3, 3: 2}, {2: 1}, {3: 3})
    assert topology.nodes["a"].disk("hdd") is told
    assert topology.nodes["a"].disk("SSD") is topology.nodes["a"].disks["ssd"]
    assert topology.nodes["a"].disk("nvme") is None


def test_free_slots_count_remote_volumes_as_none_and_ten_shards_as_one() -> None:
    disk = full().nodes["a"].disks[""]
    disk.volume_count, disk.remote_volume_count, disk.ec_shard_count = 6, 2, 11
    assert disk.free_slots == 10 - (6 - 2) - 2
    disk.volume_count = 40
    assert disk.free_slots == 0


def test_a_server_that_ignores_the_filters_is_filtered_here() -> None:
    first = batch("r1", "a")
    for volume_id, collection in ((1, ""), (2, "pics"), (3, "pics")):
        first.volume_infos.add(id=volume_id, collection=collection)
        first.ec_shard_infos.add(id=volume_id + 10, collection=collection)
    whole = header()
    assert sorted(read([whole, first], collection="pics").volumes) == [2, 3]
    assert sorted(read([whole, first], collection="pics").ec) == [(12, "pics"), (13, "pics")]
    assert sorted(read([whole, first], volume_id=1).volumes) == [1]


def test_a_filtered_view_still_knows_what_the_disks_hold_otherwise() -> None:
    whole = header()
    disk = whole.header.topology_info.data_center_infos[0].rack_infos[0].data_node_infos[0].diskInfos[""]
    disk.volume_count, disk.free_volume_count = 4, 3  # three slots go to shards that the answer leaves out
    assert read([whole], volume_id=7).nodes["a"].disks[""].free_slots == 3


def test_a_plain_volume_list_reads_like_a_stream() -> None:
    whole = header()
    node = whole.header.topology_info.data_center_infos[0].rack_infos[0].data_node_infos[0]
    node.diskInfos[""].volume_infos.add(id=3)
    node.diskInfos[""].ec_shard_infos.add(id=4, ec_index_bits=1)
    topology = read([whole])
    assert (list(topology.volumes), list(topology.ec)) == ([3], [(4, "")])


def test_an_empty_topology_is_an_error_not_an_empty_cluster() -> None:
    with pytest.raises(TaskError, match="lists no volume server"):
        read([m.VolumeListStreamResponse(header=m.VolumeListResponse())])


def test_a_node_whose_address_nobody_tells_is_refused_naming_it() -> None:
    whole = header()
    whole.header.topology_info.data_center_infos[0].rack_infos[0].data_node_infos[0].address = ""
    with pytest.raises(BadTask, match=r"a\.8081"):
        read([whole])


def test_shards_of_two_encode_runs_do_not_add_up_to_a_volume() -> None:
    halves = batch("r1", "a"), batch("r2", "10.0.0.2:8080")
    halves[0].ec_shard_infos.add(id=9, ec_index_bits=0x7F, encode_ts_ns=1)
    halves[1].ec_shard_infos.add(id=9, ec_index_bits=0x3F80, encode_ts_ns=2)
    assert not is_complete(read([header(), *halves]), 9, "")
    halves[1].ec_shard_infos[0].encode_ts_ns = 1
    assert is_complete(read([header(), *halves]), 9, "")
    assert not is_complete(read([header(), *halves]), 9, "other")


@pytest.mark.parametrize("text", ["", "*", "ALL_COLLECTIONS", "EACH_COLLECTION"])
def test_some_collection_filters_leave_nothing_out(text: str) -> None:
    assert collection_filter(text)("")
    assert collection_filter(text)("pics")


def test_a_collection_filter_is_an_unanchored_regular_expression() -> None:
    accepts = collection_filter("ic|^a$")
    assert [name for name in ("", "a", "ab", "pics") if accepts(name)] == ["a", "pics"]
    with pytest.raises(ConfigError, match=r"collection_filter '\(' is no regular expression"):
        collection_filter("(")


def test_a_wildcard_filter_is_a_list_of_names() -> None:
    accepts = wildcard_filter("dc1, rack-?,x*")
    assert [name for name in ("dc1", "dc11", "rack-1", "rack-10", "", "xyz") if accepts(name)] == [
        "dc1",
        "rack-1",
        "xyz",
    ]
    assert wildcard_filter(" , ")("anything")
    assert wildcard_filter("a[1]")("a[1]")


def test_notes_that_a_plan_made_can_be_forgotten_for_the_next_one() -> None:
    topology = read([header()])

    def disks() -> list[Disk]:
        return [disk for node in topology.nodes.values() for disk in node.disks.values()]

    before, empty = copy.deepcopy(disks()), Topology()
    for node in topology.nodes.values():
        topology.close(node.address, "it refuses", silent=True)
    for disk in disks():
        disk.free_by_disk[0] = 5
    topology.barred[1] = "failed before"
    topology.late.add(1)
    topology.builds = {Address.parse("10.0.0.1:8080.8081"): Build("30GB 4.44 abc")}
    assert disks() != before
    topology.forget_notes()
    assert disks() == before
    assert (topology.barred, topology.late, topology.builds) == (empty.barred, empty.late, empty.builds)
