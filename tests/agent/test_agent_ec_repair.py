"""Lost and bad shards come back by themselves: an unchanged admin looks, the agent mends, files read back meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.agent.agent import Agent, flags_for
from tests.support import eventually
from tests.support.cluster import Cluster, request
from tests.support.ec_repair import assert_whole, bad_shard
from tests.support.shards import digests, encoded, flip, holder_of, path_of, settle, take, where
from weed_state.shelf import findings_in

MakeCluster = Callable[..., Cluster]


@pytest.mark.timeout(300)
def test_an_admin_has_lost_and_bad_shards_restored_while_clients_read(
    make_cluster: MakeCluster, start_agent: Callable[..., Agent]
) -> None:
    cluster = make_cluster("4.44", servers=6)
    cluster.options["sender_seconds"] = 0.0
    files, volume_id = encoded(cluster, "photos", count=12, size=1_000_003)
    before = digests(cluster, volume_id, "photos")
    bad = holder_of(cluster, volume_id, 12)  # of parity, so that no client reads it
    flip(path_of(bad, volume_id, ".ec12", "photos"), 77)
    take(cluster, volume_id, 3, holder_of(cluster, volume_id, 3), "photos")
    settle(cluster, volume_id)
    cluster.check(files)  # every server has noticed that the shard is gone

    wrong: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            for fid in list(files):
                for server in cluster.servers:
                    if (status := request(server.address, "GET", f"/{fid}")[0]) != 200:
                        wrong.append(f"{fid} from {server}: {status}")

    admin = cluster.start_admin()
    agent = start_agent(flags_for(admin), "-capabilities=ec.repair")
    agent.says("registered as .* for ec_repair")
    finding = bad_shard(volume_id, 12, bad, "photos")
    findings_in(agent.working_dir).put(finding.key, finding.document())
    reading = threading.Thread(target=read)
    reading.start()
    try:
        eventually(lambda: admin.get("/api/plugin/job-types/ec_repair/config"), 30)
        admin.configure("ec_repair")
        config = admin.get("/api/plugin/job-types/ec_repair/config")
        assert config["worker_config_values"]["min_fault_age_seconds"] == {"int64_value": "600"}
        admin.configure("ec_repair", min_fault_age_seconds=0)
        admin.post("/api/plugin/job-types/ec_repair/run", {"timeout_seconds": 60})
        eventually(lambda: len(where(cluster, volume_id)[3]) == 1, 60)
        eventually(lambda: agent.text.count("completed ec_repair"), 60)
    finally:
        done.set()
        reading.join()
    assert_whole(cluster, volume_id, before, "photos")
    assert wrong == []
    settle(cluster, volume_id)
    cluster.check(files)
    assert not findings_in(agent.working_dir).all()
