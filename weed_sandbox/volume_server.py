"""A sandbox volume server: the RPCs that maintenance uses, in the behaviour of SeaweedFS 3.97, 4.13 or 4.44.

Order of steps, texts and quirks follow the real servers (weed/server/volume_grpc_*.go), harmful ones included: tasks
must be safe against them. Nothing here is atomic that is not atomic there.
"""

from __future__ import annotations

import threading
from typing import Any

from proto_gen.volume_server_pb2_grpc import (
    add_VolumeServerServicer_to_server,
)
from weed_sandbox import http_api
from weed_sandbox.faults import Faults
from weed_sandbox.settings import Settings, grpc_server, wait_for_sigterm
from weed_sandbox.volume_copy import Copying
from weed_sandbox.volume_http import Http
from weed_sandbox.volume_tier import Tier
from weed_sandbox.volume_vacuum import Vacuum


class VolumeServer(Vacuum, Copying, Tier, Http):
    """One volume server."""

    def control(self, order: dict[str, Any]) -> Any:
        """Orders of tests: be clean; somebody else compacts a volume; remember replicas for so long; free bytes."""
        if "clear" in order:
            self.maintenance = False
            self._remembers = 0.0
            self._free = None
            self.size_limit = ""
            self._remembered.clear()
            for volume in list(self.store.volumes.values()):
                volume.compacting = False
        if "compacting" in order:
            self._volume(order["compacting"]).pretend_compaction()
        self._remembers = order.get("remember", self._remembers)
        self._free = order.get("free", self._free)
        self.size_limit = order.get("size limit", self.size_limit)
        return {}


def main(argv: list[str]) -> None:
    """Run a volume server until SIGTERM."""
    faults = Faults()
    server = VolumeServer(Settings.of(argv))
    rpc = grpc_server(server.address, faults)
    add_VolumeServerServicer_to_server(server, rpc)  # type: ignore[no-untyped-call]
    rpc.start()
    http_api.start(server.address.host, server.address.port, server.serve, faults, server.control)
    if port := int(server.settings.get("metricsPort", "0")):
        http_api.start(server.address.host, port, server.serve_metrics, faults, server.control)
    threading.Thread(target=server.heartbeats, daemon=True).start()
    wait_for_sigterm(server.leave)
