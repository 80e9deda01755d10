"""Having holders forget where replicas were: where it can be done, and what is left where it fails on the way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import eventually
from tests.support.cluster import Cluster
from weed_cluster.replica_placement import ReplicaPlacement
from weed_cluster.uploads import Uploads
from weed_core.errors import ServerFailed
from weed_safety import forget
from weed_safety.freeze import freeze_for_long
from weed_safety.journal import Journal


def test_servers_before_4_44_cannot_forget(any_cluster: Cluster) -> None:
    reason = forget.why_not(any_cluster.context(), 1, [server.address for server in any_cluster.servers])
    assert (reason == "") == (any_cluster.era == "4.44")
    if reason:
        assert reason.endswith(f" runs {any_cluster.era}; releases before 4.44 cannot forget")


def test_a_server_that_wants_tokens_is_reached_with_its_key_alone(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(era="4.44")
    if cluster.kind == "sandbox":
        return  # knows no tokens
    server = cluster.servers[0]
    server.stop()
    (server.directory / "security.toml").write_text('[jwt.signing]\nkey = "a secret"\nexpires_after_seconds = 10\n')
    cluster.start()
    ctx = cluster.context()

    def reason(key: str) -> str:
        ctx.cluster.channels.uploads = Uploads(key)
        return forget.why_not(ctx, 1, [server.address])

    eventually(lambda: "[jwt.signing] key in security.toml here must be its own" in reason(""))
    assert "wrong jwt" in reason("another secret")
    assert reason("a secret") == ""


@pytest.mark.parametrize("call", ["VolumeConfigure", "VolumeMarkReadonly", "ReadVolumeFileStatus"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_what_fails_on_the_way_leaves_every_placement_as_it_was(sandbox_cluster: Cluster, call: str, nth: int) -> None:
    cluster = sandbox_cluster
    a, b, _c = cluster.servers
    files = cluster.fill(count=3, servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    ctx = cluster.context(Journal.memory("job", "balance", volume_id))
    frozen = [freeze_for_long(ctx, server.address, volume_id) for server in (a, b)]
    cluster.faults(b).fail(call, nth=nth, code="UNKNOWN")
    if (call, nth) == ("VolumeConfigure", 3):  # the one that sets the placement back
        with pytest.raises(ServerFailed, match="made to fail"):
            forget.renew(ctx, volume_id, frozen, ReplicaPlacement.parse("001"))
        assert [step.what for step in ctx.journal.open] == ["freeze", "freeze", "configure"]
        forget.restore(ctx, volume_id)
    else:
        reason = forget.renew(ctx, volume_id, frozen, ReplicaPlacement.parse("001"))
        assert "made to fail" in reason or (nth == 3 and reason == "")
    cluster.faults(b).clear()
    assert [step.what for step in ctx.journal.open] == ["freeze", "freeze"]
    for server in (a, b):
        assert cluster.volume(server).read_volume_file_status(volume_id=volume_id).volume_info.replication in (
            "",
            "001",
        )
        assert cluster.volume(server).volume_status(volume_id=volume_id).is_read_only
    assert forget.renew(ctx, volume_id, frozen, ReplicaPlacement.parse("001")) == ""
