"""The jobs of one run: several at once, never two on one volume, with a journal, and an end in order.

Ordinary blocking Python in threads; what is shown of it is weed_console.screen's business, what is done the tasks'.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import weed_tasks
from weed_cluster.leash import Leash
from weed_cluster.masters import Masters
from weed_console import failures
from weed_console.estimate import Paces
from weed_console.flags import Flags
from weed_console.screen import Bar, Screen
from weed_core.errors import Busy, Cancelled, ConfigError, ServerFailed, TaskError
from weed_core.model import Job, Proposal
from weed_core.text import size_text, time_text
from weed_core.values import Value, as_int
from weed_safety.context import Context
from weed_safety.journal import Entry, Journal
from weed_tasks import execute
from weed_tasks.parts import Parts
from weed_tasks.slots import MOST_OUTSIDE, Held, Slots

DEADLINE = 7200.0
"""Seconds a job may take that names no time and no size."""

ENDS = {"success": "done", "cancelled": "undone", "failure": "failed"}
"""What people are told of an outcome's kind."""

UNDO_PATIENCE = 30.0
"""Seconds that a job which was broken off while it waited without the cluster's lock waits for it, before it undoes."""

Lock = Callable[[float, Callable[[float], None]], AbstractContextManager[None]]
"""The cluster's lock: asked for with the seconds of patience, and with what waits."""

MakeContext = Callable[[Leash, bool], Context]
"""(leash, dry run) -> what a task gets."""


@dataclass(frozen=True)
class Move:
    """One volume, or shards of it, that goes from one server to another; `size` in bytes."""

    volume_id: int
    collection: str
    size: int
    source: str
    target: str


@dataclass(frozen=True)
class Row:
    """One proposal as people see it. `moves` and `frees` are bytes, `seconds` an estimate; `waits` of them it waits."""

    proposal: Proposal
    volume_ids: tuple[int, ...]
    collection: str
    servers: tuple[str, ...]
    size: int
    moves: int
    frees: int
    seconds: float
    waits: float
    garbage: float  # share of deleted bytes, where a vacuum tells it
    each: tuple[Move, ...] = ()  # where volumes or shards move

    @classmethod
    def of(cls, job: str, proposal: Proposal, paces: Paces, rate: float) -> Row:
        """Read what a proposal says; `rate` is the limit in bytes per second, 0 for none."""
        params, parameters = proposal.params, proposal.parameters
        moves = params.balance_params.moves
        size = params.volume_size or sum(move.volume_size for move in moves)
        copies = max(1, len(params.sources))
        servers = [source.node for source in params.sources] or [move.source_node for move in moves]
        servers = servers or [str(parameters[key]) for key in ("server", "source_server") if parameters.get(key)]
        return cls(
            proposal,
            Job(proposal.id, job, params, parameters).volume_ids,
            params.collection or (moves[0].collection if moves else str(parameters.get("collection", ""))),
            tuple(dict.fromkeys(servers)),
            size,
            proposal.bytes_to_move,
            proposal.frees,
            paces.seconds(job, proposal.bytes_to_move, rate, proposal.waits),
            proposal.waits,
            proposal.frees / copies / size if size and job == "vacuum" else 0.0,
            _moves_of(proposal),
        )

    def is_on(self, volume_ids: frozenset[int]) -> bool:
        """Whether it touches none but these volumes; one that is about the whole cluster is on none of them."""
        return bool(self.volume_ids) and volume_ids.issuperset(self.volume_ids)

    def document(self) -> dict[str, Any]:
        """The row in JSON."""
        return {
            "id": self.proposal.id,
            "volumes": list(self.volume_ids),
            "collection": self.collection,
            "servers": list(self.servers),
            "size_bytes": self.size,
            "reason": self.proposal.summary,
            "detail": self.proposal.detail,
            "priority": self.proposal.priority,
            "to_move_bytes": self.moves,
            "frees_bytes": self.frees,
            "seconds_estimated": round(self.seconds, 1),
            "waits_seconds": self.waits,
            "moves": [
                {
                    "volume": move.volume_id,
                    "collection": move.collection,
                    "size_bytes": move.size,
                    "from": move.source,
                    "to": move.target,
                }
                for move in self.each
            ],
            "shut": {str(volume_id): why for volume_id, why in self.proposal.shut.items()},
        }


