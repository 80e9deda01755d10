"""Deleting volumes that hold no file."""

from weed_tasks.delete_empty.plan import DESCRIPTOR, detect
from weed_tasks.delete_empty.task import recover, run

__all__ = ["DESCRIPTOR", "detect", "recover", "run"]
