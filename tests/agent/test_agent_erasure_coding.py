"""Erasure coding end to end: an admin that finds or gives the jobs, the agent as a process, files read back.

The sandbox, and every real SeaweedFS that WEED names; what breaks an encode off is played more often on the real one.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Any

import pytest

from proto_gen.worker_pb2 import ErasureCodingTaskConfig, TaskPolicy
from tests.agent.agent import Agent, flags_for
from tests.conftest import REAL_KINDS
from tests.support import eventually
from tests.support.cluster import ALL_SHARDS, Admin, Cluster, Files, Server, request
from tests.support.erasure_coding import assert_encoded, job, shard_files
from weed_safety.journal import peek
from weed_tasks.erasure_coding.plan import DESCRIPTOR, is_complete

Start = Callable[..., Agent]
MakeCluster = Callable[..., Cluster]

ENCODES = "-capabilities=erasure_coding"
SLOW = "-maxMBpsPerServer=4"
"""Lets an encode of a few MB take seconds."""

SUCCEEDED, FAILED = "job_state_succeeded", "job_state_failed"


class Plugin:
    """A plugin admin: its own search for work, and jobs given to it by hand."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.admin: Admin = cluster.start_admin()

    def configure(self, job_type: str, at_once: int = 4, **wishes: int | float) -> None:
        """Set what makes the admin's detection propose jobs; waits until a worker has brought the form."""
        path = f"/api/plugin/job-types/{job_type}"
        eventually(lambda: self._serves(path + "/descriptor"), 30)
        kinds = {int: "int64_value", float: "double_value"}
        document = {
            "job_type": job_type,
            "admin_runtime": {
                "enabled": True,
                "detection_interval_minutes": 60,
                "global_execution_concurrency": at_once,
                "per_worker_execution_concurrency": at_once,
                "retry_limit": 1,
            },
            "worker_config_values": {name: {kinds[type(value)]: value} for name, value in wishes.items()},
        }
        status, body = request(self.admin.address, "PUT", path + "/config", json.dumps(document).encode())
        assert status == 200, body

    def _serves(self, path: str) -> bool:
        return request(self.admin.address, "GET", path)[0] == 200

    def run(self, job_type: str) -> None:
        """Have the admin search and work now; none of its jobs may fail."""
        status, told = self.post(f"/api/plugin/job-types/{job_type}/run", {"timeout_seconds": 300})
        assert status == 200, told
        assert told.get("error_count", 0) == 0, told

    def execute(self, job_id: str, parameters: dict[str, Any]) -> tuple[int, Any]:
        """Give a job by hand and stay on the line until it ends: the admin cancels the job of who hangs up."""
        document = {"job_id": job_id, "job_type": "erasure_coding", "parameters": parameters}
        return self.post("/api/plugin/jobs/execute", {"job": document, "timeout_seconds": 300})

    def give(self, job_id: str, volume_id: int) -> None:
        """Give an encode of a volume and leave it to end as it may."""
        parameters = encode_of(self.cluster, volume_id, job_id)

        def stay() -> None:
            with suppress(OSError):  # the admin was killed
                self.execute(job_id, parameters)

        threading.Thread(target=stay, daemon=True).start()

    def post(self, path: str, document: dict[str, Any]) -> tuple[int, Any]:
        """POST what may take minutes; return status and answer."""
        address = self.admin.address
        with closing(http.client.HTTPConnection(address.host, address.port, timeout=330)) as line:
            line.request("POST", path, json.dumps(document), {"Content-Type": "application/json"})
            answer = line.getresponse()
            return answer.status, json.loads(answer.read() or b"null")

    def jobs(self) -> dict[str, str]:
        """The state of every encode; nothing while the admin cannot be asked."""
        try:
            return {
                known["job_id"]: known["state"]
                for known in self.admin.get("/api/plugin/jobs?job_type=erasure_coding") or []
            }
        except (OSError, AssertionError):
            return {}

    def parameters(self, job_id: str) -> dict[str, Any]:
        """What a job that the admin found by itself was sent out with."""
        return dict(self.admin.get(f"/api/plugin/jobs/{job_id}/detail")["job"]["parameters"])


