"""Values of any kind, coerced to what their reader needs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pure.protocol_samples import VACUUM
from weed_core.model import Values, settings
from weed_core.values import Value, as_bool, as_float, as_int, as_list, as_str
from weed_tasks import erasure_coding


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (5, 5),
        (5.9, 5),
        (-5.9, -5),
        (" 12 ", 12),
        ("12.7", 12),
        ("99999999999999999999", 99999999999999999999),
        (True, 1),
        ("many", 7),
        (math.nan, 7),
        (math.inf, 7),
        (b"5", 7),
        (["5"], 7),
        (None, 7),
    ],
)
def test_a_whole_number_is_read_from_what_can_be_one(value: Value | None, number: int) -> None:
    assert as_int(value, 7) == number


def test_a_number_stays_within_its_bounds() -> None:
    assert as_int(0, 7, 1, 50) == 1
    assert as_int("51", 7, 1, 50) == 50
    assert as_float(1.5, 0.3, 0, 1) == 1
    assert as_float(-1, 0.3, 0, 1) == 0


@pytest.mark.parametrize(
    ("value", "number"), [(1, 1.0), ("0.5", 0.5), (True, 1.0), ("x", 0.3), (math.nan, 0.3), (10**400, 0.3), (None, 0.3)]
)
def test_a_fraction_is_read_from_what_can_be_one(value: Value | None, number: float) -> None:
    assert as_float(value, 0.3) == number


@pytest.mark.parametrize(
    ("value", "flag"),
    [(True, True), (0, False), (2.5, True), ("Yes", True), (" off ", False), ("0", False), ("maybe", True), ([], True)],
)
def test_a_yes_or_no_is_read_from_what_can_be_one(value: Value, flag: bool) -> None:
    assert as_bool(value, True) is flag


@pytest.mark.parametrize(
    ("value", "text"), [(" a ", "a"), (5, "5"), (0.5, "0.5"), (True, "true"), (b"x", "d"), (["x"], "d"), (None, "d")]
)
def test_a_text_is_read_from_what_can_be_one(value: Value | None, text: str) -> None:
    assert as_str(value, "d") == text


def test_a_list_is_read_from_a_list_or_a_text_with_commas() -> None:
    assert as_list([" a", "b", "a", ""], []) == ["a", "b"]
    assert as_list("b, a,,b", []) == ["b", "a"]
    assert as_list("", ["d"]) == []
    assert as_list(5, ["d"]) == ["d"]


def test_settings_are_the_defaults_where_nothing_is_given() -> None:
    assert settings(VACUUM) == (VACUUM.defaults, [])


def test_later_values_win_and_get_their_fields_kind() -> None:
    found, warnings = settings(VACUUM, {"garbage_threshold": 0.5, "verify": "no"}, {"garbage_threshold": "0.4"})
    assert found == {**VACUUM.defaults, "garbage_threshold": 0.4, "verify": False}
    assert warnings == []


def test_values_out_of_bounds_are_brought_back_with_a_warning() -> None:
    found, warnings = settings(VACUUM, {"garbage_threshold": 7, "min_volume_age_seconds": -1})
    assert (found["garbage_threshold"], found["min_volume_age_seconds"]) == (1, 0)
    assert warnings == [
        "vacuum: garbage_threshold cannot be 7; 1 is used",
        "vacuum: min_volume_age_seconds cannot be -1; 0 is used",
    ]


def test_values_that_cannot_be_used_give_way_to_defaults_with_a_warning() -> None:
    found, warnings = settings(VACUUM, {"garbage_threshold": "lots", "volume_state": "SOME"})
    assert found == VACUUM.defaults
    assert warnings == [
        "vacuum: garbage_threshold cannot be 'lots'; 0.3 is used",
        "vacuum: volume_state cannot be 'SOME'; 'ALL' is used",
    ]


def test_keys_without_a_field_are_kept_with_a_warning() -> None:
    found, warnings = settings(VACUUM, {"hidden": 5})
    assert found["hidden"] == 5
    assert warnings == ["vacuum has no setting 'hidden'"]


anything: st.SearchStrategy[Value] = (
    st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.text())
)


@given(st.dictionaries(st.sampled_from([field.name for field in VACUUM.fields]), anything))
def test_settings_always_fit_their_fields(given_values: dict[str, Value]) -> None:
    found, _ = settings(VACUUM, given_values)
    threshold, age = found["garbage_threshold"], found["min_volume_age_seconds"]
    assert isinstance(threshold, (int, float))
    assert 0 <= threshold <= 1
    assert isinstance(age, int)
    assert age >= 0
    assert found["volume_state"] in ("ALL", "FULL")
    assert isinstance(found["verify"], bool)
    assert isinstance(found["collection_filter"], str)


def test_values_are_read_by_name_and_kind_over_the_defaults_later_ones_winning() -> None:
    values = Values(VACUUM, {"garbage_threshold": "0.5", "volume_state": "FULL"}, {"garbage_threshold": 7, "hidden": 5})
    assert (values.number("garbage_threshold"), values.text("volume_state")) == (1.0, "FULL")
    tagged = Values(erasure_coding.DESCRIPTOR, {"preferred_tags": " fast , ssd,, fast"})
    assert (tagged.texts("preferred_tags"), tagged.whole("min_size_mb")) == (["fast", "ssd"], 30)
    with pytest.raises(KeyError):
        values.whole("hidden")
