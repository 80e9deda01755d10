"""The clients against a server that is slow, shaky, gone or elsewhere; and over TLS."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gevent
import pytest

from proto_gen import volume_server_pb2 as v
from tests.support import eventually, free_port
from tests.support.certificates import Authority
from tests.support.tiny_server import ABSENT, BIG, HUNG, RESET, SHAKY, SLOW, SLOW_SECONDS
from weed_cluster import security
from weed_cluster.address import Address
from weed_cluster.call import upload_message
from weed_cluster.channels import Channels
from weed_cluster.client import Cluster
from weed_cluster.leash import Leash
from weed_cluster.volume_server import VolumeServer
from weed_core.errors import BadTask, Cancelled, ServerFailed, ServerTimedOut, TimedOut

START = [sys.executable, "-c", "import runpy; runpy.run_module('tests.support.tiny_server', run_name='__main__')"]
Start = Callable[..., Address]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a server: start(leader=..., tls=(ca, cert, key), address=...) -> its address."""
    running: list[subprocess.Popen[str]] = []

    def run(leader: str = "", tls: tuple[Path, ...] = (), address: str = "") -> Address:
        address = address or f"127.0.0.1:1.{free_port()}"
        words = [*START, address, leader or address, *map(str, tls)]
        server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        running.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        return Address.parse(address)

    yield run
    for server in running:
        server.kill()
        server.wait(10)
        assert server.stdout is not None
        server.stdout.close()


@pytest.fixture
def channels() -> Iterator[Channels]:
    channels = Channels()
    yield channels
    channels.close()


@pytest.fixture
def server(start: Start, channels: Channels) -> VolumeServer:
    return Cluster(channels).volume(start())


def test_an_answer_comes_back_and_what_was_called_is_told(start: Start) -> None:
    told: list[tuple[str, str, str]] = []
    address = start()
    channels = Channels(observe=lambda *what: told.append(what))
    assert Cluster(channels).volume(str(address)).volume_status(volume_id=1).file_count == 1
    assert told == [(str(address), "VolumeStatus", ""), (str(address), "VolumeStatus", "OK")]
    channels.close()


def test_an_error_names_server_call_and_words_of_the_server(server: VolumeServer) -> None:
    with pytest.raises(ServerFailed, match=r"VolumeStatus on .* failed: not found volume id 3") as caught:
        server.volume_status(volume_id=ABSENT)
    assert caught.value.says_absent
    assert not caught.value.is_transient


def test_a_look_is_repeated_where_the_server_was_unavailable(server: VolumeServer) -> None:
    assert server.volume_status(volume_id=SHAKY).file_count == 3


def test_a_change_is_never_repeated(server: VolumeServer) -> None:
    for count in (1, 2):
        with pytest.raises(ServerFailed, match=f"call {count}"):
            server.volume_mark_writable(volume_id=1)


def test_a_call_past_its_deadline_says_that_its_outcome_is_unknown(server: VolumeServer) -> None:
    began = time.monotonic()
    with pytest.raises(ServerTimedOut):
        server.volume_status(volume_id=HUNG, timeout=0.3)
    assert time.monotonic() - began < 5


def test_a_reset_that_nobody_asked_for_counts_as_a_timeout(server: VolumeServer) -> None:
    with pytest.raises(ServerTimedOut, match="RST_STREAM"):
        server.volume_status(volume_id=RESET)


def test_a_server_that_is_gone_is_unavailable_and_reached_again_when_it_is_back(
    start: Start, channels: Channels
) -> None:
    address = Address.parse(f"127.0.0.1:1.{free_port()}")
    server = Cluster(channels).volume(address)
    with pytest.raises(ServerFailed) as caught:
        server.volume_status(volume_id=1)
    assert caught.value.code == "UNAVAILABLE"
    assert caught.value.is_transient
    start(address=str(address))

    def answers() -> bool:
        try:
            return server.volume_status(volume_id=1).file_count > 0
        except ServerFailed:
            return False

    eventually(answers, timeout=15)


def test_many_slow_calls_do_not_hold_up_a_quick_one(server: VolumeServer) -> None:
    assert server.volume_status(volume_id=1).file_count == 1  # the connection stands
    with ThreadPoolExecutor(150) as pool:
        slow = [pool.submit(server.volume_status, volume_id=SLOW) for _ in range(150)]
        began = time.monotonic()
        server.volume_status(volume_id=1)
        assert time.monotonic() - began < SLOW_SECONDS
        assert not any(call.done() for call in slow)
        for call in slow:
            assert call.result(30).file_count > 0


def test_a_message_far_above_grpcs_own_limit_passes(server: VolumeServer) -> None:
    (message,) = server.copy_file(volume_id=BIG)
    assert len(message.file_content) == 8 << 20


def test_cancelling_a_job_breaks_off_its_call_at_once(start: Start, channels: Channels) -> None:
    leash = Leash()
    server = Cluster(channels, leash=leash).volume(start())
    threading.Timer(0.2, leash.cancel, [Cancelled("stop it")]).start()
    began = time.monotonic()
    with pytest.raises(Cancelled, match="stop it"):
        server.volume_status(volume_id=HUNG)
    assert time.monotonic() - began < 5
    with pytest.raises(Cancelled):
        server.volume_status(volume_id=1)


def test_cancelling_a_job_breaks_off_its_stream(start: Start, channels: Channels) -> None:
    leash = Leash()
    received = 0
    with pytest.raises(Cancelled):  # noqa: PT012 - the stream fails while it is read
        for _message in Cluster(channels, leash=leash).volume(start()).copy_file(volume_id=1):
            received += 1
            if received == 3:
                leash.cancel(Cancelled())
    assert received >= 3


