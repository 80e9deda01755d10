"""What scrubs found and nobody has mended, and how much of the cluster is verified."""

from __future__ import annotations

import time

from weed_cluster.topology import Topology
from weed_console.doctor.finding import Finding
from weed_core import findings as core
from weed_safety import findings
from weed_safety.context import Context
from weed_tasks.scrub.book import Book
from weed_tasks.scrub.survey import DAY, survey

DAYS = 30
"""The interval by which it is told how much is verified."""

WELL = 0.9
"""Share verified within it from which on nothing is to be done."""

MOST = 20
"""Faults that are told one by one."""


def look_at_scrubs(ctx: Context, topology: Topology) -> list[Finding]:
    """Faults that are open, and the coverage of scrubs, as this directory and the cluster's filer have them."""
    told = [one for one in findings.read_all(ctx) if _is_asked(topology, one)]
    found = [_fault(topology, one) for one in told[:MOST]]
    if len(told) > MOST:
        found.append(Finding("SCRUB_FAULT", "scrub", f"{len(told) - MOST} more faults are open"))
    now = time.time()
    seen = survey(topology, Book(ctx).ledger, DAYS * DAY, now, lambda _collection: True).coverage(DAYS, now)
    if not seen.total:
        return found
    code, fix = (
        ("OK", "") if seen.share >= WELL else ("SCRUB_BEHIND", "weed_worker run scrub, or enable scrub at the admin")
    )
    return [*found, Finding(code, "scrub", seen.words, fix)]


def _is_asked(topology: Topology, one: core.Finding) -> bool:
    return bool(topology.replicas(one.volume_id)) or (one.volume_id, one.collection) in topology.ec


def _fault(topology: Topology, one: core.Finding) -> Finding:
    where = f"volume {one.volume_id}" + (f" ({one.collection})" if one.collection else "")
    shard = f"shard {one.shard_id} on " if one.shard_id >= 0 else ""
    at = f"{shard}{one.server}: " if one.server else ""
    hours = max(0.0, time.time() - one.found) / 3600
    what = f"{at}{one.words} (found by a scrub {hours:.0f} h ago)"
    if one.kind != core.REPLICA:
        mend = f"weed_worker run ec_repair -volumeId={one.volume_id}"
        return Finding("SCRUB_FAULT", where, what, mend, (one.volume_id,))
    if len(topology.replicas(one.volume_id)) > 1:
        mend = f"weed_worker run replication -volumeId={one.volume_id}"
        return Finding("SCRUB_FAULT", where, what, mend, (one.volume_id,))
    fix = "it is the only copy: write these files anew from elsewhere, or delete them and vacuum the volume"
    return Finding("ONLY_COPY_BAD", where, what, fix, (one.volume_id,))
