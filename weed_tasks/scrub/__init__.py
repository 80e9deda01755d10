"""Reading every replica and every shard through once in a while, and handing on what is bad."""

from weed_tasks.scrub.plan import DESCRIPTOR, detect
from weed_tasks.scrub.task import recover, run

__all__ = ["DESCRIPTOR", "detect", "recover", "run"]
