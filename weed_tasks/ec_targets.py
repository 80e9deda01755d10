"""Whether servers can take the shards that a plan gives them, by what they say of themselves.

For detection and for jobs alike. Pure: looks at answers, asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from weed_cluster.address import Address
from weed_core.release import Generation
from weed_ec.places import RESERVE
from weed_safety.readiness import Answer
from weed_storage.ec_layout import shard_size

Need = Mapping[tuple[Address, int], int]
"""Shards by server and disk id; disk 0 is any of the server's disks."""


def unplaced(volume_id: int, reason: str) -> str:
    """Say that the shards of a volume can go nowhere."""
    return f"the shards of volume {volume_id} cannot be placed: {reason}"


def why_not_there(volume_id: int, size: int, need: Need, answers: Mapping[Address, Answer]) -> str:
    """Say why these servers cannot take the shards of a volume of `size` bytes; "" where they can.

    Servers that were not asked count as able.
    """
    each = shard_size(size)
    for (target, disk_id), count in need.items():
        answer = answers.get(target)
        reason = _why_not(target, disk_id, count, each, answer) if answer else ""
        if reason:
            return unplaced(volume_id, reason)
    told = [answers[target].generation for target, _disk in need if target in answers]
    return unplaced(volume_id, DISAGREE) if row_rule(size, told) is None else ""


DISAGREE = "the volume has a size that its targets, of different releases, would read differently"


def row_rule(size: int, generations: Iterable[Generation]) -> bool | None:
    """Whether rows are cut by the strict rule of servers before 4.19; None where targets would disagree about it."""
    rules = {generation.strict_rows for generation in generations}
    if len(rules) > 1 and shard_size(size, True) != shard_size(size, False):
        return None
    return rules == {True}


def _why_not(target: Address, disk_id: int, count: int, each: int, answer: Answer) -> str:
    if answer.refusal:
        return answer.refusal
    disks = answer.status.disk_statuses
    if not disks:
        return ""
    known = answer.generation.knows_ecsum
    if disk_id >= len(disks) and known:
        return f"{target} has no disk {disk_id}"
    room = disks[disk_id].free if known and disk_id else max(disk.free for disk in disks)
    if room >= each * count + RESERVE:
        return ""
    return (
        f"{target} has {room >> 20} MiB free, too little for {count} shards of {each >> 20} MiB and the "
        f"{RESERVE >> 20} MiB that must stay free"
    )
