"""Configuration forms and values on the plugin wire.

A task's Descriptor becomes the JobTypeDescriptor that an admin shows as two forms, the admin's and the worker's; a
ConfigValue becomes a plain value and back. Knows no task and checks no value: see weed_core.values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from proto_gen import plugin_pb2
from weed_core.model import Descriptor, Field
from weed_core.values import Value
from weed_protocol.text import valid

_INT64 = range(-(2**63), 2**63)

_KINDS = {
    "bool": (plugin_pb2.CONFIG_FIELD_TYPE_BOOL, plugin_pb2.CONFIG_WIDGET_TOGGLE),
    "int": (plugin_pb2.CONFIG_FIELD_TYPE_INT64, plugin_pb2.CONFIG_WIDGET_NUMBER),
    "double": (plugin_pb2.CONFIG_FIELD_TYPE_DOUBLE, plugin_pb2.CONFIG_WIDGET_NUMBER),
    "string": (plugin_pb2.CONFIG_FIELD_TYPE_STRING, plugin_pb2.CONFIG_WIDGET_TEXT),
    "text": (plugin_pb2.CONFIG_FIELD_TYPE_STRING, plugin_pb2.CONFIG_WIDGET_TEXTAREA),
    "enum": (plugin_pb2.CONFIG_FIELD_TYPE_ENUM, plugin_pb2.CONFIG_WIDGET_SELECT),
}


def describe(descriptor: Descriptor) -> plugin_pb2.JobTypeDescriptor:
    """Write a job type's forms, defaults and scheduling wishes."""
    worker_form = _form(descriptor, "worker")
    return plugin_pb2.JobTypeDescriptor(
        job_type=descriptor.job_type,
        display_name=descriptor.display_name,
        description=descriptor.description,
        icon=descriptor.icon,
        descriptor_version=descriptor.version,
        admin_config_form=_form(descriptor, "admin"),
        worker_config_form=worker_form,
        admin_runtime_defaults=plugin_pb2.AdminRuntimeDefaults(**asdict(descriptor.runtime)),
        worker_default_values=worker_form.default_values,
    )


def config_value(value: Value) -> plugin_pb2.ConfigValue:
    """Wrap a plain value. Whole numbers beyond 64 bits travel as doubles, what is no number as text.

    An admin turns activities into JSON, and one NaN among them breaks the page that lists them all.
    """
    if isinstance(value, bool):
        return plugin_pb2.ConfigValue(bool_value=value)
    if isinstance(value, int) and value in _INT64:
        return plugin_pb2.ConfigValue(int64_value=value)
    if isinstance(value, float) and not math.isfinite(value):
        return plugin_pb2.ConfigValue(string_value=str(value))
    if isinstance(value, (int, float)):
        return plugin_pb2.ConfigValue(double_value=value)
    if isinstance(value, bytes):
        return plugin_pb2.ConfigValue(bytes_value=value)
    if isinstance(value, str):
        return plugin_pb2.ConfigValue(string_value=valid(value))
    return plugin_pb2.ConfigValue(string_list=plugin_pb2.StringList(values=[valid(item) for item in value]))


def config_values(values: Mapping[str, Value]) -> dict[str, plugin_pb2.ConfigValue]:
    """Wrap each value of a map."""
    return {valid(key): config_value(value) for key, value in values.items()}


def plain_value(value: plugin_pb2.ConfigValue) -> Value | None:
    """Unwrap a value: durations as seconds, lists as texts; None for what has no plain form (maps, nothing at all)."""
    kind = value.WhichOneof("kind")
    if kind is None or kind == "map_value":
        return None
    if kind == "duration_value":
        return value.duration_value.seconds + value.duration_value.nanos / 1e9
    if kind == "list_value":
        return [text for item in value.list_value.values if (text := _plain_text(item)) is not None]
    if kind.endswith("_list"):
        return [_text(item) for item in getattr(value, kind).values]
    plain: Value = getattr(value, kind)
    return plain


def plain_values(values: Mapping[str, plugin_pb2.ConfigValue]) -> dict[str, Value]:
    """Unwrap each value of a map, leaving out those without a plain form."""
    return {key: plain for key, value in values.items() if (plain := plain_value(value)) is not None}


def _form(descriptor: Descriptor, scope: str) -> plugin_pb2.ConfigForm:
    fields = [field for field in descriptor.fields if field.scope == scope]
    title = f"{descriptor.display_name}: {'scope' if scope == 'admin' else 'settings'}"
    return plugin_pb2.ConfigForm(
        form_id=f"{descriptor.job_type.replace('_', '-')}-{scope}",
        title=title,
        sections=_sections(fields, "Scope" if scope == "admin" else "Settings"),
        default_values={field.name: _typed(field, field.default) for field in fields},
    )


def _sections(fields: Iterable[Field], unnamed: str) -> list[plugin_pb2.ConfigSection]:
    """Group fields by their section, in the order in which sections first appear."""
    grouped: dict[str, list[plugin_pb2.ConfigField]] = {}
    for field in fields:
        grouped.setdefault(field.section or unnamed, []).append(_field(field))
    return [
        plugin_pb2.ConfigSection(section_id=title.lower().replace(" ", "_"), title=title, fields=members)
        for title, members in grouped.items()
    ]


def _field(field: Field) -> plugin_pb2.ConfigField:
    field_type, widget = _KINDS[field.kind]
    return plugin_pb2.ConfigField(
        name=field.name,
        label=field.label,
        description=field.help,
        placeholder=field.placeholder or ("" if field.kind in ("bool", "enum") else str(field.default)),
        field_type=field_type,
        widget=widget,
        required=field.required,
        min_value=None if field.minimum is None else _typed(field, field.minimum),
        max_value=None if field.maximum is None else _typed(field, field.maximum),
        options=[plugin_pb2.ConfigOption(value=value, label=label) for value, label in field.options],
    )


def _typed(field: Field, value: Value) -> plugin_pb2.ConfigValue:
    """Wrap a value of a field, so that a double stays one where it was written as a whole number."""
    if field.kind == "double" and isinstance(value, int):
        value = float(value)
    return config_value(value)


def _plain_text(value: plugin_pb2.ConfigValue) -> str | None:
    plain = plain_value(value) if value.WhichOneof("kind") != "list_value" else None
    return None if plain is None or isinstance(plain, (list, bytes)) else _text(plain)


def _text(value: bool | int | float | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
