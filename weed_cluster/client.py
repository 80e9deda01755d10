"""Clients for masters and volume servers: one method per RPC used, each with a deadline, errors turned into ours.

A method is the RPC's name in snake case and takes the request's fields by name; it returns the response message, or
an iterator of them. Every call is made as a future and awaited, so that under gevent a waiting call costs no thread;
one channel per server is kept for all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

import grpc

from proto_gen import master_pb2 as m
from proto_gen import volume_server_pb2 as v
from weed_cluster.address import GRPC_OFFSET, Address
from weed_cluster.leash import Leash
from weed_cluster.masters import Masters
from weed_cluster.uploads import Uploads
from weed_errors import BadTask, ServerFailed, ServerTimedOut

MAX_MESSAGE = 1 << 30
"""Largest message in bytes, both ways, as SeaweedFS's servers have it (grpc's own default is 4 MiB)."""

CONNECT = 10.0
"""Seconds for a connection and the handshakes on it: links with a round trip of two seconds exist."""

OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    # 3.97 servers punish pings less than 60 s apart.
    ("grpc.keepalive_time_ms", 75_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    # How long connecting may take, whatever the name says: with TLS that is up to four round trips.
    ("grpc.min_reconnect_backoff_ms", int(CONNECT * 1000)),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A fixed window: the one gRPC would find by itself holds hundreds of MB on fast links. 1 MiB on the way at a time
    # still is 100 MB/s for each stream over a link with 10 ms.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1 << 20),
)

SHORT = 30.0
"""Deadline in seconds of calls that only look or flip a flag."""

LONG = 600.0
"""Deadline in seconds of calls that move data, where the caller knows no better."""

RETRY_PAUSES = (0.2, 0.8)
"""Seconds between the tries of a call that is harmless to repeat."""

NOT_LEADER = "not current leader"

LEADERS_ALONE = ("VolumeList", "VolumeListStream", "LookupEcVolume", "LeaseAdminToken")
"""Calls that only the leader answers."""

SURE = 10.0
"""Seconds after such an answer in which a master is taken for the leader without being asked."""

LOOK, HEDGE = 3.0, 0.5
"""Seconds that a master has to say whether it leads, and after which the others are asked, too."""

ELECTION = 60.0
"""Seconds that a call waits for a leader while masters answer that there is none: elections take 10 to 20."""

PAUSE = 1.0
"""Seconds between two looks for a leader."""

PEERS_EVERY = 60.0
"""Seconds between two questions to the leader for the members of its cluster."""

Message = TypeVar("Message")
Options = Callable[[Address], Iterable[tuple[str, Any]]]
"""Further channel options for a server, such as the name its certificate carries; may ask the server."""

Observer = Callable[[str, str, str], None]
"""Told of every call: (server, RPC, outcome), where the outcome is "" when it is sent, then "OK" or a status code."""


def _ignore(_server: str, _call: str, _outcome: str) -> None:
    """Observe nothing."""


def _plaintext() -> None:
    """Use no credentials."""


def _no_options(_address: Address) -> Iterable[tuple[str, Any]]:
    return ()


def open_channel(
    address: Address, credentials: grpc.ChannelCredentials | None, options: Iterable[tuple[str, Any]]
) -> grpc.Channel:
    """A channel with this project's options and these; plaintext where there are no credentials."""
    if credentials is None:
        return grpc.insecure_channel(address.grpc, options=[*OPTIONS, *options])
    return grpc.secure_channel(address.grpc, credentials, options=[*OPTIONS, *options])


class Channels:
    """One cached channel per server.

    `credentials` and `options` are asked for each new channel; both are a Security's methods of these names.
    """

    def __init__(
        self,
        credentials: Callable[[], grpc.ChannelCredentials | None] = _plaintext,
        options: Callable[[Address], Iterable[tuple[str, Any]]] = _no_options,
        observe: Observer = _ignore,
        uploads: Uploads | None = None,
    ) -> None:
        self.observe = observe
        self.uploads = uploads or Uploads()
        self._credentials = credentials
        self._options = options
        self._lock = threading.Lock()
        self._channels: dict[Address, grpc.Channel] = {}

    def to(self, address: Address) -> grpc.Channel:
        """The channel to a server; opened on first use. Raises ServerFailed where TLS cannot be agreed."""
        with self._lock:
            channel = self._channels.get(address)
        if channel is not None:
            return channel
        # Not under the lock: the options may have to be asked from a server that is slow to answer.
        opened = open_channel(address, self._credentials(), self._options(address))
        with self._lock:
            channel = self._channels.setdefault(address, opened)
        if channel is not opened:
            opened.close()
        return channel

    def renew(self) -> None:
        """Make new channels from now on, as after a change of certificates; calls under way finish on the old ones."""
        with self._lock:
            self._channels = {}

    def close(self) -> None:
        """Close every channel; calls under way fail as cancelled."""
        with self._lock:
            channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.close()


