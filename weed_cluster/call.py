"""One call to a server: awaited on the job's leash, with a deadline, tried again where that is safe; and uploads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc

from proto_gen import volume_server_pb2 as v
from weed_cluster.address import Address
from weed_cluster.channels import CONNECT, Channels
from weed_cluster.leash import Leash
from weed_core.errors import ServerFailed, ServerTimedOut

SHORT = 30.0
"""Deadline in seconds of calls that only look or flip a flag."""

LONG = 600.0
"""Deadline in seconds of calls that move data, where the caller knows no better."""

Message = TypeVar("Message")


class Upload:
    """One ReceiveFile under way: `done()` awaits the server's answer, `cancel()` breaks it off."""

    def __init__(self, client: Client, call: str, future: Any) -> None:
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


def file_content_message(content: bytes | memoryview, modified_ts_ns: int = 0) -> bytes:
    """One message of a CopyFile that is answered: bytes of the file and, in its first one, when it was written."""
    time = b"" if not modified_ts_ns else b"\x10" + _varint(modified_ts_ns)
    return b"".join((b"\x0a", _varint(len(content)), content, time))


def _first_field(message: bytes) -> memoryview | None:
    """The bytes of a message's field 1, where they lie in it; None where it begins otherwise."""
    if message[:1] != b"\x0a":
        return None
    length = shift = 0
    for at in range(1, 11):
        length |= (message[at] & 0x7F) << shift
        shift += 7
        if message[at] < 0x80:
            break
    return memoryview(message)[at + 1 : at + 1 + length]


class FileContent:
    """The file_content of a CopyFileResponse, where it lies in the message."""

    @staticmethod
    def FromString(message: bytes) -> memoryview:  # noqa: N802
        """Take the content out of a message; a message that begins otherwise is left to protobuf."""
        found = _first_field(message)
        return memoryview(v.CopyFileResponse.FromString(message).file_content) if found is None else found


class ShardContent:
    """The data of a VolumeEcShardReadResponse, where it lies in the message."""

    @staticmethod
    def FromString(message: bytes) -> memoryview:  # noqa: N802
        """Take the data out of a message; a message that begins otherwise is left to protobuf."""
        found = _first_field(message)
        return memoryview(v.VolumeEcShardReadResponse.FromString(message).data) if found is None else found


class Client:
    """What Master and VolumeServer share: calling, and turning failures into ServerFailed."""

    SERVICE = ""

    def __init__(self, channels: Channels, address: Address, leash: Leash) -> None:
        self.address = address
        self.timing = channels.timing
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
        for pause in self.timing.retry_pauses:
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
