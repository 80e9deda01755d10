"""A proposal as people see it, and which of them -volumeId leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from proto_gen.worker_pb2 import TaskParams
from weed_console.estimate import Paces
from weed_console.jobs import Row, ids_text
from weed_core.model import Proposal
from weed_core.values import Value


@pytest.mark.parametrize(
    ("parameters", "shown", "is_left"),
    [
        ({}, "-", False),
        ({"volume_id": 3}, "3", True),
        ({"volume_ids": ["9", "3"]}, "3,9", True),
        ({"volume_ids": "3, 4, 9"}, "3,4,9", False),
    ],
)
def test_naming_volumes_leaves_out_what_is_about_others_or_about_the_whole_cluster(
    tmp_path: Path, parameters: dict[str, Value], shown: str, is_left: bool
) -> None:
    row = Row.of(
        "vacuum", Proposal("p", "k", "what it does", TaskParams(), parameters=parameters), Paces(tmp_path), 0.0
    )
    assert (ids_text(row.volume_ids), row.is_on(frozenset({3, 9}))) == (shown, is_left)
