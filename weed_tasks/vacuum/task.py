"""Reclaiming the space of deleted files on all replicas of a volume, as weed_safety.compaction does it."""

from __future__ import annotations

from dataclasses import replace

from weed_cluster.master import Master
from weed_cluster.topology import snapshot
from weed_core.errors import BadTask, StaleTask
from weed_core.model import Job, Result, Values
from weed_core.text import size_text
from weed_core.values import as_bool, as_float
from weed_safety import compaction
from weed_safety.context import Context
from weed_safety.journal import Entry
from weed_safety.lease import LEASE_PATIENCE, Lease, hold, known_master
from weed_safety.parameters import collection_of, server_named, servers_known, source_names, text_of, volume_id_of
from weed_safety.readiness import close_refusing
from weed_safety.untold import check_told
from weed_tasks.vacuum.plan import DESCRIPTOR, why_refused


def run(job: Job, ctx: Context) -> Result:
    """Vacuum one volume on all its replicas; raises TaskError saying which replicas were and which were not.

    Running it again goes on with the replicas that still have garbage.
    """
    volume_id = volume_id_of(job)
    wishes = _wishes(job)
    with hold(ctx, volume_id) as lease:
        return _vacuum(job, ctx, volume_id, wishes, lease)


def _vacuum(job: Job, ctx: Context, volume_id: int, wishes: tuple[float, bool, bool], lease: Lease | None) -> Result:
    threshold, force, verify = wishes
    ctx.progress(0.01, "looking at the cluster")
    if ctx.journal.open and not ctx.options.dry_run:
        compaction.clear_up(ctx)
    master = known_master(ctx)
    copies = _replicas(job, ctx, master, volume_id)
    check_told(ctx, volume_id, [copy.server for copy in copies])
    ctx.progress(0.05, "checking for garbage")
    for copy in copies:
        copy.ratio = ctx.volume(copy.server).vacuum_volume_check(volume_id=volume_id).garbage_ratio
    todo = [copy for copy in copies if force or copy.ratio >= threshold]
    ratios = ", ".join(f"{copy.ratio:.0%} on {copy.server}" for copy in copies)
    if not todo:
        return Result(
            f"volume {volume_id} needs no vacuum: {ratios} garbage, threshold {threshold:.0%}",
            {"volume_id": volume_id, "server": str(copies[0].server), "reclaimed_bytes": 0},
        )
    names = ", ".join(str(copy.server) for copy in todo)
    if ctx.options.dry_run:
        return Result(
            f"would vacuum volume {volume_id} on {names}: {ratios} garbage",
            {"volume_id": volume_id, "server": str(todo[0].server)},
        )
    compaction.compact(ctx, volume_id, copies, todo, master, lease)
    reclaimed = sum(max(0, copy.status.dat_file_size - copy.size_after) for copy in todo)
    ctx.progress(0.95, "proving the result")
    if verify:
        for copy in todo:
            compaction.verify(ctx, copy, volume_id)
    ctx.progress(1.0, "vacuumed")
    notes = "".join(f"; {note}" for copy in todo for note in copy.notes)
    return Result(
        f"volume {volume_id} vacuumed on {names}: {size_text(reclaimed)} reclaimed{notes}",
        {
            "volume_id": volume_id,
            "server": str(todo[0].server),
            "reclaimed_bytes": reclaimed,
            "replicas": [f"{copy.server}: {copy.status.dat_file_size} -> {copy.size_after} bytes" for copy in todo],
        },
    )


def recover(entry: Entry, ctx: Context) -> None:
    """Clear up after a killed vacuum: heal what a broken commit left unreadable, remove compaction files, lift fences.

    Every step is tried; then the first error is raised, and its steps stay open.
    """
    ctx = replace(ctx, journal=entry)
    with ctx.cluster.leash.shielded(), hold(ctx, max(entry.volume_ids, default=0), LEASE_PATIENCE):
        compaction.clear_up(ctx)


def _wishes(job: Job) -> tuple[float, bool, bool]:
    """Return threshold, force and verify."""
    params, plain = job.params.vacuum_params, job.parameters
    typed = job.params.HasField("vacuum_params")
    threshold = params.garbage_threshold if typed else as_float(plain.get("garbage_threshold"), 0.0)
    if threshold <= 0:
        threshold = Values(DESCRIPTOR, job.config).number("garbage_threshold")
    if threshold > 1:
        raise BadTask(f"garbage threshold {threshold} is not within 0 and 1")
    force = params.force_vacuum if typed else as_bool(plain.get("force_vacuum"), False)
    verify = params.verify_checksum if typed else as_bool(plain.get("verify_checksum"), True)
    return threshold, force, verify


def _replicas(job: Job, ctx: Context, master: Master | None, volume_id: int) -> list[compaction.Copy]:
    """Find every replica of the volume, afresh; raise StaleTask unless all can be vacuumed together."""
    collection = collection_of(job)
    named = source_names(job.params) or [text for text in [text_of(job, "server", "source_server")] if text]
    plan_of = f"volume {volume_id} cannot be vacuumed"
    if master is not None:
        topology = snapshot(master, volume_id)
        listed = topology.replicas(volume_id)
        if not listed:
            is_ec = topology.has_shards(volume_id)
            raise StaleTask(f"{plan_of}: " + ("it is erasure-coded now" if is_ec else "no server holds it any more"))
        close_refusing(ctx, topology, [replica.server for replica in listed])
        refusal, _key = why_refused(listed, topology)
        if refusal:
            raise StaleTask(refusal)
        servers = [replica.server for replica in listed]
        first = next(iter(servers_known(named, topology)), servers[0])
        servers.sort(key=lambda server: server != first)
        wanted = listed[0].placement.copies
    else:
        if not named:
            raise BadTask(f"{plan_of}: the job names no server, and no master is known; name one with -master")
        servers = list(dict.fromkeys(server_named(name, None) for name in named))
        wanted = 0
    copies = [compaction.look(ctx, server, volume_id, collection) for server in servers]
    wanted = wanted or compaction.placement(ctx, copies[0], volume_id).copies
    if len(copies) < wanted:
        where = ", ".join(map(str, servers))
        hint = "" if master else "; name a master with -master, so that the others are found"
        raise StaleTask(f"{plan_of}: it should have {wanted} copies, but is on {where} only{hint}")
    return copies
