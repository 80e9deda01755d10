"""Run the tests, several files at a time: `python -m tests [-n PROCESSES] [pytest arguments]`.

Most tests wait for servers, so twice as many processes as cores keep the cores busy. Each file is a pytest process of
its own, with clusters of its own on ports of its own; pytest-xdist cannot be used beside gevent. A file that failed is
run once more, alone: what passes then failed for want of the machine, and is named as such.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from queue import Empty, SimpleQueue

ROOT = Path(__file__).resolve().parents[1]
FIRST = (
    "test_erasure_coding.py",
    "test_erasure_coding_faults.py",
    "test_ec_balance.py",
    "test_sandbox_is_true.py",
    "test_erasure_coding_killed.py",
    "test_move.py",
    "test_vacuum.py",
    "test_replication_broken.py",
    "test_agent.py",
    "test_start.py",
    "test_agent_erasure_coding.py",
    "test_remote_upload.py",
)
"""The files that take longest; they must not be the last to begin."""

ENDED = re.compile(r"^(?:=+ )?((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s")
NO_TESTS = 5  # pytest's exit status where every test of a file was deselected


class Run:
    """One run over all files."""

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []
        self._files: SimpleQueue[Path] = SimpleQueue()
        self._lock = threading.Lock()
        names = list(FIRST)
        found = sorted((ROOT / "tests").glob("*/test_*.py"), key=lambda path: (path.name not in names, path))
        for path in sorted(found, key=lambda path: names.index(path.name) if path.name in names else len(names)):
            self._files.put(path)

    def work(self) -> None:
        """Run file after file until none is left."""
        while True:
            try:
                path = self._files.get_nowait()
            except Empty:
                return
            self._run(path.relative_to(ROOT))

    def again(self) -> None:
        """Run what failed once more, alone."""
        failed, self.failed = self.failed, []
        for path in failed:
            print(f"once more, alone: {path}", flush=True)
            self._run(Path(path))
            if path not in self.failed:
                print(f"{path} passed only when run alone", flush=True)

    def _run(self, path: Path) -> None:
        started = time.monotonic()
        command = [sys.executable, "-m", "pytest", str(path), *self.arguments]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with self._lock:
            last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
            counted = ENDED.search(last)
            for number, what in re.findall(r"(\d+) ([a-z]+)", counted[1]) if counted else ():
                self.counts[what.rstrip("s") if what in ("errors", "warnings") else what] += int(number)
            print(f"{path} {counted[1] if counted else last} ({time.monotonic() - started:.0f} s)", flush=True)
            if done.returncode not in (0, NO_TESTS):
                self.failed.append(str(path))
                print(done.stdout, flush=True)


def main(arguments: list[str]) -> int:
    """Run everything; 0 if all passed."""
    processes = 2 * (os.cpu_count() or 1)
    if arguments[:1] == ["-n"]:
        processes, arguments = int(arguments[1]), arguments[2:]
    run = Run(arguments)
    threads = [threading.Thread(target=run.work) for _ in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.again()
    for path in run.failed:
        print(f"FAILED {path}")
    print(f"{run.counts['passed']} passed, {len(run.failed)} failed, {run.counts['skipped']} skipped")
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
