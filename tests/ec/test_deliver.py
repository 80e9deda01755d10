"""Bringing shards to servers in whatever state those are, and nothing half done counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, Server
from tests.support.shards import (
    digests,
    encoded,
    flip,
    holder_of,
    path_of,
    run_of,
    settle,
    take,
    where,
)
from weed_cluster import offer
from weed_core.errors import Busy, Mismatch, TaskError
from weed_ec.deletions import deletions_of, tell_all
from weed_ec.deliver import PULLED, PUSHED, REMOUNTED, deliver, undo
from weed_ec.reader import ShardReader
from weed_ec.shards import fetch
from weed_ec.stream import Slot
from weed_safety.context import Context
from weed_safety.journal import Journal
from weed_storage.index import read_ecj


def volume(cluster: Cluster, on: int = 4, collection: str = "photos") -> tuple[int, dict[int, str]]:
    """A volume with shards of 2 MiB on the first servers, and the digests of its shards."""
    _files, volume_id = encoded(cluster, collection, count=12, size=1_000_003, on=cluster.servers[:on])
    return volume_id, digests(cluster, volume_id, collection)


def reader(cluster: Cluster, ctx: Context, volume_id: int) -> ShardReader:
    return ShardReader(ctx, run_of(cluster, ctx, volume_id, "photos"))


def lose(cluster: Cluster, volume_id: int, shard: int) -> Server:
    server = holder_of(cluster, volume_id, shard)
    take(cluster, volume_id, shard, server, "photos")
    return server


def test_a_server_without_anything_of_the_volume_is_sent_all_it_needs(five: Cluster) -> None:
    volume_id, before = volume(five)
    for shard in (0, 5):
        lose(five, volume_id, shard)
    ctx, fresh = five.context(), five.servers[4]
    assert fresh.files() == []
    ways = deliver(ctx, reader(five, ctx, volume_id), dict.fromkeys((0, 5), Slot(fresh.address)))
    assert ways == {0: PUSHED, 5: PUSHED}
    assert ctx.journal.open == []
    assert digests(five, volume_id, "photos") == before
    assert {name.partition(".")[2] for name in fresh.files()} == {"ec00", "ec05", "ecx", "ecj", "vif", "ecsum"}
    fresh.stop()
    five.start()
    settle(five, volume_id)
    assert run_of(five, five.context(), volume_id, "photos").missing == ()


def test_a_server_with_other_shards_pulls_from_the_worker(five: Cluster) -> None:
    volume_id, before = volume(five)
    for shard in (0, 5, 13):
        lose(five, volume_id, shard)
    ctx, (a, b, *_) = five.context(), five.servers
    places = {0: Slot(a.address), 5: Slot(b.address), 13: Slot(b.address)}
    assert deliver(ctx, reader(five, ctx, volume_id), places) == dict.fromkeys((0, 5, 13), PULLED)
    settle(five, volume_id)
    assert digests(five, volume_id, "photos") == before
    assert {shard: servers for shard, servers in where(five, volume_id).items() if shard in places} == {
        0: [a],
        5: [b],
        13: [b],
    }


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server can reach this worker."""
    monkeypatch.setattr(offer, "_comes_from", lambda _peer, _host: False)


@pytest.mark.usefixtures("unreachable")
def test_a_server_that_cannot_reach_the_worker_pulls_from_one_in_between(five: Cluster) -> None:
    volume_id, before = volume(five)
    lose(five, volume_id, 5)
    ctx, (a, b, *_rest, between) = five.context(), five.servers
    ways = deliver(ctx, reader(five, ctx, volume_id), {5: Slot(b.address)}, between=[a.address, between.address])
    assert ways == {5: f"over {between.address}"}
    assert between.files() == []
    assert digests(five, volume_id, "photos") == before
    assert ctx.journal.open == []


@pytest.mark.usefixtures("unreachable")
def test_without_one_in_between_its_shards_are_unmounted_for_the_while(five: Cluster) -> None:
    volume_id, before = volume(five, on=5)
    lose(five, volume_id, 5)
    ctx, a = five.context(), five.servers[4]  # it has two others
    assert deliver(ctx, reader(five, ctx, volume_id), {5: Slot(a.address)}) == {5: REMOUNTED}
    assert digests(five, volume_id, "photos") == before
    assert run_of(five, ctx, volume_id, "photos").missing == ()
    assert ctx.journal.open == []


