"""The kinds of changes that jobs write down: a frozen dataclass each, in the module that makes and undoes them.

In the journal a kind is a word, and its fields, in their order, are the step's facts: addresses as text, tuples as
lists; a field that is None is left out. A fact may be added to a kind with a default, which older journals then have,
and which older versions pass over; what they must not pass over needs a word of its own, which they refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from weed_cluster.address import Address
from weed_core.errors import BadTask, TaskError
from weed_safety.journal import Entry, Step

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

KINDS: dict[type, str] = {}
"""The kinds of all modules that are loaded, each with its word. Two job types may have one word for two kinds."""


@dataclass(frozen=True)
class Planned(Step, Generic[T_co]):
    """A step of a journal with the change that it stands for."""

    change: T_co = field(kw_only=True, compare=False)


def kind(word: str) -> Callable[[type[T]], type[T]]:
    """Declare a dataclass as the facts of the steps that have this word on disk."""

    def declare(cls: type[T]) -> type[T]:
        KINDS[cls] = word
        return cls

    return declare


def plan(entry: Entry, change: T) -> Planned[T]:
    """Write down a change before it is made; TaskError if that fails, and then it must not be made."""
    told = {one.name: getattr(change, one.name) for one in fields(change)}  # type: ignore[arg-type]
    facts = {name: _plain(value) for name, value in told.items() if value is not None}
    return _planned(entry.plan(KINDS[type(change)], **facts), change)


def is_of(step: Step, *kinds: type) -> bool:
    """Whether a step is of one of these kinds."""
    return step.what in [KINDS[one] for one in kinds]


def read(step: Step, wanted: type[T]) -> Planned[T] | None:
    """Read a step's facts; None if it is of another kind, TaskError where they are not what the kind has."""
    if not is_of(step, wanted):
        return None
    declared: Any = wanted  # mypy takes a type variable's type for unhashable
    hints = _hints(declared)
    try:
        change = wanted(**{name: _value(hints[name], step.facts[name]) for name in hints if name in step.facts})
    except (TypeError, ValueError, BadTask) as error:
        raise TaskError(
            f"step {step.number} of the journal, {step.what!r}, is not as this version writes it ({error}); start the "
            "version that wrote it"
        ) from error
    return _planned(step, change)


def of_kind(entry: Entry, wanted: type[T], volume_id: int | None = None) -> list[Planned[T]]:
    """Return the open steps of a kind, oldest first, those of one volume if it is named; TaskError as read()."""
    steps = [step for step in entry.open if volume_id is None or step.facts.get("volume_id") == volume_id]
    return [one for step in steps if (one := read(step, wanted)) is not None]


def check_known(entry: Entry) -> None:
    """TaskError where an open step's word is none of this version, whose modules of the job type are loaded.

    A newer version wrote it then, and knows what is to be undone.
    """
    strange = sorted({step.what for step in entry.open} - {*KINDS.values()})
    if strange:
        raise TaskError(
            f"this version knows no step {', '.join(map(repr, strange))} of {entry.job_type} {entry.job_id}; nothing "
            "of it was undone. Start the version that ran it"
        )


def _planned(step: Step, change: T) -> Planned[T]:
    return Planned(step.number, step.what, step.facts, step.at, change=change)


@cache
def _hints(wanted: Any) -> Mapping[str, Any]:
    return get_type_hints(wanted)


def _plain(value: Any) -> Any:
    """A field's value as JSON has it."""
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (tuple, list)) else value


def _value(hint: Any, value: Any) -> Any:
    """Read a field back; TypeError, ValueError or BadTask where the value is of another type."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _value(inner[0], value)
    if origin is tuple:
        return tuple(_value(inner[0], one) for one in _of(list, value))
    if origin is not None:
        return {_value(inner[0], key): _value(inner[1], one) for key, one in _of(dict, value).items()}
    if hint is Address:
        return Address.parse(_of(str, value))
    if hint is float and type(value) is int:
        return float(value)
    return _of(hint, value)


def _of(wanted: type[T], value: Any) -> T:
    if type(value) is not wanted:
        raise TypeError(f"{value!r} is no {wanted.__name__}")
    return value
