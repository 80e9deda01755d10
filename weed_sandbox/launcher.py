"""Starts servers, and takes all of them along when it ends, however it ends.

`python -m weed_sandbox.launcher` reads one JSON object a line, {"argv", "cwd", "log"}, starts that command and answers
{"pid"}. A command "weed_sandbox" is forked from this process, which has imported everything already: it is up within
milliseconds. Everything it starts stays in its process group; when its stdin ends (the program that started it has
gone, perhaps killed) the group is killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import NoReturn

SANDBOX = "weed_sandbox"


class Launcher:
    """The launcher process, seen from the program that uses it."""

    def __init__(self) -> None:
        root = Path(__file__).resolve().parent.parent
        environment = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0", "PYTHONPATH": str(root)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "weed_sandbox.launcher"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment,
        )

    def start(self, argv: list[str], cwd: Path, log: Path) -> int:
        """Start a command and return its process id; its output is appended to `log`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"argv": argv, "cwd": str(cwd), "log": str(log)}), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the launcher has died")
        return int(json.loads(answer)["pid"])

    def close(self) -> None:
        """Kill everything it started, and itself."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _reap(_signal: int, _frame: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _become(argv: list[str], cwd: str, log: str) -> NoReturn:
    """Turn this forked process into the command."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(cwd)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    if argv[0] != SANDBOX:
        os.execv(argv[0], argv)
    from weed_sandbox.__main__ import main

    os._exit(main(argv[1:]))


def serve() -> None:
    """Start commands until stdin ends."""
    signal.signal(signal.SIGCHLD, _reap)
    for line in sys.stdin:
        command = json.loads(line)
        if command["argv"][0] == SANDBOX:
            # Once here instead of once in every fork.
            import weed_sandbox.filer
            import weed_sandbox.master
            import weed_sandbox.volume_server  # noqa: F401
        pid = os.fork()
        if pid == 0:
            try:
                _become(**command)
            finally:  # it does not return
                traceback.print_exc()
                os._exit(1)
        print(json.dumps({"pid": pid}), flush=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    serve()
