"""How status is shown: the counts first, then who and what, in tables. Asks by weed_console.status alone."""

from __future__ import annotations

import json

from weed_console import status
from weed_console.flags import Flags
from weed_console.screen import Screen

FIGURES = ("DONE", "TOOK", "BYTES", "RATE", "LEFT", "TO DO", "OVER", "VOLUME")
"""Heads of columns of figures."""

DROP = ("KEPT", "ADDRESS", "VERSION", "COLLECTION", "TOOK", "RATE", "WORKER")
"""Columns that go where there is no room, the first one first."""


def show(screen: Screen, flags: Flags) -> None:
    """Ask once and show it; in JSON on one line where it is asked for again and again."""
    only = status.Only(flags.only_job, flags.only_failed)
    view = status.of_worker(flags.worker, only) if flags.worker else status.of_admin(flags.admin, only)
    if flags.json:
        print(json.dumps(view.document, indent=None if flags.watch else 2), flush=True)
        return
    if flags.watch:
        screen.clear()
    screen.say(view.counts, "bold")
    if view.who:
        screen.say(view.who)
    for title, heads, rows in view.tables:
        screen.say()
        screen.say(title, "bold")
        if rows:
            screen.table(heads, rows, FIGURES, DROP)
