"""Making the holders of a frozen volume forget where its replicas were: then it need not stay shut (location_cache).

A holder whose list of replicas has fewer places than the volume's placement asks for refuses the write and, from 4.38
on, drops the list. A holder's placement can be changed, but the server mounts the volume anew for that, and for those
milliseconds is one that lacks it: it sends a write on along its list, and acknowledges one that it has nowhere to send
to. Besides, a master tells only of the replicas of one placement. Therefore the steps, one holder after another:

1. Each gets a placement of more copies than any list has places (FAR), and refuses a write for that: all is forgotten.
2. Each gets one of as many copies as there are, and writes are asked for until one is refused only because the volume
   is frozen: the holder then knows all places, and keeps to that for ten minutes.
3. Each gets its own placement back; meanwhile it knows others, which are frozen and refuse what it sends on.

While it has no list, in 1 and 2, a lookup finds another holder of the same placement, frozen as well. Only the last one
is alone in that: so it is the newest copy, through which no client has written yet.

Servers that lack the volume cannot be made to forget. Needs the volume frozen for good on all holders: before 4.44 a
server opens such a volume wrongly when it is mounted.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from weed_cluster.address import Address
from weed_cluster.channels import Channels
from weed_cluster.http import Page
from weed_cluster.replica_placement import ReplicaPlacement
from weed_cluster.topology import snapshot
from weed_core.errors import HttpFailed, Mismatch, ServerFailed, TaskError, TimedOut
from weed_core.release import Generation, server_generation
from weed_safety import records
from weed_safety.context import Context
from weed_safety.freeze import Frozen, seal
from weed_safety.steps import Planned, kind, of_kind, plan

WITHIN = 240.0
"""Seconds in which all of it must be done: what holders remember by then lasts for ten minutes."""

SHOWN_WITHIN = 30.0
"""Seconds in which the master must show a placement; where it missed one message, the next full heartbeat tells."""

FAR = ReplicaPlacement(0, 9, 9)
"""A placement of more copies than any volume has."""

TOO_FEW, READ_ONLY = "replication copy count", "is read only"
"""What a holder says whose list has too few places, and one whose list has enough while the volume is frozen."""


REMEMBERED = 610.0
"""Seconds for which a server keeps to a list it made."""

MOVED = f"{records.ROOT}/moved"
"""Where filers tell all workers of such servers, a file for each volume: {"until": unix seconds}."""


@kind("configure")
@dataclass(frozen=True)
class SetBack:
    """Journal step of a placement to be set back; `replication` is the right one."""

    server: Address
    volume_id: int
    replication: str


_lately: WeakKeyDictionary[Channels, dict[int, float]] = WeakKeyDictionary()
"""Until when, by volume, a server that has lost its replica since keeps to the list that it was made to have."""


def why_not(ctx: Context, volume_id: int, servers: Iterable[Address]) -> str:
    """Say why the holders of a volume cannot be made to forget, "" where they can. Changes nothing."""
    if reason := _moved_lately(ctx, volume_id, _recorded(ctx)):
        return reason
    reasons = ctx.each(lambda server: _why_not(ctx, volume_id, server), list(servers))
    return next(filter(None, reasons), "")


def _moved_lately(ctx: Context, volume_id: int, recorded: Mapping[str, bytes] | TaskError) -> str:
    known = time.monotonic() < _lately.get(ctx.cluster.channels, {}).get(volume_id, 0.0)
    if not known and isinstance(recorded, TaskError):
        return f"whether it has moved less than ten minutes ago cannot be told: {recorded}"
    if known or (not isinstance(recorded, TaskError) and time.time() < _until(recorded.get(_file_of(volume_id)))):
        return "it has moved less than ten minutes ago, and where it was then cannot be made to forget"
    return ""


def _recorded(ctx: Context) -> Mapping[str, bytes] | TaskError:
    """What workers have recorded of volumes that moved lately, or why that cannot be told."""
    try:
        return records.read_all(ctx, MOVED)
    except TaskError as error:
        return error


def _remember_move(ctx: Context, volume_id: int) -> None:
    """Have this process and, by the filer's records, all others know that a volume moves; what is over is removed."""
    _lately.setdefault(ctx.cluster.channels, {})[volume_id] = time.monotonic() + REMEMBERED
    try:
        for name, content in records.read_all(ctx, MOVED).items():
            if time.time() > _until(content):
                records.remove(ctx, MOVED, name)
        content = json.dumps({"volume_id": volume_id, "until": time.time() + REMEMBERED}).encode()
        records.put(ctx, MOVED, _file_of(volume_id), content)
    except TaskError as error:
        ctx.log(f"no filer keeps the record that volume {volume_id} has moved: {error}")


