"""Moving volumes to disks of another type: all replicas, full and quiet ones only, over another server if need be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REAL_KINDS, SANDBOX_KIND, clusters
from tests.support.cluster import Cluster, Machine
from tests.support.dying import DyingWorker, at_change, sample
from weed_core.errors import ConfigError
from weed_core.model import Detection, DetectionRequest, Job
from weed_tasks import tier_move

KINDS = [SANDBOX_KIND, *(kind for kind in REAL_KINDS if kind.era in ("4.44", "4.13"))]

MACHINES = [Machine(disks=(("hdd", 20), ("ssd", 20))), Machine(), Machine(disks=(("ssd", 20),)), Machine()]
"""Two servers have disks of the faster type, one of them beside slower ones."""


_four = clusters(KINDS, servers=MACHINES)


@pytest.fixture
def four(_four: Cluster) -> Cluster:
    """Four empty servers."""
    _four.reset()
    _four.options["remembered_seconds"] = 1.0
    return _four


def look(cluster: Cluster, **config: Any) -> Detection:
    usual = {"from_disk_type": "hdd", "to_disk_type": "ssd", "fullness_ratio": 0.0, "quiet_for_seconds": 0}
    wishes = {**usual, "min_frozen_seconds": 0, **config}
    return tier_move.detect(DetectionRequest("tier_move", wishes, (str(cluster.master),)), cluster.context())


def jobs_of(found: Detection) -> list[Job]:
    return [Job(one.id, "tier_move", one.params, one.parameters) for one in found.proposals]


def moved(cluster: Cluster, **config: Any) -> Detection:
    """Do all that there is to do, look after look; return the last one."""
    for _round in range(5):
        cluster.settle()
        found = look(cluster, **config)
        if not found.proposals:
            return found
        for job in jobs_of(found):
            tier_move.run(job, cluster.context())
    raise AssertionError(f"there is no end of it: {found}")


def kinds_of(cluster: Cluster, volume_id: int) -> list[str]:
    return [replica.disk_type or "hdd" for replica in cluster.topology().replicas(volume_id)]


def test_all_replicas_of_full_and_quiet_volumes_move_and_no_other(four: Cluster) -> None:
    _both, plain, _fast, other = four.servers
    pair = four.fill(6, replication="001", servers=[plain, other], collection="old")
    fresh = four.fill(6, servers=[plain], collection="fresh")
    moved(four, collection_filter="^old$")
    four.settle()
    assert kinds_of(four, pair.volume_ids[0]) == ["ssd", "ssd"]
    assert kinds_of(four, fresh.volume_ids[0]) == ["hdd"]
    four.check(pair)
    found = look(four, fullness_ratio=0.9)
    assert found.proposals == []
    assert "it is 0% full, moved from 90%" in found.skipped[0].reason
    four.write(fresh, fresh.volume_ids[0], 1, 100, [plain])
    late = look(four, quiet_for_seconds=7 * 86400)
    assert [skip.key for skip in late.skipped] == ["written to lately"]
    four.check(fresh)


def test_where_only_its_own_server_has_room_a_volume_goes_over_another_one(four: Cluster) -> None:
    both = four.servers[0]
    files = four.fill(4, servers=[both], disk_type="hdd")
    four.servers[2].kill()
    four.settle()
    (first,) = jobs_of(look(four))
    assert first.parameters["disk_type"] == "hdd"
    assert first.parameters["target_server"] != str(both.address)
    moved(four)
    assert four.locations(files.volume_ids[0]) == [both]
    assert kinds_of(four, files.volume_ids[0]) == ["ssd"]
    four.check(files)


def test_a_killed_move_is_taken_up_by_the_next_worker(four: Cluster, tmp_path: Path) -> None:
    plain = four.servers[1]
    files = four.fill(4, servers=[plain])
    four.settle()
    (job,) = jobs_of(look(four))
    for number in sample(range(1, 7), 2):
        worker = DyingWorker(four, tmp_path / f"{number}", at_change(number, after=True))
        worker.run(tier_move.run, job)
        heir = DyingWorker(four, tmp_path / f"{number}")
        heir.recover(tier_move.recover)
        assert heir.journal.count() == 0
        four.settle()
        four.check(files)
    moved(four)
    assert kinds_of(four, files.volume_ids[0]) == ["ssd"]
    four.check(files)


def test_types_that_are_alike_or_not_named_move_nothing(four: Cluster) -> None:
    four.fill(2)
    with pytest.raises(ConfigError, match="from_disk_type and to_disk_type are both hdd"):
        look(four, to_disk_type="hdd")
    found = look(four, to_disk_type="")
    assert (found.proposals, found.summary) == ([], "nothing is moved: set from_disk_type and to_disk_type")
    nowhere = look(four, to_disk_type="tape")
    assert "no server may take it on tape" in nowhere.skipped[0].reason
