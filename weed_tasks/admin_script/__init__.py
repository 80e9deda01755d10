"""Maintenance scripts as weed shell writes them, done by the other job types."""

from weed_tasks.admin_script.plan import DESCRIPTOR, detect
from weed_tasks.admin_script.task import recover, run

__all__ = ["DESCRIPTOR", "detect", "recover", "run"]
