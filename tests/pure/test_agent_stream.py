"""What a stream knows of the questions and results it has sent, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest

from proto_gen import worker_pb2
from tests.pure.protocol_samples import STATUS
from weed_agent.stream import End, NotSpoken, Stream
from weed_cluster import security
from weed_cluster.address import Address
from weed_core.errors import AdminRefused, AdminUnavailable
from weed_core.model import Result
from weed_protocol import classic, plugin
from weed_protocol.commands import AskForWork, Command, Completed, Heartbeat, HeartbeatSeen, Identity, Report, Welcome

WHO = Identity("w1", "i1", "host1", "1", (), 1, 1)
DONE = Completed("", "j1", "vacuum", 5.0, Result("done"))


class Owner:
    """A session that notes what it is told, and ends its stream when it is welcome if it was asked to."""

    def __init__(self, how: End | None = None) -> None:
        self.how = how
        self.stream: Stream | None = None
        self.paid: list[Completed] = []

    def obey(self, command: Command) -> None:
        if isinstance(command, Welcome) and self.how and self.stream:
            self.stream.end(self.how, "as asked")

    def arrived(self, completed: Completed) -> None:
        self.paid.append(completed)


@contextmanager
def admin(method: str, *answers: worker_pb2.AdminMessage) -> Iterator[Address]:
    """An admin that gives these answers to the first message, and ends a stream when its worker does."""

    def answer(messages: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        for _first in messages:
            yield from (message.SerializeToString() for message in answers)
            break
        if answers and answers[0].registration_response.success:
            for _message in messages:
                pass

    server = grpc.server(futures.ThreadPoolExecutor(2))
    service, name = method.strip("/").split("/")
    handler = grpc.stream_stream_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Address("127.0.0.1", port)
    finally:
        server.stop(None)


def welcome(success: bool = True) -> worker_pb2.AdminMessage:
    """A classic admin's answer to a registration."""
    answer = worker_pb2.RegistrationResponse(success=success, message="" if success else "no room")
    return worker_pb2.AdminMessage(registration_response=answer)


def test_a_question_is_answered_though_equal_ones_were_sent_before_it() -> None:
    """Heartbeats that are answered late hold the same question twice, and the questions are all alike."""
    stream = Stream(Owner(), classic, WHO, ())
    first, second, third = (AskForWork(2) for _ in range(3))
    beat = Heartbeat(STATUS)

    def sent(*reports: Report) -> None:
        for report in reports:
            stream._messages(report)
            stream._sent(report)

    stream.send(first)
    sent(first, beat, second, beat)
    stream._on(HeartbeatSeen())
    stream.send(third)
    sent(third)
    stream._on(HeartbeatSeen())
    assert stream.asks
    sent(beat)
    stream._on(HeartbeatSeen())
    assert not stream.asks


def test_an_answer_that_comes_before_the_transport_tells_that_its_heartbeat_left_is_one() -> None:
    stream = Stream(Owner(), classic, WHO, ())
    taken = stream._outbox.messages()
    next(taken)  # Hello
    stream.send(AskForWork(2))
    next(taken)
    stream.send(Heartbeat(STATUS))
    next(taken)
    stream._on(HeartbeatSeen())
    assert not stream.asks


@pytest.mark.parametrize("how", [End.RENEW, End.LEFT])
def test_what_a_stream_carried_has_arrived_when_it_ends_as_the_worker_ended_it(how: End) -> None:
    owner = Owner(how)
    owner.stream = stream = Stream(owner, classic, WHO, [DONE])
    with admin(classic.METHOD, welcome()) as address:
        assert stream.serve(address, security.load()) is how
    assert (owner.paid, stream.is_welcome, stream.has_ended, stream.is_drained) == ([DONE], True, True, True)


def test_who_leaves_does_not_come_back_to_register_again() -> None:
    stream = Stream(Owner(), classic, WHO, ())
    stream.end(End.LEFT, "stopping")
    stream.end(End.RENEW, "registering again")
    with admin(classic.METHOD, welcome()) as address:
        assert stream.serve(address, security.load()) is End.LEFT


def test_what_a_stream_carried_that_the_admin_closed_is_carried_again() -> None:
    owner = Owner()
    stream = Stream(owner, classic, WHO, [DONE])
    with admin(classic.METHOD, worker_pb2.AdminMessage(heartbeat_response=worker_pb2.HeartbeatResponse())) as address:
        assert stream.serve(address, security.load()) is End.CLOSED
    assert owner.paid == []


def test_a_refusal_names_the_worker_and_the_reason() -> None:
    with (
        admin(classic.METHOD, welcome(success=False)) as address,
        pytest.raises(AdminRefused, match="refused worker w1: no room"),
    ):
        Stream(Owner(), classic, WHO, ()).serve(address, security.load())


def test_a_dialect_that_the_admin_does_not_speak_is_told_from_any_other_failure() -> None:
    with admin(classic.METHOD, welcome()) as address, pytest.raises(NotSpoken, match="does not speak this dialect"):
        Stream(Owner(), plugin, WHO, ()).serve(address, security.load())


def test_a_stream_that_cannot_be_dialled_has_ended_and_takes_nothing() -> None:
    with admin(classic.METHOD) as address:
        pass
    stream = Stream(Owner(), classic, WHO, [DONE])
    with pytest.raises(AdminUnavailable):
        stream.serve(address, security.load())
    stream.send(AskForWork(1))
    assert stream.has_ended
    assert stream.is_drained
    assert not stream.asks
