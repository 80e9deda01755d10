"""Shards: the code, the rows, and the way back from shards to needles."""

import hashlib
import itertools
import json
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weed_core.errors import Mismatch
from weed_storage import index, isal
from weed_storage.checksums import crc32c
from weed_storage.ec_layout import layout, locate, shard_size
from weed_storage.needle import FileId, actual_size, parse_needle
from weed_storage.reed_solomon import MATRIX, Encoder

GOLDEN = Path(__file__).parent.parent / "golden" / "volume-4.44"

LARGE, SMALL = 64, 8  # bytes; stand for 1 GiB and 1 MiB
GIB, MIB = 1 << 30, 1 << 20

ENCODERS = {"isa-l": Encoder(), "python": Encoder(use_isal=False)}


def shards_of(
    dat: bytes, encoder: Encoder, strict: bool = False, large: int = 1 << 30, small: int = 1 << 20
) -> list[bytes]:
    """Encode a whole .dat the plain way: row by row, each shard one buffer."""
    shards = [bytearray() for _ in range(14)]
    for offset, block_size, shard_offset in layout(len(dat), strict, large, small):
        row = dat[offset : offset + 10 * block_size].ljust(10 * block_size, b"\0")
        blocks = [row[at * block_size : (at + 1) * block_size] for at in range(10)]
        for shard, block in zip(shards, [*blocks, *encoder.encode_rows(row, block_size)]):
            assert len(shard) == shard_offset
            shard += bytes(block)
    return list(map(bytes, shards))


def read(
    shards: Mapping[int, bytes],
    offset: int,
    size: int,
    dat_size: int,
    strict: bool = False,
    large: int = 1 << 30,
    small: int = 1 << 20,
) -> bytes:
    pieces = locate(offset, size, dat_size, strict, large, small)
    return b"".join(shards[shard][start : start + length] for shard, start, length in pieces)


def test_both_backends_are_under_test() -> None:
    assert {name: encoder.backend for name, encoder in ENCODERS.items()} == {"isa-l": "isa-l", "python": "python"}


def test_the_matrix_has_the_parity_rows_of_seaweedfs() -> None:
    assert [row.hex(" ") for row in MATRIX[10:]] == [
        "81 96 af b8 d2 c4 fe e8 03 02",
        "96 81 b8 af c4 d2 e8 fe 02 03",
        "bf d6 62 0a 06 6f df b7 05 04",
        "d6 bf 0a 62 6f 06 b7 df 04 05",
    ]
    assert all(MATRIX[row][column] == (row == column) for row in range(10) for column in range(10))


@pytest.mark.parametrize("backend", ENCODERS)
def test_the_golden_vector_gives_the_golden_shards(backend: str) -> None:
    dat, x = bytearray(3158073), 1
    for at in range(len(dat)):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
        dat[at] = x >> 24
    shards = shards_of(bytes(dat), ENCODERS[backend])
    zeros = "30e14955ebf13522"
    digests = ["8ffdf7e6cfde155a", "c82c461eb61f1eb9", "b5d3c7383fb8083c", "aa026afc43a08b52", *[zeros] * 6]
    digests += ["4d6a88a9a7c41b69", "b3e2dc9ade0fdced", "46f11eb7162d4d6d", "ca951ab23374893b"]
    assert [hashlib.sha256(shard).hexdigest()[:16] for shard in shards] == digests
    words = ["fa3f761f", "a68eeb5a", "e94c45bf", "31b51471", *["128c2914"] * 6]
    words += ["008544cf", "55605329", "dbf72f23", "f3ccfcfd"]
    assert [crc32c(shard).to_bytes(4, "little").hex() for shard in shards] == words


@pytest.mark.parametrize("backend", ENCODERS)
def test_a_real_volume_gives_the_shards_that_the_server_wrote(backend: str) -> None:
    shards = shards_of((GOLDEN / "before.dat").read_bytes(), ENCODERS[backend])
    for shard, expected in enumerate(json.loads((GOLDEN / "shards.json").read_text()).values()):
        assert len(shards[shard]) == expected["size"]
        assert hashlib.sha256(shards[shard]).hexdigest() == expected["sha256"]


