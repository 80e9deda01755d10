"""Whom to ask is asked: masters that die, hang, follow or are named by nobody but other masters."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from tests.support import eventually, free_port
from tests.support.cluster import TIMING, Cluster
from weed_cluster.address import Address
from weed_cluster.client import Cluster as Clients
from weed_cluster.leash import Leash
from weed_cluster.masters import Masters
from weed_cluster.topology import snapshot
from weed_core.errors import BadTask, ServerFailed
from weed_safety.lease import volume_lease

Make = Callable[..., Cluster]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TIMING, "settle", 0.0)
    monkeypatch.setitem(TIMING, "sure", 0.2)
    monkeypatch.setitem(TIMING, "search", 0.1)


def leader_of(cluster: Cluster) -> Address:
    """Who leads now, asked of every master that lives."""

    def found() -> Address | None:
        for process in cluster.masters:
            if process.alive:
                master = Clients(cluster._channels, [process.address]).master()
                try:
                    master.volume_list()
                except ServerFailed:
                    continue
                return master.address
        return None

    return eventually(found, 60) or cluster.master


def kill_leader(cluster: Cluster) -> Address:
    """Kill the leader; in the sandbox, which has no elections, name the next one. Return the dead one's address."""
    dead = leader_of(cluster)
    next(process for process in cluster.masters if process.address == dead).kill()
    if cluster.kind == "sandbox":
        cluster.lead(next(process.address for process in cluster.masters if process.alive))
    return dead


def test_when_the_one_named_master_dies_its_peers_are_asked(make_cluster: Make) -> None:
    cluster = make_cluster(servers=1, masters=3)
    known = Masters([leader_of(cluster)])
    Clients(cluster._channels, known).master().volume_list()
    dead = kill_leader(cluster)
    master = Clients(cluster._channels, known, Leash(90)).master()
    eventually(lambda: len(master.volume_list().topology_info.data_center_infos) > 0, 60)
    assert master.address != dead
    assert set(known) == {process.address for process in cluster.masters}


def test_a_follower_alone_leads_to_the_leader(make_cluster: Make) -> None:
    cluster = make_cluster(servers=1, masters=3)
    leader = leader_of(cluster)
    follower = next(process.address for process in cluster.masters if process.address != leader)
    master = Clients(cluster._channels, [follower]).master()
    master.volume_list()
    assert master.address == leader


def test_a_volume_is_made_read_only_and_writable_while_its_server_looks_for_another_master(make_cluster: Make) -> None:
    cluster = make_cluster(servers=1, masters=3)
    (volume_id,) = cluster.fill(count=1).volume_ids
    volume = cluster.volume(cluster.servers[0])
    kill_leader(cluster)
    volume.volume_mark_readonly(volume_id=volume_id)
    assert volume.volume_status(volume_id=volume_id).is_read_only
    volume.volume_mark_writable(volume_id=volume_id)
    assert not volume.volume_status(volume_id=volume_id).is_read_only


