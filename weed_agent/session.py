"""The control stream to the admin: one registration, and the streams that carry it, one after another.

Knows the order of things on a stream and when to come back; what commands mean is the Worker's business.
"""

from __future__ import annotations

import logging
import random
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any, Protocol

import grpc

from weed_agent.outbox import Outbox
from weed_agent.settings import Settings
from weed_cluster import admin as admin_http
from weed_cluster import security
from weed_cluster.address import GRPC_OFFSET, Address
from weed_cluster.channels import CONNECT, open_channel
from weed_cluster.security import Security
from weed_core.errors import AdminError, AdminRefused, AdminUnavailable, ServerFailed
from weed_protocol import classic, commands, plugin
from weed_protocol.commands import (
    Acknowledged,
    AskForWork,
    Completed,
    Goodbye,
    Heartbeat,
    HeartbeatSeen,
    Hello,
    NoWork,
    Refused,
    Report,
    RunJob,
    SendLog,
    Unknown,
    Welcome,
)
from weed_state import task_log
from weed_state.debts import Debts
from weed_state.told_failures import leaked

log = logging.getLogger(__name__)

DIALECTS: dict[str, ModuleType] = {"classic": classic, "plugin": plugin}

MESSAGES = logging.INFO - 3
"""The log level of -v=3."""

OLD_STREAM_GONE = 31.0
"""Seconds until a 3.97 admin has noticed that a stream broke; a second stream with its id crashes that admin."""

LONGEST_PAUSE = 60.0
"""Seconds between attempts to reach an admin, at most."""

RESTING = 5.0
"""Seconds between looks at the admin's dialect for a session that has nothing to do in the present one."""

_NO_GRPC = re.compile("Socket closed|HTTP/2|frame|handshake|Unwrap|SSL|TSI", re.IGNORECASE)
"""What gRPC says of a server that closes the connection instead of speaking with us."""

_SILENT = re.compile("timed out|tcp handshaker shutdown|FD Shutdown", re.IGNORECASE)
"""What gRPC says of a server from which nothing has come until the time was over."""

MOST_SAID = ("grpc.max_receive_message_length", 16 << 20)
"""Bytes of one message from an admin: a thousand moves in one task are less than one of these sixteen mebibytes."""

TLS_HINT = (
    "admin and worker must both have certificates in security.toml, and [grpc] ca of each must have signed the other's"
)

SETTLED = 5.0
"""Seconds that a plugin stream must live on behind a completion for it to count as delivered: nothing there answers a
completion, and an admin writes what it was told to its disk every two seconds. Classic admins answer heartbeats, in
order, so the answer to one sent behind a completion is its receipt."""


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


class Keys(Protocol):
    """The jobs in hand."""

    @property
    def keys(self) -> set[tuple[str, str]]:
        """Job id and request id of all in hand."""


class Host(Protocol):
    """The worker, as its sessions know it."""

    debts: Debts
    identity: commands.Identity
    security: security.Security
    settings: Settings
    stopping: str
    tasks: dict[str, ModuleType]

    @property
    def hand(self) -> Keys:
        """What runs or waits."""

    def is_open(self, job_type: str) -> bool:
        """Whether this is the time of day for a task type."""

    def on(self, command: object, session: Session) -> None:
        """Obey one command."""

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
        self.plugin_unknown = False  # the admin did not tell its dialect, and rejected this one
        self._settings = settings
        self._security = security
        self._said: tuple[str, ...] = ()

    def make(self) -> tuple[ModuleType, Address]:
        """Ask the admin, unless -protocol and -admin decide; takes some seconds where it does not answer."""
        name, address = self._settings.protocol, self._settings.admin
        if name == "auto" or address.grpc_port == address.port + GRPC_OFFSET:
            found = admin_http.probe(address)
            address = found.grpc
            if name == "auto":
                name = found.dialect or ("classic" if self.plugin_unknown else "plugin")
        said = (str(self._settings.admin), address.grpc, name, self._security.describe())
        if said != self._said:
            log.info("admin %s: gRPC %s, %s dialect, %s", *said)
            self._said = said
        return DIALECTS[name], address


