"""What a sandbox server records of its calls, and how it misbehaves on demand.

Every RPC passes through here, so that no handler knows of faults. A fault says which method, the nth call of it from
now (0: each), what (fail, hang, slow, kill) and when: before the call took effect, after it, or during it (after the
first message of a stream).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc
from google.protobuf.json_format import MessageToDict

from weed_core.errors import Mismatch


class Refused(Exception):
    """The server refuses a call in these words; SeaweedFS gives nearly all such answers the code UNKNOWN."""

    def __init__(self, text: str, code: grpc.StatusCode = grpc.StatusCode.UNKNOWN) -> None:
        super().__init__(text)
        self.code = code


def unimplemented(era: str) -> NoReturn:
    """Refuse a call that servers of this era do not have."""
    raise Refused(f"unknown method in {era}", grpc.StatusCode.UNIMPLEMENTED)


class Faults(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """The faults set on one server, and the calls it saw."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[dict[str, Any]] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def set(self, fault: dict[str, Any]) -> None:
        """Add a fault; its calls are counted from now."""
        with self._lock:
            self._faults.append({**fault, "seen": 0})

    def clear(self) -> None:
        """Behave again, let hanging calls go, and forget the calls seen."""
        with self._lock:
            self._faults.clear()
            self.calls.clear()

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Wrap the handler of a call."""
        handler = continuation(details)
        method = details.method.rpartition("/")[2]
        if handler is None or (handler.request_streaming and handler.response_streaming):
            return handler
        serializers = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(self._upload(method, handler.stream_unary), **serializers)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream(method, handler.unary_stream), **serializers)
        return grpc.unary_unary_rpc_method_handler(self._unary(method, handler.unary_unary), **serializers)

    def _unary(self, method: str, behaviour: Any) -> Any:
        def call(request: Any, context: Any) -> Any:
            faults = self._take(method)
            self._record(method, request)
            self._act(faults, "before", context)
            with _refusing(context):
                answer = behaviour(request, context)
            self._act(faults, "after", context)
            return answer

        return call

    def _stream(self, method: str, behaviour: Any) -> Any:
        def call(request: Any, context: Any) -> Iterator[Any]:
            faults = self._take(method)
            self._record(method, request)
            self._act(faults, "before", context)
            answers = iter(behaviour(request, context))
            while True:
                with _refusing(context):
                    answer = next(answers, None)
                if answer is None:
                    break
                yield answer
                self._act(faults, "during", context)
            self._act(faults, "after", context)

        return call

    def _upload(self, method: str, behaviour: Any) -> Any:
        def call(requests: Iterator[Any], context: Any) -> Any:
            faults = self._take(method)
            self._act(faults, "before", context)

            losing = [fault for fault in faults if fault["what"] == "lose"]
            lost = 0

            def watched() -> Iterator[Any]:
                nonlocal lost
                for number, request in enumerate(requests):
                    if number == 0:
                        self._record(method, request)
                    elif number == 1:
                        self._act(faults, "during", context)
                    if losing and number:
                        kept = len(request.file_content) // 2
                        lost += len(request.file_content) - kept
                        request.file_content = request.file_content[:kept]
                    yield request

            with _refusing(context):
                answer = behaviour(watched(), context)
            if any(fault["lying"] for fault in losing):
                answer.bytes_written += lost
            self._act(faults, "after", context)
            return answer

        return call

    def _take(self, method: str) -> list[dict[str, Any]]:
        """The faults that this call of the method meets."""
        with self._lock:
            met = []
            for fault in self._faults:
                if fault["method"] == method:
                    fault["seen"] += 1
                    if fault["nth"] in (0, fault["seen"]):
                        met.append(fault)
            return met

    def _record(self, method: str, request: Any) -> None:
        order = MessageToDict(request, preserving_proto_field_name=True)
        for name, value in order.items():
            if isinstance(value, str) and len(value) > 1000:
                order[name] = f"{len(value)} characters"
        with self._lock:
            self.calls.append((method, order))

    def _act(self, faults: list[dict[str, Any]], when: str, context: Any) -> None:
        for fault in faults:
            if fault["when"] != when or fault["what"] == "lose":
                continue
            if fault["what"] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif fault["what"] == "slow":
                time.sleep(fault["seconds"])
            elif fault["what"] == "hang":
                while context.is_active() and fault in self._faults:
                    time.sleep(0.05)
            else:
                context.abort(grpc.StatusCode[fault["code"]], fault["text"])


class _refusing:  # noqa: N801 - reads as a statement
    """Turns what a handler raises into the answer that a Go server would give."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Refused):
            self._context.abort(error.code, str(error))
        elif isinstance(error, OSError):
            text = f"open {error.filename}: {error.strerror}".lower() if error.filename else str(error)
            self._context.abort(grpc.StatusCode.UNKNOWN, text)
        elif isinstance(error, Mismatch):
            self._context.abort(grpc.StatusCode.UNKNOWN, str(error))
