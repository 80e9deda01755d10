"""Download the wheels that requirements.txt pins, for every interpreter and processor the .pyz claims.

Knows the target hosts and how pip names them; knows nothing of what is in the archive.
"""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements.txt"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
ARCHITECTURES = ("x86_64", "aarch64")
GLIBC = (2, 28)
"""The oldest glibc that every wheel runs on; greenlet's needs it."""


def abi_of(python: str) -> str:
    """Name the ABI tag of a Python version: "3.10" is "cp310"."""
    return "cp" + python.replace(".", "")


def download(requirements: Path, python: str, architecture: str, folder: Path, *options: str) -> None:
    """Let pip put the wheels for one interpreter on one processor into `folder`. Raises CalledProcessError."""
    platforms = [f"manylinux2014_{architecture}", *(f"manylinux_2_{minor}_{architecture}" for minor in range(17, 29))]
    tags = ["--implementation=cp", f"--python-version={python}"]
    tags += [f"--abi={abi}" for abi in (abi_of(python), "abi3", "none")]
    tags += [f"--platform={platform}" for platform in platforms]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", *tags, *options]
    command += [f"--dest={folder}", f"--requirement={requirements}"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def state_folder() -> Path:
    """Where downloads and what is made of them are kept for as long as requirements.txt stays as it is."""
    return ROOT / "build" / "wheels" / hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]


def is_for(python: str, marker: str) -> bool:
    """Whether a pin with this marker is meant for an interpreter; pip would ask the one that runs it.

    Only `python_version` is known, compared by >= or <. Raises ValueError for any other marker.
    """
    found = re.fullmatch(r'python_version (>=|<) "(3\.\d+)"', marker.strip())
    if marker.strip() and not found:
        raise ValueError(f"{REQUIREMENTS.name}: {marker.strip()!r} is no marker that the build knows")
    if not found:
        return True
    mine, bound = int(python.split(".")[1]), int(found[2].split(".")[1])
    return mine >= bound if found[1] == ">=" else mine < bound


def pins_for(python: str) -> str:
    """The pins of requirements.txt that are meant for an interpreter, without their markers."""
    kept = []
    for pin in re.findall(r"^[A-Za-z0-9].*(?:\n    --hash=.*)*", REQUIREMENTS.read_text(), re.M):
        first, _, rest = pin.partition("\n")
        requirement, _, marker = first.rstrip(" \\").partition(";")
        if is_for(python, marker):
            kept.append(f"{requirement.strip()} \\\n{rest}")
    return "\n".join(kept) + "\n"


def pinned_wheels(python: str, architecture: str) -> list[Path]:
    """Return the pinned wheels for one target, downloaded at most once per state of requirements.txt."""
    folder = state_folder() / f"{abi_of(python)}-{architecture}"
    complete = folder / ".complete"
    if not complete.exists():
        folder.mkdir(parents=True, exist_ok=True)
        meant = folder / "requirements.txt"
        meant.write_text(pins_for(python))
        download(meant, python, architecture, folder, "--require-hashes")
        complete.touch()
    return sorted(folder.glob("*.whl"))
