"""The sandbox behaves as SeaweedFS does: the same statements about both, so that neither can drift.

`any_cluster` is the sandbox of each era, and every real `weed` that WEED names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from proto_gen import master_pb2 as m
from proto_gen import volume_server_pb2 as v
from tests.support import eventually
from tests.support.cluster import Cluster, Files, Server, request
from weed_cluster.call import upload_message
from weed_cluster.volume_server import VolumeServer
from weed_core.errors import ServerFailed
from weed_core.release import Generation
from weed_storage.ec_layout import layout
from weed_storage.index import fold, to_ecx
from weed_storage.needle import HEADER_SIZE, FileId, actual_size, parse_needle
from weed_storage.reed_solomon import Encoder
from weed_storage.volume_info import dump_vif

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
REVISION_IGNORED = 0xFFFFFFFF
TO_THE_END = (1 << 63) - 1


@contextmanager
def refused(text: str, code: str = "UNKNOWN") -> Iterator[None]:
    """The call fails with this code and these words."""
    with pytest.raises(ServerFailed) as failure:
        yield
    assert (failure.value.code, text in failure.value.detail) == (code, True), failure.value


def one(cluster: Cluster, **wishes: Any) -> tuple[Files, int, Server, VolumeServer]:
    """A filled volume on the first server."""
    server = cluster.servers[0]
    files = cluster.fill(servers=[server], **wishes)
    return files, files.volume_ids[0], server, cluster.volume(server)


def compact(client: VolumeServer, volume_id: int) -> list[v.VacuumVolumeCompactResponse]:
    return list(client.vacuum_volume_compact(volume_id=volume_id))


def content(client: VolumeServer, volume_id: int, ext: str, **wishes: Any) -> bytes:
    order = {"compaction_revision": REVISION_IGNORED, "stop_offset": TO_THE_END, **wishes}
    return b"".join(piece.file_content for piece in client.copy_file(volume_id=volume_id, ext=ext, **order))


def test_real_seaweedfs_takes_part(tmp_path: Path) -> None:
    binaries = [tmp_path / era for era in ("4.44", "4.13", "3.99")]
    for binary in binaries:
        binary.write_text(f"#!/bin/sh\necho version 30GB {binary.name} abcdef linux amd64\n")
        binary.chmod(0o755)
    weed = {"WEED": os.pathsep.join(map(str, binaries))}
    collect = [sys.executable, "-m", "pytest", "-o", "addopts=", "--collect-only", "-q", __file__]
    listed = subprocess.run(collect, cwd=ROOT, env=os.environ | weed, capture_output=True, text=True, check=True).stdout
    for kind in ("sandbox-3.97", "sandbox-4.13", "sandbox-4.44", "real-4.44", "real-4.13", "real-3.97"):
        assert f"::test_a_vacuum_drops_what_is_deleted_and_raises_the_revision[{kind}]" in listed


# ---- vacuum


def test_a_vacuum_drops_what_is_deleted_and_raises_the_revision(any_cluster: Cluster) -> None:
    files, volume_id, _server, client = one(any_cluster, count=20)
    any_cluster.delete(list(files)[:12])
    before = client.read_volume_file_status(volume_id=volume_id)
    status = client.volume_status(volume_id=volume_id)
    assert (before.file_count, status.file_count, status.file_deleted_count) == (20, 20, 12)
    assert client.vacuum_volume_check(volume_id=volume_id).garbage_ratio == pytest.approx(0.6, abs=0.01)

    assert compact(client, volume_id) == []
    answer = client.vacuum_volume_commit(volume_id=volume_id)

    after = client.read_volume_file_status(volume_id=volume_id)
    assert not answer.is_read_only
    assert answer.volume_size == after.dat_file_size < before.dat_file_size
    assert (before.compaction_revision, after.compaction_revision) == (0, 1)
    assert after.file_count == 8
    assert client.vacuum_volume_check(volume_id=volume_id).garbage_ratio == 0
    any_cluster.check(files)


def test_what_happens_between_compact_and_commit_is_kept(any_cluster: Cluster) -> None:
    files, volume_id, server, client = one(any_cluster)
    any_cluster.delete(list(files)[:5])
    compact(client, volume_id)
    any_cluster.write(files, volume_id, 3, 500, [server])
    any_cluster.delete(list(files)[:2])
    client.vacuum_volume_commit(volume_id=volume_id)
    any_cluster.check(files)


@pytest.mark.parametrize("times", [1, 2])
def test_a_commit_without_a_compaction_breaks_the_volume_until_it_is_remounted(
    any_cluster: Cluster, times: int
) -> None:
    files, volume_id, server, client = one(any_cluster)
    if times == 2:
        compact(client, volume_id)
        client.vacuum_volume_commit(volume_id=volume_id)
    with pytest.raises(ServerFailed):
        client.vacuum_volume_commit(volume_id=volume_id)

    with refused(f"volume {volume_id} data backend not found"):
        client.volume_status(volume_id=volume_id)
    status = client.read_volume_file_status(volume_id=volume_id)
    assert (status.dat_file_size, status.idx_file_size, status.file_count) == (0, 0, 0)
    assert status.dat_file_timestamp_seconds > 1 << 62
    fid = next(iter(files))
    if any_cluster.era == "4.44":
        assert request(server.address, "GET", f"/{fid}")[0] == 404
    else:
        with pytest.raises(OSError, match=r"timed out|closed|reset"):
            request(server.address, "GET", f"/{fid}", timeout=1)

    client.volume_unmount(volume_id=volume_id)
    client.volume_mount(volume_id=volume_id)
    eventually(lambda: any_cluster.locations(volume_id))
    any_cluster.check(files)


def test_a_read_only_volume_can_be_vacuumed_and_stays_so(any_cluster: Cluster) -> None:
    files, volume_id, _server, client = one(any_cluster)
    any_cluster.delete(list(files)[:10])
    client.volume_mark_readonly(volume_id=volume_id, persist=True)
    compact(client, volume_id)
    assert client.vacuum_volume_commit(volume_id=volume_id).is_read_only
    assert client.volume_status(volume_id=volume_id).is_read_only
    any_cluster.check(files)


def test_cleanup_drops_what_a_compaction_wrote(any_cluster: Cluster) -> None:
    files, volume_id, server, client = one(any_cluster)
    compact(client, volume_id)
    assert server.files(f"{volume_id}.cp?") == [f"{volume_id}.cpd", f"{volume_id}.cpx"]
    client.vacuum_volume_cleanup(volume_id=volume_id)
    assert server.files(f"{volume_id}.cp?") == []
    any_cluster.check(files)


# ---- words


ABSENT: dict[str, tuple[Callable[[VolumeServer], Any], str]] = {
    "VacuumVolumeCheck": (
        lambda c: c.vacuum_volume_check(volume_id=99),
        "volume id 99 is not found during check compact",
    ),
    "VacuumVolumeCompact": (lambda c: compact(c, 99), "volume id 99 is not found during compact"),
    "VacuumVolumeCommit": (lambda c: c.vacuum_volume_commit(volume_id=99), "is not found during commit compact"),
    "VacuumVolumeCleanup": (lambda c: c.vacuum_volume_cleanup(volume_id=99), "is not found during cleaning up"),
    "VolumeStatus": (lambda c: c.volume_status(volume_id=99), "not found volume id 99"),
    "ReadVolumeFileStatus": (lambda c: c.read_volume_file_status(volume_id=99), "not found volume id 99"),
    "VolumeMarkReadonly": (lambda c: c.volume_mark_readonly(volume_id=99), "volume 99 not found"),
    "VolumeMarkWritable": (lambda c: c.volume_mark_writable(volume_id=99), "volume 99 not found"),
    "VolumeMount": (lambda c: c.volume_mount(volume_id=99), "volume 99 not found on disk"),
    "VolumeDelete": (lambda c: c.volume_delete(volume_id=99), "volume 99 not found on disk"),
    "CopyFile": (lambda c: content(c, 99, ".idx"), "not found volume id 99"),
    "CopyFile of shards": (
        lambda c: content(c, 99, ".ecx", is_ec_volume=True),
        "CopyFile not found ec volume id 99",
    ),
    "ReadNeedleBlob": (lambda c: c.read_needle_blob(volume_id=99, size=8), "not found volume id 99"),
    "ReadNeedleMeta": (lambda c: c.read_needle_meta(volume_id=99), "not found volume id 99"),
    "WriteNeedleBlob": (lambda c: c.write_needle_blob(volume_id=99, needle_blob=b"x" * 40), "not found volume id 99"),
    "VolumeNeedleStatus": (lambda c: c.volume_needle_status(volume_id=99), "volume not found 99"),
    "VolumeEcShardRead": (
        lambda c: list(c.volume_ec_shard_read(volume_id=99, shard_id=3, size=8)),
        "not found ec ",
    ),
    "VolumeEcShardsMount": (lambda c: c.volume_ec_shards_mount(volume_id=99, shard_ids=[3]), "mount 99.3"),
    "VolumeTierMoveDatToRemote": (
        lambda c: list(c.volume_tier_move_dat_to_remote(volume_id=99)),
        "volume 99 not found",
    ),
}


def test_absent_volumes_are_told_in_the_same_words(any_cluster: Cluster) -> None:
    client = any_cluster.volume(any_cluster.servers[0])
    for call, text in ABSENT.values():
        with refused(text):
            call(client)
    client.volume_unmount(volume_id=99)
    client.volume_ec_shards_unmount(volume_id=99, shard_ids=[3])
    located = any_cluster.master_client().lookup_volume(volume_or_file_ids=["99"]).volume_id_locations
    assert [(entry.volume_or_file_id, list(entry.locations), bool(entry.error)) for entry in located] == [
        ("99", [], True)
    ]
    with refused("ec volume 99 not found"):
        any_cluster.master_client().lookup_ec_volume(volume_id=99)
    if any_cluster.era == "3.97":
        assert not client.volume_ec_shards_info(volume_id=99).ec_shard_infos
    else:
        with refused("not found"):
            client.volume_ec_shards_info(volume_id=99)


def test_the_release_is_told(any_cluster: Cluster) -> None:
    client = any_cluster.volume(any_cluster.servers[0])
    status = client.volume_server_status()
    assert any_cluster.era in status.version
    assert (status.data_center, status.rack) == ("dc1", "r1")
    assert [disk.dir.rpartition("/")[2] for disk in status.disk_statuses] == ["disk0"]
    if any_cluster.era == "3.97":
        with refused("", "UNIMPLEMENTED"):
            client.get_state()
    else:
        assert not client.get_state().state.maintenance
    if any_cluster.era == "4.44":
        assert next(iter(any_cluster.master_client().volume_list_stream())).HasField("header")
    else:
        with refused("", "UNIMPLEMENTED"):
            list(any_cluster.master_client().volume_list_stream())


def test_maintenance_refuses_every_change(any_cluster: Cluster) -> None:
    if any_cluster.era == "3.97":
        return  # has no such mode
    files, volume_id, server, client = one(any_cluster)
    any_cluster.maintenance(server, True)
    changes: list[Callable[[], Any]] = [
        lambda: compact(client, volume_id),
        lambda: client.volume_mark_readonly(volume_id=volume_id),
        lambda: client.volume_mark_writable(volume_id=volume_id),
        lambda: client.volume_delete(volume_id=volume_id),
        lambda: list(client.volume_copy(volume_id=volume_id, source_data_node=str(any_cluster.servers[1].address))),
        lambda: client.volume_ec_shards_delete(volume_id=volume_id, shard_ids=[0]),
        lambda: client.write_needle_blob(volume_id=volume_id, needle_blob=b"x" * 40),
    ]
    for change in changes:
        with refused(f"volume server {server.address.http} is in maintenance mode"):
            change()
    client.vacuum_volume_check(volume_id=volume_id)
    any_cluster.maintenance(server, False)
    any_cluster.check(files)


# ---- replicated writes


def test_a_server_without_the_volume_takes_a_replicated_write_and_stores_nothing(any_cluster: Cluster) -> None:
    """Why a volume must stay shut after a move: a sibling that remembers the old place hears that all is well."""
    _files, volume_id, _server, _client = one(any_cluster)
    elsewhere = any_cluster.servers[1]
    status, _answer = request(elsewhere.address, "PUT", f"/{volume_id},ff00000001?type=replicate", b"data")
    assert status == 201
    assert elsewhere.files("*.dat") == []
    assert request(elsewhere.address, "GET", f"/{volume_id},ff00000001")[0] in (301, 302, 404)


def test_a_write_goes_past_a_copy_made_since_until_one_is_refused_for_too_few_replicas(any_cluster: Cluster) -> None:
    """Servers remember for ten minutes where replicas are. From 4.38 on such a refusal makes them forget."""
    a, b, c = any_cluster.servers
    _remember(any_cluster)
    (volume_id,) = any_cluster.fill(servers=[a, b], replication="001").volume_ids
    _copy_beside(any_cluster, volume_id, b, c)

    def reaches_the_copy(key: str) -> bool:
        assert request(a.address, "PUT", f"/{volume_id},{key}00000001", b"data")[0] == 201
        assert request(b.address, "GET", f"/{volume_id},{key}00000001") == (200, b"data")
        return request(c.address, "GET", f"/{volume_id},{key}00000001")[0] == 200

    assert not reaches_the_copy("f1")
    any_cluster.volume(a).volume_configure(volume_id=volume_id, replication="002")
    status, answer = request(a.address, "PUT", f"/{volume_id},f200000001", b"data")
    assert status == 500
    assert f"replicating operations [2] is less than volume {volume_id} replication copy count [3]" in answer.decode()
    assert request(b.address, "GET", f"/{volume_id},f200000001")[0] == 404
    any_cluster.volume(a).volume_configure(volume_id=volume_id, replication="001")
    eventually(lambda: any_cluster.locations(volume_id) == [a, b, c])
    assert reaches_the_copy("f3") == (any_cluster.era == "4.44")


def test_a_frozen_volume_that_gets_another_placement_stays_frozen_and_says_what_it_lacks_first(
    any_cluster: Cluster,
) -> None:
    if any_cluster.era != "4.44":
        return  # older servers open such a volume wrongly when it is mounted
    a, b, _c = any_cluster.servers
    files = any_cluster.fill(servers=[a, b], replication="001")
    (volume_id,) = files.volume_ids
    client = any_cluster.volume(a)
    client.volume_mark_readonly(volume_id=volume_id, persist=True)
    before = client.read_volume_file_status(volume_id=volume_id)

    def answer() -> str:
        status, said = request(a.address, "PUT", f"/{volume_id},00deadbeef", b"-")
        assert status == 500
        return said.decode()

    assert f"volume {volume_id} is read only" in answer()
    client.volume_configure(volume_id=volume_id, replication="003")
    assert client.read_volume_file_status(volume_id=volume_id).volume_info.replication == "003"
    assert client.volume_status(volume_id=volume_id).is_read_only
    assert f"is less than volume {volume_id} replication copy count [4]" in answer()
    client.volume_configure(volume_id=volume_id, replication="001")
    eventually(lambda: f"volume {volume_id} is read only" in answer())
    after = client.read_volume_file_status(volume_id=volume_id)
    assert (after.dat_file_size, after.idx_file_size) == (before.dat_file_size, before.idx_file_size)
    assert after.volume_info.replication == "001"
    any_cluster.check(files)


def test_the_master_tells_only_of_replicas_of_one_placement(any_cluster: Cluster) -> None:
    a, b, _c = any_cluster.servers
    (volume_id,) = any_cluster.fill(servers=[a, b], replication="001").volume_ids
    any_cluster.volume(a).volume_configure(volume_id=volume_id, replication="002")
    eventually(lambda: len(any_cluster.locations(volume_id)) == 1)
    any_cluster.volume(a).volume_configure(volume_id=volume_id, replication="001")
    eventually(lambda: any_cluster.locations(volume_id) == [a, b])


@pytest.mark.parametrize(("path", "status"), [("/1,x", 400), ("/x,0100000001", 400)])
def test_a_write_to_no_file_id_is_refused_as_such(any_cluster: Cluster, path: str, status: int) -> None:
    assert request(any_cluster.servers[0].address, "PUT", path, b"-")[0] == status


def _remember(cluster: Cluster) -> None:
    for server in cluster.servers if cluster.kind == "sandbox" else ():
        cluster.faults(server).remember(600.0)


def _copy_beside(cluster: Cluster, volume_id: int, source: Server, target: Server) -> None:
    """Add a copy while the other holder remembers where the replicas were."""
    first = next(server for server in cluster.locations(volume_id) if server is not source)
    assert request(first.address, "PUT", f"/{volume_id},f000000001", b"data")[0] == 201
    list(cluster.volume(target).volume_copy(volume_id=volume_id, source_data_node=str(source.address)))
    eventually(lambda: target in cluster.locations(volume_id))


# ---- frozen volumes


def test_a_frozen_volume_refuses_writes_and_deletions_until_its_server_restarts(any_cluster: Cluster) -> None:
    files, volume_id, server, client = one(any_cluster)
    client.volume_mark_readonly(volume_id=volume_id)
    assert client.volume_status(volume_id=volume_id).is_read_only
    fid = next(iter(files))
    status, answer = request(server.address, "PUT", f"/{volume_id},ff00000001?type=replicate", b"data")
    assert (status, b"read only" in answer) == (500, True)
    assert request(server.address, "DELETE", f"/{fid}?type=replicate")[0] == 500
    any_cluster.check(files)

    server.kill()
    any_cluster.start()
    eventually(lambda: any_cluster.locations(volume_id))
    assert not client.volume_status(volume_id=volume_id).is_read_only


def test_a_persistent_freeze_survives_a_restart_and_is_in_the_vif(any_cluster: Cluster) -> None:
    files, volume_id, server, client = one(any_cluster)
    client.volume_mark_readonly(volume_id=volume_id, persist=True)
    assert json.loads((server.data_dir / f"{volume_id}.vif").read_text())["readOnly"] is True
    assert client.read_volume_file_status(volume_id=volume_id).volume_info.read_only
    server.stop()
    any_cluster.start()
    eventually(lambda: any_cluster.locations(volume_id))
    assert client.volume_status(volume_id=volume_id).is_read_only

    client.volume_mark_writable(volume_id=volume_id)
    assert not client.volume_status(volume_id=volume_id).is_read_only
    if any_cluster.era != "4.44":  # its index is closed to writes until it is mounted anew
        client.volume_unmount(volume_id=volume_id)
        client.volume_mount(volume_id=volume_id)
        eventually(lambda: any_cluster.locations(volume_id))
    any_cluster.write(files, volume_id, 1, 100, [server])
    any_cluster.check(files)


def test_a_write_after_a_thaw_without_a_remount_spoils_the_volume_before_4_44(any_cluster: Cluster) -> None:
    files, volume_id, server, client = one(any_cluster)
    client.volume_mark_readonly(volume_id=volume_id, persist=True)
    client.volume_unmount(volume_id=volume_id)
    client.volume_mount(volume_id=volume_id)
    client.volume_mark_writable(volume_id=volume_id)
    status, answer = request(server.address, "PUT", f"/{volume_id},ff00000001?type=replicate", b"data")
    assert status == (201 if any_cluster.era == "4.44" else 500), answer
    client.volume_unmount(volume_id=volume_id)
    client.volume_mount(volume_id=volume_id)
    assert client.volume_status(volume_id=volume_id).is_read_only == (any_cluster.era != "4.44")
    eventually(lambda: any_cluster.locations(volume_id))
    any_cluster.check(files)


def test_only_servers_before_4_44_write_blobs_into_a_frozen_volume(any_cluster: Cluster) -> None:
    files, volume_id, server, client = one(any_cluster)
    fid = FileId.parse(next(iter(files)))
    offset, size = fold((server.data_dir / f"{volume_id}.idx").read_bytes())[fid.needle_id]
    blob = client.read_needle_blob(volume_id=volume_id, offset=offset, size=size).needle_blob
    other = any_cluster.allocate([any_cluster.servers[1]])
    target = any_cluster.volume(any_cluster.servers[1])
    target.volume_mark_readonly(volume_id=other)
    if any_cluster.era == "4.44":
        with refused(f"volume {other} is read only"):
            target.write_needle_blob(volume_id=other, needle_id=fid.needle_id, size=size, needle_blob=blob)
        target.volume_mark_writable(volume_id=other)
    target.write_needle_blob(volume_id=other, needle_id=fid.needle_id, size=size, needle_blob=blob)
    status, body = request(any_cluster.servers[1].address, "GET", f"/{other},{str(fid).partition(',')[2]}")
    assert (status, body) == (200, parse_needle(blob).data)


# ---- copies


def test_a_copy_is_the_same_bytes_and_known_to_the_master(any_cluster: Cluster) -> None:
    files, volume_id, source, client = one(any_cluster, collection="pictures")
    any_cluster.delete(list(files)[:3])
    any_cluster.stamp(volume_id, [source], time.time())
    target = any_cluster.servers[1]
    pulled = list(any_cluster.volume(target).volume_copy(volume_id=volume_id, source_data_node=str(source.address)))
    assert len(pulled) == 1
    last = pulled[0].last_append_at_ns
    status = client.read_volume_file_status(volume_id=volume_id)
    assert abs(last - status.dat_file_timestamp_seconds * 10**9) < 2 * 10**9
    assert (last % 10**9 == 0) == (any_cluster.era != "4.44")
    for extension in ("dat", "idx"):
        name = f"pictures_{volume_id}.{extension}"
        assert (source.data_dir / name).read_bytes() == (target.data_dir / name).read_bytes()
    copy = any_cluster.volume(target).read_volume_file_status(volume_id=volume_id)
    assert (copy.dat_file_size, copy.idx_file_size, copy.file_count, copy.collection) == (
        status.dat_file_size,
        status.idx_file_size,
        status.file_count,
        "pictures",
    )
    assert not any_cluster.volume(target).volume_status(volume_id=volume_id).is_read_only
    eventually(lambda: any_cluster.locations(volume_id) == [source, target])
    any_cluster.check(files)


def test_a_persistent_freeze_travels_with_a_copy(any_cluster: Cluster) -> None:
    _files, volume_id, source, client = one(any_cluster)
    target = any_cluster.volume(any_cluster.servers[1])
    client.volume_mark_readonly(volume_id=volume_id, persist=True)
    list(target.volume_copy(volume_id=volume_id, source_data_node=str(source.address)))
    assert target.volume_status(volume_id=volume_id).is_read_only


def test_a_copy_onto_itself_destroys_the_volume(any_cluster: Cluster) -> None:
    _files, volume_id, server, client = one(any_cluster)
    with refused(f"not found volume id {volume_id}"):
        list(client.volume_copy(volume_id=volume_id, source_data_node=str(server.address)))
    with refused("not found"):
        client.volume_status(volume_id=volume_id)
    assert server.files(f"{volume_id}.*") == []


def test_a_copy_from_a_source_without_the_volume_costs_older_servers_their_own(any_cluster: Cluster) -> None:
    files, volume_id, _server, client = one(any_cluster)
    with refused("read volume file status failed, "):
        list(client.volume_copy(volume_id=volume_id, source_data_node=str(any_cluster.servers[1].address)))
    if any_cluster.era == "4.44":
        any_cluster.check(files)
    else:
        with refused("not found volume id"):
            client.volume_status(volume_id=volume_id)


def test_tailed_deletions_become_empty_files(any_cluster: Cluster) -> None:
    files, volume_id, source, client = one(any_cluster, count=4)
    target = any_cluster.volume(any_cluster.servers[1])
    since = list(target.volume_copy(volume_id=volume_id, source_data_node=str(source.address)))[-1].last_append_at_ns
    gone = next(iter(files))
    any_cluster.delete([gone], [source])
    order = v.VolumeTailReceiverRequest(
        volume_id=volume_id, since_ns=since, idle_timeout_seconds=1, source_volume_server=str(source.address)
    )
    any_cluster.stub(any_cluster.servers[1]).VolumeTailReceiver.future(order, timeout=30).result()
    assert request(source.address, "GET", f"/{gone}")[0] == 404
    assert request(any_cluster.servers[1].address, "GET", f"/{gone}") == (200, b"")
    a = client.read_volume_file_status(volume_id=volume_id)
    b = target.read_volume_file_status(volume_id=volume_id)
    assert a.idx_file_size == b.idx_file_size
    assert a.file_count < b.file_count


# ---- deletion


def test_only_a_mounted_volume_can_be_deleted(any_cluster: Cluster) -> None:
    files, volume_id, server, client = one(any_cluster)
    with refused("volume not empty"):
        client.volume_delete(volume_id=volume_id, only_empty=True)
    client.volume_unmount(volume_id=volume_id)
    with refused(f"volume {volume_id} not found on disk"):
        client.volume_delete(volume_id=volume_id)
    client.volume_mount(volume_id=volume_id)
    eventually(lambda: any_cluster.locations(volume_id))
    any_cluster.check(files)
    client.volume_delete(volume_id=volume_id)
    assert server.files(f"{volume_id}.*") == []
    eventually(lambda: not any_cluster.locations(volume_id))
    empty = any_cluster.allocate([server])
    client.volume_delete(volume_id=empty, only_empty=True)
    assert server.files(f"{empty}.*") == []


# ---- files and needles


def test_files_come_in_messages_of_two_mebibytes(any_cluster: Cluster) -> None:
    _files, volume_id, server, client = one(any_cluster, count=5, size=MIB)
    stop = client.read_volume_file_status(volume_id=volume_id).dat_file_size
    sizes, stamps = [], []
    for piece in client.copy_file(volume_id=volume_id, ext=".dat", stop_offset=stop):
        sizes.append(len(piece.file_content))
        stamps.append(piece.modified_ts_ns)
    assert (sizes[:2], sum(sizes)) == ([2 * MIB, 2 * MIB], stop)
    assert stamps[0] == os.stat(server.data_dir / f"{volume_id}.dat").st_mtime_ns
    assert stamps[1:] == [0] * (len(stamps) - 1)
    assert len(content(client, volume_id, ".dat", stop_offset=MIB + 5)) == MIB + 5


def test_copy_file_guards_the_revision_and_the_name(any_cluster: Cluster) -> None:
    files, volume_id, _server, client = one(any_cluster)
    any_cluster.delete(list(files)[:3])
    compact(client, volume_id)
    client.vacuum_volume_commit(volume_id=volume_id)
    with refused(f"volume {volume_id} is compacted"):
        content(client, volume_id, ".idx", compaction_revision=0)
    assert content(client, volume_id, ".idx", compaction_revision=1) == content(client, volume_id, ".idx")
    if any_cluster.era == "4.44":
        with refused("invalid file extension"):
            content(client, volume_id, "/../x")
    if any_cluster.era == "3.97":
        with refused("no such file"):
            content(client, volume_id, ".nothing", ignore_source_file_not_found=True)
    else:
        assert content(client, volume_id, ".nothing", ignore_source_file_not_found=True) == b""


def test_an_empty_file_is_one_message_but_none_in_3_97(any_cluster: Cluster) -> None:
    volume_id = any_cluster.allocate([any_cluster.servers[0]])
    client = any_cluster.volume(any_cluster.servers[0])
    pieces = list(client.copy_file(volume_id=volume_id, ext=".idx", stop_offset=TO_THE_END))
    assert [piece.file_content for piece in pieces] == ([] if any_cluster.era == "3.97" else [b""])


def test_needle_blobs_are_any_range_of_the_data_file(any_cluster: Cluster) -> None:
    _files, volume_id, server, client = one(any_cluster)
    dat = (server.data_dir / f"{volume_id}.dat").read_bytes()
    for offset, length in ((0, 1032), (8, 4096), (len(dat) - 1000, 1000)):
        assert (
            client.read_needle_blob(volume_id=volume_id, offset=offset, size=length - 32).needle_blob
            == (dat[offset : offset + length])
        )
    with refused(f"read needle blob offset {len(dat) - 40} size 100: EOF"):
        client.read_needle_blob(volume_id=volume_id, offset=len(dat) - 40, size=100)


def test_needles_can_be_looked_at_one_by_one(any_cluster: Cluster) -> None:
    files, volume_id, server, client = one(any_cluster, count=3, size=777)
    fid, gone = map(FileId.parse, list(files)[:2])
    offset, size = fold((server.data_dir / f"{volume_id}.idx").read_bytes())[fid.needle_id]
    record = (server.data_dir / f"{volume_id}.dat").read_bytes()[offset : offset + actual_size(size, 3)]
    needle = parse_needle(record)
    meta = client.read_needle_meta(volume_id=volume_id, needle_id=fid.needle_id, offset=offset, size=size)
    told_crc = ((needle.checksum >> 15 | needle.checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF  # not as it is stored
    assert (meta.cookie, meta.crc, meta.last_modified, meta.append_at_ns) == (
        fid.cookie,
        told_crc,
        needle.last_modified,
        needle.append_at_ns,
    )
    status = client.volume_needle_status(volume_id=volume_id, needle_id=fid.needle_id)
    assert (status.needle_id, status.cookie, status.crc) == (fid.needle_id, fid.cookie, told_crc)
    assert status.size == size

    results = client.batch_delete(file_ids=[str(gone)], skip_cookie_check=True).results
    assert [(result.file_id, result.status, result.error) for result in results] == [(str(gone), 202, "")]
    with refused("already deleted"):
        client.volume_needle_status(volume_id=volume_id, needle_id=gone.needle_id)
    with refused("not found"):
        client.volume_needle_status(volume_id=volume_id, needle_id=987654)


def test_a_scrub_names_damaged_volumes(any_cluster: Cluster) -> None:
    _files, volume_id, server, client = one(any_cluster, count=3)
    if any_cluster.era == "3.97":
        with refused("", "UNIMPLEMENTED"):
            client.scrub_volume(mode=v.FULL, volume_ids=[volume_id])
        return
    assert not client.scrub_volume(mode=v.FULL, volume_ids=[volume_id]).broken_volume_ids
    with open(server.data_dir / f"{volume_id}.dat", "r+b") as dat:
        dat.seek(8 + HEADER_SIZE + 100)
        dat.write(b"rot")
    answer = client.scrub_volume(mode=v.FULL, volume_ids=[volume_id])
    assert (answer.total_volumes, list(answer.broken_volume_ids)) == (1, [volume_id])


# ---- the master


def test_the_master_lists_volumes_as_their_servers_have_them(any_cluster: Cluster) -> None:
    files, volume_id, server, client = one(any_cluster, collection="c", replication="010", count=10)
    any_cluster.delete(list(files)[:4], [server])
    client.volume_mark_readonly(volume_id=volume_id)
    any_cluster.settle()
    infos = [
        (node.id, name, info)
        for data_center in any_cluster.master_client().volume_list().topology_info.data_center_infos
        for rack in data_center.rack_infos
        for node in rack.data_node_infos
        for name, disk in node.diskInfos.items()
        for info in disk.volume_infos
    ]
    assert [(node, disk_type) for node, disk_type, _info in infos] == [(server.address.http, "")]
    info: m.VolumeInformationMessage = infos[0][2]
    status = client.read_volume_file_status(volume_id=volume_id)
    assert (info.id, info.collection, info.replica_placement, info.version) == (volume_id, "c", 10, 3)
    assert (info.size, info.file_count, info.delete_count) == (status.dat_file_size, 10, 4)
    assert info.read_only
    assert info.deleted_byte_count / client.vacuum_volume_check(volume_id=volume_id).garbage_ratio == pytest.approx(
        sum(size for _offset, size in fold(content(client, volume_id, ".idx")).positions()) / 6 * 10
    )


def test_the_lock_is_held_by_one(any_cluster: Cluster) -> None:
    master = any_cluster.master_client()
    first = master.lease_admin_token(lock_name="shell", client_name="anna", message="moving")
    with refused("already locked by anna"):
        master.lease_admin_token(lock_name="shell", client_name="ben")
    second = master.lease_admin_token(
        lock_name="shell",
        client_name="anna",
        previous_token=first.token,
        previous_lock_time=first.lock_ts_ns,
    )
    master.release_admin_token(lock_name="shell", previous_token=second.token, previous_lock_time=second.lock_ts_ns)
    last = master.lease_admin_token(lock_name="shell", client_name="ben")
    master.release_admin_token(lock_name="shell", previous_token=last.token, previous_lock_time=last.lock_ts_ns)


def test_the_master_tells_what_all_must_know(any_cluster: Cluster) -> None:
    answer = any_cluster.master_client().get_master_configuration()
    assert (answer.default_replication, answer.volume_size_limit_m_b) == ("000", 64)
    assert answer.leader.startswith(any_cluster.master.http)


# ---- shards


def encode(dat: bytes, idx: bytes, era: str, encode_ts_ns: int = 0) -> dict[str, bytes]:
    """A small volume's shard set: extension -> bytes."""
    shards = [bytearray() for _ in range(14)]
    for row in layout(len(dat), Generation(era).strict_rows):
        data = dat[row.offset : row.offset + 10 * row.block_size].ljust(10 * row.block_size, b"\0")
        blocks = [data[i * row.block_size : (i + 1) * row.block_size] for i in range(10)]
        for shard, block in zip(shards, [*blocks, *Encoder().encode_rows(data, row.block_size)]):
            shard.extend(block)
    info = v.VolumeInfo(version=3, dat_file_size=len(dat))
    info.ec_shard_config.MergeFrom(v.EcShardConfig(data_shards=10, parity_shards=4, encode_ts_ns=encode_ts_ns))
    files = {f".ec{number:02d}": bytes(shard) for number, shard in enumerate(shards)}
    return {**files, ".ecx": to_ecx(idx), ".vif": dump_vif(info, Generation(era))}


