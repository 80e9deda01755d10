"""The forms of all job types: a thing has one name in all of them, and each field says what it is for."""

from __future__ import annotations

from collections import defaultdict

import pytest

import weed_tasks
from weed_core.job_types import TASK_TYPES
from weed_core.model import Field
from weed_protocol import forms as wire
from weed_tasks import forms

FORMS = {job: weed_tasks.load([job])[job].DESCRIPTOR for job in TASK_TYPES}
FIELDS: list[tuple[str, Field]] = [(job, field) for job, form in FORMS.items() for field in form.fields]
SECTIONS = (forms.SCOPE, forms.THRESHOLDS, forms.PLACEMENT, forms.SAFETY, forms.LIMITS)


def test_a_field_has_one_label_kind_and_place_in_all_forms() -> None:
    seen: defaultdict[str, set[tuple[object, ...]]] = defaultdict(set)
    for _job, field in FIELDS:
        seen[field.name].add((field.label, field.kind, field.scope, field.section))
    assert {name: looks for name, looks in seen.items() if len(looks) > 1} == {}


def test_a_label_stands_for_one_thing() -> None:
    names: defaultdict[str, set[str]] = defaultdict(set)
    for _job, field in FIELDS:
        names[field.label].add(field.name)
    several = {label: known for label, known in names.items() if len(known) > 1}
    # The worker of SeaweedFS itself calls this one differently in its two forms.
    assert several == {"Shard placement": {"replica_placement", "shard_replica_placement"}}


@pytest.mark.parametrize(("job", "field"), FIELDS, ids=[f"{job}.{field.name}" for job, field in FIELDS])
def test_a_field_says_what_it_is_for_and_how_it_is_written(job: str, field: Field) -> None:
    assert field.help[0].isupper()
    assert field.help.endswith(".")
    assert len(field.help) > 15
    assert field.section
    if field.name.endswith("_seconds"):
        assert "(seconds)" in field.label
    if field.name.endswith("_mb"):
        assert "(MB)" in field.label
    if field.kind == "string":
        assert field.placeholder
        assert "mpty" in field.help or "is empty" in field.help, "what no text means has to be said"
    told = wire.describe(FORMS[job])
    both = [*told.admin_config_form.sections, *told.worker_config_form.sections]
    shown = [one for section in both for one in section.fields]
    (mine,) = [one for one in shown if one.name == field.name]
    assert mine.description == field.help
    assert mine.placeholder or field.kind in ("bool", "enum")


def test_sections_come_in_one_order() -> None:
    for job, form in FORMS.items():
        order = [section for section in dict.fromkeys(field.section for field in form.fields) if section in SECTIONS]
        assert order == sorted(order, key=SECTIONS.index), job
