"""`run evacuate -node=`: a server is emptied in one command, with the plan first, and told how it is named wrongly."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.console.console import Ended
from tests.support.cluster import Cluster
from weed_safety.context import Options

Here = Callable[..., Ended]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Options, "look_again_seconds", 0.2)


def test_a_run_goes_on_until_the_server_is_empty(cluster: Cluster, here: Here) -> None:
    first, second, _third = cluster.servers
    files = cluster.fill(3, volumes=3, servers=[first])
    pair = cluster.fill(3, replication="001", servers=[first, second])
    cluster.settle()
    name = f"-node={first.address}"

    planned = here(cluster, "plan", "evacuate", name)
    assert planned.status == 0
    assert "4 to do for evacuate: " in planned.out
    assert f"Move volume {pair.volume_ids[0]} away from {first.address} to " in planned.out
    assert f"run evacuate -master={cluster.master} " in planned.out
    assert f" {name}" in planned.out.splitlines()[-1]
    checked = here(cluster, "run", "evacuate", name, "-dryRun", "-set=min_frozen_seconds=0")
    assert (checked.status, len(cluster.locations(files.volume_ids[0]))) == (0, 1)

    done = here(cluster, "run", "evacuate", name, "-yes", "-set=min_frozen_seconds=0")
    assert done.status == 0, done.out
    assert "4 done" in done.out
    assert f"{first.address}: empty, may be stopped" in done.out
    cluster.settle()
    assert first.files("*.dat") == []
    cluster.check(files)
    cluster.check(pair)
    assert here(cluster, "doctor", name).status == 0, "it may be removed for good"


def test_what_cannot_end_is_not_begun_and_ends_with_a_status_of_its_own(cluster: Cluster, here: Here) -> None:
    (volume_id,) = cluster.fill(3, replication="002", servers=cluster.servers).volume_ids
    cluster.settle()
    ended = here(cluster, "run", "evacuate", f"-node={cluster.servers[0].address}", "-yes")
    assert ended.status == 1
    assert "cannot be emptied, and nothing is begun: 1 of 1 volumes have nowhere to go" in ended.out
    assert "already holds a copy" in ended.out
    assert len(cluster.locations(volume_id)) == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("plan", "evacuate"), "evacuate empties the servers that are named: -node=host:port"),
        (("run", "vacuum", "-node=127.0.0.1:1", "-yes"), "-node and -disk name what is to be emptied"),
        (("plan", "evacuate", "-disk=0"), "-disk names disks of one server"),
        (("plan", "evacuate", "-node=127.0.0.1:1", "-disk=x"), "-disk names disks of one server"),
        (("plan", "evacuate", "-node=127.0.0.1:1"), "there is no volume server 127.0.0.1:1"),
    ],
)
def test_what_is_named_wrongly_is_said(sandbox_cluster: Cluster, here: Here, words: tuple[str, ...], says: str) -> None:
    ended = here(sandbox_cluster, *words)
    assert ended.status == 2
    assert says in ended.err
