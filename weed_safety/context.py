"""What a running job may use: the cluster on its leash, its journal entry, progress, native CPU, parallel calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from weed_cluster.address import Address
from weed_cluster.client import Cluster
from weed_cluster.master import Master
from weed_cluster.past import Past
from weed_cluster.rates import Rates
from weed_cluster.topology import Topology, snapshot
from weed_cluster.volume_server import VolumeServer
from weed_core.errors import TaskError
from weed_core.model import Job, Result
from weed_core.shelf import Memory, Shelf
from weed_core.values import Value
from weed_safety.journal import Entry

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Options:
    """What the operator set for all tasks."""

    ec_window: int = 20 << 20  # bytes of volume data that one encode may hold in memory
    data_dirs: tuple[Path, ...] | None = ()  # volume directories that may be read directly; None: servers name them
    dry_run: bool = False
    volume_metrics_port: int = 0  # where volume servers count the writes that they refuse; 0: not asked
    sender_seconds: float | None = None  # in which a shard file may still have a sender; None: as SeaweedFS has it
    remembered_seconds: float | None = None  # for which servers know old replicas; None: as SeaweedFS has it
    still_seconds: float | None = None  # in which a frozen volume must not change; None: as the task has it
    copy_begins_seconds: float = 2.0  # without any trace of a copy after which a target is not about to begin it
    copy_stalls_seconds: float = 30.0  # without a change after which an unfinished copy counts as broken off
    compaction_rests_seconds: float = 3.0  # without a change in a compaction's files after which nobody writes them
    lease_seconds: float = 15.0  # that an encode waits for another's lease on its volume: a dead worker's ends after 10
    shown_seconds: float = 60.0  # in which a master is to show what servers mounted: they tell it every 5
    gib_seconds: float = 60.0  # for what a server does once with each GiB of a volume; a compaction gets three times
    stall_seconds: float = 120.0  # without a byte after which a transfer is given up
    silent_seconds: float = 20.0  # without a byte after which a shard's holder is replaced by another's
    finds_others_seconds: float = 45.0  # for a holder to find the others' shards: it looks each 11 to 37 seconds
    reread_seconds: float = 2.0  # after which what differed is read once more: it may have been written meanwhile
    look_again_seconds: float = 10.0  # after which what seems empty is looked at once more: servers tell by heartbeats


def _run_here(function: Callable[..., R], *args: Any) -> R:
    return function(*args)


def _no_progress(_fraction: float, _stage: str, _figures: Mapping[str, Value]) -> None:
    """Drop progress."""


def _no_part(job: Job, _context: Context) -> Result:
    raise TaskError(f"no {job.type} runs as a part of another job here")


def _no_memory(_topology: Topology, _is_whole: bool) -> Past:
    return Past()


@dataclass
class Context:
    """What one job may use: the cluster on the job's leash, its journal entry, progress, native CPU, parallel calls."""

    cluster: Cluster
    journal: Entry
    report: Callable[[float, str, Mapping[str, Value]], None] = _no_progress
    compute: Callable[..., Any] = _run_here
    rates: Rates = field(default_factory=Rates)
    options: Options = field(default_factory=Options)
    log: Callable[[str], None] = lambda _line: None
    warn: Callable[[str], None] = lambda _line: None
    outside_slot: Callable[[], AbstractContextManager[None]] = nullcontext
    """For a wait of which nothing but time is asked: gives the job's slot (in a one-shot run the cluster's lock, too)
    to others for the length of its body. What was looked at before is to be looked at again behind it; where several
    threads of one job share a context, only for all of them together."""

    part: Callable[[Job, Context], Result] = _no_part
    """Runs another job as a part of this one, given this context: its volumes held, with a journal entry of its own.
    Raises what the job ended with."""

    remember: Callable[[Topology, bool], Past] = _no_memory
    past: Past = field(default_factory=Past)
    seen: Topology | None = None
    """What the cluster was before, and what it is, as of the last look of `topology`."""

    findings: Shelf = field(default_factory=Memory)
    """Where this process keeps what was found wrong and is not mended; see weed_safety/findings.py."""

    scrubbed: Shelf = field(default_factory=Memory)
    """Where this process keeps when everything was last read through; see weed_core/scrub_ledger.py."""

    def topology(self, volume_id: int = 0) -> Topology:
        """The cluster, or what it has of one volume, as the master sees it now. Raises as snapshot does."""
        self.seen = snapshot(self.master(), volume_id)
        self.past = self.remember(self.seen, not volume_id)
        return self.seen

    def master(self) -> Master:
        """The masters; raises BadTask where none is known."""
        return self.cluster.master()

    def volume(self, address: Address | str) -> VolumeServer:
        """A volume server; raises BadTask for what is no address."""
        return self.cluster.volume(address)

    def progress(self, fraction: float, stage: str, **figures: Value) -> None:
        """Tell how far the job is (0..1) and what it does; a point where it can be cancelled."""
        self.cluster.leash.check()
        self.report(fraction, stage, figures)

    def wait(self, seconds: float) -> None:
        """Sleep; raises when the job is cancelled or passes its deadline."""
        self.cluster.leash.wait(seconds)

    def each(self, function: Callable[[T], R], items: Iterable[T], most: int = 16) -> list[R]:
        """Call a function for every item, up to `most` at once; return the results in order.

        All calls are awaited, then the first exception is raised.
        """
        todo = list(items)
        if len(todo) < 2:
            return [function(item) for item in todo]
        with ThreadPoolExecutor(min(most, len(todo))) as pool:
            futures = [pool.submit(function, item) for item in todo]
        return [future.result() for future in futures]

    def until(self, done: Callable[[], bool], timeout: float, pause: float = 0.25) -> bool:
        """Ask again and again until it is done; False when `timeout` seconds passed."""
        waited = 0.0
        while not done():
            if waited >= timeout:
                return False
            self.wait(pause)
            waited += pause
            pause = min(pause * 1.5, 5.0)
        return True
