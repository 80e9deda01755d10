"""How tables fit a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weed_console.layout import cut_middle, fit

HEADS = ("VOLUME", "COLLECTION", "SERVER", "SIZE", "FREES")
RIGHT = ("VOLUME", "SIZE", "FREES")
ROW = ("4294967295", "customer-uploads-of-a-long-named-collection-2026", "10.10.10.112:18080", "1023 MiB", "1000 GiB")


def lines_of(heads: tuple[str, ...], rows: list[tuple[str, ...]], width: int, **more: tuple[str, ...]) -> list[str]:
    return [line for lines in fit(heads, rows, width, **more) for line in lines]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_figures_are_whole_and_lines_fit(width: int) -> None:
    lines = lines_of(HEADS, [ROW], width, right=RIGHT, drop=("SERVER",))
    assert max(map(len, lines)) <= width
    for figure in (ROW[0], ROW[3], ROW[4]):
        assert figure in lines[1]
    assert (ROW[2] in lines[1]) == (width >= 120)
    assert (ROW[1] in lines[1]) == (width >= 80)


def test_a_name_keeps_its_beginning_and_its_end() -> None:
    assert cut_middle("customer-uploads-2026", 16) == "custome...s-2026"
    assert cut_middle("photos", 16) == "photos"


def test_a_sentence_wraps_where_it_can_be_read_and_goes_below_where_not() -> None:
    heads, row = ("VOLUME", "REASON"), ("7", "a reason that is longer than the terminal is wide, and says so at length")
    wrapped = lines_of(heads, [row], 60, right=("VOLUME",))
    assert wrapped[0] == "VOLUME  REASON"
    assert [line[:8] for line in wrapped[1:]] == ["     7  ", " " * 8]
    narrow = lines_of(
        ("VOLUME", "A-VERY-LONG-HEADING-OF-A-COLUMN", "REASON"), [("7", "x" * 12, row[1])], 60, right=("VOLUME",)
    )
    assert narrow[0].split() == ["VOLUME", "A-VERY-LONG-HEADING-OF-A-COLUMN"]
    assert " ".join(" ".join(narrow[2:]).split()) == row[1]


@given(
    rows=st.lists(
        st.tuples(
            st.integers(1, 2**32 - 1).map(str),
            st.text("abc-", min_size=1, max_size=60),
            st.text("0123456789.:", min_size=1, max_size=21),
            st.integers(0, 1023).map(lambda number: f"{number} MiB"),
            st.integers(0, 1023).map(lambda number: f"{number} GiB"),
        ),
        max_size=5,
    ),
    width=st.integers(50, 200),
)
def test_no_figure_is_ever_cut_and_no_line_is_too_long(rows: list[tuple[str, ...]], width: int) -> None:
    fitted = fit(HEADS, rows, width, RIGHT, ("SERVER",))
    for row, lines in zip(rows, fitted[1:]):
        assert all(len(line) <= width for line in lines)
        assert all(row[place] in lines[0] for place in (0, 3, 4))
