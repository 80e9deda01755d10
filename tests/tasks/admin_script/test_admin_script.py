"""Scripts on a cluster: each command is done by the job type that is named for it, with that one's proofs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from proto_gen import worker_pb2
from tests.support import eventually
from tests.support.cluster import OPTIONS, Cluster, Files, Server
from tests.support.filers import DAY, LOG, day, filer_at, put
from tests.support.rpcs import changes_seen, see_nothing_yet
from weed_cluster.filer import Filer
from weed_core.errors import BadTask, Cancelled, NotAllDone, TaskError
from weed_core.model import DetectionRequest, Job, Result
from weed_safety.context import Context
from weed_safety.journal import Journal
from weed_tasks import admin_script
from weed_tasks.parts import Parts
from weed_tasks.slots import Held


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIONS, "compaction_rests_seconds", 0.2)
    monkeypatch.setitem(OPTIONS, "still_seconds", 0.5)


def context(cluster: Cluster, directory: Path, held: Held | None = None, **options: Any) -> Context:
    """What a job gets that may have parts."""
    ctx = cluster.context(**options)
    ctx.part = Parts(Journal(directory), held or Held(), lambda: None, lambda _entry: None, 100.0).run
    return ctx


def job_of(script: str, **parameters: Any) -> Job:
    given = {"script": script, "min_fault_age_seconds": 0, **parameters}
    return Job("script-1", "admin_script", worker_pb2.TaskParams(), given)


def run(cluster: Cluster, directory: Path, script: str, **options: Any) -> Result:
    return admin_script.run(job_of(script), context(cluster, directory, **options))


def text_of(result: Result | NotAllDone) -> str:
    return str(result.outputs["output"])


def garbage(cluster: Cluster, volumes: int = 2) -> Files:
    files = cluster.fill(count=8, size=20_000, volumes=volumes)
    for volume_id in files.volume_ids:
        cluster.delete(files.of(volume_id)[:6])
    cluster.settle()
    return files


def size(cluster: Cluster, volume_id: int) -> int:
    return cluster.volume(cluster.locations(volume_id)[0]).read_volume_file_status(volume_id=volume_id).dat_file_size


def alone(cluster: Cluster, servers: list[Server]) -> tuple[int, Files]:
    """A volume of two copies of which one is lost."""
    files = cluster.fill(6, servers=servers, replication="001")
    (volume_id,) = files.volume_ids
    cluster.volume(servers[1]).volume_delete(volume_id=volume_id)
    eventually(lambda: cluster.locations(volume_id) == servers[:1])
    cluster.settle()
    return volume_id, files


def test_a_script_does_its_commands_one_after_another(cluster: Cluster, tmp_path: Path) -> None:
    files = garbage(cluster)
    before = {volume_id: size(cluster, volume_id) for volume_id in files.volume_ids}
    lost, whole = alone(cluster, cluster.servers[:2])
    script = "lock\nvolume.vacuum -garbageThreshold=0.2\nvolume.fix.replication -apply; unlock # done"
    result = run(cluster, tmp_path, script)
    assert result.summary == "admin script executed (2 commands)"
    assert (result.outputs["command_count"], result.outputs["error_count"]) == (2, 0)
    assert result.outputs["commands"] == ["volume.vacuum -garbageThreshold=0.2", "volume.fix.replication -apply"]
    assert text_of(result).startswith("$ volume.vacuum -garbageThreshold=0.2\nvolume ")
    assert result.gains["freed"] >= sum(before.values()) // 2
    for volume_id in files.volume_ids:
        assert size(cluster, volume_id) < before[volume_id] / 2
    eventually(lambda: len(cluster.locations(lost)) == 2)
    cluster.check(files)
    cluster.check(whole)
    assert list(tmp_path.glob("*")) == []


def test_one_that_cannot_be_known_is_refused_before_anything_is_run(cluster: Cluster, tmp_path: Path) -> None:
    files = garbage(cluster, 1)
    before = size(cluster, files.volume_ids[0])
    with pytest.raises(BadTask, match=r"line 2: no command 'volume\.fsck' here"):
        run(cluster, tmp_path, "volume.vacuum\nvolume.fsck")
    assert size(cluster, files.volume_ids[0]) == before


def test_a_command_that_fails_does_not_keep_the_next_from_being_run(cluster: Cluster, tmp_path: Path) -> None:
    files = garbage(cluster, 1)
    with pytest.raises(NotAllDone) as failure:
        run(cluster, tmp_path, "volume.vacuum -volumeId=999\nvolume.vacuum\nvolumeServer.evacuate -node=h:1 -apply")
    told = failure.value
    assert told.outputs["error_count"] == 2
    assert "volume.vacuum: no volume 999" in str(told)
    assert "error: no volume 999" in text_of(told)
    assert told.summary == "admin script executed (3 commands)"
    assert size(cluster, files.volume_ids[0]) < 3 * 20_000
    cluster.check(files)


def test_without_apply_a_command_tells_what_it_would_do(sandbox_cluster: Cluster, tmp_path: Path) -> None:
    cluster = sandbox_cluster
    lost, _files = alone(cluster, cluster.servers[:2])
    see_nothing_yet(cluster)
    result = run(cluster, tmp_path, "volume.fix.replication")
    assert f"would: volume {lost}" in text_of(result)
    assert "nothing was changed: it does not say -apply" in text_of(result)
    assert changes_seen(cluster) == []


def test_a_dry_run_and_an_explanation_change_nothing(sandbox_cluster: Cluster, tmp_path: Path) -> None:
    cluster = sandbox_cluster
    files = garbage(cluster, 1)
    alone(cluster, cluster.servers[:2])
    script = "volume.vacuum; volume.fix.replication -apply"
    see_nothing_yet(cluster)
    assert text_of(run(cluster, tmp_path, script, dry_run=True)).count("would ") >= 2
    request = DetectionRequest("admin_script", {"script": script}, (), is_single=True)
    (proposal,) = admin_script.detect(request, cluster.context()).proposals
    assert proposal.detail.startswith("$ volume.vacuum\n")
    assert f"would: volume {files.volume_ids[0]}" in proposal.detail.replace("Vacuum volume", "volume")
    assert changes_seen(cluster) == []


def test_only_the_volumes_that_are_named_are_touched(cluster: Cluster, tmp_path: Path) -> None:
    files = garbage(cluster, 2)
    first, second = files.volume_ids
    before = size(cluster, second)
    run(cluster, tmp_path, f"volume.vacuum -volumeId={first}")
    assert size(cluster, first) < before / 2
    assert size(cluster, second) == before


def test_a_part_waits_for_a_volume_that_another_job_of_this_worker_holds(cluster: Cluster, tmp_path: Path) -> None:
    files = garbage(cluster, 1)
    held = Held()
    held.hold(files.volume_ids)
    before = size(cluster, files.volume_ids[0])
    results: list[Result] = []
    script = threading.Thread(
        target=lambda: results.append(
            admin_script.run(job_of("volume.vacuum"), context(cluster, tmp_path / "journal", held))
        )
    )
    script.start()
    script.join(1.0)
    assert script.is_alive()
    assert size(cluster, files.volume_ids[0]) == before
    held.let_go(files.volume_ids)
    script.join(30)
    assert results
    assert size(cluster, files.volume_ids[0]) < before / 2
    assert held.among(files.volume_ids) == set()


def test_a_cancelled_script_breaks_its_parts_off_which_undo_what_they_did(
    sandbox_cluster: Cluster, tmp_path: Path
) -> None:
    cluster = sandbox_cluster
    files = garbage(cluster, 2)
    ctx = context(cluster, tmp_path)
    cluster.faults(cluster.locations(files.volume_ids[0])[0]).hang("VacuumVolumeCompact")
    with (
        pytest.raises(Cancelled, match="enough"),
        cluster.once("VacuumVolumeCompact", "", lambda: ctx.cluster.leash.cancel(Cancelled("enough"))),
    ):
        admin_script.run(job_of("volume.vacuum; volume.balance -apply"), ctx)
    cluster.faults(cluster.locations(files.volume_ids[0])[0]).clear()
    assert list(tmp_path.glob("*")) == []
    cluster.check(files)


# ---- what a filer does


def names(filer: Filer, directory: str) -> list[str]:
    return [entry.name for entry in filer.entries(directory)]


def log_days(filer: Filer) -> list[str]:
    """What is in the log, less what a filer writes itself: a directory of today is among both."""
    return sorted(names(filer, LOG))


def test_logs_of_days_that_are_long_ago_go_and_no_other(cluster: Cluster, tmp_path: Path) -> None:
    filer = filer_at(cluster, cluster.start_filer().address)
    for age in (0, 5, 6.9, 9, 40):
        put(filer, f"{LOG}/{day(age)}", age * DAY)
        put(filer, f"{LOG}/{day(age)}/10-20.abc", age * DAY, is_directory=False)
    put(filer, f"{LOG}/notes", 90 * DAY)
    put(filer, f"{LOG}/{day(50)}", 60)  # an old name that was made a minute ago
    kept = sorted({"notes", day(50), day(0), day(5), day(6.9)})
    assert f"would remove {LOG}/{day(40)}" in text_of(run(cluster, tmp_path, "fs.log.purge -daysAgo=7", dry_run=True))
    assert log_days(filer) == sorted([*kept, day(9), day(40)])
    told = text_of(run(cluster, tmp_path, "fs.log.purge -daysAgo=7"))
    assert f"removed {LOG}/{day(40)}" in told
    assert f"removed {LOG}/{day(9)}" in told
    assert "2 removed" in told
    assert log_days(filer) == kept


def test_uploads_that_nobody_finished_go_and_none_that_is_young_or_still_written(
    cluster: Cluster, tmp_path: Path
) -> None:
    filer = filer_at(cluster, cluster.start_filer().address)
    for bucket in ("photos", "logs"):
        for name, age, part in (("old", 30 * 3600, 29 * 3600), ("busy", 30 * 3600, 60), ("young", 3600, 3600)):
            put(filer, f"/buckets/{bucket}/.uploads/{name}", age)
            put(filer, f"/buckets/{bucket}/.uploads/{name}/0001.part", part, is_directory=False)
        put(
            filer, f"/buckets/{bucket}/.uploads/at-the-edge", 24 * 3600 + 300
        )  # five minutes: clocks may differ by that
        put(filer, f"/buckets/{bucket}/file", 90 * DAY, is_directory=False)
    told = text_of(run(cluster, tmp_path, "s3.clean.uploads -timeAgo=24h"))
    assert "2 removed, 6 kept" in told
    for bucket in ("photos", "logs"):
        assert names(filer, f"/buckets/{bucket}/.uploads") == ["at-the-edge", "busy", "young"]
        assert names(filer, f"/buckets/{bucket}/.uploads/busy") == ["0001.part"]
        assert "file" in names(filer, f"/buckets/{bucket}")


def test_more_entries_than_a_page_has_are_all_looked_at(sandbox_cluster: Cluster, tmp_path: Path) -> None:
    cluster = sandbox_cluster
    filer = filer_at(cluster, cluster.start_filer().address)
    for number in range(1201):
        put(filer, f"/buckets/photos/.uploads/{number:05}", 30 * 3600 if number in (0, 600, 1200) else 60)
    assert "3 removed, 1198 kept" in text_of(run(cluster, tmp_path, "s3.clean.uploads"))


def test_without_a_filer_its_commands_fail_and_the_others_are_done(cluster: Cluster, tmp_path: Path) -> None:
    files = garbage(cluster, 1)
    with pytest.raises(TaskError, match=r"fs\.log\.purge: the cluster has no filer that the master knows of"):
        run(cluster, tmp_path, "fs.log.purge -daysAgo=7; volume.vacuum")
    assert size(cluster, files.volume_ids[0]) < 3 * 20_000


def test_a_filer_that_does_not_answer_is_passed_over(cluster: Cluster, tmp_path: Path) -> None:
    filer = filer_at(cluster, cluster.start_filer().address)
    put(filer, f"{LOG}/{day(40)}", 40 * DAY)
    job = Job(
        "script-2",
        "admin_script",
        worker_pb2.TaskParams(),
        {"script": "fs.log.purge -daysAgo=7"},
        filers=("127.0.0.1:1.1", str(filer.address)),
    )
    assert f"removed {LOG}/{day(40)}" in text_of(admin_script.run(job, context(cluster, tmp_path)))
