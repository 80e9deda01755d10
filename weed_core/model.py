"""The words that protocol, tasks, agent and console share: jobs, proposals, descriptors.

Pure data. A job's parameters are the message that both admin dialects carry; of the dialects and of how a task works it
knows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proto_gen import worker_pb2
from weed_core.scrub_ledger import Coverage
from weed_core.values import Value, as_int, as_list, clamp, to_bool, to_float, to_int, to_text

LOW, NORMAL, HIGH = "low", "normal", "high"


@dataclass(frozen=True)
class Job:
    """One piece of work, as either dialect hands it over.

    `params` is what classic admins send and what plugin admins carry in `task_params_pb`; where a plugin job has
    only scalars, `params` is empty and `parameters` holds them. `type` is the task's module name. `config` is as in
    DetectionRequest, and empty for classic jobs.
    """

    id: str
    type: str
    params: worker_pb2.TaskParams
    parameters: Mapping[str, Value] = field(default_factory=dict)
    config: Mapping[str, Value] = field(default_factory=dict)
    masters: tuple[str, ...] = ()
    filers: tuple[str, ...] = ()

    @property
    def volume_ids(self) -> tuple[int, ...]:
        """The volumes this job touches, the unit of the worker's locks: none, one or several.

        Several are the moves of a batch, or a plain parameter `volume_ids`, a list or a text with commas.
        """
        ids = {self.params.volume_id}
        ids |= {move.volume_id for move in self.params.balance_params.moves}
        ids |= {move.volume_id for move in self.params.ec_balance_params.moves}
        ids.add(as_int(self.parameters.get("volume_id"), 0, 0))
        ids |= {as_int(text, 0, 0) for text in as_list(self.parameters.get("volume_ids"), [])}
        return tuple(sorted(ids - {0}))


@dataclass(frozen=True)
class Result:
    """What a task did, in one sentence and in figures."""

    summary: str
    outputs: Mapping[str, Value] = field(default_factory=dict)

    @property
    def gains(self) -> dict[str, int]:
        """Bytes by what was done with them, as GAINS has it; what is 0 is left out."""
        figures = {word: as_int(self.outputs.get(name), 0, 0) for name, word in GAINS.items()}
        return {word: figure for word, figure in figures.items() if figure}


GAINS = {
    "reclaimed_bytes": "freed",
    "moved_bytes": "moved",
    "encoded_bytes": "encoded",
    "restored_bytes": "restored",
}
"""What a task's outputs may name, and the word for it: bytes of disk space given back, of volumes and shards brought to
another place, of volumes turned into shards, of lost shards and copies made anew."""


@dataclass(frozen=True)
class Setback:
    """Jobs of one type that failed on a volume. `words` say so while it has to wait; "" once it may be tried again.

    `holders` held the volume then: where one of them no longer does, the volume is another thing now.
    """

    words: str = ""
    holders: tuple[str, ...] = ()


@dataclass(frozen=True)
class DetectionRequest:
    """One look for work.

    `config` holds the admin's and the worker's form values as the admin sent them; settings merges them
    over the descriptor's defaults before a task sees them.
    """

    job_type: str
    config: Mapping[str, Value]
    masters: tuple[str, ...]
    max_results: int = 0  # 0: no limit
    sequence: int = 0  # the admin's clock in nanoseconds, stamped into encodes
    volume_id: int = 0  # 0: all; the console narrows a plan to one volume
    is_single: bool = False  # whether no later look follows, as in the console's
    target: str = ""  # the server to which a person wants the one volume moved
    setbacks: Mapping[int, Setback] = field(default_factory=dict)  # what failed before, by volume
    avoided: Mapping[str, str] = field(default_factory=dict)  # servers at which much failed, and the words for it
    filers: tuple[str, ...] = ()
    last_run: float = 0.0  # unix seconds at which the admin saw the last run of this type end; 0: never


@dataclass(frozen=True)
class Proposal:
    """Work that detection found worth doing."""

    id: str
    dedupe_key: str
    summary: str
    params: worker_pb2.TaskParams
    detail: str = ""
    priority: str = NORMAL
    parameters: Mapping[str, Value] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    estimated_seconds: int = 0
    bytes_to_move: int = 0
    frees: int = 0
    """Bytes of disk space that it gives back, on all servers together."""

    waits: int = 0
    """Seconds of its time in which it only waits, with its volume read-only."""

    shut: Mapping[int, str] = field(default_factory=dict)
    """Volumes that refuse writes for about ten minutes after the change, and why each has to."""


@dataclass(frozen=True)
class Skipped:
    """A volume that detection passed over, and why (one sentence, and a short key to count by)."""

    volume_id: int
    reason: str
    key: str
    collection: str = ""
    server: str = ""
    size: int = 0  # bytes


@dataclass(frozen=True)
class Detection:
    """What detection found. `has_more` says that max_results cut the list."""

    proposals: list[Proposal]
    skipped: list[Skipped] = field(default_factory=list)
    has_more: bool = False
    seen: int = 0
    summary: str = ""
    coverage: Coverage | None = None  # how much is verified, where that was looked at


@dataclass(frozen=True)
class Field:
    """One field of a configuration form. `kind`: "bool", "int", "double", "string", "text" (lines of it) or "enum"."""

    name: str
    label: str
    kind: str
    default: Value
    help: str
    minimum: int | float | None = None
    maximum: int | float | None = None
    required: bool = False
    placeholder: str = ""
    options: tuple[tuple[str, str], ...] = ()  # (value, label), for kind "enum"
    scope: str = "worker"  # "worker" or "admin": the form it stands in
    section: str = ""


@dataclass(frozen=True)
class Runtime:
    """How the admin should schedule a job type, unless the operator decides otherwise."""

    enabled: bool = True
    detection_interval_minutes: int = 17
    detection_timeout_seconds: int = 300
    max_jobs_per_detection: int = 500
    global_execution_concurrency: int = 16
    per_worker_execution_concurrency: int = 4
    retry_limit: int = 1
    retry_backoff_seconds: int = 30
    job_type_max_runtime_seconds: int = 1800
    execution_timeout_seconds: int = 1800


@dataclass(frozen=True)
class Descriptor:
    """What a job type is called, shows and can be configured with.

    `name` is the task module's name and the classic dialect's task type; `job_type` the plugin dialect's.
    """

    name: str
    job_type: str
    display_name: str
    description: str
    icon: str
    fields: tuple[Field, ...]
    runtime: Runtime
    weight: int
    version: int = 1

    @property
    def defaults(self) -> dict[str, Any]:
        """Every form field's default value by name."""
        return {field.name: field.default for field in self.fields}


