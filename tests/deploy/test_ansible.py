"""The Ansible role, run against localhost in a scratch root: installs, is idempotent, asks a worker for /ready."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import free_port
from tests.support.cluster import Cluster
from weed_agent import settings as agent_settings

ROOT = Path(__file__).parents[2]
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")


class Host:
    """A folder that stands for a host's root."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self.root = folder / "root"
        self.folder = folder
        self.options = options
        self.program = folder / "weed_worker.pyz"
        self.root.mkdir()
        # Links stay links: the role has to do without what is beside it here.
        self.roles = shutil.copytree(ROOT / "deploy" / "ansible" / "roles", folder / "roles", symlinks=True)
        command = f'exec "{sys.executable}" "{os.environ.get("WEED_WORKER", ROOT / "weed_worker.py")}" "$@"'
        self.program.write_text(f"#!/bin/sh\n{command}\n")

    def play(self, **wishes: Any) -> tuple[int, dict[str, int], str]:
        """Run the playbook; return its status, Ansible's counts and the output."""
        wanted = {
            "weed_worker_become": False,
            "weed_worker_root": str(self.root),
            "weed_worker_pyz": str(self.program),
            "weed_worker_options": self.options,
            **wishes,
        }
        configuration = self.folder / "ansible.cfg"
        configuration.write_text("[defaults]\n")
        environment = {
            **os.environ,
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_CONFIG": str(configuration),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_ROLES_PATH": str(self.roles),
            "LC_ALL": "C.UTF-8",
        }
        inventory = self.folder / "hosts"
        inventory.write_text(
            f"[weed_workers]\nlocalhost ansible_connection=local ansible_python_interpreter={sys.executable}\n"
        )
        argv = [str(ANSIBLE), "-i", str(inventory), "-e", json.dumps(wanted), str(ROOT / "deploy/ansible/site.yml")]
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=110, check=False)
        told = done.stdout + done.stderr
        assert "PLAY RECAP" in told, told
        counts = re.findall(r"(\w+)=(\d+)", told[told.index("PLAY RECAP") :])
        return done.returncode, {name: int(number) for name, number in counts}, told

    def read(self, path: str) -> str:
        """An installed file's text."""
        return (self.root / path).read_text()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host that shall have a worker on a free metrics port."""
    options = {"admin": "admin1:23646", "capabilities": "vacuum", "metricsIp": "127.0.0.1", "metricsPort": free_port()}
    return Host(tmp_path, options)


def test_the_role_installs_the_worker_its_unit_and_flags_that_the_worker_reads(host: Host, tmp_path: Path) -> None:
    (tmp_path / "security.toml").touch()
    status, counts, told = host.play(weed_worker_config_dir=str(tmp_path))
    assert status == 0, told
    assert counts["changed"] > 0
    program = host.root / "usr/local/bin/weed_worker.pyz"
    assert program.read_bytes() == host.program.read_bytes()
    assert program.stat().st_mode & 0o777 == 0o755
    assert host.read("etc/systemd/system/weed-worker.service") == (ROOT / "deploy/weed-worker.service").read_text()
    assert "User=weed_worker" in host.read("etc/systemd/system/weed-worker.service.d/host.conf")
    options = host.root / "etc/weed_worker/worker.options"
    settings = agent_settings.parse([f"-options={options}", f"-workingDir={tmp_path}"])
    assert str(settings.admin) == "admin1:23646"
    assert settings.task_types == ("vacuum",)
    assert settings.metrics_port == host.options["metricsPort"]
    assert settings.config_dir == tmp_path

    status, counts, told = host.play(weed_worker_config_dir=str(tmp_path))
    assert status == 0, told
    assert counts["changed"] == 0


def test_the_role_stops_where_the_worker_does_not_run_on_the_hosts_python(host: Host) -> None:
    status, counts, told = host.play(weed_worker_python="/nowhere/python3")
    assert (status, counts["failed"]) == (2, 1)
    assert "See that it runs on this host's Python" in told
    assert not (host.root / "etc/systemd/system/weed-worker.service").exists()


@pytest.fixture
def worker(sandbox_cluster: Cluster, host: Host, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The installed worker, started as its unit does it, with an admin to register with."""
    admin = sandbox_cluster.start_admin("plugin")
    host.options["admin"] = str(admin.address)
    status, _counts, told = host.play()
    assert status == 0, told
    state = tmp_path / "state"
    state.mkdir()
    options = host.root / "etc/weed_worker/worker.options"
    process = subprocess.Popen(
        [host.root / "usr/local/bin/weed_worker.pyz", f"-workingDir={state}", f"-options={options}"]
    )
    yield process
    process.terminate()
    process.wait(30)


def test_the_role_succeeds_when_the_worker_is_registered(host: Host, worker: subprocess.Popen[bytes]) -> None:
    status, _counts, told = host.play(weed_worker_ready_in_scratch=True)
    assert worker.poll() is None
    assert status == 0, told
    assert "skipping" not in told[told.index("Wait until the worker is registered") :]


def test_the_role_fails_where_no_worker_gets_ready(host: Host) -> None:
    status, counts, told = host.play(weed_worker_ready_in_scratch=True, weed_worker_ready_timeout=2)
    assert status == 2
    assert counts["failed"] == 1
    assert "Wait until the worker is registered" in told


def test_flags_that_the_worker_refuses_never_take_the_place_of_those_that_it_had(host: Host) -> None:
    status, _counts, told = host.play()
    assert status == 0, told
    before = host.read("etc/weed_worker/worker.options")
    host.options["maxExecute"] = "many"
    status, counts, told = host.play()
    assert (status, counts["failed"]) == (2, 1)
    assert "maxExecute=many" in told
    assert host.read("etc/weed_worker/worker.options") == before


def test_metrics_are_shown_to_others_where_that_is_asked_for(host: Host) -> None:
    status, _counts, told = host.play(weed_worker_scrapeable=True)
    assert status == 0, told
    assert "metricsIp=0.0.0.0" in host.read("etc/weed_worker/worker.options")
