"""The .vif file: what each generation of servers is given, and what is read."""

import json
from pathlib import Path

import pytest

from proto_gen.volume_server_pb2 import EcShardConfig, RemoteFile, VolumeInfo
from weed_core.errors import Mismatch
from weed_core.release import Generation, server_generation
from weed_storage.volume_info import dump_vif, parse_vif

GOLDEN = Path(__file__).parent.parent / "golden" / "volume-4.44"

EC_VOLUME = VolumeInfo(
    version=3,
    dat_file_size=3158073,
    expire_at_sec=1700000000,
    ec_shard_config=EcShardConfig(data_shards=10, parity_shards=4, encode_ts_ns=1700000000000000321),
)
OLDEST = {
    "version": 3,
    "files": [],
    "replication": "",
    "bytesOffset": 0,
    "datFileSize": "3158073",
    "expireAtSec": "1700000000",
    "readOnly": False,
}


def test_a_3_97_server_gets_the_fields_it_knows() -> None:
    assert json.loads(dump_vif(EC_VOLUME, Generation.V3_97)) == OLDEST


@pytest.mark.parametrize("generation", [Generation.V4_13, Generation.V4_19])
def test_a_4_13_server_gets_the_ratio_too(generation: Generation) -> None:
    expected = OLDEST | {"ecShardConfig": {"dataShards": 10, "parityShards": 4}}
    assert json.loads(dump_vif(EC_VOLUME, generation)) == expected


def test_a_4_44_server_gets_the_stamp_of_the_encode_too() -> None:
    config = {"dataShards": 10, "parityShards": 4, "encodeTsNs": "1700000000000000321"}
    expected = OLDEST | {"ecShardConfig": config, "readOnlyCanDelete": False}
    assert json.loads(dump_vif(EC_VOLUME, Generation.V4_44)) == expected


@pytest.mark.parametrize("generation", list(Generation))
def test_the_version_comes_first_whatever_the_server(generation: Generation) -> None:
    text = dump_vif(EC_VOLUME, generation).decode()
    assert next(iter(json.loads(text))) == "version"
    assert text.index('"version"') < text.index('"ecShardConfig"' if generation > "4" else '"readOnly"')


@pytest.mark.parametrize("name", ["before.vif", "after.vif"])
def test_the_file_of_a_real_server_is_written_as_it_is_read(name: str) -> None:
    blob = (GOLDEN / name).read_bytes()
    info = parse_vif(blob)
    assert info is not None
    assert json.loads(dump_vif(info, Generation.V4_44)) == json.loads(blob)


def test_a_tiered_volume_keeps_its_remote_file() -> None:
    file = RemoteFile(
        backend_type="s3", backend_id="cold", key="k", offset=1, file_size=2**40, modified_time=7, extension=".dat"
    )
    info = VolumeInfo(files=[file], version=3, replication="001", bytes_offset=4, read_only=True)
    for generation in Generation:
        assert parse_vif(dump_vif(info, generation)) == info


def test_names_in_snake_case_and_plain_numbers_are_read() -> None:
    blob = b'{"version": 3, "dat_file_size": 12, "expire_at_sec": "5", "ec_shard_config": {"encode_ts_ns": 9}}'
    expected = VolumeInfo(version=3, dat_file_size=12, expire_at_sec=5, ec_shard_config=EcShardConfig(encode_ts_ns=9))
    assert parse_vif(blob) == expected


def test_an_empty_file_counts_as_absent() -> None:
    assert parse_vif(b"") is None


def test_fields_of_later_releases_are_passed_over() -> None:
    assert parse_vif(b'{"novelty": {"a": [1]}, "version": 3}') == VolumeInfo(version=3)


@pytest.mark.parametrize("blob", [b"{", b"\xff\xfe", b"[]", b'{"version": "three"}'])
def test_a_damaged_file_is_refused(blob: bytes) -> None:
    with pytest.raises(Mismatch, match="vif is damaged"):
        parse_vif(blob)


@pytest.mark.parametrize(
    ("version", "generation"),
    [
        ("30GB 4.44 1a2b3c4", "4.44"),
        ("30GB 4.44 ", "4.44"),
        ("8000GB 3.97", "3.97"),
        ("30GB 4.13 1.2", "4.13"),
        ("30GB 4.18 9f", "4.13"),
        ("30GB 4.43 9f", "4.19"),
        ("30GB 4.02 9f", "3.97"),
        ("30GB 3.80 9f", "3.97"),
        ("30GB 4.100 9f", "4.44"),
        ("30GB 10.01 9f", "4.44"),
        ("4.44", "4.44"),
    ],
)
def test_the_generation_of_a_server_is_told_from_its_version(version: str, generation: str) -> None:
    assert server_generation(version) is Generation(generation)


@pytest.mark.parametrize("version", ["", "30GB", "unknown build"])
def test_a_server_of_an_untold_version_is_refused(version: str) -> None:
    with pytest.raises(Mismatch, match="cannot tell the release"):
        server_generation(version)


def test_only_servers_that_know_them_get_checksums_and_the_new_rows() -> None:
    assert [g.knows_ecsum for g in Generation] == [False, False, False, True]
    assert [g.strict_rows for g in Generation] == [True, True, False, False]
