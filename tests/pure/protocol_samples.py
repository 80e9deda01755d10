"""Recorded streams, and small words of our own, for the tests of the dialects."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

from proto_gen import plugin_pb2, worker_pb2
from weed_core.model import Descriptor, Field, Runtime
from weed_protocol.commands import Identity, Running, Status

RECORDED = Path(__file__).parent.parent / "golden" / "wire"
NOW = 1795393909.25

VACUUM = Descriptor(
    name="vacuum",
    job_type="vacuum",
    display_name="Volume Vacuum",
    description="Reclaims disk space by removing deleted files from volumes",
    icon="fas fa-broom",
    fields=(
        Field("collection_filter", "Collections", "string", "", "Which collections.", scope="admin"),
        Field(
            "volume_state", "State", "enum", "ALL", "Which.", options=(("ALL", "All"), ("FULL", "Full")), scope="admin"
        ),
        Field("garbage_threshold", "Garbage", "double", 0.3, "How much garbage.", 0, 1, required=True),
        Field("min_volume_age_seconds", "Age", "int", 0, "How old.", 0),
        Field("verify", "Verify", "bool", True, "Whether to verify.", section="After The Work"),
    ),
    runtime=Runtime(detection_timeout_seconds=120, max_jobs_per_detection=200, retry_backoff_seconds=10),
    weight=60,
)
BALANCE = Descriptor(
    name="balance",
    job_type="volume_balance",
    display_name="Volume Balance",
    description="Moves volumes between servers to reduce skew in volume distribution",
    icon="fas fa-balance-scale",
    fields=(),
    runtime=Runtime(),
    weight=50,
)
ME = Identity(
    worker_id="w-host-1a2b",
    instance_id="inst-1",
    address="host",
    version="1.0",
    descriptors=(VACUUM, BALANCE),
    max_detect=1,
    max_execute=4,
    max_outside=60,
)
STATUS = Status(
    state="busy",
    running=(
        Running("detect-1", "detection", "balance", 0.0, "detecting"),
        Running("job-1", "execution", "balance", 0.7, "copying"),
    ),
    execution_used=1,
    execution_total=1,
    detection_used=1,
    detection_total=1,
    queued={"balance": 2, "vacuum": 0},
    completed=7,
    failed=2,
    uptime=61.9,
)


def recorded(stream: str, way: str) -> Iterator[bytes]:
    """The messages that one side of a recorded stream sent."""
    for line in (RECORDED / f"{stream}.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["way"] == way:
            yield base64.b64decode(entry["b64"])


def recorded_by_plugin_worker(kind: str) -> list[plugin_pb2.WorkerToAdminMessage]:
    """The recorded plugin worker's messages of one kind."""
    messages = map(plugin_pb2.WorkerToAdminMessage.FromString, recorded("plugin-4.44", "worker"))
    return [message for message in messages if message.WhichOneof("body") == kind]


def recorded_by_plugin_admin(kind: str) -> list[plugin_pb2.AdminToWorkerMessage]:
    """The recorded plugin admin's messages of one kind."""
    messages = map(plugin_pb2.AdminToWorkerMessage.FromString, recorded("plugin-4.44", "admin"))
    return [message for message in messages if message.WhichOneof("body") == kind]


def to_worker(**body: object) -> bytes:
    """A plugin admin's message."""
    return plugin_pb2.AdminToWorkerMessage(request_id="request-1", **body).SerializeToString()  # type: ignore[arg-type]


def to_classic_worker(**body: object) -> bytes:
    """A classic admin's message."""
    return worker_pb2.AdminMessage(**body).SerializeToString()  # type: ignore[arg-type]
