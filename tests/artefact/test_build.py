"""What is in the file: the same bytes from anywhere, the right machine code, everything that ships and nothing else."""

from __future__ import annotations

import os
import shutil
import struct
import zipfile
from pathlib import Path

import pytest

from tests.artefact.conftest import ROOT, build

pytestmark = pytest.mark.timeout(600)  # the first build of all downloads the wheels

ELF_MACHINE = {"x86_64": 62, "aarch64": 183}


def names(pyz: Path) -> set[str]:
    with zipfile.ZipFile(pyz) as archive:
        return set(archive.namelist())


def machines(pyz: Path) -> set[int]:
    """Read the processor that each shared library in the file is for."""
    with zipfile.ZipFile(pyz) as archive:
        libraries = [archive.read(name)[:20] for name in archive.namelist() if ".so" in name]
    return {struct.unpack_from("<H", library, 18)[0] for library in libraries}


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


def test_every_library_is_for_the_processor_that_was_asked_for(pyz: Path, aarch64_pyz: Path) -> None:
    assert machines(pyz) == {ELF_MACHINE["x86_64"]}
    assert machines(aarch64_pyz) == {ELF_MACHINE["aarch64"]}


def test_both_processors_get_the_same_python_code(pyz: Path, aarch64_pyz: Path) -> None:
    def code(path: Path) -> set[str]:
        return {name for name in names(path) if name.endswith(".py")}

    assert code(pyz) == code(aarch64_pyz)


def test_the_sandbox_and_the_tests_are_not_shipped(pyz: Path) -> None:
    top_level = {name.split("/")[1] for name in names(pyz) if name.startswith("common/")}

    assert {"weed_worker.py", "weed_tasks", "weed_cluster", "proto_gen", "grpc", "gevent"} <= top_level
    assert not top_level & {"weed_sandbox", "tests", "proto", "pytest", "pygments", "pyeclib"}


def test_the_isal_library_lies_where_the_wheel_has_it(pyz: Path) -> None:
    assert {name for name in names(pyz) if "pyeclib" in name and not name.startswith("licenses/")} == {
        "common/pyeclib.libs/libisal-pyeclib.so.2"
    }


def test_every_shipped_distribution_comes_with_its_licence(pyz: Path) -> None:
    licensed = {name.split("/")[1] for name in names(pyz) if name.startswith("licenses/")}

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
