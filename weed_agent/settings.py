"""The command line: Go-style flags, read by docopt, checked before anything is dialled.

Flags are those of `weed worker`, letter for letter; `-flag=value`, `-flag value` and `--flag=value` mean the same. What
weed itself takes before that word, its log's flags above all, is taken on both sides of it.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import time
from pathlib import Path
from typing import Any

import docopt

from weed_agent import pause
from weed_agent.flag_sources import gather, variables
from weed_cluster import security
from weed_cluster.address import Address
from weed_core import goflags
from weed_core.errors import BadTask, ConfigError
from weed_core.goflags import parse_data_dirs, parse_duration
from weed_core.guess import did_you_mean
from weed_core.job_types import ALIASES, CATEGORIES, SHOWN, TASK_TYPES, named
from weed_core.log import set_up

USAGE = """\
Maintenance worker for SeaweedFS: takes tasks from an admin server and runs them on the volume servers.

Usage:
  weed_worker [options] [worker] [options]
  weed_worker (plan | run | status | doctor) ...   one-shot commands; see `weed_worker plan -h`

Options:
  -admin=<host:port>       admin server; gRPC is port+10000 unless it says otherwise [default: localhost:23646]
  -capabilities=<types>    task types: {types}
                           [default: vacuum,erasure_coding,balance]
  -jobType=<types>         today's name of -capabilities; wins where both are given
  -maxConcurrent=<n>       tasks run at once [default: 2]
  -maxExecute=<n>          today's name of -maxConcurrent; wins where both are given
  -maxDetect=<n>           detections run at once [default: 1]
  -heartbeat=<duration>    how often to tell admin that this worker lives [default: 30s]
  -taskInterval=<duration>  how often to ask admin for tasks [default: 5s]
  -taskTimeout=<duration>  deadline of a task that neither names one nor has a volume size [default: 2h]
  -reconnect=<duration>    first pause before connecting again; doubles up to 1m, with jitter [default: 5s]
  -grace=<duration>        how long stopping may take in all: running tasks finish, and in the last two minutes, or the
                           last half where it is short, what has not ended is undone; in a pod 25s unless given
                           [default: 8h]
  -id=<name>               worker id; otherwise the one kept in worker.id under -workingDir
  -address=<host>          address to show in admin; otherwise the host's name
  -workingDir=<dir>        keeps worker.id, results not yet delivered, the journal, task logs [default: .]
  -protocol=<dialect>      auto, plugin (admins from 4.14) or classic (before) [default: auto]
  -master=<addresses>      masters to begin with, comma separated; the admin and they name more
  -config_dir=<dir>        the directory with security.toml; one that is named must hold it
  -tlsFallback             where TLS is configured but cannot be used: plaintext and a warning, as weed worker does it
  -maxMBps=<n>             megabytes per second that all tasks together may move, 0 for no limit [default: 0]
  -maxMBpsPerServer=<n>    the same for each volume server [default: 0]
  -ecWindowMB=<n>          memory that one erasure coding task may fill with volume data [default: 20]
  -dataDir=<dirs>          volume directories of this host to be read directly, comma separated; auto: those that
                           servers on this host name, none: volumes are read through servers only [default: auto]
  -volumeServerMetricsPort=<n>  the -metricsPort of the volume servers: late writes that they refuse put a deletion
                           off, 0 to not ask [default: 0]
  -profile=<name>          background, balanced or fast: rates, concurrency and windows in one word
  -window=<windows>        when a task type may start, e.g. erasure_coding=22:00-06:00,vacuum=00:00-05:00
  -pauseFile=<file>        take no new work while this file exists; its first line is shown as the reason, and ends the
                           pause by itself where it begins with "until 2026-11-28 06:00" or "for 2h"
  -metricsPort=<n>         serve the worker's page, /metrics, /health, /ready and /status here, 0: not [default: 0]
  -metricsIp=<ip>          where the metrics port listens [default: 0.0.0.0]
  -logFormat=<format>      text or json [default: text]
  -logdir=<dir>            write the log into weed_worker.log in this directory, too
  -v=<level>               0: connections, tasks, errors; 1: stages; 2: decisions; 3: messages; 4: calls [default: 0]
  -checkOptions            read the flags, their files and the certificates, say what is wrong with them, and end
  -debug                   serve the stacks of all threads and tasks at http://127.0.0.1:6060/
  -debug.port=<n>          serve them on this port [default: 6060]
  -options=<file>          more flags, one name=value a line; SIGHUP reads it again for rates, windows, -pauseFile,
                           -grace and the log, and says what else of it needs a restart
  -version                 print the version
  -h, -help                print this text

