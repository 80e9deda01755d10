"""The job types that SeaweedFS's admin does not know by itself, from forms to jobs, by the agent as a process."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.agent import Agent, flags_for
from tests.agent.test_metrics import Watcher
from tests.support import eventually, free_port
from tests.support.cluster import Admin, Cluster, Files, Server, request
from tests.support.s3 import MASTER_TOML, SlowWay, Store, free_address, start_gateway, start_stand_in
from weed_sandbox.launcher import Launcher
from weed_tasks import remote_upload, replication

Start = Callable[..., Agent]
CAPABILITIES = "-capabilities=replication,remote_upload"
HURRIED = Path(__file__).with_name("hurried.py")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Agents do not wait until servers forget where replicas were: no client writes through them here."""
    monkeypatch.setenv("WEED_WORKER", str(HURRIED))
    return monkeypatch


def attach(cluster: Cluster, start_agent: Start) -> tuple[Admin, Agent]:
    """An admin whose worker does both job types, and has described them."""
    admin = cluster.start_admin("plugin")
    agent = start_agent(flags_for(admin), CAPABILITIES)
    agent.says("registered as")
    for descriptor in (replication.DESCRIPTOR, remote_upload.DESCRIPTOR):
        eventually(lambda name=descriptor.job_type: _described(admin, name), 30)  # type: ignore[misc]
    return admin, agent


def _described(admin: Admin, job_type: str) -> bool:
    return request(admin.address, "GET", f"/api/plugin/job-types/{job_type}/descriptor")[0] == 200


def run(admin: Admin, job_type: str, seconds: int = 90) -> dict[str, Any]:
    """Have the admin look for work and do it, for so long at most; return its counts."""
    path = f"/api/plugin/job-types/{job_type}/run"
    order = json.dumps({"timeout_seconds": seconds}).encode()
    status, body = request(admin.address, "POST", path, order, timeout=seconds + 20)
    return {"status": status, **json.loads(body)}