@pytest.mark.parametrize("lost", [(), (0, 1, 10, 13), (0, 1, 2, 3)])
def test_every_needle_of_a_real_volume_is_read_from_its_shards(lost: Sequence[int]) -> None:
    dat = (GOLDEN / "before.dat").read_bytes()
    shards = dict(enumerate(shards_of(dat, ENCODERS["isa-l"])))
    kept = {shard: content for shard, content in shards.items() if shard not in lost}
    kept |= ENCODERS["isa-l"].reconstruct(kept, lost)
    ecx = (GOLDEN / "after.ecx").read_bytes()
    for text, digest in json.loads((GOLDEN / "needles.json").read_text()).items():
        found = index.search_ecx(ecx, FileId.parse(text).needle_id)
        assert (found is None) == (digest is None)
        if found:
            blob = read(kept, found[0], actual_size(found[1], 3), len(dat))
            assert hashlib.sha256(parse_needle(blob, 3).data).hexdigest() == digest


# -- the code -------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 200), st.randoms(use_true_random=False))
def test_isal_computes_what_the_reference_computes(block_size: int, draw: random.Random) -> None:
    row = draw.randbytes(10 * block_size)
    fast, plain = (ENCODERS[backend].encode_rows(row, block_size) for backend in ("isa-l", "python"))
    assert fast == plain


def test_parity_is_written_into_the_buffer_given_and_nowhere_else() -> None:
    row = os.urandom(10 * 1000)
    for encoder in ENCODERS.values():
        room = bytearray(b"\xaa" * 4100)
        blocks = encoder.encode_rows(memoryview(row), 1000, memoryview(room)[50:4050])
        assert room[:50] == room[4050:] == b"\xaa" * 50
        assert b"".join(blocks) == room[50:4050] == b"".join(encoder.encode_rows(bytearray(row), 1000))


def test_parts_of_a_row_give_the_parts_of_its_parity() -> None:
    row, encoder = os.urandom(10 * 1000), ENCODERS["isa-l"]
    whole = encoder.encode_rows(row, 1000)
    for start, end in ((0, 300), (300, 1000)):
        part = b"".join(row[at * 1000 + start : at * 1000 + end] for at in range(10))
        assert encoder.encode_rows(part, end - start) == [block[start:end] for block in whole]


@pytest.mark.parametrize(("data", "parity"), [(99, 40), (100, 39), (110, 40)])
@pytest.mark.parametrize("backend", ENCODERS)
def test_buffers_of_a_wrong_length_are_refused(backend: str, data: int, parity: int) -> None:
    with pytest.raises(ValueError, match="blocks of 10"):
        ENCODERS[backend].encode_rows(bytes(data), 10, bytearray(parity))


@pytest.mark.parametrize("backend", ENCODERS)
def test_a_read_only_buffer_for_parity_is_refused(backend: str) -> None:
    with pytest.raises((BufferError, TypeError)):
        ENCODERS[backend].encode_rows(bytes(100), 10, memoryview(bytes(40)))


@pytest.mark.parametrize("backend", ENCODERS)
def test_every_choice_of_four_lost_shards_comes_back(backend: str) -> None:
    encoder = ENCODERS[backend]
    shards = dict(enumerate(shards_of(os.urandom(10 * SMALL), encoder, large=LARGE, small=SMALL)))
    for lost in itertools.combinations(range(14), 4):
        kept = {shard: content for shard, content in shards.items() if shard not in lost}
        assert encoder.reconstruct(kept, lost) == {shard: shards[shard] for shard in lost}


def boundaries() -> st.SearchStrategy[int]:
    """Sizes of a .dat around nothing, a row, all small rows, and one, two and three large rows."""
    edges = [0, 10 * SMALL, 20 * SMALL, 10 * LARGE - 10 * SMALL]
    edges += [rows * 10 * LARGE + more for rows in (1, 2, 3) for more in (0, 10 * SMALL)]
    sizes = {edge + delta for edge in edges for delta in (-8, -1, 0, 1, 8, 9, 10)}
    return st.one_of(st.sampled_from(sorted(size for size in sizes if size >= 0)), st.integers(0, 25 * LARGE))


@settings(max_examples=150, deadline=None)
@given(
    size=boundaries(),
    strict=st.booleans(),
    lost=st.sets(st.integers(0, 13), min_size=1, max_size=4),
    backend=st.sampled_from(sorted(ENCODERS)),
    draw=st.randoms(use_true_random=False),
)
def test_any_volume_comes_back_after_the_loss_of_any_four_shards(
    size: int, strict: bool, lost: set[int], backend: str, draw: random.Random
) -> None:
    dat, encoder = draw.randbytes(size), ENCODERS[backend]
    shards = dict(enumerate(shards_of(dat, encoder, strict, LARGE, SMALL)))
    assert {len(shard) for shard in shards.values()} == {shard_size(size, strict, LARGE, SMALL)}
    kept = {shard: content for shard, content in shards.items() if shard not in lost}
    assert encoder.reconstruct(kept, sorted(lost)) == {shard: shards[shard] for shard in lost}
    restored = kept | encoder.reconstruct(kept, sorted(lost))
    assert read(restored, 0, size, size, strict, LARGE, SMALL) == dat
    start = draw.randrange(size + 1)
    length = draw.randrange(size - start + 1)
    assert read(restored, start, length, size, strict, LARGE, SMALL) == dat[start : start + length]