Flags of weed itself: -config_dir as above; -log_json, -log_max_size_mb and -log_max_files as weed has them;
-logtostderr and -alsologtostderr name what is done anyway; -stderrthreshold, -vmodule, -log_backtrace_at,
-log_rotate_hours and -log_compress are taken and ignored, with a warning.
""".replace("{types}", textwrap.fill(f"{SHOWN}, or all", 79, subsequent_indent=" " * 27))

WEED_FLAGS = {
    **dict.fromkeys(("logtostderr", "alsologtostderr", "log_json", "log_compress"), ""),
    **dict.fromkeys(("stderrthreshold", "vmodule", "log_backtrace_at", "log_rotate_hours"), "="),
    **dict.fromkeys(("log_max_size_mb", "log_max_files"), "="),
}
"""Flags that every weed command takes, beside ours; "=": with a value."""

IGNORED = ("stderrthreshold", "vmodule", "log_backtrace_at", "log_rotate_hours", "log_compress")


OF_WEED = {  # its category and other names
    "s3_lifecycle": ("default", "s3-lifecycle", "s3.lifecycle", "lifecycle"),
    "iceberg_maintenance": ("heavy", "iceberg-maintenance", "iceberg.maintenance", "iceberg"),
}
"""Job types of `weed worker` that this one lacks."""

UNDO_TIME = 120.0
"""Seconds that tasks broken off by a second signal or by the end of the grace time get to undo what they did."""

POD_GRACE = 25.0
"""Seconds of -grace in a pod: Kubernetes kills after 30 unless told otherwise."""

PROFILES = {  # (megabytes per second in all, per server, tasks at once, windows); each flag given goes before it
    "background": (20.0, 10.0, 1, "heavy=22:00-06:00"),
    "balanced": (200.0, 100.0, 2, ""),
    "fast": (0.0, 0.0, 4, ""),
}

LONGEST_SILENCE = 30.0
"""Seconds: admins forget a worker that was silent for two minutes; a few beats may be lost before that."""

MOST_VERBOSE, PORTS = 4, 65535

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class Window:
    """The hours of the day, local time, in which a task type may start; they may span midnight."""

    start: time
    end: time

    def is_open(self, now: time) -> bool:
        """Whether work may start now."""
        if self.start <= self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


@dataclass(frozen=True)
class Settings:
    """Every flag, checked and in seconds and bytes."""

    admin: Address
    task_types: tuple[str, ...]
    max_execute: int
    max_detect: int
    heartbeat: float
    task_interval: float
    task_timeout: float
    reconnect: float
    grace: float
    worker_id: str
    address: str
    working_dir: Path
    protocol: str
    masters: tuple[Address, ...]
    config_dir: Path | None
    tls_fallback: bool
    total_rate: float
    server_rate: float
    ec_window: int
    data_dirs: tuple[Path, ...] | None
    volume_metrics_port: int  # of the volume servers; 0: not asked
    windows: Mapping[str, Window]
    pause_file: Path | None
    metrics_port: int
    metrics_ip: str
    log_format: str
    log_dir: Path | None
    log_file_size: int  # bytes
    log_files: int
    verbosity: int
    debug_port: int  # 0: none
    warnings: tuple[str, ...] = ()  # sentences that an operator should see at the start

    @property
    def finish_and_undo(self) -> tuple[float, float]:
        """Seconds of -grace for tasks to finish, and then to undo what did not; the last tenth is for telling it."""
        undo = min(UNDO_TIME, self.grace / 2)
        return max(0.0, self.grace - undo - min(10.0, self.grace / 10)), undo or UNDO_TIME

    def paused(self) -> str:
        """Why -pauseFile holds new work back; "" where it does not."""
        return pause.reason(self.pause_file) if self.pause_file is not None else ""


def flags(argv: Sequence[str]) -> dict[str, str]:
    """Every flag's text by name: what was given over its default; what is off is left out."""
    return _flags(gather(argv, USAGE, WEED_FLAGS, os.environ).words)


