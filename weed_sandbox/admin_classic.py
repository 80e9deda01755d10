"""The classic admin: a queue of maintenance tasks that workers ask for one by one (SeaweedFS 3.97, 4.13, 4.44).

It behaves as its -era does, defects included: a second stream with one worker id and a word after two silent minutes
make a 3.97 admin panic, a failure that will be tried again leaks a slot of its worker before 4.44, an update after a
completion revives the task, an empty error text is taken for success, and from 4.13 on a vacuum task that a scan found
cannot be assigned before a restart and keeps all that wait behind it from workers that offer vacuum.

Beside the pages of a real admin there are, for tests only,

    POST /sandbox/tasks   {task_type, params?, task_id?, priority?, metadata?, volume_id?}   queue a task
    GET  /sandbox/leaks                                                         slots leaked, by worker
"""

from __future__ import annotations

import itertools
import json
import random
import string
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from proto_gen import master_pb2, worker_pb2
from weed_sandbox.admin import (
    Flags,
    HttpError,
    Masters,
    Node,
    Records,
    Rejected,
    Request,
    Route,
    Session,
    crash,
    run,
    timestamp,
    to_json,
    write_whole,
)

PRIORITIES = ("low", "normal", "high", "critical")
TYPE_LIMITS = {"vacuum": 2}  # tasks of one type at once; 1 for all others
MAX_RETRIES = 3
ACTIVE = ("assigned", "in_progress")
FINAL = ("completed", "failed", "cancelled")

Task = worker_pb2.MaintenanceTaskData


@dataclass
class Worker:
    """What the admin knows of a worker; stays when the worker has left."""

    id: str
    address: str
    capabilities: tuple[str, ...]
    max_concurrent: int
    last_heartbeat: float
    load: int = 0

    def to_json(self) -> dict[str, object]:
        """Write it as the page of workers does."""
        return {
            "id": self.id,
            "address": self.address,
            "last_heartbeat": timestamp(self.last_heartbeat),
            "status": "active",
            "capabilities": list(self.capabilities),
            "max_concurrent": self.max_concurrent,
            "current_load": self.load,
        }


POLICIES = {
    "vacuum": worker_pb2.TaskPolicy(
        enabled=True, vacuum_config=worker_pb2.VacuumTaskConfig(garbage_threshold=0.3, min_volume_age_hours=24)
    ),
    "balance": worker_pb2.TaskPolicy(
        enabled=True, balance_config=worker_pb2.BalanceTaskConfig(imbalance_threshold=0.2, min_server_count=2)
    ),
    "erasure_coding": worker_pb2.TaskPolicy(
        enabled=True,
        erasure_coding_config=worker_pb2.ErasureCodingTaskConfig(
            fullness_ratio=0.9, quiet_for_seconds=3600, min_volume_size_mb=1024
        ),
    ),
}
"""How a scan looks for tasks of a type where nobody configured it."""


def _policy(data_dir: Path | None, task_type: str) -> worker_pb2.TaskPolicy:
    """How a scan looks for tasks of a type: from <dataDir>/conf/task_<type>.pb, else as POLICIES has it."""
    path = data_dir / "conf" / f"task_{task_type}.pb" if data_dir is not None else None
    if path is not None and path.exists():
        return worker_pb2.TaskPolicy.FromString(path.read_bytes())
    return POLICIES[task_type]


