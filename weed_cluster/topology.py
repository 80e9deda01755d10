"""What the master sees: nodes, disks, volume replicas and erasure-coded shards, at one moment.

Values lag behind the servers by a heartbeat, so a snapshot is good for planning and never for the last look before
something is destroyed. It keeps the master's messages as they came and copies nothing per volume: a cluster of
300,000 volumes must fit beside everything else.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property

from proto_gen import master_pb2 as m
from weed_cluster.address import Address
from weed_cluster.builds import Build, why_unlike
from weed_cluster.master import Master
from weed_cluster.replica_placement import ReplicaPlacement, plain_type
from weed_core.errors import ConfigError, ServerFailed, TaskError

EVERY_COLLECTION = ("", "*", "ALL_COLLECTIONS", "EACH_COLLECTION")
"""Collection filters that leave nothing out."""

REPORTING = 1.0
"""Seconds in which a server that has found a new leader tells it all that it holds."""

DEFAULT_COLLECTION = "_default"
"""How weed shell calls the collection without a name."""

RULES = set("|^$()[]{}+\\.")
"""What a regular expression has and a collection's name with wildcards does not."""

_UNITS = {1: "m", 2: "h", 3: "d", 4: "w", 5: "M", 6: "y"}

SHARDS_PER_SLOT = 10
"""Shards that the master counts as one volume slot."""

FULL = 0.9
"""Share of a disk's bytes in use from which on it takes nothing more."""