def send(
    cluster: Cluster, server: Server, volume_id: int, ext: str, data: bytes, announced: int = -1
) -> v.ReceiveFileResponse:
    """Upload one shard file."""
    info = v.ReceiveFileInfo(
        volume_id=volume_id, ext=ext, is_ec_volume=True, file_size=len(data) if announced < 0 else announced
    )
    pieces = (data[at : at + MIB] for at in range(0, len(data), MIB))
    upload = cluster.volume(server).receive_file(info=info, messages=map(upload_message, pieces))
    return upload.done()


def encoded(cluster: Cluster, encode_ts_ns: int = 0, **wishes: Any) -> tuple[Files, int, dict[str, bytes]]:
    """A volume that lies in shards 0-4, 5-9 and 10-13 on the three servers, and no longer as a whole."""
    files, volume_id, source, client = one(cluster, **wishes)
    dat, idx = (content(client, volume_id, extension) for extension in (".dat", ".idx"))
    parts = encode(dat, idx, cluster.era, encode_ts_ns)
    client.volume_delete(volume_id=volume_id)
    for server, shards in zip(cluster.servers, (range(5), range(5, 10), range(10, 14))):
        for extension in [*(f".ec{shard:02d}" for shard in shards), ".ecx", ".vif"]:
            answer = send(cluster, server, volume_id, extension, parts[extension])
            assert (answer.error, answer.bytes_written) == ("", len(parts[extension]))
        cluster.volume(server).volume_ec_shards_mount(volume_id=volume_id, shard_ids=shards)
    eventually(lambda: cluster.locations(volume_id) == cluster.servers)
    assert source.files(f"{volume_id}.dat") == []
    return files, volume_id, parts


