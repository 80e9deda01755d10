"""An unchanged admin's scripts: run by this worker they leave what SeaweedFS's own worker leaves."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.agent.agent import Agent, flags_for
from tests.agent.driver import Driver
from tests.support import eventually
from tests.support.cluster import Admin, Cluster, Files
from tests.support.filers import DAY, LOG, day, filer_at, put
from weed_cluster.filer import Filer
from weed_tasks.admin_script.plan import USUAL

MakeCluster = Callable[..., Cluster]

UPLOADS = "/buckets/photos/.uploads"

MASTERS = """\
lock
ec.encode -fullPercent=95 -quietFor=1h
ec.rebuild -apply
ec.balance -apply
volume.deleteEmpty -quietFor=24h -apply
volume.balance -apply
volume.fix.replication -apply
s3.clean.uploads -timeAgo=24h
unlock"""


def littered(cluster: Cluster) -> tuple[Filer, Files]:
    """Logs, uploads, an empty volume and one that lacks a copy, as they come about where nobody clears up."""
    filer = filer_at(cluster, cluster.start_filer().address)
    for age in (0, 3, 20, 40):
        put(filer, f"{LOG}/{day(age)}", age * DAY)
        put(filer, f"{LOG}/{day(age)}/10-20.abc", age * DAY, is_directory=False)
    for name, hours in (("old", 40), ("young", 2)):
        put(filer, f"{UPLOADS}/{name}", hours * 3600)
        put(filer, f"{UPLOADS}/{name}/0001.part", hours * 3600, is_directory=False)
    files = cluster.fill(6, servers=cluster.servers[:2], replication="001", collection="photos")
    (lost,) = files.volume_ids
    more = cluster.fill(6, volumes=3, servers=cluster.servers[:1], collection="photos")
    empty = cluster.allocate(cluster.servers[2:3], collection="gone")
    cluster.age(empty, 2 * DAY)
    cluster.volume(cluster.servers[1]).volume_delete(volume_id=lost)
    eventually(lambda: cluster.locations(lost) == cluster.servers[:1])
    cluster.settle()
    files.update(more)
    return filer, files


def run_script(admin: Admin, script: str) -> dict[str, Any]:
    """Have the admin run a script, as an operator does; return its job."""
    eventually(lambda: admin.get("/api/plugin/job-types/admin_script/config"), 30)
    eventually(lambda: admin.get("/api/plugin/job-types/admin_script/config")["admin_config_values"], 30)
    admin.configure("admin_script", script=script, run_interval_minutes=1)
    admin.post("/api/plugin/job-types/admin_script/run", {"timeout_seconds": 240})

    def ended() -> dict[str, Any] | None:
        jobs = [job for job in admin.get("/api/plugin/jobs") or [] if job["job_type"] == "admin_script"]
        done = [job for job in jobs if job["state"].lower().removeprefix("job_state_") in ("succeeded", "failed")]
        return done[0] if done else None

    eventually(lambda: ended() is not None, 240)
    job = ended()
    assert job is not None
    return job


def left(cluster: Cluster, filer: Filer, files: Files) -> dict[str, Any]:
    """What is left, where none but the script's work makes a difference."""
    cluster.settle()
    topology = cluster.topology()
    numbers = {volume_id: len(replicas) for volume_id, replicas in topology.volumes.items()}
    today = day(0)
    return {
        "log": sorted(entry.name for entry in filer.entries(LOG) if entry.name < today),
        "uploads": sorted(entry.name for entry in filer.entries(UPLOADS)),
        "copies": [numbers.get(volume_id, 0) for volume_id in files.volume_ids],
        "gone": sum(replicas[0].collection == "gone" for replicas in topology.volumes.values()),
        "shards": sorted(len(held) for held in topology.ec.values()),
    }