def test_the_jobs_deadline_ends_a_call_that_may_take_longer(start: Start, channels: Channels) -> None:
    server = Cluster(channels, leash=Leash(timeout=0.4)).volume(start())
    with pytest.raises(TimedOut):
        server.volume_status(volume_id=HUNG, timeout=30)


def test_a_shielded_call_outlives_the_cancel(start: Start, channels: Channels) -> None:
    leash = Leash()
    server = Cluster(channels, leash=leash).volume(start())
    with leash.shielded():
        threading.Timer(0.2, leash.cancel, [Cancelled()]).start()
        assert server.volume_status(volume_id=SLOW).file_count == 1
    with pytest.raises(Cancelled):
        leash.check()


def test_an_upload_tells_how_much_arrived(server: VolumeServer) -> None:
    upload = server.receive_file(
        info=v.ReceiveFileInfo(volume_id=1), messages=map(upload_message, [b"abc", b"defg", b"x" * 5000])
    )
    assert upload.done().bytes_written == 5007


def test_cancelled_uploads_leave_no_greenlet_behind(server: VolumeServer) -> None:
    def greenlets() -> int:
        gc.collect()
        return sum(isinstance(thing, gevent.Greenlet) and not thing.dead for thing in gc.get_objects())

    def cancelled_upload() -> None:
        ended = threading.Event()

        def messages() -> Iterator[bytes]:
            while not ended.wait(0.005):
                yield upload_message(bytes(1000))

        upload = server.receive_file(info=v.ReceiveFileInfo(volume_id=1), messages=messages())
        upload.cancel()
        ended.set()
        with pytest.raises(ServerFailed):
            upload.done()

    cancelled_upload()
    before = greenlets()
    for _ in range(30):
        cancelled_upload()
    eventually(lambda: greenlets() <= before + 2)


def test_calls_follow_the_leader(start: Start, channels: Channels) -> None:
    leader = start()
    follower = start(leader=str(leader))
    gone = Address.parse(f"127.0.0.1:1.{free_port()}")
    for masters in ([follower], [gone, follower], [leader]):
        master = Cluster(channels, masters).master()
        assert master.volume_list().volume_size_limit_mb == 77
        assert master.address == leader


def test_no_master_and_no_address_are_refused_before_any_call(channels: Channels) -> None:
    with pytest.raises(BadTask, match="no master is known"):
        Cluster(channels).master()
    with pytest.raises(BadTask, match="is no server address"):
        Cluster(channels).volume("volume-1")


# --- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def secured(authority: Authority, pair: tuple[Path, Path], **more: str) -> Channels:
    environ = {
        "WEED_GRPC_CA": str(authority.ca),
        "WEED_GRPC_WORKER_CERT": str(pair[0]),
        "WEED_GRPC_WORKER_KEY": str(pair[1]),
        **more,
    }
    found = security.load(environ=environ)
    return Channels(found.credentials, found.options)


@pytest.mark.parametrize(
    "san", ["DNS:admin.example,DNS:other.example", "DNS:*.seaweed.example", "IP:127.0.0.1", "IP:10.9.8.7", ""]
)
def test_a_server_is_known_by_its_authority_whatever_its_certificate_names(
    start: Start, authority: Authority, san: str
) -> None:
    worker = authority.issue("worker")
    address = start(tls=(authority.ca, *authority.issue("server", san, "serverAuth")))
    channels = secured(authority, worker)
    assert Cluster(channels).volume(address).volume_status(volume_id=1).file_count == 1
    channels.close()


def test_a_server_of_another_authority_is_refused(start: Start, authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path)
    address = start(tls=(other.ca, *other.issue("server", "DNS:admin.example")))
    channels = secured(authority, authority.issue("worker"))
    with pytest.raises(ServerFailed, match="its certificate is not trusted"):
        Cluster(channels).volume(address).volume_mark_writable(volume_id=1)


def test_a_server_without_tls_is_never_spoken_to_in_the_clear(start: Start, authority: Authority) -> None:
    address = start()
    channels = secured(authority, authority.issue("worker"))
    with pytest.raises(ServerFailed, match="speaks no TLS"):
        Cluster(channels).volume(address).volume_mark_writable(volume_id=1)


def test_a_fixed_server_name_refuses_servers_that_are_called_otherwise(start: Start, authority: Authority) -> None:
    address = start(tls=(authority.ca, *authority.issue("server", "DNS:volume.example")))
    for name, accepted in (("volume.example", True), ("admin.example", False)):
        channels = secured(authority, authority.issue("worker"), WEED_GRPC_WORKER_SERVER_NAME=name)
        server = Cluster(channels).volume(address)
        if accepted:
            assert server.volume_status(volume_id=1).file_count == 1
        else:
            with pytest.raises(ServerFailed) as caught:
                server.volume_mark_writable(volume_id=1)
            assert caught.value.code == "UNAVAILABLE"
        channels.close()


def test_renewed_certificates_are_used_for_the_next_call(start: Start, authority: Authority, tmp_path: Path) -> None:
    address = start(tls=(authority.ca, *authority.issue("server", "DNS:volume.example")))
    pair = Authority(tmp_path / "strangers").issue("stranger")
    found = security.load(
        environ={
            "WEED_GRPC_CA": str(authority.ca),
            "WEED_GRPC_WORKER_CERT": str(pair[0]),
            "WEED_GRPC_WORKER_KEY": str(pair[1]),
        }
    )
    channels = Channels(found.credentials, found.options)
    server = Cluster(channels).volume(address)
    with pytest.raises(ServerFailed):
        server.volume_mark_writable(volume_id=1)
    for old, new in zip(pair, authority.issue("worker")):
        old.write_bytes(new.read_bytes())
    found.reload()
    channels.renew()
    assert server.volume_status(volume_id=1).file_count == 1
    channels.close()