def shards_on(cluster: Cluster, server: Server, volume_id: int) -> dict[int, int]:
    infos = cluster.volume(server).volume_ec_shards_info(volume_id=volume_id).ec_shard_infos
    return {info.shard_id: info.size for info in infos}


def shards_known(cluster: Cluster, volume_id: int) -> list[int]:
    """The shards that the master knows a place of."""
    answer = cluster.master_client().lookup_ec_volume(volume_id=volume_id)
    return [entry.shard_id for entry in answer.shard_id_locations if entry.locations]


def test_shards_are_received_mounted_and_read_back(any_cluster: Cluster) -> None:
    files, volume_id, parts = encoded(any_cluster)
    size = len(parts[".ec00"])
    assert shards_on(any_cluster, any_cluster.servers[1], volume_id) == dict.fromkeys(range(5, 10), size)
    infos = any_cluster.volume(any_cluster.servers[0]).volume_ec_shards_info(volume_id=volume_id)
    assert {info.volume_id for info in infos.ec_shard_infos} == {0 if any_cluster.era == "3.97" else volume_id}
    if any_cluster.era == "4.44":
        assert infos.file_count == len(files)
    located = any_cluster.master_client().lookup_ec_volume(volume_id=volume_id).shard_id_locations
    assert [entry.shard_id for entry in located] == list(range(14 if any_cluster.era == "3.97" else 32))
    assert shards_known(any_cluster, volume_id) == list(range(14))
    any_cluster.check(files)


