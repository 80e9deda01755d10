"""Reading everything through: what is bad is found by name, what is sound is noted, nothing is changed."""

from __future__ import annotations

import threading
import time

import pytest

from tests.support.cluster import Cluster, Files, request
from tests.support.ec_repair import delete_at
from tests.support.rpcs import changes_seen, see_nothing_yet
from tests.support.scrub import dat_of, job_of, look, scrub_all, spoil
from tests.support.shards import digests, encoded, flip, holder_of, path_of, remount, settle, where
from weed_core.errors import BadTask, ServerFailed
from weed_core.findings import EC_DELETIONS, EC_INDEX, EC_SHARD, REPLICA, Finding
from weed_core.model import Job
from weed_core.scrub_ledger import BAD, CLEAN, METHODS, Ledger, Mark
from weed_safety import findings
from weed_safety.context import Context
from weed_tasks import scrub
from weed_tasks.scrub import plan, task
from weed_tasks.scrub.book import Book

LONG_AGO = 3600.0


def replicated(cluster: Cluster, count: int = 12, ago: float = LONG_AGO) -> Files:
    """Files in one volume with two replicas, last written to a while ago."""
    files = cluster.fill(count, servers=cluster.servers[:2], replication="001")
    cluster.age(files.volume_ids[0], ago)
    cluster.settle()
    return files


def methods(ctx: Context, volume_id: int) -> set[tuple[str, int]]:
    """How the things of a volume were verified, and with what result."""
    return {(METHODS[mark.method], mark.result) for mark in Ledger(ctx.scrubbed.all()).marks(volume_id)}


def only(ctx: Context, kind: str) -> Finding:
    """The one finding that there is."""
    (found,) = findings.read_all(ctx)
    assert found.kind == kind
    return found


def test_sound_replicas_are_noted_and_are_not_due_again(any_cluster: Cluster) -> None:
    files, ctx = replicated(any_cluster), any_cluster.context()
    before = look(any_cluster, ctx, interval_days=30)
    assert "2 never" in before.summary
    (result,) = scrub_all(any_cluster, ctx, interval_days=30)
    assert "read 2 replicas and shards of 1 volumes, 0 faults found" in result.summary
    assert "100 % verified in 30 days, oldest 0 days, 0 never" in result.summary
    how = "needles" if any_cluster.era == "3.97" else "scrub full"
    assert methods(ctx, files.volume_ids[0]) == {(how, CLEAN)}
    after = look(any_cluster, ctx, interval_days=30)
    assert (after.proposals, findings.read_all(ctx)) == ([], [])
    assert len(look(any_cluster, ctx, interval_days=0).proposals) == 1


def test_a_byte_that_flipped_in_one_replica_is_handed_on_with_the_file(any_cluster: Cluster) -> None:
    files, ctx = replicated(any_cluster), any_cluster.context()
    fid, server = list(files)[5], any_cluster.servers[1]
    spoil(any_cluster, fid, server)
    (result,) = scrub_all(any_cluster, ctx)
    found = only(ctx, REPLICA)
    assert (found.volume_id, found.server) == (files.volume_ids[0], str(server.address))
    assert fid in found.words
    assert "1 file cannot be read" in found.words
    assert fid in result.summary
    assert {what for _how, what in methods(ctx, files.volume_ids[0])} == {CLEAN, BAD}
    assert "1 bad" in look(any_cluster, ctx).summary


def test_a_single_copy_that_is_bad_is_told_with_the_files_that_are_hit(any_cluster: Cluster) -> None:
    files = any_cluster.fill(8, servers=any_cluster.servers[:1])
    any_cluster.age(files.volume_ids[0], LONG_AGO)
    any_cluster.settle()
    ctx, hit = any_cluster.context(), list(files)[2:4]
    for fid in hit:
        spoil(any_cluster, fid, any_cluster.servers[0])
    (result,) = scrub_all(any_cluster, ctx)
    assert "its only copy: 2 files cannot be read" in result.summary
    assert all(fid in result.summary for fid in hit)


def test_what_is_sound_after_all_is_settled(any_cluster: Cluster) -> None:
    files, ctx = replicated(any_cluster), any_cluster.context()
    server = any_cluster.servers[0]
    path = dat_of(server, files.volume_ids[0])
    content = path.read_bytes()
    spoil(any_cluster, next(iter(files)), server)
    scrub_all(any_cluster, ctx)
    assert only(ctx, REPLICA).server == str(server.address)
    with path.open("r+b") as file:
        file.write(content)
    scrub_all(any_cluster, ctx)
    assert findings.read_all(ctx) == []


