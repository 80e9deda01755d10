"""How well a cluster's volumes are, counted by collection and state."""

from __future__ import annotations

from typing import Any

from proto_gen import master_pb2 as m
from weed_agent.sight import AGAIN, LASTS, Sight
from weed_cluster.channels import Channels
from weed_cluster.client import Cluster
from weed_cluster.health import FEWER, MOST_COLLECTIONS, OTHERS, health_of
from weed_cluster.topology import Topology, read
from weed_core.findings import EC_SHARD, REPLICA, Finding
from weed_core.model import Detection, Skipped
from weed_core.scrub_ledger import Coverage
from weed_safety.context import Context
from weed_safety.journal import Journal

NOW = 2_000_000_000.0
WHOLE = (1 << 14) - 1


def topology(*servers: dict[str, Any]) -> Topology:
    """Servers, each with its volumes and with shards as bits by volume id and collection."""
    header = m.VolumeListResponse(volume_size_limit_mb=1000)
    rack = header.topology_info.data_center_infos.add(id="dc1").rack_infos.add(id="r1")
    for number, held in enumerate(servers):
        shards = [
            m.VolumeEcShardInformationMessage(
                id=volume_id,
                collection=collection,
                ec_index_bits=bits,
                encode_ts_ns=7,
                shard_sizes=[100] * bits.bit_count(),
            )
            for (volume_id, collection), bits in held.get("shards", {}).items()
        ]
        disk = m.DiskInfo(volume_infos=held.get("volumes", []), ec_shard_infos=shards)
        rack.data_node_infos.add(id=f"10.0.0.{number}:8080").diskInfos[""].CopyFrom(disk)
    return read([m.VolumeListStreamResponse(header=header)])


def volume(volume_id: int, **more: Any) -> m.VolumeInformationMessage:
    return m.VolumeInformationMessage(id=volume_id, size=1000, version=3, **more)


def some(counts: Any) -> dict[Any, int]:
    """Those that are not none."""
    return {key: count for key, count in counts.items() if count}


def test_volumes_are_counted_by_what_is_wrong_with_them() -> None:
    twice = {"replica_placement": 1, "collection": "photos"}
    cluster = topology(
        {"volumes": [volume(1, **twice), volume(2, **twice), volume(3, deleted_byte_count=70)]},
        {"volumes": [volume(1, **twice, read_only=True, deleted_byte_count=30)]},
    )
    health = health_of(cluster, [], {3}, NOW)
    assert some(health.volumes) == {
        ("photos", "under_replicated"): 1,
        ("photos", "read_only"): 1,
        ("", "diverged"): 1,
    }
    assert health.garbage == {"photos": 30, "": 70}
    assert health.volumes["", "read_only"] == 0  # so that what ends is told as none


def test_shards_are_counted_by_how_many_are_left_and_sound() -> None:
    cluster = topology(
        {"shards": {(1, "a"): 0b1111, (2, "a"): 0b1111, (3, "b"): 0b1111}},
        {"shards": {(1, "a"): WHOLE ^ 0b1111, (2, "a"): (WHOLE ^ 0b1111) >> 2 & ~0b1111, (3, "b"): 0b111110000}},
    )
    assert some(health_of(cluster, [], (), NOW).ec) == {("a", "14"): 1, ("a", "12"): 1, ("b", FEWER): 1}
    bad = [Finding(EC_SHARD, 1, "a", 7, shard, "10.0.0.0:8080", NOW) for shard in (0, 2, 2)]
    assert some(health_of(cluster, bad, (), NOW).ec) == {("a", "12"): 2, ("b", FEWER): 1}


def test_faults_are_counted_by_how_long_they_are_open() -> None:
    found = [Finding(REPLICA, 1, server="a", found=NOW - age) for age in (0, 3599, 3700, 2 * 86400, 30 * 86400)]
    counted = some(health_of(topology({"volumes": [volume(1)]}), found, (), NOW).faults)
    assert counted == {("", "hour"): 2, ("", "day"): 1, ("", "week"): 1, ("", "older"): 1}


def test_many_collections_are_counted_together() -> None:
    cluster = topology(
        {"volumes": [volume(number, collection=f"c{number}", read_only=True) for number in range(1, 151)]}
    )
    health = health_of(cluster, [], (), NOW)
    assert len(health.garbage) == MOST_COLLECTIONS + 1
    assert health.volumes[OTHERS, "read_only"] == 150 - MOST_COLLECTIONS


def test_a_look_is_kept_for_a_while_and_counted_once_a_minute() -> None:
    now = [NOW]
    sight = Sight(lambda: now[0])
    ctx = Context(Cluster(Channels()), Journal.memory())
    sight.looked("scrub", Detection([], coverage=Coverage(30, 4, 3)), ctx, is_whole=True)
    assert [sight.health, sight.coverage] == [None, None]  # nothing was seen
    ctx.seen = topology({"volumes": [volume(1)]})
    sight.looked("scrub", Detection([], coverage=Coverage(30, 4, 3)), ctx, is_whole=True)
    assert sight.coverage == Coverage(30, 4, 3)
    first = sight.health
    now[0] += AGAIN / 2
    sight.looked("vacuum", Detection([]), ctx, is_whole=True)
    assert sight.health is first
    sight.looked("replication", Detection([], [Skipped(1, "differs", "diverged")]), ctx, is_whole=True)
    assert sight.health is not None
    assert sight.health.volumes["", "diverged"] == 1
    now[0] += AGAIN
    sight.looked("vacuum", Detection([]), ctx, is_whole=False)
    assert sight.health.volumes["", "diverged"] == 1
    now[0] += LASTS
    assert [sight.health, sight.coverage] == [None, None]
