"""What an admin server knows of its workers and jobs, or a worker of itself, as tables and as a JSON document.

Asks over HTTP, admins of both dialects, and changes nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from weed_cluster import admin as admin_http
from weed_cluster.address import Address
from weed_console import kinds
from weed_console.admin_jobs import state_of
from weed_core.errors import AdminUnavailable, ConfigError
from weed_core.job_types import TASK_TYPES, TO_PLUGIN, named
from weed_core.text import size_text, time_text
from weed_core.values import unix_seconds

ADMIN = "localhost:23646"

JOBS, RESULTS = 20, 10
"""Jobs of an admin and results of a worker that are listed, newest first; all are counted."""

COUNTED = 1000
"""Jobs that an admin of the plugin dialect keeps, and is asked for."""

Table = tuple[str, Sequence[str], list[list[str]]]
"""Title, heads, rows."""


@dataclass
class Overview:
    """What was learned: the counts first, then who it is about where that is a worker, then tables."""

    document: dict[str, Any]
    counts: str
    tables: list[Table] = field(default_factory=list)
    who: str = ""


@dataclass(frozen=True)
class Only:
    """Which jobs are wanted: of this id or type, "" for all; and whether only those that failed."""

    job: str = ""
    failed: bool = False

    @property
    def type(self) -> str:
        """The job type that is wanted; "" where it is a job, or all."""
        return named(self.job) if named(self.job) in TASK_TYPES else ""

    def wants(self, job_id: str, job_type: str, state: str) -> bool:
        """Whether a job is wanted, by its id, its type and its state in our words."""
        if self.failed and state != "failed":
            return False
        ours = self.type
        return not self.job or job_id == self.job or bool(ours and job_type in (ours, TO_PLUGIN[ours]))

    def check(self, found: Iterable[object]) -> None:
        """ConfigError where a job was named and none was found."""
        if self.job and not self.type and not self.failed and not any(found):
            raise ConfigError(
                f"-job={self.job} is no job type and no job that is known there; without -job all are listed"
            )


ALL = Only()


def counts(states: Iterable[str]) -> str:
    """How many jobs are in which state, in one line."""
    count = Counter(states)
    rare = [f"{count[word]} {word}" for word in ("failed", "cancelled") if count[word]]
    return ", ".join([f"{count['running']} running", f"{count['waiting']} waiting", *rare, f"{count['done']} done"])


# ---- a worker


def of_worker(worker: Address, only: Only = ALL) -> Overview:
    """Ask a worker at its metrics port; raise AdminUnavailable where none answers."""
    with _understood(worker):
        return _worker(worker, only)


def _worker(worker: Address, only: Only) -> Overview:
    code, answer = admin_http.get(worker, "/status")
    if code != 200 or not isinstance(answer, dict) or "current_load" not in answer:
        kind = kinds.kind(worker)
        is_other = f"{worker.http} is {kind}, not a worker's -metricsPort" if kind else ""
        said = f"no worker answers at {worker.http}; is it started with -metricsPort={worker.port}?"
        raise AdminUnavailable(is_other or said)
    for name, state in (("running", "running"), ("waiting", "waiting"), ("ended", "")):
        jobs = answer.get(name, [])
        answer[name] = [job for job in jobs if only.wants(job["id"], job["type"], state or job["outcome"])]
    only.check(answer["running"] + answer["waiting"] + answer["ended"])
    running = [job for job in answer["running"] if job["kind"] == "execution"]
    told = {"failed": answer["tasks_failed"], "done": answer["tasks_completed"]}
    line = f"{len(running)} running, {len(answer['waiting'])} waiting, {told['failed']} failed, {told['done']} done"
    left = [f"{len(answer['to_undo'])} to undo"] if answer.get("to_undo") else []
    left += [f"{answer['results_to_deliver']} results to deliver"] if answer.get("results_to_deliver") else []
    tables: list[Table] = [] if only.failed else [*_work(answer), *_kept(answer)]
    tables.append(_results(answer["ended"][: RESULTS if only == ALL else COUNTED]))
    if not only.failed:
        tables += _looks(answer, only)
    if not only.job and not only.failed:
        tables.append((f"worker {answer['id']}", ("", ""), _facts(answer)))
    reason = f": {answer['reason']}" if answer["reason"] else ""
    who = f"{answer['id']} on {answer['address']}: {answer['state']}{reason}, {answer['current_load']} of "
    who += f"{answer['max_load']} slots; up {time_text(answer['uptime_seconds'])}; admin {answer['admin']}"
    return Overview(answer, f"{line}; {', '.join(left) or 'nothing left to undo or deliver'}", tables, who)


def _work(answer: dict[str, Any]) -> Iterator[Table]:
    rows = []
    for job in answer["running"]:
        if job["kind"] == "detection":
            rows.append([job["text"], "-", "-", "-", "looking"])
            continue
        left = "-" if job["seconds_left"] is None else time_text(job["seconds_left"])
        rate = f"{size_text(job['bytes_per_second'])}/s" if job["bytes_per_second"] else "-"
        rows.append([job["text"], f"{job['progress']:.0%}", rate, left, job["stage"]])
    rows += [[job["text"], "-", "-", "-", "waiting for a slot or a volume"] for job in answer["waiting"][:JOBS]]
    yield _count(len(rows), "job") + " in hand", ("JOB", "DONE", "RATE", "LEFT", "STAGE"), rows


def _kept(answer: dict[str, Any]) -> Iterator[Table]:
    if answer["read_only"]:
        rows = [[one["text"], f"since {_ago(one['since'])}"] for one in answer["read_only"]]
        yield "kept read-only", ("WHAT", "SINCE"), rows
    if answer["to_undo"]:
        yield "left to undo", ("WHAT",), [[words] for words in answer["to_undo"]]


def _results(ended: Sequence[dict[str, Any]]) -> Table:
    rows = [
        [
            one["outcome"],
            f"{one['type']} {','.join(map(str, one['volumes'][:5]))}",
            one["collection"] or "-",
            _ago(one["at"]),
            time_text(one["seconds"]),
            ", ".join(f"{size_text(size)} {word}" for word, size in one["gains_bytes"].items()) or "-",
            one["text"],
        ]
        for one in ended
    ]
    title = "last results" if rows else "no results"
    return title, ("OUTCOME", "JOB", "COLLECTION", "ENDED", "TOOK", "BYTES", "TEXT"), rows


def _looks(answer: dict[str, Any], only: Only) -> Iterator[Table]:
    looks = {name: look for name, look in answer["looks"].items() if not only.job or name == only.type}
    rows = [
        [name, _ago(look["at"]), str(look["to_do"]), str(sum(look["passed_over"].values())), look["text"]]
        for name, look in looks.items()
    ]
    if rows:
        yield "looked for work", ("TYPE", "LOOKED", "TO DO", "OVER", "WHY"), rows
    for look in looks.values():
        if only.type and look["skipped"]:
            skipped = look["skipped"]
            yield (
                f"passed over for {only.type}",
                ("VOLUME", "COLLECTION", "SERVER", "REASON"),
                [[str(s["volume"] or "-"), s["collection"] or "-", s["server"] or "-", s["reason"]] for s in skipped],
            )


def _facts(answer: dict[str, Any]) -> list[list[str]]:
    facts = [
        ("capabilities", ", ".join(answer["capabilities"])),
        ("admin", f"{answer['admin']} ({answer['protocol'] or 'never reached'}), {answer['tls']}"),
        ("last heartbeat", _ago(answer["last_heartbeat"])),
        ("version", answer["version"]),
    ]
    if answer["stops_by"]:
        facts.append(("stops", f"in {time_text(unix_seconds(answer['stops_by']) - time.time())} at most"))
    facts += [
        (f"window {name}", f"{window['hours']}, now {'open' if window['open'] else 'closed'}")
        for name, window in answer["windows"].items()
    ]
    if answer["last_error"]["time"]:
        facts.append(("last error", f"{_ago(answer['last_error']['time'])}: {answer['last_error']['message']}"))
    facts += [
        (
            "missing server",
            f"{missing['server']}, seen {_ago(missing['seen'])}; {len(missing['no_copy'])} volumes have no copy now",
        )
        for missing in answer.get("missing_servers", ())
    ]
    return [list(fact) for fact in facts]


# ---- an admin


def of_admin(admin: Address | None, only: Only = ALL) -> Overview:
    """Ask an admin server in its dialect's pages; raise AdminUnavailable where none answers, or it wants a password."""
    admin = admin or Address.parse(ADMIN)
    dialect = admin_http.probe(admin).dialect
    if not dialect:
        code, _answer = admin_http.get(admin, "/api/plugin/status")
        if code in (401, 403):
            raise ConfigError(
                f"admin {admin.http} wants a user and a password: set {admin_http.USER} and {admin_http.PASSWORD} in "
                "the environment, or name a file that holds user:password with -adminLogin; or ask a worker: "
                "-worker=host:port"
            )
        if kind := kinds.kind(admin):
            raise AdminUnavailable(f"{admin.http} is {kind}, not an admin server; name it with -admin=host:port")
        raise AdminUnavailable(f"no admin server answers at {admin.http}; name it with -admin=host:port")
    if dialect == "classic" and (kind := kinds.kind(admin)) not in (
        "",
        kinds.ADMIN,
    ):  # whoever says 404 seems to be one
        raise AdminUnavailable(f"{admin.http} is {kind}, not an admin server; name it with -admin=host:port")
    with _understood(admin):
        return _plugin(admin, only) if dialect == "plugin" else _classic(admin, only)


