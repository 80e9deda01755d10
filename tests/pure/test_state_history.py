"""How jobs ended is kept over restarts, what was looked at is told in words, and no file can do harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proto_gen.worker_pb2 import TaskParams
from weed_core.model import Detection, Proposal, Result, Skipped
from weed_state.history import KEPT, MOST_SKIPPED, NAME, Ended, History


def ended(number: int = 1, outcome: str = "done", job_type: str = "vacuum") -> Ended:
    return Ended(f"j{number}", job_type, (number,), "photos", outcome, 1000.0 + number, 2.5, "vacuumed", {"freed": 7})


def test_what_ended_is_there_after_a_restart_the_newest_first(tmp_path: Path) -> None:
    history = History(tmp_path)
    for number in range(1, KEPT + 3):
        history.add(ended(number))
    history.add(ended(5000, "failed", "balance"))
    history.keep()
    again = History(tmp_path)
    assert again.ended[0] == ended(5000, "failed", "balance")
    assert again.ended[1] == ended(KEPT + 2)
    assert len(again.ended) == KEPT
    assert again.well == {"vacuum": 1000.0 + KEPT + 2}
    assert again.badly == {"balance": 6000.0}


def test_a_look_that_finds_nothing_is_as_well_as_a_job_that_succeeds(tmp_path: Path) -> None:
    history = History(tmp_path, lambda: 50.0)
    history.looked("vacuum", Detection([], [Skipped(1, "too little", "below the threshold")], seen=1))
    assert history.well == {"vacuum": 50.0}
    history.looked("balance", Detection([Proposal("p", "k", "move", TaskParams())]))
    assert "balance" not in history.well
    history.looked("replication", None, "no master answers")
    assert history.badly == {"replication": 50.0}


def test_a_look_says_why_nothing_is_done(tmp_path: Path) -> None:
    history = History(tmp_path)
    skipped = [Skipped(1, "0% garbage", "below the threshold")] * 21 + [Skipped(2, "written just now", "too young")]
    look = history.looked("vacuum", Detection([], skipped, seen=22))
    assert look.words == "nothing to do; 22 passed over (21 below the threshold, 1 too young)"
    many = history.looked("vacuum", Detection([], skipped[:1] * (MOST_SKIPPED + 5)))
    assert (many.passed_over, len(many.skipped)) == (MOST_SKIPPED + 5, MOST_SKIPPED)
    assert history.looked("vacuum", None, "no master answers").words == "failed: no master answers"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"ended": 7}',
        b'{"ended": [{}], "well": {}, "badly": {}}',
        *(b'{"ended": [], "badly": {}, "well": %s}' % well for well in (b"[]", b'{"vacuum": "x"}', b'{"vacuum": -1}')),
    ],
)
def test_a_damaged_file_is_forgotten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    history = History(tmp_path)
    assert (history.ended, history.well) == ([], {})
    history.add(ended())
    history.keep()
    assert History(tmp_path).ended == [ended()]


@pytest.mark.parametrize(
    ("outputs", "gains"),
    [
        ({"reclaimed_bytes": 5}, {"freed": 5}),
        ({"moved_bytes": "7", "volume_id": 3}, {"moved": 7}),
        ({"encoded_bytes": 0}, {}),
        ({"restored_bytes": None}, {}),
    ],
)
def test_the_gains_of_a_job_are_read_from_its_outputs(outputs: dict[str, Any], gains: dict[str, int]) -> None:
    assert Result("done", outputs).gains == gains
