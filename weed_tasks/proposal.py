"""Proposals and the rows of their parameters, made in one way for every job type. Pure.

A proposal says most things twice: typed, for workers, and plainly, for an admin's pages. Both come from one place here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from proto_gen.worker_pb2 import TaskParams, TaskSource, TaskTarget
from weed_cluster.topology import Node, Replica
from weed_core.job_types import BY_NAME
from weed_core.model import NORMAL, Proposal
from weed_core.values import Value


def seconds_for(job_type: str, size: int) -> int:
    """Seconds that a job may take for so many bytes of a volume."""
    return (size // 2**30 + 1) * BY_NAME[job_type].seconds_per_gib


def source(replica: Replica) -> TaskSource:
    """The row that names a replica."""
    return shards_source(replica.node, replica.volume_id, replica.disk_id, size=replica.size)


def shards_source(node: Node, volume_id: int, disk_id: int, shard_ids: Iterable[int] = (), size: int = 0) -> TaskSource:
    """The row that names shards of a volume on one disk; `size` in bytes, of each."""
    return TaskSource(
        node=str(node.address),
        rack=node.rack,
        data_center=node.data_center,
        disk_id=disk_id,
        volume_id=volume_id,
        shard_ids=shard_ids,
        estimated_size=size,
    )


def target(node: Node, volume_id: int, size: int, disk_id: int = 0, shard_ids: Iterable[int] = ()) -> TaskTarget:
    """The row that names where a volume, or shards of it, are to go; `size` in bytes, of each."""
    return TaskTarget(
        node=str(node.address),
        rack=node.rack,
        data_center=node.data_center,
        disk_id=disk_id,
        volume_id=volume_id,
        shard_ids=shard_ids,
        estimated_size=size,
    )


def key_of(prefix: str, volume_id: int, collection: str) -> str:
    """The key by which an admin tells that it has a job for this volume already."""
    return f"{prefix}:{volume_id}" + (f":{collection}" if collection else "")


def of_volume(
    task_type: str,
    params: TaskParams,
    summary: str,
    seconds: int,
    bytes_to_move: int,
    *,
    detail: str = "",
    priority: str = NORMAL,
    prefix: str = "",
    parameters: Mapping[str, Value] | None = None,
    labels: Mapping[str, str] | None = None,
    why_shut: str = "",
    frees: int = 0,
    waits: int = 0,
) -> Proposal:
    """A proposal for one volume, of which the typed parameters name the job, the volume and its collection.

    `seconds` is the longest it should take. `prefix` begins the key where that is not the task type. `why_shut`, where
    it says anything, is why the volume refuses writes for a while after the change. `frees` is the bytes of disk space
    that it gives back, `waits` the seconds in which it only waits.
    """
    volume_id, collection = params.volume_id, params.collection
    return Proposal(
        id=params.task_id,
        dedupe_key=key_of(prefix or task_type, volume_id, collection),
        summary=summary,
        detail=detail,
        params=params,
        priority=priority,
        parameters={
            "volume_id": volume_id,
            "collection": collection,
            **(parameters or {}),
            "estimated_runtime_seconds": seconds,
        },
        labels={
            "task_type": task_type,
            "volume_id": str(volume_id),
            "collection": collection,
            **(labels or {}),
        },
        estimated_seconds=seconds,
        bytes_to_move=bytes_to_move,
        frees=max(0, frees),
        waits=waits,
        shut={volume_id: why_shut} if why_shut else {},
    )
