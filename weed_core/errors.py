"""Every error this project raises on purpose, on one page.

Bases end in Error; leaves say what happened. A class's docstring is its default message. `str()` of a TaskError is
what an operator reads on the admin's page, so it names the volume, the server and what was left behind.

Cancellation is no error: see Cancelled, which is not an Exception a task may swallow.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


class WeedError(Exception):
    """Something went wrong."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or type(self).__name__).splitlines()[0])


class ConfigError(WeedError):
    """A flag, a configuration file or a certificate is wrong."""

    exit_code = 2


class AdminError(WeedError):
    """The control stream to the admin server failed."""


class AdminUnavailable(AdminError):
    """The admin server cannot be reached."""


class AdminRefused(AdminError):
    """The admin server refused this worker."""


class HttpFailed(WeedError):
    """A page could not be read over HTTP; `timed_out` says that its time was over."""

    def __init__(self, message: str = "", timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class TaskError(WeedError):
    """A task failed."""

    by_volume: Mapping[int, TaskError] = MappingProxyType({})
    """What failed on which volume, where a job is about several."""


class NotAllDone(TaskError):
    """Parts of the task failed; `summary` and `outputs` tell what was done all the same."""

    def __init__(self, message: str, summary: str, outputs: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.summary, self.outputs = summary, outputs


class BadTask(TaskError):
    """The task's parameters are absent or contradict each other; nothing was touched."""


class StaleTask(TaskError):
    """The cluster moved on since the task was planned; nothing was touched."""


class Busy(TaskError):
    """Another job holds this volume; nothing was touched."""


class TimedOut(TaskError):
    """The task passed its deadline."""


class Mismatch(TaskError):
    """Size, checksum or count disagree with what was expected; originals are kept."""


class ServerFailed(TaskError):
    """A call to a server failed: the only class made from grpc.RpcError.

    `code` is the gRPC status name ("UNAVAILABLE"), `detail` the server's own words.
    """

    def __init__(self, server: str, call: str, code: str, detail: str) -> None:
        super().__init__(f"{call} on {server} failed: {detail or 'no detail given'} ({code})")
        self.server = server
        self.call = call
        self.code = code
        self.detail = detail

    @property
    def says_absent(self) -> bool:
        """Whether the server said that the volume or file does not exist there.

        SeaweedFS answers most errors with UNKNOWN; only the text tells them apart.
        """
        text = self.detail.lower()
        return self.code == "NOT_FOUND" or "not found" in text or "not exist" in text or "no such file" in text

    @property
    def lacks_master(self) -> bool:
        """Whether a volume server could not pass the call on, since the master that it knows is gone or leads no more.

        It learns of another one within seconds; nothing else is wrong with it.
        """
        return "with master " in self.detail or "heartbeat master " in self.detail

    @property
    def is_transient(self) -> bool:
        """Whether the same harmless call may succeed if repeated a little later."""
        return self.code in ("UNAVAILABLE", "ABORTED", "RESOURCE_EXHAUSTED")


class ServerTimedOut(ServerFailed):
    """A call passed its deadline; what the server did is unknown."""

    @property
    def is_transient(self) -> bool:
        """A timeout may be repeated where repeating is harmless."""
        return True


class Cancelled(BaseException):
    """The job was cancelled: by the admin, by the operator, or by a second SIGTERM.

    Not an Exception, so that no `except Exception` in a task swallows it; the agent reports it as cancelled.
    """

    def __init__(self, reason: str = "cancelled") -> None:
        super().__init__(reason)
        self.reason = reason


class StillShut(Cancelled):
    """Cancelled when its change was made and nothing is undone, but volumes stay read-only; the reason names them."""
