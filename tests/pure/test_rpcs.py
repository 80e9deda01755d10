"""What tests take for a change is every RPC that is not known to read, so that a new one cannot slip through."""

from __future__ import annotations

from tests.support.rpcs import ALL, CHANGING, READING, changes


def test_every_rpc_on_the_list_of_reading_ones_exists() -> None:
    assert READING <= ALL


def test_an_rpc_that_nobody_knows_counts_as_a_change() -> None:
    assert changes(["VolumeStatus", "VolumeShred", "CopyFile"]) == ["VolumeShred"]


def test_what_the_clients_can_send_is_known_and_what_removes_or_writes_is_a_change() -> None:
    assert len(CHANGING) > 30
    telling = ("Delete", "Mount", "Unmount", "Copy", "Write", "Receive", "Mark", "Move", "Compact", "Commit", "Cleanup")
    named = {call for call in ALL if any(word in call for word in telling)}
    assert named - CHANGING == {"CopyFile", "VolumeIncrementalCopy"}  # both give, and copy nothing
