"""The fold of an index, against a plain dict and against a real volume."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weed_core.errors import Mismatch
from weed_storage import index
from weed_storage.index import Fold, compare, content_end, fold, pack_entry, search_ecx, to_ecx
from weed_storage.needle import actual_size

GOLDEN = Path(__file__).parent.parent / "golden" / "volume-4.44"
IDX = (GOLDEN / "before.idx").read_bytes()
Log = list[tuple[int, int, int]]  # id, offset in bytes, size

ECX = (GOLDEN / "after.ecx").read_bytes()

ids = st.one_of(st.integers(0, 12), st.integers(0, 2**64 - 1))
sizes = st.sampled_from([0, 1, 33, 2**31 - 1, -1, -5])


def logs(units: st.SearchStrategy[int]) -> st.SearchStrategy[Log]:
    return st.lists(st.tuples(ids, units.map(lambda unit: unit * 8), sizes), max_size=60)


four = st.one_of(st.just(0), st.integers(0, 2**32 - 1))
five = st.one_of(st.just(0), st.just(2**32), st.integers(0, 2**40 - 1))
any_log = st.one_of(st.tuples(st.just(4), logs(four)), st.tuples(st.just(5), logs(five)))


def packed(log: Log, offset_bytes: int) -> bytes:
    return b"".join(pack_entry(needle_id, offset, size, offset_bytes) for needle_id, offset, size in log)


def modelled(log: Log) -> dict[int, tuple[int, int]]:
    """The rule, entry by entry: an offset and a size not negative set the needle, all else removes it."""
    live = {}
    for needle_id, offset, size in log:
        if offset and size >= 0:
            live[needle_id] = (offset, size)
        else:
            live.pop(needle_id, None)
    return live


def test_the_index_of_a_real_volume_gives_the_ecx_that_the_server_wrote() -> None:
    assert to_ecx(IDX) == ECX


def test_a_real_index_is_read_entry_by_entry() -> None:
    log = list(index.entries(IDX))
    assert packed(log, 4) == IDX
    assert modelled(log) == dict(fold(IDX).items())
    assert content_end(fold(IDX), 3) == max(offset + actual_size(size, 3) for offset, size in modelled(log).values())


@settings(max_examples=150, deadline=None)
@given(any_log, st.integers(1, 40), st.binary(max_size=15))
def test_a_fold_in_chunks_of_any_size_equals_a_plain_dict(log_of: tuple[int, Log], chunk: int, partial: bytes) -> None:
    offset_bytes, log = log_of
    blob = packed(log, offset_bytes) + partial
    folding = Fold(offset_bytes)
    for start in range(0, len(blob), chunk):
        folding.feed(blob[start : start + chunk])
    live = folding.live()
    model = modelled(log)
    assert live == model
    assert list(live.items()) == sorted(model.items())
    assert all(live[needle_id] == spot for needle_id, spot in model.items())
    assert b"".join(live.ecx()) == packed([(i, *model[i]) for i in sorted(model)], offset_bytes)
    assert content_end(live, 3) == max((offset + actual_size(size, 3) for offset, size in model.values()), default=0)


def test_a_long_index_in_random_order_equals_a_plain_dict() -> None:
    draw = random.Random(4)
    log = [(draw.randrange(200_000), draw.randrange(1, 2**32) * 8, draw.choice([5, 5, 5, -1])) for _ in range(300_000)]
    blob = packed(log, 4)
    assert fold(blob) == modelled(log)
    assert to_ecx(blob[start : start + 999_983] for start in range(0, len(blob), 999_983)) == to_ecx(blob)


def test_a_needle_of_size_zero_is_live_and_a_deleted_one_is_not() -> None:
    assert fold(pack_entry(1, 8, 0) + pack_entry(2, 8, 5) + pack_entry(2, 8, -1)) == {1: (8, 0)}


def test_an_index_with_nothing_live_gives_an_empty_ecx() -> None:
    assert to_ecx(pack_entry(1, 8, 5) + pack_entry(1, 16, -1)) == b""
    assert content_end(fold(b""), 3) == 0


def test_five_byte_offsets_keep_their_high_byte_behind_the_low_ones() -> None:
    entry = pack_entry(1, (0x12_3456789A) * 8, 7, 5)
    assert entry.hex() == "0000000000000001" + "3456789a" + "12" + "00000007"
    assert list(index.entries(entry, 5)) == [(1, 0x12_3456789A * 8, 7)]
    assert to_ecx(entry, 5) == entry


def test_another_width_of_offsets_is_refused() -> None:
    with pytest.raises(Mismatch, match="6 bytes"):
        Fold(6)


@settings(max_examples=100, deadline=None)
@given(logs(four), logs(four), st.integers(0, 3))
def test_two_replicas_differ_as_sets_of_needles_say(log_a: Log, log_b: Log, shared: int) -> None:
    log_b = log_a[: len(log_a) // (shared + 1)] + log_b
    difference = compare(fold(packed(log_a, 4)), fold(packed(log_b, 4)))
    a, b = modelled(log_a), modelled(log_b)
    assert difference.missing_in_a == sorted(b.keys() - a.keys())
    assert difference.missing_in_b == sorted(a.keys() - b.keys())
    assert difference.different_size == sorted(i for i in a.keys() & b.keys() if a[i][1] != b[i][1])
    assert bool(difference) == ({i: spot[1] for i, spot in a.items()} != {i: spot[1] for i, spot in b.items()})


def test_long_replicas_are_compared_piece_by_piece() -> None:
    a = fold(packed([(i, 8 * i, 5) for i in range(1, 60_000)], 4))
    b = fold(packed([(i, 16 * i, 5 if i != 50_000 else 6) for i in range(1, 70_000) if i % 30_000], 4))
    difference = compare(a, b)
    assert difference.missing_in_b == [30_000]
    assert difference.missing_in_a == [i for i in range(60_000, 70_000) if i != 60_000]
    assert difference.different_size == [50_000]
    assert compare(b, a).missing_in_a == [30_000]
    assert not compare(a, a)


def test_a_needle_is_searched_in_the_ecx() -> None:
    for needle_id, spot in fold(IDX).items():
        assert search_ecx(ECX, needle_id) == spot
    assert search_ecx(ECX, 0) is None
    assert search_ecx(ECX, 0x1004) is None
    assert search_ecx(ECX, 2**64 - 1) is None
    assert search_ecx(b"", 1) is None


def test_a_needle_marked_deleted_in_the_ecx_is_absent() -> None:
    ecx = pack_entry(1, 8, 5, 5) + pack_entry(2, 16, index.TOMBSTONE, 5) + pack_entry(3, 24, 5, 5)
    assert [search_ecx(ecx, i, 5) for i in (1, 2, 3)] == [(8, 5), None, (24, 5)]


def test_the_journal_of_deletions_is_read_as_it_is_written() -> None:
    journal = index.pack_ecj([1, 2**64 - 1])
    assert journal.hex() == "0000000000000001" + "f" * 16
    assert index.read_ecj(journal + b"\0\0\0") == [1, 2**64 - 1]
    assert index.read_ecj((GOLDEN / "after.ecj").read_bytes()) == []
