"""`status`: workers, jobs and last runs as an admin of either dialect knows them, or one worker's own word."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent.agent import Agent, flags_for
from tests.agent.driver import Driver
from tests.agent.work import garbage, server_of
from tests.console.console import Console, Ended, Running
from tests.support import eventually, free_port
from tests.support.cluster import Cluster

Here = Callable[..., Ended]


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Start agents that end with the test."""
    started: list[Agent] = []

    def start(*flags: str) -> Agent:
        started.append(Agent(tmp_path / f"worker{len(started)}", *flags))
        return started[-1]

    yield start
    for agent in started:
        agent.kill()


@pytest.mark.parametrize("dialect", ["plugin", "classic"])
def test_an_admins_workers_and_jobs_are_shown(
    sandbox_cluster: Cluster, here: Here, start_agent: Callable[..., Agent], dialect: str
) -> None:
    admin = sandbox_cluster.start_admin(dialect)
    none = here(sandbox_cluster, "status", f"-admin={admin.address}")
    assert none.status == 0, none.err
    assert f"no workers at admin {admin.address}" in none.out
    start_agent(flags_for(admin), "-id=w-seen", "-capabilities=vacuum").says("registered")
    files = sandbox_cluster.fill(count=6, size=20_000)
    (volume_id,) = files.volume_ids
    sandbox_cluster.delete(files.of(volume_id)[:4])
    sandbox_cluster.settle()
    driver = Driver(admin, dialect)
    driver.give("j1", "vacuum", volume_id, str(sandbox_cluster.locations(volume_id)[0].address))
    assert driver.ended("j1").success
    eventually(lambda: "1 done" in here(sandbox_cluster, "status", f"-admin={admin.address}").out)
    told = here(sandbox_cluster, "status", f"-admin={admin.address}").out
    assert told.startswith("0 running, 0 waiting, 1 done\n")
    assert f"1 worker at admin {admin.address}" in told
    assert "w-seen" in told
    document = here(sandbox_cluster, "status", f"-admin={admin.address}", "-json").json()
    assert document["dialect"] == dialect
    assert len(document["workers"]) == len(document["jobs"]) == 1


def test_a_real_or_stand_in_admin_of_the_era_answers(cluster: Cluster, here: Here) -> None:
    admin = cluster.start_admin()
    ended = here(cluster, "status", f"-admin={admin.address}")
    assert ended.status == 0, ended.err
    assert f"no workers at admin {admin.address}" in ended.out


def test_a_worker_tells_of_itself_at_its_metrics_port(
    sandbox_cluster: Cluster, here: Here, start_agent: Callable[..., Agent]
) -> None:
    port = free_port()
    start_agent(f"-admin=127.0.0.1:{free_port()}", f"-metricsPort={port}", "-id=w-alone").says("connecting to admin")
    ended = here(sandbox_cluster, "status", f"-worker=127.0.0.1:{port}")
    assert ended.status == 0, ended.err
    assert ended.out.startswith("0 running, 0 waiting, 0 failed, 0 done; nothing left to undo or deliver\n")
    assert "worker w-alone" in ended.out
    assert "disconnected: not registered with admin" in ended.out
    assert here(sandbox_cluster, "status", f"-worker=127.0.0.1:{port}", "-json").json()["id"] == "w-alone"


@pytest.mark.parametrize(
    ("flag", "said"), [("-admin", "no admin server answers at"), ("-worker", "no worker answers at")]
)
def test_whoever_does_not_answer_is_named(sandbox_cluster: Cluster, here: Here, flag: str, said: str) -> None:
    port = free_port()
    ended = here(sandbox_cluster, "status", f"{flag}=127.0.0.1:{port}")
    assert ended.status == 4
    assert f"{said} 127.0.0.1:{port}" in ended.err