def settings(descriptor: Descriptor, *given: Mapping[str, Value]) -> tuple[dict[str, Value], list[str]]:
    """Merge given values over a descriptor's defaults, later maps winning, each coerced by its field's kind and bounds.

    Returns the settings and one warning for every value that could not be used as it came. Keys that no field has are
    kept as they came, since a task may honour keys its form does not show.
    """
    merged = {key: value for values in given for key, value in values.items()}
    fields = {field.name: field for field in descriptor.fields}
    result: dict[str, Value] = dict(descriptor.defaults)
    warnings = []
    for key, value in merged.items():
        field = fields.get(key)
        if field is None:
            result[key] = value
            warnings.append(f"{descriptor.name} has no setting {key!r}")
            continue
        result[key], warning = _fit(field, value)
        if warning:
            warnings.append(f"{descriptor.name}: {warning}")
    return result, warnings


class Values:
    """Given values over a descriptor's defaults, as settings() merges them, read by name and kind.

    Each is of its field's kind and within its bounds. KeyError for a name that no field has.
    """

    def __init__(self, descriptor: Descriptor, *given: Mapping[str, Value]) -> None:
        known = descriptor.defaults
        merged, _warnings = settings(descriptor, *given)
        self._values: dict[str, Any] = {name: merged[name] for name in known}

    def whole(self, name: str) -> int:
        """A whole number."""
        return int(self._values[name])

    def number(self, name: str) -> float:
        """A number."""
        return float(self._values[name])

    def flag(self, name: str) -> bool:
        """A yes or no."""
        return bool(self._values[name])

    def text(self, name: str) -> str:
        """A text without surrounding blanks, or an option."""
        return str(self._values[name])

    def texts(self, name: str) -> list[str]:
        """The texts between commas: trimmed, without empty ones and repetitions."""
        return as_list(self.text(name), [])


def _fit(field: Field, value: Value) -> tuple[Value, str]:
    """Coerce one value to its field; the text says what was changed and is empty where nothing was."""
    coerced: Value | None = _COERCE[field.kind](value)
    if coerced is None or (field.kind == "enum" and coerced not in {option for option, _ in field.options}):
        return field.default, f"{field.name} cannot be {value!r}; {field.default!r} is used"
    if isinstance(coerced, (int, float)) and not isinstance(coerced, bool):
        fitting = clamp(coerced, field.minimum, field.maximum)
        if fitting != coerced:
            return fitting, f"{field.name} cannot be {value!r}; {fitting!r} is used"
    return coerced, ""


_COERCE = {"bool": to_bool, "int": to_int, "double": to_float, "string": to_text, "text": to_text, "enum": to_text}
