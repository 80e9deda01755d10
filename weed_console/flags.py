"""The flags of the one-shot commands, checked before anything is dialled. Written as those of the agent are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docopt

import weed_tasks
from weed_cluster.address import Address
from weed_core import model
from weed_core.errors import BadTask, ConfigError
from weed_core.goflags import normalise, parse_data_dirs
from weed_core.job_types import ALIASES, TASK_TYPES
from weed_core.values import Value

USAGE = """\
One-shot maintenance of a SeaweedFS cluster, without an admin server.

Usage:
  weed_worker plan <job> [--set=<name=value>]... [options]
  weed_worker run <job> [--set=<name=value>]... [options]
  weed_worker undo [options]
  weed_worker status [options]
  weed_worker doctor [options]

  plan     shows what there is to do for a job, and why other volumes are passed over; changes nothing
  run      plans and does it: holds the cluster's lock as weed shell does, asks first, undoes what it cannot finish
  undo     clears up what killed or stopped runs left, as run does first, and opens volumes that a worker elsewhere
           left read-only until a time that is over; with -volumeId it compares the replicas of these volumes, and
           opens them together where they are equal, whoever left them read-only
  status   shows the workers and jobs of an admin server (-admin), or one worker by its metrics port (-worker)
  doctor   looks for whatever keeps maintenance from working, and names the fix

Jobs: vacuum, balance, erasure_coding (ec), ec_balance, replication, remote_upload (remote)

Options:
  -master=<addresses>      masters, comma separated [default: localhost:9333]
  -admin=<host:port>       admin server, for status and doctor; status asks localhost:23646 otherwise
  -worker=<host:port>      status: ask this worker, at its -metricsPort
  -forget=<servers>        doctor: these missing servers, comma separated, will not come back: miss them no more
  -volumeId=<ids>          only these volumes, comma separated
  -collection=<names>      only these collections, comma separated, with * and ?; _default is the one without a name
  -set=<name=value>        a setting of the job, as admin's form has it; may be repeated
  -max=<n>                 do at most so many jobs, 0 for all [default: 0]
  -concurrent=<n>          jobs run at once [default: 2]
  -dryRun                  run: go through every check, change nothing; undo: show what is left
  -yes                     run, undo: do not ask
  -all                     plan: list every volume that is passed over
  -json                    answer in JSON
  -workingDir=<dir>        where run keeps its journal and what the cluster last looked like, and where a worker's
                           are looked for; otherwise
                           ~/.local/state/weed_worker, or a directory in the temporary one
  -config_dir=<dir>        the directory with security.toml; one that is named must hold it
  -maxMBps=<n>             megabytes per second that all jobs together may move, 0 for no limit [default: 0]
  -maxMBpsPerServer=<n>    the same for each volume server [default: 0]
  -ecWindowMB=<n>          memory that one erasure coding job may fill with volume data [default: 20]
  -dataDir=<dirs>          volume directories of this host to be read directly, comma separated; auto: those that
                           servers on this host name, none: volumes are read through servers only [default: auto]
  -v=<level>               1: what each job notes; 2: warnings of the libraries too [default: 0]
  -h, -help                print this text

