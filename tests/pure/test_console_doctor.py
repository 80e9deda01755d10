"""What doctor says of shards that do not fit together."""

from __future__ import annotations

import re
from pathlib import Path

from proto_gen import master_pb2 as m
from weed_cluster.topology import read
from weed_console.doctor.finding import CODES, Finding
from weed_console.doctor.report import groups, summary
from weed_console.doctor.shards import ec_volume
from weed_console.remedies import Remedy


def repaired(volume_id: int) -> Remedy:
    return Remedy(f"weed_worker run ec_repair -volumeId={volume_id}")


def ec(volume_id: int, bits: int) -> Finding:
    header = m.VolumeListResponse()
    rack = header.topology_info.data_center_infos.add(id="dc1").rack_infos.add(id="r1")
    rack.data_node_infos.add(id="10.0.0.1:8080").diskInfos[""].ec_shard_infos.add(id=volume_id, ec_index_bits=bits)
    holdings = read([m.VolumeListStreamResponse(header=header)]).holdings(volume_id, "")
    (found,) = ec_volume(f"EC volume {volume_id}", holdings, repaired)
    return found


def test_one_shard_from_the_edge_is_graver_than_degraded_and_too_few_graver_than_that() -> None:
    found = [ec(3, 0b111), ec(1, 0b1111111111), ec(2, 0b1111111111111)]
    assert [(one.code, one.level) for one in sorted(found, key=lambda one: one.rank)] == [
        ("EC_UNREADABLE", "problem"),
        ("EC_ONE_FROM_LOSS", "problem"),
        ("EC_DEGRADED", "warning"),
    ]
    assert "10 of 14 shards on 10.0.0.1:8080, missing 10 11 12 13" in found[1].what


def test_finds_of_one_cause_are_one_line_the_gravest_first_with_one_command_for_all_volumes() -> None:
    bits = 0b11111111111
    said = groups([Finding("OK", "TLS", "plaintext"), ec(7, bits), ec(9, bits), ec(8, 0b1111111111)])
    assert [group.code for group in said] == ["EC_ONE_FROM_LOSS", "EC_DEGRADED"]
    assert said[1].text.startswith("volumes 7, 9: 11 of 14 shards on 10.0.0.1:8080")
    (fix,) = said[1].fixes
    assert fix.endswith("weed_worker run ec_repair -volumeId=7,9")
    assert [one.where for one in said[1].finds] == ["EC volume 7", "EC volume 9"]


def test_several_finds_about_one_volume_speak_of_one() -> None:
    told = [Finding("HALF_READ_ONLY", f"volume 7 on {server}", server, "", (7,)) for server in ("a:1", "b:1")]
    (group,) = groups(told)
    assert group.text == "volume 7 refuses writes on one server and takes them on another"


def test_what_is_well_is_one_line() -> None:
    well = ["TLS", "/var/lib/w", "master 10.0.0.1:9333", "volume server a:1", "volume server b:1", "volumes"]
    told = summary([Finding("OK", where, "") for where in well])
    assert told == "TLS, working directory, master, 2 volume servers, volumes"


def test_the_docs_list_every_code_of_doctor_with_its_level() -> None:
    text = (Path(__file__).parents[2] / "docs" / "health.md").read_text()
    listed = re.findall(r"^\| `([A-Z_]+)` \| (\w+) \|", text, re.M)
    assert listed == [(code, level) for level, codes in CODES.items() for code in codes if level != "ok"]


def test_shards_of_two_encode_runs_are_told_with_where_the_older_ones_lie() -> None:
    header = m.VolumeListResponse()
    rack = header.topology_info.data_center_infos.add(id="dc1").rack_infos.add(id="r1")
    for number, (bits, run) in enumerate([(0b11111111110000, 200), (0b1111, 200), (0b11, 100)]):
        node = rack.data_node_infos.add(id=f"10.0.0.{number}:8080")
        node.diskInfos[""].ec_shard_infos.add(id=7, ec_index_bits=bits, encode_ts_ns=run)
    holdings = read([m.VolumeListStreamResponse(header=header)]).holdings(7, "")
    (found,) = ec_volume("EC volume 7", holdings, repaired)
    assert "shards of 2 different encode runs" in found.what
    assert found.fix.startswith("shards of older runs are 0, 1 on 10.0.0.2:8080; where the newer run is whole")


def test_two_servers_under_one_id_are_seen_in_what_the_master_lists() -> None:
    header = m.VolumeListResponse()
    center = header.topology_info.data_center_infos.add(id="dc1")
    for number in (1, 2):
        rack = center.rack_infos.add(id=f"r{number}")
        rack.data_node_infos.add(id="store", address=f"10.0.0.{number}:8080").diskInfos[""].max_volume_count = 8
    topology = read([m.VolumeListStreamResponse(header=header)])
    assert topology.twins == {"store": ["10.0.0.1:8080", "10.0.0.2:8080"]}
