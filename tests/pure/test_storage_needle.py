"""Needle records, superblocks, TTLs and file ids, against a real volume and against themselves."""

import hashlib
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weed_core.errors import Mismatch
from weed_storage import index, needle
from weed_storage.needle import FileId, Needle, SuperBlock, actual_size, pack_needle, parse_needle, ttl_seconds

GOLDEN = Path(__file__).parent.parent / "golden" / "volume-4.44"
DAT = (GOLDEN / "before.dat").read_bytes()
IDX = (GOLDEN / "before.idx").read_bytes()

needles = st.builds(
    Needle,
    cookie=st.integers(0, 2**32 - 1),
    id=st.integers(0, 2**64 - 1),
    data=st.binary(min_size=1, max_size=300),
    name=st.binary(max_size=255),
    mime=st.binary(max_size=255),
    flags=st.sampled_from([0, needle.IS_COMPRESSED, needle.HAS_NAME, needle.HAS_TTL, needle.IS_CHUNK_MANIFEST]),
    last_modified=st.integers(0, 2**40 - 1),
    ttl=st.binary(min_size=2, max_size=2),
    pairs=st.binary(max_size=400),
    append_at_ns=st.integers(0, 2**64 - 1),
)


def test_every_live_needle_of_a_real_volume_is_read_through_its_index() -> None:
    live = index.fold(IDX)
    expected = json.loads((GOLDEN / "needles.json").read_text())
    assert len(expected) > 50
    for text, digest in expected.items():
        file_id = FileId.parse(text)
        if digest is None:
            assert file_id.needle_id not in live
            continue
        offset, size = live[file_id.needle_id]
        found = parse_needle(DAT[offset : offset + actual_size(size, 3)], 3)
        assert (found.id, found.cookie) == (file_id.needle_id, file_id.cookie)
        assert hashlib.sha256(found.data).hexdigest() == digest


def test_packing_the_needles_of_a_real_volume_gives_its_bytes_again() -> None:
    at, count = SuperBlock.parse(DAT).end, 0
    while at < len(DAT):
        _, _, size = needle.parse_header(DAT[at:])
        length = actual_size(size, 3)
        padding = length - (16 + size + 12)
        record = DAT[at : at + length]
        assert pack_needle(parse_needle(record, 3), 3)[:-padding] == record[:-padding]
        at, count = at + length, count + 1
    assert at == len(DAT)
    assert count == len(IDX) // 16


@settings(max_examples=60, deadline=None)
@given(needles, st.sampled_from([2, 3]))
def test_a_needle_comes_back_as_it_was_packed(original: Needle, version: int) -> None:
    blob = pack_needle(original, version)
    found = parse_needle(blob, version)
    assert len(blob) % 8 == 0
    assert len(blob) == actual_size(needle.parse_header(blob)[2], version)
    assert found.flags & original.flags == original.flags
    for field in ("cookie", "id", "data", "name", "mime", "last_modified", "ttl", "pairs"):
        assert getattr(found, field) == getattr(original, field), field
    assert found.append_at_ns == (original.append_at_ns if version == 3 else 0)
    assert found.checksum == needle.crc_value(original.data)
    assert pack_needle(found, version) == blob


