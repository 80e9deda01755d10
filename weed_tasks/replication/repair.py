"""Repairing one volume's replicas: hold them still, compare, reconcile, add copies, trim what is proved redundant.

Works to an order that says what may be done; which copies are missing or surplus is judged elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from proto_gen.volume_server_pb2 import ReadVolumeFileStatusResponse
from weed_cluster.address import Address
from weed_cluster.builds import ask, why_unlike
from weed_cluster.replica_placement import ReplicaPlacement
from weed_cluster.topology import Replica, locations
from weed_core.errors import Mismatch, ServerFailed, TaskError
from weed_core.model import Result
from weed_safety import forget, holds, location_cache
from weed_safety.context import Context
from weed_safety.copy import Copied, Wishes, copy_volume, drop_copy
from weed_safety.freeze import Frozen, freeze_for_long, seal, thaw, wait_still
from weed_safety.lease import Lease
from weed_safety.location_cache import Shut, keep_shut, outlast, until, words
from weed_safety.look import probe, prove_unchanged
from weed_safety.proof import (
    SERVED,
    Comparison,
    compare_all,
    live_index,
    names,
    prove_serves,
    sample_of,
)
from weed_safety.steps import kind, plan
from weed_tasks.replication import reconcile, renewal
from weed_tasks.replication.faults import BAD, Fault

STILL_FOR = 1.0
"""Seconds without a change after which a frozen volume counts as still."""

REGISTERED_WITHIN = 30.0
"""Seconds in which the master must show a new copy."""

ROUNDS = 3
"""Passes of reconciling; each judges afresh what the one before has left."""


@kind("trim")
@dataclass(frozen=True)
class Trimming:
    """The journal step of a surplus replica's deletion."""

    server: Address
    volume_id: int


@dataclass(frozen=True)
class RepairOrder:
    """What a job asks for, whichever dialect it came in."""

    volume_id: int
    collection: str | None
    replica_count: int
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    level: str
    delete_surplus: bool
    reconcile: bool
    io_bytes_per_second: int
    seen_for: float = 0.0  # seconds since which the fault was seen when the job was proposed


