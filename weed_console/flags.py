"""The flags of the one-shot commands, checked before anything is dialled. Written as those of the agent are."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docopt

import weed_tasks
from weed_cluster.address import Address
from weed_core import model
from weed_core.errors import BadTask, ConfigError
from weed_core.goflags import from_environment, normalise, parse_data_dirs
from weed_core.guess import did_you_mean, meant
from weed_core.job_types import ALIASES, TASK_TYPES, named
from weed_core.values import Value

COMMANDS = ("plan", "run", "undo", "status", "doctor")

ALL = COMMANDS
WORK, LOOK = ("plan", "run"), ("plan", "run", "undo", "doctor")


@dataclass(frozen=True)
class Option:
    """One flag: `value` is what it takes, "" for one that is given or not; `commands` are those that know it."""

    name: str
    value: str
    text: str
    commands: tuple[str, ...] = ALL
    default: str = ""


OPTIONS = (
    Option("master", "addresses", "masters, by commas", LOOK, "localhost:9333"),
    Option("admin", "host:port", "admin server; status asks localhost:23646 otherwise", ("status", "doctor")),
    Option("worker", "host:port", "ask this worker, at its -metricsPort", ("status",)),
    Option(
        "adminLogin",
        "file",
        "a file with user:password, for an admin server that asks for them; they may also be in the environment, as "
        "WEED_WORKER_ADMIN_USER and WEED_WORKER_ADMIN_PASSWORD, and are never shown",
        ("status", "doctor"),
    ),
    Option("job", "id or type", "only this job, with what happened to it, or the jobs of this type", ("status",)),
    Option("failed", "", "only the jobs that failed", ("status",)),
    Option("watch", "", "show it anew every two seconds until interrupted; with -json a line each time", ("status",)),
    Option(
        "node",
        "servers",
        "doctor: may these servers, by commas, or those of a rack (dc1/r1) be stopped, and removed for good? evacuate: "
        "empty these servers",
        ("doctor", *WORK),
    ),
    Option(
        "disk", "ids", "evacuate: only these disks of the one -node, by commas; a server counts its -dir from 0", WORK
    ),
    Option("forget", "servers", "these missing servers, by commas, will not come back: miss them no more", ("doctor",)),
    Option("volumeId", "ids", "only these volumes, by commas", LOOK),
    Option(
        "collection",
        "names",
        "only these collections, by commas, with * and ?; _default is the one without a name",
        LOOK,
    ),
    Option("to", "host:port", "balance: move the one volume of -volumeId to this server", WORK),
    Option("file", "file", "script: the file with its commands, - for standard input", WORK),
    Option("filer", "host:port", "script: the filer to ask; otherwise one that the master knows", WORK),
    Option("set", "name=value", "a setting of the job, see help JOB; may be repeated", WORK),
    Option("max", "n", "do at most so many jobs, the most rewarding first; 0 for all", WORK, "0"),
    Option("concurrent", "n", "jobs at once", ("run",), "2"),
    Option("dryRun", "", "go through every check and change nothing", ("run", "undo")),
    Option("yes", "", "do not ask", ("run", "undo")),
    Option("all", "", "list every volume: to do, and passed over with its reason", ("plan",)),
    Option("exitCode", "", "end with status 2 where there is work", ("plan",)),
    Option("json", "", "answer in JSON, errors too; sizes in bytes, times in seconds"),
    Option("quiet", "", "say only what went wrong and what there is to do next"),
    Option(
        "workingDir",
        "dir",
        "where run keeps its journal and what the cluster last looked like, and where a worker's are looked for; "
        "otherwise ~/.local/state/weed_worker",
    ),
    Option("config_dir", "dir", "the directory with security.toml; one that is named must hold it"),
    Option("maxMBps", "n", "megabytes per second that all jobs together may move, 0 for no limit", WORK, "0"),
    Option("maxMBpsPerServer", "n", "the same for each volume server", WORK, "0"),
    Option("ecWindowMB", "n", "memory that one erasure coding job may fill with volume data", ("run",), "20"),
    Option(
        "dataDir",
        "dirs",
        "volume directories of this host to be read directly, by commas; auto: those that servers on this host name, "
        "none: volumes are read through servers only",
        ("run",),
        "auto",
    ),
    Option(
        "volumeServerMetricsPort",
        "n",
        "the -metricsPort of the volume servers: late writes that they refuse put a deletion off, 0 to not ask",
        ("run",),
        "0",
    ),
    Option("v", "level", "1: what each job notes; 2: warnings of the libraries too", default="0"),
)
"""Every flag of the one-shot commands. All are taken with every command, so that a line is easily changed into another;
each command's help lists those that mean something to it."""