@pytest.mark.usefixtures("unreachable")
def test_with_more_than_four_away_nothing_is_unmounted(five: Cluster) -> None:
    volume_id, _before = volume(five)
    lose(five, volume_id, 5)
    ctx, a = five.context(), five.servers[0]  # it has four others
    with pytest.raises(Busy, match=r"5 shards of volume .* would be away"):
        deliver(ctx, reader(five, ctx, volume_id), {5: Slot(a.address)})
    assert run_of(five, ctx, volume_id, "photos").missing == (5,)
    assert ctx.journal.open == []


def test_an_input_that_proves_wrong_at_its_end_is_not_used_and_the_bytes_are_sent_anew(five: Cluster) -> None:
    volume_id, before = volume(five)
    for shard in (0, 5):
        lose(five, volume_id, shard)
    flip(path_of(holder_of(five, volume_id, 3), volume_id, ".ec03", "photos"), (2 << 20) - 1)
    ctx = five.context()
    places = {0: Slot(five.servers[4].address), 5: Slot(five.servers[1].address)}
    source = reader(five, ctx, volume_id)
    assert deliver(ctx, source, places) == {0: PUSHED, 5: PULLED}
    assert [shard for _server, shard in source.bad] == [3]
    after = digests(five, volume_id, "photos")
    assert {shard: after[shard] for shard in places} == {shard: before[shard] for shard in places}


def test_a_shard_that_is_mounted_there_is_left_alone(five: Cluster) -> None:
    volume_id, before = volume(five)
    ctx = five.context()
    with pytest.raises(Busy, match="mounted already"):
        deliver(ctx, reader(five, ctx, volume_id), {5: Slot(holder_of(five, volume_id, 5).address)})
    assert digests(five, volume_id, "photos") == before


def test_what_a_killed_sender_left_is_written_over(five: Cluster) -> None:
    volume_id, before = volume(five)
    server = lose(five, volume_id, 5)
    (server.data_dir / f"photos_{volume_id}.ec05").write_bytes(b"x" * 4711)
    ctx = five.context()
    assert deliver(ctx, reader(five, ctx, volume_id), {5: Slot(server.address)}) == {5: PULLED}
    assert digests(five, volume_id, "photos") == before


def test_the_offered_file_is_for_that_server_and_that_file_alone(five: Cluster) -> None:
    volume_id, _before = volume(five)
    a, b, *_ = five.servers
    offered = offer.Offer(a.address, None, volume_id, "photos", ".ec05")
    try:
        for ext, shard_ids in ((".ec06", [6]), (".vif", [])):
            with pytest.raises(TaskError, match=f"no {ext} of volume"):
                five.volume(b).volume_ec_shards_copy(
                    volume_id=volume_id,
                    collection="photos",
                    shard_ids=shard_ids,
                    copy_vif_file=ext == ".vif",
                    source_data_node=offered.source,
                )
        assert not offered.asked.is_set()
        assert not offer._comes_from("ipv4:192.0.2.7:4711", a.address.host)
        assert offer._comes_from("ipv4:127.0.0.1:4711", a.address.host)
        assert offer._comes_from("ipv6:%5B::ffff:192.0.2.7%5D:4711", "192.0.2.7")
        assert not offer._comes_from("unix:/tmp/x", a.address.host)
    finally:
        offered.close()


def test_a_server_that_dies_while_it_pulls_leaves_nothing_that_counts(five: Cluster, tmp_path: Path) -> None:
    volume_id, before = volume(five)
    server = lose(five, volume_id, 5)
    entry = Journal(tmp_path).open_entry("job", "ec_repair", volume_id)
    ctx = five.context(entry)
    source = reader(five, ctx, volume_id)

    class Dying(ShardReader):
        """Its target dies behind the first piece."""

        def stream(self, *args: object, **kwargs: object) -> Iterator[object]:  # type: ignore[override]
            for part in source.stream(*args, **kwargs):  # type: ignore[arg-type]
                yield part
                server.kill()

    with pytest.raises(TaskError):
        deliver(ctx, Dying(ctx, source.run), {5: Slot(server.address)})
    server.start()
    five.ready()
    (left,) = Journal(tmp_path).unfinished()
    copies = run_of(five, five.context(), volume_id, "photos").copies
    undo(left, five.context(), copies)
    assert left.open == []
    left.close()
    assert 5 not in digests(five, volume_id, "photos")
    ctx = five.context()
    deliver(ctx, reader(five, ctx, volume_id), {5: Slot(server.address)})
    assert digests(five, volume_id, "photos") == before


