"""A stand-in for `weed admin`: one process that serves workers by gRPC and tests by HTTP, in one dialect or both.

    python -m weed_sandbox admin -dialect=classic|plugin|both -port=23646 -port.grpc=33646 -master=ADDRESS -dataDir=DIR

What the dialects share: flags, servers, streams, the record of what workers said, and the pages for tests only:

    GET  /sandbox/violations              what would harm a real admin: [{dialect, kind, worker, detail}]
    GET  /sandbox/messages?worker=&kind=  what workers said, oldest first: [{dialect, worker, kind, at, message}]
    GET  /sandbox/counts                  how many messages workers said, by kind
    POST /sandbox/send   {worker, message | messages | base64}    say anything to a connected worker
    POST /sandbox/cut    {worker, code?}  end a worker's stream, with a gRPC status or (default) as if all were well
    POST /sandbox/hang   {on}             neither listen nor speak on any stream until switched off
    POST /sandbox/slow   {seconds}        think so long about every message in either direction
    POST /sandbox/clear                   forget violations and messages

Where a real admin would panic, this one says so on stderr and exits with status 2. The state is in -dataDir, so that
one that was killed can be started again.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import re
import signal
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

import grpc
import toml
from google.protobuf import json_format
from google.protobuf.message import Message

from proto_gen import master_pb2
from proto_gen.master_pb2_grpc import SeaweedStub
from weed_cluster.address import Address
from weed_core.goflags import parse_duration
from weed_sandbox.login import Login

STREAMS = 64  # workers at once; each holds a thread
KEPT_MESSAGES = 20_000


@dataclass(frozen=True)
class Flags:
    """How this admin was started. Times are seconds."""

    ip: str = "127.0.0.1"
    port: int = 23646
    grpc_port: int = 33646
    masters: tuple[str, ...] = ()
    data_dir: Path | None = None
    era: str = "4.44"
    silence: float = 120.0  # a worker that says nothing for so long is given up
    retry_delay: float = 900.0  # before a failed classic task is tried again
    log_interval: float = 30.0  # between two looks at the log of a running classic task
    type_limit: int = 0  # classic tasks of one type at once; 0: as many as a real admin allows
    attempt_timeout: float = 90.0  # the least that a plugin job gets
    schedule: bool = False  # whether the plugin admin detects and executes by itself
    users: Mapping[str, str] = field(default_factory=dict)  # passwords by user; none: everybody is let in

    @classmethod
    def parse(cls, argv: Sequence[str], era: str) -> Flags:
        """Read `-name=value` words; names this stand-in has no use for are passed over."""
        given = dict(word.lstrip("-").partition("=")[::2] for word in argv)
        port = int(given.get("port", "23646"))
        masters = given.get("master", "") or given.get("masters", "")
        return cls(
            ip=given.get("ip", "127.0.0.1"),
            port=port,
            grpc_port=int(given.get("port.grpc", "0")) or port + 10000,
            masters=tuple(filter(None, masters.split(","))),
            data_dir=Path(given["dataDir"]) if given.get("dataDir") else None,
            era=given.get("era", era),
            silence=parse_duration(given.get("silence", "2m")),
            retry_delay=parse_duration(given.get("retryDelay", "15m")),
            log_interval=parse_duration(given.get("logInterval", "30s")),
            type_limit=int(given.get("typeLimit", "0")),
            attempt_timeout=parse_duration(given.get("attemptTimeout", "90s")),
            schedule=given.get("schedule", "false") != "false",
            users={
                given.get(f"{kind}User", "admin"): given[f"{kind}Password"]
                for kind in ("admin", "readOnly")
                if given.get(f"{kind}Password")
            },
        )


# ---- HTTP ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """An HTTP request that found its page. `words` are the variable parts of the path."""

    words: tuple[str, ...]
    query: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object, empty where there is none."""
        document = json.loads(self.body or b"{}")
        if not isinstance(document, dict):
            raise HttpError(400, "invalid request body: not an object")
        return document


class HttpError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, error: str, **more: object) -> None:
        super().__init__(error)
        self.status = status
        self.document = {**more, "error": error}


Page = Callable[[Request], object]
Route = tuple[str, str, Page]  # method, path with "*" for a variable part, page


