"""What an admin server knows of its workers and jobs, or a worker of itself, as tables and as a JSON document.

Asks over HTTP, admins of both dialects, and changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from weed_cluster import admin as admin_http
from weed_cluster.address import Address
from weed_console.screen import time_text
from weed_core.errors import AdminUnavailable

ADMIN = "localhost:23646"

JOBS = 20
"""Jobs listed, newest first."""

Table = tuple[str, Sequence[str], list[list[str]]]
"""Title, heads, rows."""


@dataclass
class Overview:
    """What was learned."""

    document: dict[str, Any]
    tables: list[Table] = field(default_factory=list)


def of_worker(worker: Address) -> Overview:
    """Ask a worker at its metrics port; raise AdminUnavailable where none answers."""
    with _understood(worker):
        return _worker(worker)


def _worker(worker: Address) -> Overview:
    code, answer = admin_http.get(worker, "/status")
    if code != 200 or not isinstance(answer, dict) or "current_load" not in answer:
        raise AdminUnavailable(f"no worker answers at {worker.http}; is it started with -metricsPort={worker.port}?")
    facts = [
        ("state", f"{answer['state']}" + (f": {answer['reason']}" if answer.get("reason") else "")),
        ("load", f"{answer['current_load']} of {answer['max_load']} tasks"),
        ("capabilities", ", ".join(answer["capabilities"])),
        ("admin", f"{answer['admin']} ({answer['protocol'] or 'never reached'}), {answer['tls']}"),
        ("last heartbeat", _ago(answer["last_heartbeat"])),
        ("tasks", f"{answer['tasks_completed']} completed, {answer['tasks_failed']} failed"),
        ("uptime", time_text(answer["uptime_seconds"])),
        ("address", answer["address"]),
        ("version", answer["version"]),
    ]
    facts += [
        (f"window {name}", f"{window['hours']}, now {'open' if window['open'] else 'closed'}")
        for name, window in answer["windows"].items()
    ]
    if answer["journal_entries_open"] or answer["results_owed"]:
        facts.append(("kept", f"{answer['journal_entries_open']} journals, {answer['results_owed']} results owed"))
    if answer["last_error"]["time"]:
        facts.append(("last error", f"{_ago(answer['last_error']['time'])}: {answer['last_error']['message']}"))
    facts += [
        (
            "missing server",
            f"{missing['server']}, seen {_ago(missing['seen'])}; {len(missing['no_copy'])} volumes have no copy now",
        )
        for missing in answer.get("missing_servers", ())
    ]
    running = [
        [
            job["type"],
            ",".join(map(str, job["volumes"])) or "-",
            f"{job['progress']:.0%}",
            job["id"],
            job["stage"] or job["kind"],
        ]
        for job in answer["running"]
    ]
    waiting = [[name, "-", "-", "-", f"{count} waiting"] for name, count in answer["queue"].items() if count]
    return Overview(
        answer,
        [
            (f"worker {answer['id']}", ("", ""), [list(fact) for fact in facts]),
            (_count(len(running), "job"), ("TYPE", "VOLUME", "DONE", "JOB", "STAGE"), running + waiting),
        ],
    )


def of_admin(admin: Address | None) -> Overview:
    """Ask an admin server in its dialect's pages; raise AdminUnavailable where none answers, or it wants a password."""
    admin = admin or Address.parse(ADMIN)
    dialect = admin_http.probe(admin).dialect
    if not dialect:
        code, _answer = admin_http.get(admin, "/api/plugin/status")
        if code in (401, 403):
            raise AdminUnavailable(f"admin {admin.http} wants a password; ask a worker instead: -worker=host:port")
        raise AdminUnavailable(f"no admin server answers at {admin.http}; name it with -admin=host:port")
    with _understood(admin):
        return _plugin(admin) if dialect == "plugin" else _classic(admin)