class ClassicAdmin:
    """The queue, its workers and their streams."""

    name = "classic"
    service = "worker_pb.WorkerService"
    worker_message: type[Message] = worker_pb2.WorkerMessage
    admin_message: type[Message] = worker_pb2.AdminMessage

    def __init__(self, flags: Flags, masters: Masters, records: Records) -> None:
        self._flags = flags
        self._masters = masters
        self._records = records
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._tasks: dict[str, Task] = {}
        self._order: list[str] = []  # of the tasks that wait
        self._metadata: dict[str, dict[str, str]] = {}  # of tasks that a test queued
        self._restarted: set[str] = set()  # tasks whose worker may still be at work
        self._unassignable: set[str] = set()
        self._unsaved: set[str] = set()
        self._workers: dict[str, Worker] = {}
        self._leaks: Counter[str] = Counter()
        self._logs: dict[str, worker_pb2.TaskLogResponse | None] = {}  # awaited, by worker and task
        self._vacuum, self._balance, self._erasure_coding = (_policy(flags.data_dir, name) for name in POLICIES)
        self.sessions: dict[str, Session] = {}
        self._swept: set[Session] = set()  # given up, though the stream still stands
        self._broken: set[Session] = set()  # their way back to the worker was closed under another's name
        self._load()
        self.routes: list[Route] = [
            ("POST", "/api/maintenance/scan", self._scan_page),
            ("GET", "/api/maintenance/tasks", self._tasks_page),
            ("GET", "/api/maintenance/tasks/*", self._task_page),
            ("GET", "/api/maintenance/tasks/*/detail", self._detail_page),
            ("POST", "/api/maintenance/tasks/*/cancel", self._cancel_page),
            ("GET", "/api/maintenance/workers", self._workers_page),
            ("GET", "/api/maintenance/workers/*", self._worker_page),
            ("GET", "/api/maintenance/workers/*/logs", self._logs_page),
            ("GET", "/api/maintenance/stats", self._stats_page),
            ("POST", "/sandbox/tasks", self._queue_page),
            ("GET", "/sandbox/leaks", lambda _request: dict(self._leaks)),
        ]

    # ---- its life

    def start(self) -> None:
        """Give up silent workers, and fetch logs of running tasks where the era does."""
        threading.Thread(target=self._sweep, daemon=True).start()
        if self._flags.era != "3.97":
            threading.Thread(target=self._watch_logs, daemon=True).start()

    def save(self) -> None:
        """Write the tasks that changed."""
        with self._lock:
            unsaved, self._unsaved = self._unsaved, set()
            files = {
                task_id: worker_pb2.TaskStateFile(
                    task=self._tasks[task_id], last_updated=int(time.time())
                ).SerializeToString()
                for task_id in unsaved
                if task_id in self._tasks
            }
        directory = self._directory("tasks")
        if directory is not None:
            for task_id, content in files.items():
                write_whole(directory / f"{task_id.replace('/', '_')}.pb", content)

    def _load(self) -> None:
        """Take up what an earlier process left: what was being worked on waits again."""
        directory = self._directory("tasks")
        for path in sorted(directory.glob("*.pb")) if directory is not None else ():
            task = worker_pb2.TaskStateFile.FromString(path.read_bytes()).task
            if self._flags.era == "4.44" and task.status in FINAL:
                path.unlink()
                continue
            self._tasks[task.id] = task
            if task.status in ACTIVE:
                self._restarted.add(task.id)
                self._take_back(task)
            if task.status == "pending":
                self._order.append(task.id)
        self._sort()

    def _take_back(self, task: Task) -> None:
        task.status, task.worker_id, task.started_at = "pending", "", 0
        if self._flags.era == "4.44":
            task.progress = 0
            return
        task.scheduled_at = int(time.time() + min(60, self._flags.retry_delay))
        task.retry_count += 1
        if task.retry_count > task.max_retries:
            task.status = "failed"

    def _directory(self, name: str) -> Path | None:
        return self._flags.data_dir / name if self._flags.data_dir is not None else None

    def _sweep(self) -> None:
        """Give up workers that have been silent for too long."""
        while True:
            time.sleep(min(30.0, self._flags.silence / 4))
            with self._lock:
                for worker_id, session in list(self.sessions.items()):
                    if time.monotonic() - session.heard > self._flags.silence:
                        self._violation("silence", worker_id, f"said nothing for {self._flags.silence} s")
                        del self.sessions[worker_id]
                        self._swept.add(session)

    def _violation(self, kind: str, worker_id: str, detail: str) -> None:
        self._records.violation(self.name, kind, worker_id, detail)

    # ---- streams

    def received(self, session: Session, message: worker_pb2.WorkerMessage) -> None:
        """Act on a worker's message."""
        kind = message.WhichOneof("message")
        with self._lock:
            if not session.worker_id:
                if kind != "registration":
                    raise Rejected("first message must be registration")
                self._register(session, message.registration)
                return
            if session in self._broken or (session in self._swept and self._flags.era != "4.44"):
                crash(f"send on closed channel: {kind} of {session.worker_id} on a stream given up before")
            if kind == "registration":
                self._register(session, message.registration)
            elif kind == "heartbeat":
                if session.worker_id in self._workers:
                    self._workers[session.worker_id].last_heartbeat = time.time()
                answer = worker_pb2.HeartbeatResponse(success=True, message="Heartbeat acknowledged")
                session.send(_say(heartbeat_response=answer))
            elif kind == "task_request":
                self._assign(session)
            elif kind == "task_update":
                self._update(session.worker_id, message.task_update)
            elif kind == "task_complete":
                self._complete(session.worker_id, message.task_complete)
            elif kind == "task_log_response":
                response = message.task_log_response
                key = f"{response.worker_id}:{response.task_id}"
                if key in self._logs:
                    self._logs[key] = response
                    self._changed.notify_all()
            elif kind == "shutdown":
                self.gone(session)
                session.end()

    def _register(self, session: Session, registration: worker_pb2.WorkerRegistration) -> None:
        worker_id = registration.worker_id
        if not worker_id:
            raise Rejected("worker ID cannot be empty")
        session.worker_id = worker_id
        old = self.sessions.get(worker_id)
        if old is not None and old is not session:
            self._violation("second_stream", worker_id, "registered while its other stream stood")
            if self._flags.era != "3.97":
                old.end()
        self.sessions[worker_id] = session
        known = self._workers.get(worker_id)
        self._workers[worker_id] = Worker(
            id=worker_id,
            address=session.peer,
            capabilities=tuple(registration.capabilities),
            max_concurrent=registration.max_concurrent,
            last_heartbeat=time.time(),
            load=known.load if known else 0,
        )
        answer = worker_pb2.RegistrationResponse(success=True, message="Worker registered successfully")
        session.send(_say(registration_response=answer))

    def gone(self, session: Session) -> None:
        """Forget the connection and nothing else: its tasks stay as they are."""
        with self._lock:
            current = self.sessions.get(session.worker_id)
            if current is session:
                del self.sessions[session.worker_id]
            elif current is not None and self._flags.era == "3.97":
                # A 3.97 admin finds connections by worker id alone: the end of the old stream closes the new one.
                del self.sessions[session.worker_id]
                self._broken.add(current)
            self._swept.discard(session)
            self._broken.discard(session)

    # ---- tasks

    def _sort(self) -> None:
        self._order.sort(
            key=lambda task_id: (-_level(self._tasks[task_id].priority), self._tasks[task_id].scheduled_at)
        )

    def _add(self, task: Task) -> None:
        with self._lock:
            self._tasks[task.id] = task
            self._order.append(task.id)
            self._sort()
            self._unsaved.add(task.id)

    def _assign(self, session: Session) -> None:
        """Answer a request with one task at most."""
        task = self._next(self._workers.get(session.worker_id))
        if task is None or task.id in self._unassignable:
            if self._flags.era != "3.97":
                session.send(_say(task_assignment=worker_pb2.TaskAssignment()))
            return
        now = int(time.time())
        worker = self._workers[session.worker_id]
        worker.load += 1
        task.status, task.worker_id, task.started_at = "assigned", worker.id, now
        task.assignment_history.add(
            worker_id=worker.id,
            worker_address=worker.address,
            assigned_at=now,
            reason="Task assigned to available worker",
        )
        self._order.remove(task.id)
        self._restarted.discard(task.id)
        self._unsaved.add(task.id)
        assignment = worker_pb2.TaskAssignment(
            task_id=task.id,
            task_type=task.type,
            params=task.typed_params if task.HasField("typed_params") else None,
            priority=_level(task.priority),
            created_time=now,
            metadata=self._metadata.get(task.id, {}),
        )
        session.send(_say(task_assignment=assignment))

    def _next(self, worker: Worker | None) -> Task | None:
        if worker is None or worker.load >= worker.max_concurrent:
            return None
        active = [task for task in self._tasks.values() if task.status in ACTIVE]
        running = Counter(task.type for task in active)
        held = {task.volume_id for task in active} - {0} if self._flags.era == "4.44" else set()
        for task in (self._tasks[task_id] for task_id in self._order):
            limit = self._flags.type_limit or TYPE_LIMITS.get(task.type, 1)
            if (
                task.scheduled_at <= time.time()
                and task.type in worker.capabilities
                and running[task.type] < limit
                and task.volume_id not in held
            ):
                return task
        return None

    def _update(self, worker_id: str, update: worker_pb2.TaskUpdate) -> None:
        task = self._known(worker_id, update.task_id, "update")
        if task is None:
            return
        if task.status not in ACTIVE and task.id not in self._restarted:
            self._violation("update_after_completion", worker_id, f"{task.id} was {task.status}")
        if task.id in self._order:
            self._order.remove(task.id)
        task.status, task.progress = "in_progress", update.progress
        self._unsaved.add(task.id)

    def _complete(self, worker_id: str, complete: worker_pb2.TaskComplete) -> None:
        task = self._known(worker_id, complete.task_id, "completion")
        if task is None:
            return
        if task.status not in ACTIVE and task.id not in self._restarted:
            self._violation("second_completion", worker_id, f"{task.id} was {task.status}")
        if not complete.success and not complete.error_message:
            self._violation("failure_without_text", worker_id, f"{task.id} is taken for completed")
        error = "" if complete.success else complete.error_message
        holder = self._workers.get(task.worker_id)
        self._restarted.discard(task.id)
        self._unsaved.add(task.id)
        if task.id in self._order:
            self._order.remove(task.id)
        task.completed_at = int(time.time())
        if not error:
            task.status, task.progress, task.error = "completed", 100, ""
        elif task.retry_count < task.max_retries and not (self._flags.era == "4.44" and "not found" in error):
            self._retry(task, error)
            if self._flags.era != "4.44":
                self._leaks[worker_id] += 1
                holder = None  # its id is forgotten before its load is taken down
        else:
            task.status, task.error = "failed", error
        if holder is not None:
            holder.load -= 1
            if holder.load < 0:
                self._violation("negative_load", holder.id, f"{holder.load} after {task.id}")
        if self._flags.era != "3.97":
            threading.Timer(0.3, self._keep_log, (worker_id, task.id)).start()

    def _retry(self, task: Task, error: str) -> None:
        if task.assignment_history:
            last = task.assignment_history[-1]
            last.unassigned_at = int(time.time())
            last.reason = f"Task failed, scheduling retry (attempt {task.retry_count + 1}/{task.max_retries}): {error}"
        task.retry_count += 1
        task.status, task.worker_id, task.started_at, task.completed_at = "pending", "", 0, 0
        task.scheduled_at = int(time.time() + self._flags.retry_delay)
        self._order.append(task.id)

    def _known(self, worker_id: str, task_id: str, what: str) -> Task | None:
        task = self._tasks.get(task_id)
        if task is None:
            self._violation("unknown_task", worker_id, f"{what} of {task_id!r}")
        elif task.worker_id and task.worker_id != worker_id:
            self._violation("foreign_task", worker_id, f"{what} of {task_id}, which {task.worker_id} has")
        return task

    # ---- logs

    def _fetch_log(self, worker_id: str, task_id: str, entries: int, level: str = "") -> worker_pb2.TaskLogResponse:
        """Ask a worker for a task's log; HttpError where it does not answer."""
        key = f"{worker_id}:{task_id}"
        with self._lock:
            session = self.sessions.get(worker_id)
            if session is None:
                raise HttpError(502, f"worker {worker_id} is not connected")
            if key in self._logs:
                raise HttpError(502, f"log request already pending for {key}")
            self._logs[key] = None
            wanted = worker_pb2.TaskLogRequest(
                task_id=task_id, worker_id=worker_id, include_metadata=True, max_entries=entries, log_level=level
            )
            session.send(_say(admin_id="admin-server", task_log_request=wanted))
            try:
                patience = 10 if self._flags.era == "3.97" else 30
                self._changed.wait_for(lambda: self._logs[key] is not None or session.ended, patience)
                response = self._logs[key]
            finally:
                del self._logs[key]
        if response is None:
            raise HttpError(502, f"timeout waiting for logs of {task_id} from {worker_id}")
        return response

    def _keep_log(self, worker_id: str, task_id: str) -> None:
        """Fetch a task's log and keep it on disk, where ids that could lead elsewhere are refused."""
        directory = self._directory("task_logs")
        if directory is None or any(part in task_id for part in ("/", "\\", ":", "..")):
            return
        try:
            response = self._fetch_log(worker_id, task_id, 1000)
        except HttpError:
            return
        logs = list(_log_lines(response))
        write_whole(directory / f"{task_id}.json", json.dumps({"task_id": task_id, "logs": logs}).encode())

    def _kept_log(self, task_id: str) -> list[dict[str, Any]]:
        directory = self._directory("task_logs")
        path = directory / f"{task_id}.json" if directory is not None else None
        logs: list[dict[str, Any]] = json.loads(path.read_text())["logs"] if path and path.exists() else []
        return logs

    def _watch_logs(self) -> None:
        while True:
            time.sleep(self._flags.log_interval)
            with self._lock:
                running = [task for task in self._tasks.values() if task.status == "in_progress"]
            for task in running:
                self._keep_log(task.worker_id, task.id)

    # ---- pages

    def _scan_page(self, _request: Request) -> object:
        threading.Thread(target=self._scan, daemon=True).start()
        return {"success": True, "message": "Maintenance scan triggered"}

    def _tasks_page(self, _request: Request) -> object:
        with self._lock:
            return [_task_json(task) for task in self._tasks.values()]

    def _find(self, task_id: str) -> Task:
        if task_id not in self._tasks:
            raise HttpError(404, "Task not found")
        return self._tasks[task_id]

    def _task_page(self, request: Request) -> object:
        with self._lock:
            return _task_json(self._find(request.words[0]))

    def _detail_page(self, request: Request) -> object:
        with self._lock:
            task = self._find(request.words[0])
            document = _task_json(task)
            worker = self._workers.get(task.worker_id)
        live = self._flags.era == "3.97" and task.status in ("in_progress", "completed") and worker is not None
        try:
            logs = list(_log_lines(self._fetch_log(task.worker_id, task.id, 100))) if live else self._kept_log(task.id)
        except HttpError:
            logs = []
        return {
            "task": document,
            "assignment_history": document.get("assignment_history", []),
            "execution_logs": logs,
            "related_tasks": [],
            "worker_info": worker.to_json() if worker else None,
            "last_updated": timestamp(time.time()),
        }

    def _cancel_page(self, request: Request) -> object:
        with self._lock:
            task = self._find(request.words[0])
            if task.status != "pending":
                raise HttpError(500, f"task {task.id} cannot be cancelled: {task.status}", success=False)
            task.status = "cancelled"
            self._order.remove(task.id)
            self._unsaved.add(task.id)
        return {"success": True, "message": "Task cancelled"}

    def _workers_page(self, _request: Request) -> object:
        with self._lock:
            return [worker.to_json() for worker in self._workers.values()] or None

    def _worker_page(self, request: Request) -> object:
        with self._lock:
            worker = self._workers.get(request.words[0])
            if worker is None:
                raise HttpError(404, "Worker not found")
            mine = [task for task in self._tasks.values() if task.worker_id == worker.id]
            return {
                "worker": worker.to_json(),
                "current_tasks": [_task_json(task) for task in mine if task.status in ACTIVE],
                "recent_tasks": [_task_json(task) for task in mine if task.status in FINAL],
                "last_updated": timestamp(time.time()),
            }

    def _logs_page(self, request: Request) -> object:
        worker_id, task_id = request.words[0], request.query.get("taskId", "")
        if self._flags.era == "3.97":
            entries = int(request.query.get("maxEntries", "100"))
            level = request.query.get("logLevel", "")
            response = self._fetch_log(worker_id, task_id, entries, level)
            if not response.success:
                raise HttpError(502, f"worker failed to get task logs: {response.error_message}")
            logs = [to_json(entry, sparse=True) | {"timestamp": entry.timestamp} for entry in response.log_entries]
        else:
            logs = self._kept_log(task_id)
        return {"worker_id": worker_id, "task_id": task_id, "logs": logs, "count": len(logs)}

    def _stats_page(self, _request: Request) -> object:
        with self._lock:
            tasks = list(self._tasks.values())
        statuses = Counter(task.status for task in tasks)
        return {
            "total_tasks": len(tasks),
            "tasks_by_status": statuses,
            "tasks_by_type": Counter(task.type for task in tasks),
            "active_workers": len(self.sessions),
            "completed_today": statuses["completed"],
            "failed_today": statuses["failed"],
            "average_task_time": 0,
            "last_scan_time": timestamp(time.time()),
            "next_scan_time": timestamp(time.time() + 1800),
        }

    def _queue_page(self, request: Request) -> object:
        order = request.json
        params = json_format.ParseDict(order["params"], worker_pb2.TaskParams()) if "params" in order else None
        task_id = order.get("task_id") or _new_id()
        with self._lock:
            self._metadata[task_id] = order.get("metadata", {})
            self._add(
                Task(
                    id=task_id,
                    type=order["task_type"],
                    priority=PRIORITIES[order.get("priority", 1)],
                    status="pending",
                    volume_id=order.get("volume_id") or (params.volume_id if params else 0),
                    collection=params.collection if params else "",
                    server=params.sources[0].node if params and params.sources else "",
                    typed_params=params,
                    created_at=int(time.time()),
                    max_retries=MAX_RETRIES,
                    created_by="sandbox",
                )
            )
        return {"task_id": task_id}

    # ---- looking for work

    def _scan(self) -> None:
        """Queue what the enabled detectors of a real admin would, but for volumes that have a task already."""
        nodes = self._masters.nodes()
        found: list[Task] = []
        if self._vacuum.enabled:
            found += self._find_garbage(nodes)
        if self._balance.enabled:
            found += self._find_imbalance(nodes)
        if self._erasure_coding.enabled:
            found += self._find_full(nodes)
        with self._lock:
            for task in found:
                if not any(
                    other.volume_id == task.volume_id and other.type == task.type and other.status not in FINAL
                    for other in self._tasks.values()
                ):
                    self._add(task)
                    if task.type == "vacuum" and self._flags.era != "3.97":
                        self._unassignable.add(task.id)

    def _new(self, task_type: str, reason: str, priority: str, params: worker_pb2.TaskParams) -> Task:
        now = int(time.time())
        word = {"erasure_coding": "ec"}.get(task_type, task_type)
        params.task_id = f"{word}_vol_{params.volume_id}_{now}"
        return Task(
            id=_new_id() if self._flags.era == "3.97" else params.task_id,
            type=task_type,
            priority=priority,
            status="pending",
            volume_id=params.volume_id,
            server=params.sources[0].node,
            collection=params.collection,
            typed_params=params,
            reason=reason,
            created_at=now,
            scheduled_at=now,
            max_retries=MAX_RETRIES,
        )

    def _find_garbage(self, nodes: Iterable[Node]) -> list[Task]:
        wanted = self._vacuum.vacuum_config
        found: dict[int, Task] = {}
        for node, volume in _volumes(nodes):
            garbage = volume.deleted_byte_count / volume.size if volume.size else 0.0
            age = time.time() - volume.modified_at_second
            if garbage <= wanted.garbage_threshold or age < 3600 * wanted.min_volume_age_hours:
                continue
            if volume.id in found and self._flags.era == "4.44":
                found[volume.id].typed_params.sources.append(_source(node, volume))
                continue
            params = worker_pb2.TaskParams(
                volume_id=volume.id,
                collection=volume.collection,
                volume_size=volume.size,
                sources=[_source(node, volume)],
                vacuum_params=worker_pb2.VacuumTaskParams(
                    garbage_threshold=wanted.garbage_threshold, batch_size=1000, verify_checksum=True
                ),
            )
            priority = "high" if garbage > 0.6 else "normal"
            found[volume.id] = self._new("vacuum", "Volume has excessive garbage", priority, params)
        return list(found.values())

    def _find_imbalance(self, nodes: Sequence[Node]) -> list[Task]:
        """One task: the first volume of the fullest server to the emptiest, unless that has it."""
        wanted = self._balance.balance_config
        ranked = sorted(nodes, key=lambda node: len(node.volumes))
        average = sum(len(node.volumes) for node in nodes) / len(nodes) if nodes else 0
        if len(nodes) < wanted.min_server_count or not average:
            return []
        low, high = ranked[0], ranked[-1]
        if (len(high.volumes) - len(low.volumes)) / average <= wanted.imbalance_threshold:
            return []
        held = {volume.id for volume in low.volumes}
        for volume in high.volumes:
            if volume.id not in held and not volume.remote_storage_name:
                params = worker_pb2.TaskParams(
                    volume_id=volume.id,
                    collection=volume.collection,
                    volume_size=volume.size,
                    sources=[_source(high, volume)],
                    balance_params=worker_pb2.BalanceTaskParams(timeout_seconds=600),
                )
                params.targets.add(
                    node=low.address,
                    volume_id=volume.id,
                    estimated_size=volume.size,
                    rack=low.rack,
                    data_center=low.data_center,
                )
                return [self._new("balance", "Cluster is imbalanced", "normal", params)]
        return []

    def _find_full(self, nodes: Sequence[Node]) -> list[Task]:
        """A task for each full and quiet volume; its shards go round all servers."""
        wanted = self._erasure_coding.erasure_coding_config
        limit = self._masters.size_limit()
        found: dict[int, Task] = {}
        for node, volume in _volumes(nodes):
            if volume.id in found:
                found[volume.id].typed_params.sources.append(_source(node, volume))
                continue
            quiet = time.time() - volume.modified_at_second >= wanted.quiet_for_seconds
            large = volume.size >= wanted.min_volume_size_mb * 1024 * 1024
            if not (quiet and large and volume.size >= wanted.fullness_ratio * limit):
                continue
            params = worker_pb2.TaskParams(
                volume_id=volume.id,
                collection=volume.collection,
                volume_size=volume.size,
                sources=[_source(node, volume)],
                erasure_coding_params=worker_pb2.ErasureCodingTaskParams(data_shards=10, parity_shards=4),
            )
            for number, target in enumerate(nodes[:14]):
                params.targets.add(
                    node=target.address,
                    rack=target.rack,
                    data_center=target.data_center,
                    shard_ids=range(number, 14, min(len(nodes), 14)),
                    estimated_size=volume.size // 10,
                )
            found[volume.id] = self._new("erasure_coding", "Volume is full and quiet", "low", params)
        return list(found.values())


