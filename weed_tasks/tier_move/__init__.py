"""Moving full, quiet volumes from one type of disk to another."""

from weed_tasks.tier_move.plan import DESCRIPTOR, detect
from weed_tasks.tier_move.task import recover, run

__all__ = ["DESCRIPTOR", "detect", "recover", "run"]
