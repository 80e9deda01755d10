"""What only tidies up leaves room for what mends: while something is missing, less is proposed. Pure.

A move or an encode takes the disks and the admin's turns that a repair needs, and each is one more thing under way
where the next loss may come. It is not stopped altogether: what cannot be mended would keep a cluster uneven for ever.
"""

from __future__ import annotations

from dataclasses import replace

from weed_cluster.topology import Topology
from weed_core.job_types import BY_NAME
from weed_core.model import Detection
from weed_storage.ec_layout import TOTAL_SHARDS

SHARE = 4
"""One in so many of the proposals is made, and one at least."""


def incomplete(topology: Topology) -> int:
    """How many volumes lack copies or shards, by the master's list."""
    short = sum(len(replicas) < replicas[0].placement.copies for replicas in topology.volumes.values())
    for key, held in topology.ec.items():
        if key[0] not in topology.volumes:  # beside its volume an encode has not ended
            short += len({shard for holding in held for shard in holding.shard_ids}) < TOTAL_SHARDS
    return short


def yielding(found: Detection, job_type: str, topology: Topology | None) -> Detection:
    """What was found, less most of it where the job type only tidies up and volumes lack copies or shards."""
    if topology is None or len(found.proposals) < 2 or not BY_NAME[job_type].yields:
        return found
    short = incomplete(topology)
    if not short:
        return found
    kept = found.proposals[: max(1, len(found.proposals) // SHARE)]
    said = (
        f"{short} volume{'s lack' if short > 1 else ' lacks'} copies or shards: {len(kept)} of {len(found.proposals)} "
        "jobs are proposed until they are mended"
    )
    return replace(found, proposals=kept, has_more=True, summary="; ".join(filter(None, [said, found.summary])))
