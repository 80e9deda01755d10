"""Compares what this worker and `weed worker` take of a host, connected and idle, and at work, in one run.

    WEED=/path/to/weed python bench/agent.py [--seconds=60]

Each has a cluster and a real `weed admin` of its own, one after the other, the same nine vacuums, given by the
admin. Without WEED this worker is measured alone, on the sandbox. Exits with 1 where a bound is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests import demo  # noqa: E402
from tests.support import eventually  # noqa: E402
from tests.support.cluster import Kind, real_kinds, start_cluster  # noqa: E402
from weed_sandbox.launcher import Launcher  # noqa: E402

IDLE_MB, IDLE_CPU, START = 64.0, 0.5, 1.0
"""Bounds: resident megabytes idle, CPU seconds of an idle minute, seconds from a warm start to registered."""


@dataclass
class Cost:
    """What one worker took: seconds to register, megabytes idle and at most, CPU seconds a minute idle, at work."""

    start: float
    idle_mb: float
    idle_cpu: float
    work_mb: float
    work_cpu: float

    def __str__(self) -> str:
        return (
            f"registered after {self.start:.2f} s   idle {self.idle_mb:.0f} MB, {self.idle_cpu:.2f} s cpu a minute"
            f"   at work {self.work_mb:.0f} MB, {self.work_cpu:.2f} s cpu"
        )


def memory(pid: int, field: str) -> float:
    """A figure of the process's memory in megabytes: VmRSS now, VmHWM at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def cpu(pid: int) -> float:
    """CPU seconds so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(name: str, kind: Kind, launcher: Launcher, directory: Path, seconds: float) -> Cost:
    """Start a cluster and one worker, let it idle, then work."""
    cluster = start_cluster(kind, launcher, directory / "cluster")
    try:
        files = demo.prepare(cluster)
        admin = cluster.start_admin()
        home = directory / "home"
        home.mkdir()
        common = [f"-admin={admin.address}", f"-workingDir={home}"]
        ours = [sys.executable, str(ROOT / "weed_worker.py"), *common, "-heartbeat=15s", "-maxConcurrent=4"]
        go = [kind.binary, "worker", *common, "-jobType=vacuum,volume_balance,erasure_coding", "-maxExecute=4"]
        began = time.monotonic()
        pid = launcher.start(ours if name == "ours" else go, home, directory / "log")
        eventually(lambda: admin.get("/api/plugin/workers"), 30, pause=0.01)
        start = time.monotonic() - began
        time.sleep(5)  # until it has told its forms and come to rest
        before = cpu(pid)
        time.sleep(seconds)
        idle_mb, idle_cpu = memory(pid, "VmRSS"), (cpu(pid) - before) * 60 / seconds
        before = cpu(pid)
        admin.post("/api/plugin/job-types/vacuum/run", {"timeout_seconds": 25})
        cost = Cost(start, idle_mb, idle_cpu, memory(pid, "VmHWM"), cpu(pid) - before)
        os.kill(pid, signal.SIGKILL)
        cluster.check(files)
        return cost
    finally:
        cluster.close()
        shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to watch the idle worker")
    seconds = parser.parse_args().seconds
    kinds = [kind for kind in real_kinds() if kind.era == "4.44"] or [Kind()]
    launcher = Launcher()
    costs: dict[str, Cost] = {}
    try:
        for name in ("go", "ours") if kinds[0].binary else ("ours",):
            with tempfile.TemporaryDirectory(prefix="bench_agent") as directory:
                costs[name] = measure(name, kinds[0], launcher, Path(directory, name), seconds)
            print(f"{name:5} {costs[name]}", flush=True)
    finally:
        launcher.close()
    ours = costs["ours"]
    if "go" in costs:
        go = costs["go"]
        ratios = {
            "idle memory": ours.idle_mb / go.idle_mb,
            "idle cpu": ours.idle_cpu / max(go.idle_cpu, 0.01),
            "memory at work": ours.work_mb / go.work_mb,
            "cpu at work": ours.work_cpu / max(go.work_cpu, 0.01),
        }
        print("ratio ours/go: " + ", ".join(f"{what} {ratio:.2f}" for what, ratio in ratios.items()))
    held = ours.idle_mb <= IDLE_MB and ours.idle_cpu <= IDLE_CPU and ours.start <= START
    print("bounds held" if held else f"bounds MISSED: {IDLE_MB:.0f} MB, {IDLE_CPU} s cpu a minute, {START} s to start")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
