"""Sizes, times, rates and tables as people read them."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weed_console.screen import RATE_AFTER, RATE_SECONDS, Bar, Pace, Screen
from weed_core.text import size_text, time_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (200 << 20, "200 MiB"),
        (3 << 40, "3.0 TiB"),
        (5 << 50, "5120 TiB"),
    ],
)
def test_sizes_are_told_in_the_largest_fitting_unit(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.4, "59s"), (61, "1m01s"), (7500, "2h05m"), (200_000, "2d07h"), (-3, "0s")]
)
def test_times_are_told_in_two_units_at_most(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_nothing_is_told_of_a_pace_before_some_seconds_were_seen() -> None:
    pace = Pace()
    pace.add(0.0, 0.0)
    pace.add(RATE_AFTER - 0.1, 1000.0)
    assert pace.rate is None
    assert pace.left(5000.0) is None
    pace.add(RATE_AFTER + 1.0, 2000.0)
    assert pace.rate == pytest.approx(2000.0 / (RATE_AFTER + 1.0))


def test_a_pace_forgets_what_is_older_than_its_window() -> None:
    pace = Pace()
    for second in range(100):
        pace.add(float(second), 1000.0 * second if second < 50 else 50_000.0 + 10.0 * (second - 50))
    assert pace.rate == pytest.approx(10.0, rel=0.05)
    assert pace.left(50_490.0 + 100.0) == pytest.approx(10.0, rel=0.05)


def test_a_stalled_pace_names_no_end() -> None:
    pace = Pace()
    for second in range(int(RATE_SECONDS) + 5):
        pace.add(float(second), 700.0)
    assert pace.rate == 0.0
    assert pace.left(1000.0) is None


@given(
    rate=st.floats(min_value=1.0, max_value=1e9),
    seconds=st.integers(min_value=4, max_value=200),
    every=st.floats(min_value=0.1, max_value=2.0),
)
def test_a_steady_pace_foretells_the_end(rate: float, seconds: int, every: float) -> None:
    pace = Pace()
    moments = [every * step for step in range(int(seconds / every) + 1)]
    for moment in moments:
        pace.add(moment, rate * moment)
    if moments[-1] >= RATE_AFTER:
        assert pace.left(rate * moments[-1] * 2) == pytest.approx(moments[-1], rel=1e-6)


def test_without_a_terminal_tables_are_whole_lines_of_plain_text() -> None:
    out = io.StringIO()
    screen = Screen(stream=out)
    reason = "a reason that is longer than any terminal is wide, " * 5
    screen.table(
        ("VOLUME", "SERVER", "REASON"), [["7", "host1:8080", reason], ["12345", "h:1", "[red]none[/]"]], ["VOLUME"]
    )
    head, first, second = out.getvalue().splitlines()
    assert head == "VOLUME  SERVER      REASON"
    assert first == f"     7  host1:8080  {reason}".rstrip()
    assert second == " 12345  h:1         [red]none[/]"


def test_without_a_terminal_a_job_is_told_at_its_start_each_stage_and_its_end() -> None:
    out = io.StringIO()
    screen = Screen(stream=out)
    bar = Bar("balance 7", 1 << 20)
    with screen.board(1, 1 << 20):
        screen.started(bar)
        for fraction in (0.1, 0.2, 0.5):
            screen.moved(bar, fraction, "copying", 100 << 10)
        screen.moved(bar, 0.8, "proving")
        screen.ended(bar, "done", "moved")
    lines = out.getvalue().splitlines()
    assert [line.split(": ")[0] for line in lines] == ["balance 7"] * 4
    assert lines[1] == "balance 7: copying (100 KiB of 1.0 MiB)"
    assert lines[2] == "balance 7: proving (100 KiB of 1.0 MiB)"
    assert lines[3] == "balance 7: done: moved"


def test_a_job_never_goes_backwards() -> None:
    screen, bar = Screen(stream=io.StringIO()), Bar("balance 7", 100)
    screen.started(bar)
    screen.moved(bar, 0.6, "copying")
    screen.moved(bar, 0.4, "copying again")
    assert bar.fraction == 0.6
    screen.moved(bar, 1.7, "done")
    assert bar.fraction == 1.0
