"""Making erasure-coded volumes whole again."""

from weed_tasks.ec_repair.plan import DESCRIPTOR, detect
from weed_tasks.ec_repair.task import recover, run

__all__ = ["DESCRIPTOR", "detect", "recover", "run"]
