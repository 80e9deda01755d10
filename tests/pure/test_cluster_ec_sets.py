"""What is wrong with erasure-coded volumes by the master's list alone, and since when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from proto_gen import master_pb2 as m
from weed_cluster.address import Address
from weed_cluster.ec_sets import MISSING, NO_RUN, SHORT, TWICE, EcFaults, examine, faults_of
from weed_cluster.past import Past
from weed_cluster.topology import EcHolding, Node, Topology

NODES = [Node(f"n{at}", Address.parse(f"10.0.0.{at + 1}:8080"), "dc", f"r{at % 3}") for at in range(7)]


def holding(node: int, shards: Sequence[int], run: int = 7, sizes: Sequence[int] | None = None) -> EcHolding:
    """Shards of volume 5 on a node."""
    info = m.VolumeEcShardInformationMessage(
        id=5,
        collection="photos",
        ec_index_bits=sum(1 << shard for shard in shards),
        shard_sizes=sizes if sizes is not None else [1000] * len(shards),
        encode_ts_ns=run,
    )
    return EcHolding(NODES[node], "", info)


def dealt(**changed: EcHolding | None) -> list[EcHolding]:
    """Two shards on each node, with some nodes' holdings changed: n3=None."""
    found = {f"n{at}": holding(at, [at, at + 7]) for at in range(7)}
    merged: Mapping[str, EcHolding | None] = {**found, **changed}
    return [one for one in merged.values() if one is not None]


def wrong(*holdings: EcHolding) -> EcFaults:
    found = examine(list(holdings))
    assert found is not None
    return found


def test_a_volume_with_all_shards_once_and_alike_is_well() -> None:
    assert examine(dealt()) is None
    assert examine([holding(at, [at, at + 7], run=0, sizes=[]) for at in range(7)]) is None


@pytest.mark.parametrize(
    ("change", "kind", "shards", "sound"),
    [
        ({"n3": None}, MISSING, (3, 10), 12),
        ({"n3": holding(3, [3, 10], sizes=[1000, 500])}, SHORT, (10,), 13),
        ({"n3": holding(3, [3, 10], sizes=[0, 1000])}, SHORT, (3,), 13),
        ({"n3": holding(3, [3, 10, 4])}, TWICE, (4,), 14),
        ({"n3": holding(3, [3, 10], run=0)}, NO_RUN, (3, 10), 12),
    ],
)
def test_each_fault_is_told_by_its_shards(
    change: dict[str, EcHolding | None], kind: str, shards: tuple[int, ...], sound: int
) -> None:
    found = wrong(*dealt(**change))
    assert dict(found.shards) == {kind: shards}
    assert found.best.sound == sound
    assert not found.is_lost
    assert found.others == ()
    assert str(shards[0]) in found.words


def test_shards_of_another_run_count_for_nothing() -> None:
    found = wrong(*dealt(n3=holding(3, [3, 10], run=8)))
    assert found.shards == {MISSING: (3, 10)}
    assert [(one.run, one.sound) for one in found.others] == [(8, 2)]
    assert found.best.run == 7


def test_with_fewer_than_ten_of_one_run_it_is_lost() -> None:
    found = wrong(holding(0, range(9)), holding(1, range(9, 14), run=8))
    assert found.is_lost
    assert found.best.sound == 9


def test_a_volume_is_not_given_up_by_sizes_that_the_master_was_told_wrong() -> None:
    # A 4.44 server tells the size of a shard cut short for all its shards after a start, until its next full report.
    found = wrong(holding(0, range(9)), holding(1, [9, 10], sizes=[500, 500]))
    assert found.best.sound == 9
    assert not found.is_lost


def test_more_than_four_on_a_host_are_told() -> None:
    found = wrong(holding(0, range(5)), holding(1, [5, 6, 7, 8]), holding(2, [9, 10, 11]), holding(3, [12, 13]))
    assert found.crowded == {"10.0.0.1": 5}
    assert found.shards == {}
    assert found.codes == []


def topology(holdings: Sequence[EcHolding]) -> Topology:
    return Topology(nodes={node.id: node for node in NODES}, ec={(5, "photos"): list(holdings)})


def test_since_when_each_fault_is_there_is_remembered() -> None:
    past = Past()
    past.look(topology(dealt(n3=None)), 1000.0)
    past.look(topology(dealt(n3=None, n4=None)), 1500.0)
    assert past.faulty_for(5, "missing 3", 1700.0) == 700.0
    assert past.faulty_for(5, "missing 4", 1700.0) == 200.0
    assert past.faulty_for(5, "missing 5", 1700.0) == 0.0
    assert Past.read(past.document()) == past
    past.look(topology(dealt(n4=None)), 1800.0)
    past.look(topology(dealt(n3=None, n4=None)), 1900.0)
    assert past.faulty_for(5, "missing 3", 2000.0) == 100.0
    past.look(topology(dealt()), 2000.0)
    assert past.ec == {}


def test_what_another_memory_saw_earlier_counts() -> None:
    early, late = Past(), Past()
    early.look(topology(dealt(n3=None)), 1000.0)
    late.look(topology(dealt(n3=None)), 2000.0)
    late.merge(early)
    assert late.faulty_for(5, "missing 3", 2000.0) == 1000.0
    fresh = Past()
    fresh.merge(early)
    assert fresh.faulty_for(5, "missing 3", 2000.0) == 1000.0
    well = Past()
    well.look(topology(dealt()), 3000.0)
    well.merge(early)
    assert well.faulty_for(5, "missing 3", 3000.0) == 0.0


def test_a_memory_without_such_faults_can_be_read() -> None:
    document = Past().document()
    del document["ec"]
    assert Past.read(document) == Past()
    document["ec"] = {"5": {"missing 3": "soon"}}
    with pytest.raises(ValueError, match="no moment"):
        Past.read(document)


def test_only_volumes_with_a_fault_are_named() -> None:
    assert faults_of(topology(dealt())) == {}
    assert list(faults_of(topology(dealt(n3=None)))) == [(5, "photos")]
