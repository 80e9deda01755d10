"""Why maintenance may not work here: looks at all that a worker needs, changes nothing, names a fix for each find.

Ordinary blocking Python; knows nothing of how its finds are shown. A module for each thing looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from weed_cluster.address import Address
from weed_cluster.past import Past
from weed_cluster.security import Security
from weed_cluster.topology import Topology, snapshot
from weed_console.doctor.admin import Told, look_at_admin
from weed_console.doctor.directories import Left, look_at_directories
from weed_console.doctor.finding import Finding
from weed_console.doctor.masters import look_at_masters
from weed_console.doctor.missing import ask_master, who_is_missing
from weed_console.doctor.scrubs import look_at_scrubs
from weed_console.doctor.shards import look_at_shards
from weed_console.doctor.slots import look_at_slots
from weed_console.doctor.volume_servers import look_at_servers
from weed_console.doctor.volumes import look_at_volumes
from weed_core.errors import WeedError
from weed_safety.context import Context


def examine(
    ctx: Context,
    security: Security,
    admin: Address | None,
    directories: Sequence[Path],
    remember: Callable[[Topology, bool], Past],
    narrow: Callable[[Topology], Topology],
) -> list[Finding]:
    """Look at everything: TLS, admin, masters, volume servers, volumes, shards, and our own directories.

    `remember` takes the look at the whole cluster and tells what it was. Who is missing comes first. `narrow` leaves
    the volumes that are asked about.
    """
    cluster = ctx.cluster
    findings = [Finding("OK", "TLS", security.describe())]
    findings += [Finding("TLS_NONE", "TLS", warning) for warning in security.warnings]
    findings += look_at_directories(directories)
    told = Told()
    if admin is not None:
        said, told = look_at_admin(ctx, admin)
        findings += said
    masters, reachable = look_at_masters(cluster)
    findings += masters
    if not reachable:
        return findings
    try:
        topology = snapshot(cluster.master())
    except WeedError as error:
        fix = "start volume servers, or wait a minute and repeat"
        return [*findings, Finding("NO_SERVERS", "masters", str(error), fix)]
    past = remember(topology, True)
    servers, low = look_at_servers(cluster, topology)
    findings += servers
    asked = narrow(topology)
    findings += look_at_volumes(cluster, asked, Left.of(directories), low, told.jobs, past)
    findings += look_at_shards(cluster, asked)
    findings += look_at_scrubs(ctx, asked)
    findings += look_at_slots(cluster, topology)
    heard = past.heard(told.servers, f"admin {admin}", topology)
    return who_is_missing(past, heard, ask_master(cluster, topology), topology) + findings


def with_tls_problem(findings: Sequence[Finding], problem: str) -> list[Finding]:
    """What was found without TLS because it cannot be used as configured: that comes first, and explains the rest."""
    fix = "mend that file, or name another directory with -config_dir; until then no worker starts with it"
    return [Finding("TLS_BROKEN", "TLS", problem, fix), *(found for found in findings if found.where != "TLS")]
