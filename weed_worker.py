"""The worker agent: holds the stream to the admin, runs its tasks, tells how they go, and leaves in order.

This module alone knows greenlets and signals; the tasks are ordinary blocking Python (weed_tasks), the admin's two
dialects are pure translations (weed_protocol).
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from gevent import events, monkey

events.notify_and_call_entry_points = events.notify  # plugins are none of ours, and looking for them takes time
monkey.patch_all()

import grpc.experimental.gevent

grpc.experimental.gevent.init_gevent()

import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.pool import Pool
from gevent.threadpool import ThreadPool
from gevent.util import format_run_info

import weed_tasks
from weed_agent import settings as agent_settings
from weed_agent import status_port
from weed_agent.hand import Assignment, Hand
from weed_agent.http_port import open_port
from weed_agent.ledger import Ledger
from weed_agent.metrics import Metrics
from weed_agent.news import News
from weed_agent.recovery import Recovery
from weed_agent.session import Session, sessions_for
from weed_agent.settings import Settings
from weed_agent.sight import Sight
from weed_agent.snapshot import look, take
from weed_cluster import admin as admin_http
from weed_cluster import security
from weed_cluster.channels import Channels
from weed_cluster.client import Cluster
from weed_cluster.leash import Leash
from weed_cluster.masters import Masters
from weed_cluster.rates import Rates
from weed_core import files, model
from weed_core.errors import Cancelled, ConfigError, TaskError
from weed_core.guess import unknown_command
from weed_core.model import Detection
from weed_core.runtime import HUB_THREADS, make_ready
from weed_core.text import escaped
from weed_core.values import Value
from weed_protocol import commands
from weed_safety.context import Context, Options
from weed_safety.journal import Journal
from weed_state import identity, mounts, task_log
from weed_state.history import History
from weed_state.last_topology import LastTopology
from weed_state.setbacks import Setbacks
from weed_state.shelf import findings_in, scrubs_in
from weed_tasks import execute, filters
from weed_tasks.parts import Parts
from weed_tasks.slots import MOST_OUTSIDE, Held, Slots

__version__ = "0.1.0"

log = logging.getLogger("weed_worker")

CALLS = logging.INFO - 4
"""The log level of -v=4."""

DISK_THREADS = 4  # which wait for the disk; the hub never does
RECOVERY_TIME = 600.0  # seconds for undoing what one killed job left behind, before it is tried again
HAND_BACK = 1.0  # seconds before a job that cannot start is handed back
TELLING = 10.0  # seconds that a stop waits for an admin that takes nothing more of what is left to say

SHORTEST_BEAT = 0.05
"""Seconds between heartbeats, at least: what changes in between is told by one."""

ON_PAPER = ("completion", "man")
"""Words that print a file for a shell, or for man."""

COMMANDS = ("plan", "run", "undo", "status", "doctor")
"""One-shot commands, which weed_console answers."""


class Worker:
    """The whole agent. Theory of operation:

    Each Session reads commands from its stream and hands them to on(). A job becomes an Assignment: it is owed (see
    Ledger), then queued until a slot is free and no other job holds its volumes, then run in a greenlet of its own, and
    its completion is sent or kept. The hand and its slots alone say what runs and what waits: what starts, what is
    asked for and what heartbeats tell come from there. Detections have slots of their own. Everything else is a
    greenlet per duty, linked: should one die, the worker ends with status 1. stop() drains: no new work, heartbeats go
    on, jobs finish, debts are paid; a second stop() cancels and undoes.
    """

    def __init__(self, settings: Settings, claimed: identity.Identity, secure: security.Security) -> None:
        self.settings, worker_id = settings, claimed.worker_id
        self._claimed = claimed  # the directory is this worker's for as long as somebody holds this
        self.security = secure
        self.metrics = Metrics()
        self.tasks = weed_tasks.load(settings.task_types)
        self.identity = commands.Identity(
            worker_id=worker_id,
            instance_id="",
            address=settings.address or socket.gethostname(),
            version=f"weed_worker {__version__}",
            descriptors=tuple(self.tasks[name].DESCRIPTOR for name in settings.task_types),
            max_detect=settings.max_detect,
            max_execute=settings.max_execute,
            max_outside=MOST_OUTSIDE,
        )
        self.journal = Journal(settings.working_dir / "journal")
        self.last_topology = LastTopology(settings.working_dir)
        self.findings = findings_in(settings.working_dir)
        self.scrubbed = scrubs_in(settings.working_dir)
        self.sight = Sight()
        self.setbacks = Setbacks(settings.working_dir)
        self.rates = Rates(settings.total_rate, settings.server_rate)
        self.channels = Channels(
            secure.credentials, secure.options, self._observe, secure.uploads, secure.server_credentials
        )
        self.started = time.monotonic()
        self.history = History(settings.working_dir)
        self.news = News(self.metrics, self.history)
        self.stopping, self.stop_by = "", 0.0
        self.stopped = Event()
        self.died = False
        self._changed = Event()
        held = Held()
        self.hand = Hand(Slots(settings.max_execute, self._changed.set), held)
        self.ledger = Ledger(settings.working_dir, self.hand, self._changed.set, self._beat)
        self.detecting: dict[str, tuple[commands.Detect, Leash]] = {}
        self._pool = Pool()
        self._detect_slots = BoundedSemaphore(settings.max_detect)
        self._native = ThreadPool(2)
        self._news = Event()
        self._asked_to_stop = Event()
        self.masters = Masters(settings.masters, lambda: admin_http.masters_of(settings.admin))
        self.sessions = sessions_for(self, worker_id, settings.task_types)
        self._askers = self.sessions
        self.recovery = Recovery(self.journal, held, lambda: self._context(Leash(RECOVERY_TIME)), self._changed.set)
        self._parts = Parts(self.journal, held, self._changed.set, self.recovery.take, settings.task_timeout)

    # ---- life ------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Work until asked to stop; return the exit status."""
        duties: list[Callable[[], None]] = [
            self._dispatch,
            self._heartbeat,
            self._ask,
            self.ledger.run,
            self.recovery.run,
            self.recovery.end_holds,
            self.history.run,
        ]
        for duty in [*duties, *(session.run for session in self.sessions)]:
            self._keep(gevent.spawn(duty), duty.__qualname__)
        self._asked_to_stop.wait()
        if not self.died:
            self._drain()
        self.stopped.set()
        self.ledger.keep()
        self.history.keep()
        self.channels.close()
        return 1 if self.died else 0

    def _keep(self, greenlet: Any, name: str) -> None:
        """Let the worker end when a greenlet that must not die does."""

        def died(dead: Any) -> None:
            log.critical("%s died: %r; this worker ends", name, dead.exception)
            self.died = True
            self._asked_to_stop.set()

        greenlet.link_exception(died)

    def stop(self, why: str) -> None:
        """Drain; asked a second time, cancel what still runs and undo it."""
        if self.stopping:
            log.warning("%s again: cancelling %d running tasks and undoing what they did", why, len(self.hand.running))
            self._cancel_all("the worker was told to stop at once")
            return
        finish, undo = self.settings.finish_and_undo
        self.stopping, self.stop_by = why, time.time() + finish + undo
        text = (
            "%s: taking no new work; %d tasks finish first, within %.0f s; what does not is undone, within %.0f s more"
        )
        log.info(text, why, len(self.hand.running), finish, undo)
        for work in self.hand.running[:20]:
            log.info("%s: %s [%s]", work.words, work.outlook(time.monotonic()), work.shown_id)
        for work in self.hand.waiting:
            self._finish(work, error=f"the worker stops ({why}); the task was not started", at_capacity=True)
        for _command, leash in self.detecting.values():
            leash.cancel(Cancelled(f"the worker stops ({why})"))
        self._beat()
        self._asked_to_stop.set()

    def _drain(self) -> None:
        finish, undo = self.settings.finish_and_undo
        if not self._pool.join(timeout=finish):
            self._cancel_all(f"the worker stops, and the task did not end within the {finish:.0f} s for that")
            if not self._pool.join(timeout=undo):
                names = ", ".join(work.name for work in self.hand.running)
                log.error("not undone within %.0f s: %s; the next start with this -workingDir does it", undo, names)
        self._tell_all()
        done, failed, left = self.news.completed, self.news.failed, len(self.ledger)
        log.info("stopped: %d tasks completed, %d failed, %d results owed", done, failed, left)

    def _tell_all(self) -> None:
        """Send what is left to say, and leave: for as long as the admin takes it and -grace lasts, and TELLING more."""
        left, until = len(self.ledger), time.time() + TELLING
        while self.hand.keys or self.detecting or not all(session.is_drained for session in self.sessions):
            if len(self.ledger) < left:
                left, until = len(self.ledger), min(time.time(), self.stop_by) + TELLING
            if time.time() > until:
                return
            gevent.sleep(0.05)
        for session in self.sessions:
            session.leave(self.stopping)
        while any(session.connected for session in self.sessions) and time.time() < until:
            gevent.sleep(0.05)

    def _cancel_all(self, why: str) -> None:
        for work in self.hand.running:
            work.leash.cancel(Cancelled(why))

    # ---- admin -----------------------------------------------------------------------------------------------------

    def welcomed(self, session: Session, welcome: commands.Welcome) -> None:
        """The admin took a registration: go on as if the stream had never been away."""
        self.metrics.stream_event("connected")
        types = ", ".join(session.offered)
        log.info("registered as %s for %s (%s)", session.worker_id, types, welcome.message or "accepted")
        self._beat()

    def on(self, command: commands.Command, session: Session) -> None:
        """Obey one command."""
        match command:
            case commands.RunJob():
                self._take(command, session)
            case commands.Detect(request_id):
                session.send(commands.Acknowledged(request_id, True))
                gevent.spawn(self._run_detection, command, session)
            case commands.Describe(request_id, job_type):
                task = self.tasks.get(job_type)
                session.send(commands.Described(request_id, job_type, task.DESCRIPTOR if task else None))
            case commands.Cancel(request_id, target, reason):
                found = self._cancel(target, reason or "cancelled by the admin")
                said = "cancel request accepted" if found else f"no work {target or '(unnamed)'} here"
                session.send(commands.Acknowledged(request_id, found, said))
            case commands.Stop(request_id, reason, grace):
                session.send(commands.Acknowledged(request_id, True, "shutting down"))
                gevent.spawn_later(grace, self.stop, f"the admin asked for it ({reason})")

    # ---- jobs ------------------------------------------------------------------------------------------------------

    def _take(self, command: commands.RunJob, session: Session) -> None:
        """Owe a completion for this job; queue it, or refuse it as the dialect wants it."""
        assert session.dialect is not None
        job = command.job
        waits = session.dialect.QUEUES
        if any(waits or work.command.request_id == command.request_id for work in self.hand.under(job.id)):
            log.info("task %s is assigned again; it is under way, and its result will be sent", job.id)
            return
        full = "" if waits else self.hand.why_full(job)
        work = Assignment(command, session, session.dialect, Leash(), job.volume_ids)
        self.hand.enter(work)
        self.ledger.take(work)
        if command.problem or job.type not in self.tasks:
            known = ", ".join(self.tasks)
            self._finish(work, error=command.problem or f"no task type {job.type!r} here; this worker does {known}")
            return
        if reason := self.why_not(job.type):
            self._finish(work, error=f"not started: {reason}", at_capacity=True)
            return
        if full:  # stays so for a while, and the admin gives the job again 200 ms after the answer
            gevent.spawn_later(HAND_BACK, self._finish, work, error=f"not started: {full}", at_capacity=True)
            return
        self.news.took(work)
        self.hand.wait(work)
        self.ledger.accept(work)

    def why_not(self, job_type: str) -> str:
        """Why no work of this type is started now; "" if it is."""
        if self.stopping:
            return f"the worker stops ({self.stopping})"
        if reason := self.settings.paused():
            return f"the worker is paused ({reason})"
        return "" if self.is_open(job_type) else f"outside of its window {self.settings.windows[job_type]}"

    def is_open(self, job_type: str) -> bool:
        """Whether this is the time of day for a task type."""
        window = self.settings.windows.get(job_type)
        return window is None or window.is_open(datetime.now().time())

    def _dispatch(self) -> None:
        """Start queued work, oldest first, as slots and volumes become free."""
        while True:
            self._changed.wait()
            self._changed.clear()
            while (work := self.hand.start()) is not None:
                self._pool.spawn(self._run_job, work)
            self._beat()

    def _run_job(self, work: Assignment) -> None:
        """Run one task to its end and tell how it went. Whatever happens, exactly one completion."""
        job, work.started = work.command.job, time.monotonic()
        lines = task_log.TaskLog(
            self.settings.working_dir / "task_logs",
            job,
            work.session.worker_id,
            job.params.sources[0].node if job.params.sources else "",
        )
        work.context = context = self._context(work.leash)
        context.log, context.warn = lines.line, lambda line: lines.line(line, "WARNING")
        context.outside_slot = lambda: self.hand.slots.without(work.leash)
        context.report = lambda fraction, stage, figures: self._progress(work, lines, fraction, stage, figures)
        self.news.started(work)
        outcome = execute.run(self.tasks[job.type], job, context, self.journal, self.settings.task_timeout)
        self.recovery.take(context.journal)
        self.setbacks.ended(job, outcome.failure)
        error = outcome.error(work.stage)
        lines.close("failed" if error else "completed", error)
        spent = time.monotonic() - work.started
        self.metrics.task_ended(job.type, outcome.kind, spent, work.leash.read, work.leash.written)
        self._finish(work, result=outcome.result, error=error, cancelled=outcome.is_cancelled, told=outcome.told)

    def _context(self, leash: Leash) -> Context:
        return Context(
            cluster=Cluster(self.channels, self.masters, leash),
            journal=Journal.memory(),
            compute=lambda function, *args: self._native.apply(function, args),
            rates=self.rates,
            options=Options(
                ec_window=self.settings.ec_window,
                data_dirs=self.settings.data_dirs,
                volume_metrics_port=self.settings.volume_metrics_port,
            ),
            part=self._parts.run,
            remember=self.last_topology.look,
            findings=self.findings,
            scrubbed=self.scrubbed,
        )

    def _progress(
        self, work: Assignment, lines: task_log.TaskLog, fraction: float, stage: str, figures: Mapping[str, Value]
    ) -> None:
        if work.has_ended:
            return  # N.B. an update behind the completion brings a task back to life on every admin
        now = time.monotonic()
        is_new = stage != work.stage
        work.fraction, work.stage = max(work.fraction, min(fraction, 1.0)), stage
        if is_new or now - work.told_at >= 1.0:
            work.told_at = now
            job, request = work.command.job, work.command.request_id
            work.tell(commands.Progress(request, job.id, job.type, work.fraction, stage, stage, figures, is_new))
            if is_new:
                self.news.stage(work)
                lines.line(stage, progress=work.fraction * 100)

    def _finish(self, work: Assignment, **outcome: Any) -> None:
        """Owe a job's completion: it is sent, or kept for the next stream, and the slot is free behind it."""
        command = work.command
        work.has_ended = True
        done = commands.Completed(command.request_id, command.job.id, command.job.type, time.time(), **outcome)
        self.news.ended(work, done)
        self.hand.withdraw(work)
        self.ledger.finish(work, done)

    def _cancel(self, target: str, reason: str) -> bool:
        """Cancel what has this request id or job id; False where nothing has."""
        for work in self.hand.waiting:
            if target and target in work.key:
                self._finish(work, error=f"{reason}, before it started", cancelled=True)
                return True
        leashes = [leash for request_id, (_, leash) in self.detecting.items() if request_id == target]
        leashes += [work.leash for work in self.hand.running if target and target in work.key]
        for leash in leashes:
            leash.cancel(Cancelled(reason))
        return bool(leashes)

    # ---- detection -------------------------------------------------------------------------------------------------

    def _run_detection(self, command: commands.Detect, session: Session) -> None:
        """Look for work and tell what was found. Whatever happens, exactly one answer."""
        request, request_id = command.request, command.request_id
        name, leash = request.job_type, Leash()
        self.detecting[request_id] = (command, leash)
        found: Detection | None = None
        error = ""
        try:
            with self._detect_slots:
                self._beat()
                if name not in self.tasks:
                    raise TaskError(f"no task type {name!r} here; this worker does {', '.join(self.tasks)}")
                if reason := self.why_not(name):
                    raise TaskError(f"not looked: {reason}")
                task = self.tasks[name]
                config, warnings = model.settings(task.DESCRIPTOR, request.config)
                for warning in warnings:
                    log.warning("detection of %s: %s", name, warning)
                leash.expire(self.settings.task_timeout)
                context = self._context(leash)
                masters = execute.hear_of(request.masters, context)
                asked = self.setbacks.told(replace(request, config=config, masters=masters), name)
                found = filters.look(task, asked, context)
                self.sight.looked(name, found, context, not asked.volume_id)
        except Cancelled as cancelled:
            error = cancelled.reason
        except TaskError as failure:
            error = str(failure)
        except Exception as failure:
            log.exception("detection of %s failed unexpectedly", name)
            error = f"{type(failure).__name__}: {failure}"
        self.detecting.pop(request_id, None)
        self.news.looked(name, None if error else found, error)
        session.send(commands.Detected(request_id, name, found, error))
        self._beat()

    def stacks(self) -> bytes:
        """Every greenlet's and thread's stack and all jobs, as text."""
        works = [*self.hand.running, *self.hand.waiting]
        jobs = [escaped(f"job {work.name}: {work.fraction:.0%} {work.stage}") for work in works]
        return "\n".join([*format_run_info(), *jobs, ""]).encode(errors="replace")

    # ---- duties ----------------------------------------------------------------------------------------------------

    def status(self, session: Session | None = None) -> commands.Status:
        """One look at the worker; with a session, only that session's jobs are listed."""
        return look(self, session)

    def _beat(self) -> None:
        """Send a heartbeat soon: also at every change of the slots, so that admin's next job need not wait."""
        self._news.set()

    def _heartbeat(self) -> None:
        """Tell the admin at every interval that this worker lives, and in between what is new."""
        interval = self.settings.heartbeat
        due = time.monotonic() + interval
        while True:
            self._news.wait(max(0.0, due - time.monotonic()))
            self._news.clear()
            for session in self.sessions:
                session.send(commands.Heartbeat(self.status(session)))
            now = time.monotonic()
            if now >= due:
                self.metrics.heartbeat_late(now - due)
                due = max(due + interval, now)
                for session in self.sessions:
                    session.check_silence(3 * interval + 10.0)
            gevent.sleep(SHORTEST_BEAT)

    def _ask(self) -> None:
        """Ask classic admins for work while slots are free; a question not yet answered may take one."""
        while True:
            gevent.sleep(self.settings.task_interval)
            free = self.hand.room - sum(session.asks for session in self.sessions)
            first, *others = self._askers
            self._askers = [*others, first]  # so that with one slot free they take turns
            for session in self._askers:
                if free > 0 and not session.asks and not all(map(self.why_not, session.task_types)):
                    session.ask(free)
                    free -= 1

    def reload(self, settings: Settings) -> None:
        """Take over what can be changed while it runs, and certificates; calls under way end with the old ones."""
        self.settings, later = agent_settings.changed_by(self.settings, settings)
        if later:
            log.warning("changed, and in force only after a restart of this worker: %s", ", ".join(later))
        self.rates.set(settings.total_rate, settings.server_rate)
        rates = f"{settings.total_rate / 1e6:.0f} MB/s in all, {settings.server_rate / 1e6:.0f} MB/s per server"
        try:
            self.security.reload()
        except ConfigError as error:
            log.error("certificates not reloaded: %s; what was stays in use: %s", error, self.security.describe())
        else:
            self.channels.renew()
        log.info("reloaded: %s, -v=%d; connections: %s", rates, settings.verbosity, self.security.describe())

    def _observe(self, server: str, call: str, outcome: str) -> None:
        self.metrics.call(server, call, outcome)
        if outcome:
            log.log(CALLS, "%s on %s: %s", call, server, outcome)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker, or a one-shot command; return the exit status: 0 stopped, 1 died, 2 misconfigured."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in (*COMMANDS, "help"):
        from weed_console import commands as console_commands

        return console_commands.main(words)
    try:
        if (paper := _paper(words)) is not None:
            print(paper, end="")
            return 0
        worker = _set_up(words)
    except (ConfigError, OSError) as error:
        print(f"weed_worker: {escaped(str(error))}", file=sys.stderr)
        return ConfigError.exit_code
    gevent.signal_handler(signal.SIGTERM, worker.stop, "SIGTERM")
    gevent.signal_handler(signal.SIGINT, worker.stop, "SIGINT")
    gevent.signal_handler(signal.SIGHUP, _reload, worker, words)
    gevent.signal_handler(signal.SIGUSR1, lambda: print(worker.stacks().decode(), file=sys.stderr))
    status = worker.run()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)  # what is still amid a call, as looks for holds are, would be taken apart with tracebacks


