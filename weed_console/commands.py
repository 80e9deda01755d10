"""One-shot maintenance without an admin server: plan, run, status, doctor.

Finds work with the agent's own tasks and does it while an operator looks on. Like the agent it knows greenlets and
signals; what is found and done is the tasks' business, and how it looks is weed_console.screen's.
"""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import re
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import gevent
from gevent.threadpool import ThreadPool

import weed_tasks
from weed_cluster import security
from weed_cluster.channels import Channels
from weed_cluster.client import Cluster
from weed_cluster.leash import Leash
from weed_cluster.lock import cluster_lock
from weed_cluster.masters import Masters
from weed_cluster.rates import Rates
from weed_cluster.topology import DEFAULT_COLLECTION, Topology, names_filter, snapshot
from weed_console import doctor as console_doctor
from weed_console import status as console_status
from weed_console.flags import USAGE, Flags, parse
from weed_console.jobs import DEADLINE, Jobs, Row, RunItem, ids_text, own_directory, state_dir
from weed_console.screen import Screen, size_text, time_text
from weed_core import log
from weed_core.errors import Busy, Cancelled, ConfigError, ServerFailed, TaskError, WeedError
from weed_core.goflags import normalise
from weed_core.model import Detection, DetectionRequest, Result, Skipped
from weed_core.runtime import HUB_THREADS, allow_many, share_one_heap
from weed_core.text import escaped
from weed_core.values import Value
from weed_safety import holds
from weed_safety.context import Context, Options
from weed_safety.holds import Hold
from weed_safety.journal import Entry, Journal
from weed_safety.lease import hold
from weed_safety.location_cache import left_shut
from weed_state.last_topology import LastTopology
from weed_state.setbacks import Setbacks
from weed_tasks import execute
from weed_tasks.filters import look, unknown, unmatched
from weed_tasks.reopen import end_holds, reopen
from weed_tasks.replication.plan import FRESH

LIST = 20
"""Volumes passed over that a plan lists unless -all is given."""

AT_ONCE = "-set=min_fault_age_seconds=0"

FAILED, WRONG, BUSY, INTERRUPTED = 1, 2, 3, 130
"""Exit statuses."""


