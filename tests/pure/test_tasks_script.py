"""Scripts of weed shell's commands: their words, their flags, and what each becomes here."""

from __future__ import annotations

import hashlib
import time

import pytest

from weed_core import model
from weed_core.errors import BadTask, ConfigError
from weed_core.job_types import TASK_TYPES
from weed_core.model import DetectionRequest
from weed_core.values import Value
from weed_safety.context import Context
from weed_tasks import load
from weed_tasks.admin_script.commands import COMMANDS, MOST_AT_ONCE, Order, orders
from weed_tasks.admin_script.housekeeping import day_of, margin
from weed_tasks.admin_script.plan import DESCRIPTOR, USUAL, detect
from weed_tasks.admin_script.script import digest, parse

MASTERS = """
  lock
  ec.encode -fullPercent=95 -quietFor=1h
  ec.rebuild -force
  ec.balance -force
  volume.deleteEmpty -quietFor=24h -force
  volume.balance -force
  volume.fix.replication
  s3.clean.uploads -timeAgo=24h
  unlock
"""
"""What masters run where no admin is connected, by their own scaffold."""


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("a -x=1\nb", ["a -x=1", "b"]),
        ("a;b ; c -y", ["a", "b", "c -y"]),
        ("# all\r\n\r\na -x # but\r\n;;b", ["a -x", "b"]),
        ("a -c='x;y # z' ; b -d \"p q\"", ["a -c=x;y # z", "b -d p q"]),
        ("a -disk=h:1#2", ["a -disk=h:1#2"]),
        ("  ", []),
    ],
)
def test_commands_end_at_lines_and_semicolons_and_quotes_keep_what_is_in_them(text: str, commands: list[str]) -> None:
    assert [line.text for line in parse(text)] == commands


def test_a_word_in_quotes_is_one_word() -> None:
    (line,) = parse("volume.balance -collection 'my photos' -racks=\"r1,r2\"")
    assert line.words == ("-collection", "my photos", "-racks=r1,r2")


def test_a_quote_that_does_not_end_is_told_with_its_line() -> None:
    with pytest.raises(BadTask, match="line 2: a quote \\('\\) does not end"):
        orders("volume.vacuum\nvolume.balance -collection='x")


def test_a_script_is_known_by_the_hash_of_what_an_admin_has_stored() -> None:
    assert digest("  a\r\nb\n") == hashlib.sha256(b"a\nb").hexdigest()


@pytest.mark.parametrize(("script", "count"), [(USUAL, 4), (MASTERS, 7)])
def test_the_scripts_that_admins_and_masters_begin_with_are_known_whole(script: str, count: int) -> None:
    assert len(orders(script)) == count


def test_every_setting_of_every_command_is_one_of_its_job_type() -> None:
    every = """
        volume.deleteEmpty -quietFor=1h -collectionPattern=a* -apply
        volume.fix.replication -collectionPattern=a? -apply -doDelete=false -doCheck -retry=3 -volumesPerStep 2 -verbose
        volume.balance -collection=a -dataCenter=d -racks=r1,r2 -nodes=h:1 -ioBytePerSecond=5 -apply -volumesPerExec=3
        volume.vacuum -garbageThreshold=0.1 -collection=a -volumeId=3,4
        volume.tier.upload -dest=s3.default -collection=a -fullPercent=50 -quietFor=2h -keepLocalDatFile
        volume.tier.move -fromDiskType=ssd -toDiskType=hdd -fromDataCenter=d -toDataCenter=e -parallelLimit=3 -apply
        volumeServer.evacuate -node=h:8080 -skipNonMoveable -apply
        ec.encode -collection=a -fullPercent=95 -quietFor=1h -maxParallelization=3 -shardReplicaPlacement=020
        ec.rebuild -collection=a -volumeIds=3 -apply
        ec.balance -collection=a -dataCenter=d -diskType=hdd -shardReplicaPlacement=020 -ioBytePerSecond=5 -apply
        fs.log.purge -daysAgo=3 -v; s3.clean.uploads -timeAgo=1h30m
    """
    read = orders(every)
    assert {order.line.name for order in read} == {*COMMANDS}
    assert {command.job_type for command in COMMANDS.values()} <= {"", *TASK_TYPES}
    for order in read:
        if order.job_type:
            descriptor = load([order.job_type])[order.job_type].DESCRIPTOR
            _settings, warnings = model.settings(descriptor, order.settings)
            assert warnings == [], order.line.text


def only(script: str) -> Order:
    (order,) = orders(script)
    return order


