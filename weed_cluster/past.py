"""What the cluster was: which servers were seen, with what on them, and which are missed now, since when.

A master forgets a server as soon as its stream breaks, and with it every volume that only it held. Pure: told of each
look at the whole cluster; where it is kept is others' business.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from weed_cluster.address import Address
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
class Loss:
    """What a missed server leaves behind: volumes without any copy or too few shards now, and those with fewer."""

    server: str
    seen: float
    missed: float
    gone: tuple[int, ...]
    fewer: tuple[int, ...]

    def text(self) -> str:
        """What is known of it, in words that follow its name."""
        lacks = [
            f"{what}: {ranges(ids).replace(',', ', ')}"
            for what, ids in (("volumes without any copy now", self.gone), ("with fewer", self.fewer))
            if ids
        ]
        told = "; ".join(lacks) or "nothing of it is missing: all its volumes are complete elsewhere"
        return f"was here at {time.strftime('%F %T UTC', time.gmtime(self.seen))} and is gone; {told}"


@dataclass
class Past:
    """The servers by address, and the volumes that lack copies."""

    looked: float = 0.0
    servers: dict[str, Server] = field(default_factory=dict)
    short: dict[int, Short] = field(default_factory=dict)
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
        short = {}
        for volume_id, replicas in topology.volumes.items():
            if len(replicas) < replicas[0].placement.copies:
                short[volume_id] = self.short.get(volume_id) or Short(self.looked, now)
        self.short = dict(sorted(short.items(), key=lambda item: item[1].since)[-MOST:])
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

    def knows(self, topology: Topology) -> bool:
        """Whether this is the past of that cluster: some server is in both."""
        return any(str(node.address) in self.servers for node in topology.nodes.values())

    def losses(self, topology: Topology) -> list[Loss]:
        """What each missed server leaves behind, as the cluster looks now: the worst first."""
        shards: dict[int, int] = defaultdict(int)
        for (volume_id, _collection), holdings in topology.ec.items():
            for holding in holdings:
                shards[volume_id] |= holding.info.ec_index_bits
        losses = []
        for name in self._missed():
            server = self.servers[name]
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
            return cls(_moment(document["looked"]), servers, short)
        except (KeyError, TypeError, AttributeError, BadTask) as error:
            raise ValueError(f"no memory of a cluster: {error!r}") from None


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
