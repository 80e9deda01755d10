"""The real file on the real Pythons of this machine, on hosts that make a start hard.

Each ends in a working start, or in one line on standard error and exit status 70.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import tempfile
import zipfile
from pathlib import Path

import pytest

from tests.artefact.hosts import (
    SUPPORTED,
    TOO_OLD,
    Run,
    any_python,
    as_unknown_user,
    assert_refused,
    assert_started,
    find_python,
    on_host_where,
    python,
    run,
    shared_python,
)
from tests.support import eventually

pytestmark = pytest.mark.timeout(600)  # the first build of all downloads the wheels

CYGRPC = "grpc/_cython/cygrpc.cpython-*.so"


def start(pyz: Path, version: str | None = None, /, **environment: str | Path) -> Run:
    """Start the file, on any supported Python or a given one, and let it say its version."""
    return run([python(version) if version else any_python(), pyz, "-version"], environment)


def unpack(pyz: Path, cache: Path, version: str | None = None) -> Path:
    """Unpack the file into a cache folder and return the tree."""
    done = run([python(version) if version else any_python(), pyz, "-unpackOnly"], {"WEED_WORKER_CACHE": cache})
    assert (done.returncode, done.stderr) == (0, "")
    tree = Path(done.stdout.removesuffix("\n"))
    assert (tree / "weed_worker.py").is_file()
    return tree


def whole(tree: Path) -> bool:
    """Whether nothing half-written is left in the tree."""
    return not list(tree.rglob("*.part"))


# Interpreters


@pytest.mark.parametrize("version", SUPPORTED)
def test_it_starts_twice_on_every_python_it_claims(pyz: Path, tmp_path: Path, version: str) -> None:
    assert_started(start(pyz, version, WEED_WORKER_CACHE=tmp_path))
    assert_started(start(pyz, version, WEED_WORKER_CACHE=tmp_path))


@pytest.mark.parametrize("version", TOO_OLD)
def test_an_older_python_finds_one_that_will_do(pyz: Path, tmp_path: Path, version: str) -> None:
    (tmp_path / "python3.15").mkdir()  # is passed over
    found = next(version for version in SUPPORTED if find_python(version))
    (tmp_path / f"python{found}").symlink_to(any_python())
    assert_started(start(pyz, version, WEED_WORKER_CACHE=tmp_path, PATH=tmp_path))


@pytest.mark.parametrize("version", TOO_OLD)
def test_an_older_python_is_refused_in_one_line_where_no_other_is_there(
    pyz: Path, tmp_path: Path, version: str
) -> None:
    assert_refused(
        start(pyz, version, WEED_WORKER_CACHE=tmp_path, PATH=tmp_path / "nothing"),
        "3.10, 3.11, 3.12, 3.13, 3.14, 3.15",
        version,
    )


def test_the_file_for_another_processor_is_refused_in_one_line(aarch64_pyz: Path, tmp_path: Path) -> None:
    assert_refused(start(aarch64_pyz, WEED_WORKER_CACHE=tmp_path), "built for", "aarch64")


def test_a_python_without_lzma_is_refused_in_one_line_where_it_has_to_unpack(pyz: Path, tmp_path: Path) -> None:
    script = (
        "import sys, runpy; sys.modules['lzma'] = None;"
        f" sys.argv = [{str(pyz)!r}, '-version']; runpy.run_path({str(pyz)!r}, run_name='__main__')"
    )
    command = [any_python(), "-I", "-S", "-c", script]
    assert_refused(run(command, {"WEED_WORKER_CACHE": tmp_path}), "standard library", "lzma")
    unpack(pyz, tmp_path)
    assert_started(run(command, {"WEED_WORKER_CACHE": tmp_path}))


def test_a_python_without_zlib_is_refused_in_one_line(pyz: Path, tmp_path: Path) -> None:
    script = f"import sys, runpy; sys.modules['zlib'] = None; runpy.run_path({str(pyz)!r}, run_name='__main__')"

    result = run([any_python(), "-I", "-S", "-c", script], {"WEED_WORKER_CACHE": tmp_path})

    assert_refused(result, "standard library", "zlib")


def test_one_cache_serves_several_pythons(pyz: Path, tmp_path: Path) -> None:
    trees = {unpack(pyz, tmp_path, version) for version in SUPPORTED}

    assert len(trees) == len(SUPPORTED)
    assert {tree for tree in trees if tree.is_dir()} == trees


def test_the_exit_status_is_the_agents_own(pyz: Path, tmp_path: Path) -> None:
    result = run([any_python(), pyz, "-noSuchFlag"], {"WEED_WORKER_CACHE": tmp_path})

    assert result.returncode not in (0, 70)
    assert "noSuchFlag" in result.stderr


# Start-up variables that would run something else


def test_modules_on_pythonpath_do_not_replace_ours(pyz: Path, tmp_path: Path) -> None:
    """Without the host's site (-S), which runs before any code of ours: its .pth files may import what they like."""
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    for name in ("grpc", "gevent", "docopt", "json", "zlib", "weed_worker", "weed_bootstrap", "weed_release"):
        (shadow / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")

    environment: dict[str, str | Path] = {"WEED_WORKER_CACHE": tmp_path, "PYTHONPATH": shadow, "PYTHONSAFEPATH": "1"}
    assert_started(run([any_python(), "-S", pyz, "-version"], environment))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GEVENT_LOOP", "no.such.loop"),
        ("GEVENT_RESOLVER", "ares"),
        ("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "cpp"),
        ("PURE_PYTHON", "1"),
        ("PYTHONINSPECT", "1"),
        ("PYTHONSTARTUP", "/no/such/file"),
        ("PYTHONWARNINGS", "error"),
        ("SHIV_ENTRY_POINT", "os:abort"),
        ("SHIV_INTERPRETER", "1"),
    ],
)
def test_a_variable_that_steers_python_or_a_library_changes_nothing(
    pyz: Path, tmp_path: Path, name: str, value: str
) -> None:
    assert_started(start(pyz, WEED_WORKER_CACHE=tmp_path, **{name: value}))


