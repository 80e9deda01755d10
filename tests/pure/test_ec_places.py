"""Where single shards go beside those that are there: by host, rack and free bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from weed_cluster.address import Address
from weed_cluster.topology import Disk, Node, Topology
from weed_ec.places import RESERVE, choose_places
from weed_ec.stream import Slot

GIB = 1 << 30


def node(name: str, host: str, rack: str = "r1", kind: str = "", slots: int = 10, free: int = 500 * GIB) -> Node:
    """A server with one disk."""
    disk = Disk(kind, max_volume_count=slots, total_bytes=1000 * GIB, free_bytes=free, physical={0: slots})
    return Node(name, Address.parse(f"{host}:8080"), "dc", rack, {kind: disk})


def places(
    nodes: Sequence[Node], held: Mapping[int, Sequence[Node]], *shards: int, size: int = GIB
) -> tuple[dict[int, Slot], str]:
    topology = Topology(nodes={one.id: one for one in nodes})
    return choose_places(topology, held, shards, size, "")


def test_the_host_with_fewest_shards_of_the_volume_comes_first() -> None:
    a, b = node("a", "10.0.0.1"), node("b", "10.0.0.2")
    found, trouble = places([a, b], {0: [a], 1: [a], 2: [b]}, 3)
    assert (found, trouble) == ({3: Slot(b.address)}, "")


def test_racks_count_before_hosts() -> None:
    a, b, c = node("a", "10.0.0.1"), node("b", "10.0.0.2"), node("c", "10.0.0.3", "r2")
    found, _trouble = places([a, b, c], {0: [a], 1: [a], 2: [c]}, 3)
    assert found == {3: Slot(c.address)}


def test_no_host_gets_more_than_four_while_there_is_another_way() -> None:
    full, other = node("a", "10.0.0.1", "r1"), node("b", "10.0.0.2", "r2")
    held = {**{shard: [full] for shard in range(4)}, **{shard: [other] for shard in range(4, 7)}}
    found, trouble = places([full, other], held, 7, 8)
    assert found[7] == Slot(other.address)
    assert "more than 4 shards on one host" in trouble


def test_several_lost_shards_are_spread() -> None:
    nodes = [node(f"n{at}", f"10.0.0.{at}") for at in range(1, 5)]
    found, trouble = places(nodes, {}, 0, 1, 2, 3)
    assert {slot.server for slot in found.values()} == {one.address for one in nodes}
    assert not trouble


def test_most_room_counts_among_equals_and_disks_without_room_get_nothing() -> None:
    small, large = node("a", "10.0.0.1", free=200 * GIB), node("b", "10.0.0.2", free=400 * GIB)
    assert places([small, large], {}, 0)[0] == {0: Slot(large.address)}
    full = node("c", "10.0.0.3", free=100 * GIB)  # nine tenths are in use
    assert places([full], {}, 0) == ({}, "no server has room for a shard of 1024 MiB")
    told = node("d", "10.0.0.4")
    told.disks[""].free_by_disk = {0: RESERVE + GIB - 1}
    assert places([told], {}, 0)[0] == {}


def test_servers_that_refuse_get_nothing_and_are_named() -> None:
    a = node("a", "10.0.0.1")
    topology = Topology(nodes={"a": a})
    topology.close(a.address, "a is in maintenance mode")
    found, trouble = choose_places(topology, {}, [0], GIB, "")
    assert found == {}
    assert trouble == "no server has room for a shard of 1024 MiB; a is in maintenance mode"
