"""What a stopped run leaves shut: told as it is, passed over by others, shown and ended by `undo`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import asdict

from tests.console.console import Console, Ended, Running
from tests.support import eventually
from tests.support.cluster import Cluster, request
from weed_safety import holds, records
from weed_safety.journal import Journal
from weed_safety.lease import volume_lease
from weed_safety.move import MoveOrder, move_volume, open_moved


def is_read_only(cluster: Cluster, volume_id: int) -> bool:
    return any(
        cluster.volume(server).volume_status(volume_id=volume_id).is_read_only
        for server in cluster.locations(volume_id)
    )


def test_a_run_stopped_in_its_wait_says_so_others_leave_the_volume_alone_and_undo_opens_it(
    make_cluster: Callable[..., Cluster],
    console_of: Callable[[Cluster | None], Console],
    started: Callable[[Running], Running],
    here: Callable[..., Ended],
) -> None:
    cluster = make_cluster(era="4.13")  # its servers cannot be made to forget
    a, b, c = cluster.servers
    files = cluster.fill(count=5, servers=[a, b], replication="001", volumes=2)
    cluster.settle()
    console = console_of(cluster)
    wanted = ("-max=1", "-set=imbalance_threshold=0.1", "-set=batch_size=1")
    (volume_id,) = here(cluster, "plan", "balance", *wanted, "-json").json()["proposals"][0]["volumes"]
    plan = here(cluster, "plan", "balance", *wanted).out
    assert "1 volume refuses writes for about 10 min after the change: " in plan
    assert "4.13; releases before 4.44 cannot forget" in plan
    running = started(console.start("run", "balance", "-yes", *wanted))
    eventually(lambda: c in cluster.locations(volume_id) and len(cluster.locations(volume_id)) == 2, 40)
    told = eventually(lambda: "read-only while a job is under way" in (out := here(cluster, "doctor").out) and out, 20)
    assert f"undo -volumeId={volume_id}" not in str(told)
    running.send(signal.SIGTERM)
    assert running.wait() == 130
    assert re.search(
        rf"balance {volume_id}: shut: told to stop; volume {volume_id} stays read-only until \d\d:\d\d:\d\d UTC; the "
        "next run or worker with the same -workingDir then opens it",
        running.text,
    ), running.text
    assert is_read_only(cluster, volume_id)

    cluster.settle()
    other = here(cluster, "plan", "balance", *wanted[1:], "-json").json()["proposals"]
    assert volume_id not in [moved for proposal in other for moved in proposal["volumes"]]
    left = console.run("undo", "-dryRun", "-json")
    assert f"volume {volume_id} stays read-only until" in left.json()[0]["text"]
    early = console.run("undo", "-yes")
    assert early.status == 1, early.out
    assert is_read_only(cluster, volume_id)

    for path in console.directory.glob("console-*/journal/*.journal"):  # as if the time had passed
        path.write_text(re.sub(r'"until": [0-9.]+', '"until": 1', path.read_text()))
    ended = console.run("undo", "-yes")
    assert ended.status == 0, ended.out
    assert not is_read_only(cluster, volume_id)
    assert "no run from here left anything" in console.run("undo", "-yes").out
    cluster.check(files)


def test_a_volume_of_a_run_stopped_in_its_wait_is_opened_from_elsewhere_when_its_directory_is_gone(
    make_cluster: Callable[..., Cluster],
    console_of: Callable[[Cluster | None], Console],
    started: Callable[[Running], Running],
    here: Callable[..., Ended],
) -> None:
    cluster = make_cluster(era="4.13")  # its servers cannot be made to forget
    a, b, c = cluster.servers
    cluster.start_filer()
    files = cluster.fill(count=5, servers=[a, b], replication="001", volumes=2)
    cluster.settle()
    console = console_of(cluster)
    wanted = ("-max=1", "-set=imbalance_threshold=0.1", "-set=batch_size=1")
    (volume_id,) = here(cluster, "plan", "balance", *wanted, "-json").json()["proposals"][0]["volumes"]
    running = started(console.start("run", "balance", "-yes", *wanted))
    eventually(lambda: c in cluster.locations(volume_id) and len(cluster.locations(volume_id)) == 2, 40)
    running.send(signal.SIGTERM)
    assert running.wait() == 130
    said = "read-only until ..:..:.. UTC; any run of weed_worker against this cluster then opens it"
    assert re.search(said, running.text), running.text
    shutil.rmtree(console.directory)

    (hold,) = holds.read_all(cluster.context())
    assert (hold.volume_id, hold.is_over) == (volume_id, False)
    early = here(cluster, "undo", "-yes")
    assert re.search(rf"volume {volume_id}: checked: read-only since .* until .* UTC for balance ", early.out), (
        early.out
    )
    assert all(
        cluster.volume(one).volume_status(volume_id=volume_id).is_read_only for one in cluster.locations(volume_id)
    )
    record = json.dumps({**asdict(hold), "until": time.time() - 1}).encode()  # as if the time had passed
    records.put(cluster.context(), holds.DIRECTORY, f"{volume_id}.json", record)
    ended = here(cluster, "undo", "-yes")
    assert ended.status == 0, ended.out
    assert f"volume {volume_id}: done: volume {volume_id}: 2 equal replicas on " in ended.out
    assert not is_read_only(cluster, volume_id)
    assert holds.read_all(cluster.context()) == []
    cluster.check(files)


def held(cluster: Cluster, volume_id: int, seconds: float) -> None:
    """Leave a volume as a worker does that stopped while it was shut, and lost its disk."""
    servers = cluster.locations(volume_id)
    for server in servers:
        cluster.volume(server).volume_mark_readonly(volume_id=volume_id, persist=cluster.era == "4.44")
    gone = cluster.context(Journal.memory("job", "balance", volume_id))
    assert holds.record(gone, volume_id, time.time() + seconds, {server.address: True for server in servers})


def test_undo_shows_the_holds_of_others_and_ends_those_that_are_over(
    cluster: Cluster, here: Callable[..., Ended]
) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(count=5, servers=[a, b], replication="001", volumes=2)
    over, lasting = files.volume_ids
    cluster.start_filer()
    held(cluster, over, -100.0)
    held(cluster, lasting, 100.0)
    cluster.settle()
    looked = here(cluster, "undo", "-dryRun").out
    seen = here(cluster, "doctor").out.replace("\n", " ")
    assert re.search(
        rf"warning +HOLD_OVER +volume {over}: read-only since .* fix: weed_worker undo -master=.*; it", seen
    ), seen
    assert re.search(rf"note +HELD +volume {lasting}: read-only since .* for balance job by weed_worker ", seen), seen
    assert "no journal here says why" not in seen
    until = r"until \d\d:\d\d:\d\d UTC for balance job by weed_worker "
    assert re.search(
        rf"volume {over}: checked: its hold is over, and would be ended: read-only since .* {until}", looked
    )
    assert re.search(rf"volume {lasting}: checked: read-only since .* {until}", looked)
    assert is_read_only(cluster, over)
    told = here(cluster, "undo", "-yes")
    assert told.status == 0, told.out
    assert f"volume {over}: done: volume {over}: 2 equal replicas on " in told.out
    assert not is_read_only(cluster, over)
    assert is_read_only(cluster, lasting)
    assert [hold.volume_id for hold in holds.read_all(cluster.context())] == [lasting]
    cluster.check(files)


def test_run_begins_with_the_holds_that_are_over(cluster: Cluster, here: Callable[..., Ended]) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(count=5, servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    cluster.start_filer()
    held(cluster, volume_id, -100.0)
    cluster.settle()
    told = here(cluster, "run", "vacuum", "-yes")
    assert told.status == 0, told.out
    assert told.out.startswith(f"volume {volume_id}: 2 equal replicas on ")
    assert not is_read_only(cluster, volume_id)
    assert holds.read_all(cluster.context()) == []
    cluster.check(files)


def test_a_volume_that_nobody_remembers_is_opened_when_its_replicas_are_equal(
    cluster: Cluster, here: Callable[..., Ended]
) -> None:
    a, b, _c = cluster.servers
    # Older servers cannot be made to forget where replicas were, so that several are opened ten minutes later.
    holders = [a, b] if cluster.era == "4.44" else [a]
    files = cluster.fill(count=5, servers=holders, replication=f"00{len(holders) - 1}")
    (volume_id,) = files.volume_ids
    cluster.volume(a).volume_mark_readonly(volume_id=volume_id, persist=True)
    cluster.settle()
    assert f"weed_worker undo -volumeId={volume_id}" in here(cluster, "doctor").out.replace("\n", " ")
    seen = here(cluster, "undo", "-dryRun").out
    assert f"volume {volume_id}: checked: is read-only on {a.address}, and nobody can tell why" in seen
    with volume_lease(cluster.context(), volume_id):
        seen = here(cluster, "undo", "-dryRun").out
        assert (
            f"volume {volume_id}: checked: read-only while weed_worker {socket.gethostname()} {os.getpid()} works"
            in seen
        )
    assert here(cluster, "undo", "-yes", f"-volumeId={volume_id}").status == 0
    assert not is_read_only(cluster, volume_id)
    assert request(holders[-1].address, "PUT", f"/{volume_id},f100000001", b"data")[0] == 201
    assert cluster.read(f"{volume_id},f100000001", a) == b"data"
    cluster.check(files)


def test_a_move_that_died_with_its_target_is_made_anew_from_elsewhere_once_undo_opened_the_volume(
    cluster: Cluster, here: Callable[..., Ended]
) -> None:
    a, b, _c = cluster.servers
    files = cluster.fill(count=5, servers=[a])
    (volume_id,) = files.volume_ids
    # What is there when the worker, its disk and the target died in mid-copy, and the target is up again.
    cluster.volume(a).volume_mark_readonly(volume_id=volume_id, persist=True)
    for name in (f"{volume_id}.note", f"{volume_id}.dat.copying", f"{volume_id}.dat", f"{volume_id}.idx"):
        (b.data_dir / name).write_bytes(b"x" * 5000)
    cluster.settle()
    assert here(cluster, "undo", "-yes", f"-volumeId={volume_id}").status == 0
    assert not is_read_only(cluster, volume_id)
    context = cluster.context()
    with volume_lease(context, volume_id) as lease:
        open_moved(context, move_volume(context, MoveOrder(volume_id, a.address, b.address), lease=lease))
    eventually(lambda: cluster.locations(volume_id) == [b])
    cluster.check(files)
