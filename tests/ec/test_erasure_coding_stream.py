"""The pipeline itself: every way to the bytes gives the shards that the rows of the volume ask for."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import REAL_KINDS, SANDBOX_KIND, clusters
from tests.support.cluster import Cluster
from weed_core.errors import Mismatch
from weed_ec.source import Source, is_this_host
from weed_ec.stream import PIECE, Slot, encode
from weed_storage.checksums import crc32c
from weed_storage.ec_layout import layout
from weed_storage.reed_solomon import Encoder

LARGE = 2 * PIECE  # bytes of a block in the first rows, instead of 1 GiB


_module_two = clusters([SANDBOX_KIND, *REAL_KINDS], servers=2)


@pytest.fixture
def two(_module_two: Cluster) -> Cluster:
    """Two empty servers."""
    _module_two.reset()
    return _module_two


def filled(cluster: Cluster, megabytes: int) -> tuple[Source, Path]:
    """A frozen volume on the first server, and its `.dat`."""
    server = cluster.servers[0]
    files = cluster.fill(count=megabytes, size=1_000_003, servers=[server])
    volume_id = files.volume_ids[0]
    cluster.volume(server).volume_mark_readonly(volume_id=volume_id)
    status = cluster.volume(server).read_volume_file_status(volume_id=volume_id)
    dat, idx = (server.data_dir / f"{volume_id}.{ext}" for ext in ("dat", "idx"))
    source = Source(
        server=server.address,
        volume_id=volume_id,
        collection="",
        dat_size=status.dat_file_size,
        version=3,
        revision=status.compaction_revision,
        index_sha256=hashlib.sha256(idx.read_bytes()).digest(),
    )
    return source, dat


def wanted(source: Source, dat: bytes) -> list[bytes]:
    """The fourteen shards, computed row by row in memory."""
    shards = [bytearray() for _ in range(14)]
    for row in layout(source.dat_size, source.strict, source.large_block):
        data = dat[row.offset : row.offset + 10 * row.block_size].ljust(10 * row.block_size, b"\0")
        blocks = [data[at * row.block_size :][: row.block_size] for at in range(10)]
        for shard, block in zip(shards, [*blocks, *Encoder().encode_rows(data, row.block_size)]):
            shard += bytes(block)
    return [bytes(shard) for shard in shards]


def assert_streamed(cluster: Cluster, source: Source, dat: Path, data_dirs: tuple[Path, ...] | None = ()) -> list[str]:
    """Encode to the second server and compare what arrived; return the lines logged."""
    target = cluster.servers[1]
    ctx = cluster.context(data_dirs=data_dirs)
    said: list[str] = []
    ctx.log = said.append

    sums = encode(ctx, source, {shard: Slot(target.address) for shard in range(14)})

    for shard, expected in enumerate(wanted(source, dat.read_bytes())):
        got = (target.data_dir / f"{source.volume_id}.ec{shard:02d}").read_bytes()
        assert got == expected, f"shard {shard}"
        pieces = [crc32c(expected[at : at + PIECE]) for at in range(0, len(expected), PIECE)]
        assert (list(sums[shard].pieces), sums[shard].size) == (pieces, len(expected))
    return said


@pytest.mark.parametrize("megabytes", [1, 10, 23])
def test_small_rows_are_streamed_in_order(two: Cluster, megabytes: int) -> None:
    source, dat = filled(two, megabytes)

    assert_streamed(two, source, dat)


def test_large_rows_are_read_in_ten_places_at_a_time(two: Cluster) -> None:
    source, dat = filled(two, 47)

    assert_streamed(two, replace(source, large_block=LARGE), dat)


@pytest.mark.parametrize("named", [True, False])
def test_a_volume_of_this_host_is_read_from_its_directory(two: Cluster, named: bool) -> None:
    source, dat = filled(two, 23)

    for large in (source.large_block, LARGE):
        said = assert_streamed(two, replace(source, large_block=large), dat, (dat.parent,) if named else None)
        assert said == [f"reading {dat} of this host"]


def test_a_server_elsewhere_is_not_looked_for_on_this_host(two: Cluster) -> None:
    assert is_this_host(two.servers[0].address.host)
    assert not is_this_host("192.0.2.1")
    assert not is_this_host("no-such-host.invalid")


def test_a_file_that_may_not_be_read_is_named(two: Cluster, tmp_path: Path) -> None:
    source, dat = filled(two, 3)
    (tmp_path / dat.name).symlink_to(tmp_path / dat.name)  # as root, it is only the loop that cannot be opened

    said = assert_streamed(two, source, dat, (tmp_path,))

    assert [line for line in said if str(tmp_path / dat.name) in line and "cannot be read" in line]


def test_a_file_of_the_same_name_and_size_but_other_bytes_is_not_read(two: Cluster, tmp_path: Path) -> None:
    source, dat = filled(two, 3)
    content = bytearray(dat.read_bytes())
    content[8:] = bytes(len(content) - 8)
    (tmp_path / dat.name).write_bytes(content)
    shutil.copy(dat.with_suffix(".idx"), tmp_path)

    said = assert_streamed(two, source, dat, (tmp_path,))

    assert any("is not what" in line for line in said)


def test_a_replica_with_two_files_the_other_way_round_is_not_read(two: Cluster, tmp_path: Path) -> None:
    """Random places hardly ever tell: size and nearly all bytes are the same, yet the index names the wrong ones."""
    source, dat = filled(two, 3)
    shutil.copy(dat, tmp_path)
    index = bytearray(dat.with_suffix(".idx").read_bytes())
    index[:16], index[16:32] = index[16:32], index[:16]
    (tmp_path / dat.name).with_suffix(".idx").write_bytes(index)

    said = assert_streamed(two, source, dat, (tmp_path,))

    assert any("is not what" in line for line in said)


def test_a_source_that_has_fewer_bytes_than_it_said_is_found_out(two: Cluster) -> None:
    source, _dat = filled(two, 3)

    with pytest.raises(Mismatch, match="ended early"):
        encode(two.context(), replace(source, dat_size=source.dat_size + 800), {0: Slot(two.servers[1].address)})
