"""The agent ends holds of others that are over, where a filer keeps the records of them."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.agent.agent import Agent, flags_for
from tests.support.cluster import Cluster
from weed_safety import holds
from weed_safety.journal import Journal


def test_a_hold_whose_maker_is_gone_is_ended_by_an_agent_that_finds_it_over(
    make_cluster: Callable[..., Cluster], start_agent: Callable[..., Agent]
) -> None:
    cluster = make_cluster()
    a, b, _c = cluster.servers
    cluster.start_filer()
    files = cluster.fill(5, servers=[a, b], replication="001", volumes=2)
    over, lasting = files.volume_ids
    for volume_id in (over, lasting):
        for server in (a, b):
            cluster.volume(server).volume_mark_readonly(volume_id=volume_id, persist=cluster.era == "4.44")
        until = time.time() + (100.0 if volume_id == lasting else -100.0)
        gone = cluster.context(Journal.memory("job", "balance", volume_id))
        assert holds.record(gone, volume_id, until, {server.address: True for server in (a, b)})
    cluster.settle()
    agent = start_agent(flags_for(cluster.start_admin()), "-capabilities=replication")
    agent.says(f"ended a hold: volume {over}: 2 equal replicas on .* are writable now")

    def read_only(volume_id: int) -> list[bool]:
        return [
            cluster.volume(server).volume_status(volume_id=volume_id).is_read_only
            for server in cluster.locations(volume_id)
        ]

    assert read_only(over) == [False, False]
    assert read_only(lasting) == [True, True]
    assert [hold.volume_id for hold in holds.read_all(cluster.context())] == [lasting]
    cluster.check(files)
