"""The ledger as a job and a look use it: this worker's own and, where the cluster has a filer, that of all workers.

Each segment is a small file under /etc/weed_worker/scrub. Two workers that write one at the same moment lose nothing:
each keeps what it wrote itself, and whoever writes next merges it in again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from weed_core.errors import ServerFailed
from weed_core.scrub_ledger import Ledger, Mark, Unfinished, unfinished_name
from weed_safety import records
from weed_safety.context import Context

DIRECTORY = f"{records.ROOT}/scrub"
"""Where filers show it."""


_NOTING = threading.Lock()
"""Held while segments are written: two jobs of one process may write the same."""


class Book:
    """The ledger, read when this is made; what is noted is kept here at once, and told to others by share()."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._own = ctx.scrubbed.all()
        self.ledger = Ledger(self._own)
        self._untold: set[str] = set()
        self._ended: set[str] = set()
        try:
            shared = records.read_all(ctx, DIRECTORY)
        except ServerFailed as error:
            ctx.log(f"what other workers have verified is not known now: {error}")
            return
        for name, content in shared.items():
            self.ledger.take(name, content)
        mine = [name for name in self._own if name.startswith("segment-")]
        self._untold = {name for name in mine if self.ledger.document(name) != shared.get(name)}

    def note(self, marks: Iterable[Mark]) -> None:
        """Keep what was verified, beside what other jobs of this process have noted meanwhile."""
        names = self.ledger.note(marks)
        with _NOTING:
            self.catch_up()
            for name in names:
                self._ctx.scrubbed.put(name, self.ledger.document(name))
        self._untold |= names

    def catch_up(self) -> None:
        """Take in what others have noted in this directory since."""
        for name, content in self._ctx.scrubbed.all().items():
            if name.startswith("segment-"):
                self.ledger.take(name, content)

    def go_on_later(self, volume_id: int, unfinished: Unfinished | None) -> None:
        """Keep how far a volume was read; None: it was read to its end."""
        name = unfinished_name(volume_id)
        if unfinished is not None:
            self.ledger.unfinished[volume_id] = unfinished
            self._ctx.scrubbed.put(name, unfinished.document())
            self._untold.add(name)
        elif self.ledger.unfinished.pop(volume_id, None) is not None:
            self._ctx.scrubbed.remove(name)
            self._untold.discard(name)
            self._ended.add(name)

    def share(self) -> None:
        """Tell other workers; where no filer answers this worker alone knows it, until the next time."""
        ctx = self._ctx
        try:
            for name in sorted(self._untold):
                if not records.put(ctx, DIRECTORY, name, self.ledger.document(name)):
                    return
            for name in sorted(self._ended):
                records.remove(ctx, DIRECTORY, name)
        except ServerFailed as error:
            ctx.log(f"what was verified is known to this worker alone: {error}")
        else:
            self._untold.clear()
            self._ended.clear()
