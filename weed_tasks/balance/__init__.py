"""Levelling volumes over servers."""

from weed_tasks.balance.plan import DESCRIPTOR, detect
from weed_tasks.balance.task import recover, run

__all__ = ["DESCRIPTOR", "detect", "recover", "run"]
