"""Undoing what an upload or a download left, as its journal says."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from weed_cluster.address import Address
from weed_core.errors import TaskError
from weed_safety.context import Context
from weed_safety.freeze import Freeze, Frozen, thaw
from weed_safety.journal import Entry
from weed_safety.look import probe
from weed_safety.steps import Planned, of_kind
from weed_tasks.remote_upload.volume import (
    Downloading,
    Referring,
    RemoteVolume,
    Uploading,
    copy_reference,
    is_remote,
    remote_file,
    remount,
)


def give_back(volume: RemoteVolume) -> None:
    """After a failure thaw what this job froze, unless the volume is in the backend by now or may come to be there.

    Where another worker has taken the volume over, nothing further is changed.
    """
    if volume.lease is not None and volume.lease.is_lost:
        volume.ctx.log(f"{volume.name} belongs to another worker now; it is cleared up later")
        return
    with volume.ctx.cluster.leash.shielded():
        try:
            settle_volume(volume.ctx, volume.ctx.journal, volume.id)
        except TaskError as error:
            volume.ctx.log(f"{volume.name} is cleared up later: {error}")


def settle_volume(ctx: Context, entry: Entry, volume_id: int) -> None:
    failed: list[TaskError] = []
    # What is under way decides what may be thawed, so freezes come last.
    settling = (
        *(partial(_settle_upload, ctx, entry, step) for step in of_kind(entry, Uploading, volume_id)),
        *(partial(_settle_reference, ctx, entry, step) for step in of_kind(entry, Referring, volume_id)),
        *(partial(_settle_download, ctx, entry, step) for step in of_kind(entry, Downloading, volume_id)),
        *(partial(_settle_freeze, ctx, entry, step) for step in of_kind(entry, Freeze, volume_id)),
    )
    for settle in settling:
        try:
            settle()
        except TaskError as error:
            failed.append(error)
    if failed:
        raise failed[0]


def _settle_upload(ctx: Context, entry: Entry, step: Planned[Uploading]) -> None:
    server, volume_id = step.change.server, step.change.volume_id
    status = probe(ctx, server, volume_id)
    if status is None or remote_file(status):
        entry.settle(step)
    elif not ctx.volume(server).volume_status(volume_id=volume_id).is_read_only:
        entry.settle(step)  # the server was restarted since, and its upload ended with it
    elif time.time() > step.change.until:
        entry.settle(step)


def _settle_reference(ctx: Context, entry: Entry, step: Planned[Referring]) -> None:
    server, volume_id = step.change.server, step.change.volume_id
    if probe(ctx, server, volume_id) is None:
        # Its own data is gone and the reference did not come: make it now.
        copy_reference(ctx, volume_id, server, step.change.source)
        ctx.log(f"volume {volume_id} on {server} refers to the object of {step.change.source} again")
    entry.settle(step)


def _settle_download(ctx: Context, entry: Entry, step: Planned[Downloading]) -> None:
    server, volume_id = step.change.server, step.change.volume_id
    status = probe(ctx, server, volume_id)
    if status is None:
        # Killed between unmounting and mounting.
        ctx.volume(server).volume_mount(volume_id=volume_id)
    elif not remote_file(status):
        remount(ctx, server, volume_id)
    entry.settle(step)


def _settle_freeze(ctx: Context, entry: Entry, step: Planned[Freeze]) -> None:
    """Thaw a replica, unless it or a sibling is in the backend, or on its way there."""
    server, volume_id = step.change.server, step.change.volume_id
    status = probe(ctx, server, volume_id)
    if status is None or remote_file(status):
        entry.settle(step)
        return
    holder = entry.facts.get("holder", "")
    if of_kind(entry, Uploading, volume_id):
        why = "an upload may still be under way"
    elif holder and is_remote(ctx, Address.parse(holder), volume_id):
        why = f"its data is in remote storage on {holder}, which the next remote_upload of it finishes"
    else:
        frozen = Frozen.of(step)
        assert frozen is not None
        thaw(replace(ctx, journal=entry), frozen)
        return
    ctx.log(f"volume {volume_id} on {server} stays read-only: {why}")