class Console:
    """One command: what it was asked, where it writes, and how it reaches the cluster."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self.screen = Screen(quiet=flags.json)
        self.tls_problem = ""  # for the doctor, who goes on without
        try:
            self.security = security.load(flags.config_dir)
        except ConfigError as error:
            if flags.command != "doctor":
                raise
            self.security, self.tls_problem = security.Security({}, ""), str(error)
        self.channels = Channels(self.security.credentials, self.security.options, uploads=self.security.uploads)
        self.masters = Masters(flags.masters)
        self.native = ThreadPool(2)
        self.rates = Rates(*flags.rates)
        self.last_topology = LastTopology(state_dir(flags), [flags.working_dir] if flags.working_dir else [])

    def close(self) -> None:
        """Hang up."""
        self.channels.close()
        self.native.kill()

    def context(self, leash: Leash, dry_run: bool = False) -> Context:
        """What a task gets."""
        flags = self.flags
        return Context(
            cluster=Cluster(self.channels, self.masters, leash),
            journal=Journal.memory(),
            compute=lambda function, *args: self.native.apply(function, args),
            rates=self.rates,
            options=Options(ec_window=flags.ec_window, data_dirs=flags.data_dirs, dry_run=dry_run),
            log=lambda line: self.screen.say(line, "dim") if flags.verbosity else None,
            remember=self.last_topology.look,
        )

    def find(self, **changed: Value) -> tuple[list[Row], Detection]:
        """Look for work, with changed settings, and keep what -volumeId, -collection and -max leave."""
        flags = self.flags
        config = {**flags.config, **changed}
        if flags.collections and not config.get("collection_filter") and "collection_filter" in config:
            names = (re.escape(name).replace(r"\*", ".*").replace(r"\?", ".") for name in flags.collections)
            config["collection_filter"] = (
                f"^({'|'.join('' if name == DEFAULT_COLLECTION else name for name in names)})$"
            )
        only = next(iter(flags.volume_ids)) if len(flags.volume_ids) == 1 else 0
        request = DetectionRequest(
            flags.job, config, tuple(map(str, flags.masters)), sequence=time.time_ns(), volume_id=only, is_single=True
        )
        if flags.working_dir and not (flags.command == "run" and flags.volume_ids):
            request = Setbacks(flags.working_dir).told(request, flags.job)
        context = self.context(Leash(DEADLINE))
        found = look(weed_tasks.load([flags.job])[flags.job], request, context)
        self.check_filters(context)
        is_wanted = names_filter(",".join(flags.collections))
        rows = [Row.of(flags.job, proposal, flags.rates[0]) for proposal in found.proposals]
        rows = [
            row
            for row in rows
            if is_wanted(row.collection) and (not flags.volume_ids or flags.volume_ids.issuperset(row.volume_ids))
        ]
        skipped = [
            skip
            for skip in found.skipped
            if is_wanted(skip.collection) and (not flags.volume_ids or skip.volume_id in flags.volume_ids)
        ]
        rows = rows[: flags.most or None]
        return rows, Detection([row.proposal for row in rows], skipped, found.has_more, found.seen, found.summary)

    def check_filters(self, context: Context) -> None:
        """Raise ConfigError for a filter that matches nothing: what it hides would read as well."""
        flags, narrow = self.flags, context.seen
        for topology in (narrow, None):
            seen = topology or snapshot(context.master())  # what was narrowed to one volume does not tell the names
            said = unknown(flags.volume_ids, flags.collections, seen)
            said += unmatched(flags.job, flags.config, seen) if flags.job else []
            if not said:
                return
        raise ConfigError("; ".join(said))

    def narrowed(self, topology: Topology) -> Topology:
        """What -volumeId and -collection leave of a topology; ConfigError where they name what there is not."""
        ids, collections = self.flags.volume_ids, self.flags.collections
        if said := unknown(ids, collections, topology):
            raise ConfigError("; ".join(said))
        is_wanted = names_filter(",".join(collections))
        volumes = {
            volume_id: replicas
            for volume_id, replicas in topology.volumes.items()
            if is_wanted(replicas[0].collection) and (not ids or volume_id in ids)
        }
        ec = {key: held for key, held in topology.ec.items() if is_wanted(key[1]) and (not ids or key[0] in ids)}
        return replace(topology, volumes=volumes, ec=ec)

    def show(self, rows: Sequence[Row], found: Detection, listed: int) -> None:
        """Show a plan, with so many of the volumes passed over."""
        say, flags = self.screen.say, self.flags
        for loss in self.last_topology.past.lost:
            say(f"volume server {loss.server} {loss.text()}", "problem" if loss.gone else "warning")
        if rows:
            say(f"{len(rows)} to do for {flags.job}:", "bold")
            self.screen.table(
                ("VOLUME", "COLLECTION", "SERVER", "SIZE", "MOVES", "TIME", "REASON"),
                [
                    (
                        ids_text(row.volume_ids),
                        row.collection or "-",
                        _first(row.servers),
                        size_text(row.size) if row.size else "-",
                        size_text(row.moves) if row.moves else "-",
                        f"<{time_text(row.seconds)}" if row.seconds else "-",
                        row.proposal.summary,
                    )
                    for row in rows
                ],
                right=("VOLUME", "SIZE", "MOVES", "TIME"),
            )
            total = sum(row.moves for row in rows)
            seconds = max(sum(row.seconds for row in rows) / flags.concurrent, max(row.seconds for row in rows))
            say(
                f"in all {size_text(total)} to move, in {time_text(seconds)} at most with {flags.concurrent} at once"
                + (f" and {flags.rates[0] / 1e6:.0f} MB/s" if flags.rates[0] else "")
            )
            for line in shut_lines(rows):
                say(line, "warning")
        else:
            say(f"nothing to do for {flags.job}" + (f": {found.summary}" if found.summary else ""))
        shown, rest = found.skipped[:listed], Counter(skip.key for skip in found.skipped[listed:])
        if shown:
            say()
            say(f"{len(found.skipped)} passed over:", "bold")
            self.screen.table(
                ("VOLUME", "COLLECTION", "SERVER", "SIZE", "REASON"),
                [
                    (
                        str(skip.volume_id or "-"),
                        skip.collection or "-",
                        skip.server or "-",
                        size_text(skip.size) if skip.size else "-",
                        skip.reason,
                    )
                    for skip in shown
                ],
                right=("VOLUME", "SIZE"),
            )
        if rest:
            why = ", ".join(f"{count} {key}" for key, count in rest.most_common())
            more = f"and {rest.total()} more" if shown else f"{rest.total()} passed over"
            say(f"{more} ({why}); weed_worker plan {flags.job} -all lists them")
        if fresh := _too_fresh(found):
            say(
                f"{_volumes(fresh)} may get the missing copies back by themselves; {AT_ONCE} repairs at once", "warning"
            )

    def plan(self) -> int:
        """Show what there is to do."""
        rows, found = self.find()
        if self.flags.json:
            _print_json(_plan_document(self.flags, rows, found))
        else:
            self.show(rows, found, len(found.skipped) if self.flags.everything else LIST)
        return 0

    # ---- run

    def run(self) -> int:
        """Do what there is to do."""
        flags, screen = self.flags, self.screen
        if not flags.dry_run and not flags.yes and (flags.json or not sys.stdin.isatty()):
            raise ConfigError("run changes the cluster: add -yes, or -dryRun to see what it would do")
        with own_directory(flags) as directory:
            journal = Journal(directory / "journal")
            unfinished, blocked = journal.unfinished(), list[frozenset[int]]()
            if not flags.dry_run and (unfinished or self.holds_over()):
                with self.lock(lambda why: screen.say(why, "problem")):
                    blocked = self.recover(unfinished)
                    self.end_holds(journal, frozenset[int]().union(*blocked))
            rows, found = self.find()
            if not flags.json:
                self.show(rows, found, 0)
            if _too_fresh(found) and not (flags.dry_run or flags.yes) and self.is_impatient(found):
                rows, found = self.find(min_fault_age_seconds=0)
                self.show(rows, found, 0)
            if rows and not flags.dry_run and not flags.yes and not self.agreed(len(rows)):
                screen.say("nothing was changed")
                return INTERRUPTED
            jobs = Jobs(
                self.flags,
                self.screen,
                self.context,
                self.masters,
                journal,
                [RunItem(row) for row in rows],
                frozenset[int]().union(*blocked),
            )
            if rows:
                with _signals(jobs.stop):
                    if flags.dry_run:
                        jobs.run()
                    else:
                        jobs.run(lambda patience, wait: self.lock(jobs.stop, patience, wait))
            if flags.json:
                outcomes = [item.document() for item in jobs.items]
                _print_json({**_plan_document(flags, rows, found), "dry_run": flags.dry_run, "jobs": outcomes})
            elif rows:
                screen.say(jobs.summary())
            if jobs.interrupted:
                return INTERRUPTED
            failed = any(item.outcome not in ("done", "checked") for item in jobs.items)
            return FAILED if blocked or failed or (_too_fresh(found) and not flags.dry_run) else 0

    def is_impatient(self, found: Detection) -> bool:
        """Ask whether copies are to be made although a server that restarts would bring the missing ones back."""
        for skip in _too_fresh(found)[:LIST]:
            self.screen.say(skip.reason)
        return self.asked(
            f"Nobody knows for how long {_volumes(_too_fresh(found))} lacks copies. Copy now all the same?"
        )

    def agreed(self, jobs: int) -> bool:
        """Ask before anything is changed."""
        return self.asked(f"Do {'this job' if jobs == 1 else f'these {jobs} jobs'} now?")

    def asked(self, question: str) -> bool:
        """Ask whoever sits at the terminal; False for anything but yes."""
        sys.stdout.write(f"{question} [y/N] ")
        sys.stdout.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @contextmanager
    def lock(
        self, lost: Callable[[str], None], patience: float = 0.0, wait: Callable[[float], None] = time.sleep
    ) -> Iterator[None]:
        """Hold the cluster's lock, renewed; Busy names its holder."""
        what = f"weed_worker run {self.flags.job}"
        client = f"{what} ({socket.gethostname()}, process {os.getpid()})"
        with cluster_lock(Cluster(self.channels, self.masters, _Watched(lost)), client, what, patience, wait):
            yield

    def recover(self, unfinished: Iterable[Entry]) -> list[frozenset[int]]:
        """Undo what killed runs left behind; return the volumes of each entry that could not be undone yet."""
        left: list[frozenset[int]] = []
        leash = Leash(600.0)
        with _signals(lambda why: leash.cancel(Cancelled(why))):
            for entry in unfinished:
                what, volumes = f"{entry.job_type} {entry.job_id}", frozenset(entry.volume_ids)
                outcome = execute.undo(entry, self.context(leash))
                if outcome.result is not None:
                    self.screen.say(f"undid what an earlier run of {what} left behind")
                else:
                    why = f"cannot yet undo what an earlier run of {what} left behind: {outcome.reason}"
                    self.screen.say(why, "problem")
                    left.append(volumes)
        if isinstance(leash.reason, Cancelled):
            raise KeyboardInterrupt
        return left

    def holds_over(self) -> int:
        """How many volumes are held longer than they should be, by the records of the cluster."""
        try:
            return sum(hold.is_over for hold in holds.read_all(self.context(Leash(60.0))))
        except TaskError:
            return 0

    def end_holds(
        self,
        journal: Journal,
        spared: frozenset[int] = frozenset(),
        tell: Callable[[str, str, str], None] | None = None,
        dry_run: bool = False,
    ) -> None:
        """End what holds are over, whoever made them; the ends are told, and with `tell` also those that are not."""

        def say(hold: Hold, outcome: str, text: str) -> None:
            if tell is not None:
                tell(f"volume {hold.volume_id}", "checked" if outcome == "waiting" else outcome, text)
            elif outcome != "waiting":
                self.screen.say(text, "" if outcome == "done" else "problem")

        leash = Leash(DEADLINE)
        try:
            with _signals(lambda why: leash.cancel(Cancelled(why))):
                end_holds(journal, lambda: self.context(leash, dry_run), say, spared.__contains__)
        except Cancelled:
            raise KeyboardInterrupt from None
        except TaskError as error:
            if tell is not None:
                tell("holds", "checked", f"no record of holds can be read: {error}")

    # ---- undo

    def undo(self) -> int:
        """Clear up what earlier runs from here left, then open the volumes that are named."""
        flags, screen = self.flags, self.screen
        if not flags.dry_run and not flags.yes and (flags.json or not sys.stdin.isatty()):
            raise ConfigError("undo changes the cluster: add -yes, or -dryRun to see what is left")
        done: list[dict[str, Any]] = []

        def tell(what: str, outcome: str, text: str) -> None:
            done.append({"what": what, "outcome": outcome, "text": text})
            if not flags.json:
                screen.say(f"{what}: {outcome}: {text}", "" if outcome in ("done", "checked") else "problem")

        with own_directory(flags) as directory:
            journal = Journal(directory / "journal")
            unfinished = journal.unfinished()
            for entry in unfinished:
                what = f"{entry.job_type} of volume {ids_text(entry.volume_ids)}"
                tell(what, "checked", left_shut(entry) or f"{len(entry.open)} changes to undo, journal {entry.id}")
            if not unfinished:
                tell(str(directory), "checked", "no run from here left anything")
            wanted = sorted(flags.volume_ids)
            count = len(unfinished) + self.holds_over() + len(wanted)
            if flags.dry_run:
                self.end_holds(journal, tell=tell, dry_run=True)
                for volume_id in wanted:
                    self._reopen(journal, volume_id, tell)
            elif not count:
                self.end_holds(journal, tell=tell)  # shows those that are not over
            elif flags.yes or self.agreed(count):
                with self.lock(lambda why: screen.say(why, "problem")):
                    blocked = self.recover(unfinished)
                    self.end_holds(journal, frozenset[int]().union(*blocked), tell)
                    for volumes in blocked:
                        tell(
                            f"volume {ids_text(sorted(volumes))}", "failed", "it is not to be opened yet, as said above"
                        )
                    for volume_id in sorted(set(wanted) - frozenset[int]().union(*blocked)):
                        self._reopen(journal, volume_id, tell)
        if flags.json:
            _print_json(done)
        return FAILED if any(one["outcome"] == "failed" for one in done) else 0

    def _reopen(self, journal: Journal, volume_id: int, tell: Callable[[str, str, str], None]) -> None:
        dry, name, job = self.flags.dry_run, f"volume {volume_id}", f"undo-{volume_id}"
        open_entry = Journal.memory if dry else journal.open_entry
        leash = Leash(DEADLINE)
        context = self.context(leash, dry)
        context.journal = open_entry(job, "replication", volume_id, masters=list(map(str, self.masters)))

        def work() -> Result:
            with _signals(lambda why: leash.cancel(Cancelled(why))), hold(context, volume_id) as lease:
                return Result(reopen(context, volume_id, lease))

        outcome = execute.attempt(work, context, name)
        if outcome.result is not None:
            tell(name, "checked" if dry else "done", outcome.result.summary)
        else:
            tell(name, "failed", outcome.reason)

    # ---- status, doctor

    def status(self) -> int:
        """Show an admin's workers and jobs, or one worker."""
        flags = self.flags
        view = console_status.of_worker(flags.worker) if flags.worker else console_status.of_admin(flags.admin)
        if flags.json:
            _print_json(view.document)
            return 0
        for title, heads, rows in view.tables:
            self.screen.say(title, "bold")
            if rows:
                self.screen.table(heads, rows)
            self.screen.say()
        return 0

    def doctor(self) -> int:
        """Look for what keeps maintenance from working."""
        flags = self.flags
        cluster = Cluster(self.channels, self.masters, Leash(300.0))
        places = [flags.working_dir] if flags.working_dir else []
        places += [state_dir(flags)]
        for server in flags.forget:
            if not self.last_topology.forget(str(server)):
                raise ConfigError(f"-forget={server}: no such server is missed")
        remember = self.last_topology.look
        findings = console_doctor.examine(cluster, self.security, flags.admin, places, remember, self.narrowed)
        if self.tls_problem:
            findings = console_doctor.with_tls_problem(findings, self.tls_problem)
        if flags.json:
            _print_json([found.document() for found in findings])
        else:
            self.screen.table(("", "WHERE", "WHAT"), [(found.level, found.where, found.text()) for found in findings])
            bad = [found for found in findings if found.is_bad]
            self.screen.say()
            self.screen.say(f"{len(bad)} to mend" if bad else "all is well", "problem" if bad else "ok")
        return FAILED if any(found.is_bad for found in findings) else 0


