"""Names from others: whatever they hold, it is seen, and nothing is done that it says."""

from __future__ import annotations

import io
import json
import logging
import re
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weed_console.screen import Bar, Screen
from weed_core import log
from weed_core.text import escaped, first_of
from weed_protocol.text import LIMIT, printable

NASTY = "a\nWARNING forged\r\x1b[2J\x1b]0;title\x07\u202ecba\u200b\u2066\x85\u2028\udc80\ufeff\U000e0041"
"""A name with all that must not be obeyed."""


def is_harmless(text: str) -> bool:
    return not any(unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") for one in text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pictures 2024_ä-日本 ✓", "pictures 2024_ä-日本 ✓"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("abc\u202edef", "abc\\u202edef"),
        ("pho\u200btos", "pho\\u200btos"),
        ("pho\u3164tos\ufe0f", "pho\\u3164tos\\ufe0f"),
        ("\udcff", "\\udcff"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_what_is_no_visible_character_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert escaped(text) == shown


@given(st.text())
def test_whatever_comes_is_one_harmless_line_and_stays_so(text: str) -> None:
    shown = escaped(text)
    assert is_harmless(shown)
    assert escaped(shown) == shown
    shown.encode()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger; how logs are written is put back after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield logging.getLogger("test")
    root.handlers, root.level = handlers, level


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_name_makes_no_log_line_of_its_own(
    capsys: pytest.CaptureFixture[str], logger: logging.Logger, form: str
) -> None:
    log.set_up(form, 0)
    logger.warning("took job %s", NASTY)
    (line,) = capsys.readouterr().err.splitlines()
    assert is_harmless(line)
    assert escaped(NASTY) in (json.loads(line)["message"] if form == "json" else line)


def test_a_stack_trace_holds_nothing_that_looks_like_a_log_line(
    capsys: pytest.CaptureFixture[str], logger: logging.Logger
) -> None:
    log.set_up("text", 0)
    try:
        raise ValueError("bad\n2026-01-01 00:00:00,000 INFO all is well\n\x1b[2J")
    except ValueError:
        logger.exception("it failed")
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith("it failed")
    assert rest
    assert all(line.startswith("    ") and is_harmless(line) for line in rest)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_name_in_a_table_a_sentence_or_a_bar_does_not_reach_the_terminal_raw(is_terminal: bool) -> None:
    out = io.StringIO()
    out.isatty = lambda: is_terminal  # type: ignore[method-assign]
    screen = Screen(stream=out)
    screen.say(f"looked at {NASTY}")
    screen.table(("VOLUME", "NAME"), [["7", NASTY], [NASTY, "x"]])
    bar = Bar(NASTY)
    screen.started(bar)
    screen.moved(bar, 0.5, NASTY)
    screen.ended(bar, "done", NASTY)
    told = out.getvalue()
    assert "\x1b[2J" not in told
    assert "\x1b]0" not in told
    assert not set("\x07\r\u202e\u200b\x85\u2028\ufeff") & set(told)
    assert "forged" in told
    assert not any(line.startswith("WARNING forged") for line in told.splitlines())


def test_what_an_admin_shows_is_visible_and_bounded() -> None:
    assert printable(NASTY) == escaped(NASTY)
    assert len(printable("\x1b" * 100_000)) == LIMIT
    assert printable("x" * 100_000).endswith("...")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_line_is_bounded_and_tells_what_was_left_out(
    capsys: pytest.CaptureFixture[str], logger: logging.Logger, form: str
) -> None:
    log.set_up(form, 0)
    logger.warning("took job %s", "x" * 1_000_000)
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) < log.LONGEST + 200
    assert "characters)" in line


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_line_tells_its_zone_and_its_level(
    capsys: pytest.CaptureFixture[str], logger: logging.Logger, form: str
) -> None:
    log.set_up(form, 4)
    for level in range(logging.INFO, logging.INFO - 5, -1):
        logger.log(level, "said")
    lines = capsys.readouterr().err.splitlines()
    told = [json.loads(line) for line in lines] if form == "json" else []
    times = [line["time"] for line in told] or [line.split()[0] for line in lines]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one) for one in times)
    levels = [line["level"] for line in told] or [line.split()[1] for line in lines]
    assert levels == ["INFO", "INFO", "INFO", "DEBUG", "DEBUG"]


def test_what_a_line_tells_beside_its_sentence_are_keys_of_its_json(
    capsys: pytest.CaptureFixture[str], logger: logging.Logger
) -> None:
    log.set_up("json", 0)
    logger.info("completed %s", "it", extra=log.with_facts(job_id=NASTY, volumes=[7], seconds=1.5))
    line = json.loads(capsys.readouterr().err)
    assert (line["message"], line["job_id"]) == ("completed it", escaped(NASTY))
    assert (line["volumes"], line["seconds"]) == ([7], 1.5)


@pytest.mark.parametrize(
    ("things", "said"), [([], ""), ([1], "1"), ([1, 2, 3], "1, 2, 3"), ([1, 2, 3, 4, 5], "1, 2, 3 and 2 more")]
)
def test_of_many_things_the_first_are_named_and_the_others_counted(things: list[int], said: str) -> None:
    assert first_of(things, 3) == said
