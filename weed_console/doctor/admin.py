"""What is to be said of an admin server, and what it tells of the cluster."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from weed_cluster import admin as admin_http
from weed_cluster.address import Address
from weed_cluster.past import Server
from weed_console import admin_jobs, admin_memory
from weed_console.admin_jobs import AdminJob
from weed_console.doctor.buckets import NEEDS, buckets_with
from weed_console.doctor.finding import ASK, Finding
from weed_core.job_types import TASK_TYPES, named
from weed_core.text import first_of
from weed_safety.context import Context


@dataclass(frozen=True)
class Told:
    """What an admin tells of the cluster: jobs under way, and the volume servers that its records name."""

    jobs: list[AdminJob] = field(default_factory=list)
    servers: Mapping[Address, Server] = field(default_factory=dict)


def look_at_admin(ctx: Context, admin: Address) -> tuple[list[Finding], Told]:
    """What is to be said of an admin server; and what it tells."""
    where = f"admin {admin}"
    found = admin_http.probe(admin)
    if not found.dialect:
        code, _answer = admin_http.get(admin, "/health")
        if not code:
            fix = "start weed admin, open the port, or mend -admin"
            return [Finding("ADMIN_UNREACHABLE", where, f"nothing answers HTTP at {admin.http}", fix)], Told()
    try:
        with socket.create_connection((found.grpc.host.strip("[]"), found.grpc.grpc_port), ASK):
            pass
    except OSError as error:
        what = f"its gRPC port {found.grpc.grpc} cannot be reached: {error.strerror or error}"
        fix = "open that port between this host and admin, or name it: -admin=host:port.grpcPort"
        return [Finding("ADMIN_UNREACHABLE", where, what, fix)], Told()
    said = f"{found.dialect} dialect" if found.dialect else "it did not tell its dialect (a password?)"
    findings = [Finding("OK", where, f"gRPC at {found.grpc.grpc}, {said}")]
    page = "/api/plugin/workers" if found.dialect == "plugin" else "/api/maintenance/workers"
    code, workers = admin_http.get(admin, page)
    if code == 200 and not workers:
        findings.append(
            Finding("ADMIN_NO_WORKER", where, "no worker is connected to it", f"start one: weed_worker -admin={admin}")
        )
    elif code == 200:
        findings.append(Finding("OK", where, f"{len(workers)} workers connected"))
        findings += _undone(ctx, admin, where)
    if not found.dialect:
        return findings, Told()
    return findings, Told(list(admin_jobs.under_way(admin, found.dialect)), admin_memory.servers(admin, found.dialect))


COSTS = {
    "admin_script": "filer logs, dead uploads and empty volumes are kept for ever, as masters leave them to it",
    "s3_lifecycle": "objects that S3 lifecycle rules expire are kept",
    "iceberg_maintenance": "snapshots and small files of Iceberg tables pile up",
}
"""What it costs when a job type that this worker does not know is done by nobody."""


def _undone(ctx: Context, admin: Address, where: str) -> list[Finding]:
    """The job types that the admin schedules and that no connected worker does; older admins do not tell."""
    code, states = admin_http.get(admin, "/api/plugin/scheduler-states")
    undone = sorted(
        str(state.get("job_type"))
        for state in (states if code == 200 and isinstance(states, list) else [])
        if isinstance(state, dict) and state.get("enabled") and not state.get("executor_worker_count")
    )
    findings = []
    for name in undone:
        ours = named(name) in TASK_TYPES
        cost = COSTS.get(name, f"nothing of {name} is done")
        if name in NEEDS:
            attribute, thing = NEEDS[name]
            buckets = buckets_with(ctx, attribute)
            if buckets is not None and not buckets:
                findings.append(Finding("OK", where, f"nobody does {name}, and no bucket has {thing}"))
                continue
            has = f"{first_of(buckets, 5)} {'has' if len(buckets) == 1 else 'have'} {thing}" if buckets else ""
            cost = f"{cost}; {has or f'no filer tells whether a bucket has {thing}'}"
        fix = f"let one do it: weed_worker -admin={admin} -jobType={named(name)}"
        if not ours:
            fix = f"let SeaweedFS's worker do it beside this one: weed worker -admin={admin} -jobType={name}"
        what = f"it schedules {name}, and no connected worker does it: {cost}"
        findings.append(Finding("JOB_TYPES_UNDONE", where, what, fix))
    return findings
