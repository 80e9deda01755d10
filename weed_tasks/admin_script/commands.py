"""The commands of weed shell that a script may use: their flags, and which job type with which settings does each.

Pure. Names and flags are those of SeaweedFS 4.44's shell; a flag that a job here cannot honour is not in the table, so
that a script with it is refused instead of done otherwise than it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from weed_cluster.topology import DEFAULT_COLLECTION, EVERY_COLLECTION
from weed_core.errors import BadTask, ConfigError
from weed_core.guess import did_you_mean
from weed_core.values import Value
from weed_tasks.admin_script.script import COUNT, DURATION, IDS, NUMBER, SWITCH, WORD, Kind, Line, flags_of, parse

Given = Mapping[str, Any]
"""The flags of one command that are given, by name, read."""

LOCKS = ("lock", "unlock")
"""Commands without effect here: an admin holds the cluster's lock while a script runs, and so does a one-shot run."""

ELSEWHERE = (
    "a Go worker (weed worker -jobType=admin_script) can keep this job type, "
    "with this worker's -jobType naming the others"
)
BY_HAND = "weed shell may know it"
"""Who could do what is not known here."""

AT_ONCE, MOST_AT_ONCE = 5, 10
"""Jobs of one command at a time where it does not say how many, and whatever it says."""


@dataclass(frozen=True)
class Command:
    """How one command is done. `settings` makes the job's settings of the flags that are given."""

    flags: Mapping[str, Kind]
    job_type: str = ""
    settings: Callable[[Given], Mapping[str, Value]] = lambda _given: {}
    needs: str = ""  # a flag that it cannot do without
    applies: bool = False  # it does what it finds without being told -apply
    goes_on: bool = False  # it looks again until nothing is left
    most: str = ""  # the flag that says how many volumes it does at most


@dataclass(frozen=True)
class Order:
    """One command of a script, read. `job_type` is "" where a filer does it; `settings` are then its flags."""

    line: Line
    job_type: str
    settings: Mapping[str, Value]
    is_applied: bool
    volume_ids: frozenset[int] = frozenset()
    at_once: int = 1
    most: int = 0  # jobs, 0 for all
    goes_on: bool = False
    is_verbose: bool = False


def orders(script: str, advice: str = ELSEWHERE) -> list[Order]:
    """What a script asks for, without what has no effect; BadTask that names everything in it that is not known.

    `advice` says who else could do it.
    """
    read, problems = list[Order](), list[str]()
    try:
        lines = parse(script)
    except ConfigError as error:
        raise BadTask(f"the script cannot be read: {error}") from None
    for line in lines:
        if line.name.lower() in LOCKS:
            continue
        try:
            read.append(order(line))
        except ConfigError as error:
            problems.append(f"line {line.number}: {error}")
    if problems:
        raise BadTask(f"{'; '.join(problems)}. Nothing of the script was run; {advice}")
    return read


def order(line: Line) -> Order:
    """What one command asks for; ConfigError for one that is not known, or that asks for what is not done here."""
    known = COMMANDS.get(line.name)
    if known is None:
        raise ConfigError(
            f"no command {line.name!r} here{did_you_mean(line.name, COMMANDS)}; there are {', '.join(COMMANDS)}"
        )
    given = flags_of(line, known.flags)
    if known.needs and not given.get(known.needs):
        raise ConfigError(f"{line.name} needs -{known.needs}=...")
    at_once = given.get("maxParallelization", given.get("parallelLimit", 0)) or AT_ONCE
    return Order(
        line,
        known.job_type,
        known.settings(given) if known.job_type else given,
        is_applied=known.applies or bool(given.get("apply") or given.get("force")),
        volume_ids=given.get("volumeIds", frozenset()) | given.get("volumeId", frozenset()),
        at_once=min(at_once, MOST_AT_ONCE),
        most=given.get(known.most, 0) if known.most else 0,
        goes_on=known.goes_on,
        is_verbose=bool(given.get("v") or given.get("verbose")),
    )


# ---- flags to settings ---------------------------------------------------------------------------------------------


def _exact(name: str) -> str:
    """The filter for the one collection of this name, or for all."""
    return name if name in (*EVERY_COLLECTION, DEFAULT_COLLECTION) else f"^{re.escape(name)}$"


