"""The job types, and what a running one may use.

A task is a module in this package with

    DESCRIPTOR              what the admin shows and configures
    detect(request, ctx)    -> Detection      looks only; changes nothing
    run(job, ctx)           -> Result         blocking Python; raises TaskError
    recover(entry, ctx)     -> None           undoes what a killed run of it left behind, as its journal entry says

Nothing here knows the admin's dialects, greenlets or signals.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import TypeVar

from weed_core.model import Job
from weed_core.values import as_int

T = TypeVar("T")
R = TypeVar("R")


SECONDS_PER_GIB = {"erasure_coding": 600.0, "remote_upload": 600.0}
"""How long a task may take for each GiB of volume data, as admins estimate it; others: PER_GIB."""

PER_GIB = 300.0


def deadline(job: Job, default: float) -> float:
    """Seconds this job may take: what it says itself or what its volumes' size asks for, whichever is longer."""
    moves = job.params.balance_params.moves
    size = sum(move.volume_size for move in moves) or job.params.volume_size
    said = as_int(job.parameters.get("estimated_runtime_seconds"), 0, 0)
    said = max(said, job.params.balance_params.timeout_seconds, job.params.ec_balance_params.timeout_seconds)
    scaled = (size // 2**30 + 1) * SECONDS_PER_GIB.get(job.type, PER_GIB) if size else 0.0
    return max(float(said), scaled) or default


NAMES = ("vacuum", "erasure_coding", "balance", "ec_balance", "replication", "remote_upload")


def load(names: Iterable[str] = NAMES) -> dict[str, ModuleType]:
    """Task modules by their names; raises KeyError for a name that is no task's."""
    for name in set(names) - set(NAMES):
        raise KeyError(name)
    return {name: import_module(f"weed_tasks.{name}") for name in names}
