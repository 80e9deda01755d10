"""Indexes of needles: the log `.idx`, the sorted `.ecx` and the deletions `.ecj`.

An entry is the needle id (8 bytes), the offset in units of 8 bytes (4 bytes; one high byte more in large-disk builds)
and the size (4 bytes, negative for a deletion), big-endian, as in SeaweedFS 4.44, weed/storage/idx. Made for millions
of entries: they live in arrays, worked on a bounded piece at a time, so that other threads get their turn between.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import ItemsView, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import compress

from weed_core.errors import Mismatch
from weed_storage.isal import Buffer
from weed_storage.needle import actual_size

UNIT = 8  # bytes per step of an offset
TOMBSTONE = -1  # the size that says deleted

_ID, _SIZE = 8, 4  # widths in bytes
_PIECE = 1 << 14  # entries worked on in one go: a few milliseconds
_LATE = 1 << 16  # ids out of order that are kept aside before they are merged


def entry_size(offset_bytes: int = 4) -> int:
    """Return the bytes of one entry: 16, or 17 where offsets have 5 bytes; Mismatch for any other width."""
    if offset_bytes not in (4, 5):
        raise Mismatch(f"offsets of {offset_bytes} bytes are unknown; SeaweedFS builds have 4 or 5")
    return _ID + offset_bytes + _SIZE


def pack_entry(needle_id: int, offset: int, size: int, offset_bytes: int = 4) -> bytes:
    """Return one entry; `offset` is in bytes, a multiple of 8. struct.error if it is too large for its width."""
    high, low = divmod(offset // UNIT, 1 << 32)
    if entry_size(offset_bytes) == 16:
        return struct.pack(">QIi", needle_id, offset // UNIT, size)
    return struct.pack(">QIBi", needle_id, low, high, size)


def entries(idx: Buffer, offset_bytes: int = 4) -> Iterator[tuple[int, int, int]]:
    """Yield id, offset in bytes and size of each entry in file order, deletions too; a partial last one is ignored."""
    width = entry_size(offset_bytes)
    view = memoryview(idx)[: len(idx) - len(idx) % width]
    if offset_bytes == 4:
        for needle_id, offset, size in struct.iter_unpack(">QIi", view):
            yield needle_id, offset * UNIT, size
    else:
        for needle_id, low, high, size in struct.iter_unpack(">QIBi", view):
            yield needle_id, (high << 32 | low) * UNIT, size


class Live(Mapping[int, tuple[int, int]]):
    """The needles a volume holds: id -> (offset in bytes, size), by ascending id.

    Reads like a dict, at about 16 bytes per needle.
    """

    def __init__(self, ids: array[int], offsets: array[int], sizes: array[int], offset_bytes: int) -> None:
        self.ids = ids
        self._offsets = offsets
        self.sizes = sizes
        self.offset_bytes = offset_bytes

    def __getitem__(self, needle_id: int) -> tuple[int, int]:
        at = bisect_left(self.ids, needle_id)
        if at == len(self.ids) or self.ids[at] != needle_id:
            raise KeyError(needle_id)
        return self._offsets[at] * UNIT, self.sizes[at]

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def items(self) -> ItemsView[int, tuple[int, int]]:
        """Return the needles in one pass, without a search for each."""
        return _Items(self)

    def positions(self) -> Iterator[tuple[int, int]]:
        """Yield offset in bytes and size of each needle, by ascending id."""
        return zip((offset * UNIT for offset in self._offsets), self.sizes)

    def ecx(self) -> Iterator[bytes]:
        """Yield the bytes of the `.ecx` file, in pieces of whole entries."""
        width = entry_size(self.offset_bytes)
        for start in range(0, len(self.ids), _PIECE):
            part = slice(start, start + _PIECE)
            ids, offsets, sizes = map(_big_endian, (self.ids[part], self._offsets[part], self.sizes[part]))
            out = bytearray(width * (len(ids) // _ID))
            for byte in range(_ID):
                out[byte::width] = ids[byte::_ID]
            step = self._offsets.itemsize  # 8 for offsets of 5 bytes, whose low 4 come last
            for byte in range(4):
                out[_ID + byte :: width] = offsets[step - 4 + byte :: step]
            if self.offset_bytes == 5:
                out[_ID + 4 :: width] = offsets[step - 5 :: step]
            for byte in range(_SIZE):
                out[width - _SIZE + byte :: width] = sizes[byte::_SIZE]
            yield bytes(out)


class _Items(ItemsView[int, tuple[int, int]]):
    def __init__(self, live: Live) -> None:
        super().__init__(live)
        self._live = live

    def __iter__(self) -> Iterator[tuple[int, tuple[int, int]]]:
        return zip(self._live.ids, self._live.positions())


def _big_endian(numbers: array[int]) -> bytes:
    if sys.byteorder == "little":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _numbers(typecode: str, big_endian: Buffer) -> array[int]:
    numbers = array(typecode)
    numbers.frombytes(big_endian)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


class Fold:
    """Folds an `.idx` fed in chunks of any size: for each id the last entry counts, and whether it is a deletion.

    Ids come nearly in ascending order from SeaweedFS, so those beyond the highest yet are appended, those known are
    overwritten where they stand, and the few others wait aside to be merged.
    """

    def __init__(self, offset_bytes: int = 4) -> None:
        self.offset_bytes = offset_bytes
        self._width = entry_size(offset_bytes)
        self._rest = b""
        self._ids = array("Q")
        self._offsets = array("I" if offset_bytes == 4 else "Q")  # 0 marks a deleted needle
        self._sizes = array("i")
        self._dead = 0
        self._late: dict[int, tuple[int, int]] = {}

    def feed(self, chunk: Buffer) -> None:
        """Take the next bytes of the file; the work is bounded by the chunk, except for a rare merge."""
        data = memoryview(self._rest + bytes(chunk))
        whole = len(data) - len(data) % self._width
        for start in range(0, whole, _PIECE * self._width):
            self._take(data[start : min(start + _PIECE * self._width, whole)])
        self._rest = bytes(data[whole:])

    def live(self) -> Live:
        """Return what is live after all bytes fed so far; a partial last entry is ignored.

        The fold must not be fed any further: the arrays are handed over, not copied.
        """
        self._merge()
        return Live(self._ids, self._offsets, self._sizes, self.offset_bytes)

    def _take(self, data: memoryview) -> None:
        ids, offsets, sizes = self._columns(bytes(data))
        last = dict(zip(ids, range(len(ids))))  # where an id comes several times, the last one stays
        order = sorted(last)
        beyond = bisect_right(order, self._ids[-1]) if self._ids else 0
        for needle_id in order[:beyond]:
            at = last[needle_id]
            self._change(needle_id, offsets[at], sizes[at])
        appended = [last[needle_id] for needle_id in order[beyond:]]
        news = array(offsets.typecode, map(offsets.__getitem__, appended))
        self._ids.extend(compress(order[beyond:], news))
        self._sizes.extend(compress(map(sizes.__getitem__, appended), news))
        self._offsets.extend(filter(None, news))
        if len(self._late) > _LATE + len(self._ids) // 8:
            self._merge()

    def _columns(self, data: bytes) -> tuple[array[int], array[int], array[int]]:
        """Split entries into ids, offsets in units (0 for a deletion) and sizes."""
        width, count = self._width, len(data) // self._width
        ids, sizes = bytearray(_ID * count), bytearray(_SIZE * count)
        for byte in range(_ID):
            ids[byte::_ID] = data[byte::width]
        for byte in range(_SIZE):
            sizes[byte::_SIZE] = data[width - _SIZE + byte :: width]
        step = self._offsets.itemsize
        units = bytearray(step * count)
        for byte in range(4):
            units[step - 4 + byte :: step] = data[_ID + byte :: width]
        if self.offset_bytes == 5:
            units[step - 5 :: step] = data[_ID + 4 :: width]
        offsets, lengths = _numbers(self._offsets.typecode, units), _numbers("i", sizes)
        if count and min(lengths) < 0:
            for at, size in enumerate(lengths):
                if size < 0:
                    offsets[at] = 0
        return _numbers("Q", ids), offsets, lengths

    def _change(self, needle_id: int, offset: int, size: int) -> None:
        """Set or delete (`offset` 0) an id that is not beyond the highest one."""
        at = bisect_left(self._ids, needle_id)
        if self._ids[at] == needle_id:
            self._dead += (not offset) - (not self._offsets[at])
            self._offsets[at], self._sizes[at] = offset, size
        elif offset:
            self._late[needle_id] = offset, size
        else:
            self._late.pop(needle_id, None)

    def _merge(self) -> None:
        """Drop deleted needles and put those that wait aside into their places."""
        if self._dead:
            keep = self._offsets
            self._ids = array("Q", compress(self._ids, keep))
            self._sizes = array("i", compress(self._sizes, keep))
            self._offsets = array(keep.typecode, filter(None, keep))
            self._dead = 0
        if not self._late:
            return
        ids, offsets, sizes = array("Q"), array(self._offsets.typecode), array("i")
        done = 0
        for needle_id in sorted(self._late):
            offset, size = self._late[needle_id]
            at = bisect_left(self._ids, needle_id, done)
            ids += self._ids[done:at]
            offsets += self._offsets[done:at]
            sizes += self._sizes[done:at]
            ids.append(needle_id)
            offsets.append(offset)
            sizes.append(size)
            done = at
        ids += self._ids[done:]
        offsets += self._offsets[done:]
        sizes += self._sizes[done:]
        self._ids, self._offsets, self._sizes = ids, offsets, sizes
        self._late.clear()


def fold(idx: Buffer | Iterable[Buffer], offset_bytes: int = 4) -> Live:
    """Fold an `.idx`, whole or in chunks, into the needles it leaves live."""
    folding = Fold(offset_bytes)
    for chunk in (idx,) if isinstance(idx, bytes | bytearray | memoryview) else idx:
        view = memoryview(chunk)
        for start in range(0, len(view), 1 << 20):
            folding.feed(view[start : start + (1 << 20)])
    return folding.live()


def to_ecx(idx: Buffer | Iterable[Buffer], offset_bytes: int = 4) -> bytes:
    """Return the `.ecx` of an `.idx`: its live entries by ascending id."""
    return b"".join(fold(idx, offset_bytes).ecx())


def content_end(live: Live, version: int) -> int:
    """Return the offset in bytes after the last live needle: a sound `.dat` has at least this size."""
    return max((offset + actual_size(size, version) for offset, size in live.positions()), default=0)


@dataclass(frozen=True)
class Difference:
    """How two folds differ, as ascending needle ids; false if they do not."""

    missing_in_a: list[int]
    missing_in_b: list[int]
    different_size: list[int]

    def __bool__(self) -> bool:
        return bool(self.missing_in_a or self.missing_in_b or self.different_size)


def compare(a: Live, b: Live) -> Difference:
    """Compare which needles two replicas hold, and of which size; where in the `.dat` they lie does not matter."""
    difference = Difference([], [], [])
    from_a = from_b = 0
    while from_a < len(a) or from_b < len(b):
        to_a, to_b = _next_piece(a.ids, from_a, b.ids, from_b)
        ids_a, ids_b = a.ids[from_a:to_a], b.ids[from_b:to_b]
        sizes_a, sizes_b = a.sizes[from_a:to_a], b.sizes[from_b:to_b]
        from_a, from_b = to_a, to_b
        if (ids_a, sizes_a) == (ids_b, sizes_b):
            continue
        in_a, in_b = dict(zip(ids_a, sizes_a)), dict(zip(ids_b, sizes_b))
        difference.missing_in_a.extend(needle_id for needle_id in ids_b if needle_id not in in_a)
        difference.missing_in_b.extend(needle_id for needle_id in ids_a if needle_id not in in_b)
        difference.different_size.extend(
            needle_id for needle_id, size in in_a.items() if in_b.get(needle_id, size) != size
        )
    return difference


def _next_piece(a: array[int], from_a: int, b: array[int], from_b: int) -> tuple[int, int]:
    """Return the ends of the next pieces of both arrays: at most _PIECE ids of each, covering the same range of ids."""
    tops = [ids[min(start + _PIECE, len(ids)) - 1] for ids, start in ((a, from_a), (b, from_b)) if start < len(ids)]
    top = min(tops)
    return bisect_right(a, top, from_a), bisect_right(b, top, from_b)


def search_ecx(ecx: Buffer, needle_id: int, offset_bytes: int = 4) -> tuple[int, int] | None:
    """Return offset in bytes and size of a needle from an `.ecx`; None if it is absent or marked deleted there."""
    width = entry_size(offset_bytes)
    view = memoryview(ecx)
    at = bisect_left(range(len(view) // width), needle_id, key=lambda i: int.from_bytes(view[i * width :][:_ID], "big"))
    for found, offset, size in entries(view[at * width : (at + 1) * width], offset_bytes):
        if found == needle_id and size >= 0:
            return offset, size
    return None


def pack_ecj(needle_ids: Iterable[int]) -> bytes:
    """Return the bytes to append to an `.ecj` for needles deleted after the encode."""
    return b"".join(needle_id.to_bytes(_ID, "big") for needle_id in needle_ids)


def read_ecj(ecj: Buffer) -> list[int]:
    """Return the needle ids of an `.ecj` in file order; a partial last one is ignored."""
    return [needle_id for (needle_id,) in struct.iter_unpack(">Q", memoryview(ecj)[: len(ecj) - len(ecj) % _ID])]
