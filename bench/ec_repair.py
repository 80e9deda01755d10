"""Loses one shard of each of some volumes on five servers, and has weed shell and this worker restore it.

    WEED=/path/to/weed python bench/ec_repair.py [--size-mb=1000] [--volumes=2] [--workers=shell,ours]

Both get a cluster of the same kind, volumes of the same size, and the same shards lost; each is measured as a whole
process, `weed shell` with ec.rebuild -apply and `weed_worker.py run ec_repair`. Bytes are those that crossed the
loopback device, of a network namespace of this benchmark's own where it may have one (as root). Afterwards each shard
must be byte for byte what it was. Exits with 1 where ours misses a figure.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.cluster import Cluster, Kind, real_kinds, start_cluster  # noqa: E402
from tests.support.shards import digests, encoded, holder_of, settle, take  # noqa: E402
from weed_sandbox.launcher import Launcher  # noqa: E402

SERVERS = 5
COLLECTION = "bench"
NEEDLE = 4_000_000  # bytes
LIMITS = {"wall": 0.8, "sent": 11 / 13}
"""The most of weed shell's that ours may take."""

RESIDENT_MB, WRITTEN_MB = 160, 1
CONCURRENT = 1
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


@dataclass
class Cost:
    """What one took: seconds, seconds, and bytes."""

    wall: float
    cpu: float
    resident: int
    written: int
    sent: int

    def __str__(self) -> str:
        return (
            f"wall {self.wall:6.2f} s   cpu {self.cpu:6.2f} s   resident {self.resident / 2**20:5.0f} MB"
            f"   disk written {self.written / 2**20:6.1f} MB   over the network {self.sent / 2**20:7.1f} MB"
        )


def own_network() -> bool:
    """Go into a network namespace of our own, so that nothing else is counted; False where that is not allowed."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        return False
    with socket.socket() as any_socket:
        name = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack("16sh", fcntl.ioctl(any_socket, SIOCGIFFLAGS, name))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | IFF_UP))
    return True


def sent() -> int:
    """Bytes that crossed the loopback device up to now."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    return next(int(line.split(":")[1].split()[8]) for line in lines if line.strip().startswith("lo:"))


def largest(pid: int) -> int:
    """The most memory in bytes that a process has had; 0 where it is gone. (What wait4 tells begins with ours.)"""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) << 10
    return 0


def argv(name: str, cluster: Cluster, binary: str, directory: Path) -> tuple[list[str], str]:
    """The command, and what it is told on its stdin."""
    if name == "shell":
        orders = f"lock\nec.rebuild -collection {COLLECTION} -apply\nunlock\nexit\n"
        return [binary, "shell", f"-master={cluster.master}"], orders
    flags = ["-yes", "-set=min_fault_age_seconds=0", f"-workingDir={directory}", f"-concurrent={CONCURRENT}"]
    return [sys.executable, str(ROOT / "weed_worker.py"), "run", "ec_repair", f"-master={cluster.master}", *flags], ""


def restore(name: str, cluster: Cluster, binary: str, directory: Path) -> Cost:
    """Let one of them restore what is lost."""
    command, orders = argv(name, cluster, binary, directory)
    os.sync()
    before, began = sent(), time.monotonic()
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=directory)
        assert process.stdin is not None
        process.stdin.write(orders.encode())
        process.stdin.close()
        resident = 0
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            resident = largest(process.pid) or resident
            time.sleep(0.02)
        _pid, status, usage = ended
    cost = Cost(
        time.monotonic() - began,
        usage.ru_utime + usage.ru_stime,
        resident,
        usage.ru_oublock << 9,
        sent() - before,
    )
    if status:
        sys.exit(f"{name} ended with {status}\n{(directory / f'{name}.log').read_text()[-3000:]}")
    return cost


def measure(name: str, kind: Kind, launcher: Launcher, volumes: int, megabytes: int) -> Cost:
    """Make a cluster with encoded volumes, lose a shard of each, have it restored, and compare every shard."""
    directory = Path(tempfile.mkdtemp(prefix=f"bench-ec-repair-{name}-"))
    cluster = start_cluster(
        kind, launcher, directory / "cluster", servers=SERVERS, volume_size_limit_mb=megabytes + 200
    )
    cluster.options["sender_seconds"] = 0.0
    try:
        before = {}
        for _volume in range(volumes):
            _files, volume_id = encoded(cluster, COLLECTION, count=megabytes * 1_000_000 // NEEDLE, size=NEEDLE)
            before[volume_id] = digests(cluster, volume_id, COLLECTION)
        for at, volume_id in enumerate(before):
            take(cluster, volume_id, 3 + at, holder_of(cluster, volume_id, 3 + at), COLLECTION)
            settle(cluster, volume_id)
        working = directory / "working"
        working.mkdir()
        cost = restore(name, cluster, kind.binary, working)
        for volume_id, known in before.items():
            if digests(cluster, volume_id, COLLECTION) != known:
                sys.exit(
                    f"{name} left volume {volume_id} otherwise than it was\n{(working / f'{name}.log').read_text()}"
                )
        return cost
    finally:
        cluster.close()
        shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size-mb", type=int, default=1000)
    parser.add_argument("--volumes", type=int, default=2)
    parser.add_argument("--workers", default="shell,ours")
    wishes = parser.parse_args()
    kinds = [kind for kind in real_kinds() if kind.era == "4.44"]
    kind = kinds[0] if kinds else Kind()
    names = wishes.workers.split(",") if kinds else ["ours"]
    if not own_network():
        print("without a network namespace of its own: bytes of others are counted, too")
    print(
        f"one shard of each of {wishes.volumes} volumes of {wishes.size_mb} MB, {SERVERS} servers ({kind})", flush=True
    )
    launcher = Launcher()
    costs: dict[str, Cost] = {}
    try:
        for name in names:
            costs[name] = measure(name, kind, launcher, wishes.volumes, wishes.size_mb)
            print(f"{name:6} {costs[name]}", flush=True)
    finally:
        launcher.close()
    missed = []
    ours, shell = costs.get("ours"), costs.get("shell")
    for what, limit in LIMITS.items() if ours and shell else ():
        ratio = getattr(ours, what) / getattr(shell, what)
        print(f"{what}: {ratio:.2f} of weed shell's, at most {limit:.2f}")
        missed += [what] if ratio > limit else []
    if ours and ours.resident > RESIDENT_MB << 20:
        missed.append("resident")
    if ours and ours.written > WRITTEN_MB << 20:
        missed.append("disk written")
    print(f"missed: {', '.join(missed)}" if missed else "all figures reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
