"""`run`: does what a plan says, under the cluster's lock, and leaves in order however it is ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.console.console import Console, Ended, Running
from tests.support import eventually
from tests.support.cluster import Cluster, Files
from tests.support.rpcs import changes_seen, see_nothing_yet
from weed_cluster.lock import cluster_lock
from weed_console.flags import parse
from weed_console.jobs import state_dir
from weed_core.errors import Busy
from weed_safety.journal import Journal

ConsoleOf = Callable[[Cluster | None], Console]
Here = Callable[..., Ended]
Started = Callable[[Running], Running]


def garbage(cluster: Cluster, volumes: int = 2) -> Files:
    files = cluster.fill(count=8, size=20_000, volumes=volumes, collection="photos")
    for volume_id in files.volume_ids:
        cluster.delete(files.of(volume_id)[:6])
    cluster.settle()
    return files


def crowded(cluster: Cluster, size: int = 20_000) -> Files:
    """Volumes on one server only, for balance to move."""
    files = cluster.fill(count=10, size=size, volumes=3, servers=[cluster.servers[0]])
    cluster.settle()
    return files


def sizes(cluster: Cluster, files: Files) -> dict[int, int]:
    topology = cluster.topology()
    return {volume_id: topology.replicas(volume_id)[0].size for volume_id in files.volume_ids}


def holders(cluster: Cluster, files: Files) -> dict[int, list[str]]:
    topology = cluster.topology()
    return {volume: sorted(str(it.server) for it in topology.replicas(volume)) for volume in files.volume_ids}


def writable(cluster: Cluster, files: Files) -> bool:
    """Whether every copy takes writes."""
    return not any(
        cluster.volume(server).volume_status(volume_id=volume_id).is_read_only
        for volume_id in files.volume_ids
        for server in cluster.locations(volume_id)
    )


def test_a_run_does_its_jobs_and_gives_the_lock_back(cluster: Cluster, console_of: ConsoleOf) -> None:
    files = garbage(cluster)
    before = sizes(cluster, files)
    console = console_of(cluster)
    ended = console.run("run", "vacuum", "-yes")
    assert ended.status == 0, ended.out + ended.err
    for volume_id in files.volume_ids:
        assert f"vacuum {volume_id}: done: volume {volume_id} vacuumed" in ended.out
    assert "2 done in " in ended.out
    eventually(lambda: all(after < before[volume] / 2 for volume, after in sizes(cluster, files).items()), 20)
    cluster.check(files)
    assert list(console.directory.glob("console-*/journal/*")) == []
    with cluster_lock(cluster.clients(), "somebody"):
        pass
    again = console.run("run", "vacuum", "-yes")
    assert again.status == 0
    assert "nothing to do for vacuum" in again.out


def test_the_clusters_lock_is_given_to_others_while_all_jobs_only_wait_and_taken_again(
    sandbox_cluster: Cluster, console_of: ConsoleOf, started: Started
) -> None:
    cluster = sandbox_cluster
    files = crowded(cluster)
    for volume_id in files.volume_ids:
        cluster.age(volume_id, -20)  # fresh when its move begins, whenever that is
    cluster.settle()
    before = holders(cluster, files)
    for server in cluster.servers:
        cluster.faults(server).slow("VolumeCopy", 2.0)
    words = ("run", "balance", "-yes", "-set=batch_size=1", "-set=min_frozen_seconds=20", "-max=2", "-concurrent=1")
    running = started(console_of(cluster).start(*words))
    waiting = r"balance \d+: .*refusing writes for"

    running.says("copying to")
    with pytest.raises(Busy, match="weed_worker run balance"), cluster_lock(cluster.clients(), "operator"):
        pass
    running.says(rf"(?s){waiting}.*copying to")  # one waits, which lets the other begin
    with pytest.raises(Busy, match="weed_worker run balance"), cluster_lock(cluster.clients(), "operator"):
        pass
    running.says(rf"(?s){waiting}.*{waiting}")
    with cluster_lock(cluster.clients(), "operator", patience=5.0):
        running.says(r"balance \d+: goes on when it can: the cluster is locked by operator")
        assert holders(cluster, files).keys() == before.keys()
        assert len(cluster.servers[0].files("*.dat")) == 3  # no source is deleted without the lock
        taken = len(cluster.calls(cluster.master))

    assert running.wait() == 0, running.text
    assert "2 done in " in running.text
    leases = [
        request["client_name"] for call, request in cluster.calls(cluster.master)[taken:] if call == "LeaseAdminToken"
    ]
    assert any(client.startswith("weed_worker run balance") for client in leases)
    assert len(cluster.servers[0].files("*.dat")) == 1
    with cluster_lock(cluster.clients(), "operator"):
        cluster.check(files)


def test_a_run_in_json_tells_each_jobs_end(cluster: Cluster, here: Here) -> None:
    files = crowded(cluster)
    ended = here(cluster, "run", "balance", "-yes", "-json", "-max=1", "-set=batch_size=1")
    assert ended.status == 0, ended.err
    document = ended.json()
    (job,) = document["jobs"]
    assert job["outcome"] == "done"
    assert job["volumes"] == document["proposals"][0]["volumes"]
    assert job["seconds"] > 0
    cluster.settle()
    assert holders(cluster, files)[job["volumes"][0]] != [str(cluster.servers[0].address)]
    cluster.check(files)


def test_a_dry_run_changes_nothing(sandbox_cluster: Cluster, here: Here) -> None:
    files = garbage(sandbox_cluster)
    crowded(sandbox_cluster)
    see_nothing_yet(sandbox_cluster)
    ended = here(sandbox_cluster, "run", "vacuum", "-dryRun")
    assert ended.status == 0, ended.out
    assert "dry run, nothing was changed: 2 checked" in ended.out
    for job in ("balance", "replication"):
        assert here(sandbox_cluster, "run", job, "-dryRun").status == 0
    seen = {method for server in sandbox_cluster.servers for method, _request in sandbox_cluster.calls(server)}
    assert "VacuumVolumeCheck" in seen
    assert changes_seen(sandbox_cluster) == []
    sandbox_cluster.check(files)


def test_a_locked_cluster_is_left_alone_and_its_holder_is_named(cluster: Cluster, here: Here) -> None:
    files = garbage(cluster)
    before = sizes(cluster, files)
    with cluster_lock(cluster.clients(), "ada at host7"):
        ended = here(cluster, "run", "vacuum", "-yes")
    assert ended.status == 3
    assert "the cluster is locked by ada at host7" in ended.err
    assert ended.err.endswith("Try again when it is done\n"), "nobody named an admin that could be asked"
    assert "to do for vacuum" not in ended.out
    assert sizes(cluster, files) == before


def test_without_a_terminal_nothing_is_done_unless_yes_is_given(
    sandbox_cluster: Cluster, console_of: ConsoleOf
) -> None:
    garbage(sandbox_cluster)
    ended = console_of(sandbox_cluster).run("run", "vacuum")
    assert ended.status == 2
    assert "add -yes" in ended.err


@pytest.mark.parametrize("columns", [80, 160])
def test_on_a_terminal_it_asks_and_shows_bars(
    sandbox_cluster: Cluster, console_of: ConsoleOf, started: Started, columns: int
) -> None:
    files = garbage(sandbox_cluster)
    for server in sandbox_cluster.servers:
        sandbox_cluster.faults(server).slow("VacuumVolumeCommit", 1.0)
    running = started(console_of(sandbox_cluster).start_on_terminal("run", "vacuum", columns=columns))
    running.says(r"Do these 2 jobs now\? \[y/N\]")
    running.type("y\n")
    running.says(f"vacuum {files.volume_ids[0]} +━")
    running.says(r"all +━+.* (of|\d+%)")
    running.says("all:? .*[01] of 2 done")
    assert running.wait() == 0
    assert "2 done in " in running.text
    assert all(len(line) <= columns for line in running.text.replace("\r", "\n").splitlines())


def test_whoever_says_no_changes_nothing(sandbox_cluster: Cluster, console_of: ConsoleOf, started: Started) -> None:
    files = garbage(sandbox_cluster)
    before = sizes(sandbox_cluster, files)
    running = started(console_of(sandbox_cluster).start_on_terminal("run", "vacuum"))
    running.says("y/N")
    running.type("\n")
    assert running.wait() == 0
    assert "nothing was changed" in running.text
    assert sizes(sandbox_cluster, files) == before


def test_ctrl_c_lets_what_runs_end_and_starts_nothing_more(
    sandbox_cluster: Cluster, console_of: ConsoleOf, started: Started
) -> None:
    files = crowded(sandbox_cluster)
    before = holders(sandbox_cluster, files)
    for server in sandbox_cluster.servers:
        sandbox_cluster.faults(server).slow("VolumeCopy", 2.0)
    words = ("run", "balance", "-yes", "-set=batch_size=1", "-set=min_frozen_seconds=0", "-concurrent=1")
    running = started(console_of(sandbox_cluster).start(*words))
    running.says("copying to")
    running.send(signal.SIGINT)
    assert running.wait() == 130
    assert "interrupted: no further job is started, the one that runs ends first; once more undoes it" in running.text
    assert "1 done" in running.text
    assert "undone" not in running.text
    assert writable(sandbox_cluster, files)
    sandbox_cluster.settle()
    assert sum(holders(sandbox_cluster, files)[volume] != before[volume] for volume in before) == 1
    sandbox_cluster.check(files)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_undoes_what_runs_and_starts_nothing_more(
    sandbox_cluster: Cluster, console_of: ConsoleOf, started: Started, number: signal.Signals
) -> None:
    files = crowded(sandbox_cluster)
    before = holders(sandbox_cluster, files)
    for server in sandbox_cluster.servers:
        sandbox_cluster.faults(server).slow("VolumeCopy", 20.0)
    console = console_of(sandbox_cluster)
    running = started(console.start("run", "balance", "-yes", "-set=batch_size=1", "-concurrent=1"))
    running.says("copying to")
    assert not writable(sandbox_cluster, files)
    for server in sandbox_cluster.servers:
        sandbox_cluster.faults(server).clear()
    running.send(number)
    if number == signal.SIGINT:
        running.says("once more undoes")
        running.send(number)
    assert running.wait() == 130
    assert "running jobs finish what they must and undo the rest" in running.text
    assert "undone: " in running.text
    assert writable(sandbox_cluster, files)
    assert holders(sandbox_cluster, files) == before
    sandbox_cluster.check(files)
    assert list(console.directory.glob("console-*/journal/*")) == []


def test_a_killed_run_is_told_by_doctor_and_undone_by_the_next(
    cluster: Cluster, console_of: ConsoleOf, started: Started
) -> None:
    files = crowded(cluster, size=300_000)
    console = console_of(cluster)
    running = started(console.start("run", "balance", "-yes", "-set=batch_size=1", "-concurrent=1", "-maxMBps=1"))
    running.says("copying to|proving the copy")
    running.kill()
    cluster.settle()
    told = console.run("doctor")
    assert told.status == 1
    assert "killed jobs left changes behind: balance of volume" in told.out
    assert "left read-only by balance of volume" in told.out
    assert "too many copies" not in told.out, "an unfinished copy goes with the job's undo"
    eventually(lambda: console.run("run", "balance", "-yes", "-max=1").status == 0, 60, pause=3.0)
    assert writable(cluster, files)
    cluster.settle()
    assert all(len(servers) == 1 for servers in holders(cluster, files).values())
    cluster.check(files)
    assert console.run("doctor").status == 0


def test_a_job_that_fails_does_not_keep_the_others_from_ending(sandbox_cluster: Cluster, here: Here) -> None:
    files = garbage(sandbox_cluster)
    bad = files.volume_ids[0]
    sandbox_cluster.faults(sandbox_cluster.locations(bad)[0]).fail("VacuumVolumeCompact", nth=0, code="INTERNAL")
    ended = here(sandbox_cluster, "run", "vacuum", "-yes")
    assert ended.status == 1
    assert f"vacuum {bad}: failed: " in ended.out
    assert "1 failed" in ended.out
    assert "1 done" in ended.out
    sandbox_cluster.check(files)


def test_a_reader_that_goes_away_does_not_break_the_jobs(
    sandbox_cluster: Cluster, console_of: ConsoleOf, started: Started
) -> None:
    files = garbage(sandbox_cluster)
    before = sizes(sandbox_cluster, files)
    for server in sandbox_cluster.servers:
        sandbox_cluster.faults(server).slow("VacuumVolumeCompact", 1.0)
    running = started(console_of(sandbox_cluster).start("run", "vacuum", "-yes"))
    running.says("started")
    assert running.process.stdout is not None
    os.close(running.process.stdout.fileno())
    running.process.wait(60)
    eventually(lambda: all(after < before[volume] for volume, after in sizes(sandbox_cluster, files).items()), 20)
    sandbox_cluster.check(files)


def test_a_second_run_beside_the_first_is_refused(
    sandbox_cluster: Cluster, console_of: ConsoleOf, started: Started
) -> None:
    garbage(sandbox_cluster)
    for server in sandbox_cluster.servers:
        sandbox_cluster.faults(server).hang("VacuumVolumeCompact", nth=0)
    console = console_of(sandbox_cluster)
    running = started(console.start("run", "vacuum", "-yes"))
    running.says("started")
    ended = console.run("run", "vacuum", "-yes")
    assert ended.status == 3
    assert "another run on this cluster uses" in ended.err
    for server in sandbox_cluster.servers:
        sandbox_cluster.faults(server).clear()
    assert running.wait() == 0


def test_what_cannot_be_undone_yet_keeps_jobs_off_its_volume_until_it_is(
    sandbox_cluster: Cluster, here: Here, tmp_path: Path
) -> None:
    files = garbage(sandbox_cluster)
    stuck, free = files.volume_ids
    holders = [*sandbox_cluster.locations(stuck), *sandbox_cluster.locations(free)]
    server = next(server for server in sandbox_cluster.servers if server not in holders)
    words = ["run", "vacuum", f"-master={sandbox_cluster.master}", f"-workingDir={tmp_path}"]
    entry = Journal(state_dir(parse(words)) / "journal").open_entry("earlier", "balance", stuck)
    entry.plan("freeze", server=str(server.address), volume_id=stuck, persist=False)
    sandbox_cluster.faults(server).fail("VolumeStatus", nth=0)  # whether the freeze was made, nobody can tell
    ended = here(sandbox_cluster, "run", "vacuum", "-yes")
    assert ended.status == 1
    assert "cannot yet undo what an earlier run of balance earlier left behind" in ended.out
    assert f"vacuum {free}: done" in ended.out
    assert f"vacuum {stuck}: not started: changes of an earlier run could not be undone yet" in ended.out
    sandbox_cluster.faults(server).clear()
    ended = here(sandbox_cluster, "run", "vacuum", "-yes")
    assert ended.status == 0, ended.out
    assert "undid what an earlier run of balance earlier left behind" in ended.out
    assert f"vacuum {stuck}: done" in ended.out
    assert writable(sandbox_cluster, files)
    sandbox_cluster.check(files)