def _volumes(nodes: Iterable[Node]) -> Iterator[tuple[Node, master_pb2.VolumeInformationMessage]]:
    for node in nodes:
        for volume in node.volumes:
            yield node, volume


def _source(node: Node, volume: master_pb2.VolumeInformationMessage) -> worker_pb2.TaskSource:
    return worker_pb2.TaskSource(
        node=node.address,
        volume_id=volume.id,
        estimated_size=volume.size,
        rack=node.rack,
        data_center=node.data_center,
    )


def _say(admin_id: str = "", **body: Any) -> worker_pb2.AdminMessage:
    return worker_pb2.AdminMessage(admin_id=admin_id, timestamp=int(time.time()), **body)


def _new_id() -> str:
    letters = "".join(random.choices(string.ascii_lowercase + string.digits, k=8))
    return f"{letters}-{int(time.time()) % 10000:04d}"


def _level(priority: str) -> int:
    return PRIORITIES.index(priority) if priority in PRIORITIES else 1


def _task_json(task: Task) -> dict[str, Any]:
    document = to_json(task)
    document["priority"] = _level(task.priority)
    for key in ("created_at", "scheduled_at", "started_at", "completed_at"):
        seconds = getattr(task, key)
        document[key] = timestamp(seconds) if seconds else None
    for entry, record in zip(document["assignment_history"], task.assignment_history):
        for key in ("assigned_at", "unassigned_at"):
            seconds = getattr(record, key)
            if seconds:
                entry[key] = timestamp(seconds)
            else:
                del entry[key]
    return {key: value for key, value in document.items() if value not in (None, "", [], {})}


def _log_lines(response: worker_pb2.TaskLogResponse) -> Iterable[dict[str, Any]]:
    for entry in response.log_entries:
        message = entry.message if len(entry.message) <= 2000 else entry.message[:2000] + "... (truncated)"
        yield {
            "timestamp": timestamp(entry.timestamp),
            "level": entry.level,
            "message": message,
            "source": "worker",
            "task_id": response.task_id,
            "worker_id": response.worker_id,
            "fields": dict(itertools.islice(entry.fields.items(), 20)),
            "progress": entry.progress,
            "status": entry.status,
        }


def main(argv: Sequence[str]) -> int:
    """Run an admin that speaks the classic dialect only."""
    return run(Flags.parse(argv, era="3.97"), [ClassicAdmin])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
