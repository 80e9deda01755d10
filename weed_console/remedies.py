"""Which command of ours mends what doctor found: only one that the job itself takes, asked of its own detection.

Ordinary blocking Python; changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import weed_tasks
from weed_cluster.client import Cluster
from weed_core.errors import WeedError
from weed_core.model import DetectionRequest, Job
from weed_core.values import Value
from weed_safety.context import Context
from weed_safety.journal import Journal

JUDGED = 20
"""Volumes of one kind of find for which the job is asked; the others are taken for alike."""

AT_ONCE: dict[str, Value] = {"min_fault_age_seconds": 0}
"""What is left out of account: a job that would only wait helps all the same."""


@dataclass(frozen=True)
class Remedy:
    """The command that mends a volume; where there is none, `why_not` is what its job says."""

    command: str = ""
    why_not: str = ""
    is_plain: bool = False  # its job takes the volume as it is, with its defaults


def find(cluster: Cluster, job: str, volume_id: int, *tries: Mapping[str, Value]) -> Remedy:
    """Find the settings, among these, with which a job takes a volume; {} are its defaults."""
    task = weed_tasks.load([job])[job]
    why_not = ""
    for settings in tries:
        config = {**AT_ONCE, **settings} if job == "replication" else dict(settings)
        request = DetectionRequest(job, config, tuple(map(str, cluster.masters)), volume_id=volume_id, is_single=True)
        try:
            found = task.detect(request, Context(cluster, Journal.memory()))
        except WeedError as error:
            return Remedy(why_not=str(error))
        if any(volume_id in Job("", job, one.params, one.parameters).volume_ids for one in found.proposals):
            words = "".join(f" -set={name}={_text(value)}" for name, value in settings.items())
            return Remedy(f"weed_worker run {job} -volumeId={volume_id}{words}", is_plain=not settings)
        reasons = [skip.reason for skip in found.skipped if skip.volume_id == volume_id]
        why_not = next(iter(reasons), found.summary)
    return Remedy(why_not=why_not)


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
