"""Vacuums small volumes, this worker and `weed worker` one after the other, and compares the CPU time that it took.

    make pyz; WEED=/path/to/weed python bench/vacuum.py [--volumes=9] [--files=100] [--size-kb=100] [--workers=go,ours]

Both get the same jobs, all at once, from a real `weed admin`, on a fresh cluster of real servers. Go's worker has the
servers compact and commit, and believes them; this one compares the new index with the old one before the commit,
and reads needles back after it. Measured are whole processes, from their start until the last volume is done. Exits
with 1 where that costs more than three times the CPU time.
"""

from __future__ import annotations

import argparse
import base64
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from through_admin import go_worker, our_worker, work_off  # noqa: E402

from proto_gen.worker_pb2 import TaskParams, TaskSource, VacuumTaskParams  # noqa: E402
from tests.support.cluster import Cluster, Files, Kind, real_kinds, start_cluster  # noqa: E402
from weed_sandbox.launcher import Launcher  # noqa: E402

SERVERS = 3
LIMIT = 3.0
"""The most of the Go worker's CPU time that ours may take."""

GARBAGE = 0.4  # the share of files that is deleted


def order(cluster: Cluster, volume_id: int) -> dict[str, Any]:
    """The job that admin gives for a volume."""
    (server,) = cluster.locations(volume_id)
    params = TaskParams(
        task_id=f"vacuum_{volume_id}",
        volume_id=volume_id,
        sources=[TaskSource(node=str(server.address), volume_id=volume_id)],
        vacuum_params=VacuumTaskParams(garbage_threshold=0.3, verify_checksum=True),
    )
    job = {
        "job_id": f"vacuum_{volume_id}",
        "job_type": "vacuum",
        "parameters": {
            "task_params_pb": {"bytes_value": base64.b64encode(params.SerializeToString()).decode()},
            "volume_id": {"int64_value": str(volume_id)},
            "server": {"string_value": str(server.address)},
        },
    }
    return {"job": job, "timeout_seconds": 300}


def worker_argv(name: str, binary: str) -> list[str]:
    """The command line of a worker that vacuums and does nothing else."""
    if name == "go":
        return go_worker(binary, "vacuum", 16)
    # What operators run: its modules are compiled already.
    return our_worker(ROOT / "dist" / "weed_worker.pyz", "vacuum", 16)


def measure(name: str, kind: Kind, launcher: Launcher, directory: Path, wishes: argparse.Namespace) -> float:
    """Return the seconds of CPU time of one worker from its start until all volumes, which read back, are vacuumed."""
    cluster = start_cluster(kind, launcher, directory / "cluster", servers=SERVERS)
    try:
        files = Files()
        for at in range(wishes.volumes):
            filled = cluster.fill(wishes.files, wishes.size_kb << 10, servers=[cluster.servers[at % SERVERS]])
            files.update(filled)
            cluster.delete(list(filled)[: int(wishes.files * GARBAGE)])
            for fid in filled.deleted:
                files.pop(fid)
            files.deleted |= filled.deleted
        admin = cluster.start_admin()
        orders = [order(cluster, volume_id) for volume_id in files.volume_ids]
        cost = work_off(name, worker_argv(name, kind.binary), admin, launcher, directory, orders, timeout=300)
        cluster.check(files)
        folders = [folder for server in cluster.servers for folder in server.data_dirs]
        left = sum(path.stat().st_size for folder in folders for path in folder.glob("*.dat"))
        cpu = cost.before + cost.cpu
        print(
            f"{name:6} cpu {cpu:6.2f} s, {cost.before:.2f} s of it before the first job   wall {cost.wall:6.2f} s"
            f"   {left / 2**20:.0f} MiB left in .dat",
            flush=True,
        )
        return cpu
    finally:
        cluster.close()
        shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=int, default=9)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--size-kb", type=int, default=100)
    parser.add_argument("--workers", default="go,ours")
    wishes = parser.parse_args()
    kinds = [kind for kind in real_kinds() if kind.era == "4.44"]
    if not kinds:
        sys.exit("bench/vacuum.py needs real SeaweedFS 4.44: WEED=/path/to/weed")
    print(f"{wishes.volumes} volumes of {wishes.files} files of {wishes.size_kb} KiB ({kinds[0]})", flush=True)
    launcher = Launcher()
    costs: dict[str, float] = {}
    try:
        for name in wishes.workers.split(","):
            directory = Path(tempfile.mkdtemp(prefix=f"bench-vacuum-{name}-"))
            costs[name] = measure(name, kinds[0], launcher, directory, wishes)
    finally:
        launcher.close()
    if len(costs) < 2:
        return 0
    ratio = costs["ours"] / costs["go"]
    print(f"cpu: {ratio:.2f} of the Go worker's, at most {LIMIT}")
    print("missed: cpu" if ratio > LIMIT else "all figures reached")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