def _paper(words: Sequence[str]) -> str | None:
    """What these words only want to read: help, the version, a file for a shell or for man; None where they do not."""
    if words and words[0] in ON_PAPER:
        from weed_console import completion

        return completion.printed(words, agent_settings.USAGE, __version__)
    if words and (refusal := unknown_command(words[0], (*COMMANDS, "help", *ON_PAPER))):
        raise ConfigError(refusal)
    return agent_settings.printed(words, __version__)


def _set_up(words: Sequence[str]) -> Worker:
    """The worker that these flags ask for, its ports open. Raises ConfigError and OSError."""
    settings = agent_settings.parse(words)
    agent_settings.set_up_as(settings)
    secure = security.load(settings.config_dir, settings.tls_fallback)
    for warning in filter(None, (*settings.warnings, *secure.warnings, mounts.warning(settings.working_dir))):
        log.warning("%s", warning)
    claimed = identity.claim(settings.working_dir, settings.worker_id)
    gevent.get_hub().threadpool.maxsize = HUB_THREADS
    disk = ThreadPool(DISK_THREADS)
    files.wait_elsewhere(lambda function, *args: disk.apply(function, args))
    make_ready()
    worker = Worker(settings, claimed, secure)
    if settings.metrics_port:
        status_port.serve(settings.metrics_ip, settings.metrics_port, worker.metrics, lambda: take(worker))
    if settings.debug_port:
        open_port("127.0.0.1", settings.debug_port, lambda *_: (200, "text/plain; charset=utf-8", worker.stacks()))
    return worker


def _reload(worker: Worker, words: Sequence[str]) -> None:
    """Take on what changed in the files that the flags name."""
    try:
        settings = agent_settings.parse(words)
        agent_settings.set_up_as(settings)
        worker.reload(settings)
    except ConfigError as error:
        log.error("not reloaded: %s", error)


if __name__ == "__main__":
    sys.exit(main())