def _flags(merged: Mapping[str, str]) -> dict[str, str]:
    of_weed = {name: word.partition("=")[2] or "true" for name, word in merged.items() if name in WEED_FLAGS}
    ours = [word for name, word in merged.items() if name not in WEED_FLAGS and word != f"--{name}=false"]
    options = USAGE[USAGE.index("Options:") : USAGE.index("  -version")].replace("\n  -", "\n  --")
    parsed = docopt.docopt(f"Usage:\n  weed_worker [options]\n\n{options}", ours)
    return of_weed | {name[2:]: str(value) for name, value in parsed.items() if value not in (None, False)}


def _number(
    given: Mapping[str, str], name: str, kind: type[int] | type[float], least: float, most: float = 1e9 - 1
) -> float:
    try:
        value = kind(given[name])
    except ValueError:
        whole = "a whole number" if kind is int else "a number"
        raise ConfigError(f"-{name}={given[name]} is no number; it is {whole}") from None
    if not least <= value <= most:
        bounds = f"at least {least:g}" if most == 1e9 - 1 else f"it is from {least:g} to {most:g}"
        raise ConfigError(f"-{name}={given[name]} is out of range; {bounds}")
    return value


def _duration(given: Mapping[str, str], name: str, least: float) -> float:
    try:
        seconds = parse_duration(given[name])
    except ValueError as error:
        raise ConfigError(f"-{name}: {error}") from None
    if seconds < least:
        raise ConfigError(f"-{name}={given[name]} is too short; at least {least:g}s")
    return seconds


def _addresses(given: Mapping[str, str], name: str) -> tuple[Address, ...]:
    try:
        return tuple(Address.parse(part) for part in given.get(name, "").split(",") if part.strip())
    except BadTask as error:
        raise ConfigError(f"-{name}: {error}") from None


def _one_of(given: Mapping[str, str], name: str, known: Sequence[str]) -> str:
    if given[name] not in known:
        guess = did_you_mean(given[name], known)
        raise ConfigError(f"-{name}={given[name]} is unknown; one of {', '.join(known)}{guess}")
    return given[name]


def parse_task_types(text: str, flag: str = "capabilities") -> tuple[str, ...]:
    """Task types by name, alias or category, in the order given; raise ConfigError naming what is unknown."""
    found: list[str] = []
    for word in (part.strip().lower() for part in text.split(",")):
        if not word:
            continue
        names = CATEGORIES.get(word) or (named(word),)
        if lacking(word) and word not in CATEGORIES:
            continue
        if names[0] not in TASK_TYPES:
            guess = did_you_mean(word, [*TASK_TYPES, *ALIASES, *CATEGORIES])
            raise ConfigError(f"-{flag}: unknown task type {word!r}; known are {', '.join(TASK_TYPES)}{guess}")
        found += [name for name in names if name not in found]
    if not found:
        other = f" but what this worker lacks ({', '.join(lacking(text))})" if lacking(text) else ""
        raise ConfigError(f"-{flag} names no task type{other}; known are {', '.join(TASK_TYPES)}")
    return tuple(found)


def lacking(text: str) -> tuple[str, ...]:
    """The job types of `weed worker` that these words name and this worker lacks."""
    words = {part.strip().lower() for part in text.split(",")}
    return tuple(name for name, others in OF_WEED.items() if words & {"all", name, *others})


