"""What an admin can tell a worker, and what a worker can tell an admin, in neither dialect's words.

A dialect is a module with what Dialect names: its words, and four facts by which the agent knows its order of things.

Both are pure; the agent owns the stream, the clock and the slots. Job types are task module names on this side of a
dialect, whatever the admin calls them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from weed_core.model import Descriptor, Detection, DetectionRequest, Job, Result
from weed_core.values import Value

# ---- what the worker is -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Identity:
    """Who this worker is, for the first message of a stream and the envelope of all others."""

    worker_id: str
    instance_id: str
    address: str
    version: str
    descriptors: tuple[Descriptor, ...]  # the capabilities, in the operator's order
    max_detect: int
    max_execute: int
    max_outside: int = 0  # jobs more that may be under way, since they only wait


@dataclass(frozen=True)
class Running:
    """A job or a detection under way. `work_id`: the job's id, or the detection's request id."""

    work_id: str
    kind: str  # "detection" or "execution"
    job_type: str  # the task's module name
    fraction: float
    stage: str


@dataclass(frozen=True)
class Status:
    """One look at the worker: the same figures go to the heartbeat, /status and the metrics."""

    state: str  # "active" (connected, room for work, some running), "idle" (none running) or "busy" (no room)
    running: tuple[Running, ...]
    execution_used: int
    execution_total: int
    detection_used: int
    detection_total: int
    queued: Mapping[str, int]  # assigned work that waits for a slot, by task module name
    completed: int
    failed: int
    uptime: float  # seconds
    execution_outside: int = 0  # jobs under way that only wait, without a slot


# ---- admin -> worker ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Welcome:
    """The admin took the registration or hello."""

    message: str


@dataclass(frozen=True)
class Refused:
    """The admin rejected the registration or hello."""

    message: str


@dataclass(frozen=True)
class HeartbeatSeen:
    """The admin answered a heartbeat (classic)."""


@dataclass(frozen=True)
class NoWork:
    """The admin has nothing to assign (classic)."""


@dataclass(frozen=True)
class RunJob:
    """Run this job and answer with exactly one Completed. `request_id` is empty in the classic dialect.

    `job` may name an unknown type; `problem` is set where the message could not be understood as a job.
    """

    request_id: str
    job: Job
    problem: str = ""


@dataclass(frozen=True)
class Detect:
    """Look for work and answer with exactly one Detected."""

    request_id: str
    request: DetectionRequest


@dataclass(frozen=True)
class Describe:
    """Describe a job type's forms."""

    request_id: str
    job_type: str


@dataclass(frozen=True)
class Cancel:
    """Stop the work with this request id or job id."""

    request_id: str
    target: str
    reason: str


@dataclass(frozen=True)
class Stop:
    """The admin asks this worker to stop after `grace` seconds."""

    request_id: str
    reason: str
    grace: float


@dataclass(frozen=True)
class SendLog:
    """Send a task's log (classic). Times are unix seconds, 0 for unbounded; `level` empty for all."""

    task_id: str
    worker_id: str
    include_metadata: bool
    max_entries: int
    level: str
    start_time: int
    end_time: int


@dataclass(frozen=True)
class Unknown:
    """A message this worker does not know."""

    request_id: str
    what: str


Command = Welcome | Refused | HeartbeatSeen | NoWork | RunJob | Detect | Describe | Cancel | Stop | SendLog | Unknown

# ---- worker -> admin ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hello:
    """The stream's first message."""


@dataclass(frozen=True)
class Heartbeat:
    """A sign of life with the worker's figures."""

    status: Status


@dataclass(frozen=True)
class AskForWork:
    """Ask for one more task (classic; plugin admins push)."""

    free_slots: int


@dataclass(frozen=True)
class Acknowledged:
    """The answer to a request that was accepted or not (plugin)."""

    request_id: str
    accepted: bool
    message: str = ""


@dataclass(frozen=True)
class Described:
    """A job type's forms; `descriptor` is None where this worker does not have the type."""

    request_id: str
    job_type: str
    descriptor: Descriptor | None


@dataclass(frozen=True)
class Detected:
    """What a detection found, or why it failed (`error`)."""

    request_id: str
    job_type: str  # the task's module name
    detection: Detection | None
    error: str = ""


@dataclass(frozen=True)
class Progress:
    """How far a job is. `fraction` is 0..1, `figures` plain numbers such as bytes sent.

    `is_new` says that the stage has just begun: an admin that keeps a list of what happened is told of each stage once.
    """

    request_id: str
    job_id: str
    job_type: str  # the task's module name
    fraction: float
    stage: str
    message: str = ""
    figures: Mapping[str, Value] = field(default_factory=dict)
    is_new: bool = True


@dataclass(frozen=True)
class Completed:
    """The end of a job: exactly one for every RunJob. `finished_at` is unix seconds.

    A debt: kept, on disk too, until a stream has taken it.
    """

    request_id: str
    job_id: str
    job_type: str  # the task's module name, or what the admin named where that is unknown
    finished_at: float
    result: Result | None = None
    error: str = ""
    cancelled: bool = False
    at_capacity: bool = False  # not a failure: the plugin admin sends the job again
    told: Result | None = None  # what a job that failed tells of what it did nonetheless

    @property
    def success(self) -> bool:
        """Whether the job did what it was asked to."""
        return self.result is not None


@dataclass(frozen=True)
class LogEntry:
    """One line of a task's log. `timestamp` is unix seconds."""

    timestamp: int
    level: str
    message: str
    fields: Mapping[str, str] = field(default_factory=dict)
    progress: float = 0.0  # percent
    status: str = ""


@dataclass(frozen=True)
class LogMetadata:
    """What a task's log belongs to. Times are unix seconds."""

    task_type: str
    start_time: int
    end_time: int
    duration_ms: int
    status: str
    progress: float
    volume_id: int
    server: str
    collection: str
    log_file_path: str
    created_at: int


@dataclass(frozen=True)
class Log:
    """The answer to SendLog."""

    task_id: str
    worker_id: str
    entries: tuple[LogEntry, ...] = ()
    metadata: LogMetadata | None = None
    error: str = ""


@dataclass(frozen=True)
class Goodbye:
    """This worker leaves (classic)."""

    reason: str


Report = Hello | Heartbeat | AskForWork | Acknowledged | Described | Detected | Progress | Completed | Log | Goodbye


class Dialect(Protocol):
    """One of the admin's two languages, a module."""

    NAME: str
    """classic or plugin."""
    METHOD: str
    """The full gRPC method path of its one bidirectional stream."""
    PULLS: bool
    """Whether the worker asks for each task; else the admin pushes."""
    ANSWERS_HEARTBEATS: bool
    """Whether the admin answers each heartbeat, in order: an answer is a receipt then, and silence means something."""
    COUNTS_FAILURES: bool
    """Whether an admin may count failures told as running tasks, so that a worker must make up for them."""
    QUEUES: bool
    """Whether a job waits here for a slot; else the admin is told that there is none, and gives the job again."""

    def decode(self, message: bytes, /) -> Command:
        """Read an admin's message; never raises on what it does not know: see Unknown."""

    def encode(self, report: Report, identity: Identity, now: float, /) -> list[bytes]:
        """The messages, in order, that tell the report; empty where it has no words for that. `now`: unix seconds."""
