"""The journal survives a process that dies at any instant, and never lets an id become a path."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weed_core.errors import TaskError
from weed_core.files import safe_name
from weed_safety.journal import SUFFIX, Entry, Journal


def only_file(directory: Path) -> Path:
    (path,) = directory.glob("*" + SUFFIX)
    return path


def restarted(directory: Path) -> list[Entry]:
    return Journal(directory).unfinished()


def test_a_planned_step_is_found_after_a_restart(tmp_path: Path) -> None:
    entry = Journal(tmp_path).open_entry("job-1", "vacuum", 7, target="127.0.0.11:8080")
    entry.plan("freeze", server="127.0.0.11:8080", volume_id=7, persist=True)
    (found,) = restarted(tmp_path)
    assert (found.job_id, found.job_type, found.volume_id) == ("job-1", "vacuum", 7)
    assert found.facts == {"target": "127.0.0.11:8080"}
    (step,) = found.open
    assert step.what == "freeze"
    assert step.facts == {"server": "127.0.0.11:8080", "volume_id": 7, "persist": True}


def test_a_settled_step_is_not_open_any_more(tmp_path: Path) -> None:
    entry = Journal(tmp_path).open_entry("job-1", "vacuum", 7)
    first, second = entry.plan("a"), entry.plan("b")
    entry.settle(first)
    entry.settle(first)
    assert [step.what for step in entry.open] == ["b"]
    (found,) = restarted(tmp_path)
    assert found.open == [second]


def test_an_entry_with_nothing_open_is_gone_when_closed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    entry = journal.open_entry("job-1", "vacuum", 7)
    entry.settle(entry.plan("a"))
    assert journal.count() == 1
    entry.close()
    assert list(tmp_path.iterdir()) == []


def test_an_entry_with_open_steps_stays_when_closed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    entry = journal.open_entry("job-1", "vacuum", 7)
    entry.plan("a")
    entry.close()
    assert journal.count() == 1
    (found,) = journal.unfinished()
    found.settle(found.open[0])
    found.close()
    assert journal.count() == 0


def test_a_job_that_changes_nothing_leaves_no_file(tmp_path: Path) -> None:
    Journal(tmp_path).open_entry("job-1", "vacuum", 7).close()
    assert list(tmp_path.iterdir()) == []


def test_facts_are_kept_with_the_steps(tmp_path: Path) -> None:
    entry = Journal(tmp_path).open_entry("job-1", "erasure_coding", 7, a=1)
    entry.plan("a")
    entry.fact(generation=1234567890123456789, b=[1, 2])
    (found,) = restarted(tmp_path)
    assert found.facts == {"a": 1, "generation": 1234567890123456789, "b": [1, 2]}


def test_the_same_job_takes_up_the_steps_its_earlier_run_left_open(tmp_path: Path) -> None:
    Journal(tmp_path).open_entry("job-1", "balance", 7).plan("freeze", volume_id=7)
    again = Journal(tmp_path).open_entry("job-1", "balance", 7)
    assert [step.what for step in again.open] == ["freeze"]
    second = again.plan("copy", volume_id=7)
    assert second.number == 2
    (found,) = restarted(tmp_path)
    assert [step.what for step in found.open] == ["freeze", "copy"]


def test_an_entry_can_be_used_again_after_it_was_closed(tmp_path: Path) -> None:
    entry = Journal(tmp_path).open_entry("job-1", "balance", 7)
    entry.settle(entry.plan("a"))
    entry.close()
    entry.plan("b")
    (found,) = restarted(tmp_path)
    assert [step.what for step in found.open] == ["b"]


def test_unfinished_entries_are_found_by_any_volume_they_name(tmp_path: Path) -> None:
    entry = Journal(tmp_path).open_entry("batch", "balance", 0)
    entry.plan("freeze", volume_id=7)
    entry.plan("freeze", volume_id=9)
    assert entry.volume_ids == (7, 9)
    assert [found.job_id for found in Journal(tmp_path).unfinished(9)] == ["batch"]
    assert Journal(tmp_path).unfinished(8) == []


@pytest.mark.parametrize("job_id", ["../../etc/passwd", "/abs", "", "a" * 4000, "..", "ü\0\n", "a/b"])
def test_no_job_id_becomes_a_path(tmp_path: Path, job_id: str) -> None:
    Journal(tmp_path).open_entry(job_id, "vacuum", 7).plan("a")
    assert only_file(tmp_path).parent == tmp_path
    (found,) = restarted(tmp_path)
    assert found.job_id == job_id


def test_ids_that_look_alike_do_not_share_a_file() -> None:
    assert safe_name("a/b") != safe_name("a_b")


def test_steps_can_be_planned_from_several_threads(tmp_path: Path) -> None:
    entry = Journal(tmp_path).open_entry("job-1", "balance", 0)
    with ThreadPoolExecutor(8) as pool:
        steps = list(pool.map(lambda n: entry.plan("freeze", volume_id=n), range(1, 33)))
    assert len({step.number for step in steps}) == 32
    (found,) = restarted(tmp_path)
    assert found.volume_ids == tuple(range(1, 33))


def test_a_step_that_cannot_be_written_fails_and_is_not_open(tmp_path: Path) -> None:
    entry = Journal(tmp_path / "gone").open_entry("job-1", "vacuum", 7)
    (tmp_path / "gone").rmdir()
    with pytest.raises(TaskError, match="nothing further was changed"):
        entry.plan("freeze")
    assert entry.open == []


def test_a_damaged_file_is_set_aside_and_the_others_are_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open_entry("good", "vacuum", 7).plan("a")
    (tmp_path / f"bad{SUFFIX}").write_bytes(b"\0\0\0\0\n\0\n")
    assert [entry.job_id for entry in journal.unfinished()] == ["good"]
    assert [path.name for path in journal.damaged()] == ["bad.damaged"]


def test_an_entry_in_memory_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entry = Journal.memory("job-1", "vacuum", 7)
    step = entry.plan("a", volume_id=7)
    entry.fact(b=1)
    assert (entry.open, entry.facts) == ([step], {"b": 1})
    entry.settle(step)
    entry.close()
    assert (entry.open, list(tmp_path.iterdir())) == ([], [])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_file_cut_at_any_byte_still_tells_every_step_that_was_planned_before(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        entry = Journal(directory).open_entry("job", "vacuum", 7)
        written = []  # (length of the file, open steps) after each append
        for _ in range(data.draw(st.integers(1, 6))):
            settle: bool = data.draw(st.booleans())
            if entry.open and settle:
                entry.settle(data.draw(st.sampled_from(entry.open)))
            else:
                entry.plan("step", note=data.draw(st.text(max_size=10)))
            written.append((only_file(directory).stat().st_size, entry.open))
        entry_file = only_file(directory)
        cut = data.draw(st.integers(0, written[-1][0]))
        os.truncate(entry_file, cut)
        expected = max(((size, steps) for size, steps in written if size <= cut), default=(0, []), key=lambda w: w[0])
        assert [step for found in restarted(directory) for step in found.open] == expected[1]
        # The next run goes on behind the torn line.
        later = Journal(directory).open_entry("job", "vacuum", 7)
        added = later.plan("later")
        assert [step for found in restarted(directory) for step in found.open] == [*expected[1], added]
