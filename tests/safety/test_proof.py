"""Comparing replicas: equal ones are found equal however they were written, and every kind of difference is found."""

from __future__ import annotations

import pytest

from tests.support.cluster import Cluster
from weed_core.errors import Mismatch
from weed_safety.look import file_status
from weed_safety.proof import (
    BYTES,
    CHECKSUMS,
    INDEX,
    compare_replicas,
    live_index,
    prove_copy,
    sample_needles,
    sample_of,
)
from weed_storage.needle import FileId


@pytest.mark.parametrize("level", [INDEX, CHECKSUMS, BYTES])
def test_replicas_written_by_clients_are_equal_at_every_depth(cluster: Cluster, level: str) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(count=20, size=(0, 3000), servers=[a, b], replication="001")
    cluster.delete(list(files)[:5])
    (volume_id,) = files.volume_ids
    assert not compare_replicas(cluster.context(), a.address, b.address, volume_id, level)


def test_a_file_that_one_replica_lacks_is_found(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(count=5, servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    gone = next(iter(files))
    cluster.delete([gone], servers=[b])
    difference = compare_replicas(cluster.context(), a.address, b.address, volume_id, INDEX)
    assert list(difference.missing_in_b) == [FileId.parse(gone).needle_id]
    assert not difference.missing_in_a
    assert "missing in the second" in str(difference)


def test_other_bytes_of_the_same_length_are_found(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    volume_id = cluster.allocate([a, b], replication="001")
    on_a, on_b = (cluster.fill(count=0, volumes=[volume_id]) for _ in range(2))
    cluster.write(on_a, volume_id, 1, 500, [a])
    cluster._last_key -= 1
    cluster.write(on_b, volume_id, 1, 500, [b])
    assert not compare_replicas(cluster.context(), a.address, b.address, volume_id, INDEX)
    for level in (CHECKSUMS, BYTES):
        assert compare_replicas(cluster.context(), a.address, b.address, volume_id, level).different


def test_replicas_of_another_layout_are_no_copy_of_each_other(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(count=5, servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    cluster.write(files, volume_id, 1, 300, [b])
    ctx = cluster.context()
    with pytest.raises(Mismatch, match="bytes of data"):
        prove_copy(ctx, volume_id, a.address, b.address, file_status(ctx, a.address, volume_id))


def test_a_sample_spans_the_volume_and_is_checked(cluster: Cluster) -> None:
    a = cluster.servers[0]
    files = cluster.fill(count=200, size=50, servers=[a])
    (volume_id,) = files.volume_ids
    ctx = cluster.context()
    status = file_status(ctx, a.address, volume_id)
    live = live_index(ctx, a.address, volume_id, status)
    chosen = [needle_id for needle_id, _offset, _size in sample_of(live, 10)]
    assert len(chosen) == 10
    assert (chosen[0], chosen[-1]) == (live.ids[0], live.ids[-1])
    assert sample_needles(ctx, a.address, volume_id, live, 3) == 64


def test_a_damaged_needle_is_named(cluster: Cluster) -> None:
    a = cluster.servers[0]
    files = cluster.fill(count=3, size=500, servers=[a])
    (volume_id,) = files.volume_ids
    data = cluster.read(list(files)[1])
    a.kill()
    dat = a.data_dir / f"{volume_id}.dat"
    dat.write_bytes(dat.read_bytes().replace(data, bytes([data[0] ^ 1]) + data[1:]))
    cluster.start()
    ctx = cluster.context()
    live = live_index(ctx, a.address, volume_id, file_status(ctx, a.address, volume_id))
    with pytest.raises(Mismatch, match=f"volume {volume_id} on {a.address}: needle .* is damaged"):
        sample_needles(ctx, a.address, volume_id, live, 3)
