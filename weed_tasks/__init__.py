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

from weed_core.job_types import TASK_TYPES

NAMES = TASK_TYPES


def load(names: Iterable[str] = NAMES) -> dict[str, ModuleType]:
    """Task modules by their names; raises KeyError for a name that is no task's."""
    for name in set(names) - set(NAMES):
        raise KeyError(name)
    return {name: import_module(f"weed_tasks.{name}") for name in names}
