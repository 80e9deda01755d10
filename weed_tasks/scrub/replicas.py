"""Reading a regular volume through on all its servers, and comparing what they read.

A quiet volume is read by its servers at once (ScrubVolume FULL); one that is written to, or where a rate is to be kept
or a server knows no scrub, needle by needle, which keeps nobody waiting. Whatever a server complains of is looked for
needle by needle, so that the files that are hit are known by name, and false alarms of older releases are told apart.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from weed_cluster.address import Address
from weed_cluster.topology import Replica
from weed_core.errors import Mismatch, ServerFailed, TaskError
from weed_core.findings import REPLICA, Finding
from weed_core.release import Generation
from weed_core.scrub_ledger import BAD, CLEAN, DIFFERS, METHODS, UNCLEAR, Mark, Unfinished, server_tag
from weed_core.scrub_ledger import REPLICA as THE_REPLICA
from weed_core.text import first_of
from weed_safety import late_writes, reading
from weed_safety.context import Context
from weed_safety.look import file_status, generation_of
from weed_tasks.scrub.told import MOST_NAMED, Pace, Told

MOST_AT_ONCE = 30 << 30
"""Bytes of a volume that a server may be asked to read in one go, which cannot be broken off."""

COMPLAINT = "complaint of "


def scrub_replicas(ctx: Context, replicas: Sequence[Replica], pace: Pace, before: Unfinished | None) -> Told:
    """Read all replicas of a volume through, or go on where a slice ended; TaskError where none can be asked."""
    volume_id, told = replicas[0].volume_id, Told()
    servers = _answering(ctx, replicas, told)
    if before is not None and not {*before.proved} <= {*map(str, servers)}:
        before = None  # other servers now
    state = before or Unfinished(volume_id, began=time.time())
    if before is None:
        state.proved, complaints = _by_servers(ctx, replicas, servers, pace)
        state.bad = tuple((COMPLAINT + str(server), words) for server, words in complaints.items())
    proved = [server for server in servers if str(server) in state.proved]
    if len(servers) > 1 or len(proved) < len(servers):
        walk = reading.read_through(
            ctx,
            volume_id,
            servers,
            proved,
            state.position,
            pace.spend,
            pace.until,
            expires=any(replica.ttl for replica in replicas),
        )
        state.differ += len(walk.differ)
        for server, needles in walk.bad.items():
            names = reading.file_ids(ctx, server, volume_id, needles, MOST_NAMED)
            reasons = list(needles.values())
            words = [f"{name} ({why})" for name, why in zip(names, reasons)] + reasons[len(names) :]
            state.bad += tuple((str(server), one) for one in words)
        if walk.differ:
            found = reading.file_ids(ctx, servers[0], volume_id, walk.differ, MOST_NAMED)
            told.words.append(
                f"volume {volume_id}: replicas on {' and '.join(map(str, servers))} differ in {len(walk.differ)} "
                f"files, among them {', '.join(found)}"
            )
        if walk.position is not None:
            state.position = walk.position
            told.unfinished = state
    _judge(ctx, replicas, servers, proved, state, told)
    return told


def _answering(ctx: Context, replicas: Sequence[Replica], told: Told) -> list[Address]:
    """The servers whose replica can be asked about; the first failure where none can."""
    servers = list(dict.fromkeys(replica.server for replica in replicas))

    def ask(server: Address) -> TaskError | None:
        try:
            file_status(ctx, server, replicas[0].volume_id)
        except (ServerFailed, Mismatch) as error:
            return error
        return None

    failures = dict(zip(servers, ctx.each(ask, servers)))
    answering = [server for server, failure in failures.items() if failure is None]
    for failure in failures.values():
        if failure is not None and not answering:
            raise failure
        if failure is not None:
            told.words.append(f"not read: {failure}")
    return answering


def _by_servers(
    ctx: Context, replicas: Sequence[Replica], servers: Collection[Address], pace: Pace
) -> tuple[tuple[str, ...], dict[Address, str]]:
    """Have servers read what may be read at once: those that found all well, and what others complain of."""
    volume_id, size = replicas[0].volume_id, max(replica.size for replica in replicas)
    if pace.rate or size > MOST_AT_ONCE or not all(_is_quiet(ctx, server, volume_id, pace.quiet) for server in servers):
        return (), {}
    able = [server for server in servers if generation_of(ctx, server) >= Generation.V4_13]
    ctx.progress(0.0, f"servers read volume {volume_id}")
    complaints = dict(zip(able, ctx.each(lambda server: reading.complaints(ctx, server, volume_id, size), able)))
    clean = tuple(str(server) for server, words in complaints.items() if not words)
    return clean, {server: "; ".join(words[:MOST_NAMED]) for server, words in complaints.items() if words}


def _is_quiet(ctx: Context, server: Address, volume_id: int, seconds: float) -> bool:
    return late_writes.age(ctx, server, volume_id) > seconds


def _judge(
    ctx: Context,
    replicas: Sequence[Replica],
    servers: Sequence[Address],
    proved: Collection[Address],
    state: Unfinished,
    told: Told,
) -> None:
    """Turn what was read into records and findings."""
    volume_id, now = replicas[0].volume_id, int(time.time())
    for server in servers:
        files = [words for where, words in state.bad if where == str(server)]
        method = METHODS.index("scrub full" if server in proved else "needles")
        result = BAD if files else DIFFERS if state.differ else CLEAN
        if files:
            told.findings.append(_finding(replicas, server, files, METHODS[method], now))
            if len(replicas) == 1:
                told.words.append(f"volume {volume_id} on {server}, its only copy: {told.findings[-1].words}")
        elif told.unfinished is None:
            told.sound.add((REPLICA, -1, str(server)))
            complaint = next((words for where, words in state.bad if where == COMPLAINT + str(server)), "")
            if complaint and generation_of(ctx, server) >= Generation.V4_44:
                result = result or UNCLEAR
                told.words.append(f"volume {volume_id}: {server} complains though each file can be read: {complaint}")
            elif complaint:
                ctx.log(f"{server} complains of volume {volume_id} as its release does without cause: {complaint}")
        if told.unfinished is None:
            told.marks.append(Mark(volume_id, 0, server_tag(server), THE_REPLICA, now, method, result))
            told.things += 1
            told.bytes += next(replica.size for replica in replicas if replica.server == server)


def _finding(replicas: Sequence[Replica], server: Address, files: Sequence[str], method: str, now: int) -> Finding:
    first = replicas[0]
    count = f"{len(files)} file{'s' if len(files) > 1 else ''}"
    words = f"{count} cannot be read: {first_of(files, MOST_NAMED, '; ')}"
    return Finding(
        REPLICA, first.volume_id, first.collection, server=str(server), found=float(now), method=method, words=words
    )
