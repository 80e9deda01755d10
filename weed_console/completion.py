"""Completion of commands, flags, jobs and settings by shells, and the man page: from what the help texts say. Pure.

The agent's flags come as its usage text, since this floor knows nothing of the agent.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import weed_tasks
from weed_console import help as console_help
from weed_console.flags import COMMANDS, OPTIONS
from weed_core.errors import ConfigError
from weed_core.goflags import Described, described, variable
from weed_core.guess import did_you_mean
from weed_core.job_types import CATEGORIES, TASK_TYPES

SHELLS = ("bash", "zsh", "fish")

NAMES = ("weed_worker", "weed_worker.pyz")
"""What the program is called where it is installed."""

AGENT = "worker"
"""The word that stands for the agent, which needs none."""

OTHERS = {"help": "lists a command's flags, or a job's settings", "completion": "prints completion for a shell"}
OTHERS |= {"man": "prints the man page"}
"""Words that are no commands on a cluster."""

VALUES = {
    "capabilities": (*TASK_TYPES, *CATEGORIES),
    "jobType": (*TASK_TYPES, *CATEGORIES),
    "profile": ("background", "balanced", "fast"),
    "protocol": ("auto", "plugin", "classic"),
    "logFormat": ("text", "json"),
    "dataDir": ("auto", "none"),
}
"""What flags take, where that is a word of a few."""


def printed(words: Sequence[str], usage: str, version: str) -> str:
    """What `completion SHELL` and `man` print."""
    return completion(words[1:], usage) if words[0] == "completion" else manual(usage, version)


def completion(words: Sequence[str], usage: str) -> str:
    """The script for the shell that is named; ConfigError, with what to do, for another."""
    shell = next(iter(words), "").lower()
    if shell not in SHELLS or len(words) > 1:
        guess = did_you_mean(shell, SHELLS) if shell else ""
        raise ConfigError(f"completion is for one shell: {', '.join(SHELLS)}{guess}")
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](_flags(usage))


def _flags(usage: str) -> dict[str, list[Described]]:
    """The flags of each command, and of the agent."""
    ours = {
        command: [Described(one.name, one.value, one.text) for one in OPTIONS if command in one.commands]
        for command in COMMANDS
    }
    return {**ours, AGENT: described(usage)}


def _settings(job: str) -> list[str]:
    return [field.name for field in weed_tasks.load([job])[job].DESCRIPTOR.fields]


def _bash(flags: dict[str, list[Described]]) -> str:
    def typed(command: str) -> str:
        words = [f"-{one.name}=" if one.value else f"-{one.name}" for one in flags[command]]
        words += [f"-{one.name}={value}" for one in flags[command] for value in VALUES.get(one.name, ())]
        return " ".join(words)

    cases = [f'        {command}) words="{typed(command)}" ;;' for command in COMMANDS]
    sets = [
        f'        {job}) words="$words {" ".join(f"-set={name}=" for name in _settings(job))}" ;;' for job in TASK_TYPES
    ]
    return f"""\
# Completion of weed_worker for bash; made by: weed_worker completion bash
_weed_worker() {{
    local line=${{COMP_LINE:0:COMP_POINT}} verb="${{COMP_WORDS[1]}}" words="" word before
    word="${{line##* }}"
    case "$verb" in
{chr(10).join(cases)}
        help) words="{" ".join((*COMMANDS, *TASK_TYPES))}" ;;
        completion) words="{" ".join(SHELLS)}" ;;
        *) words="{typed(AGENT)}" ;;
    esac
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="$words {" ".join((*COMMANDS, *OTHERS))}"
    elif [ "$verb" = plan ] || [ "$verb" = run ]; then
        case "${{COMP_WORDS[2]}}" in
{chr(10).join(sets)}
        esac
        [ "$COMP_CWORD" -eq 2 ] && words="$words {" ".join(TASK_TYPES)}"
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    [ "${{#COMPREPLY[@]}}" -gt 0 ] && [ "${{COMPREPLY[0]: -1}}" = "=" ] && compopt -o nospace 2>/dev/null
    before="${{word%"${{word##*[=:]}}"}}"  # bash itself completes only what stands behind the last = or :
    COMPREPLY=("${{COMPREPLY[@]#"$before"}}")
}}
complete -F _weed_worker {" ".join(NAMES)}
"""


def _zsh(flags: dict[str, list[Described]]) -> str:
    def quoted(text: str) -> str:
        return text.replace("'", "'\\''")

    def spec(one: Described) -> str:
        text = quoted(one.text).replace("[", "(").replace("]", ")").replace(":", "\\:")
        many = "*" if one.name == "set" else ""
        values = f":{one.value}:({' '.join(VALUES.get(one.name, ()))})" if one.value else ""
        return f"'{many}-{one.name}{'=' if one.value else ''}[{text}]{quoted(values)}'"

    def arguments(command: str, *more: str) -> str:
        lines = [*(f"'{text}'" for text in more), *(spec(one) for one in flags[command])]
        return " \\\n        ".join(["_arguments -S", *lines])

    jobs, cases = f":job:({' '.join(TASK_TYPES)})", []
    for command in COMMANDS:
        more = (f"2{jobs}",) if command in ("plan", "run") else ()
        cases.append(f"    {command})\n      {arguments(command, '1:command:', *more)}\n      ;;")
    words = " ".join((*COMMANDS, *TASK_TYPES))
    return f"""\
