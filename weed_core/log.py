"""Log lines on stderr: one sentence a line, as text or JSON, with SeaweedFS's -v levels and the time in UTC."""

from __future__ import annotations

import json
import logging
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from weed_core.text import escaped

LONGEST = 8000
"""Characters of a line; others may have named things at any length."""


class _Form(logging.Formatter):
    """Names from others neither end a line nor begin one: what follows a line is indented. Times are UTC."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join("    " + _shown(line) for line in super().formatException(ei).splitlines())


class _Json(_Form):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": _name(record.levelno),
            "logger": record.name,
            "message": _shown(record.getMessage()),
            **{name: _shown(fact) if isinstance(fact, str) else fact for name, fact in _facts(record).items()},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _Text(_Form):
    def format(self, record: logging.LogRecord) -> str:
        record.levelname = _name(record.levelno)
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return _shown(super().formatMessage(record))


def _shown(text: str) -> str:
    return escaped(text) if len(text) <= LONGEST else escaped(text[:LONGEST]) + f"... ({len(text)} characters)"


def _name(level: int) -> str:
    """INFO up to -v=2, DEBUG for -v=3 and 4."""
    if logging.DEBUG < level <= logging.INFO:
        return "INFO" if level >= logging.INFO - 2 else "DEBUG"
    return logging.getLevelName(level)


def with_facts(**facts: Any) -> dict[str, Any]:
    """What a line tells beside its sentence, as the `extra` of a log call: keys of their own where lines are JSON."""
    return {"facts": facts}


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "facts", {})


def set_up(form: str, verbosity: int, directory: Path | None = None, size: int = 0, files: int = 1) -> None:
    """Log to stderr in this form; -v=0 shows INFO, each level above it one more.

    With a directory also to `weed_worker.log` there, which begins anew at `size` bytes; so many `files` are kept.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if directory is not None:
        handlers.append(RotatingFileHandler(directory / "weed_worker.log", "a", size, files - 1 or 1, "utf-8"))
    root = logging.getLogger()
    for old in root.handlers:
        old.close()
    for handler in handlers:
        handler.setFormatter(_Json() if form == "json" else _Text("%(asctime)s %(levelname)s %(message)s"))
    root.handlers = handlers
    root.setLevel(logging.INFO - verbosity)
