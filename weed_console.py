"""One-shot maintenance without an admin server: plan, run, status, doctor.

Finds work with the agent's own tasks and does it while an operator looks on. Like the agent it knows greenlets and
signals; what is found and done is the tasks' business, and how it looks is weed_view's.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from gevent import monkey

monkey.patch_all()

import grpc.experimental.gevent

grpc.experimental.gevent.init_gevent()

import fcntl
import gc
import json
import logging
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import docopt
import gevent
from gevent.threadpool import ThreadPool

import weed_doctor
import weed_logging
import weed_overview
import weed_tasks
import weed_values
from weed_cluster import security
from weed_cluster.address import Address
from weed_cluster.client import Channels, Cluster
from weed_cluster.leash import Leash
from weed_cluster.lock import cluster_lock
from weed_cluster.rates import Rates
from weed_cluster.topology import wildcard_filter
from weed_errors import BadTask, Busy, Cancelled, ConfigError, ServerFailed, TaskError, WeedError
from weed_model import Detection, DetectionRequest, Job, Proposal, Value
from weed_settings import ALIASES, TASK_TYPES, normalise
from weed_tasks.journal import Entry, Journal
from weed_view import Bar, Screen, size_text, time_text

USAGE = """\
One-shot maintenance of a SeaweedFS cluster, without an admin server.

Usage:
  weed_worker plan <job> [--set=<name=value>]... [options]
  weed_worker run <job> [--set=<name=value>]... [options]
  weed_worker status [options]
  weed_worker doctor [options]

  plan     shows what there is to do for a job, and why other volumes are passed over; changes nothing
  run      plans and does it: holds the cluster's lock as weed shell does, asks first, undoes what it cannot finish
  status   shows the workers and jobs of an admin server (-admin), or one worker by its metrics port (-worker)
  doctor   looks for whatever keeps maintenance from working, and names the fix

Jobs: vacuum, balance, erasure_coding (ec), ec_balance, replication, remote_upload (remote)

Options:
  -master=<addresses>      masters, comma separated [default: localhost:9333]
  -admin=<host:port>       admin server, for status and doctor; status asks localhost:23646 otherwise
  -worker=<host:port>      status: ask this worker, at its -metricsPort
  -volumeId=<ids>          only these volumes, comma separated
  -collection=<names>      only these collections, comma separated, with * and ?
  -set=<name=value>        a setting of the job, as admin's form has it; may be repeated
  -max=<n>                 do at most so many jobs, 0 for all [default: 0]
  -concurrent=<n>          jobs run at once [default: 2]
  -dryRun                  run: go through every check, change nothing
  -yes                     run: do not ask
  -all                     plan: list every volume that is passed over
  -json                    answer in JSON
  -workingDir=<dir>        where run keeps its journal, and doctor looks for a worker's; otherwise
                           ~/.local/state/weed_worker, or a directory in the temporary one
  -config_dir=<dir>        where security.toml is looked for first
  -maxMBps=<n>             megabytes per second that all jobs together may move, 0 for no limit [default: 0]
  -maxMBpsPerServer=<n>    the same for each volume server [default: 0]
  -ecWindowMB=<n>          memory that one erasure coding job may fill with volume data [default: 20]
  -dataDir=<dirs>          volume directories of this host that may be read directly, comma separated
  -v=<level>               1: what each job notes; 2: warnings of the libraries too [default: 0]
  -h, -help                print this text

