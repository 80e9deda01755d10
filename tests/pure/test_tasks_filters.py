"""A filter that matches nothing is told, with the names that there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto_gen import master_pb2 as m
from weed_cluster.address import Address
from weed_cluster.topology import Disk, EcHolding, Node, Replica, Topology, collection_filter, either_filter
from weed_console.flags import parse
from weed_core.errors import ConfigError
from weed_core.model import Detection
from weed_tasks.filters import told, unknown, unmatched


def cluster(collections: tuple[str, ...] = ("photos", "docs", "")) -> Topology:
    """Volumes 1, 2, ... of these collections on one node each, in racks r1, r2, ...; volume 99 (cold) is in shards."""
    topology = Topology(volume_size_limit=1000)
    for number, collection in enumerate(collections, 1):
        address = Address.parse(f"10.0.0.{number}:8080")
        node = Node(str(address), address, "dc1", f"r{number}", {"": Disk("")})
        topology.nodes[node.id] = node
        info = m.VolumeInformationMessage(id=number, collection=collection, size=10)
        topology.volumes[number] = [Replica(node, "", info)]
    topology.ec[99, "cold"] = [EcHolding(node, "", m.VolumeEcShardInformationMessage(id=99, collection="cold"))]
    return topology


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, []),
        ({"collection_filter": "ALL_COLLECTIONS", "volume_state": "ALL", "rack_filter": ""}, []),
        ({"collection_filter": "^phot"}, []),
        ({"collection_filter": "_default"}, []),
        ({"collection_filter": "^$"}, []),
        (
            {"collection_filter": "phtoos"},
            ["no collection 'phtoos'; there are _default, cold, docs, photos. Did you mean photos?"],
        ),
        ({"rack_filter": "r1,r9"}, ["no rack 'r9'; there are r1, r2, r3"]),
        ({"rack_filter": "x?"}, ["no rack 'x?'; there are r1, r2, r3"]),
        ({"data_center_filter": "dc2"}, ["no data center 'dc2'; there is dc1. Did you mean dc1?"]),
        (
            {"node_filter": "10.0.0.1:8081"},
            [
                (
                    "no node '10.0.0.1:8081'; there are 10.0.0.1:8080, 10.0.0.2:8080, 10.0.0.3:8080. "
                    "Did you mean 10.0.0.1:8080?"
                )
            ],
        ),
        ({"disk_type": "hdd"}, []),
        ({"disk_type": "ssd"}, ["no disk type 'ssd'; there is hdd"]),
        (
            {"collection_filter": "photos", "rack_filter": "r2"},
            ["no volume is in what collection_filter and rack_filter ask for together"],
        ),
    ],
)
def test_a_setting_that_matches_nothing_is_told(config: dict[str, str], said: list[str]) -> None:
    assert unmatched("vacuum", config, cluster()) == said


def test_encoding_reads_names_and_the_others_expressions() -> None:
    assert unmatched("vacuum", {"collection_filter": "phot"}, cluster()) == []
    assert "Did you mean photos?" in unmatched("erasure_coding", {"collection_filter": "phot"}, cluster())[0]
    assert unmatched("erasure_coding", {"collection_filter": "phot*,_default"}, cluster()) == []


def test_the_unnamed_collection_can_be_chosen() -> None:
    for reads in (collection_filter, either_filter):
        assert [name for name in ("", "photos", "_default_2") if reads("_default")(name)] == [""]
    assert [name for name in ("", "photos", "docs") if either_filter("_default,docs")(name)] == ["", "docs"]


def test_each_id_and_each_collection_asked_for_must_be_there() -> None:
    topology = cluster()
    assert unknown([1, 99], ["photos", "cold"], topology) == []
    assert unknown([], ["_default"], topology) == []
    assert unknown([], ["ph*", "x*"], topology) == ["no collection 'x*'; there are _default, cold, docs, photos"]
    assert unknown([1, 7, 99], [], topology) == ["no volume 7; there are 1-3, 99"]
    assert unknown([2], ["photos"], topology) == ["volume 2 is of collection docs"]


@given(st.sets(st.sampled_from(["photos", "docs", "", "tmp"])), st.sampled_from(["photos", "docs", "_default", "tm?"]))
def test_nothing_is_said_exactly_where_something_matches(there: set[str], word: str) -> None:
    topology = cluster(tuple(sorted(there)) or ("other",))
    matches = {"photos": "photos", "docs": "docs", "_default": "", "tm?": "tmp"}[word] in there
    assert (unknown([], [word], topology) == []) is matches


def test_the_summary_of_a_detection_begins_with_what_matches_nothing() -> None:
    found = Detection([], summary="0 of 3 volumes have at least 30% garbage")
    assert told(found, "vacuum", {}, cluster()) is found
    summary = told(found, "vacuum", {"collection_filter": "phtoos"}, cluster()).summary
    assert summary.startswith("no collection 'phtoos'; there are ")
    assert summary.endswith("; 0 of 3 volumes have at least 30% garbage")
    assert told(found, "vacuum", {"volume_state": "FULL"}, cluster()).summary.startswith(
        "volume_state FULL matches none of 3 volumes"
    )


def test_an_empty_collection_flag_is_refused_rather_than_taken_for_all() -> None:
    assert parse(["plan", "vacuum", "-collection=_default"]).collections == ("_default",)
    assert parse(["plan", "vacuum"]).collections == ()
    with pytest.raises(ConfigError, match="-collection=_default"):
        parse(["plan", "vacuum", "-collection="])
