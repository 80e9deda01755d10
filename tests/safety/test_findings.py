"""Handing on what was found wrong: noted once, known to every worker where there is a filer, forgotten when settled."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from weed_core.findings import EC_SHARD, REPLICA, WORDS, Finding
from weed_safety import findings
from weed_state.shelf import findings_in

BAD = Finding(EC_SHARD, 5, "photos", 77, 3, "127.0.0.11:8080", 1000.0, "checksum", "block 0 is not what it was")


def test_a_finding_outlives_the_process_and_keeps_its_first_time(tmp_path: Path, sandbox_cluster: Cluster) -> None:
    for found in (1000.0, 2000.0):
        ctx = sandbox_cluster.context()
        ctx.findings = findings_in(tmp_path)
        findings.note(ctx, replace(BAD, found=found))
        findings.note(ctx, Finding(REPLICA, 6, found=found + 1))
    ctx = sandbox_cluster.context()
    ctx.findings = findings_in(tmp_path)
    assert findings.read_all(ctx) == [BAD, Finding(REPLICA, 6, found=1001.0)]
    findings.settle(ctx, BAD)
    findings.settle(ctx, BAD)
    assert [one.volume_id for one in findings.read_all(ctx)] == [6]


def test_another_worker_knows_it_by_the_filer(sandbox_cluster: Cluster) -> None:
    sandbox_cluster.start_filer()
    one, other = sandbox_cluster.context(), sandbox_cluster.context()
    findings.note(one, BAD)
    assert findings.read_all(other) == [BAD]
    findings.settle(other, BAD)
    assert findings.read_all(other) == []


def test_a_filer_that_is_gone_leaves_what_this_worker_knows(sandbox_cluster: Cluster) -> None:
    filer = sandbox_cluster.start_filer()
    filer.kill()
    ctx = sandbox_cluster.context()
    findings.note(ctx, BAD)
    assert findings.read_all(ctx) == [BAD]


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"{}", b"\xff", b'{"kind": 1}', BAD.document().replace(b"ec_shard", b"ec_other")],
)
def test_what_is_no_finding_is_passed_over(tmp_path: Path, sandbox_cluster: Cluster, content: bytes) -> None:
    ctx = sandbox_cluster.context()
    ctx.findings = findings_in(tmp_path)
    ctx.findings.put("stray", content)
    os.symlink(tmp_path / "elsewhere", tmp_path / "findings" / "link.json")
    findings.note(ctx, BAD)
    assert findings.read_all(ctx) == [BAD]


def test_a_long_sentence_is_cut(tmp_path: Path) -> None:
    read = Finding.read(replace(BAD, words="x" * 2000).document())
    assert read is not None
    assert len(read.words) == WORDS
    assert read.key == BAD.key
