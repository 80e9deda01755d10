"""Repairing one volume, step by step; each begins with a fresh look, and nothing unproved elsewhere is given up.

First every holder is told what was deleted, since a holder's journal goes with its last shard. Then what lies beside
shards is mended, lost shards that are on some disk are taken back, those that are nowhere are computed, bad ones are
replaced, and what is there twice goes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from weed_cluster.address import Address
from weed_cluster.rates import Bucket
from weed_cluster.topology import Topology, ec_locations
from weed_core.errors import Mismatch, ServerFailed, TaskError
from weed_core.findings import EC_DELETIONS, EC_INDEX, EC_SHARD, Finding
from weed_core.model import Result
from weed_ec.deletions import deletions_of, tell_all
from weed_ec.deliver import deliver
from weed_ec.places import choose_places
from weed_ec.reader import Copy, ShardReader
from weed_ec.shards import ShardSet, await_senders, fetch, file_time, look, remove_some, send
from weed_ec.stream import Slot
from weed_ec.witness import prove_ten, why_file_wrong, why_wrong
from weed_safety import findings
from weed_safety.context import Context
from weed_safety.lease import Lease
from weed_safety.readiness import close_refusing
from weed_storage.ec_layout import DATA_SHARDS, MOST_TOGETHER, TOTAL_SHARDS
from weed_storage.volume_info import dump_vif
from weed_tasks.ec_repair.beside import give_sums, is_about_sums, lacks, may_have_sums, mend
from weed_tasks.ec_repair.scene import Scene, hidden, see

BETWEEN = 5
"""Servers without anything of the volume that are tried as places in between."""


@dataclass(frozen=True)
class RepairOrder:
    """What one job should do. `shards` are those to restore if they are lost; empty for all. `rate` is bytes/s."""

    volume_id: int
    collection: str
    shards: tuple[int, ...] = ()
    rate: int = 0


@dataclass
class Repair:
    """One repair under way, under the volume's lease."""

    ctx: Context
    order: RepairOrder
    topology: Topology
    lease: Lease
    told: Sequence[Finding]
    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    restored: dict[int, Address] = field(default_factory=dict)
    settled: list[Finding] = field(default_factory=list)
    _beside: set[Address] = field(default_factory=set)
    _may_be_few: bool = True
    _scene: Scene | None = None

    @property
    def scene(self) -> Scene:
        """The last look."""
        if self._scene is None:
            order, more = self.order, {*self.restored.values()} | self._beside
            self._scene = see(self.ctx, self.topology, order.volume_id, order.collection, more, self._may_be_few)
            self._beside |= {held.server for held in self._scene.run.holders}  # whether the master knows them or not
        return self._scene

    def _changed(self) -> None:
        """What was seen is not what is there any more."""
        self._scene = None

    def carry_out(self) -> Result:
        """Do all there is to do; return what was done and what was left, and why."""
        ctx = self.ctx
        ctx.progress(0.02, "looking at the shards")
        if len(self.scene.run.copies) < DATA_SHARDS:
            if self.scene.run.sums is not None:
                self._adopt_hidden()
            self._changed()  # and unless files that were not mounted make up for it, that is all
        self._may_be_few = False
        self._note_strangers()
        self._tell_deletions()
        self._mend_beside()
        self._adopt_hidden()
        bad = self._bad_copies()
        bad |= self._restore(bad)
        self._replace(bad)
        ctx.progress(0.85, "looking at the shards again")
        self._sweep()
        self._trim()
        self._give_sums()
        self._tell_deletions()
        ctx.progress(0.95, "waiting until the master shows the shards")
        self._await_master()
        ctx.progress(1.0, "done")
        return self._result()

    # -- what was deleted

    def _tell_deletions(self) -> None:
        ctx, scene = self.ctx, self.scene
        ctx.progress(0.05, "telling every holder what was deleted")
        try:
            count = tell_all(ctx, scene.run)
        except ServerFailed as error:
            self.left.append(f"not every holder could be told what was deleted: {error}")
            return
        self.settled += [one for one in self.told if one.kind == EC_DELETIONS]
        if count:
            self.done.append(f"told holders {count} deletions that only others knew")

    # -- beside the shards

    def _mend_beside(self) -> None:
        failed: list[str] = []
        for lack in lacks(self.ctx, self.scene):
            try:
                self.done.append(mend(self.ctx, self.scene, lack, self.lease))
                self._changed()
            except ServerFailed as error:
                failed.append(f"{lack.words}: {error}")
            except TaskError as error:
                failed.append(str(error))
        self.left += [words for words in dict.fromkeys(failed) if words not in self.left]  # one for all holders, say
        for held in self.scene.unknown:
            self.topology.close(held.server, f"{held.server} has shards of {self.scene.run.name} of an unknown run")
        if not failed:
            self.settled += [one for one in self.told if one.kind == EC_INDEX and one.server]

    def _give_sums(self) -> None:
        """Give a volume the `.ecsum` that a scrub found it never had; all its shards are read for that."""
        told = [one for one in self.told if is_about_sums(one)]
        if told and may_have_sums(self.scene):
            try:
                self.done.append(give_sums(self.ctx, self.scene, self.lease))
            except TaskError as error:
                self.left.append(f"no .ecsum was made: {error}")
                return
            self._changed()
            self._mend_beside()
        if self.scene.run.sums is not None:
            self.settled += told

    # -- shards that are on some disk

    def _adopt_hidden(self) -> None:
        ctx = self.ctx
        if not self.scene.lost:
            return
        ctx.progress(0.08, "having servers look for shards that they do not serve")
        for server, shard in hidden(ctx, self.scene):
            if shard in self.scene.lost:
                self._adopt(server, shard)

    def _adopt(self, server: Address, shard: int) -> None:
        """Have a server serve a shard that lies unmounted on its disk, if it is what the others make it."""
        ctx, run = self.ctx, self.scene.run
        held = look(ctx, server, run.volume_id, run.collection)
        where = f"the file of shard {shard} that lies unmounted on {server}"
        if held.run not in (0, run.run):
            self.left.append(f"{where} is of another encode run, {held.run}")
            return
        try:
            why = why_file_wrong(ctx, run, (server, shard))
        except Mismatch as error:
            why = str(error)
        self._beside.add(server)
        if why:
            ctx.log(f"{where} is not used: {why}")
            self._changed()
            return
        volume = ctx.volume(server)
        self.lease.check()
        if not held.mounted:
            if held.vif is None:
                send(volume, run.volume_id, run.collection, ".vif", dump_vif(run.vif, held.generation))
            if file_time(volume, run.volume_id, run.collection, ".ecx") is None:
                known = deletions_of(ctx, run)
                if known.index_from is None:
                    return
                index = fetch(ctx.volume(known.index_from), run.volume_id, run.collection, ".ecx") or b""
                send(volume, run.volume_id, run.collection, ".ecx", index)
        volume.volume_ec_shards_mount(volume_id=run.volume_id, collection=run.collection, shard_ids=[shard])
        if look(ctx, server, run.volume_id, run.collection).mounted.get(shard) != run.shard_size:
            raise Mismatch(f"shard {shard} of {run.name} on {server} is of another size once it is mounted")
        self.done.append(f"shard {shard} was there, unmounted, on {server}")
        self._changed()

    # -- shards that are bad

    def _bad_copies(self) -> set[Copy]:
        """Copies of a wrong size, and those that were found bad and are so."""
        ctx, scene = self.ctx, self.scene
        bad = {*scene.wrong_size}
        for finding in self.told:
            if finding.kind != EC_SHARD:
                continue
            copies = scene.run.copies.get(finding.shard_id, ())
            server = next((one for one in copies if str(one) == finding.server), None)
            if server is None:
                self.settled.append(finding)  # it is not there any more
                continue
            ctx.progress(0.09, f"looking whether shard {finding.shard_id} on {server} is bad")
            try:
                why = why_wrong(ctx, scene.run, (server, finding.shard_id), avoid=bad)
            except (ServerFailed, Mismatch) as error:
                self.left.append(
                    f"shard {finding.shard_id} on {server} was found bad, which cannot be told now: {error}"
                )
                continue
            self.settled.append(finding)  # a bad one is replaced, or the job fails
            if why:
                bad.add((server, finding.shard_id))
            else:
                ctx.log(f"shard {finding.shard_id} on {server} is sound; a scrub had said: {finding.words}")
        return bad

    def _replace(self, bad: Collection[Copy]) -> None:
        """Replace bad copies, having proved ten others first; where a sound one is elsewhere, the bad one just goes."""
        ctx = self.ctx
        todo = sorted(filter(self._is_there, bad), key=lambda copy: (copy[1], str(copy[0])))
        for start in range(0, len(todo), MOST_TOGETHER):
            copies = todo[start : start + MOST_TOGETHER]
            run = self.scene.run
            reader = prove_ten(ctx, run, {shard for _server, shard in copies}, [*bad])
            for server, shard in copies:
                self._give_up(server, shard)
            wanted = {shard: Slot(server) for server, shard in copies if not self._sound_elsewhere(server, shard, bad)}
            if wanted:
                again = ShardReader(ctx, run, [*bad, *reader.bad], self._spend())
                ways = deliver(ctx, again, self._with_disks(wanted), self.lease, self._between(), self.order.rate)
                for shard, slot in wanted.items():
                    self.restored[shard] = slot.server
                    self.done.append(f"replaced the bad shard {shard} on {slot.server}, {ways[shard]}")
            self._changed()

    def _is_there(self, copy: Copy) -> bool:
        held = self.scene.run.holder(copy[0])
        return held is not None and copy[1] in held.mounted

    def _sound_elsewhere(self, server: Address, shard: int, bad: Collection[Copy]) -> bool:
        return any((one, shard) not in bad for one in self.scene.run.copies.get(shard, ()) if one != server)

    def _give_up(self, server: Address, shard: int) -> None:
        """Remove a copy that is proved to be bad, or to be one too many."""
        ctx, run = self.ctx, self.scene.run
        held = run.holder(server)
        assert held is not None  # it was there in this look
        self.lease.check()
        with ctx.cluster.leash.shielded():
            remove_some(ctx, held, run.volume_id, run.collection, [shard])

    def _with_disks(self, wanted: dict[int, Slot]) -> dict[int, Slot]:
        """The same places, on the disks where the master has these shards listed."""
        disks = {
            (holding.server, shard): holding.disk_id
            for holding in self.topology.holdings(self.order.volume_id, self.order.collection)
            for shard in holding.shard_ids
        }
        return {shard: Slot(slot.server, disks.get((slot.server, shard), 0)) for shard, slot in wanted.items()}

    # -- shards that are nowhere

    def _restore(self, bad: Collection[Copy]) -> set[Copy]:
        """Compute lost shards and bring them where they should be; return what else proved bad while it was read."""
        ctx, scene = self.ctx, self.scene
        elsewhere = {shard for _server, shard in bad}
        lost = [shard for shard in scene.lost if shard not in elsewhere]
        named = [shard for shard in lost if not self.order.shards or shard in self.order.shards]
        if waits := [shard for shard in lost if shard not in named]:
            self.left.append(f"shards {', '.join(map(str, waits))} are lost, too, but not for long enough")
        if not named:
            return set()
        if scene.run.sums is None and len(scene.run.copies) <= DATA_SHARDS:
            ctx.log(f"{scene.run.name} has just ten shards and no .ecsum: what is computed from them cannot be proved")
        places, trouble = self._places(named)
        if trouble:
            self.left.append(trouble)
        if not places:
            return set()
        reader = ShardReader(ctx, scene.run, bad, self._spend())
        ways = deliver(ctx, reader, places, self.lease, self._between(), self.order.rate)
        for shard, slot in places.items():
            self.restored[shard] = slot.server
            self.done.append(f"restored shard {shard} on {slot.server}, {ways[shard]}")
        self._changed()
        return {copy for copy, why in reader.bad.items() if "early" in why or "is not what" in why}

    def _places(self, shards: Sequence[int]) -> tuple[dict[int, Slot], str]:
        """Where lost shards are to go: to servers that say that they take them."""
        ctx, run, asked = self.ctx, self.scene.run, set[Address]()
        kinds = [one.disk_type for one in self.topology.holdings(run.volume_id, run.collection)]
        while True:
            places, trouble = choose_places(self.topology, self.scene.nodes(), shards, run.shard_size, kinds[0])
            fresh = {slot.server for slot in places.values()} - asked
            if not fresh:
                return places, trouble
            close_refusing(ctx, self.topology, fresh)
            asked |= fresh

    def _between(self) -> list[Address]:
        """Servers that have nothing of the volume, those with most room first."""
        holders = {held.server for held in (*self.scene.run.holders, *self.scene.unknown)} | {*self.scene.silent}
        room = {
            node.address: max((disk.free_bytes for disk in node.disks.values()), default=0)
            for node in self.topology.nodes.values()
            if node.address not in holders and not node.closed
        }
        return sorted(room, key=lambda server: (-room[server], str(server)))[:BETWEEN]

    def _spend(self) -> Callable[[int], None] | None:
        if not self.order.rate:
            return None
        bucket = Bucket(self.order.rate)

        def spend(length: int) -> None:
            if (pause := bucket.spend(length)) > 0:
                self.ctx.wait(pause)

        return spend

    # -- shards that are there twice

    def _sweep(self) -> None:
        """Remove unmounted files of shards that are sound elsewhere: a restarted server would mount them."""
        ctx, run = self.ctx, self.scene.run
        removed = False
        for held in run.holders:
            loose = [shard for shard in held.files if shard not in held.mounted and shard in run.copies]
            for shard in loose:
                keeper = run.copies[shard][0]
                try:
                    why = why_wrong(ctx, run, (keeper, shard))
                except (ServerFailed, Mismatch) as error:
                    why = str(error)
                if why:
                    self.left.append(f"an unmounted file of shard {shard} on {held.server} was left: {why}")
                    continue
                mine = ShardSet(held.server, held.generation, {}, {shard: held.files[shard]})
                await_senders(ctx, [mine], run.volume_id, run.collection)
                self._give_up(held.server, shard)
                self.done.append(f"removed what lay unmounted of shard {shard} on {held.server}")
                removed = True
        if removed:
            self._changed()

    def _trim(self) -> None:
        """Remove copies too many, each once the one that stays is proved; at most four: readers remember places."""
        removed = 0
        for shard in sorted(self.scene.twice):
            servers = self._by_merit(shard)
            for keeper in servers:
                try:
                    why = why_wrong(self.ctx, self.scene.run, (keeper, shard), avoid=[(one, shard) for one in servers])
                except (ServerFailed, Mismatch) as error:
                    why = str(error)
                if not why:
                    break
                self.left.append(f"shard {shard} on {keeper} cannot stand for its other copies: {why}")
            else:
                continue
            for server in servers:
                if server == keeper:
                    continue
                if removed >= MOST_TOGETHER:
                    self.left.append(
                        f"shard {shard} is still on {server}, too: four have gone, which is enough at a time"
                    )
                    continue
                self._give_up(server, shard)
                self.done.append(f"removed shard {shard} from {server}, {keeper} has it")
                removed += 1
        if removed:
            self._changed()

    def _by_merit(self, shard: int) -> list[Address]:
        """The servers that have a shard: first the one whose host has fewest of the volume."""
        copies = self.scene.run.copies

        def crowd(server: Address) -> int:
            return sum(any(one.host == server.host for one in servers) for servers in copies.values())

        return sorted(copies[shard], key=lambda server: (crowd(server), str(server)))

    # -- the end

    def _note_strangers(self) -> None:
        for one in self.scene.strangers:
            where = ", ".join(str(held.server) for held in one.holders)
            self.left.append(f"{len(one.copies)} shards of another encode run, {one.run}, on {where} were left alone")
            for held in one.holders:
                self.topology.close(held.server, f"{held.server} has shards of another encode run of {one.name}")
        for server, shards in self.scene.silent.items():
            self.left.append(f"{server}, which has shards {', '.join(map(str, sorted(shards)))}, does not answer")

    def _await_master(self) -> None:
        """Wait until clients are sent to what was restored; TaskError if they are not."""
        waits: dict[int, Address] = {}

        def shown() -> bool:
            known = ec_locations(self.ctx.master(), self.order.volume_id)
            waits.clear()
            waits.update({s: server for s, server in self.restored.items() if server not in known.get(s, [])})
            return not waits

        if self.restored and not self.ctx.until(shown, self.ctx.options.shown_seconds):
            where = ", ".join(f"{shard} on {server}" for shard, server in waits.items())
            raise TaskError(f"the master does not show shard {where} of volume {self.order.volume_id}, though mounted")

    def _result(self) -> Result:
        run = self.scene.run
        for finding in self.settled:
            findings.settle(self.ctx, finding)
        sound = len(run.copies) + len({s for ids in self.scene.silent.values() for s in ids} - {*run.copies})
        words = [*(self.done or ["nothing was to do"]), *self.left]
        return Result(
            f"volume {run.volume_id} has {sound} of {TOTAL_SHARDS} shards: {'; '.join(words)}",
            {
                "volume_id": run.volume_id,
                "sound_shards": sound,
                "restored": ",".join(map(str, sorted(self.restored))),
                "bytes": run.shard_size * len(self.restored),
                "restored_bytes": run.shard_size * len(self.restored),
            },
        )