Exit status: 0 all is done, or healthy; 1 a job failed or was put off, or doctor found something; 2 wrong flags or
configuration; 3 the cluster is locked by another; 130 interrupted.
"""


@dataclass(frozen=True)
class Flags:
    """The flags, checked."""

    command: str
    job: str
    masters: tuple[Address, ...]
    admin: Address | None
    forget: tuple[Address, ...]
    worker: Address | None
    volume_ids: frozenset[int]
    collections: tuple[str, ...]  # names with * and ?; _default is the unnamed one
    config: Mapping[str, Value]
    most: int
    concurrent: int
    dry_run: bool
    yes: bool
    everything: bool
    json: bool
    working_dir: Path | None
    config_dir: Path | None
    rates: tuple[float, float]  # bytes per second in all, per server
    ec_window: int  # bytes
    data_dirs: tuple[Path, ...] | None
    verbosity: int


def parse(argv: Sequence[str]) -> Flags:
    """Read and check the flags; raise ConfigError with one clear line for what is wrong."""
    words = normalise(argv, USAGE)
    last = {word.partition("=")[0]: place for place, word in enumerate(words)}
    words = [word for place, word in enumerate(words) if _stays(word, place == last[word.partition("=")[0]])]
    doc = re.sub(r"(?m)^  -(?=\w)", "  --", USAGE[USAGE.index("Usage:") : USAGE.index("  -h, -help")])
    try:
        given = docopt.docopt(re.sub(r"\n\n  plan .*?\n\n", "\n\n", doc, flags=re.S), words, default_help=False)
    except docopt.DocoptExit:
        raise ConfigError(f"cannot make sense of {' '.join(argv)!r}; -h tells how it is written") from None
    job = (given["<job>"] or "").lower()
    job = ALIASES.get(job, job)
    if job and job not in TASK_TYPES:
        raise ConfigError(f"unknown job {given['<job>']!r}; known are {', '.join(TASK_TYPES)}")
    return Flags(
        command=next(word for word in ("plan", "run", "undo", "status", "doctor") if given[word]),
        job=job,
        masters=_addresses(given, "master"),
        admin=next(iter(_addresses(given, "admin")), None),
        forget=_addresses(given, "forget"),
        worker=next(iter(_addresses(given, "worker")), None),
        volume_ids=frozenset(_volume_ids(given["--volumeId"] or "")),
        collections=_collections(given["--collection"]),
        config=_config(job, given["--set"]),
        most=_number(given, "max", 0),
        concurrent=_number(given, "concurrent", 1),
        dry_run=given["--dryRun"],
        yes=given["--yes"],
        everything=given["--all"],
        json=given["--json"],
        working_dir=Path(given["--workingDir"]).expanduser() if given["--workingDir"] else None,
        config_dir=Path(given["--config_dir"]).expanduser() if given["--config_dir"] else None,
        rates=(_number(given, "maxMBps", 0) * 1e6, _number(given, "maxMBpsPerServer", 0) * 1e6),
        ec_window=_number(given, "ecWindowMB", 16) << 20,
        data_dirs=parse_data_dirs(given["--dataDir"]),
        verbosity=_number(given, "v", 0),
    )


def _stays(word: str, is_last: bool) -> bool:
    """Whether a word counts: of a flag given twice the last one does, but each -set."""
    return is_last or word.startswith("--set=") or not word.startswith("-")


def _addresses(given: Mapping[str, Any], name: str) -> tuple[Address, ...]:
    try:
        return tuple(Address.parse(part) for part in (given[f"--{name}"] or "").split(",") if part.strip())
    except BadTask as error:
        raise ConfigError(f"-{name}: {error}") from None


def _number(given: Mapping[str, Any], name: str, least: int) -> int:
    text = given[f"--{name}"]
    if not text.isdecimal() or not least <= int(text) < 10**9:
        raise ConfigError(f"-{name}={text} is out of range; a whole number of at least {least}")
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


def _config(job: str, given: Iterable[str]) -> dict[str, Value]:
    """The job's settings over its defaults; refuses what admin's form would not offer."""
    if not job:
        return {}
    pairs = [text.partition("=") for text in given]
    descriptor = weed_tasks.load([job])[job].DESCRIPTOR
    known = [form_field.name for form_field in descriptor.fields]
    for name, equals, _value in pairs:
        if name not in known:
            raise ConfigError(f"-set: {job} has no setting {name!r}; it has {', '.join(known) or 'none'}")
        if not equals:
            raise ConfigError(f"-set={name} needs a value: -set={name}=...")
    wanted: dict[str, Value] = {name: value for name, _equals, value in pairs}
    config, warnings = model.settings(descriptor, {}, wanted)
    if warnings:
        raise ConfigError(f"-set: {warnings[0]}")
    return config
