"""RPCs of needles, and scrubs."""

from __future__ import annotations

from typing import Any

from proto_gen import volume_server_pb2 as v
from weed_core.errors import Mismatch
from weed_sandbox.faults import Refused, unimplemented
from weed_sandbox.volume_shards import Shards
from weed_storage.needle import FileId, Needle, pack_needle, parse_header, parse_needle


class Needles(Shards):
    """RPCs of needles, and scrubs."""

    def ReadNeedleBlob(self, request: v.ReadNeedleBlobRequest, _context: Any) -> v.ReadNeedleBlobResponse:
        """Bytes of the `.dat`, whatever lies there."""
        volume = self._volume(request.volume_id, "not found volume id {}")
        try:
            return v.ReadNeedleBlobResponse(needle_blob=volume.record(request.offset, request.size))
        except Refused as error:
            raise Refused(f"read needle blob offset {request.offset} size {request.size}: {error}") from None

    def ReadNeedleMeta(self, request: v.ReadNeedleMetaRequest, _context: Any) -> v.ReadNeedleMetaResponse:
        """What a needle carries besides its data."""
        volume = self._volume(
            request.volume_id, "not found volume id {} and read needle metadata at ec shards is not supported"
        )
        needle = parse_needle(volume.record(request.offset, max(0, request.size)), volume.block.version)
        return v.ReadNeedleMetaResponse(
            cookie=needle.cookie,
            last_modified=needle.last_modified,
            crc=_told_crc(needle),
            append_at_ns=needle.append_at_ns,
        )

    def WriteNeedleBlob(self, request: v.WriteNeedleBlobRequest, _context: Any) -> v.WriteNeedleBlobResponse:
        """Append a record; servers before 4.44 do so on a read-only volume too."""
        self._refuse_in_maintenance()
        volume = self._volume(request.volume_id, "not found volume id {}")
        try:
            volume.write_record(request.needle_id, request.needle_blob, request.size)
        except (Refused, Mismatch) as error:
            raise Refused(f"write blob needle {request.needle_id} size {request.size}: {error}") from None
        return v.WriteNeedleBlobResponse()

    def VolumeNeedleStatus(self, request: v.VolumeNeedleStatusRequest, _context: Any) -> v.VolumeNeedleStatusResponse:
        """Read a whole needle, checking it, and tell of it."""
        needle = self._needle(request.volume_id, request.needle_id)
        size = parse_header(pack_needle(needle))[2]
        return v.VolumeNeedleStatusResponse(
            needle_id=needle.id,
            cookie=needle.cookie,
            size=size,
            last_modified=needle.last_modified,
            crc=_told_crc(needle),
        )

    def _needle(self, volume_id: int, needle_id: int) -> Needle:
        volume = self.store.find(volume_id)
        if volume is None:
            if not (held := self.store.holdings(volume_id)):
                raise Refused(f"volume not found {volume_id}")
            return self._read_shards(held[0], needle_id)
        needle = volume.read(needle_id)
        if needle is None:
            raise Refused("already deleted" if needle_id in volume.needles and volume.dat else "not found")
        return needle

    def BatchDelete(self, request: v.BatchDeleteRequest, _context: Any) -> v.BatchDeleteResponse:
        """Delete needles by id; the result of each is an HTTP status."""
        self._refuse_in_maintenance()
        answer = v.BatchDeleteResponse()
        for text in request.file_ids:
            result = answer.results.add(file_id=text)
            try:
                fid = FileId.parse(text)
                needle = self._needle(fid.volume_id, fid.needle_id)
                if not request.skip_cookie_check and needle.cookie != fid.cookie:
                    result.status, result.error = 400, "File Random Cookie does not match."
                    continue
                result.size = self._volume(fid.volume_id).delete(fid.needle_id, needle.cookie)
                result.status = 202 if result.size else 304
            except ValueError as error:
                result.status, result.error = 400, str(error)
            except Refused as error:
                result.status, result.error = 500 if "read only" in str(error) else 404, str(error)
        return answer

    def ScrubVolume(self, request: v.ScrubVolumeRequest, _context: Any) -> v.ScrubVolumeResponse:
        """Read volumes through and name the broken ones."""
        if self.era == "3.97":
            unimplemented(self.era)
        answer = v.ScrubVolumeResponse()
        for volume_id in request.volume_ids or sorted(self.store.volumes):
            volume = self._volume(volume_id, "volume id {} not found")
            complaints = volume.scrub(full=request.mode != v.INDEX)
            answer.total_volumes += 1
            answer.total_files += sum(size >= 0 for _offset, size in volume.needles.values())
            if complaints:
                answer.broken_volume_ids.append(volume_id)
                answer.details.extend(complaints)
                if request.mark_broken_volumes_readonly:
                    volume.mark_read_only(can_delete=False, persist=True)
        return answer

    def ScrubEcVolume(self, request: v.ScrubEcVolumeRequest, _context: Any) -> v.ScrubEcVolumeResponse:
        """Compare the blocks of mounted shards, of the first disk alone, with the `.ecsum`; without one all is well."""
        if self.era != "4.44":
            unimplemented(self.era)
        if request.mode != v.CHECKSUM:
            raise Refused(f"unsupported EC volume scrub mode {request.mode}")
        answer = v.ScrubEcVolumeResponse()
        for volume_id in request.volume_ids:
            holdings = self.store.holdings(volume_id)
            if not holdings:
                raise Refused(f"EC volume id {volume_id} not found")
            held = holdings[0]
            answer.total_volumes += 1
            bad, complaints = held.scrub()
            for shard in bad:
                answer.broken_shard_infos.add(
                    shard_id=shard, size=held.shard_size(shard), collection=held.collection, volume_id=volume_id
                )
            if complaints:
                answer.broken_volume_ids.append(volume_id)
                answer.details.extend(complaints)
        return answer


def _told_crc(needle: Needle) -> int:
    """A needle's checksum as servers tell it: rotated and shifted, unlike the one in the `.dat`."""
    crc = needle.checksum
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
