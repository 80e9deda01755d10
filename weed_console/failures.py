"""Failures in the cluster's words: which server does not answer and what to do, instead of what gRPC said.

Ordinary blocking Python: may ask a server what it is.
"""

from __future__ import annotations

import re

from weed_cluster.address import Address
from weed_cluster.client import Cluster
from weed_console import kinds
from weed_core.errors import BadTask, ServerFailed, ServerTimedOut, TaskError

ASK = 3.0
"""Deadline in seconds of the question what a server is."""

_REASONS = (
    ("connection refused", "connection refused"),
    ("no route to host", "no route to host"),
    ("network is unreachable", "the network is unreachable"),
    ("could not contact dns", "the name is not known"),
    ("name or service not known", "the name is not known"),
    ("domain name not found", "the name is not known"),
    ("dns resolution failed", "the name is not known"),
    ("certificate", "it does not accept our certificate, or we not its"),
    ("handshake", "it wants TLS, or speaks another one"),
    ("ssl", "it wants TLS, or speaks another one"),
    ("socket closed", "it closed the connection; it may want TLS"),
    ("connection reset", "it closed the connection; it may want TLS"),
    ("frame", "it is no gRPC port, or wants TLS"),
    ("deadline exceeded", "no answer came"),
    ("timed out", "no answer came"),
)


def reason(detail: str) -> str:
    """Why a connection failed, without the names of libraries."""
    text = detail.lower()
    for sign, words in _REASONS:
        if sign in text:
            return words
    return re.sub(r"^failed to connect to all addresses; last error: ", "", detail) or "no answer came"


def unreachable(error: ServerFailed) -> bool:
    """Whether nobody answered: the command could not begin."""
    return error.code in ("UNAVAILABLE", "UNIMPLEMENTED") or isinstance(error, ServerTimedOut)


def words(error: ServerFailed, cluster: Cluster) -> str:
    """What failed and what to do; `cluster` tells what a server is that is not what it was taken for."""
    address = _address(error.server)
    masters = list(cluster.masters)
    if address is None or address not in masters:
        return plain(error)
    where = f"{address.http} (gRPC {address.grpc_port})"
    if error.code == "UNIMPLEMENTED":
        kind = kinds.kind(address) or _kind(cluster, address)
        known = kinds.masters_of(address) if kind == kinds.VOLUME else ()
        its = f"its master is {known[0].http}" if known else "name a master with -master=host:9333"
        return f"{address.http} is {kind}, not a master; {its}"
    if unreachable(error):
        names = where if len(masters) < 2 else f"{', '.join(one.http for one in masters)} (gRPC: port + 10000)"
        return f"no master answers at {names}: {reason(error.detail)}. Start it, or name another with -master"
    if error.code == "ABORTED":
        return f"the masters answer, but none leads: {error.detail}. Start the others: more than half must run"
    return plain(error)


def plain(error: ServerFailed) -> str:
    """What a server said, or that it did not answer."""
    if error.code == "UNAVAILABLE":
        return f"{error.server} does not answer: {reason(error.detail)}"
    if isinstance(error, ServerTimedOut):
        return f"{error.server} did not answer {error.call} in time"
    return f"{error.server} answers {error.call} with: {error.detail or error.code}"


def _kind(cluster: Cluster, address: Address) -> str:
    try:
        cluster.volume(address).volume_server_status(timeout=ASK)
    except ServerFailed as error:
        return "another kind of server" if error.code == "UNIMPLEMENTED" else "no master"
    except TaskError:
        return "no master"
    return kinds.VOLUME


def _address(text: str) -> Address | None:
    try:
        return Address.parse(text)
    except BadTask:
        return None
