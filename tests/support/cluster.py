"""A SeaweedFS cluster on loopback for tests: the sandbox's servers or real `weed` processes, behind one face.

Both are started with the same command-line flags; one address per machine, 127.0.0.11, 127.0.0.12, ..., the masters
below 127.0.0.11. Tests say which volume lies where: volumes are allocated and needles uploaded server by server.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proto_gen import master_pb2 as m
from proto_gen import volume_server_pb2 as v
from proto_gen.volume_server_pb2_grpc import VolumeServerStub
from tests.support import eventually, free_port
from weed_cluster.address import Address
from weed_cluster.channels import Channels
from weed_cluster.client import Cluster as Clients
from weed_cluster.leash import Leash
from weed_cluster.master import Master
from weed_cluster.timing import Timing
from weed_cluster.volume_server import VolumeServer
from weed_core.errors import ServerFailed
from weed_sandbox.launcher import SANDBOX, Launcher

if TYPE_CHECKING:
    from weed_cluster.topology import Topology
    from weed_safety.context import Context
    from weed_safety.journal import Entry

ERAS = ("3.97", "4.13", "4.44")
ALL_SHARDS = range(14)

FIRST_KEY = 0x1000
"""Files get keys above it, so that tests may pick lower ones for files of their own."""

OPTIONS: dict[str, Any] = {}
"""Options of every context that tests make, of weed_safety.context.Options: a fixture sets them for its tests."""

TIMING: dict[str, Any] = {}
"""Waits of every client that tests make, of weed_cluster.timing.Timing: a fixture sets them for its tests."""

PATIENCE = 30
"""Seconds that a test waits for an answer over HTTP."""

LATELY = 100.0
"""Seconds ago at which files that tests write count as written, so that no job waits for late writes to them."""


@dataclass(frozen=True)
class Kind:
    """What a cluster is made of. `binary` is a `weed`, or empty for the sandbox."""

    era: str = "4.44"
    binary: str = ""

    def __str__(self) -> str:
        return f"{'real' if self.binary else 'sandbox'}-{self.era}"

    @classmethod
    def of_binary(cls, binary: str) -> Kind:
        """The era of a `weed` is the newest one that is not newer than what `weed version` prints."""
        printed = subprocess.run([binary, "version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"(\d+)\.(\d+)", printed.split("GB", 1)[-1])
        assert found, f"{binary} version printed {printed!r}"
        version = (int(found[1]), int(found[2]))
        known = [era for era in ERAS if tuple(map(int, era.split("."))) <= version]
        return cls(known[-1] if known else ERAS[0], binary)


def real_kinds() -> list[Kind]:
    """The binaries that the environment variable WEED names, separated by colons."""
    return [Kind.of_binary(binary) for binary in os.environ.get("WEED", "").split(os.pathsep) if binary]


class Files(dict[str, str]):
    """Files of a cluster: file id -> SHA-256 of its bytes. `deleted` are those that must no longer be there."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted: set[str] = set()

    @property
    def volume_ids(self) -> list[int]:
        """The volumes they lie in."""
        return sorted({int(fid.partition(",")[0]) for fid in [*self, *self.deleted]})

    def of(self, volume_id: int) -> list[str]:
        """The files that lie in one volume and still exist."""
        return [fid for fid in self if fid.startswith(f"{volume_id},")]