class Pages(ThreadingHTTPServer):
    """Serves JSON pages."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], routes: Sequence[Route], login: Login) -> None:
        super().__init__(address, _Handler)
        self.login = login
        self._routes = [
            (method, re.compile(re.escape(path).replace(r"\*", "([^/]+)")), page) for method, path, page in routes
        ]

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, object]:
        """Give the status and JSON document of a page."""
        url = urlsplit(target)
        for known, pattern, page in self._routes:
            match = pattern.fullmatch(url.path)
            if match and known == method:
                query = {key: values[-1] for key, values in parse_qs(url.query).items()}
                try:
                    return 200, page(Request(tuple(map(unquote, match.groups())), query, body))
                except HttpError as error:
                    return error.status, error.document
                except (ValueError, KeyError, TypeError, json_format.ParseError) as error:
                    return 400, {"error": f"invalid request body: {error!r}"}
        return 404, {"error": f"no page {url.path}"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet
    server: Pages

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        if (closed := self.server.login.answer(self.command, path, self.headers.get("Cookie") or "", body)) is not None:
            status, more, content = closed
        else:
            (status, document), more = self.server.answer(self.command, self.path, body), {}
            content = json.dumps(document).encode()
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent: tests ask often."""


# ---- streams ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class End:
    """The end of a stream: with a status, or as if all were well."""

    code: grpc.StatusCode | None = None
    text: str = ""


class Rejected(Exception):
    """A worker's message that ends its stream."""


@dataclass(eq=False)
class Session:
    """One worker's stream."""

    peer: str
    worker_id: str = ""
    ended: bool = False
    heard: float = field(default_factory=time.monotonic)
    outbox: queue.SimpleQueue[Message | bytes | End] = field(default_factory=queue.SimpleQueue)

    def send(self, message: Message | bytes) -> None:
        """Say something, if the stream still stands."""
        self.outbox.put(message)

    def end(self, code: grpc.StatusCode | None = None, text: str = "") -> None:
        """End the stream after what was said so far."""
        self.ended = True
        self.outbox.put(End(code, text))


class Dialect(Protocol):
    """What an admin of one dialect is to this process."""

    name: str
    service: str
    worker_message: type[Message]
    admin_message: type[Message]
    routes: list[Route]
    sessions: dict[str, Session]

    def received(self, session: Session, message: Any) -> None:
        """Act on a worker's message; Rejected ends the stream."""

    def gone(self, session: Session) -> None:
        """Notice that a stream has ended."""

    def start(self) -> None:
        """Begin whatever happens by itself."""

    def save(self) -> None:
        """Write the state to disk."""


class Records:
    """What workers said, and what they should not have done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: deque[tuple[str, str, str, float, Message]] = deque(maxlen=KEPT_MESSAGES)
        self._violations: list[dict[str, str]] = []

    def heard(self, dialect: str, message: Any) -> None:
        """Keep a message, which names its worker."""
        kind = message.WhichOneof(message.DESCRIPTOR.oneofs[0].name) or ""
        with self._lock:
            self._messages.append((dialect, message.worker_id, kind, time.time(), message))

    def violation(self, dialect: str, kind: str, worker: str, detail: str) -> None:
        """Keep what a worker should not have done."""
        print(f"violation: {kind} by {worker}: {detail}", file=sys.stderr, flush=True)
        with self._lock:
            self._violations.append({"dialect": dialect, "kind": kind, "worker": worker, "detail": detail})

    def violations(self, _request: Request) -> object:
        """The page of violations."""
        with self._lock:
            return list(self._violations)

    def messages(self, request: Request) -> object:
        """The page of messages."""
        with self._lock:
            kept = list(self._messages)
        return [
            {"dialect": dialect, "worker": worker, "kind": kind, "at": at, "message": to_json(message)}
            for dialect, worker, kind, at, message in kept
            if request.query.get("worker", worker) == worker and request.query.get("kind", kind) == kind
        ]

    def counts(self, _request: Request) -> object:
        """The page of how many messages there are."""
        with self._lock:
            return Counter(kind for _dialect, _worker, kind, _at, _message in self._messages)

    def clear(self, _request: Request) -> object:
        """Forget everything."""
        with self._lock:
            self._messages.clear()
            self._violations.clear()
        return {}


class Gate:
    """Holds up every message while the admin hangs, and each one for a while where it is slow."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self._delay = 0.0

    def hang(self, request: Request) -> object:
        """Hang, or stop hanging."""
        if request.json.get("on", True):
            self._open.clear()
        else:
            self._open.set()
        return {}

    def slow(self, request: Request) -> object:
        """Think so many seconds about every message."""
        self._delay = float(request.json["seconds"])
        return {}

    def wait(self) -> None:
        """Let a message through in time."""
        if self._delay:
            time.sleep(self._delay)
        self._open.wait()


