"""Turning full, quiet volumes into shards."""

from weed_tasks.erasure_coding.plan import DESCRIPTOR, detect
from weed_tasks.erasure_coding.task import recover, run

__all__ = ["DESCRIPTOR", "detect", "recover", "run"]
