"""A server that went away is told first, with what only it held; copies are made once it has been gone for long."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agent.agent import Agent, flags_for
from tests.agent.driver import Driver
from tests.agent.work import garbage
from tests.console.console import Console, Ended, Running
from tests.support import eventually
from tests.support.cluster import Cluster
from weed_state.last_topology import NAME

Here = Callable[..., Ended]


def aged(directory: Path, seconds: float) -> None:
    """Let all that is remembered have been seen so much earlier."""
    for path in directory.rglob(NAME):
        document = json.loads(path.read_text())
        document["looked"] -= seconds
        for server in document["servers"].values():
            server["seen"] -= seconds
            server["missed"] -= seconds if server["missed"] else 0
        document["short"] = {
            key: [max(0, full - seconds), since - seconds] for key, (full, since) in document["short"].items()
        }
        path.write_text(json.dumps(document))


def gone(cluster: Cluster, number: int) -> None:
    """End a server, and wait until the master knows."""
    server = cluster.servers[number]
    server.stop()
    eventually(lambda: server.address not in {node.address for node in cluster.topology().nodes.values()}, 40)


def test_a_server_that_went_away_is_doctors_first_word_with_the_volumes_that_are_nowhere(
    make_cluster: Callable[..., Cluster], here: Here
) -> None:
    cluster = make_cluster(servers=3)
    _first, second, third = cluster.servers
    alone = cluster.fill(3, servers=[third]).volume_ids
    shared = cluster.fill(3, replication="001", servers=[second, third]).volume_ids
    cluster.settle()
    assert "all is well" in here(cluster, "doctor").out
    gone(cluster, 2)
    ended = here(cluster, "doctor", "-json")
    told = ended.json()[0]
    assert ended.status == 1
    assert (told["level"], told["where"]) == ("problem", f"volume server {third.address}")
    assert f"volumes without any copy now: {alone[0]}; with fewer: {shared[0]}" in told["what"]
    assert f"-forget={third.address}" in told["fix"]
    assert here(cluster, "doctor", "-json").json()[0]["what"] == told["what"], "it is not forgotten with the next look"

    assert here(cluster, "doctor", f"-forget={second.address}").status == 2
    told = here(cluster, "doctor", "-json", f"-forget={third.address}").json()[0]
    assert told["where"] != f"volume server {third.address}"
    third.start()
    eventually(lambda: here(cluster, "doctor").status == 0, 40, pause=1.0)


def test_a_plan_names_the_missing_server_and_repairs_only_what_has_been_missing_for_long(
    make_cluster: Callable[..., Cluster], here: Here, tmp_path: Path
) -> None:
    cluster = make_cluster(servers=4)
    _first, second, third, _fourth = cluster.servers
    (volume_id,) = cluster.fill(3, replication="001", servers=[second, third]).volume_ids
    cluster.settle()
    here(cluster, "doctor")
    gone(cluster, 2)
    planned = here(cluster, "plan", "replication", f"-workingDir={tmp_path}")
    assert f"volume server {third.address} was here at" in planned.out
    assert f"with fewer: {volume_id}" in planned.out
    assert "nothing to do" in planned.out
    assert re.search(r"has 1 of 2 copies; seen for \d+ s, complete", planned.out)
    put_off = here(cluster, "run", "replication", "-yes")
    assert put_off.status == 1
    assert f"volume {volume_id} may get the missing copies back by themselves" in put_off.out
    assert len(cluster.locations(volume_id)) == 1

    aged(tmp_path, 601)
    (row,) = here(cluster, "plan", "replication", "-json", f"-workingDir={tmp_path}").json()["proposals"]
    assert row["volumes"] == [volume_id]
    (row,) = here(cluster, "plan", "replication", "-json", "-set=min_fault_age_seconds=0").json()["proposals"]
    assert row["volumes"] == [volume_id]


def test_the_memory_of_the_worker_is_asked_too(
    make_cluster: Callable[..., Cluster], here: Here, tmp_path: Path
) -> None:
    cluster = make_cluster(servers=2)
    (volume_id,) = cluster.fill(3, replication="001", servers=cluster.servers).volume_ids
    cluster.settle()
    here(cluster, "doctor")
    (kept,) = tmp_path.rglob(NAME)
    kept.rename(tmp_path / NAME)  # as a worker with this -workingDir keeps it
    gone(cluster, 1)
    told = here(cluster, "doctor", "-json").json()[0]
    assert told["where"] == f"volume server {cluster.servers[1].address}"
    assert f"with fewer: {volume_id}" in told["what"]


@pytest.mark.parametrize("dialect", ["plugin", "classic"])
def test_a_console_that_never_looked_before_asks_the_records_of_the_admin(
    make_cluster: Callable[..., Cluster], here: Here, tmp_path: Path, dialect: str
) -> None:
    cluster = make_cluster(servers=3)
    if cluster.kind == "real" and (dialect == "classic" or cluster.era != "4.44"):
        pytest.skip("a real classic admin takes no job from outside")
    third = cluster.servers[2]
    (volume_id,) = garbage(cluster, servers=[third]).volume_ids
    cluster.fill(3, servers=cluster.servers[:1])
    driver = Driver(cluster.start_admin(dialect), dialect)
    agent = Agent(tmp_path / "elsewhere", flags_for(driver.admin))
    try:
        agent.says("registered as")
        driver.give("j1", "vacuum", volume_id, str(third.address))
        agent.says("completed vacuum")
    finally:
        agent.kill()
    gone(cluster, 2)
    admin = f"-admin={driver.admin.address}"
    told = eventually(lambda: lost(here(cluster, "doctor", "-json", admin)), 20)
    assert (told["level"], told["where"]) == ("problem", f"volume server {third.address}")
    assert f"volumes without any copy now: {volume_id} (as admin {driver.admin.address} tells" in told["what"]
    assert "was here at 20" in told["what"]
    assert f"weed_worker doctor -forget={third.address} {admin}" in told["fix"]
    assert not lost(here(cluster, "doctor", "-json", admin, f"-forget={third.address}"))
    assert not lost(here(cluster, "doctor", "-json", admin)), "it stays forgotten"


def lost(ended: Ended) -> dict[str, Any]:
    """The first word of doctor, where it is of a server that is gone."""
    first: dict[str, Any] = ended.json()[0]
    return first if "is gone" in first["what"] else {}


def test_a_console_that_never_looked_before_hears_of_a_master_what_went_with_a_server(
    make_cluster: Callable[..., Cluster], here: Here, tmp_path: Path
) -> None:
    cluster = make_cluster(servers=3, racks=["dc1/r1", "dc1/r2", "dc2/r3"])
    first, _second, third = cluster.servers
    cluster.fill(3, collection="photos", servers=[third])
    (deleted,) = cluster.fill(3, collection="dropped", servers=[first]).volume_ids
    cluster.fill(3, collection="docs", servers=[first])
    (last,) = cluster.fill(3, collection="photos", servers=[third]).volume_ids
    cluster.settle()
    cluster.volume(first).volume_delete(volume_id=deleted)
    eventually(lambda: not cluster.locations(deleted), 20)
    third.kill()
    gone(cluster, 2)
    told, *_others = found = here(cluster, "doctor", "-json").json()
    (gaps,) = [one for one in found if one["code"] == "IDS_NOWHERE"]
    assert (told["level"], told["where"]) == ("problem", "masters")
    assert told["what"].startswith("no server is left in dc2/r3, and no volume of photos: ")
    assert f"ids that no server has: 1-{deleted}, {last}: deleted, or lost" in gaps["what"], "the highest is known, too"
    third.start()
    eventually(lambda: here(cluster, "doctor").status == 0, 40, pause=1.0)
    third.stop()  # in order: it says that it holds nothing any more
    gone(cluster, 2)
    assert here(cluster, "doctor", "-json").json()[0]["where"] == f"volume server {third.address}"
    for kept in tmp_path.rglob(NAME):
        kept.unlink()
    (told,) = [one for one in here(cluster, "doctor", "-json").json() if one["code"] == "RACK_EMPTY"]
    assert told["what"].startswith("no server is left in dc2/r3, where the master saw some")


@pytest.mark.parametrize("answer", ["y", "n"])
def test_whoever_sits_there_is_asked_where_nobody_knows_for_how_long_copies_are_missing(
    make_cluster: Callable[..., Cluster],
    console_of: Callable[..., Console],
    started: Callable[[Running], Running],
    answer: str,
) -> None:
    cluster = make_cluster(servers=2)
    (volume_id,) = cluster.fill(3, replication="001", servers=cluster.servers[:1]).volume_ids
    cluster.settle()
    running = started(console_of(cluster).start_on_terminal("run", "replication", columns=200))
    running.says(rf"Nobody knows for how long volume {volume_id} lacks copies. Copy now all the same\? \[y/N\]")
    running.type(f"{answer}\n")
    if answer == "n":
        assert running.wait() == 1
        assert len(cluster.locations(volume_id)) == 1
        return
    running.says(r"Do this job now\? \[y/N\]")
    running.type("y\n")
    eventually(lambda: len(cluster.locations(volume_id)) == 2, 40)
