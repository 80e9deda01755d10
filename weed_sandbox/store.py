"""Volumes and shards on the disks of one sandbox volume server, in SeaweedFS's own formats.

Everything that counts is on disk and read back at the next start. What differs between SeaweedFS 3.97, 4.13 and 4.44
is decided here or in volume_server.py by `era`.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from urllib.request import Request, urlopen

from proto_gen import master_pb2 as m
from proto_gen import volume_server_pb2 as v
from weed_core.errors import Mismatch
from weed_core.release import Generation
from weed_sandbox.faults import Refused
from weed_storage.checksums import crc32c, parse_ecsum
from weed_storage.ec_layout import DATA_SHARDS, shard_size
from weed_storage.index import entries, pack_ecj, pack_entry, read_ecj, search_ecx
from weed_storage.needle import (
    HAS_LAST_MODIFIED,
    HEADER_SIZE,
    NO_TTL,
    Needle,
    SuperBlock,
    actual_size,
    pack_needle,
    parse_header,
    parse_needle,
)
from weed_storage.volume_info import dump_vif, parse_vif

ALL_SHARDS = range(32)
NEVER = (-62135596800) % (1 << 64)
"""The zero time of Go as unsigned Unix seconds: what a broken volume tells as its time stamp."""


@dataclass(frozen=True)
class Disk:
    """One directory of a server. `type` is "" for hard disks."""

    id: int
    directory: Path
    type: str
    slots: int

    def base(self, collection: str, volume_id: int) -> str:
        """The path of a volume's files on this disk, without their extension."""
        return str(self.directory / (f"{collection}_{volume_id}" if collection else str(volume_id)))


