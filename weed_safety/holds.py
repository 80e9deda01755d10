"""Records of volumes that stay read-only for a while after a change, kept where every worker of the cluster sees them.

A lease tells who works on a volume as long as its holder lives. Beyond that a small file tells, which a filer keeps:
one per volume, with who, why and until when. So a hold whose maker is gone with its disk is still known, and ended by
whoever finds that its time is over. Where the cluster has no filer the maker's journal alone knows.

A record is written after the step of the journal that says so, and removed after the volume was opened. Its token
tells the maker that comes back later whether the volume is still its own to open.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from weed_cluster.address import Address
from weed_core.errors import BadTask, TaskError
from weed_core.text import escaped
from weed_safety import records
from weed_safety.context import Context
from weed_safety.journal import Entry
from weed_safety.steps import Planned, kind, of_kind, plan

DIRECTORY = f"{records.ROOT}/holds"
"""Where filers show the records, one file per volume."""

SLACK = 10.0
"""Seconds after its end at which others end a hold: its maker comes first, and clocks differ a little."""

LARGEST = 64 << 10  # bytes of a record
FILERLESS = 3600.0
"""Seconds after the end of a hold that its maker waits for a filer, if the cluster has none any more."""


@kind("hold")
@dataclass(frozen=True)
class Recorded:
    """The journal step of a record, `written` once a filer has it; `until` in unix seconds."""

    volume_id: int
    token: str
    until: float
    written: bool


@dataclass(frozen=True)
class Hold:
    """One volume that stays read-only. Times are unix seconds; `replicas` maps each server to "was it writable"."""

    volume_id: int
    token: str
    who: str
    why: str
    since: float
    until: float
    replicas: Mapping[str, bool]

    @property
    def is_over(self) -> bool:
        """Whether whoever sees it may end it."""
        return time.time() > self.until

    @property
    def servers(self) -> set[Address]:
        """The servers that hold the volume."""
        return {Address.parse(name) for name in self.replicas}

    def text(self) -> str:
        """Who, why, since when and until when."""
        return f"read-only since {_clock(self.since)} until {_clock(self.until)} UTC for {self.why} by {self.who}"

    @classmethod
    def read(cls, name: str, content: bytes) -> Hold | None:
        """Read a record; None for what is none."""
        try:
            told = json.loads(content) if len(content) <= LARGEST else {}
            hold = cls(
                int(told["volume_id"]),
                str(told["token"]),
                escaped(str(told["who"]))[:200],
                escaped(str(told["why"]))[:200],
                float(told["since"]),
                float(told["until"]),
                {str(Address.parse(server)): was is True for server, was in told["replicas"].items()},
            )
            hold.text()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, OSError, BadTask):
            return None
        return hold if name == _name(hold.volume_id) and hold.volume_id > 0 and hold.replicas else None


def read_all(ctx: Context) -> list[Hold]:
    """The records of all volumes, by volume; none where the cluster has no filer. ServerFailed where none answers."""
    found = [Hold.read(name, content) for name, content in records.read_all(ctx, DIRECTORY).items()]
    return sorted(filter(None, found), key=lambda hold: hold.volume_id)


def read(ctx: Context, volume_id: int) -> Hold | None:
    """The record of one volume; ServerFailed where no filer answers."""
    return next((hold for hold in read_all(ctx) if hold.volume_id == volume_id), None)


def record(ctx: Context, volume_id: int, until: float, replicas: Mapping[Address, bool]) -> bool:
    """Write down for all that a volume stays read-only; False, and logged, where no filer keeps that.

    A record that this job made earlier is replaced.
    """
    earlier = _steps(ctx.journal, volume_id)
    token = secrets.token_hex(8)
    step = plan(ctx.journal, Recorded(volume_id, token, until, written=False))
    entry = ctx.journal
    who = f"weed_worker {socket.gethostname()} {os.getpid()}"
    hold = Hold(
        volume_id,
        token,
        who,
        f"{entry.job_type or 'a job'} {entry.job_id}".strip(),
        time.time(),
        until + SLACK,
        {str(server): was for server, was in replicas.items()},
    )
    content = json.dumps(asdict(hold)).encode()
    try:
        is_written = records.put(ctx, DIRECTORY, _name(volume_id), content)
    except TaskError as error:
        ctx.log(f"no filer keeps the record that volume {volume_id} stays read-only: {error}")
        return False  # it may have been written: the step stays
    if is_written:
        plan(entry, Recorded(volume_id, token, until, written=True))
    for old in (*earlier, step):
        entry.settle(old)
    return is_written


def release(ctx: Context, volume_id: int) -> None:
    """Remove the record that this job made of a volume which it has opened. Where no filer answers, a record stays.

    That does no harm: whoever finds it over finds the volume open, and removes it.
    """
    steps = _steps(ctx.journal, volume_id)
    if not steps:
        return
    try:
        with ctx.cluster.leash.shielded():  # the change is made: a cancel must not look like an undo
            hold = read(ctx, volume_id)
            if hold is not None and hold.token in _tokens(steps):
                remove(ctx, hold)
    except TaskError as error:
        ctx.log(f"the record that volume {volume_id} is read-only could not be removed: {error}")
    for step in steps:
        ctx.journal.settle(step)


def is_ours(ctx: Context, volume_id: int) -> bool:
    """Whether what this job froze is still its own to open: not where others have ended its hold, or hold the volume.

    TaskError where no filer tells.
    """
    steps = _steps(ctx.journal, volume_id)
    if not steps:
        return True
    hold = read(ctx, volume_id)
    if hold is not None:
        return hold.token in _tokens(steps)
    written = [step.change.until for step in steps if step.change.written]
    if written and not records.filers(ctx):
        if time.time() < max(written) + FILERLESS:
            raise TaskError(
                f"volume {volume_id} stays read-only: no filer tells whether others have opened it meanwhile"
            )
        return True
    return not written


def remove(ctx: Context, hold: Hold) -> None:
    """Remove a record; ServerFailed."""
    records.remove(ctx, DIRECTORY, _name(hold.volume_id))


def is_recorded(entry: Entry, volume_ids: Iterable[int]) -> bool:
    """Whether a filer has records of all these volumes, by what the journal says."""
    return all(any(step.change.written for step in _steps(entry, volume_id)) for volume_id in volume_ids)


def _name(volume_id: int) -> str:
    return f"{volume_id}.json"


def _steps(entry: Entry, volume_id: int) -> list[Planned[Recorded]]:
    return of_kind(entry, Recorded, volume_id)


def _tokens(steps: Iterable[Planned[Recorded]]) -> set[str]:
    return {step.change.token for step in steps}


def _clock(when: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(when))
