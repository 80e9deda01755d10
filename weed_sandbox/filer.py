"""A sandbox filer: it keeps small files of directories, and is one of the cluster's filers as long as it lives.

Entries are on disk before a call is answered. A directory that is not there is listed as an empty one.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from google.protobuf.json_format import MessageToDict, ParseDict

from proto_gen import filer_pb2 as f
from proto_gen.filer_pb2_grpc import SeaweedFilerServicer, add_SeaweedFilerServicer_to_server
from weed_sandbox import http_api
from weed_sandbox.faults import Faults
from weed_sandbox.settings import Settings, grpc_server, wait_for_sigterm

PULSE = 0.2
"""Seconds between two signs of life to each master."""

MOST = 1024
"""Entries listed where a call names no limit."""


class Filer(SeaweedFilerServicer):
    """One filer; its handlers are named as the RPCs."""

    def __init__(self, settings: Settings) -> None:
        self.address = settings.address
        self._masters = settings.addresses("master")
        self._path = Path("entries.json")
        self._mutex = threading.RLock()
        self._entries: dict[str, dict[str, f.Entry]] = {}  # by directory and name
        if self._path.exists():
            for directory, named in json.loads(self._path.read_text()).items():
                self._entries[directory] = {name: ParseDict(entry, f.Entry()) for name, entry in named.items()}

    def ListEntries(self, request: f.ListEntriesRequest, _context: Any) -> Iterator[f.ListEntriesResponse]:
        """The entries of a directory, by name."""
        with self._mutex:
            named = dict(self._entries.get(request.directory.rstrip("/"), {}))
        first = request.startFromFileName
        names = [
            name
            for name in sorted(named)
            if name.startswith(request.prefix) and (name > first or (request.inclusiveStartFrom and name == first))
        ]
        for name in names[: request.limit or MOST]:
            yield f.ListEntriesResponse(entry=named[name])

    def CreateEntry(self, request: f.CreateEntryRequest, _context: Any) -> f.CreateEntryResponse:
        """Write an entry, with the directories above it."""
        directory, name = request.directory.rstrip("/"), request.entry.name
        with self._mutex:
            if request.o_excl and name in self._entries.get(directory, {}):
                return f.CreateEntryResponse(error=f"EEXIST: entry {directory}/{name} already exists")
            self._entries.setdefault(directory, {})[name] = request.entry
            while directory:
                directory, _slash, name = directory.rpartition("/")
                parent = f.Entry(name=name, is_directory=True)
                self._entries.setdefault(directory, {}).setdefault(name, parent)
            self._save()
        return f.CreateEntryResponse()

    def DeleteEntry(self, request: f.DeleteEntryRequest, _context: Any) -> f.DeleteEntryResponse:
        """Delete an entry; one that is not there is no error. A directory with entries goes only where that is said."""
        directory = request.directory.rstrip("/")
        path = f"{directory}/{request.name}"
        with self._mutex:
            if self._entries.get(path) and not request.is_recursive:
                return f.DeleteEntryResponse(error=f"delete directory {path}: fail to delete non-empty folder: {path}")
            self._entries.get(directory, {}).pop(request.name, None)
            for below in [each for each in self._entries if f"{each}/".startswith(f"{path}/")]:
                del self._entries[below]
            self._save()
        return f.DeleteEntryResponse()

    def GetFilerConfiguration(
        self, _request: f.GetFilerConfigurationRequest, _context: Any
    ) -> f.GetFilerConfigurationResponse:
        """Where the buckets are."""
        return f.GetFilerConfigurationResponse(dir_buckets="/buckets", version="sandbox")

    def _save(self) -> None:
        document = {
            directory: {name: MessageToDict(entry) for name, entry in named.items()}
            for directory, named in self._entries.items()
        }
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(document))
        fresh.replace(self._path)

    def show_life(self) -> None:
        """Tell the masters again and again that this filer is there, for ever."""
        order = json.dumps({"filer": f"{self.address.http}.{self.address.grpc_port}"}).encode()
        while True:
            for master in self._masters:
                with suppress(OSError), urlopen(Request(f"http://{master.http}/_control", order), timeout=2) as answer:
                    answer.read()
            time.sleep(PULSE)

    def serve(self, _method: str, _path: str, _query: dict[str, str], _body: bytes) -> http_api.Answer:
        """Show life."""
        return http_api.json_answer(200, {})


def main(argv: list[str]) -> None:
    """Run a filer until SIGTERM."""
    settings = Settings.of(argv)
    faults = Faults()
    filer = Filer(settings)
    server = grpc_server(settings.address, faults)
    add_SeaweedFilerServicer_to_server(filer, server)  # type: ignore[no-untyped-call]
    server.start()
    http_api.start(settings.address.host, settings.address.port, filer.serve, faults, lambda _order: {})
    threading.Thread(target=filer.show_life, daemon=True).start()
    wait_for_sigterm()
