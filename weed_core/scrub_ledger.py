"""When each replica and each shard was last read through, how, and with what result: the ledger of scrubs.

Pure: records, how they are merged, and what they say of a cluster. A cluster has many volumes, so a record is 16 bytes,
kept packed in segments of 1,024 volume ids each; a segment is also what is written down and what workers exchange. Of
two records about the same thing the newer one counts, so that segments may be merged in any order and as often as one
likes.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

SPAN = 1024
"""Volume ids of one segment."""

CLEAN, BAD, DIFFERS, UNCLEAR = range(4)
"""Results: it is sound; bytes of it are bad; its replicas hold different content; it could not be told."""

METHODS = ("", "scrub full", "needles", "checksum", "reading")
"""How a thing was verified: by ScrubVolume FULL; needle by needle; by ScrubEcVolume CHECKSUM; read by the worker."""

REPLICA = 1 << 15
"""The bit that stands for a replica, where shard n of an erasure-coded volume is bit n."""

KEPT = 800 * 86400
"""Seconds after which a record is dropped: nothing is verified as seldom as that."""

MOST_BYTES = 4 << 20
"""A longer segment is none of ours."""

_RECORD = struct.Struct("<HHIHIBB")
SIZE = _RECORD.size
"""Bytes of a record: volume id within the segment, run, server, bits, unix seconds, method, result."""


class Mark(NamedTuple):
    """One record. `things` are the shards by bits, or REPLICA; `run` and `server` are tags; `at` unix seconds."""

    volume_id: int
    run: int
    server: int
    things: int
    at: int
    method: int
    result: int


Packed = tuple[int, int, int, int, int, int, int]
"""A record as it lies in its segment: as a Mark, but for the volume id, which is that within the segment."""


def server_tag(server: object) -> int:
    """A server in 32 bits; two of one volume are told apart, which is all that is asked of it."""
    return zlib.crc32(str(server).encode())


def run_tag(run: int) -> int:
    """An encode run in 16 bits; 0 for none, or an unknown one."""
    return zlib.crc32(str(run).encode()) & 0xFFFF if run else 0


@dataclass
class Unfinished:
    """A volume of which a part was read: the next slice goes on there.

    `position` is what comes next: a needle id, or a byte of each shard. `began` is unix seconds, `proved` the servers
    whose replicas were read through by themselves, `bad` what was found so far: server or server and shard, and words.
    """

    volume_id: int
    run: int = 0
    began: float = 0.0
    position: int = 0
    proved: tuple[str, ...] = ()
    bad: tuple[tuple[str, str], ...] = ()
    differ: int = 0

    def document(self) -> bytes:
        """It as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def read(cls, content: bytes) -> Unfinished | None:
        """Read a document; None for what is none of ours."""
        try:
            told = json.loads(content)
            return cls(
                int(told["volume_id"]),
                int(told["run"]),
                float(told["began"]),
                int(told["position"]),
                tuple(map(str, told["proved"])),
                tuple((str(where), str(what)) for where, what in told["bad"]),
                int(told["differ"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            return None


class Ledger:
    """The records, by segment. `unfinished` are volumes that were read in part, by id."""

    def __init__(self, documents: Mapping[str, bytes] | None = None) -> None:
        self._segments: dict[int, bytes] = {}
        self.unfinished: dict[int, Unfinished] = {}
        for name, content in (documents or {}).items():
            self.take(name, content)

    def take(self, name: str, content: bytes) -> bool:
        """Take a document in; whether it told anything new. What is none of ours is passed over."""
        kind, _, number = name.partition("-")
        if not number.isdecimal() or len(number) > 8 or len(content) > MOST_BYTES:
            return False
        if kind == "segment" and len(content) % SIZE == 0:
            return self._merge(int(number), content)
        if kind == "unfinished" and (one := Unfinished.read(content)) and str(one.volume_id) == number:
            known = self.unfinished.get(one.volume_id)
            if known is None or (one.began, one.position) > (known.began, known.position):
                self.unfinished[one.volume_id] = one
                return True
        return False

    def note(self, marks: Iterable[Mark]) -> set[str]:
        """Take records in; return the names of the documents that are to be written anew."""
        fresh: dict[int, bytearray] = {}
        for mark in marks:
            packed = _RECORD.pack(mark.volume_id % SPAN, *mark[1:])
            fresh.setdefault(mark.volume_id // SPAN, bytearray()).extend(packed)
        return {segment_name(number) for number, content in fresh.items() if self._merge(number, bytes(content))}

    def document(self, name: str) -> bytes:
        """The document of a name; empty for one that there is not."""
        kind, _, number = name.partition("-")
        if kind == "segment":
            return self._segments.get(int(number), b"")
        one = self.unfinished.get(int(number))
        return one.document() if one else b""

    def names(self) -> list[str]:
        """The names of all segments."""
        return [segment_name(number) for number in self._segments]

    def marks(self, volume_id: int) -> list[Mark]:
        """All records of a volume, the newest first."""
        wanted, base = volume_id % SPAN, volume_id - volume_id % SPAN
        found = _RECORD.iter_unpack(self._segments.get(volume_id // SPAN, b""))
        return [Mark(base + one[0], *one[1:]) for one in found if one[0] == wanted]

    def by_server(self, number: int) -> dict[int, tuple[Packed, ...]]:
        """A segment's records by volume and server, as (volume id within the segment) << 32 | server."""
        content = self._segments.get(number, b"")
        found: dict[int, tuple[Packed, ...]] = {one[0] << 32 | one[2]: (one,) for one in _RECORD.iter_unpack(content)}
        if len(found) * SIZE < len(content):  # some have several: rarely
            found = {}
            for one in _RECORD.iter_unpack(content):
                key = one[0] << 32 | one[2]
                found[key] = (*found.get(key, ()), one)
        return found

    def _merge(self, number: int, content: bytes) -> bool:
        known = self._segments.get(number, b"")
        if content == known:
            return False
        merged = _newest(known + content)
        self._segments[number] = merged
        return merged != known


def segment_name(number: int) -> str:
    """The name of a segment's document."""
    return f"segment-{number}"


def unfinished_name(volume_id: int) -> str:
    """The name of the document that tells how far a volume was read."""
    return f"unfinished-{volume_id}"


def _newest(content: bytes) -> bytes:
    """The records that count, in one order whatever theirs was: of each thing the newest, of equals the worse."""
    joined: dict[tuple[int, int, int, int, int, int], int] = {}
    for offset, run, server, things, at, method, result in _RECORD.iter_unpack(content):
        key = offset, server, -at, -result, method, run
        joined[key] = joined.get(key, 0) | things
    oldest = -min((key[2] for key in joined), default=0) - KEPT
    kept = bytearray()
    last, seen = (-1, -1), 0
    for key in sorted(joined):
        offset, server, at, result, method, run = key
        if key[:2] != last:
            last, seen = key[:2], 0
        things = joined[key] & ~seen
        if things and -at > oldest:
            seen |= things
            kept += _RECORD.pack(offset, run, server, things, -at, method, -result)
    return bytes(kept)


@dataclass(frozen=True)
class Coverage:
    """How much of a cluster is verified. Numbers of replicas and shards; `oldest` in seconds, of those ever verified.

    `days` is the time within which it counts. `bad`, `differ` and `unclear` are those whose last result was that.
    """

    days: int
    total: int = 0
    recent: int = 0
    never: int = 0
    oldest: float = 0.0
    bad: int = 0
    differ: int = 0
    unclear: int = 0

    @property
    def share(self) -> float:
        """The share that is verified; 1 of nothing."""
        return self.recent / self.total if self.total else 1.0

    @property
    def words(self) -> str:
        """It in half a sentence."""
        percent = int(self.share * 100)  # 99.9 % is not all
        days = self.oldest / 86400
        text = f"{percent} % verified in {self.days} days, oldest {days:.0f} days, {self.never} never"
        for count, what in ((self.bad, "bad"), (self.differ, "that differ"), (self.unclear, "that cannot be told")):
            text += f", {count} {what}" if count else ""
        return text
