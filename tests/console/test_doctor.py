"""`doctor`: healthy clusters are called so; each ill is found, with its fix, and told by the exit status."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from gevent.server import StreamServer

from proto_gen.worker_pb2 import TaskParams, TaskTarget
from tests.agent.agent import Agent, flags_for
from tests.console.console import Console, Ended, Running
from tests.support import eventually, free_port
from tests.support.certificates import Authority
from tests.support.cluster import Cluster, Files, Machine
from tests.support.scrub import spoil
from weed_core.model import Job
from weed_safety.journal import Journal
from weed_tasks import erasure_coding

Here = Callable[..., Ended]
AT_ONCE = ("-set=min_size_mb=1", "-set=fullness_ratio=0.001", "-set=quiet_for_seconds=1")
"""Lets small, young volumes be encoded."""


def findings(ended: Ended) -> list[dict[str, Any]]:
    """What is to be mended."""
    return [found for found in ended.json() if found["level"] in ("warning", "problem")]


def ours(found: dict[str, Any]) -> list[str]:
    """The command of this program that a find names as its fix, without the program's name."""
    return str(found["fix"]).partition("weed_worker ")[2].split(";")[0].split()


def filled(cluster: Cluster, **wishes: Any) -> Files:
    files = cluster.fill(count=5, size=20_000, **wishes)
    cluster.settle()
    return files


def encoded(cluster: Cluster, here: Here) -> int:
    """A volume that was erasure-coded; takes four servers."""
    files = cluster.fill(count=10, size=200_000, collection="photos")
    cluster.settle()
    time.sleep(2)  # the least age that erasure coding accepts, by the server's clock of whole seconds
    ended = here(cluster, "run", "erasure_coding", "-yes", *AT_ONCE)
    assert ended.status == 0, ended.out + ended.err
    assert "is erasure coded" in ended.out
    return files.volume_ids[0]


def test_a_healthy_cluster_is_called_so(cluster: Cluster, here: Here) -> None:
    filled(cluster, replication="001")
    ended = here(cluster, "doctor")
    assert ended.status == 0, ended.out
    assert "all is well" in ended.out
    assert "TLS, working directory, master, 3 volume servers, volumes" in ended.out
    ended = here(cluster, "doctor", "-v=1")
    for server in cluster.servers:
        assert f"volume server {server.address}" in ended.out
    assert f"version {cluster.era}" in ended.out
    assert f"master {cluster.master}" in ended.out
    assert "plaintext" in ended.out


def test_an_encoded_cluster_is_healthy_until_shards_are_lost(make_cluster: Callable[..., Cluster], here: Here) -> None:
    cluster = make_cluster(servers=4)
    volume_id = encoded(cluster, here)
    assert here(cluster, "doctor").status == 0
    (first, *_rest) = [server for server in cluster.servers if server.files("*.ec[0-9]*")]
    shards = [int(name[-2:]) for name in first.files("*.ec[0-9]*")]
    client = cluster.volume(first)
    client.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=shards[:2])
    client.volume_ec_shards_delete(volume_id=volume_id, collection="photos", shard_ids=shards[:2])
    (found,) = eventually(lambda: findings(here(cluster, "doctor", "-json")), 30)
    assert found["where"] == f"EC volume {volume_id} (photos)"
    assert found["code"] == "EC_DEGRADED"
    assert "12 of 14 shards" in found["what"]
    assert f"missing {shards[0]} {shards[1]}" in found["what"]
    document = here(cluster, *ours(found), "-yes", "-json").json()
    assert [job["outcome"] for job in document["jobs"]] == ["done"], document
    eventually(lambda: here(cluster, "doctor").status == 0, 30)