@dataclass
class Repair:
    """One volume being repaired: what is frozen, what was added, what was proved."""

    ctx: Context
    order: RepairOrder
    replicas: list[Replica]
    healthy: list[Address]
    preferred: list[Address]
    lease: Lease | None = None
    remembered: float = 0.0  # seconds for which servers may write past a copy that is added now
    frozen: dict[Address, Frozen] = field(default_factory=dict)
    still: dict[Address, ReadVolumeFileStatusResponse] = field(default_factory=dict)
    copies: dict[Address, Copied] = field(default_factory=dict)
    deleted: list[Address] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    agreement: Comparison = field(default_factory=lambda: Comparison(()))
    shut: list[Shut] = field(default_factory=list)
    why_shut: str = ""  # why it stays read-only for a while after a copy was added

    @property
    def name(self) -> str:
        return f"volume {self.order.volume_id}"

    # ---- holding still

    def hold(self) -> None:
        """Freeze every replica that can be asked, and wait until they are still.

        Where there should be several copies, a client's write succeeds only if all take it: from the first freeze on
        none is acknowledged that a copy made later could lack.
        """
        self.ctx.progress(0.05, "freezing the replicas")
        for server in self.healthy:
            self.frozen[server] = freeze_for_long(self.ctx, server, self.order.volume_id)
        self._wait_still()

    def _check_lease(self) -> None:
        """Raise Busy if another worker has taken the volume over."""
        if self.lease is not None:
            self.lease.check()

    def _wait_still(self) -> None:
        statuses = self.ctx.each(
            lambda server: wait_still(self.ctx, server, self.order.volume_id, STILL_FOR), self.healthy
        )
        self.still = dict(zip(self.healthy, statuses))

    def release(self) -> None:
        """Thaw everything; then raise the first ServerFailed, if any: its step stays open for recovery.

        Where another worker has taken the volume over, nothing further is changed. Where servers may still write past
        a new copy, because the job was broken off, the volume stays frozen until recovery finds that they do not.
        """
        if self.shut:
            self.ctx.log(words(self.order.volume_id, [volume.step for volume in self.shut]))
            return
        if self.lease is not None and self.lease.is_lost:
            self.ctx.log(f"{self.name} belongs to another worker now; what this job froze is thawed by recovery")
            return
        # As good as at once: a write that one replica takes and another refuses makes them differ.
        self.ctx.each(lambda frozen: thaw(self.ctx, frozen), self.frozen.values())
        holds.release(self.ctx, self.order.volume_id)

    # ---- agreeing

    def agree(self, can_add: bool) -> None:
        """Compare the frozen replicas, and reconcile them if that is wanted.

        Mismatch where they differ, unless copies can be added from one that has all that the others have.
        """
        self.ctx.progress(0.1, "comparing the replicas")
        self.agreement = self._compare()
        written = deleted = 0
        for _round in range(ROUNDS if self.order.reconcile else 0):
            if not self.agreement.ids:
                break
            done = self._reconcile()
            if done == (0, 0):
                break
            written, deleted = written + done[0], deleted + done[1]
            self.agreement = self._compare()
        if written or deleted:
            self.notes.append(f"{written} needles written and {deleted} deleted where a replica had missed it")
        if not self.agreement.ids:
            return
        words = f"{self.name}: replicas on {names(self.agreement.servers)} differ in {self._count()}"
        if can_add and self.agreement.is_superset:
            self.notes.append(f"replicas on {names(self.agreement.servers)} differ in {self._count()}")
            return
        raise Mismatch(f"{words}; {'the rest cannot be proved' if written or deleted else 'nothing was changed'}")

    def _count(self) -> str:
        count = len(self.agreement.ids)
        return f"{count} needle{'s' if count != 1 else ''}"

    def _compare(self) -> Comparison:
        return compare_all(self.ctx, self.order.volume_id, self.healthy, self.order.level)

    def _reconcile(self) -> tuple[int, int]:
        """Carry out what the replicas' indexes prove; how many needles were written and deleted."""
        self.ctx.progress(0.15, "reconciling the replicas")
        ctx, volume_id = self.ctx, self.order.volume_id
        described = [reconcile.describe(ctx, server, volume_id) for server in self.healthy]
        plan = reconcile.plan(ctx, volume_id, described, self.agreement.ids)
        shut = [server for server in plan.servers if not self.frozen[server].was_writable]
        if shut:
            raise Mismatch(
                f"{self.name}: replicas on {names(self.healthy)} differ in {self._count()}, but the one on "
                f"{names(shut)} is read-only; nothing was changed"
            )
        self._check_lease()
        versions = {replica.server: replica.version for replica in described}
        done = reconcile.carry_out(ctx, volume_id, plan, versions, self._opened)
        self._wait_still()
        return done

    def _opened(self, server: Address, work: Callable[[], None]) -> None:
        """Make one replica writable while the work is done."""
        thaw(self.ctx, self.frozen[server])
        try:
            work()
        finally:
            with self.ctx.cluster.leash.shielded():
                self.frozen[server] = freeze_for_long(self.ctx, server, self.order.volume_id)

    def judge(self, fault: Fault) -> bool:
        """Read the frozen replicas through; False where none is bad after all, which is settled then.

        Copies are made only of those that prove sound. Mismatch where others are bad than those that were found so, or
        what is to stay cannot be proved.
        """
        self.ctx.progress(0.1, "reading the replicas through")
        sizes = {server: self.still[server].dat_file_size for server in self.healthy}
        expires = any(replica.ttl for replica in self.replicas)
        judged = renewal.judge(self.ctx, self.order.volume_id, sizes, expires)
        found = {replica.server for replica in fault.surplus}
        renewal.settle(self.ctx, self.order.volume_id, found & {*judged.sound})
        if not judged.bad:
            return False
        if found != {*judged.bad}:
            raise Mismatch(
                f"{self.name}: files cannot be read on {names(judged.bad)}, and not on {names(found)} as was found; "
                "nothing was changed"
            )
        self.agreement = Comparison(judged.sound)
        return True

    # ---- adding

    def add(self, target: Address, number: int, total: int) -> None:
        """Copy the best replica to a target, prove the copy and wait until the master shows it."""
        ctx, volume_id = self.ctx, self.order.volume_id
        source = self._source(target)
        share = 0.6 / total
        self._check_lease()

        def tell(fraction: float, stage: str) -> None:
            ctx.progress(0.2 + share * (number + fraction), stage)

        frozen = self.frozen[source]
        copied = copy_volume(
            ctx,
            volume_id,
            source,
            target,
            still=self.still[source],
            wishes=Wishes(
                persist=frozen.persist and frozen.was_writable,
                io_bytes_per_second=self.order.io_bytes_per_second,
            ),
            progress=tell,
            lease=self.lease,
        )
        try:
            if not copied.step.change.persist:
                self.frozen[target] = freeze_for_long(ctx, target, volume_id)
                prove_unchanged(ctx, target, volume_id, copied.status)
            if not ctx.until(lambda: target in locations(ctx.master(), volume_id), REGISTERED_WITHIN):
                raise TaskError(f"the master does not show the copy of {self.name} on {target}")
            prove_unchanged(ctx, source, volume_id, self.still[source])
        except BaseException:
            with ctx.cluster.leash.shielded():
                drop_copy(ctx, copied.step)
            raise
        if copied.step.change.persist:
            # From here on the copy is thawed by a freeze of its own: a kill in between leaves none shut.
            self.frozen[target] = Frozen.plan(ctx.journal, target, volume_id, persist=True)
        if self.remembered:
            # A kill from here on must not open the volume before its time.
            self.shut.append(self._keep_shut())
        ctx.journal.settle(copied.step)
        self.copies[target] = copied
        ctx.log(f"{self.name}: copied from {source} to {target} and proved equal")

    def _keep_shut(self) -> Shut:
        replicas = dict.fromkeys((replica.server for replica in self.replicas), False)
        replicas |= {server: self._was_writable(server) for server in self.frozen}
        seconds = self.remembered
        return keep_shut(self.ctx, self.order.volume_id, seconds, replicas, seconds / 2, renewed=True)

    def _source(self, target: Address) -> Address:
        """The replica to copy from: one that has all the others have, of those the job names if it names any.

        One of the target's build comes before those that it could not read; the copying checks that again.
        """
        equal = self.agreement.servers if not self.agreement.ids else self.agreement.servers[:1]
        named = [server for server in equal if server in self.preferred]
        builds = dict(zip([target, *equal], self.ctx.each(lambda at: ask(self.ctx.volume(at)), [target, *equal])))
        alike = [server for server in equal if not why_unlike(server, builds[server], target, builds[target])]
        return next(iter([*(server for server in named if server in alike), *alike, *named, *equal]))

    def renew_memories(self) -> None:
        """Have all holders know the new copies now, where that can be done: then the volume need not stay shut."""
        if not self.shut:
            return
        self.ctx.progress(0.85, "having the holders forget where the replicas were")
        if len(self.healthy) < len(self.replicas):
            self.why_shut = "a replica of it cannot be asked"
        elif not all(self._was_writable(server) for server in self.frozen):
            self.why_shut = "a replica of it was read-only before"
        else:
            self.why_shut = forget.why_not(self.ctx, self.order.volume_id, self.frozen)
        if not self.why_shut:
            placement = self.replicas[0].placement
            self.why_shut = forget.renew(self.ctx, self.order.volume_id, list(self.frozen.values()), placement)
            ends = time.monotonic() + location_cache.remembered(self.ctx)
            for volume in self.shut:
                volume.ends = max(volume.ends, ends)
        while self.shut and not self.why_shut:
            self.ctx.journal.settle(self.shut.pop().step)

    def outlast_memories(self) -> None:
        """Stay frozen until no server sends writes to where the replicas were, instead of to the new copies."""

        def tell(left: float) -> None:
            self._check_lease()
            self.ctx.progress(0.95, "read-only until servers know the new copy", seconds_left=int(left))

        while self.shut:
            if self.lease is not None:
                self.lease.say(until(self.shut[-1]))
            outlast(self.ctx, self.shut[-1], tell)
            self.shut.pop()

    # ---- trimming

    def trim(self, fault: Fault, placement: ReplicaPlacement) -> None:
        """Delete the surplus replicas, if what stays is complete, proved and writable."""
        stay = [*(replica.server for replica in fault.keep), *self.copies]
        reason = self._why_keep(fault, placement, stay)
        if reason:
            self.notes.append(f"the surplus copy on {names(r.server for r in fault.surplus)} was kept: {reason}")
            return
        if fault.kind == BAD:
            sizes = {server: copied.status.dat_file_size for server, copied in self.copies.items()}
            renewal.prove_copies(self.ctx, self.order.volume_id, sizes)
        for replica in fault.surplus:
            # One that is bad finds not all of its own files; what others should have is told by one that is sound.
            self._prove_served(self.agreement.servers[0] if fault.kind == BAD else replica.server, stay)
            self._delete(replica.server, stay)
        if fault.kind == BAD:
            renewal.settle(self.ctx, self.order.volume_id, self.deleted)

    def _prove_served(self, victim: Address, stay: Sequence[Address]) -> None:
        """Mismatch unless all that stays finds needles of the one that goes."""
        volume_id = self.order.volume_id
        live = live_index(self.ctx, victim, volume_id, self.still[victim])
        prove_serves(self.ctx, volume_id, victim, stay, sample_of(live, SERVED))

    def _why_keep(self, fault: Fault, placement: ReplicaPlacement, stay: Sequence[Address]) -> str:
        """Say why nothing may be deleted; "" where it may."""
        if self.agreement.ids:
            return f"the replicas differ in {self._count()}"
        if len(stay) < placement.copies:
            return f"only {len(stay)} of {placement.copies} copies are where they should be"
        if len(self.healthy) < len(self.replicas):
            return "another replica cannot be asked"
        if self.replicas[0].remote_name:
            return f"its data is in {self.replicas[0].remote_name}"
        shut = [server for server in stay if not self._was_writable(server)]
        return f"the one on {names(shut)}, which would stay, is read-only" if shut else ""

    def _was_writable(self, server: Address) -> bool:
        if server in self.copies:
            return self._was_writable(self.copies[server].step.change.source)
        return self.frozen[server].was_writable

    def _delete(self, victim: Address, stay: Sequence[Address]) -> None:
        """Delete one replica after a last look at everything that justifies it."""
        ctx, volume_id = self.ctx, self.order.volume_id
        ctx.progress(0.9, f"deleting the surplus copy on {victim}")
        listed = locations(ctx.master(), volume_id)
        lost = [server for server in stay if server not in listed]
        if lost:
            raise Mismatch(f"{self.name} is no longer on {names(lost)}; the copy on {victim} is kept")
        with ctx.cluster.leash.shielded():
            for server in [victim, *stay]:
                if server in self.frozen:
                    seal(ctx, self.frozen[server])
                before = self.copies[server].status if server in self.copies else self.still[server]
                prove_unchanged(ctx, server, volume_id, before)
            self._check_lease()
            step = plan(ctx.journal, Trimming(victim, volume_id))
            try:
                ctx.volume(victim).volume_delete(volume_id=volume_id, keep_remote_data=True, timeout=120)
            except ServerFailed as error:
                if probe(ctx, victim, volume_id) is not None:
                    ctx.journal.settle(step)
                    raise
                ctx.log(f"{error}; yet the copy on {victim} is gone")
            if not ctx.until(lambda: probe(ctx, victim, volume_id) is None, timeout=10):
                raise TaskError(f"{victim} answers that it deleted {self.name} and still holds it")
            ctx.journal.settle(step)
            self.frozen[victim].keep(ctx.journal)
            self.deleted.append(victim)
            ctx.log(
                f"{self.name}: deleted the surplus copy on {victim} ({self.still[victim].dat_file_size} bytes); "
                f"equal ones are on {names(stay)}"
            )

    def result(self, fault: Fault | None) -> Result:
        """Say what was done."""
        parts = [f"copied to {names(self.copies)}"] if self.copies else []
        parts += [f"surplus copy on {names(self.deleted)} deleted"] if self.deleted else []
        parts += self.notes
        return Result(
            f"{self.name} {fault.why if fault else 'had replicas that differ'}: {'; '.join(parts)}",
            {
                "volume_id": self.order.volume_id,
                "copies": len(self.replicas) + len(self.copies) - len(self.deleted),
                "added": [str(server) for server in self.copies],
                "restored_bytes": self.replicas[0].size * len(self.copies),
                "deleted": [str(server) for server in self.deleted],
                "differing_needles": len(self.agreement.ids),
            },
        )