def _wildcards(pattern: str) -> str:
    """The filter for names with * and ?, as weed shell's -collectionPattern has them."""
    if pattern in (*EVERY_COLLECTION, DEFAULT_COLLECTION):
        return pattern
    return "^" + re.escape(pattern).replace(r"\*", "[^/]*").replace(r"\?", "[^/]") + "$"


def _expression(text: str) -> str:
    """The filter for a regular expression; none is the collection without a name, as in weed shell."""
    return f"(?:{text})" if text and text != DEFAULT_COLLECTION else DEFAULT_COLLECTION


def _each(name: str) -> str:
    """The filter of the shell's commands about shards, where an empty name is the collection without one."""
    return _exact(name) if name else DEFAULT_COLLECTION


def _taken(given: Given, names: Iterable[tuple[str, str]]) -> dict[str, Value]:
    """The settings that flags say as they are."""
    return {setting: given[flag] for flag, setting in names if flag in given}


def _delete_empty(given: Given) -> dict[str, Value]:
    return {
        "quiet_for_seconds": given.get("quietFor", 86400),
        "collection_filter": _wildcards(given.get("collectionPattern", "")),
    }


def _fix_replication(given: Given) -> dict[str, Value]:
    return {
        "collection_filter": _wildcards(given.get("collectionPattern", "")),
        "delete_surplus": given.get("doDelete", True),
    }


def _balance(given: Given) -> dict[str, Value]:
    return {
        "collection_filter": _exact(given.get("collection", "ALL_COLLECTIONS")),
        "imbalance_threshold": 0.0,  # the shell knows none
        "batch_size": 1,
        **_taken(
            given,
            (
                ("dataCenter", "data_center_filter"),
                ("racks", "rack_filter"),
                ("nodes", "node_filter"),
                ("ioBytePerSecond", "io_byte_per_second"),
            ),
        ),
    }


def _vacuum(given: Given) -> dict[str, Value]:
    return {
        "garbage_threshold": given.get("garbageThreshold", 0.3),
        "collection_filter": _exact(given.get("collection", "")),
    }


def _full_and_quiet(given: Given, quiet: int) -> dict[str, Value]:
    """How full and how quiet a volume has to be; one that is named by its id is taken as it is."""
    if given.get("volumeId") or given.get("volumeIds"):
        return {"fullness_ratio": 0.0, "quiet_for_seconds": 0}
    return {"fullness_ratio": given.get("fullPercent", 95.0) / 100, "quiet_for_seconds": given.get("quietFor", quiet)}


def _by_expression(given: Given) -> str:
    """The filter of commands that take a volume's id or an expression."""
    if "collection" not in given and (given.get("volumeId") or given.get("volumeIds")):
        return ""
    return _expression(given.get("collection", ""))


def _tier_upload(given: Given) -> dict[str, Value]:
    return {
        "backend": given["dest"],
        "collection_filter": _by_expression(given),
        "keep_local": given.get("keepLocalDatFile", False),
        **_full_and_quiet(given, 86400),
    }


def _tier_move(given: Given) -> dict[str, Value]:
    return {
        "collection_filter": _wildcards(given.get("collectionPattern", "")),
        **_full_and_quiet(given, 86400),
        **_taken(
            given,
            (
                ("fromDiskType", "from_disk_type"),
                ("toDiskType", "to_disk_type"),
                ("fromDataCenter", "data_center_filter"),
                ("toDataCenter", "to_data_center"),
                ("ioBytePerSecond", "io_byte_per_second"),
            ),
        ),
    }


def _evacuate(given: Given) -> dict[str, Value]:
    return {"nodes": given["node"], "allow_partial": given.get("skipNonMoveable", False)}


def _ec_encode(given: Given) -> dict[str, Value]:
    return {
        "collection_filter": _by_expression(given),
        "min_size_mb": 1,  # the least; the shell knows none
        **_full_and_quiet(given, 3600),
        **_taken(given, (("shardReplicaPlacement", "replica_placement"),)),
    }


def _ec_rebuild(given: Given) -> dict[str, Value]:
    return {"collection_filter": _each(given.get("collection", "EACH_COLLECTION"))}


