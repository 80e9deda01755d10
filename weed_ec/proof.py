"""Proving that fourteen shards hold what a volume holds, by asking the servers that have them.

Nothing is taken from the master or from memory of what was sent: every holder is asked for its shards, their sizes
and files, its index and `.vif`, and gives sampled bytes back. Knows nothing of why the proof is wanted.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from weed_cluster.address import Address
from weed_core.errors import Mismatch
from weed_core.release import Generation
from weed_ec.shards import ShardSet, digest, fetch, look
from weed_ec.source import Source
from weed_ec.stream import PIECE, ShardSums, piece_crcs, read_piece
from weed_safety.context import Context
from weed_safety.proof import prove_answers, sample_of
from weed_storage.checksums import crc32c
from weed_storage.ec_layout import DATA_SHARDS, TOTAL_SHARDS, locate
from weed_storage.index import TOMBSTONE, Live, entries, search_ecx
from weed_storage.needle import actual_size, parse_needle

T = TypeVar("T")

SAMPLED = 4
"""Pieces read back of each shard: the first, the last and some between."""

NEEDLES = 64
"""Needles of a replica that are compared with what the shards hold of them."""


@dataclass(frozen=True)
class Claim:
    """What is to be proved: that these shards of one encode run are where they should be, and sound.

    `source` is the volume that was encoded; where that replica is gone, only its sizes count.
    """

    source: Source
    run: int
    places: Mapping[Address, Sequence[int]]

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"volume {self.source.volume_id}"


def prove(ctx: Context, claim: Claim, live: Live, sums: Sequence[ShardSums]) -> None:
    """Prove what was just encoded and sent: place, size, run, index and sampled bytes; Mismatch says what is wrong."""
    shard_sets = _prove_places(ctx, claim)
    expected = ctx.compute(_digest, live.ecx())
    for server, ecx_digest in zip(
        claim.places, ctx.each(lambda server: _index_digest(ctx, claim, server), claim.places)
    ):
        # A needle that was deleted since the mount is marked so in the .ecx.
        if ecx_digest != expected and not ctx.compute(_is_index_of, _index(ctx, claim, server), live):
            raise Mismatch(f"the .ecx of {claim.name} on {server} does not name the needles of the volume")
    for piece in _sampled(claim):
        got = _read_pieces(ctx, claim, shard_sets, piece, range(TOTAL_SHARDS), crc32c)
        _compare_pieces(claim, piece, got, [shard.pieces[piece] for shard in sums])


def prove_found(ctx: Context, claim: Claim) -> None:
    """Prove that shards found complete are sound among themselves: as prove(), with the parity as the witness."""
    shard_sets = _prove_places(ctx, claim)
    for piece in _sampled(claim):
        data = _read_pieces(ctx, claim, shard_sets, piece, range(DATA_SHARDS), bytes)
        wanted = ctx.compute(piece_crcs, data)
        parity = _read_pieces(ctx, claim, shard_sets, piece, range(DATA_SHARDS, TOTAL_SHARDS), crc32c)
        _compare_pieces(claim, piece, [*wanted[:DATA_SHARDS], *parity], wanted)


def _sampled(claim: Claim) -> list[int]:
    last = claim.source.shard_size // PIECE - 1
    return sorted({0, last, *(random.randint(0, last) for _ in range(SAMPLED - 2))})


def _prove_places(ctx: Context, claim: Claim) -> dict[Address, ShardSet]:
    placed = sorted(shard for shards in claim.places.values() for shard in shards)
    if placed != list(range(TOTAL_SHARDS)):
        raise Mismatch(f"the shards of {claim.name} are {placed}, not each of the fourteen once")
    source = claim.source
    shard_sets = ctx.each(lambda server: look(ctx, server, source.volume_id, source.collection), claim.places)
    for held in shard_sets:
        _prove_shards(claim, held)
    return {held.server: held for held in shard_sets}


def _read_pieces(
    ctx: Context,
    claim: Claim,
    shard_sets: Mapping[Address, ShardSet],
    piece: int,
    shards: Collection[int],
    keep: Callable[[bytes], T],
) -> list[T]:
    """Read the same piece of several shards back from their holders; return what `keep` makes of each."""
    at = {shard: server for server, mine in claim.places.items() for shard in mine}

    def read(shard_id: int) -> T:
        server = at[shard_id]
        ctx.rates.spend(str(server), PIECE, ctx.wait)
        run = claim.run if shard_sets[server].generation.knows_ecsum else 0
        return keep(read_piece(ctx.volume(server), claim.source.volume_id, shard_id, piece, run))

    return ctx.each(read, shards, most=5)


def _compare_pieces(claim: Claim, piece: int, got: Sequence[int], wanted: Sequence[int]) -> None:
    at = {shard: server for server, mine in claim.places.items() for shard in mine}
    for shard_id, (found, right) in enumerate(zip(got, wanted)):
        if found != right:
            where = f"shard {shard_id} of {claim.name} on {at[shard_id]}"
            raise Mismatch(f"{where} does not read back as it should, at byte {piece * PIECE}")


def _prove_shards(claim: Claim, held: ShardSet) -> None:
    source, size = claim.source, claim.source.shard_size
    name = f"volume {source.volume_id} on {held.server}"
    for shard_id in claim.places[held.server]:
        if shard_id not in held.mounted:
            raise Mismatch(f"shard {shard_id} of {name} is not mounted")
        if held.mounted[shard_id] != size:
            raise Mismatch(f"shard {shard_id} of {name} has {held.mounted[shard_id]} bytes, it should have {size}")
        if shard_id not in held.files:
            raise Mismatch(f"shard {shard_id} of {name} is mounted, but its file is gone")
    check_vif(held, source, claim.run)


def check_vif(held: ShardSet, source: Source, run: int) -> None:
    """Check what a server's `.vif` says of the encode, as far as its release knows it; Mismatch if it is wrong."""
    vif = held.vif
    if vif is None:
        raise Mismatch(f"the .vif of volume {source.volume_id} on {held.server} is gone")
    told = (vif.version, vif.dat_file_size)
    if vif.version != source.version or vif.dat_file_size not in (source.dat_size, 0):
        raise Mismatch(
            f"the .vif of volume {source.volume_id} on {held.server} tells version and bytes {told}, "
            f"they are {(source.version, source.dat_size)}"
        )
    if held.generation >= Generation.V4_44 and vif.ec_shard_config.encode_ts_ns != run:
        raise Mismatch(
            f"the shards of volume {source.volume_id} on {held.server} are of encode run "
            f"{vif.ec_shard_config.encode_ts_ns}, not {run}"
        )


