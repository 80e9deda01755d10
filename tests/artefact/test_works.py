"""The file does real work: it registers with an admin and vacuums a volume, on every Python that is there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.artefact.hosts import SUPPORTED, python
from tests.support import eventually
from tests.support.cluster import Cluster


@pytest.mark.parametrize("version", SUPPORTED)
@pytest.mark.parametrize("dialect", ["plugin", "classic"])
def test_the_file_registers_works_and_leaves_in_order(
    sandbox_cluster: Cluster, pyz: Path, tmp_path: Path, version: str, dialect: str
) -> None:
    program = python(version)
    files = sandbox_cluster.fill(count=6, size=20_000)
    (volume_id,) = files.volume_ids
    sandbox_cluster.delete(files.of(volume_id)[:4])
    sandbox_cluster.settle()
    admin = sandbox_cluster.start_admin(dialect)
    flags = [f"-admin=localhost:{admin.address.port}", f"-workingDir={tmp_path}", "-taskInterval=200ms", "-v=3"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        worker = subprocess.Popen([program, pyz, *flags], stderr=output, stdout=output, stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: "registered as" in log.read_text(), 20)
        if dialect == "plugin":
            eventually(lambda: admin.post("/api/plugin/job-types/vacuum/schema"), 10)
            told = admin.post("/api/plugin/job-types/vacuum/run", {"timeout_seconds": 60})
            assert (told["success_count"], told["error_count"]) == (1, 0)
        else:
            server = str(sandbox_cluster.locations(volume_id)[0].address)
            params = {"volumeId": volume_id, "sources": [{"node": server}], "vacuumParams": {"garbageThreshold": 0.1}}
            task = {"task_id": f"works-{version}", "task_type": "vacuum", "volume_id": volume_id, "params": params}
            admin.post("/sandbox/tasks", task)
            eventually(lambda: admin.get(f"/api/maintenance/tasks/works-{version}")["status"] == "completed", 30)
        worker.terminate()
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.wait(10)
    assert "completed vacuum" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert "Exception ignored" not in log.read_text()
    sandbox_cluster.check(files)
