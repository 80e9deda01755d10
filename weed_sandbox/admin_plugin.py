"""The plugin admin: it asks workers for forms, detections and executions (SeaweedFS 4.44).

It behaves as the real one does where a worker can tell: descriptors and configurations are kept from the first worker
that sent them, max_results is a wish, a second stream with one worker id ends both, a completion without a job type is
dropped, a worker's slots count twice once its heartbeat shows them, and tracked jobs survive a restart. Left out are
lanes, the cluster lock with its pauses, and expiry after hours. With -schedule=true it detects and executes by itself;
else a test asks for it.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from proto_gen import plugin_pb2
from weed_sandbox.admin import (
    Flags,
    HttpError,
    Masters,
    Records,
    Rejected,
    Request,
    Route,
    Session,
    run,
    timestamp,
    to_json,
    write_whole,
)

ACTIVE = ("job_state_pending", "job_state_assigned", "job_state_running")
FINAL = ("job_state_succeeded", "job_state_failed", "job_state_canceled")
KEPT_JOBS, KEPT_ACTIVITIES, KEPT_RUNS = 1000, 4000, 10
JOB_TYPE = re.compile(r"[A-Za-z0-9_.-]+")
AT_CAPACITY = "executor is at capacity"
EXPIRED = "context deadline exceeded"


@dataclass
class Worker:
    """A connected worker."""

    hello: plugin_pb2.WorkerHello
    connected_at: float
    last_seen: float
    heartbeat: plugin_pb2.WorkerHeartbeat | None = None

    def capability(self, job_type: str) -> plugin_pb2.JobTypeCapability | None:
        """What it offers for a job type; of two offers the later holds."""
        return next((entry for entry in reversed(self.hello.capabilities) if entry.job_type == job_type), None)

    def free(self, detection: bool) -> int:
        """Slots it says are free."""
        if self.heartbeat is None:
            return 0
        if detection:
            return self.heartbeat.detection_slots_total - self.heartbeat.detection_slots_used
        return self.heartbeat.execution_slots_total - self.heartbeat.execution_slots_used

    def to_json(self) -> dict[str, object]:
        """Write it as the page of workers does."""
        return {
            "WorkerID": self.hello.worker_id,
            "WorkerInstance": self.hello.worker_instance_id,
            "Address": self.hello.address,
            "WorkerVersion": self.hello.worker_version,
            "ProtocolVersion": self.hello.protocol_version,
            "ConnectedAt": timestamp(self.connected_at),
            "LastSeenAt": timestamp(self.last_seen),
            "Capabilities": {entry.job_type: to_json(entry, sparse=True) for entry in self.hello.capabilities},
            "Heartbeat": to_json(self.heartbeat, sparse=True) if self.heartbeat is not None else None,
        }


@dataclass
class Waiting:
    """A request that a worker has not answered yet."""

    worker_id: str
    proposals: list[plugin_pb2.JobProposal] = field(default_factory=list)
    answer: Any = None


class Unanswered(Exception):
    """A worker did not answer in time."""


class PluginAdmin:
    """Job types, workers, requests under way and jobs."""

    name = "plugin"
    service = "plugin.PluginControlService"
    worker_message: type[Message] = plugin_pb2.WorkerToAdminMessage
    admin_message: type[Message] = plugin_pb2.AdminToWorkerMessage

    def __init__(self, flags: Flags, masters: Masters, records: Records) -> None:
        self._flags = flags
        self._masters = masters
        self._records = records
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._directory = flags.data_dir / "plugin" if flags.data_dir is not None else None
        self._workers: dict[str, Worker] = {}
        self.sessions: dict[str, Session] = {}
        self._descriptors: dict[str, plugin_pb2.JobTypeDescriptor] = {}
        self._configs: dict[str, plugin_pb2.PersistedJobTypeConfig] = {}
        self._runs: dict[str, list[dict[str, Any]]] = {}
        self._jobs: dict[str, dict[str, Any]] = {}
        self._activities: deque[dict[str, Any]] = deque(maxlen=KEPT_ACTIVITIES)
        self._waiting: dict[str, Waiting] = {}  # by request id
        self._answered: set[str] = set()  # request ids
        self._reserved: Counter[str] = Counter()  # execution slots, by worker
        self._detectors: dict[str, str] = {}  # the worker that detects a job type, as long as it can
        self._picks = 0
        self._unsaved = False
        self._load()
        self.routes: list[Route] = [
            ("GET", "/api/plugin/status", self._status_page),
            ("GET", "/api/plugin/workers", self._workers_page),
            ("GET", "/api/plugin/job-types", self._job_types_page),
            ("GET", "/api/plugin/scheduler-states", self._states_page),
            ("GET", "/api/plugin/jobs", self._jobs_page),
            ("GET", "/api/plugin/jobs/*", self._job_page),
            ("GET", "/api/plugin/jobs/*/detail", self._detail_page),
            ("POST", "/api/plugin/jobs/*/expire", self._expire_page),
            ("POST", "/api/plugin/jobs/execute", self._execute_page),
            ("GET", "/api/plugin/activities", self._activities_page),
            ("POST", "/api/plugin/job-types/*/schema", self._schema_page),
            ("GET", "/api/plugin/job-types/*/descriptor", self._descriptor_page),
            ("GET", "/api/plugin/job-types/*/config", self._config_page),
            ("PUT", "/api/plugin/job-types/*/config", self._configure_page),
            ("GET", "/api/plugin/job-types/*/runs", self._runs_page),
            ("POST", "/api/plugin/job-types/*/detect", self._detect_page),
            ("POST", "/api/plugin/job-types/*/run", self._run_page),
        ]

    # ---- its life

    def start(self) -> None:
        """Detect and execute unasked, if wished."""
        if self._flags.schedule:
            threading.Thread(target=self._schedule, daemon=True).start()

    def _load(self) -> None:
        if self._directory is None:
            return
        for path in self._directory.glob("job_types/*/descriptor.pb"):
            self._descriptors[path.parent.name] = plugin_pb2.JobTypeDescriptor.FromString(path.read_bytes())
        for path in self._directory.glob("job_types/*/config.pb"):
            self._configs[path.parent.name] = plugin_pb2.PersistedJobTypeConfig.FromString(path.read_bytes())
        for path in self._directory.glob("job_types/*/runs.json"):
            self._runs[path.parent.name] = json.loads(path.read_text())
        for job in _read_list(self._directory / "jobs" / "tracked_jobs.json"):
            self._jobs[job["job_id"]] = job
        self._activities.extend(_read_list(self._directory / "activities" / "activities.json"))

    def save(self) -> None:
        """Write what changed."""
        with self._lock:
            if not self._unsaved or self._directory is None:
                return
            self._unsaved = False
            types = self._directory / "job_types"
            files = {types / name / "descriptor.pb": d.SerializeToString() for name, d in self._descriptors.items()}
            files |= {types / name / "config.pb": config.SerializeToString() for name, config in self._configs.items()}
            files |= {types / name / "runs.json": json.dumps(runs).encode() for name, runs in self._runs.items()}
            files[self._directory / "jobs" / "tracked_jobs.json"] = json.dumps(list(self._jobs.values())).encode()
            files[self._directory / "activities" / "activities.json"] = json.dumps(list(self._activities)).encode()
        for path, content in files.items():
            write_whole(path, content)

    def _violation(self, kind: str, worker_id: str, detail: str) -> None:
        self._records.violation(self.name, kind, worker_id, detail)

    # ---- streams

    def received(self, session: Session, message: plugin_pb2.WorkerToAdminMessage) -> None:
        """Act on a worker's message."""
        kind = message.WhichOneof("body")
        with self._lock:
            if not session.worker_id and kind != "hello":
                raise Rejected("first message must be hello")
            if kind == "hello":
                self._hello(session, message.hello)
            elif kind == "heartbeat":
                worker = self._workers.get(session.worker_id)
                if worker is not None:
                    worker.heartbeat, worker.last_seen = message.heartbeat, time.time()
            elif kind == "config_schema_response":
                self._described(message.config_schema_response)
            elif kind == "detection_proposals":
                self._proposed(session.worker_id, message.detection_proposals)
            elif kind == "detection_complete":
                self._detected(session.worker_id, message.detection_complete)
            elif kind == "job_progress_update":
                self._progressed(session.worker_id, message.job_progress_update)
            elif kind == "job_completed":
                self._completed(session.worker_id, message.job_completed)
            self._changed.notify_all()

    def _hello(self, session: Session, hello: plugin_pb2.WorkerHello) -> None:
        worker_id = hello.worker_id.strip()
        if not worker_id:
            raise Rejected("worker_id is required")
        session.worker_id = worker_id
        old = self.sessions.get(worker_id)
        if old is not None and old is not session:
            self._violation("second_stream", worker_id, "said hello while its other stream stood")
            old.end()
        self.sessions[worker_id] = session
        self._workers[worker_id] = Worker(hello, time.time(), time.time())
        answer = plugin_pb2.AdminHello(
            accepted=True, message="plugin connected", heartbeat_interval_seconds=30, reconnect_delay_seconds=5
        )
        session.send(_say(hello=answer))
        unknown = [entry.job_type for entry in hello.capabilities if entry.job_type not in self._descriptors]
        threading.Thread(target=self._prefetch, args=(worker_id, unknown), daemon=True).start()

    def gone(self, session: Session) -> None:
        """Forget a worker. A real admin knows the worker by its id alone, so a newer stream of that id ends too."""
        with self._lock:
            self._workers.pop(session.worker_id, None)
            current = self.sessions.pop(session.worker_id, None)
            if current is not None:
                current.end()
            self._changed.notify_all()

    def _ask(self, worker_id: str, request_id: str, timeout: float, **body: Any) -> Waiting:
        """Send a request and wait for its answer; Unanswered after `timeout` seconds."""
        with self._lock:
            session = self.sessions.get(worker_id)
            if session is None:
                raise HttpError(500, f"worker {worker_id} is not connected")
            waiting = self._waiting[request_id] = Waiting(worker_id)
            session.send(_say(request_id, **body))
            try:
                self._changed.wait_for(lambda: waiting.answer is not None, timeout)
            finally:
                del self._waiting[request_id]
            if waiting.answer is None:
                raise Unanswered
            return waiting

    def _cancel(self, worker_id: str, target: str, kind: plugin_pb2.WorkKind) -> None:
        session = self.sessions.get(worker_id)
        if session is not None:
            order = plugin_pb2.CancelRequest(target_id=target, target_kind=kind, reason=EXPIRED)
            session.send(_say(_new_id("cancel"), cancel_request=order))

    def _answer(self, request_id: str, answer: Message) -> None:
        waiting = self._waiting.get(request_id)
        if waiting is not None and waiting.answer is None:
            waiting.answer = answer

    def _capable(self, job_type: str, detection: bool) -> list[str]:
        """Workers that can do it and are not silent, those with most free slots first, equals in turn."""
        self._picks += 1
        found = []
        for worker_id, worker in self._workers.items():
            offer = worker.capability(job_type)
            if offer is None or time.time() - worker.last_seen > self._flags.silence:
                continue
            if offer.can_detect if detection else offer.can_execute:
                found.append(worker_id)
        turn = self._picks % len(found) if found else 0
        found = found[turn:] + found[:turn]
        return sorted(found, key=lambda worker_id: -self._workers[worker_id].free(detection))

    # ---- descriptors and configurations

    def _prefetch(self, worker_id: str, job_types: Iterable[str]) -> None:
        for job_type in job_types:
            try:
                self._fetch_schema(worker_id, job_type, 20, force=False)
            except (Unanswered, HttpError):
                continue

    def _fetch_schema(self, worker_id: str, job_type: str, timeout: float, force: bool) -> None:
        wanted = plugin_pb2.RequestConfigSchema(job_type=job_type, force_refresh=force)
        answer = self._ask(worker_id, _new_id("schema"), timeout, request_config_schema=wanted).answer
        if not answer.success:
            raise HttpError(500, answer.error_message or f"no descriptor for {job_type}")

    def _described(self, response: plugin_pb2.ConfigSchemaResponse) -> None:
        """Keep any descriptor, also one that nobody asked for."""
        if response.success and response.HasField("job_type_descriptor"):
            job_type, shown = response.job_type, response.job_type_descriptor
            if JOB_TYPE.fullmatch(job_type) is None:
                return
            self._descriptors[job_type] = shown
            if job_type not in self._configs:
                config = plugin_pb2.PersistedJobTypeConfig(job_type=job_type, updated_by="plugin")
                config.admin_runtime.ParseFromString(shown.admin_runtime_defaults.SerializeToString())
                config.updated_at.GetCurrentTime()
                _fill(config, shown)
                self._configs[job_type] = config
            self._unsaved = True
        self._answer(response.request_id, response)

    def _config(self, job_type: str) -> plugin_pb2.PersistedJobTypeConfig:
        """The stored configuration, its zero numbers filled in from the descriptor."""
        config = plugin_pb2.PersistedJobTypeConfig(job_type=job_type)
        with self._lock:
            if job_type in self._configs:
                config.CopyFrom(self._configs[job_type])
            if job_type in self._descriptors:
                _fill(config, self._descriptors[job_type])
        return config

    # ---- detection

    def _detect(
        self, job_type: str, context: plugin_pb2.ClusterContext, max_results: int, timeout: float
    ) -> tuple[str, str, list[plugin_pb2.JobProposal]]:
        """Detect; return the request id, the worker and the proposals."""
        with self._lock:
            capable = self._capable(job_type, detection=True)
            if not capable:
                raise HttpError(500, f"no detector worker available for job_type={job_type}")
            if self._detectors.get(job_type) not in capable:
                self._detectors[job_type] = capable[0]
            worker_id = self._detectors[job_type]
            stored = self._configs.get(job_type, plugin_pb2.PersistedJobTypeConfig())
            request_id = _new_id("detect")
            request = plugin_pb2.RunDetectionRequest(
                request_id=request_id,
                job_type=job_type,
                detection_sequence=time.time_ns(),
                admin_runtime=self._config(job_type).admin_runtime,
                admin_config_values=stored.admin_config_values,
                worker_config_values=stored.worker_config_values,
                cluster_context=context,
                last_successful_run=self._last_success(job_type),
                max_results=max_results,
            )
        try:
            waiting = self._ask(worker_id, request_id, timeout, run_detection_request=request)
        except Unanswered:
            self._cancel(worker_id, request_id, plugin_pb2.WORK_KIND_DETECTION)
            raise HttpError(500, EXPIRED, **_detection_json(job_type, request_id, worker_id, [])) from None
        if not waiting.answer.success:
            reason = waiting.answer.error_message or f"detector for {job_type} failed"
            raise HttpError(500, reason, **_detection_json(job_type, request_id, worker_id, []))
        if 0 < max_results < len(waiting.proposals):
            self._violation("too_many_proposals", worker_id, f"{len(waiting.proposals)} where {max_results} were asked")
        return request_id, worker_id, waiting.proposals

    def _proposed(self, worker_id: str, message: plugin_pb2.DetectionProposals) -> None:
        waiting = self._waiting.get(message.request_id)
        if waiting is not None and waiting.answer is None:
            waiting.proposals.extend(message.proposals)
        elif message.request_id in self._answered:
            self._violation("proposals_after_completion", worker_id, message.request_id)

    def _detected(self, worker_id: str, message: plugin_pb2.DetectionComplete) -> None:
        if message.request_id in self._answered:
            self._violation("second_completion", worker_id, message.request_id)
        self._answered.add(message.request_id)
        self._answer(message.request_id, message)

    def _last_success(self, job_type: str) -> Timestamp | None:
        ended = [entry["completed_at"] for entry in self._runs.get(job_type, []) if entry["outcome"] == "success"]
        if not ended:
            return None
        last = Timestamp()
        last.FromJsonString(max(ended))
        return last

    # ---- execution

    def _execute(
        self, worker_id: str, job: plugin_pb2.JobSpec, context: plugin_pb2.ClusterContext, attempt: int, timeout: float
    ) -> plugin_pb2.JobCompleted:
        """Let a worker do a job; Unanswered when it takes longer than `timeout` seconds."""
        request_id = _new_id("exec")
        with self._lock:
            stored = self._configs.get(job.job_type, plugin_pb2.PersistedJobTypeConfig())
            tracked = self._track(job.job_id)
            tracked.update(
                job_type=job.job_type,
                request_id=request_id,
                worker_id=worker_id,
                dedupe_key=job.dedupe_key,
                summary=job.summary,
                detail=job.detail,
                parameters=to_json(plugin_pb2.ValueMap(fields=job.parameters))["fields"],
                labels=dict(job.labels),
                state="job_state_assigned",
                progress=0.0,
                stage="assigned",
                message="job assigned to worker",
                attempt=attempt,
            )
            self._note("admin_dispatch", job.job_type, job.job_id, request_id, worker_id, "job assigned", "assigned")
            request = plugin_pb2.ExecuteJobRequest(
                request_id=request_id,
                job=job,
                admin_runtime=self._config(job.job_type).admin_runtime,
                admin_config_values=stored.admin_config_values,
                worker_config_values=stored.worker_config_values,
                cluster_context=context,
                attempt=attempt,
            )
        try:
            answer: plugin_pb2.JobCompleted = self._ask(
                worker_id, request_id, timeout, execute_job_request=request
            ).answer
        except Unanswered:
            self._cancel(worker_id, request_id, plugin_pb2.WORK_KIND_EXECUTION)
            raise
        return answer

    def _track(self, job_id: str) -> dict[str, Any]:
        """The record of a job, new where there is none; stamped as changed now."""
        now = timestamp(time.time())
        job = self._jobs.setdefault(job_id, {"job_id": job_id, "created_at": now})
        job["updated_at"] = now
        while len(self._jobs) > KEPT_JOBS:
            del self._jobs[min(self._jobs, key=lambda known: str(self._jobs[known]["updated_at"]))]
        self._unsaved = True
        return job

    def _progressed(self, worker_id: str, update: plugin_pb2.JobProgressUpdate) -> None:
        if update.state == plugin_pb2.JOB_STATE_UNSPECIFIED:
            self._violation("progress_without_state", worker_id, update.job_id or update.request_id)
        if update.job_id:
            if update.request_id in self._answered:
                self._violation("progress_after_completion", worker_id, update.job_id)
            job = self._track(update.job_id)
            job["job_type"] = update.job_type or job.get("job_type", "")
            job["request_id"] = update.request_id or job.get("request_id", "")
            job["worker_id"] = job.get("worker_id") or worker_id
            job["state"] = plugin_pb2.JobState.Name(update.state).lower()
            job.update(progress=update.progress_percent, stage=update.stage, message=update.message)
        place = (update.job_type, update.job_id, update.request_id, worker_id)
        self._note_all(update.activities, *place)
        if update.message or update.stage:
            source = "worker_progress" if update.job_id else "worker_detection"
            self._note(source, *place, update.message, update.stage)

    def _completed(self, worker_id: str, completed: plugin_pb2.JobCompleted) -> None:
        if not completed.job_type:
            self._violation("completion_without_job_type", worker_id, completed.job_id)
            return
        if completed.request_id in self._answered:
            self._violation("second_completion", worker_id, f"{completed.job_id} {completed.request_id}")
        if completed.request_id:
            self._answered.add(completed.request_id)
        self._answer(completed.request_id, completed)
        at = completed.completed_at if completed.HasField("completed_at") else None
        ended = timestamp(at.seconds + at.nanos / 1e9 if at is not None else time.time())
        words = completed.result.summary or "completed" if completed.success else completed.error_message
        if completed.job_id:
            job = self._track(completed.job_id)
            job.update(job_type=completed.job_type, request_id=completed.request_id, message=words, completed_at=ended)
            job["worker_id"] = job.get("worker_id") or worker_id
            if completed.success:
                outputs = to_json(plugin_pb2.ValueMap(fields=completed.result.output_values))["fields"]
                job.update(state="job_state_succeeded", progress=100.0, stage="completed", error_message="")
                job.update(result_summary=completed.result.summary, result_output_values=outputs)
            else:
                job.update(state="job_state_failed", stage="failed", error_message=completed.error_message)
        place = (completed.job_type, completed.job_id, completed.request_id, worker_id)
        self._note_all(completed.activities, *place)
        if completed.job_id:
            self._note("worker_completion", *place, words, "completed" if completed.success else "failed")
        runs = self._runs.setdefault(completed.job_type, [])
        outcome = "success" if completed.success else "error"
        runs.append(
            {
                "run_id": completed.request_id,
                "job_id": completed.job_id,
                "job_type": completed.job_type,
                "worker_id": worker_id,
                "outcome": outcome,
                "message": words,
                "completed_at": ended,
            }
        )
        same = [entry for entry in runs if entry["outcome"] == outcome]
        for entry in same[:-KEPT_RUNS]:
            runs.remove(entry)

    def _dispatch(
        self,
        job_type: str,
        proposals: Sequence[plugin_pb2.JobProposal],
        context: plugin_pb2.ClusterContext,
        deadline: float,
    ) -> Counter[str]:
        """Execute proposals, as many at once as the configuration allows; count what came of them.

        `deadline` (monotonic seconds) bounds the start of jobs, not their run.
        """
        jobs = [_job(job_type, number, proposal) for number, proposal in enumerate(proposals)]
        with self._lock:
            for job in jobs:
                self._track(job.job_id).update(
                    job_type=job_type,
                    request_id="",
                    worker_id="",
                    dedupe_key=job.dedupe_key,
                    summary=job.summary,
                    state="job_state_pending",
                    progress=0.0,
                    stage="queued",
                    message="queued for execution",
                )
        runtime = self._config(job_type).admin_runtime
        at_once = max(1, runtime.global_execution_concurrency) if runtime.enabled else 1
        with ThreadPoolExecutor(min(at_once, 128)) as pool:
            return Counter(pool.map(lambda job: self._carry_out(job, context, deadline), jobs))

    def _carry_out(self, job: plugin_pb2.JobSpec, context: plugin_pb2.ClusterContext, deadline: float) -> str:
        """Execute one job, and again where it may; return "success", "error" or "canceled"."""
        runtime = self._config(job.job_type).admin_runtime
        retries = runtime.retry_limit if runtime.enabled else 0
        timeout = max(self._flags.attempt_timeout, runtime.execution_timeout_seconds if runtime.enabled else 0)
        if "estimated_runtime_seconds" in job.parameters:
            timeout = max(timeout, job.parameters["estimated_runtime_seconds"].int64_value)
        attempt, worker_id = 1, ""
        try:
            while True:
                worker_id = worker_id or self._reserve(job.job_type, runtime, deadline)
                if not worker_id:
                    return self._give_up(job, "no executor with room in time")
                completed = None
                try:
                    completed = self._execute(worker_id, job, context, attempt, timeout)
                except Unanswered:
                    if attempt > retries:
                        return self._give_up(job, EXPIRED)
                except HttpError as error:
                    return self._give_up(job, str(error))
                if completed is not None and completed.success:
                    return "success"
                if completed is not None and AT_CAPACITY in completed.error_message.lower():
                    self._release(worker_id)
                    worker_id = ""
                    time.sleep(0.2)
                elif attempt > retries:
                    return "error"
                else:
                    attempt += 1
                    time.sleep(runtime.retry_backoff_seconds or 5)
        finally:
            if worker_id:
                self._release(worker_id)

    def _release(self, worker_id: str) -> None:
        with self._lock:
            self._reserved[worker_id] -= 1

    def _reserve(self, job_type: str, runtime: plugin_pb2.AdminRuntimeConfig, deadline: float) -> str:
        """Take an execution slot of the first worker with room; "" when none had room by the deadline."""
        while True:
            with self._lock:
                for worker_id in self._capable(job_type, detection=False):
                    if self._has_room(worker_id, job_type, runtime):
                        self._reserved[worker_id] += 1
                        return worker_id
            if time.monotonic() >= deadline:
                return ""
            time.sleep(0.05)

    def _has_room(self, worker_id: str, job_type: str, runtime: plugin_pb2.AdminRuntimeConfig) -> bool:
        worker = self._workers[worker_id]
        offer = worker.capability(job_type)
        total = worker.heartbeat.execution_slots_total if worker.heartbeat is not None else 0
        used = worker.heartbeat.execution_slots_used if worker.heartbeat is not None else 0
        offered = offer.max_execution_concurrency if offer is not None else 0
        limits = [max(1, runtime.per_worker_execution_concurrency), offered, total]
        return used + self._reserved[worker_id] < min(limit for limit in limits if limit > 0)

    def _give_up(self, job: plugin_pb2.JobSpec, reason: str) -> str:
        with self._lock:
            tracked = self._track(job.job_id)
            if tracked["state"] not in FINAL:
                tracked.update(state="job_state_canceled", stage="canceled", message=reason, error_message=reason)
        return "canceled"

    def _fresh(self, job_type: str, proposals: Iterable[plugin_pb2.JobProposal]) -> list[plugin_pb2.JobProposal]:
        """Leave out what is under way already, and what was proposed twice."""
        with self._lock:
            active = [job for job in self._jobs.values() if job.get("job_type") == job_type and job["state"] in ACTIVE]
        taken = {job.get("dedupe_key") or job["job_id"] for job in active}
        fresh = []
        for proposal in proposals:
            key = proposal.dedupe_key or proposal.proposal_id
            if key not in taken:
                taken.add(key)
                fresh.append(proposal)
        return fresh

    def _run(
        self, job_type: str, context: plugin_pb2.ClusterContext, max_results: int, timeout: float
    ) -> dict[str, object]:
        """Detect and execute; count what came of it."""
        deadline = time.monotonic() + timeout
        _request_id, _worker_id, proposals = self._detect(job_type, context, max_results, timeout)
        fresh = self._fresh(job_type, proposals)
        outcomes = self._dispatch(job_type, fresh, context, deadline)
        return {
            "job_type": job_type,
            "detected_count": len(proposals),
            "ready_to_execute_count": len(fresh),
            "skipped_active_count": len(proposals) - len(fresh),
            "executed_count": sum(outcomes.values()),
            "success_count": outcomes["success"],
            "error_count": outcomes["error"],
            "canceled_count": outcomes["canceled"],
        }

    def _schedule(self) -> None:
        """Run every enabled job type, 5 s after it was first seen and then in its interval, one after the other."""
        due: dict[str, float] = {}
        while True:
            time.sleep(0.5)
            with self._lock:
                known = list(self._descriptors)
            for job_type in known:
                runtime = self._config(job_type).admin_runtime
                if not runtime.enabled or time.monotonic() < due.setdefault(job_type, time.monotonic() + 5):
                    continue
                due[job_type] = time.monotonic() + max(5, 60 * runtime.detection_interval_minutes)
                window = runtime.job_type_max_runtime_seconds or 1800
                try:
                    self._run(job_type, self._context(), runtime.max_jobs_per_detection or 1000, window)
                except HttpError as error:
                    print(f"{job_type}: {error}", file=sys.stderr, flush=True)

    def _context(self) -> plugin_pb2.ClusterContext:
        return plugin_pb2.ClusterContext(
            master_grpc_addresses=filter(None, [self._masters.leader()]),
            volume_grpc_addresses=sorted(node.info.address or node.info.id for node in self._masters.nodes()),
            metadata={"source": "admin"},
        )

    # ---- activities

    def _note(
        self,
        source: str,
        job_type: str,
        job_id: str,
        request_id: str,
        worker_id: str,
        message: str,
        stage: str,
        details: object = None,
        at: float = 0.0,
    ) -> None:
        self._activities.append(
            {
                "job_id": job_id,
                "job_type": job_type,
                "request_id": request_id,
                "worker_id": worker_id,
                "source": source,
                "message": message,
                "stage": stage,
                **({"details": details} if details else {}),
                "occurred_at": timestamp(at or time.time()),
            }
        )
        self._unsaved = True

    def _note_all(
        self,
        events: Iterable[plugin_pb2.ActivityEvent],
        job_type: str,
        job_id: str,
        request_id: str,
        worker_id: str,
    ) -> None:
        for event in events:
            self._note(
                plugin_pb2.ActivitySource.Name(event.source).lower(),
                job_type,
                job_id,
                request_id,
                worker_id,
                event.message,
                event.stage,
                to_json(plugin_pb2.ValueMap(fields=event.details))["fields"],
                event.created_at.seconds + event.created_at.nanos / 1e9,
            )

    # ---- pages

    def _status_page(self, _request: Request) -> object:
        return {
            "enabled": True,
            "configured": self._directory is not None,
            "base_dir": str(self._directory or ""),
            "worker_count": len(self._workers),
            "worker_grpc_port": self._flags.grpc_port,
        }

    def _workers_page(self, _request: Request) -> object:
        with self._lock:
            return [
                worker.to_json()
                for worker in self._workers.values()
                if time.time() - worker.last_seen <= self._flags.silence
            ]

    def _job_types_page(self, _request: Request) -> object:
        with self._lock:
            offers = {entry.job_type: entry for w in self._workers.values() for entry in w.hello.capabilities}
            return [
                {
                    "job_type": name,
                    "display_name": offers[name].display_name
                    if name in offers
                    else self._descriptors[name].display_name,
                    "weight": offers[name].weight if name in offers else 0,
                }
                for name in sorted({*offers, *self._descriptors})
            ]

    def _states_page(self, _request: Request) -> object:
        with self._lock:
            does = [entry.job_type for worker in self._workers.values() for entry in worker.hello.capabilities]
            return [
                {
                    "job_type": name,
                    "enabled": config.admin_runtime.enabled,
                    "executor_worker_count": does.count(name),
                }
                for name, config in sorted(self._configs.items())
            ]

    def _jobs_page(self, request: Request) -> object:
        wanted = {key: request.query[key] for key in ("job_type", "state") if key in request.query}
        with self._lock:
            jobs = [job for job in self._jobs.values() if all(job.get(key) == wanted[key] for key in wanted)]
        jobs.sort(key=lambda job: str(job["updated_at"]), reverse=True)
        return [_brief(job) for job in jobs[: int(request.query.get("limit", "200"))]]

    def _find(self, job_id: str) -> dict[str, Any]:
        if job_id not in self._jobs:
            raise HttpError(404, "job not found")
        return self._jobs[job_id]

    def _job_page(self, request: Request) -> object:
        with self._lock:
            return _brief(self._find(request.words[0]))

    def _detail_page(self, request: Request) -> object:
        with self._lock:
            job = self._find(request.words[0])
            runs = [entry for entry in self._runs.get(job["job_type"], []) if entry["job_id"] == job["job_id"]]
            related = [
                _brief(other)
                for other in self._jobs.values()
                if other is not job and other["job_type"] == job["job_type"]
            ]
            return {
                "job": {key: value for key, value in job.items() if value not in ("", {})},
                **({"run_record": runs[-1]} if runs else {}),
                "activities": [entry for entry in self._activities if entry["job_id"] == job["job_id"]],
                "related_jobs": related[: int(request.query.get("related_limit", "20"))],
                "last_updated": job["updated_at"],
            }

    def _expire_page(self, request: Request) -> object:
        with self._lock:
            job = self._find(request.words[0])
            if job["state"] not in ACTIVE:
                return {"job_id": job["job_id"], "expired": False, "job": _brief(job), "message": "job is not active"}
            reason = request.json.get("reason") or "job expired by admin request"
            waiting = self._waiting.get(job["request_id"])
            self._track(job["job_id"]).update(
                state="job_state_failed", stage="expired", message=reason, error_message=reason
            )
            self._note("admin_expire", job["job_type"], job["job_id"], job["request_id"], "", reason, "expired")
            if waiting is not None:
                waiting.answer = plugin_pb2.JobCompleted(job_id=job["job_id"], error_message=reason)
                self._changed.notify_all()
            return {"job_id": job["job_id"], "expired": True, "job": _brief(job)}

    def _activities_page(self, request: Request) -> object:
        with self._lock:
            found = [
                entry
                for entry in reversed(self._activities)
                if request.query.get("job_type", entry["job_type"]) == entry["job_type"]
            ]
        found.sort(key=lambda entry: str(entry["occurred_at"]), reverse=True)
        return found[: int(request.query.get("limit", "500"))]

    def _schema_page(self, request: Request) -> object:
        job_type = request.words[0]
        force = request.query.get("force_refresh") == "true"
        if force or job_type not in self._descriptors:
            with self._lock:
                capable = self._capable(job_type, detection=True)
            if not capable:
                raise HttpError(500, f"no worker available for schema job_type={job_type}")
            try:
                self._fetch_schema(capable[0], job_type, 45, force)
            except Unanswered:
                raise HttpError(500, EXPIRED) from None
        return self._descriptor_page(request)

    def _descriptor_page(self, request: Request) -> object:
        with self._lock:
            if request.words[0] not in self._descriptors:
                raise HttpError(404, "descriptor not found")
            return to_json(self._descriptors[request.words[0]])

    def _config_page(self, request: Request) -> object:
        return to_json(self._config(request.words[0]))

    def _configure_page(self, request: Request) -> object:
        job_type = request.words[0]
        config = json_format.Parse(request.body, plugin_pb2.PersistedJobTypeConfig(), ignore_unknown_fields=True)
        config.job_type, config.updated_by = job_type, config.updated_by or "admin"
        config.updated_at.GetCurrentTime()
        with self._lock:
            if job_type in self._descriptors:
                _fill(config, self._descriptors[job_type])
            self._configs[job_type] = config
            self._unsaved = True
        return to_json(config)

    def _runs_page(self, request: Request) -> object:
        with self._lock:
            runs = list(reversed(self._runs.get(request.words[0], [])))
        return {
            "job_type": request.words[0],
            "successful_runs": [entry for entry in runs if entry["outcome"] == "success"] or None,
            "error_runs": [entry for entry in runs if entry["outcome"] == "error"] or None,
            "last_updated_time": runs[0]["completed_at"] if runs else None,
        }

    def _given_context(self, order: dict[str, Any]) -> plugin_pb2.ClusterContext:
        """The cluster context of a request, completed from the cluster."""
        given = json_format.ParseDict(
            order.get("cluster_context") or {}, plugin_pb2.ClusterContext(), ignore_unknown_fields=True
        )
        found = self._context()
        if not given.master_grpc_addresses:
            given.master_grpc_addresses.extend(found.master_grpc_addresses)
        if not given.volume_grpc_addresses:
            given.volume_grpc_addresses.extend(found.volume_grpc_addresses)
        given.metadata["source"] = "admin"
        return given

    def _detect_page(self, request: Request) -> object:
        order, job_type = request.json, request.words[0]
        timeout = _bounded(order, 45, 300)
        request_id, worker_id, proposals = self._detect(
            job_type, self._given_context(order), int(order.get("max_results", 0)), timeout
        )
        proposals.sort(key=lambda proposal: (-proposal.priority, proposal.proposal_id))
        with self._lock:
            activities = [entry for entry in self._activities if entry["request_id"] == request_id]
        return {**_detection_json(job_type, request_id, worker_id, proposals), "activities": activities}

    def _run_page(self, request: Request) -> object:
        order = request.json
        context, timeout = self._given_context(order), _bounded(order, 300, 1800)
        return self._run(request.words[0], context, int(order.get("max_results", 0)), timeout)

    def _execute_page(self, request: Request) -> object:
        order = request.json
        if not order.get("job"):
            raise HttpError(400, "job is required")
        job = json_format.ParseDict(order["job"], plugin_pb2.JobSpec(), ignore_unknown_fields=True)
        job.job_id = job.job_id or _new_id("job")
        with self._lock:
            capable = self._capable(job.job_type, detection=False)
        if not capable:
            raise HttpError(500, f"no executor worker available for job_type={job.job_type}")
        timeout, attempt = _bounded(order, 90, 600), max(1, int(order.get("attempt", 1)))
        try:
            completed = self._execute(capable[0], job, self._given_context(order), attempt, timeout)
        except Unanswered:
            raise HttpError(500, EXPIRED) from None
        if not completed.success:
            raise HttpError(500, completed.error_message, completion=to_json(completed))
        return to_json(completed)


