"""A worker whose job failed looks for other work first, and still knows that after a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.agent.agent import Agent, flags_for
from tests.agent.work import COMPACT, garbage
from tests.support import eventually
from tests.support.cluster import Admin, Cluster

Start = Callable[..., Agent]


def look(admin: Admin) -> None:
    eventually(lambda: admin.post("/api/plugin/job-types/vacuum/schema"), 20)
    admin.post("/api/plugin/job-types/vacuum/detect")


def test_a_failed_vacuum_is_not_planned_again_at_once_nor_after_a_restart(
    sandbox_cluster: Cluster, start_agent: Start, tmp_path: Path
) -> None:
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    server = sandbox_cluster.locations(volume_id)[0]
    sandbox_cluster.faults(server).fail(COMPACT, nth=0, code="UNKNOWN", text="disk trouble")
    admin = sandbox_cluster.start_admin("plugin")
    agent = start_agent(flags_for(admin), "-capabilities=vacuum", "-v=2")
    agent.says("registered as")
    eventually(lambda: admin.post("/api/plugin/job-types/vacuum/schema"), 20)
    admin.post("/api/plugin/job-types/vacuum/run")
    agent.says("failed vacuum .*disk trouble")
    sandbox_cluster.faults(server).clear()
    look(admin)
    agent.says(f"passed over volume {volume_id} for vacuum: .* failed .*disk trouble.*tried again after .* UTC")
    assert (agent.working_dir / "setbacks.json").exists()
    agent.terminate()
    agent.wait()
    again = start_agent(flags_for(admin), "-capabilities=vacuum", "-v=2")
    eventually(lambda: again.text.count("registered as") == 2, 20)
    before = again.text.count("passed over volume")
    look(admin)
    eventually(lambda: again.text.count("passed over volume") > before)
