"""Who is missing, and what with it: by our own looks, by an admin's records, by what masters have not forgotten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from weed_cluster import http
from weed_cluster.client import Cluster
from weed_cluster.past import Loss, Past, ranges
from weed_cluster.topology import Topology
from weed_console.doctor.finding import ASK, Finding, several
from weed_core.errors import HttpFailed, WeedError
from weed_core.text import first_of
from weed_core.values import as_int

MOST_IDS = 1_000_000
"""Volume ids up to which gaps are looked for."""


@dataclass(frozen=True)
class MasterMemory:
    """What the leading master still knows of servers that it has forgotten, since it began to lead.

    The highest volume id ever given (its raft log has it), racks in which no server is left, and collections of which
    no volume is left: whose volumes were deleted, a master forgets; whose volumes went with a server that died, it does
    not. (A server that is told to stop says that it holds nothing any more, which looks as if all was deleted.)
    Seen on 3.97, 4.13 and 4.44. A master's lookups, node lists and statistics tell nothing of them.
    """

    highest_id: int = 0
    racks: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()


def ask_master(cluster: Cluster, topology: Topology) -> MasterMemory:
    """Ask the leading master what it remembers; nothing of what it does not tell."""
    master = cluster.master()
    try:
        listed = master.collection_list(include_normal_volumes=True, timeout=ASK)
        names = {collection.name for collection in listed.collections}
    except WeedError:
        names = set()
    present = {replicas[0].collection for replicas in topology.volumes.values()}
    present |= {collection for _volume_id, collection in topology.ec}
    try:
        told = json.loads(http.get(master.address, "/cluster/status", seconds=ASK).body)
        highest = as_int(told.get("MaxVolumeId"), 0, 0)
    except (HttpFailed, ValueError, AttributeError):
        highest = 0
    # The collection without a name is known to a master as soon as anybody asks for a place to write.
    lost = sorted(names - present - {""})
    return MasterMemory(highest, tuple(topology.empty_racks), tuple(lost))


def who_is_missing(past: Past, heard: Sequence[Loss], memory: MasterMemory, topology: Topology) -> list[Finding]:
    """The servers that were here and are not, worst first; where none is known, what hints at one."""
    findings = [_of_loss(loss) for loss in (*past.lost, *heard)]
    if not findings:
        findings += _hints(memory)
    known = {*topology.volumes, *(volume_id for volume_id, _collection in topology.ec)}
    highest = max(memory.highest_id, *known, 0) if known else memory.highest_id
    gaps = set(range(1, highest + 1)) - known if highest < MOST_IDS else set()
    if past.is_first and gaps:
        shown = ranges(gaps).split(",")
        what = f"ids that no server has: {first_of(shown, 10)}: deleted, or lost before this first look"
        findings.append(Finding("IDS_NOWHERE", "volumes", what))
    return findings


def _of_loss(loss: Loss) -> Finding:
    code = "SERVER_GONE" if loss.gone else "SERVER_MISSED" if loss.fewer else "SERVER_AWAY"
    forget = f"weed_worker doctor -forget={loss.server}" + (f" -{loss.by.replace(' ', '=')}" if loss.by else "")
    fix = f"start it; only if it is lost for good: weed_worker run replication, then {forget}"
    if code == "SERVER_AWAY":
        fix = f"if it will not come back: {forget}"
    return Finding(code, f"volume server {loss.server}", loss.text(), fix)


def _hints(memory: MasterMemory) -> list[Finding]:
    """What a master still knows of servers that are gone, when nobody else knows which they were."""
    if not memory.collections:
        what = f"no server is left in {several(memory.racks)}, where the master saw some since it began to lead"
        return [Finding("RACK_EMPTY", "masters", what)] if memory.racks else []
    names = several(memory.collections)
    what = f"the master knows {names}, and no volume of it is there: they went with a server, or none was ever written"
    if memory.racks:
        what = f"no server is left in {several(memory.racks)}, and no volume of {names}: they went together, it seems"
    fix = "start the servers that are missing; if there are none, weed shell: collection.delete of what is not needed"
    return [Finding("SERVERS_SEEM_GONE" if memory.racks else "COLLECTION_GONE", "masters", what, fix)]
