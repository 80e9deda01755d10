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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

import weed_tasks
from weed_cluster import admin as admin_http
from weed_cluster import security
from weed_cluster.address import Address
from weed_cluster.channels import Channels
from weed_cluster.client import Cluster
from weed_cluster.leash import Leash
from weed_cluster.lock import cluster_lock
from weed_cluster.masters import Masters
from weed_cluster.rates import Rates
from weed_cluster.topology import DEFAULT_COLLECTION, Topology, names_filter, snapshot
from weed_console import doctor as console_doctor
from weed_console import doctor_view, failures, plan_view, spelling, status_view
from weed_console import help as console_help
from weed_console.admin_jobs import AdminJob, under_way
from weed_console.doctor.departure import look_at_departure, nodes_of
from weed_console.estimate import Paces
from weed_console.flags import COMMANDS, HABITS, SCRIPT_JOB, Flags, job_named, parse
from weed_console.jobs import DEADLINE, Jobs, Row, RunItem, ids_text, own_directory, state_dir
from weed_console.plan_view import LIST, Look, by_gain
from weed_console.screen import Screen
from weed_console.status import ADMIN
from weed_core import log
from weed_core.errors import (
    AdminRefused,
    AdminUnavailable,
    Busy,
    Cancelled,
    ConfigError,
    ServerFailed,
    TaskError,
    WeedError,
)
from weed_core.guess import meant
from weed_core.job_types import BY_NAME, JOB_TYPES, TASK_TYPES, named
from weed_core.model import Detection, DetectionRequest, Result, Skipped
from weed_core.runtime import HUB_THREADS, make_ready
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
from weed_state.shelf import findings_in, scrubs_in
from weed_tasks import execute
from weed_tasks.filters import look, unknown, unmatched
from weed_tasks.reopen import end_holds, reopen, strange
from weed_tasks.replication.plan import FRESH

_FIRST = ("ec_repair", "replication")

IN_ORDER = (*_FIRST, *(row.name for row in JOB_TYPES if row.name not in _FIRST and not row.is_asked_for))
"""The job types as a plan of all lists them: what mends comes before what only tidies up."""

AT_ONCE = "-set=min_fault_age_seconds=0"

FAILED, WRONG, BUSY, UNREACHABLE, INTERRUPTED = 1, 2, 3, 4, 130
"""Exit statuses."""

WATCH = 2.0
"""Seconds between two looks of status -watch."""

STAYS = 5
"""Of doctor -node, where the servers may be stopped and not be removed for good."""

WORK = 2
"""Of plan -exitCode, where there is work."""


