"""The command line: every spelling that Go's flag package takes, and one clear line for everything else."""

from __future__ import annotations

import dataclasses
import re
from datetime import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weed_agent import settings as agent_settings
from weed_agent.settings import USAGE, WEED_FLAGS, flags, parse, parse_task_types, printed
from weed_console import flags as console_flags
from weed_core import job_types
from weed_core.errors import ConfigError
from weed_core.goflags import normalise, parse_duration, variable


@pytest.mark.parametrize(
    "words",
    [
        ["-admin=host:23646", "-maxConcurrent=3"],
        ["-admin", "host:23646", "-maxConcurrent", "3"],
        ["--admin=host:23646", "--maxConcurrent", "3"],
        ["worker", "-admin=host:23646", "-maxConcurrent=3"],
        ["-v=1", "-logtostderr=true", "worker", "-admin=host:23646", "-maxConcurrent=3"],
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
        (["worker", "-v=1", "worker"], "unexpected argument 'worker'"),
        (["-debug=6060"], "neither true nor false"),
        (["-logdir=/nonexistent"], "-logdir=/nonexistent is no directory"),
        (["-admin=host"], "'host' is no server address"),
        (["-admin=a:1,b:2"], "names 2 servers"),
        (["-heartbeat=30"], "'30' is no duration"),
        (["-heartbeat=-5s"], "no duration"),
        (["-v=5"], "-v=5 is out of range; it is from 0 to 4"),
        (["-metricsPort=70000"], "it is from 0 to 65535"),
        (["-capabilities=vacum"], "did you mean vacuum?"),
        (["-profile=backgroud"], "did you mean background?"),
        (["-maxConcurent=2"], "did you mean -maxConcurrent?"),
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
        ("all", job_types.TASK_TYPES),
        ("heavy", ("erasure_coding", "remote_upload", "tier_move")),
    ],
)
def test_aliases_and_categories_name_task_types(text: str, names: tuple[str, ...]) -> None:
    assert parse_task_types(text) == names


@pytest.mark.parametrize(("alias", "name"), job_types.ALIASES.items())
def test_every_other_name_is_understood_by_the_worker_and_by_the_console(alias: str, name: str) -> None:
    assert parse([f"-capabilities={alias}"]).task_types == (name,)
    assert parse([f"-jobType={alias}"]).task_types == (name,)
    assert console_flags.parse(["plan", alias]).job == name


@pytest.mark.parametrize(
    ("alias", "name"), [("volume.tier.upload", "remote_upload"), ("volume.replication", "replication")]
)
def test_what_the_shell_calls_a_job_is_understood(alias: str, name: str) -> None:
    assert parse_task_types(alias) == (name,)


def test_an_options_file_gives_flags_that_the_command_line_overrides(tmp_path: Path) -> None:
    file = tmp_path / "options"
    file.write_text("# the night shift\nadmin=night:23646\n-maxMBps 40\n\nv = 2  # chatty\n")
    settings = parse([f"-options={file}", "-v=0"])
    assert str(settings.admin) == "night:23646"
    assert (settings.total_rate, settings.verbosity) == (40e6, 0)


def test_an_unknown_name_in_an_options_file_is_passed_over_as_weed_does_and_told(tmp_path: Path) -> None:
    file = tmp_path / "options"
    file.write_text("admim=night:23646\nadmin: day:23646\ndebug\ndebug.port 6061\n")
    settings = parse([f"-options={file}"])
    assert (str(settings.admin), settings.debug_port) == ("day:23646", 6061)
    (warning,) = settings.warnings
    assert f"-options={file} names what is no flag here, and is ignored: admim (line 1; did you mean admin?)" == warning


def test_a_value_in_an_options_file_may_hold_what_begins_a_comment(tmp_path: Path) -> None:
    file = tmp_path / "options"
    file.write_text(f"pauseFile={tmp_path}/pause#1   # a comment\ntlsFallback\n")
    settings = parse([f"-options={file}"])
    assert (settings.pause_file, settings.tls_fallback) == (tmp_path / "pause#1", True)
    assert not parse([f"-options={file}", "-tlsFallback=false"]).tls_fallback


CHART = "-v=1 worker -admin=sw-admin.ns:23646.33646 -jobType=all -maxDetect=1 -maxExecute=4 -workingDir={dir}"
"""What SeaweedFS's own Helm chart has behind `weed -logtostderr=true` or `weed -logdir=/logs`."""


@pytest.mark.parametrize("first", ["-logtostderr=true", "-logdir={dir}"])
def test_the_line_of_seaweedfs_own_chart_is_understood(tmp_path: Path, first: str) -> None:
    line = f"{first} {CHART} -metricsPort=9327 -metricsIp=0.0.0.0 -heartbeat=15s -debug".format(dir=tmp_path)
    settings = parse(line.split())
    assert (settings.admin.host, settings.admin.grpc_port) == ("sw-admin.ns", 33646)
    assert (settings.task_types, settings.max_execute, settings.verbosity) == (job_types.TASK_TYPES, 4, 1)
    assert settings.log_dir == (tmp_path if "logdir" in first else None)
    assert settings.debug_port == 6060
    (warning,) = settings.warnings
    assert "no s3_lifecycle, iceberg_maintenance" in warning


