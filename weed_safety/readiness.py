"""Whether volume servers take orders just now: one question, for a job before it begins and for detection.

Only a server knows that it is in maintenance mode or does not trust this host; the master goes on listing it. Knows
nothing of what is to be ordered.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from proto_gen.volume_server_pb2 import VolumeServerStatusResponse
from weed_cluster.address import Address
from weed_cluster.topology import Topology
from weed_core.errors import ServerFailed, StaleTask, TaskError
from weed_core.model import Detection, DetectionRequest, Job, Proposal, Skipped
from weed_core.release import Generation, server_generation
from weed_safety.context import Context
from weed_safety.lease import holders_of
from weed_safety.parameters import servers_known
from weed_safety.untold import KEY

ASK = 5.0
"""Deadline in seconds of each question of a detection."""

AT_ONCE = 16
"""Servers asked at once."""

BUDGET = 30.0
"""Seconds after which a detection asks no further server; a job asks again before it begins."""

SETBACK = "failed before"
"""The key of volumes passed over because jobs on them failed."""

HELD = "held by a job"
"""The key of volumes passed over because another worker's job holds them."""

MOST_LEASES = 50
"""Read-only volumes of one detection whose leases are asked for."""

ROUNDS = 8
"""Plans made anew because servers of the one before refuse; then what is left of it is passed over."""


@dataclass(frozen=True)
class Answer:
    """What a server says of itself. `refusal` says why it takes no orders; `is_silent`: it did not answer."""

    generation: Generation = Generation.V3_97
    status: VolumeServerStatusResponse = field(default_factory=VolumeServerStatusResponse)
    refusal: str = ""
    is_silent: bool = False


Answers = Mapping[Address, Answer]


def ask(ctx: Context, server: Address, timeout: float = ASK) -> Answer:
    """Ask a server whether it takes orders from here; ServerFailed where it does not answer."""
    volume = ctx.volume(server)
    status = volume.volume_server_status(timeout=timeout)
    generation, refusal = server_generation(status.version), ""
    if status.state.maintenance:
        refusal = f"volume server {server} is in maintenance mode and refuses changes"
    elif generation >= Generation.V4_44:
        try:
            volume.volume_needle_status(volume_id=0, timeout=timeout)  # asks for rights first, and there is no volume 0
        except ServerFailed as error:
            if error.code == "PERMISSION_DENIED":
                refusal = (
                    f"volume server {server} takes no orders from this host ({error.detail}); add this host's address "
                    "to -whiteList of that server"
                )
    return Answer(generation, status, refusal)


def check_ready(ctx: Context, server: Address) -> Generation:
    """Return a server's release; StaleTask if it takes no orders from here, ServerFailed if it does not answer."""
    answer = ask(ctx, server, timeout=20.0)
    if answer.refusal:
        raise StaleTask(answer.refusal)
    return answer.generation


def answer_of(ctx: Context, server: Address) -> Answer:
    """Ask a server; one that does not answer refuses."""
    try:
        return ask(ctx, server)
    except TaskError as error:
        return Answer(refusal=f"volume server {server} does not answer: {error}", is_silent=True)


def close_refusing(ctx: Context, topology: Topology, servers: Iterable[Address]) -> dict[Address, Answer]:
    """Ask servers side by side and close in the topology those that refuse; the silent ones' answers say so."""
    todo = list(dict.fromkeys(servers))
    answers = dict(zip(todo, ctx.each(lambda server: answer_of(ctx, server), todo, AT_ONCE)))
    for server, found in answers.items():
        if found.refusal:
            topology.close(server, found.refusal, found.is_silent)
        node = topology.node_at(server)
        for disk in node.disks.values() if node else ():
            # A server tells its directories in the order of its disk ids.
            disk.free_by_disk = {number: told.free for number, told in enumerate(found.status.disk_statuses)}
    return answers