def encode_of(cluster: Cluster, volume_id: int, name: str) -> dict[str, Any]:
    """The parameters of a job that spreads a volume's shards over the servers in turn."""
    blob = base64.b64encode(job(cluster, volume_id, name=name).params.SerializeToString()).decode()
    return {"task_params_pb": {"bytes_value": blob}, "volume_id": {"int64_value": str(volume_id)}}


def is_encoded(cluster: Cluster, files: Files) -> bool:
    """Whether no replica is left on any disk or with the master, which knows all shards of all volumes."""
    topology = cluster.topology()
    replicas = {f"{volume_id}.{ext}" for volume_id in files.volume_ids for ext in ("dat", "idx")}
    return (
        not any(replicas & set(server.files()) for server in cluster.servers)
        and not any(topology.replicas(volume_id) for volume_id in files.volume_ids)
        and all(is_complete(topology, volume_id, "") for volume_id in files.volume_ids)
    )


def shards_on(server: Server) -> int:
    """How many shards lie on a server's disks."""
    return len([name for name in server.files("*.ec*") if name[-2:].isdigit()])


def kill_and_await(cluster: Cluster, server: Server, volume_ids: Sequence[int]) -> None:
    """Kill a server, and wait until the master has noticed."""
    server.kill()
    eventually(lambda: not any(server in cluster.locations(volume_id) for volume_id in volume_ids), 60)


def scrub(cluster: Cluster, order: str) -> str:
    """What a real cluster's own shell says of its data; AssertionError where it finds anything wrong."""
    weed = next(kind.binary for kind in REAL_KINDS if kind.era == cluster.era)
    told = subprocess.run(
        [weed, "shell", f"-master={cluster.master}"],
        input=f"lock\n{order}\nunlock\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert "Scrubbed" in told, told
    assert "failure" not in told, told
    assert "error" not in told, told
    return told


@pytest.fixture
def five(make_cluster: MakeCluster) -> Cluster:
    """Five servers with a plugin admin's era."""
    return make_cluster("4.44", servers=5)


# ---- work that the admin finds -------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_volumes_of_the_admin_s_choice_are_encoded_sound_and_survive_a_server(
    five: Cluster, start_agent: Start
) -> None:
    volumes = 14 if five.kind == "real" else 2
    files = five.fill(count=4, size=(300_000, 700_000), volumes=volumes)
    five.settle()
    plugin = Plugin(five)
    agent = start_agent(flags_for(plugin.admin), ENCODES, "-maxConcurrent=4")
    plugin.configure("erasure_coding", quiet_for_seconds=0, fullness_ratio=0.001, min_size_mb=1)
    plugin.run("erasure_coding")
    eventually(lambda: is_encoded(five, files), 120)
    eventually(lambda: set(plugin.jobs().values()) == {SUCCEEDED}, 60)
    five.check(files)

    # The very same job once more, after it is done.
    (first, *_) = plugin.jobs()
    status, told = plugin.execute("again", plugin.parameters(first))
    assert (status, told.get("success")) == (200, True), told
    agent.says(r"completed erasure_coding .*\[again\]")
    assert is_encoded(five, files)
    five.check(files)

    if five.kind == "real":
        for mode in ("index", "local", "checksum", "full"):
            assert f" {volumes * 5} volumes" in scrub(five, f"ec.scrub -mode={mode} -details"), mode
        scrub(five, "volume.scrub -mode=full -details")

    kill_and_await(five, five.servers[2], files.volume_ids)
    five.check(files)
    agent.terminate()
    assert agent.wait() == 0


@pytest.mark.timeout(300)
def test_encodes_that_only_wait_keep_no_other_from_being_given(five: Cluster, start_agent: Start) -> None:
    files = five.fill(count=4, size=(300_000, 700_000), volumes=5)
    five.settle()
    for volume_id in files.volume_ids:
        five.age(volume_id, 0)
    plugin = Plugin(five)
    agent = start_agent(flags_for(plugin.admin), ENCODES, "-maxConcurrent=2")
    wishes = {"quiet_for_seconds": 0, "fullness_ratio": 0.001, "min_size_mb": 1, "min_frozen_seconds": 45}
    plugin.configure("erasure_coding", DESCRIPTOR.runtime.per_worker_execution_concurrency, **wishes)
    running = threading.Thread(target=plugin.run, args=["erasure_coding"], daemon=True)
    running.start()
    eventually(lambda: agent.text.count("refusing writes for ") >= 5, 60)
    assert "completed erasure_coding" not in agent.text
    eventually(lambda: is_encoded(five, files), 120)
    running.join(60)
    five.check(files)