class Upload:
    """One ReceiveFile under way: `done()` awaits the server's answer, `cancel()` breaks it off."""

    def __init__(self, client: _Client, call: str, future: Any) -> None:
        self._client = client
        self._call = call
        self._future = future

    @property
    def ended(self) -> bool:
        """Whether the server has answered or the stream broke; feeding further bytes is pointless."""
        return bool(self._future.done())

    def done(self) -> v.ReceiveFileResponse:
        """Await the answer."""
        return self._client._result(self._call, self._future)  # type: ignore[no-any-return]

    def cancel(self) -> None:
        """Break the stream off; the server removes the partial file."""
        self._future.cancel()


_FILE_CONTENT_SENT = b"\x12"
"""Tag of ReceiveFileRequest.file_content. Bulk messages are framed by hand: protobuf would copy them twice."""


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def upload_message(content: bytes | memoryview) -> bytes:
    """One message of receive_file() with these bytes of the file."""
    return b"".join((_FILE_CONTENT_SENT, _varint(len(content)), content))


class _FileContent:
    """The file_content of a CopyFileResponse, where it lies in the message."""

    @staticmethod
    def FromString(message: bytes) -> memoryview:  # noqa: N802
        """Take the content out of a message; a message that begins otherwise is left to protobuf."""
        if message[:1] != b"\x0a":
            return memoryview(v.CopyFileResponse.FromString(message).file_content)
        length = shift = 0
        for at in range(1, 11):
            length |= (message[at] & 0x7F) << shift
            shift += 7
            if message[at] < 0x80:
                break
        return memoryview(message)[at + 1 : at + 1 + length]


