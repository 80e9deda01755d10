"""The masters' RPCs, at whichever of them leads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc

from proto_gen import master_pb2 as m
from weed_cluster.address import GRPC_OFFSET, Address
from weed_cluster.call import Message
from weed_cluster.channels import Channels
from weed_cluster.leash import Leash
from weed_cluster.masters import Masters
from weed_cluster.volume_server import MasterAt
from weed_core.errors import BadTask, ServerFailed, ServerTimedOut

NOT_LEADER = "not current leader"

LEADERS_ALONE = ("VolumeList", "VolumeListStream", "LookupEcVolume", "LeaseAdminToken")
"""Calls that only the leader answers."""

LOOK, HEDGE = 3.0, 0.5
"""Seconds that a master has to say whether it leads, and after which the others are asked, too."""

PEERS_EVERY = 60.0
"""Seconds between two questions to the leader for the members of its cluster."""


class Master(MasterAt):
    """The cluster's masters as one: calls go to whichever leads now, and are sent again where that one has changed.

    Before a call, a leader that was not heard as such for a while is asked whether it still leads. During an election
    a call waits for its end, as long as any master answers.
    """

    def __init__(self, channels: Channels, masters: Masters | Iterable[Address], leash: Leash) -> None:
        self.masters = masters if isinstance(masters, Masters) else Masters(masters)
        if not self.masters:
            self.masters.ask_again()
        first = next(iter(self.masters), None)
        if first is None:
            raise BadTask("no master is known; name one with -master=host:9333")
        super().__init__(channels, first, leash)

    def find(self) -> None:
        """Find out who leads, and who else is a member; ServerFailed where that cannot be told now."""
        self._lead("LookupEcVolume", 0.0)

    def wait(self, seconds: float) -> None:
        """Sleep; raises when the job is cancelled or passes its deadline."""
        self._leash.wait(seconds)

    def _unary(self, call: str, request: Any, response: Callable[..., Message], timeout: float) -> Message:
        # What a lease has not given back ends by itself; nobody waits for an election because of that.
        patience = 0.0 if call == "ReleaseAdminToken" else self.timing.election
        self._lead(call, patience)
        try:
            answer = super()._unary(call, request, response, timeout)
        except ServerFailed as error:
            if not _leads_no_more(error):
                raise
            self.masters.doubt()
            before = self.address
            self._seek(error, patience)
            if self.address == before and NOT_LEADER not in error.detail.lower():
                raise
            answer = super()._unary(call, request, response, timeout)
        self._heard(call)
        return answer

    def _stream(self, call: str, request: Any, response: Callable[..., Message], timeout: float) -> Iterator[Message]:
        started = False
        self._lead(call, self.timing.election)
        try:
            for reply in super()._stream(call, request, response, timeout):
                started = True
                yield reply
            self._heard(call)
            return
        except ServerFailed as error:
            if not _leads_no_more(error):
                raise
            self.masters.doubt()
            if started:
                raise
            before = self.address
            self._seek(error, self.timing.election)
            if self.address == before and NOT_LEADER not in error.detail.lower():
                raise
        yield from super()._stream(call, request, response, timeout)

    def _heard(self, call: str) -> None:
        if call in LEADERS_ALONE:
            self.masters.leads(self.address)

    def _lead(self, call: str, patience: float) -> None:
        """Make sure that the address is the leader's."""
        if self.masters.leader is None or not self.masters.led_within(self.timing.sure):
            self._leash.check()
            self._seek(ServerFailed(str(self.address), call, "UNAVAILABLE", "no master answers"), patience)
        elif self.masters.leader is not None:
            self.address = self.masters.leader
        if not self.masters.listed_within(PEERS_EVERY):
            self._list_peers()

    def _seek(self, failed: ServerFailed, patience: float) -> None:
        """Find the leader, waiting so many seconds for an election; raise what is known, else `failed`, if none is."""
        until = time.monotonic() + patience
        while True:
            search = _Search(self._channels, list(self.masters), self._leash)
            leader = search.run()
            if leader is None:
                self.masters.ask_again()
                more = [address for address in (*search.named, *self.masters) if address not in search.asked]
                again = _Search(self._channels, list(dict.fromkeys(more)), self._leash)
                leader = again.run()
                search.followers += again.followers
            if leader is not None:
                self.masters.leads(leader)
                self.address = leader
                return
            if not search.followers:
                if search.error is not None:
                    failed = search.error(failed.call)
                raise failed
            if time.monotonic() >= until:
                names = ", ".join(map(str, search.followers))
                raise ServerFailed(str(self.address), failed.call, "ABORTED", f"no leader is elected, say {names}")
            self._leash.wait(self.timing.search)

    def _list_peers(self) -> None:
        """Have the leader name the members, so that another is known when it dies; it may not tell."""
        self.masters.listing()
        method = self._method(
            "RaftListClusterServers", "unary_unary", m.RaftListClusterServersRequest, m.RaftListClusterServersResponse
        )
        try:
            listed = method.future(m.RaftListClusterServersRequest(), timeout=LOOK).result().cluster_servers
        except (grpc.RpcError, grpc.FutureCancelledError):
            return
        self.masters.list_peers(filter(None, map(_member, listed)))


