"""A filer's RPCs: small files in one directory, which every filer of the cluster shows."""

from __future__ import annotations

import time
from collections.abc import Iterator

from proto_gen import filer_pb2 as f
from weed_cluster.call import Client
from weed_core.errors import ServerFailed

ASK = 5.0
"""Deadline in seconds of each call."""

PAGE, MOST = 500, 10_000
"""Entries asked for at once, and in all."""

MODE = 0o660


class Filer(Client):
    """One filer."""

    SERVICE = "filer_pb.SeaweedFiler"

    def entries(self, directory: str) -> Iterator[f.Entry]:
        """The entries of a directory by name, none where there is no such directory; ServerFailed."""
        last = ""
        for _page in range(MOST // PAGE):
            request = f.ListEntriesRequest(directory=directory, startFromFileName=last, limit=PAGE)
            page = [reply.entry for reply in self._stream("ListEntries", request, f.ListEntriesResponse, ASK)]
            yield from page
            if len(page) < PAGE:
                return
            last = page[-1].name

    def put(self, directory: str, name: str, content: bytes, mime: str) -> None:
        """Write a small file, whatever was there; directories come into being. ServerFailed where it is not stored."""
        now = int(time.time())
        attributes = f.FuseAttributes(file_size=len(content), mtime=now, crtime=now, file_mode=MODE, mime=mime)
        entry = f.Entry(name=name, attributes=attributes, content=content)
        request = f.CreateEntryRequest(directory=directory, entry=entry)
        self._check("CreateEntry", self._unary("CreateEntry", request, f.CreateEntryResponse, ASK).error)

    def remove(self, directory: str, name: str) -> None:
        """Delete a file; one that is not there is no error. ServerFailed."""
        request = f.DeleteEntryRequest(directory=directory, name=name, is_delete_data=True)
        self._check("DeleteEntry", self._unary("DeleteEntry", request, f.DeleteEntryResponse, ASK).error)

    def _check(self, call: str, error: str) -> None:
        if error:
            raise ServerFailed(str(self.address), call, "UNKNOWN", error)