USAGE = "\n".join(f"  -{option.name}" + (f"=<{option.value}>" if option.value else "") for option in OPTIONS)
"""The flags as weed_core.goflags reads them."""

_DOC = """\
Usage:
  weed_worker plan [<job>] [<script>] [--set=<name=value>]... [options]
  weed_worker run <job> [<script>] [--set=<name=value>]... [options]
  weed_worker undo [options]
  weed_worker status [options]
  weed_worker doctor [options]

Options:
""" + "\n".join(
    f"  --{option.name}"
    + (f"=<{option.value}>" if option.value else "")
    + (f"  . [default: {option.default}]" if option.default else "")
    for option in OPTIONS
)

MOST_VERBOSE = 2

SCRIPT_JOB = "admin_script"
"""The job whose setting is a script, given as a word of its own."""

HABITS: Mapping[str, Mapping[str, Value]] = {"balance": {"batch_size": 1}}
"""Settings that a person's plan begins with: each move is a job of its own, to be shown, counted and broken off."""


@dataclass(frozen=True)
class Flags:
    """The flags, checked."""

    command: str
    job: str  # "" for a plan of all
    masters: tuple[Address, ...]
    admin: Address | None
    forget: tuple[Address, ...]
    nodes: tuple[str, ...]  # addresses, or racks
    worker: Address | None
    admin_login: Path | None
    only_job: str  # of status: a job's id, or a type
    only_failed: bool
    watch: bool
    volume_ids: frozenset[int]
    collections: tuple[str, ...]  # names with * and ?; _default is the unnamed one
    target: Address | None
    filers: tuple[Address, ...]
    file: str  # in which the script is
    given: Mapping[str, str]  # of the job's settings, as they were written
    config: Mapping[str, Value]
    most: int
    concurrent: int
    dry_run: bool
    yes: bool
    everything: bool
    exit_code: bool
    json: bool
    quiet: bool
    working_dir: Path | None
    config_dir: Path | None
    rates: tuple[float, float]  # bytes per second in all, per server
    ec_window: int  # bytes
    data_dirs: tuple[Path, ...] | None
    volume_metrics_port: int  # of the volume servers; 0: not asked
    verbosity: int


def job_named(word: str) -> str:
    """The job type of a name or alias; ConfigError, with a guess, for what is none."""
    job = named(word)
    if job not in TASK_TYPES:
        guess = meant(word, [*TASK_TYPES, *ALIASES])
        raise ConfigError(
            f"unknown job {word!r}; " + (f"did you mean {guess}?" if guess else f"known are {', '.join(TASK_TYPES)}")
        )
    return job


def _words(argv: Sequence[str]) -> list[str]:
    words = normalise([argv[0], *from_environment(USAGE, os.environ), *argv[1:]], USAGE)
    last = {word.partition("=")[0]: place for place, word in enumerate(words)}
    return [word for place, word in enumerate(words) if _stays(word, place == last[word.partition("=")[0]])]


