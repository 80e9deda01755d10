"""Start the agent from the .pyz: unpack it once into a folder that can be trusted, prove it whole, run it from there.

Shared libraries cannot be loaded from inside a zip file, so the part for this interpreter is unpacked on the first
start and found again on later ones. Servers make that hard in many ways; each ends in a working start, or in one line
on standard error and exit status 70. Knows nothing of what the agent does.

The unpacked tree needs no "finished" mark: each start compares every file's size with the manifest and writes what is
missing or wrong, a file at a time, by rename. A first start, a start after a kill and the repair of a damaged tree are
therefore one and the same thing, and a running agent never loses a file that it has yet to open.
"""

import fcntl
import gc
import os
import pwd
import stat
import sys
import time
import zipimport
import zlib
from importlib.machinery import EXTENSION_SUFFIXES

import weed_release

EXIT_REFUSED = 70
EXIT_INTERRUPTED = 130
LOCK_PATIENCE = 30.0
"""Seconds to wait for another start that unpacks into the same folder; it usually takes one."""

STEERING = (
    "GEVENT_FILE",
    "GEVENT_FORMAT_CONTEXT",
    "GEVENT_LOOP",
    "GEVENT_PURE_PYTHON",
    "GEVENT_RESOLVER",
    "GEVENT_THREADPOOL",
    "PROMETHEUS_MULTIPROC_DIR",
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION",
    "PURE_PYTHON",
    "prometheus_multiproc_dir",
)
"""Variables that make a shipped library load other code than the code shipped, or write where nobody expects it."""

ABI = f"cp{sys.version_info[0]}{sys.version_info[1]}"

CHUNK = 1 << 20
"""Bytes that are unpacked at a time."""

Entry = tuple[int, int, str, int, str]
"""CRC-32, size in bytes, the solid archive, the offset in it in bytes, the path in the tree."""


class Refusal(Exception):
    """The agent cannot be started here; the text says why and what to do."""


class Unusable(Exception):
    """A folder cannot hold the unpacked agent; the text says why."""


def start() -> int:
    """Start the agent in the interpreter that __main__.py isolated; return its exit status."""
    for name in STEERING:
        os.environ.pop(name, None)
    try:
        check_host()
        tree = unpacked(sys.path[0], thorough=bool(os.environ.get("WEED_WORKER_VERIFY")))
        if sys.argv[1:] in (["-unpackOnly"], ["--unpackOnly"]):
            print(tree)
            return 0
        return run(tree)
    except Refusal as refusal:
        sys.stderr.write(f"weed_worker: {refusal}\n")
        return EXIT_REFUSED


def check_host() -> None:
    """Raise Refusal where the shared libraries in the archive cannot be loaded."""
    tag = f"cpython-3{sys.version_info[1]}-{weed_release.ARCHITECTURE}-linux-gnu"
    if f".{tag}.so" not in EXTENSION_SUFFIXES:
        raise Refusal(f"built for {tag}, but {sys.executable} loads {EXTENSION_SUFFIXES[0].strip('.')}")
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    if tuple(int(part) for part in libc.split()[-1].split(".")[:2]) < weed_release.GLIBC:
        raise Refusal("needs glibc {}.{} or newer; this host has {}".format(*weed_release.GLIBC, libc))


def run(tree: str) -> int:
    """Import the agent from the tree, in place of the archive, and return its exit status."""
    sys.path[0] = tree
    gc.disable()  # importing makes much and drops little; looking for garbage meanwhile costs a tenth of the time
    try:
        import weed_worker
    except (ImportError, OSError, EOFError, SyntaxError, TypeError, ValueError) as error:
        if os.environ.get("WEED_WORKER_VERIFY"):
            raise
        advice = "start once with WEED_WORKER_VERIFY=1, which checks every file and shows the whole error"
        raise Refusal(f"cannot load {tree}: {type(error).__name__}: {error}; {advice}") from error
    gc.enable()
    status = weed_worker.main()
    gc.collect()  # what gRPC leaves would be looked for later, when greenlets are no more, and say so
    return status


