"""The file that holds new work back while it exists, or until the time that its first line says.

"until 2026-11-28 06:00" (this host's time, unless a zone is named) or "for 2h" (from when the file was written) at the
beginning of the line end the pause by themselves; whatever else stands there is the reason that is shown.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from pathlib import Path

from weed_core.files import read_named
from weed_core.goflags import parse_duration

LARGEST, LONGEST = 1 << 20, 200
"""Bytes of the file that are read, and characters of its first line that are shown."""

_UNTIL = re.compile(r"until\s+(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)(Z|[+-]\d\d:\d\d)?(?=\W|$)", re.I)
_FOR = re.compile(r"for\s+([\d.]+(?:ns|us|µs|ms|s|m|h)[\d.nuµsmh]*)(?=\W|$)", re.I)


def reason(path: Path, now: float | None = None) -> str:
    """Why the file holds new work back: its first line, or its name; "" where it does not."""
    try:
        text = read_named(path, LARGEST).decode(errors="replace")
        written = path.stat().st_mtime
    except OSError as error:
        return "" if isinstance(error, FileNotFoundError) else str(error)
    line = text.partition("\n")[0].strip()[:LONGEST]
    end = ends_at(line, written)
    if end is None:
        return line or str(path)
    if (time.time() if now is None else now) >= end:
        return ""
    shown = datetime.fromtimestamp(end, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return f"{line}; ends by itself at {shown}"


def ends_at(line: str, written: float) -> float | None:
    """When a pause ends by its line, in unix seconds; None where the line says no time. `written`: when that was."""
    if found := _UNTIL.match(line):
        zone = (found[2] or "").upper().replace("Z", "+00:00")
        try:
            return datetime.fromisoformat(found[1] + zone).timestamp()
        except ValueError:
            return None
    if found := _FOR.match(line):
        try:
            return written + parse_duration(found[1])
        except ValueError:
            return None
    return None