def test_lost_shards_are_rebuilt_for_readers(any_cluster: Cluster) -> None:
    files, volume_id, _parts = encoded(any_cluster)
    last = any_cluster.volume(any_cluster.servers[0])
    last.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=[0, 1, 2])
    last.volume_ec_shards_delete(volume_id=volume_id, shard_ids=[0, 1, 2])
    assert any_cluster.servers[0].files(f"{volume_id}.ec0?") == [f"{volume_id}.ec03", f"{volume_id}.ec04"]
    eventually(lambda: len(shards_known(any_cluster, volume_id)) == 11)
    any_cluster.check(files)


def test_shards_survive_a_restart_of_their_server(any_cluster: Cluster) -> None:
    files, volume_id, parts = encoded(any_cluster)
    server = any_cluster.servers[2]
    server.kill()
    any_cluster.start()
    eventually(lambda: any_cluster.locations(volume_id) == any_cluster.servers)
    assert shards_on(any_cluster, server, volume_id) == dict.fromkeys(range(10, 14), len(parts[".ec00"]))
    any_cluster.check(files)


def test_a_truncated_upload_is_reported_as_a_success(any_cluster: Cluster) -> None:
    answer = send(any_cluster, any_cluster.servers[0], 77, ".ec00", b"x" * 1000, announced=5000)
    assert (answer.error, answer.bytes_written) == ("", 1000)
    assert (any_cluster.servers[0].data_dir / "77.ec00").stat().st_size == 1000


