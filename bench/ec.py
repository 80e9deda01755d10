"""Encodes volumes over five servers, this worker and `weed worker` one after the other, and compares what it took.

    WEED=/path/to/weed python bench/ec.py [--size-mb=1000] [--volumes=2] [--workers=go,ours,remote]

All get the same jobs, all at once, from a real `weed admin`, on a fresh cluster of real servers. "ours" has its
defaults, so it reads the volumes from this host's files; "remote" is this worker with -dataDir=none, as on a host that
has none of the volumes. Without WEED the sandbox is encoded by this worker alone, which says nothing about speed but
everything about memory and disk. Exits with 1 where "ours" misses a figure.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.client
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from proto_gen.worker_pb2 import ErasureCodingTaskParams, TaskParams, TaskSource, TaskTarget  # noqa: E402
from tests.support import eventually  # noqa: E402
from tests.support.cluster import Admin, Cluster, Files, Kind, real_kinds, start_cluster  # noqa: E402
from weed_sandbox.launcher import Launcher  # noqa: E402

SERVERS = 5
LIMITS = {"wall": 0.6, "cpu": 0.4}
"""The most of the Go worker's that ours may take."""

RESIDENT_MB, WRITTEN_MB = 160, 1
NEEDLE = 4_000_000  # bytes


@dataclass
class Cost:
    """What one worker took: seconds, seconds, and bytes."""

    wall: float
    cpu: float
    resident: int
    written: int

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


def worker_argv(name: str, binary: str, admin: Admin, directory: Path) -> list[str]:
    """The command line of a worker that encodes and does nothing else."""
    address = admin.address.http
    if name == "go":
        jobs = ["-jobType=erasure_coding", "-maxExecute=4"]
        return [binary, "worker", f"-admin={address}", *jobs, f"-workingDir={directory}"]
    jobs = ["-capabilities=erasure_coding", "-maxConcurrent=4"]
    jobs += ["-dataDir=none"] if name == "remote" else []
    return [sys.executable, str(ROOT / "weed_worker.py"), f"-admin={address}", *jobs, f"-workingDir={directory}"]


def order(cluster: Cluster, volume_id: int, size: int) -> dict[str, Any]:
    """The job that admin gives for a volume: shards in turn over all servers."""
    (source,) = cluster.locations(volume_id)
    params = TaskParams(
        task_id=f"ec_{volume_id}",
        volume_id=volume_id,
        volume_size=size,
        sources=[TaskSource(node=str(source.address), volume_id=volume_id)],
        targets=[
            TaskTarget(node=str(server.address), shard_ids=range(at, 14, SERVERS))
            for at, server in enumerate(cluster.servers)
        ],
        erasure_coding_params=ErasureCodingTaskParams(data_shards=10, parity_shards=4, encode_ts_ns=time.time_ns()),
    )
    blob = base64.b64encode(params.SerializeToString()).decode()
    job = {
        "job_id": f"ec_{volume_id}",
        "job_type": "erasure_coding",
        "parameters": {
            "task_params_pb": {"bytes_value": blob},
            "volume_id": {"int64_value": str(volume_id)},
            "estimated_runtime_seconds": {"int64_value": "600"},
        },
    }
    return {"job": job, "timeout_seconds": 590}


def give(admin: Admin, document: dict[str, Any]) -> None:
    """Hand a job over and stay on the line: the admin cancels the job of a client that hangs up."""
    connection = http.client.HTTPConnection(admin.address.host, admin.address.port, timeout=900)
    connection.request("POST", "/api/plugin/jobs/execute", json.dumps(document), {"Content-Type": "application/json"})
    connection.getresponse().read()


def outcome(admin: Admin, count: int) -> set[str]:
    """How all jobs ended; empty while one has not."""
    states = [job["state"] for job in admin.get("/api/plugin/jobs") or [] if job["job_id"].startswith("ec_")]
    done = [state for state in states if state in ("job_state_succeeded", "job_state_failed")]
    return set(done) if len(done) == count else set()


