"""Making a bad replica anew: from one that was read through and proved sound, on another server; then the bad one goes.

What a scrub found is a hint. All replicas are frozen and read, each file of each, and compared: a replica is bad where
its server cannot read files that another one has. What replicas have that others lack, or have in other versions, is
no damage of bytes, and nothing is given up then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from weed_cluster.address import Address
from weed_core.errors import Mismatch
from weed_core.findings import REPLICA
from weed_core.release import Generation
from weed_safety import findings, reading
from weed_safety.context import Context
from weed_safety.look import generation_of
from weed_safety.proof import names

MOST_NAMED = 5
"""Files that a sentence names."""


@dataclass(frozen=True)
class Judgement:
    """Replicas as they were read: those in which all is sound, and of others the needles that cannot be read."""

    sound: tuple[Address, ...]
    bad: Mapping[Address, Mapping[int, str]]


def judge(ctx: Context, volume_id: int, sizes: Mapping[Address, int], expires: bool) -> Judgement:
    """Read all replicas of a frozen volume through; `sizes` are the bytes on each server.

    Mismatch where they differ otherwise, or where none is sound.
    """
    proved, servers = _read_at_once(ctx, volume_id, sizes), list(sizes)
    walk = reading.read_through(ctx, volume_id, servers, proved, expires=expires)
    if walk.differ:
        raise Mismatch(
            f"volume {volume_id}: replicas on {names(servers)} differ in {len(walk.differ)} files that can be read; "
            "nothing was changed"
        )
    sound = tuple(sorted((server for server in servers if server not in walk.bad), key=lambda one: one not in proved))
    if not sound:
        hit = _hit(ctx, volume_id, walk.bad)
        raise Mismatch(f"volume {volume_id}: every replica has files that cannot be read: {hit}; nothing was changed")
    return Judgement(sound, walk.bad)


def prove_copies(ctx: Context, volume_id: int, sizes: Mapping[Address, int]) -> None:
    """Mismatch unless every file of these new copies can be read."""
    proved = _read_at_once(ctx, volume_id, sizes)
    for server in sizes:
        if server not in proved and (bad := reading.read_through(ctx, volume_id, [server]).bad):
            raise Mismatch(f"the new copy of volume {volume_id} on {server} is bad: {_hit(ctx, volume_id, bad)}")


def _read_at_once(ctx: Context, volume_id: int, sizes: Mapping[Address, int]) -> list[Address]:
    """Have servers read their replicas of a frozen volume; return those that complain of nothing."""
    able = [server for server in sizes if generation_of(ctx, server) >= Generation.V4_13]
    told = ctx.each(lambda server: reading.complaints(ctx, server, volume_id, sizes[server]), able)
    return [server for server, complaints in zip(able, told) if not complaints]


def settle(ctx: Context, volume_id: int, servers: Collection[Address]) -> None:
    """Forget what was found wrong with the replicas on these servers."""
    wanted = {str(server) for server in servers}
    for finding in findings.read_all(ctx):
        if finding.kind == REPLICA and finding.volume_id == volume_id and finding.server in wanted:
            findings.settle(ctx, finding)


def _hit(ctx: Context, volume_id: int, bad: Mapping[Address, Mapping[int, str]]) -> str:
    return "; ".join(
        f"{server} {', '.join(reading.file_ids(ctx, server, volume_id, needles, MOST_NAMED))}"
        + (f" and {len(needles) - MOST_NAMED} more" if len(needles) > MOST_NAMED else "")
        for server, needles in bad.items()
    )