def test_a_needle_without_data_is_a_header_and_a_tail() -> None:
    blob = pack_needle(Needle(cookie=7, id=9, name=b"dropped", append_at_ns=5), 3)
    assert blob.hex() == "00000007" + "0000000000000009" + "00000000" + "00000000" + "0000000000000005" + "00" * 4
    assert parse_needle(blob, 3) == Needle(cookie=7, id=9, append_at_ns=5)


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=1, max_size=100), st.data())
def test_one_flipped_bit_in_the_data_is_seen(data: bytes, draw: st.DataObject) -> None:
    blob = bytearray(pack_needle(Needle(cookie=1, id=2, data=data), 3))
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    blob[20 + bit // 8] ^= 1 << bit % 8
    with pytest.raises(Mismatch, match="needle 2 is damaged"):
        parse_needle(blob, 3)


def test_the_checksum_form_of_old_servers_is_read_too() -> None:
    blob = bytearray(pack_needle(Needle(cookie=1, id=2, data=b"123456789"), 3))
    size = needle.parse_header(blob)[2]
    crc = 0xE3069283
    assert struct.unpack_from(">I", blob, 16 + size) == (crc,)
    struct.pack_into(">I", blob, 16 + size, ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)
    assert parse_needle(blob, 3).data == b"123456789"


@pytest.mark.parametrize("length", [0, 15, 16, 40])
def test_a_needle_cut_short_is_refused(length: int) -> None:
    blob = pack_needle(Needle(cookie=1, id=2, data=bytes(100)), 3)
    with pytest.raises(Mismatch, match="cut short"):
        parse_needle(blob[:length], 3)


def test_a_field_that_runs_past_the_needle_is_refused() -> None:
    blob = bytearray(pack_needle(Needle(cookie=1, id=2, data=b"abc"), 3))
    struct.pack_into(">I", blob, 16, 1000)
    with pytest.raises(Mismatch, match="runs past"):
        parse_needle(blob, 3)


@pytest.mark.parametrize(
    ("size", "version", "actual"),
    [(0, 3, 32), (3, 3, 32), (4, 3, 40), (1000, 3, 1032), (65536, 3, 65568), (0, 2, 24), (4, 2, 32)],
)
def test_the_size_on_disk_has_one_to_eight_bytes_of_padding(size: int, version: int, actual: int) -> None:
    assert actual_size(size, version) == actual


def test_a_superblock_comes_back_as_it_was_packed() -> None:
    block = SuperBlock(version=3, replica_placement=10, ttl=b"\x05\x03", compaction_revision=258)
    assert block.pack().hex() == "030a050301020000"
    assert SuperBlock.parse(block.pack()) == block
    assert SuperBlock.parse(DAT) == SuperBlock()
    assert SuperBlock.parse(DAT[:8]).pack() == DAT[:8]
    assert SuperBlock(extra_size=24).end == 32


@pytest.mark.parametrize("blob", [b"", b"\x03" + bytes(6), b"\x09" + bytes(7)])
def test_a_damaged_superblock_is_refused(blob: bytes) -> None:
    with pytest.raises(Mismatch, match="superblock"):
        SuperBlock.parse(blob)


@pytest.mark.parametrize(
    ("stored", "seconds"),
    [
        (b"\x00\x00", 0),
        (b"\x03\x01", 180),
        (b"\x04\x02", 4 * 3600),
        (b"\x05\x03", 5 * 86400),
        (b"\x06\x04", 42 * 86400),
        (b"\x07\x05", 210 * 86400),
        (b"\x08\x06", 8 * 365 * 86400),
        (b"\x08\x09", 0),
    ],
)
def test_a_ttl_is_read_from_its_bytes_and_from_its_number(stored: bytes, seconds: int) -> None:
    assert ttl_seconds(stored) == seconds
    assert ttl_seconds(int.from_bytes(stored, "big")) == seconds


@pytest.mark.parametrize("text", ["3,01637037d6", "12,1000abcd0000", "4294967295,ffffffffffffffffffffffff"])
def test_a_file_id_is_written_as_it_is_read(text: str) -> None:
    assert str(FileId.parse(text)) == text


def test_a_file_id_names_volume_needle_and_cookie() -> None:
    assert FileId.parse("3,01637037d6") == (3, 1, 0x637037D6)


@pytest.mark.parametrize(
    "text", ["", "3", "3,", ",01637037d6", "3,637037d6", "x,01637037d6", "3,+1637037d6", "3,0x1637037d6"]
)
def test_what_is_no_file_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no file id"):
        FileId.parse(text)
