"""The pause file: a reason, and a time at which the pause ends by itself."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from weed_agent.pause import ends_at, reason

WRITTEN = datetime(2026, 11, 27, 12, 0, tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("for 2h", 7200),
        ("for 1h30m: disks are exchanged", 5400),
        ("FOR 90s", 90),
        ("until 2026-11-27T13:00Z", 3600),
        ("until 2026-11-27 14:00+01:00, rack 3", 3600),
        ("until 2026-11-27 13:00:30Z", 3630),
    ],
)
def test_a_line_says_when_the_pause_ends(line: str, seconds: int) -> None:
    assert ends_at(line, WRITTEN) == WRITTEN + seconds


@pytest.mark.parametrize(
    "line",
    ["", "disk swap on rack 3", "for good", "for 2 hours", "until tomorrow", "until 2026-13-01 06:00", "wait for 2h"],
)
def test_any_other_line_holds_as_long_as_the_file_is_there(line: str) -> None:
    assert ends_at(line, WRITTEN) is None


def test_a_time_without_a_zone_is_this_hosts(tmp_path: Path) -> None:
    local = datetime.fromtimestamp(WRITTEN + 3600).strftime("until %Y-%m-%d %H:%M")
    assert ends_at(local, 0) == WRITTEN + 3600


def test_the_reason_names_the_end_and_is_none_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "pause"
    assert reason(path) == ""
    path.write_text("")
    assert reason(path) == str(path)
    path.write_text("for 2h: rack 3\nand more\n")
    os.utime(path, (WRITTEN, WRITTEN))
    assert reason(path, WRITTEN + 7199) == "for 2h: rack 3; ends by itself at 2026-11-27 14:00 UTC"
    assert reason(path, WRITTEN + 7200) == ""
