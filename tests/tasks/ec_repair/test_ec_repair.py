"""Making erasure-coded volumes whole again, on the sandbox and on real SeaweedFS."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from proto_gen import volume_server_pb2 as v
from tests.support import eventually
from tests.support.cluster import Cluster, Files, Server
from tests.support.ec_repair import (
    assert_whole,
    bad_shard,
    delete_at,
    detect,
    job,
    journal,
    key_of,
    repair,
    status_of,
)
from tests.support.rpcs import changes_seen, see_nothing_yet
from tests.support.shards import digests, encoded, flip, holder_of, path_of, remount, revive, settle, take, where
from weed_core.errors import BadTask, Mismatch, StaleTask
from weed_safety import findings
from weed_tasks import ec_repair

SHARD = 2 << 20
"""Bytes of each shard of the volumes here."""


def volume(cluster: Cluster, collection: str = "", on: list[Server] | None = None) -> tuple[Files, int, dict[int, str]]:
    """An encoded volume and the digests of its shards."""
    files, volume_id = encoded(cluster, collection, count=12, size=1_000_003, on=on)
    return files, volume_id, digests(cluster, volume_id, collection)


def lose(cluster: Cluster, volume_id: int, *shards: int, collection: str = "") -> list[Server]:
    """Remove shards by hand; return who had them."""
    servers = []
    for shard in shards:
        servers.append(holder_of(cluster, volume_id, shard))
        take(cluster, volume_id, shard, servers[-1], collection)
    settle(cluster, volume_id)
    return servers


def held_by(cluster: Cluster, volume_id: int, server: Server) -> list[int]:
    """The shards that a server has."""
    return [shard for shard, servers in where(cluster, volume_id).items() if server in servers]


@pytest.mark.parametrize("lost", [(3,), (0, 13), (1, 4, 9, 12)])
def test_lost_shards_come_back_as_they_were(six: Cluster, lost: tuple[int, ...]) -> None:
    files, volume_id, before = volume(six, "photos")
    lose(six, volume_id, *lost, collection="photos")
    result = repair(six, volume_id, "photos")
    assert result.outputs["restored"] == ",".join(map(str, lost))
    assert_whole(six, volume_id, before, "photos")
    settle(six, volume_id)
    six.check(files)
    assert "nothing was to do" in repair(six, volume_id, "photos").summary


def test_a_server_whose_directory_is_gone_is_made_good_by_the_others(six: Cluster) -> None:
    files, volume_id, before = volume(six)
    gone = six.servers[1]
    gone.kill()
    for folder in gone.data_dirs:
        shutil.rmtree(folder)
    revive(six, gone)
    settle(six, volume_id)
    repair(six, volume_id)
    assert_whole(six, volume_id, before)
    settle(six, volume_id)
    six.check(files)


def test_a_server_that_stays_away_is_made_good_by_the_others(six: Cluster) -> None:
    files, volume_id, before = volume(six)
    gone = six.servers[2]
    lost = held_by(six, volume_id, gone)
    gone.kill()
    eventually(lambda: len(six.topology().nodes) == 5, timeout=30)
    result = repair(six, volume_id)
    assert result.outputs["restored"] == ",".join(map(str, lost))
    six.check(files)
    # It comes back with what it had: copies too many, which go again.
    revive(six, gone)
    settle(six, volume_id)
    assert "removed shard" in repair(six, volume_id).summary
    assert_whole(six, volume_id, before)
    settle(six, volume_id)
    six.check(files)


@pytest.mark.parametrize("shard", [2, 12])
def test_a_shard_that_a_scrub_found_bad_is_replaced(six: Cluster, shard: int) -> None:
    files, volume_id, before = volume(six)
    server = holder_of(six, volume_id, shard)
    flip(path_of(server, volume_id, f".ec{shard:02d}"), SHARD - 100)
    ctx = six.context()
    findings.note(ctx, bad_shard(volume_id, shard, server))
    result = repair(six, volume_id, ctx=ctx)
    assert f"replaced the bad shard {shard} on {server.address}" in result.summary
    assert findings.read_all(ctx) == []
    assert_whole(six, volume_id, before)
    settle(six, volume_id)
    six.check(files)


def test_a_shard_that_is_sound_after_all_stays_where_it_is(six: Cluster) -> None:
    _files, volume_id, before = volume(six)
    server, ctx = holder_of(six, volume_id, 2), six.context()
    findings.note(ctx, bad_shard(volume_id, 2, server))
    assert "nothing was to do" in repair(six, volume_id, ctx=ctx).summary
    assert findings.read_all(ctx) == []
    assert holder_of(six, volume_id, 2) is server
    assert_whole(six, volume_id, before)


def test_a_bad_shard_is_replaced_without_checksums_too(six: Cluster) -> None:
    files, volume_id, before = volume(six)
    for server in six.servers:
        path_of(server, volume_id, ".ecsum").unlink()
        remount(six, server, volume_id, held_by(six, volume_id, server))
    server = holder_of(six, volume_id, 2)
    flip(path_of(server, volume_id, ".ec02"), 7)
    ctx = six.context()
    findings.note(ctx, bad_shard(volume_id, 2, server))
    assert "replaced the bad shard 2" in repair(six, volume_id, ctx=ctx).summary
    assert_whole(six, volume_id, before)
    six.check(files)


def test_a_shard_that_proves_bad_while_others_are_restored_is_replaced_too(six: Cluster) -> None:
    _files, volume_id, before = volume(six)
    lose(six, volume_id, 13)
    flip(path_of(holder_of(six, volume_id, 3), volume_id, ".ec03"), 10)
    result = repair(six, volume_id)
    assert "restored shard 13" in result.summary
    assert "replaced the bad shard 3" in result.summary
    assert_whole(six, volume_id, before)


def test_a_shard_cut_to_half_is_found_by_its_size_and_replaced(six: Cluster) -> None:
    files, volume_id, before = volume(six)
    server = holder_of(six, volume_id, 5)
    with path_of(server, volume_id, ".ec05").open("r+b") as file:
        file.truncate(SHARD // 2)
    server.stop()
    revive(six, server)
    six.ready()
    eventually(lambda: detect(six).proposals, timeout=30)
    (proposal,) = detect(six).proposals
    # Right after a mount the master is told one size for all shards of a server: the others may look wrong as well.
    assert "of a wrong size" in proposal.summary
    assert "replaced the bad shard 5" in repair(six, volume_id).summary
    assert_whole(six, volume_id, before)
    settle(six, volume_id)
    six.check(files)


def test_no_bad_shard_is_given_up_unless_ten_others_are_proved(six: Cluster) -> None:
    _files, volume_id, _before = volume(six)
    lose(six, volume_id, 10, 11, 12, 13)
    server, ctx = holder_of(six, volume_id, 2), six.context()
    flip(path_of(server, volume_id, ".ec02"), 7)
    findings.note(ctx, bad_shard(volume_id, 2, server))
    see = digests(six, volume_id)
    with pytest.raises(Mismatch, match="only 9 shards"):
        repair(six, volume_id, ctx=ctx)
    assert digests(six, volume_id) == see
    assert findings.read_all(ctx) != []


def test_with_fewer_than_ten_nothing_is_touched_and_it_is_said_what_would_help(six: Cluster) -> None:
    _files, volume_id, _before = volume(six)
    lose(six, volume_id, 0, 3, 6, 9, 12)
    see = digests(six, volume_id)
    found = detect(six)
    assert found.proposals == []
    (skipped,) = found.skipped
    assert "cannot be repaired: 9 of the 10 shards" in skipped.reason
    with pytest.raises(StaleTask, match="missing are 0, 3, 6, 9, 12: bring back a server"):
        repair(six, volume_id)
    assert digests(six, volume_id) == see


def test_shards_of_another_run_are_named_and_left(six: Cluster) -> None:
    _files, volume_id, before = volume(six)
    stranger = six.servers[3]
    mine = held_by(six, volume_id, stranger)
    vif = path_of(stranger, volume_id, ".vif")
    text = vif.read_text()
    run = text.partition('"encodeTsNs":')[2].strip().strip('"').partition('"')[0]
    vif.write_text(text.replace(run, str(int(run) - 1000)))
    remount(six, stranger, volume_id, mine)
    settle(six, volume_id)
    eventually(lambda: "another encode run" in " ".join(one.reason for one in detect(six).skipped), timeout=30)
    result = repair(six, volume_id)
    assert "of another encode run" in result.summary
    places = where(six, volume_id)
    assert all(stranger in places[shard] and len(places[shard]) == 2 for shard in mine)
    assert digests(six, volume_id) == before


def test_a_shard_that_lies_unmounted_on_a_server_is_taken_back(six: Cluster) -> None:
    files, volume_id, before = volume(six)
    server = six.servers[4]
    mine = held_by(six, volume_id, server)
    delete_at(six, next(iter(files)), server)
    server.kill()
    path_of(server, volume_id, ".ecx").unlink()
    path_of(server, volume_id, ".vif").unlink()
    revive(six, server)
    eventually(lambda: detect(six).proposals, timeout=30)
    result = repair(six, volume_id)
    assert "was there, unmounted" in result.summary
    assert all(where(six, volume_id)[shard] == [server] for shard in mine)
    assert_whole(six, volume_id, before)
    deleted = key_of(next(iter(files)))
    assert all(deleted in journal(six, one, volume_id) for one in six.servers)


def test_shards_that_lie_unmounted_make_up_for_fewer_than_ten(six: Cluster) -> None:
    files, volume_id, before = volume(six)
    for server in six.servers[:2]:
        server.kill()
        path_of(server, volume_id, ".ecx").unlink()
        revive(six, server)
    settled = {shard for server in six.servers[:2] for shard in held_by(six, volume_id, server)}
    assert len(settled) == 6
    eventually(lambda: "cannot be repaired" in " ".join(one.reason for one in detect(six).skipped), timeout=30)
    assert "was there, unmounted" in repair(six, volume_id).summary
    assert_whole(six, volume_id, before)
    settle(six, volume_id)
    six.check(files)


@pytest.mark.parametrize("lost", [(".vif",), (".ecx",), (".ecsum",), (".vif", ".ecx", ".ecsum")])
def test_what_one_holder_has_lost_beside_its_shards_it_gets_from_another(six: Cluster, lost: tuple[str, ...]) -> None:
    files, volume_id, before = volume(six)
    server = six.servers[0]
    for ext in lost:
        path_of(server, volume_id, ext).unlink()
    if ".ecx" not in lost:
        server.stop()
        revive(six, server)
        settle(six, volume_id)
    assert "gave" in repair(six, volume_id).summary
    others = [path_of(other, volume_id, ext).read_bytes() for ext in lost for other in six.servers[1:]]
    assert all(path_of(server, volume_id, ext).read_bytes() in others for ext in lost)
    assert_whole(six, volume_id, before)
    for _again in range(2):
        six.check(files)
        server.stop()
        revive(six, server)
        settle(six, volume_id)


def test_a_shard_that_is_on_two_servers_is_on_one_afterwards(six: Cluster) -> None:
    files, volume_id, before = volume(six)
    one, other = holder_of(six, volume_id, 5), six.servers[0]
    six.volume(other).volume_ec_shards_copy(volume_id=volume_id, shard_ids=[5], source_data_node=str(one.address))
    six.volume(other).volume_ec_shards_mount(volume_id=volume_id, shard_ids=[5])
    settle(six, volume_id)
    (proposal,) = detect(six).proposals
    assert "shard 5 on more than one server" in proposal.summary
    assert "removed shard 5" in repair(six, volume_id).summary
    assert_whole(six, volume_id, before)
    settle(six, volume_id)
    six.check(files)


def test_of_two_copies_the_bad_one_goes(six: Cluster) -> None:
    _files, volume_id, before = volume(six)
    one, other = holder_of(six, volume_id, 5), six.servers[0]
    six.volume(other).volume_ec_shards_copy(volume_id=volume_id, shard_ids=[5], source_data_node=str(one.address))
    six.volume(other).volume_ec_shards_mount(volume_id=volume_id, shard_ids=[5])
    settle(six, volume_id)
    flip(path_of(one, volume_id, ".ec05"), 99)
    ctx = six.context()
    findings.note(ctx, bad_shard(volume_id, 5, one))
    repair(six, volume_id, ctx=ctx)
    assert holder_of(six, volume_id, 5) is other
    assert_whole(six, volume_id, before)


def test_what_was_deleted_through_different_holders_stays_deleted(six: Cluster) -> None:
    files, volume_id, _before = volume(six)
    fids = list(files)[:6]
    for fid, server in zip(fids, six.servers):
        delete_at(six, fid, server)
        del files[fid]
    lose(six, volume_id, 1, 7)
    assert "told holders" in repair(six, volume_id).summary
    for server in six.servers:
        assert journal(six, server, volume_id) == {key_of(fid) for fid in fids}
    for server in six.servers:
        server.stop()
        revive(six, server)
    settle(six, volume_id)
    six.check(files)
    for fid in fids:
        assert {status_of(server, fid) for server in six.servers} == {404}


def test_a_dry_run_says_everything_and_changes_nothing(sandbox_six: Cluster) -> None:
    files, volume_id, _before = volume(sandbox_six)
    lose(sandbox_six, volume_id, 3)
    delete_at(sandbox_six, next(iter(files)), sandbox_six.servers[0])
    ctx = sandbox_six.context(dry_run=True)
    bad = holder_of(sandbox_six, volume_id, 2)
    findings.note(ctx, bad_shard(volume_id, 2, bad))
    path_of(sandbox_six.servers[5], volume_id, ".ecsum").unlink()
    see_nothing_yet(sandbox_six)
    text = repair(sandbox_six, volume_id, ctx=ctx).summary
    assert "13 of 14 shards are sound" in text
    assert "shard 3 would be restored on" in text
    assert f"shard 2 on {bad.address} would be read" in text
    assert f"{sandbox_six.servers[5].address} lacks .ecsum" in text
    assert "would be told 5 deletions" in text
    detect(sandbox_six)
    assert changes_seen(sandbox_six) == []


def test_what_a_job_names_alone_is_restored(six: Cluster) -> None:
    _files, volume_id, before = volume(six)
    lose(six, volume_id, 3, 8)
    result = repair(six, volume_id, shards="3")
    assert result.outputs["restored"] == "3"
    assert "8 are lost, too, but not for long enough" in result.summary
    repair(six, volume_id)
    assert_whole(six, volume_id, before)


def test_a_fault_waits_until_it_has_been_seen_for_long_enough(sandbox_six: Cluster) -> None:
    _files, volume_id, _before = volume(sandbox_six)
    lose(sandbox_six, volume_id, 3)
    found = detect(sandbox_six, min_fault_age_seconds=600)
    assert found.proposals == []
    (skipped,) = found.skipped
    assert skipped.key == "too fresh"
    assert "has 13 of 14 shards: shard 3 missing; seen for 0 s, repaired after 600 s" in skipped.reason


def test_the_worst_comes_first_and_each_is_named_by_its_volume(sandbox_six: Cluster) -> None:
    made = [volume(sandbox_six)[1] for _ in range(3)]
    lose(sandbox_six, made[0], 3)
    lose(sandbox_six, made[1], 0, 3, 6)
    found = detect(sandbox_six)
    assert [proposal.params.volume_id for proposal in found.proposals] == [made[1], made[0]]
    assert found.proposals[0].dedupe_key == f"ec_repair:{made[1]}"
    assert found.proposals[0].parameters["shards"] == "0,3,6"
    ctx = sandbox_six.context()
    findings.note(ctx, bad_shard(made[2], 2, holder_of(sandbox_six, made[2], 2)))
    assert [one.params.volume_id for one in detect(sandbox_six, ctx, min_fault_age_seconds=600).proposals] == [made[2]]


def test_a_volume_that_is_there_as_a_regular_one_is_left_alone(sandbox_six: Cluster) -> None:
    _files, volume_id, _before = volume(sandbox_six)
    lose(sandbox_six, volume_id, 3)
    order = v.AllocateVolumeRequest(volume_id=volume_id, replication="000", version=3)
    sandbox_six.stub(sandbox_six.servers[0]).AllocateVolume.future(order).result()
    eventually(lambda: sandbox_six.topology().replicas(volume_id))
    with pytest.raises(StaleTask, match="regular volume"):
        repair(sandbox_six, volume_id)
    assert detect(sandbox_six).proposals == []


def test_jobs_that_make_no_sense_are_refused(sandbox_six: Cluster) -> None:
    _files, volume_id, _before = volume(sandbox_six, "photos")
    orders: list[tuple[Any, type[Exception], str]] = [
        (job(0), BadTask, "names no volume"),
        (job(volume_id, "other"), StaleTask, "is of collection 'photos', not 'other'"),
        (job(volume_id + 7), StaleTask, "knows no shard"),
        (job(volume_id, "photos", shards="14"), BadTask, "are no shards"),
        (job(volume_id, "photos", shards="x"), BadTask, "are no shards"),
    ]
    for order, kind, words in orders:
        with pytest.raises(kind, match=words):
            ec_repair.run(order, sandbox_six.context())
