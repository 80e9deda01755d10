"""Which RPCs only read. Every other one is a change, so that a new one counts as a change until it is named here."""

from __future__ import annotations

from collections.abc import Iterable

from proto_gen import filer_pb2, master_pb2, plugin_pb2, volume_server_pb2, worker_pb2
from tests.support.cluster import Cluster
from weed_cluster.address import Address

READING = frozenset(
    {
        # masters
        "GetMasterConfiguration",
        "ListClusterNodes",
        "LookupEcVolume",
        "LookupVolume",
        "RaftListClusterServers",
        "Statistics",
        "VolumeList",
        "VolumeListStream",
        # volume servers
        "CopyFile",
        "GetState",
        "ReadAllNeedles",
        "ReadNeedleBlob",
        "ReadNeedleMeta",
        "ReadVolumeFileStatus",
        "VacuumVolumeCheck",
        "VolumeEcShardRead",
        "VolumeEcShardsInfo",
        "VolumeIncrementalCopy",
        "VolumeNeedleStatus",
        "VolumeServerStatus",
        "VolumeStatus",
        "VolumeSyncStatus",
        "VolumeTailSender",
        # filers
        "ListEntries",
        # both
        "Ping",
    }
)
"""The RPCs after which every server is as it was before. Scrubs are none: they may mark what they find."""

LEASES = frozenset({"LeaseAdminToken", "ReleaseAdminToken"})
"""Changes that end by themselves."""

ALL = frozenset(
    method.name
    for module in (filer_pb2, master_pb2, plugin_pb2, volume_server_pb2, worker_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)
"""Every RPC of every service that this project knows."""

CHANGING = ALL - READING
"""The RPCs that may change something on a server."""


def changes(calls: Iterable[str]) -> list[str]:
    """Those of the calls that may change something, unknown ones among them."""
    return [call for call in calls if call not in READING]


def changes_seen(cluster: Cluster) -> list[str]:
    """The changes that masters and volume servers of a sandbox were asked for since they were last cleared."""
    return changes(method for address in _addresses(cluster) for method, _request in cluster.calls(address))


def see_nothing_yet(cluster: Cluster) -> None:
    """Have the sandbox's masters and volume servers forget the calls they saw."""
    for address in _addresses(cluster):
        cluster.faults(address).clear()


def _addresses(cluster: Cluster) -> list[Address]:
    return [process.address for process in (*cluster.masters, *cluster.servers)]
