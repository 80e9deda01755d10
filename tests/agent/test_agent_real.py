"""The agent with whole clusters and their admin's own work: the sandbox, and every real SeaweedFS that WEED names."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from proto_gen.worker_pb2 import BalanceTaskParams, TaskParams, TaskSource, TaskTarget
from tests import demo
from tests.agent.agent import Agent, flags_for
from tests.support import eventually
from tests.support.cluster import Admin, Cluster, Files
from weed_core.errors import ServerFailed

Start = Callable[..., Agent]
MakeCluster = Callable[..., Cluster]


@pytest.mark.timeout(360)  # a 4.13 admin is restarted after each scan, and what was vacuumed waits a minute to move
def test_the_admin_s_own_work_puts_a_cluster_right(make_cluster: MakeCluster, start_agent: Start) -> None:
    cluster = make_cluster()
    files = demo.prepare(cluster)
    before = demo.used(cluster)
    classic = cluster.era != "4.44"
    if classic:
        demo.configure_classic(cluster.directory / "admin0")
    admin = cluster.start_admin()
    agent = start_agent(flags_for(admin), "-taskInterval=500ms")
    agent.says("registered as")
    (demo.work_classic if classic else demo.work_plugin)(cluster, admin)
    eventually(lambda: demo.is_right(cluster), 60)
    assert demo.used(cluster) < before / 2
    cluster.check(files)
    agent.says("completed vacuum")
    agent.says("completed balance")
    agent.terminate()
    assert agent.wait() == 0


def test_a_pending_vacuum_keeps_balance_from_nothing(make_cluster: MakeCluster, start_agent: Start) -> None:
    # A 4.13 admin cannot assign a vacuum task that its scan found, and then gives no task at all to who takes vacuum.
    cluster = make_cluster(era="4.13")
    files = demo.prepare(cluster)
    demo.configure_classic(cluster.directory / "admin0")
    admin = cluster.start_admin()
    agent = start_agent(flags_for(admin), "-capabilities=vacuum,balance")
    agent.says("registered as .*-vacuum for vacuum")
    if cluster.kind == "real":
        threading.Event().wait(2.5)  # a real admin starts its maintenance two seconds after itself
    admin.post("/api/maintenance/scan")
    eventually(lambda: ("balance", "completed") in tasks(admin), 90)
    assert ("vacuum", "pending") in tasks(admin)
    cluster.check(files)


def tasks(admin: Admin) -> list[tuple[str, str]]:
    return [(task["type"], task["status"]) for task in demo.tasks(admin)]


# ---- a move, cut short ---------------------------------------------------------------------------------------------


class Move:
    """One volume on its way from the first server to the second, slow enough to be cut short."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.files: Files = cluster.fill(count=20, size=1_000_000, servers=cluster.servers[:1])
        (self.volume_id,) = self.files.volume_ids
        self.admin = cluster.start_admin()
        if cluster.kind == "sandbox":
            cluster.faults(cluster.servers[1]).slow("VolumeCopy", 4.0)
        self.flags = (flags_for(self.admin), "-capabilities=balance", "-maxMBpsPerServer=4")

    def give(self, job_id: str) -> None:
        """Have the admin give the job; stays on the line in a thread, as it cancels the job of who hangs up."""
        source, target = (str(server.address) for server in self.cluster.servers[:2])
        params = TaskParams(
            task_id=job_id,
            volume_id=self.volume_id,
            sources=[TaskSource(node=source, volume_id=self.volume_id)],
            targets=[TaskTarget(node=target, volume_id=self.volume_id)],
            balance_params=BalanceTaskParams(timeout_seconds=600),
        )
        blob = base64.b64encode(params.SerializeToString()).decode()
        job = {
            "job_id": job_id,
            "job_type": "volume_balance",
            "parameters": {
                "task_params_pb": {"bytes_value": blob},
                "volume_id": {"int64_value": str(self.volume_id)},
            },
        }
        threading.Thread(target=self._post, args=({"job": job, "timeout_seconds": 120},), daemon=True).start()

    def _post(self, order: dict[str, Any]) -> None:
        host, port = self.admin.address.host, self.admin.address.port
        with closing(http.client.HTTPConnection(host, port, timeout=130)) as line:
            try:
                line.request(
                    "POST", "/api/plugin/jobs/execute", json.dumps(order), {"Content-Type": "application/json"}
                )
                line.getresponse().read()
            except OSError:
                pass  # the admin was killed

    def state(self, job_id: str) -> str:
        """How the admin sees the job; "" while it cannot be asked."""
        try:
            found = [job for job in self.admin.get("/api/plugin/jobs") or [] if job["job_id"] == job_id]
        except (OSError, AssertionError):
            return ""
        return str(found[0]["state"]) if found else ""

    def is_writable(self) -> bool:
        """Whether every server that holds the volume takes writes to it."""
        try:
            holders = self.cluster.locations(self.volume_id)
            return bool(holders) and not any(
                self.cluster.volume(server).volume_status(volume_id=self.volume_id).is_read_only for server in holders
            )
        except ServerFailed:
            return False


@pytest.fixture
def move(make_cluster: MakeCluster) -> Move:
    """A move that is slow."""
    cluster = make_cluster()
    if cluster.era != "4.44":
        pytest.skip("a classic admin of this era takes no job from outside")
    return Move(cluster)


def test_a_move_whose_worker_is_killed_is_undone_reported_and_done_on_the_next_try(
    move: Move, start_agent: Start
) -> None:
    first = start_agent(*move.flags)
    first.says("registered as")
    move.give("m1")
    first.says(r"balance of .*: copying .*\[m1\]")
    first.kill()
    second = start_agent(*move.flags)
    second.says("undid what balance m1 left behind", 60)
    eventually(lambda: move.state("m1") == "job_state_failed", 30)
    eventually(move.is_writable, 30)
    move.cluster.check(move.files)
    move.give("m2")
    eventually(lambda: move.state("m2") == "job_state_succeeded", 90)
    eventually(lambda: move.cluster.locations(move.volume_id) == move.cluster.servers[1:2], 30)
    eventually(move.is_writable, 30)
    move.cluster.check(move.files)


def test_a_move_outlives_the_admin_that_gave_it(move: Move, start_agent: Start) -> None:
    agent = start_agent(*move.flags)
    agent.says("registered as")
    move.give("m1")
    agent.says(r"balance of .*: copying .*\[m1\]")
    threading.Event().wait(2.5)  # an admin writes its jobs down every two seconds
    move.admin.kill()
    agent.says(r"completed balance .*\[m1\]", 60)
    move.admin.start()
    eventually(lambda: move.state("m1") == "job_state_succeeded", 60)
    eventually(lambda: move.cluster.locations(move.volume_id) == move.cluster.servers[1:2], 30)
    move.cluster.check(move.files)
