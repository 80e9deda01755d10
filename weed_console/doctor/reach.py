"""Clocks, and words for a server that does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from weed_console.doctor.finding import Finding
from weed_core.errors import ServerFailed, WeedError

SKEW = 2.0
"""Seconds by which a server's clock may differ from this host's."""


def skew_of(ask: Callable[[], int]) -> float:
    """Seconds by which a server's clock is ahead, beyond what the call took."""
    before = time.time()
    theirs = ask() / 1e9
    after = time.time()
    return theirs - after if theirs > after else min(0.0, theirs - before)


def clock(where: str, skew: float) -> list[Finding]:
    """A finding where a clock differs by too much."""
    if abs(skew) < SKEW:
        return []
    ahead = "ahead of" if skew > 0 else "behind"
    return [
        Finding("CLOCK_SKEW", where, f"its clock is {abs(skew):.1f} s {ahead} this host's", "let NTP keep both clocks")
    ]


def words_of(error: WeedError) -> str:
    """What a server said, without the protocol around it."""
    return f"{error.call}: {error.detail or error.code}" if isinstance(error, ServerFailed) else str(error)


def how_to_reach(role: str, endpoint: str, error: WeedError) -> str:
    """What is to be done so that a server can be asked."""
    text = str(error).lower()
    if any(word in text for word in ("tls", "ssl", "certificate", "handshake", "socket closed", "reset by peer")):
        return (
            f"{endpoint} and this host differ in TLS: set [grpc] ca and [grpc.worker] cert and key in security.toml"
            " as the servers have it, signed by their CA"
        )
    if "frame" in text or "http/2" in text:
        return f"{endpoint} is no gRPC port, or wants TLS: name host:port.grpcPort, or set up security.toml"
    return f"start the {role}, or open {endpoint} between this host and it"
