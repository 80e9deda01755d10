"""`plan`: shows what there is to do and what is passed over, in a table or in JSON, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proto_gen.worker_pb2 import TaskParams, TaskSource
from tests.console.console import Console, Ended, Running
from tests.support import free_port
from tests.support.cluster import Cluster, Files
from weed_console import commands
from weed_core.errors import TaskError
from weed_core.model import Job
from weed_state.setbacks import Setbacks

ConsoleOf = Callable[[Cluster | None], Console]
Here = Callable[..., Ended]
GREEN = "\x1b[32m"
LOOKING = {
    "VolumeList",
    "VolumeListStream",
    "GetMasterConfiguration",
    "LookupEcVolume",
    "RaftListClusterServers",
    "ListClusterNodes",
    "LookupVolume",
    "VacuumVolumeCheck",
    "VolumeStatus",
    "ReadVolumeFileStatus",
    "VolumeNeedleStatus",
    "VolumeServerStatus",
    "SendHeartbeat",
    "KeepConnected",
    "Statistics",
}


def garbage(cluster: Cluster, collection: str = "photos") -> Files:
    """Two volumes with garbage, and one without."""
    files = cluster.fill(count=8, size=20_000, volumes=2, collection=collection)
    for volume_id in files.volume_ids:
        cluster.delete(files.of(volume_id)[:6])
    cluster.fill(count=3, size=1000, collection="docs")
    cluster.settle()
    return files


def test_a_plan_lists_what_to_do_and_why_the_rest_is_passed_over(cluster: Cluster, console_of: ConsoleOf) -> None:
    first, second = garbage(cluster).volume_ids
    ended = console_of(cluster).run("plan", "vacuum")
    assert ended.status == 0, ended.err
    assert "2 to do for vacuum:" in ended.out
    head = next(line for line in ended.out.splitlines() if "REASON" in line)
    assert head.split() == ["VOLUME", "COLLECTION", "SERVER", "SIZE", "MOVES", "TIME", "REASON"]
    for volume_id in (first, second):
        (line,) = [line for line in ended.out.splitlines() if line.split()[:2] == [str(volume_id), "photos"]]
        assert str(cluster.locations(volume_id)[0].address) in line
        assert "garbage" in line
    assert "1 passed over:" in ended.out
    assert "0% garbage, threshold 30%" in ended.out


def test_a_plan_in_json_holds_the_same_figures_in_bytes_and_seconds(cluster: Cluster, here: Here) -> None:
    files = garbage(cluster)
    document = here(cluster, "plan", "vacuum", "-json").json()
    assert document["job"] == "vacuum"
    assert document["seen"] == 3
    assert sorted(row["volumes"] for row in document["proposals"]) == [[volume] for volume in files.volume_ids]
    for row in document["proposals"]:
        assert row["collection"] == "photos"
        assert row["size"] == cluster.topology().replicas(row["volumes"][0])[0].size
        assert row["bytes_to_move"] > 0
        assert row["seconds_at_most"] > 0
    (skipped,) = document["skipped"]
    assert (skipped["collection"], skipped["key"]) != ("", "")


def test_a_plan_sends_nothing_but_questions(sandbox_cluster: Cluster, here: Here) -> None:
    garbage(sandbox_cluster)
    servers = [sandbox_cluster.master, *(server.address for server in sandbox_cluster.servers)]
    for address in servers:
        sandbox_cluster.faults(address).clear()
    for job in ("vacuum", "balance", "replication", "erasure_coding", "ec_balance", "remote_upload"):
        assert here(sandbox_cluster, "plan", job).status == 0
    seen = {method for address in servers for method, _request in sandbox_cluster.calls(address)}
    assert seen <= LOOKING


def test_volume_ids_collections_and_max_narrow_a_plan(sandbox_cluster: Cluster, here: Here) -> None:
    first, second = garbage(sandbox_cluster).volume_ids
    garbage(sandbox_cluster, collection="films")

    def planned(*flags: str) -> list[int]:
        document = here(sandbox_cluster, "plan", "vacuum", "-json", *flags).json()
        return sorted(volume for row in document["proposals"] for volume in row["volumes"])

    everything = planned()
    assert len(everything) == 4
    assert planned(f"-volumeId={second}", "-collection=photos") == [second]
    assert planned(f"-volumeId={first},{everything[-1]}") == [first, everything[-1]]
    assert planned("-collection=phot*") == [first, second]
    assert planned("-collection=films") == sorted(set(everything) - {first, second})
    assert len(planned("-max=3", "-collection=films,photos")) == 3
    assert planned("-set=garbage_threshold=0.99") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan", "sweep"], "unknown job 'sweep'; known are vacuum, erasure_coding"),
        (["plan", "vacuum", "-nix"], "unknown flag -nix"),
        (["plan"], "-h tells how it is written"),
        (["plan", "vacuum", "-max=-1"], "-max=-1 is out of range"),
        (["plan", "vacuum", "-volumeId=x"], "'x' is no volume id"),
        (["plan", "vacuum", "-set=nix=1"], "vacuum has no setting 'nix'; it has"),
        (["plan", "vacuum", "-set=garbage_threshold"], "-set=garbage_threshold needs a value"),
        (["plan", "vacuum", "-set=garbage_threshold=7"], "garbage_threshold cannot be '7'"),
        (["plan", "vacuum", "-master=nowhere"], "'nowhere' is no server address"),
        (["run", "vacuum"], "add -yes, or -dryRun"),
    ],
)
def test_what_makes_no_sense_is_refused_with_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert commands.main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("weed_worker: ")
    assert said in told.err
    assert told.err.count("\n") == 1


def test_a_cluster_out_of_reach_ends_with_status_1_and_names_the_master(console_of: ConsoleOf) -> None:
    port = free_port()
    ended = console_of(None).run("plan", "vacuum", f"-master=127.0.0.1:{port}")
    assert ended.status == 1
    assert f"127.0.0.1:{port}" in ended.err
    assert ended.err.count("\n") == 1


def test_help_is_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["plan", "-h"]) == 0
    told = capsys.readouterr().out
    assert "weed_worker run <job>" in told
    assert "-volumeId=<ids>" in told


@pytest.mark.parametrize("columns", [80, 160])
def test_a_plan_fits_a_terminal(
    sandbox_cluster: Cluster, console_of: ConsoleOf, started: Callable[[Running], Running], columns: int
) -> None:
    garbage(sandbox_cluster)
    running = started(console_of(sandbox_cluster).start_on_terminal("plan", "vacuum", columns=columns))
    assert running.wait() == 0
    lines = running.text.splitlines()
    assert max(map(len, lines)) <= columns
    assert any("garbage" in line for line in lines)
    assert "\x1b[1m" in running.raw
    assert "…" not in running.text


def test_no_color_is_respected(
    sandbox_cluster: Cluster, console_of: ConsoleOf, started: Callable[[Running], Running]
) -> None:
    console = console_of(sandbox_cluster)
    assert GREEN in _doctor_on_terminal(console, started)
    console.environment["NO_COLOR"] = "1"
    assert GREEN not in _doctor_on_terminal(console, started)


def _doctor_on_terminal(console: Console, started: Callable[[Running], Running]) -> str:
    running = started(console.start_on_terminal("doctor"))
    running.says("all is well")
    running.wait()
    return running.raw


def test_a_plan_knows_what_failed_for_the_worker_of_a_directory_and_a_person_may_try_all_the_same(
    cluster: Cluster, here: Callable[..., Ended], tmp_path: Path
) -> None:
    files = garbage(cluster)
    failed, other = files.volume_ids[:2]
    holder = str(cluster.locations(failed)[0].address)
    params = TaskParams(volume_id=failed, sources=[TaskSource(node=holder, volume_id=failed)])
    Setbacks(tmp_path).failed(Job("job", "vacuum", params), TaskError("the disk is broken"))

    def planned(*flags: str) -> list[int]:
        document = here(cluster, "plan", "vacuum", "-json", *flags).json()
        return [number for proposal in document["proposals"] for number in proposal["volumes"]]

    assert planned() == [failed, other]
    assert planned(f"-workingDir={tmp_path}") == [other]
    told = here(cluster, "plan", "vacuum", f"-workingDir={tmp_path}", f"-volumeId={failed}").out
    assert "failed once" in told
    assert "the disk is broken" in told
    ended = here(cluster, "run", "vacuum", "-yes", f"-volumeId={failed}")
    assert ended.status == 0, ended.out
    assert "vacuumed" in ended.out
