"""Download the wheels that requirements.txt pins, for every interpreter and processor the .pyz claims.

Knows the target hosts and how pip names them; knows nothing of what is in the archive.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements.txt"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
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


def pinned_wheels(python: str, architecture: str) -> list[Path]:
    """Return the pinned wheels for one target, downloaded at most once per state of requirements.txt."""
    state = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = ROOT / "build" / "wheels" / state / f"{abi_of(python)}-{architecture}"
    complete = folder / ".complete"
    if not complete.exists():
        download(REQUIREMENTS, python, architecture, folder, "--require-hashes")
        complete.touch()
    return sorted(folder.glob("*.whl"))
