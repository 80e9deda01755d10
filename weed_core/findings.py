"""What a look at the bytes found wrong: one record for each thing, as whoever finds it hands it to whoever mends it.

Pure data. A finding is a hint: whoever mends proves
for himself what is wrong before he changes anything.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

EC_SHARD, EC_DELETIONS, EC_INDEX, REPLICA = "ec_shard", "ec_deletions", "ec_index", "replica"
"""Kinds: the bytes of one shard on one server; holders that know different deletions of a volume; an `.ecx`, `.vif` or
`.ecsum` that one holder lacks or has wrong; one replica of a regular volume."""

KINDS = (EC_SHARD, EC_DELETIONS, EC_INDEX, REPLICA)

LARGEST = 16 << 10  # bytes of a record
WORDS = 500
"""Characters of a sentence that are kept."""


@dataclass(frozen=True)
class Finding:
    """One thing found wrong. `run` is an encode_ts_ns, 0 where it is unknown; `shard_id` -1 where it is about no shard.

    `server` is an address as str(Address) writes it, "" where it is about no single one; `found` unix seconds of when
    it was found first; `method` how, in a word or two; `words` what, in one sentence.
    """

    kind: str
    volume_id: int
    collection: str = ""
    run: int = 0
    shard_id: int = -1
    server: str = ""
    found: float = 0.0
    method: str = ""
    words: str = ""

    @property
    def key(self) -> str:
        """What it is about, as the name of a file: found again, it is the same finding."""
        about = f"{self.collection} {self.run} {self.shard_id} {self.server}"
        return f"{self.kind}-{self.volume_id}-{hashlib.sha256(about.encode()).hexdigest()[:16]}"

    def document(self) -> bytes:
        """It as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def read(cls, content: bytes) -> Finding | None:
        """Read a document; None for what is none of ours."""
        try:
            told = json.loads(content) if len(content) <= LARGEST else {}
            finding = cls(
                str(told["kind"]),
                int(told["volume_id"]),
                str(told["collection"]),
                int(told["run"]),
                int(told["shard_id"]),
                str(told["server"]),
                float(told["found"]),
                str(told["method"])[:WORDS],
                str(told["words"])[:WORDS],
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            return None
        return finding if finding.kind in KINDS and 0 < finding.volume_id < 1 << 32 else None
