"""One worker per volume in the whole cluster: a lease at the master, named after the volume.

The master's locks have names; "shell" is the one that operators and admins take, and this is another. It is kept by
renewing it in the background, so a worker that was suspended or cut off loses it, and asks before it does harm.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from proto_gen.master_pb2 import LeaseAdminTokenResponse
from weed_cluster.call import SHORT
from weed_cluster.client import Cluster
from weed_cluster.leash import Leash
from weed_cluster.master import Master
from weed_core.errors import BadTask, Busy, ServerFailed
from weed_safety.context import Context

RENEW = 3.0
"""Seconds between renewals."""

SAFE = 8.0
"""Seconds after a renewal in which the lease cannot have passed to another: the master gives it for 10."""

LEASE_PATIENCE = 30.0
"""Seconds that recovery waits for a volume's lease: that of a killed worker ends after 10."""


class Lease:
    """A lease under renewal."""

    def __init__(self, master: Master, volume_id: int) -> None:
        self._master = master
        self._volume_id = volume_id
        self._client = f"weed_worker {socket.gethostname()} {os.getpid()}"
        self._why = ""
        self._token = LeaseAdminTokenResponse()
        self._renewed = 0.0
        self.taken_by = ""  # who has it instead
        self._asking = threading.Lock()
        self._ended = threading.Event()

    @property
    def is_lost(self) -> bool:
        """Whether another worker has it by now."""
        return bool(self.taken_by)

    def take(self) -> None:
        """Take or renew it; Busy where another worker holds it."""
        with self._asking:
            asked = time.monotonic()
            try:
                self._token = self._master.lease_admin_token(
                    lock_name=f"weed_worker.volume.{self._volume_id}",
                    # Masters tell of a lock's client alone, never of its message.
                    client_name=f"{self._client} ({self._why})" if self._why else self._client,
                    previous_token=self._token.token,
                    previous_lock_time=self._token.lock_ts_ns,
                    message=self._why or f"volume {self._volume_id}",
                    timeout=5.0 if self._token.token else SHORT,  # a connection may have to be made first
                )
            except ServerFailed as error:
                if "already locked" not in error.detail:
                    raise
                self.taken_by = error.detail.partition("already locked by ")[2] or "another worker"
                raise Busy(f"volume {self._volume_id} is being worked on by {self.taken_by}") from None
            self._renewed = asked
            self.taken_by = ""

    def say(self, why: str) -> None:
        """Tell whoever asks for the volume what it is held for, from now on; Busy where another worker has it."""
        self._why = why
        try:
            self.take()
        except ServerFailed:
            pass  # the next renewal tells

    def check(self) -> None:
        """Make sure that it is still ours; raise Busy if not, ServerFailed if the master cannot tell."""
        if self.is_lost or time.monotonic() - self._renewed > SAFE:
            if self.is_lost:
                raise Busy(f"volume {self._volume_id} was taken over by {self.taken_by}")
            self.take()

    def keep(self) -> None:
        """Renew it until release(); run by a thread of its own."""
        while not self._ended.wait(RENEW):
            try:
                self.take()
            except Busy:
                return
            except ServerFailed:
                continue

    def release(self) -> None:
        """Give it back."""
        self._ended.set()
        try:
            self._master.release_admin_token(
                lock_name=f"weed_worker.volume.{self._volume_id}",
                previous_token=self._token.token,
                previous_lock_time=self._token.lock_ts_ns,
                timeout=5.0,
            )
        except ServerFailed:
            pass  # it ends by itself


def holder_of(cluster: Cluster, volume_id: int) -> str:
    """Who works on a volume now, and what for where that is told; "" for nobody. ServerFailed where no master tells."""
    lease = Lease(cluster.master(), volume_id)
    try:
        lease.take()  # masters tell only those who ask for it
    except Busy:
        return lease.taken_by
    lease.release()
    return ""


@contextmanager
def volume_lease(ctx: Context, volume_id: int, patience: float = 0.0) -> Iterator[Lease]:
    """Hold the volume's lease; Busy where another worker holds it for longer than `patience` seconds."""
    # Not on the job's leash: an undo after a cancel needs the lease, too.
    lease = Lease(Cluster(ctx.cluster.channels, ctx.cluster.masters, Leash()).master(), volume_id)

    def taken() -> bool:
        try:
            lease.take()
        except Busy:
            return False
        return True

    if not patience or not ctx.until(taken, patience):
        lease.take()
    keeper = threading.Thread(target=lease.keep, name=f"lease-{volume_id}", daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        lease.release()


def hold(ctx: Context, volume_id: int, patience: float = 0.0) -> AbstractContextManager[Lease | None]:
    """Hold the volume against other workers, where a master is known that can say so; Busy where one has it."""
    if ctx.options.dry_run or known_master(ctx) is None:
        return nullcontext()
    return volume_lease(ctx, volume_id, patience)


def known_master(ctx: Context) -> Master | None:
    """The master, or None where none is known: some admins tell none."""
    try:
        return ctx.master()
    except BadTask:
        return None