def settle(
    ctx: Context,
    request: DetectionRequest,
    topology: Topology,
    job_type: str,
    plan: Callable[[], Detection],
    objection: Callable[[Proposal, Answers], str] = lambda _proposal, _answers: "",
    spares_silent: bool = False,
) -> Detection:
    """Plan until every server that would take part says that it does; each is asked once, and none that does not.

    `plan` looks at the topology, in which servers that refuse are closed, and is called again where one does.
    `objection` says what else the answers have against a proposal. What is still objected to is passed over.
    `spares_silent`: a holder of the volume need not answer.
    """
    _heed(request, topology)
    answers: dict[Address, Answer] = {}
    ends = time.monotonic() + BUDGET
    for _round in range(ROUNDS):
        found = plan()
        fresh = [
            server
            for server in dict.fromkeys(
                server for proposal in found.proposals for server in _parties(proposal, job_type, topology)
            )
            if server not in answers
        ]
        if time.monotonic() > ends:
            fresh = []
        for start in range(0, len(fresh), 4 * AT_ONCE):
            if time.monotonic() > ends:
                ctx.log(f"{len(fresh) - start} servers were not asked whether they take orders; jobs will")
                break
            answers |= close_refusing(ctx, topology, fresh[start : start + 4 * AT_ONCE])
        objections = {
            proposal.id: words
            for proposal in found.proposals
            if (words := _against(proposal, job_type, topology, answers, spares_silent) or objection(proposal, answers))
        }
        if not objections or not fresh:
            break
    return _with_holders(ctx, _without(found, job_type, objections))


def _with_holders(ctx: Context, found: Detection) -> Detection:
    """Say of volumes that are read-only for no known reason whose job holds them now, where masters tell one."""
    untold = [skip.volume_id for skip in found.skipped if skip.key == KEY]
    held = holders_of(ctx.cluster, untold[:MOST_LEASES])
    if not held:
        return found
    skipped = [
        replace(skip, reason=f"volume {skip.volume_id} is read-only while {held[skip.volume_id]} works on it", key=HELD)
        if skip.key == KEY and skip.volume_id in held
        else skip
        for skip in found.skipped
    ]
    return replace(found, skipped=skipped)


def _heed(request: DetectionRequest, topology: Topology) -> None:
    """Note in the topology what failed before, as far as it is still the same thing."""
    for name, words in request.avoided.items():
        for server in servers_known([name], topology):
            topology.close(server, words)
    shards: dict[int, set[Address]] = defaultdict(set)
    for (volume_id, _collection), holdings in topology.ec.items() if request.setbacks else ():
        shards[volume_id].update(one.server for one in holdings)
    for volume_id, setback in request.setbacks.items():
        then = servers_known(setback.holders, topology)
        now = shards[volume_id].union(one.server for one in topology.replicas(volume_id))
        if len(then) < len(setback.holders) or not now.issuperset(then):
            continue
        if setback.words:
            topology.barred[volume_id] = setback.words
        else:
            topology.late.add(volume_id)


def _parties(proposal: Proposal, job_type: str, topology: Topology) -> list[Address]:
    """The servers that a proposal names, and those that hold its volumes."""
    params = proposal.params
    names = [row.node for row in params.sources] + [row.node for row in params.targets]
    for moves in (params.balance_params.moves, params.ec_balance_params.moves):
        names += [name for move in moves for name in (move.source_node, move.target_node)]
    names.append(params.ec_balance_params.dedup_keep_node)
    named = [Address.parse(name) for name in dict.fromkeys(names) if name]
    holders = [
        replica.server for volume_id in _volume_ids(proposal, job_type) for replica in topology.replicas(volume_id)
    ]
    return list(dict.fromkeys([*named, *holders]))


def _volume_ids(proposal: Proposal, job_type: str) -> tuple[int, ...]:
    return Job(proposal.id, job_type, proposal.params, proposal.parameters).volume_ids


def _against(proposal: Proposal, job_type: str, topology: Topology, answers: Answers, spares_silent: bool) -> str:
    volume_ids = _volume_ids(proposal, job_type)
    spared = {one.server for number in volume_ids for one in topology.replicas(number)} if spares_silent else set()
    for server in _parties(proposal, job_type, topology):
        answer = answers.get(server)
        if answer and answer.refusal and not (answer.is_silent and server in spared):
            return f"{', '.join(f'volume {number}' for number in volume_ids)}: {answer.refusal}"
    return ""


def _without(found: Detection, job_type: str, objections: Mapping[str, str]) -> Detection:
    """Turn the proposals that are objected to into volumes passed over."""
    if not objections:
        return found
    skipped = [
        Skipped(
            volume_id,
            objections[proposal.id],
            "not ready",
            proposal.params.collection,
            proposal.params.sources[0].node if proposal.params.sources else "",
            proposal.params.volume_size,
        )
        for proposal in found.proposals
        if proposal.id in objections
        for volume_id in _volume_ids(proposal, job_type)
    ]
    kept = [proposal for proposal in found.proposals if proposal.id not in objections]
    return replace(found, proposals=kept, skipped=[*found.skipped, *skipped])