@pytest.mark.timeout(300)
def test_shards_move_onto_an_empty_server_that_joins(make_cluster: MakeCluster, start_agent: Start) -> None:
    cluster = make_cluster("4.44", servers=6)
    *_, newcomer = cluster.servers
    volumes = 3 if cluster.kind == "real" else 1
    files = cluster.fill(count=4, size=(300_000, 700_000), volumes=volumes, servers=cluster.servers[:1])
    newcomer.kill()
    eventually(lambda: not cluster.topology().node_at(newcomer.address), 60)
    plugin = Plugin(cluster)
    agent = start_agent(flags_for(plugin.admin), "-capabilities=erasure_coding,ec_balance", "-maxConcurrent=4")
    plugin.configure("erasure_coding", quiet_for_seconds=0, fullness_ratio=0.001, min_size_mb=1)
    plugin.run("erasure_coding")
    eventually(lambda: is_encoded(cluster, files), 120)
    eventually(lambda: agent.text.count("completed erasure_coding") == volumes, 30)  # until then it holds the volumes
    cluster.start()
    assert shards_on(newcomer) == 0
    plugin.configure("ec_balance", imbalance_threshold=0.05)
    for _shard_of_each in range(2):
        plugin.run("ec_balance")
    eventually(lambda: shards_on(newcomer) >= 2 * volumes, 60)
    eventually(lambda: is_encoded(cluster, files), 60)
    assert sum(map(shards_on, cluster.servers)) == len(files.volume_ids) * len(ALL_SHARDS)
    cluster.check(files)


@pytest.mark.parametrize("era", ["3.97", "4.13"])
@pytest.mark.timeout(300)
def test_a_classic_admin_s_own_tasks_are_completed(make_cluster: MakeCluster, start_agent: Start, era: str) -> None:
    cluster = make_cluster(era, servers=5)
    cluster.fill(count=1, size=1000, volumes=5)  # classic admins do not see servers that hold no volume
    # A 3.97 admin never forgets what it once planned for a disk, and need not find room for a second one.
    files = cluster.fill(count=6, size=(300_000, 700_000), volumes=1 if era == "3.97" else 2)
    vacuumed = files.volume_ids[0]
    cluster.delete(files.of(vacuumed)[:2])
    compact(cluster, vacuumed)
    cluster.settle()
    conf = cluster.directory / "admin0" / "conf"
    conf.mkdir(parents=True)
    wishes = ErasureCodingTaskConfig(fullness_ratio=0.001, quiet_for_seconds=1, min_volume_size_mb=1)
    policy = TaskPolicy(enabled=True, max_concurrent=2, erasure_coding_config=wishes)
    (conf / "task_erasure_coding.pb").write_bytes(policy.SerializeToString())
    admin = cluster.start_admin()
    agent = start_agent(flags_for(admin), ENCODES)
    agent.says("registered as")
    if cluster.kind == "real":
        threading.Event().wait(2.5)  # a real admin starts its maintenance two seconds after itself

    def found() -> bool:
        admin.post("/api/maintenance/scan")
        return len(encodes_of(admin)) == len(files.volume_ids)

    eventually(found, 30, pause=1.0)  # a volume must have been quiet for a second
    eventually(lambda: is_encoded(cluster, files), 90)
    encodes = [task for task in admin.get("/api/maintenance/tasks") if task["type"] == "erasure_coding"]
    assert {task["volume_id"] for task in encodes} == set(files.volume_ids), encodes
    eventually(lambda: {status for _id, status in encodes_of(admin)} == {"completed"}, 30)
    cluster.check(files)
    kill_and_await(cluster, cluster.servers[2], files.volume_ids)
    cluster.check(files)


def encodes_of(admin: Admin) -> list[tuple[str, str]]:
    """The encodes that a classic admin knows, and how they are."""
    return [
        (task["id"], task["status"]) for task in admin.get("/api/maintenance/tasks") if task["type"] == "erasure_coding"
    ]


def compact(cluster: Cluster, volume_id: int) -> None:
    """Vacuum a volume, so that its compaction revision is no longer 0."""
    (server,) = cluster.locations(volume_id)
    client = cluster.volume(server)
    list(client.vacuum_volume_compact(volume_id=volume_id))
    client.vacuum_volume_commit(volume_id=volume_id)
    client.vacuum_volume_cleanup(volume_id=volume_id)
    assert client.read_volume_file_status(volume_id=volume_id).compaction_revision == 1


