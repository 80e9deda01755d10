"""A server is emptied from the form of an unchanged admin, once it is named there, and not before."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.agent.agent import Agent, flags_for
from tests.support import eventually
from tests.support.cluster import Cluster
from tests.support.shards import encoded, settle

MakeCluster = Callable[..., Cluster]


@pytest.mark.timeout(300)
def test_an_admin_has_a_server_emptied_that_its_form_names(
    make_cluster: MakeCluster, start_agent: Callable[..., Agent]
) -> None:
    cluster = make_cluster("4.44", servers=5)
    cluster.options["sender_seconds"] = 0.0
    first = cluster.servers[0]
    files = cluster.fill(4, volumes=3, servers=[first])
    coded, volume_id = encoded(cluster, count=6)
    cluster.settle()
    admin = cluster.start_admin()
    agent = start_agent(flags_for(admin), "-capabilities=volumeServer.evacuate")
    agent.says("registered as .* for evacuate")
    eventually(lambda: admin.get("/api/plugin/job-types/evacuate/config"), 30)
    admin.configure("evacuate", min_frozen_seconds=0)
    admin.post("/api/plugin/job-types/evacuate/run", {"timeout_seconds": 60})
    assert len(cluster.locations(files.volume_ids[0])) == 1
    assert "completed evacuate" not in agent.text, "nobody is named"

    admin.configure("evacuate", nodes=str(first.address), min_frozen_seconds=0)
    admin.post("/api/plugin/job-types/evacuate/run", {"timeout_seconds": 60})
    eventually(lambda: agent.text.count("completed evacuate") == 4, 90)
    settle(cluster, volume_id)
    cluster.settle()
    assert [name for name in first.files() if name.endswith(".dat") or ".ec" in name] == []
    cluster.check(files)
    cluster.check(coded)
    told = admin.post("/api/plugin/job-types/evacuate/run", {"timeout_seconds": 60})
    assert "empty, may be stopped" in str(told) or agent.says("empty, may be stopped", 30)