class Console:
    """One command: what it was asked, where it writes, and how it reaches the cluster."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self.screen = Screen(quiet=flags.json, hushed=flags.quiet)
        admin_http.sign_in_as(admin_http.login_of(flags.admin_login), flags.admin or Address.parse(ADMIN))
        self.tls_problem = ""  # for the doctor, who goes on without
        try:
            self.security = security.load(flags.config_dir)
        except ConfigError as error:
            if flags.command != "doctor":
                raise
            self.security, self.tls_problem = security.Security({}, ""), str(error)
        self.channels = Channels(
            self.security.credentials,
            self.security.options,
            uploads=self.security.uploads,
            server_credentials=self.security.server_credentials,
        )
        self.masters = Masters(flags.masters)
        self.native = ThreadPool(2)
        self.rates = Rates(*flags.rates)
        self.last_topology = LastTopology(state_dir(flags), [flags.working_dir] if flags.working_dir else [])
        self.findings = findings_in(flags.working_dir or state_dir(flags))
        self.scrubbed = scrubs_in(flags.working_dir or state_dir(flags))

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
            options=Options(
                ec_window=flags.ec_window,
                data_dirs=flags.data_dirs,
                dry_run=dry_run,
                volume_metrics_port=flags.volume_metrics_port,
            ),
            log=lambda line: self.screen.say(line, "dim") if flags.verbosity else None,
            remember=self.last_topology.look,
            findings=self.findings,
            scrubbed=self.scrubbed,
        )

    def find(self, job: str = "", context: Context | None = None, **changed: Value) -> Look:
        """Look for work, with changed settings, and keep what -volumeId, -collection and -max leave."""
        flags, job = self.flags, job or self.flags.job
        usual = {**weed_tasks.load([job])[job].DESCRIPTOR.defaults, **HABITS.get(job, {})}
        config = asked = {**(flags.config or usual), **changed}
        if flags.collections and not config.get("collection_filter") and "collection_filter" in config:
            names = (re.escape(name).replace(r"\*", ".*").replace(r"\?", ".") for name in flags.collections)
            either = "|".join("" if name == DEFAULT_COLLECTION else name for name in names)
            config = {**config, "collection_filter": f"^({either})$"}
        only = next(iter(flags.volume_ids)) if len(flags.volume_ids) == 1 else 0
        request = DetectionRequest(
            job,
            config,
            tuple(map(str, flags.masters)),
            sequence=time.time_ns(),
            volume_id=only,
            is_single=True,
            target=str(flags.target or ""),
            filers=tuple(map(str, flags.filers)),
        )
        if flags.working_dir and not (flags.command == "run" and flags.volume_ids):
            request = Setbacks(flags.working_dir).told(request, job)
        context = context or self.context(Leash(DEADLINE))
        found = look(weed_tasks.load([job])[job], request, context)
        self.check_filters(context, job, asked)
        is_wanted = names_filter(",".join(flags.collections))
        paces = Paces(state_dir(flags))
        rows = [
            row
            for row in by_gain(Row.of(job, proposal, paces, flags.rates[0]) for proposal in found.proposals)
            if is_wanted(row.collection) and (not flags.volume_ids or row.is_on(flags.volume_ids))
        ]
        skipped = [
            skip
            for skip in found.skipped
            if is_wanted(skip.collection) and (not flags.volume_ids or skip.volume_id in flags.volume_ids)
        ]
        most = flags.most or len(rows)
        kept = Detection([row.proposal for row in rows[:most]], skipped, found.has_more, found.seen, found.summary)
        return Look(job, rows[:most], kept, context.seen, len(rows[most:]))

    def check_filters(self, context: Context, job: str, config: Mapping[str, Value]) -> None:
        """Raise ConfigError for a filter that matches nothing: what it hides would read as well."""
        flags, narrow = self.flags, context.seen
        for topology in (narrow, None):
            seen = topology or snapshot(context.master())  # what was narrowed to one volume does not tell the names
            said = unknown(flags.volume_ids, flags.collections, seen)
            said += unmatched(job, config, seen) if flags.job else []
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

    def show(self, found: Look) -> None:
        """Show a plan."""
        self.show_missing()
        plan_view.show(self.screen, self.flags, found)
        if fresh := _too_fresh(found.found):
            self.screen.say(
                f"{_volumes(fresh)} may get the missing copies back by themselves; {AT_ONCE} repairs at once", "warning"
            )

    def show_missing(self) -> None:
        """Say which volume servers are missing."""
        for loss in self.last_topology.past.lost:
            self.screen.say(f"volume server {loss.server} {loss.text()}", "problem" if loss.gone else "warning")

    def plan(self) -> int:
        """Show what there is to do, for one job type or for all."""
        if not self.flags.job:
            return self.plan_all()
        found = self.find()
        if self.flags.json:
            _print_json(self.document(found))
        else:
            self.show(found)
            if found.rows:
                self.screen.command(spelling.command(self.flags, "run", found.job))
        return WORK if self.flags.exit_code and found.rows else 0

    def plan_all(self) -> int:
        """Show what there is to do for every job type, from one look at the cluster."""
        context = _OneLook(**vars(self.context(Leash(DEADLINE))))
        looks, failures = list[Look](), dict[str, str]()
        for job in IN_ORDER:
            try:
                looks.append(self.find(job, context))
            except (ServerFailed, Busy):
                raise
            except (TaskError, ConfigError) as error:
                if context.first is None or self.flags.collections or self.flags.volume_ids:
                    raise
                failures[job] = str(error)
        if self.flags.json:
            _print_json({"plans": [self.document(found) for found in looks], "failed": failures})
        else:
            self.show_cluster(context.first)
            plan_view.show_all(self.screen, self.flags, looks, failures)
        return WORK if self.flags.exit_code and any(found.rows for found in looks) else 0

    def show_cluster(self, topology: Topology | None) -> None:
        """Say which cluster this is about, and who is missing."""
        if topology is not None:
            coded = f", {len(topology.ec)} erasure-coded" if topology.ec else ""
            self.screen.say(
                f"cluster {', '.join(map(str, self.flags.masters))}: {len(topology.nodes)} volume servers, "
                f"{len(topology.volumes)} volumes{coded}",
                "bold",
            )
        self.show_missing()
        self.screen.say()

    def document(self, found: Look) -> dict[str, Any]:
        """A plan in JSON."""
        return {
            **_plan_document(found),
            "next": [spelling.command(self.flags, "run", found.job)] if found.rows else [],
        }

    # ---- run

    def run(self) -> int:
        """Do what there is to do."""
        flags, screen = self.flags, self.screen
        if not flags.dry_run and not flags.yes and (flags.json or not sys.stdin.isatty()):
            raise ConfigError("run changes the cluster: add -yes, or -dryRun to see what it would do")
        with own_directory(flags) as directory:
            journal = Journal(directory / "journal")
            unfinished, blocked = journal.unfinished(), list[frozenset[int]]()
            if not flags.dry_run:
                with self.lock(lambda why: screen.say(why, "problem")):
                    pass  # nobody reads a plan and answers a question for a cluster that another holds
            if not flags.dry_run and (unfinished or self.holds_over()):
                with self.lock(lambda why: screen.say(why, "problem")):
                    blocked = self.recover(unfinished)
                    self.end_holds(journal, frozenset[int]().union(*blocked))
            look = self.find()
            if not flags.json:
                self.show(look)
            if _too_fresh(look.found) and not (flags.dry_run or flags.yes) and self.is_impatient(look.found):
                look = self.find(min_fault_age_seconds=0)
                self.show(look)
            if look.rows and not flags.dry_run and not flags.yes and not self.agreed(len(look.rows)):
                screen.say("nothing was changed")
                return 0
            jobs, look = self.do_all(look, journal, frozenset[int]().union(*blocked))
            if flags.json:
                outcomes = [item.document() for item in jobs.items]
                _print_json({**self.document(look), "dry_run": flags.dry_run, "jobs": outcomes})
            elif look.rows:
                self.tell_end(jobs, look)
            if jobs.interrupted:
                return INTERRUPTED
            failed = any(item.outcome not in ("done", "checked") for item in jobs.items)
            failed = failed or (flags.target is not None and not look.rows)
            # What was to go on until nothing is left, and has come to its end before.
            failed = failed or (self.goes_on and not look.rows and look.found.seen > 0)
            return FAILED if blocked or failed or (_too_fresh(look.found) and not flags.dry_run) else 0

    @property
    def goes_on(self) -> bool:
        """Whether this run looks again once it has done what there was, until nothing is left."""
        flags = self.flags
        return BY_NAME[flags.job].goes_on and not (flags.dry_run or flags.most or flags.volume_ids)

    def do_all(self, look: Look, journal: Journal, blocked: frozenset[int]) -> tuple[Jobs, Look]:
        """Do what a look found, and with some job types look again until nothing is left; return both of the end."""
        flags, done = self.flags, list[RunItem]()
        while True:
            items = [RunItem(row) for row in look.rows]
            jobs = Jobs(flags, self.screen, self.context, self.masters, journal, items, blocked)
            if items:
                with _signals(jobs.stop, jobs.interrupt):
                    if flags.dry_run:
                        jobs.run()
                    else:
                        jobs.run(lambda patience, wait, jobs=jobs: self.lock(jobs.stop, patience, wait))  # type: ignore[misc]
            done += items
            if not items or not self.goes_on or jobs.interrupted or any(item.outcome != "done" for item in items):
                jobs.items = done
                return jobs, look
            self.screen.say(jobs.summary())
            look = self.find()
            if not flags.json:
                self.show(look)

    def tell_end(self, jobs: Jobs, look: Look) -> None:
        """Say how a run ended, and what to type next."""
        flags, screen = self.flags, self.screen
        for item in jobs.items:
            if item.told:
                plan_view.show_script(screen, item.told)
        failed = sorted({n for item in jobs.items if item.outcome == "failed" for n in item.row.volume_ids})
        screen.say(jobs.summary(), "problem" if failed else "")
        if flags.dry_run:
            screen.command(spelling.command(flags, "run", look.job))
        elif failed and flags.job != SCRIPT_JOB:
            again = {"volumeId": ",".join(map(str, failed))}
            screen.command(spelling.command(flags, "run", look.job, again), "again")
        elif look.left or jobs.interrupted:
            screen.command(spelling.command(flags, "run", look.job), "the rest")

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
        client = f"weed_worker run {self.flags.job} ({socket.gethostname()}, process {os.getpid()})"
        with cluster_lock(Cluster(self.channels, self.masters, _Watched(lost)), client, patience, wait):
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
            self.check_reach()
            self.tell_strange({*wanted, *(number for entry in unfinished for number in entry.volume_ids)}, tell)
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

    def check_reach(self) -> None:
        """Raise ServerFailed where no master answers: what is left cannot be told then."""
        try:
            self.context(Leash(60.0)).master().find()
        except ServerFailed as error:
            if failures.unreachable(error):
                raise

    def tell_strange(self, known: set[int], tell: Callable[[str, str, str], None]) -> None:
        """Tell of the volumes that are read-only although neither a journal here nor a record says why."""
        context = self.context(Leash(60.0))
        try:
            recorded = {hold.volume_id for hold in holds.read_all(context)}
            for volume_id, words in strange(context, known | recorded).items():
                tell(f"volume {volume_id}", "checked", words)
        except TaskError as error:
            tell("volumes", "checked", f"what else is read-only cannot be told: {error}")

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
        """Show an admin's workers and jobs, or one worker; with -watch again and again."""
        if not self.flags.watch:
            status_view.show(self.screen, self.flags)
            return 0
        stopped = Event()
        with _signals(lambda _why: stopped.set()):
            while True:
                try:
                    status_view.show(self.screen, self.flags)
                except AdminUnavailable as error:  # it may come back
                    self.screen.say(str(error), "problem")
                if stopped.wait(WATCH):
                    return 0

    def doctor(self) -> int:
        """Look for what keeps maintenance from working."""
        flags = self.flags
        if flags.nodes:
            return self.departure(Cluster(self.channels, self.masters, Leash(300.0)))
        places = [flags.working_dir] if flags.working_dir else []
        places += [state_dir(flags)]
        for server in flags.forget:
            known = self.last_topology.forget(str(server))
            if not known and not (flags.admin and self.last_topology.give_up(str(server))):
                raise ConfigError(f"-forget={server}: no such server is missed")
        remember = self.last_topology.look
        context = self.context(Leash(300.0), dry_run=True)
        findings = console_doctor.examine(context, self.security, flags.admin, places, remember, self.narrowed)
        if self.tls_problem:
            findings = console_doctor.with_tls_problem(findings, self.tls_problem)
        findings.sort(key=lambda found: found.rank)
        findings = [replace(found, fix=spelling.completed(found.fix, flags)) for found in findings]
        if flags.json:
            _print_json([found.document() for found in findings])
        else:
            doctor_view.show(self.screen, flags, findings)
        return FAILED if any(found.is_bad for found in findings) else 0

    def departure(self, cluster: Cluster) -> int:
        """Tell whether servers may be stopped, and removed for good."""
        if self.tls_problem:
            raise ConfigError(self.tls_problem)
        topology = snapshot(cluster.master())
        nodes = nodes_of(topology, self.flags.nodes)
        jobs: list[AdminJob] = []
        if self.flags.admin:
            dialect = admin_http.probe(self.flags.admin).dialect
            if not dialect:
                raise AdminUnavailable(f"admin {self.flags.admin} does not tell which jobs are under way")
            jobs = under_way(self.flags.admin, dialect)
        found = look_at_departure(cluster, topology, nodes, jobs)
        next_command = doctor_view.next_of(self.flags, found)
        if self.flags.json:
            _print_json({**found.document(), "next": [next_command] if next_command else []})
        else:
            doctor_view.show_departure(self.screen, self.flags, found, next_command)
        return 0 if found.may_remove else STAYS if found.may_stop else FAILED


