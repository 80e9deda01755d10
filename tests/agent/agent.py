"""The agent as a process: started with flags, watched by its log lines, ended by signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.support import eventually
from tests.support.cluster import Admin

PROGRAM = Path(__file__).parents[2] / "weed_worker.py"
QUICK = ("-heartbeat=300ms", "-taskInterval=200ms", "-reconnect=300ms", "-v=3")


class Agent:
    """One worker process. `WEED_WORKER` in the environment names a .pyz to run instead of the source."""

    def __init__(self, working_dir: Path, *flags: str) -> None:
        working_dir.mkdir(parents=True, exist_ok=True)
        self.working_dir = working_dir
        self.log = working_dir / "agent.log"
        program = os.environ.get("WEED_WORKER", str(PROGRAM))
        argv = [sys.executable, program, f"-workingDir={working_dir}", *QUICK, *flags]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, stderr=log, stdout=log, stdin=subprocess.DEVNULL)

    @property
    def text(self) -> str:
        """All log lines so far."""
        return self.log.read_text(errors="replace")

    def says(self, pattern: str, timeout: float = 20.0) -> str:
        """Wait for a log line that matches and return it."""

        def found() -> str | None:
            match = re.search(f"^.*{pattern}.*$", self.text, re.M)
            if match is None and self.process.poll() is not None:
                raise AssertionError(f"the agent ended with {self.process.returncode}: {self.text[-3000:]}")
            return match[0] if match else None

        try:
            return str(eventually(found, timeout))
        except AssertionError as error:
            raise AssertionError(f"the agent never said {pattern!r}: {self.text[-3000:]}") from error

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the end; return the exit status."""
        return self.process.wait(timeout)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


def flags_for(admin: Admin) -> str:
    """The flag that points an agent at an admin."""
    return f"-admin={admin.address}"
