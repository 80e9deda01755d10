"""Moving a volume: equal bytes on the target, nothing on the source, and no way to lose either on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import Cluster, Server
from weed_errors import BadTask, StaleTask
from weed_tasks.freeze import freeze, thaw
from weed_tasks.journal import Journal
from weed_tasks.move import Moved, move_volume

QUIET = 0.3  # seconds


def move(cluster: Cluster, volume_id: int, source: Server, target: Server, **wishes: object) -> Moved:
    journal = Journal.memory("move", "balance", volume_id)
    moved = move_volume(
        cluster.context(journal=journal),
        volume_id,
        source.address,
        target.address,
        quiet=QUIET,
        **wishes,  # type: ignore[arg-type]
    )
    assert journal.open == []
    return moved


def is_read_only(cluster: Cluster, server: Server, volume_id: int) -> bool:
    return cluster.volume(server).volume_status(volume_id=volume_id).is_read_only


def test_a_moved_volume_reads_back_equal_and_is_gone_from_its_source(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(count=30, size=(1, 5000), servers=[a], collection="pictures")
    cluster.delete(list(files)[:10])
    (volume_id,) = files.volume_ids
    moved = move(cluster, volume_id, a, b)
    assert not moved.already
    assert cluster.locations(volume_id) == [b]
    cluster.check(files)
    assert a.files() == []
    assert not is_read_only(cluster, b, volume_id)
    cluster.write(files, volume_id, 5, 300, [b])
    cluster.delete(list(files)[:3])
    cluster.check(files)
    b.stop()
    cluster.start()
    assert not is_read_only(cluster, b, volume_id)
    cluster.check(files)
    cluster.write(files, volume_id, 5, 300, [b])
    cluster.check(files)


def test_an_empty_volume_can_be_moved(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    volume_id = cluster.allocate([a])
    move(cluster, volume_id, a, b)
    assert cluster.locations(volume_id) == [b]
    assert a.files() == []


def test_a_volume_that_was_read_only_for_good_stays_so_when_moved(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a])
    (volume_id,) = files.volume_ids
    cluster.volume(a).volume_mark_readonly(volume_id=volume_id, persist=True)
    move(cluster, volume_id, a, b)
    assert is_read_only(cluster, b, volume_id)
    cluster.check(files)


def test_a_move_onto_the_same_endpoint_is_refused(cluster: Cluster) -> None:
    a = cluster.servers[0]
    files = cluster.fill(servers=[a])
    with pytest.raises(BadTask, match="same server"):
        move(cluster, files.volume_ids[0], a, a)
    cluster.check(files)


def test_a_move_onto_a_server_that_holds_a_copy_is_refused(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a, b], replication="001")
    with pytest.raises(StaleTask, match="already holds"):
        move(cluster, files.volume_ids[0], a, b)
    cluster.check(files)
    assert not is_read_only(cluster, a, files.volume_ids[0])


def test_a_move_of_a_volume_that_is_elsewhere_is_refused(cluster: Cluster) -> None:
    a, b, c = cluster.servers
    files = cluster.fill(servers=[a])
    with pytest.raises(StaleTask, match="no longer holds"):
        move(cluster, files.volume_ids[0], b, c)
    cluster.check(files)


def test_a_move_of_another_collection_than_planned_is_refused(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a], collection="pictures")
    with pytest.raises(StaleTask, match="pictures"):
        move(cluster, files.volume_ids[0], a, b, collection="music")


def test_a_move_that_was_done_before_succeeds_at_once(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a])
    (volume_id,) = files.volume_ids
    move(cluster, volume_id, a, b)
    assert move(cluster, volume_id, a, b).already
    cluster.check(files)


def test_a_replica_moves_while_its_sibling_stays(cluster: Cluster) -> None:
    a, b, c = cluster.servers
    files = cluster.fill(servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    move(cluster, volume_id, b, c)
    assert cluster.locations(volume_id) == [a, c]
    cluster.check(files)


def test_a_dry_run_of_a_move_changes_nothing(cluster: Cluster) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(servers=[a])
    (volume_id,) = files.volume_ids
    move_volume(cluster.context(dry_run=True), volume_id, a.address, b.address, quiet=QUIET)
    assert cluster.locations(volume_id) == [a]
    assert b.files() == []
    assert not is_read_only(cluster, a, volume_id)


def test_a_frozen_volume_is_writable_again_when_thawed_after_a_restart(cluster: Cluster, tmp_path: Path) -> None:
    a = cluster.servers[0]
    files = cluster.fill(servers=[a])
    (volume_id,) = files.volume_ids
    ctx = cluster.context(journal=Journal(tmp_path).open_entry("job", "balance", volume_id))
    frozen = freeze(ctx, a.address, volume_id, persist=True)
    assert is_read_only(cluster, a, volume_id)
    a.kill()
    cluster.start()
    assert is_read_only(cluster, a, volume_id)
    thaw(ctx, frozen)
    assert not is_read_only(cluster, a, volume_id)
    assert ctx.journal.open == []
    cluster.write(files, volume_id, 5, 300, [a])
    cluster.delete(list(files)[:2])
    cluster.check(files)
    a.kill()
    cluster.start()
    cluster.check(files)