def test_every_holder_is_told_what_any_of_them_knows_as_deleted(five: Cluster) -> None:
    volume_id, _before = volume(five)
    files = [fid for known in five._files for fid in known.of(volume_id)]
    ids = [int(fid.partition(",")[2][:-8], 16) for fid in files[:4]]
    for needle_id, server in zip(ids, five.servers):
        five.volume(server).volume_ec_blob_delete(
            volume_id=volume_id, collection="photos", file_key=needle_id, version=3
        )
    ctx = five.context()
    run = run_of(five, ctx, volume_id, "photos")
    assert deletions_of(ctx, run).all == {*ids}
    assert tell_all(ctx, run) == 4 * 3
    assert tell_all(ctx, run) == 0
    assert deletions_of(ctx, run).untold == {}
    for server in five.servers[:4]:
        assert {*read_ecj(fetch(five.volume(server), volume_id, "photos", ".ecj") or b"")} == {*ids}
    lose(five, volume_id, 0)
    deliver(ctx, reader(five, ctx, volume_id), {0: Slot(five.servers[4].address)})
    assert {*read_ecj(fetch(five.volume(five.servers[4]), volume_id, "photos", ".ecj") or b"")} == {*ids}


def test_a_holder_that_writes_nothing_down_is_noticed(five: Cluster) -> None:
    volume_id, _before = volume(five)
    ctx, (a, b, *_) = five.context(), five.servers
    run = run_of(five, ctx, volume_id, "photos")
    fid = next(fid for known in five._files for fid in known.of(volume_id))
    five.volume(a).volume_ec_blob_delete(
        volume_id=volume_id, collection="photos", file_key=int(fid.partition(",")[2][:-8], 16), version=3
    )
    five.volume(b).volume_ec_shards_unmount(volume_id=volume_id, shard_ids=range(14))
    with pytest.raises(Mismatch, match="did not write down 1 of 1 deletions"):
        tell_all(ctx, run)


CALLS = ("ReceiveFile", "VolumeEcShardsCopy", "VolumeEcShardsMount", "VolumeEcShardRead", "CopyFile")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("is_new", [True, False])
def test_a_call_that_fails_leaves_nothing_half_and_the_next_delivery_works(
    sandbox_five: Cluster, call: str, when: str, is_new: bool
) -> None:
    volume_id, before = volume(sandbox_five)
    lose(sandbox_five, volume_id, 5)
    target = sandbox_five.servers[4] if is_new else sandbox_five.servers[1]
    ctx = sandbox_five.context()
    source = reader(sandbox_five, ctx, volume_id)
    sandbox_five.faults(target).fail(call, code="UNKNOWN", text="made to fail", when=when)
    try:
        deliver(ctx, source, {5: Slot(target.address)})
    except TaskError:
        assert 5 not in digests(sandbox_five, volume_id, "photos")
        deliver(ctx, reader(sandbox_five, ctx, volume_id), {5: Slot(target.address)})
    assert ctx.journal.open == []
    assert digests(sandbox_five, volume_id, "photos") == before


def test_an_upload_of_which_half_is_lost_is_noticed(sandbox_five: Cluster) -> None:
    volume_id, _before = volume(sandbox_five)
    lose(sandbox_five, volume_id, 5)
    target, ctx = sandbox_five.servers[4], sandbox_five.context()
    for lying in (False, True):
        sandbox_five.faults(target).lose("ReceiveFile", nth=3, lying=lying)
        with pytest.raises(Mismatch):
            deliver(ctx, reader(sandbox_five, ctx, volume_id), {5: Slot(target.address)})
        sandbox_five.faults(target).clear()
        assert 5 not in digests(sandbox_five, volume_id, "photos")
        assert target.files() == []