def _leads_no_more(error: ServerFailed) -> bool:
    """Whether another master may lead by now: this one says so, is gone, or hangs."""
    return NOT_LEADER in error.detail.lower() or error.code == "UNAVAILABLE" or isinstance(error, ServerTimedOut)


def _member(listed: m.RaftListClusterServersResponse.ClusterServers) -> Address | None:
    """The address of a listed master: its name says both ports, its address the gRPC port alone."""
    for text in (listed.id, listed.address):
        try:
            named = Address.parse(text)
        except BadTask:
            continue
        is_grpc = text == listed.address and listed.id != listed.address
        return Address(named.host, named.port, named.port - GRPC_OFFSET) if is_grpc else named
    return None


class _Search:
    """Asks masters which of them leads, the first one first; those that are slow or gone cost a bounded time.

    The question is a lookup that only a leader answers: a master may be known here under another name than its own.
    Afterwards `followers` answered but do not lead, `named` are whom they follow, and `error`
    makes the last other failure, of the name of the call that it concerns.
    """

    def __init__(self, channels: Channels, masters: list[Address], leash: Leash) -> None:
        self.asked: list[Address] = []
        self.followers: list[Address] = []
        self.named: list[Address] = []
        self.error: Callable[[str], ServerFailed] | None = None
        self._channels = channels
        self._masters = masters
        self._leash = leash
        self._open: dict[Address, Any] = {}

    def run(self) -> Address | None:
        """The first that says that it leads; None where none does."""
        try:
            leader = self._first_of(self._masters[:1], HEDGE) or self._first_of(self._masters[1:], LOOK + HEDGE)
        finally:
            for future in self._open.values():
                future.cancel()
        if leader is None:
            self.named = [leader for leader in map(self._follows, self.followers[:3]) if leader is not None]
        return leader

    def _first_of(self, masters: list[Address], seconds: float) -> Address | None:
        for master in masters:
            self.asked.append(master)
            try:
                self._open[master] = self._call(master, "LookupEcVolume", m.LookupEcVolumeRequest())
            except ServerFailed as error:
                self._note(master, error.code, error.detail)
        ends = time.monotonic() + seconds
        pause = 0.001
        while self._open and time.monotonic() < ends:
            for master, future in list(self._open.items()):
                if future.done():
                    del self._open[master]
                    if self._says_that_it_leads(master, future):
                        return master
            self._leash.check()
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        return None

    def _says_that_it_leads(self, master: Address, future: Any) -> bool:
        error = future.exception()
        if error is None:
            return True
        code, detail = error.code().name, error.details() or ""
        if NOT_LEADER in detail.lower():
            self.followers.append(master)
        elif code in ("UNKNOWN", "NOT_FOUND"):
            return True  # it looked for the volume, as only a leader does
        else:
            self._note(master, code, detail)
        return False

    def _note(self, master: Address, code: str, detail: str) -> None:
        kind = ServerTimedOut if code == "DEADLINE_EXCEEDED" else ServerFailed
        self.error = lambda call: kind(str(master), call, code, detail)

    def _follows(self, master: Address) -> Address | None:
        call = self._call(master, "GetMasterConfiguration", m.GetMasterConfigurationRequest())
        try:
            return Address.parse(call.result().leader)
        except (grpc.RpcError, grpc.FutureCancelledError, BadTask):
            return None

    def _call(self, master: Address, call: str, request: Any) -> Any:
        response = {"LookupEcVolume": m.LookupEcVolumeResponse}.get(call, m.GetMasterConfigurationResponse)
        method = self._channels.to(master).unary_unary(
            f"/{MasterAt.SERVICE}/{call}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return method.future(request, timeout=LOOK)
