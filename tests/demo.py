"""`make demo`: a cluster gets garbage and an unfair share of volumes, the .pyz puts it right, and all is checked.

    python -m tests.demo dist/weed_worker.pyz       the sandbox; real SeaweedFS where WEED=/path/to/weed

Exit status 0 only if the tasks ran, the garbage is gone, the servers are level and every file reads back byte for byte.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from proto_gen import worker_pb2
from tests.support import eventually
from tests.support.cluster import Admin, Cluster, Files, Kind, real_kinds, start_cluster
from weed_sandbox.launcher import Launcher

SHARES = (7, 1, 1)  # volumes by server
VOLUMES = sum(SHARES)
PATIENCE = 240.0  # seconds for all tasks: what a vacuum has just written refuses writes for a minute before it moves


def say(text: str) -> None:
    print(text, flush=True)


def prepare(cluster: Cluster) -> Files:
    """Fill volumes, most of them on one server, and delete most of what they hold.

    Every server gets one: classic admins do not see servers that hold no volume.
    """
    files = Files()
    for server, volumes in zip(cluster.servers, SHARES):
        files.update(cluster.fill(count=30, size=(1_000, 90_000), volumes=volumes, servers=[server]))
    for volume_id in files.volume_ids:
        doomed = files.of(volume_id)[:20]
        cluster.delete(doomed)
        for fid in doomed:
            del files[fid]
            files.deleted.add(fid)
    cluster.settle()
    return files


def level(cluster: Cluster) -> Counter[str]:
    """Volumes by server, servers without any included."""
    found = Counter({str(server.address): 0 for server in cluster.servers})
    for replicas in cluster.topology().volumes.values():
        found.update(str(replica.server) for replica in replicas)
    return found


def used(cluster: Cluster) -> int:
    """Bytes of all .dat files."""
    return sum(path.stat().st_size for server in cluster.servers for path in server.directory.rglob("*.dat"))


def configure_classic(directory: Path) -> None:
    """Let a classic admin find young garbage too; it reads this once, at its start."""
    conf = directory / "conf"
    conf.mkdir(parents=True)
    vacuum = worker_pb2.VacuumTaskConfig(garbage_threshold=0.3, min_volume_age_hours=0, min_interval_seconds=1)
    balance = worker_pb2.BalanceTaskConfig(imbalance_threshold=0.2, min_server_count=2)
    for name, policy in (
        ("vacuum", worker_pb2.TaskPolicy(enabled=True, max_concurrent=2, vacuum_config=vacuum)),
        ("balance", worker_pb2.TaskPolicy(enabled=True, max_concurrent=2, balance_config=balance)),
    ):
        (conf / f"task_{name}.pb").write_bytes(policy.SerializeToString())


def work_plugin(cluster: Cluster, admin: Admin) -> None:
    """Ask the admin to run both job types now, and tell what it says of them."""
    eventually(lambda: admin.get("/api/plugin/workers"), 30)
    for job_type in ("vacuum", "volume_balance"):
        eventually(lambda job_type=job_type: admin.post(f"/api/plugin/job-types/{job_type}/schema"), 30)  # type: ignore[misc]
        if job_type == "volume_balance":
            # Nobody but the demonstration writes here, so no client can still hold a file id of a volume that moves.
            admin.configure(job_type, min_frozen_seconds=0)
        told = admin.post(f"/api/plugin/job-types/{job_type}/run", {"timeout_seconds": int(PATIENCE)})
        say(f"  {job_type}: {told['detected_count']} found, {told['success_count']} done, {told['error_count']} failed")
        cluster.settle()


def work_classic(cluster: Cluster, admin: Admin) -> None:
    """Let the admin scan until there is nothing left to do."""
    eventually(lambda: admin.get("/api/maintenance/workers"), 30)
    time.sleep(2.5)  # a real admin starts its maintenance two seconds after itself
    end = time.monotonic() + PATIENCE
    if cluster.era == "4.13":
        say("  (a 4.13 admin assigns vacuum tasks only after a restart, so it is restarted after each scan)")
    while time.monotonic() < end and not is_right(cluster):
        admin.post("/api/maintenance/scan")
        time.sleep(3)
        if cluster.era == "4.13":
            admin.stop()
            admin.start()
            eventually(lambda: serves(admin), 60)
            time.sleep(8)
        eventually(lambda: not any(task["status"] in ("assigned", "in_progress") for task in tasks(admin)), 60)
    say(
        "  "
        + ", ".join(f"{n} {what}" for what, n in Counter(f"{t['type']} {t['status']}" for t in tasks(admin)).items())
    )


def serves(admin: Admin) -> bool:
    try:
        return bool(admin.get("/api/maintenance/workers"))
    except OSError:
        return False


def tasks(admin: Admin) -> list[dict[str, str]]:
    """The admin's tasks. N.B. a 4.13 admin answers 500 now and then, while a task changes."""
    for _try in range(4):
        try:
            return list(admin.get("/api/maintenance/tasks") or [])
        except AssertionError:
            time.sleep(0.5)
    return list(admin.get("/api/maintenance/tasks") or [])