def test_an_upload_onto_mounted_shards_is_refused_from_4_44_on(any_cluster: Cluster) -> None:
    files, volume_id, parts = encoded(any_cluster)
    answer = send(any_cluster, any_cluster.servers[0], volume_id, ".ec00", parts[".ec00"])
    if any_cluster.era == "4.44":
        assert answer.error == f"ec volume {volume_id} is mounted on disk_ids:[0]; unmount before ReceiveFile"
    else:
        assert (answer.error, answer.bytes_written) == ("", len(parts[".ec00"]))
    any_cluster.check(files)


def test_a_broken_upload_leaves_no_file(any_cluster: Cluster) -> None:
    server = any_cluster.servers[0]
    started = Path(server.data_dir / "78.ec01")

    ended = threading.Event()

    def endless() -> Iterator[bytes]:
        while not ended.is_set():
            yield b"x" * 1000
            ended.wait(0.01)

    info = v.ReceiveFileInfo(volume_id=78, ext=".ec01", is_ec_volume=True)
    upload = any_cluster.volume(server).receive_file(info=info, messages=map(upload_message, endless()))
    eventually(started.exists)
    upload.cancel()
    ended.set()
    eventually(lambda: not started.exists())


def test_shards_move_by_copy_mount_unmount_delete(any_cluster: Cluster) -> None:
    files, volume_id, parts = encoded(any_cluster)
    source, target = any_cluster.servers[0], any_cluster.servers[2]
    here, there = any_cluster.volume(source), any_cluster.volume(target)
    there.volume_ec_shards_copy(volume_id=volume_id, shard_ids=[4], source_data_node=str(source.address))
    there.volume_ec_shards_mount(volume_id=volume_id, shard_ids=[4])
    assert shards_on(any_cluster, target, volume_id)[4] == len(parts[".ec04"])
    here.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=[4])
    here.volume_ec_shards_delete(volume_id=volume_id, shard_ids=[4])
    got = b"".join(piece.data for piece in there.volume_ec_shard_read(volume_id=volume_id, shard_id=4, size=MIB))
    assert got == parts[".ec04"]
    eventually(lambda: 4 not in shards_on(any_cluster, source, volume_id))
    any_cluster.check(files)

    rest = [0, 1, 2, 3]
    here.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=rest)
    here.volume_ec_shards_delete(volume_id=volume_id, shard_ids=rest)
    assert source.files(f"{volume_id}.*") == []


