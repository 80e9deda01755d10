"""How a table fits a terminal: columns go, names are cut in their middle, sentences wrap, figures stay. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence

READABLE = 32
"""Columns that a sentence needs at least; with less room it goes below its row."""

SHORTEST = 12
"""Characters to which a name is cut at most."""

WHOLE = ("SERVER", "FROM", "TO", "WHERE")
"""Columns of addresses, which are no use when cut."""

GAP = "  "

Row = Sequence[str]


def cut_middle(text: str, width: int) -> str:
    """A name of at most so many characters: its beginning and its end, which tell apart names of one scheme."""
    if len(text) <= width:
        return text
    kept = max(width - 3, 2)
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


def fit(
    heads: Row, rows: Sequence[Row], width: int, right: Collection[str] = (), drop: Sequence[str] = ()
) -> list[list[str]]:
    """The lines of the heads and of each row, none longer than `width` where that can be had.

    `right` names the columns of figures, which stay whole; `drop` those that may go, the first one first. The last
    column, where it is none of figures, wraps or goes below its row.
    """
    heads, table = list(heads), [list(row) for row in rows]
    ends_in_words = heads[-1] not in right
    for name in [*drop, None]:
        widths = _widths(heads, table)
        fixed = sum(widths[:-1]) + len(GAP) * (len(heads) - 1)
        last = widths[-1] if not ends_in_words else min(widths[-1], READABLE)
        if fixed + last <= width or name is None:
            break
        if name in heads[:-1] or (name in heads and not ends_in_words):
            place = heads.index(name)
            for row in (heads, *table):
                del row[place]
    columns = len(heads) - ends_in_words
    shorter = [list(row) for row in table]
    _shorten(heads, shorter, widths, fixed + last - width, right, columns)
    below = ends_in_words and sum(widths[:-1]) + len(GAP) * (len(heads) - 1) + last > width
    if below:  # cutting names does not help, so they are only cut to fit themselves
        shorter, widths = [list(row) for row in table], _widths(heads, table)
        _shorten(heads, shorter, widths, fixed - width, right, columns)
    room = width - sum(widths[:-1]) - len(GAP) * (len(heads) - 1)
    return [_lines(heads, row, widths, right, below, room, ends_in_words, width) for row in (heads, *shorter)]


def _widths(heads: Row, table: Sequence[Row]) -> list[int]:
    return [max(len(row[place]) for row in (heads, *table)) for place in range(len(heads))]


def _shorten(
    heads: Row, table: Sequence[list[str]], widths: list[int], over: int, right: Collection[str], columns: int
) -> None:
    """Cut names, those of the widest column first, until the table is no wider than it may be."""
    names = [place for place in range(columns) if heads[place] not in (*right, *WHOLE)]
    while over > 0:
        widest = max(names, key=lambda place: widths[place], default=None)
        if widest is None or widths[widest] <= max(SHORTEST, len(heads[widest])):
            return
        others = [widths[place] for place in names if place != widest and widths[place] < widths[widest]]
        less = max(1, min(over, widths[widest] - max([SHORTEST, len(heads[widest]), *others])))
        widths[widest] -= less
        over -= less
        for row in table:
            row[widest] = cut_middle(row[widest], widths[widest])


def _lines(
    heads: Row,
    row: Row,
    widths: Sequence[int],
    right: Collection[str],
    below: bool,
    room: int,
    ends_in_words: bool,
    width: int,
) -> list[str]:
    cells = [cell.rjust(size) if head in right else cell.ljust(size) for cell, size, head in zip(row, widths, heads)]
    if not ends_in_words or (len(row[-1]) <= room and not below):
        return [GAP.join([*cells[:-1], cells[-1] if not ends_in_words else row[-1]]).rstrip()]
    begin = GAP.join(cells[:-1])
    if below:
        if row is heads:
            return [begin.rstrip()]
        indent = " " * min(widths[0] + len(GAP), 10)
        wrapped = _wrap(row[-1], max(width - len(indent), 20))
        return [begin.rstrip(), *(indent + line for line in wrapped)]
    wrapped = _wrap(row[-1], room)
    return [GAP.join((begin if not number else " " * len(begin), line)) for number, line in enumerate(wrapped or [""])]


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False, replace_whitespace=False) or [""]
