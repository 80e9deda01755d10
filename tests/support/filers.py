"""What a filer has to clear away, made as old as a test wants it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from proto_gen.filer_pb2 import Entry, FuseAttributes
from tests.support.cluster import Cluster
from weed_cluster.address import Address
from weed_cluster.filer import Filer

DAY = 86400
LOG = "/topics/.system/log"

DIRECTORY_MODE, FILE_MODE = 0o40770 | 1 << 31, 0o660
"""File modes as a filer has them."""


def filer_at(cluster: Cluster, address: Address) -> Filer:
    """A client of a filer."""
    clients = cluster.clients()
    return Filer(clients.channels, address, clients.leash)


def put(
    filer: Filer, path: str, age: float, is_directory: bool = True, extended: Mapping[str, bytes] | None = None
) -> None:
    """An entry that is `age` seconds old."""
    directory, _slash, name = path.rpartition("/")
    when = int(time.time() - age)
    mode = DIRECTORY_MODE if is_directory else FILE_MODE
    attributes = FuseAttributes(mtime=when, crtime=when, file_mode=mode)
    filer.create(directory, Entry(name=name, is_directory=is_directory, attributes=attributes, extended=extended))


def day(age_in_days: float) -> str:
    """The name of the log of so many days ago."""
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() - age_in_days * DAY))
