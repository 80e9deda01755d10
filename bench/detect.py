"""Plans erasure coding over a cluster of 1,000 servers in 100 racks with 300,000 volumes, half of them eligible.

    python bench/detect.py

Exits with 1 where planning 7,000 proposals takes more than 5 s, or the process more than 500 MB.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from proto_gen import master_pb2 as m
from weed_cluster.channels import Channels
from weed_cluster.client import Cluster
from weed_cluster.topology import read
from weed_core.model import DetectionRequest
from weed_safety.context import Context
from weed_safety.journal import Journal
from weed_tasks.erasure_coding.plan import plan

RACKS, SERVERS, VOLUMES, PROPOSALS = 100, 1000, 300_000, 7000
LIMIT_MB = 30_000
SECONDS, MEGABYTES = 5.0, 500


def messages() -> Iterator[m.VolumeListStreamResponse]:
    """What a 4.44 master streams of such a cluster."""
    header = m.VolumeListResponse(volume_size_limit_mb=LIMIT_MB)
    center = header.topology_info.data_center_infos.add(id="dc1")
    each = VOLUMES // SERVERS
    for rack in range(RACKS):
        listed = center.rack_infos.add(id=f"rack{rack:03}")
        for server in range(rack, SERVERS, RACKS):
            node = listed.data_node_infos.add(id=name(server))
            node.diskInfos[""].CopyFrom(
                m.DiskInfo(volume_count=each, max_volume_count=each + 100, free_volume_count=100)
            )
    yield m.VolumeListStreamResponse(header=header)
    old = int(time.time()) - 86400
    for server in range(SERVERS):
        volumes = [
            m.VolumeInformationMessage(
                id=volume_id,
                size=LIMIT_MB * 2**20 if volume_id % 2 else 10 * 2**20,
                collection=f"c{volume_id % 7}",
                modified_at_second=old,
                version=3,
                file_count=1000,
            )
            for volume_id in range(server + 1, VOLUMES + 1, SERVERS)
        ]
        yield m.VolumeListStreamResponse(
            data_center="dc1",
            rack=f"rack{server % RACKS:03}",
            data_node=name(server),
            disk_type="",
            volume_infos=volumes,
        )


def name(server: int) -> str:
    """A server's address."""
    return f"10.{server // 250}.0.{server % 250 + 1}:8080"


def main() -> int:
    prepared = list(messages())
    began = time.monotonic()
    topology = read(prepared)
    seen = time.monotonic()
    request = DetectionRequest("erasure_coding", {}, (), max_results=PROPOSALS, sequence=time.time_ns())
    found = plan(request, topology, Context(Cluster(Channels()), Journal.memory()))
    ended = time.monotonic()
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(found.proposals)} proposals of {found.seen} volumes: reading {seen - began:.2f} s, "
        f"planning {ended - seen:.2f} s, {megabytes:.0f} MB resident"
    )
    missed = len(found.proposals) != PROPOSALS or ended - began > SECONDS or megabytes > MEGABYTES
    print("missed" if missed else "all figures reached")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
