"""A volume with much garbage is vacuumed before it is encoded, in the same job, and nothing deleted comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.conftest import REAL_KINDS, SANDBOX_KIND, clusters
from tests.support import eventually
from tests.support.cluster import Cluster, Files, request
from tests.support.erasure_coding import assert_encoded, fresh, job
from weed_core.model import DetectionRequest, Job
from weed_core.values import Value
from weed_tasks import erasure_coding

GARBAGE = 80_000
"""Bytes of each of the files that are deleted; those that stay are small."""

_module_five = clusters([SANDBOX_KIND, *REAL_KINDS], servers=5)


@pytest.fixture
def five(_module_five: Cluster) -> Cluster:
    fresh(_module_five)
    _module_five.options["sender_seconds"] = 0.0
    return _module_five


def littered(cluster: Cluster, garbage: int = 20, replication: str = "001") -> Files:
    """A volume on two servers with ten small files and the places of so many deleted ones."""
    files = cluster.fill(count=10, size=1000, replication=replication, servers=cluster.servers[:2])
    before = set(files)
    for _ in range(garbage):
        cluster.write(files, files.volume_ids[0], 1, GARBAGE, cluster.servers[:2])
    cluster.delete([fid for fid in files if fid not in before])
    return files


def order_for(cluster: Cluster, files: Files, **config: Value) -> Job:
    return replace(job(cluster, files.volume_ids[0]), config=config)


def test_garbage_is_vacuumed_first_and_stays_out_of_the_shards(five: Cluster) -> None:
    files = littered(five)
    assert files.deleted

    told = erasure_coding.run(order_for(five, files), five.context())

    assert "of garbage were vacuumed first" in told.summary
    assert int(str(told.outputs["encoded_bytes"])) < 2 * GARBAGE  # ten files of a kilobyte, of 1.6 MB
    assert_encoded(five, files)
    for server in five.servers:
        for fid in files.deleted:
            assert request(server.address, "GET", f"/{fid}")[0] == 404


@pytest.mark.parametrize(("garbage", "config"), [(20, {"garbage_threshold": 1.0}), (0, {"garbage_threshold": 0.3})])
def test_what_has_little_garbage_or_an_operator_who_wants_none_of_it_is_encoded_as_it_is(
    five: Cluster, garbage: int, config: dict[str, Value]
) -> None:
    files = littered(five, garbage)

    told = erasure_coding.run(order_for(five, files, **config), five.context())

    assert "vacuumed" not in told.summary
    assert int(str(told.outputs["encoded_bytes"])) > garbage * GARBAGE
    assert_encoded(five, files)


def test_a_volume_that_lacks_a_copy_is_encoded_with_its_garbage_and_that_is_said(five: Cluster) -> None:
    files = littered(five, replication="002")
    said: list[str] = []
    ctx = five.context()
    ctx.warn = said.append

    erasure_coding.run(order_for(five, files), ctx)

    assert ["should have 3 copies and has 2" in line for line in said] == [True]
    assert_encoded(five, files)


def test_a_plan_and_a_dry_run_tell_of_it_and_change_nothing(five: Cluster) -> None:
    files = littered(five)
    before = [server.files() for server in five.servers]
    config: dict[str, Value] = {"min_size_mb": 1, "fullness_ratio": 0.0, "quiet_for_seconds": 0}
    look = DetectionRequest("erasure_coding", config, (), volume_id=files.volume_ids[0])

    (volume_id,) = files.volume_ids
    eventually(lambda: [one.garbage_ratio > 0.9 for one in five.topology().replicas(volume_id)] == [True, True])
    (found,) = erasure_coding.detect(look, five.context()).proposals
    told = erasure_coding.run(order_for(five, files), five.context(dry_run=True))

    assert "vacuumed first, for 9" in found.summary
    assert found.frees > 3_000_000  # of the 3.2 MB of both replicas
    assert "would be vacuumed first (9" in told.summary
    assert [server.files() for server in five.servers] == before
    for server in five.servers[:2]:
        assert five.volume(server).read_volume_file_status(volume_id=files.volume_ids[0]).compaction_revision == 0
