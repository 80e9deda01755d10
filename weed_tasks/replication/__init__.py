"""Giving volumes the copies they should have."""

from weed_tasks.replication.plan import DESCRIPTOR, detect
from weed_tasks.replication.task import recover, run

__all__ = ["DESCRIPTOR", "detect", "recover", "run"]
