"""A gRPC server that misbehaves on demand, in a process of its own: what the clients are tested against.

Usage: tiny_server.py ADDRESS LEADER [CA CERT KEY]. It prints "ready" when it listens. What it does is told by the
volume id, see each handler.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from proto_gen import master_pb2 as m
from proto_gen import volume_server_pb2 as v

SLOW, ABSENT, SHAKY, RESET, BIG, HUNG = 2, 3, 4, 5, 6, 7
SLOW_SECONDS = 1.0

seen: Counter[str] = Counter()
address, leader, *tls = sys.argv[1:] if __name__ == "__main__" else ("", "")


def volume_status(request: v.VolumeStatusRequest, context: Any) -> v.VolumeStatusResponse:
    """Answer, late, not at all, or with an error, by the volume id; file_count tells how often it was asked."""
    asked = seen[f"VolumeStatus {request.volume_id}"] = seen[f"VolumeStatus {request.volume_id}"] + 1
    if request.volume_id == SLOW:
        time.sleep(SLOW_SECONDS)
    if request.volume_id == HUNG:
        time.sleep(20)
    if request.volume_id == ABSENT:
        context.abort(grpc.StatusCode.UNKNOWN, "not found volume id 3")
    if request.volume_id == SHAKY and asked % 3:
        context.abort(grpc.StatusCode.UNAVAILABLE, "warming up")
    if request.volume_id == RESET:
        context.abort(grpc.StatusCode.CANCELLED, "Received RST_STREAM with error code 8")
    return v.VolumeStatusResponse(file_count=asked)


def volume_mark_writable(_request: v.VolumeMarkWritableRequest, context: Any) -> None:
    """Fail, counting."""
    seen["VolumeMarkWritable"] += 1
    context.abort(grpc.StatusCode.UNAVAILABLE, f"call {seen['VolumeMarkWritable']}")


def copy_file(request: v.CopyFileRequest, context: Any) -> Iterator[v.CopyFileResponse]:
    """Send without end, or one message of 8 MiB."""
    if request.volume_id == BIG:
        yield v.CopyFileResponse(file_content=bytes(8 << 20))
        return
    while context.is_active():
        yield v.CopyFileResponse(file_content=b"x" * 1000)
        time.sleep(0.01)


def receive_file(requests: Iterator[v.ReceiveFileRequest], _context: Any) -> v.ReceiveFileResponse:
    """Count the bytes."""
    return v.ReceiveFileResponse(bytes_written=sum(len(request.file_content) for request in requests))


def volume_list(_request: m.VolumeListRequest, context: Any) -> m.VolumeListResponse:
    """Answer where this is the leader."""
    if leader != address:
        context.abort(grpc.StatusCode.UNKNOWN, "raft.Server: Not current leader")
    return m.VolumeListResponse(volume_size_limit_mb=77)


def lookup_ec_volume(request: m.LookupEcVolumeRequest, context: Any) -> None:
    """Look, as only a leader does, and find nothing."""
    refusal = "raft.Server: Not current leader" if leader != address else f"ec volume {request.volume_id} not found"
    context.abort(grpc.StatusCode.UNKNOWN, refusal)


def get_master_configuration(_request: Any, _context: Any) -> m.GetMasterConfigurationResponse:
    """Name the leader."""
    return m.GetMasterConfigurationResponse(leader=leader)


def serve() -> None:
    """Listen until killed."""
    grpc_address = address.rpartition(":")[0] + ":" + address.rpartition(".")[2]
    server = grpc.server(ThreadPoolExecutor(300), options=[("grpc.max_send_message_length", 1 << 30)])
    for service, handlers in {
        "volume_server_pb.VolumeServer": {
            "VolumeStatus": _unary(volume_status, v.VolumeStatusRequest, v.VolumeStatusResponse),
            "VolumeMarkWritable": _unary(volume_mark_writable, v.VolumeMarkWritableRequest, v.VolumeStatusResponse),
            "CopyFile": grpc.unary_stream_rpc_method_handler(
                copy_file, v.CopyFileRequest.FromString, v.CopyFileResponse.SerializeToString
            ),
            "ReceiveFile": grpc.stream_unary_rpc_method_handler(
                receive_file, v.ReceiveFileRequest.FromString, v.ReceiveFileResponse.SerializeToString
            ),
        },
        "master_pb.Seaweed": {
            "VolumeList": _unary(volume_list, m.VolumeListRequest, m.VolumeListResponse),
            "LookupEcVolume": _unary(lookup_ec_volume, m.LookupEcVolumeRequest, m.LookupEcVolumeResponse),
            "GetMasterConfiguration": _unary(
                get_master_configuration, m.GetMasterConfigurationRequest, m.GetMasterConfigurationResponse
            ),
        },
    }.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    if tls:
        ca, certificate, key = (Path(file).read_bytes() for file in tls)
        credentials = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
        server.add_secure_port(grpc_address, credentials)
    else:
        server.add_insecure_port(grpc_address)
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


def _unary(handler: Any, request: Any, response: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(handler, request.FromString, response.SerializeToString)


if __name__ == "__main__":
    serve()