def _too_fresh(found: Detection) -> list[Skipped]:
    return [skip for skip in found.skipped if skip.key == FRESH]


def _volumes(skips: Sequence[Skipped]) -> str:
    ids = [skip.volume_id for skip in skips]
    return f"volume{'' if len(ids) == 1 else 's'} {ids_text(ids)}"


def shut_lines(rows: Iterable[Row]) -> list[str]:
    """Say how many volumes will refuse writes for long, and why."""
    reasons = Counter(why for row in rows for why in row.proposal.shut.values())
    return [
        f"{count} {'volume refuses' if count == 1 else 'volumes refuse'} writes for about 10 min"
        f"{' each' if count > 1 else ''} after the change: {why}"
        for why, count in reasons.most_common()
    ]


def _first(names: Sequence[str]) -> str:
    return (names[0] + (f" +{len(names) - 1}" if len(names) > 1 else "")) if names else "-"


def _plan_document(flags: Flags, rows: Iterable[Row], found: Detection) -> dict[str, Any]:
    return {
        "job": flags.job,
        "seen": found.seen,
        "summary": found.summary,
        "has_more": found.has_more,
        "proposals": [row.document() for row in rows],
        "skipped": [
            {
                "volume": skip.volume_id,
                "collection": skip.collection,
                "server": skip.server,
                "size": skip.size,
                "reason": skip.reason,
                "key": skip.key,
            }
            for skip in found.skipped
        ],
    }


