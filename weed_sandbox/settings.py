"""What every sandbox server is told on its command line, in the words of SeaweedFS's own flags."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from weed_cluster.address import Address
from weed_sandbox.faults import Faults

VERSIONS = {"3.97": "30GB 3.97 ", "4.13": "30GB 4.13 ", "4.44": "30GB 4.44 "}

_OPTIONS = [
    ("grpc.max_send_message_length", 1 << 30),
    ("grpc.max_receive_message_length", 1 << 30),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
]

CALLS_AT_ONCE = 200


class Settings(dict[str, str]):
    """Flags as a mapping from name to value; unknown ones do no harm."""

    @classmethod
    def of(cls, argv: list[str]) -> Settings:
        """Read `-name=value` words."""
        words = (word.lstrip("-").partition("=") for word in argv)
        return cls({name: value or "true" for name, _, value in words})

    @property
    def address(self) -> Address:
        """Where the server is reached."""
        port = int(self["port"])
        return Address.parse(f"{self.get('ip', '127.0.0.1')}:{port}.{self.get('port.grpc', port + 10000)}")

    @property
    def era(self) -> str:
        """Which SeaweedFS it behaves as: 3.97, 4.13 or 4.44."""
        return self.get("era", "4.44")

    def addresses(self, *names: str) -> list[Address]:
        """The addresses in the first of these flags that is given."""
        text = next((self[name] for name in names if self.get(name)), "")
        return [Address.parse(word) for word in text.split(",") if word]


def grpc_server(address: Address, faults: Faults) -> Any:
    """A gRPC server that is yet to be given its services and started."""
    server = grpc.server(ThreadPoolExecutor(CALLS_AT_ONCE), interceptors=[faults], options=_OPTIONS)
    server.add_insecure_port(address.grpc)
    return server


def wait_for_sigterm(last: Callable[[], None] = lambda: None) -> None:
    """Sleep until asked to end, do the last thing, then end at once: all state is on disk."""

    def end(*_: object) -> None:
        last()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    while True:
        signal.pause()


class Channels:
    """Cached channels to other servers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channels: dict[str, Any] = {}

    def to(self, address: Address) -> Any:
        """A channel to a server."""
        with self._lock:
            if address.grpc not in self._channels:
                self._channels[address.grpc] = grpc.insecure_channel(address.grpc, options=_OPTIONS)
            return self._channels[address.grpc]


def chunks(data: bytes | memoryview, size: int) -> Iterator[bytes]:
    """Cut bytes into pieces of `size`."""
    for start in range(0, len(data), size):
        yield bytes(data[start : start + size])
