"""What reading one volume told, as the parts of a scrub hand it to the job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from weed_cluster.address import Address
from weed_core.findings import Finding
from weed_core.scrub_ledger import Mark, Unfinished

MOST_NAMED = 5
"""Files, or shards, that a sentence names."""


@dataclass(frozen=True)
class Pace:
    """How one slice reads: `rate` bytes per second (0: as the servers can), `spend` asked before bytes are read.

    `until` is the time.monotonic() at which the slice ends; `fresh` the unix seconds since when something verified
    need not be read again; `quiet` the seconds without a write after which a server may read a volume in one go.
    """

    rate: int
    spend: Callable[[Address, int], None]
    until: float
    fresh: float
    quiet: float


@dataclass
class Told:
    """What is known now. `sound` are findings (by kind, shard and server) of this volume that are proved to be over."""

    marks: list[Mark] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    sound: set[tuple[str, int, str]] = field(default_factory=set)
    unfinished: Unfinished | None = None
    things: int = 0
    bytes: int = 0
