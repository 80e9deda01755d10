"""The cluster's exclusive lock, which operators' shells take before they change anything.

It is a lease at the master, kept by renewing it in the background; volume servers do not ask for it, so it only keeps
those away who take it, too. An admin of the plugin dialect holds it itself around each job: its workers must not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from proto_gen.master_pb2 import LeaseAdminTokenResponse
from weed_cluster.call import SHORT
from weed_cluster.client import Cluster
from weed_cluster.leash import Leash
from weed_cluster.master import Master
from weed_core.errors import Busy, ServerFailed

SHELL = "shell"
"""The lock's name at the master."""

RENEW = 4.0
"""Seconds between renewals; the master gives the lock to others 10 s after the last one."""

RETRY = 1.0
"""Seconds between tries while somebody else holds it."""

TIMEOUT = 5.0  # seconds of one call


class ClusterLock:
    """The lock, held or not."""

    def __init__(self, master: Master, client_name: str, message: str) -> None:
        self._master = master
        self._client_name = client_name
        self._message = message
        self._token = LeaseAdminTokenResponse()
        self._ended = threading.Event()
        self.holder = ""  # who has taken it from this worker, "" while it is held

    def take(self) -> None:
        """Take it or renew it; Busy, saying who holds it and what for, where somebody else does."""
        try:
            self._token = self._master.lease_admin_token(
                lock_name=SHELL,
                client_name=self._client_name,
                message=self._message,
                previous_token=self._token.token,
                previous_lock_time=self._token.lock_ts_ns,
                timeout=TIMEOUT if self._token.token else SHORT,  # a connection may have to be made first
            )
        except ServerFailed as error:
            if "already locked" not in error.detail:
                raise
            self.holder = error.detail.partition("already locked by ")[2] or "somebody"
            raise Busy(f"the cluster is locked by {self.holder}; nothing was touched") from None
        self.holder = ""

    def keep(self, leash: Leash) -> None:
        """Renew it until release(), for a thread of its own; end the job on the leash where somebody else took it."""
        while not self._ended.wait(RENEW):
            try:
                self.take()
            except Busy:
                leash.cancel(Busy(f"the cluster's lock was taken over by {self.holder}; what was begun is undone"))
                return
            except ServerFailed:
                continue  # the master moves or restarts: there is time for another try

    def release(self) -> None:
        """Give it back; what fails here ends by itself."""
        self._ended.set()
        try:
            self._master.release_admin_token(
                lock_name=SHELL,
                previous_token=self._token.token,
                previous_lock_time=self._token.lock_ts_ns,
                timeout=TIMEOUT,
            )
        except ServerFailed:
            pass


@contextmanager
def cluster_lock(
    cluster: Cluster, client_name: str, message: str, patience: float = 0.0, wait: Callable[[float], None] = time.sleep
) -> Iterator[ClusterLock]:
    """Hold the lock for a while; Busy where somebody else holds it for longer than `patience` seconds.

    Its calls are not on the job's leash, since undoing a cancelled job needs the lock, too; `wait` may raise to give
    up earlier.
    """
    lock = ClusterLock(Cluster(cluster.channels, cluster.masters, Leash()).master(), client_name, message)
    waited = 0.0
    while True:
        try:
            lock.take()
            break
        except Busy:
            if waited >= patience:
                raise
        wait(RETRY)
        waited += RETRY
    keeper = threading.Thread(target=lock.keep, args=[cluster.leash], name="cluster-lock", daemon=True)
    keeper.start()
    try:
        yield lock
    finally:
        lock.release()
