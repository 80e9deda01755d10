"""Filters that match nothing: told with the names that there are, since "nothing to do" would read as "all is clean".

Pure: works on a topology, asks no server.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType

from weed_cluster.past import ranges
from weed_cluster.replica_placement import plain_type
from weed_cluster.topology import (
    DEFAULT_COLLECTION,
    EVERY_COLLECTION,
    EcHolding,
    Node,
    Replica,
    Topology,
    collection_filter,
    either_filter,
    names_filter,
    wildcard_filter,
)
from weed_core.guess import meant
from weed_core.job_types import BY_NAME
from weed_core.model import Detection, DetectionRequest
from weed_core.text import first_of
from weed_core.values import Value, as_str
from weed_safety.context import Context
from weed_tasks.repair_first import yielding
from weed_tasks.scope import FULL_FROM

PLACES: Mapping[str, tuple[str, Callable[[Node], str]]] = {
    "data_center_filter": ("data center", lambda node: node.data_center),
    "rack_filter": ("rack", lambda node: node.rack),
    "node_filter": ("node", lambda node: node.id),
}

MOST_NAMES = 20
"""Names that are listed."""


def unmatched(job_type: str, config: Mapping[str, Value], topology: Topology) -> list[str]:
    """Say which filters of a job's settings match nothing that there is, or nothing together; one sentence each."""
    said = []
    text = as_str(config.get("collection_filter"), "").strip()
    by_collection = (either_filter if BY_NAME[job_type].names_collections else collection_filter)(text)
    there = collections_of(topology)
    if text not in EVERY_COLLECTION and not any(map(by_collection, there)):
        said.append(nothing("collection", text, there))
    nodes = list(topology.nodes.values())
    filters = {name: as_str(config.get(name), "") for name in PLACES}
    for name, text in filters.items():
        kind, name_of = PLACES[name]
        said += missing(kind, text.split(","), {name_of(node) for node in nodes})
    disk_type = as_str(config.get("disk_type"), "")
    said += missing(
        "disk type", [plain_type(disk_type)] if disk_type else [], {plain_type(t) for n in nodes for t in n.disks}
    )
    given = [name for name in ("collection_filter", *PLACES) if as_str(config.get(name), "")]
    if not said and len(given) > 1 and not _is_any_in(topology, by_collection, filters):
        said.append(f"no volume is in what {' and '.join(given)} ask for together")
    return said


def look(task: ModuleType, request: DetectionRequest, ctx: Context) -> Detection:
    """What a task finds, where its summary says which filters match nothing; less of it where repairs go first.

    Whoever looks once and names the job decides that for himself.
    """
    found = told(task.detect(request, ctx), task.DESCRIPTOR.name, request.config, ctx.seen)
    return found if request.is_single else yielding(found, task.DESCRIPTOR.name, ctx.seen)


def told(found: Detection, job_type: str, config: Mapping[str, Value], topology: Topology | None) -> Detection:
    """What was found, where its summary says which filters match nothing."""
    said = unmatched(job_type, config, topology) if topology else []
    state = unmatched_state(config, topology) if topology else ""
    return replace(found, summary="; ".join(filter(None, [*said, state, found.summary]))) if said or state else found


def unmatched_state(config: Mapping[str, Value], topology: Topology) -> str:
    """Say that no volume is in the state that is asked for; "" where some are."""
    state, limit = as_str(config.get("volume_state"), "ALL").upper(), topology.volume_size_limit
    if state not in ("ACTIVE", "FULL") or not limit:
        return ""
    sizes = (replica.size for replicas in topology.volumes.values() for replica in replicas)
    if any((size >= FULL_FROM * limit) == (state == "FULL") for size in sizes):
        return ""
    return f"volume_state {state} matches none of {len(topology.volumes)} volumes"


def unknown(ids: Iterable[int], collections: Sequence[str], topology: Topology) -> list[str]:
    """Say which volumes and collections (names with * and ?) there are not, and which volume is in none of these."""
    there = {volume_id: replicas[0].collection for volume_id, replicas in topology.volumes.items()}
    there = {**dict(topology.ec.keys()), **there}
    said = missing("collection", collections, collections_of(topology))
    is_wanted = names_filter(",".join(collections))
    for volume_id in sorted(ids):
        if volume_id not in there:
            known = ranges(there).split(",")
            said.append(f"no volume {volume_id}; there are {first_of(known, MOST_NAMES) or 'none'}")
        elif not is_wanted(there[volume_id]):
            said.append(f"volume {volume_id} is of collection {_shown(there[volume_id])}")
    return said


def collections_of(topology: Topology) -> set[str]:
    """The collections that there are; "" is the unnamed one."""
    return {replicas[0].collection for replicas in topology.volumes.values()} | {name for _id, name in topology.ec}


def missing(kind: str, words: Iterable[str], there: Collection[str]) -> list[str]:
    """Say which of the words, names with * and ?, match none of the names."""
    return [
        nothing(kind, word.strip(), there) for word in words if word.strip() and not any(map(names_filter(word), there))
    ]


def nothing(what: str, word: str, there: Collection[str]) -> str:
    """One sentence: what is not there, what is, and what may have been meant."""
    names = sorted(map(_shown, there))
    listed = f"there {'is' if len(names) < 2 else 'are'} {first_of(names, MOST_NAMES) or 'none'}"
    close = meant(word, names, 0.6)  # such names are short: dc1, dc2
    return f"no {what} {word!r}; {listed}" + (f". Did you mean {close}?" if close else "")


def _shown(name: str) -> str:
    return name or DEFAULT_COLLECTION


def _is_any_in(topology: Topology, by_collection: Callable[[str], bool], filters: Mapping[str, str]) -> bool:
    places = [(PLACES[name][1], wildcard_filter(text)) for name, text in filters.items()]
    holders: list[Replica | EcHolding] = [each for several in topology.volumes.values() for each in several]
    holders += [each for several in topology.ec.values() for each in several]
    return any(
        by_collection(holder.collection) and all(is_in(name_of(holder.node)) for name_of, is_in in places)
        for holder in holders
    )
