"""Emptying volume servers and disks, so that they may be taken away."""

from weed_tasks.evacuate.plan import DESCRIPTOR, detect
from weed_tasks.evacuate.task import recover, run

__all__ = ["DESCRIPTOR", "detect", "recover", "run"]
