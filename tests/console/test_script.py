"""`plan script` and `run script`: weed shell's words without weed shell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.console.console import Ended
from tests.support import eventually
from tests.support.cluster import Cluster, Files
from tests.support.rpcs import changes_seen, see_nothing_yet

Here = Callable[..., Ended]


def garbage(cluster: Cluster) -> Files:
    files = cluster.fill(count=8, size=20_000)
    cluster.delete(files.of(files.volume_ids[0])[:6])
    cluster.settle()
    return files


def size(cluster: Cluster, files: Files) -> int:
    (volume_id,) = files.volume_ids
    return cluster.volume(cluster.locations(volume_id)[0]).read_volume_file_status(volume_id=volume_id).dat_file_size


def test_a_plan_of_a_script_tells_what_each_command_would_do(sandbox_cluster: Cluster, here: Here) -> None:
    cluster = sandbox_cluster
    (volume_id,) = garbage(cluster).volume_ids
    see_nothing_yet(cluster)
    plan = here(cluster, "plan", "script", "volume.vacuum; volume.balance # if need be")
    assert plan.status == 0, plan.err
    lines = plan.out.splitlines()
    assert lines[0] == "$ volume.vacuum"
    assert any(line.startswith("would: ") and f"olume {volume_id}" in line for line in lines)
    assert "$ volume.balance" in lines
    assert f"run admin_script 'volume.vacuum; volume.balance # if need be' -master={cluster.master}" in plan.out
    assert changes_seen(cluster) == []


def test_a_run_does_it_and_shows_what_each_command_said(cluster: Cluster, here: Here) -> None:
    files = garbage(cluster)
    before = size(cluster, files)
    ended = here(cluster, "run", "script", "volume.vacuum -garbageThreshold 0.1\nvolume.deleteEmpty", "-yes")
    assert ended.status == 0, ended.out + ended.err
    assert "$ volume.vacuum -garbageThreshold 0.1" in ended.out
    assert f"volume {files.volume_ids[0]} vacuumed" in ended.out
    assert "nothing was changed: it does not say -apply" in ended.out
    assert size(cluster, files) < before / 2
    cluster.check(files)


def test_a_missing_copy_is_made_at_once_since_no_later_look_follows(cluster: Cluster, here: Here) -> None:
    files = cluster.fill(6, servers=cluster.servers[:2], replication="001")
    (volume_id,) = files.volume_ids
    cluster.volume(cluster.servers[1]).volume_delete(volume_id=volume_id)
    eventually(lambda: cluster.locations(volume_id) == cluster.servers[:1])
    cluster.settle()
    ended = here(cluster, "run", "script", "volume.fix.replication -apply", "-yes")
    assert ended.status == 0, ended.out + ended.err
    eventually(lambda: len(cluster.locations(volume_id)) == 2)


def test_a_file_holds_a_script_and_json_tells_what_was_said(
    sandbox_cluster: Cluster, here: Here, tmp_path: Path
) -> None:
    garbage(sandbox_cluster)
    path = tmp_path / "nightly"
    path.write_text("# every night\nvolume.vacuum\n")
    ended = here(sandbox_cluster, "run", "script", f"-file={path}", "-yes", "-json")
    assert ended.status == 0, ended.out + ended.err
    (job,) = json.loads(ended.out)["jobs"]
    assert job["outcome"] == "done"
    assert job["output"].startswith("$ volume.vacuum\n")
    plan = here(sandbox_cluster, "plan", "script", f"-file={path}")
    assert f"run admin_script -file={path} -master=" in plan.out


def test_a_script_of_which_a_command_fails_ends_with_status_1(sandbox_cluster: Cluster, here: Here) -> None:
    ended = here(sandbox_cluster, "run", "script", "fs.log.purge; volume.balance", "-yes")
    assert ended.status == 1
    assert "error: the cluster has no filer that the master knows of" in ended.out
    assert "$ volume.balance" in ended.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "script"), "script takes its commands as one word, or -file"),
        (("run", "script", "volume.vacuum", "-file=x"), "script takes its commands as one word, or -file"),
        (("run", "script", "-file=/nowhere/x"), "-file=/nowhere/x: No such file or directory"),
        (("run", "vacuum", "-file=x"), "-file names a script: weed_worker run script -file=FILE"),
        (("run", "script", "volume.vacuum", "volume.balance"), "run takes one job, not"),
        (("plan", "script", "volume.vacum"), "line 1: no command 'volume.vacum' here; did you mean volume.vacuum?"),
        (("plan", "script", "volume.fsck"), "Nothing of the script was run; weed shell may know it"),
        (("plan", "script", "# nothing"), "the script has no command"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    sandbox_cluster: Cluster, here: Here, words: tuple[str, ...], says: str
) -> None:
    ended = here(sandbox_cluster, *words, *(["-yes"] if words[0] == "run" else []))
    assert ended.status == 2
    assert says in ended.err