class Session:
    """One registration with the admin: an id, its task types, and the streams that carry them, one after another.

    One reader and one writer per stream, and never two streams at a time. Jobs do not belong to a stream: when it
    breaks they go on, and their results are owed to the next one.
    """

    def __init__(
        self, worker: Host, endpoint: AdminEndpoint, worker_id: str, types: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.worker = worker
        self.worker_id = worker_id
        self._endpoint = endpoint
        self._types = types  # by dialect; this session rests while the admin speaks one without types
        self.dialect: ModuleType | None = None
        self.connected = False
        self.last_heard = 0.0
        self.last_beat = 0.0  # unix seconds of the last heartbeat that left
        self.pauses = 0  # failed attempts in a row
        self._outbox: Outbox | None = None
        self._unsettled: deque[tuple[float, Report]] = deque()  # sent when, not yet known to have arrived; oldest first
        self._settled = 0  # how many reports of this stream are known to have arrived
        self._unanswered: deque[int] = deque()  # how many went before each heartbeat not yet answered (classic)
        self._asked: AskForWork | None = None  # the question whose answer may be under way
        self._is_stale = False  # the admin must learn of failures told
        self.offered: tuple[str, ...] = ()  # the task types of the present registration
        self._greeted = False  # the stream's first message has left
        self._call: Any = None
        self._sees_no_work = False  # an admin that answers so is not 3.97
        self._renew = False
        self._left = False

    @property
    def task_types(self) -> tuple[str, ...]:
        """The task types that this session takes from the admin it speaks with."""
        return self._types.get(self.dialect.NAME, ()) if self.dialect else ()

    @property
    def asks(self) -> bool:
        """Whether a question for work is open: its answer may bring a task."""
        return self._asked is not None

    def run(self) -> None:
        """Serve stream after stream until the worker stops."""
        while not self.worker.stopped.is_set():
            self.dialect, address = self._endpoint.make()
            if not self.task_types:
                self.worker.stopped.wait(RESTING)
                continue
            started = time.monotonic()
            ended_well = self._serve(self.dialect, address)
            if self.connected and time.monotonic() - started > 60:
                self.pauses = 0
            self.connected = False
            if self._left:
                return
            if ended_well and self._renew:
                continue
            may_stand = self._greeted and not ended_well and self.dialect is classic and not self._sees_no_work
            pause = OLD_STREAM_GONE if may_stand else 0.0
            first = self.worker.settings.reconnect
            longest = min(first * 2**self.pauses, max(LONGEST_PAUSE, first))
            self.pauses = min(self.pauses + 1, 10)
            pause = max(pause, random.uniform(longest / 2, longest))
            log.info("connecting to admin again in %.1f s", pause)
            self.worker.stopped.wait(pause)

    def _serve(self, dialect: ModuleType, address: Address) -> bool:
        """Serve one stream to its end; say why it ended, and whether in order."""
        try:
            self._serve_once(dialect, address)
        except AdminError as error:
            self.worker.metrics.stream_event("refused" if isinstance(error, AdminRefused) else "failed")
            log.warning("admin %s: %s", self.worker.settings.admin, error)
        except Exception:  # a message that trips this worker must not cost it its jobs
            self.worker.metrics.stream_event("failed")
            log.exception("admin %s: the stream ended by a fault of this worker", self.worker.settings.admin)
        else:
            return True
        return False

    def _serve_once(self, dialect: ModuleType, address: Address) -> None:
        """Open a stream, say hello, and obey until it ends; raise AdminError where it did not end in order."""
        worker = self.worker
        self._renew = self._greeted = self._is_stale = False
        self._settled = 0
        self._asked = None
        self.last_heard = time.monotonic()
        # A plugin admin is told why a job is not taken, and gives it again; a classic one would count a failure.
        self.offered = (self._open_types() if dialect is classic else ()) or self.task_types
        told_failed = leaked(worker.settings.working_dir, self.worker_id) if dialect is classic else 0
        who = replace(
            worker.identity,
            worker_id=self.worker_id,
            instance_id=f"inst-{secrets.token_hex(4)}",
            descriptors=tuple(worker.tasks[name].DESCRIPTOR for name in self.offered),
            max_execute=worker.settings.max_execute + told_failed,
        )
        alone = ("grpc.use_local_subchannel_pool", 1)  # bulk data must not hold up the heartbeat
        try:
            options = [alone, MOST_SAID, *worker.security.options(address)]
        except ServerFailed as error:
            raise AdminUnavailable(f"{error}; {TLS_HINT}" if "TLS" in error.call else str(error)) from None
        channel = open_channel(address, worker.security.credentials(), options)
        self._outbox = outbox = Outbox(lambda report: dialect.encode(report, who, time.time()), self._sent)
        for completed in worker.debts.due(dialect.NAME, self.worker_id, worker.hand.keys):
            outbox.put(completed)
        if self._left:  # asked to leave while there was no stream: tell what is owed, and go
            self._say_goodbye(worker.stopping)
        try:
            self._call = channel.stream_stream(dialect.METHOD, None, None)(outbox.messages())
            for message in self._call:
                self.last_heard = time.monotonic()
                self._on(dialect.decode(message))
            if self._left or self._renew:  # the admin read this stream to the end that we gave it
                self._settle(len(self._unsettled))
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                self._endpoint.plugin_unknown = dialect is not classic
            raise _failure(error, address, worker.security.is_on) from None
        finally:
            self._outbox = None
            self._unsettled.clear()
            self._unanswered.clear()
            self._asked = None
            outbox.end()
            if self._call is not None:
                self._call.cancel()
                self._call = None
            channel.close()
        self.worker.metrics.stream_event("closed")
        log.info("admin %s closed the stream", address.grpc)

    def _on(self, command: object) -> None:
        log.log(MESSAGES, "admin says %s", type(command).__name__)
        match command:
            case Welcome():
                self.connected = True
                self.worker.welcomed(self, command)
            case Refused(message):
                raise AdminRefused(f"refused worker {self.worker_id}: {message}")
            case HeartbeatSeen():
                if self._unanswered:
                    self._settle(self._unanswered.popleft() - self._settled)
            case NoWork():
                self._sees_no_work = True
                self._asked = None
            case SendLog():
                self.send(task_log.answer(self.worker.settings.working_dir / "task_logs", command))
            case Unknown(request_id, what):
                log.warning("admin sent a message this worker does not know: %s", what)
                if request_id:
                    self.send(Acknowledged(request_id, False, f"unsupported request: {what}"))
            case _:
                self.worker.on(command, self)
                if isinstance(command, RunJob):
                    self._asked = None

    def send(self, report: Report) -> None:
        """Send on the stream there is; a completion is kept for the next stream if there is none, news are dropped."""
        if self._outbox is not None:
            self._outbox.put(report)

    def _sent(self, report: Report) -> None:
        log.log(MESSAGES, "sent %s", type(report).__name__)
        match report:
            case Hello():
                self._greeted = True
            case Heartbeat():
                self.last_beat = time.time()
                if self.dialect is classic:
                    self._unanswered.append(self._settled + len(self._unsettled))
            case Completed() | AskForWork():
                self._unsettled.append((time.monotonic(), report))
                if self.dialect is not classic and len(self._unsettled) == 1:
                    self._settle_later(SETTLED)

    def _settle_later(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._settle_old, (self._outbox,))
        timer.daemon = True
        timer.start()

    def _settle_old(self, outbox: Outbox | None) -> None:
        """Settle what was sent SETTLED seconds ago, and come back for the rest, unless its stream has ended."""
        if outbox is not self._outbox:
            return
        now = time.monotonic()
        self._settle(sum(now - at >= SETTLED for at, _report in self._unsettled))
        if self._unsettled:
            self._settle_later(max(0.5, self._unsettled[0][0] + SETTLED - now))

    def _settle(self, count: int) -> None:
        """Forget the oldest that have arrived; a completion whose stream broke before is carried again by the next."""
        for _ in range(count):
            self._settled += 1
            _at, report = self._unsettled.popleft()
            if isinstance(report, Completed):
                self.worker.debts.pay(report)
            if report is self._asked:
                self._asked = None

    def ask(self, free: int) -> None:
        """Ask a classic admin for one more task, if it is time for any.

        Where it must learn of failures told, or a window of a task type has opened or closed, register again instead.
        A task that an admin assigns to a stream about to end is lost, so that waits while an answer may be under way.
        """
        is_time = self._open_types()
        if not self.connected or self.dialect is not classic or not is_time:
            return
        if not self._is_stale and is_time == self.offered:
            self._asked = AskForWork(free)
            self.send(self._asked)
            if not self._sees_no_work:  # 3.97 says nothing where it has nothing: the beat's answer tells as much
                self.send(Heartbeat(self.worker.status(self)))
        elif self._asked is None:
            self._renew = True
            self._say_goodbye("registering again")

    def _open_types(self) -> tuple[str, ...]:
        return tuple(name for name in self.task_types if self.worker.is_open(name))

    def renew(self) -> None:
        """Register again in place of the next question, so that the admin learns how many failures it was told."""
        self._is_stale = True

    def leave(self, why: str) -> None:
        """Say goodbye, end the stream and do not come back."""
        self._left = True
        self._say_goodbye(why)

    def _say_goodbye(self, why: str) -> None:
        if self._outbox is not None:
            self._outbox.put(Goodbye(why))
            self._outbox.end()

    def drop(self, why: str) -> None:
        """Break the stream off."""
        log.warning("dropping the stream to admin: %s", why)
        if self._call is not None:
            self._call.cancel()

    def check_silence(self, allowed: float) -> None:
        """Drop a stream on which the admin does not answer: its greeting, or the heartbeats of the classic dialect."""
        answers = self.dialect is classic or not self.connected
        if self._call is not None and answers and time.monotonic() - self.last_heard > allowed:
            self.drop(f"it has not answered for {allowed:.0f} s; is it hung?")

    @property
    def is_drained(self) -> bool:
        """Whether nothing but news waits to be sent, and no answer with a task may be under way."""
        return self._outbox is None or (self._outbox.is_drained() and self._asked is None)


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


NAME_PORT = "name it: -admin=host:port.grpcPort"


def _failure(error: Any, address: Address, with_tls: bool) -> AdminError:
    """What a broken stream means, in words that say what to do."""
    code, detail = error.code(), error.details() or ""
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return AdminRefused(f"the server at {address.grpc} does not speak this dialect; is it an admin? ({detail})")
    if code == grpc.StatusCode.CANCELLED:
        return AdminUnavailable(f"the stream to {address.grpc} was broken off")
    if "failed to connect" in detail and _SILENT.search(detail):
        return AdminUnavailable(
            f"no answer came from {address.grpc} within {CONNECT:.0f} s; is it hung, is gRPC at another port"
            f" ({NAME_PORT}), or does a firewall drop the packets? ({detail})"
        )
    if "failed to connect" in detail and _NO_GRPC.search(detail):
        may_be = (
            f"it refuses our certificate, perhaps ({TLS_HINT})"
            if with_tls
            else f"it wants TLS ({TLS_HINT}), or is no gRPC port ({NAME_PORT})"
        )
        return AdminUnavailable(f"{address.grpc} does not answer gRPC: {may_be}: {detail}")
    if "failed to connect" in detail:
        return AdminUnavailable(
            f"{address.grpc} cannot be reached: start admin, open the port, or {NAME_PORT}: {detail}"
        )
    return AdminUnavailable(f"{address.grpc}: {detail or code.name}")