def _moves_of(proposal: Proposal) -> tuple[Move, ...]:
    params, parameters = proposal.params, proposal.parameters
    if moves := params.balance_params.moves:
        return tuple(Move(m.volume_id, m.collection, m.volume_size, m.source_node, m.target_node) for m in moves)
    source, target = (str(parameters.get(f"{side}_server", "")) for side in ("source", "target"))
    if not source or not target:
        return ()
    return (Move(params.volume_id, params.collection, proposal.bytes_to_move, source, target),)


@dataclass
class RunItem:
    """One job of a run. One that ends as "shut" made its change and left volumes read-only, as its text says."""

    row: Row
    leash: Leash = field(default_factory=Leash)
    outcome: str = "waiting"  # then done, checked (dry run), failed, undone, shut or not started
    text: str = ""
    seconds: float = 0.0
    waited: float = 0.0  # of these, outside of its slot
    told: str = ""  # what it said line by line

    def document(self) -> dict[str, Any]:
        """The job's end in JSON."""
        return {
            "id": self.row.proposal.id,
            "volumes": list(self.row.volume_ids),
            "outcome": self.outcome,
            "text": self.text,
            "seconds": round(self.seconds, 1),
            "read_bytes": self.leash.read,
            "written_bytes": self.leash.written,
            **({"output": self.told} if self.told else {}),
        }


