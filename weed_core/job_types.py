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
    short: str = ""  # the alias that help texts show
    seconds_per_gib: int = 300  # how long a job may take for each GiB of volume data begun, as admins estimate it
    names_collections: bool = False  # its collection filter may be a list of names with wildcards
    is_asked_for: bool = False  # it does what a person names: no plan of all jobs has it
    yields: bool = False  # less of it is proposed while volumes lack copies or shards
    goes_on: bool = False  # a run of it ends when nothing is left


JOB_TYPES = (
    JobType("vacuum", ("vol.vacuum", "volume.vacuum")),
    JobType(
        "erasure_coding",
        ("ec", "erasure-coding", "erasure.coding"),
        is_heavy=True,
        short="ec",
        seconds_per_gib=600,
        names_collections=True,
        yields=True,
    ),
    JobType("balance", ("volume_balance", "volume.balance", "volume-balance"), job_type="volume_balance", yields=True),
    JobType("ec_balance", ("ec-balance", "ec.balance", "ec_shard_balance")),
    JobType("ec_repair", ("ec-repair", "ec.repair", "ec.rebuild", "ec_rebuild", "ec-rebuild")),
    JobType("scrub", ("volume.scrub", "volume_scrub", "ec.scrub", "ec_scrub", "volume-scrub", "ec-scrub")),
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
        short="remote",
        seconds_per_gib=600,
    ),
    JobType(
        "evacuate",
        ("volumeServer.evacuate", "volume_server.evacuate", "volume-server-evacuate", "volumeserver_evacuate"),
        is_asked_for=True,
        goes_on=True,
    ),
    JobType(
        "tier_move", ("tier-move", "tier.move", "volume.tier.move", "volume_tier_move"), is_heavy=True, yields=True
    ),
    JobType("delete_empty", ("delete-empty", "delete.empty", "volume.deleteEmpty", "volume.delete_empty")),
    JobType("admin_script", ("admin-script", "admin.script", "script", "admin"), is_asked_for=True),
)

BY_NAME = {row.name: row for row in JOB_TYPES}

TASK_TYPES = tuple(row.name for row in JOB_TYPES)

ALIASES = {alias.lower(): row.name for row in JOB_TYPES for alias in row.aliases}
"""Names by what else they are called, in lower case: all are compared so."""


def named(word: str) -> str:
    """The type of this name or alias, in whatever case; where there is none, the word itself in lower case."""
    return ALIASES.get(word.lower(), word.lower())


SHOWN = ", ".join(f"{row.name} ({row.short})" if row.short else row.name for row in JOB_TYPES)
"""All types as help texts list them."""

CATEGORIES = {
    "all": TASK_TYPES,
    "default": tuple(row.name for row in JOB_TYPES if not row.is_heavy),
    "heavy": tuple(row.name for row in JOB_TYPES if row.is_heavy),
}

TO_PLUGIN = {row.name: row.job_type or row.name for row in JOB_TYPES}
"""The plugin dialect's name of each type."""
