"""One file that one volume server may pull from this process, once: CopyFile is served for it and for nothing else.

A server that has shards of a volume mounted takes no further one by ReceiveFile, but pulls it from whatever answers
CopyFile as a volume server does (VolumeEcShardsCopy; SeaweedFS, weed/server/volume_grpc_copy.go). What it asks for is
compared with what is offered, never turned into a path. Who asks must come from the server's host, and with TLS show a
certificate of our CA. Listens only on the address by which that server is reached, on a port of its own, until closed.

N.B. the server takes a stream that ends in order for a whole file, however short: an offer that cannot go on must end
by an error, which is also the only way to make the server stop. Its first message must tell a time, or no file is made.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import Any

import grpc

from proto_gen import volume_server_pb2 as v
from weed_cluster.address import Address
from weed_cluster.call import file_content_message
from weed_cluster.channels import OPTIONS
from weed_core.errors import ServerFailed

SERVICE = "volume_server_pb.VolumeServer"

_OPTIONS = [
    *OPTIONS,
    ("grpc.so_reuseport", 0),
    # SeaweedFS's clients ping each 60 s.
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.http2.max_ping_strikes", 0),
]

AHEAD = 1
"""Pieces that wait for the server to take them, beside the one on its way."""


class Offer:
    """A file under way to a server that pulls it. Give its pieces in order, then end() it; always close() it.

    `source` is what to name as source_data_node. `asked` is set when the server has asked for the file.
    """

    def __init__(
        self, server: Address, credentials: grpc.ServerCredentials | None, volume_id: int, collection: str, ext: str
    ) -> None:
        self.server = server
        self.asked = threading.Event()
        self.refused = ""  # why the last one who asked was not served
        self._what = (volume_id, collection, ext)
        self._pieces: Queue[bytes | memoryview | None] = Queue(AHEAD)
        self._broken = threading.Event()
        self._taking = threading.Lock()
        self._is_whole = False
        host = _way_to(server)
        self._rpc = grpc.server(ThreadPoolExecutor(2), options=_OPTIONS)
        handler = grpc.unary_stream_rpc_method_handler(
            self._copy_file, request_deserializer=v.CopyFileRequest.FromString, response_serializer=None
        )
        self._rpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"CopyFile": handler}),))
        try:
            if credentials is None:
                port = self._rpc.add_insecure_port(f"{host}:0")
            else:
                port = self._rpc.add_secure_port(f"{host}:0", credentials)
        except RuntimeError as error:
            raise ServerFailed(str(server), "VolumeEcShardsCopy", "UNAVAILABLE", f"cannot listen: {error}") from None
        self._rpc.start()
        self.source = f"{host}:1.{port}"  # servers dial what follows the dot and nothing else

    def give(self, piece: bytes | memoryview, timeout: float) -> bool:
        """Give the file's next bytes; False where the server has not taken those before in time.

        ServerFailed where it does not take any more.
        """
        if self._broken.is_set():
            raise ServerFailed(str(self.server), "CopyFile", "CANCELLED", "the server broke the transfer off")
        try:
            self._pieces.put(piece, timeout=timeout)
        except Full:
            return False
        return True

    def end(self, timeout: float) -> bool:
        """Say that the file is whole; False where what came before is not taken in time."""
        try:
            self._pieces.put(None, timeout=timeout)
        except Full:
            return False
        return True

    def close(self) -> None:
        """Stop serving; a transfer that is not whole ends by an error, on which the server removes what it has."""
        self._broken.set()
        self._rpc.stop(grace=0.5).wait(5.0)

    def _copy_file(self, request: v.CopyFileRequest, context: Any) -> Iterator[bytes]:
        self.refused = self._why_not(request, context)
        if self.refused:
            context.abort(grpc.StatusCode.NOT_FOUND, self.refused)
        if not self._taking.acquire(blocking=False):
            context.abort(grpc.StatusCode.NOT_FOUND, "this file was given already")
        context.add_callback(self._ended)
        self.asked.set()
        modified = time.time_ns()
        while True:
            try:
                piece = self._pieces.get(timeout=0.2)
            except Empty:
                if self._broken.is_set():
                    context.abort(grpc.StatusCode.ABORTED, "the worker broke the transfer off; the file is not whole")
                continue
            if piece is None:
                self._is_whole = True
                return
            yield file_content_message(piece, modified)
            modified = 0

    def _ended(self) -> None:
        if not self._is_whole:
            self._broken.set()

    def _why_not(self, request: v.CopyFileRequest, context: Any) -> str:
        asked = (request.volume_id, request.collection, request.ext)
        if asked != self._what or not request.is_ec_volume:
            return f"no {request.ext} of volume {request.volume_id} here"
        if not _comes_from(context.peer(), self.server.host):
            return f"this file is for {self.server} alone, and {context.peer()} is another host"
        return ""


def _way_to(server: Address) -> str:
    """The address of this host by which a server is reached, in brackets where it has colons."""
    for family, kind, protocol, _name, where in _addresses(server.host, server.grpc_port):
        with suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.connect(where)  # of a datagram socket: nothing is sent
            host = str(probe.getsockname()[0])
            return f"[{host}]" if ":" in host else host
    raise ServerFailed(str(server), "VolumeEcShardsCopy", "UNAVAILABLE", "no way from this host leads there")


def _addresses(host: str, port: int) -> list[Any]:
    try:
        return socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_DGRAM)
    except OSError:
        return []


def _comes_from(peer: str, host: str) -> bool:
    """Whether a peer, as gRPC writes it ("ipv4:10.0.0.1:4711"), is on a host; this machine is one host."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return False
    text = rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]").partition("%")[0]
    try:
        found = _plain(text)
        wanted = {_plain(str(where[0]).partition("%")[0]) for *_rest, where in _addresses(host, 1)}
    except ValueError:
        return False
    return found in wanted or (found.is_loopback and any(one.is_loopback for one in wanted))


def _plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address
