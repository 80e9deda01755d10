"""`plan`: shows what there is to do and what is passed over, in a table or in JSON, and changes nothing."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import weed_tasks
from proto_gen.worker_pb2 import TaskParams, TaskSource
from tests.console.console import Console, Ended, Running
from tests.support import free_port
from tests.support.cluster import Cluster, Files
from weed_console import commands
from weed_console.flags import COMMANDS, OPTIONS, bounds, parse
from weed_core.errors import TaskError
from weed_core.guess import unknown_command
from weed_core.job_types import JOB_TYPES, TASK_TYPES
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
    head = next(line for line in ended.out.splitlines() if "VOLUME" in line)
    assert head.split() == ["VOLUME", "COLLECTION", "SERVER", "SIZE", "GARBAGE", "FREES"]
    for volume_id in (first, second):
        (line,) = [line for line in ended.out.splitlines() if line.split()[:2] == [str(volume_id), "photos"]]
        assert str(cluster.locations(volume_id)[0].address) in line
        assert re.search(r"7\d%  +\d+ KiB$", line)
    assert "1 passed over: 1 below the threshold" in ended.out
    assert "0% garbage, threshold 30%" in ended.out


def test_a_plan_in_json_holds_the_same_figures_in_bytes_and_seconds(cluster: Cluster, here: Here) -> None:
    files = garbage(cluster)
    document = here(cluster, "plan", "vacuum", "-json").json()
    assert document["job"] == "vacuum"
    assert document["seen"] == 3
    assert sorted(row["volumes"] for row in document["proposals"]) == [[volume] for volume in files.volume_ids]
    for row in document["proposals"]:
        assert row["collection"] == "photos"
        (replica,) = cluster.topology().replicas(row["volumes"][0])
        assert (row["size_bytes"], row["frees_bytes"]) == (replica.size, replica.deleted_bytes)
        assert row["to_move_bytes"] > 0
        assert 0 < row["seconds_estimated"] < 60
    gains = [row["frees_bytes"] for row in document["proposals"]]
    assert gains == sorted(gains, reverse=True)
    assert document["frees_bytes"] == sum(gains)
    (skipped,) = document["skipped"]
    assert (skipped["collection"], skipped["key"]) != ("", "")


def test_a_plan_sends_nothing_but_questions(sandbox_cluster: Cluster, here: Here) -> None:
    garbage(sandbox_cluster)
    servers = [sandbox_cluster.master, *(server.address for server in sandbox_cluster.servers)]
    for address in servers:
        sandbox_cluster.faults(address).clear()
    for job in ("vacuum", "balance", "replication", "erasure_coding", "ec_balance", "ec_repair", "remote_upload"):
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
        (["plan", "vacum"], "unknown job 'vacum'; did you mean vacuum?"),
        (["plan", "vacuum", "-mster=a:1"], "unknown flag -mster; did you mean -master?"),
        (["plan", "vacuum", "-n"], "did you mean -dryRun?"),
        (["plan", "vacuum", "-dry-run"], "did you mean -dryRun?"),
        (["plan", "vacuum", "balance"], "plan takes one job, not 'vacuum balance'"),
        (["doctor", "vacuum"], "doctor takes no further word, not 'vacuum'"),
        (["run"], "run needs a job: vacuum, erasure_coding"),
        (["plan", "vacuum", "-v=5"], "-v=5 is out of range; it is a whole number from 0 to 2"),
        (["plan", "-set=garbage_threshold=0.1"], "-set is a setting of one job"),
        (["plan", "vacuum", "-set=garbageThreshold=0.1"], "did you mean garbage_threshold?"),
        (["plan", "vacuum", "-set=garbage_threshold=30"], "is a share between 0 and 1, not 30; did you mean 0.3?"),
        (["run", "vacuum", "-volumeId=7", "-to=a:1"], "-to moves one volume by hand"),
        (["run", "balance", "-to=a:1"], "-to moves one volume by hand"),
        (["help", "doctro"], "no help on 'doctro'; did you mean doctor?"),
        (["plan", "vacuum", "-max=-1"], "-max=-1 is out of range"),
        (["plan", "vacuum", "-volumeId=x"], "'x' is no volume id"),
        (["plan", "vacuum", "-set=nix=1"], "vacuum has no setting 'nix'; it has"),
        (["plan", "vacuum", "-set=garbage_threshold"], "-set=garbage_threshold needs a value"),
        (
            ["plan", "vacuum", "-set=garbage_threshold=7"],
            "garbage_threshold is a share between 0 and 1, not 7; did you mean 0.07?",
        ),
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


def test_a_cluster_out_of_reach_is_told_in_words_with_a_status_of_its_own(console_of: ConsoleOf) -> None:
    port = free_port()
    ended = console_of(None).run("plan", "vacuum", f"-master=127.0.0.1:{port}")
    assert ended.status == 4
    assert ended.err == (
        f"weed_worker: no master answers at 127.0.0.1:{port} (gRPC {port + 10000}): connection refused. "
        "Start it, or name another with -master\n"
    )
    ended = console_of(None).run("plan", "vacuum", f"-master=127.0.0.1:{port}", "-json")
    assert (ended.status, ended.err) == (4, "")
    assert ended.json()["status"] == 4
    assert "no master answers" in ended.json()["error"]


def test_a_volume_server_is_told_from_a_master(cluster: Cluster, console_of: ConsoleOf) -> None:
    server = cluster.servers[0].address
    ended = console_of(None).run("plan", "vacuum", f"-master={server}")
    assert ended.status == 4
    assert f"{server.http} is a volume server, not a master" in ended.err
    assert f"its master is {cluster.master.http}" in ended.err
    undone = console_of(cluster).run("undo", "-dryRun", f"-master={server}")
    assert (undone.status, f"{server.http} is a volume server, not a master" in undone.err) == (4, True)


def test_a_plan_of_all_jobs_comes_from_one_look_and_ends_with_the_commands(
    sandbox_cluster: Cluster, console_of: ConsoleOf
) -> None:
    garbage(sandbox_cluster)
    sandbox_cluster.faults(sandbox_cluster.master).clear()
    console = console_of(sandbox_cluster)
    ended = console.run("plan")
    assert ended.status == 0, ended.err
    rows = {line.split()[0]: line.split() for line in ended.out.splitlines() if line.split()[:1]}
    assert rows["vacuum"][1:3] == ["2", "2"]
    assert {row.name for row in JOB_TYPES if not row.is_asked_for} <= set(rows)
    looks = [call for call, _request in sandbox_cluster.calls(sandbox_cluster.master) if call.startswith("VolumeList")]
    assert len(looks) == 1
    assert f"next: weed_worker.py run vacuum -master={sandbox_cluster.master}" in ended.out.replace(
        spelled(console), "weed_worker.py"
    )
    document = console.run("plan", "-json", "-exitCode")
    assert document.status == 2
    assert [plan["job"] for plan in document.json()["plans"] if plan["to_do"]] == ["vacuum", "scrub"]


def spelled(console: Console) -> str:
    """The program as a command of it is printed."""
    return f"python3 {console.argv('plan')[1]}"


def test_every_next_command_works_as_it_is_printed(cluster: Cluster, console_of: ConsoleOf) -> None:
    garbage(cluster)
    console = console_of(cluster)
    for words in (["plan"], ["plan", "vacuum"], ["plan", "vacuum", "-max=1", "-set=garbage_threshold=0.2"]):
        ended = console.run(*words)
        commands_told = [line.removeprefix("next: ") for line in ended.out.splitlines() if line.startswith("next: ")]
        assert commands_told
        for told in commands_told:
            assert f"-master={cluster.master}" in told
            argv = [sys.executable if word == "python3" else word for word in shlex.split(told)]
            done = subprocess.run(
                [*argv, "-dryRun"], capture_output=True, text=True, check=False, env=console.environment, timeout=60
            )
            assert done.returncode == 0, told + done.stdout + done.stderr
    assert "-max=1 -set=garbage_threshold=0.2" in told or "-set=garbage_threshold=0.2 -max=1" in told


def test_max_says_what_is_done_first_and_what_is_left(sandbox_cluster: Cluster, here: Here) -> None:
    garbage(sandbox_cluster)
    told = here(sandbox_cluster, "plan", "vacuum", "-max=1").out
    assert "2 to do for vacuum, this one first (-max=1), 1 left: " in told
    document = here(sandbox_cluster, "plan", "vacuum", "-max=1", "-json").json()
    assert (document["to_do"], document["left"], len(document["proposals"])) == (2, 1, 1)


def test_a_plan_ends_with_status_2_where_there_is_work_and_that_was_asked(sandbox_cluster: Cluster, here: Here) -> None:
    assert here(sandbox_cluster, "plan", "vacuum", "-exitCode", "-quiet").status == 0
    garbage(sandbox_cluster)
    ended = here(sandbox_cluster, "plan", "vacuum", "-exitCode", "-quiet")
    assert (ended.status, ended.out) == (2, "")


def test_a_reader_that_has_seen_enough_ends_a_plan_quietly(sandbox_cluster: Cluster, console_of: ConsoleOf) -> None:
    garbage(sandbox_cluster)
    console = console_of(sandbox_cluster)
    shell = f"set -o pipefail; {shlex.join(console.argv('plan', 'vacuum'))} | head -1"
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, check=False, env=console.environment, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_the_environment_gives_flags_and_the_command_line_goes_before_it(
    sandbox_cluster: Cluster, console_of: ConsoleOf
) -> None:
    first, second = garbage(sandbox_cluster).volume_ids
    console = console_of(sandbox_cluster)
    console.environment |= {"WEED_WORKER_VOLUME_ID": str(first), "WEED_WORKER_JSON": "true"}
    assert [row["volumes"] for row in console.run("plan", "vacuum").json()["proposals"]] == [[first]]
    told = console.run("plan", "vacuum", f"-volumeId={second}").json()
    assert [row["volumes"] for row in told["proposals"]] == [[second]]
    console.environment["WEED_WORKER_JSON"] = "maybe"
    ended = console.run("plan", "vacuum")
    assert (ended.status, "WEED_WORKER_JSON=maybe is neither true nor false" in ended.err) == (2, True)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_shows_examples_first_then_its_own_flags(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert commands.main([command, "-h"]) == 0
    told = capsys.readouterr().out
    assert told.index("Examples:") < told.index("Flags")
    listed = set(re.findall(r"^  -(\w+)", told, re.M))
    assert listed == {option.name for option in OPTIONS if command in option.commands}
    assert max(map(len, told.splitlines())) <= 90
    for example in re.findall(r"^  weed_worker (.*)$", told, re.M):
        assert parse(shlex.split(example)).command == command
    capsys.readouterr()
    assert commands.main(["help", command]) == 0
    assert capsys.readouterr().out == told


@pytest.mark.parametrize("job", TASK_TYPES)
def test_the_help_of_a_job_lists_its_settings_with_defaults_and_bounds(
    capsys: pytest.CaptureFixture[str], job: str
) -> None:
    assert commands.main(["help", job]) == 0
    told = capsys.readouterr().out
    descriptor = weed_tasks.load([job])[job].DESCRIPTOR
    for field in descriptor.fields:
        assert re.search(rf"^  {field.name}=", told, re.M)
        assert bounds(field) in " ".join(told.split())


def test_without_a_command_the_word_that_was_meant_is_asked_for() -> None:
    said = {word: unknown_command(word, COMMANDS) for word in ("plna", "vacuum", "vacum", "qqq", "worker", "-admin=a")}
    assert "did you mean plan?" in said["plna"]
    assert "weed_worker plan vacuum shows what there is to do" in said["vacuum"]
    assert "did you mean run vacuum?" in said["vacum"]
    assert "weed_worker help lists them" in said["qqq"]
    assert (said["worker"], said["-admin=a"]) == ("", "")


@pytest.mark.parametrize("columns", [80, 160])
def test_a_plan_fits_a_terminal(
    sandbox_cluster: Cluster, console_of: ConsoleOf, started: Callable[[Running], Running], columns: int
) -> None:
    garbage(sandbox_cluster)
    running = started(console_of(sandbox_cluster).start_on_terminal("plan", "vacuum", columns=columns))
    assert running.wait() == 0
    # A command that may be typed next stays on one line, so that it can be copied.
    lines = [line for line in running.text.splitlines() if not line.startswith("next: ")]
    assert max(map(len, lines)) <= columns
    assert any(line.endswith("FREES") for line in lines)
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
