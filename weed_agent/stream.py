"""One stream to the admin, from its first message to its end.

Knows the order of things on a stream, and what of all that was sent has arrived; which streams follow one another is
its session's business, and what commands mean the worker's.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import Any, Protocol

import grpc

from weed_agent.outbox import Outbox
from weed_cluster.address import Address
from weed_cluster.channels import CONNECT, open_channel
from weed_cluster.security import Security
from weed_core.errors import AdminError, AdminRefused, AdminUnavailable, ServerFailed
from weed_protocol.commands import (
    AskForWork,
    Command,
    Completed,
    Dialect,
    Goodbye,
    Heartbeat,
    HeartbeatSeen,
    Hello,
    Identity,
    NoWork,
    Refused,
    Report,
    RunJob,
    Welcome,
)

log = logging.getLogger(__name__)

MESSAGES = logging.INFO - 3
"""The log level of -v=3."""

SETTLED = 5.0
"""Seconds that a plugin stream must live on behind a completion for it to count as delivered: nothing there answers a
completion, and an admin writes what it was told to its disk every two seconds. Classic admins answer heartbeats, in
order, so the answer to one sent behind a completion is its receipt."""

ALONE = ("grpc.use_local_subchannel_pool", 1)
"""Bulk data must not hold up the heartbeat."""

MOST_SAID = ("grpc.max_receive_message_length", 16 << 20)
"""Bytes of one message from an admin: a thousand moves in one task are less than one of these sixteen mebibytes."""

TLS_HINT = (
    "admin and worker must both have certificates in security.toml, and [grpc] ca of each must have signed the other's"
)

NAME_PORT = "name it: -admin=host:port.grpcPort"

_NO_GRPC = re.compile("Socket closed|HTTP/2|frame|handshake|Unwrap|SSL|TSI", re.IGNORECASE)
"""What gRPC says of a server that closes the connection instead of speaking with us."""

_SILENT = re.compile("timed out|tcp handshaker shutdown|FD Shutdown", re.IGNORECASE)
"""What gRPC says of a server from which nothing has come until the time was over."""


class End(Enum):
    """How a stream ended."""

    CLOSED = "the admin closed it"
    RENEW = "it was given up to register again"
    LEFT = "the worker left"
    FAILED = "it broke, or the admin refused it"


class NotSpoken(AdminRefused):
    """The server does not speak this dialect."""


class Owner(Protocol):
    """The session, as its stream knows it."""

    def obey(self, command: Command) -> None:
        """Do what the admin says, as far as it is not about the stream itself; with a Welcome, the stream stands."""

    def arrived(self, completed: Completed) -> None:
        """The admin has this completion."""


class Stream:
    """One stream: one reader, who is in serve(), and one writer, the outbox. Nothing is sent behind its end."""

    def __init__(
        self, owner: Owner, dialect: Dialect, identity: Identity, due: Iterable[Completed], last_beat: float = 0.0
    ) -> None:
        self.dialect = dialect
        self.offered = tuple(descriptor.name for descriptor in identity.descriptors)  # the task types it registers
        self.has_greeted = False  # its first message has left
        self.is_welcome = False  # the admin took the registration
        self.says_no_work = False  # the admin tells where it has none
        self.is_stale = False  # the admin must learn of failures told
        self.has_ended = False
        self.last_heard = time.monotonic()
        self.last_beat = last_beat  # unix seconds of the last heartbeat that left, on this stream or before
        self._owner = owner
        self._identity = identity
        self._end = End.CLOSED
        self._call: Any = None
        self._unsettled: deque[tuple[float, Report]] = deque()  # sent when, not yet known to have arrived; oldest first
        self._settled = 0  # how many reports are known to have arrived
        self._unanswered: deque[int] = deque()  # how many went before each heartbeat not yet answered
        self._asked: AskForWork | None = None  # the question whose answer may be under way
        self._outbox = Outbox(self._messages, self._sent)
        for completed in due:
            self._outbox.put(completed)

    # ---- what is sent ----------------------------------------------------------------------------------------------

    def send(self, report: Report) -> None:
        """Send this, unless the stream ends."""
        if isinstance(report, AskForWork) and not self.has_ended:
            self._asked = report
        self._outbox.put(report)

    @property
    def asks(self) -> bool:
        """Whether a question for work is open: its answer may bring a task."""
        return self._asked is not None

    @property
    def is_drained(self) -> bool:
        """Whether nothing but news waits to be sent, and no answer with a task may be under way."""
        return self.has_ended or (self._outbox.is_drained() and self._asked is None)

    def end(self, how: End, why: str) -> None:
        """Say goodbye behind what waits to be sent, and end the stream; who once leaves does not come back."""
        if self._end is not End.LEFT:
            self._end = how
        self._outbox.put(Goodbye(why))
        self._outbox.end()

    def check_silence(self, allowed: float) -> None:
        """Break off a stream on which the admin does not answer: its greeting, or heartbeats where it answers them."""
        answers = self.dialect.ANSWERS_HEARTBEATS or not self.is_welcome
        if self._call is not None and answers and time.monotonic() - self.last_heard > allowed:
            log.warning("dropping the stream to admin: it has not answered for %.0f s; is it hung?", allowed)
            self._call.cancel()

    # ---- life ------------------------------------------------------------------------------------------------------

    def serve(self, address: Address, security: Security) -> End:
        """Dial, and obey until the stream ends in order; raise AdminError where it ends otherwise."""
        channel = self._dial(address, security)
        try:
            self._call = channel.stream_stream(self.dialect.METHOD, None, None)(self._outbox.messages())
            for message in self._call:
                self.last_heard = time.monotonic()
                self._on(self.dialect.decode(message))
            if self._end is not End.CLOSED:  # the admin read this stream to the end that we gave it
                self._settle(len(self._unsettled))
        except grpc.RpcError as error:
            raise _failure(error, address, security.is_on) from None
        finally:
            self.close()
            channel.close()
        return self._end

    def _dial(self, address: Address, security: Security) -> grpc.Channel:
        try:
            return open_channel(address, security.credentials(), [ALONE, MOST_SAID, *security.options(address)])
        except ServerFailed as error:
            self.close()
            raise AdminUnavailable(f"{error}; {TLS_HINT}" if "TLS" in error.call else str(error)) from None

    def close(self) -> None:
        """Take nothing more; break off what there is of a call."""
        self.has_ended = True
        self._unsettled.clear()
        self._unanswered.clear()
        self._asked = None
        self._outbox.end()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _on(self, command: Command) -> None:
        log.log(MESSAGES, "admin says %s", type(command).__name__)
        match command:
            case Welcome():
                self.is_welcome = True
            case Refused(message):
                raise AdminRefused(f"refused worker {self._identity.worker_id}: {message}")
            case HeartbeatSeen():
                if self._unanswered:
                    self._settle(self._unanswered.popleft() - self._settled)
                return
            case NoWork():
                self.says_no_work = True
                self._asked = None
                return
        self._owner.obey(command)
        if isinstance(command, RunJob):
            self._asked = None

    # ---- what has arrived ------------------------------------------------------------------------------------------

    def _messages(self, report: Report) -> list[bytes]:
        """A report that leaves now. Its answer may be here before the transport has told that it left."""
        if isinstance(report, Heartbeat) and self.dialect.ANSWERS_HEARTBEATS:
            self._unanswered.append(self._settled + len(self._unsettled))
        return self.dialect.encode(report, self._identity, time.time())

    def _sent(self, report: Report) -> None:
        log.log(MESSAGES, "sent %s", type(report).__name__)
        match report:
            case Hello():
                self.has_greeted = True
            case Heartbeat():
                self.last_beat = time.time()
            case Completed() | AskForWork():
                self._unsettled.append((time.monotonic(), report))
                if not self.dialect.ANSWERS_HEARTBEATS and len(self._unsettled) == 1:
                    self._settle_later(SETTLED)

    def _settle_later(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._settle_old)
        timer.daemon = True
        timer.start()

    def _settle_old(self) -> None:
        """Settle what was sent SETTLED seconds ago, and come back for the rest, unless the stream has ended."""
        if self.has_ended:
            return
        now = time.monotonic()
        self._settle(sum(now - at >= SETTLED for at, _report in self._unsettled))
        if self._unsettled:
            self._settle_later(max(0.5, self._unsettled[0][0] + SETTLED - now))

    def _settle(self, count: int) -> None:
        """Let the oldest go that have arrived; a completion whose stream broke before is carried by the next again."""
        for _ in range(count):
            self._settled += 1
            _at, report = self._unsettled.popleft()
            if isinstance(report, Completed):
                self._owner.arrived(report)
            if report is self._asked:
                self._asked = None


def _failure(error: Any, address: Address, with_tls: bool) -> AdminError:
    """What a broken stream means, in words that say what to do."""
    code, detail = error.code(), error.details() or ""
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return NotSpoken(f"the server at {address.grpc} does not speak this dialect; is it an admin? ({detail})")
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
