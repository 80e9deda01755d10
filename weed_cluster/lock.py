"""Locks that masters give by name: leases, kept by renewing them in the background.

A worker that was suspended or cut off loses its lease, and asks before it does harm. The cluster's own lock is one of
them, which operators' shells take before they change anything; volume servers do not ask for it, so it only keeps those
away who take it, too. An admin of the plugin dialect holds it itself around each job: its workers must not.
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
"""The name of the cluster's lock."""

SAFE = 8.0
"""Seconds after a renewal in which a lease cannot have passed to another: masters give it for 10."""

TIMEOUT = 5.0  # seconds of one call


class MasterLease:
    """One lock, held or not. `refusal` says, of the holder's name, that somebody else has it."""

    def __init__(self, master: Master, name: str, client: str, refusal: Callable[[str], str]) -> None:
        self._master = master
        self._name = name
        self._client = client
        self._refusal = refusal
        self._why = ""
        self._token = LeaseAdminTokenResponse()
        self._renewed = 0.0
        self._asking = threading.Lock()
        self._ended = threading.Event()
        self.holder = ""
        """Who has it instead, "" while nobody else is known to."""

    @property
    def is_lost(self) -> bool:
        """Whether somebody else has it by now."""
        return bool(self.holder)

    def take(self) -> None:
        """Take or renew it; Busy, saying who holds it, where somebody else does."""
        with self._asking:
            self._take()

    def _take(self) -> None:
        asked = time.monotonic()
        try:
            self._token = self._master.lease_admin_token(
                lock_name=self._name,
                # Masters tell of a lock's client alone, never of its message.
                client_name=f"{self._client} ({self._why})" if self._why else self._client,
                message=self._why,
                previous_token=self._token.token,
                previous_lock_time=self._token.lock_ts_ns,
                timeout=TIMEOUT if self._token.token else SHORT,  # a connection may have to be made first
            )
        except ServerFailed as error:
            if "already locked" not in error.detail:
                raise
            # "client: message", where the message is empty.
            self.holder = error.detail.partition("already locked by ")[2].rstrip(": ") or "somebody"
            raise Busy(self._refusal(self.holder)) from None
        self._renewed = asked
        self.holder = ""

    def say(self, why: str) -> None:
        """Tell whoever asks what it is held for, from now on; Busy where somebody else has it."""
        self._why = why
        try:
            self.take()
        except ServerFailed:
            pass  # the next renewal tells

    def check(self) -> None:
        """Make sure that it is still ours; raise Busy if not, ServerFailed if the master cannot tell."""
        if self.is_lost:
            raise Busy(self._refusal(self.holder))
        if time.monotonic() - self._renewed > SAFE:
            self.take()

    def keep(self, lost: Callable[[], None] = lambda: None) -> None:
        """Renew it until release(), for a thread of its own; `lost` is called where somebody else took it."""
        while not self._ended.wait(self._master.timing.renew):
            try:
                with self._asking:
                    if not self._ended.is_set():
                        self._take()
            except Busy:
                lost()
                return
            except ServerFailed:
                continue  # the master moves or restarts: there is time for another try

    def release(self) -> None:
        """Give it back; what fails here ends by itself."""
        self._ended.set()
        # A renewal under way comes first: one that reached the master later would take the lease anew, for nobody.
        with self._asking:
            try:
                self._master.release_admin_token(
                    lock_name=self._name,
                    previous_token=self._token.token,
                    previous_lock_time=self._token.lock_ts_ns,
                    timeout=TIMEOUT,
                )
            except ServerFailed:
                pass


@contextmanager
def kept(lease: MasterLease, lost: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Renew a lease that was taken for the length of the body, then give it back."""
    threading.Thread(target=lease.keep, args=[lost], name="lease", daemon=True).start()
    try:
        yield
    finally:
        lease.release()


@contextmanager
def cluster_lock(
    cluster: Cluster, client: str, patience: float = 0.0, wait: Callable[[float], None] = time.sleep
) -> Iterator[MasterLease]:
    """Hold the cluster's lock for a while; Busy where somebody else holds it for longer than `patience` seconds.

    Its calls are not on the job's leash, since undoing a cancelled job needs the lock, too; `wait` may raise to give
    up earlier.
    """
    master = Cluster(cluster.channels, cluster.masters, Leash()).master()
    lock = MasterLease(master, SHELL, client, lambda who: f"the cluster is locked by {who}; nothing was touched")
    waited = 0.0
    while True:
        try:
            lock.take()
            break
        except Busy:
            if waited >= patience:
                raise
        wait(master.timing.lock)
        waited += master.timing.lock

    def lost() -> None:
        cluster.leash.cancel(Busy(f"the cluster's lock was taken over by {lock.holder}; what was begun is undone"))

    with kept(lock, lost):
        yield lock
