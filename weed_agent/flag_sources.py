"""Where the agent's flags come from: the command line goes before the environment, and that before an options file.

Each flag's place is remembered, so that what is wrong with it can be said with the file and the line it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weed_core.errors import ConfigError
from weed_core.files import read_named
from weed_core.goflags import from_environment, normalise, variable
from weed_core.guess import did_you_mean

LARGEST_FILE = 1 << 20
"""Bytes of an options file."""


@dataclass
class Sources:
    """Every flag that was given, by name, as docopt has it; the places of those that are not on the command line."""

    words: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(
        default_factory=list
    )  # names in the options file that no flag has, which are passed over

    def placed(self, error: ConfigError) -> ConfigError:
        """The error, beginning with the place of the flag that it names first."""
        named = re.match(r"-([\w.]+)", str(error))
        place = self.places.get(named[1], "") if named else ""
        return ConfigError(f"{place}: {error}") if place else error


@dataclass(frozen=True)
class Option:
    """One line of an options file: `word` is the flag as it could be typed."""

    number: int
    name: str
    word: str


def gather(argv: Sequence[str], usage: str, others: Mapping[str, str], environment: Mapping[str, str]) -> Sources:
    """Collect what was given; ConfigError for a flag that there is not, or that is not written as flags are.

    `usage` lists the flags, `others` are those that are taken beside.
    """
    typed = _by_name(normalise(argv, usage, others))
    set_outside = _by_name(normalise(list(from_environment(usage, environment)), usage, others))
    found = Sources()
    path = (typed.get("options") or set_outside.get("options") or "").partition("=")[2]
    known = {*re.findall(r"^  -([\w.]+)", usage, re.M), *others}
    for option in read_options(path) if path else ():
        place = f"{path}, line {option.number}"
        if option.name not in known:
            found.unknown.append(f"{option.name} (line {option.number}{did_you_mean(option.name, known)})")
            continue
        try:
            found.words |= _by_name(normalise([option.word], usage, others))
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None
        found.places[option.name] = place
    for name in set_outside:
        found.places[name] = variable(name)
    for name in typed:
        found.places.pop(name, None)
    found.words |= set_outside | typed
    return found


def _by_name(words: Sequence[str]) -> dict[str, str]:
    return {word[2:].partition("=")[0]: word for word in words}


def read_options(path: str) -> Iterator[Option]:
    """The flags in an options file: `name=value`, `name value` or `name:value` a line, # for comments."""
    try:
        lines = read_named(Path(path).expanduser(), LARGEST_FILE).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read -options={path}: {error}") from None
    for number, line in enumerate(lines, 1):
        if text := re.sub(r"(^|\s)#.*", "", line).strip():
            name, _, value = re.sub(r"^-*([\w.]+)\s*[=: ]?\s*", r"\1=", text).partition("=")
            yield Option(number, name, f"-{name}={value.strip()}")


def variables(usage: str, beside: Collection[str] = ("h", "help", "version")) -> dict[str, str]:
    """The environment variable of each flag, by the flag's name."""
    return {name: variable(name) for name in re.findall(r"^  -([\w.]+)", usage, re.M) if name not in beside}