def _print_json(document: Any) -> None:
    json.dump(document, sys.stdout, indent=2)
    print()


class _Watched(Leash):
    """The leash of the cluster's lock: says so where the lock is lost."""

    def __init__(self, lost: Callable[[str], None]) -> None:
        super().__init__()
        self._lost = lost

    def cancel(self, reason: BaseException) -> None:
        """The lock is lost for this reason."""
        super().cancel(reason)
        self._lost(str(reason))


@contextmanager
def _signals(stop: Callable[[str], None]) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and a lost terminal stop the jobs in order."""
    names = {signal.SIGINT: "interrupted", signal.SIGTERM: "told to stop", signal.SIGHUP: "the terminal is gone"}
    watchers = [gevent.signal_handler(number, stop, why) for number, why in names.items()]
    try:
        yield
    finally:
        for watcher in watchers:
            watcher.cancel()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    finally:
        gc.collect()  # calls that failed must not be left to the end of the interpreter, where no greenlet runs


def _main(words: list[str]) -> int:
    try:
        if {"--help"} & set(normalise(words, USAGE)):
            print(USAGE)
            return 0
        flags = parse(words)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal's encoding does not have
        log.set_up("text", flags.verbosity)
        logging.getLogger().setLevel(logging.INFO if flags.verbosity > 1 else logging.CRITICAL)
        gevent.get_hub().threadpool.maxsize = HUB_THREADS
        share_one_heap()
        allow_many()
        console = Console(flags)
        try:
            command: Callable[[], int] = getattr(console, flags.command)
            return command()
        finally:
            console.close()
    except ConfigError as error:
        print(f"weed_worker: {escaped(str(error))}", file=sys.stderr)
        return WRONG
    except WeedError as error:
        hint = "; weed_worker doctor tells what is in the way" if isinstance(error, ServerFailed) else ""
        print(f"weed_worker: {escaped(str(error))}{hint}", file=sys.stderr)
        return BUSY if isinstance(error, Busy) else FAILED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        print("weed_worker: interrupted before any job was begun", file=sys.stderr)
        return INTERRUPTED