def test_a_killed_encode_leaves_orphan_shards_that_doctor_finds_and_the_next_run_clears(
    make_cluster: Callable[..., Cluster], console_of: Callable[..., Console], started: Callable[[Running], Running]
) -> None:
    cluster = make_cluster(servers=4)
    files = cluster.fill(count=6, size=200_000, collection="photos")
    (volume_id,) = files.volume_ids
    cluster.settle()
    time.sleep(2)
    console = console_of(cluster)
    running = started(console.start("run", "erasure_coding", "-yes", "-maxMBps=1", *AT_ONCE))
    running.says("proving shards", timeout=90)
    running.kill()
    told = eventually(lambda: _finding(console.run("doctor"), "orphan shards"), 40, pause=1.0)
    assert f"EC volume {volume_id} (photos)" in told
    assert f"left read-only by erasure_coding of volume {volume_id}" in told
    assert f"weed_worker.py run erasure_coding -volumeId={volume_id} -master={cluster.master}" in told
    eventually(lambda: console.run("run", "erasure_coding", "-yes", *AT_ONCE).status == 0, 60, pause=3.0)
    eventually(lambda: console.run("doctor").status == 0, 40, pause=1.0)
    cluster.check(files)


def _finding(ended: Ended, text: str) -> str:
    return ended.out if ended.status == 1 and text in ended.out else ""


def test_a_volume_left_read_only_is_found_with_the_command_that_mends_it(cluster: Cluster, here: Here) -> None:
    (volume_id,) = filled(cluster).volume_ids
    server = cluster.locations(volume_id)[0]
    cluster.volume(server).volume_mark_readonly(volume_id=volume_id, persist=True)
    cluster.settle()
    ended = here(cluster, "doctor", "-json")
    assert ended.status == 1
    (found,) = findings(ended)
    assert found["where"] == f"volume {volume_id} on {server.address}"
    assert "no journal here says why" in found["what"]
    assert "; it was so at the first look, 20" in found["what"]
    assert f"weed_worker undo -volumeId={volume_id} -master={cluster.master}" in found["fix"]


def test_a_volume_that_a_workers_journal_froze_is_told_with_the_journal(
    cluster: Cluster, here: Here, tmp_path: Path
) -> None:
    (volume_id,) = filled(cluster).volume_ids
    server = cluster.locations(volume_id)[0]
    entry = Journal(tmp_path / "journal").open_entry("job-7", "balance", volume_id)
    entry.plan("freeze", server=str(server.address), volume_id=volume_id, persist=True)
    cluster.volume(server).volume_mark_readonly(volume_id=volume_id, persist=True)
    cluster.settle()
    frozen, journal = findings(here(cluster, "doctor", "-json"))
    assert (frozen["code"], journal["code"]) == ("READ_ONLY", "CHANGES_LEFT")
    assert f"balance of volume {volume_id} (job-7)" in journal["what"]
    assert journal["where"] == str(tmp_path)
    assert f"left read-only by balance of volume {volume_id} (job-7), journal {tmp_path}" in frozen["what"]


def test_missing_copies_are_found(cluster: Cluster, here: Here) -> None:
    files = filled(cluster, replication="001", servers=[cluster.servers[0]])
    (found,) = findings(here(cluster, "doctor", "-json"))
    assert found["where"] == f"volume {files.volume_ids[0]}"
    assert (found["code"], found["what"]) == ("ONE_COPY_LEFT", "one copy left")
    assert found["fix"].startswith(f"weed_worker run replication -master={cluster.master}")


def test_a_copy_that_is_read_only_while_the_other_takes_writes_is_a_problem(cluster: Cluster, here: Here) -> None:
    shut, opened = cluster.servers[:2]
    (volume_id,) = filled(cluster, replication="001", servers=[shut, opened]).volume_ids
    cluster.volume(shut).volume_mark_readonly(volume_id=volume_id, persist=True)
    cluster.settle()
    (found,) = findings(here(cluster, "doctor", "-json"))
    assert (found["level"], found["where"]) == ("problem", f"volume {volume_id} on {shut.address}")
    assert f"the copy on {opened.address} takes writes" in found["what"]
    cluster.volume(opened).volume_mark_readonly(volume_id=volume_id, persist=True)
    cluster.settle()
    assert [found["level"] for found in findings(here(cluster, "doctor", "-json"))] == ["warning", "warning"]


