"""What a job should do: read from its typed parameters, else from the plain ones some admins send."""

from __future__ import annotations

from collections.abc import Iterable

from proto_gen.worker_pb2 import TaskParams
from weed_cluster.address import Address
from weed_cluster.topology import Topology
from weed_core.errors import BadTask, StaleTask
from weed_core.model import Job
from weed_core.values import as_int, as_str


def volume_id_of(job: Job) -> int:
    """Return the volume that a job is about; BadTask if it names none, or two different ones in typed parameters."""
    sources = {source.volume_id for source in job.params.sources} - {0, job.params.volume_id}
    if job.params.volume_id and sources:
        raise BadTask(f"the job is about volume {job.params.volume_id}, but its sources about {sorted(sources)}")
    volume_id = job.params.volume_id or as_int(job.parameters.get("volume_id"), 0)
    if not 0 < volume_id < 1 << 32:
        raise BadTask("the job names no volume: volume_id is missing")
    return volume_id


def collection_of(job: Job) -> str | None:
    """Return the collection that a job names; None where it names none, or the unnamed one."""
    return job.params.collection or as_str(job.parameters.get("collection"), "") or None


def text_of(job: Job, *names: str) -> str:
    """Return the first plain parameter of these names that is not empty, "" where there is none."""
    return next((text for name in names if (text := as_str(job.parameters.get(name), ""))), "")


def source_names(params: TaskParams) -> list[str]:
    """Return the servers named as sources, in order and once each; BadTask if one is empty."""
    names = [source.node for source in params.sources]
    if "" in names:
        raise BadTask(f"a source of volume {params.volume_id} names no server")
    return list(dict.fromkeys(names))


def server_named(text: str, topology: Topology | None) -> Address:
    """Return the server that an admin means by a node id, host:port or host:port.grpcPort.

    Old admins leave out a gRPC port of its own; the topology knows it. BadTask for what is no server's name; StaleTask,
    before anything is dialled, for a server that the masters do not know. Without a topology any address will do.
    """
    if topology is None:
        return Address.parse(text)
    found = _known(text, topology)
    if found is None:
        Address.parse(text)
        raise StaleTask(f"the masters know no volume server {text}; nothing was touched")
    return found


def servers_known(names: Iterable[str], topology: Topology) -> list[Address]:
    """Return those of the servers named that the masters know, for jobs whose other servers do not matter."""
    return [found for name in names if (found := _known(name, topology)) is not None]


def _known(text: str, topology: Topology) -> Address | None:
    """Find a server by what its address is written as, by the endpoint it is reached at, then by its id."""
    for node in topology.nodes.values():
        if text in (str(node.address), node.address.http, f"{node.address.http}.{node.address.grpc_port}"):
            return node.address
    try:
        node_there = topology.node_at(Address.parse(text))
    except BadTask:
        node_there = None
    node_there = node_there or topology.nodes.get(text)
    return node_there.address if node_there else None
