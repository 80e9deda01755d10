"""Reclaiming the space of deleted files."""

from weed_tasks.vacuum.plan import DESCRIPTOR, detect
from weed_tasks.vacuum.task import recover, run

__all__ = ["DESCRIPTOR", "detect", "recover", "run"]
