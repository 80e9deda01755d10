"""The job types by name, alias and category."""

from __future__ import annotations

TASK_TYPES = ("vacuum", "erasure_coding", "balance", "ec_balance", "replication", "remote_upload")

ALIASES = {
    "ec": "erasure_coding",
    "erasure-coding": "erasure_coding",
    "erasure.coding": "erasure_coding",
    "vol.vacuum": "vacuum",
    "volume.vacuum": "vacuum",
    "volume_balance": "balance",
    "volume.balance": "balance",
    "volume-balance": "balance",
    "ec-balance": "ec_balance",
    "ec.balance": "ec_balance",
    "ec_shard_balance": "ec_balance",
    "fix_replication": "replication",
    "fix.replication": "replication",
    "volume.fix.replication": "replication",
    "remote": "remote_upload",
    "remote-upload": "remote_upload",
    "remote.upload": "remote_upload",
    "tier.upload": "remote_upload",
}

CATEGORIES = {
    "all": TASK_TYPES,
    "default": ("vacuum", "balance", "ec_balance", "replication"),
    "heavy": ("erasure_coding", "remote_upload"),
}