def parse(argv: Sequence[str]) -> Flags:
    """Read and check the flags; raise ConfigError with one clear line for what is wrong."""
    words = _words(argv)
    plain = [word for word in words if not word.startswith("-")]
    takes = {"plan": (0, 1), "run": (1, 1)}.get(plain[0], (0, 0))
    if takes[1] and len(plain) > 1 and named(plain[1]) == SCRIPT_JOB:
        takes = (1, 2)
    if len(plain) - 1 < takes[0]:
        raise ConfigError(f"{plain[0]} needs a job: {', '.join(TASK_TYPES)}")
    if len(plain) - 1 > takes[1]:
        raise ConfigError(
            f"{plain[0]} takes {'one job' if takes[1] else 'no further word'}, not {' '.join(plain[1:])!r}; "
            f"weed_worker help {plain[0]} tells how it is written"
        )
    given = docopt.docopt(_DOC, words, default_help=False)
    job = job_named(given["<job>"]) if given["<job>"] else ""
    settings = {
        **_leaving(plain[0], job, given),
        **_script(plain[0], job, given["<script>"], given["--file"]),
        **_settings_given(job, given["--set"]),
    }
    flags = Flags(
        command=plain[0],
        job=job,
        masters=_addresses(given, "master"),
        admin=next(iter(_addresses(given, "admin")), None),
        forget=_addresses(given, "forget"),
        nodes=tuple(part.strip() for part in (given["--node"] or "").split(",") if part.strip()),
        worker=next(iter(_addresses(given, "worker")), None),
        admin_login=_path(given, "adminLogin"),
        only_job=given["--job"] or "",
        only_failed=given["--failed"],
        watch=given["--watch"],
        volume_ids=frozenset(_volume_ids(given["--volumeId"] or "")),
        collections=_collections(given["--collection"]),
        target=next(iter(_addresses(given, "to")), None),
        filers=_addresses(given, "filer"),
        file=given["--file"] or "",
        given=settings,
        config=_config(job, settings),
        most=_number(given, "max", 0),
        concurrent=_number(given, "concurrent", 1),
        dry_run=given["--dryRun"],
        yes=given["--yes"],
        everything=given["--all"],
        exit_code=given["--exitCode"],
        json=given["--json"],
        quiet=given["--quiet"],
        working_dir=_path(given, "workingDir"),
        config_dir=_path(given, "config_dir"),
        rates=(_number(given, "maxMBps", 0) * 1e6, _number(given, "maxMBpsPerServer", 0) * 1e6),
        ec_window=_number(given, "ecWindowMB", 16) << 20,
        data_dirs=parse_data_dirs(given["--dataDir"]),
        volume_metrics_port=_number(given, "volumeServerMetricsPort", 0),
        verbosity=_number(given, "v", 0, MOST_VERBOSE),
    )
    if flags.target and (job != "balance" or len(flags.volume_ids) != 1):
        raise ConfigError("-to moves one volume by hand: weed_worker run balance -volumeId=7 -to=host:port")
    return flags


def _script(command: str, job: str, words: str | None, file: str | None) -> dict[str, str]:
    """The script that is given, as a word or as a file; ConfigError for both, and for none that is to be run."""
    if job != SCRIPT_JOB:
        if file:
            raise ConfigError("-file names a script: weed_worker run script -file=FILE")
        return {}
    if (words, file) == (None, None) and command == "plan":
        return {"script": str(weed_tasks.load([job])[job].DESCRIPTOR.defaults["script"])}  # as admins begin with
    if (words is None) == (file is None):
        raise ConfigError("script takes its commands as one word, or -file: weed_worker run script 'volume.vacuum'")
    if words is not None:
        return {"script": words}
    try:
        return {"script": sys.stdin.read() if file == "-" else Path(file or "").expanduser().read_text()}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"-file={file}: {getattr(error, 'strerror', None) or 'no text'}") from None


def _leaving(command: str, job: str, given: Mapping[str, Any]) -> dict[str, str]:
    """The settings that -node and -disk stand for; ConfigError where they make no sense."""
    nodes, disks = (
        [part.strip() for part in (given[f"--{name}"] or "").split(",") if part.strip()] for name in ("node", "disk")
    )
    if command not in WORK or job != "evacuate":
        if disks or (nodes and command in WORK):
            raise ConfigError("-node and -disk name what is to be emptied: weed_worker plan evacuate -node=host:port")
        return {}
    if disks and (len(nodes) != 1 or not all(part.isdecimal() for part in disks)):
        raise ConfigError("-disk names disks of one server by their ids: -node=host:port -disk=0,2")
    if disks:
        return {"disks": ",".join(f"{nodes[0]}#{disk}" for disk in disks)}
    return {"nodes": ",".join(nodes)} if nodes else {}