def _file_of(volume_id: int) -> str:
    return f"{volume_id}.json"


def _until(content: bytes | None) -> float:
    """Until when a record says so; 0 for none, or what is none."""
    try:
        return float(json.loads(content or b"{}")["until"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return 0.0


def asker(ctx: Context) -> Callable[[int, Iterable[Address]], str]:
    """Return why_not() for many volumes: it asks each server once."""
    told: dict[Address, str] = {}
    recorded = _recorded(ctx)

    def why(volume_id: int, servers: Iterable[Address]) -> str:
        wanted = list(servers)
        new = [server for server in wanted if server not in told]
        told.update(zip(new, ctx.each(lambda server: _why_not(ctx, volume_id, server), new)))
        return next(filter(None, [_moved_lately(ctx, volume_id, recorded), *(told[server] for server in wanted)]), "")

    return why


def _why_not(ctx: Context, volume_id: int, server: Address) -> str:
    try:
        version = ctx.volume(server).volume_server_status().version
        if server_generation(version) < Generation.V4_44:
            return (
                f"{server} runs {(version.split() or ['an unknown release'])[-1]}; releases before 4.44 cannot forget"
            )
        answer = _put(ctx, server, f"{volume_id},x")  # no file id: it gets no further than to be read
    except TaskError as error:
        return str(error)
    if answer.status == 401:
        return (
            f"{server} does not take our writes by HTTP ({_words(answer)}): [jwt.signing] key in security.toml here "
            "must be its own, and this host be on its white list"
        )
    return "" if answer.status == 400 else f"{server} answers HTTP {answer.status}: {_words(answer)}"


def renew(ctx: Context, volume_id: int, holders: Sequence[Frozen], own: ReplicaPlacement) -> str:
    """Have all holders of a volume know where all of them are; return why that cannot be relied on, or "".

    `own` is the volume's placement. All must be frozen by this job and known to the master, the newest copy comes
    last. Raises ServerFailed where a placement could not be set back; its step stays open, restore() is its recovery.
    """
    if not all(frozen.persist for frozen in holders):
        return "a replica of it was not frozen by this job"
    began = time.monotonic()
    reason = ""
    with ctx.cluster.leash.shielded():
        try:
            _forget(ctx, volume_id, holders, own)
            _learn(ctx, volume_id, holders, own)
        except TaskError as error:
            reason = str(error)
        restore(ctx, volume_id)
        if not reason:
            try:
                _await_shown(ctx, volume_id, holders, own)
            except TaskError as error:
                reason = str(error)
    if not reason and time.monotonic() - began > WITHIN:
        reason = f"that took {time.monotonic() - began:.0f} s"
    if reason:
        ctx.log(f"the holders of volume {volume_id} could not be made to forget where its replicas were: {reason}")
    else:
        _remember_move(ctx, volume_id)
        names = ", ".join(str(frozen.server) for frozen in holders)
        ctx.log(f"{names} know where the replicas of volume {volume_id} are ({time.monotonic() - began:.1f} s)")
    return reason


def restore(ctx: Context, volume_id: int) -> None:
    """Give a volume its placement back wherever a step of the journal says so; the first ServerFailed is raised."""
    failed: list[ServerFailed] = []
    for step in _steps(ctx, volume_id):
        try:
            _set_back(ctx, step)
        except ServerFailed as error:
            failed.append(error)
    if failed:
        raise failed[0]


def recover(ctx: Context, volume_id: int) -> None:
    """Restore what a killed run left, and wait for a while until the master, by which jobs are planned, shows it."""
    wanted = {step.change.server: step.change.replication for step in _steps(ctx, volume_id)}
    restore(ctx, volume_id)

    def is_shown() -> bool:
        replicas = snapshot(ctx.master(), volume_id).replicas(volume_id)
        return all(str(one.placement) == wanted.get(one.server, str(one.placement)) for one in replicas)

    try:
        if wanted and not ctx.until(is_shown, SHOWN_WITHIN, 0.05):
            ctx.log(f"the master does not show yet that volume {volume_id} has its own placement again")
    except TaskError as error:
        ctx.log(f"whether the master shows the placement of volume {volume_id} cannot be told: {error}")


def _steps(ctx: Context, volume_id: int) -> list[Planned[SetBack]]:
    return of_kind(ctx.journal, SetBack, volume_id)


def _set_back(ctx: Context, step: Planned[SetBack]) -> None:
    server, volume_id = step.change.server, step.change.volume_id
    try:
        ctx.volume(server).volume_configure(volume_id=volume_id, replication=step.change.replication)
    except ServerFailed as error:
        if not error.says_absent:
            raise
        ctx.log(f"volume {volume_id} is no longer on {server}; its placement there needs no mending")
    ctx.journal.settle(step)


def _forget(ctx: Context, volume_id: int, holders: Sequence[Frozen], own: ReplicaPlacement) -> None:
    """Step 1: have each refuse a write for want of replicas."""
    # The last one is then alone in having its own placement: it must have a list, which this write gives it.
    _write(ctx, holders[-1].server, volume_id)
    for frozen in holders:
        plan(ctx.journal, SetBack(frozen.server, volume_id, str(own)))
        _give(ctx, frozen, FAR)
    _await_shown(ctx, volume_id, holders, FAR)
    for frozen in holders:
        answer = _write(ctx, frozen.server, volume_id)
        if TOO_FEW not in answer:
            raise Mismatch(f"{frozen.server} did not refuse a write for want of replicas, but said: {answer}")


def _learn(ctx: Context, volume_id: int, holders: Sequence[Frozen], own: ReplicaPlacement) -> None:
    """Step 2: have each look up all places."""
    places = len(holders)
    # With fewer copies than its own placement asks for, each write is refused, and nothing remembered.
    exact = own if places <= own.copies else ReplicaPlacement(0, 0, places - 1)
    for frozen in holders[:-1]:
        _give(ctx, frozen, exact)
    _await_shown(ctx, volume_id, holders[:-1], exact)
    _give(ctx, holders[-1], exact)
    if places < own.copies:
        return
    for frozen in holders:
        _await_knowing(ctx, volume_id, frozen.server)


def _await_knowing(ctx: Context, volume_id: int, server: Address) -> None:
    answer = ""

    def knows_enough() -> bool:
        nonlocal answer
        answer = _write(ctx, server, volume_id)
        if TOO_FEW not in answer and READ_ONLY not in answer:
            raise Mismatch(f"{server} did not refuse a write to a frozen volume as such, but said: {answer}")
        return READ_ONLY in answer

    if not ctx.until(knows_enough, SHOWN_WITHIN, 0.05):
        raise TimedOut(f"{server} does not find the replicas of volume {volume_id}: {answer}")


def _give(ctx: Context, frozen: Frozen, placement: ReplicaPlacement) -> None:
    """Change a holder's placement; the master hears again that the volume is read-only."""
    client, volume_id = ctx.volume(frozen.server), frozen.volume_id
    client.volume_configure(volume_id=volume_id, replication=str(placement))
    seal(ctx, frozen)
    told = client.read_volume_file_status(volume_id=volume_id).volume_info.replication
    if told != str(placement):
        raise Mismatch(f"volume {volume_id} on {frozen.server} has placement {told or 'none'}, not {placement}")


def _await_shown(ctx: Context, volume_id: int, holders: Sequence[Frozen], placement: ReplicaPlacement) -> None:
    """Wait until the master shows the volume with a placement on all of these."""
    shown: dict[Address, str] = {}

    def is_shown() -> bool:
        nonlocal shown
        replicas = snapshot(ctx.master(), volume_id).replicas(volume_id)
        shown = {replica.server: str(replica.placement) for replica in replicas}
        return all(shown.get(frozen.server) == str(placement) for frozen in holders)

    if not ctx.until(is_shown, SHOWN_WITHIN, 0.05):
        told = ", ".join(f"{server} {text}" for server, text in shown.items())
        raise TimedOut(f"the master does not show volume {volume_id} with placement {placement}, but: {told}")


def _write(ctx: Context, server: Address, volume_id: int) -> str:
    """Ask for a write that is to be refused; return the words. Mismatch where it is not.

    Needle 0 is nobody's: file ids begin with 1. Were it stored, no file would have been harmed.
    """
    answer = _put(ctx, server, f"{volume_id},00{secrets.token_hex(4)}")
    if answer.status < 400:
        raise Mismatch(f"{server} took a write to volume {volume_id}, which is frozen there (HTTP {answer.status})")
    return _words(answer)


def _put(ctx: Context, server: Address, fid: str) -> Page:
    try:
        return ctx.cluster.channels.uploads.put(server, fid, b"-")
    except HttpFailed as error:
        raise TaskError(f"{server} cannot be reached by HTTP: {error}") from None


def _words(answer: Page) -> str:
    text = answer.body.decode(errors="replace")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, LookupError, TypeError):
        return text.strip()[:200] or f"HTTP {answer.status}"
