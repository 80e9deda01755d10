"""Proving that fourteen shards hold what a volume holds, by asking the servers that have them.

Nothing is taken from the master or from memory of what was sent: every holder is asked for its shards, their sizes
and files, its index and `.vif`, and gives sampled bytes back. Knows nothing of why the proof is wanted.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from weed_cluster.address import Address
from weed_errors import Mismatch, ServerFailed
from weed_storage.index import Live, entries, search_ecx
from weed_storage.needle import actual_size, parse_needle
from weed_storage.reed_solomon import TOTAL_SHARDS, locate, shard_size
from weed_storage.volume_info import Generation
from weed_tasks import Context
from weed_tasks.ec_shards import ANY_REVISION, Shelf, fetch, look
from weed_tasks.ec_stream import PIECE, Source, read_piece, read_stripe
from weed_tasks.proof import sample_of

SAMPLED = 4
"""Pieces read back of each shard: the first, the last and some between."""

NEEDLES = 16
"""Needles read back through the shards, where a replica with another layout is to be proved redundant."""


@dataclass(frozen=True)
class Claim:
    """What is to be proved: that these shards of one encode run are where they should be, and encode this volume."""

    source: Source
    run: int
    places: Mapping[Address, Sequence[int]]
    piece_crcs: Callable[[int], Sequence[int]]
    """The CRC32C of a piece of each of the fourteen shards, by the piece's number."""

    @property
    def shard_size(self) -> int:
        """Bytes of each shard."""
        return shard_size(self.source.dat_size, self.source.strict)


def prove(ctx: Context, claim: Claim, live: Live) -> None:
    """Prove a claim, and that the shards' index names exactly the needles in `live`; Mismatch says what is wrong."""
    source = claim.source
    placed = sorted(shard for shards in claim.places.values() for shard in shards)
    if placed != list(range(TOTAL_SHARDS)):
        raise Mismatch(f"the shards of volume {source.volume_id} are {placed}, not each of the fourteen once")
    shelves = ctx.each(lambda server: look(ctx, server, source.volume_id, source.collection), claim.places)
    for shelf in shelves:
        _prove_shelf(claim, shelf)
    digest = ctx.compute(_digest, live.ecx())
    ctx.each(lambda server: _prove_index(ctx, claim, server, live, digest), claim.places)
    last = claim.shard_size // PIECE - 1
    pieces = sorted({0, last, *(random.randint(0, last) for _ in range(SAMPLED - 2))})
    runs = {shelf.server: claim.run if shelf.generation.knows_ecsum else 0 for shelf in shelves}
    for piece in pieces:
        wanted = claim.piece_crcs(piece)

        def prove_piece(place: tuple[Address, int], piece: int = piece, wanted: Sequence[int] = wanted) -> None:
            server, shard_id = place
            ctx.rates.spend(str(server), PIECE, ctx.wait)
            got = read_piece(ctx.volume(server), source.volume_id, shard_id, piece, runs[server])
            if got != wanted[shard_id]:
                where = f"shard {shard_id} of volume {source.volume_id} on {server}"
                raise Mismatch(f"{where} does not read back as it was sent, at byte {piece * PIECE}")

        ctx.each(prove_piece, [(server, shard) for server, shards in claim.places.items() for shard in shards], most=4)


def from_source(ctx: Context, source: Source) -> Callable[[int], Sequence[int]]:
    """Take the checksums of pieces from the volume itself, encoding what is asked for."""
    return lambda piece: read_stripe(ctx, source, piece)


def _prove_shelf(claim: Claim, shelf: Shelf) -> None:
    source, size = claim.source, claim.shard_size
    name = f"volume {source.volume_id} on {shelf.server}"
    for shard_id in claim.places[shelf.server]:
        if shard_id not in shelf.mounted:
            raise Mismatch(f"shard {shard_id} of {name} is not mounted")
        if shelf.mounted[shard_id] != size:
            raise Mismatch(f"shard {shard_id} of {name} has {shelf.mounted[shard_id]} bytes, it should have {size}")
        if shard_id not in shelf.files:
            raise Mismatch(f"shard {shard_id} of {name} is mounted, but its file is gone")
    check_vif(shelf, source, claim.run)


