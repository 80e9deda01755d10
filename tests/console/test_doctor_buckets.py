"""doctor looks up whether a job type that nobody does has anything to do."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.console.console import Ended
from tests.support import eventually
from tests.support.cluster import Cluster
from tests.support.filers import filer_at, put
from weed_cluster.address import Address
from weed_console.doctor.buckets import NEEDS, buckets_with

Here = Callable[..., Ended]

ATTRIBUTE, _THING = NEEDS["s3_lifecycle"]


def bucket(cluster: Cluster, name: str, **extended: bytes) -> None:
    """A bucket, with what a gateway wrote down about it."""
    nodes = cluster.master_client().list_cluster_nodes(client_type="filer").cluster_nodes
    address = Address.parse(nodes[0].address) if nodes else cluster.start_filer().address
    put(filer_at(cluster, address), f"/buckets/{name}", 60, extended=extended)


def test_the_buckets_with_rules_are_found_and_no_filer_means_no_bucket(cluster: Cluster) -> None:
    assert buckets_with(cluster.context(), ATTRIBUTE) == []
    bucket(cluster, "plain")
    assert buckets_with(cluster.context(), ATTRIBUTE) == []
    bucket(cluster, "photos", **{ATTRIBUTE: b"<LifecycleConfiguration/>"})
    bucket(cluster, "emptied", **{ATTRIBUTE: b""})
    assert buckets_with(cluster.context(), ATTRIBUTE) == ["photos"]


def test_a_filer_that_does_not_answer_is_not_taken_for_none(sandbox_cluster: Cluster) -> None:
    process = sandbox_cluster.start_filer()
    sandbox_cluster.faults(process.address).fail("GetFilerConfiguration", nth=0)
    assert buckets_with(sandbox_cluster.context(), ATTRIBUTE) is None


@pytest.mark.real
@pytest.mark.timeout(300)
def test_doctor_says_whether_lifecycle_rules_go_undone(
    make_real_cluster: Callable[..., Cluster], here: Here, tmp_path: Path
) -> None:
    cluster = make_real_cluster("4.44", servers=1)
    admin = cluster.start_admin()
    argv = [
        cluster.binary,
        "worker",
        f"-admin={admin.address}",
        "-jobType=s3_lifecycle,vacuum",
        f"-workingDir={tmp_path}",
    ]
    both = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: len(admin.get("/api/plugin/scheduler-states")) >= 2, 60)
    finally:
        both.kill()
        both.wait(10)
    argv[3] = "-jobType=vacuum"
    one = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: len(admin.get("/api/plugin/workers")) == 1, 60)
        eventually(
            lambda: "no bucket has lifecycle rules" in here(cluster, "doctor", "-v=1", f"-admin={admin.address}").out,
            60,
        )
        bucket(cluster, "photos", **{ATTRIBUTE: b"<LifecycleConfiguration/>"})
        told = here(cluster, "doctor", "-json", f"-admin={admin.address}").json()
    finally:
        one.kill()
        one.wait(10)
    (found,) = [each for each in told if each["code"] == "JOB_TYPES_UNDONE" and "s3_lifecycle" in each["what"]]
    assert "photos has lifecycle rules" in found["what"]
    assert found["fix"].endswith(f"weed worker -admin={admin.address} -jobType=s3_lifecycle")
