"""Files that somebody else put into the working directory, or that are damaged: none is followed or believed."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto_gen import worker_pb2
from weed_agent.flag_sources import Option, read_options
from weed_agent.recovery import Recovery
from weed_core.errors import ConfigError
from weed_core.files import Untrusted, own_directory, read_named, read_ours, write_durably
from weed_core.model import Job
from weed_protocol import classic, plugin
from weed_protocol.commands import Identity, SendLog
from weed_safety.journal import Journal, peek
from weed_state import task_log, told_failures
from weed_state.debts import Debts
from weed_state.identity import claim
from weed_tasks.slots import Held

Plant = Callable[[Path], None]
WHO = Identity("w1", "i1", "host", "v", (), 1, 1)


def link_to(target: Path) -> Plant:
    return lambda path: path.symlink_to(target)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def another_users(path: Path) -> None:
    path.write_bytes(b"{}")
    os.chown(path, 4242, 4242)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
PLANTS = [
    pytest.param(link_to(Path("/etc/passwd")), id="link"),
    pytest.param(link_to(Path("nowhere")), id="dangling link"),
    pytest.param(link_to(Path("/dev/zero")), id="link to a device"),
    pytest.param(fifo, id="fifo"),
    pytest.param(Path.mkdir, id="directory"),
    pytest.param(another_users, id="another user's", marks=needs_root),
]


@pytest.mark.parametrize("plant", PLANTS)
def test_only_a_plain_file_of_ours_is_read(tmp_path: Path, plant: Plant) -> None:
    plant(tmp_path / "x")
    with pytest.raises(Untrusted, match=str(tmp_path / "x")):
        read_ours(tmp_path / "x")


def test_a_file_is_read_no_further_than_its_bound(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 11)
    assert read_ours(tmp_path / "x", 11) == b"x" * 11
    with pytest.raises(Untrusted, match="has more than 10 bytes"):
        read_ours(tmp_path / "x", 10)
    with pytest.raises(Untrusted, match="is no plain file"):
        read_named(Path("/dev/zero"), 10)


def test_a_file_that_an_operator_names_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("v=1\n")
    (tmp_path / "named").symlink_to("real")
    assert list(read_options(str(tmp_path / "named"))) == [Option(1, "v", "-v=1")]


def test_an_options_file_that_would_never_end_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "options")
    for path in (tmp_path / "options", Path("/dev/zero")):
        with pytest.raises(ConfigError, match="is no plain file"):
            list(read_options(str(path)))


def test_writing_does_not_follow_a_link_that_lies_in_the_way(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("x", "x.tmp"):
        (tmp_path / name).symlink_to(victim)
    write_durably(tmp_path / "x", b"new")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "x").is_symlink()
    assert (tmp_path / "x").read_bytes() == b"new"


@needs_root
def test_a_directory_of_another_user_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "owed").mkdir()
    os.chown(tmp_path / "owed", 4242, 4242)
    with pytest.raises(Untrusted, match="belongs to another user"):
        own_directory(tmp_path / "owed")
    with pytest.raises(ConfigError, match="belongs to another user"):
        Debts(tmp_path / "owed")


# ---- the lock and the id -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["worker.lock", "worker.id"])
def test_a_link_in_place_of_the_lock_or_the_id_is_refused_and_what_it_points_to_is_kept(
    tmp_path: Path, name: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / name).symlink_to(victim)
    with pytest.raises(ConfigError, match="is a symbolic link"):
        claim(tmp_path)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["worker.lock", "worker.id"])
@pytest.mark.parametrize("plant", PLANTS)
def test_whatever_is_in_place_of_the_lock_or_the_id_is_refused_with_its_name(
    tmp_path: Path, name: str, plant: Plant
) -> None:
    plant(tmp_path / name)
    with pytest.raises(ConfigError, match=name) as raised:
        claim(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_lock_that_is_another_name_of_a_file_is_not_written_to(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.link(victim, tmp_path / "worker.lock")
    with pytest.raises(ConfigError, match="second name"):
        claim(tmp_path)
    assert victim.read_text() == "precious"


def test_a_working_directory_that_others_may_write_to_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    claim(tmp_path).lock.close()
    assert caplog.text == ""
    tmp_path.chmod(0o1777)
    claim(tmp_path).lock.close()
    assert "everybody may write to it" in caplog.text


# ---- results owed --------------------------------------------------------------------------------------------------

ODD: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
RECORD = {
    "taken_at": time.time(),
    "dialect": "plugin",
    "worker_id": "w1",
    "request_id": "r1",
    "job_id": "j1",
    "job_type": "vacuum",
    "finished_at": 5.0,
    "error": "",
    "cancelled": False,
    "at_capacity": False,
    "result": {"summary": "fine", "outputs": {"bytes": 3, "names": ["a"]}},
}


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(RECORD)), ODD), ODD, ODD)
def test_whatever_an_owed_result_holds_it_can_be_sent_or_is_set_aside(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], summary: Any, outputs: Any
) -> None:
    directory = tmp_path_factory.mktemp("owed")
    record = {**RECORD, "result": {"summary": summary, "outputs": outputs}, **changes}
    (directory / "a.json").write_text(json.dumps(record))
    (directory / "b.json").write_text(json.dumps({**RECORD, "job_id": "good"}))
    debts = Debts(directory)
    for dialect in (plugin, classic):
        for owed in debts.due("plugin", "w1", ()):
            list(dialect.encode(owed, WHO, 1.0))
    assert "good" in [owed.job_id for owed in debts.due("plugin", "w1", ())]


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_no_file_of_ours_among_the_results_is_set_aside_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, plant: Plant
) -> None:
    plant(tmp_path / "x.json")
    (tmp_path / "good.json").write_text(json.dumps(RECORD))
    assert [owed.job_id for owed in Debts(tmp_path).due("plugin", "w1", ())] == ["j1"]
    (line,) = caplog.messages
    assert "x.json" in line
    assert os.path.lexists(tmp_path / "x.damaged")


@pytest.mark.parametrize("text", ["9" * 30, "9" * 5000, "-1", "x", "4294967296"])
def test_a_count_of_failures_that_cannot_be_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "failures.w1").write_text(text)
    assert told_failures.leaked(tmp_path, "w1") == 0
    told_failures.leak(tmp_path, "w1")
    assert told_failures.leaked(tmp_path, "w1") == 1


# ---- the journal ---------------------------------------------------------------------------------------------------

ABOUT = {"job_id": "j1", "job_type": "vacuum", "volume_id": 7, "facts": {"masters": ["m:9333"]}}
STEP = {"plan": 1, "what": "freeze", "facts": {"server": "v:8080", "volume_id": 7}}


def starts_with(directory: Path) -> Held:
    """What an agent does at its start."""
    held = Held()
    Recovery(Journal(directory), held, lambda: None, lambda: None)  # type: ignore[arg-type,return-value]
    peek(directory)
    return held


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(ABOUT)), ODD),
    st.dictionaries(st.sampled_from(sorted(STEP)), ODD),
    st.dictionaries(st.sampled_from(["masters", "volume_id", "server"]), ODD),
    st.lists(ODD, max_size=2),
)
def test_whatever_a_journal_holds_the_worker_starts_and_the_others_are_undone(
    tmp_path_factory: pytest.TempPathFactory,
    about: dict[str, Any],
    step: dict[str, Any],
    facts: dict[str, Any],
    more: list[Any],
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    lines = [{**ABOUT, **about}, {**STEP, "facts": facts, **step}, *more]
    (directory / "a.journal").write_text("".join(json.dumps(line) + "\n" for line in lines))
    entry = Journal(directory).open_entry("good", "vacuum", 9)
    entry.plan("freeze", volume_id=9)
    entry.close()
    assert starts_with(directory).among([9])


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_no_file_of_ours_among_the_journals_is_set_aside(tmp_path: Path, plant: Plant) -> None:
    plant(tmp_path / "x.journal")
    assert not starts_with(tmp_path).among([7])
    assert [path.name for path in Journal(tmp_path).damaged()] == ["x.damaged"]


def test_a_journal_is_not_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    entry = Journal(tmp_path).open_entry("j1", "vacuum", 7)
    (tmp_path / "j1.journal").symlink_to(victim)
    with pytest.raises(Exception, match="is a symbolic link"):
        entry.plan("freeze")
    assert victim.read_text() == "precious"


# ---- task logs -----------------------------------------------------------------------------------------------------


def logged(directory: Path, name: str = "t1") -> task_log.TaskLog:
    return task_log.TaskLog(directory, Job(name, "vacuum", worker_pb2.TaskParams(volume_id=7)), "w1", "v:8080")


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["task_type", "start_time", "duration", "progress", "volume_id", "server"]), ODD)
)
def test_whatever_a_task_log_holds_the_answer_can_be_sent(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    directory = tmp_path_factory.mktemp("logs")
    logged(directory).close("completed")
    (path,) = directory.iterdir()
    about = json.loads((path / "metadata.json").read_text())
    (path / "metadata.json").write_text(json.dumps({**about, **changes}))
    odd = {"timestamp": "2026-01-01T00:00:00", "level": 5, "message": ["x"], **changes, "fields": changes}
    (path / "task.log").write_text(json.dumps(odd) + "\n")
    list(classic.encode(task_log.answer(directory, SendLog("t1", "w1", True, 0, "", 0, 0)), WHO, 1.0))


def test_a_task_log_is_bounded_in_bytes_and_still_tells_how_the_task_ended(tmp_path: Path) -> None:
    log = logged(tmp_path, "t" * 70_000_000)
    for _line in range(2000):
        log.line("x" * 100_000, fields={"name": "y" * 100_000})
    log.close("failed", "it ended " + "z" * 100_000)
    (path,) = tmp_path.iterdir()
    assert sum(file.stat().st_size for file in path.iterdir()) < task_log.LARGEST + 100_000
    assert "it ended zzz" in (path / "task.log").read_text().splitlines()[-1]


def test_a_dangling_link_among_the_task_logs_keeps_no_log_from_being_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "x").symlink_to("nowhere")
    with caplog.at_level(logging.WARNING):
        logged(tmp_path).line("hello")
    assert caplog.messages == []
    assert len(list(tmp_path.glob("t1_*/task.log"))) == 1