@contextmanager
def _understood(server: Address) -> Iterator[None]:
    """Say so where a server's answer is JSON, but not made as this one expects it."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise AdminUnavailable(f"{server.http} answers what this version does not understand: {error!r}") from None


def _plugin(admin: Address, only: Only) -> Overview:
    workers, every, types = (
        _list(admin, f"/api/plugin/{page}") for page in ("workers", f"jobs?limit={COUNTED}", "job-types")
    )
    states = [state_of(job.get("state")) for job in every]
    jobs = [
        job
        for job, state in zip(every, states)
        if only.wants(str(job.get("job_id", "")), str(job.get("job_type", "")), state)
    ]
    only.check(jobs)
    shown = jobs[:JOBS]
    runs = {}
    for name in (entry.get("job_type", "") for entry in types):
        _code, history = admin_http.get(admin, f"/api/plugin/job-types/{quote(name, safe='')}/runs")
        runs[name] = history if isinstance(history, dict) else {}
    document = {"admin": admin.http, "dialect": "plugin", "workers": workers, "jobs": shown, "runs": runs}
    job_rows = [
        [
            state_of(job.get("state")),
            job.get("job_type", ""),
            f"{job.get('progress', 0):.0f}%",
            _ago(job.get("updated_at")),
            job.get("worker_id") or "-",
            job.get("error_message") or job.get("result_summary") or job.get("message") or job.get("summary", ""),
        ]
        for job in shown
    ]
    title = _count(len(jobs), "job") + (", newest first" if jobs else "")
    title += f"; the first {len(shown)}" if len(jobs) > len(shown) else ""
    tables: list[Table] = [(title, ("STATE", "TYPE", "DONE", "CHANGED", "WORKER", "TEXT"), job_rows)]
    if only.job and not only.type and len(jobs) == 1:
        document["detail"], table = _detail(admin, only.job)
        tables.append(table)
    if not only.job and not only.failed:
        run_rows = list(_run_rows(runs))
        tables.insert(0, _workers_table(admin, workers))
        tables.append(("last runs" if run_rows else "no runs", ("TYPE", "KEPT", "LAST", "ENDED", "TEXT"), run_rows))
    return Overview(document, counts(states), tables)


def _workers_table(admin: Address, workers: Sequence[dict[str, Any]]) -> Table:
    rows = []
    for worker in workers:
        beat = worker.get("Heartbeat") or {}
        used, total = beat.get("execution_slots_used", 0), beat.get("execution_slots_total", 0)
        rows.append(
            [
                worker.get("WorkerID", ""),
                worker.get("Address", ""),
                worker.get("WorkerVersion", ""),
                _ago(worker.get("LastSeenAt")),
                f"{used}/{total}" if total else "-",
                ", ".join(sorted(worker.get("Capabilities") or {})),
            ]
        )
    title = f"{_count(len(workers), 'worker')} at admin {admin.http}"
    return title, ("WORKER", "ADDRESS", "VERSION", "SEEN", "LOAD", "TYPES"), rows


def _run_rows(runs: dict[str, dict[str, Any]]) -> Iterator[list[str]]:
    for name, history in runs.items():
        good, bad = history.get("successful_runs") or [], history.get("error_runs") or []
        last = max([*good, *bad], key=lambda run: run.get("completed_at") or "", default=None)
        if last:
            kept, ended = f"{len(good)} good, {len(bad)} failed", _ago(last.get("completed_at"))
            yield [name, kept, last.get("outcome", ""), ended, last.get("message") or "-"]


def _detail(admin: Address, job_id: str) -> tuple[Any, Table]:
    """What the admin keeps of one job, and what happened to it, the newest last."""
    _code, answer = admin_http.get(admin, f"/api/plugin/jobs/{quote(job_id, safe='')}/detail")
    activities = answer.get("activities") if isinstance(answer, dict) else None
    rows, said = [], ""
    for one in sorted(activities or [], key=lambda one: str(one.get("occurred_at", ""))):
        text = str(one.get("message", ""))
        if text != said:
            rows.append([_ago(one.get("occurred_at")), str(one.get("stage", "")), text])
        said = text
    return answer, (f"what happened to {job_id}", ("WHEN", "STAGE", "TEXT"), rows)


def _classic(admin: Address, only: Only) -> Overview:
    workers, every = (_list(admin, f"/api/maintenance/{page}") for page in ("workers", "tasks"))
    every.sort(
        key=lambda task: task.get("completed_at") or task.get("started_at") or task.get("created_at") or "",
        reverse=True,
    )
    states = [state_of(task.get("status")) for task in every]
    tasks = [
        task
        for task, state in zip(every, states)
        if only.wants(str(task.get("id", "")), str(task.get("type", "")), state)
    ]
    only.check(tasks)
    document = {"admin": admin.http, "dialect": "classic", "workers": workers, "jobs": tasks}
    worker_rows = [
        [
            worker.get("id", ""),
            worker.get("address", ""),
            worker.get("status", ""),
            _ago(worker.get("last_heartbeat")),
            f"{worker.get('current_load', 0)}/{worker.get('max_concurrent', 0)}",
            ", ".join(worker.get("capabilities") or []),
        ]
        for worker in workers
    ]
    task_rows = [
        [
            state_of(task.get("status")),
            task.get("type", ""),
            str(task.get("volume_id", "")),
            f"{task.get('progress', 0):.0f}%",
            _ago(task.get("completed_at") or task.get("started_at") or task.get("created_at")),
            task.get("worker_id") or "-",
            task.get("error") or task.get("reason", ""),
        ]
        for task in tasks[:JOBS]
    ]
    title = f"{_count(len(workers), 'worker')} at admin {admin.http}"
    tables: list[Table] = [
        (title, ("WORKER", "ADDRESS", "STATUS", "SEEN", "LOAD", "TYPES"), worker_rows),
        (
            _count(len(tasks), "task") + (f"; the first {JOBS}" if len(tasks) > JOBS else ""),
            ("STATE", "TYPE", "VOLUME", "DONE", "CHANGED", "WORKER", "TEXT"),
            task_rows,
        ),
    ]
    return Overview(document, counts(states), tables[only != ALL :])


def _list(admin: Address, path: str) -> list[dict[str, Any]]:
    code, answer = admin_http.get(admin, path)
    if code != 200:
        raise AdminUnavailable(f"admin {admin.http} answers {path} with {code or 'nothing'}")
    return [entry for entry in answer if isinstance(entry, dict)] if isinstance(answer, list) else []


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _ago(moment: str | None) -> str:
    """How long ago a moment of ISO 8601 was."""
    if not moment or moment.startswith("0001-"):
        return "never"
    try:
        return f"{time_text(time.time() - unix_seconds(moment))} ago"
    except ValueError:
        return moment
