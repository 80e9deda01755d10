"""RPCs of remote storage."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from proto_gen import volume_server_pb2 as v
from weed_sandbox.faults import Refused
from weed_sandbox.store import LocalDat, RemoteDat
from weed_sandbox.volume_base import Base
from weed_sandbox.volume_files import ask_url


class Tier(Base):
    """RPCs of remote storage."""

    def VolumeTierMoveDatToRemote(
        self, request: v.VolumeTierMoveDatToRemoteRequest, _context: Any
    ) -> Iterator[v.VolumeTierMoveDatToRemoteResponse]:
        """Upload a `.dat` and read from there; success at once where it is remote already, wherever that is."""
        self._refuse_in_maintenance()
        volume = self._volume(request.volume_id)
        if volume.collection != request.collection:
            raise Refused(f"existing collection:{volume.collection} unexpected input: {request.collection}")
        dat = volume.dat
        if not isinstance(dat, LocalDat):
            return
        name = request.destination_backend_name
        kind, _, backend_id = name.partition(".")
        backend_id = backend_id or "default"
        url = self._urls.get(f"{kind}.{backend_id}")
        if url is None:
            raise Refused(f"destination {name} not found, supported: [{' '.join(self._urls)}]")
        key, size, modified = str(uuid.uuid4()), volume.size, volume.modified
        ask_url("PUT", f"{url}/{key}", dat.read(0, size))
        with suppress(GeneratorExit):  # whether the client is still there makes no difference now
            yield v.VolumeTierMoveDatToRemoteResponse(processed=size, processedPercentage=100)
        with volume.lock:
            volume.info.files.add(
                backend_type=kind,
                backend_id=backend_id,
                key=key,
                file_size=size,
                modified_time=modified if self.era == "4.44" else int(time.time()),
                extension=".dat",
            )
            volume.save_info()
            dat.close()
            volume.dat = RemoteDat(f"{url}/{key}", size)
            if not request.keep_local_dat_file:
                volume.path(".dat").unlink()

    def VolumeTierMoveDatFromRemote(
        self, request: v.VolumeTierMoveDatFromRemoteRequest, _context: Any
    ) -> Iterator[v.VolumeTierMoveDatFromRemoteResponse]:
        """Download a `.dat`; before 4.44 one that keeps the remote object stays remote."""
        volume = self._volume(request.volume_id)
        if volume.collection != request.collection:
            raise Refused(f"existing collection:{volume.collection} unexpected input: {request.collection}")
        dat = volume.dat
        if not isinstance(dat, RemoteDat):
            raise Refused(f"volume {volume.id} is already on local disk")
        volume.path(".dat").write_bytes(dat.read(0, dat.size()))
        modified = volume.info.files[0].modified_time
        os.utime(volume.path(".dat"), (modified, modified))
        yield v.VolumeTierMoveDatFromRemoteResponse(processed=dat.size(), processedPercentage=100)
        if request.keep_remote_dat_file and self.era != "4.44":
            return
        if not request.keep_remote_dat_file and self.era != "4.44":
            ask_url("DELETE", dat.url)
        with volume.lock:
            del volume.info.files[0]
            volume.save_info()
            volume.dat = LocalDat(str(volume.path(".dat")))
            volume.no_write = True  # until it is mounted anew
        if not request.keep_remote_dat_file and self.era == "4.44":
            ask_url("DELETE", dat.url)
