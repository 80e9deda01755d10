"""What benchmarks share that have a worker do jobs of a real admin: its start, the jobs, and what they took."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support import eventually  # noqa: E402
from tests.support.cluster import Admin  # noqa: E402
from weed_sandbox.launcher import Launcher  # noqa: E402


@dataclass
class Cost:
    """What one worker took: seconds, seconds, and bytes. `before`: CPU seconds from its start until the first job."""

    wall: float
    cpu: float
    resident: int
    written: int
    before: float

    def __str__(self) -> str:
        return (
            f"wall {self.wall:6.2f} s   cpu {self.cpu:6.2f} s   resident {self.resident / 2**20:5.0f} MB"
            f"   disk written {self.written / 2**20:7.1f} MB"
        )


class Meter:
    """Reads a process's CPU time in seconds, and disk writes and largest memory in bytes."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")

    def cpu(self) -> float:
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def written(self) -> int:
        return self._line("io", "write_bytes")

    def resident(self) -> int:
        return self._line("status", "VmHWM") << 10

    def _line(self, file: str, name: str) -> int:
        lines = (self._proc / file).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))


def go_worker(binary: str, job_type: str, most: int) -> list[str]:
    """The command line of a `weed worker` that does one job type and nothing else, so many jobs at a time."""
    return [binary, "worker", f"-jobType={job_type}", f"-maxExecute={most}"]


def our_worker(program: Path, job_type: str, most: int) -> list[str]:
    """The same of this worker, from its source or its .pyz."""
    return [sys.executable, str(program), f"-capabilities={job_type}", f"-maxConcurrent={most}"]


def work_off(
    name: str,
    argv: Sequence[str],
    admin: Admin,
    launcher: Launcher,
    directory: Path,
    orders: Sequence[dict[str, Any]],
    timeout: float,
) -> Cost:
    """Start a worker, give it all jobs at once, wait until they have ended, and kill it; exit where one has failed."""
    working, log = directory / f"worker-{name}", directory / f"{name}.log"
    working.mkdir()
    pid = launcher.start([*argv, f"-admin={admin.address.http}", f"-workingDir={working}"], directory, log)
    eventually(lambda: admin.get("/api/plugin/workers"), timeout=30)
    time.sleep(2.0)  # until it has told its descriptors
    os.sync()  # volumes of that size have been on disk for long; else all would wait for the files just made
    meter = Meter(pid)
    before, written, began = meter.cpu(), meter.written(), time.monotonic()
    for document in orders:
        threading.Thread(target=_give, args=(admin, document), daemon=True).start()
    job_ids = {document["job"]["job_id"] for document in orders}
    ended = eventually(lambda: _outcome(admin, job_ids), timeout=timeout, pause=0.1)
    wall = time.monotonic() - began
    cost = Cost(wall, meter.cpu() - before, meter.resident(), meter.written() - written, before)
    os.kill(pid, signal.SIGKILL)
    if ended != {"job_state_succeeded"}:
        sys.exit(f"{name}: {ended}\n{log.read_text()[-3000:]}")
    return cost


def _give(admin: Admin, document: dict[str, Any]) -> None:
    """Hand a job over and stay on the line: the admin cancels the job of a client that hangs up."""
    connection = http.client.HTTPConnection(admin.address.host, admin.address.port, timeout=900)
    connection.request("POST", "/api/plugin/jobs/execute", json.dumps(document), {"Content-Type": "application/json"})
    connection.getresponse().read()


def _outcome(admin: Admin, job_ids: set[str]) -> set[str]:
    """How all these jobs ended; empty while one has not."""
    states = [job["state"] for job in admin.get("/api/plugin/jobs") or [] if job["job_id"] in job_ids]
    done = [state for state in states if state in ("job_state_succeeded", "job_state_failed")]
    return set(done) if len(done) == len(job_ids) else set()
