"""The pipeline itself: every way to the bytes gives the shards that the rows of the volume ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster import Cluster, start_cluster
from tests.conftest import REAL_KINDS, SANDBOX_KIND, _params
from weed_errors import Mismatch
from weed_sandbox.launcher import Launcher
from weed_storage.checksums import crc32c
from weed_storage.reed_solomon import Encoder, layout
from weed_tasks.ec_stream import PIECE, Slot, Source, encode

LARGE = 2 * PIECE  # bytes of a block in the first rows, instead of 1 GiB


@pytest.fixture(scope="module", params=_params([SANDBOX_KIND, *REAL_KINDS]))
def _module_two(
    request: pytest.FixtureRequest, launcher: Launcher, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    cluster = start_cluster(request.param, launcher, tmp_path_factory.mktemp(f"two-{request.param}"), servers=2)
    yield cluster
    cluster.close()


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
    source = Source(server.address, volume_id, "", status.dat_file_size, 3, status.compaction_revision)
    return source, server.data_dir / f"{volume_id}.dat"


def wanted(source: Source, dat: bytes) -> list[bytes]:
    """The fourteen shards, computed row by row in memory."""
    shards = [bytearray() for _ in range(14)]
    for row in layout(source.dat_size, source.strict, source.large_block):
        data = dat[row.offset : row.offset + 10 * row.block_size].ljust(10 * row.block_size, b"\0")
        blocks = [data[at * row.block_size :][: row.block_size] for at in range(10)]
        for shard, block in zip(shards, [*blocks, *Encoder().encode_rows(data, row.block_size)]):
            shard += bytes(block)
    return [bytes(shard) for shard in shards]


def assert_streamed(cluster: Cluster, source: Source, dat: Path, data_dirs: tuple[Path, ...] = ()) -> list[str]:
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


def test_a_volume_of_this_host_is_read_from_its_directory(two: Cluster) -> None:
    source, dat = filled(two, 23)

    for large in (source.large_block, LARGE):
        said = assert_streamed(two, replace(source, large_block=large), dat, (dat.parent,))
        assert any(str(dat) in line for line in said)


def test_a_file_of_the_same_name_and_size_but_other_bytes_is_not_read(two: Cluster, tmp_path: Path) -> None:
    source, dat = filled(two, 3)
    content = bytearray(dat.read_bytes())
    content[8:] = bytes(len(content) - 8)
    (tmp_path / dat.name).write_bytes(content)

    said = assert_streamed(two, source, dat, (tmp_path,))

    assert any("is not what" in line for line in said)


def test_a_source_that_has_fewer_bytes_than_it_said_is_found_out(two: Cluster) -> None:
    source, _dat = filled(two, 3)

    with pytest.raises(Mismatch, match="ended early"):
        encode(two.context(), replace(source, dat_size=source.dat_size + 800), {0: Slot(two.servers[1].address)})
