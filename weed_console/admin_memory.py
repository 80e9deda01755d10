"""Which volume servers an admin's records name, with the volumes that were on them then.

A master forgets a server as soon as its stream breaks. An admin keeps, over restarts, the jobs of the last days with
their sources and targets (1,000 of the plugin dialect; a classic one all that it has not cleaned up), and what
detection said of each volume (the last 4,000 lines). So a server that is named there and is not in the cluster was
lost or taken away since. Seen on 3.97, 4.13 and 4.44. Asks over HTTP and changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from google.protobuf.json_format import ParseDict, ParseError

from proto_gen.worker_pb2 import TaskParams
from weed_cluster import admin as admin_http
from weed_cluster.address import Address
from weed_cluster.past import Server, ranges
from weed_console.admin_jobs import LISTED, listed, params_of, plain, state_of
from weed_core.errors import BadTask
from weed_core.job_types import named
from weed_core.values import as_int, unix_seconds

ASKED = 300
"""Jobs of the plugin dialect of which an admin is asked for the servers: its newest."""

LINES = 4000
"""Lines of detection that are read: an admin keeps no more."""

AT_ONCE = 8
"""Jobs asked for at once."""

MOVES = ("balance", "ec_balance")
"""Types whose job, when it is done, leaves nothing on its source."""


@dataclass(frozen=True)
class Sighting:
    """At one moment a volume (`shards`: bits of its shards, 0 for the volume itself) was on servers, off others."""

    when: float  # Unix seconds
    volume_id: int
    on: tuple[Address, ...]
    off: tuple[Address, ...] = ()
    shards: Mapping[Address, int] = field(default_factory=dict)


def servers(admin: Address, dialect: str) -> dict[Address, Server]:
    """What an admin's records tell of each server: when it was named last, and what was on it, as far as is known."""
    return _last_of((_plugin if dialect == "plugin" else _classic)(admin))


def _plugin(admin: Address) -> Iterator[Sighting]:
    jobs = listed(admin, f"/api/plugin/jobs?limit={LISTED}")[:ASKED]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for job, detail in zip(jobs, pool.map(lambda job: _detail(admin, job), jobs)):
            params, told = params_of(detail), detail.get("parameters")
            told = told if isinstance(told, dict) else {}
            params.volume_id = params.volume_id or as_int(plain(told.get("volume_id")), 0, 0)
            server = plain(told.get("server"))
            yield from _of_job(_type(job), state_of(job.get("state")) == "done", _when(job), params, server)
    for line in listed(admin, f"/api/plugin/activities?limit={LINES}"):
        details = line.get("details")
        if isinstance(details, dict) and str(line.get("stage", "")).startswith("decision"):
            volume_id, server = as_int(plain(details.get("volume_id")), 0, 0), plain(details.get("server"))
            yield from _seen(_time(line.get("occurred_at")), volume_id, [server])


def _detail(admin: Address, job: Mapping[str, Any]) -> Mapping[str, Any]:
    _code, answer = admin_http.get(admin, f"/api/plugin/jobs/{quote(str(job.get('job_id', '')), safe='')}/detail")
    detail = answer.get("job") if isinstance(answer, dict) else None
    return detail if isinstance(detail, dict) else {}


def _classic(admin: Address) -> Iterator[Sighting]:
    for task in listed(admin, "/api/maintenance/tasks"):
        params = TaskParams()
        typed = task.get("typed_params")
        try:
            ParseDict(typed if isinstance(typed, dict) else {}, params, ignore_unknown_fields=True)
        except (ParseError, TypeError, ValueError):
            params = TaskParams()
        params.volume_id = params.volume_id or as_int(task.get("volume_id"), 0, 0)
        yield from _of_job(_type(task), state_of(task.get("status")) == "done", _when(task), params, task.get("server"))


def _of_job(kind: str, is_done: bool, when: float, params: TaskParams, server: Any) -> Iterator[Sighting]:
    """What a job tells of the places of its volumes: after it where it was done, else before it."""
    for move in params.balance_params.moves:
        there, away = (move.target_node, move.source_node) if is_done else (move.source_node, "")
        yield from _seen(when, move.volume_id, [there], [away])
    sources, targets = list(params.sources), list(params.targets)
    bits = {address: _bits(place.shard_ids) for place in targets for address in _addresses([place.node])}
    if is_done and any(bits.values()):
        off = [source.node for source in sources] if kind != "ec_repair" else []
        yield from _seen(when, params.volume_id, [target.node for target in targets], off, bits)
    elif not any(source.shard_ids for source in sources):
        on = [source.node for source in sources] or [server]
        if is_done and targets:
            on = [target.node for target in targets] + ([] if kind in MOVES else on)
        off = [source.node for source in sources] if is_done and targets and kind in MOVES else []
        yield from _seen(when, params.volume_id, on, off)


def _seen(
    when: float,
    volume_id: int,
    on: Sequence[Any],
    off: Sequence[Any] = (),
    shards: Mapping[Address, int] | None = None,
) -> Iterator[Sighting]:
    if when and volume_id:
        yield Sighting(when, volume_id, _addresses(on), _addresses(off), shards or {})


def _last_of(sightings: Iterable[Sighting]) -> dict[Address, Server]:
    """By server, what the newest word about each volume put there."""
    named_at: dict[Address, float] = defaultdict(float)
    places: dict[int, dict[Address, int]] = defaultdict(dict)
    for sighting in sorted(sightings, key=lambda one: one.when):
        held = places[sighting.volume_id]
        for address in sighting.off:
            held.pop(address, None)
        for address in sighting.on:
            bits = sighting.shards.get(address, 0)
            held[address] = held.get(address, 0) | bits if bits else 0
        for address in (*sighting.on, *sighting.off):
            named_at[address] = max(named_at[address], sighting.when)
    return {
        address: Server(
            when,
            volumes=ranges(number for number, held in places.items() if held.get(address) == 0),
            shards={number: held[address] for number, held in places.items() if held.get(address)},
        )
        for address, when in named_at.items()
    }


def _addresses(names: Iterable[Any]) -> tuple[Address, ...]:
    found = []
    for name in names:
        try:
            found.append(Address.parse(str(name or "")))
        except BadTask:
            continue
    return tuple(found)


def _bits(shard_ids: Iterable[int]) -> int:
    return sum(1 << shard for shard in set(shard_ids) if shard < 32)


def _type(job: Mapping[str, Any]) -> str:
    return named(str(job.get("job_type") or job.get("type") or ""))


def _when(job: Mapping[str, Any]) -> float:
    return next(filter(None, (_time(job.get(key)) for key in ("completed_at", "updated_at", "created_at"))), 0.0)


def _time(value: Any) -> float:
    try:
        return unix_seconds(value) if isinstance(value, str) else 0.0
    except ValueError:
        return 0.0
