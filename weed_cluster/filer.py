"""A filer's RPCs: small files in one directory, which every filer of the cluster shows, and removing whole trees."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count

from proto_gen import filer_pb2 as f
from weed_cluster.call import Client
from weed_core.errors import ServerFailed

ASK, LIST, REMOVE = 5.0, 60.0, 900.0
"""Deadlines in seconds of a question, of a page of a listing, and of removing a whole tree."""

PAGE, MOST = 500, 10_000
"""Entries asked for at once, and in all."""

MODE = 0o660

BUCKETS = "/buckets"
"""Where buckets are unless a filer says otherwise."""


class Filer(Client):
    """One filer."""

    SERVICE = "filer_pb.SeaweedFiler"

    def entries(self, directory: str, most: int | None = MOST) -> Iterator[f.Entry]:
        """The entries of a directory by name, page by page; none where there is no such directory. ServerFailed.

        `most`: after about so many it ends; None for all of them.
        """
        last, pages = "", count() if most is None else range(most // PAGE)
        for _page in pages:
            request = f.ListEntriesRequest(directory=directory, startFromFileName=last, limit=PAGE, omit_chunks=True)
            page = [reply.entry for reply in self._stream("ListEntries", request, f.ListEntriesResponse, LIST)]
            yield from page
            if len(page) < PAGE:
                return
            last = page[-1].name

    def buckets(self) -> str:
        """The directory of S3's buckets; ServerFailed."""
        request = f.GetFilerConfigurationRequest()
        return self._look("GetFilerConfiguration", request, f.GetFilerConfigurationResponse, ASK).dir_buckets or BUCKETS

    def remove_all(self, directory: str, name: str) -> None:
        """Delete a directory with everything in it, and the data of its files; ServerFailed.

        What cannot be deleted in it is passed over, as weed shell asks for it.
        """
        request = f.DeleteEntryRequest(
            directory=directory, name=name, is_delete_data=True, is_recursive=True, ignore_recursive_error=True
        )
        self._check("DeleteEntry", self._unary("DeleteEntry", request, f.DeleteEntryResponse, REMOVE).error)

    def put(self, directory: str, name: str, content: bytes, mime: str) -> None:
        """Write a small file, whatever was there; directories come into being. ServerFailed where it is not stored."""
        now = int(time.time())
        attributes = f.FuseAttributes(file_size=len(content), mtime=now, crtime=now, file_mode=MODE, mime=mime)
        self.create(directory, f.Entry(name=name, attributes=attributes, content=content))

    def create(self, directory: str, entry: f.Entry) -> None:
        """Write an entry, whatever was there; directories come into being. ServerFailed where it is not stored."""
        request = f.CreateEntryRequest(directory=directory, entry=entry)
        self._check("CreateEntry", self._unary("CreateEntry", request, f.CreateEntryResponse, ASK).error)

    def remove(self, directory: str, name: str) -> None:
        """Delete a file; one that is not there is no error. ServerFailed."""
        request = f.DeleteEntryRequest(directory=directory, name=name, is_delete_data=True)
        self._check("DeleteEntry", self._unary("DeleteEntry", request, f.DeleteEntryResponse, ASK).error)

    def _check(self, call: str, error: str) -> None:
        if error:
            raise ServerFailed(str(self.address), call, "UNKNOWN", error)