def test_a_copy_of_an_empty_index_is_an_error_from_4_44_on(any_cluster: Cluster) -> None:
    source, target = any_cluster.servers[:2]
    send(any_cluster, source, 79, ".ec00", b"x" * 1000)
    send(any_cluster, source, 79, ".ecx", b"")

    def pull() -> None:
        any_cluster.volume(target).volume_ec_shards_copy(
            volume_id=79, shard_ids=[0], copy_ecx_file=True, source_data_node=str(source.address)
        )

    if any_cluster.era == "4.44":
        with refused("source .ecx is 0 bytes"):
            pull()
    else:
        pull()


def test_a_full_teardown_leaves_nothing_from_4_44_on(any_cluster: Cluster) -> None:
    _files, volume_id, _parts = encoded(any_cluster, encode_ts_ns=500)
    server = any_cluster.servers[0]
    client = any_cluster.volume(server)
    if any_cluster.era == "4.44":
        for older in (500, 499):
            client.volume_ec_shards_unmount(volume_id=volume_id, shard_ids=range(14), encode_ts_ns=older)
            assert client.volume_ec_shards_delete(
                volume_id=volume_id, shard_ids=range(14), full_teardown=True, encode_ts_ns=older
            ).full_teardown_done
        assert len(shards_on(any_cluster, server, volume_id)) == 5
    answer = client.volume_ec_shards_delete(volume_id=volume_id, shard_ids=range(14), full_teardown=True)
    assert answer.full_teardown_done == (any_cluster.era == "4.44")
    assert server.files(f"{volume_id}.*") == []


