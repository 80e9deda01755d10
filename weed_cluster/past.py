"""What the cluster was: which servers were seen, with what on them, and which are missed now, since when.

A master forgets a server as soon as its stream breaks, and with it every volume that only it held. Pure: told of each
look at the whole cluster; where it is kept is others' business.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from weed_cluster.address import Address
from weed_cluster.ec_sets import faults_of
from weed_cluster.topology import Topology
from weed_core.errors import BadTask
from weed_storage.ec_layout import DATA_SHARDS, TOTAL_SHARDS

KEPT = 30 * 86400.0
"""Seconds for which a missed server is remembered on which nothing depends any more."""

MOST = 10_000
"""Missed servers, and volumes short of copies, that are remembered; of more, those missed last."""


@dataclass
class Server:
    """One volume server as it was last seen; times are Unix seconds."""

    seen: float
    missed: float = 0.0  # the first look that lacked it, 0 while it is there
    volumes: str = ""  # ids, as ranges
    shards: dict[int, int] = field(default_factory=dict)  # bits of shard ids by volume id

    @property
    def is_empty(self) -> bool:
        """Whether nothing was on it."""
        return not self.volumes and not self.shards


@dataclass(frozen=True)
class Short:
    """A volume with fewer copies than its placement asks for; times are Unix seconds."""

    complete: float  # the last look at which it had them all, 0 where there was none
    since: float  # the first look at which it had not


@dataclass(frozen=True)
class Shut:
    """A volume that is not full and refuses writes on some server; times are Unix seconds."""

    open: float  # the last look at which it took them, 0 where there was none
    since: float  # the first look at which it did not

    def text(self) -> str:
        """Since when, as far as it is known."""
        took = f"it took writes at {_clock(self.open)} and did not at" if self.open else "it was so at the first look,"
        return f"{took} {_clock(self.since)}"


@dataclass(frozen=True)
class Loss:
    """What a missed server leaves behind: volumes without any copy or too few shards now, and those with fewer."""

    server: str
    seen: float
    missed: float
    gone: tuple[int, ...]
    fewer: tuple[int, ...]
    by: str = ""  # who tells of it; "" are our own looks

    def text(self) -> str:
        """What is known of it, in words that follow its name."""
        lacks = [
            f"{what}: {ranges(ids).replace(',', ', ')}"
            for what, ids in (("volumes without any copy now", self.gone), ("with fewer", self.fewer))
            if ids
        ]
        told = "; ".join(lacks) or "nothing of it is missing: all its volumes are complete elsewhere"
        if self.by:
            told += f" (as {self.by} tells, which knows neither all of its volumes nor which were deleted since)"
        return f"was here at {_clock(self.seen)} and is gone; {told}"


@dataclass
class Past:
    """The servers by address, and the volumes that lack copies."""

    looked: float = 0.0
    servers: dict[str, Server] = field(default_factory=dict)
    short: dict[int, Short] = field(default_factory=dict)
    ec: dict[int, dict[str, float]] = field(default_factory=dict)  # faults of shards by volume, since when
    shut: dict[int, Shut] = field(default_factory=dict)
    forgotten: dict[str, float] = field(default_factory=dict)  # servers, and when they were given up
    lost: list[Loss] = field(default_factory=list, compare=False)  # as of the last look of this very object
    is_first: bool = field(default=False, compare=False)  # whether that was the first one ever

    def look(self, topology: Topology, now: float) -> None:
        """Take in how the whole cluster looks now."""
        held = _held(topology)
        for name, server in self.servers.items():
            if name not in held and not server.missed:
                server.missed = now
        for name, (volumes, shards) in held.items():
            self.servers[name] = Server(now, 0.0, ranges(volumes), shards)
        short, shut = {}, {}
        limit = topology.volume_size_limit
        for volume_id, replicas in topology.volumes.items():
            if len(replicas) < replicas[0].placement.copies:
                short[volume_id] = self.short.get(volume_id) or Short(self.looked, now)
            if any(replica.read_only and replica.size < limit for replica in replicas):
                shut[volume_id] = self.shut.get(volume_id) or Shut(self.looked, now)
        self.forgotten = {name: when for name, when in self.forgotten.items() if now - when < KEPT}
        self.short = dict(sorted(short.items(), key=lambda item: item[1].since)[-MOST:])
        self.ec = {
            volume_id: {code: self.ec.get(volume_id, {}).get(code, now) for code in faults.codes}
            for (volume_id, _collection), faults in sorted(faults_of(topology).items())[:MOST]
        }
        self.shut = dict(sorted(shut.items(), key=lambda item: item[1].since)[-MOST:])
        self.is_first, self.looked = not self.looked, now
        needed = {loss.server for loss in self.losses(topology) if loss.gone or loss.fewer}
        for name, server in list(self.servers.items()):
            drained = server.missed and server.is_empty
            if drained or (server.missed and name not in needed and now - server.missed > KEPT):
                del self.servers[name]
        for name in sorted(self._missed(), key=lambda name: self.servers[name].missed)[:-MOST]:
            del self.servers[name]
        self.lost = self.losses(topology)

    def lacking_for(self, volume_id: int, now: float) -> float:
        """Seconds for which a volume lacks a copy at least; 0 where that is not known."""
        short = self.short.get(volume_id)
        return max(0.0, now - short.since) if short else 0.0

    def faulty_for(self, volume_id: int, code: str, now: float) -> float:
        """Seconds for which a fault of a volume's shards has been seen at least; 0 where it was not."""
        since = self.ec.get(volume_id, {}).get(code)
        return max(0.0, now - since) if since is not None else 0.0

    def knows(self, topology: Topology) -> bool:
        """Whether this is the past of that cluster: some server is in both."""
        return any(str(node.address) in self.servers for node in topology.nodes.values())

    def losses(self, topology: Topology) -> list[Loss]:
        """What each missed server leaves behind, as the cluster looks now: the worst first."""
        return _losses({name: self.servers[name] for name in self._missed()}, topology)

    def heard(self, told: Mapping[Address, Server], by: str, topology: Topology) -> list[Loss]:
        """What others tell of servers that are not there, were not seen by us and were not given up: the worst first.

        A server that leaves nothing behind is not told: it was taken away in order.
        """
        known = {Address.parse(name).http for name in self.servers}
        known |= {node.address.http for node in topology.nodes.values()}
        given_up = {Address.parse(name).http: when for name, when in self.forgotten.items()}
        strange = {
            str(address): server
            for address, server in told.items()
            if address.http not in known and server.seen > given_up.get(address.http, 0.0)
        }
        return [replace(loss, by=by) for loss in _losses(strange, topology) if loss.gone or loss.fewer]

    def give_up(self, server: str, now: float) -> None:
        """Hear no more of a server that only others tell of."""
        self.forgotten[server] = now

    def forget(self, server: str) -> bool:
        """Forget a missed server; False where no such one is missed."""
        if server not in self._missed():
            return False
        del self.servers[server]
        return True

    def merge(self, other: Past) -> None:
        """Take in what another memory of the same cluster knows better."""
        for name, theirs in other.servers.items():
            ours = self.servers.get(name)
            if ours is None or ours.seen < theirs.seen:
                self.servers[name] = theirs
        for volume_id, short in other.short.items():
            mine = self.short.get(volume_id)
            if self.looked < other.looked or (mine and short.since < mine.since):
                self.short[volume_id] = short
        for volume_id, faults in other.ec.items():
            ours_too = self.ec.setdefault(volume_id, {}) if self.looked < other.looked else self.ec.get(volume_id, {})
            for code, since in faults.items():
                if self.looked < other.looked or code in ours_too:
                    ours_too[code] = min(since, ours_too.get(code, since))
        for volume_id, theirs_shut in other.shut.items():
            ours_shut = self.shut.get(volume_id)
            if ours_shut is None or theirs_shut.since < ours_shut.since:
                self.shut[volume_id] = theirs_shut
        for name, when in other.forgotten.items():
            self.forgotten[name] = max(when, self.forgotten.get(name, 0.0))
        self.looked = max(self.looked, other.looked)

    def _missed(self) -> list[str]:
        return [name for name, server in self.servers.items() if server.missed]

    def document(self) -> dict[str, Any]:
        """All of it in JSON."""
        return {
            "looked": self.looked,
            "servers": {
                name: {
                    "seen": server.seen,
                    "missed": server.missed,
                    "volumes": server.volumes,
                    "shards": {str(volume_id): bits for volume_id, bits in server.shards.items()},
                }
                for name, server in self.servers.items()
            },
            "short": {str(volume_id): [short.complete, short.since] for volume_id, short in self.short.items()},
            "ec": {str(volume_id): faults for volume_id, faults in self.ec.items()},
            "shut": {str(volume_id): [shut.open, shut.since] for volume_id, shut in self.shut.items()},
            "forgotten": self.forgotten,
        }

    @classmethod
    def read(cls, document: Any) -> Past:
        """Read a document; ValueError where it is none of ours."""
        try:
            servers = {str(Address.parse(name)): _server(entry) for name, entry in document["servers"].items()}
            short = {
                int(volume_id): Short(_moment(complete), _moment(since))
                for volume_id, (complete, since) in document["short"].items()
            }
            ec = {  # of earlier releases there is none
                int(volume_id): {str(code): _moment(since) for code, since in faults.items()}
                for volume_id, faults in document.get("ec", {}).items()
            }
            shut = {
                int(volume_id): Shut(_moment(opened), _moment(since))
                for volume_id, (opened, since) in document.get("shut", {}).items()  # 0.1 did not keep it
            }
            forgotten = {
                str(Address.parse(name)): _moment(when) for name, when in document.get("forgotten", {}).items()
            }
            return cls(_moment(document["looked"]), servers, short, ec, shut, forgotten)
        except (KeyError, TypeError, AttributeError, BadTask) as error:
            raise ValueError(f"no memory of a cluster: {error!r}") from None


