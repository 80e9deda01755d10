"""Forms and values: what a descriptor shows, and that a value survives the wire."""

from __future__ import annotations

import math

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from proto_gen import plugin_pb2
from tests.pure.protocol_samples import VACUUM
from weed_core.values import Value
from weed_protocol import forms

plain: st.SearchStrategy[Value] = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.lists(st.text(st.characters(exclude_categories=["Cs"])))
)


@given(plain)
def test_a_value_survives_the_wire(value: Value) -> None:
    wire = plugin_pb2.ConfigValue.FromString(forms.config_value(value).SerializeToString())
    back = forms.plain_value(wire)
    assert back == value
    assert type(back) is type(value)


def test_a_number_too_large_for_64_bits_travels_as_a_double() -> None:
    assert forms.plain_value(forms.config_value(2**64)) == float(2**64)


def test_what_is_no_number_travels_as_text() -> None:
    assert forms.plain_value(forms.config_value(math.nan)) == "nan"
    assert forms.plain_value(forms.config_value(math.inf)) == "inf"


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (plugin_pb2.ConfigValue(), None),
        (plugin_pb2.ConfigValue(map_value=plugin_pb2.ValueMap()), None),
        (plugin_pb2.ConfigValue(duration_value=Duration(seconds=90, nanos=500_000_000)), 90.5),
        (plugin_pb2.ConfigValue(int64_list=plugin_pb2.Int64List(values=[1, 2])), ["1", "2"]),
        (plugin_pb2.ConfigValue(bool_list=plugin_pb2.BoolList(values=[True, False])), ["true", "false"]),
        (
            plugin_pb2.ConfigValue(
                list_value=plugin_pb2.ValueList(
                    values=[
                        plugin_pb2.ConfigValue(string_value="a"),
                        plugin_pb2.ConfigValue(int64_value=3),
                        plugin_pb2.ConfigValue(list_value=plugin_pb2.ValueList()),
                        plugin_pb2.ConfigValue(),
                    ]
                )
            ),
            ["a", "3"],
        ),
    ],
)
def test_the_rarer_kinds_have_a_plain_form_or_none(wire: plugin_pb2.ConfigValue, value: Value | None) -> None:
    assert forms.plain_value(wire) == value


def test_a_descriptor_shows_its_fields_in_the_forms_they_stand_in() -> None:
    shown = forms.describe(VACUUM)
    (scope,) = shown.admin_config_form.sections
    assert [field.name for field in scope.fields] == ["collection_filter", "volume_state"]
    assert scope.fields[1].widget == plugin_pb2.CONFIG_WIDGET_SELECT
    assert [option.value for option in scope.fields[1].options] == ["ALL", "FULL"]
    settings, after = shown.worker_config_form.sections
    assert [field.name for field in settings.fields] == ["garbage_threshold", "min_volume_age_seconds"]
    assert (after.section_id, after.title) == ("after_the_work", "After The Work")
    assert after.fields[0].widget == plugin_pb2.CONFIG_WIDGET_TOGGLE


def test_bounds_and_defaults_have_their_fields_kind() -> None:
    shown = forms.describe(VACUUM)
    threshold, age = shown.worker_config_form.sections[0].fields
    assert threshold.max_value == plugin_pb2.ConfigValue(double_value=1.0)
    assert threshold.required
    assert age.min_value == plugin_pb2.ConfigValue(int64_value=0)
    assert not age.HasField("max_value")
    assert shown.worker_default_values["garbage_threshold"].double_value == 0.3
    assert shown.worker_config_form.default_values["verify"].bool_value is True
    assert shown.admin_config_form.default_values["volume_state"].string_value == "ALL"


def test_the_scheduling_wishes_travel_whole() -> None:
    runtime = forms.describe(VACUUM).admin_runtime_defaults
    assert runtime.enabled
    assert runtime.detection_timeout_seconds == 120
    assert runtime.max_jobs_per_detection == 200
    assert runtime.retry_backoff_seconds == 10
    assert runtime.execution_timeout_seconds == 1800
