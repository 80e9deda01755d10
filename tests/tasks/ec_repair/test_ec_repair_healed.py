"""All that can befall a volume; servers of older releases; and a worker that servers pull from, with TLS too."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from proto_gen import volume_server_pb2 as v
from tests.support import eventually
from tests.support.certificates import Authority
from tests.support.cluster import Cluster
from tests.support.ec_repair import assert_whole, bad_shard, delete_at, detect, repair, status_of
from tests.support.shards import digests, encoded, flip, holder_of, path_of, revive, settle, take
from weed_cluster.address import Address
from weed_cluster.offer import Offer
from weed_core.findings import Finding
from weed_safety import findings

SHARD = 2 << 20
"""Bytes of each shard of the volumes here."""


def test_all_that_can_befall_a_volume_at_once_is_put_right(six: Cluster) -> None:
    files, volume_id = encoded(six, "photos", count=160, size=(40_000, 100_000))
    before = digests(six, volume_id, "photos")
    deleted = list(files)[:100]
    for at, fid in enumerate(deleted):
        delete_at(six, fid, six.servers[at % 6], "photos")
        del files[fid]
    repair(six, volume_id, "photos")  # a deletion that one holder knows would be gone with that one
    ctx = six.context()
    take(six, volume_id, 3, holder_of(six, volume_id, 3), "photos")
    data, parity, short = (holder_of(six, volume_id, shard) for shard in (2, 13, 5))
    flip(path_of(data, volume_id, ".ec02", "photos"), 700_000)
    flip(path_of(parity, volume_id, ".ec13", "photos"), 5)
    for shard, server in ((2, data), (13, parity)):
        findings.note(ctx, bad_shard(volume_id, shard, server, "photos"))
    with path_of(short, volume_id, ".ec05", "photos").open("r+b") as file:
        file.truncate(len(path_of(short, volume_id, ".ec05", "photos").read_bytes()) // 2)
    short.stop()
    revive(six, short)
    settle(six, volume_id)

    repair(six, volume_id, "photos", ctx)
    assert findings.read_all(ctx) == []
    assert_whole(six, volume_id, before, "photos")
    gone = six.servers[0]
    gone.kill()
    for folder in gone.data_dirs:
        shutil.rmtree(folder)
    revive(six, gone)
    settle(six, volume_id)
    repair(six, volume_id, "photos")
    assert_whole(six, volume_id, before, "photos")

    for server in six.servers:
        server.stop()
        revive(six, server)
    settle(six, volume_id)
    six.check(files)
    holders = [server for server in six.servers if server.files("*.ecx")]
    for fid in deleted:
        assert {status_of(server, fid) for server in holders} == {404}
    dead = next(server for server in holders if server is not gone)
    dead.kill()
    eventually(lambda: len(six.topology().nodes) == 5, timeout=30)
    six.check(files)
    for fid in deleted:
        assert {status_of(server, fid) for server in holders if server is not dead} == {404}
    revive(six, dead)


@pytest.mark.parametrize("era", ["3.97", "4.13"])
def test_older_servers_get_their_shards_back_with_surplus_shards_for_proof(
    make_cluster: Callable[..., Cluster], era: str
) -> None:
    cluster = make_cluster(era=era, servers=5)
    cluster.options["sender_seconds"] = 0.0
    files, volume_id = encoded(cluster, count=12, size=1_000_003)
    before = digests(cluster, volume_id)
    for shard in (3, 11):
        take(cluster, volume_id, shard, holder_of(cluster, volume_id, shard))
    settle(cluster, volume_id)
    eventually(lambda: detect(cluster).proposals, timeout=30)
    assert "restored shard 3" in repair(cluster, volume_id).summary
    assert_whole(cluster, volume_id, before)
    settle(cluster, volume_id)
    cluster.check(files)
    bad, ctx = holder_of(cluster, volume_id, 2), cluster.context()
    flip(path_of(bad, volume_id, ".ec02"), 100)
    findings.note(ctx, bad_shard(volume_id, 2, bad))
    assert "replaced the bad shard 2" in repair(cluster, volume_id, ctx=ctx).summary
    assert_whole(cluster, volume_id, before)


def certified(authority: Authority, name: str) -> tuple[bytes, bytes, bytes]:
    """CA, certificate and key."""
    certificate, key = authority.issue(name)
    return authority.ca.read_bytes(), certificate.read_bytes(), key.read_bytes()


def ask(source: str, credentials: grpc.ChannelCredentials | None) -> bytes:
    """Ask for the offered file as a volume server does."""
    address = Address.parse(source)
    options = [("grpc.ssl_target_name_override", "worker")]
    if credentials is None:
        channel = grpc.insecure_channel(address.grpc)
    else:
        channel = grpc.secure_channel(address.grpc, credentials, options=options)
    with channel:
        call = channel.unary_stream(
            "/volume_server_pb.VolumeServer/CopyFile",
            request_serializer=v.CopyFileRequest.SerializeToString,
            response_deserializer=v.CopyFileResponse.FromString,
        )
        order = v.CopyFileRequest(volume_id=5, ext=".ec03", collection="photos", is_ec_volume=True)
        messages = list(call(order, timeout=10))
    assert messages[0].modified_ts_ns
    return b"".join(message.file_content for message in messages)


def test_with_tls_a_file_is_given_to_peers_of_the_ca_alone_and_once(tmp_path: Path) -> None:
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others", "other")
    ca, certificate, key = certified(ours, "worker")
    serving = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
    offer = Offer(Address.parse("127.0.0.11:8080"), serving, 5, "photos", ".ec03")
    try:
        stranger = certified(others, "volume")
        for credentials in (
            None,
            grpc.ssl_channel_credentials(ca),
            grpc.ssl_channel_credentials(ca, stranger[2], stranger[1]),
        ):
            with pytest.raises(grpc.RpcError):
                ask(offer.source, credentials)
        assert not offer.asked.is_set()
        assert offer.give(b"shard", 1.0)
        assert not offer.end(0.05)  # nobody has taken the first piece yet
        friend = certified(ours, "volume")
        good = grpc.ssl_channel_credentials(ca, friend[2], friend[1])
        ending = threading.Thread(target=lambda: offer.end(10.0))
        ending.start()
        assert ask(offer.source, good) == b"shard"
        ending.join()
        with pytest.raises(grpc.RpcError, match="was given already"):
            ask(offer.source, good)
    finally:
        offer.close()


def test_a_transfer_that_is_broken_off_ends_by_an_error(tmp_path: Path) -> None:
    offer = Offer(Address.parse("127.0.0.11:8080"), None, 5, "photos", ".ec03")
    assert offer.give(b"half", 1.0)
    errors: list[grpc.RpcError] = []

    def pull() -> None:
        try:
            ask(offer.source, None)
        except grpc.RpcError as error:
            errors.append(error)

    pulling = threading.Thread(target=pull)
    pulling.start()
    assert offer.asked.wait(5.0)
    offer.close()
    pulling.join()
    assert errors


def test_a_finding_of_what_is_not_mended_here_stays(sandbox_six: Cluster) -> None:
    _files, volume_id = encoded(sandbox_six)
    ctx = sandbox_six.context()
    findings.note(ctx, Finding("replica", volume_id, found=1.0))
    repair(sandbox_six, volume_id, ctx=ctx)
    assert [one.kind for one in findings.read_all(ctx)] == ["replica"]
