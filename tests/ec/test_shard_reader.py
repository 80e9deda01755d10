"""Reading shards: from any ten that are sound, proved while they pass by, whatever becomes of their holders."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.support.cluster import OPTIONS, Cluster
from tests.support.shards import encoded, flip, holder_of, path_of, remount, run_of, take
from weed_core.errors import Mismatch, ServerFailed, StaleTask
from weed_ec.reader import ShardReader, Unsound, check_copy
from weed_ec.runs import Run

SHARD = 2 << 20
"""Bytes of each shard of the volumes here: two pieces."""


def volume(cluster: Cluster, collection: str = "") -> tuple[Run, dict[int, bytes]]:
    """An encoded volume, and the bytes of its shards."""
    _files, volume_id = encoded(cluster, collection, count=12, size=1_000_003)
    originals = {
        shard: path_of(holder_of(cluster, volume_id, shard), volume_id, f".ec{shard:02d}", collection).read_bytes()
        for shard in range(14)
    }
    assert {len(content) for content in originals.values()} == {SHARD}
    return run_of(cluster, cluster.context(), volume_id, collection), originals


def whole(reader: ShardReader, wanted: range | tuple[int, ...]) -> dict[int, bytes]:
    """The wanted shards from their first to their last byte."""
    out = {shard: bytearray() for shard in wanted}
    for part in reader.stream(wanted):
        for shard, piece in part.shards.items():
            out[shard] += piece
    return {shard: bytes(content) for shard, content in out.items()}


def test_every_shard_is_read_from_its_holder(five: Cluster) -> None:
    run, originals = volume(five, "photos")
    assert run.sums is not None
    assert whole(ShardReader(five.context(), run), range(14)) == originals


@pytest.mark.parametrize("lost", [(0,), (3, 12), (0, 4, 9, 13)])
def test_lost_shards_are_computed_from_ten_others(five: Cluster, lost: tuple[int, ...]) -> None:
    run, originals = volume(five)
    for shard in lost:
        take(five, run.volume_id, shard, holder_of(five, run.volume_id, shard))
    ctx = five.context()
    run = run_of(five, ctx, run.volume_id)
    assert run.missing == lost
    assert whole(ShardReader(ctx, run), lost) == {shard: originals[shard] for shard in lost}


def test_ranges_of_shards_and_of_the_volume_are_cut_out_right(five: Cluster) -> None:
    run, originals = volume(five)
    reader = ShardReader(five.context(), run, avoid=[(run.copies[5][0], 5)])
    for shard, offset, length in ((5, 0, 1), (5, (1 << 20) - 7, 14), (2, SHARD - 3, 3), (13, 77, 1_500_000)):
        assert reader.read(shard, offset, length) == originals[shard][offset : offset + length]
    dat = b"".join(originals[shard][row : row + (1 << 20)] for row in (0, 1 << 20) for shard in range(10))
    for offset, length in ((0, 8), ((1 << 20) - 5, 10), (5 * (1 << 20) - 9, 2 << 20), (run.dat_size - 5, 5)):
        assert reader.read_dat(offset, length) == dat[offset : offset + length]
    with pytest.raises(Mismatch, match="outside"):
        reader.read(3, SHARD - 1, 2)
    with pytest.raises(Mismatch, match="outside"):
        reader.read_dat(run.dat_size - 1, 2)


def test_a_shard_whose_bytes_are_wrong_is_told_by_its_checksum_and_replaced(five: Cluster) -> None:
    run, originals = volume(five)
    server = holder_of(five, run.volume_id, 2)
    flip(path_of(server, run.volume_id, ".ec02"), SHARD - 100)
    reader = ShardReader(five.context(), run)
    with pytest.raises(Unsound) as unsound:
        whole(reader, (2,))
    assert unsound.value.offset == 0
    assert whole(reader, (2,)) == {2: originals[2]}
    assert list(reader.bad) == [(server.address, 2)]
    assert ShardReader(five.context(), run).read(2, 10, 1000) == originals[2][10:1010]
    assert check_copy(five.context(), run, server.address, 2) == [0]
    assert check_copy(five.context(), run, holder_of(five, run.volume_id, 3).address, 3) == []


@pytest.mark.parametrize("wrong", [(2,), (12,), (1, 11)])
def test_without_checksums_surplus_shards_tell_which_are_wrong(five: Cluster, wrong: tuple[int, ...]) -> None:
    run, originals = volume(five)
    for shard in wrong:
        flip(path_of(holder_of(five, run.volume_id, shard), run.volume_id, f".ec{shard:02d}"), SHARD - 100)
    reader = ShardReader(five.context(), replace(run, sums=None))
    assert whole(reader, range(14)) == originals
    assert {shard for _server, shard in reader.bad} == {*wrong}


def test_without_checksums_too_few_shards_show_a_wrong_one_and_do_not_guess(five: Cluster) -> None:
    run, _originals = volume(five)
    flip(path_of(holder_of(five, run.volume_id, 2), run.volume_id, ".ec02"), SHARD - 100)
    avoid = [(run.copies[shard][0], shard) for shard in (11, 12, 13)]
    with pytest.raises(Mismatch, match="too few to tell which is wrong"):
        whole(ShardReader(five.context(), replace(run, sums=None), avoid), (11,))


def test_a_short_shard_is_noticed_by_counting_and_another_read_instead(five: Cluster) -> None:
    run, originals = volume(five)
    server = holder_of(five, run.volume_id, 1)
    with path_of(server, run.volume_id, ".ec01").open("r+b") as file:
        file.truncate(SHARD // 2)
    reader = ShardReader(five.context(), run)  # it was looked at before
    assert whole(reader, (1,)) == {1: originals[1]}
    assert "bytes early" in reader.bad[server.address, 1]
    assert reader.replaced == 1


def test_shards_of_another_run_are_refused_and_with_fewer_than_ten_nothing_is_read(five: Cluster) -> None:
    run, _originals = volume(five)
    reader = ShardReader(five.context(), replace(run, run=run.run + 1))
    with pytest.raises(Mismatch, match=r"only 9 shards .* can be read, 10 are needed"):
        whole(reader, (0,))
    assert all("different encode run" in why for why in reader.bad.values())


def test_a_holder_that_dies_in_mid_stream_is_replaced(five: Cluster) -> None:
    run, originals = volume(five)
    dying = holder_of(five, run.volume_id, 0)
    out = bytearray()
    reader = ShardReader(five.context(), run)
    for part in reader.stream(range(10)):
        out += part.shards[0]
        if not part.offset:
            dying.kill()
    assert bytes(out) == originals[0]
    dying.start()
    five.ready()


def test_a_holder_that_dies_before_is_replaced(five: Cluster) -> None:
    run, originals = volume(five)
    dying = holder_of(five, run.volume_id, 0)
    dying.kill()
    reader = ShardReader(five.context(), run)
    assert whole(reader, range(10)) == {shard: originals[shard] for shard in range(10)}
    assert {server for server, _shard in reader.bad} == {dying.address}
    dying.start()
    five.ready()


def test_a_holder_that_falls_silent_is_replaced(five: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIONS, "silent_seconds", 1.0)
    run, originals = volume(five)
    silent = holder_of(five, run.volume_id, 4)
    reader = ShardReader(five.context(), run)
    with silent.frozen():
        assert whole(reader, (4,)) == {4: originals[4]}
    assert all("gave nothing" in why for why in reader.bad.values())


def test_what_every_index_of_ten_gives_is_the_same(five: Cluster) -> None:
    run, originals = volume(five)
    chooser = random.Random(5)
    for _ in range(4):
        avoid = [(run.copies[shard][0], shard) for shard in chooser.sample(range(14), 4)]
        reader = ShardReader(five.context(), run, avoid)
        assert whole(reader, tuple(shard for _, shard in avoid)) == {shard: originals[shard] for _, shard in avoid}
        with_surplus = ShardReader(five.context(), replace(run, sums=None), avoid[:2])
        assert whole(with_surplus, range(14)) == originals


def test_two_runs_are_never_mixed(five: Cluster) -> None:
    run, _originals = volume(five)
    server = holder_of(five, run.volume_id, 3)
    vif = path_of(server, run.volume_id, ".vif")
    vif.write_text(vif.read_text().replace(f'"{run.run}"', f'"{run.run + 1}"'))
    remount(five, server, run.volume_id, [3, 8, 13])
    ctx = five.context()
    found = run_of(five, ctx, run.volume_id)
    assert (found.run, found.missing) == (run.run, (3, 8, 13))
    for shard in (4, 9):
        take(five, run.volume_id, shard, holder_of(five, run.volume_id, shard))
    with pytest.raises(StaleTask, match="9 of the 10 shards that are needed"):
        run_of(five, ctx, run.volume_id)


def test_a_copy_that_cannot_be_read_is_no_sound_one(five: Cluster) -> None:
    run, _originals = volume(five)
    server = holder_of(five, run.volume_id, 3)
    five.volume(server).volume_ec_shards_unmount(volume_id=run.volume_id, shard_ids=[3])
    with pytest.raises(ServerFailed, match="not found ec shard"):
        check_copy(five.context(), run, server.address, 3)
