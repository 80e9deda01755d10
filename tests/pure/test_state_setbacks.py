"""What failed is remembered over restarts, waits longer each time, and is forgotten with success or change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proto_gen.worker_pb2 import BalanceMoveSpec, BalanceTaskParams, TaskParams, TaskSource
from weed_core.errors import Busy, ServerFailed, StaleTask, TaskError
from weed_core.model import DetectionRequest, Job, Setback
from weed_state import setbacks
from weed_state.setbacks import MOST, NAME, Setbacks

MINUTE = 60.0


class Clock:
    """Time that passes when a test says so; starts at ten o'clock."""

    def __init__(self) -> None:
        self.now = 1_700_042_400.0

    def __call__(self) -> float:
        return self.now


def job(volume_id: int = 7, job_type: str = "vacuum", source: str = "10.0.0.1:8080") -> Job:
    params = TaskParams(volume_id=volume_id, sources=[TaskSource(node=source, volume_id=volume_id)])
    return Job(f"{job_type}-{volume_id}", job_type, params)


def told(memory: Setbacks, job_type: str = "vacuum") -> DetectionRequest:
    return memory.told(DetectionRequest(job_type, {}, ()), job_type)


def test_a_failed_volume_waits_and_the_plan_says_how_often_when_and_why(tmp_path: Path) -> None:
    clock = Clock()
    memory = Setbacks(tmp_path, clock)
    for _try in range(3):
        memory.failed(job(), TaskError("the disk\nis broken"))
    assert told(memory).setbacks == {
        7: Setback("failed 3 times, last at 10:00: the disk is broken; tried again after 10:20 UTC", ("10.0.0.1:8080",))
    }
    assert told(memory, "balance").setbacks == {}
    clock.now += 20 * MINUTE
    assert told(memory).setbacks == {7: Setback("", ("10.0.0.1:8080",))}


def test_each_failure_doubles_the_time_up_to_a_day(tmp_path: Path) -> None:
    clock = Clock()
    memory = Setbacks(tmp_path, clock)
    waits = []
    for _try in range(12):
        memory.failed(job(), TaskError("no"))
        began = clock.now
        while told(memory).setbacks[7].words:
            clock.now += 5 * MINUTE
        waits.append((clock.now - began) / MINUTE)
    assert waits[:4] == [5, 10, 20, 40]
    assert waits[-1] == 24 * 60


def test_it_survives_a_restart_and_ends_with_success(tmp_path: Path) -> None:
    clock = Clock()
    Setbacks(tmp_path, clock).failed(job(), TaskError("no"))
    again = Setbacks(tmp_path, clock)
    assert "failed once" in told(again).setbacks[7].words
    again.succeeded(job())
    assert told(again).setbacks == {}
    assert told(Setbacks(tmp_path, clock)).setbacks == {}


def test_a_volume_that_lies_elsewhere_now_begins_anew(tmp_path: Path) -> None:
    memory = Setbacks(tmp_path, Clock())
    memory.failed(job(), TaskError("no"))
    memory.failed(job(source="10.0.0.2:8080"), TaskError("no"))
    assert "failed once" in told(memory).setbacks[7].words


def test_a_job_that_found_its_volume_busy_did_not_fail(tmp_path: Path) -> None:
    memory = Setbacks(tmp_path, Clock())
    memory.failed(job(), Busy("volume 7 is being worked on by another"))
    assert told(memory).setbacks == {}


def test_of_a_batch_only_what_failed_counts_with_its_own_reason(tmp_path: Path) -> None:
    memory = Setbacks(tmp_path, Clock())
    moves = [BalanceMoveSpec(volume_id=number, source_node="10.0.0.1:8080") for number in (1, 2, 3)]
    batch = Job("batch", "balance", TaskParams(balance_params=BalanceTaskParams(moves=moves)))
    error = TaskError("2 of 3 volumes moved")
    error.by_volume = {2: StaleTask("volume 2 stays")}
    memory.failed(batch, error)
    (found,) = told(memory, "balance").setbacks.items()
    assert found[0] == 2
    assert "volume 2 stays" in found[1].words
    assert found[1].holders == ("10.0.0.1:8080",)


def test_a_server_at_which_several_volumes_failed_is_left_alone_itself(tmp_path: Path) -> None:
    clock = Clock()
    memory = Setbacks(tmp_path, clock)
    for number in (1, 2, 3):
        assert told(memory).avoided == {}
        cause = ServerFailed("10.0.0.9:8080", "VolumeCopy", "UNKNOWN", "disk trouble")
        error = TaskError(f"volume {number}: {cause}")
        error.__cause__ = cause
        memory.failed(job(number), error)
    (found,) = told(memory).avoided.items()
    assert found[0] == "10.0.0.9:8080"
    assert "failed jobs on 3 volumes" in found[1]
    clock.now += 6 * MINUTE
    assert told(memory).avoided == {}


def test_no_more_than_a_bounded_number_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setbacks, "MOST", 20)
    memory = Setbacks(tmp_path, Clock())
    for number in range(1, 31):
        memory.failed(job(number), TaskError("x" * 10_000))
    assert len(memory) == 20
    assert len((tmp_path / NAME).read_bytes()) < 20_000
    assert MOST <= 1000


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"7", b'{"a": 1}', b"[1]", b'[{"job_type": "vacuum"}]', json.dumps([{"volume_id": -1}]).encode()],
)
def test_a_damaged_memory_is_forgotten_and_written_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    memory = Setbacks(tmp_path, Clock())
    assert told(memory).setbacks == {}
    memory.failed(job(), TaskError("no"))
    assert list(told(Setbacks(tmp_path, Clock())).setbacks) == [7]


def test_a_disk_that_takes_nothing_costs_only_the_memory(tmp_path: Path) -> None:
    memory = Setbacks(tmp_path / "absent", Clock())
    memory.failed(job(), TaskError("no"))
    assert list(told(memory).setbacks) == [7]


def test_counts_from_a_file_cannot_overflow(tmp_path: Path) -> None:
    memory = Setbacks(tmp_path, Clock())
    memory.failed(job(), TaskError("no"))
    records: list[dict[str, Any]] = json.loads((tmp_path / NAME).read_bytes())
    records[0]["count"] = 10**9
    (tmp_path / NAME).write_text(json.dumps(records))
    assert "tried again after" in told(Setbacks(tmp_path, Clock())).setbacks[7].words
