"""Journals that an older version left, tests/golden/journal: read as they are, settled, and refused where too new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster
from weed_core.errors import TaskError
from weed_safety import steps
from weed_safety.freeze import Freeze
from weed_safety.journal import SUFFIX, Entry, Journal
from weed_tasks import NAMES, execute, load

GOLDEN = Path(__file__).parent.parent / "golden" / "journal"
NAMES_OF_GOLDEN = sorted(path.stem for path in GOLDEN.iterdir())

NOWHERE = {"ec_balance-remove": "ec.rebuild restores it"}
"""What must not be called undone where neither server has anything of the volume."""

LONG_AGO = 1_600_000_000.0


def told(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (GOLDEN / f"{name}{SUFFIX}").read_text().splitlines()]


def kinds_of(word: str, job_type: str) -> list[type[Any]]:
    """The kinds that a job type's journal may have under a word."""
    declared = [kind for kind, one in steps.KINDS.items() if one == word]
    return [kind for kind in declared if not kind.__module__.startswith("weed_tasks.") or job_type in kind.__module__]


def test_each_kind_of_step_has_a_golden_journal() -> None:
    load(NAMES)
    seen = {
        kind
        for name in NAMES_OF_GOLDEN
        for line in told(name)
        if "plan" in line
        for kind in kinds_of(line["what"], told(name)[0]["job_type"])
    }
    assert {kind for kind in steps.KINDS if not kind.__module__.startswith("tests.")} == seen


@pytest.mark.parametrize("name", NAMES_OF_GOLDEN)
def test_a_golden_journal_is_read_and_would_be_written_again_byte_for_byte(name: str, tmp_path: Path) -> None:
    load(NAMES)
    about, *lines = told(name)
    written = [json.dumps(line["facts"]) for line in lines if "plan" in line]
    old, new = (Journal(tmp_path / place) for place in ("old", "new"))
    again = new.open_entry(about["job_id"], about["job_type"], about["volume_id"])
    for number, line in enumerate(line for line in lines if "plan" in line):
        step = old.open_entry(f"{number}", about["job_type"], 0).plan(line["what"], **line["facts"])
        (kind,) = kinds_of(line["what"], about["job_type"])
        read = steps.read(step, kind)
        assert read is not None
        steps.plan(again, read.change)
    found = [json.loads(line) for line in next((tmp_path / "new").iterdir()).read_text().splitlines()[1:]]
    assert [json.dumps(line["facts"]) for line in found] == written
    assert [line["what"] for line in found] == [line["what"] for line in lines if "plan" in line]


@pytest.mark.parametrize("name", NAMES_OF_GOLDEN)
def test_what_a_golden_journal_has_open_is_settled_and_its_volume_opened(
    name: str, make_sandbox_cluster: Any, tmp_path: Path
) -> None:
    text = (GOLDEN / f"{name}{SUFFIX}").read_text()
    freezes = [line["facts"] for line in told(name) if line.get("what") == "freeze"]
    names = list(dict.fromkeys(_addresses(told(name)[1:])))
    cluster: Cluster = make_sandbox_cluster(servers=max(3, len(names)))
    places = dict(zip(names, cluster.servers))
    frozen = [places[facts["server"]] for facts in freezes]
    files = cluster.fill(count=3, servers=list(dict.fromkeys(frozen)) or cluster.servers[:1])
    for facts, server in zip(freezes, frozen):
        cluster.volume(server).volume_mark_readonly(volume_id=files.volume_ids[0], persist=facts["persist"])
    for old, server in places.items():
        text = text.replace(f'"{old}"', f'"{server.address}"')
    document = [_retold(json.loads(line), files.volume_ids[0], cluster) for line in text.splitlines()]
    directory = tmp_path / "journal"
    Journal(directory)
    (directory / f"{name}{SUFFIX}").write_text("".join(json.dumps(line) + "\n" for line in document))
    (entry,) = Journal(directory).unfinished()
    outcome = execute.undo(entry, cluster.context(entry))
    if name in NOWHERE:
        assert NOWHERE[name] in outcome.reason
        assert Journal(directory).count() == 1
        return
    assert outcome.reason == ""
    assert Journal(directory).count() == 0
    (volume_id,) = files.volume_ids
    holders = [server for server in cluster.servers if server.files(f"{volume_id}.dat")]
    assert holders
    assert not any(cluster.volume(one).volume_status(volume_id=volume_id).is_read_only for one in holders)
    for holder in holders:
        for fid in files:
            assert cluster.read(fid, holder)


def test_a_step_that_only_a_newer_version_knows_is_refused_and_stays(cluster: Cluster, tmp_path: Path) -> None:
    a = cluster.servers[0]
    files = cluster.fill(count=1, servers=[a])
    (volume_id,) = files.volume_ids
    entry = Journal(tmp_path).open_entry("newer", "vacuum", volume_id)
    entry.plan("freeze", server=str(a.address), volume_id=volume_id, persist=True)
    entry.plan("fold", server=str(a.address), volume_id=volume_id)
    cluster.volume(a).volume_mark_readonly(volume_id=volume_id, persist=True)
    outcome = execute.undo(entry, cluster.context(entry))
    assert "this version knows no step 'fold' of vacuum newer; nothing of it was undone" in outcome.reason
    (left,) = Journal(tmp_path).unfinished()
    assert [step.what for step in left.open] == ["freeze", "fold"]


@pytest.mark.parametrize(
    "facts",
    [
        {"server": "127.0.0.1:1", "volume_id": 7},
        {"server": "127.0.0.1:1", "volume_id": 7, "persist": "yes"},
        {"server": "nowhere", "volume_id": 7, "persist": True},
    ],
)
def test_facts_that_do_not_fit_are_named_and_not_guessed(facts: dict[str, Any]) -> None:
    entry = Entry("job", "vacuum", 7, {})
    step = entry.plan("freeze", **facts)
    with pytest.raises(TaskError, match="step 1 of the journal, 'freeze', is not as this version writes it"):
        steps.read(step, Freeze)


def test_a_fact_that_a_newer_version_added_is_passed_over() -> None:
    entry = Entry("job", "vacuum", 7, {})
    entry.plan("freeze", server="127.0.0.1:1", volume_id=7, persist=True, why="vacuum")
    assert [one.change.persist for one in steps.of_kind(entry, Freeze)] == [True]


def _addresses(lines: list[dict[str, Any]]) -> list[str]:
    """The servers that steps name, in order."""
    found = []
    for line in lines:
        facts = line.get("facts", {})
        found += [facts[key] for key in ("server", "source", "target", "for_server") if key in facts]
        found += [*facts.get("sources", []), *facts.get("servers", []), *facts.get("shards", {})]
    return found


def _retold(line: dict[str, Any], volume_id: int, cluster: Cluster) -> dict[str, Any]:
    """A line of a golden journal with this cluster's volume and master, and its times long over."""
    changed = {"volume_id": volume_id, "until": LONG_AGO, "collection": "", "replication": "000"}
    changed |= {"master": str(cluster.master), "masters": [str(cluster.master)]}
    facts = line.get("facts", {})
    facts |= {key: value for key, value in changed.items() if key in facts}
    return line | ({"volume_id": volume_id} if line.get("volume_id") else {})