def test_a_cluster_without_a_free_slot_is_not_well(make_cluster: Callable[..., Cluster], here: Here) -> None:
    cluster = make_cluster(servers=[Machine(disks=(("hdd", 1),)), Machine(disks=(("hdd", 1),))])
    filled(cluster)
    assert here(cluster, "doctor").status == 0
    filled(cluster)
    (found,) = findings(here(cluster, "doctor", "-json"))
    assert (found["code"], found["where"]) == ("NO_SLOTS", "volume servers")
    assert found["what"].startswith("no server has a free hdd slot of 2: ")


def test_copies_on_different_types_of_disk_are_told(make_cluster: Callable[..., Cluster], here: Here) -> None:
    cluster = make_cluster(servers=[Machine(disks=(("hdd", 9),)), Machine(disks=(("ssd", 9),))])
    slow, fast = cluster.servers
    volume_id = cluster.allocate([slow], replication="001")
    cluster.allocate([fast], volume_id=volume_id, replication="001", disk_type="ssd")
    cluster.settle()
    (found,) = findings(here(cluster, "doctor", "-json"))
    assert found["where"] == f"volume {volume_id}"
    assert f"different types of disk: hdd on {slow.address}, ssd on {fast.address}" in found["what"]


def test_an_id_that_two_collections_use_is_told(make_cluster: Callable[..., Cluster], here: Here) -> None:
    cluster = make_cluster(servers=2)
    first, second = cluster.servers
    volume_id = cluster.allocate([first], collection="photos")
    cluster.allocate([second], volume_id=volume_id, collection="docs")
    cluster.settle()
    told = [found for found in findings(here(cluster, "doctor", "-json")) if "two collections" in found["what"]]
    assert [found["level"] for found in told] == ["problem"]
    assert f"(docs on {second.address}; photos on {first.address})" in told[0]["what"]


def test_a_server_in_maintenance_mode_is_found(make_cluster: Callable[..., Cluster], here: Here) -> None:
    cluster = make_cluster(servers=1, era="4.44")
    cluster.maintenance(cluster.servers[0], True)
    (found,) = findings(here(cluster, "doctor", "-json"))
    assert found["where"] == f"volume server {cluster.servers[0].address}"
    assert "maintenance mode" in found["what"]
    assert "volumeServer.state" in found["fix"]


def test_a_server_whose_white_list_leaves_us_out_is_found(make_cluster: Callable[..., Cluster], here: Here) -> None:
    cluster = make_cluster(servers=1, era="4.44", volume_flags=["-whiteList=10.9.8.7"])
    if cluster.kind == "sandbox":  # which lets everybody in
        fault = {"code": "PERMISSION_DENIED", "text": "not in whitelist"}
        cluster.faults(cluster.servers[0]).fail("VolumeNeedleStatus", nth=0, **fault)
    (found,) = findings(here(cluster, "doctor", "-json"))
    assert found["where"] == f"volume server {cluster.servers[0].address}"
    assert "may not give it orders" in found["what"]
    assert "-whiteList" in found["fix"]


def test_a_server_that_does_not_answer_is_found(sandbox_cluster: Cluster, here: Here) -> None:
    server = sandbox_cluster.servers[2]
    sandbox_cluster.faults(server).fail("VolumeServerStatus", nth=0, code="UNAVAILABLE", text="connection refused")
    (found,) = findings(here(sandbox_cluster, "doctor", "-json"))
    assert found["where"] == f"volume server {server.address}"
    assert "connection refused" in found["what"]
    assert f"open {server.address.grpc}" in found["fix"]


def test_masters_out_of_reach_are_found(sandbox_cluster: Cluster, here: Here) -> None:
    port = free_port()
    (found,) = findings(here(sandbox_cluster, "doctor", "-json", f"-master=127.0.0.1:{port},{sandbox_cluster.master}"))
    assert found["where"] == f"master 127.0.0.1:{port}"
    assert "start the master" in found["fix"]


def test_an_admin_without_workers_and_one_out_of_reach_are_found(sandbox_cluster: Cluster, here: Here) -> None:
    admin = sandbox_cluster.start_admin("plugin")
    (found,) = findings(here(sandbox_cluster, "doctor", "-json", f"-admin={admin.address}"))
    assert found["what"] == "no worker is connected to it"
    admin.kill()
    (found,) = findings(here(sandbox_cluster, "doctor", "-json", f"-admin={admin.address}"))
    assert "nothing answers HTTP" in found["what"]


