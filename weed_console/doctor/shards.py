"""Erasure-coded volumes: shards that are lost, left over or of two encodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from weed_cluster.client import Cluster
from weed_cluster.topology import EcHolding, Topology
from weed_console.doctor.copies import with_remedy
from weed_console.doctor.finding import Finding
from weed_console.remedies import JUDGED, Remedy
from weed_console.remedies import find as remedy_of
from weed_core.values import Value
from weed_storage.ec_layout import DATA_SHARDS, TOTAL_SHARDS

REPAIR_NOW: dict[str, Value] = {"min_fault_age_seconds": 0}
"""Settings with which ec_repair takes up a fault that was seen only now."""

ENCODE_NOW: dict[str, Value] = {"min_size_mb": 1, "fullness_ratio": 0, "quiet_for_seconds": 0}
"""Settings with which erasure coding takes up an encode that did not end, of a volume that it would not choose."""


def look_at_shards(cluster: Cluster, topology: Topology) -> list[Finding]:
    """What is wrong with the erasure-coded volumes of a topology."""
    findings = []

    judged: dict[int, Remedy] = {}

    def repair(number: int) -> Remedy:
        if len(judged) >= JUDGED:
            return Remedy(f"weed_worker run ec_repair -volumeId={number}", is_plain=True)
        judged[number] = remedy_of(cluster, "ec_repair", number, {}, REPAIR_NOW)
        return judged[number]

    for (volume_id, collection), holdings in sorted(topology.ec.items()):
        where = f"EC volume {volume_id}" + (f" ({collection})" if collection else "")
        if volume_id in topology.volumes:
            findings.append(_orphans(cluster, where, volume_id, holdings))
        else:
            findings += ec_volume(where, holdings, repair)
    if topology.ec and not findings:
        findings.append(Finding("OK", "EC volumes", f"{len(topology.ec)}, all with {TOTAL_SHARDS} shards"))
    return findings


def _runs(holdings: Iterable[EcHolding]) -> tuple[int, int, str]:
    """How many encode runs shards come from, how many shards the fullest has, and where they are."""
    runs: dict[int, set[int]] = defaultdict(set)
    servers = set()
    for holding in holdings:
        runs[holding.encode_ts_ns].update(holding.shard_ids)
        servers.add(str(holding.node))
    on = f"on {', '.join(sorted(servers)[:3])}" + (" and others" if len(servers) > 3 else "")
    return len(runs), max(map(len, runs.values())), on


def _orphans(cluster: Cluster, where: str, volume_id: int, holdings: Iterable[EcHolding]) -> Finding:
    _count, most, on = _runs(holdings)
    what = f"orphan shards ({most} of {TOTAL_SHARDS}) {on} beside the volume itself: an encode did not end"
    remedy = remedy_of(cluster, "erasure_coding", volume_id, {}, ENCODE_NOW)
    if remedy.command:
        fix = f"{remedy.command}; it clears them away or completes them"
        return Finding("EC_LEFT_OVER", where, what, fix, (volume_id,))
    return with_remedy("EC_LEFT_OVER", where, what, "erasure_coding", volume_id, remedy)


def _older(holdings: Iterable[EcHolding]) -> str:
    """Say where the shards of all encode runs but the newest lie."""
    found = list(holdings)
    newest = max(holding.encode_ts_ns for holding in found)
    stale = [
        f"{', '.join(map(str, holding.shard_ids))} on {holding.node}"
        for holding in found
        if holding.encode_ts_ns != newest
    ]
    return f"shards of older runs are {'; '.join(stale)}"


def ec_volume(where: str, holdings: Sequence[EcHolding], repair: Callable[[int], Remedy]) -> list[Finding]:
    """What is wrong with one erasure-coded volume; `repair` tells what mends it."""
    count, most, on = _runs(holdings)
    volume_id = holdings[0].volume_id
    findings = []
    if count > 1:
        what = f"shards of {count} different encode runs {on}; they do not fit together"
        fix = f"{_older(holdings)}; where the newer run is whole, remove these files on their servers"
        findings.append(Finding("EC_TWO_RUNS", where, what, fix, (volume_id,)))
    if most < DATA_SHARDS:
        what = f"only {most} of {TOTAL_SHARDS} shards {on}: it cannot be read"
        fix = "start the servers that hold the other shards"
        findings.append(Finding("EC_UNREADABLE", where, what, fix, (volume_id,)))
    elif most < TOTAL_SHARDS:
        missing = sorted(set(range(TOTAL_SHARDS)) - {shard for held in holdings for shard in held.shard_ids})
        what = f"{most} of {TOTAL_SHARDS} shards {on}, missing {' '.join(map(str, missing))}"
        code = "EC_ONE_FROM_LOSS" if most == DATA_SHARDS else "EC_DEGRADED"
        found = with_remedy(code, where, what, "ec_repair", volume_id, repair(volume_id))
        start = "start the servers that hold the others; where they are lost: " if found.fix.startswith("weed_") else ""
        findings.append(replace(found, fix=start + found.fix))
    return findings