@pytest.mark.parametrize("backend", ENCODERS)
def test_nine_shards_are_too_few(backend: str) -> None:
    with pytest.raises(Mismatch, match="9 shards"):
        ENCODERS[backend].reconstruct(dict.fromkeys(range(9), b"x"), [13])


@pytest.mark.parametrize("backend", ENCODERS)
def test_shards_of_different_lengths_do_not_belong_together(backend: str) -> None:
    with pytest.raises(Mismatch, match=r"lengths \[1, 2\]"):
        ENCODERS[backend].reconstruct({shard: b"xx" if shard == 11 else b"x" for shard in range(12)}, [13])


# -- the rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dat_size", "strict", "large_rows", "small_rows"),
    [
        (0, False, 0, 0),
        (0, True, 0, 0),
        (8, False, 0, 1),
        (10 * MIB - 8, False, 0, 1),
        (10 * MIB, False, 0, 1),
        (10 * MIB + 8, False, 0, 2),
        (10 * GIB - 8, False, 0, 1024),
        (10 * GIB, False, 1, 0),
        (10 * GIB, True, 0, 1024),
        (10 * GIB + 8, False, 1, 1),
        (10 * GIB + 8, True, 0, 1025),
        (10 * GIB + 16, True, 1, 1),
        (30 * GIB, False, 3, 0),
        (30 * GIB, True, 2, 1024),
        (30 * GIB + 16, True, 3, 1),
    ],
)
def test_the_rows_of_real_sizes_are_those_the_servers_read(
    dat_size: int, strict: bool, large_rows: int, small_rows: int
) -> None:
    rows = list(layout(dat_size, strict))
    assert [row.block_size for row in rows] == [GIB] * large_rows + [MIB] * small_rows
    assert shard_size(dat_size, strict) == large_rows * GIB + small_rows * MIB
    offset = shard_offset = 0
    for row in rows:
        assert (row.offset, row.shard_offset) == (offset, shard_offset)
        offset, shard_offset = offset + 10 * row.block_size, shard_offset + row.block_size


def large_rows_read(dat_size: int, strict: bool) -> int:
    """What the servers' readers compute, those of 4.44 and of 3.97, told the size of the .dat."""
    block = dat_size // 10
    return (int((block - 1) / LARGE) if block else 0) if strict else block // LARGE


@settings(max_examples=150, deadline=None)
@given(boundaries(), st.booleans())
def test_the_writer_lays_out_the_rows_that_the_reader_assumes(dat_size: int, strict: bool) -> None:
    rows = list(layout(dat_size, strict, LARGE, SMALL))
    assert sum(row.block_size == LARGE for row in rows) == large_rows_read(dat_size, strict)


def test_a_range_outside_of_the_volume_is_refused() -> None:
    for offset, size in ((-8, 8), (96, 8), (200, 0)):
        with pytest.raises(Mismatch, match="outside"):
            locate(offset, size, 100)


# -- the library ----------------------------------------------------------------------------------------------------


def test_the_library_named_in_the_environment_is_a_candidate_after_the_bundled_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WEED_ISAL", "/nowhere/libisal.so")
    found = list(isal.candidates())
    assert "pyeclib.libs/libisal-pyeclib" in found[0]
    assert found.index("/nowhere/libisal.so") > 0
    assert found[-1] == "libisal.so.2"


def test_a_host_without_the_library_computes_in_python_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", ["/nowhere"])
    monkeypatch.setenv("WEED_ISAL", "/nowhere/libisal.so")
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    isal.load.cache_clear()
    try:
        encoder = Encoder()
        if encoder.backend == "isa-l":  # a system library that only the dynamic loader finds
            assert "libisal.so.2" in encoder.describe()
        else:
            assert "plain Python" in encoder.describe()
            assert "MB/s" in encoder.describe()
    finally:
        isal.load.cache_clear()
    assert "ISA-L" in ENCODERS["isa-l"].describe()
    assert "MB/s" in ENCODERS["python"].describe()