@pytest.mark.parametrize("dialect", ["plugin", "classic"])
def test_jobs_are_narrowed_by_id_type_and_failure(
    sandbox_cluster: Cluster, here: Here, start_agent: Callable[..., Agent], dialect: str
) -> None:
    admin, port = sandbox_cluster.start_admin(dialect), free_port()
    start_agent(flags_for(admin), "-id=w-seen", "-capabilities=vacuum", f"-metricsPort={port}").says("registered")
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    driver = Driver(admin, dialect)
    driver.give("j-good", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    assert driver.ended("j-good").success
    driver.give("j-bad", "vacuum", 4711, server_of(sandbox_cluster, volume_id))
    assert not driver.ended("j-bad").success

    def status(of: str, *flags: str) -> Ended:
        return here(sandbox_cluster, "status", of, *flags)

    at_admin, at_worker = f"-admin={admin.address}", f"-worker=127.0.0.1:{port}"
    # A classic admin lets a failed task wait for another try.
    at_admin_it_is = "1 failed" if dialect == "plugin" else "1 waiting"
    eventually(lambda: at_admin_it_is in status(at_admin).out and "1 failed" in status(at_worker).out)
    for of, jobs in ((at_admin, "jobs"), (at_worker, "ended")):
        name = "id" if of == at_worker or dialect == "classic" else "job_id"
        found = {
            flag: {job[name] for job in status(of, *flag.split(), "-json").json()[jobs]}
            for flag in ("-failed", "-job=j-good", "-job=vacuum", "-job=balance", "-job=vol.vacuum -failed")
        }
        failed = {"j-bad"} if of == at_worker or dialect == "plugin" else set()
        assert found == {
            "-failed": failed,
            "-job=j-good": {"j-good"},
            "-job=vacuum": {"j-good", "j-bad"},
            "-job=balance": set(),
            "-job=vol.vacuum -failed": failed,
        }
        nobody = status(of, "-job=j-nobody")
        assert (nobody.status, "-job=j-nobody is no job type" in nobody.err) == (2, True)
    if dialect == "plugin":
        told = status(at_admin, "-job=j-good").out
        assert "what happened to j-good" in told
        assert len(re.findall(r"^\S+ ago  +.*compacting", told, re.M)) == 1
    assert "volume 4711" in status(at_worker, "-failed").out
    assert "KiB freed" in status(at_worker, "-job=vacuum").out


def test_status_is_shown_anew_until_it_is_interrupted(
    sandbox_cluster: Cluster, console_of: Callable[[Cluster], Console], started: Callable[[Running], Running]
) -> None:
    admin = sandbox_cluster.start_admin("plugin")
    console = console_of(sandbox_cluster)
    running = started(console.start("status", f"-admin={admin.address}", "-watch", "-json"))
    running.says(r"(?s)\A\{[^\n]+\}\n\{[^\n]+\}\n")
    running.send(signal.SIGINT)
    assert running.wait() == 0
    on_terminal = started(console.start_on_terminal("status", f"-admin={admin.address}", "-watch"))
    on_terminal.says("(?s)no workers at.*no workers at")
    admin.kill()
    on_terminal.says("no admin server answers")
    admin.start()
    on_terminal.says("(?s)no admin server answers.*no workers at")
    on_terminal.send(signal.SIGINT)
    assert on_terminal.wait() == 0


LOGIN = ("-adminUser=ops", "-adminPassword=s3 cret&+", "-readOnlyUser=view", "-readOnlyPassword=look")


def test_an_admin_with_a_password_is_asked_with_a_login_that_is_never_shown(
    cluster: Cluster, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cluster.era != "4.44":
        pytest.skip("admins of this era have no read-only user")
    admin = cluster.start_admin("", *LOGIN)
    refused = here(cluster, "status", f"-admin={admin.address}")
    assert refused.status == 2
    assert "wants a user and a password: set WEED_WORKER_ADMIN_USER and WEED_WORKER_ADMIN_PASSWORD" in refused.err
    monkeypatch.setenv("WEED_WORKER_ADMIN_PASSWORD", "s3 cret&+")
    monkeypatch.setenv("WEED_WORKER_ADMIN_USER", "ops")
    ended = here(cluster, "status", f"-admin={admin.address}", "-v=2")
    assert (ended.status, f"no workers at admin {admin.address}" in ended.out) == (0, True)
    assert "s3 cret" not in ended.out + ended.err
    file = tmp_path / "login"
    file.write_text("view:look\n")
    assert here(cluster, "status", f"-admin={admin.address}", f"-adminLogin={file}").status == 0
    file.write_text("ops:wrong\n")
    wrong = here(cluster, "status", f"-admin={admin.address}", f"-adminLogin={file}")
    assert wrong.status == 2
    assert f"does not take user 'ops' with the password of {file}" in wrong.err
    file.write_text("nothing")
    damaged = here(cluster, "status", f"-admin={admin.address}", f"-adminLogin={file}", "-json")
    assert (damaged.status, "user:password, is expected" in damaged.json()["error"]) == (2, True)
    assert "nothing" not in damaged.out.replace("holds no login", "")


def test_a_server_of_another_kind_is_told_from_an_admin_and_from_a_worker(cluster: Cluster, here: Here) -> None:
    server = cluster.servers[0].address
    ended = here(cluster, "status", f"-admin={server.http}")
    assert (ended.status, f"{server.http} is a volume server, not an admin server" in ended.err) == (4, True), ended.err
    ended = here(cluster, "status", f"-worker={server.http}")
    assert (ended.status, f"{server.http} is a volume server, not a worker's" in ended.err) == (4, True), ended.err
