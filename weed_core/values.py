"""Configuration and parameter values, whatever kind they arrived as.

An admin neither checks what an operator stored nor what another worker's form left behind: a number may come as text,
a key may be missing, unknown or out of bounds. Here every value gets the kind and the bounds its reader needs.

Pure. Knows neither the wire nor what a value means.
"""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import TypeVar

Number = TypeVar("Number", int, float)

_TRUE = frozenset({"true", "t", "1", "yes", "y", "on"})
_FALSE = frozenset({"false", "f", "0", "no", "n", "off"})

Value = bool | int | float | str | bytes | list[str]
"""What a configuration or parameter value can be once it is off the wire."""


def as_int(value: Value | None, default: int, minimum: float | None = None, maximum: float | None = None) -> int:
    """Read a whole number within bounds; fractions are cut off, what is no number becomes the default."""
    number = to_int(value)
    return clamp(default if number is None else number, _floor(minimum), _floor(maximum))


def as_float(value: Value | None, default: float, minimum: float | None = None, maximum: float | None = None) -> float:
    """Read a finite number within bounds; what is no number becomes the default."""
    number = to_float(value)
    return clamp(default if number is None else number, minimum, maximum)


def as_bool(value: Value | None, default: bool) -> bool:
    """Read a yes or no; numbers are true unless zero, what is neither becomes the default."""
    flag = to_bool(value)
    return default if flag is None else flag


def as_str(value: Value | None, default: str) -> str:
    """Read a text without surrounding blanks; lists and bytes become the default."""
    text = to_text(value)
    return default if text is None else text


def as_list(value: Value | None, default: list[str]) -> list[str]:
    """Read a list of texts, also from one text split at commas: trimmed, without empty ones and repetitions."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list):
        return default
    return list(dict.fromkeys(text for text in (item.strip() for item in value) if text))


def to_int(value: Value | None) -> int | None:
    if isinstance(value, (bool, int)):
        return int(value)
    if isinstance(value, str):
        try:
            return int(value.strip())
        except ValueError:
            pass  # "12.0" is read as a fraction below
    number = to_float(value)
    return None if number is None else int(number)


def to_float(value: Value | None) -> float | None:
    if not isinstance(value, (bool, int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def to_bool(value: Value | None) -> bool | None:
    if isinstance(value, str):
        word = value.strip().lower()
        return True if word in _TRUE else False if word in _FALSE else None
    if isinstance(value, (bool, int, float)):
        return bool(value)
    return None


def to_text(value: Value | None) -> str | None:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return None


def _floor(bound: float | None) -> int | None:
    return None if bound is None else math.floor(bound)


def clamp(number: Number, minimum: Number | None, maximum: Number | None) -> Number:
    if minimum is not None and number < minimum:
        return minimum
    if maximum is not None and number > maximum:
        return maximum
    return number


def unix_seconds(moment: str) -> float:
    """Unix seconds of a moment; SeaweedFS writes nanoseconds, which older Pythons cannot read. ValueError."""
    whole, dot, rest = moment.partition(".")
    zone = rest.lstrip("0123456789") if dot else ""
    when = datetime.fromisoformat((whole + zone).replace("Z", "+00:00"))
    return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()
