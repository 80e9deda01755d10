"""How plans are shown: what is to do, the most rewarding first; what that changes; and why the rest is passed over.

Prints by Screen alone; asks no server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from weed_cluster.replica_placement import plain_type
from weed_cluster.topology import Topology
from weed_console import spelling
from weed_console.estimate import together
from weed_console.flags import SCRIPT_JOB, Flags
from weed_console.jobs import Row, ids_text
from weed_console.screen import Screen
from weed_core.model import Detection, Skipped
from weed_core.text import size_text, time_text

LIST = 20
"""Rows of a list that are shown unless -all is given."""

REASONS, FEW = 5, 3
"""Reasons of volumes passed over that are told in full unless -all is given, of groups of at most so many."""

BAR = 20
"""Characters of a bar that stands for a full server."""

Cells = list[str]


@dataclass(frozen=True)
class Look:
    """One look for work of one job type: `rows` are those to be done now, `left` how many more there are."""

    job: str
    rows: Sequence[Row]
    found: Detection
    topology: Topology | None
    left: int = 0

    @property
    def volumes(self) -> int:
        """How many volumes the rows are about."""
        return len({volume_id for row in self.rows for volume_id in row.volume_ids})

    @property
    def moves(self) -> int:
        """Bytes that are moved."""
        return sum(row.moves for row in self.rows)

    @property
    def frees(self) -> int:
        """Bytes that are given back."""
        return sum(row.frees for row in self.rows)

    def seconds(self, at_once: int) -> float:
        """Seconds that it should take with so many jobs at once."""
        return together(((row.seconds, row.waits) for row in self.rows), at_once)


def by_gain(rows: Iterable[Row]) -> list[Row]:
    """Rows, those that give most first; where nothing is freed, as the job ordered them: the most urgent first."""
    return sorted(rows, key=lambda row: -row.frees)


def show(screen: Screen, flags: Flags, look: Look) -> None:
    """Show what is to do for one job type, and what is passed over."""
    most = len(look.rows) if flags.everything else LIST
    if look.rows and look.job == SCRIPT_JOB:
        for row in look.rows:
            show_script(screen, row.proposal.detail)
    elif look.rows:
        for line in _headline(flags, look):
            screen.say(line, "bold")
        _rows(screen, flags, look, most)
        if look.job == "balance":
            _fill(screen, look)
        for line in shut_lines(look.rows):
            screen.say(line, "warning")
    else:
        screen.say(f"nothing to do for {look.job}" + (f": {look.found.summary}" if look.found.summary else ""), "bold")
    _passed_over(screen, look.found.skipped, flags.everything)


def show_script(screen: Screen, text: str) -> None:
    """What the commands of a script said, or would, line by line."""
    for line in text.split("\n"):
        screen.say(line, "bold" if line.startswith("$ ") else "")


def _headline(flags: Flags, look: Look) -> Iterable[str]:
    total = len(look.rows) + look.left
    what = f"{total} to do for {look.job}"
    if look.left:
        what += f", {'this one' if len(look.rows) == 1 else f'these {len(look.rows)}'} first (-max={flags.most})"
        what += f", {look.left} left"
    gains = [f"frees {size_text(look.frees)}"] if look.frees else []
    gains += [f"{size_text(look.moves)} to move"] if look.moves and look.job != "vacuum" else []
    limit = f" at {flags.rates[0] / 1e6:.0f} MB/s" if flags.rates[0] else ""
    yield f"{what}: {', '.join([*gains, f'about {time_text(look.seconds(flags.concurrent))}{limit}'])}"


def _rows(screen: Screen, flags: Flags, look: Look, most: int) -> None:
    heads, cells_of = _columns(look)
    rows = [cells for row in look.rows for cells in cells_of(row)]
    shown = rows[:most]
    right = [head for head in heads if head in ("VOLUME", "SIZE", "GARBAGE", "FREES", "SAVES")]
    screen.table(heads, shown, right, drop=("SERVER",))
    if len(rows) > len(shown):
        screen.say(f"and {len(rows) - len(shown)} more (-all lists them)", "dim")


def _columns(look: Look) -> tuple[Sequence[str], Callable[[Row], list[Cells]]]:
    """The heads of a job's table, and what makes a row's cells."""

    def first(row: Row) -> Cells:
        return [ids_text(row.volume_ids), row.collection or "-", _first(row.servers), _size(row.size)]

    def words(row: Row) -> str:
        text = row.proposal.summary
        return text.removeprefix(f"volume {row.volume_ids[0]} ") if row.volume_ids else text

    if look.job == "vacuum":
        heads: Sequence[str] = ("VOLUME", "COLLECTION", "SERVER", "SIZE", "GARBAGE", "FREES")
        return heads, lambda row: [[*first(row), f"{row.garbage:.0%}", size_text(row.frees)]]
    if look.job == "erasure_coding":
        heads = ("VOLUME", "COLLECTION", "SERVER", "SIZE", "SAVES")
        return heads, lambda row: [[*first(row), size_text(row.frees) if row.frees else "-"]]
    if look.rows and all(row.each for row in look.rows) and look.job == "balance":
        heads = ("VOLUME", "COLLECTION", "SIZE", "FROM", "TO")
        return heads, lambda row: [
            [str(m.volume_id), m.collection or "-", _size(m.size), m.source, m.target] for m in row.each
        ]
    heads = ("VOLUME", "COLLECTION", "SERVER", "SIZE", "WHAT")
    return heads, lambda row: [[*first(row), words(row)]]


def _fill(screen: Screen, look: Look) -> None:
    """How many volumes each server has, and how full of them it is, before the moves and after."""
    rows: list[tuple[float, Cells]] = []
    for server, now, then, slots in _levels(look):
        fill = [_bar(count / slots) if slots else "" for count in (now, then)]
        rows.append((now / slots if slots else now, [server, str(now), str(then), *fill]))
    if not rows:
        return
    rows.sort(key=lambda row: (-row[0], row[1][0]))
    screen.say()
    heads = ("SERVER", "VOLUMES", "THEN", "FILL", "THEN FILL")
    screen.table(heads, [cells for _fullness, cells in rows[:LIST]], ("VOLUMES", "THEN"), drop=("FILL",))
    if len(rows) > LIST:
        screen.say(f"and {len(rows) - LIST} more servers", "dim")


def _levels(look: Look) -> list[tuple[str, int, int, int]]:
    """Each server with its volumes before and after the moves, and its slots, on disks of the types concerned."""
    if look.topology is None:
        return []
    moves = [move for row in look.rows for move in row.each]
    change = Counter(move.target for move in moves)
    change.subtract(move.source for move in moves)
    numbers = {move.volume_id for move in moves}
    kinds = {plain_type(r.disk_type) for number in numbers for r in look.topology.volumes.get(number, ())}
    found = []
    for node in look.topology.nodes.values():
        if disks := [disk for kind, disk in node.disks.items() if plain_type(kind) in kinds]:
            now, slots = sum(disk.volume_count for disk in disks), sum(disk.max_volume_count for disk in disks)
            found.append((str(node.address), now, now + change[str(node.address)], slots))
    return found


def _levelled(look: Look) -> str:
    """How far apart the fullest and the emptiest server are, before the moves and after."""
    pairs = [(now / slots, then / slots) for _server, now, then, slots in _levels(look) if slots]
    if len(pairs) < 2:
        return ""
    before, after = ([pair[number] for pair in pairs] for number in (0, 1))
    was, then = (f"{max(shares):.0%} and {min(shares):.0%}" for shares in (before, after))
    return f"fullest and emptiest server: {was}, then {then}"


def _bar(share: float) -> str:
    return f"{share:4.0%} {'#' * round(BAR * min(share, 1.0))}"


def _passed_over(screen: Screen, skipped: Sequence[Skipped], everything: bool) -> None:
    """Why volumes are passed over: by reason, and in full where it is asked for or where few share the reason."""
    if not skipped:
        return
    groups = Counter(skip.key for skip in skipped)
    screen.say()
    rare = [key for key, count in reversed(groups.most_common()) if count <= FEW]
    some = [skip for key in rare for skip in skipped if skip.key == key][:REASONS]
    shown = list(skipped) if everything else some
    grouped = ", ".join(f"{count} {key}" for key, count in groups.most_common())
    more = "" if len(shown) == len(skipped) else " (-all lists each)"
    screen.say(f"{len(skipped)} passed over: {grouped}{more}", "bold")
    if everything:
        screen.table(
            ("VOLUME", "COLLECTION", "SERVER", "SIZE", "REASON"),
            [
                [str(skip.volume_id or "-"), skip.collection or "-", skip.server or "-", _size(skip.size), skip.reason]
                for skip in shown
            ],
            right=("VOLUME", "SIZE"),
            drop=("SERVER",),
        )
        return
    for skip in shown:
        screen.say(f"  {_named(skip)}")


def _named(skip: Skipped) -> str:
    named = skip.reason.startswith((f"volume {skip.volume_id} ", f"volume {skip.volume_id}:"))
    return skip.reason if named or not skip.volume_id else f"volume {skip.volume_id}: {skip.reason}"


def show_all(screen: Screen, flags: Flags, looks: Sequence[Look], failures: dict[str, str]) -> None:
    """A line for each job type, and the commands that do what is to do, in the order in which they should be done."""
    rows: list[Cells] = []
    for look in looks:
        gives = f"frees {size_text(look.frees)}" if look.frees else ""
        if not look.rows:
            gives = _why_nothing(look.found)
        elif look.job == "balance":
            gives = _levelled(look)
        elif look.job in ("replication", "ec_repair"):
            gives = f"mends {look.volumes} volume{'' if look.volumes == 1 else 's'}"
        size = look.frees if look.job == "vacuum" else look.moves
        rows.append(
            [
                look.job,
                str(len(look.rows)),
                str(look.volumes) if look.rows else "-",
                size_text(size) if look.rows and size else "-",
                gives or f"about {time_text(look.seconds(flags.concurrent))}",
            ]
        )
    rows += [[job, "-", "-", "-", why] for job, why in failures.items()]
    screen.table(("JOB", "TO DO", "VOLUMES", "BYTES", "WHAT IT GIVES"), rows, ("TO DO", "VOLUMES", "BYTES"))
    screen.say()
    for look in looks:
        if look.rows:
            screen.command(spelling.command(flags, "run", look.job))
    if not any(look.rows for look in looks):
        screen.command(spelling.command(flags, "doctor"))


def _why_nothing(found: Detection) -> str:
    groups = Counter(skip.key for skip in found.skipped)
    return ", ".join(f"{count} {key}" for key, count in groups.most_common(3)) or found.summary or "nothing to do"


def shut_lines(rows: Iterable[Row]) -> list[str]:
    """Say how many volumes will refuse writes for long, and why."""
    reasons = Counter(why for row in rows for why in row.proposal.shut.values())
    return [
        f"{count} {'volume refuses' if count == 1 else 'volumes refuse'} writes for about 10 min"
        f"{' each' if count > 1 else ''} after the change: {why}"
        for why, count in reasons.most_common()
    ]


def _size(size: int) -> str:
    return size_text(size) if size else "-"


def _first(names: Sequence[str]) -> str:
    return (names[0] + (f" +{len(names) - 1}" if len(names) > 1 else "")) if names else "-"