class _Client:
    """What Master and VolumeServer share: calling, and turning failures into ServerFailed."""

    SERVICE = ""

    def __init__(self, channels: Channels, address: Address, leash: Leash) -> None:
        self.address = address
        self._channels = channels
        self._leash = leash

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address})"

    def _method(self, call: str, kind: str, request: Any, response: Any) -> Any:
        factory = getattr(self._channels.to(self.address), kind)
        return factory(
            f"/{self.SERVICE}/{call}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )

    def _unary(self, call: str, request: Any, response: Callable[..., Message], timeout: float) -> Message:
        """Send one message, await one."""
        self._begin(call)
        method = self._method(call, "unary_unary", type(request), response)
        self._leash.written += request.ByteSize()
        return self._result(call, method.future(request, timeout=self._leash.limit(timeout)))  # type: ignore[no-any-return]

    def _look(self, call: str, request: Any, response: Callable[..., Message], timeout: float) -> Message:
        """Send one message that is harmless to repeat; repeat it where the server was unreachable or reset it.

        Not where it took long to find that out: a server from which nothing comes will not answer a second later.
        """
        for pause in RETRY_PAUSES:
            began = time.monotonic()
            try:
                return self._unary(call, request, response, timeout)
            except ServerFailed as error:
                if error.code != "UNAVAILABLE" and "RST_STREAM" not in error.detail:
                    raise
                if time.monotonic() - began > CONNECT / 2:
                    raise
            self._leash.wait(pause)
        return self._unary(call, request, response, timeout)

    def _stream(self, call: str, request: Any, response: Callable[..., Message], timeout: float) -> Iterator[Message]:
        """Send one message, yield many. Closing the iterator cancels the call."""
        self._begin(call)
        method = self._method(call, "unary_stream", type(request), response)
        replies = method(request, timeout=self._leash.limit(timeout))
        try:
            with self._leash.holding(replies):
                for reply in replies:
                    self._leash.read += len(reply) if isinstance(reply, memoryview) else reply.ByteSize()
                    yield reply
        except grpc.RpcError as error:
            raise self._failure(call, error) from None
        else:
            self._channels.observe(str(self.address), call, "OK")
        finally:
            replies.cancel()

    def _begin(self, call: str) -> None:
        self._leash.check()
        self._channels.observe(str(self.address), call, "")

    def _result(self, call: str, future: Any) -> Any:
        try:
            with self._leash.holding(future):
                result = future.result()
        except grpc.RpcError as error:
            raise self._failure(call, error) from None
        except grpc.FutureCancelledError:
            self._leash.check()
            raise ServerFailed(str(self.address), call, "CANCELLED", "broken off by this worker") from None
        except BaseException:
            future.cancel()  # the job was killed while waiting: do not leave the call behind
            raise
        self._leash.read += result.ByteSize()
        self._channels.observe(str(self.address), call, "OK")
        return result

    def _failure(self, call: str, error: Any) -> ServerFailed:
        code, detail = error.code().name, error.details() or ""
        self._channels.observe(str(self.address), call, code)
        self._leash.check()  # broken off because the job must end: say so, not that the server failed
        # A deadline that passes may surface as a reset (CANCELLED) that nobody asked for.
        kind = ServerTimedOut if code == "DEADLINE_EXCEEDED" or "RST_STREAM" in detail else ServerFailed
        return kind(str(self.address), call, code, detail)


class MasterAt(_Client):
    """One master by its address, whether it leads or not."""

    SERVICE = "master_pb.Seaweed"

    def lookup_volume(
        self, *, volume_or_file_ids: Iterable[str] = (), collection: str = "", timeout: float = SHORT
    ) -> m.LookupVolumeResponse:
        return self._look(
            "LookupVolume",
            m.LookupVolumeRequest(volume_or_file_ids=volume_or_file_ids, collection=collection),
            m.LookupVolumeResponse,
            timeout,
        )

    def volume_list(
        self, *, collection: str = "", volume_id: int = 0, default_collection_only: bool = False, timeout: float = SHORT
    ) -> m.VolumeListResponse:
        return self._look(
            "VolumeList",
            m.VolumeListRequest(
                collection=collection, volume_id=volume_id, default_collection_only=default_collection_only
            ),
            m.VolumeListResponse,
            timeout,
        )

    def volume_list_stream(
        self, *, collection: str = "", volume_id: int = 0, default_collection_only: bool = False, timeout: float = LONG
    ) -> Iterator[m.VolumeListStreamResponse]:
        return self._stream(
            "VolumeListStream",
            m.VolumeListRequest(
                collection=collection, volume_id=volume_id, default_collection_only=default_collection_only
            ),
            m.VolumeListStreamResponse,
            timeout,
        )

    def lookup_ec_volume(self, *, volume_id: int = 0, timeout: float = SHORT) -> m.LookupEcVolumeResponse:
        return self._look(
            "LookupEcVolume", m.LookupEcVolumeRequest(volume_id=volume_id), m.LookupEcVolumeResponse, timeout
        )

    def disable_vacuum(self, *, by_plugin: bool = False, timeout: float = SHORT) -> m.DisableVacuumResponse:
        return self._unary(
            "DisableVacuum", m.DisableVacuumRequest(by_plugin=by_plugin), m.DisableVacuumResponse, timeout
        )

    def enable_vacuum(self, *, by_plugin: bool = False, timeout: float = SHORT) -> m.EnableVacuumResponse:
        return self._unary("EnableVacuum", m.EnableVacuumRequest(by_plugin=by_plugin), m.EnableVacuumResponse, timeout)

    def get_master_configuration(self, *, timeout: float = SHORT) -> m.GetMasterConfigurationResponse:
        return self._look(
            "GetMasterConfiguration", m.GetMasterConfigurationRequest(), m.GetMasterConfigurationResponse, timeout
        )

    def lease_admin_token(
        self,
        *,
        previous_token: int = 0,
        previous_lock_time: int = 0,
        lock_name: str = "",
        client_name: str = "",
        message: str = "",
        timeout: float = SHORT,
    ) -> m.LeaseAdminTokenResponse:
        return self._unary(
            "LeaseAdminToken",
            m.LeaseAdminTokenRequest(
                previous_token=previous_token,
                previous_lock_time=previous_lock_time,
                lock_name=lock_name,
                client_name=client_name,
                message=message,
            ),
            m.LeaseAdminTokenResponse,
            timeout,
        )

    def release_admin_token(
        self, *, previous_token: int = 0, previous_lock_time: int = 0, lock_name: str = "", timeout: float = SHORT
    ) -> m.ReleaseAdminTokenResponse:
        return self._unary(
            "ReleaseAdminToken",
            m.ReleaseAdminTokenRequest(
                previous_token=previous_token, previous_lock_time=previous_lock_time, lock_name=lock_name
            ),
            m.ReleaseAdminTokenResponse,
            timeout,
        )

    def ping(self, *, target: str = "", target_type: str = "", timeout: float = SHORT) -> m.PingResponse:
        return self._look("Ping", m.PingRequest(target=target, target_type=target_type), m.PingResponse, timeout)


class Master(MasterAt):
    """The cluster's masters as one: calls go to whichever leads now, and are sent again where that one has changed.

    Before a call, a leader that was not heard as such for a while is asked whether it still leads. During an election
    a call waits for its end, as long as any master answers.
    """

    def __init__(self, channels: Channels, masters: Masters | Iterable[Address], leash: Leash) -> None:
        self.masters = masters if isinstance(masters, Masters) else Masters(masters)
        if not self.masters:
            self.masters.ask_again()
        first = next(iter(self.masters), None)
        if first is None:
            raise BadTask("no master is known; name one with -master=host:9333")
        super().__init__(channels, first, leash)

    def find(self) -> None:
        """Find out who leads, and who else is a member; ServerFailed where that cannot be told now."""
        self._lead("LookupEcVolume", 0.0)

    def wait(self, seconds: float) -> None:
        """Sleep; raises when the job is cancelled or passes its deadline."""
        self._leash.wait(seconds)

    def _unary(self, call: str, request: Any, response: Callable[..., Message], timeout: float) -> Message:
        # What a lease has not given back ends by itself; nobody waits for an election because of that.
        patience = 0.0 if call == "ReleaseAdminToken" else ELECTION
        self._lead(call, patience)
        try:
            answer = super()._unary(call, request, response, timeout)
        except ServerFailed as error:
            if not _leads_no_more(error):
                raise
            self.masters.doubt()
            before = self.address
            self._seek(error, patience)
            if self.address == before and NOT_LEADER not in error.detail.lower():
                raise
            answer = super()._unary(call, request, response, timeout)
        self._heard(call)
        return answer

    def _stream(self, call: str, request: Any, response: Callable[..., Message], timeout: float) -> Iterator[Message]:
        started = False
        self._lead(call, ELECTION)
        try:
            for reply in super()._stream(call, request, response, timeout):
                started = True
                yield reply
            self._heard(call)
            return
        except ServerFailed as error:
            if not _leads_no_more(error):
                raise
            self.masters.doubt()
            if started:
                raise
            before = self.address
            self._seek(error, ELECTION)
            if self.address == before and NOT_LEADER not in error.detail.lower():
                raise
        yield from super()._stream(call, request, response, timeout)

    def _heard(self, call: str) -> None:
        if call in LEADERS_ALONE:
            self.masters.leads(self.address)

    def _lead(self, call: str, patience: float) -> None:
        """Make sure that the address is the leader's."""
        if self.masters.leader is None or not self.masters.led_within(SURE):
            self._leash.check()
            self._seek(ServerFailed(str(self.address), call, "UNAVAILABLE", "no master answers"), patience)
        elif self.masters.leader is not None:
            self.address = self.masters.leader
        if not self.masters.listed_within(PEERS_EVERY):
            self._list_peers()

    def _seek(self, failed: ServerFailed, patience: float) -> None:
        """Find the leader, waiting so many seconds for an election; raise what is known, else `failed`, if none is."""
        until = time.monotonic() + patience
        while True:
            search = _Search(self._channels, list(self.masters), self._leash)
            leader = search.run()
            if leader is None:
                self.masters.ask_again()
                more = [address for address in (*search.named, *self.masters) if address not in search.asked]
                again = _Search(self._channels, list(dict.fromkeys(more)), self._leash)
                leader = again.run()
                search.followers += again.followers
            if leader is not None:
                self.masters.leads(leader)
                self.address = leader
                return
            if not search.followers:
                if search.error is not None:
                    failed = search.error(failed.call)
                raise failed
            if time.monotonic() >= until:
                names = ", ".join(map(str, search.followers))
                raise ServerFailed(str(self.address), failed.call, "ABORTED", f"no leader is elected, say {names}")
            self._leash.wait(PAUSE)

    def _list_peers(self) -> None:
        """Have the leader name the members, so that another is known when it dies; it may not tell."""
        self.masters.listing()
        method = self._method(
            "RaftListClusterServers", "unary_unary", m.RaftListClusterServersRequest, m.RaftListClusterServersResponse
        )
        try:
            listed = method.future(m.RaftListClusterServersRequest(), timeout=LOOK).result().cluster_servers
        except (grpc.RpcError, grpc.FutureCancelledError):
            return
        self.masters.list_peers(filter(None, map(_member, listed)))


def _leads_no_more(error: ServerFailed) -> bool:
    """Whether another master may lead by now: this one says so, is gone, or hangs."""
    return NOT_LEADER in error.detail.lower() or error.code == "UNAVAILABLE" or isinstance(error, ServerTimedOut)


def _member(listed: m.RaftListClusterServersResponse.ClusterServers) -> Address | None:
    """The address of a listed master: its name says both ports, its address the gRPC port alone."""
    for text in (listed.id, listed.address):
        try:
            named = Address.parse(text)
        except BadTask:
            continue
        is_grpc = text == listed.address and listed.id != listed.address
        return Address(named.host, named.port, named.port - GRPC_OFFSET) if is_grpc else named
    return None


class _Search:
    """Asks masters which of them leads, the first one first; those that are slow or gone cost a bounded time.

    The question is a lookup that only a leader answers: a master may be known here under another name than its own.
    Afterwards `followers` answered but do not lead, `named` are whom they follow, and `error`
    makes the last other failure, of the name of the call that it concerns.
    """

    def __init__(self, channels: Channels, masters: list[Address], leash: Leash) -> None:
        self.asked: list[Address] = []
        self.followers: list[Address] = []
        self.named: list[Address] = []
        self.error: Callable[[str], ServerFailed] | None = None
        self._channels = channels
        self._masters = masters
        self._leash = leash
        self._open: dict[Address, Any] = {}

    def run(self) -> Address | None:
        """The first that says that it leads; None where none does."""
        try:
            leader = self._first_of(self._masters[:1], HEDGE) or self._first_of(self._masters[1:], LOOK + HEDGE)
        finally:
            for future in self._open.values():
                future.cancel()
        if leader is None:
            self.named = [leader for leader in map(self._follows, self.followers[:3]) if leader is not None]
        return leader

    def _first_of(self, masters: list[Address], seconds: float) -> Address | None:
        for master in masters:
            self.asked.append(master)
            try:
                self._open[master] = self._call(master, "LookupEcVolume", m.LookupEcVolumeRequest())
            except ServerFailed as error:
                self._note(master, error.code, error.detail)
        ends = time.monotonic() + seconds
        pause = 0.001
        while self._open and time.monotonic() < ends:
            for master, future in list(self._open.items()):
                if future.done():
                    del self._open[master]
                    if self._says_that_it_leads(master, future):
                        return master
            self._leash.check()
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        return None

    def _says_that_it_leads(self, master: Address, future: Any) -> bool:
        error = future.exception()
        if error is None:
            return True
        code, detail = error.code().name, error.details() or ""
        if NOT_LEADER in detail.lower():
            self.followers.append(master)
        elif code in ("UNKNOWN", "NOT_FOUND"):
            return True  # it looked for the volume, as only a leader does
        else:
            self._note(master, code, detail)
        return False

    def _note(self, master: Address, code: str, detail: str) -> None:
        kind = ServerTimedOut if code == "DEADLINE_EXCEEDED" else ServerFailed
        self.error = lambda call: kind(str(master), call, code, detail)

    def _follows(self, master: Address) -> Address | None:
        call = self._call(master, "GetMasterConfiguration", m.GetMasterConfigurationRequest())
        try:
            return Address.parse(call.result().leader)
        except (grpc.RpcError, grpc.FutureCancelledError, BadTask):
            return None

    def _call(self, master: Address, call: str, request: Any) -> Any:
        response = {"LookupEcVolume": m.LookupEcVolumeResponse}.get(call, m.GetMasterConfigurationResponse)
        method = self._channels.to(master).unary_unary(
            f"/{MasterAt.SERVICE}/{call}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return method.future(request, timeout=LOOK)


class VolumeServer(_Client):
    """One volume server."""

    SERVICE = "volume_server_pb.VolumeServer"

    def receive_file(self, *, info: v.ReceiveFileInfo, messages: Iterable[bytes], timeout: float = LONG) -> Upload:
        """Start sending one file: its info, then its bytes as the iterator yields them, each by upload_message().

        N.B. the server reports success for a stream that ended early: compare bytes_written with the size.
        The iterator must end even after a cancel, or its consumer thread waits for ever.
        """
        call = "ReceiveFile"
        self._begin(call)

        def counted() -> Iterator[bytes]:
            yield v.ReceiveFileRequest(info=info).SerializeToString()
            for message in messages:
                self._leash.written += len(message)
                yield message

        send = self._channels.to(self.address).stream_unary(
            f"/{self.SERVICE}/{call}", request_serializer=None, response_deserializer=v.ReceiveFileResponse.FromString
        )
        return Upload(self, call, send.future(counted(), timeout=self._leash.limit(timeout)))

    def batch_delete(
        self, *, file_ids: Iterable[str] = (), skip_cookie_check: bool = False, timeout: float = SHORT
    ) -> v.BatchDeleteResponse:
        return self._unary(
            "BatchDelete",
            v.BatchDeleteRequest(file_ids=file_ids, skip_cookie_check=skip_cookie_check),
            v.BatchDeleteResponse,
            timeout,
        )

    def vacuum_volume_check(self, *, volume_id: int, timeout: float = LONG) -> v.VacuumVolumeCheckResponse:
        return self._look(
            "VacuumVolumeCheck", v.VacuumVolumeCheckRequest(volume_id=volume_id), v.VacuumVolumeCheckResponse, timeout
        )

    def vacuum_volume_compact(
        self, *, volume_id: int, preallocate: int = 0, timeout: float = LONG
    ) -> Iterator[v.VacuumVolumeCompactResponse]:
        return self._stream(
            "VacuumVolumeCompact",
            v.VacuumVolumeCompactRequest(volume_id=volume_id, preallocate=preallocate),
            v.VacuumVolumeCompactResponse,
            timeout,
        )

    def vacuum_volume_commit(self, *, volume_id: int, timeout: float = LONG) -> v.VacuumVolumeCommitResponse:
        return self._unary(
            "VacuumVolumeCommit",
            v.VacuumVolumeCommitRequest(volume_id=volume_id),
            v.VacuumVolumeCommitResponse,
            timeout,
        )

    def vacuum_volume_cleanup(self, *, volume_id: int, timeout: float = SHORT) -> v.VacuumVolumeCleanupResponse:
        return self._unary(
            "VacuumVolumeCleanup",
            v.VacuumVolumeCleanupRequest(volume_id=volume_id),
            v.VacuumVolumeCleanupResponse,
            timeout,
        )

    def volume_mount(self, *, volume_id: int, timeout: float = SHORT) -> v.VolumeMountResponse:
        return self._look("VolumeMount", v.VolumeMountRequest(volume_id=volume_id), v.VolumeMountResponse, timeout)

    def volume_unmount(self, *, volume_id: int, timeout: float = SHORT) -> v.VolumeUnmountResponse:
        return self._look(
            "VolumeUnmount", v.VolumeUnmountRequest(volume_id=volume_id), v.VolumeUnmountResponse, timeout
        )

    def volume_configure(self, *, volume_id: int, replication: str, timeout: float = LONG) -> v.VolumeConfigureResponse:
        """Give a volume another placement; ServerFailed also for an error in the answer."""
        answer = self._unary(
            "VolumeConfigure",
            v.VolumeConfigureRequest(volume_id=volume_id, replication=replication),
            v.VolumeConfigureResponse,
            timeout,
        )
        if answer.error:
            raise ServerFailed(str(self.address), "VolumeConfigure", "UNKNOWN", answer.error)
        return answer

    def volume_delete(
        self, *, volume_id: int, only_empty: bool = False, keep_remote_data: bool = False, timeout: float = SHORT
    ) -> v.VolumeDeleteResponse:
        return self._unary(
            "VolumeDelete",
            v.VolumeDeleteRequest(volume_id=volume_id, only_empty=only_empty, keep_remote_data=keep_remote_data),
            v.VolumeDeleteResponse,
            timeout,
        )

    def volume_mark_readonly(
        self, *, volume_id: int, persist: bool = False, can_delete: bool = False, timeout: float = SHORT
    ) -> v.VolumeMarkReadonlyResponse:
        return self._look(
            "VolumeMarkReadonly",
            v.VolumeMarkReadonlyRequest(volume_id=volume_id, persist=persist, can_delete=can_delete),
            v.VolumeMarkReadonlyResponse,
            timeout,
        )

    def volume_mark_writable(self, *, volume_id: int, timeout: float = SHORT) -> v.VolumeMarkWritableResponse:
        return self._unary(
            "VolumeMarkWritable",
            v.VolumeMarkWritableRequest(volume_id=volume_id),
            v.VolumeMarkWritableResponse,
            timeout,
        )

    def volume_status(self, *, volume_id: int, timeout: float = SHORT) -> v.VolumeStatusResponse:
        return self._look("VolumeStatus", v.VolumeStatusRequest(volume_id=volume_id), v.VolumeStatusResponse, timeout)

    def get_state(self, *, timeout: float = SHORT) -> v.GetStateResponse:
        return self._look("GetState", v.GetStateRequest(), v.GetStateResponse, timeout)

    def volume_copy(
        self,
        *,
        volume_id: int,
        collection: str = "",
        replication: str = "",
        ttl: str = "",
        source_data_node: str = "",
        disk_type: str = "",
        io_byte_per_second: int = 0,
        timeout: float = LONG,
    ) -> Iterator[v.VolumeCopyResponse]:
        return self._stream(
            "VolumeCopy",
            v.VolumeCopyRequest(
                volume_id=volume_id,
                collection=collection,
                replication=replication,
                ttl=ttl,
                source_data_node=source_data_node,
                disk_type=disk_type,
                io_byte_per_second=io_byte_per_second,
            ),
            v.VolumeCopyResponse,
            timeout,
        )

    def read_volume_file_status(self, *, volume_id: int, timeout: float = SHORT) -> v.ReadVolumeFileStatusResponse:
        return self._look(
            "ReadVolumeFileStatus",
            v.ReadVolumeFileStatusRequest(volume_id=volume_id),
            v.ReadVolumeFileStatusResponse,
            timeout,
        )

    def copy_file(
        self,
        *,
        volume_id: int,
        ext: str = "",
        compaction_revision: int = 0,
        stop_offset: int = 0,
        collection: str = "",
        is_ec_volume: bool = False,
        ignore_source_file_not_found: bool = False,
        timeout: float = LONG,
    ) -> Iterator[v.CopyFileResponse]:
        return self._stream(
            "CopyFile",
            v.CopyFileRequest(
                volume_id=volume_id,
                ext=ext,
                compaction_revision=compaction_revision,
                stop_offset=stop_offset,
                collection=collection,
                is_ec_volume=is_ec_volume,
                ignore_source_file_not_found=ignore_source_file_not_found,
            ),
            v.CopyFileResponse,
            timeout,
        )

    def copy_file_content(
        self, *, volume_id: int, ext: str, compaction_revision: int, stop_offset: int, timeout: float = LONG
    ) -> Iterator[memoryview]:
        """CopyFile of a volume's file for bulk: yields the bytes alone, without copying them."""
        request = v.CopyFileRequest(
            volume_id=volume_id, ext=ext, compaction_revision=compaction_revision, stop_offset=stop_offset
        )
        return cast("Iterator[memoryview]", self._stream("CopyFile", request, _FileContent, timeout))

    def read_needle_blob(
        self, *, volume_id: int, offset: int = 0, size: int = 0, timeout: float = SHORT
    ) -> v.ReadNeedleBlobResponse:
        return self._look(
            "ReadNeedleBlob",
            v.ReadNeedleBlobRequest(volume_id=volume_id, offset=offset, size=size),
            v.ReadNeedleBlobResponse,
            timeout,
        )

    def read_needle_meta(
        self, *, volume_id: int, needle_id: int = 0, offset: int = 0, size: int = 0, timeout: float = SHORT
    ) -> v.ReadNeedleMetaResponse:
        return self._look(
            "ReadNeedleMeta",
            v.ReadNeedleMetaRequest(volume_id=volume_id, needle_id=needle_id, offset=offset, size=size),
            v.ReadNeedleMetaResponse,
            timeout,
        )

    def write_needle_blob(
        self, *, volume_id: int, needle_id: int = 0, size: int = 0, needle_blob: bytes = b"", timeout: float = SHORT
    ) -> v.WriteNeedleBlobResponse:
        return self._unary(
            "WriteNeedleBlob",
            v.WriteNeedleBlobRequest(volume_id=volume_id, needle_id=needle_id, size=size, needle_blob=needle_blob),
            v.WriteNeedleBlobResponse,
            timeout,
        )

    def volume_ec_shards_copy(
        self,
        *,
        volume_id: int,
        collection: str = "",
        shard_ids: Iterable[int] = (),
        copy_ecx_file: bool = False,
        source_data_node: str = "",
        copy_ecj_file: bool = False,
        copy_vif_file: bool = False,
        disk_id: int = 0,
        copy_ecsum_file: bool = False,
        io_byte_per_second: int = 0,
        timeout: float = LONG,
    ) -> v.VolumeEcShardsCopyResponse:
        return self._unary(
            "VolumeEcShardsCopy",
            v.VolumeEcShardsCopyRequest(
                volume_id=volume_id,
                collection=collection,
                shard_ids=shard_ids,
                copy_ecx_file=copy_ecx_file,
                source_data_node=source_data_node,
                copy_ecj_file=copy_ecj_file,
                copy_vif_file=copy_vif_file,
                disk_id=disk_id,
                copy_ecsum_file=copy_ecsum_file,
                io_byte_per_second=io_byte_per_second,
            ),
            v.VolumeEcShardsCopyResponse,
            timeout,
        )

    def volume_ec_shards_delete(
        self,
        *,
        volume_id: int,
        collection: str = "",
        shard_ids: Iterable[int] = (),
        full_teardown: bool = False,
        encode_ts_ns: int = 0,
        timeout: float = SHORT,
    ) -> v.VolumeEcShardsDeleteResponse:
        return self._unary(
            "VolumeEcShardsDelete",
            v.VolumeEcShardsDeleteRequest(
                volume_id=volume_id,
                collection=collection,
                shard_ids=shard_ids,
                full_teardown=full_teardown,
                encode_ts_ns=encode_ts_ns,
            ),
            v.VolumeEcShardsDeleteResponse,
            timeout,
        )

    def volume_ec_shards_mount(
        self,
        *,
        volume_id: int,
        collection: str = "",
        shard_ids: Iterable[int] = (),
        source_disk_type: str = "",
        recover_missing_index: bool = False,
        timeout: float = SHORT,
    ) -> v.VolumeEcShardsMountResponse:
        return self._look(
            "VolumeEcShardsMount",
            v.VolumeEcShardsMountRequest(
                volume_id=volume_id,
                collection=collection,
                shard_ids=shard_ids,
                source_disk_type=source_disk_type,
                recover_missing_index=recover_missing_index,
            ),
            v.VolumeEcShardsMountResponse,
            timeout,
        )

    def volume_ec_shards_unmount(
        self, *, volume_id: int, shard_ids: Iterable[int] = (), encode_ts_ns: int = 0, timeout: float = SHORT
    ) -> v.VolumeEcShardsUnmountResponse:
        return self._unary(
            "VolumeEcShardsUnmount",
            v.VolumeEcShardsUnmountRequest(volume_id=volume_id, shard_ids=shard_ids, encode_ts_ns=encode_ts_ns),
            v.VolumeEcShardsUnmountResponse,
            timeout,
        )

    def volume_ec_shard_read(
        self,
        *,
        volume_id: int,
        shard_id: int = 0,
        offset: int = 0,
        size: int = 0,
        file_key: int = 0,
        encode_ts_ns: int = 0,
        timeout: float = LONG,
    ) -> Iterator[v.VolumeEcShardReadResponse]:
        return self._stream(
            "VolumeEcShardRead",
            v.VolumeEcShardReadRequest(
                volume_id=volume_id,
                shard_id=shard_id,
                offset=offset,
                size=size,
                file_key=file_key,
                encode_ts_ns=encode_ts_ns,
            ),
            v.VolumeEcShardReadResponse,
            timeout,
        )

    def volume_ec_blob_delete(
        self, *, volume_id: int, collection: str = "", file_key: int, version: int, timeout: float = SHORT
    ) -> v.VolumeEcBlobDeleteResponse:
        return self._look(
            "VolumeEcBlobDelete",
            v.VolumeEcBlobDeleteRequest(volume_id=volume_id, collection=collection, file_key=file_key, version=version),
            v.VolumeEcBlobDeleteResponse,
            timeout,
        )

    def volume_ec_shards_info(self, *, volume_id: int, timeout: float = SHORT) -> v.VolumeEcShardsInfoResponse:
        return self._look(
            "VolumeEcShardsInfo",
            v.VolumeEcShardsInfoRequest(volume_id=volume_id),
            v.VolumeEcShardsInfoResponse,
            timeout,
        )

    def volume_tier_move_dat_to_remote(
        self,
        *,
        volume_id: int,
        collection: str = "",
        destination_backend_name: str = "",
        keep_local_dat_file: bool = False,
        timeout: float = LONG,
    ) -> Iterator[v.VolumeTierMoveDatToRemoteResponse]:
        return self._stream(
            "VolumeTierMoveDatToRemote",
            v.VolumeTierMoveDatToRemoteRequest(
                volume_id=volume_id,
                collection=collection,
                destination_backend_name=destination_backend_name,
                keep_local_dat_file=keep_local_dat_file,
            ),
            v.VolumeTierMoveDatToRemoteResponse,
            timeout,
        )

    def volume_tier_move_dat_from_remote(
        self, *, volume_id: int, collection: str = "", keep_remote_dat_file: bool = False, timeout: float = LONG
    ) -> Iterator[v.VolumeTierMoveDatFromRemoteResponse]:
        return self._stream(
            "VolumeTierMoveDatFromRemote",
            v.VolumeTierMoveDatFromRemoteRequest(
                volume_id=volume_id, collection=collection, keep_remote_dat_file=keep_remote_dat_file
            ),
            v.VolumeTierMoveDatFromRemoteResponse,
            timeout,
        )

    def volume_server_status(self, *, timeout: float = SHORT) -> v.VolumeServerStatusResponse:
        return self._look("VolumeServerStatus", v.VolumeServerStatusRequest(), v.VolumeServerStatusResponse, timeout)

    def scrub_volume(
        self,
        *,
        mode: v.VolumeScrubMode,
        volume_ids: Iterable[int],
        mark_broken_volumes_readonly: bool = False,
        timeout: float = LONG,
    ) -> v.ScrubVolumeResponse:
        return self._unary(
            "ScrubVolume",
            v.ScrubVolumeRequest(
                mode=mode, volume_ids=volume_ids, mark_broken_volumes_readonly=mark_broken_volumes_readonly
            ),
            v.ScrubVolumeResponse,
            timeout,
        )

    def volume_needle_status(
        self, *, volume_id: int, needle_id: int = 0, timeout: float = SHORT
    ) -> v.VolumeNeedleStatusResponse:
        return self._look(
            "VolumeNeedleStatus",
            v.VolumeNeedleStatusRequest(volume_id=volume_id, needle_id=needle_id),
            v.VolumeNeedleStatusResponse,
            timeout,
        )

    def ping(self, *, target: str = "", target_type: str = "", timeout: float = SHORT) -> v.PingResponse:
        return self._look("Ping", v.PingRequest(target=target, target_type=target_type), v.PingResponse, timeout)


class Cluster:
    """Every server a job talks to, on that job's leash."""

    def __init__(
        self, channels: Channels, masters: Masters | Iterable[Address] = (), leash: Leash | None = None
    ) -> None:
        self.channels = channels
        self.leash = leash or Leash()
        self.masters = masters if isinstance(masters, Masters) else Masters(masters)

    def master(self) -> Master:
        """The masters; raise BadTask where none is known."""
        return Master(self.channels, self.masters, self.leash)

    def volume(self, address: Address | str) -> VolumeServer:
        """The volume server at an address; raise BadTask for what is no address."""
        where = Address.parse(address) if isinstance(address, str) else address
        return VolumeServer(self.channels, self.masters.present(where), self.leash)