def _stays(word: str, is_last: bool) -> bool:
    """Whether a word counts: of a flag given twice the last one does, but each -set."""
    return is_last or word.startswith("--set=") or not word.startswith("-")


def _addresses(given: Mapping[str, Any], name: str) -> tuple[Address, ...]:
    try:
        return tuple(Address.parse(part) for part in (given[f"--{name}"] or "").split(",") if part.strip())
    except BadTask as error:
        raise ConfigError(f"-{name}: {error}") from None


def _path(given: Mapping[str, Any], name: str) -> Path | None:
    return Path(given[f"--{name}"]).expanduser() if given[f"--{name}"] else None


def _number(given: Mapping[str, Any], name: str, least: int, most: int = 10**9 - 1) -> int:
    text = given[f"--{name}"]
    if not text.isdecimal() or not least <= int(text) <= most:
        bounds = f"of at least {least}" if most == 10**9 - 1 else f"from {least} to {most}"
        raise ConfigError(f"-{name}={text} is out of range; it is a whole number {bounds}")
    return int(text)


def _collections(text: str | None) -> tuple[str, ...]:
    names = tuple(part.strip() for part in (text or "").split(",") if part.strip())
    if text is not None and not names:
        raise ConfigError("-collection names none; the one without a name is -collection=_default")
    return names


def _volume_ids(text: str) -> Iterator[int]:
    for part in filter(None, (part.strip() for part in text.split(","))):
        if not part.isdecimal() or not 0 < int(part) < 2**32:
            raise ConfigError(f"-volumeId: {part!r} is no volume id")
        yield int(part)


def _settings_given(job: str, given: Iterable[str]) -> dict[str, str]:
    """The settings of a job that were given, by name; ConfigError for a name that it does not have."""
    settings = {}
    known = list(weed_tasks.load([job])[job].DESCRIPTOR.defaults) if job else []
    for name, equals, value in (text.partition("=") for text in given):
        if not job:
            raise ConfigError("-set is a setting of one job: name the job")
        if name not in known:
            guess = meant(name, known)
            has = f"did you mean {guess}?" if guess else f"it has {', '.join(known) or 'none'}"
            raise ConfigError(f"-set: {job} has no setting {name!r}; {has}")
        if not equals:
            raise ConfigError(f"-set={name} needs a value: -set={name}=...")
        settings[name] = value
    return settings


def _config(job: str, given: Mapping[str, str]) -> dict[str, Value]:
    """The job's settings over its defaults; refuses what admin's form would not offer."""
    if not job:
        return {}
    descriptor = weed_tasks.load([job])[job].DESCRIPTOR
    config, warnings = model.settings(descriptor, HABITS.get(job, {}), dict(given))
    if warnings:
        fields = {field.name: field for field in descriptor.fields}
        for name, value in given.items():
            if model.settings(descriptor, {}, {name: value})[1]:
                raise ConfigError(f"-set: {refusal(fields[name], value)}")
    return config


def bounds(field: model.Field) -> str:
    """What a setting may be, in words that follow "is"."""
    if field.kind == "bool":
        return "true or false"
    if field.kind == "enum":
        return f"one of {', '.join(option for option, _label in field.options)}"
    if field.kind in ("string", "text"):
        return "a text"
    number = "a whole number" if field.kind == "int" else "a number"
    if field.kind == "double" and (field.minimum, field.maximum) == (0, 1):
        return "a share between 0 and 1"
    if field.minimum is not None and field.maximum is not None:
        return f"{number} between {field.minimum:g} and {field.maximum:g}"
    if field.minimum is not None:
        return f"{number} of at least {field.minimum:g}"
    return number if field.maximum is None else f"{number} of at most {field.maximum:g}"


def refusal(field: model.Field, text: str) -> str:
    """Why a value is refused: what it has to be, and what may have been meant."""
    guess = ""
    if field.kind == "enum":
        guess = did_you_mean(text, [option for option, _label in field.options])
    elif bounds(field).startswith("a share"):
        try:
            number = float(text.rstrip("%")) / 100
            guess = f"; did you mean {number:g}?" if 0 < number <= 1 else ""
        except ValueError:
            pass
    return f"{field.name} is {bounds(field)}, not {text}{guess}"
