"""One slice of a scrub: volumes read through one after another, what was verified noted, what is bad handed on.

Nothing on any server is changed. Killed anywhere, what was noted stays noted and the rest is due.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from weed_cluster.address import Address
from weed_cluster.rates import Bucket
from weed_cluster.topology import Topology, snapshot
from weed_core.errors import BadTask, Busy, TaskError
from weed_core.findings import Finding
from weed_core.model import Job, Result, Values
from weed_core.scrub_ledger import Mark, Unfinished
from weed_core.values import as_float
from weed_safety import findings
from weed_safety.context import Context
from weed_safety.journal import Entry
from weed_safety.lease import hold
from weed_safety.parameters import collection_of
from weed_tasks.scrub.book import Book
from weed_tasks.scrub.plan import DAYS, DESCRIPTOR, QUIET, RATE, SINCE, SLICE
from weed_tasks.scrub.replicas import scrub_replicas
from weed_tasks.scrub.shards import scrub_shards
from weed_tasks.scrub.survey import DAY, survey
from weed_tasks.scrub.told import Pace, Told

STALE = 7 * DAY
"""Seconds after which a volume that was read in part is read from its beginning."""

MOST_WORDS = 20
"""Sentences of a result."""


def run(job: Job, ctx: Context) -> Result:
    """Read the volumes that the job names, as far as five minutes go; the result says what was found.

    Raises BadTask for a job without a volume, and what failed where none of them could be read.
    """
    if not job.volume_ids:
        raise BadTask("the scrub names no volume; nothing was read")
    values = Values(DESCRIPTOR, job.config, {k: v for k, v in job.parameters.items() if k in DESCRIPTOR.defaults})
    topology = snapshot(ctx.master())
    if ctx.options.dry_run:
        return _would(job, topology)
    rate = values.whole(RATE)
    since = as_float(job.parameters.get(SINCE), time.time(), 0.0, time.time())
    pace = Pace(rate, _Spend(ctx, Bucket(rate)), time.monotonic() + SLICE, since, values.whole(QUIET))
    scrub = Slice(ctx, topology, Book(ctx), pace, findings.read_all(ctx))
    try:
        scrub.carry_out(job.volume_ids, collection_of(job))
        findings.settle_gone(ctx, topology, scrub.known)
    finally:
        scrub.book.share()
    return scrub.result(values.whole(DAYS))


def recover(entry: Entry, ctx: Context) -> None:
    """Nothing is to be undone: a scrub changes nothing."""


@dataclass(frozen=True)
class _Spend:
    """Waits as the job's rate and this worker's limits ask."""

    ctx: Context
    bucket: Bucket

    def __call__(self, server: Address, size: int) -> None:
        if (pause := self.bucket.spend(size)) > 0:
            self.ctx.wait(pause)


def _would(job: Job, topology: Topology) -> Result:
    ids = job.volume_ids
    things = sum(len(topology.replicas(number)) for number in ids)
    things += sum(len(held.shard_ids) for key, holdings in topology.ec.items() if key[0] in ids for held in holdings)
    names = ", ".join(map(str, ids))
    return Result(f"would read {things} replicas and shards of volumes {names} through", {"things": things})


@dataclass
class Slice:
    """One job under way."""

    ctx: Context
    topology: Topology
    book: Book
    pace: Pace
    known: Sequence[Finding]
    words: list[str] = field(default_factory=list)
    failed: dict[int, TaskError] = field(default_factory=dict)
    found: int = 0
    things: int = 0
    bytes: int = 0
    volumes: int = 0
    left: list[int] = field(default_factory=list)

    def carry_out(self, volume_ids: Sequence[int], collection: str | None) -> None:
        """Read volume after volume until the time is over; TaskError where none could be read."""
        keys = [key for number in volume_ids for key in self._keys(number) if collection in (None, "", key[1])]
        for count, key in enumerate(keys):
            if count and time.monotonic() > self.pace.until:
                self.left += [number for number, _collection in keys[count:]]
                break
            self.ctx.progress(count / len(keys), f"reading volume {key[0]}", bytes=self.bytes)
            try:
                with hold(self.ctx, key[0]):
                    self._take(key, self._read(key))
            except TaskError as error:
                self.failed[key[0]] = error
        if self.failed and not self.volumes:
            first = next(iter(self.failed.values()))
            if len(self.failed) > 1 and not isinstance(first, Busy):
                first = TaskError(f"none of {len(self.failed)} volumes could be read; the first: {first}")
                first.by_volume = dict(self.failed)
            raise first

    def _keys(self, volume_id: int) -> list[tuple[int, str]]:
        """The collections in which the id is; servers tell volumes by their id, so one is left alone that has two."""
        if reason := self.topology.ambiguity(volume_id):
            self.failed[volume_id] = TaskError(f"volume {volume_id} {reason}")
            return []
        replicas = self.topology.replicas(volume_id)
        if replicas:
            if self.topology.has_shards(volume_id):
                self.words.append(f"volume {volume_id} is regular and erasure coded at once; its shards are not read")
            return [(volume_id, replicas[0].collection)]
        return [key for key in self.topology.ec if key[0] == volume_id]

    def _read(self, key: tuple[int, str]) -> Told | None:
        """Read one volume, unless all of it was verified since the job was proposed."""
        volume_id = key[0]
        marks = self.book.ledger.marks(volume_id)
        before = self._before(volume_id, marks)
        replicas = self.topology.replicas(volume_id)
        seen = survey(
            Topology(
                nodes=self.topology.nodes,
                volumes={volume_id: replicas} if replicas else {},
                ec={} if replicas else {key: self.topology.ec[key]},
            ),
            self.book.ledger,
            max(0.0, time.time() - self.pace.fresh),
            time.time(),
            lambda _collection: True,
        )
        if before is None and seen.total and seen.recent == seen.total:
            return None
        if replicas and replicas[0].remote_name:
            return None
        if replicas:
            return scrub_replicas(self.ctx, replicas, self.pace, before)
        return scrub_shards(self.ctx, self.topology, key, self.pace, marks, before)

    def _before(self, volume_id: int, marks: Sequence[Mark]) -> Unfinished | None:
        one = self.book.ledger.unfinished.get(volume_id)
        newest = max((mark.at for mark in marks), default=0)
        return one if one and one.began > max(newest, time.time() - STALE) else None

    def _take(self, key: tuple[int, str], told: Told | None) -> None:
        """Note what was read, and hand on what was found."""
        self.volumes += 1
        if told is None:
            return
        ctx, volume_id = self.ctx, key[0]
        for finding in told.findings:
            findings.note(ctx, finding)
            ctx.log(f"found wrong: volume {volume_id} {finding.server}: {finding.words}")
        still = {finding.key for finding in told.findings}
        for finding in self.known:
            about = finding.kind, finding.shard_id, finding.server
            if (finding.volume_id, finding.collection) == key and about in told.sound and finding.key not in still:
                findings.settle(ctx, finding)
        self.book.note(told.marks)
        self.book.go_on_later(volume_id, told.unfinished)
        self.left += [volume_id] if told.unfinished else []
        self.found += len(told.findings)
        self.things += told.things
        self.bytes += told.bytes
        self.words += told.words
        self.words += [_words(finding) for finding in told.findings]

    def result(self, days: int) -> Result:
        """Say what was read and found, and how much of the cluster is verified now."""
        now = time.time()
        self.book.catch_up()
        seen = self.ctx.compute(survey, self.topology, self.book.ledger, days * DAY, now, lambda _collection: True)
        coverage = seen.coverage(days or 30, now)
        failed = [str(error) for error in self.failed.values()]
        said = [*self.words, *failed][:MOST_WORDS]
        left = f", {len(self.left)} volumes go on in the next slice" if self.left else ""
        return Result(
            f"read {self.things} replicas and shards of {self.volumes} volumes, {self.found} faults found{left}; "
            + "; ".join([*said, coverage.words]),
            _figures(self, coverage.share, coverage.never, coverage.oldest),
        )


def _words(finding: Finding) -> str:
    shard = f" shard {finding.shard_id}" if finding.shard_id >= 0 else ""
    where = f" on {finding.server}" if finding.server else ""
    return f"volume {finding.volume_id}{shard}{where}: {finding.words}"


def _figures(scrub: Slice, share: float, never: int, oldest: float) -> Mapping[str, int | float]:
    return {
        "volumes": scrub.volumes,
        "things": scrub.things,
        "bytes": scrub.bytes,
        "found": scrub.found,
        "coverage_percent": int(share * 100),
        "never": never,
        "oldest_seconds": int(oldest),
    }
