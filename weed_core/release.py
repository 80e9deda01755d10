"""Which generation of SeaweedFS a server is of."""

from __future__ import annotations

import re
from enum import Enum

from weed_core.errors import Mismatch


class Generation(str, Enum):
    """The releases at which the format of a volume or the reading of shards changed; ordered."""

    V3_97 = "3.97"
    V4_13 = "4.13"
    V4_19 = "4.19"
    V4_44 = "4.44"

    @property
    def strict_rows(self) -> bool:
        """Whether its servers read shards by the strict rule of weed_storage.ec_layout.layout."""
        return self < Generation.V4_19

    @property
    def knows_ecsum(self) -> bool:
        """Whether its servers know `.ecsum` and the generation stamp of an encode."""
        return self >= Generation.V4_44


def server_generation(version: str) -> Generation:
    """Return the generation of a server from the version it tells: "30GB 4.44 1a2b3c", "8000GB 3.97 ".

    A release between two known ones counts as the older, whose fields it is sure to know. Mismatch if there is no
    version in the text.
    """
    found = re.search(r"(?<![\w.])(\d+)\.(\d+)(?![\d.])", version)
    if not found:
        raise Mismatch(f"cannot tell the release of a volume server from its version {version!r}")
    release = f"{int(found[1])}.{int(found[2]):02d}"
    return max((known for known in Generation if _order(known) <= _order(release)), default=Generation.V3_97)


def _order(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))
