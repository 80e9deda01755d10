"""Build weed_worker.pyz: one file that holds the agent and its libraries for every interpreter it claims.

The same inputs give the same bytes, wherever the sources lie and wherever the file goes: members are sorted and carry
one date, and nothing of the machine is written into them. The layout:

    __main__.py weed_bootstrap.py weed_release.py    what Python starts
    manifest/cp311                                   CRC-32, size, place and path of each file that CPython 3.11 needs
    agent.xz common.xz cp310.xz cp312.xz ...         the files, one behind the other, each content once
    licenses/NAME/...                                the licences of what is shipped; not unpacked

A stream holds the libraries of several interpreters, since those differ in little: a zip file, which packs each file
by itself, takes twice as much. Making it takes a while, so it is kept in build/ for as long as the pins stay.
"""

import argparse
import hashlib
import json
import lzma
import os
import re
import sys
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from wheels import ARCHITECTURES, GLIBC, PYTHONS, ROOT, abi_of, pinned_wheels, state_folder

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

DICTIONARY = 48 << 20
"""Bytes that a stream looks back, and that unpacking it takes in memory."""

TOGETHER = 2
"""Interpreters whose libraries lie in one stream."""

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


class Solid(NamedTuple):
    """Contents one behind the other in one stream; `places` are offset and size in bytes by SHA-256."""

    packed: bytes
    places: dict[str, tuple[int, int]]


def digest_of(data: bytes) -> str:
    """Name a content."""
    return hashlib.sha256(data).hexdigest()


def solid(trees: dict[str, Files], architecture: str) -> Solid:
    """Pack every content of the interpreters' trees once, those of one path one behind the other."""
    places: dict[str, tuple[int, int]] = {}
    whole = bytearray()
    for path in sorted({path for files in trees.values() for path in files}, key=lambda path: (path[-3:], path)):
        for abi in sorted(trees):
            data = trees[abi].get(path)
            if data is not None and digest_of(data) not in places:
                places[digest_of(data)] = len(whole), len(data)
                whole += data
    return Solid(lzma.compress(whole, lzma.FORMAT_XZ, lzma.CHECK_NONE, filters=filters(architecture)), places)


def filters(architecture: str) -> list[dict[str, int]]:
    """How a stream is packed: looking back over two interpreters' copies of the largest library, but not for too long.

    The search is liblzma's of preset 6 with shorter chains: a sixth of its time, for a tenth more bytes.
    """
    code = [{"id": lzma.FILTER_X86}] if architecture == "x86_64" else []  # others are too new for a host's liblzma
    search = {"mode": lzma.MODE_NORMAL, "mf": lzma.MF_HC4, "nice_len": 32, "depth": 16}
    return [*code, {"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": DICTIONARY, **search}]


def solid_libraries(trees: dict[str, Files], architecture: str) -> dict[str, Solid]:
    """The libraries' streams: what all interpreters share, then what each few of them need.

    A start unpacks the first and one of the others: few enough in one that it takes no longer than a person notices.
    """
    abis = sorted(trees)
    shared = set.intersection(*({(path, digest_of(data)) for path, data in trees[abi].items()} for abi in abis))
    parts = {"common.xz": {abis[0]: {path: trees[abis[0]][path] for path, _digest in shared}}}
    for at in range(0, len(abis), TOGETHER):
        parts[f"{abis[at]}.xz"] = {
            abi: {path: data for path, data in trees[abi].items() if (path, digest_of(data)) not in shared}
            for abi in abis[at : at + TOGETHER]
        }
    return {name: _kept(part, architecture) for name, part in parts.items()}


def _kept(trees: dict[str, Files], architecture: str) -> Solid:
    """A stream, made at most once per state of requirements.txt and of what is shipped of it."""
    named = {abi: {path: digest_of(data) for path, data in files.items()} for abi, files in trees.items()}
    state = digest_of(json.dumps([named, filters(architecture)], sort_keys=True).encode())[:12]
    packed, places = (state_folder() / f"{state}.{ext}" for ext in ("xz", "json"))
    if not places.exists():
        made = solid(trees, architecture)
        packed.write_bytes(made.packed)
        places.write_text(json.dumps(made.places))
    return Solid(packed.read_bytes(), {name: (at, size) for name, (at, size) in json.loads(places.read_text()).items()})


def manifest(files: Files, solids: dict[str, Solid]) -> bytes:
    """List what one interpreter needs: CRC-32, size in bytes, stream, offset in it, path."""
    lines = []
    for path, data in sorted(files.items()):
        name, (offset, size) = next(
            (name, one.places[digest_of(data)]) for name, one in solids.items() if digest_of(data) in one.places
        )
        lines.append(f"{zlib.crc32(data):08x} {size} {name} {offset} {path}\n")
    return "".join(lines).encode()


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
    own, trees = application(), dict[str, Files]()
    contents: Files = {name: (ROOT / "pyz" / name).read_bytes() for name in PARTS}
    for python in PYTHONS:
        files, licences = libraries(python, architecture)
        trees[abi_of(python)] = files
        contents |= licences
    solids = {"agent.xz": solid({"": own}, architecture), **solid_libraries(trees, architecture)}
    contents |= {name: one.packed for name, one in solids.items()}
    contents |= {f"manifest/{abi}": manifest(files | own, solids) for abi, files in trees.items()}
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
