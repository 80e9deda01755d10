"""What a filer is asked to clear away: its own logs of past days, and uploads in parts that nobody finished.

Removed is what weed shell removes, less two things: an upload of which a part is younger than asked for is still being
written, and whatever is not a day's directory is no log. Times are told by the filer's clock and compared with this
host's, so everything has to be a little older than asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import date, datetime, timezone

from proto_gen.filer_pb2 import Entry
from weed_cluster.address import Address
from weed_cluster.filer import Filer
from weed_core.errors import ServerFailed, TaskError
from weed_core.text import some, time_text
from weed_core.values import as_int
from weed_safety import records
from weed_safety.context import Context
from weed_tasks.admin_script.commands import Order

LOGS = "/topics/.system/log"
"""Where a filer keeps its log, a directory for each day, named like 2026-11-27 (UTC)."""

UPLOADS = ".uploads"
"""The directory of a bucket in which uploads in parts lie until they are complete, a directory for each."""

MARGIN, SHARE = 600.0, 0.1
"""Seconds by which everything must be older than asked for, at most, and as a share of what is asked for."""

PAUSE = 0.05
"""Seconds between two removals: each may cost a filer, and the volume servers, thousands of deletions."""

SHOWN = 20
"""Removals that are listed."""

Say = Callable[[str], None]


def do_chore(order: Order, filers: Sequence[str], ctx: Context, say: Say) -> None:
    """Do what one command asks of a filer; nothing where it does not apply it, or in a dry run. TaskError."""
    filer, buckets = _filer(filers, ctx)
    chore = _Chore(order, filer, ctx, say)
    if order.line.name == "fs.log.purge":
        chore.purge_log(as_int(order.settings.get("daysAgo"), 365))
    else:
        chore.clean_uploads(buckets, as_int(order.settings.get("timeAgo"), 86400))
    chore.tell_end()


def _filer(named: Sequence[str], ctx: Context) -> tuple[Filer, str]:
    """The first filer that answers, of those named or else those the master knows; and where its buckets are."""
    cluster = ctx.cluster
    filers = [Filer(cluster.channels, Address.parse(each), cluster.leash) for each in named] or records.filers(ctx)
    failures = []
    for filer in filers:
        try:
            return filer, filer.buckets()
        except ServerFailed as error:
            failures.append(str(error))
    raise TaskError(
        f"no filer answers: {some(failures)}" if failures else "the cluster has no filer that the master knows of"
    )


def margin(age: float) -> float:
    """Seconds by which something must be older than `age`, so that clocks that differ by minutes do no harm."""
    return min(MARGIN, age * SHARE)


def day_of(name: str) -> date | None:
    """The day of a log directory; None for another name."""
    try:
        return date.fromisoformat(name) if len(name) == len("2026-11-27") else None
    except ValueError:
        return None


class _Chore:
    """One command: what it has removed, or would."""

    def __init__(self, order: Order, filer: Filer, ctx: Context, say: Say) -> None:
        self._order = order
        self._filer = filer
        self._ctx = ctx
        self._say = say
        self._is_done = order.is_applied and not ctx.options.dry_run
        self._removed: list[str] = []
        self._failed: list[str] = []
        self._kept = 0

    def purge_log(self, days: int) -> None:
        """Remove the directories of days that are longer ago."""
        now = time.time()
        oldest = now - days * 86400 - margin(days * 86400)
        last = datetime.fromtimestamp(oldest, timezone.utc).date() if days else date.max
        for entry in self._filer.entries(LOGS, most=None):
            day = day_of(entry.name)
            if day is None or entry.attributes.mtime > oldest or day > last:
                self._kept += 1
                continue
            self._remove(LOGS, entry)

    def clean_uploads(self, buckets: str, age: int) -> None:
        """Remove uploads that were begun longer ago, and of which no part is younger."""
        oldest = time.time() - age - margin(age)
        for bucket in self._filer.entries(buckets, most=None):
            uploads = f"{buckets}/{bucket.name}/{UPLOADS}"
            for upload in self._filer.entries(uploads, most=None):
                if upload.attributes.crtime > oldest or self._newest(f"{uploads}/{upload.name}") > oldest:
                    self._kept += 1
                    continue
                self._remove(uploads, upload)

    def _newest(self, directory: str) -> float:
        """When something in a directory was last written, in unix seconds; 0 where it is empty."""
        return max((entry.attributes.mtime for entry in self._filer.entries(directory, most=None)), default=0)

    def _remove(self, directory: str, entry: Entry) -> None:
        path = f"{directory}/{entry.name}"
        if self._is_done:
            try:
                self._filer.remove_all(directory, entry.name)
            except ServerFailed as error:
                self._failed.append(str(error))
                return
            self._ctx.wait(PAUSE)
        self._removed.append(path)
        if self._order.is_verbose or len(self._removed) <= SHOWN:
            born = entry.attributes.mtime or entry.attributes.crtime
            self._say(f"{'removed' if self._is_done else 'would remove'} {path}, {time_text(time.time() - born)} old")

    def tell_end(self) -> None:
        """Say what came of it; TaskError where something could not be removed."""
        if (more := len(self._removed) - SHOWN) > 0 and not self._order.is_verbose:
            self._say(f"and {more} more")
        self._say(f"{len(self._removed)} {'removed' if self._is_done else 'to remove'}, {self._kept} kept")
        if self._failed:
            raise TaskError(f"{len(self._failed)} could not be removed: {some(self._failed)}")