class Jobs:
    """The jobs of one run: several at once, never two on one volume, and an end in order when interrupted."""

    def __init__(
        self,
        flags: Flags,
        screen: Screen,
        context: MakeContext,
        masters: Masters,
        journal: Journal,
        items: list[RunItem],
        blocked: frozenset[int] = frozenset(),
    ) -> None:
        self.items = items
        self.interrupted = ""
        self._broken_off = False
        self._blocked = blocked  # volumes on which an earlier run could not be undone
        self._flags = flags
        self._screen = screen
        self._context = context
        self._masters = masters
        self._journal = journal
        self._busy = Held()
        self._busy.hold(blocked)
        self._change = threading.Condition()
        self._slots = Slots(self._flags.concurrent, self._notify)
        self._lock: Lock = lambda _patience, _wait: nullcontext()
        self._locking = threading.Lock()
        self._locked = ExitStack()
        self._has_lock = False
        self._seconds = 0.0
        self._paces = Paces(state_dir(flags))
        self._parts = Parts(journal, self._busy, self._notify, self._left, DEADLINE)

    def run(self, lock: Lock | None = None) -> None:
        """Run them all, or until stop(). `lock` is the cluster's; Busy where somebody has it when this begins.

        It is held while any job works or can start, and given to others while all of them only wait.
        """
        began = time.monotonic()
        self._lock = lock or self._lock
        self._screen.hint = "Ctrl-C: end what runs, start no more; again: undo it"
        lanes = [
            threading.Thread(target=self._lane, name=f"job lane {number}")
            for number in range(min(self._slots.total + MOST_OUTSIDE, len(self.items)))
        ]
        with self._locked, self._screen.board(len(self.items), sum(item.row.moves for item in self.items)):
            self._have_lock(0.0, time.sleep)
            for lane in lanes:
                lane.start()
            for lane in lanes:
                lane.join()
        self._seconds = time.monotonic() - began
        if not self._flags.dry_run:
            self._paces.keep()

    def interrupt(self, why: str) -> None:
        """Start no further job and let the running ones end; asked once more, stop()."""
        running = [item for item in self.items if item.outcome == "running"]
        if self.interrupted or not running:
            self.stop(why)
            return
        self.interrupted = why
        these = "the one that runs ends first; once more undoes it"
        if len(running) > 1:
            these = f"the {len(running)} that run end first; once more undoes them"
        self._screen.say(f"{why}: no further job is started, {these}", "warning")
        self._screen.hint = "Ctrl-C: undo what runs"

    def stop(self, why: str) -> None:
        """Start no further job; break the running ones off, which undo what they did or finish what they must."""
        say = self._screen.say
        if self._broken_off:
            say("still undoing; what a kill leaves behind, the next run undoes from the journal", "warning")
            return
        self._broken_off, self.interrupted, self._screen.hint = True, why, ""
        say(f"{why}: running jobs finish what they must and undo the rest", "warning")
        for item in self.items:
            item.leash.cancel(Cancelled(why))

    def summary(self) -> str:
        """How it all ended, in one line."""
        count = Counter(item.outcome for item in self.items)
        ended = [item.row for item in self.items if item.outcome == "done"]
        told = ", ".join(f"{number} {outcome}" for outcome, number in count.items())
        if self._flags.dry_run:
            return f"dry run, nothing was changed: {told} in {time_text(self._seconds)}"
        frees, moves = sum(row.frees for row in ended), sum(row.moves for row in ended)
        gain = f", {size_text(frees)} freed" if frees else f", {size_text(moves)} moved" if moves else ""
        return f"{told} in {time_text(self._seconds)}{gain}"

    def _lane(self) -> None:
        while (item := self._next()) is not None:
            try:
                self._run(item)
            finally:
                with self._change:
                    self._busy.let_go(item.row.volume_ids)
                self._slots.give()
                self._give_lock()

    def _notify(self) -> None:
        with self._change:
            self._change.notify_all()

    @contextmanager
    def _outside(self, item: RunItem) -> Iterator[None]:
        """Give a job's slot to others while it only waits, and the cluster's lock where all do."""
        began = time.monotonic()
        try:
            with self._slots.without(item.leash):
                self._give_lock()
                yield
        finally:
            self._have_lock_again(item)
            item.waited += time.monotonic() - began

    def _have_lock(self, patience: float, wait: Callable[[float], None]) -> None:
        with self._locking:
            if not self._has_lock:
                self._locked.enter_context(self._lock(patience, wait))
                self._has_lock = True

    def _have_lock_again(self, item: RunItem) -> None:
        """Wait for the cluster's lock as long as the job may; one that is broken off undoes what it did without it."""
        say, name = self._screen.say, f"{self._flags.job} {ids_text(item.row.volume_ids)}"
        try:
            if item.leash.reason is not None:
                self._have_lock(UNDO_PATIENCE, time.sleep)
                return
            try:
                self._have_lock(0.0, time.sleep)
            except Busy as busy:
                say(f"{name}: goes on when it can: {str(busy).partition(';')[0]}", "warning")
                self._have_lock(float("inf"), item.leash.wait)
        except TaskError as error:
            say(f"{name}: without the cluster's lock: {error}", "warning")

    def _give_lock(self) -> None:
        """Give the cluster's lock to others where no job works and none can start."""
        if not self._locking.acquire(blocking=False):
            return  # somebody is just asking for it
        try:
            with self._change:
                rests = not self._slots.used and not any(map(self._can_start, self.items))
            if rests:
                self._locked.close()
                self._has_lock = False
        finally:
            self._locking.release()

    def _left(self, entry: Entry) -> None:
        """Keep other parts of a job off the volumes on which one has left something to undo."""
        if entry.open:
            self._busy.hold(entry.volume_ids)

    def _can_start(self, item: RunItem) -> bool:
        return item.outcome == "waiting" and not self._busy.among(item.row.volume_ids) and not self.interrupted

    def _next(self) -> RunItem | None:
        """The first job that waits and whose volumes are free; None when none is left to start."""
        with self._change:
            while True:
                waiting = [item for item in self.items if item.outcome == "waiting"]
                for item in waiting:
                    if self.interrupted:
                        item.outcome, item.text = "not started", self.interrupted
                    elif not self._blocked.isdisjoint(item.row.volume_ids):
                        item.outcome, item.text = "not started", "changes of an earlier run could not be undone yet"
                        name = f"{self._flags.job} {ids_text(item.row.volume_ids)}"
                        self._screen.say(f"{name}: {item.outcome}: {item.text}", "warning")
                    elif self._can_start(item) and self._slots.take():
                        item.outcome = "running"
                        self._busy.hold(item.row.volume_ids)
                        return item
                if not waiting or not any(item.outcome == "waiting" for item in waiting):
                    return None
                self._change.wait()

    def _run(self, item: RunItem) -> None:
        row, began = item.row, time.monotonic()
        flags = self._flags
        task = weed_tasks.load([flags.job])[flags.job]
        config, masters, filers = dict(flags.config), tuple(map(str, self._masters)), tuple(map(str, flags.filers))
        job = Job(row.proposal.id, flags.job, row.proposal.params, row.proposal.parameters, config, masters, filers)
        first, more = row.volume_ids[:1], len(row.volume_ids) - 1
        bar = Bar(f"{flags.job} {ids_text(first)}" + (f" +{more}" if more > 0 else ""), row.moves)
        self._screen.started(bar)
        context = self._context(item.leash, flags.dry_run)

        def report(fraction: float, stage: str, figures: Mapping[str, Value]) -> None:
            told = max(as_int(figures.get(name), 0, 0) for name in ("bytes", "processed_bytes"))
            self._screen.moved(bar, fraction, stage, max(told, item.leash.moved))

        context.report = report
        context.outside_slot = lambda: self._outside(item)
        context.part = self._parts.run
        journal = None if flags.dry_run else self._journal
        outcome = execute.run(
            task, job, context, journal, DEADLINE, begin=lambda: self._have_lock(float("inf"), item.leash.wait)
        )
        item.outcome = "checked" if flags.dry_run and outcome.result else ENDS[outcome.kind]
        item.text = outcome.result.summary if outcome.result else _why_not(outcome, bar.stage or "starting")
        if said := outcome.result or outcome.told:
            item.told = str(said.outputs.get("output", ""))
        if outcome.is_shut:
            item.outcome, item.text = "shut", outcome.reason
        item.seconds = time.monotonic() - began
        if item.outcome == "done" and not flags.rates[0]:
            with self._change:
                self._paces.of(flags.job).add(row.moves, item.seconds - item.waited)
        self._screen.ended(bar, item.outcome, item.text)