class Streams:
    """The streams of one dialect."""

    def __init__(self, dialect: Dialect, records: Records, gate: Gate) -> None:
        self._dialect = dialect
        self._records = records
        self._gate = gate

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """The gRPC service."""
        method = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=self._dialect.worker_message.FromString,
            response_serializer=lambda said: said if isinstance(said, bytes) else said.SerializeToString(),
        )
        return grpc.method_handlers_generic_handler(self._dialect.service, {"WorkerStream": method})

    def _stream(self, messages: Iterator[Message], context: grpc.ServicerContext) -> Iterator[Message | bytes]:
        session = Session(context.peer().partition(":")[2])
        threading.Thread(target=self._listen, args=(messages, session), daemon=True).start()
        while True:
            said = session.outbox.get()
            if isinstance(said, End):
                if said.code is not None:
                    context.abort(said.code, said.text)
                return
            self._gate.wait()
            yield said

    def _listen(self, messages: Iterator[Message], session: Session) -> None:
        try:
            for message in _until_broken(messages):
                self._gate.wait()
                self._records.heard(self._dialect.name, message)
                self._dialect.received(session, message)
                session.heard = time.monotonic()
        except Rejected as reason:
            session.end(grpc.StatusCode.UNKNOWN, str(reason))
        except Exception:  # noqa: BLE001 - a bug here must not look like a silent admin
            crash(traceback.format_exc())
        session.end()
        self._dialect.gone(session)


def _until_broken(messages: Iterator[Message]) -> Iterator[Message]:
    """Give messages until the stream ends, however it ends: gRPC raises a bare Exception for a lost one."""
    while True:
        try:
            message = next(messages)
        except Exception:  # noqa: BLE001
            return
        yield message


def crash(reason: str) -> NoReturn:
    """End the process as a panic ends a real admin."""
    print(f"panic: {reason}", file=sys.stderr, flush=True)
    os._exit(2)


# ---- what both dialects need --------------------------------------------------------------------------------------


def to_json(message: Message, sparse: bool = False) -> dict[str, Any]:
    """Write a message as real admins do: names as in the .proto, empty fields too unless `sparse`."""
    document: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=not sparse
    )
    return document


def timestamp(seconds: float) -> str:
    """Write unix seconds as RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file, so that a kill leaves the old or the new one; like a real admin say what fails, and go on.

    A task's id is part of a name, and may be too long for one.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(path.name + ".tmp")
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        print(f"failed to save: {os.strerror(error.errno or 0)}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Node:
    """A volume server, as a master knows it."""

    data_center: str
    rack: str
    info: master_pb2.DataNodeInfo

    @property
    def address(self) -> str:
        """Its address, as an admin hands it out."""
        port = f".{self.info.grpc_port}" if self.info.grpc_port else ""
        return str(Address.parse(f"{self.info.address or self.info.id}{port}"))

    @property
    def volumes(self) -> list[master_pb2.VolumeInformationMessage]:
        """The volumes on all its disks."""
        return [volume for disk in self.info.diskInfos.values() for volume in disk.volume_infos]


class Masters:
    """The masters, as an admin asks them."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = [Address.parse(text) for text in addresses]
        self._channels = {address: grpc.insecure_channel(address.grpc) for address in self._addresses}

    def leader(self) -> str:
        """The leader's address, or the first master's where none tells."""
        for address in self._addresses:
            try:
                answer = self._stub(address).GetMasterConfiguration(
                    master_pb2.GetMasterConfigurationRequest(), timeout=5
                )
            except grpc.RpcError:
                continue
            return str(answer.leader) or str(address)
        return str(self._addresses[0]) if self._addresses else ""

    def _volume_list(self) -> master_pb2.VolumeListResponse:
        """What the masters know; empty where none answers."""
        for address in self._addresses:
            try:
                answer: master_pb2.VolumeListResponse = self._stub(address).VolumeList(
                    master_pb2.VolumeListRequest(), timeout=10
                )
            except grpc.RpcError:
                continue
            return answer
        return master_pb2.VolumeListResponse()

    def size_limit(self) -> int:
        """Bytes that a volume may hold."""
        return self._volume_list().volume_size_limit_mb * 1024 * 1024

    def nodes(self) -> list[Node]:
        """Every volume server."""
        return [
            Node(center.id, rack.id, node)
            for center in self._volume_list().topology_info.data_center_infos
            for rack in center.rack_infos
            for node in rack.data_node_infos
        ]

    def page(self, _request: Request) -> object:
        """The page of the configuration, as far as a worker reads it."""
        return {"config_info": {"master_address": self.leader()}, "title": "Configuration Information"}

    def _stub(self, address: Address) -> Any:
        return SeaweedStub(self._channels[address])  # type: ignore[no-untyped-call]


