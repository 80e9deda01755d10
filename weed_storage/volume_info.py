"""The `.vif` file: what a volume server knows of a volume besides its bytes, as JSON; and which server knows what.

Format as in SeaweedFS 4.44, weed/storage/volume_info. A server that meets a field it does not know keeps only what it
read before it, so each generation gets its own fields alone, and the version first.
"""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format

from proto_gen.volume_server_pb2 import VolumeInfo
from weed_core.errors import Mismatch
from weed_core.release import Generation


def dump_vif(info: VolumeInfo, generation: Generation) -> bytes:
    """Return the `.vif` for a server of this generation: every field it knows, also empty ones, and no other."""
    fields: dict[str, Any] = {
        "version": info.version,
        "files": [
            {
                "backendType": file.backend_type,
                "backendId": file.backend_id,
                "key": file.key,
                "offset": str(file.offset),
                "fileSize": str(file.file_size),
                "modifiedTime": str(file.modified_time),
                "extension": file.extension,
            }
            for file in info.files
        ],
        "replication": info.replication,
        "bytesOffset": info.bytes_offset,
        "datFileSize": str(info.dat_file_size),
        "expireAtSec": str(info.expire_at_sec),
        "readOnly": info.read_only,
    }
    if generation >= Generation.V4_13:
        fields["ecShardConfig"] = _ec_shard_config(info, generation)
    if generation >= Generation.V4_44:
        fields["readOnlyCanDelete"] = info.read_only_can_delete
    return json.dumps(fields, indent=2).encode()


def _ec_shard_config(info: VolumeInfo, generation: Generation) -> dict[str, Any] | None:
    if not info.HasField("ec_shard_config"):
        return None
    config = info.ec_shard_config
    fields: dict[str, Any] = {"dataShards": config.data_shards, "parityShards": config.parity_shards}
    if generation >= Generation.V4_44:
        fields["encodeTsNs"] = str(config.encode_ts_ns)
    return fields


def parse_vif(blob: bytes) -> VolumeInfo | None:
    """Read a `.vif`, with names in camelCase or snake_case, 64-bit numbers as text or not; None if it is empty.

    Fields of later releases are passed over. Mismatch if it is no such JSON.
    """
    if not blob:
        return None
    try:
        fields = json.loads(blob)
        if not isinstance(fields, dict):
            raise json_format.ParseError("no JSON object")
        return json_format.ParseDict(fields, VolumeInfo(), ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError) as error:
        raise Mismatch(f".vif is damaged: {error}") from error
