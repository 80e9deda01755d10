"""Write the hashes into requirements.txt and requirements-dev.txt, from the versions that stand there.

Versions, markers and comments are people's work and stay as they are; only the --hash lines are replaced.
"""

import hashlib
import re
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from wheels import ARCHITECTURES, PYTHONS, ROOT, download, is_for

DEVELOPED = ("3.10", "3.11", "3.12", "3.13")
"""Interpreters on which the tests run; not all of their tools are there for newer ones."""

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)(\s*;[^\\]*)?")


def normalised(name: str) -> str:
    """Spell a project's name as wheel file names do."""
    return re.sub(r"[-_.]+", "_", name).lower()


def of_wheel(name: str) -> tuple[str, str]:
    """The project and the version that a wheel's file name tells."""
    project, version = name.split("-")[:2]
    return normalised(project), version


def wheel_hashes(pins: list[re.Match[str]], pythons: Sequence[str]) -> dict[tuple[str, str], set[str]]:
    """Map each project and version to the SHA-256 of its wheels for every target.

    Raises CalledProcessError where one has none.
    """
    hashes = defaultdict(set)
    with tempfile.TemporaryDirectory() as scratch:
        bare = Path(scratch, "pins.txt")
        for python in pythons:
            meant = [pin for pin in pins if is_for(python, (pin[3] or "").lstrip(" ;"))]
            bare.write_text("".join(f"{pin[1]}=={pin[2]}\n" for pin in meant))
            for architecture in ARCHITECTURES:
                folder = Path(scratch, f"{python}-{architecture}")
                download(bare, python, architecture, folder)
                for wheel in folder.glob("*.whl"):
                    hashes[of_wheel(wheel.name)].add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    return hashes


def pin(path: Path, pythons: Sequence[str]) -> None:
    """Rewrite one requirements file with fresh hashes, for these interpreters."""
    lines = [line.rstrip(" \\") for line in path.read_text().splitlines() if not line.startswith("    --hash=")]
    pins = {line: match for line in lines if (match := PIN.match(line))}
    hashes = wheel_hashes(list(pins.values()), pythons)
    written = []
    for line in lines:
        own = sorted(hashes[normalised(pins[line][1]), pins[line][2]]) if line in pins else []
        written.append(" \\\n    ".join([line, *(f"--hash=sha256:{digest}" for digest in own)]))
    path.write_text("\n".join(written) + "\n")


if __name__ == "__main__":
    pin(ROOT / "requirements.txt", PYTHONS)
    pin(ROOT / "requirements-dev.txt", DEVELOPED)