def test_a_server_that_cannot_pass_on_a_freeze_to_its_master_is_asked_again_for_an_election_s_time(
    sandbox_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    (volume_id,) = sandbox_cluster.fill(count=1).volume_ids
    (server,) = sandbox_cluster.locations(volume_id)
    faults, text = sandbox_cluster.faults(server), "grpc VolumeMarkReadonly with master 127.0.0.1:9333: EOF"
    for nth in (1, 2):
        faults.fail("VolumeMarkReadonly", nth, "UNKNOWN", text)
    sandbox_cluster.volume(server).volume_mark_readonly(volume_id=volume_id)
    assert sandbox_cluster.volume(server).volume_status(volume_id=volume_id).is_read_only
    monkeypatch.setitem(TIMING, "election", 0.3)
    faults.fail("VolumeMarkWritable", 0, "UNKNOWN", text)
    with pytest.raises(ServerFailed, match="with master"):
        sandbox_cluster.clients().volume(server.address).volume_mark_writable(volume_id=volume_id)
    faults.clear()


def test_a_lease_goes_on_at_the_next_leader(make_sandbox_cluster: Make) -> None:
    cluster = make_sandbox_cluster(servers=1, masters=3)
    ctx = cluster.context()
    with volume_lease(ctx, 7) as lease:
        kill_leader(cluster)
        lease.take()
        assert not lease.is_lost
        assert "weed_worker.volume.7" in cluster.locks(cluster.masters[1].address)
    assert "weed_worker.volume.7" not in cluster.locks(cluster.masters[1].address)


def test_a_master_that_hangs_costs_seconds(make_sandbox_cluster: Make) -> None:
    cluster = make_sandbox_cluster(servers=1, masters=3)
    known = Masters([process.address for process in cluster.masters])
    Clients(cluster._channels, known).master().volume_list()
    with cluster.masters[0].frozen():
        cluster.lead(cluster.masters[1].address)
        known.doubt()
        began = time.monotonic()
        master = Clients(cluster._channels, known).master()
        master.volume_list()
        assert time.monotonic() - began < 10
        assert master.address == cluster.masters[1].address


def test_all_masters_hanging_cost_a_bounded_time(make_sandbox_cluster: Make) -> None:
    cluster = make_sandbox_cluster(servers=1)
    with cluster.masters[0].frozen():
        began = time.monotonic()
        with pytest.raises(ServerFailed):
            cluster.clients().master().volume_list()
        assert time.monotonic() - began < 40


def test_a_call_waits_for_the_end_of_an_election(make_sandbox_cluster: Make) -> None:
    cluster = make_sandbox_cluster(servers=1, masters=3)
    gone = Address.parse("127.0.0.1:9")
    cluster.lead(gone)
    ended = threading.Timer(1.0, cluster.lead, [cluster.masters[2].address])
    ended.start()
    master = cluster.clients().master()
    master.volume_list()
    assert master.address == cluster.masters[2].address


def test_without_an_election_a_call_says_who_knows_no_leader(
    make_sandbox_cluster: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TIMING, "election", 0.3)
    cluster = make_sandbox_cluster(servers=1, masters=3)
    cluster.lead(Address.parse("127.0.0.1:9"))
    with pytest.raises(ServerFailed, match="no leader is elected, say 127"):
        cluster.clients().master().volume_list()


def test_masters_that_nobody_named_are_asked_of_whoever_may_know(sandbox_cluster: Cluster) -> None:
    known = Masters(ask=lambda: [sandbox_cluster.master])
    Clients(sandbox_cluster._channels, known).master().volume_list()
    with pytest.raises(BadTask, match="no master is known"):
        Clients(sandbox_cluster._channels, Masters()).master()


def test_what_an_admin_names_later_is_asked_when_the_known_ones_fail(sandbox_cluster: Cluster) -> None:
    gone = Address.parse("127.0.0.1:9")
    known = Masters([gone], ask=lambda: [sandbox_cluster.master])
    master = Clients(sandbox_cluster._channels, known).master()
    master.volume_list()
    assert master.address == sandbox_cluster.master
    assert next(iter(known)) == sandbox_cluster.master


def test_a_leader_that_knows_half_of_the_servers_is_asked_until_it_knows_them(
    make_sandbox_cluster: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TIMING, "settle", 30.0)
    cluster = make_sandbox_cluster(servers=3, masters=3)
    known = Masters([process.address for process in cluster.masters])
    master = Clients(cluster._channels, known).master()
    everything = snapshot(master)
    assert len(everything.nodes) == 3
    late = cluster.servers[2]
    with late.frozen():
        kill_leader(cluster)
        freed = threading.Timer(2.0, late.resume)
        freed.start()
        assert set(snapshot(master).nodes) == set(everything.nodes)
        freed.join()


def test_a_server_is_reached_at_the_grpc_port_that_it_has_now(make_sandbox_cluster: Make) -> None:
    cluster = make_sandbox_cluster(servers=2)
    server = cluster.servers[0]
    before = server.address
    server.kill()
    after = Address(before.host, free_port([before.host], 0), before.port)
    server._argv = [
        word.replace(f"-port.grpc={before.grpc_port}", f"-port.grpc={after.grpc_port}") for word in server._argv
    ]
    server.start()
    clients = cluster.clients()
    eventually(lambda: after in {node.address for node in snapshot(clients.master()).nodes.values()}, 20)
    assert clients.volume(before).volume_server_status().version
    assert clients.volume(before).address == after
    assert clients.volume(cluster.servers[1].address).address == cluster.servers[1].address
