"""What a scrub finds is mended by the others, byte for byte, and a scrub that is killed has changed nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.dying import DyingWorker, at_event
from tests.support.scrub import dat_of, job_of, look, scrub_all, spoil
from tests.support.shards import digests, encoded, flip, holder_of, path_of, remount, settle, where
from weed_core.model import DetectionRequest, Job, Result
from weed_core.shelf import Memory
from weed_safety import findings
from weed_safety.context import Context
from weed_storage.checksums import parse_ecsum
from weed_tasks import ec_repair, replication, scrub


def mended(cluster: Cluster, ctx: Context) -> list[Result]:
    """What ec_repair finds to do, and does."""
    request = DetectionRequest("ec_repair", {"min_fault_age_seconds": 0}, (str(cluster.master),))
    found = ec_repair.detect(request, ctx)
    assert "found by a scrub" in found.summary
    return [ec_repair.run(Job(one.id, "ec_repair", one.params, one.parameters), ctx) for one in found.proposals]


def test_bytes_that_flipped_and_a_shard_cut_to_half_are_found_and_restored(five: Cluster) -> None:
    files, volume_id = encoded(five, "photos", count=12, size=1_000_003)
    before = digests(five, volume_id, "photos")
    for shard, at in ((1, 1_500_000), (12, 7)):
        flip(path_of(holder_of(five, volume_id, shard), volume_id, f".ec{shard:02d}", "photos"), at)
    with path_of(holder_of(five, volume_id, 5), volume_id, ".ec05", "photos").open("r+b") as file:
        file.truncate(1 << 20)
    ctx = five.context()
    (result,) = scrub_all(five, ctx)
    assert "3 faults found" in result.summary
    (repaired,) = mended(five, ctx)
    assert all(f"replaced the bad shard {shard}" in repaired.summary for shard in (1, 5, 12)), repaired.summary
    settle(five, volume_id)
    assert digests(five, volume_id, "photos") == before
    assert findings.read_all(ctx) == []
    five.check(files)
    (again,) = scrub_all(five, ctx)
    assert "0 faults found" in again.summary


def test_a_volume_encoded_before_there_were_checksums_gets_them(five: Cluster) -> None:
    if five.era != "4.44":
        pytest.skip("servers before 4.44 know no .ecsum")
    files, volume_id = encoded(five, "photos", count=6, size=500_003)
    first = path_of(five.servers[0], volume_id, ".ecsum", "photos").read_bytes()
    for server in five.servers:
        path_of(server, volume_id, ".ecsum", "photos").unlink()
        held = [shard for shard, servers in where(five, volume_id).items() if server in servers]
        remount(five, server, volume_id, held, "photos")
    settle(five, volume_id)
    before, ctx = digests(five, volume_id, "photos"), five.context()
    (result,) = scrub_all(five, ctx)
    assert "it has no .ecsum, though all its shards fit together" in result.summary
    (looked,) = mended(five, replace(ctx, options=replace(ctx.options, dry_run=True)))
    assert "it would get the .ecsum that it never had" in looked.summary
    (repaired,) = mended(five, ctx)
    assert "made the .ecsum that volume" in repaired.summary
    assert findings.read_all(ctx) == []
    made = [parse_ecsum(path_of(server, volume_id, ".ecsum", "photos").read_bytes()) for server in five.servers]
    assert [one.shards for one in made] == [parse_ecsum(first).shards] * len(five.servers)
    assert digests(five, volume_id, "photos") == before
    settle(five, volume_id)
    five.check(files)
    flip(path_of(holder_of(five, volume_id, 12), volume_id, ".ec12", "photos"), 7)
    (again,) = scrub_all(five, ctx)
    assert "1 faults found" in again.summary


def test_a_scrub_that_dies_anywhere_has_changed_nothing_and_the_next_one_finds_all(
    sandbox_five: Cluster, tmp_path: Path
) -> None:
    files, volume_id = encoded(sandbox_five, count=4, size=200_000)
    regular = sandbox_five.fill(6, servers=sandbox_five.servers[:2], replication="001")
    spoil(sandbox_five, next(iter(regular)), sandbox_five.servers[0])
    flip(path_of(holder_of(sandbox_five, volume_id, 12), volume_id, ".ec12"), 7)
    sandbox_five.settle()
    before = digests(sandbox_five, volume_id), dat_of(sandbox_five.servers[0], regular.volume_ids[0]).read_bytes()
    (proposal,) = look(sandbox_five, sandbox_five.context()).proposals

    def events(directory: Path, shelves: tuple[Memory, Memory], number: int) -> int:
        worker = DyingWorker(sandbox_five, directory, at_event(number))

        def work(job: Job, ctx: Context) -> Result:
            return scrub.run(job, replace(ctx, findings=shelves[0], scrubbed=shelves[1]))

        worker.run(work, job_of(proposal))
        return len(worker.events)

    whole = events(tmp_path / "whole", (Memory(), Memory()), -2)
    for number in range(0, whole, max(1, whole // 3)):
        shelves = Memory(), Memory()
        events(tmp_path / f"dies{number}", shelves, number)
        now = digests(sandbox_five, volume_id), dat_of(sandbox_five.servers[0], regular.volume_ids[0]).read_bytes()
        assert now == before
        ctx = replace(sandbox_five.context(), findings=shelves[0], scrubbed=shelves[1])
        scrub_all(sandbox_five, ctx)
        assert len(findings.read_all(ctx)) == 2
    sandbox_five.check(files)


def test_a_bad_replica_and_a_bad_shard_are_told_apart(sandbox_five: Cluster) -> None:
    files, volume_id = encoded(sandbox_five, count=4, size=200_000)
    regular = sandbox_five.fill(6, servers=sandbox_five.servers[:2], replication="001")
    spoil(sandbox_five, next(iter(regular)), sandbox_five.servers[1])
    flip(path_of(holder_of(sandbox_five, volume_id, 3), volume_id, ".ec03"), 7)
    sandbox_five.settle()
    ctx = sandbox_five.context()
    scrub_all(sandbox_five, ctx)
    mended(sandbox_five, ctx)
    request = DetectionRequest("replication", {}, (str(sandbox_five.master),))
    (proposal,) = replication.detect(request, ctx).proposals
    replication.run(Job(proposal.id, "replication", proposal.params, proposal.parameters), ctx)
    assert findings.read_all(ctx) == []
    sandbox_five.settle()
    sandbox_five.check(files)
    sandbox_five.check(regular)
