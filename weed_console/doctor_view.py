"""How what doctor found is shown: a line for each cause and what mends it, what is well in one."""

from __future__ import annotations

from collections.abc import Sequence

from weed_console import spelling
from weed_console.doctor.departure import Departure
from weed_console.doctor.finding import OK, Finding, several, some
from weed_console.doctor.report import DETAILS, Group, counts, groups, summary
from weed_console.flags import Flags
from weed_console.screen import Screen
from weed_core.job_types import TASK_TYPES


def show(screen: Screen, flags: Flags, findings: Sequence[Finding]) -> None:
    """Write it all; with -v=1 each find, else the causes."""
    for group in groups(findings):
        screen.finding(group.level, group.code, group.text)
        if flags.verbosity and len(group.finds) > 1:
            _details(screen, group)
        for fix in group.fixes[:DETAILS]:
            screen.command(fix, "         fix")
    if flags.verbosity:
        for found in findings:
            if found.level == OK:
                screen.finding(OK, "", f"{found.where}: {found.what}")
    elif well := summary(findings):
        screen.finding(OK, "", well)
    screen.say()
    bad = counts(findings)
    more = "" if flags.verbosity else f"; {spelling.command(flags, 'doctor', extra={'v': '1'})} shows the detail"
    screen.say(f"{bad} to mend{more}" if bad else "all is well", "problem" if bad else "ok")


def _details(screen: Screen, group: Group) -> None:
    for found in group.finds[:DETAILS]:
        screen.say(f"         {found.where}: {found.what}", "dim")
    if len(group.finds) > DETAILS:
        screen.say(f"         and {len(group.finds) - DETAILS} more (-json lists them)", "dim")


def show_departure(screen: Screen, flags: Flags, found: Departure, next_command: str) -> None:
    """Write both answers, and the list behind them."""
    names = several(map(str, found.nodes), 6)
    them = "it" if len(found.nodes) == 1 else "them"
    for question, is_so in ((f"may I stop {them}?", found.may_stop), (f"remove {them} for good?", found.may_remove)):
        screen.say(f"{names}: {question} {'yes' if is_so else 'no'}", "ok" if is_so else "problem")
    most = 10_000 if flags.verbosity or flags.everything else 10
    for against, why, volumes in found.reasons():
        style = "problem" if against == "stop" else "warning"
        screen.say(f"  {some(volumes, most)} {why if len(volumes) > 1 else _one(why)}", style)
    for number, who in list(found.busy.items())[:most]:
        screen.say(f"    volume {number}: {who}", "dim")
    if found.silent:
        screen.say(f"  nothing is counted on {several(found.silent)}: no answer", "warning")
    if found.not_asked:
        screen.say(f"  whether a job works on {found.not_asked} more volumes was not asked", "warning")
    if not flags.admin:
        screen.say("  jobs of workers that keep no lease are known to the admin only: -admin=host:port", "dim")
    if next_command:
        screen.command(next_command)


def _one(why: str) -> str:
    return why.replace("have their", "has its", 1).replace("they ", "it ").replace("have a job", "has a job")


def next_of(flags: Flags, found: Departure) -> str:
    """What to type so that these servers may be removed; "" where nothing is to be done or no job does it."""
    if found.may_remove or "evacuate" not in TASK_TYPES:
        return ""
    return spelling.command(flags, "plan", "evacuate", {"node": ",".join(map(str, found.nodes))})