def test_damaged_records_in_the_working_directory_are_found(
    sandbox_cluster: Cluster, here: Here, tmp_path: Path
) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "job-7.damaged").write_text("?")
    (found,) = findings(here(sandbox_cluster, "doctor", "-json"))
    assert found["where"] == str(tmp_path)
    assert "job-7.damaged" in found["what"]


def test_a_master_that_wants_tls_is_told_from_one_that_is_down(
    sandbox_cluster: Cluster, here: Here, tmp_path: Path
) -> None:
    certificate, key = Authority(tmp_path / "ca").issue("master")
    port = free_port()
    listening = ("127.0.0.1", port + 10000)
    server = StreamServer(listening, lambda *_: None, certfile=str(certificate), keyfile=str(key))
    with closing(server):
        server.start()
        (found,) = findings(here(sandbox_cluster, "doctor", "-json", f"-master=127.0.0.1:{port}"))
    assert f"127.0.0.1:{port + 10000} and this host differ in TLS" in found["fix"]


def test_a_master_without_tls_is_told_to_a_worker_that_has_it(
    sandbox_cluster: Cluster, here: Here, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("worker")
    (tmp_path / "security.toml").write_text(
        f'[grpc]\nca = "{authority.ca}"\n[grpc.worker]\ncert = "{certificate}"\nkey = "{key}"\n'
    )
    ended = here(sandbox_cluster, "doctor", "-json", f"-config_dir={tmp_path}")
    assert "mTLS with" in ended.out
    (found,) = findings(ended)
    assert found["where"] == f"master {sandbox_cluster.master}"
    assert "speaks no TLS" in found["what"]
    assert "differ in TLS" in found["fix"]


def test_doctor_changes_nothing(sandbox_cluster: Cluster, here: Here, tmp_path: Path) -> None:
    filled(sandbox_cluster, replication="001", servers=[sandbox_cluster.servers[0]])
    addresses = [sandbox_cluster.master, *(server.address for server in sandbox_cluster.servers)]
    for address in addresses:
        sandbox_cluster.faults(address).clear()
    here(sandbox_cluster, "doctor")
    seen = {method for address in addresses for method, _request in sandbox_cluster.calls(address)}
    looking = {"GetMasterConfiguration", "Ping", "VolumeListStream", "VolumeServerStatus", "GetState", "SendHeartbeat"}
    looks = {
        "CollectionList",
        "VolumeNeedleStatus",
        "VolumeStatus",
        "ReadVolumeFileStatus",
        "LookupEcVolume",
        "RaftListClusterServers",
    }
    assert seen <= looking | looks | {"ListClusterNodes"}
    (kept,) = tmp_path.rglob("*.json")
    assert kept.name == "last_topology.json", "what the cluster looks like is kept, and nothing else"


@pytest.mark.parametrize("content", [None, "[grpc", '[grpc]\nca = "/nowhere/ca.crt"\n'])
def test_a_tls_configuration_that_cannot_be_used_is_the_first_problem_and_the_doctor_goes_on(
    sandbox_cluster: Cluster, here: Here, tmp_path: Path, content: str | None
) -> None:
    folder = tmp_path / "conf"
    if content is not None:
        folder.mkdir()
        (folder / "security.toml").write_text(content)
    ended = here(sandbox_cluster, "doctor", "-json", f"-config_dir={folder}")
    assert ended.status == 1
    first, *others = ended.json()
    assert (first["level"], first["where"]) == ("problem", "TLS")
    assert str(folder) in first["what"]
    assert "TLS" not in [found["where"] for found in others]
    assert f"master {sandbox_cluster.master}" in [found["where"] for found in others]
    planned = here(sandbox_cluster, "plan", "vacuum", f"-config_dir={folder}")
    assert planned.status == 2
    assert str(folder) in planned.err


# ---- fixes are jobs that do it


def taken(cluster: Cluster, here: Here, found: dict[str, Any]) -> dict[str, Any]:
    """Dry-run the fix of a find; its job must take it, at the latest when a server had time to come back."""
    patience = ["-set=min_fault_age_seconds=0"] if "replication" in ours(found) else []
    ended = here(cluster, *ours(found), *patience, "-dryRun", "-json")
    document: dict[str, Any] = ended.json()
    assert document["proposals"], document
    assert {job["outcome"] for job in document["jobs"]} == {"checked"}, document
    return document


def test_a_missing_copy_that_a_job_can_make_is_told_with_that_job(cluster: Cluster, here: Here) -> None:
    files = cluster.fill(count=5, size=2000, servers=cluster.servers[:1], replication="001")
    cluster.settle()
    (found,) = findings(here(cluster, "doctor", "-json"))
    assert ours(found)[:2] == ["run", "replication"]
    volume_ids = {number for row in taken(cluster, here, found)["proposals"] for number in row["volumes"]}
    assert volume_ids == set(files.volume_ids)


def test_a_missing_copy_that_no_server_may_take_is_told_with_the_reason_and_without_that_job(
    cluster: Cluster, here: Here
) -> None:
    cluster.fill(count=5, size=2000, servers=cluster.servers[:1], replication="010")
    cluster.settle()
    (found,) = findings(here(cluster, "doctor", "-json"))
    assert "one copy left; replication leaves it" in found["what"]
    assert "placement 010" in found["what"]
    assert ours(found) == []


def test_a_copy_too_many_is_told_with_the_setting_that_lets_the_job_remove_it(cluster: Cluster, here: Here) -> None:
    cluster.fill(count=5, size=2000, servers=cluster.servers[:2], replication="000")
    cluster.settle()
    (found,) = findings(here(cluster, "doctor", "-json"))
    assert found["what"] == "too many copies"
    assert "-set=delete_surplus=true" in ours(found)
    taken(cluster, here, found)


@pytest.mark.parametrize("size", [200_000, 1000])
def test_shards_beside_their_volume_are_told_with_a_job_only_where_it_takes_so_small_a_volume(
    make_sandbox_cluster: Callable[..., Cluster], here: Here, size: int
) -> None:
    cluster = make_sandbox_cluster(servers=4)
    (volume_id,) = cluster.fill(count=10, size=200_000, servers=cluster.servers[:1]).volume_ids
    targets = [
        TaskTarget(node=str(server.address), shard_ids=range(place, 14, 4))
        for place, server in enumerate(cluster.servers)
    ]
    encode = Job("encode", "erasure_coding", TaskParams(volume_id=volume_id, targets=targets))
    erasure_coding.run(encode, cluster.context())
    first = cluster.volume(cluster.servers[0])
    first.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=[0, 4])
    first.volume_ec_shards_delete(volume_id=volume_id, shard_ids=[0, 4])
    cluster.allocate(cluster.servers[:1], volume_id=volume_id)
    cluster.fill(count=10, size=size, volumes=[volume_id], servers=cluster.servers[:1])
    eventually(lambda: cluster.topology().replicas(volume_id), 20)
    cluster.settle()
    found = next(one for one in findings(here(cluster, "doctor", "-json")) if "orphan shards" in one["what"])
    if size == 1000:
        assert "erasure_coding leaves it" in found["what"]
        assert ours(found) == []
        return
    assert ours(found)[:3] == ["run", "erasure_coding", f"-volumeId={volume_id}"]
    taken(cluster, here, found)