Exit status: 0 all is done, or healthy; 1 a job failed or doctor found something; 2 wrong flags or configuration;
3 the cluster is locked by another; 130 interrupted.
"""

HUB_THREADS = 200
"""Every channel with a call under way holds a hub thread."""

DEADLINE = 7200.0
"""Seconds a job may take that names no time and no size."""

PASSES = 3
"""How often a job under a rate limit reads or writes its bytes: copied once, and read from both sides as proof."""

LIST = 20
"""Volumes passed over that a plan lists unless -all is given."""

ONE_SHOT: dict[str, dict[str, Value]] = {"replication": {"min_fault_age_seconds": 0}}
"""Settings whose default makes a job wait for a later look; an operator who looks on decides that himself."""

FAILED, WRONG, BUSY, INTERRUPTED = 1, 2, 3, 130
"""Exit statuses."""


@dataclass(frozen=True)
class Wishes:
    """The flags, checked."""

    command: str
    job: str
    masters: tuple[Address, ...]
    admin: Address | None
    worker: Address | None
    volume_ids: frozenset[int]
    collections: str
    config: Mapping[str, Value]
    most: int
    concurrent: int
    dry_run: bool
    yes: bool
    everything: bool
    json: bool
    working_dir: Path | None
    config_dir: Path | None
    rates: tuple[float, float]  # bytes per second in all, per server
    ec_window: int  # bytes
    data_dirs: tuple[Path, ...]
    verbosity: int


def parse(argv: Sequence[str]) -> Wishes:
    """Read and check the flags; raise ConfigError with one clear line for what is wrong."""
    words = normalise(argv, USAGE)
    last = {word.partition("=")[0]: place for place, word in enumerate(words)}
    words = [word for place, word in enumerate(words) if _stays(word, place == last[word.partition("=")[0]])]
    doc = re.sub(r"(?m)^  -(?=\w)", "  --", USAGE[USAGE.index("Usage:") : USAGE.index("  -h, -help")])
    try:
        given = docopt.docopt(re.sub(r"\n\n  plan .*?\n\n", "\n\n", doc, flags=re.S), words, default_help=False)
    except docopt.DocoptExit:
        raise ConfigError(f"cannot make sense of {' '.join(argv)!r}; -h tells how it is written") from None
    job = (given["<job>"] or "").lower()
    job = ALIASES.get(job, job)
    if job and job not in TASK_TYPES:
        raise ConfigError(f"unknown job {given['<job>']!r}; known are {', '.join(TASK_TYPES)}")
    return Wishes(
        command=next(word for word in ("plan", "run", "status", "doctor") if given[word]),
        job=job,
        masters=_addresses(given, "master"),
        admin=next(iter(_addresses(given, "admin")), None),
        worker=next(iter(_addresses(given, "worker")), None),
        volume_ids=frozenset(_volume_ids(given["--volumeId"] or "")),
        collections=given["--collection"] or "",
        config=_config(job, given["--set"]),
        most=_number(given, "max", 0),
        concurrent=_number(given, "concurrent", 1),
        dry_run=given["--dryRun"],
        yes=given["--yes"],
        everything=given["--all"],
        json=given["--json"],
        working_dir=Path(given["--workingDir"]).expanduser() if given["--workingDir"] else None,
        config_dir=Path(given["--config_dir"]).expanduser() if given["--config_dir"] else None,
        rates=(_number(given, "maxMBps", 0) * 1e6, _number(given, "maxMBpsPerServer", 0) * 1e6),
        ec_window=_number(given, "ecWindowMB", 16) << 20,
        data_dirs=tuple(Path(part) for part in (given["--dataDir"] or "").split(",") if part),
        verbosity=_number(given, "v", 0),
    )


def _stays(word: str, is_last: bool) -> bool:
    """Whether a word counts: of a flag given twice the last one does, but each -set."""
    return is_last or word.startswith("--set=") or not word.startswith("-")


def _addresses(given: Mapping[str, Any], name: str) -> tuple[Address, ...]:
    try:
        return tuple(Address.parse(part) for part in (given[f"--{name}"] or "").split(",") if part.strip())
    except BadTask as error:
        raise ConfigError(f"-{name}: {error}") from None


def _number(given: Mapping[str, Any], name: str, least: int) -> int:
    text = given[f"--{name}"]
    if not text.isdecimal() or not least <= int(text) < 10**9:
        raise ConfigError(f"-{name}={text} is out of range; a whole number of at least {least}")
    return int(text)


def _volume_ids(text: str) -> Iterator[int]:
    for part in filter(None, (part.strip() for part in text.split(","))):
        if not part.isdecimal() or not 0 < int(part) < 2**32:
            raise ConfigError(f"-volumeId: {part!r} is no volume id")
        yield int(part)


def _config(job: str, given: Iterable[str]) -> dict[str, Value]:
    """The job's settings over its defaults; refuses what admin's form would not offer."""
    if not job:
        return {}
    pairs = [text.partition("=") for text in given]
    descriptor = _task(job).DESCRIPTOR
    known = [form_field.name for form_field in descriptor.fields]
    for name, equals, _value in pairs:
        if name not in known:
            raise ConfigError(f"-set: {job} has no setting {name!r}; it has {', '.join(known) or 'none'}")
        if not equals:
            raise ConfigError(f"-set={name} needs a value: -set={name}=...")
    wanted: dict[str, Value] = {name: value for name, _equals, value in pairs}
    config, warnings = weed_values.settings(descriptor, ONE_SHOT.get(job, {}), wanted)
    if warnings:
        raise ConfigError(f"-set: {warnings[0]}")
    return config


def _task(job: str) -> ModuleType:
    return weed_tasks.load([job])[job]


# ---- plan ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One proposal as people see it. `moves` is bytes, `seconds` the longest it should take; 0 where unknown."""

    proposal: Proposal
    volume_ids: tuple[int, ...]
    collection: str
    servers: tuple[str, ...]
    size: int
    moves: int
    seconds: float

    @classmethod
    def of(cls, job: str, proposal: Proposal, rate: float) -> Row:
        """Read what a proposal says; `rate` is the limit in bytes per second, 0 for none."""
        params, parameters = proposal.params, proposal.parameters
        moves = params.balance_params.moves
        servers = [source.node for source in params.sources] or [move.source_node for move in moves]
        servers = servers or [str(parameters[key]) for key in ("server", "source_server") if parameters.get(key)]
        return cls(
            proposal,
            Job(proposal.id, job, params, parameters).volume_ids,
            params.collection or (moves[0].collection if moves else str(parameters.get("collection", ""))),
            tuple(dict.fromkeys(servers)),
            params.volume_size or sum(move.volume_size for move in moves),
            proposal.bytes_to_move,
            max(proposal.estimated_seconds, PASSES * proposal.bytes_to_move / rate if rate else 0.0),
        )

    def document(self) -> dict[str, Any]:
        """The row in JSON."""
        return {
            "id": self.proposal.id,
            "volumes": list(self.volume_ids),
            "collection": self.collection,
            "servers": list(self.servers),
            "size": self.size,
            "reason": self.proposal.summary,
            "detail": self.proposal.detail,
            "priority": self.proposal.priority,
            "bytes_to_move": self.moves,
            "seconds_at_most": self.seconds,
        }


