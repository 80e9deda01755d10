"""The control stream to the admin: one registration, and the streams that carry it, one after another.

Knows the order of things on a stream and when to come back; what commands mean is the Worker's business.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import grpc

from weed_cluster.address import Address
from weed_cluster.client import open_channel
from weed_errors import AdminError, AdminRefused, AdminUnavailable, ServerFailed
from weed_protocol import classic
from weed_protocol.commands import (
    Acknowledged,
    Completed,
    Goodbye,
    HeartbeatSeen,
    NoWork,
    Refused,
    Report,
    SendLog,
    Unknown,
    Welcome,
)
from weed_state import task_log
from weed_state.leaks import leaked
from weed_state.outbox import Outbox

if TYPE_CHECKING:
    from weed_worker import Worker

log = logging.getLogger(__name__)

MESSAGES = logging.INFO - 3
"""The log level of -v=3."""

OLD_STREAM_GONE = 31.0
"""Seconds until a 3.97 admin has noticed that a stream broke; a second stream with its id crashes that admin."""

LONGEST_PAUSE = 60.0
"""Seconds between attempts to reach an admin, at most."""

RESTING = 5.0
"""Seconds between looks at the admin's dialect for a session that has nothing to do in the present one."""

SETTLED = 1.0
"""Seconds a stream must live on behind a completion for it to count as delivered."""


class Session:
    """One registration with the admin: an id, its task types, and the streams that carry them, one after another.

    One reader and one writer per stream, and never two streams at a time. Jobs do not belong to a stream: when it
    breaks they go on, and their results are owed to the next one.
    """

    def __init__(self, worker: Worker, worker_id: str, types: Mapping[str, tuple[str, ...]]) -> None:
        self.worker = worker
        self.worker_id = worker_id
        self._types = types  # by dialect; this session rests while the admin speaks one without types
        self.dialect: ModuleType | None = None
        self.connected = False
        self.last_heard = 0.0
        self.pauses = 0  # failed attempts in a row
        self._outbox: Outbox | None = None
        self._unsettled: list[Completed] = []  # sent on this stream, not yet known to have arrived
        self._call: Any = None
        self._sees_no_work = False  # an admin that answers so is not 3.97
        self._renew = False
        self._left = False

    @property
    def task_types(self) -> tuple[str, ...]:
        """The task types that this session takes from the admin it speaks with."""
        return self._types.get(self.dialect.NAME, ()) if self.dialect else ()

    def run(self) -> None:
        """Serve stream after stream until the worker stops."""
        while not self.worker.stopped.is_set():
            self.dialect, address = self.worker.choose_dialect()
            if not self.task_types:
                self.worker.stopped.wait(RESTING)
                continue
            started = time.monotonic()
            pause = 0.0
            try:
                self._serve_once(self.dialect, address)
            except AdminError as error:
                self.worker.sight.stream_event("refused" if isinstance(error, AdminRefused) else "failed")
                log.warning("admin %s: %s", self.worker.settings.admin, error)
                if self.connected and self.dialect is classic and not self._sees_no_work:
                    pause = OLD_STREAM_GONE
            if self.connected and time.monotonic() - started > 60:
                self.pauses = 0
            self.connected = False
            if self._left:
                return
            if self._renew:
                self._renew = False
                continue
            first = self.worker.settings.reconnect
            longest = min(first * 2**self.pauses, max(LONGEST_PAUSE, first))
            self.pauses = min(self.pauses + 1, 10)
            pause = max(pause, random.uniform(longest / 2, longest))
            log.info("connecting to admin again in %.1f s", pause)
            self.worker.stopped.wait(pause)

    def _serve_once(self, dialect: ModuleType, address: Address) -> None:
        """Open a stream, say hello, and obey until it ends; raise AdminError where it did not end in order."""
        worker = self.worker
        told_failed = leaked(worker.settings.working_dir, self.worker_id) if dialect is classic else 0
        who = replace(
            worker.identity,
            worker_id=self.worker_id,
            instance_id=f"inst-{secrets.token_hex(4)}",
            descriptors=tuple(worker.tasks[name].DESCRIPTOR for name in self.task_types),
            max_execute=worker.settings.max_execute + told_failed,
        )
        alone = ("grpc.use_local_subchannel_pool", 1)  # bulk data must not hold up the heartbeat
        try:
            options = [alone, *worker.security.options(address)]
        except ServerFailed as error:
            raise AdminUnavailable(str(error)) from None
        channel = open_channel(address, worker.security.credentials(), options)
        self._outbox = outbox = Outbox(lambda report: dialect.encode(report, who, time.time()), self._sent)
        for completed in worker.debts.due(dialect.NAME, self.worker_id, worker.is_in_hand):
            outbox.put(completed)
        try:
            self._call = channel.stream_stream(dialect.METHOD, None, None)(outbox.messages())
            for message in self._call:
                self.last_heard = time.monotonic()
                self._on(dialect.decode(message))
            for completed in self._unsettled:  # a stream that ended in order was read to its end
                worker.debts.pay(completed)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                worker.plugin_unknown = dialect is not classic
            raise _failure(error, address) from None
        finally:
            self._outbox = None
            self._unsettled.clear()
            outbox.end()
            self._call.cancel()
            channel.close()
        self.worker.sight.stream_event("closed")
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
                pass
            case NoWork():
                self._sees_no_work = True
            case SendLog():
                self.send(task_log.answer(self.worker.settings.working_dir / "task_logs", command))
            case Unknown(request_id, what):
                log.warning("admin sent a message this worker does not know: %s", what)
                if request_id:
                    self.send(Acknowledged(request_id, False, f"unsupported request: {what}"))
            case _:
                self.worker.on(command, self)

    def send(self, report: Report) -> None:
        """Send on the stream there is; a completion is kept for the next stream if there is none, news are dropped."""
        if self._outbox is not None:
            self._outbox.put(report)

    def _sent(self, report: Report) -> None:
        log.log(MESSAGES, "sent %s", type(report).__name__)
        if isinstance(report, Completed):
            self._unsettled.append(report)
            timer = threading.Timer(SETTLED, self._settle, (report,))
            timer.daemon = True
            timer.start()

    def _settle(self, completed: Completed) -> None:
        """Forget a completion once its stream lived on for a second; else the next stream carries it again."""
        if completed in self._unsettled:
            self._unsettled.remove(completed)
            self.worker.debts.pay(completed)

    def renew(self) -> None:
        """End the stream in order and register again at once, when all that waits is sent."""
        self._renew = True
        self._say_goodbye("registering again")

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
        """Drop a classic stream on which the admin no longer answers heartbeats."""
        if self.connected and self.dialect is classic and time.monotonic() - self.last_heard > allowed:
            self.drop(f"no answer for {allowed:.0f} s")

    @property
    def is_drained(self) -> bool:
        """Whether nothing but news waits to be sent."""
        return self._outbox is None or self._outbox.is_drained()


