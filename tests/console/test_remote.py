"""`plan remote` and `run remote`, there and back, without any admin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.conftest import REAL_KINDS
from tests.console.console import Console
from tests.support import eventually
from tests.support.cluster import Cluster
from tests.support.s3 import MASTER_TOML, Store, free_address, start_gateway, start_stand_in
from weed_sandbox.launcher import Launcher

WISHES = ("-set=backend=s3.default", "-set=quiet_for_seconds=0", "-set=fullness_ratio=0.5", "-collection=archive")


def test_remote_data_goes_and_comes_back_by_command(
    make_cluster: Callable[..., Cluster],
    console_of: Callable[[Cluster | None], Console],
    launcher: Launcher,
    tmp_path: Path,
) -> None:
    store = Store(free_address())
    toml = MASTER_TOML.format(endpoint=store.address.http)
    cluster = make_cluster(era="4.44", master_toml=toml, volume_size_limit_mb=1)
    if cluster.kind == "real":
        (binary,) = [kind.binary for kind in REAL_KINDS if kind.era == "4.44"]
        start_gateway(launcher, binary, cluster.master, store.address, tmp_path / "s3")
    else:
        start_stand_in(launcher, store.address, tmp_path / "s3")
    store.ready()
    files = cluster.fill(40, size=(20_000, 32_000), collection="archive", servers=cluster.servers[:1])
    cluster.settle()
    (volume_id,) = files.volume_ids
    console = console_of(cluster)

    planned = console.run("plan", "remote", *WISHES)
    assert (planned.status, "1 to do for remote_upload" in planned.out) == (0, True)
    assert store.objects() == []

    done = console.run("run", "remote", "-yes", *WISHES)
    assert done.status == 0, done.out + done.err
    assert len(store.objects()) == 1
    assert not cluster.servers[0].files(f"archive_{volume_id}.dat")
    cluster.check(files)

    eventually(lambda: cluster.topology().replicas(volume_id)[0].remote_name == "s3.default", timeout=20)
    back = console.run("run", "remote", "-yes", "-set=direction=download", *WISHES)
    assert back.status == 0, back.out + back.err
    assert cluster.servers[0].files(f"archive_{volume_id}.dat")
    cluster.check(files)