def test_replicas_that_are_sound_and_yet_different_are_told(any_cluster: Cluster) -> None:
    servers = any_cluster.servers[:2]
    files, ctx = replicated(any_cluster), any_cluster.context()
    (volume_id,) = files.volume_ids
    fid = f"{volume_id},0123456789"
    for server, data in zip(servers, (b"one version", b"other bytes")):
        assert request(server.address, "PUT", f"/{fid}?type=replicate", data)[0] == 201
    any_cluster.stamp(volume_id, servers, time.time() - 100)
    (result,) = scrub_all(any_cluster, ctx)
    assert f"differ in 1 files, among them {fid}" in result.summary
    assert "2 that differ" in result.summary
    assert findings.read_all(ctx) == []


def test_a_volume_that_is_written_to_is_read_file_by_file_while_clients_go_on(any_cluster: Cluster) -> None:
    files, ctx = replicated(any_cluster, count=40, ago=0), any_cluster.context()
    fid = list(files)[20]
    spoil(any_cluster, fid, any_cluster.servers[0])
    more, stop = Files(), threading.Event()

    def write() -> None:
        while not stop.is_set():
            any_cluster.write(more, files.volume_ids[0], 1, 500, any_cluster.servers[:2])
            any_cluster.stamp(files.volume_ids[0], any_cluster.servers[:2], time.time())

    client = threading.Thread(target=write)
    client.start()
    try:
        (result,) = scrub_all(any_cluster, ctx)
    finally:
        stop.set()
        client.join(30)
    assert "1 file cannot be read" in result.summary
    assert "differ" not in result.summary
    assert {how for how, _what in methods(ctx, files.volume_ids[0])} == {"needles"}
    assert fid in only(ctx, REPLICA).words


