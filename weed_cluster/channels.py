"""gRPC channels: one per server, kept open, with the options that every call needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import grpc

from weed_cluster.address import Address
from weed_cluster.timing import Timing
from weed_cluster.uploads import Uploads

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

    `credentials` and `options` are asked for each new channel, `server_credentials` where this process offers a file;
    all are a Security's methods of these names.
    """

    def __init__(
        self,
        credentials: Callable[[], grpc.ChannelCredentials | None] = _plaintext,
        options: Callable[[Address], Iterable[tuple[str, Any]]] = _no_options,
        observe: Observer = _ignore,
        uploads: Uploads | None = None,
        server_credentials: Callable[[], grpc.ServerCredentials | None] = _plaintext,
        timing: Timing | None = None,
    ) -> None:
        self.timing = timing or Timing()
        self.observe = observe
        self.server_credentials = server_credentials
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