def test_what_changes_volumes_in_the_shell_only_with_apply_does_so_here() -> None:
    assert not only("volume.balance").is_applied
    assert only("volume.balance -apply").is_applied
    assert only("volume.balance --force=true").is_applied
    assert not only("volume.balance -apply=false").is_applied
    assert only("volume.vacuum").is_applied
    assert only("ec.encode").is_applied


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("volume.balance -apply\nfs.rm -r /x", "line 2: no command 'fs.rm' here"),
        ("volume.vacum", "did you mean volume.vacuum"),
        ("volume.balance -byDiskUsage", "volume.balance has no flag -byDiskUsage here"),
        ("ec.encode -quietFor=1d", "-quietFor is a duration like 24h or 1h30m, not '1d'"),
        ("volume.vacuum 7", "takes flags only, not '7'"),
        ("volume.tier.upload", "needs -dest="),
        ("volume.vacuum -volumeId=x", "-volumeId is volume ids, by commas, not 'x'"),
    ],
)
def test_what_is_not_known_is_refused_by_name_and_says_who_could_do_it(script: str, says: str) -> None:
    with pytest.raises(BadTask) as failure:
        orders(script)
    assert says in str(failure.value)
    assert "Nothing of the script was run; a Go worker (weed worker -jobType=admin_script) can keep this" in str(
        failure.value
    )


def test_all_that_is_not_known_is_told_at_once() -> None:
    with pytest.raises(BadTask, match=r"line 1: no command 'a' .*; line 3: no command 'b'"):
        orders("a\nvolume.vacuum\nb")


def test_flags_become_settings() -> None:
    assert only("ec.encode").settings["collection_filter"] == "_default"
    assert only("ec.encode -collection=pho.*").settings["collection_filter"] == "(?:pho.*)"
    named = only("ec.encode -volumeId=7")
    assert (named.volume_ids, named.settings["fullness_ratio"], named.settings["quiet_for_seconds"]) == (
        frozenset({7}),
        0.0,
        0,
    )
    assert only("volume.deleteEmpty").settings["quiet_for_seconds"] == 86400
    assert only("volume.fix.replication -collectionPattern=a.b*").settings["collection_filter"] == r"^a\.b[^/]*$"
    assert only("volume.fix.replication").settings["delete_surplus"] is True
    assert only("ec.balance -maxParallelization=99 -apply").at_once == MOST_AT_ONCE
    assert only("volume.balance -volumesPerExec=3").most == 3
    assert only("volumeServer.evacuate -node h:1 -apply").goes_on


def test_the_form_is_the_one_that_admins_know() -> None:
    assert [field.name for field in DESCRIPTOR.fields] == ["script", "run_interval_minutes"]
    assert DESCRIPTOR.defaults == {"script": USUAL, "run_interval_minutes": 17}
    assert all(field.scope == "admin" for field in DESCRIPTOR.fields)


def nothing() -> Context:
    """What a look gets that is to ask nobody."""
    return Context(cluster=None, journal=None)  # type: ignore[arg-type]


def test_a_script_is_proposed_as_seaweedfs_own_worker_does_it() -> None:
    request = DetectionRequest("admin_script", {"script": USUAL, "script_name": "nightly"}, ())
    (proposal,) = detect(request, nothing()).proposals
    key = digest(USUAL)
    assert proposal.id.startswith(f"admin-script-{key[:8]}-")
    assert proposal.dedupe_key == f"admin-script:{key}"
    assert proposal.summary == "Run admin script: nightly"
    given = dict(proposal.parameters)
    assert (given["script"], given["script_name"], given["script_hash"]) == (USUAL, "nightly", key)
    assert given["command_count"] == 4


def test_a_script_waits_for_its_interval_and_one_without_commands_is_not_proposed() -> None:
    now = time.time()
    config: dict[str, Value] = {"script": "volume.vacuum", "run_interval_minutes": 10}
    early = detect(DetectionRequest("admin_script", config, (), last_run=now - 540), nothing())
    assert not early.proposals
    assert "it is due in 1m" in early.summary or "it is due in 60s" in early.summary
    assert detect(DetectionRequest("admin_script", config, (), last_run=now - 601), nothing()).proposals
    ahead = DetectionRequest("admin_script", config, (), last_run=now + 7200)
    assert detect(ahead, nothing()).proposals, "an admin's clock that is two hours ahead holds nothing back"
    assert not detect(DetectionRequest("admin_script", {"script": "lock; unlock"}, ()), nothing()).proposals
    with pytest.raises(BadTask, match="no command 'x'"):
        detect(DetectionRequest("admin_script", {"script": "x"}, ()), nothing())
    with pytest.raises(ConfigError, match="the script has no command"):
        detect(DetectionRequest("admin_script", {"script": "# x"}, (), is_single=True), nothing())


def test_clocks_that_differ_by_minutes_do_no_harm() -> None:
    assert margin(24 * 3600) == 600
    assert margin(3600) == 360
    assert margin(0) == 0
    assert str(day_of("2026-11-27")) == "2026-11-27"
    assert day_of("20261127") is None
    assert day_of("2026-13-01") is None