def _say(request_id: str = "", **body: Any) -> plugin_pb2.AdminToWorkerMessage:
    message = plugin_pb2.AdminToWorkerMessage(request_id=request_id, **body)
    message.sent_at.GetCurrentTime()
    return message


def _new_id(prefix: str) -> str:
    return f"{prefix}-{time.time_ns()}-{secrets.token_hex(8)}"


def _job(job_type: str, number: int, proposal: plugin_pb2.JobProposal) -> plugin_pb2.JobSpec:
    """The job of a proposal: under an id of its own."""
    job = plugin_pb2.JobSpec(
        job_id=f"{job_type}-scheduled-{time.time_ns()}-{number}",
        job_type=proposal.job_type or job_type,
        dedupe_key=proposal.dedupe_key,
        priority=proposal.priority or plugin_pb2.JOB_PRIORITY_NORMAL,
        summary=proposal.summary,
        detail=proposal.detail,
        parameters=proposal.parameters,
        labels=proposal.labels,
    )
    job.created_at.GetCurrentTime()
    job.scheduled_at.CopyFrom(job.created_at)
    return job


def _fill(config: plugin_pb2.PersistedJobTypeConfig, shown: plugin_pb2.JobTypeDescriptor) -> None:
    """Fill missing values and zero numbers from a descriptor, but neither `enabled` nor the retry limit."""
    config.descriptor_version = shown.descriptor_version
    for values, defaults in (
        (config.admin_config_values, shown.admin_config_form.default_values),
        (config.worker_config_values, shown.worker_default_values or shown.worker_config_form.default_values),
    ):
        for key in defaults:
            if key not in values:
                values[key].CopyFrom(defaults[key])
    for entry, value in shown.admin_runtime_defaults.ListFields():
        if entry.name not in ("enabled", "retry_limit") and not getattr(config.admin_runtime, entry.name):
            setattr(config.admin_runtime, entry.name, value)


def _bounded(order: dict[str, Any], default: float, most: float) -> float:
    seconds = float(order.get("timeout_seconds") or default)
    return min(seconds if seconds > 0 else default, most)


def _detection_json(
    job_type: str, request_id: str, worker_id: str, proposals: Sequence[plugin_pb2.JobProposal]
) -> dict[str, object]:
    return {
        "job_type": job_type,
        "request_id": request_id,
        "detector_worker_id": worker_id,
        "total_proposals": len(proposals),
        "count": len(proposals),
        "proposals": [to_json(proposal, sparse=True) for proposal in proposals],
        "activities": [],
    }


def _brief(job: dict[str, Any]) -> dict[str, Any]:
    """A job as lists show it."""
    rich = ("detail", "parameters", "labels", "result_output_values")
    return {key: value for key, value in job.items() if key not in rich and value != ""}


def _read_list(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return found


def main(argv: Sequence[str]) -> int:
    """Run an admin that speaks the plugin dialect only."""
    return run(Flags.parse(argv, era="4.44"), [PluginAdmin])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
