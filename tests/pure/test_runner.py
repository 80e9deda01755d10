"""`python -m tests`: what fails once is a failure, even if it passes then, and the last line counts the tests."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).parents[1] / "__main__.py"
GOOD = "def test_good(): pass\n"
BROKEN = "def test_broken(): assert False\n"
DEAD = "import os\nos._exit(3)\n"
FLAKY = """\
from pathlib import Path
def test_flaky():
    seen = Path(__file__).with_suffix(".seen")
    before = seen.exists()
    seen.touch()
    assert before
"""


def run(root: Path, files: dict[str, str], *arguments: str, name: str = "some") -> tuple[int, list[str]]:
    """The status and the lines of a run over these files, in a folder of this name."""
    folder = root / "tests" / name
    folder.mkdir(parents=True)
    shutil.copyfile(RUNNER, root / "tests" / "__main__.py")
    (root / "pytest.ini").write_text("[pytest]\naddopts = -q -p no:cacheprovider\n")
    for file, text in files.items():
        (folder / f"test_{file}.py").write_text(text)
    command = [sys.executable, "-m", "tests", "-n", "2", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_all_that_passes_is_counted_on_the_last_line_and_timed_on_the_one_before(tmp_path: Path) -> None:
    skipped = "import pytest\n@pytest.mark.skip\ndef test_skipped(): pass\n"
    status, lines = run(tmp_path, {"a": GOOD, "b": GOOD + skipped})
    assert status == 0
    assert lines[-1] == "2 passed, 0 failed, 1 skipped"
    assert re.fullmatch(r"all files in \d+ s", lines[-2])


@pytest.mark.parametrize(
    ("files", "arguments", "status", "last"),
    [
        ({"a": GOOD, "b": BROKEN}, (), 1, "1 passed, 1 failed, 0 skipped"),
        ({"a": GOOD, "b": FLAKY}, (), 1, "1 passed, 1 failed, 0 skipped"),
        ({"a": GOOD, "b": FLAKY}, ("--allow-flaky",), 0, "1 passed, 1 failed, 0 skipped"),
        ({"a": BROKEN, "b": FLAKY}, ("--allow-flaky",), 1, "0 passed, 2 failed, 0 skipped"),
        ({"a": GOOD, "b": DEAD}, (), 1, "1 passed, 1 failed, 0 skipped"),
    ],
)
def test_what_fails_once_is_a_failure(
    tmp_path: Path, files: dict[str, str], arguments: tuple[str, ...], status: int, last: str
) -> None:
    ended, lines = run(tmp_path, files, *arguments)
    assert (ended, lines[-1]) == (status, last)
    flaky = [line for line in lines if line.startswith("FAILED") and line.endswith("(it passed when run alone)")]
    assert len(flaky) == (FLAKY in files.values())


def test_files_that_start_no_servers_share_a_process(tmp_path: Path) -> None:
    status, lines = run(tmp_path, {"a": GOOD, "b": GOOD}, name="pure")
    assert status == 0
    assert [line for line in lines if re.fullmatch(r"tests/pure 2 passed \(\d+ s\)", line)]
    assert lines[-1] == "2 passed, 0 failed, 0 skipped"
