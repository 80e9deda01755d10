"""What the one-shot commands show: tables and bars on a terminal, plain lines where there is none.

Knows how things look and nothing of what they mean. NO_COLOR is respected; no line is cut off where the output is no
terminal, so that it can be searched.
"""

from __future__ import annotations

import sys
import textwrap
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from weed_console.layout import fit
from weed_core.text import escaped, size_text, time_text

RATE_SECONDS = 30.0
"""A rate is the mean of this many seconds."""

RATE_AFTER = 3.0
"""Seconds that must be seen before a rate is told."""

PLAIN_EVERY = 10.0
"""Seconds between two lines about a running job where there is no terminal."""

WIDE, NARROW = 110, 60
"""Columns from which there is room for everything, and below which there is none for figures."""

STYLES = {
    "ok": "green",
    "done": "green",
    "checked": "green",
    "note": "cyan",
    "warning": "yellow",
    "undone": "yellow",
    "problem": "bold red",
    "failed": "bold red",
}
"""How the words that tell an outcome look."""


WRONG = ("problem", "failed", "warning", "undone", "shut", "not started")
"""What is said even where only what went wrong is wanted."""


class Pace:
    """How fast something grows, and when it will be done: told only from what the last seconds showed."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()

    def add(self, now: float, done: float) -> None:
        """Take note of how much is done."""
        self._samples.append((now, done))
        while len(self._samples) > 2 and self._samples[1][0] <= now - RATE_SECONDS:
            self._samples.popleft()

    @property
    def rate(self) -> float | None:
        """Units per second; None while it cannot be told."""
        if len(self._samples) < 2:
            return None
        (begin, before), (end, done) = self._samples[0], self._samples[-1]
        return max(0.0, done - before) / (end - begin) if end - begin >= RATE_AFTER else None

    def left(self, total: float) -> float | None:
        """Seconds until `total` is reached; None while that cannot be told, or nothing moves."""
        rate = self.rate
        return (total - self._samples[-1][1]) / rate if rate else None


@dataclass
class Bar:
    """One job on the board. `size` is the bytes it is expected to move, 0 where that is unknown."""

    name: str
    size: int = 0
    fraction: float = 0.0
    moved: int = 0  # bytes
    stage: str = ""
    told: float = 0.0  # when a plain line was last written

    def __post_init__(self) -> None:
        self.name = escaped(self.name)
        self.pace = Pace()


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Go on in silence: jobs must not fail because nobody listens any more."""
        self.quiet = True


