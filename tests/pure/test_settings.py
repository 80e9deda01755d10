"""The command line: every spelling that Go's flag package takes, and one clear line for everything else."""

from __future__ import annotations

from datetime import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import weed_settings
from weed_errors import ConfigError
from weed_settings import USAGE, flags, normalise, parse, parse_duration, parse_task_types


@pytest.mark.parametrize(
    "words",
    [
        ["-admin=host:23646", "-maxConcurrent=3"],
        ["-admin", "host:23646", "-maxConcurrent", "3"],
        ["--admin=host:23646", "--maxConcurrent", "3"],
        ["worker", "-admin=host:23646", "-maxConcurrent=3"],
    ],
)
def test_every_go_spelling_of_a_flag_means_the_same(words: list[str]) -> None:
    settings = parse(words)
    assert str(settings.admin) == "host:23646"
    assert settings.max_execute == 3


def test_defaults_are_those_of_the_manual() -> None:
    settings = parse([])
    assert str(settings.admin) == "localhost:23646"
    assert settings.task_types == ("vacuum", "erasure_coding", "balance")
    assert (settings.max_execute, settings.max_detect) == (2, 1)
    assert (settings.heartbeat, settings.task_interval, settings.reconnect) == (30.0, 5.0, 5.0)
    assert (settings.metrics_port, settings.metrics_ip, settings.verbosity) == (0, "0.0.0.0", 0)


def test_the_line_from_the_manual_is_understood() -> None:
    line = "-admin=host:23646 -capabilities=vacuum,ec -maxConcurrent=2 -heartbeat=30s -taskInterval=5s -v=4"
    settings = parse(line.split())
    assert settings.task_types == ("vacuum", "erasure_coding")
    assert (settings.heartbeat, settings.task_interval, settings.verbosity) == (30.0, 5.0, 4)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-adm=h:1"], "unknown flag -adm"),
        (["-no=1"], "unknown flag -no"),
        (["-v"], "-v needs a value"),
        (["-admin", "-v=1"], "-admin needs a value"),
        (["extra"], "unexpected argument 'extra'"),
        (["-admin=host"], "'host' is no server address"),
        (["-admin=a:1,b:2"], "names 2 servers"),
        (["-heartbeat=30"], "'30' is no duration"),
        (["-heartbeat=-5s"], "no duration"),
        (["-capabilities=vacuum,sweep"], "unknown task type 'sweep'"),
        (["-capabilities="], "names no task type"),
        (["-jobType=everything"], "-jobType: unknown task type 'everything'"),
        (["-maxConcurrent=0"], "-maxConcurrent=0 is out of range"),
        (["-maxConcurrent=two"], "-maxConcurrent=two is no number"),
        (["-maxMBps=nan"], "out of range"),
        (["-protocol=rest"], "-protocol=rest is unknown; one of auto, plugin, classic"),
        (["-workingDir=/nonexistent/dir"], "is not a directory"),
        (["-window=vacuum=25:00-26:00"], "is no window"),
        (["-window=sweep=01:00-02:00"], "unknown task type 'sweep'"),
        (["-options=/nonexistent/file"], "cannot read -options="),
        (["-master=10.0.0.1"], "-master:"),
    ],
)
def test_a_wrong_flag_is_named_in_one_line(words: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(words)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("1m30s", 90), ("1.5h", 5400), ("500ms", 0.5), ("0", 0), ("2h45m", 9900)]
)
def test_go_durations_are_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@given(st.text())
def test_no_text_makes_the_duration_reader_fail_in_another_way(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except ValueError as error:
        assert "no duration" in str(error)  # noqa: PT017


@given(st.lists(st.text(max_size=20), max_size=6))
def test_no_command_line_ends_in_anything_but_settings_or_one_clear_error(words: list[str]) -> None:
    try:
        parse(words)
    except ConfigError as error:
        assert str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("ec", ("erasure_coding",)),
        ("remote,replication", ("remote_upload", "replication")),
        ("Vol.Vacuum, EC", ("vacuum", "erasure_coding")),
        ("vacuum,volume.vacuum", ("vacuum",)),
        ("volume_balance,ec-balance", ("balance", "ec_balance")),
        ("all", weed_settings.TASK_TYPES),
        ("heavy", ("erasure_coding", "remote_upload")),
    ],
)
def test_aliases_and_categories_name_task_types(text: str, names: tuple[str, ...]) -> None:
    assert parse_task_types(text) == names


def test_an_options_file_gives_flags_that_the_command_line_overrides(tmp_path: Path) -> None:
    file = tmp_path / "options"
    file.write_text("# the night shift\nadmin=night:23646\n-maxMBps 40\n\nv = 2  # chatty\n")
    settings = parse([f"-options={file}", "-v=0"])
    assert str(settings.admin) == "night:23646"
    assert (settings.total_rate, settings.verbosity) == (40e6, 0)


def test_an_unknown_name_in_an_options_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "options"
    file.write_text("admim=night:23646\n")
    with pytest.raises(ConfigError, match="unknown flag -admim"):
        parse([f"-options={file}"])


def test_a_profile_sets_what_no_flag_sets() -> None:
    assert parse(["-profile=background"]).max_execute == 1
    assert parse(["-profile=background"]).total_rate == 20e6
    both = parse(["-profile=background", "-maxMBps=7", "-maxConcurrent=5"])
    assert (both.total_rate, both.server_rate, both.max_execute) == (7e6, 10e6, 5)


def test_the_background_profile_leaves_heavy_work_for_the_night_unless_told_otherwise() -> None:
    assert {name: str(window) for name, window in parse(["-profile=background"]).windows.items()} == {
        "erasure_coding": "22:00-06:00",
        "remote_upload": "22:00-06:00",
    }
    assert list(parse(["-profile=background", "-window=vacuum=01:00-02:00"]).windows) == ["vacuum"]
    assert not parse(["-profile=fast"]).windows


def test_a_window_over_midnight_is_open_at_night_and_closed_at_noon() -> None:
    window = parse(["-window=ec=22:00-06:00,vacuum=01:00-02:00"]).windows["erasure_coding"]
    assert [window.is_open(time(hour)) for hour in (21, 22, 0, 5, 6, 12)] == [False, True, True, True, False, False]


def test_a_long_heartbeat_is_cut_to_what_admins_tolerate() -> None:
    assert parse(["-heartbeat=10m"]).heartbeat == weed_settings.LONGEST_SILENCE


def test_every_flag_of_the_usage_is_read() -> None:
    named = {line.split("=")[0].strip(" -") for line in USAGE.splitlines() if line.startswith("  -") and "=<" in line}
    assert set(flags([])) <= named
    assert len(named) > 25
    assert normalise([f"-{name}=x" for name in sorted(named)])
