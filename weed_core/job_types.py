"""The job types: what each is called, here and by others, and what it is one of. One row makes a type known."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JobType:
    """One row of the table. `name` is that of its folder in weed_tasks and the classic dialect's task type."""

    name: str
    aliases: tuple[str, ...] = ()  # what -capabilities, -jobType and the console understand, too
    job_type: str = ""  # the plugin dialect's name, where that is another one
    is_heavy: bool = False  # moves whole volumes; else it belongs to the default types


JOB_TYPES = (
    JobType("vacuum", ("vol.vacuum", "volume.vacuum")),
    JobType("erasure_coding", ("ec", "erasure-coding", "erasure.coding"), is_heavy=True),
    JobType("balance", ("volume_balance", "volume.balance", "volume-balance"), job_type="volume_balance"),
    JobType("ec_balance", ("ec-balance", "ec.balance", "ec_shard_balance")),
    JobType(
        "replication",
        (
            "fix_replication",
            "fix.replication",
            "volume.fix.replication",
            "volume_replication",
            "volume.replication",
        ),
    ),
    JobType(
        "remote_upload",
        ("remote", "remote-upload", "remote.upload", "tier.upload", "volume.tier.upload", "volume_tier_upload"),
        is_heavy=True,
    ),
)

TASK_TYPES = tuple(row.name for row in JOB_TYPES)

ALIASES = {alias: row.name for row in JOB_TYPES for alias in row.aliases}

CATEGORIES = {
    "all": TASK_TYPES,
    "default": tuple(row.name for row in JOB_TYPES if not row.is_heavy),
    "heavy": tuple(row.name for row in JOB_TYPES if row.is_heavy),
}

TO_PLUGIN = {row.name: row.job_type or row.name for row in JOB_TYPES}
"""The plugin dialect's name of each type."""
