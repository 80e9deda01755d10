"""A server that went away is missed, with what only it held, until it comes back or nothing of it is missed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto_gen import master_pb2 as m
from weed_cluster.address import Address
from weed_cluster.past import KEPT, Past, members, ranges
from weed_cluster.topology import Disk, EcHolding, Node, Replica, Topology
from weed_state.last_topology import NAME, LastTopology, load

A, B, C = "10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"


def cluster(
    volumes: dict[str, list[int]], placement: int = 1, shards: dict[str, dict[int, list[int]]] | None = None
) -> Topology:
    """Servers by address with the ids of their volumes, and their shards by volume id."""
    topology = Topology()
    for name, ids in volumes.items():
        node = Node(name, Address.parse(name), "dc1", "r1", {"": Disk("")})
        topology.nodes[name] = node
        for volume_id in ids:
            info = m.VolumeInformationMessage(id=volume_id, replica_placement=placement)
            topology.volumes.setdefault(volume_id, []).append(Replica(node, "", info))
        for volume_id, held in (shards or {}).get(name, {}).items():
            bits = sum(1 << shard for shard in held)
            holding = EcHolding(node, "", m.VolumeEcShardInformationMessage(id=volume_id, ec_index_bits=bits))
            topology.ec.setdefault((volume_id, ""), []).append(holding)
    return topology


def test_a_server_that_went_away_is_missed_with_what_only_it_held() -> None:
    past = Past()
    past.look(cluster({A: [1, 2, 3], B: [1, 2], C: [9]}), 100)
    now = cluster({A: [1, 2, 3], B: [1, 2]})
    past.look(now, 200)
    past.look(now, 300)
    (loss,) = past.losses(now)
    assert (loss.server, loss.seen, loss.missed, loss.gone, loss.fewer) == (C, 100, 200, (9,), ())
    now = cluster({C: [9], B: [1, 2]})
    past.look(now, 400)
    (loss,) = past.losses(now)
    assert (loss.server, loss.gone, loss.fewer) == (A, (3,), (1, 2))
    back = cluster({A: [1, 2, 3], B: [1, 2], C: [9]})
    past.look(back, 500)
    assert past.losses(back) == []


def test_since_when_a_volume_that_is_not_full_takes_no_writes_is_remembered() -> None:
    def seen(*shut: int) -> Topology:
        topology = cluster({A: [1, 2]}, placement=0)
        topology.volume_size_limit = 100
        for volume_id in shut:
            topology.volumes[volume_id][0].info.read_only = True
        return topology

    past = Past()
    past.look(seen(1), 100)
    past.look(seen(1, 2), 200)
    past.look(seen(1, 2), 300)
    kept = Past.read(json.loads(json.dumps(past.document())))
    assert kept.shut[1].text() == "it was so at the first look, 1970-01-01 00:01:40 UTC"
    assert kept.shut[2].text() == "it took writes at 1970-01-01 00:01:40 UTC and did not at 1970-01-01 00:03:20 UTC"
    kept.look(seen(2), 400)
    assert list(kept.shut) == [2]


def test_an_erasure_coded_volume_is_gone_with_more_shards_than_may_be_lost() -> None:
    past = Past()
    shards = {A: {5: [0, 1, 2, 3, 4], 6: [0]}, B: {5: list(range(5, 14)), 6: list(range(1, 14))}}
    past.look(cluster({A: [], B: []}, shards=shards), 100)
    now = cluster({B: []}, shards=shards)
    past.look(now, 200)
    (loss,) = past.losses(now)
    assert (loss.gone, loss.fewer) == ((5,), (6,))


def test_a_server_that_was_empty_when_it_went_is_not_missed() -> None:
    past = Past()
    past.look(cluster({A: [1], B: [1]}), 100)
    past.look(cluster({A: [1], B: [], C: [1]}), 200)
    now = cluster({A: [1], C: [1]})
    past.look(now, 300)
    assert past.losses(now) == []
    assert B not in past.servers


def test_a_server_of_which_nothing_is_missed_any_more_is_forgotten_after_a_while() -> None:
    past = Past()
    past.look(cluster({A: [1], B: [1]}), 100)
    repaired = cluster({A: [1], C: [1]})
    past.look(repaired, 200)
    (loss,) = past.losses(repaired)
    assert (loss.gone, loss.fewer) == ((), ())
    past.look(repaired, 200 + KEPT)
    assert B in past.servers
    past.look(repaired, 201 + KEPT)
    assert B not in past.servers
    missed = Past()
    missed.look(cluster({A: [1], B: [1]}), 100)
    missed.look(cluster({A: [1]}), 200)
    missed.look(cluster({A: [1]}), 300 + KEPT)
    assert B in missed.servers


def test_since_when_a_volume_lacks_a_copy_is_known_from_two_sides() -> None:
    past = Past()
    past.look(cluster({A: [1, 2], B: [1]}), 100)
    assert (past.short[2].complete, past.short[2].since) == (0, 100)
    past.look(cluster({A: [1, 2]}), 200)
    past.look(cluster({A: [1, 2]}), 300)
    assert (past.short[1].complete, past.short[1].since) == (100, 200)
    past.look(cluster({A: [1], B: [1]}), 400)
    assert past.short == {}


def test_only_a_missed_server_can_be_forgotten() -> None:
    past = Past()
    past.look(cluster({A: [1], B: [1]}), 100)
    assert not past.forget(B)
    past.look(cluster({A: [1]}), 200)
    assert not past.forget(C)
    assert past.forget(B)
    assert past.losses(cluster({A: [1]})) == []


@given(st.sets(st.integers(0, 2000)))
def test_ids_are_written_in_short_and_read_back(ids: set[int]) -> None:
    assert members(ranges(ids)) == sorted(ids)


@given(
    st.lists(
        st.dictionaries(st.sampled_from([A, B, C]), st.lists(st.integers(1, 30), unique=True), min_size=1),
        min_size=1,
        max_size=6,
    )
)
def test_what_was_ever_on_a_server_that_is_gone_is_either_there_or_told(looks: list[dict[str, list[int]]]) -> None:
    past = Past()
    last: dict[str, list[int]] = {}
    for moment, volumes in enumerate(looks, 1):
        past.look(cluster(volumes), moment)
        past = Past.read(json.loads(json.dumps(past.document())))
        last |= volumes
    now = cluster(looks[-1])
    told = {volume_id for loss in past.losses(now) for volume_id in loss.gone}
    everything = {volume_id for ids in last.values() for volume_id in ids}
    assert told == everything - set(now.volumes)


def test_the_memory_is_kept_over_processes_and_ends_where_the_operator_says_so(tmp_path: Path) -> None:
    whole, less = cluster({A: [1], B: [1]}), cluster({A: [1]})
    LastTopology(tmp_path / "new", clock=lambda: 100.0).look(whole)
    past = LastTopology(tmp_path / "new", clock=lambda: 200.0).look(less)
    assert [loss.server for loss in past.losses(less)] == [B]
    beside = LastTopology(tmp_path / "console", [tmp_path / "new"], clock=lambda: 300.0)
    assert [loss.missed for loss in beside.look(less).losses(less)] == [200.0]
    assert beside.forget(B)
    assert not beside.forget(B)
    assert beside.look(less).losses(less) == []


def test_the_memory_of_another_cluster_is_not_taken_for_this_one(tmp_path: Path) -> None:
    LastTopology(tmp_path).look(cluster({A: [1], B: [1]}))
    other = cluster({C: [1]})
    assert LastTopology(tmp_path).look(other).losses(other) == []


def test_a_look_at_one_volume_reads_the_memory_and_changes_nothing(tmp_path: Path) -> None:
    LastTopology(tmp_path).look(cluster({A: [1, 2], B: [1]}))
    before = (tmp_path / NAME).read_bytes()
    LastTopology(tmp_path).look(cluster({A: [1]}), is_whole=False)
    assert (tmp_path / NAME).read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"looked": 1, "servers": {"../x": {}}, "short": {}}',
        b'{"looked": true, "servers": {}, "short": {}}',
        b'{"looked": 1, "servers": {"a:1": {"seen": 1, "missed": 0, "volumes": "1-9999999999", "shards": {}}}}',
        b'{"looked": 1, "servers": {"a:1": {"seen": NaN, "missed": 0, "volumes": "", "shards": {}}}, "short": {}}',
        b'{"looked": 1, "servers": {}, "short": {"1": 7}}',
    ],
)
def test_a_damaged_memory_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    assert load(tmp_path) == Past()
    topology = cluster({A: [1]})
    LastTopology(tmp_path).look(topology)
    assert list(load(tmp_path).servers) == [A]


def test_a_link_is_not_followed_and_a_pipe_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("{}")
    (tmp_path / NAME).symlink_to(tmp_path / "real")
    assert load(tmp_path) == Past()
    (tmp_path / NAME).unlink()
    os.mkfifo(tmp_path / NAME)
    assert load(tmp_path) == Past()


def test_a_large_cluster_is_remembered_in_little_time_and_room(tmp_path: Path) -> None:
    volumes = {f"10.0.{n // 250}.{n % 250}:8080": list(range(n * 1000 + 1, n * 1000 + 1001)) for n in range(100)}
    topology = cluster(volumes, placement=0)
    memory = LastTopology(tmp_path)
    memory.look(topology)
    began = time.process_time()
    memory.look(topology)
    assert time.process_time() - began < 2.0
    assert (tmp_path / NAME).stat().st_size < 100_000
