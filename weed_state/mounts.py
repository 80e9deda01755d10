"""Whether a directory outlives what it is there to outlive."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")

PASSING = {
    "tmpfs": "in memory (tmpfs): a restart of this host or pod empties it",
    "ramfs": "in memory (ramfs): a restart of this host or pod empties it",
    "overlay": "on a container's own layer (overlay): it goes with the container",
    "aufs": "on a container's own layer (aufs): it goes with the container",
}
"""File systems that do not last, and why."""


def warning(directory: Path, mounts: str | None = None) -> str:
    """What is lost with a working directory that does not last, in a sentence; "" for one that does.

    `mounts` is the text of /proc/self/mountinfo; where there is none nothing is known, and nothing said.
    """
    try:
        text = MOUNTS.read_text(errors="replace") if mounts is None else mounts
    except OSError:
        return ""
    why = _why_passing(directory, text)
    if not why:
        return ""
    return (
        f"-workingDir={directory} is {why}, and with it worker.id (admins then see a new worker), results that no admin"
        " has taken yet, and the journal: what a killed worker left half done, a read-only volume for instance, is"
        " undone by nobody; mount a directory that lasts there"
    )


def _why_passing(directory: Path, mounts: str) -> str:
    holding, root, kind = "", "", ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 9 or "-" not in fields[6:]:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        if directory.is_relative_to(point) and len(point) >= len(holding):
            holding, root, kind = point, fields[3], fields[fields.index("-", 6) + 1]
    if "kubernetes.io~empty-dir" in root:
        return "an emptyDir: it goes with the pod"
    return PASSING.get(kind, "")
