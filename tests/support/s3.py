"""Object stores on loopback that serve as a storage backend: a stand-in, or SeaweedFS's own gateway, and a slow way."""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import eventually, free_port
from tests.support.cluster import Process, request
from weed_cluster.address import Address
from weed_sandbox.launcher import Launcher

BUCKET = "tier"

MASTER_TOML = """
[storage.backend.s3.default]
enabled = true
aws_access_key_id = "ak"
aws_secret_access_key = "sk"
region = "us-east-1"
bucket = "tier"
endpoint = "http://{endpoint}"
storage_class = "STANDARD"
force_path_style = true
"""


@dataclass
class Store:
    """An S3 endpoint with one bucket."""

    address: Address

    def objects(self) -> list[str]:
        """The keys of all objects in the bucket."""
        status, body = request(self.address, "GET", f"/{BUCKET}")
        assert status == 200, body
        return sorted(re.findall(r"<Key>([^<]+)</Key>", body.decode()))

    def ready(self) -> None:
        """Wait until it has its bucket."""
        eventually(self._makes_bucket, timeout=60)

    def _makes_bucket(self) -> bool:
        try:
            return request(self.address, "PUT", f"/{BUCKET}", b"")[0] == 200
        except OSError:
            return False


def free_address() -> Address:
    """An address on which something may listen."""
    return Address.parse(f"127.0.0.1:{free_port()}")


def start_stand_in(launcher: Launcher, address: Address, directory: Path) -> Process:
    """Start a stand-in; does not wait until it serves."""
    argv = [sys.executable, "-m", "moto.server", "-H", address.host, "-p", str(address.port)]
    return _started(Process(launcher, address, argv, directory))


def start_gateway(launcher: Launcher, binary: str, master: Address, address: Address, directory: Path) -> Process:
    """Start SeaweedFS's gateway, with a filer of its own; does not wait until it serves."""
    argv = [binary, "filer", f"-master={master}", "-ip=127.0.0.1", f"-port={free_port()}", "-s3"]
    argv += [f"-s3.port={address.port}", "-s3.port.iceberg=0"]  # no such service: its port is always the same
    return _started(Process(launcher, address, argv, directory))


def _started(process: Process) -> Process:
    process.start()
    return process


@dataclass
class SlowWay:
    """Passes connections on to a store; each first answer is kept back for `delay` seconds."""

    to: Address
    delay: float = 0.0
    asked: int = 0  # bytes sent to the store
    address: Address = field(default_factory=free_address)

    def __post_init__(self) -> None:
        self._listener = socket.create_server((self.address.host, self.address.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no further connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _peer = self._listener.accept()
                try:
                    store = socket.create_connection((self.to.host, self.to.port))
                except OSError:
                    client.close()
                    continue
                threading.Thread(target=self._ask, args=(client, store), daemon=True).start()
                threading.Thread(target=self._answer, args=(store, client), daemon=True).start()

    def _ask(self, client: socket.socket, store: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                self.asked += len(data)
                store.sendall(data)
            store.shutdown(socket.SHUT_WR)

    def _answer(self, store: socket.socket, client: socket.socket) -> None:
        with suppress(OSError), client, store:
            data = store.recv(1 << 16)
            time.sleep(self.delay)
            while data:
                client.sendall(data)
                data = store.recv(1 << 16)
