"""Reading every file of a volume's replicas through, by their servers: what cannot be read, and what differs.

A server reads a needle, checks it and tells its cookie and checksum; the data stays there. Nothing waits for such a
read, whatever clients do meanwhile, and it may go on where another one ended. Changes nothing; knows nothing of why.
"""

from __future__ import annotations

import heapq
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from proto_gen import volume_server_pb2 as v
from weed_cluster.address import Address
from weed_core.errors import Mismatch, ServerFailed
from weed_safety.context import Context
from weed_safety.look import file_status
from weed_safety.proof import ANSWERS, live_index
from weed_storage.index import Live
from weed_storage.needle import FileId, parse_header

BATCH = 400
"""Needles asked for between two looks at the clock."""

AT_ONCE = 4
"""Needles that one server reads at a time: more gave no more on one disk."""

SLOWEST = 20 << 20
"""Bytes per second that a server reads at the least, for deadlines of calls that read a whole volume."""

Answer = tuple[int, int] | str | None
"""A needle's cookie and checksum; why it cannot be read; None where its server says that it has none."""

Pace = Callable[[Address, int], None]
"""Asked before so many bytes are read on a server; may wait."""


@dataclass
class Walk:
    """What was found. `position` is the needle id from which to go on; None when all were read.

    `bad` is why, by server and needle id; `differ` needles that replicas have in different versions or not all have.
    """

    position: int | None = 0
    bad: dict[Address, dict[int, str]] = field(default_factory=dict)
    differ: set[int] = field(default_factory=set)
    needles: int = 0


def complaints(ctx: Context, server: Address, volume_id: int, size: int) -> list[str]:
    """Have a server read a whole volume at once; what it complains of, nothing where all is well.

    Only for a volume to which nobody writes: with one write all reads wait until it has ended. It cannot be broken off.
    """
    answer = ctx.volume(server).scrub_volume(mode=v.FULL, volume_ids=[volume_id], timeout=60 + size / SLOWEST)
    return list(answer.details) or (["it is broken"] if answer.broken_volume_ids else [])


def read_through(
    ctx: Context,
    volume_id: int,
    servers: Collection[Address],
    proved: Collection[Address] = (),
    start: int = 0,
    pace: Pace = lambda _server, _bytes: None,
    until: float = float("inf"),
    expires: bool = False,
) -> Walk:
    """Read every needle on all these servers, from id `start` on, and compare what they are.

    Of `proved` servers, which read theirs by themselves, only the stored checksums are asked. Ends early once
    `time.monotonic()` passes `until`. `expires`: needles of this volume may vanish by themselves. ServerFailed where a
    server cannot be asked.
    """
    lives = _lives(ctx, volume_id, servers)
    walk, doubtful = Walk(start), set[int]()
    ids = _ids(list(lives.values()), start)
    while batch := list(islice(ids, BATCH)):
        doubtful |= _Batch(ctx, volume_id, lives, proved, pace).read(batch, walk)
        walk.needles += len(batch)
        walk.position = batch[-1] + 1
        ctx.cluster.leash.check()
        if time.monotonic() > until:
            break
    else:
        walk.position = None
    if doubtful:
        _settle(ctx, volume_id, servers, doubtful, walk, expires)
    return walk


def file_id(ctx: Context, server: Address, volume_id: int, needle_id: int, place: tuple[int, int] | None) -> str:
    """A needle's file id, as far as its cookie can be had."""
    with suppress(ServerFailed, Mismatch):
        offset, size = place or (0, 0)
        blob = ctx.volume(server).read_needle_blob(volume_id=volume_id, offset=offset, size=size).needle_blob
        cookie, found, _size = parse_header(blob)
        if found == needle_id:
            return str(FileId(volume_id, needle_id, cookie))
    return f"needle {needle_id:x}"


def file_ids(ctx: Context, server: Address, volume_id: int, needle_ids: Collection[int], most: int) -> list[str]:
    """The file ids of some needles on a server, of the first `most` of them."""
    live = _lives(ctx, volume_id, [server])[server]
    wanted = sorted(needle_ids)[:most]
    return [file_id(ctx, server, volume_id, needle_id, live.get(needle_id)) for needle_id in wanted]


def _lives(ctx: Context, volume_id: int, servers: Collection[Address]) -> dict[Address, Live]:
    def of(server: Address) -> Live:
        return live_index(ctx, server, volume_id, file_status(ctx, server, volume_id))

    return dict(zip(servers, ctx.each(of, servers)))


