"""Times the first start and later starts of the .pyz, for each interpreter given.

    python bench/start.py [python3.10 python3.11 ...]

A first start unpacks into an empty folder. Later ones are the median of fifteen whole processes that import the agent,
print its version and end, beside an interpreter that does nothing. Exits with 1 where a figure is missed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PYZ = Path(__file__).parents[1] / "dist" / "weed_worker.pyz"
FIRST, LATER = 1.5, 0.3
"""Seconds at most."""

TIMES = 15


def seconds(argv: list[str], cache: str) -> float:
    """How long a process takes."""
    began = time.monotonic()
    subprocess.run(argv, env={**os.environ, "WEED_WORKER_CACHE": cache}, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


def main() -> int:
    missed = False
    for python in sys.argv[1:] or [sys.executable]:
        isolated = [python, "-I", "-S", "-X", "utf8"]
        start = [*isolated, str(PYZ), "-version"]
        with tempfile.TemporaryDirectory() as cache:
            first = seconds(start, cache)
            later = statistics.median(seconds(start, cache) for _ in range(TIMES))
            bare = statistics.median(seconds([*isolated, "-c", ""], cache) for _ in range(TIMES))
        print(f"{python}: first {first:.2f} s, later {later:.2f} s, of which the interpreter {bare:.2f} s", flush=True)
        missed |= first > FIRST or later > LATER
    print("missed" if missed else "all figures reached")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
