"""Volumes with too few or too many copies, copies that do not fit together, and the job that mends them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from weed_cluster.client import Cluster
from weed_cluster.replica_placement import plain_type
from weed_cluster.topology import Topology
from weed_console.doctor.finding import Finding, several, some
from weed_console.remedies import JUDGED, Remedy
from weed_console.remedies import find as remedy_of
from weed_core.values import Value

WORDS = {"ONE_COPY_LEFT": "one copy left", "TOO_FEW_COPIES": "too few copies", "TOO_MANY_COPIES": "too many copies"}


def copies(cluster: Cluster, code: str, volume_ids: Sequence[int]) -> list[Finding]:
    """Volumes with too few or too many copies, with what mends them: nothing is named that its job would not do."""
    tries: list[dict[str, Value]] = [{}, {"delete_surplus": True}] if code == "TOO_MANY_COPIES" else [{}]
    remedies = {number: remedy_of(cluster, "replication", number, *tries) for number in volume_ids[:JUDGED]}
    alike = [number for number in volume_ids if number not in remedies or remedies[number].is_plain]
    what, mend = WORDS[code], "weed_worker run replication"
    findings = [Finding(code, some(alike), what, mend, tuple(alike))] if alike else []
    for number, remedy in remedies.items():
        if number not in alike:
            findings.append(with_remedy(code, f"volume {number}", what, "replication", number, remedy))
    return findings


def with_remedy(code: str, where: str, what: str, job: str, volume_id: int, remedy: Remedy) -> Finding:
    """The finding with the command that mends it, or with what its job says against it."""
    if remedy.command:
        return Finding(code, where, what, remedy.command, (volume_id,))
    why = f"{what}; {job} leaves it: {remedy.why_not}"
    return Finding(code, where, why, "mend that first, then repeat doctor", (volume_id,))


def ambiguous(topology: Topology) -> list[Finding]:
    """Volume ids that two collections use, and volumes whose copies lie on different types of disk."""
    findings = []
    users: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for volume_id, replicas in topology.volumes.items():
        for replica in replicas:
            users[volume_id][replica.collection].add(str(replica.server))
    for (volume_id, collection), holdings in topology.ec.items():
        users[volume_id][collection].update(str(holding.server) for holding in holdings)
    for volume_id, collections in sorted(users.items()):
        if len(collections) > 1:
            used = "; ".join(f"{name or '_default'} on {several(at)}" for name, at in sorted(collections.items()))
            what = f"two collections use this id ({used}): no job touches it, and a file is read from either"
            fix = "find out which one clients mean; copy the other's files to new ids before one is deleted"
            findings.append(Finding("TWO_COLLECTIONS", f"volume {volume_id}", what, fix, (volume_id,)))
    for volume_id, replicas in sorted(topology.volumes.items()):
        kinds: dict[str, set[str]] = defaultdict(set)
        for replica in replicas:
            kinds[plain_type(replica.disk_type)].add(str(replica.server))
        if len(kinds) > 1:
            on = ", ".join(f"{kind} on {several(at)}" for kind, at in sorted(kinds.items()))
            findings.append(
                Finding(
                    "DISK_TYPES_DIFFER",
                    f"volume {volume_id}",
                    f"its copies are on different types of disk: {on}",
                    f"weed shell: volume.move -volumeId={volume_id} -disk=<type> with -source and -target",
                    (volume_id,),
                )
            )
    return findings
