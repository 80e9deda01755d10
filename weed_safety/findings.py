"""Handing on what was found wrong, from whoever finds to whoever mends, whichever workers they are.

Kept in this worker's own directory and, where the cluster has a filer, with that: so another worker, too, mends what
this one has found. A filer that does not answer costs nothing but that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from weed_cluster.address import Address
from weed_cluster.topology import Topology
from weed_core.errors import ServerFailed
from weed_core.findings import EC_DELETIONS, EC_INDEX, REPLICA, Finding
from weed_safety import records
from weed_safety.context import Context

DIRECTORY = f"{records.ROOT}/findings"
"""Where filers show them, one file each."""

SUFFIX = ".json"


def note(ctx: Context, finding: Finding) -> None:
    """Hand a finding on; one that is known keeps the time at which it was found first."""
    known = ctx.findings.get(finding.key)
    earlier = Finding.read(known) if known is not None else None
    if earlier is not None:
        finding = replace(finding, found=min(earlier.found, finding.found))
    ctx.findings.put(finding.key, finding.document())
    try:
        records.put(ctx, DIRECTORY, finding.key + SUFFIX, finding.document())
    except ServerFailed as error:
        ctx.log(f"what was found wrong with volume {finding.volume_id} is known to this worker alone: {error}")


def read_all(ctx: Context) -> list[Finding]:
    """Everything that was found and is not settled, by any worker, the oldest first."""
    found = {one.key: one for one in _local(ctx)}
    try:
        shared = records.read_all(ctx, DIRECTORY)
    except ServerFailed as error:
        ctx.log(f"what other workers found wrong is not known now: {error}")
        shared = {}
    for name, content in shared.items():
        one = Finding.read(content)
        if one is not None and name == one.key + SUFFIX and (one.key not in found or one.found < found[one.key].found):
            found[one.key] = one
    return sorted(found.values(), key=lambda one: (one.found, one.key))


def settle(ctx: Context, finding: Finding) -> None:
    """Forget a finding: what it was about is proved sound, or is gone."""
    ctx.findings.remove(finding.key)
    try:
        records.remove(ctx, DIRECTORY, finding.key + SUFFIX)
    except ServerFailed as error:
        ctx.log(f"a filer still tells what was wrong with volume {finding.volume_id}: {error}")


def settle_gone(ctx: Context, topology: Topology, found: Iterable[Finding]) -> None:
    """Forget what was wrong with replicas and shards that are not there any more, though their servers are."""
    for finding in found:
        if _is_gone(topology, finding):
            settle(ctx, finding)


def _is_gone(topology: Topology, finding: Finding) -> bool:
    volume_id, key = finding.volume_id, (finding.volume_id, finding.collection)
    if finding.kind == EC_DELETIONS:
        return key not in topology.ec
    node = topology.node_at(Address.parse(finding.server))
    if node is None:
        return False  # it may come back with what it had
    if finding.kind == REPLICA:
        return all(replica.node != node for replica in topology.replicas(volume_id))
    shards = {shard for one in topology.ec.get(key, ()) if one.node == node for shard in one.shard_ids}
    return not shards if finding.kind == EC_INDEX else finding.shard_id not in shards


def _local(ctx: Context) -> list[Finding]:
    return [one for one in map(Finding.read, ctx.findings.all().values()) if one is not None]