@dataclass(slots=True)
class Disk:
    """All disks of one type on one node.

    `physical` maps a disk id to its volume slots, `volumes` and `shards` to what is on it: local volumes and
    erasure-coded shards. Servers before 4.44 do not tell the slots of each disk; they are then split evenly over the
    disks that hold anything, and an empty disk is not seen.
    """

    type: str
    volume_count: int = 0  # remote ones included
    max_volume_count: int = 0
    remote_volume_count: int = 0
    ec_shard_count: int = 0
    total_bytes: int = 0  # 0: not reported
    free_bytes: int = 0
    tags: tuple[str, ...] = ()
    physical: dict[int, int] = field(default_factory=dict)
    volumes: dict[int, int] = field(default_factory=dict)
    shards: dict[int, int] = field(default_factory=dict)
    closed: str = ""  # why its server takes nothing just now, as Topology.close() was told
    silent: bool = False  # it is closed because the server did not answer
    free_by_disk: dict[int, int] = field(default_factory=dict)  # bytes by disk id, where the server itself was asked

    @property
    def free_slots(self) -> int:
        """Volumes that still fit, as the master counts it: remote ones need no slot, ten shards need one."""
        local = self.volume_count - self.remote_volume_count
        return max(0, self.max_volume_count - local - -(-self.ec_shard_count // SHARDS_PER_SLOT))

    @property
    def bytes_left(self) -> float:
        """Bytes that may still be put on these disks together; infinite where the server does not report them."""
        if not self.total_bytes:
            return float("inf")
        return FULL * self.total_bytes - (self.total_bytes - self.free_bytes)

    def free_shards(self, disk_id: int) -> int:
        """Shards that still fit on one physical disk by its slots; negative where it holds too many."""
        slots = self.physical.get(disk_id, 0) - self.volumes.get(disk_id, 0)
        return max(0, slots) * SHARDS_PER_SLOT - self.shards.get(disk_id, 0)


@dataclass(frozen=True, slots=True)
class Node:
    """One volume server. Nodes are equal whatever is on their disks."""

    id: str
    address: Address
    data_center: str = ""
    rack: str = ""
    disks: dict[str, Disk] = field(default_factory=dict, compare=False, repr=False)  # by type, as the master writes it

    @property
    def host(self) -> str:
        """The machine, as far as the address tells it."""
        return self.address.host

    @property
    def closed(self) -> str:
        """Why it takes no orders just now, as Topology.close() was told; "" where nothing is known against it."""
        return next((disk.closed for disk in self.disks.values() if disk.closed), "")

    @property
    def refuses(self) -> str:
        """As `closed`, but "" for a server that only did not answer."""
        return next((disk.closed for disk in self.disks.values() if disk.closed and not disk.silent), "")

    def disk(self, disk_type: str) -> Disk | None:
        """The disks of a type; "" and "hdd" are the same."""
        return next((disk for name, disk in self.disks.items() if plain_type(name) == plain_type(disk_type)), None)

    def __str__(self) -> str:
        return str(self.address)


class Replica:
    """One copy of a volume on one node."""

    __slots__ = ("disk_type", "info", "node")

    def __init__(self, node: Node, disk_type: str, info: m.VolumeInformationMessage) -> None:
        self.node = node
        self.disk_type = disk_type  # as the master writes it: "" is hdd
        self.info = info

    def __repr__(self) -> str:
        return f"Replica({self.volume_id} on {self.node})"

    @property
    def server(self) -> Address:
        return self.node.address

    @property
    def volume_id(self) -> int:
        return self.info.id

    @property
    def collection(self) -> str:
        return self.info.collection

    @property
    def size(self) -> int:
        """Bytes of the .dat file."""
        return self.info.size

    @property
    def file_count(self) -> int:
        """Files ever put since the last compaction, overwritten and deleted ones included."""
        return self.info.file_count

    @property
    def delete_count(self) -> int:
        return self.info.delete_count

    @property
    def deleted_bytes(self) -> int:
        return self.info.deleted_byte_count

    @property
    def garbage_ratio(self) -> float:
        """Deleted bytes by size, 0 for an empty volume."""
        return self.info.deleted_byte_count / self.info.size if self.info.size else 0.0

    @property
    def read_only(self) -> bool:
        """Whether the server refuses writes, for whatever reason."""
        return self.info.read_only

    @property
    def placement(self) -> ReplicaPlacement:
        return ReplicaPlacement.from_byte(self.info.replica_placement)

    @property
    def ttl(self) -> str:
        """Time to live as SeaweedFS writes it ("3d"), "" for none."""
        count, unit = self.info.ttl >> 8, _UNITS.get(self.info.ttl & 0xFF)
        return f"{count}{unit}" if count and unit else ""

    @property
    def version(self) -> int:
        return self.info.version

    @property
    def revision(self) -> int:
        """How often the volume was compacted."""
        return self.info.compact_revision

    @property
    def modified_at(self) -> int:
        """Unix seconds of the last write."""
        return self.info.modified_at_second

    @property
    def remote_name(self) -> str:
        """The storage backend that holds the .dat file, "" where it is local."""
        return self.info.remote_storage_name

    @property
    def disk_id(self) -> int:
        return self.info.disk_id


class EcHolding:
    """The shards of one erasure-coded volume on one disk of one node."""

    __slots__ = ("disk_type", "info", "node")

    def __init__(self, node: Node, disk_type: str, info: m.VolumeEcShardInformationMessage) -> None:
        self.node = node
        self.disk_type = disk_type  # as the master writes it: "" is hdd
        self.info = info

    def __repr__(self) -> str:
        return f"EcHolding({self.volume_id}.{self.shard_ids} on {self.node})"

    @property
    def server(self) -> Address:
        return self.node.address

    @property
    def volume_id(self) -> int:
        return self.info.id

    @property
    def collection(self) -> str:
        return self.info.collection

    @property
    def shard_ids(self) -> tuple[int, ...]:
        """Ascending."""
        bits = self.info.ec_index_bits
        return tuple(shard for shard in range(bits.bit_length()) if bits >> shard & 1)

    @property
    def sizes(self) -> dict[int, int]:
        """Bytes by shard id; empty where the server does not report them."""
        return dict(zip(self.shard_ids, self.info.shard_sizes))

    @property
    def disk_id(self) -> int:
        return self.info.disk_id

    @property
    def encode_ts_ns(self) -> int:
        """The encode run these shards come from; 0 where the server does not know."""
        return self.info.encode_ts_ns


@dataclass
class Topology:
    """The cluster at one moment."""

    volume_size_limit: int = 0  # bytes
    default_replication: str = ""
    nodes: dict[str, Node] = field(default_factory=dict)  # by node id
    twins: dict[str, list[str]] = field(default_factory=dict)  # addresses of several servers under one node id
    empty_racks: list[str] = field(default_factory=list)  # "data center/rack": the master saw servers there before
    volumes: dict[int, list[Replica]] = field(default_factory=dict)
    ec: dict[tuple[int, str], list[EcHolding]] = field(default_factory=dict)  # by volume id and collection
    barred: dict[int, str] = field(default_factory=dict)  # volumes that wait because jobs on them failed, and the words
    late: set[int] = field(default_factory=set)  # volumes that may be tried again, after others
    builds: dict[Address, Build] = field(default_factory=dict)  # of the servers that were asked

    @cached_property
    def _by_address(self) -> dict[Address, Node]:
        return {node.address: node for node in self.nodes.values()}

    def node_at(self, address: Address) -> Node | None:
        """The node with this gRPC endpoint."""
        return self._by_address.get(address)

    @cached_property
    def _ec_collections(self) -> dict[int, set[str]]:
        found: dict[int, set[str]] = defaultdict(set)
        for volume_id, collection in self.ec:
            found[volume_id].add(collection)
        return dict(found)

    def has_shards(self, volume_id: int) -> bool:
        """Whether any server has shards of a volume with this id."""
        return volume_id in self._ec_collections

    def ambiguity(self, volume_id: int) -> str:
        """Say, in words that follow its name, that a volume's id is in several collections; "" where it is in one."""
        names = self._ec_collections.get(volume_id, set()) | {one.collection for one in self.replicas(volume_id)}
        if len(names) < 2:
            return ""
        return (
            f"has one id in several collections: {', '.join(sorted(map(repr, names)))}; servers tell volumes by their "
            "id alone, so it is left alone"
        )

    def turn(self, volume_id: int) -> tuple[bool, int]:
        """Orders volumes: by id, behind all others those on which jobs failed."""
        return volume_id in self.late, volume_id

    def close(self, address: Address, why: str, silent: bool = False) -> None:
        """Note why a server is to be left alone: what it says of itself, or what became of earlier jobs there."""
        node = self.node_at(address)
        for disk in node.disks.values() if node else ():
            disk.closed, disk.silent = why, silent

    def forget_notes(self) -> None:
        """Be as the master told it: without what was noted since of servers, volumes and builds."""
        self.barred.clear()
        self.late.clear()
        self.builds = {}
        for node in self.nodes.values():
            for disk in node.disks.values():
                disk.closed, disk.silent, disk.free_by_disk = "", False, {}

    def unlike(self, a: Node, b: Node) -> str:
        """Say why files of one node must not go to the other; "" where they may, or where neither was asked."""
        of_a, of_b = self.builds.get(a.address), self.builds.get(b.address)
        return why_unlike(a.address, of_a, b.address, of_b) if of_a and of_b and a is not b else ""

    def all_unlike(self, nodes: Iterable[Node], target: Node) -> str:
        """Say why none of these nodes' files may go to a target; "" where some may."""
        reasons = [self.unlike(node, target) for node in nodes]
        return reasons[0] if reasons and all(reasons) else ""

    def mixed(self, nodes: Iterable[Node]) -> str:
        """Say why not all of these nodes can read each other's files; "" where they can."""
        some = list(nodes)
        return next((reason for node in some if (reason := self.unlike(some[0], node))), "")

    def replicas(self, volume_id: int) -> list[Replica]:
        """The copies of a volume, empty where the master knows none."""
        return self.volumes.get(volume_id, [])

    def holdings(self, volume_id: int, collection: str) -> list[EcHolding]:
        """The shards of an erasure-coded volume, empty where the master knows none."""
        return self.ec.get((volume_id, collection), [])


def snapshot(master: Master, volume_id: int = 0, collection: str = "") -> Topology:
    """Ask the master for its view of the cluster, of one volume or one collection only where given.

    Raises ServerFailed where no master answers, and TaskError for an empty topology (a master that has just started)
    or for a node whose address cannot be told. A leader that has just taken over is given time until it knows the
    servers that the one before it knew: one that lists half of them would make replicas on the others look lost.
    """
    masters, settle, complete = master.masters, master.timing.settle, 0
    while True:
        topology = Topology()
        try:
            topology = _ask(master, volume_id, collection)
        except TaskError as error:
            if isinstance(error, ServerFailed) or not masters.unsettled(settle):
                raise
        there = frozenset(node.address for node in topology.nodes.values())
        complete = complete + 1 if masters.servers and masters.servers <= there else 0
        # Even when all are there, once more: what is on a server comes in several messages.
        if complete == 2 or not masters.unsettled(settle):
            masters.settle(there)
            return topology
        master.wait(min(REPORTING, masters.unsettled(settle)))


def _ask(master: Master, volume_id: int, collection: str) -> Topology:
    try:
        chunks = list(master.volume_list_stream(volume_id=volume_id, collection=collection))
    except ServerFailed as error:
        if error.code != "UNIMPLEMENTED":
            raise
        chunks = [m.VolumeListStreamResponse(header=master.volume_list(volume_id=volume_id, collection=collection))]
    try:
        replication = master.get_master_configuration().default_replication
    except ServerFailed:
        replication = ""
    # Servers that do not know the filters answer with everything, so what came is filtered here again.
    return read(chunks, volume_id, collection, replication)


def read(
    chunks: Iterable[m.VolumeListStreamResponse], volume_id: int = 0, collection: str = "", replication: str = ""
) -> Topology:
    """Build a topology from a master's answer: a header, then batches of volumes; raise TaskError as snapshot does."""
    topology = Topology(default_replication=replication)
    seen: dict[tuple[str, str, str], Node] = {}
    filtered = bool(volume_id or collection)

    def keep(
        node: Node,
        disk_type: str,
        volumes: Iterable[m.VolumeInformationMessage],
        shards: Iterable[m.VolumeEcShardInformationMessage],
    ) -> None:
        for volume in volumes:
            if (not volume_id or volume.id == volume_id) and (not collection or volume.collection == collection):
                topology.volumes.setdefault(volume.id, []).append(Replica(node, disk_type, volume))
        for holding in shards:
            if (not volume_id or holding.id == volume_id) and (not collection or holding.collection == collection):
                key = holding.id, holding.collection
                topology.ec.setdefault(key, []).append(EcHolding(node, disk_type, holding))

    for chunk in chunks:
        if chunk.HasField("header"):
            topology.volume_size_limit = chunk.header.volume_size_limit_mb << 20
            for center in chunk.header.topology_info.data_center_infos:
                for rack in center.rack_infos:
                    if not rack.data_node_infos:
                        topology.empty_racks.append(f"{center.id}/{rack.id}")
                    for info in rack.data_node_infos:
                        node = _node(info, center.id, rack.id)
                        if (other := topology.nodes.get(node.id)) and other.address != node.address:
                            topology.twins.setdefault(node.id, [str(other)]).append(str(node))
                        topology.nodes[node.id] = seen[center.id, rack.id, node.id] = node
                        for disk_type, disk in info.diskInfos.items():
                            keep(node, disk_type, disk.volume_infos, disk.ec_shard_infos)
        listed = seen.get((chunk.data_center, chunk.rack, chunk.data_node))
        if listed is not None and chunk.disk_type in listed.disks:
            keep(listed, chunk.disk_type, chunk.volume_infos, chunk.ec_shard_infos)
    if not topology.nodes:
        raise TaskError("the master lists no volume server; it may have just started")
    _count(topology, filtered)
    return topology


def _node(info: m.DataNodeInfo, data_center: str, rack: str) -> Node:
    base = info.address or info.id
    # Some masters write the gRPC port into the address already.
    named = "." in base.rpartition(":")[2]
    text = f"{base}.{info.grpc_port}" if info.grpc_port and not named else base
    disks = {
        disk_type: Disk(
            type=disk_type,
            volume_count=disk.volume_count,
            max_volume_count=disk.max_volume_count,
            remote_volume_count=disk.remote_volume_count,
            # Rounded up to whole slots; replaced by the true count where all shards are listed.
            ec_shard_count=SHARDS_PER_SLOT
            * max(0, disk.max_volume_count - disk.volume_count + disk.remote_volume_count - disk.free_volume_count),
            total_bytes=disk.disk_total_bytes,
            free_bytes=disk.disk_free_bytes,
            tags=tuple(disk.tags),
            physical=dict(disk.max_volume_count_by_disk),
        )
        for disk_type, disk in info.diskInfos.items()
    }
    return Node(info.id, Address.parse(text), data_center, rack, disks)


def _count(topology: Topology, filtered: bool) -> None:
    """Fill in what is on each physical disk; of a filtered list only the disks' ids can be told."""
    for replicas in topology.volumes.values():
        for replica in replicas:
            volumes, disk_id = replica.node.disks[replica.disk_type].volumes, replica.info.disk_id
            volumes[disk_id] = volumes.get(disk_id, 0) + (not replica.info.remote_storage_name)
    for holdings in topology.ec.values():
        for holding in holdings:
            shards, disk_id = holding.node.disks[holding.disk_type].shards, holding.info.disk_id
            shards[disk_id] = shards.get(disk_id, 0) + bin(holding.info.ec_index_bits).count("1")
    for node in topology.nodes.values():
        for disk in node.disks.values():
            if not filtered:
                disk.ec_shard_count = sum(disk.shards.values())
            ids = sorted({*disk.volumes, *disk.shards, *disk.physical}) or [0]
            if not disk.physical:
                each, rest = divmod(disk.max_volume_count, len(ids))
                disk.physical = {disk_id: each + (place < rest) for place, disk_id in enumerate(ids)}


def locations(master: Master, volume_id: int) -> list[Address]:
    """Ask the master afresh where a volume's copies are; empty where it knows none.

    Raises ServerFailed where no master answers and TaskError for an answer that tells neither.
    """
    for entry in master.lookup_volume(volume_or_file_ids=[str(volume_id)]).volume_id_locations:
        if entry.error and "not found" not in entry.error.lower():
            raise TaskError(f"the master cannot say where volume {volume_id} is: {entry.error}")
        return [_location(place) for place in entry.locations]
    return []


def ec_locations(master: Master, volume_id: int) -> dict[int, list[Address]]:
    """Ask the master afresh where a volume's shards are, by shard id; empty where it knows none."""
    try:
        answer = master.lookup_ec_volume(volume_id=volume_id)
    except ServerFailed as error:
        if error.says_absent:
            return {}
        raise
    return {
        shard.shard_id: [_location(place) for place in shard.locations]
        for shard in answer.shard_id_locations
        if shard.locations
    }


def _location(place: m.Location) -> Address:
    named = "." in place.url.rpartition(":")[2]
    return Address.parse(f"{place.url}.{place.grpc_port}" if place.grpc_port and not named else place.url)


def collection_filter(text: str) -> Callable[[str], bool]:
    """What a collection filter lets through: everything, or what an unanchored regular expression finds.

    "_default" is the unnamed collection. Raises ConfigError for an expression that cannot be read.
    """
    if text.strip() in EVERY_COLLECTION:
        return _everything
    if text.strip() == DEFAULT_COLLECTION:
        return lambda collection: not collection
    try:
        pattern = re.compile(text.strip())
    except re.error as error:
        raise ConfigError(f"collection_filter {text!r} is no regular expression: {error}") from None
    return lambda collection: pattern.search(collection) is not None


def wildcard_filter(text: str) -> Callable[[str], bool]:
    """What a comma-separated list of names with `*` and `?` lets through; an empty list lets everything through."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        return _everything
    pattern = re.compile("|".join(translate(word.replace("[", "[[]")) for word in words))
    return lambda name: pattern.match(name) is not None


def names_filter(text: str) -> Callable[[str], bool]:
    """What a wildcard_filter lets through of collections, where "_default" is the unnamed one."""
    is_named = wildcard_filter(text)
    if DEFAULT_COLLECTION in (word.strip() for word in text.split(",")):
        return lambda name: not name or is_named(name)
    return is_named


def either_filter(text: str) -> Callable[[str], bool]:
    """What a filter lets through: a names_filter where it reads as a list of names, else a collection_filter."""
    if RULES & set(text) or text.strip() in EVERY_COLLECTION:
        return collection_filter(text)
    return names_filter(text)


def _everything(_name: str) -> bool:
    return True
