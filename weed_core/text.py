"""Text from others on its way to people: whatever it holds, it is shown and never obeyed.

Names of collections, jobs and servers come from the network and may hold anything. What would end a line, drive a
terminal, turn the direction of writing or be invisible is written as an escape sequence, where text leaves the process.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Printable by their category, and yet invisible: joiners, fillers and selectors of variants.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def escaped(text: str) -> str:
    r"""One line of visible characters: a line break becomes \n, an escape \x1b, a right-to-left override \u202e.

    Backslashes stay as they are, so escaping twice is harmless.
    """
    if text.isprintable() and not _INVISIBLE.search(text):
        return text
    return "".join(
        one if one.isprintable() and not _INVISIBLE.match(one) else one.encode("unicode_escape").decode()
        for one in text
    )


MOST_REASONS = 5


def some(reasons: Sequence[str]) -> str:
    """Reasons in one sentence; of more than MOST_REASONS the first, and how many more there are."""
    return first_of(reasons, MOST_REASONS, "; ", "; ")


def first_of(things: Sequence[object], most: int, between: str = ", ", before_more: str = " ") -> str:
    """The first of some things, up to so many, and how many more there are: "3, 4, 7 and 12 more"."""
    left = len(things) - most
    shown = between.join(map(str, things[:most]))
    return f"{shown}{before_more}and {left} more" if left > 0 else shown


def size_text(size: float) -> str:
    """Bytes for people: 512 B, 1.5 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.0f} TiB" if size >= 100 else f"{size:.1f} TiB"


def time_text(seconds: float) -> str:
    """Seconds for people: 0.6s, 42s, 3m20s, 2h05m, 3d04h."""
    if 0.05 <= seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 48 * 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