def parse_windows(text: str) -> dict[str, Window]:
    """Maintenance windows by task type, e.g. `ec=22:00-06:00`; raise ConfigError naming what is wrong."""
    windows = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, hours = part.partition("=")
        ends = [_CLOCK.fullmatch(end.strip()) for end in hours.split("-")]
        if len(ends) != 2 or None in ends:
            raise ConfigError(f"-window: {part!r} is no window; write it like erasure_coding=22:00-06:00")
        start, end = (time(int(match[1]), int(match[2])) for match in ends if match)
        for task_type in parse_task_types(name, "window"):
            windows[task_type] = Window(start, end)
    return windows


def _working_dir(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_dir():
        raise ConfigError(f"-workingDir={text} is not a directory; create it, or name another")
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"-workingDir={text} is not writable for this user; name one that is")
    return path.resolve()


def _log_dir(given: Mapping[str, str]) -> Path | None:
    if "logdir" not in given or given.get("logtostderr") == "true":
        return None
    path = Path(given["logdir"]).expanduser()
    if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"-logdir={path} is no directory that this user may write to")
    return path


def _in_pod(explicit: Collection[str]) -> bool:
    return "grace" not in explicit and "KUBERNETES_SERVICE_HOST" in os.environ


def _warnings(explicit: set[str], unknown: list[str], given: Mapping[str, str], which: str) -> Iterator[str]:
    if ignored := [f"-{name}" for name in IGNORED if name in explicit]:
        yield f"{', '.join(ignored)} mean nothing to this worker and are ignored"
    if unknown:
        yield f"-options={given['options']} names what is no flag here, and is ignored: {', '.join(unknown)}"
    if which in explicit and (missing := lacking(given[which])):
        yield (
            f"-{which}={given[which]}: this worker has no {', '.join(missing)}, and does the rest; where they are"
            f" wanted, let a `weed worker -jobType={','.join(missing)}` serve the same admin"
        )
    if _in_pod(explicit):
        yield (
            f"this is a pod, and -grace is not given: a stop takes {POD_GRACE:.0f} s at most, so tasks that need longer"
            " are undone; with a longer terminationGracePeriodSeconds set -grace to five seconds less than that"
        )


def printed(words: Sequence[str], version: str) -> str | None:
    """The help, the version, or that the flags will do, where these words ask for it; ConfigError where they do not."""
    asked = set(goflags.normalise(words, USAGE, WEED_FLAGS))
    if "--help" in asked:
        return f"{help_text()}\n"
    if "--checkOptions" in asked:
        settings = parse(words)
        secure = security.load(settings.config_dir, settings.tls_fallback)
        warnings = (f"warning: {warning}\n" for warning in (*settings.warnings, *secure.warnings))
        return f"{''.join(warnings)}the options will do: admin {settings.admin}, {', '.join(settings.task_types)}\n"
    return f"weed_worker {version}\n" if "--version" in asked else None


def parse(argv: Sequence[str]) -> Settings:
    """Read and check every flag; raise ConfigError with one clear line for the first that is wrong.

    The line says where the flag stands, if it is not on the command line.
    """
    sources = gather(argv, USAGE, WEED_FLAGS, os.environ)
    try:
        return _settings(_flags(sources.words), set(sources.words), sources.unknown)
    except ConfigError as error:
        raise sources.placed(error) from None


