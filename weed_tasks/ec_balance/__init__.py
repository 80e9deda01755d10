"""Spreading shards over disks, hosts and racks."""

from weed_tasks.ec_balance.plan import DESCRIPTOR, detect
from weed_tasks.ec_balance.task import recover, run

__all__ = ["DESCRIPTOR", "detect", "recover", "run"]
