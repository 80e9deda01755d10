"""Keeping a volume read-only until its servers have forgotten where its replicas were.

A volume server remembers for ten minutes where it sends the writes that it takes. Through one that remembers a replica
which has moved away, a write is acknowledged and never reaches the new place: the old one answers for a volume that it
no longer holds as if it had stored the bytes. Knows nothing of why a replica came or went.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

from weed_cluster.address import Address
from weed_core.errors import Cancelled, StillShut, TaskError
from weed_safety import holds
from weed_safety.context import Context
from weed_safety.journal import Entry
from weed_safety.steps import Planned, kind, of_kind, plan

CACHED_FOR = 610.0
"""Seconds for which volume servers remember where a volume's replicas were (SeaweedFS 4.44, weed/operation/lookup.go),
and ten for luck."""


@kind("shut")
@dataclass(frozen=True)
class StayShut:
    """The journal step of a volume that must stay read-only until then, in unix seconds.

    `renewed`: its holders were made to forget where its replicas were, and so may not know of one that stays after all;
    the oldest journals do not tell.
    """

    volume_id: int
    until: float
    renewed: bool = False


@dataclass
class Shut:
    """A volume that stays read-only until `ends`, by the monotonic clock."""

    step: Planned[StayShut]
    ends: float


def remembered(ctx: Context) -> float:
    """Seconds for which volume servers remember where replicas were."""
    wanted = ctx.options.remembered_seconds
    return CACHED_FOR if wanted is None else wanted


def keep_shut(
    ctx: Context,
    volume_id: int,
    seconds: float,
    replicas: Mapping[Address, bool],
    margin: float = 0.0,
    renewed: bool = False,
) -> Shut:
    """Write down that a volume is not to be thawed for so many seconds, for all to see where a filer keeps that.

    A kill prolongs that by `margin` at most. `replicas`: on which servers it is, and whether it was writable there.
    """
    until = time.time() + seconds + margin
    step = plan(ctx.journal, StayShut(volume_id, until, renewed))
    holds.record(ctx, volume_id, until, replicas)
    return Shut(step, time.monotonic() + seconds)


def outlast(ctx: Context, volume: Shut, tell: Callable[[float], None]) -> None:
    """Wait until it may be thawed, telling the seconds left; the job's slot is given to others meanwhile.

    Interrupted, the step stays open for recovery, and StillShut says so.
    """
    try:
        with ctx.outside_slot() if volume.ends > time.monotonic() else nullcontext():
            while (left := volume.ends - time.monotonic()) > 0:
                tell(left)
                ctx.wait(min(left, 5.0))
    except Cancelled as error:
        raise StillShut(f"{error.reason}; {left_shut(ctx.journal)}") from None
    ctx.journal.settle(volume.step)


def left_shut(entry: Entry) -> str:
    """Say which volumes a job that ended leaves read-only, until when, and who opens them then; "" for none."""
    steps = of_kind(entry, StayShut)
    if not steps:
        return ""
    ids = sorted({step.change.volume_id for step in steps})
    many, slack, opener = len(ids) > 1, 0.0, "the next run or worker with the same -workingDir"
    if holds.is_recorded(entry, ids):
        slack, opener = holds.SLACK, "any run of weed_worker against this cluster"
    return (
        f"volume{'s' if many else ''} {', '.join(map(str, ids))} {'stay' if many else 'stays'} read-only until "
        f"{_ends(steps, slack)} UTC; {opener} then opens {'them' if many else 'it'}"
    )


def until(volume: Shut) -> str:
    """Say to others what keeps a volume that is being waited for, and until when."""
    ends = time.strftime("%H:%M:%S", time.gmtime(time.time() + volume.ends - time.monotonic()))
    return f"volume {volume.step.change.volume_id} has its new copy; read-only until {ends} UTC, then opened"


def shut_steps(entry: Entry, volume_id: int) -> list[Planned[StayShut]]:
    """The open steps that keep a volume read-only."""
    return of_kind(entry, StayShut, volume_id)


def forget(entry: Entry, volume_id: int) -> None:
    """Settle them before their time: the replicas are where servers remember them, if they still remember that."""
    for step in shut_steps(entry, volume_id):
        if not step.change.renewed:
            entry.settle(step)


def check_over(entry: Entry, volume_id: int) -> None:
    """Settle what is over for a volume; raise TaskError, saying until when, where it must stay read-only."""
    for step in shut_steps(entry, volume_id):
        if time.time() > step.change.until:
            entry.settle(step)
    if still := shut_steps(entry, volume_id):
        raise TaskError(words(volume_id, still))


def words(volume_id: int, steps: Iterable[Planned[StayShut]]) -> str:
    """Say until when a volume stays read-only."""
    return (
        f"volume {volume_id} stays read-only until {_ends(steps)} UTC: before that, volume servers may still write "
        "past one of its replicas"
    )


def _ends(steps: Iterable[Planned[StayShut]], slack: float = 0.0) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(max(step.change.until for step in steps) + slack + 1))
