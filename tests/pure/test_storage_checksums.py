"""CRC32C and the checksum file beside the shards."""

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weed_core.errors import Mismatch
from weed_storage import isal
from weed_storage.checksums import (
    BLOCK_SIZE,
    BlockChecksums,
    Ecsum,
    ShardChecksums,
    crc32c,
    dump_ecsum,
    parse_ecsum,
)
from weed_storage.reed_solomon import Encoder

GOLDEN = Path(__file__).parent.parent / "golden" / "volume-4.44"
ECSUM = (GOLDEN / "after.ecsum").read_bytes()

CANONICAL = bytes.fromhex(
    "45435355 0001 00000039 cc1b826a 080110808080082204080a10042a0a108080401a0404030201"
    "2a0c0801108080401a040807060532 10000102030405060708090a0b0c0d0e0f"
)
CANONICAL_CONTENT = Ecsum(
    {0: ShardChecksums(1 << 20, (0x01020304,)), 1: ShardChecksums(1 << 20, (0x05060708,))}, bytes(range(16))
)


def test_the_library_and_the_table_agree_on_the_known_value() -> None:
    assert isal.load() is not None
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"123456789", use_isal=False) == 0xE3069283
    assert crc32c(b"") == crc32c(b"", use_isal=False) == 0


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_a_crc_goes_on_from_the_one_before(first: bytes, second: bytes) -> None:
    assert crc32c(second, crc32c(memoryview(first))) == crc32c(bytearray(first + second), use_isal=False)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.integers(1, 64), st.lists(st.integers(0, 90), max_size=20))
def test_block_checksums_do_not_depend_on_how_the_bytes_are_cut(data: bytes, block_size: int, cuts: list[int]) -> None:
    sums = BlockChecksums(block_size)
    start = 0
    for cut in (*cuts, len(data)):
        sums.feed(data[start : start + cut])
        start += cut
    blocks = [data[at : at + block_size] for at in range(0, len(data), block_size)]
    assert sums.result() == ShardChecksums(len(data), tuple(map(crc32c, blocks)))


def test_the_canonical_sample_is_written_and_read() -> None:
    assert dump_ecsum(CANONICAL_CONTENT) == CANONICAL
    assert parse_ecsum(CANONICAL) == CANONICAL_CONTENT


def test_the_checksums_of_a_real_volume_equal_those_the_server_wrote() -> None:
    dat = (GOLDEN / "before.dat").read_bytes()
    row = dat.ljust(10 << 20, b"\0")
    blocks = [row[at << 20 : (at + 1) << 20] for at in range(10)] + Encoder().encode_rows(row, 1 << 20)
    shards = {}
    for shard, block in enumerate(blocks):
        sums = BlockChecksums()
        for start in range(0, len(block), 300_000):
            sums.feed(block[start : start + 300_000])
        shards[shard] = sums.result()
    assert dump_ecsum(Ecsum(shards, parse_ecsum(ECSUM).encode_uuid)) == ECSUM


def test_a_shard_of_several_blocks_comes_back() -> None:
    content = Ecsum({s: ShardChecksums(2 * BLOCK_SIZE + 5, (s, 2, 0xFFFFFFFF)) for s in range(14)}, bytes(16))
    assert parse_ecsum(dump_ecsum(content)) == content


@pytest.mark.parametrize("at", [0, 5, 9, 12, 30, len(ECSUM) - 1])
def test_a_damaged_checksum_file_is_refused(at: int) -> None:
    damaged = bytearray(ECSUM)
    damaged[at] ^= 1
    with pytest.raises(Mismatch, match="ecsum is damaged"):
        parse_ecsum(bytes(damaged))


@pytest.mark.parametrize("length", [0, 13, 14, len(ECSUM) - 1])
def test_a_checksum_file_cut_short_is_refused(length: int) -> None:
    with pytest.raises(Mismatch, match="ecsum"):
        parse_ecsum(ECSUM[:length])


def enveloped(payload: bytes) -> bytes:
    return struct.pack(">IHII", 0x45435355, 1, len(payload), crc32c(payload)) + payload


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff",
        CANONICAL[14:].replace(b"\x08\x0a\x10\x04", b"\x08\x09\x10\x04"),
        CANONICAL[14:].replace(b"\x08\x01\x10\x80\x80\x80\x08", b"\x08\x01\x10\x80\x80\x80\x7f"),
        CANONICAL[14:].replace(b"\x10\x80\x80\x40", b"\x10\x80\x80\x00"),
        CANONICAL[14:].replace(b"\x1a\x04\x04\x03\x02\x01", b"\x22\x04\x04\x03\x02\x01"),
        CANONICAL[14:].replace(b"\x2a\x0c\x08\x01", b"\x2a\x0c\x08\x00"),
    ],
    ids=["no protobuf", "other ratio", "block size", "nothing covered", "no words", "a shard twice"],
)
def test_a_checksum_file_that_contradicts_itself_is_refused(payload: bytes) -> None:
    assert payload != CANONICAL[14:]
    with pytest.raises(Mismatch, match="ecsum"):
        parse_ecsum(enveloped(payload))