class Process:
    """One server process that can be killed and started again on the same address and state."""

    def __init__(self, launcher: Launcher, address: Address, argv: list[str], directory: Path) -> None:
        self.address = address
        self.directory = directory
        self.log = directory / "log"
        self._launcher = launcher
        self._argv = argv
        self._pid = 0
        self.is_frozen = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address})"

    def start(self) -> None:
        """Start it; does not wait until it serves."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._pid = self._launcher.start(self._argv, self.directory, self.log)

    @property
    def alive(self) -> bool:
        """Whether the process exists."""
        if not self._pid:
            return False
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self._end(signal.SIGTERM)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it accept connections and answer none, as a machine that hangs."""
        os.kill(self._pid, signal.SIGSTOP)
        self.is_frozen = True
        try:
            yield
        finally:
            self.resume()

    def resume(self) -> None:
        """Let it answer again."""
        self.is_frozen = False
        os.kill(self._pid, signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self.alive:
            os.kill(self._pid, number)
        eventually(lambda: not self.alive, timeout=20)


@dataclass(frozen=True)
class Machine:
    """Where a volume server stands and what it can hold. `disks` are (disk type, volume slots)."""

    data_center: str = "dc1"
    rack: str = "r1"
    disks: tuple[tuple[str, int], ...] = (("hdd", 20),)


class Server(Process):
    """A volume server."""

    def __init__(
        self, launcher: Launcher, address: Address, argv: list[str], directory: Path, machine: Machine
    ) -> None:
        super().__init__(launcher, address, argv, directory)
        self._usual = list(argv)
        self.data_center = machine.data_center
        self.rack = machine.rack
        self.data_dirs = [directory / f"disk{number}" for number in range(len(machine.disks))]

    @property
    def data_dir(self) -> Path:
        """The directory of its (first) disk."""
        return self.data_dirs[0]

    def files(self, pattern: str = "*") -> list[str]:
        """Names of the volume and shard files on its disks."""
        return sorted(path.name for folder in self.data_dirs for path in folder.glob(pattern) if _is_volume_file(path))

    def start(self) -> None:
        """Start it; does not wait until it serves."""
        for folder in self.data_dirs:
            folder.mkdir(parents=True, exist_ok=True)
        super().start()

    @property
    def has_own_flags(self) -> bool:
        """Whether flags() gave it more than its usual ones."""
        return self._argv != self._usual

    def flags(self, *more: str) -> None:
        """Give it these flags besides its usual ones when it is started next."""
        self._argv = [*self._usual, *filter(None, more)]

    def wipe(self) -> None:
        """Empty its disks; it must not be running."""
        for folder in self.data_dirs:
            shutil.rmtree(folder)


def _is_volume_file(path: Path) -> bool:
    return re.fullmatch(r".*\.(dat|idx|vif|note|cpd|cpx|cpc|ec\w+)", path.name) is not None


class Faults:
    """Makes one sandbox server misbehave, until cleared. `nth` counts the calls of the method from now, 0 = each."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def fail(
        self, method: str, nth: int = 1, code: str = "UNAVAILABLE", text: str = "made to fail", when: str = "before"
    ) -> None:
        """Answer a call with an error, before or after it took effect."""
        self._set(method=method, nth=nth, what="fail", code=code, text=text, when=when)

    def hang(self, method: str, nth: int = 1, when: str = "before") -> None:
        """Never answer a call."""
        self._set(method=method, nth=nth, what="hang", when=when)

    def slow(self, method: str, seconds: float, nth: int = 0, when: str = "before") -> None:
        """Answer late."""
        self._set(method=method, nth=nth, what="slow", seconds=seconds, when=when)

    def kill_at(self, method: str, nth: int = 1, when: str = "before") -> None:
        """Make the server end as by kill -9, before or after a call took effect; "during": in mid-stream."""
        self._set(method=method, nth=nth, what="kill", when=when)

    def lose(self, method: str, nth: int = 1, lying: bool = False) -> None:
        """Write only half of an upload, and call it a success; `lying`: tell the whole length, too."""
        self._set(method=method, nth=nth, what="lose", when="during", lying=lying)

    def compacting(self, volume_id: int) -> None:
        """Let somebody else's compaction of a volume, of the master say, be half done."""
        _control(self._address, {"compacting": volume_id})

    def remember(self, seconds: float) -> None:
        """Remember for so long where the replicas of a volume are, as real volume servers do for ten minutes."""
        _control(self._address, {"remember": seconds})

    def crowd(self, free: int) -> None:
        """Tell that each disk has so many bytes free."""
        _control(self._address, {"free": free})

    def size_limit(self, text: str) -> None:
        """Say to be another build: "8000GB" is the one with offsets of 5 bytes."""
        _control(self._address, {"size limit": text})

    def clear(self) -> None:
        """Behave again; forget the calls seen."""
        _control(self._address, {"clear": True})

    def _set(self, **fault: Any) -> None:
        _control(self._address, {"fault": fault})


def _control(address: Address, order: dict[str, Any]) -> Any:
    status, body = request(address, "POST", "/_control", json.dumps(order).encode())
    assert status == 200, body
    return json.loads(body)


def request(
    address: Address, method: str, path: str, body: bytes | None = None, timeout: float = 30.0
) -> tuple[int, bytes]:
    """One HTTP request to a server; return status and body."""
    with closing(http.client.HTTPConnection(address.host, address.port, timeout=timeout)) as connection:
        return _ask(connection, method, path, body)


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    headers = {} if body is None else {"Content-Type": "application/octet-stream"}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response.status, response.read()


@dataclass
class Cluster:
    """A running cluster. Server i has the address 127.0.0.(11+i). `options` are what every context of it is given."""

    kind: str
    era: str
    masters: list[Process]
    servers: list[Server]
    directory: Path
    _kind: Kind
    _launcher: Launcher
    options: dict[str, Any] = field(default_factory=dict)
    _admins: list[Process] = field(default_factory=list)
    _filers: list[Process] = field(default_factory=list)
    _channels: Channels = field(default_factory=Channels)
    _files: list[Files] = field(default_factory=list)
    _random: random.Random = field(default_factory=lambda: random.Random(1))
    _last_volume_id: int = 0
    _last_key: int = FIRST_KEY

    @property
    def binary(self) -> str:
        """The `weed` that it is made of; empty for the sandbox."""
        return self._kind.binary

    # ---- reaching it

    @property
    def master(self) -> Address:
        """The master, or the first one."""
        return self.masters[0].address

    def clients(self, timeout: float | None = None) -> Clients:
        """Clients for the master and every volume server, on a leash of `timeout` seconds."""
        self._channels.timing = Timing(**TIMING)
        return Clients(self._channels, [master.address for master in self.masters], Leash(timeout))

    def master_client(self) -> Master:
        """A client for the master."""
        return self.clients().master()

    def volume(self, server: Server | Address) -> VolumeServer:
        """A client for a volume server."""
        return self.clients().volume(server if isinstance(server, Address) else server.address)

    def stub(self, server: Server) -> Any:
        """The bare gRPC stub of a volume server, for calls that tasks do not make: stub.Call.future(order).result()."""
        return VolumeServerStub(self._channels.to(server.address))  # type: ignore[no-untyped-call]

    @contextmanager
    def once(self, call: str, outcome: str, act: Callable[[], object]) -> Iterator[None]:
        """Act when a client of this cluster begins a call (outcome "") or has ended it ("OK") for the first time."""
        acted: list[bool] = []

        def observe(_server: str, name: str, told: str) -> None:
            if (name, told) == (call, outcome) and not acted:
                acted.append(True)
                act()

        before, self._channels.observe = self._channels.observe, observe
        try:
            yield
        finally:
            self._channels.observe = before
        assert acted, f"{call} was never called"

    def context(self, journal: Entry | None = None, timeout: float | None = None, **options: Any) -> Context:
        """What a task gets, in the test process. `options` are those of weed_safety.context.Options, beside our own."""
        from weed_safety.context import Context, Options
        from weed_safety.journal import Journal

        return Context(
            self.clients(timeout), journal or Journal.memory(), options=Options(**OPTIONS | self.options | options)
        )

    def topology(self) -> Topology:
        """What the master knows now."""
        from weed_cluster.topology import snapshot

        return snapshot(self.master_client())

    def server_at(self, address: Address | str) -> Server:
        """The server with this address."""
        wanted = Address.parse(address) if isinstance(address, str) else address
        return next(server for server in self.servers if server.address == wanted)

    def locations(self, volume_id: int) -> list[Server]:
        """The servers that hold a volume or shards of it, as the master knows, in the order of `servers`."""
        answer = self.master_client().lookup_volume(volume_or_file_ids=[str(volume_id)]).volume_id_locations
        urls = {location.url for entry in answer for location in entry.locations}
        return [server for server in self.servers if server.address.http in urls]

    # ---- filling it

    def allocate(
        self,
        servers: Sequence[Server],
        *,
        volume_id: int = 0,
        collection: str = "",
        replication: str = "000",
        ttl: str = "",
        disk_type: str = "",
    ) -> int:
        """Make an empty volume on these servers and return its id (the next free one, unless given)."""
        if not volume_id:
            # A master makes volumes by itself, too, for what a filer writes down.
            grown = [info.id for _node, disk in self.disks() for info in disk.volume_infos] if self._filers else []
            volume_id = max(self._last_volume_id, *grown, 0) + 1
        self._last_volume_id = max(self._last_volume_id, volume_id)
        order = v.AllocateVolumeRequest(
            volume_id=volume_id, collection=collection, replication=replication, ttl=ttl, disk_type=disk_type, version=3
        )
        for server in servers:
            self.stub(server).AllocateVolume.future(order, timeout=20).result()
        eventually(lambda: set(servers) <= set(self.locations(volume_id)))
        return volume_id

    def fill(
        self,
        count: int = 20,
        size: int | tuple[int, int] = 2000,
        collection: str = "",
        replication: str = "000",
        volumes: int | Sequence[int] = 1,
        servers: Sequence[Server] | None = None,
        **allocation: Any,
    ) -> Files:
        """Write `count` files into each volume; `size` is their length in bytes, or from and to.

        `volumes` new volumes are made, or the given ones are written to; each lies on `servers`, else on the next ones
        in turn, as many as the replication wants.
        """
        files = Files()
        self._files.append(files)
        if not isinstance(volumes, int):
            for volume_id in volumes:
                self.write(files, volume_id, count, size, servers or self.locations(volume_id))
            return files
        copies = sum(map(int, replication)) + 1
        for _volume in range(volumes):
            first = self._last_volume_id
            holders = servers or [self.servers[(first + i) % len(self.servers)] for i in range(copies)]
            volume_id = self.allocate(holders, collection=collection, replication=replication, **allocation)
            self.write(files, volume_id, count, size, holders)
            if self.kind == "real" and count:
                self.age(volume_id, LATELY)  # a real server remembers the time until it opens the file anew
        return files

    def write(
        self, files: Files, volume_id: int, count: int, size: int | tuple[int, int], servers: Sequence[Server]
    ) -> None:
        """Write files into one volume of exactly these servers, so that replicas can be made to differ."""
        with ExitStack() as stack:
            connections = [stack.enter_context(closing(_connect(server.address))) for server in servers]
            for _file in range(count):
                self._last_key += 1
                fid = f"{volume_id},{self._last_key:x}{self._random.getrandbits(32):08x}"
                data = self._random.randbytes(size if isinstance(size, int) else self._random.randint(*size))
                for server, connection in zip(servers, connections):
                    status, answer = _ask(connection, "PUT", f"/{fid}?type=replicate", data)
                    assert status in (200, 201), f"writing {fid} on {server}: {status} {answer!r}"
                files[fid] = hashlib.sha256(data).hexdigest()
        self.stamp(volume_id, servers, time.time() - LATELY)

    def stamp(self, volume_id: int, servers: Iterable[Server], when: float) -> None:
        """Let a volume's data file look as if it was written last at this time, in unix seconds."""
        for server in servers:
            for folder in server.data_dirs:
                for path in folder.glob("*.dat"):
                    if re.fullmatch(rf"(.*_)?{volume_id}", path.stem):
                        os.utime(path, (when, when))

    def delete(self, fids: Iterable[str], servers: Sequence[Server] | None = None) -> None:
        """Delete files from every replica; with `servers`, only from theirs, and they are still expected elsewhere."""
        written: dict[int, Sequence[Server]] = {}
        for fid in list(fids):
            volume_id = int(fid.partition(",")[0])
            written[volume_id] = servers or written.get(volume_id) or self.locations(volume_id)
            for server in written[volume_id]:
                status, answer = request(server.address, "DELETE", f"/{fid}?type=replicate")
                assert status in (200, 202), f"deleting {fid} on {server}: {status} {answer!r}"
            if servers is None:
                for files in self._files:
                    if files.pop(fid, None):
                        files.deleted.add(fid)
        for volume_id, holders in written.items():
            self.stamp(volume_id, holders, time.time() - LATELY)

    # ---- reading it back

    def read(self, fid: str, server: Server | None = None) -> bytes:
        """A file's bytes, from one server; AssertionError unless it is served."""
        server = server or self.locations(int(fid.partition(",")[0]))[0]
        status, body = request(server.address, "GET", f"/{fid}")
        assert status == 200, f"reading {fid} from {server}: {status} {body!r}"
        return body

    def check(self, files: Files) -> None:
        """Every file reads back byte-equal from every server that holds its volume, and deleted ones are gone."""
        holders: dict[int, list[Server]] = {}

        def known() -> bool:
            holders.update({volume_id: self.locations(volume_id) for volume_id in files.volume_ids})
            return all(servers or not files.of(volume_id) for volume_id, servers in holders.items())

        eventually(known)  # a master learns of what was mounted anew by a heartbeat
        with ExitStack() as stack:
            connections = {server: stack.enter_context(closing(_connect(server.address))) for server in self.servers}
            for fid, digest in files.items():
                for server in holders[int(fid.partition(",")[0])]:
                    status, body = _ask(connections[server], "GET", f"/{fid}")
                    assert status == 200, f"reading {fid} from {server}: {status} {body!r}"
                    assert hashlib.sha256(body).hexdigest() == digest, f"{fid} on {server} has other bytes"
            for fid in files.deleted:
                for server in holders[int(fid.partition(",")[0])]:
                    status, body = _ask(connections[server], "GET", f"/{fid}")
                    assert status == 404, f"{fid} is deleted, yet {server} answers {status} with {len(body)} bytes"

    def age(self, volume_id: int, seconds: float) -> None:
        """Let a volume look as if it was written last so many seconds ago."""
        then = time.time() - seconds
        holders = self.locations(volume_id)
        for server in holders:
            client = self.volume(server)
            client.volume_unmount(volume_id=volume_id)
            self.stamp(volume_id, [server], then)
            client.volume_mount(volume_id=volume_id)
        eventually(lambda: self.locations(volume_id) == holders)

    def settle(self, timeout: float = 15.0) -> None:
        """Wait until the master knows every volume as its server does (heartbeats of real servers come each 5 s)."""
        eventually(self._is_settled, timeout)

    def _is_settled(self) -> bool:
        for node, disk in self.disks():
            for info in disk.volume_infos:
                client = self.clients().volume(node)
                try:
                    status = client.read_volume_file_status(volume_id=info.id)
                    read_only = client.volume_status(volume_id=info.id).is_read_only
                except ServerFailed:
                    return False
                if (info.size, info.compact_revision, info.read_only) != (
                    status.dat_file_size,
                    status.compaction_revision,
                    read_only,
                ):
                    return False
        return True

    def disks(self) -> list[tuple[Address, m.DiskInfo]]:
        """What the master lists: each disk type of each server."""
        topology = self.master_client().volume_list().topology_info
        return [
            (Address.parse(f"{node.address or node.id}{f'.{node.grpc_port}' if node.grpc_port else ''}"), disk)
            for data_center in topology.data_center_infos
            for rack in data_center.rack_infos
            for node in rack.data_node_infos
            for disk in node.diskInfos.values()
        ]

    # ---- misbehaviour, and what was seen (sandbox only)

    def maintenance(self, server: Server, on: bool) -> None:
        """Put a volume server into maintenance mode or out of it; servers from 4.13 on have it."""
        state = self.volume(server).get_state().state
        order = v.SetStateRequest(state=v.VolumeServerState(maintenance=on, version=state.version))
        self.stub(server).SetState.future(order, timeout=20).result()

    def guard(self, server: Server, *friends: str) -> None:
        """Start a volume server anew that takes orders from these hosts only; servers of 4.44 have such a list."""
        server.stop()
        server.flags(f"-whiteList={','.join(friends)}" if friends else "")
        self.start()

    def lead(self, master: Address) -> None:
        """Make another master of the sandbox the leader."""
        for process in self.masters:
            if process.alive and not process.is_frozen:
                _control(process.address, {"leader": str(master)})

    def locks(self, master: Address) -> list[str]:
        """The names of the leases that a master of the sandbox has given."""
        return list(_control(master, {})["locks"])

    def holds_vacuum_off(self, master: Address) -> bool:
        """Whether a master of the sandbox was told to leave vacuuming to others."""
        return any(_control(master, {})["vacuum_disabled"].values())

    def faults(self, server: Server | Address) -> Faults:
        """Misbehaviour of a server, or of the master."""
        assert self.kind == "sandbox", "only the sandbox misbehaves on demand"
        return Faults(server if isinstance(server, Address) else server.address)

    def calls(self, server: Server | Address) -> list[tuple[str, dict[str, Any]]]:
        """The RPCs that a sandbox server has seen since it was started or cleared: (method, request)."""
        assert self.kind == "sandbox", "only the sandbox tells what it saw"
        address = server if isinstance(server, Address) else server.address
        return [(method, order) for method, order in _control(address, {"calls": True})]

    # ---- its life

    def start_admin(self, dialect: str = "", *flags: str) -> Admin:
        """Start `weed admin`, or the sandbox's admin of a dialect ("classic", "plugin"; default: the era's own)."""
        dialect = dialect or ("plugin" if self.era == "4.44" else "classic")
        port = free_port()
        directory = self.directory / f"admin{len(self._admins)}"
        address = Address.parse(f"127.0.0.1:{port}")
        if self._kind.binary:
            assert dialect == ("plugin" if self.era == "4.44" else "classic"), f"weed {self.era} does not speak it"
            masters = "-masters" if self.era == "3.97" else "-master"
            argv = [self._kind.binary, "admin", f"{masters}={self.master}", f"-dataDir={directory}"]
        else:
            argv = [SANDBOX, "admin", f"-dialect={dialect}", f"-master={self.master}", f"-dataDir={directory}"]
            argv += [f"-era={self.era}"] if self.era != "4.44" else []
        argv += [f"-port={port}", f"-port.grpc={port + 10000}", *flags]
        admin = Admin(self._launcher, address, argv, directory)
        self._admins.append(admin)
        admin.start()
        eventually(lambda: _serves(address), timeout=30)
        return admin

    def start_filer(self) -> Process:
        """Start a filer, and wait until the master lists it. It is there until the cluster is reset."""
        port = free_port()
        directory = self.directory / f"filer{len(self._filers)}"
        address = Address.parse(f"127.0.0.1:{port}.{port + 10000}")
        argv = [self._kind.binary or SANDBOX, "filer", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-port={port}"]
        argv += [f"-port.grpc={port + 10000}", f"-master={','.join(str(one.address) for one in self.masters)}"]
        argv += ["-defaultStoreDir=."] if self._kind.binary else [f"-era={self.era}"]
        filer = Process(self._launcher, address, argv, directory)
        self._filers.append(filer)
        filer.start()

        def is_listed() -> bool:
            nodes = self.master_client().list_cluster_nodes(client_type="filer").cluster_nodes
            return address in [Address.parse(node.address) for node in nodes] and _serves(address)

        eventually(is_listed, timeout=30)
        return filer

    def _end_filers(self) -> None:
        for filer in self._filers:
            filer.kill()
            shutil.rmtree(filer.directory, ignore_errors=True)
        had = bool(self._filers)
        self._filers.clear()
        if had and self.masters[0].alive:
            eventually(lambda: not self.master_client().list_cluster_nodes(client_type="filer").cluster_nodes, 30)

    def start(self) -> None:
        """Start whatever is not running, and wait until the master knows every server."""
        for process in [*self.masters, *self.servers]:
            if not process.alive:
                process.start()
        self.ready()

    def ready(self, timeout: float = 30.0) -> None:
        """Wait until the master knows every server, and all masters that run serve."""
        eventually(self._is_ready, timeout)

    def _is_ready(self) -> bool:
        try:
            nodes = {node for node, disk in self.disks() if disk.max_volume_count}
        except ServerFailed:
            return False
        if broken := next((server for server in self.servers if not server.alive), None):
            raise AssertionError(f"{broken} ended: {broken.log.read_text()[-3000:]}")
        asked = [*(master for master in self.masters if master.alive and not master.is_frozen), *self.servers]
        return nodes >= {server.address for server in self.servers} and all(_serves(one.address) for one in asked)

    def reset(self) -> None:
        """Make a used cluster like new: everything runs, nothing misbehaves, no volume is left."""
        for admin in self._admins:
            admin.kill()
            shutil.rmtree(admin.directory, ignore_errors=True)
        self._admins.clear()
        self._end_filers()
        for server in self.servers:
            if server.has_own_flags:
                server.kill()
                server.flags()
        if self.kind == "sandbox":
            for process in [*self.masters, *self.servers]:
                if process.alive:
                    Faults(process.address).clear()
        if self.masters[0].alive:
            self._delete_volumes()
        for server in self.servers:
            if not server.alive or server.files() or self._is_off(server):
                server.kill()
                server.wipe()
        self._files.clear()
        self.start()
        eventually(self._is_empty, 30)

    def _is_empty(self) -> bool:
        """Whether the master lists nothing; what a server told only now is deleted."""
        if not any(disk.volume_infos or disk.ec_shard_infos for _node, disk in self.disks()):
            return True
        self._delete_volumes()
        return False

    def _is_off(self, server: Server) -> bool:
        if self.era == "3.97":
            return False
        return bool(self.volume(server).get_state().state.maintenance)

    def _delete_volumes(self) -> None:
        for address, disk in self.disks():
            client = self.volume(address)
            for volume in disk.volume_infos:
                with suppress(ServerFailed):  # what is left over is seen on disk
                    client.volume_delete(volume_id=volume.id)
            for shards in disk.ec_shard_infos:
                with suppress(ServerFailed):
                    client.volume_ec_shards_unmount(volume_id=shards.id, shard_ids=ALL_SHARDS)
                    client.volume_ec_shards_delete(
                        volume_id=shards.id, collection=shards.collection, shard_ids=ALL_SHARDS, full_teardown=True
                    )

    def close(self) -> None:
        """Kill everything and remove its state."""
        self._channels.close()
        for process in [*self._admins, *self._filers, *self.servers, *self.masters]:
            process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class Admin(Process):
    """An admin server: `address.http` is its page and API, `address.grpc` where workers connect."""

    def get(self, path: str) -> Any:
        """GET a JSON document."""
        status, body = request(self.address, "GET", path)
        assert status == 200, f"{path}: {status} {body!r}"
        return json.loads(body)

    def post(self, path: str, document: Any = None) -> Any:
        """POST a JSON document, return the answer's; a run is waited for as long as its document lets it take."""
        with closing(_connect(self.address)) as connection:
            connection.timeout = PATIENCE + int((document or {}).get("timeout_seconds", 0))
            connection.request("POST", path, json.dumps(document or {}), {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
        assert response.status < 300, f"{path}: {response.status} {body!r}"
        return json.loads(body or b"null")

    def configure(self, job_type: str, **values: bool | int | float | str) -> None:
        """Set fields of its forms, as an operator does; the admin looks for work only when it is told to."""
        path = f"/api/plugin/job-types/{job_type}/config"
        config = self.get(path)
        for name, value in values.items():
            forms = [config[f"{whose}_config_values"] for whose in ("worker", "admin")]
            form = next(form for form in forms if name in form)
            kind = {bool: "bool_value", int: "int64_value", float: "double_value", str: "string_value"}[type(value)]
            form[name] = {kind: str(value) if kind == "int64_value" else value}
        config["admin_runtime"]["enabled"] = False
        status, body = request(self.address, "PUT", path, json.dumps(config).encode())
        assert status == 200, body


def _connect(address: Address) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(address.host, address.port, timeout=PATIENCE)


def _serves(address: Address) -> bool:
    try:
        request(address, "GET", "/status", timeout=5)
    except OSError:
        return False
    return True


def start_cluster(
    kind: Kind,
    launcher: Launcher,
    directory: Path,
    *,
    servers: int | Sequence[Machine] = 3,
    racks: Sequence[str] = (),
    masters: int = 1,
    volume_size_limit_mb: int = 64,
    replication: str = "000",
    grpc_offset: int = 10000,
    master_toml: str = "",
    volume_flags: Sequence[str] = (),
) -> Cluster:
    """Start a cluster and wait until its master knows every server.

    `racks` names the servers' racks, "rack" or "data center/rack", in turn. `grpc_offset` moves the gRPC ports away
    from where SeaweedFS has them by default. `master_toml` is the master's configuration file.
    """
    machines = [Machine()] * servers if isinstance(servers, int) else list(servers)
    if racks:
        named = [racks[i % len(racks)].rpartition("/") for i in range(len(machines))]
        machines = [Machine(name[0] or "dc1", name[2], machine.disks) for name, machine in zip(named, machines)]
    master_hosts = [f"127.0.0.{10 - i}" for i in range(masters)]
    hosts = [f"127.0.0.{11 + i}" for i in range(len(machines))]
    port = free_port([*master_hosts, *hosts], grpc_offset)
    program = [kind.binary] if kind.binary else [SANDBOX]

    def argv(role: str, host: str, *flags: str) -> list[str]:
        names = [f"-ip={host}", f"-ip.bind={host}", f"-port={port}", f"-port.grpc={port + grpc_offset}"]
        return [*program, role, *names, *flags, *([] if kind.binary else [f"-era={kind.era}"])]

    def address(host: str) -> Address:
        return Address.parse(f"{host}:{port}.{port + grpc_offset}")

    master_flags = [
        "-mdir=.",
        f"-volumeSizeLimitMB={volume_size_limit_mb}",
        f"-defaultReplication={replication}",
        "-electionTimeout=1s",
        "-heartbeatInterval=100ms",
    ]
    if kind.binary and kind.era == "3.97":
        # Its usual raft waits 20 s for a leader that cannot be there yet.
        master_flags += ["-raftHashicorp", "-raftBootstrap"]
    if masters > 1:
        master_flags.append("-peers=" + ",".join(str(address(host)) for host in master_hosts))
    volume_master = "-mserver" if kind.era == "3.97" else "-master"
    run = Cluster("real" if kind.binary else "sandbox", kind.era, [], [], directory, kind, launcher)
    for host in master_hosts:
        folder = directory / f"master-{host}"
        folder.mkdir(parents=True)
        growth = "[master.volume_growth]\ncopy_1 = 1\ncopy_2 = 1\ncopy_3 = 1\ncopy_other = 1\n"
        (folder / "master.toml").write_text(growth + master_toml)
        run.masters.append(Process(launcher, address(host), argv("master", host, *master_flags), folder))
    for host, machine in zip(hosts, machines):
        folder = directory / f"volume-{host}"
        volume_options = [
            "-dir=" + ",".join(f"disk{i}" for i in range(len(machine.disks))),
            "-disk=" + ",".join(disk_type for disk_type, _slots in machine.disks),
            "-max=" + ",".join(str(slots) for _disk_type, slots in machine.disks),
            f"{volume_master}=" + ",".join(str(master.address) for master in run.masters),
            f"-dataCenter={machine.data_center}",
            f"-rack={machine.rack}",
            "-readMode=local",
            "-minFreeSpace=0",
            "-preStopSeconds=0",
            *volume_flags,
        ]
        run.servers.append(Server(launcher, address(host), argv("volume", host, *volume_options), folder, machine))
    try:
        run.start()
    except BaseException:
        run.close()
        raise
    return run