def _too_fresh(found: Detection) -> list[Skipped]:
    return [skip for skip in found.skipped if skip.key == FRESH]


def _volumes(skips: Sequence[Skipped]) -> str:
    ids = [skip.volume_id for skip in skips]
    return f"volume{'' if len(ids) == 1 else 's'} {ids_text(ids)}"


def _plan_document(look: Look) -> dict[str, Any]:
    found = look.found
    return {
        "job": look.job,
        "seen": found.seen,
        "summary": found.summary,
        "has_more": found.has_more,
        "to_do": len(look.rows) + look.left,
        "left": look.left,
        "to_move_bytes": look.moves,
        "frees_bytes": look.frees,
        "proposals": [row.document() for row in look.rows],
        "skipped": [
            {
                "volume": skip.volume_id,
                "collection": skip.collection,
                "server": skip.server,
                "size_bytes": skip.size,
                "reason": skip.reason,
                "key": skip.key,
            }
            for skip in found.skipped
        ],
    }


class _OneLook(Context):
    """A context of which every whole look at the cluster is the first one, so that plans of all jobs agree."""

    first: Topology | None = None

    def topology(self, volume_id: int = 0) -> Topology:
        """The cluster as it was first seen; what the last plan noted in it is forgotten."""
        if volume_id:
            return super().topology(volume_id)
        if self.first is None:
            self.first = super().topology()
        self.first.forget_notes()
        self.seen = self.first
        return self.seen


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
def _signals(stop: Callable[[str], None], interrupt: Callable[[str], None] | None = None) -> Iterator[None]:
    """Let Ctrl-C (`interrupt`, where that is another thing), SIGTERM and a lost terminal stop the jobs in order."""
    names = {signal.SIGTERM: "told to stop", signal.SIGHUP: "the terminal is gone"}
    watchers = [gevent.signal_handler(number, stop, why) for number, why in names.items()]
    watchers.append(gevent.signal_handler(signal.SIGINT, interrupt or stop, "interrupted"))
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
    asked_json = any(word.lstrip("-") in ("json", "json=true") for word in words)
    try:
        if asked := help_for(words):
            print(asked)
            return _flushed(0)
        flags = parse(words)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names that the terminal's encoding does not have
        log.set_up("text", flags.verbosity)
        logging.getLogger().setLevel(logging.INFO if flags.verbosity > 1 else logging.CRITICAL)
        gevent.get_hub().threadpool.maxsize = HUB_THREADS
        make_ready()
        console = Console(flags)
        try:
            command: Callable[[], int] = getattr(console, flags.command)
            return _flushed(command())
        except ServerFailed as error:
            cluster = Cluster(console.channels, console.masters, Leash(30.0))
            status = UNREACHABLE if failures.unreachable(error) else FAILED
            doctor = f". {spelling.command(flags, 'doctor')} tells what is in the way" if status == FAILED else ""
            return _refuse(failures.words(error, cluster) + doctor, status, flags.json)
        except Busy as error:
            hint = ". Try again when it is done" if "locked by" in str(error) else ""
            if hint and flags.admin:
                hint += f"; weed_worker status -admin={flags.admin} shows what its workers do"
            return _refuse(str(error) + spelling.completed(hint, flags), BUSY, flags.json)
        except WeedError as error:
            by_kind = WRONG if isinstance(error, AdminRefused) else FAILED
            by_kind = UNREACHABLE if isinstance(error, AdminUnavailable) else by_kind
            status = getattr(error, "exit_code", by_kind)
            return _refuse(str(error), status, flags.json)
        finally:
            console.close()
    except WeedError as error:
        return _refuse(str(error), WRONG if isinstance(error, ConfigError) else FAILED, asked_json)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _refuse("interrupted before any job was begun", INTERRUPTED, asked_json)


def _refuse(text: str, status: int, in_json: bool) -> int:
    """Tell why a command did not do what it was asked: in JSON on stdout where that was asked for."""
    if in_json:
        _print_json({"error": text, "status": status})
    else:
        print(f"weed_worker: {escaped(text)}", file=sys.stderr)
    return status


def _flushed(status: int) -> int:
    """The status, with all output written: a reader that is gone is noticed here, not when the interpreter ends."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.flush()
    return status


def help_for(words: Sequence[str]) -> str:
    """The help that is asked for, "" where none is: `help`, `help WORD`, or a command with -h."""
    if words[:1] == ["help"]:
        topic = next(iter(words[1:]), "").lower()
        if not topic or topic.startswith("-"):
            return console_help.overview()
        if topic in COMMANDS:
            return console_help.of_command(topic)
        if guess := meant(topic, COMMANDS) if named(topic) not in TASK_TYPES else "":
            raise ConfigError(f"no help on {topic!r}; did you mean {guess}?")
        return console_help.of_job(job_named(topic))
    if not {"-h", "--h", "-help", "--help"} & set(words):
        return ""
    job = next((word for word in words[1:2] if not word.startswith("-")), "")
    return console_help.of_job(job_named(job)) if job else console_help.of_command(words[0])
