"""One registration with the admin: an id, its task types, and the streams that carry it, one after another.

Knows which dialect to speak to whom, and when to come back; a stream's own order is weed_agent.stream's, and what
commands mean is the Worker's business.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Protocol

from weed_agent.settings import Settings
from weed_agent.stream import End, NotSpoken, Stream
from weed_cluster import admin as admin_http
from weed_cluster import security
from weed_cluster.address import GRPC_OFFSET, Address
from weed_cluster.security import Security
from weed_core.errors import AdminError, AdminRefused
from weed_protocol import classic, commands, plugin
from weed_protocol.commands import (
    Acknowledged,
    AskForWork,
    Command,
    Completed,
    Dialect,
    Heartbeat,
    Report,
    SendLog,
    Unknown,
    Welcome,
)
from weed_state import task_log

log = logging.getLogger(__name__)

DIALECTS: dict[str, Dialect] = {"classic": classic, "plugin": plugin}

OLD_STREAM_GONE = 31.0
"""Seconds until a 3.97 admin has noticed that a stream broke; a second stream with its id crashes that admin."""

LONGEST_PAUSE = 60.0
"""Seconds between attempts to reach an admin, at most."""

LONG_ENOUGH = 60.0
"""Seconds after which a stream shows that the admin can be reached, so that the next pause is short again."""

RESTING = 5.0
"""Seconds between looks at the admin's dialect for a session that has nothing to do in the present one."""


class Flag(Protocol):
    """An event, of threads or of greenlets."""

    def is_set(self) -> bool:
        """Whether it has happened."""

    def wait(self, timeout: float) -> object:
        """Wait for it."""


class Counts(Protocol):
    """What counts the streams' events."""

    def stream_event(self, event: str) -> None:
        """Count connected, closed, failed, refused or shutdown."""


class Owed(Protocol):
    """What the worker owes its admin."""

    def due(self, dialect: Dialect, worker_id: str) -> list[Completed]:
        """The completions that the next stream has to carry."""

    def pay(self, completed: Completed) -> None:
        """A stream has carried this one."""

    def failures_told(self, dialect: Dialect, worker_id: str) -> int:
        """How many failures the admin counts as running tasks of this id."""


class Host(Protocol):
    """The worker, as its sessions know it."""

    identity: commands.Identity
    security: security.Security
    settings: Settings
    stopping: str
    tasks: dict[str, ModuleType]

    def is_open(self, job_type: str) -> bool:
        """Whether this is the time of day for a task type."""

    def on(self, command: Command, session: Session) -> None:
        """Obey one command."""

    @property
    def ledger(self) -> Owed:
        """What it owes."""

    @property
    def metrics(self) -> Counts:
        """Its counters."""

    def status(self, session: Session | None = None) -> commands.Status:
        """One look at the worker; with a session, only that session's jobs are listed."""

    @property
    def stopped(self) -> Flag:
        """The worker has ended."""

    def welcomed(self, session: Session, welcome: commands.Welcome) -> None:
        """The admin took a registration: go on as if the stream had never been away."""


class AdminEndpoint:
    """The dialect to speak and the endpoint to dial, for all sessions of a worker."""

    def __init__(self, settings: Settings, security: Security) -> None:
        self._plugin_unknown = False  # the admin did not tell its dialect, and rejected this one
        self._settings = settings
        self._security = security
        self._said: tuple[str, ...] = ()

    def make(self) -> tuple[Dialect, Address]:
        """Ask the admin, unless -protocol and -admin decide; takes some seconds where it does not answer."""
        name, address = self._settings.protocol, self._settings.admin
        if name == "auto" or address.grpc_port == address.port + GRPC_OFFSET:
            found = admin_http.probe(address)
            address = found.grpc
            if name == "auto":
                name = found.dialect or ("classic" if self._plugin_unknown else "plugin")
        said = (str(self._settings.admin), address.grpc, name, self._security.describe())
        if said != self._said:
            log.info("admin %s: gRPC %s, %s dialect, %s", *said)
            self._said = said
        return DIALECTS[name], address

    def rejected(self, dialect: Dialect) -> None:
        """The admin does not speak this one; try the other where it does not tell."""
        self._plugin_unknown = dialect is DIALECTS["plugin"]


