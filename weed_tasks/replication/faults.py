"""Judging a volume's replicas against its placement: which may stay, how many are missing, and where they may go.

Pure: works on a topology, asks no server.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from weed_cluster.address import Address
from weed_cluster.placement import Reserved, is_misplaced, no_room, pick_target, why_not
from weed_cluster.replica_placement import ReplicaPlacement
from weed_cluster.topology import Node, Replica, Topology
from weed_core.errors import BadTask

UNDER, OVER, MISPLACED, DIVERGED, BAD = "under-replicated", "over-replicated", "misplaced", "diverged", "bad"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a volume's replicas.

    `keep` may stay as they are, `surplus` are the others, `missing` is how many well-placed copies there are too few.
    """

    kind: str
    why: str
    keep: tuple[Replica, ...]
    surplus: tuple[Replica, ...] = ()
    missing: int = 0


def examine(replicas: Sequence[Replica], placement: ReplicaPlacement) -> Fault | None:
    """Compare where a volume's replicas are with where they should be; None if all is well."""
    nodes = [replica.node for replica in replicas]
    copies = placement.copies
    if len(nodes) == copies and not is_misplaced(placement, nodes):
        return None
    keep = _well_placed(replicas, placement)
    surplus = tuple(replica for replica in replicas if replica not in keep)
    missing = copies - len(keep)
    if len(nodes) < copies:
        return Fault(UNDER, f"has {len(nodes)} of {copies} copies", keep, surplus, missing)
    if missing:
        reason = why_not(placement, [replica.node for replica in keep], surplus[0].node)
        return Fault(MISPLACED, f"has a misplaced copy on {surplus[0].node}: {reason}", keep, surplus, missing)
    return Fault(OVER, f"has {len(nodes)} copies where placement {placement} asks for {copies}", keep, surplus)


def spoiled(replicas: Sequence[Replica], placement: ReplicaPlacement, why: Mapping[Address, str]) -> Fault | None:
    """The fault of a volume of which some replicas were found bad, and why each; None where none of them is there.

    What is sound and well placed stays; where nothing is sound, `keep` is empty.
    """
    bad = tuple(replica for replica in replicas if replica.server in why)
    if not bad:
        return None
    keep = _well_placed([replica for replica in replicas if replica not in bad], placement)
    words = "; ".join(f"a bad replica on {replica.server}: {why[replica.server]}" for replica in bad)
    return Fault(BAD, f"has {words}", keep, bad, placement.copies - len(keep) if keep else 0)


def _well_placed(replicas: Sequence[Replica], placement: ReplicaPlacement) -> tuple[Replica, ...]:
    """Choose the most replicas that may stand together: on the most machines, the best of them among equals."""
    ranked = sorted(replicas, key=_worth)
    for count in range(min(len(ranked), placement.copies), 0, -1):
        sets = (
            chosen
            for chosen in combinations(ranked, count)
            if not is_misplaced(placement, [replica.node for replica in chosen])
        )
        best = max(sets, key=lambda chosen: len({replica.node.host for replica in chosen}), default=())
        if best:
            return best
    return ()


def _worth(replica: Replica) -> tuple[bool, int, int, str]:
    """Sorts the replica first that is to stay: writable, with the most files, the largest."""
    return replica.read_only, replica.delete_count - replica.file_count, -replica.size, str(replica.server)


def wanted_placement(placement: ReplicaPlacement, replica_count: int) -> ReplicaPlacement:
    """Return the placement for so many copies: 0 for what the volume asks for, more for further ones in the rack.

    Raises BadTask for fewer copies than the volume asks for.
    """
    if replica_count in (0, placement.copies):
        return placement
    if replica_count < placement.copies:
        raise BadTask(
            f"{replica_count} copies are wanted, but placement {placement} asks for {placement.copies}; change the "
            "placement first"
        )
    return replace(placement, same_rack=placement.same_rack + replica_count - placement.copies)


def choose_targets(
    topology: Topology,
    fault: Fault,
    placement: ReplicaPlacement,
    count: int,
    replicas: Sequence[Replica],
    reserved: Reserved,
) -> list[Node]:
    """Choose nodes for so many more copies, on machines without one where it can be; fewer where there are no more."""
    size = max(replica.size for replica in replicas)
    now = [replica.node for replica in replicas]
    chosen: list[Node] = []
    for _copy in range(count):
        holders = [*(replica.node for replica in fault.keep), *chosen]
        node = pick_target(topology, placement, holders, replicas[0].disk_type, size, now, reserved, sources=now)
        if node is None:
            break
        reserved.add(node, replicas[0].disk_type, size)
        chosen.append(node)
    return chosen


def additions(fault: Fault, replicas: Sequence[Replica], placement: ReplicaPlacement, delete_surplus: bool) -> int:
    """How many copies to add: where nothing may be deleted, no more than make up the number."""
    if delete_surplus or not fault.surplus or fault.kind == BAD:
        return fault.missing
    return max(0, placement.copies - len(replicas))


def same_host(holders: Iterable[Node], targets: Iterable[Node]) -> str:
    """Say which targets would share a machine with another copy; "" where none would."""
    new = list(targets)
    on = Counter(node.host for node in (*holders, *new))
    hosts = sorted({node.host for node in new if on[node.host] > 1})
    return f"on the same host as another copy: {', '.join(hosts)}" if hosts else ""


def why_no_target(topology: Topology, replicas: Sequence[Replica]) -> str:
    """Say in a few words why no node will do: what keeps those without a copy from taking one."""
    replica, held = replicas[0], {replica.server for replica in replicas}
    nodes = sorted(topology.nodes.values(), key=lambda node: node.id)  # a master lists them in any order
    others = [node for node in nodes if node.address not in held]
    if not others:
        return "there is no other server"
    full = [
        reason
        for node in others
        if (reason := no_room(node, replica.disk_type, replica.size) or topology.unlike(replica.node, node))
    ]
    if len(full) == len(others):
        return "; ".join(full[:3])
    return f"placement {replica.placement} allows none of the servers that have room"


def nowhere(topology: Topology, replicas: Sequence[Replica], fault: Fault) -> str:
    """Say, in words that follow its name, that no server may take a volume's missing copy."""
    return f"{fault.why}, and no server may take another one: {why_no_target(topology, replicas)}"


def why_shared(replica: Replica, fault: Fault) -> str:
    """Say, in words that follow its name, why a volume in remote storage gets no further copy on older servers."""
    return (
        f"{fault.why}, and its data is in {replica.remote_name}, which servers of its release delete with any of the "
        "copies"
    )


class FirstSeen:
    """Remembers since when each fault has been seen, from detection to detection.

    In memory only: a worker that was restarted waits anew, which does no harm.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[tuple[int, str], float] = {}

    def age(self, volume_id: int, kind: str) -> float:
        """Seconds since a fault was first seen; the first time is now where it was not seen before."""
        now = self._clock()
        return now - self._since.setdefault((volume_id, kind), now)

    def forget_others(self, looked_at: Collection[int], seen: Collection[tuple[int, str]]) -> None:
        """Forget the faults that volumes just looked at no longer have."""
        self._since = {key: at for key, at in self._since.items() if key[0] not in looked_at or key in seen}