def execute(admin: Admin, job_type: str, job_id: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Have the admin do one job; return what it says of the end."""
    job = {"job_id": job_id, "job_type": job_type, "parameters": parameters}
    order = json.dumps({"job": job, "timeout_seconds": 60}).encode()
    _status, body = request(admin.address, "POST", "/api/plugin/jobs/execute", order, timeout=70)
    return dict(json.loads(body))


def is_read_only(cluster: Cluster, server: Server, volume_id: int) -> bool:
    return cluster.volume(server).volume_status(volume_id=volume_id).is_read_only


def empty_one(cluster: Cluster, server: Server) -> None:
    """Lose a server's disks: it comes back with nothing."""
    server.kill()
    server.wipe()
    cluster.start()
    eventually(lambda: all(server not in cluster.locations(vid) for vid in cluster.topology().volumes))


# ---- forms


def test_the_admin_lists_both_job_types_and_serves_their_forms(
    make_cluster: Callable[..., Cluster], start_agent: Start
) -> None:
    admin, _agent = attach(make_cluster(era="4.44"), start_agent)
    listed = {entry["job_type"]: entry for entry in admin.get("/api/plugin/job-types")}
    for descriptor in (replication.DESCRIPTOR, remote_upload.DESCRIPTOR):
        name = descriptor.job_type
        assert listed[name]["display_name"] == descriptor.display_name
        shown = admin.get(f"/api/plugin/job-types/{name}/descriptor")
        assert shown["description"] == descriptor.description
        fields = [
            field
            for form in (shown["admin_config_form"], shown["worker_config_form"])
            for section in form["sections"]
            for field in section["fields"]
        ]
        assert {field["name"]: field["label"] for field in fields} == {f.name: f.label for f in descriptor.fields}
        for field in fields:
            assert field["description"].endswith(".")
        config = admin.get(f"/api/plugin/job-types/{name}/config")
        assert config["admin_runtime"].get("enabled", False) is descriptor.runtime.enabled
        assert set(config["admin_config_values"]) | set(config["worker_config_values"]) == set(descriptor.defaults)
        assert request(admin.address, "GET", f"/api/plugin/job-types/{name}/runs")[0] == 200


# ---- replication


@pytest.mark.parametrize("placement", ["001", "010"])
def test_every_volume_of_an_emptied_server_is_on_two_machines_again(
    make_cluster: Callable[..., Cluster], start_agent: Start, hurried: pytest.MonkeyPatch, placement: str
) -> None:
    cluster = make_cluster(era="4.44", servers=4, racks=["r1", "r1", "r2", "r2"])
    one, two, three, four = cluster.servers
    pairs = ((one, two), (three, four)) if placement == "001" else ((one, three), (two, three), (one, four))
    files = [cluster.fill(10, replication=placement, servers=pair) for pair in pairs for _volume in range(2)]
    cluster.delete([next(iter(files[0]))])
    cluster.settle()
    admin, agent = attach(cluster, start_agent)
    admin.configure("replication", min_fault_age_seconds=0)
    empty_one(cluster, three)
    lost = sum(three in pair for pair in pairs) * 2

    told = run(admin, "replication")
    assert (told["detected_count"], told["success_count"], told["error_count"]) == (lost, lost, 0), agent.text
    for each in files:
        (volume_id,) = each.volume_ids
        holders = cluster.locations(volume_id)
        assert len({server.address.host for server in holders}) == 2
        assert len({server.rack for server in holders}) == (1 if placement == "001" else 2)
        assert not any(is_read_only(cluster, server, volume_id) for server in holders)
        cluster.check(each)
    cluster.settle()
    assert run(admin, "replication")["detected_count"] == 0


def test_a_diverged_replica_is_reported_by_the_admin_and_kept(
    make_cluster: Callable[..., Cluster], start_agent: Start
) -> None:
    cluster = make_cluster(era="4.44")
    files = cluster.fill(10, replication="001", servers=cluster.servers[:2])
    (volume_id,) = files.volume_ids
    extra = Files()
    cluster.write(extra, volume_id, 3, 500, cluster.servers[:1])
    cluster.settle()
    eventually(lambda: len({r.file_count for r in cluster.topology().replicas(volume_id)}) == 2, timeout=20)
    admin, _agent = attach(cluster, start_agent)
    admin.configure("replication", min_fault_age_seconds=0, delete_surplus=True)

    status, body = request(admin.address, "POST", "/api/plugin/job-types/replication/detect", b"{}")
    found = json.loads(body)
    assert (status, found.get("proposals") or []) == (200, [])
    assert any("differ in 3 needles" in entry["message"] for entry in admin.get("/api/plugin/activities")), found

    ended = execute(admin, "replication", "j1", {"volume_id": {"int64_value": str(volume_id)}})
    assert f"volume {volume_id}: replicas on " in ended["error"]
    assert "differ in 3 needles; nothing was changed" in ended["error"]
    assert cluster.locations(volume_id) == cluster.servers[:2]
    assert not any(is_read_only(cluster, server, volume_id) for server in cluster.servers[:2])
    cluster.check(files)
    for fid in extra:
        cluster.read(fid, cluster.servers[0])


def test_a_fault_that_was_seen_for_ten_minutes_is_repaired_without_a_wait(
    make_cluster: Callable[..., Cluster], start_agent: Start
) -> None:
    cluster = make_cluster(era="4.44")
    files = cluster.fill(5, replication="001", servers=cluster.servers[:1])
    (volume_id,) = files.volume_ids
    admin, agent = attach(cluster, start_agent)
    admin.configure("replication", min_fault_age_seconds=0)
    _status, body = request(admin.address, "POST", "/api/plugin/job-types/replication/detect", b"{}")
    (proposal,) = json.loads(body)["proposals"]
    parameters = dict(proposal["parameters"])
    assert parameters["seen_for_seconds"] == {"int64_value": "0"}
    assert int(parameters["estimated_runtime_seconds"]["int64_value"]) < 600  # its servers can be made to forget
    ended = execute(admin, "replication", "j1", {**parameters, "seen_for_seconds": {"int64_value": "700"}})
    assert ended.get("success"), ended
    assert "read-only until" not in agent.text
    assert len(cluster.locations(volume_id)) == 2
    cluster.check(files)


def test_a_worker_killed_while_servers_may_write_past_a_new_copy_opens_the_volume_only_when_they_do_not(
    make_cluster: Callable[..., Cluster], start_agent: Start, hurried: pytest.MonkeyPatch
) -> None:
    hurried.setenv("CACHED_FOR", "20")  # longer than a dead worker keeps its lease
    cluster = make_cluster(era="4.13")
    files = cluster.fill(5, replication="001", servers=cluster.servers[:1])
    (volume_id,) = files.volume_ids
    admin, agent = attach(cluster, start_agent)
    admin.configure("replication", min_fault_age_seconds=0)
    threading.Thread(target=run, args=(admin, "replication"), daemon=True).start()
    agent.says("read-only until servers know the new copy")
    agent.says(f"volume {volume_id} is read-only until [0-9:]+ UTC, so that no server writes past its new place")
    agent.kill()
    watcher = Watcher(free_port())
    again = start_agent(flags_for(admin), CAPABILITIES, *watcher.flags)
    again.says("cannot yet undo .* stays read-only until")
    (kept,) = watcher.status()["read_only"]
    assert (kept["volume"], kept["type"]) == (volume_id, "replication")
    assert kept["text"].startswith(f"volume {volume_id} is read-only until ")
    assert watcher.metric("weed_worker_holds") == 1
    assert abs((watcher.metric("weed_worker_oldest_hold_timestamp_seconds") or 0) - time.time()) < 60
    _code, shown = watcher.get("/")
    assert "Kept read-only (1)" in shown
    assert f"to undo: what a killed replication on volume {volume_id} left" in shown
    holders = cluster.locations(volume_id)
    assert len(holders) == 2
    assert all(is_read_only(cluster, server, volume_id) for server in holders)
    again.says("undid what replication", timeout=40)
    assert watcher.status()["read_only"] == []
    assert watcher.metric("weed_worker_holds") == 0
    assert not any(is_read_only(cluster, server, volume_id) for server in holders)
    cluster.check(files)


# ---- remote_upload


class Tiered:
    """A cluster with a storage backend, reached by a way that can be made slow."""

    def __init__(self, make_cluster: Callable[..., Cluster], launcher: Launcher, directory: Path) -> None:
        self.store = Store(free_address())
        self.way = SlowWay(self.store.address)
        toml = MASTER_TOML.format(endpoint=self.way.address.http)
        self.cluster = make_cluster(era="4.44", master_toml=toml, volume_size_limit_mb=1)
        if self.cluster.kind == "real":
            binary = self.cluster._kind.binary
            self.server = start_gateway(launcher, binary, self.cluster.master, self.store.address, directory)
        else:
            self.server = start_stand_in(launcher, self.store.address, directory)
        self.store.ready()

    def full(self) -> Files:
        """A volume of about 1 MB on two servers, with a few deleted files."""
        files = self.cluster.fill(
            40, size=(20_000, 32_000), replication="001", collection="archive", servers=self.cluster.servers[:2]
        )
        self.cluster.delete(list(files)[3:5])
        self.cluster.settle()
        return files

    def keys(self, volume_id: int) -> list[list[str]]:
        """The object keys that each of the two holders names."""
        return [
            [f.key for f in self.cluster.volume(server).read_volume_file_status(volume_id=volume_id).volume_info.files]
            for server in self.cluster.servers[:2]
        ]

    def has_dat(self, volume_id: int) -> list[bool]:
        """Whether each of the two holders has the data on its disk."""
        return [f"archive_{volume_id}.dat" in server.files() for server in self.cluster.servers[:2]]

    def configure(self, admin: Admin, **values: bool | int | float | str) -> None:
        """Let whatever is half full move to the backend."""
        fixed: dict[str, Any] = {"backend": "s3.default", "quiet_for_seconds": 0, "fullness_ratio": 0.5}
        admin.configure("remote_upload", **fixed, **values)
        path = "/api/plugin/job-types/remote_upload/config"
        config = admin.get(path)
        config["admin_config_values"]["collection_filter"] = {"string_value": "^archive$"}
        assert request(admin.address, "PUT", path, json.dumps(config).encode())[0] == 200


@pytest.fixture
def tiered(make_cluster: Callable[..., Cluster], launcher: Launcher, tmp_path: Path) -> Iterator[Tiered]:
    """Three servers whose master knows the backend s3.default: SeaweedFS's own gateway, or a stand-in."""
    tiered = Tiered(make_cluster, launcher, tmp_path / "s3")
    yield tiered
    tiered.way.close()
    tiered.server.kill()


def test_a_full_volume_goes_to_the_backend_and_comes_back(tiered: Tiered, start_agent: Start) -> None:
    cluster = tiered.cluster
    files = tiered.full()
    (volume_id,) = files.volume_ids
    admin, agent = attach(cluster, start_agent)
    tiered.configure(admin)
    told = run(admin, "remote_upload")
    assert (told["success_count"], told["error_count"]) == (1, 0), agent.text
    (key,) = tiered.store.objects()
    assert tiered.keys(volume_id) == [[key], [key]]
    assert tiered.has_dat(volume_id) == [False, False]
    (job,) = admin.get("/api/plugin/jobs?job_type=remote_upload")
    assert key in json.dumps(job)
    eventually(lambda: len(cluster.locations(volume_id)) == 2)
    cluster.check(files)

    eventually(lambda: {r.remote_name for r in cluster.topology().replicas(volume_id)} == {"s3.default"}, timeout=20)
    tiered.configure(admin, direction="download")
    told = run(admin, "remote_upload")
    assert (told["success_count"], told["error_count"]) == (1, 0), agent.text
    assert tiered.store.objects() == []
    assert tiered.keys(volume_id) == [[], []]
    assert tiered.has_dat(volume_id) == [True, True]
    eventually(lambda: len(cluster.locations(volume_id)) == 2)
    assert not any(is_read_only(cluster, server, volume_id) for server in cluster.servers[:2])
    cluster.check(files)


def test_a_worker_killed_in_the_middle_of_an_upload_is_followed_by_one_that_makes_no_second_object(
    tiered: Tiered, start_agent: Start
) -> None:
    cluster = tiered.cluster
    files = tiered.full()
    (volume_id,) = files.volume_ids
    admin, agent = attach(cluster, start_agent)
    tiered.configure(admin)
    tiered.way.delay = 20.0
    threading.Thread(target=run, args=(admin, "remote_upload"), daemon=True).start()
    size = max(replica.size for replica in cluster.topology().replicas(volume_id))
    eventually(lambda: tiered.way.asked >= size, 40)  # the store has the bytes, the server not yet its answer
    assert tiered.keys(volume_id) == [[], []]
    agent.kill()
    again = start_agent(flags_for(admin), CAPABILITIES)
    again.says("cannot yet undo .* may still be under way")
    tiered.way.delay = 0.0

    def goes_on() -> bool:
        run(admin, "remote_upload", 20)
        return all(tiered.keys(volume_id))

    eventually(goes_on, timeout=75)
    (key,) = tiered.store.objects()
    assert tiered.keys(volume_id) == [[key], [key]]
    assert tiered.has_dat(volume_id) == [False, False]
    eventually(lambda: len(cluster.locations(volume_id)) == 2)
    cluster.check(files)
    assert not list((again.working_dir / "journal").glob("*.json*"))


def test_a_worker_misses_a_server_that_went_away_over_its_own_restart(
    make_cluster: Callable[..., Cluster], start_agent: Start
) -> None:
    cluster = make_cluster(era="4.44", servers=3)
    server = cluster.servers[2]
    (alone,) = cluster.fill(3, servers=[server]).volume_ids
    cluster.settle()
    admin, agent = attach(cluster, start_agent)
    run(admin, "replication")
    agent.kill()
    server.stop()
    eventually(lambda: server.address not in {node.address for node in cluster.topology().nodes.values()}, 40)
    again = Agent(agent.working_dir, flags_for(admin), CAPABILITIES)
    try:
        eventually(lambda: run(admin, "replication")["status"] == 200, 30, pause=1.0)
        again.says(rf"volume server {server.address} was here at .* and is gone; volumes without any copy now: {alone}")
    finally:
        again.kill()


def test_an_admins_filter_that_matches_nothing_is_said(
    make_cluster: Callable[..., Cluster], start_agent: Start
) -> None:
    cluster = make_cluster(era="4.44")
    cluster.fill(3, collection="photos")
    cluster.settle()
    admin, agent = attach(cluster, start_agent)
    path = "/api/plugin/job-types/replication/config"
    config = admin.get(path)
    config["admin_config_values"]["collection_filter"] = {"string_value": "phtoos"}
    config["admin_runtime"]["enabled"] = False
    assert request(admin.address, "PUT", path, json.dumps(config).encode())[0] == 200
    run(admin, "replication")
    said = "no collection 'phtoos'; there is photos. Did you mean photos?"
    agent.says(f"looked for replication: {re.escape(said)}")
    eventually(lambda: said in json.dumps(admin.get("/api/plugin/activities")), 20)
