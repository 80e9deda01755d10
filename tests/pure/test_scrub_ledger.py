"""The ledger of scrubs: merged in any order it says the same, and what it says of a cluster is true."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from proto_gen import master_pb2 as m
from weed_cluster.topology import Topology, read
from weed_core.scrub_ledger import BAD, CLEAN, KEPT, REPLICA, SIZE, Ledger, Mark, Unfinished, run_tag, server_tag
from weed_state.shelf import scrubs_in
from weed_tasks.scrub.survey import DAY, survey

NOW = 2_000_000_000

MARKS = st.lists(
    st.builds(
        Mark,
        st.integers(1, 3000),
        st.sampled_from([0, 7]),
        st.sampled_from([1, 2]),
        st.sampled_from([REPLICA, 1, 2, 3, 6]),
        st.integers(NOW - 1000, NOW),
        st.integers(1, 4),
        st.integers(0, 3),
    ),
    max_size=30,
)


def documents(ledger: Ledger) -> dict[str, bytes]:
    return {name: ledger.document(name) for name in ledger.names()}


def topology(*, volumes: dict[str, list[int]], shards: dict[str, dict[int, int]] | None = None) -> Topology:
    """Servers with volumes of 1000 bytes, and with shards as bits by volume id."""
    header = m.VolumeListResponse(volume_size_limit_mb=1000)
    rack = header.topology_info.data_center_infos.add(id="dc1").rack_infos.add(id="r1")
    for server, ids in volumes.items():
        disk = m.DiskInfo(
            volume_infos=[m.VolumeInformationMessage(id=number, size=1000, version=3) for number in ids],
            ec_shard_infos=[
                m.VolumeEcShardInformationMessage(id=number, ec_index_bits=bits, encode_ts_ns=7, shard_sizes=[100])
                for number, bits in (shards or {}).get(server, {}).items()
            ],
        )
        rack.data_node_infos.add(id=server).diskInfos[""].CopyFrom(disk)
    return read([m.VolumeListStreamResponse(header=header)])


def replica(volume_id: int, server: str, days_ago: float, result: int = CLEAN) -> Mark:
    return Mark(volume_id, 0, server_tag(f"{server}"), REPLICA, int(NOW - days_ago * DAY), 1, result)


def everything(_collection: str) -> bool:
    return True


@given(MARKS, MARKS)
def test_two_ledgers_that_were_merged_are_the_same_whoever_was_first(one: list[Mark], other: list[Mark]) -> None:
    first, second, together = Ledger(), Ledger(), Ledger()
    first.note(one)
    second.note(other)
    together.note([*other, *one])
    for name, content in documents(second).items():
        first.take(name, content)
    assert documents(first) == documents(together)
    assert not any(first.take(name, content) for name, content in documents(together).items())


@given(MARKS)
def test_of_each_thing_the_newest_record_counts(marks: list[Mark]) -> None:
    ledger = Ledger()
    ledger.note(marks)
    for mark in marks:
        for bit in (1 << n for n in range(16) if mark.things >> n & 1):
            mine = [one for one in marks if (one.volume_id, one.server) == mark[0:3:2] and one.things & bit]
            (kept,) = [one for one in ledger.marks(mark.volume_id) if one.server == mark.server and one.things & bit]
            assert kept.at == max(one.at for one in mine)


def test_what_is_none_of_ours_is_passed_over() -> None:
    ledger = Ledger(
        {"segment-1": b"x" * (SIZE + 1), "segment-x": b"", "../segment-1": b"y" * SIZE, "unfinished-3": b"{"}
    )
    assert (ledger.names(), ledger.unfinished) == ([], {})
    one = Unfinished(3, 7, 5.0, 9, ("a",), (("a", "why"),), 1)
    assert ledger.take("unfinished-3", one.document())
    assert not ledger.take("unfinished-4", one.document())
    assert ledger.unfinished == {3: one}


def test_very_old_records_are_dropped() -> None:
    ledger = Ledger()
    ledger.note([replica(1, "a", 0), Mark(2, 0, 5, REPLICA, NOW - KEPT - 1, 1, CLEAN)])
    assert len(ledger.document("segment-0")) == SIZE


def test_a_directory_keeps_it_and_shows_what_another_process_wrote(tmp_path: Path) -> None:
    mine, others = scrubs_in(tmp_path), scrubs_in(tmp_path)
    assert mine.all() == {}
    others.put("segment-0", b"a" * SIZE)
    assert mine.all() == {"segment-0": b"a" * SIZE}
    others.put("segment-0", b"b" * 2 * SIZE)
    others.put("unfinished-3", b"{}")
    assert mine.all() == {"segment-0": b"b" * 2 * SIZE, "unfinished-3": b"{}"}
    mine.remove("unfinished-3")
    assert others.all().keys() == {"segment-0"}


def test_the_oldest_comes_first_and_what_was_never_read_before_all() -> None:
    a, b = "10.0.0.1:8080", "10.0.0.2:8080"
    ledger = Ledger()
    ledger.note([replica(1, a, 40), replica(2, a, 50), replica(3, a, 5), replica(4, a, 1), replica(4, b, 90, BAD)])
    found = survey(topology(volumes={a: [1, 2, 3, 4, 5], b: [4]}), ledger, 30 * DAY, NOW, everything)
    assert [volume_id for _at, volume_id, _collection in found.due] == [5, 4, 2, 1]
    assert found.coverage(30, NOW).words == "33 % verified in 30 days, oldest 90 days, 1 never, 1 bad"


def test_each_volume_is_due_in_the_last_fifth_of_the_interval_at_its_own_time() -> None:
    a, ids = "10.0.0.1:8080", list(range(1, 200))
    cluster = topology(volumes={a: ids})
    for days, wanted in ((23.9, range(1)), (27, range(60, 140)), (30, range(199, 200))):
        ledger = Ledger()
        ledger.note(replica(number, a, days) for number in ids)
        assert len(survey(cluster, ledger, 30 * DAY, NOW, everything).due) in wanted


def test_a_replica_or_shard_that_came_since_is_due() -> None:
    a, b = "10.0.0.1:8080", "10.0.0.2:8080"
    cluster = topology(volumes={a: [1], b: [1]}, shards={a: {9: 0b111}, b: {9: 0b11000}})
    ledger = Ledger()
    ledger.note([replica(1, a, 1), Mark(9, run_tag(7), server_tag(a), 0b111, NOW - DAY, 3, CLEAN)])
    ledger.note([Mark(9, run_tag(7), server_tag(b), 0b01000, NOW - DAY, 3, CLEAN)])
    found = survey(cluster, ledger, 30 * DAY, NOW, everything)
    assert {volume_id for _at, volume_id, _collection in found.due} == {1, 9}
    assert (found.total, found.recent, found.never) == (7, 5, 2)
    ledger.note([replica(1, b, 1), Mark(9, run_tag(7), server_tag(b), 0b10000, NOW - DAY, 3, CLEAN)])
    assert survey(cluster, ledger, 30 * DAY, NOW, everything).due == []
    of_another_run = Ledger()
    of_another_run.note([Mark(9, run_tag(8), server_tag(a), 0b111, NOW - DAY, 3, CLEAN)])
    assert survey(cluster, of_another_run, 30 * DAY, NOW, everything).never == 7
