"""Making replicas that differ agree again, by what their indexes prove and by nothing else.

An `.idx` is a log: a needle's entries in it are its history on that replica. Where one replica's history of a needle
goes on where another's ends, the longer one tells what happened last, whatever the servers' clocks say: the other
missed a write, an overwriting or a deletion, and gets it. A needle that a replica has never seen is proved missing
there only as long as that replica was never vacuumed, since a vacuum forgets deletions. All else is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from weed_cluster.address import Address
from weed_core.errors import Mismatch
from weed_safety.context import Context
from weed_safety.look import file_status
from weed_storage.index import entries
from weed_storage.needle import FileId, parse_needle

Fingerprint = tuple[int, int, int]
"""What tells one write from another: cookie, checksum, and the unix second that the client's server stamped it with.

The stamp travels to the replicas, so a needle that was deleted and written again with the same bytes shows as such.
A needle's name tells nothing: it may be kept by one replica only.
"""

STAMP_SLACK = 2
"""Seconds by which replicas may stamp the same write differently, where a client wrote to each of them itself."""

DELETED = None
"""The event of a deletion; any other event is the print of what was written."""

NO_REVISION = 0xFFFFFFFF
"""The compaction revision that CopyFile takes for any."""

WHOLE = 2**63 - 1
"""The offset in bytes at which CopyFile stops, where all of a file is wanted."""

DELETE_BATCH = 1000
"""Needles deleted with one call."""


@dataclass(frozen=True)
class Replica:
    """One replica of a volume: where it is, and what its superblock and index format are."""

    server: Address
    revision: int
    version: int
    offset_bytes: int


@dataclass(frozen=True)
class History:
    """What one replica's index tells of one needle, oldest event first. `vacuumed`: earlier events may be forgotten.

    `offset` and `size` say where the last content lies in the `.dat`, in bytes.
    """

    events: tuple[Fingerprint | None, ...]
    vacuumed: bool
    offset: int = 0
    size: int = 0

    @property
    def is_live(self) -> bool:
        """Whether the needle can be read there."""
        return bool(self.events) and self.events[-1] is not DELETED


@dataclass(frozen=True)
class Verdict:
    """What is to be done about one needle: nothing, a write or a deletion on some replicas, or nothing provable."""

    write_from: Address | None = None
    write_to: tuple[Address, ...] = ()
    delete_on: tuple[Address, ...] = ()
    is_proved: bool = True


@dataclass
class Plan:
    """What is to be done about a volume, by replica."""

    writes: dict[Address, list[tuple[int, Address, int, int]]] = field(default_factory=dict)  # id, from, offset, size
    deletions: dict[Address, list[int]] = field(default_factory=dict)
    unproved: list[int] = field(default_factory=list)

    @property
    def servers(self) -> list[Address]:
        """The replicas that change."""
        return list(dict.fromkeys([*self.writes, *self.deletions]))


def decide(histories: Mapping[Address, History]) -> Verdict:
    """Judge one needle by its histories on all replicas."""
    last = next((server for server, whole in histories.items() if _explains(whole, histories.values())), None)
    if last is None:
        return Verdict(is_proved=False)
    whole = histories[last]
    behind = [server for server, part in histories.items() if not _is_same(_outcome(part), _outcome(whole))]
    if whole.is_live:
        return Verdict(write_from=last, write_to=tuple(behind))
    return Verdict(delete_on=tuple(behind))


def _outcome(history: History) -> Fingerprint | None:
    """What a client reads there: a needle that never was and one that is deleted are the same to it."""
    return history.events[-1] if history.is_live else None


def _explains(whole: History, parts: Iterable[History]) -> bool:
    """Whether every history is the beginning of this one, or, where a vacuum forgot its beginning, a piece of it."""
    return all(_is_part(part, whole) for part in parts)


def _is_part(part: History, whole: History) -> bool:
    if not part.vacuumed:
        return _begins(part.events, whole.events)
    if not part.events:
        return not whole.is_live  # it may have been deleted and forgotten: nothing but a deletion agrees with that
    return any(_begins(part.events, whole.events[at:]) for at in range(len(whole.events)))


def _begins(part: Sequence[Fingerprint | None], whole: Sequence[Fingerprint | None]) -> bool:
    return len(part) <= len(whole) and all(map(_is_same, part, whole))


def _is_same(a: Fingerprint | None, b: Fingerprint | None) -> bool:
    """Whether two replicas tell of the same event."""
    if a is None or b is None:
        return a is b
    return a[:2] == b[:2] and abs(a[2] - b[2]) <= STAMP_SLACK


def plan(ctx: Context, volume_id: int, replicas: Sequence[Replica], needle_ids: Collection[int]) -> Plan:
    """Read what the replicas tell of these needles, and judge each. The volume must be frozen on all of them."""
    told = {
        replica.server: histories
        for replica, histories in zip(
            replicas, ctx.each(lambda replica: read_histories(ctx, volume_id, replica, needle_ids), replicas)
        )
    }
    result = Plan()
    for needle_id in sorted(needle_ids):
        verdict = decide({server: histories[needle_id] for server, histories in told.items()})
        if not verdict.is_proved:
            result.unproved.append(needle_id)
        for server in verdict.delete_on:
            result.deletions.setdefault(server, []).append(needle_id)
        for server in verdict.write_to:
            assert verdict.write_from is not None
            source = told[verdict.write_from][needle_id]
            result.writes.setdefault(server, []).append((needle_id, verdict.write_from, source.offset, source.size))
    return result


def read_histories(ctx: Context, volume_id: int, replica: Replica, needle_ids: Collection[int]) -> dict[int, History]:
    """Read the history of each of these needles on one replica: its index, and the header of each content it names."""
    volume = ctx.volume(replica.server)
    index = bytearray()
    for piece in volume.copy_file(volume_id=volume_id, ext=".idx", compaction_revision=NO_REVISION, stop_offset=WHOLE):
        index += piece.file_content
    logged: Mapping[int, list[tuple[int, int]]] = ctx.compute(_entries_of, index, set(needle_ids), replica.offset_bytes)

    def read(needle_id: int) -> History:
        events: list[Fingerprint | None] = []
        place = (0, 0)
        for offset, size in logged.get(needle_id, ()):
            if size < 0:
                events.append(DELETED)
                continue
            meta = volume.read_needle_meta(volume_id=volume_id, needle_id=needle_id, offset=offset, size=size)
            events.append((meta.cookie, meta.crc, meta.last_modified))
            place = offset, size
        return History(tuple(event for event, _ in groupby(events)), replica.revision > 0, *place)

    return dict(zip(needle_ids, ctx.each(read, needle_ids)))


def _entries_of(index: bytes, wanted: Collection[int], offset_bytes: int) -> dict[int, list[tuple[int, int]]]:
    found: dict[int, list[tuple[int, int]]] = {}
    for needle_id, offset, size in entries(index, offset_bytes):
        if needle_id in wanted:
            found.setdefault(needle_id, []).append((offset, size))
    return found


def carry_out(
    ctx: Context,
    volume_id: int,
    plan: Plan,
    versions: Mapping[Address, int],
    opened: Callable[[Address, Callable[[], None]], None],
) -> tuple[int, int]:
    """Write and delete what the plan says; return how many of each.

    `opened(server, work)` makes the volume writable on one server while the work is done. The others stay frozen, so
    that no client's write can succeed meanwhile: what this changes cannot cross with one.
    """
    for server in plan.servers:
        writes, deletions = plan.writes.get(server, []), plan.deletions.get(server, [])

        def work(
            server: Address = server,
            writes: Sequence[tuple[int, Address, int, int]] = writes,
            deletions: Sequence[int] = deletions,
        ) -> None:
            for needle_id, source, offset, size in writes:
                _write(ctx, volume_id, needle_id, source, server, offset, size, versions[source])
            for start in range(0, len(deletions), DELETE_BATCH):
                _delete(ctx, volume_id, server, deletions[start : start + DELETE_BATCH])

        opened(server, work)
    return sum(map(len, plan.writes.values())), sum(map(len, plan.deletions.values()))


def _write(
    ctx: Context, volume_id: int, needle_id: int, source: Address, target: Address, offset: int, size: int, version: int
) -> None:
    """Copy one needle, sound or not at all."""
    blob = ctx.volume(source).read_needle_blob(volume_id=volume_id, offset=offset, size=size).needle_blob
    found = ctx.compute(parse_needle, blob, version)
    if found.id != needle_id:
        raise Mismatch(f"volume {volume_id} on {source} holds needle {found.id:x} where its index names {needle_id:x}")
    ctx.rates.spend(str(target), len(blob), ctx.wait)
    ctx.volume(target).write_needle_blob(volume_id=volume_id, needle_id=needle_id, size=size, needle_blob=blob)


def _delete(ctx: Context, volume_id: int, server: Address, needle_ids: Iterable[int]) -> None:
    """Delete needles on one replica alone; Mismatch if the server refuses one."""
    names = [str(FileId(volume_id, needle_id, 0)) for needle_id in needle_ids]
    for answer in ctx.volume(server).batch_delete(file_ids=names, skip_cookie_check=True).results:
        if answer.error:
            raise Mismatch(f"{server} does not delete {answer.file_id}: {answer.error}")


def describe(ctx: Context, server: Address, volume_id: int) -> Replica:
    """Ask a server for what must be known of a replica before its index can be read."""
    status = file_status(ctx, server, volume_id)
    info = status.volume_info
    return Replica(server, status.compaction_revision, status.version or info.version, info.bytes_offset or 4)