def test_volumes_that_a_full_disk_shut_are_not_to_be_opened_by_hand(sandbox_cluster: Cluster, here: Here) -> None:
    (volume_id,) = filled(sandbox_cluster).volume_ids
    server = sandbox_cluster.locations(volume_id)[0]
    sandbox_cluster.volume(server).volume_mark_readonly(volume_id=volume_id)
    sandbox_cluster.faults(server).crowd(10 << 20)
    sandbox_cluster.settle()
    ended = here(sandbox_cluster, "doctor", "-json")
    (found,) = findings(ended)
    assert "its volumes turn read-only" in found["what"]
    assert "volume.mark" not in ended.out
    assert "1 volumes are read-only there for want of room" in ended.out


def test_what_a_scrub_found_is_told_with_the_command_that_mends_it(cluster: Cluster, here: Here) -> None:
    files = cluster.fill(6, servers=cluster.servers[:2], replication="001")
    single = cluster.fill(3, servers=cluster.servers[:1])
    cluster.settle()
    (never,) = [found for found in here(cluster, "doctor", "-json").json() if found["where"] == "scrub"]
    assert (never["level"], never["what"]) == ("note", "0 % verified in 30 days, oldest 0 days, 3 never")
    for one, server in ((files, cluster.servers[1]), (single, cluster.servers[0])):
        spoil(cluster, next(iter(one)), server)
    assert "would read" in here(cluster, "run", "scrub", "-dryRun", "-yes").out
    told = here(cluster, "run", "scrub", "-yes")
    assert told.status == 0, told.out + told.err
    assert "100 % verified in 30 days" in told.out
    ended = here(cluster, "doctor", "-json")
    assert ended.status == 1
    by_volume = {found["where"]: found for found in ended.json()}
    assert by_volume["scrub"]["level"] == "ok"
    bad, lost = (by_volume[f"volume {one.volume_ids[0]}"] for one in (files, single))
    assert f"run replication -volumeId={files.volume_ids[0]}" in bad["fix"]
    assert next(iter(single)) in lost["what"]
    assert "only copy" in lost["fix"]
    mended = here(cluster, "run", "replication", f"-volumeId={files.volume_ids[0]}", "-yes")
    assert mended.status == 0, mended.out + mended.err
    cluster.settle()
    cluster.check(files)