# ---- encodes that are broken off -----------------------------------------------------------------------------------


@pytest.mark.timeout(400)
def test_encodes_whose_worker_is_killed_are_undone_or_finished_and_succeed_on_the_next_try(
    five: Cluster, start_agent: Start
) -> None:
    plugin = Plugin(five)
    holders = five.servers[:2]
    done = Files()
    moments = random.Random()
    for number in range(5 if five.kind == "real" else 1):
        files = five.fill(count=6, size=500_000, replication="001", servers=holders)
        (volume_id,) = files.volume_ids
        agent = start_agent(flags_for(plugin.admin), ENCODES, SLOW)
        eventually(lambda: plugin.admin.get("/api/plugin/workers"), 30)
        agent.says("registered as")
        plugin.give(f"killed{number}", volume_id)
        agent.says(rf"took erasure_coding .*\[killed{number}\]")
        moment = 1.3 * number + moments.uniform(0.2, 1.5)
        time.sleep(moment)
        agent.kill()
        print(f"killed {moment:.2f} s after it took the job: {agent.text.splitlines()[-1]}")
        let_shards_look_old(five)
        begun = f"what erasure_coding killed{number} left behind"
        unfinished = any(entry.open for entry in peek(agent.working_dir / "journal"))

        agent = start_agent(flags_for(plugin.admin), ENCODES)
        if unfinished:
            agent.says(f"undid {begun}", 90)
        if any(server.files(f"{volume_id}.dat") for server in five.servers):
            assert not [
                name for names in shard_files(five).values() for name in names if name.startswith(f"{volume_id}.")
            ]
            for server in holders:
                assert not five.volume(server).volume_status(volume_id=volume_id).is_read_only
            five.write(files, volume_id, 1, 100, holders)
            five.check(files)
        eventually(lambda: plugin.jobs().get(f"killed{number}") in (SUCCEEDED, FAILED), 60)  # noqa: B023
        status, told = plugin.execute(f"retried{number}", encode_of(five, volume_id, f"retried{number}"))
        assert (status, told.get("success")) == (200, True), told
        done.update(files)
        eventually(lambda: is_encoded(five, done), 60)
        agent.terminate()
        assert agent.wait() == 0
    assert_encoded(five, done)


def let_shards_look_old(cluster: Cluster) -> None:
    """Spare the test the time for which a worker fears that a dead one's streams have not ended yet."""
    for server in cluster.servers:
        for folder in server.data_dirs:
            for path in folder.glob("*.ec*"):
                with suppress(FileNotFoundError):
                    os.utime(path, (time.time() - 200, time.time() - 200))


def test_a_worker_that_is_asked_to_leave_finishes_its_encode_first(five: Cluster, start_agent: Start) -> None:
    plugin = Plugin(five)
    files = five.fill(count=6, size=400_000)
    agent = start_agent(flags_for(plugin.admin), ENCODES, SLOW)
    agent.says("registered as")
    plugin.give("j1", files.volume_ids[0])
    eventually(lambda: any(map(shards_on, five.servers)), 20)
    agent.terminate()
    assert agent.wait(60) == 0
    eventually(lambda: plugin.jobs().get("j1") == SUCCEEDED, 20)
    eventually(lambda: is_encoded(five, files))
    assert_encoded(five, files)


def test_an_encode_outlives_the_admin_that_gave_it(five: Cluster, start_agent: Start) -> None:
    plugin = Plugin(five)
    files = five.fill(count=6, size=400_000)
    agent = start_agent(flags_for(plugin.admin), ENCODES, SLOW)
    agent.says("registered as")
    plugin.give("j1", files.volume_ids[0])
    eventually(lambda: any(map(shards_on, five.servers)), 20)
    threading.Event().wait(2.5)  # an admin writes its jobs down every two seconds
    plugin.admin.kill()
    agent.says(r"completed erasure_coding .*\[j1\]", 60)
    plugin.admin.start()
    eventually(lambda: plugin.jobs().get("j1") == SUCCEEDED, 60)
    eventually(lambda: is_encoded(five, files))
    assert_encoded(five, files)
