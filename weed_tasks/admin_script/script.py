"""A script's text: its commands, and each command's flags as Go reads them. Pure; knows no command.

Commands end at the end of a line or at a semicolon; a # where a word would begin makes the rest of its line a comment;
single and double quotes keep blanks, semicolons and # in a word.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weed_core.errors import ConfigError
from weed_core.goflags import FALSE, TRUE, parse_duration
from weed_core.guess import did_you_mean

_TOKEN = re.compile(
    r"""(?P<blank>[^\S\n]+)|(?P<end>[\n;])|(?P<comment>\#[^\n]*)|(?P<word>(?:'[^']*'|"[^"]*"|[^\s;'"])+)"""
)
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")


@dataclass(frozen=True)
class Line:
    """One command: the number of the line that it stands in, from 1, and its words without their quotes."""

    number: int
    name: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """The command as an admin's pages show it."""
        return " ".join([self.name, *self.words])


@dataclass(frozen=True)
class Kind:
    """What a flag takes. `read` raises ValueError for what it does not; `words` say what would be right."""

    words: str
    read: Callable[[str], Any]
    is_switch: bool = False


def _switch(text: str) -> bool:
    if text not in (*TRUE, *FALSE):
        raise ValueError(text)
    return text in TRUE


def _ids(text: str) -> frozenset[int]:
    ids = frozenset(int(part) for part in text.split(",") if part.strip())
    if not all(0 <= volume_id < 2**32 for volume_id in ids):
        raise ValueError(text)
    return ids - {0}


def _seconds(text: str) -> int:
    return round(parse_duration(text))


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


SWITCH = Kind("true or false", _switch, is_switch=True)
WORD = Kind("a text", str.strip)
COUNT = Kind("a whole number", _count)
NUMBER = Kind("a number", float)
DURATION = Kind("a duration like 24h or 1h30m", _seconds)
IDS = Kind("volume ids, by commas", _ids)


def normal(text: str) -> str:
    """A script as it is told and hashed: without carriage returns, and without blanks around it."""
    return text.replace("\r\n", "\n").strip()


def digest(text: str) -> str:
    """The hash by which an admin knows a script: SHA-256 of its normal form, in hexadecimal digits."""
    return hashlib.sha256(normal(text).encode()).hexdigest()


def parse(text: str) -> list[Line]:
    """The commands of a script, in order; ConfigError for a quote that does not end, with its line."""
    return list(_lines(normal(text)))


def _lines(text: str) -> Iterator[Line]:
    words: list[str] = []
    at, number = 0, 1
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ConfigError(f"line {number}: a quote ({text[at]}) does not end")
        if found["word"]:
            words.append(_QUOTED.sub(lambda quoted: quoted[1] if quoted[1] is not None else quoted[2], found["word"]))
        elif found["end"] and words:
            yield Line(number, words[0], tuple(words[1:]))
            words = []
        number += found[0].count("\n")
        at = found.end()
    if words:
        yield Line(number, words[0], tuple(words[1:]))


def flags_of(line: Line, known: Mapping[str, Kind]) -> dict[str, Any]:
    """The flags of a command that are given, read; the last of one that is given twice.

    ConfigError for a flag that is not known, for a value that it does not take, and for a word that is no flag.
    """
    given: dict[str, Any] = {}
    words = iter(line.words)
    for word in words:
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or not name:
            raise ConfigError(f"{line.name} takes flags only, not {word!r}")
        kind = known.get(name)
        if kind is None:
            takes = ", ".join(f"-{each}" for each in known) or "none"
            raise ConfigError(f"{line.name} has no flag -{name} here{did_you_mean(name, known)}; it takes {takes}")
        if not equals:
            value = "true" if kind.is_switch else next(words, "")
        try:
            given[name] = kind.read(value)
        except ValueError:
            raise ConfigError(f"{line.name} -{name} is {kind.words}, not {value!r}") from None
    return given