def _ids(lives: Collection[Live], start: int) -> Iterator[int]:
    """The needle ids that any has, from `start` on, ascending."""
    last = -1
    for needle_id in heapq.merge(*(islice(live.ids, bisect_left(live.ids, start), None) for live in lives)):
        if needle_id != last:
            yield needle_id
        last = needle_id


@dataclass(frozen=True)
class _Batch:
    """Some needles of a volume on all its servers."""

    ctx: Context
    volume_id: int
    lives: Mapping[Address, Live]
    proved: Collection[Address]
    pace: Pace

    def read(self, ids: list[int], walk: Walk) -> set[int]:
        """Read them; return those about which one must look again: not everybody has them."""
        servers = list(self.lives)
        answers = dict(zip(servers, self.ctx.each(lambda server: self._of(server, ids), servers)))
        doubtful: set[int] = set()
        for needle_id in ids:
            told = {server: answers[server][needle_id] for server in servers if needle_id in answers[server]}
            for server, answer in told.items():
                if isinstance(answer, str):
                    walk.bad.setdefault(server, {})[needle_id] = answer
            if len(told) < len(servers) or None in told.values():
                doubtful.add(needle_id)
            versions = {answer for answer in told.values() if isinstance(answer, tuple)}
            if len(versions) > 1 and self._still_differs(needle_id):
                walk.differ.add(needle_id)
        return doubtful

    def _of(self, server: Address, ids: list[int]) -> dict[int, Answer]:
        live = self.lives[server]
        places = {needle_id: live[needle_id] for needle_id in ids if needle_id in live}
        if server not in self.proved:
            self.pace(server, sum(size for _offset, size in places.values()))

        def ask(needle_id: int) -> Answer:
            if not places[needle_id][1]:
                return (0, 0)  # an empty file has neither data nor checksum
            if server in self.proved:
                return _stored(self.ctx, server, self.volume_id, needle_id, places[needle_id])
            return _read(self.ctx, server, self.volume_id, needle_id)

        return dict(zip(places, self.ctx.each(ask, places, AT_ONCE)))

    def _still_differs(self, needle_id: int) -> bool:
        """Whether servers that read it say different things of it, asked once more in one way."""
        told = [_read(self.ctx, server, self.volume_id, needle_id) for server in self.lives]
        return len({answer for answer in told if isinstance(answer, tuple)}) > 1


def _settle(
    ctx: Context, volume_id: int, servers: Collection[Address], doubtful: set[int], walk: Walk, expires: bool
) -> None:
    """Look again at needles that not everybody has: written or deleted meanwhile, unfound, or different."""
    ctx.wait(ctx.options.reread_seconds)
    lives = _lives(ctx, volume_id, servers)
    for needle_id in sorted(doubtful):
        has = [server for server, live in lives.items() if needle_id in live]
        unfound = []
        for server in has:
            size = lives[server][needle_id][1]
            if size and _read(ctx, server, volume_id, needle_id) is None:
                unfound.append(server)
        if expires and unfound:
            continue
        for server in unfound:
            walk.bad.setdefault(server, {})[needle_id] = "its server does not find it, though its index has it"
        if has and len(has) < len(lives):
            walk.differ.add(needle_id)


def _read(ctx: Context, server: Address, volume_id: int, needle_id: int) -> Answer:
    """Have a server read one needle; what is bad is asked for twice."""
    volume = ctx.volume(server)
    for is_last in (False, True):
        try:
            needle = volume.volume_needle_status(volume_id=volume_id, needle_id=needle_id, timeout=ANSWERS)
        except ServerFailed as error:
            if _is_gone(error):
                return None
            if error.code not in ("UNKNOWN", "DATA_LOSS"):
                raise
            if is_last:
                return error.detail
        else:
            return needle.cookie, needle.crc
    raise AssertionError


def _stored(ctx: Context, server: Address, volume_id: int, needle_id: int, place: tuple[int, int]) -> Answer:
    """Cookie and checksum of a needle as they are stored, without reading its data."""
    offset, size = place
    try:
        meta = ctx.volume(server).read_needle_meta(volume_id=volume_id, needle_id=needle_id, offset=offset, size=size)
    except ServerFailed as error:
        if error.code not in ("UNKNOWN", "DATA_LOSS") or _has_no_volume(error):
            raise
        return _read(ctx, server, volume_id, needle_id)  # it was compacted meanwhile, or is bad
    return meta.cookie, meta.crc


def _is_gone(error: ServerFailed) -> bool:
    if _has_no_volume(error):
        raise error
    return error.says_absent or "deleted" in error.detail.lower()


def _has_no_volume(error: ServerFailed) -> bool:
    text = error.detail.lower()
    return "volume" in text and "not found" in text and "needle" not in text
