"""What lies in a worker's or a run's own directories."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from weed_cluster.address import Address
from weed_console.doctor.finding import Finding
from weed_core.errors import TaskError
from weed_safety.copy import Copying
from weed_safety.freeze import Freeze
from weed_safety.journal import DAMAGED, SUFFIX, Entry, peek
from weed_safety.steps import of_kind

WORK_SPACE = 64 << 20
"""Bytes that the working directory should have free: journals are small, task logs grow."""


def look_at_directories(directories: Iterable[Path]) -> list[Finding]:
    """What is wrong with each directory, and what killed jobs left there."""
    findings = []
    for directory in directories:
        where = str(directory)
        if not directory.exists():
            findings.append(Finding("DIRECTORY_NEW", where, "not there yet; no worker or run was started with it"))
            continue
        if not os.access(directory, os.W_OK | os.X_OK):
            findings.append(
                Finding(
                    "DIRECTORY_UNUSABLE",
                    where,
                    "this user cannot write there",
                    f"chown {os.getuid()} it, or name another -workingDir",
                )
            )
            continue
        free = shutil.disk_usage(directory).free
        if free < WORK_SPACE:
            findings.append(
                Finding(
                    "DIRECTORY_FULL",
                    where,
                    f"only {free >> 20} MiB free",
                    "make room: no job starts when its journal cannot be written",
                )
            )
        findings += _journals(directory)
        damaged = [path.name for folder in ("journal", "owed") for path in (directory / folder).glob("*" + DAMAGED)]
        if damaged:
            findings.append(
                Finding(
                    "RECORDS_DAMAGED",
                    where,
                    f"damaged records were set aside: {', '.join(sorted(damaged)[:3])}",
                    "read them, mend the volumes they name by hand, then remove them",
                )
            )
        if not any(finding.where == where for finding in findings):
            findings.append(Finding("OK", where, f"writable, {free >> 30} GiB free, nothing left to undo"))
    return findings


def _journals(directory: Path) -> list[Finding]:
    unfinished = [entry for entry in peek(directory / "journal") if entry.open]
    if not unfinished:
        return []
    jobs = ", ".join(_job(entry) for entry in unfinished[:3]) + (", ..." if len(unfinished) > 3 else "")
    if _is_held(directory):
        return [Finding("JOBS_UNDER_WAY", str(directory), f"{len(unfinished)} jobs are under way: {jobs}")]
    again = "weed_worker run" if directory.name.startswith("console-") else f"the worker with -workingDir={directory}"
    return [
        Finding(
            "CHANGES_LEFT",
            str(directory),
            f"killed jobs left changes behind: {jobs}",
            f"start {again}; it undoes them first",
        )
    ]


def _job(entry: Entry) -> str:
    return f"{entry.job_type} of volume {', '.join(map(str, entry.volume_ids)) or 'unknown'} ({entry.job_id})"


def _is_held(directory: Path) -> bool:
    """Whether a worker or a run uses the directory now."""
    for name in ("worker.lock", "lock"):
        try:
            with (directory / name).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            continue
        except OSError:
            return True
    return False


@dataclass(frozen=True)
class Left:
    """What killed jobs left on servers, by server and volume id, each with the job and its journal.

    `frozen` are the replicas that they made read-only, unfinished copies with them; `copies` are these copies.
    """

    frozen: dict[tuple[Address, int], str] = field(default_factory=dict)
    copies: dict[tuple[Address, int], str] = field(default_factory=dict)

    @classmethod
    def of(cls, directories: Iterable[Path]) -> Left:
        """Read it from the journals of directories that no worker uses; jobs under way tell by their leases."""
        left = cls()
        for directory in filter(lambda place: not _is_held(place), directories):
            for entry in peek(directory / "journal"):
                owner = f"{_job(entry)}, journal {directory / 'journal' / entry.id}{SUFFIX}"
                with suppress(TaskError):  # what is to undo it says what is strange about it
                    for frozen in of_kind(entry, Freeze):
                        left.frozen[frozen.change.server, frozen.change.volume_id] = owner
                    for copy in of_kind(entry, Copying):
                        volume_id, _source, target = copy.change.way
                        left.frozen[target, volume_id] = left.copies[target, volume_id] = owner
        return left
