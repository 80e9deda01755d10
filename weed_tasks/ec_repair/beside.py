"""Mending what lies beside the shards of one holder: `.vif`, `.ecx` and `.ecsum` that it has lost.

Each is pulled from another holder. `.vif` and `.ecsum` count from the next mount on, so the holder's shards are
unmounted for a moment, never with more than four away. Without a `.vif` a server counts at the master and gives its
shards to nobody; before it gets one, each of its shards is compared with what the others make it. A volume encoded
before there were `.ecsum` files gets one, of shards that were all read and fit together.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from weed_cluster.address import Address
from weed_core.errors import Mismatch, TaskError
from weed_core.findings import EC_INDEX, Finding
from weed_ec.deliver import Unmounted, mount_again
from weed_ec.reader import ShardReader
from weed_ec.runs import Run
from weed_ec.shards import ShardSet, fetch, file_time, send
from weed_ec.witness import holds_run, why_wrong
from weed_safety.context import Context
from weed_safety.lease import Lease
from weed_safety.steps import plan
from weed_storage.checksums import BlockChecksums, Ecsum, dump_ecsum
from weed_storage.ec_layout import MOST_TOGETHER, TOTAL_SHARDS
from weed_tasks.ec_repair.scene import Scene

VIF, ECX, ECSUM = ".vif", ".ecx", ".ecsum"

NO_INDEX = (
    "no holder has its .ecx any more; stop one server that holds all data shards, or copies of them, and run "
    "'weed fix -ecx -dir <directory> -volumeId {}' there, then start it again"
)


@dataclass(frozen=True)
class Lack:
    """What one holder lacks beside its shards; `remounts` where only a new mount helps, though the file is there."""

    held: ShardSet
    files: tuple[str, ...]
    remounts: bool = False

    @property
    def words(self) -> str:
        """It in a few words."""
        return f"{self.held.server} lacks {', '.join(self.files) or 'a mount that knows its .vif'}"


def lacks(ctx: Context, scene: Scene) -> list[Lack]:
    """What holders of the run, and servers that know no run, lack beside their shards; for servers from 4.44 on."""
    run = scene.run

    def of(held: ShardSet) -> Lack | None:
        if not held.mounted or not held.generation.knows_ecsum:
            return None
        volume = ctx.volume(held.server)
        missing = [VIF] if held.vif is None else []
        wanted = [ECX, *([ECSUM] if run.sums is not None else [])]
        missing += [ext for ext in wanted if file_time(volume, run.volume_id, run.collection, ext) is None]
        stale = not missing and run.run and not holds_run(ctx, run, held.server, min(held.mounted))
        return Lack(held, tuple(missing), bool(stale)) if missing or stale else None

    return [lack for lack in ctx.each(of, [*run.holders, *scene.unknown]) if lack is not None]


def mend(ctx: Context, scene: Scene, lack: Lack, lease: Lease) -> str:
    """Give a holder what it lacks and see that it serves its shards as the run's; say what was done.

    Mismatch where its shards are not of the run; TaskError where that cannot be done now.
    """
    run, server = scene.run, lack.held.server
    if VIF in lack.files or lack.remounts:
        for shard in sorted(lack.held.mounted):
            if why := why_wrong(ctx, run, (server, shard), fence=0):
                raise Mismatch(
                    f"{server} has lost the .vif of {run.name}, and its shard {shard} is not of the run {run.run}: "
                    f"{why}; it was left alone"
                )
    if lack.files:
        source = _source(ctx, scene, lack)
        lease.check()
        ctx.volume(server).volume_ec_shards_copy(
            volume_id=run.volume_id,
            collection=run.collection,
            copy_ecx_file=ECX in lack.files,
            copy_vif_file=VIF in lack.files,
            copy_ecsum_file=ECSUM in lack.files,
            source_data_node=str(source),
        )
    if lack.files != (ECX,):
        _remount(ctx, scene, lack.held, lease)
        if not holds_run(ctx, run, server, min(lack.held.mounted)):
            raise Mismatch(f"{server} still gives its shards of {run.name} to nobody after it got the .vif")
    for ext in lack.files:
        if file_time(ctx.volume(server), run.volume_id, run.collection, ext) is None:
            raise Mismatch(f"{server} still has no {ext} of {run.name} after pulling it from {source}")
    return f"gave {server} {' and '.join(lack.files)}" if lack.files else f"mounted the shards on {server} anew"


def is_about_sums(finding: Finding) -> bool:
    """Whether a scrub found that no holder has an `.ecsum`, and not what a single one lacks."""
    return finding.kind == EC_INDEX and not finding.server


def may_have_sums(scene: Scene) -> bool:
    """Whether the volume has no `.ecsum`, all fourteen shards, and only servers that know such files."""
    run = scene.run
    holders = [held for held in run.holders if held.mounted]
    whole = not run.missing and not scene.wrong_size and not scene.unknown and not scene.silent
    return run.sums is None and not run.sums_trouble and whole and all(one.generation.knows_ecsum for one in holders)


def give_sums(ctx: Context, scene: Scene, lease: Lease) -> str:
    """Read all shards, and give one holder the `.ecsum` that they make: the others pull it from there.

    Mismatch where the shards do not fit together: nothing is changed then. TaskError where that cannot be done now.
    """
    run = scene.run
    held = min((one for one in run.holders if one.mounted), key=lambda one: (len(one.mounted), str(one.server)))
    _check_away(scene, held)
    content = dump_ecsum(_sums_of(ctx, run))
    volume = ctx.volume(held.server)
    holdings = scene.topology.holdings(run.volume_id, run.collection)
    disks = sorted({one.disk_id for one in holdings if one.server == held.server}) or [0]

    def put() -> None:  # servers take files only while none of the volume's shards is mounted
        for disk_id in disks:
            send(volume, run.volume_id, run.collection, ECSUM, content, disk_id)

    _remount(ctx, scene, held, lease, put)
    if fetch(volume, run.volume_id, run.collection, ECSUM) != content:
        raise Mismatch(f"{held.server} has not the .ecsum of {run.name} that it was sent")
    return f"made the .ecsum that {run.name} never had, from fourteen shards that fit together"


def _sums_of(ctx: Context, run: Run) -> Ecsum:
    """The checksums of all shards, of which four witness for the other ten at every place."""
    reader = ShardReader(ctx, run)
    sums = {shard: BlockChecksums() for shard in range(TOTAL_SHARDS)}
    for part in reader.stream(range(TOTAL_SHARDS)):
        if reader.bad:
            break
        for shard, piece in part.shards.items():
            ctx.compute(sums[shard].feed, piece)
        ctx.progress(0.86 + 0.08 * part.offset / run.shard_size, "reading all shards for an .ecsum")
    if reader.bad:
        raise Mismatch(f"{run.name} gets no .ecsum while a shard of it is bad: {'; '.join(reader.bad.values())}")
    return Ecsum({shard: one.result() for shard, one in sums.items()}, os.urandom(16))


def _source(ctx: Context, scene: Scene, lack: Lack) -> Address:
    """A holder that has all that another one lacks."""
    run = scene.run
    for held in run.holders:
        if held.server != lack.held.server and held.mounted:
            volume = ctx.volume(held.server)
            if all(file_time(volume, run.volume_id, run.collection, ext) is not None for ext in lack.files):
                return held.server
    if ECX in lack.files:
        raise TaskError(f"{run.name}: {NO_INDEX.format(run.volume_id)}")
    raise TaskError(f"no holder of {run.name} has {' and '.join(lack.files)} to give to {lack.held.server}")


def _check_away(scene: Scene, held: ShardSet) -> None:
    """TaskError where too many shards would be away while a holder's are unmounted."""
    others = {shard for shard, servers in scene.run.copies.items() if {*servers} - {held.server}}
    # Those that nobody is given now are away already.
    away = TOTAL_SHARDS - len(others)
    if held.vif is not None and away > MOST_TOGETHER:
        raise TaskError(
            f"{away} shards of {scene.run.name} would be away while those on {held.server} are mounted anew"
        )


def _remount(
    ctx: Context, scene: Scene, held: ShardSet, lease: Lease, meanwhile: Callable[[], None] | None = None
) -> None:
    """Mount a holder's shards anew; `meanwhile` is done while they are unmounted."""
    run, shards = scene.run, sorted(held.mounted)
    _check_away(scene, held)
    lease.check()
    step = plan(ctx.journal, Unmounted(run.volume_id, run.collection, held.server, tuple(shards)))
    with ctx.cluster.leash.shielded():
        ctx.volume(held.server).volume_ec_shards_unmount(volume_id=run.volume_id, shard_ids=shards)
        try:
            if meanwhile is not None:
                meanwhile()
        finally:
            mount_again(ctx, step.change)
    ctx.journal.settle(step)
