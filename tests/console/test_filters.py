"""A filter that matches nothing is status 2 with the names that there are, in every command that takes one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.console.console import Ended
from tests.support.cluster import Cluster

Here = Callable[..., Ended]
JOBS = ("vacuum", "balance", "replication", "erasure_coding", "ec_balance", "ec_repair", "remote_upload")


@pytest.mark.parametrize("words", [*(("plan", job) for job in JOBS), ("run", "vacuum", "-dryRun"), ("doctor",)])
def test_what_names_nothing_is_refused_with_the_names_that_there_are(
    cluster: Cluster, here: Here, words: tuple[str, ...]
) -> None:
    (photos,) = cluster.fill(3, size=10_000, collection="photos").volume_ids
    (unnamed,) = cluster.fill(3, size=10_000).volume_ids
    cluster.settle()

    ended = here(cluster, *words, "-collection=phtoos")
    assert ended.status == 2, ended.out
    assert "no collection 'phtoos'; there are _default, photos. Did you mean photos?" in ended.err
    ended = here(cluster, *words, "-collection=photos,video*")
    assert (ended.status, "no collection 'video*'" in ended.err) == (2, True)
    ended = here(cluster, *words, "-volumeId=999")
    assert (ended.status, f"no volume 999; there are {photos}" in ended.err) == (2, True), ended.err
    ended = here(cluster, *words, f"-volumeId={photos},998,{unnamed}")
    assert (ended.status, "no volume 998" in ended.err) == (2, True)
    ended = here(cluster, *words, f"-volumeId={photos}", "-collection=_default")
    assert (ended.status, f"volume {photos} is of collection photos" in ended.err) == (2, True)

    assert here(cluster, *words, f"-volumeId={photos},{unnamed}", "-collection=ph*,_default").status == 0
    assert here(cluster, *words, f"-volumeId={unnamed}", "-collection=_default").status == 0


def test_settings_that_match_nothing_are_refused_too(sandbox_cluster: Cluster, here: Here) -> None:
    sandbox_cluster.fill(3, size=10_000, collection="photos")
    sandbox_cluster.settle()
    for setting in (
        "rack_filter=nowhere",
        "node_filter=10.9.9.9:1",
        "data_center_filter=x",
        "collection_filter=phtoos",
    ):
        ended = here(sandbox_cluster, "plan", "balance", f"-set={setting}")
        assert ended.status == 2, ended.out
        assert f"'{setting.partition('=')[2]}'; there" in ended.err
    assert here(sandbox_cluster, "plan", "ec_balance", "-set=disk_type=ssd").status == 2
    state = here(sandbox_cluster, "plan", "vacuum", "-set=volume_state=FULL")
    assert state.status == 0, "that no volume is full today is no mistake"
    assert "volume_state FULL matches none of 1 volumes" in state.out


def test_the_unnamed_collection_alone_is_planned(sandbox_cluster: Cluster, here: Here) -> None:
    for collection in ("photos", ""):
        files = sandbox_cluster.fill(6, size=20_000, collection=collection)
        sandbox_cluster.delete(files.of(files.volume_ids[0])[:4])
    sandbox_cluster.settle()
    (row,) = here(sandbox_cluster, "plan", "vacuum", "-json", "-collection=_default").json()["proposals"]
    assert row["volumes"] == files.volume_ids
    assert row["collection"] == ""
