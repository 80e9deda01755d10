"""What somebody may have meant by a word that there is not. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from weed_core.job_types import ALIASES, TASK_TYPES, named

_PLAIN = re.compile(r"[^a-z0-9]")


def meant(word: str, known: Iterable[str], least: float = 0.7) -> str:
    """The one of the known words that a word is closest to, case, dashes and underscores apart; "" where none is.

    `least`: how alike they must be, from 0 to 1.
    """
    names = {_PLAIN.sub("", name.lower()): name for name in known}
    plain = _PLAIN.sub("", word.lower())
    if not plain:
        return ""
    close = [plain] if plain in names else get_close_matches(plain, names, 1, least)
    if not close and len(plain) > 3:
        close = [name for name in names if name.startswith(plain) or (plain.startswith(name) and len(name) > 3)][:1]
    return names[close[0]] if close else ""


def did_you_mean(word: str, known: Iterable[str], sign: str = "") -> str:
    """A question behind a refusal; "" where nothing comes close."""
    close = meant(word, known)
    return f"; did you mean {sign}{close}?" if close else ""


def unknown_command(word: str, commands: Iterable[str]) -> str:
    """Say what was meant by a first word that is no command and no flag; "" where it is one, or weed's own `worker`."""
    if word.startswith("-") or word == "worker":
        return ""
    if named(word) in TASK_TYPES:
        return f"{word} is a job; weed_worker plan {word} shows what there is to do, weed_worker run {word} does it"
    if guess := meant(word, commands):
        return f"unknown command {word!r}; did you mean {guess}?"
    job = meant(word, [*TASK_TYPES, *ALIASES])
    return f"unknown command {word!r}; " + (f"did you mean run {job}?" if job else "weed_worker help lists them")