# ---- the process --------------------------------------------------------------------------------------------------


def _credentials() -> grpc.ServerCredentials | None:
    """The certificates that ./security.toml names for an admin, or None for plaintext."""
    path = Path("security.toml")
    wanted = toml.loads(path.read_text()).get("grpc", {}) if path.exists() else {}
    ca, mine = wanted.get("ca"), wanted.get("admin", {})
    if not (ca and mine.get("cert") and mine.get("key")):
        return None
    pair = (Path(mine["key"]).read_bytes(), Path(mine["cert"]).read_bytes())
    return grpc.ssl_server_credentials([pair], Path(ca).read_bytes(), require_client_auth=True)


def _control(dialects: Sequence[Dialect], records: Records, gate: Gate) -> list[Route]:
    """The pages that a real admin does not have."""

    def find(worker: str) -> tuple[Dialect, Session]:
        for dialect in dialects:
            session = dialect.sessions.get(worker)
            if session is not None:
                return dialect, session
        raise HttpError(404, f"worker {worker} is not connected")

    def send(request: Request) -> object:
        order = request.json
        dialect, session = find(order["worker"])
        if "base64" in order:
            session.send(base64.b64decode(order["base64"]))
            return {}
        told = order["messages"] if "messages" in order else [order["message"]]
        for message in [json_format.ParseDict(message, dialect.admin_message()) for message in told]:
            session.send(message)
        return {}

    def cut(request: Request) -> object:
        order = request.json
        _dialect, session = find(order["worker"])
        session.end(grpc.StatusCode[order["code"]] if order.get("code") else None, "cut")
        return {}

    return [
        ("GET", "/health", lambda _request: {"health": "ok"}),
        ("GET", "/sandbox/violations", records.violations),
        ("GET", "/sandbox/messages", records.messages),
        ("GET", "/sandbox/counts", records.counts),
        ("POST", "/sandbox/clear", records.clear),
        ("POST", "/sandbox/hang", gate.hang),
        ("POST", "/sandbox/slow", gate.slow),
        ("POST", "/sandbox/send", send),
        ("POST", "/sandbox/cut", cut),
    ]


def run(flags: Flags, make: Sequence[Callable[[Flags, Masters, Records], Dialect]]) -> int:
    """Serve the dialects until SIGTERM; a real admin too drops its streams at once then."""
    records, gate, masters = Records(), Gate(), Masters(flags.masters)
    dialects = [new(flags, masters, records) for new in make]
    server = grpc.server(
        ThreadPoolExecutor(STREAMS),
        options=[("grpc.max_receive_message_length", 1 << 30), ("grpc.max_send_message_length", 1 << 30)],
    )
    server.add_generic_rpc_handlers([Streams(dialect, records, gate).handler() for dialect in dialects])
    endpoint, credentials = f"{flags.ip}:{flags.grpc_port}", _credentials()
    if credentials is None:
        server.add_insecure_port(endpoint)
    else:
        server.add_secure_port(endpoint, credentials)
    routes = [route for dialect in dialects for route in dialect.routes]
    routes += [("GET", "/api/config", masters.page), *_control(dialects, records, gate)]
    pages = Pages((flags.ip, flags.port), routes, Login(flags.users))
    server.start()
    for dialect in dialects:
        dialect.start()
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    while not stopped.wait(0.25):
        for dialect in dialects:
            dialect.save()
    for dialect in dialects:
        dialect.save()
    os._exit(0)
