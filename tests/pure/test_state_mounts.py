"""What is said of a working directory that does not last."""

from __future__ import annotations

from pathlib import Path

import pytest

from weed_state.mounts import warning

MOUNTS = r"""22 1 0:21 / / rw,relatime - overlay overlay rw,lowerdir=/a
30 22 8:1 / /var/lib rw,relatime shared:1 - ext4 /dev/sda1 rw
31 30 0:40 / /var/lib/fast rw,relatime - tmpfs tmpfs rw,size=64m
32 30 8:1 /var/lib/kubelet/pods/4711/volumes/kubernetes.io~empty-dir/worker-data /data rw - ext4 /dev/sda1 rw
33 30 8:1 /var/lib/kubelet/pods/4711/volumes/kubernetes.io~local-volume/pv1 /kept rw - ext4 /dev/sda1 rw
34 30 0:41 / /with\040blank rw - tmpfs tmpfs rw
a torn line
"""


@pytest.mark.parametrize(
    ("directory", "says"),
    [
        ("/srv/work", "on a container's own layer (overlay): it goes with the container"),
        ("/var/lib/fast/weed", "in memory (tmpfs)"),
        ("/data", "an emptyDir: it goes with the pod"),
        ("/with blank/x", "in memory (tmpfs)"),
    ],
)
def test_what_is_lost_with_a_directory_that_does_not_last_is_said(directory: str, says: str) -> None:
    text = warning(Path(directory), MOUNTS)
    assert text.startswith(f"-workingDir={directory} is {says}")
    assert all(word in text for word in ("worker.id", "results", "journal"))


@pytest.mark.parametrize("directory", ["/var/lib/weed_worker", "/kept", "/var/lib/faster"])
def test_nothing_is_said_of_one_that_lasts(directory: str) -> None:
    assert warning(Path(directory), MOUNTS) == ""


def test_where_mounts_are_not_told_nothing_is_said() -> None:
    assert warning(Path("/"), "") == ""
