"""The waits of calls to masters and volume servers, in seconds: of one process, for all that share its channels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """How long to wait for what; the defaults fit SeaweedFS's own waits."""

    retry_pauses: tuple[float, ...] = (0.2, 0.8)
    """Between the tries of a call that is harmless to repeat, where the server was unreachable."""

    sure: float = 10.0
    """After an answer of its own in which a master is taken for the leader without being asked."""

    election: float = 60.0
    """In which masters that answer that there is no leader are waited for: elections take 10 to 20."""

    search: float = 1.0
    """Between two looks for a leader."""

    settle: float = 20.0
    """After a change of leader in which the new one may not know all servers: each tells it by a heartbeat."""

    renew: float = 3.0
    """Between two renewals of a master's lease, which lasts for 10."""

    lock: float = 1.0
    """Between tries while somebody else holds the cluster's lock."""
