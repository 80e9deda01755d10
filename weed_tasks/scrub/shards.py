"""Reading an erasure-coded volume through, parity included: each shard of its run, on each server that has it.

A holder that has the run's `.ecsum` compares its shards with it by itself (ScrubEcVolume CHECKSUM): without one it
answers that all is well and has looked at nothing. Shards of other holders are read here, and where the run has no
`.ecsum` all of them are, and must fit together. What is found is a hint to whoever mends; nothing is changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from proto_gen import volume_server_pb2 as v
from weed_cluster.address import Address
from weed_cluster.topology import Topology
from weed_core.errors import Mismatch, ServerFailed
from weed_core.findings import EC_DELETIONS, EC_INDEX, EC_SHARD, Finding
from weed_core.scrub_ledger import BAD, CLEAN, METHODS, Mark, Unfinished, run_tag, server_tag
from weed_ec.deletions import deletions_of
from weed_ec.reader import ShardReader, check_copy
from weed_ec.runs import Run, runs_of, the_run
from weed_ec.shards import ShardSet, file_time, look
from weed_ec.stream import PIECE
from weed_safety.context import Context
from weed_safety.reading import SLOWEST
from weed_storage.ec_layout import TOTAL_SHARDS
from weed_tasks.scrub.told import Pace, Told

CHECKSUM, READING = METHODS.index("checksum"), METHODS.index("reading")

Known = dict[int, int]
"""The shards, as bits, that were verified lately enough, by the tag of their server."""


def scrub_shards(
    ctx: Context,
    topology: Topology,
    key: tuple[int, str],
    pace: Pace,
    known: Iterable[Mark],
    before: Unfinished | None,
) -> Told:
    """Read all shards of a volume that were not read lately, or go on where a slice ended.

    StaleTask where no run can be read, TaskError where that cannot be told.
    """
    volume_id, collection = key
    told = Told()
    held = _answering(ctx, topology, key, told)
    run = the_run(runs_of(ctx, held, volume_id, collection))
    look_at = _Look(ctx, topology, run, pace, told)
    if run.sums is not None:
        told.sound.add((EC_INDEX, -1, ""))
        fresh: Known = {}
        for mark in known:
            if mark.at > pace.fresh and mark.run in (0, run_tag(run.run)):
                fresh[mark.server] = fresh.get(mark.server, 0) | mark.things
        ctx.each(lambda one: look_at.holder(one, fresh.get(server_tag(one.server), 0)), run.holders)
    else:
        if run.sums_trouble:
            told.words.append(f"volume {volume_id}: {run.sums_trouble}")
        look_at.all_shards(before if before and before.run == run.run else None)
    look_at.deletions()
    return told


def _answering(ctx: Context, topology: Topology, key: tuple[int, str], told: Told) -> list[ShardSet]:
    def ask(server: Address) -> ShardSet | None:
        try:
            return look(ctx, server, *key)
        except ServerFailed as error:
            told.words.append(f"not read: {error}")
            return None

    servers = dict.fromkeys(one.server for one in topology.holdings(*key))
    return [held for held in ctx.each(ask, servers) if held is not None]


class _Look:
    """One volume being read."""

    def __init__(self, ctx: Context, topology: Topology, run: Run, pace: Pace, told: Told) -> None:
        self._ctx = ctx
        self._run = run
        self._pace = pace
        self._told = told
        servers = [one.server for one in topology.holdings(run.volume_id, run.collection)]
        self._spread = {server for server in servers if servers.count(server) > 1}  # over several disks

    # -- with checksums

    def holder(self, held: ShardSet, fresh: int) -> None:
        """Verify one holder's shards, but for those that were read lately."""
        shards = [shard for shard in sorted(held.mounted) if not fresh >> shard & 1]
        if not shards:
            return
        has_sums = self._has_sums(held)
        if has_sums and not self._pace.rate and held.server not in self._spread and self._by_server(held, shards):
            return
        for count, shard in enumerate(shards):
            if count and time.monotonic() > self._pace.until:
                return  # those that are left are due, and come next
            self._read(held, shard)

    def _has_sums(self, held: ShardSet) -> bool:
        """Whether a holder has the `.ecsum`; one that could and has none, or has no index, is handed on."""
        ctx, run = self._ctx, self._run
        if not held.generation.knows_ecsum:
            return False
        volume = ctx.volume(held.server)
        lacks = [ext for ext in (".ecsum", ".ecx") if file_time(volume, run.volume_id, run.collection, ext) is None]
        if lacks:
            self._found(EC_INDEX, -1, held.server, f"it has no {' and no '.join(lacks)}", "files")
        return ".ecsum" not in lacks

    def _by_server(self, held: ShardSet, shards: list[int]) -> bool:
        """Have a holder compare its shards with its `.ecsum`; whether its answer can be believed."""
        ctx, run = self._ctx, self._run
        size = sum(held.mounted.values())
        answer = ctx.volume(held.server).scrub_ec_volume(
            mode=v.CHECKSUM, volume_ids=[run.volume_id], timeout=60 + size / SLOWEST
        )
        bad = {info.shard_id for info in answer.broken_shard_infos}
        if not answer.total_volumes or (answer.broken_volume_ids and not bad):
            if answer.broken_volume_ids:
                self._found(EC_INDEX, -1, held.server, "; ".join(answer.details)[:300], "checksum")
            return False
        for shard in shards:
            words = next((one for one in answer.details if f"shard {shard}:" in one), "its bytes are not its .ecsum's")
            self._judge(held.server, shard, words if shard in bad else "", CHECKSUM)
        return True

    def _read(self, held: ShardSet, shard: int) -> None:
        if held.mounted[shard] != self._run.shard_size:
            words = f"it has {held.mounted[shard]} of {self._run.shard_size} bytes"
            self._judge(held.server, shard, words, READING)
            return
        try:
            wrong = check_copy(
                self._ctx, self._run, held.server, shard, lambda length: self._pace.spend(held.server, length)
            )
        except Mismatch as error:  # it ended early
            self._judge(held.server, shard, str(error), READING)
            return
        except ServerFailed as error:
            self._told.words.append(f"not read: {error}")
            return
        words = f"{len(wrong)} of its blocks are not what its .ecsum says, from byte {wrong[0]} on" if wrong else ""
        self._judge(held.server, shard, words, READING)

    # -- without

    def all_shards(self, before: Unfinished | None) -> None:
        """Read one copy of each shard, side by side; they must fit together."""
        ctx, run = self._ctx, self._run
        state = before or Unfinished(run.volume_id, run.run, began=time.time())
        for held in run.holders:
            for shard, size in held.mounted.items():
                if size != run.shard_size:
                    self._judge(held.server, shard, f"it has {size} of {run.shard_size} bytes", READING)

        def spend(length: int) -> None:
            self._pace.spend(run.holders[0].server, length * len(run.copies))

        avoid = [(held.server, int(shard)) for held in run.holders for shard in _shards_of(state, held.server)]
        reader = ShardReader(ctx, run, avoid, spend)
        shards = tuple(run.copies)
        if len(shards) < TOTAL_SHARDS - 3 or len(reader.usable()) < TOTAL_SHARDS - 3:
            self._told.words.append(
                f"volume {run.volume_id} has no .ecsum and {len(shards)} shards: nothing tells whether they are sound"
            )
        else:
            try:
                for part in reader.stream(shards, start=state.position):
                    state.position = part.offset + PIECE
                    if time.monotonic() > self._pace.until and state.position < run.shard_size:
                        self._told.unfinished = state
                        break
            except Mismatch as error:
                self._told.words.append(f"volume {run.volume_id}: {error}")
                return
        state.bad += tuple((f"{server} {shard}", why) for (server, shard), why in reader.bad.items() if _is_bad(why))
        unread = {copy for copy, why in reader.bad.items() if not _is_bad(why)}
        self._end_reading(state, unread, {shard: run.copies[shard][0] for shard in shards})

    def _end_reading(self, state: Unfinished, unread: set[tuple[Address, int]], read: dict[int, Address]) -> None:
        """Judge all shards, once they were read to their end; before that, those that are bad."""
        bad = dict(state.bad)
        for shard, server in read.items():
            why = bad.get(f"{server} {shard}", "")
            if why or (self._told.unfinished is None and (server, shard) not in unread):
                self._judge(server, shard, why, READING)
        holders = [held for held in self._run.holders if held.mounted]
        is_sound = len(read) == TOTAL_SHARDS and not bad and not unread and self._told.unfinished is None
        if is_sound and not self._run.sums_trouble and all(held.generation.knows_ecsum for held in holders):
            self._found(EC_INDEX, -1, "", "it has no .ecsum, though all its shards fit together", "reading")

    # -- what was deleted

    def deletions(self) -> None:
        """See whether every holder knows every deletion."""
        run, told = self._run, self._told
        try:
            untold = deletions_of(self._ctx, run).untold
        except (ServerFailed, Mismatch) as error:
            told.words.append(f"volume {run.volume_id}: {error}")
            return
        if untold:
            count = sum(map(len, untold.values()))
            self._found(EC_DELETIONS, -1, "", f"holders do not know {count} deletions that others know", "journals")
        else:
            told.sound.add((EC_DELETIONS, -1, ""))

    # -- what it means

    def _judge(self, server: Address, shard: int, why: str, method: int) -> None:
        run, told = self._run, self._told
        tag, result = server_tag(server), BAD if why else CLEAN
        told.marks.append(Mark(run.volume_id, run_tag(run.run), tag, 1 << shard, int(time.time()), method, result))
        told.things += 1
        told.bytes += run.shard_size
        if why:
            self._found(EC_SHARD, shard, server, why, METHODS[method])
        else:
            told.sound.add((EC_SHARD, shard, str(server)))

    def _found(self, kind: str, shard: int, server: Address | str, words: str, method: str) -> None:
        run = self._run
        self._told.findings.append(
            Finding(kind, run.volume_id, run.collection, run.run, shard, str(server), time.time(), method, words)
        )


def _shards_of(state: Unfinished, server: Address) -> list[str]:
    """The shards of a server that proved bad before."""
    found = [where.rpartition(" ") for where, _why in state.bad]
    return [shard for name, _, shard in found if name == str(server)]


def _is_bad(why: str) -> bool:
    """Whether a copy was left alone because of its bytes, not because its server did not give them."""
    return "early" in why or "is not what" in why