def check_vif(shelf: Shelf, source: Source, run: int) -> None:
    """Check what a server's `.vif` says of the encode, as far as its release knows it; Mismatch if it is wrong."""
    vif = shelf.vif
    if vif is None:
        raise Mismatch(f"the .vif of volume {source.volume_id} on {shelf.server} is gone")
    told = (vif.version, vif.dat_file_size)
    if vif.version != source.version or vif.dat_file_size not in (source.dat_size, 0):
        raise Mismatch(
            f"the .vif of volume {source.volume_id} on {shelf.server} tells version and bytes {told}, "
            f"they are {(source.version, source.dat_size)}"
        )
    if shelf.generation >= Generation.V4_44 and vif.ec_shard_config.encode_ts_ns != run:
        raise Mismatch(
            f"the shards of volume {source.volume_id} on {shelf.server} are of encode run "
            f"{vif.ec_shard_config.encode_ts_ns}, not {run}"
        )


def _digest(pieces: Iterator[bytes]) -> bytes:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _prove_index(ctx: Context, claim: Claim, server: Address, live: Live, digest: bytes) -> None:
    source = claim.source
    got = hashlib.sha256()
    try:
        for message in ctx.volume(server).copy_file(
            volume_id=source.volume_id,
            collection=source.collection,
            ext=".ecx",
            is_ec_volume=True,
            compaction_revision=ANY_REVISION,
            stop_offset=1 << 62,
        ):
            got.update(message.file_content)
    except ServerFailed as error:
        if error.says_absent:
            raise Mismatch(f"the .ecx of volume {source.volume_id} on {server} is gone") from None
        raise
    if got.digest() == digest:
        return
    # A needle that was deleted since the mount is marked so in the .ecx.
    ecx = fetch(ctx.volume(server), source.volume_id, source.collection, ".ecx") or b""
    if not ctx.compute(_is_index_of, ecx, live):
        raise Mismatch(f"the .ecx of volume {source.volume_id} on {server} does not name the needles of the volume")


def _is_index_of(ecx: bytes, live: Live) -> bool:
    found = list(entries(ecx, live.offset_bytes))
    return len(found) == len(live) and all(
        needle_id == known and (offset, size) in (place, (place[0], -1), (0, -1))
        for (needle_id, offset, size), (known, place) in zip(found, live.items())
    )


def covers(ctx: Context, claim: Claim, replica: Source, live: Live) -> bool:
    """Whether the shards hold all that a replica holds that was not the one encoded: each needle, and a sample's bytes.

    The shards themselves must be proved already. Mismatch if a sampled needle differs.
    """
    holder = next(iter(claim.places))
    ecx = fetch(ctx.volume(holder), claim.source.volume_id, claim.source.collection, ".ecx") or b""
    if not ctx.compute(_names_all, ecx, live):
        return False
    at = {shard: server for server, shards in claim.places.items() for shard in shards}
    for needle_id, offset, size in sample_of(live, NEEDLES):
        place = search_ecx(ecx, needle_id, live.offset_bytes)
        if place is None:
            continue  # deleted since
        whole = actual_size(size, replica.version)
        record = bytearray()
        for piece in locate(place[0], whole, claim.source.dat_size, claim.source.strict):
            for message in ctx.volume(at[piece.shard]).volume_ec_shard_read(
                volume_id=claim.source.volume_id, shard_id=piece.shard, offset=piece.offset, size=piece.length
            ):
                record += message.data
        blob = ctx.volume(replica.server).read_needle_blob(volume_id=replica.volume_id, offset=offset, size=size)
        shard, original = (parse_needle(data, replica.version) for data in (bytes(record), blob.needle_blob))
        if (shard.id, shard.cookie, shard.data) != (original.id, original.cookie, original.data):
            raise Mismatch(
                f"needle {needle_id:x} of volume {replica.volume_id} on {replica.server} is another than in the shards"
            )
    return True


def _names_all(ecx: bytes, live: Live) -> bool:
    sizes = {needle_id: size for needle_id, _, size in entries(ecx, live.offset_bytes)}
    return all(sizes.get(needle_id) in (size, -1) for needle_id, (_, size) in live.items())