def _losses(servers: Mapping[str, Server], topology: Topology) -> list[Loss]:
    """What these servers, which are not there, leave behind: the worst first."""
    shards: dict[int, int] = defaultdict(int)
    for (volume_id, _collection), holdings in topology.ec.items():
        for holding in holdings:
            shards[volume_id] |= holding.info.ec_index_bits
    losses = []
    for name, server in servers.items():
        gone, fewer = set(), set()
        for volume_id in members(server.volumes):
            replicas = topology.replicas(volume_id)
            if not replicas and bin(shards[volume_id]).count("1") < DATA_SHARDS:
                gone.add(volume_id)
            elif replicas and len(replicas) < replicas[0].placement.copies:
                fewer.add(volume_id)
        for volume_id in server.shards:
            left = bin(shards[volume_id]).count("1")
            if left < TOTAL_SHARDS and not topology.replicas(volume_id):
                (gone if left < DATA_SHARDS else fewer).add(volume_id)
        losses.append(Loss(name, server.seen, server.missed, tuple(sorted(gone)), tuple(sorted(fewer))))
    return sorted(losses, key=lambda loss: (-len(loss.gone), -len(loss.fewer), loss.server))


def _held(topology: Topology) -> dict[str, tuple[list[int], dict[int, int]]]:
    """The volume ids and the shards on each server that is there."""
    held: dict[str, tuple[list[int], dict[int, int]]] = {
        str(node.address): ([], {}) for node in topology.nodes.values()
    }
    names = {node.id: str(node.address) for node in topology.nodes.values()}
    for replicas in topology.volumes.values():
        for replica in replicas:
            held[names[replica.node.id]][0].append(replica.volume_id)
    for holdings in topology.ec.values():
        for holding in holdings:
            shards = held[names[holding.node.id]][1]
            shards[holding.volume_id] = shards.get(holding.volume_id, 0) | holding.info.ec_index_bits
    return held


def _server(entry: Mapping[str, Any]) -> Server:
    members(entry["volumes"])
    shards = {int(volume_id): int(bits) for volume_id, bits in entry["shards"].items()}
    return Server(_moment(entry["seen"]), _moment(entry["missed"]), entry["volumes"], shards)


def _clock(when: float) -> str:
    return time.strftime("%F %T UTC", time.gmtime(when))


def _moment(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e11:
        raise ValueError(f"{value!r} is no moment")
    return float(value)


def ranges(ids: Iterable[int]) -> str:
    """Write ids in short: "1-4,7"."""
    parts: list[list[int]] = []
    for each in sorted(set(ids)):
        if parts and parts[-1][1] == each - 1:
            parts[-1][1] = each
        else:
            parts.append([each, each])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def members(text: str) -> list[int]:
    """Read what `ranges` wrote; ValueError for anything else."""
    found: list[int] = []
    for part in text.split(",") if text else ():
        first, _dash, last = part.partition("-")
        low, high = int(first), int(last or first)
        if not 0 <= low <= high < 1 << 32 or high - low > 10_000_000:
            raise ValueError(f"{part!r} is no range of ids")
        found += range(low, high + 1)
    return found
