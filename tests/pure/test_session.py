"""What a session knows of the questions and results it has sent."""

from __future__ import annotations

from typing import Any, cast

from weed_agent.session import Session
from weed_protocol import classic
from weed_protocol.commands import AskForWork, Heartbeat, HeartbeatSeen, Report


def test_a_question_is_answered_though_equal_ones_were_sent_before_it() -> None:
    """Heartbeats that are answered late hold the same question twice, and the questions are all alike."""
    session = Session(cast(Any, None), cast(Any, None), "w1", {})
    session.dialect = classic
    first, second, third = (AskForWork(2) for _ in range(3))
    beat = Heartbeat(cast(Any, None))

    def sent(*reports: Report) -> None:
        for report in reports:
            session._sent(report)

    sent(first, beat, second, beat)
    session._on(HeartbeatSeen())
    session._asked = third
    sent(third)
    session._on(HeartbeatSeen())
    sent(beat)
    session._on(HeartbeatSeen())
    assert session._asked is None
