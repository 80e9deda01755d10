"""Which volumes are to be read through next: the oldest first, in slices of a few minutes. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from proto_gen.worker_pb2 import TaskParams
from weed_cluster.topology import collection_filter
from weed_core.model import LOW, Descriptor, Detection, DetectionRequest, Field, Proposal, Runtime, Skipped, Values
from weed_core.text import first_of, size_text
from weed_safety.context import Context
from weed_safety.readiness import settle
from weed_tasks import forms
from weed_tasks.scrub.book import Book
from weed_tasks.scrub.survey import DAY, Due, survey, weigh

SLICE = 300.0
"""Seconds that a job reads at most: longer ones would keep an admin's other jobs waiting."""

FILL = 0.8
"""Share of a slice that a job is given work for."""

MOST_VOLUMES = 100
"""Volumes of one slice."""

MOST_ALONE = 5000
"""Due volumes up to which a person's plan has a job for each, to be shown, counted and broken off."""

CATCH_UP = 2.0
"""How much faster than the interval asks for volumes are proposed, so that what was put off is caught up with."""

LOOKS = 600.0
"""Seconds between two looks."""

DAYS = "interval_days"
QUIET = forms.QUIET.name
RATE = "io_byte_per_second"
SINCE = "verified_before"
"""The job's parameter: unix seconds of the look; what was verified since then need not be read again."""

DESCRIPTOR = Descriptor(
    name="scrub",
    job_type="scrub",
    display_name="Scrub",
    description="Reads every replica and every shard through once in a while and has repaired what is bad",
    icon="fas fa-search",
    fields=(
        forms.COLLECTIONS,
        Field(
            DAYS,
            "Interval (days)",
            "int",
            30,
            "Within how many days every replica and every shard is read once. 0 reads everything now.",
            minimum=0,
            maximum=365,
            section=forms.THRESHOLDS,
        ),
        replace(
            forms.QUIET,
            default=600,
            help="How long a volume must not have been written to for its servers to read it in one go, which keeps "
            "clients that write to it waiting. Other volumes are read file by file.",
            minimum=60,
            required=False,
        ),
        replace(
            forms.RATE,
            help="Highest rate at which a job reads, all servers together. 0 leaves it to the servers and to this "
            "worker's own limits. With a rate shards are read over the network, since servers keep none by themselves.",
        ),
    ),
    runtime=Runtime(
        detection_interval_minutes=10,
        max_jobs_per_detection=20,
        global_execution_concurrency=4,
        per_worker_execution_concurrency=1,
        retry_limit=0,
        execution_timeout_seconds=1800,
    ),
    weight=20,
)


def detect(request: DetectionRequest, ctx: Context) -> Detection:
    """Find volumes that were not read for the longest time, and propose them in slices."""
    values, now = Values(DESCRIPTOR, request.config), time.time()
    days, rate = values.whole(DAYS), values.whole(RATE)
    accepts = collection_filter(values.text("collection_filter"))
    topology = ctx.topology(request.volume_id)
    book = Book(ctx)
    found = ctx.compute(survey, topology, book.ledger, days * DAY, now, accepts)
    coverage = found.coverage(days or 30, now)
    spread = not days or request.is_single
    share = found.size if spread else int(found.size * CATCH_UP * LOOKS / (days * DAY))

    def plan() -> Detection:
        late = [one for one in found.due if one[1] in topology.barred]
        due = [one for one in found.due if one[1] not in topology.barred] if late else found.due
        skipped = [
            Skipped(volume_id, f"volume {volume_id} {topology.barred[volume_id]}", "failed before", collection)
            for _at, volume_id, collection in late
        ]
        alone = request.is_single and len(due) <= MOST_ALONE
        weighed = (weigh(topology, at, volume_id, collection, rate) for at, volume_id, collection in due)
        slices = _slices(weighed, share, 1 if alone else MOST_VOLUMES)
        most = request.max_results or len(slices)
        return Detection(
            [_proposal(one, values, now) for one in slices[:most]],
            skipped,
            len(slices) > most,
            len(topology.volumes) + len(topology.ec),
            f"{coverage.words}; {len(found.due)} volumes are due, {sum(map(len, slices[:most]))} to read now",
            coverage,
        )

    return settle(ctx, request, topology, DESCRIPTOR.name, plan, spares_silent=True)


def _slices(due: Iterable[Due], share: int, most: int) -> list[list[Due]]:
    """Cut what is due into slices, as many as hold about so many bytes, and one at least."""
    slices: list[list[Due]] = []
    seconds, size = SLICE, 0
    for one in due:
        if seconds + one.seconds > FILL * SLICE or len(slices[-1]) >= most:
            if slices and size >= share:
                break
            slices.append([])
            seconds = 0.0
        slices[-1].append(one)
        seconds += one.seconds
        size += one.size
    return slices


def _proposal(due: Sequence[Due], values: Values, now: float) -> Proposal:
    first, size, things = due[0], sum(one.size for one in due), sum(one.things for one in due)
    ids = sorted(one.volume_id for one in due)
    names = first_of(ids, 5)
    oldest = min(one.at for one in due)
    age = f"last verified {(now - oldest) / DAY:.0f} days ago" if oldest else "never verified"
    collections = {one.collection for one in due}
    collection = first.collection if len(collections) == 1 else ""
    seconds = int(SLICE + max(one.seconds for one in due))
    return Proposal(
        id=f"scrub_{first.volume_id}_{int(now)}",
        dedupe_key=f"scrub:{first.volume_id}",
        summary=f"Read {things} replicas and shards of volume{'s' if len(ids) > 1 else ''} {names} through, {age}",
        params=TaskParams(task_id=f"scrub_{first.volume_id}_{int(now)}", collection=collection, volume_size=size),
        detail=size_text(size),
        priority=LOW,
        parameters={
            "volume_ids": [str(number) for number in ids],
            "collection": collection,
            SINCE: int(now),
            QUIET: values.whole(QUIET),
            RATE: values.whole(RATE),
            DAYS: values.whole(DAYS),
            "estimated_runtime_seconds": seconds,
        },
        labels={"task_type": DESCRIPTOR.name, "collection": collection},
        estimated_seconds=seconds,
        bytes_to_move=size,
    )
