"""Run the tests, several files at a time: `python -m tests [-n PROCESSES] [--allow-flaky] [pytest arguments]`.

Most tests wait for servers, so three times as many processes as cores keep the cores busy. Each file is a pytest
process of its own, with clusters of its own on ports of its own, and so is all of tests/pure, which starts no servers;
pytest-xdist cannot be used beside gevent. What failed is run once more, alone, which tells what is flaky from what is
broken. Both are failures: only --allow-flaky ends with 0 where all that failed passed then.
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
    "test_ec_repair_killed.py",
    "test_move.py",
    "pure",
    "test_erasure_coding_killed.py",
    "test_erasure_coding_faults.py",
    "test_ec_balance.py",
    "test_ec_repair.py",
    "test_holds.py",
    "test_slow_links.py",
    "test_deliver.py",
    "test_delete_empty.py",
    "test_run.py",
    "test_erasure_coding.py",
    "test_vacuum.py",
    "test_remote_upload.py",
    "test_agent.py",
    "test_agent_hardship.py",
    "test_agent_erasure_coding.py",
    "test_agent_replication_remote.py",
    "test_start.py",
    "test_works.py",
    "test_sandbox_is_true.py",
    "test_replication_broken.py",
    "test_doctor.py",
)
"""The files that take longest; they must not be the last to begin."""

TOGETHER = ("tests/pure",)
"""Folders of tests that start no servers: a process each, since starting one costs more than most of their files."""

FILES = sorted((ROOT / "tests").glob("**/test_*.py"))

ENDED = re.compile(r"^(?:=+ )?((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s")
NO_TESTS = 5  # pytest's exit status where every test of a file was deselected


class Run:
    """One run over all files."""

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []
        self.broken: list[str] = []  # of those, the ones that failed alone, too
        self._files: SimpleQueue[Path] = SimpleQueue()
        self._lock = threading.Lock()
        found = {next((ROOT / one for one in TOGETHER if ROOT / one in path.parents), path) for path in FILES}
        names = list(FIRST)
        for path in sorted(
            found, key=lambda path: (names.index(path.name) if path.name in names else len(names), path)
        ):
            self._files.put(path)

    def work(self) -> None:
        """Run file after file until none is left."""
        while True:
            try:
                path = self._files.get_nowait()
            except Empty:
                return
            name = str(path.relative_to(ROOT))
            if not self._passes(name, self.counts):
                self.failed.append(name)

    def again(self) -> None:
        """Run what failed once more, alone; that changes no count."""
        for name in self.failed:
            print(f"once more, alone: {name}", flush=True)
            if not self._passes(name, Counter()):
                self.broken.append(name)

    def _passes(self, path: str, counts: Counter[str]) -> bool:
        started = time.monotonic()
        command = [sys.executable, "-m", "pytest", path, *self.arguments]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with self._lock:
            last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
            counted = ENDED.search(last)
            for number, what in re.findall(r"(\d+) ([a-z]+)", counted[1]) if counted else ():
                counts[what.rstrip("s") if what in ("errors", "warnings") else what] += int(number)
            print(f"{path} {counted[1] if counted else last} ({time.monotonic() - started:.0f} s)", flush=True)
            passed = done.returncode in (0, NO_TESTS)
            if not passed:
                print(done.stdout, flush=True)
        return passed


def main(arguments: list[str]) -> int:
    """Run everything; 0 if all passed at once."""
    started = time.monotonic()
    processes = 3 * (os.cpu_count() or 1)
    allow_flaky = "--allow-flaky" in arguments
    arguments = [word for word in arguments if word != "--allow-flaky"]
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
        print(f"FAILED {path}" + ("" if path in run.broken else " (it passed when run alone)"))
    failed = max(run.counts["failed"] + run.counts["error"], len(run.failed))  # a file may die before it counts
    print(f"real SeaweedFS took part: {os.environ.get('WEED') or 'no; WEED names no binary'}")
    print(f"all files in {time.monotonic() - started:.0f} s")
    print(f"{run.counts['passed']} passed, {failed} failed, {run.counts['skipped']} skipped")
    return 1 if run.broken or (run.failed and not allow_flaky) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
