"""Giving an agent work through an admin of either dialect, and seeing what came of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from tests.support import eventually
from tests.support.cluster import Admin

ENDED = {"completed": True, "failed": False, "job_state_succeeded": True, "job_state_failed": False}


@dataclass(frozen=True)
class Ended:
    """How a job ended, as the admin has it."""

    success: bool
    error: str


class Driver:
    """One admin, seen as "give this job" and "how is it"."""

    def __init__(self, admin: Admin, dialect: str) -> None:
        self.admin = admin
        self.dialect = dialect

    def workers(self) -> list[str]:
        """The ids of the workers that the admin knows as connected."""
        if self.dialect == "plugin":
            return [worker["WorkerID"] for worker in self.admin.get("/api/plugin/workers")]
        return [worker["id"] for worker in self.admin.get("/api/maintenance/workers") or []]

    def give(self, job_id: str, task_type: str, volume_id: int, server: str) -> None:
        """Hand a job to the admin; does not wait for it."""
        if self.dialect == "classic":
            params = {
                "taskId": job_id,
                "volumeId": volume_id,
                "sources": [{"node": server, "volumeId": volume_id}],
                "vacuumParams": {"garbageThreshold": 0.1},
            }
            order = {"task_id": job_id, "task_type": task_type, "volume_id": volume_id, "params": params}
            self.admin.post("/sandbox/tasks", order)
            return
        parameters = {"volume_id": {"int64_value": str(volume_id)}, "server": {"string_value": server}}
        job = {"job_id": job_id, "job_type": task_type, "parameters": parameters}
        threading.Thread(target=self.execute, args=({"job": job, "timeout_seconds": 60},), daemon=True).start()

    def execute(self, order: dict[str, Any]) -> None:
        """Have a plugin admin execute a job, and wait for it."""
        try:
            self.admin.post("/api/plugin/jobs/execute", order)
        except (AssertionError, OSError):
            pass  # the admin tells of a failed job so; the tests ask for the job itself

    def job(self, job_id: str) -> dict[str, Any] | None:
        """What the admin knows of a job."""
        path = "/api/plugin/jobs" if self.dialect == "plugin" else "/api/maintenance/tasks"
        key = "job_id" if self.dialect == "plugin" else "id"
        found = [job for job in self.admin.get(path) or [] if job[key] == job_id]
        return found[0] if found else None

    def said(self, kind: str) -> list[dict[str, Any]]:
        """What workers said to the sandbox's admin, of one kind, oldest first."""
        return [record["message"][kind] for record in self.admin.get(f"/sandbox/messages?kind={kind}")]

    def start_again(self) -> None:
        """Start the admin after it was killed, and wait until it serves."""
        self.admin.start()
        eventually(self._serves, 20)

    def _serves(self) -> bool:
        try:
            self.admin.get("/sandbox/violations")
        except OSError:
            return False
        return True

    def completions(self, job_id: str) -> list[dict[str, Any]]:
        """Every completion that the admin was sent for a job."""
        kind, key = ("job_completed", "job_id") if self.dialect == "plugin" else ("task_complete", "task_id")
        return [body for body in self.said(kind) if body[key] == job_id]

    def ended(self, job_id: str, timeout: float = 60.0) -> Ended:
        """Wait until the admin was told the end of a job."""
        (first, *_) = eventually(lambda: self.completions(job_id), timeout)
        return Ended(bool(first.get("success")), first.get("error_message", ""))

    def violations(self) -> list[dict[str, Any]]:
        """What would have harmed a real admin."""
        return list(self.admin.get("/sandbox/violations"))