def is_right(cluster: Cluster) -> bool:
    """No volume holds much garbage, and no server holds two volumes more than another."""
    volumes = cluster.topology().volumes.values()
    counts = level(cluster).values()
    return all(replica.garbage_ratio < 0.3 for replicas in volumes for replica in replicas) and (
        max(counts) - min(counts) <= 1
    )


def run(kind: Kind, pyz: Path, directory: Path) -> bool:
    """Do all of it; True if everything came out right."""
    launcher = Launcher()
    worker = None
    started = time.monotonic()
    try:
        say(f"starting {(kind.binary and 'SeaweedFS ' + kind.era) or 'the sandbox'}: a master, three volume servers")
        cluster = start_cluster(kind, launcher, directory / "cluster")
        files = prepare(cluster)
        say(f"{len(files) + len(files.deleted)} files written into {VOLUMES} volumes, {len(files.deleted)} deleted")
        before = used(cluster)
        say(f"before: {before:,} bytes; volumes " + ", ".join(f"{k}: {n}" for k, n in level(cluster).items()))
        classic = cluster.era != "4.44"
        if classic:
            configure_classic(cluster.directory / "admin0")
        admin = cluster.start_admin()
        home = directory / "worker"
        home.mkdir()
        argv = [sys.executable, str(pyz), f"-admin={admin.address}", f"-workingDir={home}", "-taskInterval=500ms"]
        say("starting " + " ".join(["weed_worker.pyz", *argv[2:3], "-taskInterval=500ms"]))
        with (directory / "worker.log").open("wb") as log:
            worker = subprocess.Popen(argv, stderr=log, stdout=log, stdin=subprocess.DEVNULL)
        (work_classic if classic else work_plugin)(cluster, admin)
        eventually(lambda: is_right(cluster), 30)
        after = used(cluster)
        say(f"after: {after:,} bytes; volumes " + ", ".join(f"{k}: {n}" for k, n in level(cluster).items()))
        cluster.check(files)
        say(f"all {len(files)} files read back byte for byte, {len(files.deleted)} deleted ones are gone")
        worker.terminate()
        status = worker.wait(60)
        say(f"the worker left with status {status}; {time.monotonic() - started:.0f} s in all")
        return status == 0 and after < before / 2
    finally:
        if worker is not None and worker.poll() is None:
            worker.kill()
        launcher.close()
        if (directory / "worker.log").exists():
            lines = (directory / "worker.log").read_text(errors="replace").splitlines()
            say("what the worker said:")
            for line in lines:
                say(f"  | {line}")


def main(argv: list[str]) -> int:
    """Run the demonstration for the sandbox, or for each binary that WEED names."""
    pyz = Path(argv[0]).resolve()
    ok = True
    for kind in real_kinds() or [Kind()]:
        with tempfile.TemporaryDirectory(prefix="weed_worker_demo") as directory:
            ok = run(kind, pyz, Path(directory)) and ok
    say("demo passed" if ok else "demo FAILED")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