WEED_ITSELF = (
    "-logtostderr -alsologtostderr=false -stderrthreshold=ERROR -vmodule=a=2 -log_backtrace_at=a.go:1 -log_max_files=3"
    " -log_max_size_mb=7 -log_rotate_hours=24 -log_json=t -log_compress=T -config_dir=/nonexistent"
)
WEED_WORKER = {
    "3.97": "-admin=h:1 -capabilities=vacuum,ec,remote,replication,balance -maxConcurrent=2 -heartbeat=30s"
    " -taskInterval=5s -workingDir=.",
    "4.13": "-admin=h:1 -capabilities=vacuum,ec,balance -maxConcurrent=2 -heartbeat=30s -taskInterval=5s -workingDir=."
    " -metricsPort=0 -metricsIp=0.0.0.0 -debug -debug.port=6060",
    "4.44": "-admin=h:1 -id=w1 -workingDir=. -jobType=default,iceberg -heartbeat=15s -reconnect=5s -maxDetect=1"
    " -maxExecute=4 -address=h -metricsPort=0 -metricsIp=0.0.0.0 -debug=true -debug.port=6060",
}


@pytest.mark.parametrize("release", WEED_WORKER)
@pytest.mark.parametrize("before", [True, False])
def test_every_flag_of_weed_worker_and_of_weed_itself_is_taken_on_both_sides_of_the_word(
    release: str, before: bool
) -> None:
    words = [*WEED_ITSELF.split(), "worker"] if before else ["worker", *WEED_ITSELF.split()]
    settings = parse([*words, *WEED_WORKER[release].split()])
    assert (settings.log_format, settings.log_files, settings.log_file_size) == ("json", 3, 7 << 20)
    said = settings.warnings[0]
    assert said.startswith(
        "-stderrthreshold, -vmodule, -log_backtrace_at, -log_rotate_hours, -log_compress mean nothing"
    )


def test_job_types_that_only_weed_worker_has_are_skipped_and_told() -> None:
    settings = parse(["-jobType=default,iceberg"])
    assert settings.task_types == job_types.CATEGORIES["default"]
    (warning,) = settings.warnings
    assert "no s3_lifecycle, iceberg_maintenance, and does the rest" in warning
    assert parse(["-jobType=vacuum,lifecycle"]).task_types == ("vacuum",)
    with pytest.raises(ConfigError, match="no task type but what this worker lacks \\(iceberg_maintenance\\)"):
        parse(["-jobType=iceberg"])
    assert parse(["-jobType=vacuum,ec"]).warnings == ()


def test_in_a_pod_a_stop_fits_into_the_time_before_the_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    settings = parse([])
    assert sum(settings.finish_and_undo) < settings.grace < 30
    assert "terminationGracePeriodSeconds" in settings.warnings[0]
    assert (parse(["-grace=55s"]).grace, parse(["-grace=55s"]).warnings) == (55, ())


@pytest.mark.parametrize(
    ("grace", "parts"), [("8h", (28670, 120)), ("60s", (24, 30)), ("20s", (8, 10)), ("0", (0, 120))]
)
def test_undoing_fits_into_the_grace_time(grace: str, parts: tuple[float, float]) -> None:
    assert parse([f"-grace={grace}"]).finish_and_undo == parts


def test_a_profile_sets_what_no_flag_sets() -> None:
    assert parse(["-profile=background"]).max_execute == 1
    assert parse(["-profile=background"]).total_rate == 20e6
    both = parse(["-profile=background", "-maxMBps=7", "-maxConcurrent=5"])
    assert (both.total_rate, both.server_rate, both.max_execute) == (7e6, 10e6, 5)


def test_the_background_profile_leaves_heavy_work_for_the_night_unless_told_otherwise() -> None:
    assert {name: str(window) for name, window in parse(["-profile=background"]).windows.items()} == {
        "erasure_coding": "22:00-06:00",
        "remote_upload": "22:00-06:00",
        "tier_move": "22:00-06:00",
    }
    assert list(parse(["-profile=background", "-window=vacuum=01:00-02:00"]).windows) == ["vacuum"]
    assert not parse(["-profile=fast"]).windows


def test_a_window_over_midnight_is_open_at_night_and_closed_at_noon() -> None:
    window = parse(["-window=ec=22:00-06:00,vacuum=01:00-02:00"]).windows["erasure_coding"]
    assert [window.is_open(time(hour)) for hour in (21, 22, 0, 5, 6, 12)] == [False, True, True, True, False, False]


def test_a_long_heartbeat_is_cut_to_what_admins_tolerate() -> None:
    assert parse(["-heartbeat=10m"]).heartbeat == agent_settings.LONGEST_SILENCE


