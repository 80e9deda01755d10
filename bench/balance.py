"""Plans balance over a cluster of 1,000 servers and 300,000 volumes of two copies, half of the servers new and empty.

    python bench/balance.py

Exits with 1 where planning 20,000 moves takes more than 5 s or 400 MB beside the topology, where a target is
overfilled or a move makes nothing better, or where a second look after the moves turns any of them round.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from proto_gen import master_pb2 as m
from weed_cluster.topology import Topology, read
from weed_core.model import DetectionRequest
from weed_tasks.balance.plan import plan

SERVERS, VOLUMES, MOVES = 1000, 300_000, 20_000
SLOTS = 1500
SECONDS, MEGABYTES = 5.0, 400


def chunk(server: int, volumes: dict[int, int]) -> m.VolumeListStreamResponse:
    """What a master streams of one server's volumes, given as id and size in bytes."""
    old = int(time.time()) - 86400
    return m.VolumeListStreamResponse(
        data_center="dc1",
        rack=f"rack{server % 50:03}",
        data_node=name(server),
        disk_type="",
        volume_infos=[
            m.VolumeInformationMessage(
                id=volume,
                size=size,
                collection=f"c{volume % 7}",
                modified_at_second=old + volume % 1000,
                version=3,
                file_count=1000,
                replica_placement=1,
            )
            for volume, size in volumes.items()
        ],
    )


def cluster(placed: dict[int, dict[int, int]]) -> Topology:
    """The topology of servers that hold these volumes."""
    header = m.VolumeListResponse(volume_size_limit_mb=30_000)
    center = header.topology_info.data_center_infos.add(id="dc1")
    racks = [center.rack_infos.add(id=f"rack{rack:03}") for rack in range(50)]
    for server in range(SERVERS):
        node = racks[server % 50].data_node_infos.add(id=name(server))
        count = len(placed[server])
        node.diskInfos[""].CopyFrom(
            m.DiskInfo(volume_count=count, max_volume_count=SLOTS, free_volume_count=SLOTS - count)
        )
    stream = (chunk(server, volumes) for server, volumes in placed.items())
    return read([m.VolumeListStreamResponse(header=header), *stream])


def name(server: int) -> str:
    """A server's address."""
    return f"10.{server // 250}.0.{server % 250 + 1}:8080"


def main() -> int:
    placed: dict[int, dict[int, int]] = {server: {} for server in range(SERVERS)}
    half = SERVERS // 2
    for volume in range(1, VOLUMES + 1):
        # Two servers of one rack, as the placement 001 wants them; the second half of the servers is empty.
        first = volume * 7919 % half
        for server in (first, (first + 50) % half):
            placed[server][volume] = (volume * 104729 % 30_000 + 1) * 2**20
    topology = cluster(placed)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    found = plan(DetectionRequest("balance", {}, (), max_results=MOVES, sequence=time.time_ns()), topology)
    seconds = time.monotonic() - began
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident) / 1024
    counts = Counter({server: len(volumes) for server, volumes in placed.items()})
    numbers = {name(server): server for server in range(SERVERS)}
    moves = 0
    wrong = 0
    for proposal in found.proposals:
        for move in proposal.params.balance_params.moves:
            source, target = numbers[address(move.source_node)], numbers[address(move.target_node)]
            counts[source] -= 1
            counts[target] += 1
            wrong += counts[target] > counts[source] or counts[target] > SLOTS or move.volume_id in placed[target]
            placed[target][move.volume_id] = placed[source].pop(move.volume_id)
            moves += 1
    targets = {move.target_node for one in found.proposals for move in one.params.balance_params.moves}
    again = plan(DetectionRequest("balance", {}, (), max_results=MOVES, sequence=time.time_ns()), cluster(placed))
    turned = sum(move.source_node in targets for one in again.proposals for move in one.params.balance_params.moves)
    print(
        f"{moves} moves of {VOLUMES} volumes on {SERVERS} servers: {seconds:.2f} s, {megabytes:.0f} MB more resident; "
        f"{wrong} make nothing better or overfill, {turned} turned round by the next look"
    )
    missed = moves != MOVES or seconds > SECONDS or megabytes > MEGABYTES or wrong or turned
    print("missed" if missed else "all figures reached")
    return int(bool(missed))


def address(text: str) -> str:
    """The HTTP address in a server's name with both ports."""
    return text.rsplit(".", 1)[0] if text.count(".") > 3 else text


if __name__ == "__main__":
    sys.exit(main())
