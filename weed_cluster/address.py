"""A server's address, in the one form that can be compared.

SeaweedFS writes a server as `host:port`, where the gRPC port is port + 10000, or as `host:port.grpcPort`. Node ids
are free names in newer versions: they are never addresses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from weed_core.errors import BadTask

GRPC_OFFSET = 10000
"""gRPC port = HTTP port + this, unless the address names one (SeaweedFS, weed/pb/server_address.go)."""

_FORM = re.compile(r"^(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s/:\[\]@?#]+):(?P<port>\d{1,5})(?:\.(?P<grpc>\d{1,5}))?$")


@dataclass(frozen=True)
class Address:
    """One server. Two addresses are equal where they reach the same gRPC endpoint."""

    host: str
    grpc_port: int
    port: int = field(compare=False, default=0)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `host:port` or `host:port.grpcPort`; raise BadTask naming what is wrong.

        Strict, because a malformed port makes a Go server that is sent the address exit.
        """
        match = _FORM.match(text.strip())
        if match is None:
            raise BadTask(f"{text!r} is no server address; expected host:port or host:port.grpcPort")
        port = int(match["port"])
        grpc_port = int(match["grpc"]) if match["grpc"] else port + GRPC_OFFSET
        if not (0 < grpc_port < 65536 and port < 65536):
            raise BadTask(f"{text!r} is no server address; its gRPC port would be {grpc_port}")
        return cls(match["host"].lower(), grpc_port, port)

    @property
    def grpc(self) -> str:
        """The endpoint to dial."""
        return f"{self.host}:{self.grpc_port}"

    @property
    def http(self) -> str:
        """The HTTP form, without a gRPC port."""
        return f"{self.host}:{self.port}"

    def __str__(self) -> str:
        """The form servers understand: the gRPC port is named only where the +10000 rule does not give it."""
        if self.grpc_port == self.port + GRPC_OFFSET:
            return self.http
        return f"{self.http}.{self.grpc_port}"
