"""Files on their way between sandbox volume servers, and to an object store."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import grpc

from proto_gen import volume_server_pb2 as v
from weed_sandbox.faults import Refused
from weed_sandbox.store import CREDENTIALS

REPORT = 128 << 20
"""Bytes between two reports of progress."""

ANY_REVISION = 0xFFFFFFFF


class Pace:
    """Keeps a transfer to so many bytes per second; 0 is unlimited."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._start = time.monotonic()
        self._sent = 0

    def spend(self, count: int) -> None:
        """Wait as long as these bytes cost."""
        self._sent += count
        if self._rate > 0:
            time.sleep(max(0.0, self._sent / self._rate - (time.monotonic() - self._start)))


def pull(source: Any, order: v.CopyFileRequest, path: str, pace: Pace) -> Iterator[int]:
    """Copy a file from another server, yielding its progress now and then; nothing is made where there is none."""
    done, reported, modified = 0, 0, 0
    staged = f"{path}.copying"
    try:
        with open(staged, "wb") as file:
            for piece in source.CopyFile(order):
                modified = modified or piece.modified_ts_ns
                done += file.write(piece.file_content)
                pace.spend(len(piece.file_content))
                if done - reported > REPORT:
                    reported = done
                    yield done
        if modified:
            os.utime(staged, ns=(modified, modified))
            os.replace(staged, path)
    except grpc.RpcError as error:
        raise Refused(f"failed to copy {path} file: {words_of(error)}") from None
    finally:
        Path(staged).unlink(missing_ok=True)


def words_of(error: grpc.RpcError) -> str:
    """An error of another server, as a Go server tells it on."""
    code = "".join(word.capitalize() for word in error.code().name.split("_"))
    return f"rpc error: code = {code} desc = {error.details()}"


def ask_url(method: str, url: str, body: bytes = b"") -> None:
    """One plain HTTP request whose answer is only its status."""
    headers = {**CREDENTIALS, "Content-Type": "application/octet-stream"}
    request = Request(url, data=body if method == "PUT" else None, headers=headers, method=method)
    try:
        with urlopen(request, timeout=30) as response:
            response.read()
    except URLError as error:
        raise Refused(f"{method} {url}: {error}") from None


def check_names(extension: str, collection: str) -> None:
    """A name never becomes a path."""
    if not re.fullmatch(r"\.[0-9A-Za-z]+", extension):
        raise Refused(f"invalid file extension {json.dumps(extension)}")
    if collection in (".", "..") or re.search(r"[/\\]", collection):
        raise Refused(f"invalid collection {json.dumps(collection)}")
