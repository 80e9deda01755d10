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
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from through_admin import Cost, go_worker, our_worker, work_off  # noqa: E402

from proto_gen.worker_pb2 import ErasureCodingTaskParams, TaskParams, TaskSource, TaskTarget  # noqa: E402
from tests.support.cluster import Cluster, Files, Kind, real_kinds, start_cluster  # noqa: E402
from weed_sandbox.launcher import Launcher  # noqa: E402

SERVERS = 5
LIMITS = {"wall": 0.6, "cpu": 0.4}
"""The most of the Go worker's that ours may take."""

RESIDENT_MB, WRITTEN_MB = 160, 1
NEEDLE = 4_000_000  # bytes


def worker_argv(name: str, binary: str) -> list[str]:
    """The command line of a worker that encodes and does nothing else."""
    if name == "go":
        return go_worker(binary, "erasure_coding", 4)
    return our_worker(ROOT / "weed_worker.py", "erasure_coding", 4) + (["-dataDir=none"] if name == "remote" else [])


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
        orders = [order(cluster, volume_id, megabytes << 20) for volume_id in files.volume_ids]
        cost = work_off(name, worker_argv(name, kind.binary), admin, launcher, directory, orders, timeout=900)
        left = [name for server in cluster.servers for name in server.files("*.dat")]
        if left:
            sys.exit(f"{name} left {left}\n{(directory / f'{name}.log').read_text()[-3000:]}")
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