class Session:
    """One registration with the admin: an id, its task types, and the streams that carry them, one after another.

    Never two streams at a time. Jobs do not belong to a stream: when it breaks they go on, and their results are owed
    to the next one.
    """

    def __init__(
        self, worker: Host, endpoint: AdminEndpoint, worker_id: str, types: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.worker = worker
        self.worker_id = worker_id
        self.dialect: Dialect | None = None
        self.pauses = 0  # failed attempts in a row
        self._endpoint = endpoint
        self._types = types  # by dialect; this session rests while the admin speaks one without types
        self._stream: Stream | None = None  # the present one, or the last
        self._sees_no_work = False  # an admin that answers so is not 3.97
        self._leaves = False

    @property
    def task_types(self) -> tuple[str, ...]:
        """The task types that this session takes from the admin it speaks with."""
        return self._types.get(self.dialect.NAME, ()) if self.dialect else ()

    @property
    def offered(self) -> tuple[str, ...]:
        """The task types of the present registration."""
        return self._stream.offered if self._stream else ()

    @property
    def connected(self) -> bool:
        """Whether the admin took the registration, and its stream stands."""
        return self._stream is not None and self._stream.is_welcome and not self._stream.has_ended

    @property
    def last_heard(self) -> float:
        """When the admin last said something, or was last dialled, on the monotonic clock; 0 before all that."""
        return self._stream.last_heard if self._stream else 0.0

    @property
    def last_beat(self) -> float:
        """Unix seconds of the last heartbeat that left; 0 before the first."""
        return self._stream.last_beat if self._stream else 0.0

    @property
    def asks(self) -> bool:
        """Whether a question for work is open: its answer may bring a task."""
        return self._stream is not None and self._stream.asks

    @property
    def is_drained(self) -> bool:
        """Whether nothing but news waits to be sent, and no answer with a task may be under way."""
        return self._stream is None or self._stream.is_drained

    # ---- streams ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve stream after stream until the worker stops."""
        while not self.worker.stopped.is_set():
            self.dialect, address = self._endpoint.make()
            if not self.task_types:
                self.worker.stopped.wait(RESTING)
                continue
            started = time.monotonic()
            stream = self._open(self.dialect)
            end = self._serve(stream, address)
            self._sees_no_work = self._sees_no_work or stream.says_no_work
            if stream.is_welcome and time.monotonic() - started > LONG_ENOUGH:
                self.pauses = 0
            if self._leaves:
                return
            if end is not End.RENEW:
                pause = self._pause(stream, end)
                log.info("connecting to admin again in %.1f s", pause)
                self.worker.stopped.wait(pause)

    def _pause(self, stream: Stream, end: End) -> float:
        """Seconds until the next stream, longer with each attempt."""
        first = self.worker.settings.reconnect
        longest = min(first * 2**self.pauses, max(LONGEST_PAUSE, first))
        self.pauses = min(self.pauses + 1, 10)
        # 3.97, which never says that it has no work, may not have noticed yet.
        may_stand = stream.has_greeted and end is End.FAILED and stream.dialect.PULLS and not self._sees_no_work
        return max(OLD_STREAM_GONE if may_stand else 0.0, random.uniform(longest / 2, longest))

    def _open(self, dialect: Dialect) -> Stream:
        """Make the next stream: what it registers, and what it has to carry from before."""
        worker = self.worker
        # A pushing admin is told why a job is not taken, and gives it again; one that is asked would count a failure.
        offered = (self._open_types() if dialect.PULLS else ()) or self.task_types
        identity = replace(
            worker.identity,
            worker_id=self.worker_id,
            instance_id=f"inst-{secrets.token_hex(4)}",
            descriptors=tuple(worker.tasks[name].DESCRIPTOR for name in offered),
            max_execute=worker.settings.max_execute + worker.ledger.failures_told(dialect, self.worker_id),
        )
        due = worker.ledger.due(dialect, self.worker_id)
        self._stream = stream = Stream(self, dialect, identity, due, self.last_beat)
        if self._leaves:  # asked to leave while there was no stream: tell what is owed, and go
            stream.end(End.LEFT, worker.stopping)
        return stream

    def _serve(self, stream: Stream, address: Address) -> End:
        """Serve one stream to its end; say how it ended."""
        count, admin = self.worker.metrics.stream_event, self.worker.settings.admin
        try:
            end = stream.serve(address, self.worker.security)
        except AdminError as error:
            if isinstance(error, NotSpoken):
                self._endpoint.rejected(stream.dialect)
            count("refused" if isinstance(error, AdminRefused) else "failed")
            log.warning("admin %s: %s", admin, error)
        except Exception:  # a message that trips this worker must not cost it its jobs
            count("failed")
            log.exception("admin %s: the stream ended by a fault of this worker", admin)
        else:
            count("closed")
            log.info("admin %s closed the stream", address.grpc)
            return end
        return End.FAILED

    def obey(self, command: Command) -> None:
        """Do what the admin says."""
        match command:
            case Welcome():
                self.worker.welcomed(self, command)
            case SendLog():
                self.send(task_log.answer(self.worker.settings.working_dir / "task_logs", command))
            case Unknown(request_id, what):
                log.warning("admin sent a message this worker does not know: %s", what)
                if request_id:
                    self.send(Acknowledged(request_id, False, f"unsupported request: {what}"))
            case _:
                self.worker.on(command, self)

    def arrived(self, completed: Completed) -> None:
        """The admin has this completion: it is owed no more."""
        self.worker.ledger.pay(completed)

    # ---- what the worker says --------------------------------------------------------------------------------------

    def send(self, report: Report) -> None:
        """Send on the stream there is; a completion is kept for the next stream if there is none, news are dropped."""
        if self._stream is not None:
            self._stream.send(report)

    def ask(self, free: int) -> None:
        """Ask an admin that is pulled from for one more task, if it is time for any.

        Where it must learn of failures told, or a window of a task type has opened or closed, register again instead.
        A task that an admin assigns to a stream about to end is lost, so that waits while an answer may be under way.
        """
        stream, is_time = self._stream, self._open_types()
        if stream is None or not self.connected or not stream.dialect.PULLS or not is_time:
            return
        if not stream.is_stale and is_time == stream.offered:
            stream.send(AskForWork(free))
            if not self._sees_no_work and not stream.says_no_work:
                # 3.97 says nothing where it has nothing: the beat's answer tells as much
                stream.send(Heartbeat(self.worker.status(self)))
        elif not stream.asks:
            stream.end(End.RENEW, "registering again")

    def _open_types(self) -> tuple[str, ...]:
        return tuple(name for name in self.task_types if self.worker.is_open(name))

    def renew(self) -> None:
        """Register again in place of the next question, so that the admin learns how many failures it was told."""
        if self._stream is not None:
            self._stream.is_stale = True

    def leave(self, why: str) -> None:
        """Say goodbye, end the stream and do not come back."""
        self._leaves = True
        if self._stream is not None:
            self._stream.end(End.LEFT, why)

    def check_silence(self, allowed: float) -> None:
        """Break off a stream on which the admin has not answered for so many seconds."""
        if self._stream is not None:
            self._stream.check_silence(allowed)


def sessions_for(worker: Host, worker_id: str, types: tuple[str, ...]) -> list[Session]:
    """One session, and for classic admins one of its own for vacuum.

    N.B. a 4.x admin that cannot assign a pending vacuum task gives no task at all to a worker that takes vacuum.
    """
    endpoint = AdminEndpoint(worker.settings, worker.security)
    others = tuple(name for name in types if name != "vacuum")
    if not others or others == types:
        return [Session(worker, endpoint, worker_id, {"plugin": types, "classic": types})]
    return [
        Session(worker, endpoint, worker_id, {"plugin": types, "classic": others}),
        Session(worker, endpoint, f"{worker_id}-vacuum", {"classic": ("vacuum",)}),
    ]