def unpacked(archive: str, thorough: bool) -> str:
    """Return the folder that holds the agent for this interpreter, unpacking or repairing it where needed.

    `thorough` compares contents too, not only sizes. Raises Refusal if no folder will do.
    """
    importer = zipimport.zipimporter(archive)
    entries = [parse(line) for line in contents(importer, f"manifest/{ABI}").decode().splitlines()]
    reasons = []
    try:
        for folder in folders(archive):
            try:
                return unpack_into(folder, entries, importer, thorough)
            except Unusable as reason:
                reasons.append(f"{folder}: {reason}")
            except OSError as error:
                reasons.append(f"{folder}: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    advice = "set WEED_WORKER_CACHE to a folder that this user owns, not mounted noexec, with 40 MB free"
    raise Refusal(f"nowhere to unpack to; {advice} ({'; '.join(reasons)})")


def parse(line: str) -> Entry:
    """Read one line of the manifest."""
    crc, size, solid, offset, path = line.split(" ", 4)
    return int(crc, 16), int(size), solid, int(offset), path


def folders(archive: str) -> list[str]:
    """List where the agent may be unpacked, best first; a folder that the operator chose is the only one."""
    chosen = os.environ.get("WEED_WORKER_CACHE")
    if chosen:
        return [os.path.abspath(os.path.join(chosen, "weed_worker"))]
    own = [os.environ.get(name, "").split(":")[0] for name in ("CACHE_DIRECTORY", "STATE_DIRECTORY")]
    if os.geteuid() == 0:
        own.append("/var/cache")
    own.append(os.environ.get("XDG_CACHE_HOME") or home_cache())
    shared = [os.environ.get("TMPDIR", ""), "/var/tmp", "/tmp", "/dev/shm", os.path.dirname(os.path.abspath(archive))]
    mine = f"weed_worker-{os.geteuid()}"
    candidates = [os.path.join(place, "weed_worker") for place in own if os.path.isabs(place)]
    candidates += [os.path.join(place, mine) for place in shared if os.path.isdir(place)]
    return list(dict.fromkeys(candidates))


def home_cache() -> str:
    """Return ~/.cache, or "" for a user without a home: no HOME and no passwd entry, or one that does not exist."""
    home = os.environ.get("HOME")
    if not home:
        try:
            home = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:
            return ""
    return os.path.join(home, ".cache") if os.path.isdir(home) else ""


def unpack_into(folder: str, entries: list[Entry], importer: zipimport.zipimporter, thorough: bool) -> str:
    """Return the tree inside `folder`, whole. Raises Unusable or OSError if that cannot be had here."""
    place = os.path.dirname(folder)
    tree = os.path.join(folder, f"{weed_release.NAME}-{ABI}")
    umask = os.umask(0o022)
    try:
        os.makedirs(place, exist_ok=True)
        require_trusted(place)
        if os.statvfs(place).f_flag & os.ST_NOEXEC:
            raise Unusable("mounted noexec")
        os.makedirs(folder, exist_ok=True)
        require_trusted(folder)
        if os.path.isdir(tree):
            require_trusted(tree)
            if thorough:
                drop_bytecode(tree)
            if hold(tree) and not broken(tree, entries, thorough):
                return tree
        lock = take_lock(folder)
        try:
            fill(tree, entries, importer, thorough)
            hold(tree)
            remove_unused(folder, tree)
        finally:
            os.close(lock)
    finally:
        os.umask(umask)
    return tree


def require_trusted(folder: str) -> None:
    """Raise Unusable if anyone but root and this user could have put code into `folder`, or could exchange it."""
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode):
        raise Unusable(f"{folder} is not a folder")
    if status.st_uid not in (0, os.geteuid()):
        raise Unusable(f"{folder} belongs to uid {status.st_uid}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
        raise Unusable(f"{folder} can be written by others")


def hold(tree: str) -> bool:
    """Mark the tree as used for as long as this process lives; False if it is being removed."""
    descriptor = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    except OSError:
        pass  # A file system without locks: remove_unused cannot lock the tree there either, and leaves it.
    return True


def broken(tree: str, entries: list[Entry], thorough: bool) -> list[Entry]:
    """List what is missing from the tree or not as it was packed."""
    return [entry for entry in entries if not is_whole(os.path.join(tree, entry[4]), entry, thorough)]


def is_whole(path: str, entry: Entry, thorough: bool) -> bool:
    """Tell whether a file has the size, and if `thorough` the contents, that the manifest names."""
    try:
        if os.stat(path).st_size != entry[1]:
            return False
        if not thorough:
            return True
        with open(path, "rb") as file:
            return zlib.crc32(file.read()) == entry[0]
    except OSError:
        return False


def drop_bytecode(tree: str) -> None:
    """Remove what Python compiled: the manifest cannot tell whether it is whole, and Python compiles it again."""
    from shutil import rmtree  # slow to load, and hardly a start needs it

    for folder, names, _ in os.walk(tree):
        if "__pycache__" in names:
            names.remove("__pycache__")
            rmtree(os.path.join(folder, "__pycache__"), ignore_errors=True)


def take_lock(folder: str) -> int:
    """Return a descriptor that holds the folder's lock until closed. Raises Unusable when others keep it too long."""
    descriptor = os.open(os.path.join(folder, ".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise Unusable(f"another start has kept it locked for {LOCK_PATIENCE:.0f} seconds") from None
            time.sleep(0.02)


def fill(tree: str, entries: list[Entry], importer: zipimport.zipimporter, thorough: bool) -> None:
    """Write what is broken; leave no new tree half-written when the disk is full. Raises OSError."""
    from shutil import rmtree

    fresh = not os.path.isdir(tree)
    try:
        os.makedirs(tree, exist_ok=True)
        todo = broken(tree, entries, thorough)
        for solid in sorted({entry[2] for entry in todo}):
            wanted = sorted((entry for entry in todo if entry[2] == solid), key=lambda entry: entry[3])
            unpack(tree, importer, solid, wanted)
    except OSError:
        if fresh:
            rmtree(tree, ignore_errors=True)
        raise


def unpack(tree: str, importer: zipimport.zipimporter, solid: str, entries: list[Entry]) -> None:
    """Write these files of a solid archive, given in the order of their offsets. Raises Refusal and OSError.

    The libraries of the interpreters are nearly the same and lie one behind the other in one stream, which so takes
    little more than those of one. What is not wanted is unpacked, too, and dropped: that takes less than a second.
    """
    try:
        import lzma
    except ImportError as error:
        raise Refusal(f"{sys.executable} cannot unpack the agent, its standard library lacks lzma: {error}") from error
    stream, packed = lzma.LZMADecompressor(lzma.FORMAT_XZ), contents(importer, solid)
    start, chunk = 0, b""
    for crc, size, _solid, offset, path in entries:
        parts = []
        while True:
            parts.append(chunk[max(0, offset - start) : max(0, offset + size - start)])
            if start + len(chunk) >= offset + size:
                break
            start += len(chunk)
            try:
                chunk = stream.decompress(packed, CHUNK)
            except (lzma.LZMAError, EOFError) as error:
                raise damaged(importer, solid, error) from error
            packed = b""
            if not chunk and (stream.eof or stream.needs_input):
                raise damaged(importer, solid, "it ends too early")
        data = b"".join(parts)
        if zlib.crc32(data) != crc:
            raise damaged(importer, path, "wrong checksum")
        write(os.path.join(tree, path), data)


def damaged(importer: zipimport.zipimporter, name: str, what: object) -> Refusal:
    """The refusal of an archive that is not whole."""
    return Refusal(f"{importer.archive} is damaged, copy it here afresh ({name}: {what})")


def contents(importer: zipimport.zipimporter, name: str) -> bytes:
    """Read one member of the archive. Raises Refusal if the archive is damaged."""
    try:
        return importer.get_data(name)
    except (OSError, EOFError, ImportError, zlib.error) as error:
        raise damaged(importer, name, error) from error


def write(path: str, data: bytes) -> None:
    """Put a file in place in one step. Raises OSError."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    part = path + ".part"
    with open(part, "wb") as file:
        file.write(data)
    os.replace(part, path)


def remove_unused(folder: str, current: str) -> None:
    """Remove the trees of other versions for this interpreter that no running agent holds."""
    from shutil import rmtree

    for name in os.listdir(folder):
        tree = os.path.join(folder, name)
        if not name.endswith(f"-{ABI}") or tree == current:
            continue
        descriptor = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            rmtree(tree, ignore_errors=True)
        except OSError:
            pass  # In use, or on a file system without locks: the next upgrade tries again.
        finally:
            os.close(descriptor)
