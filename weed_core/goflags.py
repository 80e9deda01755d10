"""Go-style flags and durations, letter for letter as SeaweedFS reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from weed_core.errors import ConfigError
from weed_core.guess import meant

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
TRUE, FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")
"""What Go takes for a flag that is on, and for one that is off."""


def parse_duration(text: str) -> float:
    """Seconds of a Go duration such as 30s, 1m30s or 1.5h; raise ValueError for anything else."""
    if text == "0":
        return 0.0
    if not text or _PART.sub("", text):
        raise ValueError(f"{text!r} is no duration; write it like 30s, 1m30s or 2h")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def normalise(argv: Sequence[str], usage: str, others: Mapping[str, str] | None = None) -> list[str]:
    """Rewrite Go-style flags for docopt: one dash becomes two, every value is joined by `=`; refuse unknown flags.

    docopt reads `-admin=h:1` as seven short flags, and takes any prefix of a long one. `usage` lists the flags,
    `others` are those that are taken beside; without these, words that are no flags go through.
    """
    takes_value = dict(re.findall(r"^  -([\w.]+)(=)?", usage, re.M)) | {"help": ""}
    takes_value |= others or {}
    out: list[str] = []
    words = iter(argv)
    seen: list[str] = []
    for word in words:
        seen.append(word)
        if not word.startswith("-") or word == "-":
            if others is None:
                out.append(word)
            elif word != "worker" or seen.count(word) > 1:
                raise ConfigError(f"unexpected argument {word!r}; flags start with a dash, -h lists them")
            continue
        name, equals, value = word.lstrip("-").partition("=")
        name = "help" if name == "h" else name
        if name not in takes_value:
            guess = "dryRun" if name in ("n", "dry") and "dryRun" in takes_value else meant(name, takes_value)
            hint = f"did you mean -{guess}?" if guess else "-h lists the flags"
            raise ConfigError(f"unknown flag -{name}; {hint}")
        if not takes_value[name]:
            if value not in ("", *TRUE, *FALSE):
                raise ConfigError(f"flag -{name} is either given or not; {value!r} is neither true nor false")
            is_on = value not in FALSE
            out += [f"--{name}"] if is_on else [f"--{name}=false"] if others is not None else []
            continue
        if not equals:
            value = next(words, "-")
            if value.startswith("-"):
                raise ConfigError(f"flag -{name} needs a value: -{name}=...")
        out.append(f"--{name}={value}")
    return out


def variable(name: str) -> str:
    """The environment variable that stands in for a flag: -volumeId is WEED_WORKER_VOLUME_ID."""
    return "WEED_WORKER_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).replace(".", "_").upper()


def from_environment(usage: str, environment: Mapping[str, str]) -> Iterator[str]:
    """The flags that the environment gives, to stand before all others; empty variables give none."""
    for name, takes_value in re.findall(r"^  -([\w.]+)(=)?", usage, re.M):
        value = environment.get(variable(name), "") if name not in ("h", "help", "version") else ""
        if value:
            if not takes_value and value not in (*TRUE, *FALSE):
                raise ConfigError(f"{variable(name)}={value} is neither true nor false")
            yield f"-{name}={value}"


@dataclass(frozen=True)
class Described:
    """A flag as a usage text lists it; `value` is what it takes, "" for nothing."""

    name: str
    value: str
    text: str


def described(usage: str) -> list[Described]:
    """The flags of a usage text, each with what it says of it, on one line."""
    parts = re.split(r"^  -(?=[\w.])", usage.partition("\n\nFlags of")[0], flags=re.M)[1:]
    found = []
    for part in parts:
        match = re.match(r"([\w.]+)(?:=<([^>]*)>)?(?:, -\w+)?\s*(.*)", part, re.S)
        assert match is not None  # the text is ours
        found.append(Described(match[1], match[2] or "", " ".join(match[3].split())))
    return found


def parse_data_dirs(text: str) -> tuple[Path, ...] | None:
    """The directories of -dataDir; None for those that servers name themselves."""
    if text == "auto":
        return None
    return tuple(Path(part) for part in text.split(",") if part) if text != "none" else ()
