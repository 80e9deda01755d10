"""The one-shot commands as a process: run to their end, or watched while they run, with or without a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import eventually
from tests.support.cluster import Cluster

PROGRAM = Path(__file__).parents[2] / "weed_worker.py"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """What it answered in JSON."""
        return json.loads(self.out)


class Console:
    """Commands on one cluster, keeping their journal in one directory."""

    def __init__(self, cluster: Cluster | None, directory: Path) -> None:
        self.directory = directory
        self.environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
        self.environment |= {"HOME": str(directory / "home"), "TERM": "xterm-256color"}
        self._flags = [f"-master={cluster.master}"] if cluster else []
        directory.mkdir(parents=True, exist_ok=True)

    def argv(self, *words: str) -> list[str]:
        """The command line; `WEED_WORKER` in the environment names a .pyz to run instead of the source."""
        own = [f"-workingDir={self.directory}"] if words[0] in ("run", "undo", "doctor") else []
        return [sys.executable, os.environ.get("WEED_WORKER", str(PROGRAM)), words[0], *self._flags, *own, *words[1:]]

    def run(self, *words: str, timeout: float = 60.0) -> Ended:
        """Run a command to its end, without a terminal."""
        done = subprocess.run(
            self.argv(*words),
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str) -> Running:
        """Start a command without a terminal."""
        process = subprocess.Popen(
            self.argv(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=self.environment,
            cwd=self.directory,
        )
        assert process.stdout is not None
        return Running(process, process.stdout.fileno())

    def start_on_terminal(self, *words: str, columns: int = 80) -> Running:
        """Start a command on a terminal of this width."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        process = subprocess.Popen(
            self.argv(*words),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=self.environment,
            cwd=self.directory,
            start_new_session=True,
        )
        os.close(theirs)
        return Running(process, ours)


class Running:
    """A command under way."""

    def __init__(self, process: subprocess.Popen[bytes], output: int) -> None:
        self.process = process
        self.raw = ""
        self._output = output
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            select.select([self._output], [], [])  # os.read() alone would hold up every greenlet of the test
            try:
                data = os.read(self._output, 65536)
            except OSError:  # the terminal's other side is closed
                return
            if not data:
                return
            self.raw += data.decode(errors="replace")

    @property
    def text(self) -> str:
        """All output so far, without escape sequences."""
        return ESCAPE.sub("", self.raw)

    def says(self, pattern: str, timeout: float = 30.0) -> str:
        """Wait for text that matches."""

        def found() -> str | None:
            match = re.search(pattern, self.text)
            if match is None and self.process.poll() is not None and not self._reader.is_alive():
                raise AssertionError(f"it ended with {self.process.returncode} and said:\n{self.text[-3000:]}")
            return match[0] if match else None

        try:
            return str(eventually(found, timeout))
        except AssertionError as error:
            raise AssertionError(f"it never said {pattern!r}, but:\n{self.text[-3000:]}") from error

    def type(self, text: str) -> None:
        """Type on its terminal."""
        os.write(self._output, text.encode())

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for the end; return the exit status."""
        status = self.process.wait(timeout)
        self._reader.join(5)
        return status

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