def test_a_job_type_that_the_admin_schedules_and_no_worker_does_is_told_with_what_that_costs(
    sandbox_cluster: Cluster, here: Here, tmp_path: Path
) -> None:
    admin = sandbox_cluster.start_admin("plugin")
    for name, capabilities in (("both", "vacuum,balance"), ("one", "vacuum")):
        agent = Agent(tmp_path / name, flags_for(admin), f"-capabilities={capabilities}")
        try:
            agent.says("registered as")
            if name == "both":
                eventually(lambda: len(admin.get("/api/plugin/scheduler-states")) == 2)
                agent.terminate()
                assert agent.wait() == 0
                continue
            told = [
                found
                for found in here(sandbox_cluster, "doctor", "-json", f"-admin={admin.address}").json()
                if found["code"] == "JOB_TYPES_UNDONE"
            ]
        finally:
            agent.kill()
    (found,) = told
    assert "it schedules volume_balance, and no connected worker does it: nothing of volume_balance" in found["what"]
    assert found["fix"].endswith(f"weed_worker -admin={admin.address} -jobType=balance")


def test_a_disk_with_less_than_a_tenth_free_is_told_before_it_is_full(sandbox_cluster: Cluster, here: Here) -> None:
    filled(sandbox_cluster)
    server = sandbox_cluster.servers[0]
    total = shutil.disk_usage(server.data_dir).total
    sandbox_cluster.faults(server).crowd(total * 8 // 100)
    (found,) = findings(here(sandbox_cluster, "doctor", "-json"))
    assert (found["code"], found["where"]) == ("DISK_NEARLY_FULL", f"volume server {server.address}")
    sandbox_cluster.faults(server).crowd(total * 3 // 100)
    (found,) = findings(here(sandbox_cluster, "doctor", "-json"))
    assert found["code"] == "DISK_FULL"
    assert "nothing but room opens them" in found["what"]


def test_where_no_slot_is_left_the_volumes_without_a_file_are_counted(
    make_cluster: Callable[..., Cluster], here: Here
) -> None:
    cluster = make_cluster(servers=[Machine(disks=(("hdd", 2),)), Machine(disks=(("hdd", 2),))])
    first, second = cluster.servers
    filled(cluster, volumes=2, servers=[first])
    empty = [cluster.allocate([second]) for _volume in range(2)]
    cluster.settle()
    (found,) = findings(here(cluster, "doctor", "-json"))
    assert (found["code"], found["volumes"]) == ("NO_SLOTS", empty)
    assert "; 2 volumes without a file hold 2 of them" in found["what"]
    assert "delete_empty leaves volume" in found["fix"], "they are too young for that job, which says so"