def _digest(pieces: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _index_digest(ctx: Context, claim: Claim, server: Address) -> bytes:
    found = digest(ctx.volume(server), claim.source.volume_id, claim.source.collection, ".ecx")
    if found is None:
        raise Mismatch(f"the .ecx of {claim.name} on {server} is gone")
    return found


def _index(ctx: Context, claim: Claim, server: Address) -> bytes:
    ecx = fetch(ctx.volume(server), claim.source.volume_id, claim.source.collection, ".ecx")
    if ecx is None:
        raise Mismatch(f"the .ecx of {claim.name} on {server} is gone")
    return ecx


def _is_index_of(ecx: bytes, live: Live) -> bool:
    found = list(entries(ecx, live.offset_bytes))
    return len(found) == len(live) and all(
        needle_id == known and (offset, size) in (place, (place[0], TOMBSTONE))
        for (needle_id, offset, size), (known, place) in zip(found, live.items())
    )


def prove_covered(ctx: Context, claim: Claim, replica: Source, live: Live) -> None:
    """Prove that shards hold what a replica holds: each needle by every index, and a sample by its bytes.

    The shards themselves must be proved already. Mismatch says what they lack or hold otherwise.
    """
    name = f"volume {replica.volume_id} on {replica.server}"
    for holder in claim.places:
        ecx = _index(ctx, claim, holder)
        missing = ctx.compute(_missing, ecx, live)
        if missing:
            raise Mismatch(f"{name} holds {missing} files that the shards on {holder} do not name")
    at = {shard: server for server, shards in claim.places.items() for shard in shards}
    for needle_id, offset, size in sample_of(live, NEEDLES):
        place = search_ecx(ecx, needle_id, live.offset_bytes)
        if place is None:
            continue  # deleted since
        record = bytearray()
        for piece in locate(place[0], actual_size(size, replica.version), claim.source.dat_size, claim.source.strict):
            for message in ctx.volume(at[piece.shard]).volume_ec_shard_read(
                volume_id=claim.source.volume_id, shard_id=piece.shard, offset=piece.offset, size=piece.length
            ):
                record += message.data
        blob = ctx.volume(replica.server).read_needle_blob(volume_id=replica.volume_id, offset=offset, size=size)
        encoded, original = (parse_needle(data, replica.version) for data in (record, blob.needle_blob))
        if (encoded.id, encoded.cookie, encoded.data) != (original.id, original.cookie, original.data):
            raise Mismatch(f"needle {needle_id:x} of {name} is another than in the shards")


def prove_served(
    ctx: Context, claim: Claim, regular: Collection[Address], known: Mapping[int, tuple[int, int]]
) -> None:
    """Prove that each holder finds needles by itself, out of its own shards and the others'; Mismatch if one does not.

    Those that still have the volume itself would answer out of that: of them the bytes are known, and that they read
    volumes of this build. `known` is what they must find, by proof.asked_of().
    """
    volume_id, patience = claim.source.volume_id, ctx.options.finds_others_seconds
    holders = [server for server in claim.places if server not in regular]
    ctx.each(lambda server: prove_answers(ctx, volume_id, server, known, patience), holders)


def _missing(ecx: bytes, live: Live) -> int:
    """Count the live needles that an index does not name with the same size; those deleted there since are named."""
    sizes = {needle_id: size for needle_id, _, size in entries(ecx, live.offset_bytes)}
    return sum(sizes.get(needle_id) not in (size, TOMBSTONE) for needle_id, (_, size) in live.items())