class Console:
    """One command: what it was asked, where it writes, and how it reaches the cluster."""

    def __init__(self, wishes: Wishes) -> None:
        self.wishes = wishes
        self.screen = Screen(quiet=wishes.json)
        self.security = security.load(wishes.config_dir)
        self.channels = Channels(self.security.credentials, self.security.options)
        self.native = ThreadPool(2)
        self.rates = Rates(*wishes.rates)

    def close(self) -> None:
        """Hang up."""
        self.channels.close()
        self.native.kill()

    def context(self, leash: Leash, entry: Entry, dry_run: bool = False) -> weed_tasks.Context:
        """What a task gets."""
        wishes = self.wishes
        return weed_tasks.Context(
            cluster=Cluster(self.channels, wishes.masters, leash),
            journal=entry,
            compute=lambda function, *args: self.native.apply(function, args),
            rates=self.rates,
            options=weed_tasks.Options(ec_window=wishes.ec_window, data_dirs=wishes.data_dirs, dry_run=dry_run),
            log=lambda line: self.screen.say(line, "dim") if wishes.verbosity else None,
        )

    def find(self) -> tuple[list[Row], Detection]:
        """Look for work, and keep what -volumeId, -collection and -max leave."""
        wishes = self.wishes
        config = dict(wishes.config)
        if wishes.collections and not config.get("collection_filter") and "collection_filter" in config:
            names = (re.escape(name).replace(r"\*", ".*").replace(r"\?", ".") for name in wishes.collections.split(","))
            config["collection_filter"] = f"^({'|'.join(name.strip() for name in names)})$"
        only = next(iter(wishes.volume_ids)) if len(wishes.volume_ids) == 1 else 0
        request = DetectionRequest(
            wishes.job, config, tuple(map(str, wishes.masters)), sequence=time.time_ns(), volume_id=only
        )
        found: Detection = _task(wishes.job).detect(request, self.context(Leash(DEADLINE), Journal.memory()))
        is_wanted = wildcard_filter(wishes.collections)
        rows = [Row.of(wishes.job, proposal, wishes.rates[0]) for proposal in found.proposals]
        rows = [
            row
            for row in rows
            if is_wanted(row.collection) and (not wishes.volume_ids or wishes.volume_ids.issuperset(row.volume_ids))
        ]
        skipped = [
            skip
            for skip in found.skipped
            if is_wanted(skip.collection) and (not wishes.volume_ids or skip.volume_id in wishes.volume_ids)
        ]
        rows = rows[: wishes.most or None]
        return rows, Detection([row.proposal for row in rows], skipped, found.has_more, found.seen, found.summary)

    def show(self, rows: Sequence[Row], found: Detection, listed: int) -> None:
        """Show a plan, with so many of the volumes passed over."""
        say, wishes = self.screen.say, self.wishes
        if rows:
            say(f"{len(rows)} to do for {wishes.job}:", "bold")
            self.screen.table(
                ("VOLUME", "COLLECTION", "SERVER", "SIZE", "MOVES", "TIME", "REASON"),
                [
                    (
                        _ids(row.volume_ids),
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
            seconds = max(sum(row.seconds for row in rows) / wishes.concurrent, max(row.seconds for row in rows))
            say(
                f"in all {size_text(total)} to move, in {time_text(seconds)} at most with {wishes.concurrent} at once"
                + (f" and {wishes.rates[0] / 1e6:.0f} MB/s" if wishes.rates[0] else "")
            )
        else:
            say(f"nothing to do for {wishes.job}" + (f": {found.summary}" if found.summary else ""))
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
            say(f"{more} ({why}); weed_worker plan {wishes.job} -all lists them")

    def plan(self) -> int:
        """Show what there is to do."""
        rows, found = self.find()
        if self.wishes.json:
            _print_json(_plan_document(self.wishes, rows, found))
        else:
            self.show(rows, found, len(found.skipped) if self.wishes.everything else LIST)
        return 0

    # ---- run

    def run(self) -> int:
        """Do what there is to do."""
        wishes, screen = self.wishes, self.screen
        if not wishes.dry_run and not wishes.yes and (wishes.json or not sys.stdin.isatty()):
            raise ConfigError("run changes the cluster: add -yes, or -dryRun to see what it would do")
        with _own_directory(wishes) as directory:
            journal = Journal(directory / "journal")
            unfinished = journal.unfinished()
            if unfinished and not wishes.dry_run:
                with self.lock(lambda why: screen.say(why, "problem")):
                    unfinished = self.recover(unfinished)
            rows, found = self.find()
            if not wishes.json:
                self.show(rows, found, 0)
            if rows and not wishes.dry_run and not wishes.yes and not self.agreed(len(rows)):
                screen.say("nothing was changed")
                return INTERRUPTED
            jobs = Jobs(self, journal, [Work(row) for row in rows])
            jobs.blocked = {volume for entry in unfinished for volume in entry.volume_ids}
            if rows:
                with _signals(jobs.stop):
                    if wishes.dry_run:
                        jobs.run()
                    else:
                        with self.lock(jobs.stop):
                            jobs.run()
            if wishes.json:
                outcomes = [work.document() for work in jobs.works]
                _print_json({**_plan_document(wishes, rows, found), "dry_run": wishes.dry_run, "jobs": outcomes})
            elif rows:
                screen.say(jobs.summary())
            if jobs.interrupted:
                return INTERRUPTED
            return FAILED if unfinished or any(work.outcome not in ("done", "checked") for work in jobs.works) else 0

    def agreed(self, jobs: int) -> bool:
        """Ask before anything is changed."""
        sys.stdout.write(f"Do {'this job' if jobs == 1 else f'these {jobs} jobs'} now? [y/N] ")
        sys.stdout.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @contextmanager
    def lock(self, lost: Callable[[str], None]) -> Iterator[None]:
        """Hold the cluster's lock, renewed; Busy names its holder."""
        what = f"weed_worker run {self.wishes.job}"
        client = f"{what} ({socket.gethostname()}, process {os.getpid()})"
        with cluster_lock(Cluster(self.channels, self.wishes.masters, _Watched(lost)), client, what):
            yield

    def recover(self, unfinished: Iterable[Entry]) -> list[Entry]:
        """Undo what killed runs left behind; return the entries that could not be undone yet."""
        left = []
        for entry in unfinished:
            what = f"{entry.job_type} {entry.job_id}"
            try:
                _task(entry.job_type).recover(entry, self.context(Leash(600.0), entry))
                self.screen.say(f"undid what an earlier run of {what} left behind")
            except TaskError as error:
                self.screen.say(f"cannot yet undo what an earlier run of {what} left behind: {error}", "problem")
                left.append(entry)
            finally:
                entry.close()
        return left

    # ---- status, doctor

    def status(self) -> int:
        """Show an admin's workers and jobs, or one worker."""
        wishes = self.wishes
        view = weed_overview.of_worker(wishes.worker) if wishes.worker else weed_overview.of_admin(wishes.admin)
        if wishes.json:
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
        wishes = self.wishes
        cluster = Cluster(self.channels, wishes.masters, Leash(300.0))
        places = [wishes.working_dir] if wishes.working_dir else []
        places += [_state_dir(wishes)]
        findings = weed_doctor.examine(cluster, self.security, wishes.admin, places)
        if wishes.json:
            _print_json([found.document() for found in findings])
        else:
            self.screen.table(("", "WHERE", "WHAT"), [(found.level, found.where, found.text()) for found in findings])
            bad = [found for found in findings if found.is_bad]
            self.screen.say()
            self.screen.say(f"{len(bad)} to mend" if bad else "all is well", "problem" if bad else "ok")
        return FAILED if any(found.is_bad for found in findings) else 0


def _ids(volume_ids: Sequence[int]) -> str:
    return ",".join(map(str, volume_ids[:3])) + (f",+{len(volume_ids) - 3}" if len(volume_ids) > 3 else "") or "-"


def _first(names: Sequence[str]) -> str:
    return (names[0] + (f" +{len(names) - 1}" if len(names) > 1 else "")) if names else "-"


def _plan_document(wishes: Wishes, rows: Iterable[Row], found: Detection) -> dict[str, Any]:
    return {
        "job": wishes.job,
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


# ---- the jobs of a run --------------------------------------------------------------------------------------------


@dataclass
class Work:
    """One job of a run."""

    row: Row
    leash: Leash = field(default_factory=Leash)
    outcome: str = "waiting"  # then done, checked (dry run), failed, undone or not started
    text: str = ""
    seconds: float = 0.0

    def document(self) -> dict[str, Any]:
        """The job's end in JSON."""
        return {
            "id": self.row.proposal.id,
            "volumes": list(self.row.volume_ids),
            "outcome": self.outcome,
            "text": self.text,
            "seconds": round(self.seconds, 1),
            "bytes_read": self.leash.read,
            "bytes_written": self.leash.written,
        }


class Jobs:
    """The jobs of one run: several at once, never two on one volume, and an end in order when interrupted."""

    def __init__(self, console: Console, journal: Journal, works: list[Work]) -> None:
        self.works = works
        self.blocked: set[int] = set()  # volumes on which an earlier run could not be undone
        self.interrupted = ""
        self._console = console
        self._journal = journal
        self._busy: set[int] = set()
        self._change = threading.Condition()
        self._seconds = 0.0

    def run(self) -> None:
        """Run them all, or until stop()."""
        wishes, began = self._console.wishes, time.monotonic()
        lanes = [
            threading.Thread(target=self._lane, name=f"job lane {number}")
            for number in range(min(wishes.concurrent, len(self.works)))
        ]
        with self._console.screen.board(len(self.works), sum(work.row.moves for work in self.works)):
            for lane in lanes:
                lane.start()
            for lane in lanes:
                lane.join()
        self._seconds = time.monotonic() - began

    def stop(self, why: str) -> None:
        """Start no further job; break the running ones off, which undo what they did or finish what they must."""
        say = self._console.screen.say
        if self.interrupted:
            say("still undoing; what a kill leaves behind, the next run undoes from the journal", "warning")
            return
        self.interrupted = why
        say(f"{why}: running jobs finish what they must and undo the rest", "warning")
        for work in self.works:
            work.leash.cancel(Cancelled(why))

    def summary(self) -> str:
        """How it all ended, in one line."""
        count = Counter(work.outcome for work in self.works)
        moved = sum(work.row.moves for work in self.works if work.outcome == "done")
        told = ", ".join(f"{number} {outcome}" for outcome, number in count.items())
        dry = "dry run, nothing was changed: " if self._console.wishes.dry_run else ""
        return f"{dry}{told} in {time_text(self._seconds)}" + (f", {size_text(moved)}" if moved and not dry else "")

    def _lane(self) -> None:
        while (work := self._next()) is not None:
            volumes = set(work.row.volume_ids)
            try:
                self._run(work)
            finally:
                with self._change:
                    self._busy -= volumes
                    self._change.notify_all()

    def _next(self) -> Work | None:
        """The first job that waits and whose volumes are free; None when none is left to start."""
        with self._change:
            while True:
                waiting = [work for work in self.works if work.outcome == "waiting"]
                for work in waiting:
                    if self.interrupted or not self.blocked.isdisjoint(work.row.volume_ids):
                        work.outcome = "not started"
                        work.text = self.interrupted or "changes of an earlier run could not be undone yet"
                    elif self._busy.isdisjoint(work.row.volume_ids):
                        work.outcome = "running"
                        self._busy.update(work.row.volume_ids)
                        return work
                if not waiting or not any(work.outcome == "waiting" for work in waiting):
                    return None
                self._change.wait()

    def _run(self, work: Work) -> None:
        console, row, began = self._console, work.row, time.monotonic()
        wishes = console.wishes
        task = _task(wishes.job)
        config, masters = dict(wishes.config), tuple(map(str, wishes.masters))
        job = Job(row.proposal.id, wishes.job, row.proposal.params, row.proposal.parameters, config, masters)
        bar = Bar(f"{wishes.job} {_ids(row.volume_ids)}", row.moves)
        console.screen.started(bar)
        work.leash.expire(weed_tasks.deadline(job, DEADLINE))
        volume = row.volume_ids[0] if row.volume_ids else 0
        facts = {"masters": list(masters)}
        if wishes.dry_run:
            entry = Journal.memory(job.id, job.type, volume, **facts)
        else:
            entry = self._journal.open_entry(job.id, job.type, volume, **facts)
        try:
            context = console.context(work.leash, entry, wishes.dry_run)
            context.report = lambda fraction, stage, _figures: console.screen.moved(bar, fraction, stage)
            work.text = task.run(job, context).summary
            work.outcome = "checked" if wishes.dry_run else "done"
        except Cancelled as error:
            work.outcome, work.text = "undone", f"{error.reason}, while {bar.stage or 'starting'}"
        except TaskError as error:
            work.outcome, work.text = "failed", f"{error} (while {bar.stage or 'starting'})"
        except Exception as error:
            logging.getLogger(__name__).debug("unexpected", exc_info=True)
            work.outcome, work.text = "failed", f"{type(error).__name__}: {error}"
        finally:
            entry.close()
        work.seconds = time.monotonic() - began
        console.screen.ended(bar, work.outcome, work.text)


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


# ---- where a run keeps its journal --------------------------------------------------------------------------------


def _state_dir(wishes: Wishes) -> Path:
    """The directory for this cluster: under -workingDir, the home directory, or the temporary one."""
    name = "console-" + re.sub(r"[^A-Za-z0-9.-]", "_", "_".join(sorted(map(str, wishes.masters))))[:100]
    if wishes.working_dir:
        return wishes.working_dir / name
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    base = Path(home) / "weed_worker"
    nearest = next((path for path in [base, *base.parents] if path.exists()), Path("/"))
    if not base.is_absolute() or not os.access(nearest, os.W_OK | os.X_OK):
        base = Path(tempfile.gettempdir()) / f"weed_worker-{os.getuid()}"
    return base / name


@contextmanager
def _own_directory(wishes: Wishes) -> Iterator[Path]:
    """The state directory, held against a second run on the same cluster from here."""
    path = _state_dir(wishes)
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
            raise ConfigError(f"another run on this cluster uses {path}; wait for it, or name a -workingDir") from None
        yield path
    finally:
        os.close(file)


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
        wishes = parse(words)
        weed_logging.set_up("text", wishes.verbosity)
        logging.getLogger().setLevel(logging.INFO if wishes.verbosity > 1 else logging.CRITICAL)
        gevent.get_hub().threadpool.maxsize = HUB_THREADS
        console = Console(wishes)
        try:
            command: Callable[[], int] = getattr(console, wishes.command)
            return command()
        finally:
            console.close()
    except ConfigError as error:
        print(f"weed_worker: {error}", file=sys.stderr)
        return WRONG
    except WeedError as error:
        hint = "; weed_worker doctor tells what is in the way" if isinstance(error, ServerFailed) else ""
        print(f"weed_worker: {error}{hint}", file=sys.stderr)
        return BUSY if isinstance(error, Busy) else FAILED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        print("weed_worker: interrupted; nothing was changed", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