def _why_not(outcome: execute.Outcome, stage: str) -> str:
    """Why a job has no result: where one server refused, in the words of the cluster instead of its calls."""
    if isinstance(outcome.failure, ServerFailed):
        return f"{failures.plain(outcome.failure)} (while {stage})"
    return outcome.error(stage)


def ids_text(volume_ids: Sequence[int]) -> str:
    return ",".join(map(str, volume_ids[:3])) + (f",+{len(volume_ids) - 3}" if len(volume_ids) > 3 else "") or "-"


# ---- where a run keeps its journal --------------------------------------------------------------------------------


def state_dir(flags: Flags) -> Path:
    """The directory for this cluster: under -workingDir, the home directory, or the temporary one."""
    name = "console-" + re.sub(r"[^A-Za-z0-9.-]", "_", "_".join(sorted(map(str, flags.masters))))[:100]
    if flags.working_dir:
        return flags.working_dir / name
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    base = Path(home) / "weed_worker"
    nearest = next((path for path in [base, *base.parents] if path.exists()), Path("/"))
    if not base.is_absolute() or not os.access(nearest, os.W_OK | os.X_OK):
        base = Path(tempfile.gettempdir()) / f"weed_worker-{os.getuid()}"
    return base / name


@contextmanager
def own_directory(flags: Flags) -> Iterator[Path]:
    """The state directory, held against a second run on the same cluster from here."""
    path = state_dir(flags)
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        owners = {place.stat().st_uid for place in (path, path.parent)}
        file = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot keep a journal in {path}: {error.strerror}; name a -workingDir") from None
    try:
        if not owners <= {os.getuid(), 0}:  # whoever owns a journal says what is undone
            raise ConfigError(f"{path} belongs to another user; name a -workingDir")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(
                f"another run on this cluster uses {path}; nothing was touched. Wait for it, or name a -workingDir"
            ) from None
        yield path
    finally:
        os.close(file)