def test_the_generation_of_shards_is_told_and_checked_from_4_44_on(any_cluster: Cluster) -> None:
    _files, volume_id, _parts = encoded(any_cluster, encode_ts_ns=500)
    client = any_cluster.volume(any_cluster.servers[0])
    told = {
        info.encode_ts_ns
        for _address, disk in any_cluster.disks()
        for info in disk.ec_shard_infos
        if info.id == volume_id
    }
    read = client.volume_ec_shard_read(volume_id=volume_id, shard_id=0, size=100, encode_ts_ns=501)
    if any_cluster.era == "4.44":
        assert told == {500}
        with refused("belongs to a different encode run"):
            list(read)
    else:
        assert told == {0}
        assert len(b"".join(piece.data for piece in read)) == 100


def test_a_volume_beside_its_shards_is_deleted_with_its_vif_before_4_44(any_cluster: Cluster) -> None:
    files, volume_id, server, client = one(any_cluster)
    parts = encode(content(client, volume_id, ".dat"), content(client, volume_id, ".idx"), any_cluster.era)
    for extension in (".ec00", ".ec01", ".ecx", ".vif"):
        send(any_cluster, server, volume_id, extension, parts[extension])
    client.volume_ec_shards_mount(volume_id=volume_id, shard_ids=[0, 1])
    any_cluster.check(files)
    client.volume_delete(volume_id=volume_id)
    assert server.files(f"{volume_id}.vif") == ([f"{volume_id}.vif"] if any_cluster.era == "4.44" else [])
    assert len(server.files(f"{volume_id}.ec0?")) == 2


def test_files_in_shards_can_be_deleted(any_cluster: Cluster) -> None:
    files, _volume_id, _parts = encoded(any_cluster)
    gone = next(iter(files))
    status, _body = request(any_cluster.servers[0].address, "DELETE", f"/{gone}?type=replicate")
    assert status == 202
    assert request(any_cluster.servers[0].address, "GET", f"/{gone}")[0] == 404
