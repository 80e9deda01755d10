"""What jobs keep read-only is told from their journals: which volume, since when, until when."""

from __future__ import annotations

import time

from weed_safety.closed import closed
from weed_safety.journal import Journal


def test_a_volume_frozen_on_two_servers_is_told_once_and_ends_with_the_job() -> None:
    entry = Journal.memory("j1", "balance", 7)
    for server in ("10.0.0.1:8080", "10.0.0.2:8080"):
        entry.plan("freeze", server=server, volume_id=7, persist=True)
    entry.plan("copy", server="10.0.0.3:8080", volume_id=8)
    (one,) = closed([entry])
    assert (one.volume_id, one.job_type, one.until) == (7, "balance", 0.0)
    assert abs(one.since - time.time()) < 5
    assert one.text == "volume 7 is read-only while balance works on it"


def test_a_volume_that_stays_shut_says_until_when() -> None:
    entry = Journal.memory("j1", "balance", 7)
    entry.plan("freeze", server="10.0.0.1:8080", volume_id=7, persist=True)
    entry.plan("shut", volume_id=7, until=36_000.0, renewed=False)
    (one,) = closed([entry])
    assert one.text == "volume 7 is read-only until 10:00:01 UTC"


def test_what_is_settled_is_open_again() -> None:
    entry = Journal.memory("j1", "balance", 7)
    entry.settle(entry.plan("freeze", server="10.0.0.1:8080", volume_id=7, persist=True))
    assert closed([entry]) == []
