"""Build weed_worker.pyz: one file that holds the agent and its libraries for every interpreter it claims.

The same inputs give the same bytes, wherever the sources lie and wherever the file goes: members are sorted and carry
one date, and nothing of the machine is written into them. The layout:

    __main__.py weed_bootstrap.py weed_release.py    what Python starts
    manifest/cp311                                   CRC-32, size and name of each file that CPython 3.11 needs
    common/...                                       files that are the same for every interpreter
    cp311/...                                        files for CPython 3.11 alone
    licenses/NAME/...                                the licences of what is shipped; not unpacked
"""

import argparse
import hashlib
import os
import re
import sys
import zipfile
import zlib
from collections import defaultdict
from pathlib import Path

from wheels import ARCHITECTURES, GLIBC, PYTHONS, ROOT, abi_of, pinned_wheels

PARTS = ("__main__.py", "weed_bootstrap.py")
SHIPPED = re.compile(r"\.(py|pem|so)$|^pyeclib\.libs/libisal-")
DROPPED = re.compile(
    r"^(pygments|markdown_it|mdurl|pyeclib)/"  # rich's colouring of source text; pyeclib but for its libisal
    r"|^(pyeclib_c|google/protobuf/compiler/|gevent/(tests|testing|libuv|_ffi)/|greenlet/tests/)"
    r"|^gevent/(ares|resolver/(cares|ares|dnspython)|libev/_corecffi)"
    r"|^zope/interface/(_zope_interface_coptimizations|(common/)?tests/)"  # pure Python takes over
    r"|\.dist-info/|\.data/"
)
LICENCE = re.compile(r"^([^/]+)-[^-/]+\.dist-info/(?:licenses/)?((?:LICEN[CS]E|NOTICE|AUTHORS|COPYING)[^/]*)$")
SHEBANG = b"#!/usr/bin/env -S python3 -I -S -X utf8\n"
DATE = (1980, 1, 1, 0, 0, 0)

Files = dict[str, bytes]


def application() -> Files:
    """Read the agent's own modules and packages: all that is named weed_*, but for the sandbox of the tests."""
    sources = [*ROOT.glob("weed_*.py"), *ROOT.glob("weed_*/**/*.py"), *ROOT.glob("proto_gen/*.py")]
    names = {source.relative_to(ROOT).as_posix(): source for source in sources}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith("weed_sandbox/")}


def libraries(python: str, architecture: str) -> tuple[Files, Files]:
    """Read the files to unpack, and the licences, from the wheels pinned for one interpreter."""
    files: Files = {}
    licences: Files = {}
    for path in pinned_wheels(python, architecture):
        with zipfile.ZipFile(path) as wheel:
            names = wheel.namelist()
            shipped = [name for name in names if SHIPPED.search(name) and not DROPPED.search(name)]
            files |= {name: wheel.read(name) for name in shipped}
            if shipped:
                found = [match for match in map(LICENCE.match, names) if match]
                licences |= {f"licenses/{match[1]}/{match[2]}": wheel.read(match[0]) for match in found}
    return files, licences


def merge(trees: dict[str, Files]) -> Files:
    """Lay the interpreters' trees into one: a file that is the same in all of them goes to common/."""
    holders: dict[tuple[str, bytes], list[str]] = defaultdict(list)
    for abi, files in trees.items():
        for name, data in files.items():
            holders[name, data].append(abi)
    merged = {}
    for (name, data), abis in holders.items():
        for part in ["common"] if len(abis) == len(trees) else abis:
            merged[f"{part}/{name}"] = data
    return merged


def manifest(merged: Files, abi: str) -> bytes:
    """List what one interpreter needs: CRC-32, size in bytes, name."""
    names = sorted(name for name in merged if name.startswith(("common/", f"{abi}/")))
    return "".join(f"{zlib.crc32(merged[name]):08x} {len(merged[name])} {name}\n" for name in names).encode()


def version() -> str:
    """Read __version__ from weed_worker.py without running it."""
    match = re.search(r'^__version__ = "([^"]+)"$', (ROOT / "weed_worker.py").read_text(), re.MULTILINE)
    if not match:
        raise SystemExit('weed_worker.py has no line __version__ = "..."')
    return match[1]


def release(contents: Files, architecture: str) -> bytes:
    """Write the module that tells the two start-up modules what the archive is."""
    digest = hashlib.sha256()
    for name in sorted(contents):
        digest.update(name.encode() + b"\0" + hashlib.sha256(contents[name]).digest())
    pythons = tuple(tuple(map(int, python.split("."))) for python in PYTHONS)
    lines = (
        f'NAME = "{version()}-{digest.hexdigest()[:12]}"',
        f'ARCHITECTURE = "{architecture}"',
        f"PYTHONS = {pythons}",
        f"GLIBC = {GLIBC}",
    )
    return "\n".join(lines).encode() + b"\n"


def collect(architecture: str) -> Files:
    """Put together everything that the archive holds."""
    own = application()
    trees: dict[str, Files] = {}
    contents: Files = {name: (ROOT / "pyz" / name).read_bytes() for name in PARTS}
    for python in PYTHONS:
        files, licences = libraries(python, architecture)
        trees[abi_of(python)] = files | own
        contents |= licences
    merged = merge(trees)
    contents |= merged | {f"manifest/{abi}": manifest(merged, abi) for abi in trees}
    licence = ROOT / "LICENSE"
    if licence.exists():
        contents["licenses/weed_worker/LICENSE"] = licence.read_bytes()
    return contents | {"weed_release.py": release(contents, architecture)}


def write(contents: Files, output: Path) -> None:
    """Write the archive in one step; what starts first is stored as it is, so that a Python without zlib can say so."""
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".part")
    with part.open("wb") as stream:
        stream.write(SHEBANG)
        with zipfile.ZipFile(stream, "w") as archive:
            for name in sorted(contents):
                member = zipfile.ZipInfo(name, DATE)
                member.create_system = 3
                member.external_attr = 0o100644 << 16
                method = zipfile.ZIP_DEFLATED if "/" in name else zipfile.ZIP_STORED
                archive.writestr(member, contents[name], method, compresslevel=6)
    part.chmod(0o755)
    os.replace(part, output)


def main() -> None:
    """Build the file that the command line asks for."""
    parser = argparse.ArgumentParser(prog="build_zipapp.sh", description="Build weed_worker.pyz.")
    parser.add_argument("architecture", nargs="?", default="x86_64", choices=ARCHITECTURES)
    parser.add_argument("output", nargs="?", type=Path, help="default: dist/weed_worker.pyz (aarch64: -aarch64.pyz)")
    options = parser.parse_args()
    suffix = "" if options.architecture == "x86_64" else f"-{options.architecture}"
    output = options.output or ROOT / "dist" / f"weed_worker{suffix}.pyz"
    write(collect(options.architecture), output)
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    sys.stdout.write(f"{output}: {output.stat().st_size / 1e6:.1f} MB, sha256 {digest}\n")


if __name__ == "__main__":
    main()
