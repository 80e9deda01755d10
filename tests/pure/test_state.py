"""What survives the process: the id and its lock, the results owed, the task logs; and the order of the outbox."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proto_gen import worker_pb2
from tests.support import eventually
from weed_agent.outbox import Outbox
from weed_core.errors import ConfigError
from weed_core.model import Job, Result
from weed_protocol.commands import (
    AskForWork,
    Completed,
    Goodbye,
    Heartbeat,
    Hello,
    Progress,
    Report,
    RunJob,
    SendLog,
    Status,
)
from weed_state import task_log, told_failures
from weed_state.debts import KILLED, Debts
from weed_state.identity import claim

STATUS = Status("idle", (), 0, 2, 0, 1, {}, 0, 0, 1.0)


def run_job(job_id: str, request_id: str = "r1") -> RunJob:
    return RunJob(request_id, Job(job_id, "vacuum", worker_pb2.TaskParams(volume_id=7)))


def done(job_id: str, request_id: str = "r1", error: str = "") -> Completed:
    return Completed(request_id, job_id, "vacuum", 5.0, None if error else Result("fine", {"bytes": 3}), error)


# ---- identity ------------------------------------------------------------------------------------------------------


def test_an_id_is_made_once_and_kept(tmp_path: Path) -> None:
    first = claim(tmp_path)
    first.lock.close()
    assert first.worker_id.startswith("w-")
    assert (tmp_path / "worker.id").read_text() == first.worker_id
    assert claim(tmp_path).worker_id == first.worker_id


def test_an_id_written_by_another_worker_is_taken_over_without_its_newline(tmp_path: Path) -> None:
    (tmp_path / "worker.id").write_text("w-host1-beef\n")
    assert claim(tmp_path).worker_id == "w-host1-beef"


def test_an_explicit_id_leaves_the_file_alone(tmp_path: Path) -> None:
    assert claim(tmp_path, "night.shift").worker_id == "night.shift"
    assert not (tmp_path / "worker.id").exists()


def test_a_second_process_is_refused_and_told_who_holds_the_directory(tmp_path: Path) -> None:
    code = f"import sys; sys.path[:0] = {sys.path!r}\nfrom pathlib import Path\nfrom weed_state.identity import claim\n"
    code += f"kept = claim(Path({str(tmp_path)!r})); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match=f"belongs to a running worker \\(process {holder.pid}\\)"):
        claim(tmp_path)
    holder.communicate("", timeout=10)
    assert claim(tmp_path).worker_id


@pytest.mark.parametrize("bad", ["../up", "a b", "-x", "x" * 200])
def test_an_id_that_could_be_a_path_is_refused(tmp_path: Path, bad: str) -> None:
    with pytest.raises(ConfigError, match="no worker id"):
        claim(tmp_path, bad)


# ---- debts ---------------------------------------------------------------------------------------------------------


def test_a_result_is_owed_until_it_is_paid_and_survives_a_restart(tmp_path: Path) -> None:
    debts = Debts(tmp_path)
    debts.take("plugin", "w1", run_job("j1"))
    debts.finish(done("j1"))
    debts.keep()
    again = Debts(tmp_path)
    assert again.due("plugin", "w1", ()) == [done("j1")]
    again.pay(done("j1"))
    again.keep()
    assert Debts(tmp_path).due("plugin", "w1", ()) == []


def test_a_job_that_died_with_the_process_is_reported_as_failed(tmp_path: Path) -> None:
    debts = Debts(tmp_path)
    debts.take("classic", "w1", run_job("j1", ""))
    debts.keep()
    (lost,) = Debts(tmp_path).due("classic", "w1", ())
    assert (lost.job_id, lost.error, lost.success) == ("j1", KILLED, False)
    assert lost.finished_at > 0


def test_a_running_job_owes_nothing_yet(tmp_path: Path) -> None:
    debts = Debts(tmp_path)
    debts.take("classic", "w1", run_job("j1"))
    assert debts.due("classic", "w1", {("j1", "r1")}) == []


def test_debts_go_only_to_the_dialect_and_id_that_took_the_job(tmp_path: Path) -> None:
    debts = Debts(tmp_path)
    debts.take("classic", "w1-vacuum", run_job("j1"))
    debts.finish(done("j1"))
    assert debts.due("plugin", "w1-vacuum", ()) == []
    assert debts.due("classic", "w1", ()) == []
    assert len(debts.due("classic", "w1-vacuum", ())) == 1


def test_two_attempts_of_one_job_are_two_debts(tmp_path: Path) -> None:
    debts = Debts(tmp_path)
    for request in ("r1", "r2"):
        debts.take("plugin", "w1", run_job("../j1", request))
        debts.finish(done("../j1", request))
    debts.keep()
    assert len(Debts(tmp_path).due("plugin", "w1", ())) == 2
    assert all(path.parent == tmp_path for path in tmp_path.rglob("*"))


def test_a_damaged_debt_is_set_aside_and_the_others_are_kept(tmp_path: Path) -> None:
    debts = Debts(tmp_path)
    debts.take("plugin", "w1", run_job("j1"))
    debts.keep()
    (tmp_path / "torn.json").write_bytes(b'{"job_id": "j2"')
    assert [lost.job_id for lost in Debts(tmp_path).due("plugin", "w1", ())] == ["j1"]
    assert (tmp_path / "torn.damaged").exists()


def test_paying_an_earlier_result_does_not_pay_for_the_job_given_again(tmp_path: Path) -> None:
    debts = Debts(tmp_path)
    debts.take("classic", "w1", run_job("j1", ""))
    debts.finish(done("j1", "", error="no"))
    debts.take("classic", "w1", run_job("j1", ""))
    debts.pay(done("j1", "", error="no"))
    debts.keep()
    assert [lost.error for lost in Debts(tmp_path).due("classic", "w1", ())] == [KILLED]


def test_a_lost_job_is_paid_for_once_its_failure_is_told(tmp_path: Path) -> None:
    debts = Debts(tmp_path)
    debts.take("classic", "w1", run_job("j1", ""))
    debts.keep()
    debts = Debts(tmp_path)
    (lost,) = debts.due("classic", "w1", ())
    debts.pay(lost)
    debts.keep()
    assert len(debts) == len(Debts(tmp_path)) == 0


def test_a_job_handed_back_stays_so_over_a_restart(tmp_path: Path) -> None:
    debts = Debts(tmp_path)
    debts.take("plugin", "w1", run_job("j1"))
    debts.finish(Completed("r1", "j1", "vacuum", 5.0, error="full", at_capacity=True))
    debts.keep()
    assert [kept.at_capacity for kept in Debts(tmp_path).due("plugin", "w1", ())] == [True]


def test_a_disk_that_takes_nothing_loses_no_result_while_the_process_lives(tmp_path: Path) -> None:
    debts = Debts(tmp_path / "owed")
    (tmp_path / "owed").rmdir()
    (tmp_path / "owed").write_text("no directory any more")
    debts.take("classic", "w1", run_job("j1"))
    debts.finish(done("j1"))
    debts.keep()
    assert debts.due("classic", "w1", ()) == [done("j1")]
    debts.pay(done("j1"))
    debts.keep()
    told_failures.leak(tmp_path / "owed", "w1")
    assert (len(debts), told_failures.leaked(tmp_path / "owed", "w1")) == (0, 0)


def test_many_results_are_put_on_disk_together_and_only_as_they_stand_in_the_end(tmp_path: Path) -> None:
    called: list[int] = []
    debts = Debts(tmp_path, lambda: called.append(1))
    for number in range(50):
        debts.take("plugin", "w1", run_job(f"j{number}"))
        debts.finish(done(f"j{number}"))
    for number in range(20):
        debts.pay(done(f"j{number}"))
    assert (len(debts), len(called), list(tmp_path.iterdir())) == (30, 120, [])
    debts.keep()
    assert len(list(tmp_path.glob("*.json"))) == 30
    assert {owed.job_id for owed in Debts(tmp_path).due("plugin", "w1", ())} == {f"j{n}" for n in range(20, 50)}


def test_whoever_keeps_debts_returns_only_when_his_own_are_on_disk(tmp_path: Path) -> None:
    debts = Debts(tmp_path)

    def owe(number: int) -> bool:
        debts.take("plugin", "w1", run_job(f"j{number}"))
        debts.keep()
        return any(f"j{number}_" in path.name for path in tmp_path.glob("*.json"))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(owe, range(100)))


def test_two_ids_that_read_the_same_together_are_two_debts(tmp_path: Path) -> None:
    debts = Debts(tmp_path)
    for job_id, request_id in (("a@b", "c"), ("a", "b@c")):
        debts.take("plugin", "w1", run_job(job_id, request_id))
    debts.keep()
    assert len(Debts(tmp_path)) == 2


def test_a_debt_that_an_older_worker_kept_is_removed_when_it_is_paid(tmp_path: Path) -> None:
    debts = Debts(tmp_path)
    debts.take("plugin", "w1", run_job("j1"))
    debts.keep()
    (file,) = tmp_path.iterdir()
    file.rename(tmp_path / "j1_r1-0123456789ab.json")
    debts = Debts(tmp_path)
    debts.pay(debts.due("plugin", "w1", ())[0])
    debts.keep()
    assert list(tmp_path.iterdir()) == []


# ---- outbox --------------------------------------------------------------------------------------------------------


def collect(outbox: Outbox) -> list[str]:
    return [message.decode() for message in outbox.messages()]


def name(report: Report) -> list[bytes]:
    return [f"{type(report).__name__} {getattr(report, 'fraction', '')}".strip().encode()]


def test_hello_is_first_and_completions_pass_news() -> None:
    outbox = Outbox(name, lambda report: None)
    outbox.put(Heartbeat(STATUS))
    outbox.put(done("j1"))
    outbox.put(Goodbye("bye"))
    outbox.end()
    assert collect(outbox) == ["Hello", "Completed", "Goodbye"]


def test_nothing_is_taken_behind_the_end() -> None:
    outbox = Outbox(name, lambda report: None)
    outbox.put(Goodbye("bye"))
    outbox.end()
    outbox.put(done("j1"))
    assert collect(outbox) == ["Hello", "Goodbye"]
    assert outbox.is_drained()


def test_only_the_newest_news_is_sent_and_none_behind_a_completion() -> None:
    sent: list[Report] = []
    outbox = Outbox(name, sent.append)
    for fraction in (0.1, 0.2):
        outbox.put(Progress("r1", "j1", "vacuum", fraction, "x"))
        outbox.put(Progress("r2", "j2", "vacuum", fraction, "x"))
        outbox.put(Heartbeat(STATUS))
    outbox.put(done("j1"))
    reader = threading.Thread(target=collect, args=(outbox,), daemon=True)
    reader.start()
    eventually(lambda: len(sent) == 4)
    outbox.end()
    reader.join(5)
    assert [type(report) for report in sent] == [Hello, Completed, Heartbeat, Progress]
    assert isinstance(sent[3], Progress)
    assert (sent[3].job_id, sent[3].fraction) == ("j2", 0.2)


def test_a_heartbeat_passes_the_answers_where_they_never_end() -> None:
    now = [0.0]
    outbox = Outbox(name, lambda report: None, clock=lambda: now[0])
    messages = outbox.messages()
    outbox.put(Heartbeat(STATUS))
    for number in range(9):
        outbox.put(done(f"j{number}"))
    taken = []
    for _ in range(8):
        taken.append(next(messages).decode())
        now[0] += 0.15
        outbox.put(Heartbeat(STATUS))
    assert taken == ["Hello", *["Completed", "Heartbeat"] * 3, "Completed"]
    outbox.put(Goodbye("bye"))
    outbox.end()
    rest = [message.decode() for message in messages]
    assert rest.count("Completed") == 5
    assert rest[-1] == "Goodbye"


def test_a_heartbeat_that_passes_a_question_goes_behind_it_again() -> None:
    now = [0.0]
    outbox = Outbox(name, lambda report: None, clock=lambda: now[0])
    messages = outbox.messages()
    assert next(messages) == b"Hello"
    now[0] = 1.0
    outbox.put(AskForWork(1))
    outbox.put(Heartbeat(STATUS))
    assert [next(messages).decode() for _ in range(3)] == ["Heartbeat", "AskForWork", "Heartbeat"]


def test_a_stream_that_stood_still_for_too_long_is_ended_unsent() -> None:
    # An admin gives a stream up after two minutes of silence; before 4.44 it crashes on what comes after.
    now = [0.0]
    sent: list[Report] = []
    outbox = Outbox(name, sent.append, clock=lambda: now[0])
    taken: list[str] = []
    reader = threading.Thread(target=lambda: taken.extend(collect(outbox)), daemon=True)
    reader.start()
    for number, at in enumerate((0.0, 100.0), start=1):
        eventually(lambda number=number: len(sent) == number)  # type: ignore[misc]
        now[0] = at
        outbox.put(Heartbeat(STATUS))
    eventually(lambda: len(sent) == 3)
    now[0] = 220.0
    outbox.put(done("j1"))
    reader.join(5)
    assert not reader.is_alive()
    assert taken == ["Hello", "Heartbeat", "Heartbeat"]


# ---- task logs -----------------------------------------------------------------------------------------------------


def ask(task_id: str, **wishes: int | str) -> SendLog:
    wanted = {"max_entries": 0, "level": "", "start_time": 0, "end_time": 0, **wishes}
    return SendLog(task_id, "w1", True, **wanted)  # type: ignore[arg-type]


def test_a_log_is_answered_with_its_lines_and_metadata(tmp_path: Path) -> None:
    job = run_job("vacuum_vol_7_1").job
    lines = task_log.TaskLog(tmp_path, job, "w1", "127.0.0.11:8080")
    lines.line("compacting", progress=10.0)
    lines.line("slow disk", "WARNING", {"server": "127.0.0.11:8080"})
    lines.close("failed", "the disk is full")
    answer = task_log.answer(tmp_path, ask(job.id))
    assert [(entry.level, entry.message) for entry in answer.entries] == [
        ("INFO", "compacting"),
        ("WARNING", "slow disk"),
        ("ERROR", "the disk is full"),
    ]
    assert answer.metadata is not None
    assert (answer.metadata.status, answer.metadata.volume_id, answer.metadata.progress) == ("failed", 7, 10.0)
    assert [entry.message for entry in task_log.answer(tmp_path, ask(job.id, level="warning")).entries] == ["slow disk"]
    assert [entry.level for entry in task_log.answer(tmp_path, ask(job.id, max_entries=1)).entries] == ["ERROR"]
    assert task_log.answer(tmp_path, ask(job.id, start_time=2**40)).entries == ()


def test_an_unknown_task_is_answered_with_an_error(tmp_path: Path) -> None:
    assert "log directory" in task_log.answer(tmp_path, ask("nothing")).error


def test_a_torn_line_ends_the_answer_and_keeps_the_lines_before(tmp_path: Path) -> None:
    job = run_job("t1").job
    task_log.TaskLog(tmp_path, job, "w1", "").line("whole")
    (file,) = tmp_path.rglob("task.log")
    file.write_text(file.read_text() + '{"timestamp": "2026-')
    assert [entry.message for entry in task_log.answer(tmp_path, ask("t1")).entries] == ["whole"]


def test_the_newest_hundred_logs_are_kept(tmp_path: Path) -> None:
    for number in range(103):
        task_log.TaskLog(tmp_path, run_job(f"t{number}").job, "w1", "").close("completed")
    assert len(list(tmp_path.iterdir())) == task_log.KEPT
    assert task_log.answer(tmp_path, ask("t102")).error == ""


def test_a_task_id_never_leaves_the_log_directory(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    task_log.TaskLog(directory, run_job("../../evil/..").job, "w1", "").line("here")
    assert list(tmp_path.iterdir()) == [directory]
    assert task_log.answer(directory, ask("../../evil/..")).entries[0].message == "here"


def test_the_files_are_those_of_the_go_worker(tmp_path: Path) -> None:
    job = run_job("ab12-0001").job
    task_log.TaskLog(tmp_path, job, "w-x-1", "s:1").close("completed")
    (directory,) = tmp_path.iterdir()
    assert directory.name.startswith("ab12-0001_vacuum_w-x-1_")
    metadata = json.loads((directory / "metadata.json").read_text())
    assert {"task_id", "task_type", "worker_id", "start_time", "end_time", "duration", "status"} <= set(metadata)
