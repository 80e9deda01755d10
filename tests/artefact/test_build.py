"""What is in the file: the same bytes from anywhere, the right machine code, everything that ships and nothing else."""

from __future__ import annotations

import lzma
import os
import shutil
import struct
import zipfile
from pathlib import Path

import pytest

from tests.artefact.conftest import ROOT, build
from tests.artefact.hosts import SUPPORTED

pytestmark = pytest.mark.timeout(600)  # the first build of all downloads the wheels

ELF_MACHINE = {"x86_64": 62, "aarch64": 183}


LARGEST = 30_000_000
"""Bytes of the file, for all interpreters together."""


def names(pyz: Path) -> set[str]:
    """The paths of all that is unpacked, for any interpreter."""
    with zipfile.ZipFile(pyz) as archive:
        manifests = [archive.read(name).decode() for name in archive.namelist() if name.startswith("manifest/")]
    assert len(manifests) == len(SUPPORTED)
    return {line.split(" ", 4)[4] for manifest in manifests for line in manifest.splitlines()}


def machines(pyz: Path) -> set[int]:
    """Read the processor that each shared library in the file is for."""
    found = set()
    with zipfile.ZipFile(pyz) as archive:
        whole = {name: lzma.decompress(archive.read(name)) for name in archive.namelist() if name.endswith(".xz")}
        for name in archive.namelist():
            for line in archive.read(name).decode().splitlines() if name.startswith("manifest/") else ():
                _crc, _size, solid, offset, path = line.split(" ", 4)
                if ".so" in path:
                    found.add(struct.unpack_from("<H", whole[solid], int(offset) + 18)[0])
    return found


def test_the_same_sources_give_the_same_bytes_from_another_folder(pyz: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "a folder elsewhere"
    (elsewhere / "build").mkdir(parents=True)
    (elsewhere / "build" / "wheels").symlink_to(ROOT / "build" / "wheels")
    for source in [*ROOT.glob("weed_*"), *(ROOT / name for name in ("pyz", "proto_gen", "LICENSE"))]:
        if source.is_dir():
            shutil.copytree(source, elsewhere / source.name)
        elif source.exists():
            shutil.copyfile(source, elsewhere / source.name)
    for name in ("build_zipapp.sh", "requirements.txt"):
        shutil.copy(ROOT / name, elsewhere / name)
    os.utime(elsewhere / "weed_worker.py", (0, 0))

    assert build(elsewhere, tmp_path / "other name.pyz").read_bytes() == pyz.read_bytes()


def test_the_file_for_six_interpreters_is_small(pyz: Path, aarch64_pyz: Path) -> None:
    assert max(pyz.stat().st_size, aarch64_pyz.stat().st_size) < LARGEST


def test_every_library_is_for_the_processor_that_was_asked_for(pyz: Path, aarch64_pyz: Path) -> None:
    assert machines(pyz) == {ELF_MACHINE["x86_64"]}
    assert machines(aarch64_pyz) == {ELF_MACHINE["aarch64"]}


def test_both_processors_get_the_same_python_code(pyz: Path, aarch64_pyz: Path) -> None:
    def code(path: Path) -> set[str]:
        return {name for name in names(path) if name.endswith(".py")}

    assert code(pyz) == code(aarch64_pyz)


def test_the_sandbox_and_the_tests_are_not_shipped(pyz: Path) -> None:
    top_level = {name.split("/")[0] for name in names(pyz)}

    assert {"weed_worker.py", "weed_tasks", "weed_cluster", "proto_gen", "grpc", "gevent"} <= top_level
    assert not top_level & {"weed_sandbox", "tests", "proto", "pytest", "pygments", "pyeclib"}


def test_the_isal_library_lies_where_the_wheel_has_it(pyz: Path) -> None:
    assert {name for name in names(pyz) if "pyeclib" in name} == {"pyeclib.libs/libisal-pyeclib.so.2"}


def test_every_shipped_distribution_comes_with_its_licence(pyz: Path) -> None:
    with zipfile.ZipFile(pyz) as archive:
        licensed = {name.split("/")[1] for name in archive.namelist() if name.startswith("licenses/")}

    assert licensed >= {
        "docopt_ng",
        "gevent",
        "greenlet",
        "grpcio",
        "prometheus_client",
        "protobuf",
        "pyeclib",
        "rich",
        "toml",
        "typing_extensions",
        "zope_event",
        "zope_interface",
    }