def _settings(given: dict[str, str], explicit: set[str], unknown: list[str]) -> Settings:
    admin = _addresses(given, "admin")
    if len(admin) != 1:
        raise ConfigError(f"-admin={given['admin']} names {len(admin)} servers; expected one host:port")
    which = "jobType" if "jobType" in given else "capabilities"
    profile: tuple[float, float, int, str] = (0.0, 0.0, 0, "")
    if "profile" in given:
        profile = PROFILES[_one_of(given, "profile", tuple(PROFILES))]
    total, per_server = (
        _number(given, name, float, 0) if name in explicit else of_profile
        for name, of_profile in (("maxMBps", profile[0]), ("maxMBpsPerServer", profile[1]))
    )
    slots = "maxExecute" if "maxExecute" in given else "maxConcurrent"
    concurrent = profile[2] if profile[2] and slots not in explicit else int(_number(given, slots, int, 1))
    return Settings(
        admin=admin[0],
        task_types=parse_task_types(given[which], which),
        max_execute=concurrent,
        max_detect=int(_number(given, "maxDetect", int, 1)),
        heartbeat=min(_duration(given, "heartbeat", 0.05), LONGEST_SILENCE),
        task_interval=_duration(given, "taskInterval", 0.05),
        task_timeout=_duration(given, "taskTimeout", 1),
        reconnect=_duration(given, "reconnect", 0.05),
        grace=POD_GRACE if _in_pod(explicit) else _duration(given, "grace", 0),
        worker_id=given.get("id", ""),
        address=given.get("address", ""),
        working_dir=_working_dir(given["workingDir"]),
        protocol=_one_of(given, "protocol", ("auto", "plugin", "classic")),
        masters=_addresses(given, "master"),
        config_dir=Path(given["config_dir"]).expanduser() if "config_dir" in given else None,
        tls_fallback="tlsFallback" in given,
        total_rate=total * 1e6,
        server_rate=per_server * 1e6,
        ec_window=int(_number(given, "ecWindowMB", int, 16)) << 20,
        data_dirs=parse_data_dirs(given["dataDir"]),
        volume_metrics_port=int(_number(given, "volumeServerMetricsPort", int, 0, PORTS)),
        windows=parse_windows(given.get("window", profile[3])),
        pause_file=Path(given["pauseFile"]).expanduser() if "pauseFile" in given else None,
        metrics_port=int(_number(given, "metricsPort", int, 0, PORTS)),
        metrics_ip=given["metricsIp"],
        log_format="json" if given.get("log_json") == "true" else _one_of(given, "logFormat", ("text", "json")),
        log_dir=_log_dir(given),
        log_file_size=int(_number({"log_max_size_mb": "10"} | given, "log_max_size_mb", int, 0)) << 20 or 10 << 20,
        log_files=int(_number({"log_max_files": "5"} | given, "log_max_files", int, 0)) or 5,
        verbosity=int(_number(given, "v", int, 0, MOST_VERBOSE)),
        debug_port=int(_number(given, "debug.port", int, 1, PORTS)) if "debug" in given else 0,
        warnings=tuple(_warnings(explicit, unknown, given, which)),
    )


AT_ONCE = {
    "total_rate",
    "server_rate",
    "windows",
    "pause_file",
    "grace",
    "log_format",
    "log_dir",
    "log_file_size",
    "log_files",
    "verbosity",
}
"""The fields of Settings that SIGHUP changes at once."""

_NAMES = {  # of the other fields, where that is not the flag's name in our spelling
    "task_types": "jobType",
    "config_dir": "config_dir",
    "worker_id": "id",
    "masters": "master",
    "ec_window": "ecWindowMB",
    "data_dirs": "dataDir",
    "volume_metrics_port": "volumeServerMetricsPort",
    "debug_port": "debug.port",
}


def changed_by(old: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """The settings with what of the new ones is taken at once, and the flags whose changes need a restart."""
    names = [one.name for one in fields(Settings) if one.name not in (*AT_ONCE, "warnings")]
    later = [
        "-" + _NAMES.get(name, re.sub("_([a-z])", lambda letter: letter[1].upper(), name))
        for name in names
        if getattr(old, name) != getattr(new, name)
    ]
    now: dict[str, Any] = {name: getattr(new, name) for name in AT_ONCE}
    return replace(old, **now), later


def help_text() -> str:
    """What -h prints: the flags, and the variable of the environment for each."""
    names = ", ".join(variables(USAGE).values())
    text = (
        "Each flag may also come from the environment, which goes before an options file and behind the command line: "
        f"{names}."
    )
    return f"{USAGE}\nEnvironment:\n{textwrap.fill(text, 100, initial_indent='  ', subsequent_indent='  ')}\n"


def set_up_as(settings: Settings) -> None:
    """Log as the worker's flags have it."""
    files = (settings.log_dir, settings.log_file_size, settings.log_files)
    set_up(settings.log_format, settings.verbosity, *files)
