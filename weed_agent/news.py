"""What is told of jobs and of looks for work, as they begin and end: log lines, counters, and the history.

Each line says what was done before it says which job that was, and tells the same as keys where lines are JSON.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from weed_agent.hand import Assignment
from weed_agent.metrics import Metrics
from weed_core.log import with_facts
from weed_core.model import Detection
from weed_core.text import size_text, time_text
from weed_protocol.commands import Completed
from weed_safety.closed import closed
from weed_state.history import CANCELLED, DONE, FAILED, LONGEST, Ended, History

log = logging.getLogger("weed_worker")

STAGES, DECISIONS = logging.INFO - 1, logging.INFO - 2
"""The log levels of -v=1 and -v=2."""


class News:
    """Tells the log, the metrics and the history of one worker."""

    def __init__(self, metrics: Metrics, history: History) -> None:
        self.completed = self.failed = 0
        self._metrics = metrics
        self._history = history

    # ---- jobs

    def took(self, work: Assignment) -> None:
        """A job came, and waits for a slot."""
        log.info("took %s", work.name, extra=_facts(work))

    def started(self, work: Assignment) -> None:
        """A job has its slot."""
        log.log(STAGES, "starting %s", work.name, extra=_facts(work))

    def stage(self, work: Assignment) -> None:
        """A job is at another stage; volumes that it keeps read-only for a while by now are told of, once each."""
        percent = work.fraction * 100
        log.log(STAGES, "%s: %s (%.0f%%) [%s]", work.words, work.stage, percent, work.shown_id, extra=_facts(work))
        for one in closed([work.context.journal] if work.context else []):
            if one.until and work.told_closed.get(one.volume_id) != one.ends:
                work.told_closed[one.volume_id] = one.ends
                why = "so that no server writes past its new place, or waits for writes that are under way"
                log.info("%s: %s, %s [%s]", work.words, one.text, why, work.shown_id, extra=_facts(work))

    def ended(self, work: Assignment, done: Completed) -> None:
        """A job ended, or was given back unstarted."""
        seconds = time.monotonic() - work.started if work.started else 0.0
        gains = done.result.gains if done.result else {}
        outcome = DONE if done.result else CANCELLED if done.cancelled else FAILED
        facts = _facts(
            work,
            outcome="handed back" if done.at_capacity else outcome,
            seconds=round(seconds, 3),
            bytes=work.leash.read + work.leash.written,
            **{f"{word}_bytes": size for word, size in gains.items()},
        )
        if done.at_capacity:
            log.info("handed back %s: %s [%s]", work.words, done.error, work.shown_id, extra=facts)
            return
        text = done.result.summary if done.result else done.error
        spent = f" {'in' if done.result else 'after'} {time_text(seconds)}" if work.started else ""
        told = "".join(f", {words}" for words in _gains(gains))
        if done.result:
            self.completed += 1
            log.info("completed %s%s%s: %s [%s]", work.words, spent, told, text, work.shown_id, extra=facts)
        else:
            self.failed += 1
            level, verb = (logging.WARNING, "cancelled") if done.cancelled else (logging.ERROR, "failed")
            log.log(level, "%s %s%s: %s [%s]", verb, work.words, spent, text, work.shown_id, extra=facts)
            self._metrics.failed(f"{work.words}: {text}")
        job = work.command.job
        self._metrics.gained(job.type, gains)
        self._history.add(
            Ended(
                job.id[:LONGEST],
                job.type[:LONGEST],
                work.volume_ids,
                work.collection,
                outcome,
                time.time(),
                round(seconds, 3),
                text[:LONGEST],
                gains,
            )
        )

    # ---- looks for work

    def looked(self, name: str, found: Detection | None, error: str = "") -> None:
        """A look for work ended: with what it found, or, without, for this reason."""
        look = self._history.looked(name, found, error)
        self._metrics.detection_ended(name, found)
        facts = with_facts(type=name, seen=look.seen, to_do=look.to_do, passed_over=look.passed_over)
        if found is None:
            log.error("looked for %s and failed: %s", name, error, extra=facts)
            self._metrics.failed(f"looking for {name}: {error}")
            return
        log.info("looked for %s: %s", name, look.words, extra=facts)
        for skip in found.skipped:
            about = with_facts(type=name, volumes=[skip.volume_id], reason=skip.key)
            log.log(DECISIONS, "passed over volume %d for %s: %s", skip.volume_id, name, skip.reason, extra=about)


def _facts(work: Assignment, **more: Any) -> dict[str, Any]:
    job = work.command.job
    about = {"job_id": work.shown_id, "type": job.type, "collection": work.collection, "volumes": list(work.volume_ids)}
    return with_facts(**about, **more)


def _gains(gains: Mapping[str, int]) -> list[str]:
    return [f"{size_text(size)} {word}" for word, size in gains.items()]
