"""What tests of scrubs share: a look and its jobs, and damage done to the data of files by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.cluster import Cluster, Server
from tests.support.shards import flip
from weed_core.model import Detection, DetectionRequest, Job, Proposal, Result
from weed_safety.context import Context
from weed_tasks import scrub


def look(cluster: Cluster, ctx: Context, **config: Any) -> Detection:
    """What a look finds that has everything read now."""
    wanted = {"interval_days": 0, **config}
    return scrub.detect(DetectionRequest("scrub", wanted, (str(cluster.master),)), ctx)


def job_of(proposal: Proposal) -> Job:
    """The job that an admin makes of a proposal."""
    return Job(proposal.id, "scrub", proposal.params, proposal.parameters)


def scrub_all(cluster: Cluster, ctx: Context, **config: Any) -> list[Result]:
    """Look, and read everything that was found."""
    return [scrub.run(job_of(proposal), ctx) for proposal in look(cluster, ctx, **config).proposals]


def dat_of(server: Server, volume_id: int) -> Path:
    """The data file of a volume on a server."""
    (path,) = [
        path for folder in server.data_dirs for path in folder.glob("*.dat") if path.stem.endswith(str(volume_id))
    ]
    return path


def spoil(cluster: Cluster, fid: str, server: Server) -> None:
    """Change one byte of a file's data on one server."""
    data = cluster.read(fid, server)
    path = dat_of(server, int(fid.partition(",")[0]))
    at = path.read_bytes().find(data)
    assert at > 0, f"{fid} is not in {path}"
    flip(path, at + len(data) // 2)