def test_a_slice_that_ends_goes_on_where_it_was(sandbox_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    files, ctx = replicated(sandbox_cluster, count=30), sandbox_cluster.context()
    spoil(sandbox_cluster, next(iter(files)), sandbox_cluster.servers[0])
    monkeypatch.setattr("weed_safety.reading.BATCH", 20)
    monkeypatch.setattr(task, "SLICE", 0.0)
    (first,) = scrub_all(sandbox_cluster, ctx)
    assert "1 volumes go on in the next slice" in first.summary
    assert methods(ctx, files.volume_ids[0]) == set()
    monkeypatch.undo()
    see_nothing_yet(sandbox_cluster)
    (second,) = scrub_all(sandbox_cluster, ctx)
    asked = [call for server in sandbox_cluster.servers[:2] for call, _order in sandbox_cluster.calls(server)]
    assert asked.count("ScrubVolume") == 0
    assert asked.count("VolumeNeedleStatus") + asked.count("ReadNeedleMeta") < 30
    assert "1 file cannot be read" in second.summary
    assert {what for _how, what in methods(ctx, files.volume_ids[0])} == {BAD, CLEAN}
    assert ctx.scrubbed.all().keys() == {"segment-0"}


def test_what_was_verified_since_the_look_is_not_read_again(sandbox_cluster: Cluster) -> None:
    replicated(sandbox_cluster)
    ctx = sandbox_cluster.context()
    (proposal,) = look(sandbox_cluster, ctx).proposals
    time.sleep(1.1)  # records are of whole seconds
    scrub.run(job_of(proposal), ctx)
    see_nothing_yet(sandbox_cluster)
    assert "read 0 replicas" in scrub.run(job_of(proposal), ctx).summary
    assert all(
        not [call for call, _ in sandbox_cluster.calls(one) if "Scrub" in call] for one in sandbox_cluster.servers
    )


@pytest.mark.parametrize("shard", [2, 12])
def test_a_byte_that_flipped_in_a_shard_is_found_in_parity_too(five: Cluster, shard: int) -> None:
    _files, volume_id = encoded(five, "photos", count=6, size=500_003)
    ctx, server = five.context(), holder_of(five, volume_id, shard)
    flip(path_of(server, volume_id, f".ec{shard:02d}", "photos"), 700_001)
    (result,) = scrub_all(five, ctx)
    found = only(ctx, EC_SHARD)
    assert (found.volume_id, found.collection, found.shard_id) == (volume_id, "photos", shard)
    assert found.server == str(server.address)
    how = "checksum" if five.era == "4.44" else "reading"
    assert methods(ctx, volume_id) == {(how, CLEAN), (how, BAD)}
    assert "read 14 replicas and shards of 1 volumes, 1 faults found" in result.summary
    assert "100 % verified" in result.summary


def test_a_shard_that_was_cut_to_half_is_found(five: Cluster) -> None:
    _files, volume_id = encoded(five, count=6, size=500_003)
    ctx, server = five.context(), holder_of(five, volume_id, 5)
    with path_of(server, volume_id, ".ec05").open("r+b") as file:
        file.truncate(500_000)
    scrub_all(five, ctx)
    found = only(ctx, EC_SHARD)
    assert (found.shard_id, found.server) == (5, str(server.address))


def test_sound_shards_are_noted_and_nothing_is_found(five: Cluster) -> None:
    _files, volume_id = encoded(five, count=6, size=500_003)
    ctx = five.context()
    before = digests(five, volume_id)
    (result,) = scrub_all(five, ctx, interval_days=30)
    assert "read 14 replicas and shards of 1 volumes, 0 faults found" in result.summary
    assert findings.read_all(ctx) == []
    assert digests(five, volume_id) == before
    assert look(five, ctx, interval_days=30).proposals == []


def test_a_holder_without_checksums_is_not_believed_and_its_shards_are_read(five: Cluster) -> None:
    _files, volume_id = encoded(five, count=6, size=500_003)
    ctx, server = five.context(), holder_of(five, volume_id, 12)
    path_of(server, volume_id, ".ecsum").unlink(missing_ok=True)  # servers before 4.44 know none
    remount(five, server, volume_id, [shard for shard, held in where(five, volume_id).items() if server in held])
    settle(five, volume_id)
    flip(path_of(server, volume_id, ".ec12"), 11)
    scrub_all(five, ctx)
    told = {EC_SHARD, EC_INDEX} if five.era == "4.44" else {EC_SHARD}
    assert {found.kind for found in findings.read_all(ctx)} == told
    assert ("reading", BAD) in methods(ctx, volume_id)


def test_shards_without_any_checksums_are_read_against_each_other(five: Cluster) -> None:
    _files, volume_id = encoded(five, count=6, size=500_003)
    ctx = five.context()
    for server in five.servers:
        path_of(server, volume_id, ".ecsum").unlink(missing_ok=True)
        remount(five, server, volume_id, [s for s, held in where(five, volume_id).items() if server in held])
    settle(five, volume_id)
    flip(path_of(holder_of(five, volume_id, 12), volume_id, ".ec12"), 11)
    flip(path_of(holder_of(five, volume_id, 3), volume_id, ".ec03"), 1_000_000)
    scrub_all(five, ctx)
    assert sorted(found.shard_id for found in findings.read_all(ctx)) == [3, 12]
    assert methods(ctx, volume_id) == {("reading", CLEAN), ("reading", BAD)}


def test_a_deletion_that_one_holder_alone_knows_is_found(five: Cluster) -> None:
    files, volume_id = encoded(five, count=6, size=500_003)
    ctx = five.context()
    delete_at(five, next(iter(files)), five.servers[0])
    scrub_all(five, ctx)
    found = only(ctx, EC_DELETIONS)
    assert (found.volume_id, found.server) == (volume_id, "")


def test_with_a_rate_nothing_is_read_faster(sandbox_cluster: Cluster) -> None:
    sandbox_cluster.fill(20, size=100_000, servers=sandbox_cluster.servers[:1])
    ctx, began = sandbox_cluster.context(), time.monotonic()
    (result,) = scrub_all(sandbox_cluster, ctx, io_byte_per_second=1_000_000)
    assert "read 1 replicas" in result.summary
    assert time.monotonic() - began > 1.5


def test_a_server_that_is_away_leaves_its_replica_unverified(sandbox_cluster: Cluster) -> None:
    files = replicated(sandbox_cluster)
    ctx = sandbox_cluster.context()
    jobs = [job_of(proposal) for proposal in look(sandbox_cluster, ctx).proposals]
    sandbox_cluster.faults(sandbox_cluster.servers[1]).fail("VolumeStatus", nth=0)
    result = scrub.run(jobs[0], ctx)
    assert "read 1 replicas and shards" in result.summary
    assert "not read:" in result.summary
    assert len(Ledger(ctx.scrubbed.all()).marks(files.volume_ids[0])) == 1
    assert findings.read_all(ctx) == []


def test_a_job_fails_where_nothing_can_be_read(sandbox_cluster: Cluster) -> None:
    sandbox_cluster.fill(3, servers=sandbox_cluster.servers[:1])
    ctx = sandbox_cluster.context()
    jobs = [job_of(proposal) for proposal in look(sandbox_cluster, ctx).proposals]
    sandbox_cluster.faults(sandbox_cluster.servers[0]).fail("VolumeStatus", nth=0)
    with pytest.raises(ServerFailed):
        scrub.run(jobs[0], ctx)
    with pytest.raises(BadTask, match="names no volume"):
        scrub.run(Job("empty", "scrub", jobs[0].params), ctx)


def test_a_dry_run_looks_and_changes_nothing_and_a_scrub_marks_nothing(sandbox_five: Cluster) -> None:
    files = replicated(sandbox_five)
    encoded(sandbox_five, count=3, size=1000)
    spoil(sandbox_five, next(iter(files)), sandbox_five.servers[0])
    ctx = sandbox_five.context(dry_run=True)
    jobs = [job_of(proposal) for proposal in look(sandbox_five, ctx).proposals]
    see_nothing_yet(sandbox_five)
    assert "would read 16 replicas and shards" in scrub.run(jobs[0], ctx).summary
    assert changes_seen(sandbox_five) == []
    scrub.run(jobs[0], sandbox_five.context())
    assert {*changes_seen(sandbox_five)} <= {"LeaseAdminToken", "ReleaseAdminToken", "ScrubVolume", "ScrubEcVolume"}
    orders = [order for one in sandbox_five.servers for call, order in sandbox_five.calls(one) if "Scrub" in call]
    assert orders
    assert not any("mark" in name for order in orders for name in order)


def test_workers_share_the_ledger_where_the_cluster_has_a_filer(cluster: Cluster) -> None:
    replicated(cluster)
    cluster.start_filer()
    scrub_all(cluster, cluster.context(), interval_days=30)
    other = cluster.context()
    assert other.scrubbed.all() == {}
    found = look(cluster, other, interval_days=30)
    assert found.proposals == []
    assert "100 % verified in 30 days, oldest 0 days, 0 never" in found.summary


def test_what_one_look_proposes_is_bounded_by_the_interval(
    sandbox_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = sandbox_cluster.fill(1, volumes=6).volume_ids
    sandbox_cluster.settle()
    monkeypatch.setattr(plan, "MOST_VOLUMES", 2)
    ctx = sandbox_cluster.context()
    assert len(look(sandbox_cluster, ctx, interval_days=0).proposals) == 3
    (first,) = look(sandbox_cluster, ctx, interval_days=30).proposals
    assert job_of(first).volume_ids == tuple(ids[:2])


def test_what_was_found_at_a_server_that_does_not_have_it_any_more_is_settled(sandbox_cluster: Cluster) -> None:
    replicated(sandbox_cluster)
    ctx, (first, _second, third) = sandbox_cluster.context(), sandbox_cluster.servers
    gone = [
        Finding(REPLICA, 4711, server=str(first.address), found=1000.0),
        Finding(EC_SHARD, 4712, shard_id=3, server=str(third.address), found=1000.0),
        Finding(EC_INDEX, 4712, server=str(third.address), found=1000.0),
        Finding(EC_DELETIONS, 4712, found=1000.0),
    ]
    away = Finding(REPLICA, 4711, server="127.0.0.99:8080", found=1000.0)
    for finding in [*gone, away]:
        findings.note(ctx, finding)
    scrub_all(sandbox_cluster, ctx)
    assert findings.read_all(ctx) == [away]


def test_two_jobs_at_a_time_lose_nothing_of_what_each_has_noted(sandbox_cluster: Cluster) -> None:
    ctx = sandbox_cluster.context()
    one, other = Book(ctx), Book(ctx)
    one.note([Mark(1, 0, 7, 1 << 15, 1000, 1, CLEAN)])
    other.note([Mark(2, 0, 7, 1 << 15, 1000, 1, CLEAN)])
    assert [Ledger(ctx.scrubbed.all()).marks(number) != [] for number in (1, 2)] == [True, True]
