"""The cluster's exclusive lock, "shell": what `weed shell` takes before it changes anything, and 4.44 admins too.

It is cooperative: no volume server asks for it. The master gives it for ten seconds, so it is renewed in the
background; a process that was suspended or cut off loses it and is told so.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from proto_gen.master_pb2 import LeaseAdminTokenResponse
from weed_cluster.client import Master
from weed_errors import Busy, ServerFailed

NAME = "shell"

RENEW = 3.0
"""Seconds between renewals."""

LEASE = 10.0
"""Seconds after which the master gives the lock to another."""

CALL = 3.0
"""Deadline in seconds of a renewal: two of them fit into a lease."""


@contextmanager
def shell_lock(master: Master, message: str, lost: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock; raise Busy, naming the holder, where another has it, ServerFailed where no master answers.

    `message` tells others what it is held for. `lost` is called, once and from another thread, with the reason where
    the lock could not be kept. The master client's leash must not end before this does.
    """
    lock = _Lock(master, message)
    lock.take()
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(RENEW):
            try:
                lock.take()
            except Busy as error:
                lost(str(error))
                return
            except ServerFailed as error:
                if time.monotonic() - lock.taken_at > LEASE:
                    lost(f"the cluster's lock ran out, because it could not be renewed: {error}")
                    return

    keeper = threading.Thread(target=keep, name="shell lock", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join(2 * CALL)
        lock.give_back()


class _Lock:
    def __init__(self, master: Master, message: str) -> None:
        self.taken_at = 0.0
        self._master = master
        self._message = message
        self._client = f"{message} ({socket.gethostname()}, process {os.getpid()})"
        self._token = LeaseAdminTokenResponse()

    def take(self) -> None:
        """Take or renew it."""
        asked = time.monotonic()
        try:
            self._token = self._master.lease_admin_token(
                lock_name=NAME,
                client_name=self._client,
                message=self._message,
                previous_token=self._token.token,
                previous_lock_time=self._token.lock_ts_ns,
                timeout=CALL,
            )
        except ServerFailed as error:
            if "already locked" not in error.detail:
                raise
            holder = error.detail.partition("already locked by ")[2].strip(" :") or "another"
            raise Busy(f"the cluster is locked by {holder}; repeat when that has ended") from None
        self.taken_at = asked

    def give_back(self) -> None:
        """Release it; where that fails it ends by itself."""
        try:
            self._master.release_admin_token(
                lock_name=NAME,
                previous_token=self._token.token,
                previous_lock_time=self._token.lock_ts_ns,
                timeout=CALL,
            )
        except ServerFailed:
            pass
