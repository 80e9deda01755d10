"""Text from others on its way to people: whatever it holds, it is shown and never obeyed.

Names of collections, jobs and servers come from the network and may hold anything. What would end a line, drive a
terminal, turn the direction of writing or be invisible is written as an escape sequence, where text leaves the process.
"""

from __future__ import annotations

import re

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