def test_every_flag_of_the_usage_is_read() -> None:
    named = {line.split("=")[0].strip(" -") for line in USAGE.splitlines() if line.startswith("  -") and "=<" in line}
    assert set(flags([])) <= named
    assert len(named) > 25
    assert normalise([f"-{name}=x" for name in sorted(named)], USAGE, WEED_FLAGS)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("heartbeat=soon", "-heartbeat: 'soon' is no duration"),
        ("-maxExecute = 0", "-maxExecute=0 is out of range"),
        ("debug=maybe", "flag -debug is either given or not"),
        ("jobType: vacum", "did you mean vacuum?"),
    ],
)
def test_what_is_wrong_in_an_options_file_is_told_with_file_and_line(tmp_path: Path, line: str, says: str) -> None:
    file = tmp_path / "worker.conf"
    file.write_text(f"# ours\nadmin=a:1\n\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        parse([f"-options={file}"])
    assert str(caught.value).startswith(f"{file}, line 4: ")
    assert says in str(caught.value)


def test_a_name_in_an_options_file_that_no_flag_has_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "worker.conf"
    file.write_text("admin=a:1\nmaxConcurent=3\nfoo=1\n")
    (warning,) = [text for text in parse([f"-options={file}"]).warnings if "names what is no flag" in text]
    assert "maxConcurent (line 2; did you mean maxConcurrent?), foo (line 3)" in warning


def test_the_command_line_goes_before_the_environment_and_that_before_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "worker.conf"
    file.write_text("admin=file:1\nmaxExecute=3\nheartbeat=9s\n")
    monkeypatch.setenv("WEED_WORKER_OPTIONS", str(file))
    monkeypatch.setenv("WEED_WORKER_ADMIN", "environment:1")
    monkeypatch.setenv("WEED_WORKER_MAX_EXECUTE", "4")
    monkeypatch.setenv("WEED_WORKER_TLS_FALLBACK", "true")
    settings = parse(["-admin=typed:1"])
    assert (str(settings.admin), settings.max_execute, settings.heartbeat) == ("typed:1", 4, 9.0)
    assert settings.tls_fallback
    monkeypatch.setenv("WEED_WORKER_MAX_EXECUTE", "many")
    with pytest.raises(ConfigError, match=r"^WEED_WORKER_MAX_EXECUTE: -maxExecute=many is no number"):
        parse([])


def test_the_help_names_a_variable_for_every_flag() -> None:
    told = agent_settings.help_text()
    for name in re.findall(r"^  -([\w.]+)", USAGE, re.M):
        if name not in ("version", "h"):
            assert variable(name) in told


def test_a_changed_setting_is_taken_at_once_or_named_as_one_that_waits(tmp_path: Path) -> None:
    old = parse([f"-workingDir={tmp_path}"])
    words = "-v=2 -maxMBps=5 -window=vacuum=00:00-01:00 -grace=1h -maxExecute=7 -config_dir=/x -ecWindowMB=30 -debug"
    now, later = agent_settings.changed_by(old, parse([f"-workingDir={tmp_path}", *words.split(), "-id=w2"]))
    assert (now.verbosity, now.total_rate, now.grace, list(now.windows)) == (2, 5e6, 3600.0, ["vacuum"])
    assert (now.max_execute, now.ec_window) == (old.max_execute, old.ec_window)
    assert set(later) == {"-maxExecute", "-config_dir", "-ecWindowMB", "-debug.port", "-id"}
    assert agent_settings.changed_by(now, now) == (now, [])


def test_the_flags_that_wait_for_a_restart_are_called_as_they_are_typed() -> None:
    known = set(re.findall(r"-([\w.]+)(?:=|$| )", USAGE, re.M))
    base = parse([])
    fields = [one.name for one in dataclasses.fields(base) if one.name != "warnings"]
    changed: dict[str, Any] = {name: object() for name in fields}
    _now, later = agent_settings.changed_by(base, dataclasses.replace(base, **changed))
    assert {name[1:] for name in later} <= known
    assert len(later) == len(fields) - len(agent_settings.AT_ONCE)


def test_flags_can_be_checked_before_a_worker_runs_with_them(tmp_path: Path) -> None:
    options = tmp_path / "worker.options"
    options.write_text(f"admin=h:23646\njobType=vacuum,balance\nworkingDir={tmp_path}\n")
    told = printed([f"-options={options}", "-checkOptions"], "1")
    assert told is not None
    assert told.endswith("the options will do: admin h:23646, vacuum, balance\n")
    options.write_text("admin=h:23646\nmaxExecute=many\n")
    with pytest.raises(ConfigError, match="maxExecute=many"):
        printed([f"-options={options}", "-checkOptions"], "1")
    (tmp_path / "security.toml").write_text('[grpc]\nca = "/nowhere/ca.crt"\n[grpc.worker]\ncert = "x"\nkey = "y"\n')
    with pytest.raises(ConfigError, match=r"/nowhere/ca\.crt"):
        printed([f"-config_dir={tmp_path}", "-checkOptions"], "1")
