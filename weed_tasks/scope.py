"""Which volumes a look for work is about: what the admin's form narrows it to, and what no job may touch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from weed_cluster.topology import Node, Replica, Topology, collection_filter, wildcard_filter
from weed_core.model import Values

FULL_FROM = 1.01
"""Size by the volume size limit from which on a volume counts as full."""


def scope_of(values: Values, topology: Topology) -> Callable[[Replica], bool]:
    """Return what tells whether a replica is in an operator's scope: collection, state, data center, rack, node."""
    collection = collection_filter(values.text("collection_filter"))
    node = node_scope(values)
    state = values.text("volume_state")

    def in_scope(replica: Replica) -> bool:
        fullness = replica.size / topology.volume_size_limit if topology.volume_size_limit else 0.0
        if (state == "ACTIVE" and fullness >= FULL_FROM) or (state == "FULL" and fullness < FULL_FROM):
            return False
        return collection(replica.collection) and node(replica.node)

    return in_scope


def node_scope(values: Values) -> Callable[[Node], bool]:
    """Return what tells whether a node is in an operator's scope."""
    data_center, rack, node = (
        wildcard_filter(values.text(name)) for name in ("data_center_filter", "rack_filter", "node_filter")
    )
    return lambda candidate: data_center(candidate.data_center) and rack(candidate.rack) and node(candidate.id)


def unfit(replicas: Sequence[Replica], topology: Topology) -> str:
    """Say why a volume must be left alone, in words that follow its name; "" where it need not."""
    first = replicas[0]
    if ambiguity := topology.ambiguity(first.volume_id):
        return ambiguity
    if topology.has_shards(first.volume_id):
        return "has erasure-coded shards as well; clear that up first"
    for what, values in (
        ("placements", {str(replica.placement) for replica in replicas}),
        ("times to live", {repr(replica.ttl) for replica in replicas}),
    ):
        if len(values) > 1:
            return f"has replicas of different {what}: {', '.join(sorted(values))}"
    servers = [replica.server for replica in replicas]
    for server in servers:
        if servers.count(server) > 1:
            return f"lies twice on {server}, on two disks; remove one by hand, since the server deletes both at once"
    remote = {replica.remote_name for replica in replicas}
    if len(remote) > 1:
        return f"has its data in remote storage on some servers only: {', '.join(sorted(remote - {''}))}"
    if words := topology.barred.get(first.volume_id, ""):
        return words
    refuses = next((replica.node.refuses for replica in replicas if replica.node.refuses), "")
    return f"cannot be held still: {refuses}" if refuses else ""