class Screen:
    """Where one command writes. With `quiet`, people's output goes to stderr, because stdout carries JSON.

    With `hushed` only what went wrong is written.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None, hushed: bool = False) -> None:
        self._hushed = hushed
        self.hint = ""  # what a person may type while jobs run, below their bars
        self._console = _Console(
            file=stream or (sys.stderr if quiet else sys.stdout), highlight=False, markup=False, emoji=False
        )
        self._lock = threading.Lock()
        self._bars: list[Bar] = []
        self._whole = Bar("all")
        self._finished = 0
        self._wanted = 0
        self._done_bytes = 0

    @property
    def is_terminal(self) -> bool:
        """Whether somebody looks on."""
        return self._console.is_terminal

    def say(self, text: str = "", style: str = "") -> None:
        """Write a sentence; a terminal wraps it, a file gets one line."""
        if self._hushed and style not in WRONG:
            return
        text = escaped(text)
        if self.is_terminal:
            self._console.print(Text(text, style=STYLES.get(style, style)))
        else:
            self._console.print(text, soft_wrap=True)

    def table(
        self, heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = (), drop: Sequence[str] = ()
    ) -> None:
        """Write a table; `right` names the columns of figures, `drop` those that go first where there is no room."""
        if self._hushed:
            return
        rows = [[escaped(cell) for cell in row] for row in rows]
        width = self._console.width if self.is_terminal else sys.maxsize
        for number, lines in enumerate(fit(heads, rows, width, right, drop)):
            first = rows[number - 1][0] if number else ""
            for place, line in enumerate(lines):
                text = Text(line, style="" if number else "bold")
                if number and not place and first in STYLES:
                    text.stylize(STYLES[first], 0, len(first))
                self._console.print(text if self.is_terminal else line, soft_wrap=True)

    def finding(self, level: str, code: str, text: str) -> None:
        """Write what was found: how grave it is, its code, and what it is, wrapped on a terminal."""
        if self._hushed and level not in WRONG:
            return
        head, text = f"{level:<8} {code:<18} ", escaped(text)
        width = max(40, self._console.width) if self.is_terminal else sys.maxsize
        lines = textwrap.wrap(head + text, width, subsequent_indent=" " * 9, break_on_hyphens=False)
        for number, line in enumerate(lines):
            shown = Text(line)
            if not number and level in STYLES:
                shown.stylize(STYLES[level], 0, len(level))
            self._console.print(shown if self.is_terminal else line, soft_wrap=True)

    def command(self, text: str, what: str = "next") -> None:
        """Write a command that may be typed next: on one line, so that it can be copied."""
        if not self._hushed:
            self._console.print(f"{what}: {escaped(text)}", soft_wrap=True)

    def clear(self) -> None:
        """Begin anew on an empty terminal; elsewhere with an empty line."""
        if self.is_terminal:
            self._console.clear()
        else:
            self._console.print()

    # ---- bars

    @contextmanager
    def board(self, jobs: int, size: int) -> Iterator[None]:
        """Show bars for the jobs that run, and one for all of them, while the body runs."""
        self._wanted, self._whole.size = jobs, size
        if not self.is_terminal:
            yield
            return
        with Live(get_renderable=self._render, console=self._console, refresh_per_second=4, transient=True):
            yield

    def started(self, bar: Bar) -> None:
        """A job began."""
        with self._lock:
            self._bars.append(bar)
        if not self.is_terminal:
            self.say(f"{bar.name}: started")

    def moved(self, bar: Bar, fraction: float, stage: str, moved: int = 0) -> None:
        """A job told how far it is, and how many bytes were moved so far; 0 where that is not told."""
        now, stage = time.monotonic(), escaped(stage)
        is_new, bar.fraction, bar.stage = stage != bar.stage, max(bar.fraction, min(fraction, 1.0)), stage
        bar.moved = max(bar.moved, min(moved, bar.size))
        if is_new:
            bar.pace = Pace()  # a stage's speed tells nothing of the next one's
        bar.pace.add(now, bar.moved)
        if not self.is_terminal and (is_new or now - bar.told >= PLAIN_EVERY):
            bar.told = now
            figures = ", ".join(filter(None, self._figures(bar)))
            self.say(f"{bar.name}: {stage}" + (f" ({figures})" if figures else ""))

    def ended(self, bar: Bar, outcome: str, text: str) -> None:
        """A job ended: done, failed or undone."""
        with self._lock:
            self._bars.remove(bar)
            self._finished += 1
            self._done_bytes += bar.size if outcome in ("done", "checked") else 0
        self.say(f"{bar.name}: {outcome}: {text}", style=outcome)

    def _figures(self, bar: Bar) -> tuple[str, str, str]:
        """How much was moved, how fast, and when it will be done; each "" where that cannot be told."""
        if not bar.moved:
            return "", "", ""
        rate, left = bar.pace.rate, bar.pace.left(bar.size)
        speed = f"{size_text(rate)}/s" if rate else ""
        ends = f"{time_text(left)} left" if left is not None and bar.moved < bar.size else ""
        return f"{size_text(bar.moved)} of {size_text(bar.size)}", speed, ends

    def _render(self) -> RenderableType:
        width = self._console.width
        now = time.monotonic()
        with self._lock:
            bars, whole = list(self._bars), self._whole
            whole.moved = min(whole.size, self._done_bytes + sum(bar.moved for bar in bars))
            if self._wanted:
                whole.fraction = min(1.0, (self._finished + sum(bar.fraction for bar in bars)) / self._wanted)
            waiting = self._wanted - self._finished - len(bars)
            whole.stage = f"{self._finished} of {self._wanted} done" + (f", {waiting} waiting" if waiting else "")
        whole.pace.add(now, whole.moved)
        for bar in bars:
            bar.pace.add(now, bar.moved)  # a stalled job must show it
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(no_wrap=True, overflow="fold")
        grid.add_column(width=30 if width >= WIDE else 12)
        for _column in range(3 if width >= NARROW else 0):
            grid.add_column(justify="right", no_wrap=True)
        if width >= WIDE:
            grid.add_column(no_wrap=True, overflow="ellipsis")
        for bar in [*bars, whole]:
            grid.add_row(*self._row(bar, width))
        hint = [_line(self.hint)] if self.hint else []
        if width >= WIDE:
            return Group(grid, *hint)
        stages = [_line(f"{bar.name}: {bar.stage}") for bar in [*bars, whole]]
        return Group(grid, *stages, *hint)

    def _row(self, bar: Bar, width: int) -> list[RenderableType]:
        share = bar.moved / bar.size if bar.size and bar.moved else bar.fraction
        cells: list[RenderableType] = [bar.name, ProgressBar(100.0, share * 100)]
        if width >= NARROW:
            sizes, speed, ends = self._figures(bar)
            cells += [sizes or f"{share:.0%}", speed, ends]
        return [*cells, Text(bar.stage, style="dim")] if width >= WIDE else cells


def _line(text: str) -> Text:
    return Text(text, style="dim", no_wrap=True, overflow="ellipsis")
