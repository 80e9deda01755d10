"""What the one-shot commands show: tables and bars on a terminal, plain lines where there is none.

Knows how things look and nothing of what they mean. NO_COLOR is respected; no line is cut off where the output is no
terminal, so that it can be searched.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from weed_core.text import escaped

RATE_SECONDS = 30.0
"""A rate is the mean of this many seconds."""

RATE_AFTER = 3.0
"""Seconds that must be seen before a rate is told."""

PLAIN_EVERY = 10.0
"""Seconds between two lines about a running job where there is no terminal."""

WIDE = 110
"""Columns from which there is room for everything."""

READABLE = 45
"""Columns that a sentence needs at least."""

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


def size_text(size: float) -> str:
    """Bytes for people: 512 B, 1.5 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.0f} TiB" if size >= 100 else f"{size:.1f} TiB"


def time_text(seconds: float) -> str:
    """Seconds for people: 42s, 3m20s, 2h05m, 3d04h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 48 * 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


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
    """Where one command writes. With `quiet`, people's output goes to stderr, because stdout carries JSON."""

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
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
        text = escaped(text)
        if self.is_terminal:
            self._console.print(Text(text, style=STYLES.get(style, style)))
        else:
            self._console.print(text, soft_wrap=True)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
        """Write a table; `right` names the columns of figures. Where the last column has no room it goes below."""
        rows = [[escaped(cell) for cell in row] for row in rows]
        if not self.is_terminal:
            for line in _aligned(heads, rows, right):
                self._console.print(line, soft_wrap=True)
            return
        others = [max(len(row[place]) for row in [heads, *rows]) + 2 for place in range(len(heads) - 1)]
        room, last = self._console.width - sum(others), max((len(row[-1]) for row in rows), default=0)
        below = last > room and room < READABLE
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for head in heads[:-1]:
            table.add_column(head, justify="right" if head in right else "left", no_wrap=True, overflow="ellipsis")
        if not below:
            table.add_column(heads[-1], overflow="fold")
        for row in rows:
            cells = [Text(cell, style=STYLES.get(cell, "")) for cell in row]
            table.add_row(*(cells[:-1] if below else cells))
        if not below:
            self._console.print(table)
            return
        for place, segments in enumerate(self._console.render_lines(table, pad=False)):
            self._console.print(Segments([*segments, Segment.line()]), end="")
            if place:
                text = Text(rows[place - 1][-1])
                self._console.print(Padding(text, (0, 0, 0, min(others[0], 10)), expand=False))

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

    def moved(self, bar: Bar, fraction: float, stage: str) -> None:
        """A job told how far it is."""
        now, stage = time.monotonic(), escaped(stage)
        is_new, bar.fraction, bar.stage = stage != bar.stage, max(bar.fraction, min(fraction, 1.0)), stage
        if is_new:
            bar.pace = Pace()  # a stage's speed tells nothing of the next one's
        bar.pace.add(now, bar.fraction * bar.size)
        if not self.is_terminal and (is_new or now - bar.told >= PLAIN_EVERY):
            bar.told = now
            self.say(f"{bar.name}: {bar.fraction:4.0%} {self._figures(bar)}{stage}")

    def ended(self, bar: Bar, outcome: str, text: str) -> None:
        """A job ended: done, failed or undone."""
        with self._lock:
            self._bars.remove(bar)
            self._finished += 1
            self._done_bytes += bar.size
        self.say(f"{bar.name}: {outcome}: {text}", style=outcome)

    def _figures(self, bar: Bar) -> str:
        if not bar.size:
            return ""
        rate, left = bar.pace.rate, bar.pace.left(bar.size)
        speed = f", {size_text(rate)}/s" if rate else ""
        ends = "unknown" if left is None else time_text(left)
        return f"{size_text(bar.fraction * bar.size)} of {size_text(bar.size)}{speed}, time left {ends}; "

    def _render(self) -> RenderableType:
        width = self._console.width
        now = time.monotonic()
        with self._lock:
            bars, whole = list(self._bars), self._whole
            done = self._done_bytes + sum(bar.fraction * bar.size for bar in bars)
            if whole.size:
                whole.fraction = min(1.0, done / whole.size)
            elif self._wanted:
                whole.fraction = min(1.0, (self._finished + sum(bar.fraction for bar in bars)) / self._wanted)
            whole.stage = f"{self._finished} of {self._wanted} jobs ended"
        whole.pace.add(now, done)
        for bar in bars:
            bar.pace.add(now, bar.fraction * bar.size)  # a stalled job must show it
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(no_wrap=True, overflow="ellipsis", max_width=28 if width >= WIDE else 18)
        grid.add_column(width=30 if width >= WIDE else 12)
        for _column in range(4 if width >= 60 else 1):
            grid.add_column(justify="right", no_wrap=True)
        if width >= WIDE:
            grid.add_column(no_wrap=True, overflow="ellipsis")
        for bar in [*bars, whole]:
            grid.add_row(*self._row(bar, width))
        if width >= WIDE:
            return grid
        stages = [Text(f"{bar.name}: {bar.stage}", style="dim", no_wrap=True, overflow="ellipsis") for bar in bars]
        return Group(grid, *stages)

    def _row(self, bar: Bar, width: int) -> list[RenderableType]:
        cells: list[RenderableType] = [bar.name, ProgressBar(100.0, bar.fraction * 100), f"{bar.fraction:.0%}"]
        if width >= 60:
            rate, left = bar.pace.rate, bar.pace.left(bar.size)
            sizes = f"{size_text(bar.fraction * bar.size)}/{size_text(bar.size)}" if bar.size else ""
            speed = f"{size_text(rate)}/s" if rate and bar.size else ""
            cells += [sizes, speed, "" if not bar.size else f"ETA {'unknown' if left is None else time_text(left)}"]
        return [*cells, Text(bar.stage, style="dim")] if width >= WIDE else cells


def _aligned(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in [heads, *rows]) for place in range(len(heads))]
    for row in [heads, *rows]:
        cells = [
            cell.rjust(width) if head in right else cell.ljust(width) for cell, width, head in zip(row, widths, heads)
        ]
        yield "  ".join(cells).rstrip()