class Backend(Protocol):
    """Where the bytes of a `.dat` are."""

    def size(self) -> int:
        """Its length in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """A range; short at the end."""

    def close(self) -> None:
        """Let go."""


class LocalDat:
    """A `.dat` on this server's disk."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR)

    def size(self) -> int:
        """Its length in bytes."""
        return os.fstat(self._file).st_size

    def read(self, offset: int, length: int) -> bytes:
        """A range; short at the end."""
        return os.pread(self._file, length, offset)

    def append(self, record: bytes) -> int:
        """Write at the next multiple of 8 and return that offset."""
        offset = -(-self.size() // 8) * 8
        os.pwrite(self._file, record, offset)
        return offset

    def modified(self) -> float:
        """When it was written last, in Unix seconds."""
        return os.fstat(self._file).st_mtime

    def close(self) -> None:
        """Let go."""
        os.close(self._file)


CREDENTIALS = {"Authorization": "AWS sandbox:unsigned"}
"""What object stores that check no signature want to see."""


class RemoteDat:
    """A `.dat` in an object store, read by ranges over HTTP."""

    def __init__(self, url: str, size: int) -> None:
        self.url = url
        self._size = size

    def size(self) -> int:
        """Its length in bytes."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """A range; short at the end."""
        last = min(offset + length, self._size) - 1
        if last < offset:
            return b""
        request = Request(self.url, headers={**CREDENTIALS, "Range": f"bytes={offset}-{last}"})
        with urlopen(request, timeout=30) as response:
            return bytes(response.read())

    def close(self) -> None:
        """Nothing is held."""


class Volume:
    """One volume. Its methods raise Refused in the words of the real server."""

    def __init__(self, disk: Disk, volume_id: int, collection: str, era: str, urls: dict[str, str]) -> None:
        self.disk = disk
        self.id = volume_id
        self.collection = collection
        self.era = era
        self.lock = threading.RLock()
        self.base = disk.base(collection, volume_id)
        self.compacting = False
        self._urls = urls
        self._compacted_index = 0  # length of the .idx when the last compaction began
        self.dat: Backend | None = None
        self.load()

    @classmethod
    def create(
        cls, disk: Disk, volume_id: int, collection: str, era: str, urls: dict[str, str], block: SuperBlock
    ) -> Volume:
        """Make an empty volume."""
        base = disk.base(collection, volume_id)
        Path(f"{base}.dat").write_bytes(block.pack())
        Path(f"{base}.idx").touch()
        Path(f"{base}.vif").write_bytes(dump_vif(v.VolumeInfo(version=block.version), Generation(era)))
        return cls(disk, volume_id, collection, era, urls)

    def path(self, extension: str) -> Path:
        """One of its files."""
        return Path(self.base + extension)

    def load(self) -> None:
        """Read everything from disk."""
        vif = self.path(".vif")
        self.info = (parse_vif(vif.read_bytes()) if vif.exists() else None) or v.VolumeInfo(version=3)
        if self.info.files:
            file = self.info.files[0]
            url = f"{self._urls[f'{file.backend_type}.{file.backend_id}']}/{file.key}"
            self.dat = RemoteDat(url, file.file_size)
        else:
            self.dat = LocalDat(f"{self.base}.dat")
        self.block = SuperBlock.parse(self.dat.read(0, 8))
        if self.info.replication:
            self.block = replace(self.block, replica_placement=int(self.info.replication))
        self.no_write = self.info.read_only
        self.can_delete = self.info.read_only_can_delete or bool(self.info.files)
        self._index_is_frozen = self.info.read_only and self.era != "4.44"
        self._idx = os.open(f"{self.base}.idx", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self.needles: dict[int, tuple[int, int]] = {}  # id -> offset, size; the size is negative once deleted
        self.file_count = self.content_size = self.deleted_count = self.deleted_size = 0
        last, end = 0, self.block.end
        for needle_id, offset, size in entries(self.path(".idx").read_bytes()):
            self._note(needle_id, offset, size)
            last, end = offset, offset + actual_size(max(0, size), self.block.version)
        self._last_append = self._stamp(last) if last and not self.info.files else 0
        if self.era != "4.44" and not self.info.files and end != self.size:
            self.no_write = True  # the index does not tell of all that was written

    def close(self) -> None:
        """Let go of the files."""
        if self.dat is not None:
            self.dat.close()
            os.close(self._idx)
            self.dat = None

    # ---- what it tells

    @property
    def backend(self) -> Backend:
        """The bytes of the `.dat`; Refused on a broken volume."""
        if self.dat is None:
            raise Refused(f"volume {self.id} data backend not found")
        return self.dat

    @property
    def read_only(self) -> bool:
        """Whether writes are refused."""
        return self.no_write or bool(self.info.files)

    @property
    def size(self) -> int:
        """Bytes of the `.dat`; 0 on a broken volume."""
        return self.dat.size() if self.dat else 0

    @property
    def index_size(self) -> int:
        """Bytes of the `.idx`; 0 on a broken volume."""
        return os.fstat(self._idx).st_size if self.dat else 0

    @property
    def modified(self) -> int:
        """When it was written last, in Unix seconds."""
        if self.dat is None:
            return NEVER
        return int(self.dat.modified()) if isinstance(self.dat, LocalDat) else self.info.files[0].modified_time

    @property
    def garbage_ratio(self) -> float:
        """Deleted bytes over all bytes written since the last compaction."""
        return self.deleted_size / self.content_size if self.dat and self.content_size else 0.0

    def message(self) -> m.VolumeInformationMessage:
        """What a heartbeat tells of it."""
        remote = self.info.files[0] if self.info.files else v.RemoteFile()
        return m.VolumeInformationMessage(
            id=self.id,
            size=self.size,
            collection=self.collection,
            file_count=self.file_count,
            delete_count=self.deleted_count,
            deleted_byte_count=self.deleted_size,
            read_only=self.read_only,
            replica_placement=self.block.replica_placement,
            version=self.block.version,
            ttl=_ttl_number(self.block.ttl),
            compact_revision=self.block.compaction_revision,
            modified_at_second=self.modified,
            remote_storage_name=f"{remote.backend_type}.{remote.backend_id}" if remote.key else "",
            disk_type=self.disk.type,
            disk_id=self.disk.id,
        )

    # ---- needles

    def live(self, needle_id: int) -> tuple[int, int] | None:
        """Offset and size of a needle that exists; None if it is absent or deleted, or the volume is broken."""
        found = self.needles.get(needle_id) if self.dat else None
        return found if found and found[1] >= 0 else None

    def read(self, needle_id: int) -> Needle | None:
        """A needle that exists; Mismatch if its bytes are damaged."""
        with self.lock:
            found = self.live(needle_id)
            return parse_needle(self.record(*found), self.block.version) if found else None

    def record(self, offset: int, size: int) -> bytes:
        """The bytes of the `.dat` from `offset` on, as many as a needle of this size takes, whatever lies there."""
        wanted = actual_size(size, self.block.version)
        data = self.backend.read(offset, wanted)
        if len(data) < wanted:
            raise Refused("EOF")
        return data

    def write(self, needle: Needle, check_cookie: bool = True) -> bool:
        """Append a needle; False where the same one is there already."""
        with self.lock:
            self.must_be_writable()
            if old := self.read(needle.id):
                if not needle.cookie and not check_cookie:
                    needle = replace(needle, cookie=old.cookie)
                if old.cookie != needle.cookie:
                    raise Refused(f"mismatching cookie {needle.cookie:x}")
                if old.data == needle.data and needle.data:
                    return False
            stamped = replace(needle, append_at_ns=self._next_stamp())
            self._append(pack_needle(stamped, self.block.version), needle.id)
            return True

    def write_record(self, needle_id: int, record: bytes, size: int) -> None:
        """Append a needle as another replica keeps it, with an append stamp of this one."""
        with self.lock:
            if self.era == "4.44":
                self.must_be_writable()
                header_size = parse_header(record)[2]
                if header_size != size:
                    raise Refused(f"needle {needle_id} size {size} does not match its blob header size {header_size}")
            found = self.live(needle_id)
            needle = parse_needle(record, self.block.version)
            if found and found[1] == size and (old := self.read(needle_id)) and old.data == needle.data:
                return
            at = HEADER_SIZE + size + 4
            stamped = bytearray(record)
            if self.block.version == 3:
                stamped[at : at + 8] = self._next_stamp().to_bytes(8, "big")
            self._append(bytes(stamped), needle_id)

    def delete(self, needle_id: int, cookie: int) -> int:
        """Delete a needle and return its size; 0 if there is none."""
        with self.lock:
            if self.no_write and not self.can_delete:
                raise Refused(f"volume {self.id} is read only")
            found = self.live(needle_id)
            if not found:
                return 0
            offset = 0
            if isinstance(self.dat, LocalDat):
                stone = Needle(cookie, needle_id, append_at_ns=self._next_stamp())
                offset = self.dat.append(pack_needle(stone, self.block.version))
            self._enter(needle_id, offset, -1)
            return found[1]

    def since(self, stamp: int) -> Iterator[tuple[bytes, bytes, int]]:
        """Header, body and append stamp of every record, deletions too, that was appended after `stamp`."""
        offset, end = self.block.end, self.backend.size()
        while offset < end:
            header = self.backend.read(offset, HEADER_SIZE)
            length = actual_size(parse_header(header)[2], self.block.version)
            body = self.backend.read(offset + HEADER_SIZE, length - HEADER_SIZE)
            appended = self._stamp(offset)
            if appended > stamp:
                yield header, body, appended
            offset += length

    def last_stamp(self) -> int:
        """The append stamp of the needle that the index names last, in ns; 0 if there is none."""
        return self._last_append

    def must_be_writable(self) -> None:
        """Refuse on a read-only volume."""
        if self.read_only:
            raise Refused(f"volume {self.id} is read only")

    def _append(self, record: bytes, needle_id: int) -> None:
        assert isinstance(self.backend, LocalDat)
        offset = self.backend.append(record)
        if self._index_is_frozen:
            # Loaded read-only, then marked writable: servers before 4.44 cannot write this index.
            raise Refused(f"write {self.base}.idx: invalid argument")
        self._enter(needle_id, offset, parse_header(record)[2])

    def _enter(self, needle_id: int, offset: int, size: int) -> None:
        os.write(self._idx, pack_entry(needle_id, offset, size))
        self._note(needle_id, offset, size)

    def _note(self, needle_id: int, offset: int, size: int) -> None:
        old = self.needles.get(needle_id)
        if old and old[1] >= 0:
            self.deleted_count += 1
            self.deleted_size += old[1]
        if size >= 0:
            self.file_count += 1
            self.content_size += size
            self.needles[needle_id] = offset, size
        elif old:
            self.needles[needle_id] = old[0], -1

    def _next_stamp(self) -> int:
        self._last_append = max(time.time_ns(), self._last_append + 1)
        return self._last_append

    def _stamp(self, offset: int) -> int:
        size = parse_header(self.backend.read(offset, HEADER_SIZE))[2]
        if self.block.version != 3:
            return 0
        return int.from_bytes(self.backend.read(offset + HEADER_SIZE + size + 4, 8), "big")

    # ---- its state

    def mark_read_only(self, can_delete: bool, persist: bool) -> None:
        """Refuse writes (and deletes) from now on."""
        with self.lock:
            self.no_write = True
            self.can_delete = (can_delete and self.era == "4.44") or bool(self.info.files)
            if persist:
                self.info.read_only = True
                self.info.read_only_can_delete = self.can_delete
                self.save_info()

    def mark_writable(self) -> None:
        """Take writes again; a tiered volume stays read-only."""
        with self.lock:
            self.no_write = self.info.read_only = self.info.read_only_can_delete = False
            self.can_delete = bool(self.info.files)
            if self.era == "4.44":
                self._index_is_frozen = False
            self.save_info()

    def save_info(self) -> None:
        """Write the `.vif`."""
        self.path(".vif").write_bytes(dump_vif(self.info, Generation(self.era)))

    # ---- compaction

    def compact(self) -> None:
        """Write what is live into `.cpd` and `.cpx`; do nothing and say nothing while another compaction runs."""
        with self.lock:
            if self.compacting:
                return
            if not isinstance(self.dat, LocalDat):
                raise Refused(f"open {self.base}.dat: no such file or directory")
            self._compacted_index = self.index_size
            block = replace(self.block, compaction_revision=self.block.compaction_revision + 1)
            with self.path(".cpd").open("wb") as dat, self.path(".cpx").open("wb") as idx:
                dat.write(block.pack())
                for needle_id, (offset, size) in sorted(self.needles.items()):
                    if size >= 0 and self._compacts(record := self.record(offset, size)):
                        idx.write(pack_entry(needle_id, dat.tell(), size))
                        dat.write(record)

    def _compacts(self, record: bytes) -> bool:
        """Whether a record survives a compaction: 4.44 drops what it cannot read, older servers fail then."""
        try:
            parse_needle(record, self.block.version)
        except Mismatch as error:
            if self.era != "4.44":
                raise Refused(f"cannot hydrate needle from file: {error}") from None
            return False
        return True

    def commit(self) -> None:
        """Put the compacted files in place; without ones of its own this breaks the volume until it is remounted."""
        with self.lock:
            if self.compacting and self.era == "4.44":
                return
            tail = self.path(".idx").read_bytes()[self._compacted_index :]
            changes = {needle_id: (offset, size) for needle_id, offset, size in entries(tail)}
            records = {
                needle_id: self.record(offset, size) if size >= 0 else b""
                for needle_id, (offset, size) in changes.items()
            }
            self.close()
            if self.era == "4.44" and not (self.path(".cpd").exists() and self.path(".cpx").exists()):
                raise Refused(f"volume {self.id} compact swap aborted: missing .cpd/.cpx")
            if changes:
                self._replay(changes, records)
            os.replace(self.path(".cpd"), self.path(".dat"))
            os.replace(self.path(".cpx"), self.path(".idx"))
            self.load()

    def _replay(self, changes: dict[int, tuple[int, int]], records: dict[int, bytes]) -> None:
        """Append what happened since the compaction began."""
        with self.path(".cpd").open("r+b") as dat, self.path(".cpx").open("ab") as idx:
            dat.seek(0, os.SEEK_END)
            for needle_id, (_offset, size) in changes.items():
                idx.write(pack_entry(needle_id, dat.tell(), size))
                stone = Needle(0, needle_id, append_at_ns=time.time_ns())
                dat.write(records[needle_id] or pack_needle(stone, self.block.version))

    def cleanup(self) -> None:
        """Drop what a compaction has written."""
        for extension in (".cpd", ".cpx"):
            self.path(extension).unlink(missing_ok=True)

    def pretend_compaction(self) -> None:
        """Be in the state in which somebody else's compaction of this volume has written half of its work."""
        with self.lock:
            self._compacted_index = self.index_size
            self.path(".cpd").write_bytes(self.backend.read(0, self.size // 2))
            self.compacting = True

    # ---- the end

    def destroy(self, only_empty: bool, keep_info: bool) -> None:
        """Remove its files."""
        with self.lock:
            if only_empty and (self.size > self.block.end or self.content_size):
                raise Refused(f"DeleteVolume {self.id}: volume not empty")
            if self.compacting:
                raise Refused(f"volume {self.id} is compacting")
            self.close()
            for extension in (".dat", ".idx", ".cpd", ".cpx", ".note", *(() if keep_info else (".vif",))):
                self.path(extension).unlink(missing_ok=True)

    def scrub(self, full: bool) -> list[str]:
        """Say what is wrong with the index, and with `full` with every needle."""
        complaints = []
        for needle_id, (offset, size) in self.needles.items():
            if size < 0:
                continue
            if offset + actual_size(size, self.block.version) > self.size:
                complaints.append(f"needle {needle_id} of volume {self.id} runs past the end of the data file")
            elif full:
                try:
                    self.read(needle_id)
                except Mismatch as error:
                    complaints.append(f"volume {self.id}: {error}")
        return complaints


def _ttl_number(ttl: bytes) -> int:
    return int.from_bytes(ttl, "big") if ttl != NO_TTL else 0


class EcVolume:
    """Mounted shards of one volume on one disk."""

    def __init__(self, disk: Disk, volume_id: int, collection: str, index_base: str, era: str) -> None:
        self.disk = disk
        self.disk_type = disk.type
        self.id = volume_id
        self.collection = collection
        self.base = disk.base(collection, volume_id)
        self.shards: dict[int, int] = {}  # shard -> its open file
        self._index_base = index_base
        self._ecx = Path(f"{index_base}.ecx").read_bytes()
        journal = Path(f"{index_base}.ecj")
        journal.touch()
        self._deleted = set(read_ecj(journal.read_bytes()))
        vif = Path(f"{self.base}.vif")
        if not vif.exists() and index_base != self.base:
            vif = Path(f"{index_base}.vif")
        if not vif.exists() and era != "4.44":
            vif.write_bytes(dump_vif(v.VolumeInfo(version=3), Generation(era)))
        self.info = (parse_vif(vif.read_bytes()) if vif.exists() else None) or v.VolumeInfo(version=3)
        self.encode_ts_ns = self.info.ec_shard_config.encode_ts_ns if era == "4.44" else 0
        sums = Path(f"{self.base}.ecsum")
        self._sums = sums.read_bytes() if sums.exists() else b""  # as of the mount, whatever becomes of the file
        self.strict = Generation(era).strict_rows

    def mount(self, shard: int) -> None:
        """Open a shard's file; it is held open, also when it is removed meanwhile."""
        if shard not in self.shards:
            self.shards[shard] = os.open(f"{self.base}.ec{shard:02d}", os.O_RDONLY)

    def unmount(self, shard: int) -> None:
        """Let go of a shard's file."""
        if shard in self.shards:
            os.close(self.shards.pop(shard))

    def shard_size(self, shard: int) -> int:
        """A shard's length in bytes."""
        return os.fstat(self.shards[shard]).st_size

    def read(self, shard: int, offset: int, length: int) -> bytes:
        """A range of a shard; short at its end."""
        return os.pread(self.shards[shard], length, offset)

    @property
    def dat_size(self) -> int:
        """Length in bytes of what was encoded; where no .vif tells it, what the shards cover."""
        covered = max((self.shard_size(shard) for shard in self.shards), default=0) * DATA_SHARDS
        return self.info.dat_file_size or covered

    def live(self, needle_id: int) -> tuple[int, int] | None:
        """Offset and size of a needle that exists."""
        return None if needle_id in self._deleted else search_ecx(self._ecx, needle_id)

    def delete(self, needle_id: int) -> None:
        """Note that a needle is deleted."""
        with Path(f"{self._index_base}.ecj").open("ab") as journal:
            journal.write(pack_ecj([needle_id]))
        self._deleted.add(needle_id)

    def scrub(self) -> tuple[list[int], list[str]]:
        """The shards whose blocks are not what the `.ecsum` says, and what there is to complain of."""
        if not self._sums:
            return [], []
        try:
            sums = parse_ecsum(self._sums)
        except Mismatch:
            return [], [f"ec volume {self.id}: bitrot sidecar is malformed/unverifiable (sidecar integrity)"]
        bad: list[int] = []
        complaints = []
        for shard in sorted(self.shards):
            told = sums.shards[shard]
            for block, crc in enumerate(told.crcs):
                length = min(sums.block_size, told.covered_size - block * sums.block_size)
                data = self.read(shard, block * sums.block_size, length)
                if crc32c(data) != crc:
                    bad.append(shard)
                    complaints.append(f"ec volume {self.id} shard {shard}: checksum mismatch at block {block}")
                    break
        return bad, complaints

    def counts(self) -> tuple[int, int, int]:
        """Files, deleted files, and bytes of both."""
        sizes = [(needle_id in self._deleted, abs(size)) for needle_id, _offset, size in entries(self._ecx)]
        gone = sum(deleted for deleted, _size in sizes)
        return len(sizes) - gone, gone, sum(size for _deleted, size in sizes)

    def message(self) -> m.VolumeEcShardInformationMessage:
        """What a heartbeat tells of it."""
        shards = sorted(self.shards)
        files, deleted, _bytes = self.counts()
        return m.VolumeEcShardInformationMessage(
            id=self.id,
            collection=self.collection,
            ec_index_bits=sum(1 << shard for shard in shards),
            disk_type=self.disk_type,
            expire_at_sec=self.info.expire_at_sec,
            disk_id=self.disk.id,
            shard_sizes=[self.shard_size(shard) for shard in shards],
            file_count=files,
            delete_count=deleted,
            encode_ts_ns=self.encode_ts_ns,
        )


class Store:
    """All volumes and shards of one server."""

    def __init__(self, disks: list[Disk], era: str, urls: dict[str, str]) -> None:
        self.disks = disks
        self.era = era
        self.lock = threading.RLock()
        self.volumes: dict[int, Volume] = {}
        self.shards: dict[tuple[int, int], EcVolume] = {}  # (disk id, volume id)
        self._urls = urls  # backend name -> URL under which its objects are
        for disk in disks:
            disk.directory.mkdir(parents=True, exist_ok=True)
            for path in sorted(disk.directory.iterdir()):
                if path.suffix in (".idx", ".dat"):
                    self._load(disk, path)
            for path in sorted(disk.directory.glob("*.ecx")):
                self._load_shards(disk, path)

    # ---- whole volumes

    def find(self, volume_id: int) -> Volume | None:
        """A mounted volume."""
        return self.volumes.get(volume_id)

    def mount(self, volume_id: int) -> None:
        """Load a volume that lies on a disk."""
        with self.lock:
            if volume_id in self.volumes:
                return
            for disk in self.disks:
                for path in disk.directory.glob("*.idx"):
                    if _parts(path)[1] == volume_id and self._load(disk, path):
                        return
        raise Refused(f"volume {volume_id} not found on disk")

    def configure(self, volume_id: int, replication: str) -> None:
        """Write a placement down in the `.vif` of a volume that is not mounted; it counts from the next mount on."""
        with self.lock:
            for disk in self.disks:
                for path in disk.directory.glob("*.idx"):
                    if _parts(path)[1] == volume_id:
                        vif = path.with_suffix(".vif")
                        info = (parse_vif(vif.read_bytes()) if vif.exists() else None) or v.VolumeInfo(version=3)
                        info.replication = replication
                        vif.write_bytes(dump_vif(info, Generation(self.era)))
                        return
        raise Refused(f"volume {volume_id} not found on disk")

    def unmount(self, volume_id: int) -> None:
        """Let go of a volume; its files stay."""
        with self.lock:
            if volume := self.volumes.pop(volume_id, None):
                volume.close()

    def allocate(self, volume_id: int, collection: str, disk_type: str, block: SuperBlock) -> None:
        """Make an empty volume."""
        with self.lock:
            if volume_id in self.volumes:
                raise Refused(f"volume id {volume_id} already exists!")
            disk = self.free_disk(disk_type)
            if disk is None:
                raise Refused("No more free space left")
            self.volumes[volume_id] = Volume.create(disk, volume_id, collection, self.era, self._urls, block)

    def delete(self, volume_id: int, only_empty: bool) -> None:
        """Remove a mounted volume; one that is not mounted is not there."""
        with self.lock:
            volume = self.volumes.get(volume_id)
            if volume is None:
                raise Refused(f"delete volume {volume_id} not found on disk")
            beside_shards = (volume.disk.id, volume_id) in self.shards
            volume.destroy(only_empty, keep_info=beside_shards and self.era == "4.44")
            del self.volumes[volume_id]

    def free_disk(self, disk_type: str, space: int = 0) -> Disk | None:
        """The disk of a type with most free slots."""
        wanted = "" if disk_type == "hdd" else disk_type
        fitting = [disk for disk in self.disks if disk.type == wanted and self._free_slots(disk) > 0]
        fitting = [disk for disk in fitting if shutil.disk_usage(disk.directory).free > space]
        return max(fitting, key=self._free_slots, default=None)

    def _free_slots(self, disk: Disk) -> int:
        return disk.slots - sum(volume.disk is disk for volume in self.volumes.values())

    def _load(self, disk: Disk, path: Path) -> bool:
        collection, volume_id = _parts(path)
        if volume_id < 0 or volume_id in self.volumes:
            return False
        if path.with_suffix(".note").exists():  # a copy that did not come to its end
            for extension in (".dat", ".idx", ".vif", ".note"):
                path.with_suffix(extension).unlink(missing_ok=True)
            return False
        try:
            self.volumes[volume_id] = Volume(disk, volume_id, collection, self.era, self._urls)
        except (OSError, Mismatch):
            return False
        return True

    # ---- shards

    def holdings(self, volume_id: int) -> list[EcVolume]:
        """The mounted shards of a volume, disk by disk."""
        return [held for (_disk, found), held in sorted(self.shards.items()) if found == volume_id]

    def holding(self, volume_id: int, shard: int) -> EcVolume | None:
        """Where a mounted shard is."""
        return next((held for held in self.holdings(volume_id) if shard in held.shards), None)

    def mount_shard(self, collection: str, volume_id: int, shard: int, disk_type: str) -> None:
        """Mount one shard; it needs an index on its disk, from 4.44 on any disk."""
        with self.lock:
            bases = [disk.base(collection, volume_id) for disk in self.disks]
            indexed = [base for base in bases if Path(f"{base}.ecx").exists()]
            if not indexed and self.era == "4.44":
                raise Refused(f"MountEcShards {volume_id}.{shard}: no .ecx index found on any local disk")
            for disk, base in zip(self.disks, bases):
                if not Path(f"{base}.ec{shard:02d}").exists():
                    continue
                if base not in indexed and self.era != "4.44":
                    continue
                held = self.shards.get((disk.id, volume_id))
                if held is None:
                    index = base if base in indexed else indexed[0]
                    held = self.shards[disk.id, volume_id] = EcVolume(disk, volume_id, collection, index, self.era)
                held.mount(shard)
                if disk_type:
                    held.disk_type = "" if disk_type == "hdd" else disk_type
                return
        raise Refused(f"MountEcShards {volume_id}.{shard} not found on disk")

    def unmount_shard(self, volume_id: int, shard: int, newer: int) -> None:
        """Unmount a shard; with `newer` only one of a known, older generation than that."""
        with self.lock:
            for held in self.holdings(volume_id):
                if newer and not 0 < held.encode_ts_ns < newer:
                    continue
                held.unmount(shard)
                if not held.shards:
                    del self.shards[held.disk.id, volume_id]

    def tear_down(self, collection: str, volume_id: int, newer: int) -> None:
        """Remove every trace of a volume's shards; with `newer` only of a known, older generation."""
        with self.lock:
            for disk in self.disks:
                base = disk.base(collection, volume_id)
                vif = Path(f"{base}.vif")
                if newer:
                    info = parse_vif(vif.read_bytes()) if vif.exists() else None
                    if info is None or not 0 < info.ec_shard_config.encode_ts_ns < newer:
                        continue
                if held := self.shards.pop((disk.id, volume_id), None):
                    for shard in list(held.shards):
                        held.unmount(shard)
                for extension in (*(f".ec{shard:02d}" for shard in ALL_SHARDS), ".ecx", ".ecj", ".ecsum"):
                    Path(base + extension).unlink(missing_ok=True)
                if not Path(f"{base}.idx").exists():
                    vif.unlink(missing_ok=True)

    def delete_shards(self, collection: str, volume_id: int, shards: list[int]) -> None:
        """Remove shard files; with the last one also their index."""
        with self.lock:
            bases = [disk.base(collection, volume_id) for disk in self.disks]
            for base in bases:
                if self.era == "4.44" or Path(f"{base}.ecx").exists():
                    for shard in shards:
                        Path(f"{base}.ec{shard:02d}").unlink(missing_ok=True)
                    left = [base] if self.era != "4.44" else bases
                    if not any(shard_files(other) for other in left):
                        for other in left:
                            _drop_index(other)

    def target(self, collection: str, volume_id: int, disk_id: int) -> Disk | None:
        """The disk for an arriving shard file."""
        if self.era != "4.44":
            return next((disk for disk in self.disks if not disk.type), self.disks[0])
        if disk_id:
            return self.disks[disk_id] if disk_id < len(self.disks) else None
        mounted = [held.disk for held in self.holdings(volume_id)]
        indexed = [disk for disk in self.disks if Path(f"{disk.base(collection, volume_id)}.ecx").exists()]
        spinning = [disk for disk in self.disks if not disk.type]
        for group in (mounted, indexed, spinning, self.disks):
            if group:
                return max(group, key=self._free_slots)
        return None

    def _load_shards(self, disk: Disk, ecx: Path) -> None:
        collection, volume_id = _parts(ecx)
        base = disk.base(collection, volume_id)
        present = shard_files(base)
        dat = Path(f"{base}.dat")
        if dat.exists() and self.era == "4.13" and len(present) < DATA_SHARDS:
            self.tear_down(collection, volume_id, 0)
            return
        if dat.exists() and self.era == "4.44":
            expected = shard_size(dat.stat().st_size)
            if any(Path(f"{base}.ec{shard:02d}").stat().st_size < expected for shard in present):
                self.tear_down(collection, volume_id, 0)
                return
        for other in self.disks:
            for shard in shard_files(other.base(collection, volume_id)):
                try:
                    self.mount_shard(collection, volume_id, shard, "")
                except (Refused, OSError):
                    continue


def shard_files(base: str) -> list[int]:
    """The shards that lie beside each other on a disk."""
    return [shard for shard in ALL_SHARDS if Path(f"{base}.ec{shard:02d}").exists()]


def _drop_index(base: str) -> None:
    for extension in (".ecx", ".ecj", ".ecsum", *(() if Path(f"{base}.idx").exists() else (".vif",))):
        Path(base + extension).unlink(missing_ok=True)


def _parts(path: Path) -> tuple[str, int]:
    """Collection and volume id of a volume's file; -1 if it is none."""
    found = re.fullmatch(r"(?:(.*)_)?(\d+)", path.name.rpartition(".")[0])
    return (found[1] or "", int(found[2])) if found else ("", -1)


def new_needle(needle_id: int, cookie: int, data: bytes) -> Needle:
    """A needle as an upload makes it."""
    flags = HAS_LAST_MODIFIED if data else 0
    return Needle(cookie, needle_id, data, flags=flags, last_modified=int(time.time()))