def measure(name: str, kind: Kind, launcher: Launcher, directory: Path, volumes: int, megabytes: int) -> Cost:
    """Make a cluster, fill it, let one worker encode all volumes at once, and see that the files read back."""
    cluster = start_cluster(
        kind, launcher, directory / "cluster", servers=SERVERS, volume_size_limit_mb=megabytes + 200
    )
    try:
        files = Files()
        for at in range(volumes):
            filled = cluster.fill(
                count=megabytes * 1_000_000 // NEEDLE, size=NEEDLE, servers=[cluster.servers[at % SERVERS]]
            )
            files.update(filled)
        admin = cluster.start_admin()
        working = directory / f"worker-{name}"
        working.mkdir()
        log = directory / f"{name}.log"
        pid = launcher.start(worker_argv(name, kind.binary, admin, working), directory, log)
        eventually(lambda: admin.get("/api/plugin/workers"), timeout=30)
        time.sleep(2.0)  # until it has told its descriptors
        orders = [order(cluster, volume_id, megabytes << 20) for volume_id in files.volume_ids]
        os.sync()  # a volume that is encoded has been on disk for long; else both would wait for the files just made
        meter = Meter(pid)
        cpu, written, began = meter.cpu(), meter.written(), time.monotonic()
        for document in orders:
            threading.Thread(target=give, args=(admin, document), daemon=True).start()
        ended = eventually(lambda: outcome(admin, len(orders)), timeout=900, pause=0.1)
        cost = Cost(time.monotonic() - began, meter.cpu() - cpu, meter.resident(), meter.written() - written)
        os.kill(pid, signal.SIGKILL)
        if ended != {"job_state_succeeded"}:
            sys.exit(f"{name}: {ended}\n{log.read_text()[-3000:]}")
        left = [name for server in cluster.servers for name in server.files("*.dat")]
        if left:
            sys.exit(f"{name} left {left}\n{log.read_text()[-3000:]}")
        for fid in list(files)[::25]:
            got = hashlib.sha256(cluster.read(fid)).hexdigest()
            assert got == files[fid], f"{fid} reads back otherwise after {name}"
        return cost
    finally:
        cluster.close()
        shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size-mb", type=int, default=1000)
    parser.add_argument("--volumes", type=int, default=2)
    parser.add_argument("--workers", default="go,ours,remote")
    wishes = parser.parse_args()
    kinds = [kind for kind in real_kinds() if kind.era == "4.44"]
    kind = kinds[0] if kinds else Kind()
    names = wishes.workers.split(",") if kinds else ["ours", "remote"]
    print(f"{wishes.volumes} volumes of {wishes.size_mb} MB over {SERVERS} servers ({kind})", flush=True)
    launcher = Launcher()
    costs: dict[str, Cost] = {}
    try:
        for name in names:
            directory = Path(tempfile.mkdtemp(prefix=f"bench-ec-{name}-"))
            costs[name] = measure(name, kind, launcher, directory, wishes.volumes, wishes.size_mb)
            print(f"{name:6} {costs[name]}", flush=True)
    finally:
        launcher.close()
    missed = []
    ours, go = costs.get("ours"), costs.get("go")
    if ours and go:
        for what, limit in LIMITS.items():
            ratio = getattr(ours, what) / getattr(go, what)
            remote = f"; {getattr(costs['remote'], what) / getattr(go, what):.2f} remote" if "remote" in costs else ""
            print(f"{what}: {ratio:.2f} of the Go worker's, at most {limit}{remote}")
            missed += [what] if ratio > limit else []
    if ours and ours.resident > RESIDENT_MB << 20:
        missed.append("resident")
    if ours and ours.written > WRITTEN_MB << 20:
        missed.append("disk written")
    print(f"missed: {', '.join(missed)}" if missed else "all figures reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
