"""Pages over HTTP: whatever answers, a look ends in time, holds little, and stays with the server that was asked."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support import free_port
from weed_cluster import admin, http
from weed_cluster.address import Address
from weed_core.errors import HttpFailed

Speak = Callable[[socket.socket, bytes], None]
"""What a server does with one connection once the request has come."""


class Neighbour:
    """A server that answers each connection as it is told, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.speak: Speak = lambda line, _request: line.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = Address.parse(f"127.0.0.1:{self.server.getsockname()[1]}")
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                line, _peer = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=[line], daemon=True).start()

    def _answer(self, line: socket.socket) -> None:
        with line:
            request = line.recv(65536)
            self.asked.append(request.split(b"\r\n")[0].decode(errors="replace"))
            try:
                self.speak(line, request)
            except OSError:
                return  # the other side hung up


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    neighbour = Neighbour()
    yield neighbour
    neighbour.server.close()


def says(text: str) -> Speak:
    return lambda line, _request: line.sendall(text.replace("\n", "\r\n").encode())


def drips(before: bytes) -> Speak:
    def speak(line: socket.socket, _request: bytes) -> None:
        line.sendall(before)
        while True:
            line.sendall(b"a")
            time.sleep(0.05)

    return speak


def floods(before: bytes, block: bytes) -> Speak:
    def speak(line: socket.socket, _request: bytes) -> None:
        line.sendall(before)
        while True:
            line.sendall(block)

    return speak


@pytest.mark.parametrize(
    "answer",
    [
        "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
        "HTTP/1.0 200 OK\n\nhello",
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nhe\n3\nllo\n0\n\n",
        "HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    ],
)
def test_a_page_is_read_whole_however_it_is_sent(neighbour: Neighbour, answer: str) -> None:
    neighbour.speak = says(answer)
    assert http.get(neighbour.address, "/a?b=c") == http.Page(200, b"hello")
    assert neighbour.asked == ["GET /a?b=c HTTP/1.1"]


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_a_server_that_drips_is_left_when_the_time_is_over(neighbour: Neighbour, before: bytes) -> None:
    neighbour.speak = drips(before)
    began = time.monotonic()
    with pytest.raises(HttpFailed, match=r"was not read whole within 0\.6 s") as raised:
        http.get(neighbour.address, "/", seconds=0.6)
    assert raised.value.timed_out
    assert time.monotonic() - began < 5


def test_a_handshake_that_never_ends_is_left_when_the_time_is_over(neighbour: Neighbour) -> None:
    # A TLS record that announces 16 KiB of a handshake.
    neighbour.speak = drips(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03")
    with pytest.raises(HttpFailed, match=r"was not read whole within 0\.6 s"):
        http.get(neighbour.address, "/", scheme="https", seconds=0.6)


@pytest.mark.parametrize(
    ("before", "block"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 65536),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"a" * 65536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"a" * 65536 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X: " + b"a" * 1000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"a" * 65536),
        (b"", b"a" * 65536),
    ],
)
def test_a_page_without_end_is_refused_after_so_many_bytes(neighbour: Neighbour, before: bytes, block: bytes) -> None:
    neighbour.speak = floods(before, block)
    began = time.monotonic()
    with pytest.raises(HttpFailed) as raised:
        http.get(neighbour.address, "/", largest=1 << 20)
    assert not raised.value.timed_out
    assert time.monotonic() - began < 5


def test_a_page_that_is_cut_short_is_no_page(neighbour: Neighbour) -> None:
    neighbour.speak = says("HTTP/1.1 200 OK\nContent-Length: 10\n\nhello")
    with pytest.raises(HttpFailed, match="cut short"):
        http.get(neighbour.address, "/")


def test_a_redirect_to_another_host_or_port_is_told_and_not_followed(neighbour: Neighbour) -> None:
    other = Neighbour()
    for target in (
        f"http://localhost:{neighbour.address.port}/x",
        f"http://{other.address.http}/x",
        "file:///etc/passwd",
    ):
        neighbour.speak = says(f"HTTP/1.1 302 Found\nLocation: {target}\nContent-Length: 0\n\n")
        assert http.get(neighbour.address, "/") == http.Page(302, b"", target)
    assert other.asked == []
    assert len(neighbour.asked) == 3
    other.server.close()


def test_a_redirect_within_the_server_is_followed_a_few_times(neighbour: Neighbour) -> None:
    def speak(line: socket.socket, request: bytes) -> None:
        there = b"200 OK" if b"GET /there " in request else b"301 Moved Permanently\r\nLocation: /there"
        line.sendall(b"HTTP/1.1 " + there + b"\r\nContent-Length: 0\r\n\r\n")

    neighbour.speak = speak
    assert http.get(neighbour.address, "/here").status == 200
    neighbour.asked.clear()
    neighbour.speak = says("HTTP/1.1 302 Found\nLocation: /round\nContent-Length: 0\n\n")
    assert http.get(neighbour.address, "/round").status == 302
    assert len(neighbour.asked) == 1 + http.REDIRECTS


def test_nobody_there_is_said_at_once() -> None:
    with pytest.raises(HttpFailed, match="refused"):
        http.get(Address.parse(f"127.0.0.1:{free_port()}"), "/")


@pytest.mark.parametrize(
    "body", ['{"worker_grpc_port": true}', '{"worker_grpc_port": 99999999}', "[" * 100_000, '"x"', "\x00", "[1]"]
)
def test_an_admin_that_answers_nonsense_is_asked_at_the_usual_port(neighbour: Neighbour, body: str) -> None:
    neighbour.speak = says(f"HTTP/1.1 200 OK\nContent-Length: {len(body)}\n\n{body}")
    assert admin.probe(neighbour.address).grpc.grpc_port == neighbour.address.port + 10000
    assert admin.masters_of(neighbour.address) == ()