def sessions_for(worker: Worker, worker_id: str, types: tuple[str, ...]) -> list[Session]:
    """One session, and for classic admins one of its own for vacuum.

    N.B. a 4.x admin that cannot assign a pending vacuum task gives no task at all to a worker that takes vacuum.
    """
    others = tuple(name for name in types if name != "vacuum")
    if not others or others == types:
        return [Session(worker, worker_id, {"plugin": types, "classic": types})]
    return [
        Session(worker, worker_id, {"plugin": types, "classic": others}),
        Session(worker, f"{worker_id}-vacuum", {"classic": ("vacuum",)}),
    ]


def _failure(error: Any, address: Address) -> AdminError:
    """What a broken stream means, in words that say what to do."""
    code, detail = error.code(), error.details() or ""
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return AdminRefused(f"the server at {address.grpc} does not speak this dialect; is it an admin? ({detail})")
    if code == grpc.StatusCode.CANCELLED:
        return AdminUnavailable(f"the stream to {address.grpc} was broken off")
    if "HTTP/2" in detail or "frame" in detail.lower():
        hint = "it is no gRPC port, or it wants TLS; name the port as host:port.grpcPort"
        return AdminUnavailable(f"{address.grpc} does not answer gRPC: {hint} ({detail})")
    return AdminUnavailable(f"{address.grpc}: {detail or code.name}")
