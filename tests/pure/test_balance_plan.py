"""Which volumes balance would move where, decided from a topology alone."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto_gen import master_pb2 as m
from weed_cluster.topology import Topology, read
from weed_core.errors import ConfigError
from weed_core.model import Detection, DetectionRequest
from weed_tasks.balance.plan import plan

GB = 1 << 30


def volume(volume_id: int, **fields: Any) -> m.VolumeInformationMessage:
    return m.VolumeInformationMessage(**{"id": volume_id, "size": GB, "version": 3, "modified_at_second": 1, **fields})


def topology(*servers: dict[str, Any]) -> Topology:
    """A cluster of servers: volumes, slots (100), rack ("r1"), host, port, disk ("hdd"), total and free bytes."""
    racks: dict[str, m.RackInfo] = {}
    for number, server in enumerate(servers):
        rack = racks.setdefault(server.get("rack", "r1"), m.RackInfo(id=server.get("rack", "r1")))
        volumes = server["volumes"]
        slots = server.get("slots", 100)
        disk = m.DiskInfo(
            type=server.get("disk", ""),
            volume_count=len(volumes),
            max_volume_count=slots,
            free_volume_count=slots - len(volumes),
            volume_infos=volumes,
            disk_total_bytes=server.get("total", 0),
            disk_free_bytes=server.get("free", 0),
        )
        node = rack.data_node_infos.add(id=f"{server.get('host', f'10.0.0.{number}')}:{server.get('port', 8080)}")
        node.diskInfos[server.get("disk", "")].CopyFrom(disk)
    center = m.DataCenterInfo(id="dc1", rack_infos=racks.values())
    header = m.VolumeListResponse(
        topology_info=m.TopologyInfo(id="topo", data_center_infos=[center]), volume_size_limit_mb=30000
    )
    return read([m.VolumeListStreamResponse(header=header)])


def planned(cluster: Topology, most: int = 0, **config: Any) -> Detection:
    return plan(DetectionRequest("volume_balance", {"batch_size": 1, **config}, (), max_results=most), cluster)


def moves(detection: Detection) -> list[tuple[int, str, str]]:
    return [
        (proposal.params.volume_id, proposal.params.sources[0].node, proposal.params.targets[0].node)
        for proposal in detection.proposals
    ]


def test_an_empty_server_gets_its_share() -> None:
    cluster = topology({"volumes": [volume(n) for n in range(1, 11)]}, {"volumes": []})
    found = moves(planned(cluster))
    assert len(found) == 5
    assert {(source, target) for _volume, source, target in found} == {("10.0.0.0:8080", "10.0.0.1:8080")}


def test_a_level_cluster_is_left_alone() -> None:
    cluster = topology({"volumes": [volume(1), volume(2)]}, {"volumes": [volume(3)]})
    assert moves(planned(cluster)) == []


def test_full_then_cold_volumes_are_preferred_and_one_that_is_read_only_for_no_known_reason_is_passed_over() -> None:
    volumes = [
        volume(1, modified_at_second=500),
        volume(2, modified_at_second=50, read_only=True),
        volume(3, modified_at_second=100),
        volume(4, modified_at_second=900, size=31 * GB),
        volume(5, modified_at_second=700),
        volume(6, modified_at_second=800),
    ]
    detection = planned(topology({"volumes": volumes}, {"volumes": []}))
    assert [volume_id for volume_id, _source, _target in moves(detection)] == [4, 3, 1]
    assert [(skip.volume_id, skip.key) for skip in detection.skipped] == [(2, "read-only")]
    assert "read-only on 10.0.0.0:8080, and nobody can tell why" in detection.skipped[0].reason


def test_volumes_of_a_disk_that_closed_them_all_are_moved_away() -> None:
    volumes = [volume(number, read_only=True) for number in range(1, 7)]
    assert len(moves(planned(topology({"volumes": volumes}, {"volumes": []})))) == 3


def test_disk_types_are_levelled_apart() -> None:
    cluster = topology(
        {"volumes": [volume(n) for n in range(1, 9)]},
        {"volumes": [volume(n) for n in range(11, 19)]},
        {"volumes": [volume(21, disk_type="ssd")], "disk": "ssd"},
        {"volumes": [], "disk": "ssd"},
    )
    assert moves(planned(cluster)) == []


def test_a_server_with_more_slots_takes_more() -> None:
    cluster = topology({"volumes": [volume(n) for n in range(1, 31)], "slots": 40}, {"volumes": [], "slots": 80})
    assert len(moves(planned(cluster))) == pytest.approx(20, abs=3)


def test_a_server_without_a_free_slot_is_no_target() -> None:
    cluster = topology(
        {"volumes": [volume(n, collection="a") for n in range(1, 11)], "slots": 10},
        {"volumes": [volume(n, collection="b") for n in range(11, 20)], "slots": 10},
    )
    assert len(moves(planned(cluster, collection_filter="^a$"))) == 1


def test_a_nearly_full_disk_is_no_target() -> None:
    cluster = topology(
        {"volumes": [volume(n) for n in range(1, 11)]},
        {"volumes": [], "total": 100 * GB, "free": 12 * GB},
    )
    assert len(moves(planned(cluster))) == 2


def test_a_remote_volume_is_not_moved() -> None:
    cluster = topology(
        {"volumes": [volume(n, remote_storage_name="s3.default") for n in range(1, 11)]}, {"volumes": []}
    )
    assert moves(planned(cluster)) == []


def test_copies_on_two_hosts_are_never_brought_to_one() -> None:
    copies = [volume(n, replica_placement=1) for n in range(1, 9)]
    cluster = topology({"volumes": copies}, {"volumes": copies}, {"volumes": [], "host": "10.0.0.1", "port": 8081})
    found = moves(planned(cluster))
    assert found
    assert {(source, target) for _volume, source, target in found} == {("10.0.0.1:8080", "10.0.0.1:8081")}


def test_the_servers_of_one_machine_are_levelled_also_where_each_volume_has_two_copies_on_it() -> None:
    copies = [volume(n, replica_placement=1) for n in range(1, 9)]
    servers = [
        {"volumes": volumes, "host": "10.0.0.1", "port": 8080 + n} for n, volumes in enumerate([copies] * 2 + [[]])
    ]
    found = moves(planned(topology(*servers)))
    assert len(found) >= 4
    assert {target for _volume, _source, target in found} == {"10.0.0.1:8082"}
    assert len({volume_id for volume_id, _source, _target in found}) == len(found)


def test_of_two_copies_on_one_machine_the_one_that_moves_goes_to_another() -> None:
    copies = [volume(n, replica_placement=1) for n in range(1, 9)]
    here = [{"volumes": volumes, "host": "10.0.0.1", "port": 8080 + n} for n, volumes in enumerate([copies] * 2 + [[]])]
    found = moves(planned(topology(*here, {"volumes": [volume(20)]})))
    assert "10.0.0.3:8080" in {target for _volume, _source, target in found}
    assert found[0][2] == "10.0.0.3:8080"


def test_a_copy_that_belongs_into_another_rack_stays_in_one() -> None:
    copies = [volume(n, replica_placement=10) for n in range(1, 9)]
    cluster = topology(
        {"volumes": copies, "rack": "r1"}, {"volumes": copies, "rack": "r2"}, {"volumes": [], "rack": "r2"}
    )
    found = moves(planned(cluster))
    assert found
    assert {source for _volume, source, _target in found} == {"10.0.0.1:8080"}


def test_a_stray_copy_on_the_target_bars_it() -> None:
    volumes = [volume(n) for n in range(1, 5)]
    cluster = topology({"volumes": volumes}, {"volumes": volumes[:1]}, {"volumes": volumes[1:2]})
    for volume_id, _source, target in moves(planned(cluster)):
        assert (volume_id, target) not in ((1, "10.0.0.1:8080"), (2, "10.0.0.2:8080"))


def test_no_more_than_max_results_moves_are_proposed() -> None:
    cluster = topology({"volumes": [volume(n) for n in range(1, 11)]}, {"volumes": []})
    cut = planned(cluster, most=3)
    assert (len(cut.proposals), cut.has_more) == (3, True)
    whole = planned(cluster, most=5)
    assert (len(whole.proposals), whole.has_more) == (5, False)


def test_fewer_servers_than_wanted_are_not_balanced() -> None:
    cluster = topology({"volumes": [volume(n) for n in range(1, 11)]}, {"volumes": []})
    assert moves(planned(cluster, min_server_count=3)) == []


def test_a_node_outside_the_scope_neither_gives_nor_takes() -> None:
    cluster = topology(
        {"volumes": [volume(n) for n in range(1, 11)]}, {"volumes": []}, {"volumes": [volume(n) for n in range(20, 60)]}
    )
    found = moves(planned(cluster, node_filter="10.0.0.0:8080,10.0.0.1:*"))
    assert len(found) == 5
    assert all("10.0.0.2:8080" not in move for move in found)


def test_a_bad_collection_filter_is_named() -> None:
    with pytest.raises(ConfigError, match="collection_filter"):
        planned(topology({"volumes": [volume(1)]}), collection_filter="(")


def test_each_collection_is_levelled_by_itself_within_the_slots_they_share() -> None:
    mixed = [volume(n, collection="a" if n % 2 else "b") for n in range(1, 21)]
    filler = [volume(n, collection="c", remote_storage_name="") for n in range(30, 34)]
    cluster = topology({"volumes": mixed, "slots": 30}, {"volumes": filler, "slots": 10})
    found = planned(cluster, collection_filter="EACH_COLLECTION")
    arriving = [proposal.params.collection for proposal in found.proposals if "0.1" in proposal.params.targets[0].node]
    assert {*arriving} == {"a", "b"}
    assert len(arriving) <= 6


def test_a_batch_says_which_of_its_volumes_refuse_writes_first() -> None:
    written_to = int(time.time())

    def summary(*modified: int) -> str:
        volumes = [volume(number, modified_at_second=at) for number, at in enumerate(modified, 1)]
        (proposal,) = planned(topology({"volumes": volumes}, {"volumes": []}), batch_size=20).proposals
        return proposal.summary

    assert summary(1, 1, 1, 1) == "Move 2 volumes"
    words = "refuse writes for 60 s first, since written to lately"
    assert summary(*[written_to] * 4) == f"Move 2 volumes; volumes 1, 2 {words}"
    assert summary(1, *[written_to] * 3) == f"Move 2 volumes; volume 2 {words.replace('refuse', 'refuses')}"


def test_moves_come_in_batches_with_keys_that_fit() -> None:
    cluster = topology({"volumes": [volume(n) for n in range(1, 43)]}, {"volumes": []})
    found = planned(cluster, batch_size=20, max_concurrent_moves=7, io_byte_per_second=1000, imbalance_threshold=0)
    assert [len(proposal.params.balance_params.moves) for proposal in found.proposals] == [20, 0]
    batch, single = found.proposals
    assert batch.dedupe_key.startswith("volume_balance_batch:")
    assert len(batch.dedupe_key) <= 200
    assert batch.params.balance_params.max_concurrent_moves == 7
    assert batch.params.balance_params.io_byte_per_second == 1000
    assert batch.labels["batch"] == "true"
    assert single.dedupe_key == f"volume_balance:{single.params.volume_id}"
    again = planned(cluster, batch_size=20, imbalance_threshold=0)
    assert [proposal.dedupe_key for proposal in again.proposals] == [
        proposal.dedupe_key for proposal in found.proposals
    ]


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 25), min_size=2, max_size=5),
    slots=st.lists(st.integers(25, 60), min_size=5, max_size=5),
)
def test_planned_moves_level_and_never_overshoot(counts: list[int], slots: list[int]) -> None:
    ids = iter(range(1, 1000))
    servers = [
        {"volumes": [volume(next(ids)) for _ in range(count)], "slots": slots[at]} for at, count in enumerate(counts)
    ]
    found = moves(planned(topology(*servers)))
    assert len({volume_id for volume_id, _source, _target in found}) == len(found)
    after = list(counts)
    use = [count / slots[at] for at, count in enumerate(counts)]
    spread = max(use) - min(use)
    for _volume, source, target in found:
        after[int(source.split(".")[3].split(":")[0])] -= 1
        after[int(target.split(".")[3].split(":")[0])] += 1
    use = [count / slots[at] for at, count in enumerate(after)]
    assert all(0 <= count <= slots[at] for at, count in enumerate(after))
    assert max(use) - min(use) <= spread
    # What it left, it would leave again.
    ids = iter(range(1, 1000))
    settled = [
        {"volumes": [volume(next(ids)) for _ in range(count)], "slots": slots[at]} for at, count in enumerate(after)
    ]
    assert moves(planned(topology(*settled))) == []


@settings(max_examples=60, deadline=None)
@given(
    racks=st.lists(st.sampled_from(["r1", "r2", "r3"]), min_size=3, max_size=8),
    volumes=st.lists(st.tuples(st.integers(0, 7), st.sampled_from([0, 1, 10])), max_size=60),
)
def test_looks_that_follow_each_other_end_and_take_nothing_back(
    racks: list[str], volumes: list[tuple[int, int]]
) -> None:
    placed: list[dict[int, int]] = [{} for _ in racks]  # of each server, the placement by volume id
    for volume_id, (at, placement) in enumerate(volumes, 1):
        first = at % len(racks)
        beside = [
            other for other, rack in enumerate(racks) if other != first and (rack == racks[first]) == (placement == 1)
        ]
        holders = [first, *beside[:1]] if placement else [first]
        if placement and not beside:
            continue
        for server in holders:
            placed[server][volume_id] = placement

    def cluster() -> Topology:
        return topology(
            *(
                {"volumes": [volume(n, replica_placement=p) for n, p in held.items()], "slots": 70, "rack": rack}
                for rack, held in zip(racks, placed)
            )
        )

    made: set[tuple[int, str, str]] = set()
    for _look in range(10):
        found = moves(planned(cluster()))
        if not found:
            return
        for volume_id, source, target in found:
            assert (volume_id, target, source) not in made
            made.add((volume_id, source, target))
            giving, taking = (int(name.split(".")[3].split(":")[0]) for name in (source, target))
            assert volume_id not in placed[taking]
            placed[taking][volume_id] = placed[giving].pop(volume_id)
            held = [racks[at] for at, of in enumerate(placed) if volume_id in of]
            assert len(set(held)) == (2 if placed[taking][volume_id] == 10 else 1)
    raise AssertionError("ten looks, and moves are still found")