def _ec_balance(given: Given) -> dict[str, Value]:
    return {
        "collection_filter": _each(given.get("collection", "EACH_COLLECTION")),
        **_taken(
            given,
            (
                ("dataCenter", "data_center_filter"),
                ("diskType", "disk_type"),
                ("shardReplicaPlacement", "shard_replica_placement"),
                ("ioBytePerSecond", "io_byte_per_second"),
            ),
        ),
    }


_APPLY: Mapping[str, Kind] = {"apply": SWITCH, "force": SWITCH}  # the second is the shell's older word for the first

COMMANDS: Mapping[str, Command] = {
    "volume.deleteEmpty": Command(
        {"quietFor": DURATION, "collectionPattern": WORD, **_APPLY}, "delete_empty", _delete_empty
    ),
    "volume.fix.replication": Command(
        {
            "collectionPattern": WORD,
            **_APPLY,
            "verbose": SWITCH,
            "doDelete": SWITCH,
            "doCheck": SWITCH,  # copies are always compared before one of them goes
            "maxParallelization": COUNT,
            "maxParallelizationPerServer": COUNT,
            "retry": COUNT,
            "volumesPerStep": COUNT,
        },
        "replication",
        _fix_replication,
        most="volumesPerStep",
    ),
    "volume.balance": Command(
        {
            "collection": WORD,
            "dataCenter": WORD,
            "racks": WORD,
            "nodes": WORD,
            "ioBytePerSecond": COUNT,
            **_APPLY,
            "volumesPerExec": COUNT,
            "maxParallelization": COUNT,
            "noLock": SWITCH,
            "v": SWITCH,
        },
        "balance",
        _balance,
        most="volumesPerExec",
    ),
    "volume.vacuum": Command(
        {"garbageThreshold": NUMBER, "collection": WORD, "volumeId": IDS}, "vacuum", _vacuum, applies=True
    ),
    "volume.tier.upload": Command(
        {
            "volumeId": IDS,
            "collection": WORD,
            "fullPercent": NUMBER,
            "quietFor": DURATION,
            "dest": WORD,
            "keepLocalDatFile": SWITCH,
        },
        "remote_upload",
        _tier_upload,
        needs="dest",
        applies=True,
    ),
    "volume.tier.move": Command(
        {
            "collectionPattern": WORD,
            "fullPercent": NUMBER,
            "quietFor": DURATION,
            "fromDiskType": WORD,
            "toDiskType": WORD,
            "fromDataCenter": WORD,
            "toDataCenter": WORD,
            "parallelLimit": COUNT,
            **_APPLY,
            "ioBytePerSecond": COUNT,
        },
        "tier_move",
        _tier_move,
        needs="toDiskType",
    ),
    "volumeServer.evacuate": Command(
        {"node": WORD, "skipNonMoveable": SWITCH, **_APPLY, "retry": COUNT},
        "evacuate",
        _evacuate,
        needs="node",
        goes_on=True,
    ),
    "ec.encode": Command(
        {
            "volumeId": IDS,
            "volumeIds": IDS,
            "collection": WORD,
            "fullPercent": NUMBER,
            "quietFor": DURATION,
            "maxParallelization": COUNT,
            "batchSize": COUNT,
            "shardReplicaPlacement": WORD,
            "rebalance": SWITCH,  # shards are placed where they are to stay
            "verbose": SWITCH,
        },
        "erasure_coding",
        _ec_encode,
        applies=True,
    ),
    "ec.rebuild": Command(
        {"collection": WORD, "volumeIds": IDS, "maxParallelization": COUNT, **_APPLY}, "ec_repair", _ec_rebuild
    ),
    "ec.balance": Command(
        {
            "collection": WORD,
            "dataCenter": WORD,
            "shardReplicaPlacement": WORD,
            "diskType": WORD,
            "volumeIds": IDS,
            "maxParallelization": COUNT,
            "ioBytePerSecond": COUNT,
            **_APPLY,
        },
        "ec_balance",
        _ec_balance,
    ),
    "fs.log.purge": Command({"daysAgo": COUNT, "v": SWITCH}, applies=True),
    "s3.clean.uploads": Command({"timeAgo": DURATION}, applies=True),
}
