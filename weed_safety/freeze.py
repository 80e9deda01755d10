"""Making a volume read-only for the time of a job, and writable again if it was so before.

Only what the job itself froze is thawed: a volume that an operator, a full disk or an I/O error had made read-only
stays so. Each freeze is in the journal before it is made. Knows nothing of why a volume must hold still.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from proto_gen.volume_server_pb2 import ReadVolumeFileStatusResponse
from weed_cluster.address import Address
from weed_core.errors import Mismatch, ServerFailed, TimedOut
from weed_core.release import Generation
from weed_safety.context import Context
from weed_safety.journal import Entry, Step
from weed_safety.look import file_status, generation_of, same_files
from weed_safety.steps import kind, plan, read

STILL_WITHIN = 60.0
"""Seconds in which the last writes admitted before a freeze must have ended."""


@kind("freeze")
@dataclass(frozen=True)
class Freeze:
    """The journal step of one frozen volume."""

    server: Address
    volume_id: int
    persist: bool


@dataclass
class Frozen:
    """A volume made read-only on one server. `step` is None where it was read-only before: then nothing is thawed."""

    server: Address
    volume_id: int
    persist: bool
    step: Step | None

    @property
    def was_writable(self) -> bool:
        """Whether this job froze it."""
        return self.step is not None

    @classmethod
    def of(cls, step: Step) -> Frozen | None:
        """Read it back from a journal step; None if the step is of another kind."""
        one = read(step, Freeze)
        return None if one is None else cls(one.change.server, one.change.volume_id, one.change.persist, one)

    @classmethod
    def plan(cls, entry: Entry, server: Address, volume_id: int, persist: bool) -> Frozen:
        """Write down that a volume is frozen, before it is, or when this job answers for one that is already."""
        return cls(server, volume_id, persist, plan(entry, Freeze(server, volume_id, persist)))

    def keep(self, entry: Entry) -> None:
        """Settle it as frozen for good: the volume is gone, or another owner answers for it now."""
        if self.step is not None:
            entry.settle(self.step)
            self.step = None


def freeze(ctx: Context, server: Address, volume_id: int, persist: bool, patient: bool = True) -> Frozen:
    """Make a volume refuse writes and deletes; return what thaw() needs.

    `persist` keeps it so over a restart of the server. A volume that is read-only already is left as it is, unless an
    earlier run of this job froze it: then it is this job's again. `patient` waits while the server looks for another
    master; else that is a ServerFailed. Mismatch if the server does not confirm; on any
    failure the volume is thawed before the error is raised.
    """
    frozen = open_freeze(ctx.journal, server, volume_id)
    if frozen is not None:
        frozen.persist = frozen.persist or persist
    elif ctx.volume(server).volume_status(volume_id=volume_id).is_read_only:
        return Frozen(server, volume_id, False, None)
    else:
        frozen = Frozen.plan(ctx.journal, server, volume_id, persist)
    try:
        seal(ctx, frozen, patient)
    except BaseException:
        thaw(ctx, frozen)
        raise
    return frozen


def freeze_for_long(ctx: Context, server: Address, volume_id: int) -> Frozen:
    """Freeze over restarts of the server where its release bears that: older ones open such a volume wrongly."""
    return freeze(ctx, server, volume_id, persist=generation_of(ctx, server) >= Generation.V4_44)


def seal(ctx: Context, frozen: Frozen, patient: bool = True) -> None:
    """Mark the volume read-only (again) and have the server confirm it; to be repeated right before a deletion.

    A restart of the server forgets a freeze that is not persistent, and a disk that is full no longer may have been
    the only reason for refusing writes: so compare the volume's status after this with the one before.
    """
    volume = ctx.volume(frozen.server)
    volume.volume_mark_readonly(volume_id=frozen.volume_id, persist=frozen.persist, patient=patient)
    if not volume.volume_status(volume_id=frozen.volume_id).is_read_only:
        raise Mismatch(f"volume {frozen.volume_id} on {frozen.server} does not become read-only")


def thaw(ctx: Context, frozen: Frozen) -> None:
    """Make the volume writable again if this job froze it; never interrupted.

    ServerFailed leaves the step open for recovery. A volume that is gone, or that somebody else has made read-only
    for good meanwhile, is left alone.
    """
    if frozen.step is None:
        return
    with ctx.cluster.leash.shielded():
        try:
            _thaw(ctx, frozen)
        except ServerFailed as error:
            if not _is_gone(error):
                raise
            ctx.log(f"volume {frozen.volume_id} is no longer on {frozen.server}; nothing to make writable there")
        frozen.keep(ctx.journal)


def recover_freezes(entry: Entry, ctx: Context) -> None:
    """Thaw whatever a killed run froze, all volumes; then raise the first ServerFailed, if any."""
    failed: list[ServerFailed] = []
    for step in entry.open:
        frozen = Frozen.of(step)
        if frozen is None:
            continue
        try:
            thaw(replace(ctx, journal=entry), frozen)
        except ServerFailed as error:
            failed.append(error)
    if failed:
        raise failed[0]


def open_freeze(entry: Entry, server: Address, volume_id: int) -> Frozen | None:
    """Return the freeze of a volume on a server that the journal still holds open, if there is one."""
    for step in entry.open:
        frozen = Frozen.of(step)
        if frozen is not None and (frozen.server, frozen.volume_id) == (server, volume_id):
            return frozen
    return None


def wait_still(
    ctx: Context, server: Address, volume_id: int, still_for: float, within: float = STILL_WITHIN
) -> ReadVolumeFileStatusResponse:
    """Wait until a frozen volume's files have not changed for `still_for` seconds (or as ctx.options has it for all).

    Returns their status.

    TimedOut if they change for longer than `within` seconds; Mismatch if the volume is not healthy.
    """
    wanted = ctx.options.still_seconds
    still_for = still_for if wanted is None else wanted
    before = file_status(ctx, server, volume_id)
    began = since = time.monotonic()
    while True:
        left = still_for - (time.monotonic() - since)
        ctx.wait(max(0.0, min(left, 0.5)))
        now = file_status(ctx, server, volume_id)
        if not same_files(before, now):
            before, since = now, time.monotonic()
            if since - began > within:
                raise TimedOut(
                    f"volume {volume_id} on {server} is read-only and yet still changes after {within:.0f} s"
                )
        elif left <= 0:
            return now


def _thaw(ctx: Context, frozen: Frozen) -> None:
    volume = ctx.volume(frozen.server)
    volume_id = frozen.volume_id
    if not volume.volume_status(volume_id=volume_id).is_read_only:
        return
    info = volume.read_volume_file_status(volume_id=volume_id).volume_info
    if info.read_only and not frozen.persist:
        ctx.log(f"volume {volume_id} on {frozen.server} was made read-only for good by somebody else; it stays so")
        return
    volume.volume_mark_writable(volume_id=volume_id)
    if frozen.persist and generation_of(ctx, frozen.server) < Generation.V4_44:
        # A server of that age that restarted meanwhile has opened the index for reading only, and would damage it
        # with the first write; mounting opens it anew.
        volume.volume_unmount(volume_id=volume_id)
        volume.volume_mount(volume_id=volume_id)
    if volume.volume_status(volume_id=volume_id).is_read_only:
        ctx.log(
            f"volume {volume_id} on {frozen.server} is still read-only, but no longer by this job; is its disk full?"
        )


def _is_gone(error: ServerFailed) -> bool:
    """Whether the server says it has no such volume, rather than one whose data is broken."""
    return error.says_absent and "backend" not in error.detail