def test_run_as_a_program_it_does_not_even_see_pythonhome_or_sitecustomize(pyz: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('the wrong module')\n")
    environment: dict[str, str | Path] = {
        "PATH": f"{Path(any_python()).parent}:{os.environ['PATH']}",
        "PYTHONHOME": "/no/such/folder",
        "PYTHONPATH": tmp_path,
        "WEED_WORKER_CACHE": tmp_path,
    }

    assert_started(run([pyz, "-version"], environment))


# Where to unpack


def test_a_home_that_does_not_exist_is_passed_over(pyz: Path, tmp_path: Path) -> None:
    command = as_unknown_user([any_python(), pyz, "-unpackOnly"])

    result = run(command, {"HOME": "/no/such/home", "TMPDIR": tmp_path})

    assert (result.returncode, result.stderr) == (0, "")
    assert Path(result.stdout).parent == tmp_path / "weed_worker-54321"


def test_a_home_that_cannot_be_written_is_passed_over(pyz: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    command = as_unknown_user([any_python(), pyz, "-unpackOnly"])

    result = run(command, {"HOME": home, "TMPDIR": tmp_path})

    assert (result.returncode, result.stderr) == (0, "")
    assert Path(result.stdout).parent == tmp_path / "weed_worker-54321"


def test_a_home_that_can_be_written_is_used(pyz: Path, tmp_path: Path) -> None:
    result = run(as_unknown_user([any_python(), pyz, "-unpackOnly"]), {"HOME": tmp_path})

    assert (result.returncode, result.stderr) == (0, "")
    assert Path(result.stdout).parent == tmp_path / ".cache" / "weed_worker"


def test_a_user_without_home_or_passwd_entry_can_start_it(pyz: Path, tmp_path: Path) -> None:
    assert_started(run(as_unknown_user([any_python(), pyz, "-version"]), {"TMPDIR": tmp_path}))


def test_a_chosen_folder_that_will_not_do_is_refused_in_one_line(pyz: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert_refused(start(pyz, WEED_WORKER_CACHE=tmp_path / "file"), "WEED_WORKER_CACHE", str(tmp_path / "file"))


def test_a_chosen_noexec_folder_is_refused_in_one_line(pyz: Path, tmp_path: Path) -> None:
    command = on_host_where(f"mount -t tmpfs -o noexec tmpfs {tmp_path}", [any_python(), pyz, "-version"])

    assert_refused(run(command, {"WEED_WORKER_CACHE": tmp_path}), "noexec", str(tmp_path))


def test_a_noexec_folder_is_passed_over(pyz: Path, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    bad.mkdir()
    command = on_host_where(f"mount -t tmpfs -o noexec tmpfs {bad}", [any_python(), pyz, "-version"])

    assert_started(run(command, {"CACHE_DIRECTORY": bad, "STATE_DIRECTORY": good}))
    assert list(good.glob("weed_worker/*/weed_worker.py"))


def test_a_chosen_read_only_folder_is_refused_in_one_line(pyz: Path, tmp_path: Path) -> None:
    command = on_host_where(f"mount -t tmpfs -o ro tmpfs {tmp_path}", [any_python(), pyz, "-version"])

    assert_refused(run(command, {"WEED_WORKER_CACHE": tmp_path}), "Read-only", str(tmp_path))


def test_a_read_only_folder_is_passed_over(pyz: Path, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    bad.mkdir()
    command = on_host_where(f"mount -t tmpfs -o ro tmpfs {bad}", [any_python(), pyz, "-version"])

    assert_started(run(command, {"CACHE_DIRECTORY": bad, "STATE_DIRECTORY": good}))


def test_what_was_unpacked_before_works_from_a_read_only_disk(pyz: Path, tmp_path: Path) -> None:
    unpack(pyz, tmp_path)
    setup = f"mount --bind {tmp_path} {tmp_path}; mount -o remount,bind,ro {tmp_path}"

    assert_started(run(on_host_where(setup, [any_python(), pyz, "-version"]), {"WEED_WORKER_CACHE": tmp_path}))


def test_a_chosen_full_disk_is_refused_in_one_line_and_left_clean(pyz: Path, tmp_path: Path) -> None:
    listing = tmp_path / "listing"
    disk = tmp_path / "disk"
    disk.mkdir()
    command = on_host_where(
        f"mount -t tmpfs -o size=5m tmpfs {disk}", [any_python(), pyz, "-version"], f"ls {disk}/weed_worker > {listing}"
    )

    assert_refused(run(command, {"WEED_WORKER_CACHE": disk}), "No space left", str(disk))
    assert listing.read_text() == ""


def test_a_full_disk_is_passed_over(pyz: Path, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    bad.mkdir()
    command = on_host_where(f"mount -t tmpfs -o size=5m tmpfs {bad}", [any_python(), pyz, "-version"])

    assert_started(run(command, {"CACHE_DIRECTORY": bad, "STATE_DIRECTORY": good}))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can unpack for other users")
def test_what_root_unpacked_serves_every_user(pyz: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        copy = shutil.copy(pyz, folder)
        environment = {"WEED_WORKER_CACHE": f"{folder}/cache"}
        unpacked = run(["sh", "-c", 'umask 077; "$@"', "sh", shared_python(), copy, "-unpackOnly"], environment)

        assert unpacked.returncode == 0
        assert_started(
            run(["setpriv", "--reuid=54321", "--clear-groups", shared_python(), copy, "-version"], environment)
        )


# Whom to trust


def test_a_folder_that_the_group_can_write_is_refused_in_one_line(pyz: Path, tmp_path: Path) -> None:
    folder = unpack(pyz, tmp_path).parent
    folder.chmod(0o775)

    assert_refused(start(pyz, WEED_WORKER_CACHE=tmp_path), str(folder), "written by others")


def test_a_tree_that_the_group_can_write_is_refused_in_one_line(pyz: Path, tmp_path: Path) -> None:
    tree = unpack(pyz, tmp_path)
    tree.chmod(0o775)

    assert_refused(start(pyz, WEED_WORKER_CACHE=tmp_path), str(tree), "written by others")


def test_a_link_in_place_of_the_folder_is_refused_in_one_line(pyz: Path, tmp_path: Path) -> None:
    folder = unpack(pyz, tmp_path / "real").parent
    (tmp_path / "weed_worker").symlink_to(folder)

    assert_refused(start(pyz, WEED_WORKER_CACHE=tmp_path), "not a folder")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_refused_in_one_line(pyz: Path, tmp_path: Path) -> None:
    folder = unpack(pyz, tmp_path).parent
    os.chown(folder, 12345, 12345)

    assert_refused(start(pyz, WEED_WORKER_CACHE=tmp_path), str(folder), "belongs to uid 12345")


# Damage


def test_a_truncated_library_is_repaired(pyz: Path, tmp_path: Path) -> None:
    (library,) = unpack(pyz, tmp_path).glob(CYGRPC)
    size = library.stat().st_size
    os.truncate(library, 100_000)

    assert_started(start(pyz, WEED_WORKER_CACHE=tmp_path))
    assert library.stat().st_size == size


def test_a_deleted_module_is_repaired(pyz: Path, tmp_path: Path) -> None:
    module = unpack(pyz, tmp_path) / "grpc" / "__init__.py"
    module.unlink()

    assert_started(start(pyz, WEED_WORKER_CACHE=tmp_path))
    assert module.is_file()


def test_damage_that_keeps_the_size_is_named_and_repaired_when_asked(pyz: Path, tmp_path: Path) -> None:
    module = unpack(pyz, tmp_path) / "grpc" / "__init__.py"
    module.write_bytes(b"\0" * module.stat().st_size)

    assert_refused(start(pyz, WEED_WORKER_CACHE=tmp_path), "cannot load", "WEED_WORKER_VERIFY=1")
    assert_started(start(pyz, WEED_WORKER_CACHE=tmp_path, WEED_WORKER_VERIFY="1"))
    assert_started(start(pyz, WEED_WORKER_CACHE=tmp_path))


def test_truncated_bytecode_is_named_and_repaired_when_asked(pyz: Path, tmp_path: Path) -> None:
    tree = unpack(pyz, tmp_path)
    assert_started(start(pyz, WEED_WORKER_CACHE=tmp_path))
    (bytecode,) = tree.glob("grpc/__pycache__/__init__.*.pyc")
    os.truncate(bytecode, 50)

    assert_refused(start(pyz, WEED_WORKER_CACHE=tmp_path), "cannot load", "WEED_WORKER_VERIFY=1")
    assert_started(start(pyz, WEED_WORKER_CACHE=tmp_path, WEED_WORKER_VERIFY="1"))


@pytest.mark.parametrize("stream", ["agent.xz", "common.xz"])
def test_a_damaged_file_is_refused_in_one_line(pyz: Path, tmp_path: Path, stream: str) -> None:
    damaged = tmp_path / "weed_worker.pyz"
    contents = bytearray(pyz.read_bytes())
    with zipfile.ZipFile(pyz) as archive:
        member = archive.getinfo(stream)
    middle = member.header_offset + member.compress_size // 2
    contents[middle : middle + 100_000] = bytes(100_000)
    damaged.write_bytes(contents)

    assert_refused(start(damaged, WEED_WORKER_CACHE=tmp_path), str(damaged), "is damaged, copy it here afresh")


def test_a_start_that_was_killed_while_unpacking_is_completed_by_the_next(pyz: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weed_worker"
    for files in (1, 100, 250):
        process = subprocess.Popen([any_python(), pyz, "-version"], env={"WEED_WORKER_CACHE": str(tmp_path)})
        eventually(lambda least=files: sum(1 for _ in folder.rglob("*.py")) >= least, pause=0.001)  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    assert_started(start(pyz, WEED_WORKER_CACHE=tmp_path))
    (tree,) = folder.glob("*-cp*")
    assert whole(tree)


def test_four_first_starts_at_once_all_work(pyz: Path, tmp_path: Path) -> None:
    command = [any_python(), str(pyz), "-version"]
    environment = {"WEED_WORKER_CACHE": str(tmp_path)}
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]

    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert_started(Run(command, process.returncode, output, errors))
    (tree,) = (tmp_path / "weed_worker").glob("*-cp*")
    assert whole(tree)


# Other versions


def leave_behind(tree: Path, name: str) -> Path:
    """Make the folder that another version would have left beside this tree."""
    other = tree.parent / name
    other.mkdir()
    (other / "weed_worker.py").touch()
    return other


def test_unpacking_removes_older_versions_but_not_those_in_use_or_of_other_pythons(pyz: Path, tmp_path: Path) -> None:
    tree = unpack(pyz, tmp_path / "first")
    cache = tmp_path / "second"
    (cache / "weed_worker").mkdir(parents=True, mode=0o755)
    sibling = cache / "weed_worker" / tree.name
    abi = tree.name.rpartition("-")[2]
    old = leave_behind(sibling, f"0.0.1-aaaaaaaaaaaa-{abi}")
    used = leave_behind(sibling, f"0.0.2-bbbbbbbbbbbb-{abi}")
    foreign = leave_behind(sibling, "0.0.1-aaaaaaaaaaaa-cp39")
    descriptor = os.open(used, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        unpack(pyz, cache)
    finally:
        os.close(descriptor)

    assert (old.exists(), used.exists(), foreign.exists()) == (False, True, True)


def test_a_running_agent_holds_its_tree(pyz: Path, tmp_path: Path) -> None:
    tree = unpack(pyz, tmp_path)
    command = [any_python(), str(pyz), "-admin=127.0.0.1:1", f"-workingDir={tmp_path / 'work'}"]
    with open(os.devnull, "r+b") as null:
        environment = {"WEED_WORKER_CACHE": str(tmp_path)}
        agent = subprocess.Popen(command, env=environment, stdin=null, stdout=null, stderr=null)
    lock = re.compile(rf"FLOCK +ADVISORY +READ +{agent.pid} +\S+:{tree.stat().st_ino} ")
    try:
        assert eventually(lambda: lock.search(Path("/proc/locks").read_text()))
    finally:
        agent.kill()
        agent.wait(10)


def test_unpacking_alone_prints_the_folder_and_starts_nothing(pyz: Path, tmp_path: Path) -> None:
    tree = unpack(pyz, tmp_path)

    assert tree.parent == tmp_path / "weed_worker"
    assert not list(tree.rglob("__pycache__"))