@contextmanager
def _understood(server: Address) -> Iterator[None]:
    """Say so where a server's answer is JSON, but not made as this one expects it."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise AdminUnavailable(f"{server.http} answers what this version does not understand: {error!r}") from None


def _plugin(admin: Address) -> Overview:
    workers, jobs, types = (
        _list(admin, f"/api/plugin/{page}") for page in ("workers", f"jobs?limit={JOBS}", "job-types")
    )
    runs = {}
    for name in (entry.get("job_type", "") for entry in types):
        _code, history = admin_http.get(admin, f"/api/plugin/job-types/{quote(name, safe='')}/runs")
        runs[name] = history if isinstance(history, dict) else {}
    document = {"admin": admin.http, "dialect": "plugin", "workers": workers, "jobs": jobs, "runs": runs}
    worker_rows = []
    for worker in workers:
        beat = worker.get("Heartbeat") or {}
        used, total = beat.get("execution_slots_used", 0), beat.get("execution_slots_total", 0)
        worker_rows.append(
            [
                worker.get("WorkerID", ""),
                worker.get("Address", ""),
                worker.get("WorkerVersion", ""),
                _ago(worker.get("LastSeenAt")),
                f"{used}/{total}" if total else "-",
                ", ".join(sorted(worker.get("Capabilities") or {})),
            ]
        )
    job_rows = [
        [
            job.get("job_type", ""),
            job.get("state", "").removeprefix("job_state_"),
            f"{job.get('progress', 0):.0f}%",
            _ago(job.get("updated_at")),
            job.get("worker_id") or "-",
            job.get("error_message") or job.get("result_summary") or job.get("message") or job.get("summary", ""),
        ]
        for job in jobs
    ]
    run_rows = []
    for name, history in runs.items():
        good, bad = history.get("successful_runs") or [], history.get("error_runs") or []
        last = max([*good, *bad], key=lambda run: run.get("completed_at") or "", default=None)
        if last:
            seen = f"{len(good)} good, {len(bad)} failed"
            run_rows.append(
                [name, seen, last.get("outcome", ""), _ago(last.get("completed_at")), last.get("message") or "-"]
            )
    return Overview(
        document,
        [
            (
                f"{_count(len(workers), 'worker')} at admin {admin.http}",
                ("WORKER", "ADDRESS", "VERSION", "SEEN", "LOAD", "TYPES"),
                worker_rows,
            ),
            (
                _count(len(jobs), "job") + (", newest first" if jobs else ""),
                ("TYPE", "STATE", "DONE", "CHANGED", "WORKER", "TEXT"),
                job_rows,
            ),
            ("last runs" if run_rows else "no runs", ("TYPE", "KEPT", "LAST", "ENDED", "TEXT"), run_rows),
        ],
    )


def _classic(admin: Address) -> Overview:
    workers, tasks = (_list(admin, f"/api/maintenance/{page}") for page in ("workers", "tasks"))
    _code, stats = admin_http.get(admin, "/api/maintenance/stats")
    stats = stats if isinstance(stats, dict) else {}
    tasks.sort(
        key=lambda task: task.get("completed_at") or task.get("started_at") or task.get("created_at") or "",
        reverse=True,
    )
    document = {"admin": admin.http, "dialect": "classic", "workers": workers, "jobs": tasks, "stats": stats}
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
            task.get("type", ""),
            str(task.get("volume_id", "")),
            task.get("status", ""),
            f"{task.get('progress', 0):.0f}%",
            _ago(task.get("completed_at") or task.get("started_at") or task.get("created_at")),
            task.get("worker_id") or "-",
            task.get("error") or task.get("reason", ""),
        ]
        for task in tasks[:JOBS]
    ]
    by_status = ", ".join(f"{count} {name}" for name, count in (stats.get("tasks_by_status") or {}).items())
    return Overview(
        document,
        [
            (
                f"{_count(len(workers), 'worker')} at admin {admin.http}",
                ("WORKER", "ADDRESS", "STATUS", "SEEN", "LOAD", "TYPES"),
                worker_rows,
            ),
            (
                f"{_count(len(tasks), 'task')}" + (f": {by_status}" if by_status else ""),
                ("TYPE", "VOLUME", "STATUS", "DONE", "CHANGED", "WORKER", "TEXT"),
                task_rows,
            ),
        ],
    )


def _list(admin: Address, path: str) -> list[dict[str, Any]]:
    code, answer = admin_http.get(admin, path)
    if code != 200:
        raise AdminUnavailable(f"admin {admin.http} answers {path} with {code or 'nothing'}")
    return [entry for entry in answer if isinstance(entry, dict)] if isinstance(answer, list) else []


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _ago(moment: str | None) -> str:
    """How long ago a moment of ISO 8601 was; SeaweedFS writes nanoseconds, which older Pythons cannot read."""
    if not moment or moment.startswith("0001-"):
        return "never"
    whole, dot, rest = moment.partition(".")
    zone = rest.lstrip("0123456789") if dot else ""
    try:
        when = datetime.fromisoformat((whole + zone).replace("Z", "+00:00"))
    except ValueError:
        return moment
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return f"{time_text(time.time() - when.timestamp())} ago"
