"""What doctor found: its code, how grave it is, and how it is worded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from weed_core.text import first_of

OK, NOTE, WARNING, PROBLEM = "ok", "note", "warning", "problem"

ASK = 8.0
"""Deadline in seconds of each question."""

AT_ONCE = 16
"""Servers asked at once."""

CODES = {
    # First what explains the rest, then what has lost data or may lose it next, then what keeps work from going on.
    PROBLEM: {
        "TLS_BROKEN": "TLS cannot be used as it is configured",
        "SERVER_GONE": "servers are gone, and volumes with them",
        "SERVER_MISSED": "servers are gone, and volumes have fewer copies",
        "SERVERS_SEEM_GONE": "servers seem to be gone, and volumes with them",
        "MASTER_UNREACHABLE": "masters do not answer",
        "NO_LEADER": "no master leads",
        "MASTERS_DISAGREE": "masters follow different leaders",
        "NO_SERVERS": "the master lists no volume server",
        "EC_UNREADABLE": "have fewer than 10 of 14 shards and cannot be read",
        "EC_ONE_FROM_LOSS": "have 10 of 14 shards: with one more lost, they are",
        "ONE_COPY_LEFT": "have one copy left of those that they should have",
        "ONLY_COPY_BAD": "have bad files, and no other copy",
        "TWO_SERVERS_ONE_ID": "use one id",
        "TWO_COLLECTIONS": "are ids that two collections use",
        "BUILDS_MIXED": "servers of two builds cannot read each other's files",
        "HALF_READ_ONLY": "refuse writes on one server and take them on another",
        "SERVER_UNREACHABLE": "do not answer",
        "SERVER_MAINTENANCE": "are in maintenance mode",
        "SERVER_REFUSES": "take no orders from this host",
        "DISK_FULL": "are below their free-space limit",
        "NO_SLOTS": "no server has a free slot",
        "ADMIN_UNREACHABLE": "the admin does not answer",
        "DIRECTORY_UNUSABLE": "cannot be written",
        "DIRECTORY_FULL": "have no room for journals",
        "RECORDS_DAMAGED": "hold damaged records",
    },
    WARNING: {
        "COLLECTION_GONE": "a collection has no volume",
        "EC_DEGRADED": "have 11 to 13 of 14 shards",
        "EC_TWO_RUNS": "have shards of different encodes",
        "EC_LEFT_OVER": "have shards of an encode that did not end",
        "SCRUB_FAULT": "are bad in part, as a scrub found",
        "TOO_FEW_COPIES": "have too few copies",
        "TOO_MANY_COPIES": "have too many copies",
        "DISK_TYPES_DIFFER": "have copies on different types of disk",
        "READ_ONLY": "are read-only although not full",
        "HOLD_OVER": "are held longer than they should be",
        "CHANGES_LEFT": "killed jobs left changes behind",
        "DISK_NEARLY_FULL": "have less than 10% of a disk free",
        "CLOCK_SKEW": "have another time than this host",
        "VERSIONS_MIXED": "servers run different versions",
        "ADMIN_NO_WORKER": "no worker is connected to the admin",
        "JOB_TYPES_UNDONE": "no connected worker does job types that the admin schedules",
    },
    NOTE: {
        "SERVER_AWAY": "servers are gone, and nothing with them",
        "RACK_EMPTY": "no server is left in a rack",
        "IDS_NOWHERE": "ids that no server has",
        "TLS_NONE": "TLS is not configured, or half",
        "HELD": "are read-only while a job is under way",
        "READ_ONLY_NO_ROOM": "are read-only for want of room",
        "SCRUB_BEHIND": "are not read through lately",
        "EMPTY_VOLUMES": "hold slots and no file",
        "JOBS_UNDER_WAY": "jobs are under way",
        "DIRECTORY_NEW": "are not there yet",
    },
    OK: {"OK": "are well"},
}
"""The codes by level, the gravest first, and what several finds of a code have in common; see docs/health.md."""

_LEVELS = {code: level for level, codes in CODES.items() for code in codes}
_RANKS = {code: rank for rank, code in enumerate(_LEVELS)}


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `volumes` are those that it is about, where they share a fix."""

    code: str
    where: str
    what: str
    fix: str = ""
    volumes: tuple[int, ...] = ()

    @property
    def level(self) -> str:
        """How grave it is: ok and note are healthy, warning and problem have a fix."""
        return _LEVELS[self.code]

    @property
    def rank(self) -> int:
        """Its place: the gravest first."""
        return _RANKS[self.code]

    @property
    def title(self) -> str:
        """What finds of its code have in common."""
        return CODES[self.level][self.code]

    @property
    def is_bad(self) -> bool:
        """Whether something should be done about it."""
        return self.level in (WARNING, PROBLEM)

    def document(self) -> dict[str, Any]:
        """The finding in JSON."""
        return {
            "level": self.level,
            "code": self.code,
            "where": self.where,
            "what": self.what,
            "fix": self.fix,
            "volumes": list(self.volumes),
        }


def several(names: Iterable[str], most: int = 3) -> str:
    """Up to so many names, and how many more there are."""
    return first_of(sorted(names), most)


def some(volume_ids: Sequence[int], most: int = 5) -> str:
    """Up to so many volumes, and how many more there are."""
    return f"volume{'' if len(volume_ids) == 1 else 's'} {first_of(volume_ids, most)}"
