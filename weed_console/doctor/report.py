"""What was found as a person reads it: one line for each cause, the gravest first, and what mends it. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from weed_console.doctor.finding import OK, PROBLEM, WARNING, Finding, several, some

DETAILS = 12
"""Finds of one cause that are listed in full."""

_ONE = {"are": "is", "have": "has", "do": "does", "use": "uses", "hold": "holds", "refuse": "refuses", "take": "takes"}
_SEVERAL = re.compile(rf"(?:^|(?<= and ))({'|'.join(_ONE)})\b")

_VOLUME = re.compile(r" -volumeId=\d+")


@dataclass(frozen=True)
class Group:
    """Finds of one cause: a line, what mends them, and the finds themselves."""

    level: str
    code: str
    text: str
    fixes: tuple[str, ...]
    finds: tuple[Finding, ...] = ()


def groups(findings: Sequence[Finding]) -> list[Group]:
    """The finds that are not well by their causes, the gravest first; those of one code belong together."""
    by_code: dict[str, list[Finding]] = defaultdict(list)
    for found in sorted((found for found in findings if found.level != OK), key=lambda found: found.rank):
        by_code[found.code].append(found)
    return [_group(found) for found in by_code.values()]


def summary(findings: Sequence[Finding]) -> str:
    """What is well, in one line."""
    words = [found.where for found in findings if found.level == OK]
    kinds: dict[str, int] = defaultdict(int)
    for word in words:
        kinds[_kind(word)] += 1
    return ", ".join(f"{count} {_plural(kind)}" if count > 1 else kind for kind, count in kinds.items())


def counts(findings: Sequence[Finding]) -> str:
    """How many causes of each level there are; "" where all is well."""
    levels = [group.level for group in groups(findings)]
    told = [
        f"{levels.count(level)} {level}{'' if levels.count(level) == 1 else 's'}"
        for level in (PROBLEM, WARNING)
        if level in levels
    ]
    return ", ".join(told)


def _plural(kind: str) -> str:
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"


def _kind(where: str) -> str:
    """A server's role without its address; a directory is called so."""
    if where.startswith("/"):
        return "working directory" if where.count("/") else where
    return re.sub(r" \S*[:/]\S*$", "", where)


def _group(found: Sequence[Finding]) -> Group:
    first = found[0]
    fixes = tuple(dict.fromkeys(one.fix for one in found if one.fix))
    if len(found) == 1:
        text = f"{first.where} {first.what}" if first.what.startswith(("was ", "has ", "have ")) else ""
        return Group(first.level, first.code, text or f"{first.where}: {first.what}", fixes, tuple(found))
    volumes = sorted({number for one in found for number in one.volumes})
    if volumes and len({_VOLUME.sub("", fix) for fix in fixes}) == 1 and all(_VOLUME.search(fix) for fix in fixes):
        fixes = (_VOLUME.sub(f" -volumeId={','.join(map(str, volumes))}", fixes[0]),)
    names = some(volumes) if volumes else several(dict.fromkeys(one.where for one in found))
    is_one = len(volumes) == 1 or len({one.where for one in found}) == 1
    title = _SEVERAL.sub(lambda verb: _ONE[verb[1]], first.title) if is_one else first.title
    text = f"{names}: {first.what}" if len({one.what for one in found}) == 1 else f"{names} {title}"
    return Group(first.level, first.code, text, fixes, tuple(found))