#compdef {" ".join(NAMES)}
# Completion of weed_worker for zsh; made by: weed_worker completion zsh
_weed_worker() {{
  case "${{words[2]}}" in
{chr(10).join(cases)}
    help)
      _arguments '1:command:' '2:command or job:({words})'
      ;;
    completion)
      _arguments '1:command:' '2:shell:({" ".join(SHELLS)})'
      ;;
    *)
      {arguments(AGENT, f"1:command:({' '.join((*COMMANDS, *OTHERS))})")}
      ;;
  esac
}}
_weed_worker "$@"
"""


def _fish(flags: dict[str, list[Described]]) -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    def lines(program: str) -> Iterator[str]:
        yield f"complete -c {program} -f"
        known = " ".join((*COMMANDS, *OTHERS))
        for word, text in {**console_help.SAYS, **OTHERS}.items():
            yield f"complete -c {program} -n __fish_use_subcommand -a {word} -d {quoted(text)}"
        for command, options in flags.items():
            seen = (
                f"not __fish_seen_subcommand_from {known}"
                if command == AGENT
                else (f"__fish_seen_subcommand_from {command}")
            )
            for one in options:
                takes = f" -x -a {quoted(' '.join(VALUES.get(one.name, ())))}" if one.value else ""
                yield f"complete -c {program} -n '{seen}' -o {one.name}{takes} -d {quoted(one.text)}"
        jobs = " ".join(TASK_TYPES)
        yield f"complete -c {program} -n '__fish_seen_subcommand_from plan run help' -a '{jobs}' -d job"
        yield f"complete -c {program} -n '__fish_seen_subcommand_from help' -a '{' '.join(COMMANDS)}'"
        yield f"complete -c {program} -n '__fish_seen_subcommand_from completion' -a '{' '.join(SHELLS)}'"

    head = "# Completion of weed_worker for fish; made by: weed_worker completion fish"
    return "\n".join([head, *(line for program in NAMES for line in lines(program)), ""])


# ---- the man page


def manual(usage: str, version: str) -> str:
    """The man page, section 8: what -h and `help` say, as roff."""
    lines = [f'.TH WEED_WORKER 8 "" "weed_worker {_roff(version)}" "SeaweedFS maintenance"']
    lines += [".SH NAME", "weed_worker \\- maintenance worker and one\\-shot maintenance for SeaweedFS"]
    lines += [".SH SYNOPSIS", ".B weed_worker", "[\\fIflags\\fR]"]
    for command in COMMANDS:
        word = {"plan": " [\\fIJOB\\fR]", "run": " \\fIJOB\\fR"}.get(command, "")
        lines += [".br", f"\\fBweed_worker {command}\\fR{word} [\\fIflags\\fR]"]
    lines += [".SH DESCRIPTION", _roff(usage.partition("\n")[0])]
    lines += ["Started with one of the commands below it works on a cluster at once, without an admin server."]
    lines += ["\\fB-flag=value\\fR, \\fB-flag value\\fR and \\fB--flag=value\\fR mean the same.".replace("-", "\\-")]
    lines += [".SH COMMANDS"]
    for command in COMMANDS:
        lines += [".TP", f".B {command}", _roff(console_help.SAYS[command])]
    for word, text in OTHERS.items():
        lines += [".TP", f".B {word}", _roff(text)]
    lines += [".SH FLAGS OF THE WORKER", *_options(described(usage))]
    lines += [".SH FLAGS OF THE COMMANDS"]
    lines += _options([Described(one.name, one.value, f"({', '.join(one.commands)}) {one.text}") for one in OPTIONS])
    lines += [
        ".SH JOBS",
        f"{_roff(', '.join(TASK_TYPES))}.",
        "\\fBweed_worker help\\fR \\fIJOB\\fR lists its settings.",
    ]
    lines += [".SH ENVIRONMENT", "Each flag may be given as a variable, behind the command line:"]
    names = sorted({*(one.name for one in described(usage)), *(one.name for one in OPTIONS)} - {"h", "version"})
    for name in names:
        lines += [".TP", f".B {_roff(variable(name))}", _roff(f"-{name}")]
    lines += [
        ".TP",
        ".B WEED_WORKER_ADMIN_USER, WEED_WORKER_ADMIN_PASSWORD",
        "The login of an admin that asks for one.",
    ]
    lines += [".SH EXIT STATUS"]
    for code, text in console_help.STATUSES:
        lines += [".TP", f".B {code}", _roff(text)]
    lines += [".SH EXAMPLES"]
    for command in COMMANDS:
        for example in console_help.EXAMPLES[command]:
            lines += [".PP", ".nf", _roff(example), ".fi"]
    return "\n".join([*lines, ""])


def _options(options: Sequence[Described]) -> Iterator[str]:
    for one in options:
        value = f"=\\fI{_roff(one.value)}\\fR" if one.value else ""
        yield from (".TP", f"\\fB{_roff('-' + one.name)}\\fR{value}", _roff(one.text))


def _roff(text: str) -> str:
    """A text as roff has it: nothing in it is a request, and a dash is a dash."""
    line = text.replace("\\", "\\e").replace("-", "\\-")
    return textwrap.fill(f"\\&{line}" if line.startswith((".", "'")) else line, 100, break_on_hyphens=False)