@contextmanager
def go_worker(binary: str, admin: Admin, directory: Path) -> Iterator[None]:
    """SeaweedFS's own worker, for admin_script alone."""
    directory.mkdir()
    argv = [binary, "worker", f"-admin={admin.address}", "-jobType=admin_script", f"-workingDir={directory}"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.timeout(500)
def test_the_script_that_an_admin_begins_with_is_run_whole(
    make_cluster: MakeCluster, start_agent: Callable[..., Agent]
) -> None:
    cluster = make_cluster("4.44", servers=4)
    filer, files = littered(cluster)
    admin = cluster.start_admin()
    agent = start_agent(flags_for(admin), "-jobType=script")
    agent.says("registered as .* for admin_script")
    job = run_script(admin, USUAL.replace("-quietFor=24h -apply", "-quietFor=24h -apply; # and"))
    assert left(cluster, filer, files) == {
        "log": [day(3)],
        "uploads": ["young"],
        # A copy that a server may yet bring back is not made before ten minutes have passed.
        "copies": [1, 1, 1, 1],
        "gone": 0,
        "shards": [],
    }
    cluster.check(files)
    assert job["state"].lower().endswith("succeeded"), job
    told = admin.get(f"/api/plugin/jobs/{job['job_id']}/detail")["job"]["result_output_values"]
    assert told["command_count"]["int64_value"] == "4"
    assert told["error_count"]["int64_value"] == "0"
    assert "$ volume.deleteEmpty -quietFor=24h -apply" in told["output"]["string_value"]


@pytest.mark.timeout(300)
def test_a_script_that_is_not_known_whole_is_refused_in_the_admins_words_for_a_failure(
    sandbox_cluster: Cluster, start_agent: Callable[..., Agent]
) -> None:
    admin = sandbox_cluster.start_admin("plugin")
    agent = start_agent(flags_for(admin), "-jobType=script")
    agent.says("registered as .* for admin_script")
    eventually(lambda: admin.get("/api/plugin/job-types/admin_script/config"), 30)
    admin.configure("admin_script", script="volume.vacuum\nvolume.fsck", run_interval_minutes=1)
    try:
        told = str(admin.post("/api/plugin/job-types/admin_script/run", {"timeout_seconds": 60}))
    except AssertionError as error:
        told = str(error)
    assert "line 2: no command 'volume.fsck' here" in told + agent.text


@pytest.mark.timeout(300)
def test_a_worker_killed_amid_a_script_undoes_what_its_part_had_begun(
    sandbox_cluster: Cluster, start_agent: Callable[..., Agent]
) -> None:
    cluster = sandbox_cluster
    files = cluster.fill(6, volumes=2, servers=cluster.servers[:1], size=20_000)
    cluster.settle()
    admin = cluster.start_admin("plugin")
    flags = [flags_for(admin), "-jobType=script", f"-master={cluster.master}"]
    agent = start_agent(*flags)
    agent.says("registered as .* for admin_script")
    cluster.faults(cluster.servers[1]).hang("VolumeCopy")
    cluster.faults(cluster.servers[2]).hang("VolumeCopy")
    eventually(lambda: admin.get("/api/plugin/job-types/admin_script/config"), 30)
    driver = Driver(admin, "plugin")
    parameters = {"script": {"string_value": "volume.balance -apply"}}
    job = {"job_id": "s1", "job_type": "admin_script", "parameters": parameters}
    threading.Thread(target=driver.execute, args=({"job": job, "timeout_seconds": 60},), daemon=True).start()

    def is_shut() -> bool:
        return any(cluster.volume(cluster.servers[0]).volume_status(volume_id=i).is_read_only for i in files.volume_ids)

    eventually(is_shut, 60)
    agent.kill()
    for server in cluster.servers:
        cluster.faults(server).clear()
    again = start_agent(*flags)
    again.says("undid what balance ")
    eventually(lambda: not is_shut(), 60)
    cluster.check(files)
    assert not list((again.working_dir / "journal").glob("*"))


@pytest.mark.real
@pytest.mark.timeout(900)
@pytest.mark.parametrize("script", [USUAL, MASTERS], ids=["usual", "masters"])
def test_this_worker_and_seaweedfs_own_leave_the_same(
    make_real_cluster: MakeCluster, tmp_path: Path, script: str
) -> None:
    ends = {}
    for whose in ("theirs", "ours"):
        cluster = make_real_cluster("4.44", servers=4)
        filer, files = littered(cluster)
        admin = cluster.start_admin()
        if whose == "theirs":
            with go_worker(cluster.binary, admin, tmp_path / whose):
                job = run_script(admin, script)
        else:
            agent = Agent(tmp_path / whose, flags_for(admin), "-jobType=script")
            try:
                # What it lacks is made only after ten minutes; here somebody says that the server will not come back.
                job = run_script(admin, script)
            finally:
                agent.kill()
        cluster.check(files)
        ends[whose] = left(cluster, filer, files)
        print(whose, job.get("state"), ends[whose], file=sys.stderr)
        cluster.reset()
    assert ends["ours"]["copies"][0] == 1  # see above; theirs copies at once
    for end in ends.values():
        end.pop("copies")
    assert ends["ours"] == ends["theirs"]
