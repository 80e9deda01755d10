"""Which volumes may go for being empty: none with a file, none of the last that take writes of a layout in use."""

from __future__ import annotations

from typing import Any

from proto_gen import master_pb2 as m
from weed_cluster.topology import Topology, read
from weed_core.model import Detection, DetectionRequest
from weed_tasks.delete_empty.plan import plan

NOW = 2_000_000_000.0
DAY = 86400


def volume(volume_id: int, files: int = 0, deleted: int = 0, age: float = 2 * DAY, **more: Any) -> Any:
    size = 8 + 100 * files
    given = {"id": volume_id, "size": size, "file_count": files, "delete_count": deleted, "version": 3, **more}
    return m.VolumeInformationMessage(modified_at_second=int(NOW - age) if age else 0, **given)


def planned(*servers: list[m.VolumeInformationMessage], most: int = 0, **config: Any) -> Detection:
    request = DetectionRequest("delete_empty", config, (), max_results=most)
    return plan(request, topology(servers), NOW)


def topology(servers: tuple[list[m.VolumeInformationMessage], ...]) -> Topology:
    header = m.VolumeListResponse(volume_size_limit_mb=1000)
    rack = header.topology_info.data_center_infos.add(id="dc1").rack_infos.add(id="r1")
    for number, volumes in enumerate(servers):
        disk = m.DiskInfo(volume_count=len(volumes), max_volume_count=100, volume_infos=volumes)
        rack.data_node_infos.add(id=f"10.0.0.{number}:8080").diskInfos[""].CopyFrom(disk)
    return read([m.VolumeListStreamResponse(header=header)])


def chosen(found: Detection) -> list[int]:
    return [proposal.params.volume_id for proposal in found.proposals]


def reasons(found: Detection) -> dict[int, str]:
    return {skip.volume_id: skip.key for skip in found.skipped}


def test_empty_volumes_of_a_layout_that_nobody_uses_all_go() -> None:
    found = planned([volume(1), volume(2), volume(3, files=5, deleted=5)])
    assert chosen(found) == [1, 2, 3]
    assert found.summary == "3 of 3 volumes are empty and may go"


def test_a_layout_in_use_keeps_one_volume_that_takes_writes() -> None:
    found = planned([volume(1, files=1, read_only=True), volume(2), volume(3)])
    assert chosen(found) == [3]
    assert reasons(found) == {1: "with files", 2: "kept for writes"}


def test_a_layout_with_another_volume_for_writes_keeps_none_of_the_empty_ones() -> None:
    assert chosen(planned([volume(1, files=1), volume(2), volume(3)])) == [2, 3]


def test_a_full_volume_is_none_for_writes() -> None:
    assert chosen(planned([volume(1, files=1, size=1000 << 20), volume(2), volume(3)])) == [3]


def test_layouts_are_told_apart_by_collection_placement_and_time_to_live() -> None:
    used = volume(1, files=1, collection="a", read_only=True)
    found = planned([used, volume(2, collection="a"), volume(3, collection="b"), volume(4, collection="a", ttl=0x0301)])
    assert chosen(found) == [3, 4]


def test_a_volume_counts_as_quiet_once_all_its_replicas_are() -> None:
    found = planned([volume(1, replica_placement=1)], [volume(1, replica_placement=1, age=DAY / 2)])
    assert chosen(found) == []
    assert reasons(found) == {1: "written to lately"}
    assert "was written to 43200 s ago, less than 86400 s" in found.skipped[0].reason
    assert chosen(planned([volume(1, age=100)], quiet_for_seconds=60)) == [1]


def test_a_file_on_any_replica_keeps_the_volume() -> None:
    found = planned([volume(1, replica_placement=1)], [volume(1, files=3, deleted=2, replica_placement=1)])
    assert reasons(found) == {1: "with files"}


def test_what_is_in_doubt_stays() -> None:
    found = planned([volume(1, age=0), volume(2, size=5000), volume(3, replica_placement=1)])
    assert reasons(found) == {1: "in doubt", 2: "in doubt", 3: "incomplete"}


def test_remote_and_read_only_volumes_stay() -> None:
    found = planned([volume(1, remote_storage_name="s3.default"), volume(2, read_only=True), volume(3, files=1)])
    assert reasons(found) == {1: "remote", 2: "read-only", 3: "with files"}


def test_only_collections_asked_for_are_looked_at() -> None:
    found = planned([volume(1, collection="a"), volume(2, collection="b")], collection_filter="^b$")
    assert chosen(found) == [2]
    assert reasons(found) == {}


def test_no_more_than_max_results_are_proposed() -> None:
    found = planned([volume(n) for n in range(1, 6)], most=2)
    assert chosen(found) == [1, 2]
    assert found.has_more
