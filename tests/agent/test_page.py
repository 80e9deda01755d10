"""The worker's page: what it shows, that nothing on it does anything, and that a browser takes it as it is meant."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.agent.agent import Agent, flags_for
from tests.agent.driver import Driver
from tests.agent.test_metrics import Watcher
from tests.agent.work import garbage, hold, server_of
from tests.support import eventually, free_port
from tests.support.cluster import Cluster
from weed_agent import page
from weed_agent.settings import parse
from weed_agent.snapshot import take
from weed_agent.status_port import status
from weed_cluster import security
from weed_core.model import Detection, Skipped
from weed_state.history import Ended
from weed_state.identity import claim
from weed_worker import Worker

Start = Callable[..., Agent]
NASTY = "</table><script>alert(1)</script>\u202e\x1b[2J&amp;\" onload='x'"


class Checked(HTMLParser):
    """Reads a page strictly: each element that opens closes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    """What a worker tells that has seen and done things, some of them with names that mean no good."""
    flags = [f"-workingDir={tmp_path}", "-window=vacuum=00:00-06:00"]
    worker = Worker(parse(flags), claim(tmp_path, "w-test"), security.load())
    for number in range(40):
        worker.history.add(
            Ended(f"j{number}", "vacuum", (number,), "photos", "done", time.time() - 3600, 2.0, "done", {"freed": 4096})
        )
    worker.history.add(Ended(NASTY, "balance", (7, 8), NASTY, "failed", time.time(), 2.0, NASTY))
    skipped = [Skipped(number, f"{NASTY} {number}", "below the threshold", NASTY) for number in range(600)]
    worker.news.looked("vacuum", Detection([], skipped, seen=600))
    return status(take(worker), worker.metrics)


def test_the_page_is_sound_whatever_names_it_shows(document: dict[str, Any]) -> None:
    for query in ("", "open=vacuum", "open=nix", "open=%3Cscript%3E", "open"):
        text = page.render(document, query)
        seen = Checked(text)
        tags = {tag for tag, _attributes in seen.seen}
        assert not tags & {"script", "form", "input", "button", "iframe", "img", "link", "object", "base"}
        assert not [attributes for _tag, attributes in seen.seen if any(name.startswith("on") for name in attributes)]
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert "alert(1)" in seen.words
        for tag, attributes in seen.seen:
            assert "src" not in attributes
            if tag == "a":
                assert re.fullmatch(r"\?(open=\w+#\w+)?", attributes["href"] or "")
    assert "http" not in page.STYLE.replace("http-equiv", "")
    assert "url(" not in page.STYLE


def test_the_page_tells_results_and_looks_and_unfolds_what_was_passed_over(document: dict[str, Any]) -> None:
    words = Checked(page.render(document)).words
    assert "w-test" in words
    assert "not connected to its admin" in words
    assert "4.0 KiB freed" in words
    assert "600 below the threshold" in words
    assert "window 00:00-06:00" in words
    assert "nothing left to undo or deliver" in words
    assert f"{NASTY[:8]}" in words
    assert " 599" not in words
    unfolded = Checked(page.render(document, "open=vacuum")).words
    assert "Why it was passed over" in unfolded
    assert "and 100 more; weed_worker plan -all lists them" in unfolded
    assert page.render(document).count("<tr>") < 40


def test_a_running_job_is_on_the_page_with_its_bar(sandbox_cluster: Cluster, start_agent: Start) -> None:
    watcher, driver = Watcher(free_port()), Driver(sandbox_cluster.start_admin("plugin"), "plugin")
    agent = start_agent(flags_for(driver.admin), "-capabilities=vacuum", "-maxExecute=1", *watcher.flags)
    eventually(lambda: watcher.get("/ready")[0] == 200, 20)
    (volume_id,) = garbage(sandbox_cluster).volume_ids
    hold(sandbox_cluster, volume_id, 3.0)
    driver.give("j1", "vacuum", volume_id, server_of(sandbox_cluster, volume_id))
    pages = (watcher.get("/")[1] for _ask in iter(int, 1))
    running = eventually(lambda: text if "<progress" in (text := next(pages)) else "", 20)
    shown = Checked(running)
    assert f"vacuum of volume {volume_id}" in shown.words
    assert "working, every slot is taken" in shown.words
    assert driver.ended("j1").success
    eventually(lambda: "KiB freed" in watcher.get("/")[1], 20)
    (done,) = eventually(lambda: watcher.status()["ended"])
    assert (done["outcome"], done["volumes"], done["gains_bytes"]["freed"] > 0) == ("done", [volume_id], True)
    headers = watcher.headers("/")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    agent.kill()
    again = Watcher(free_port())
    start_agent(flags_for(driver.admin), "-capabilities=vacuum", *again.flags)
    eventually(lambda: again.get("/health")[0] == 200, 20)
    assert [one["id"] for one in again.status()["ended"]] == ["j1"]


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_a_browser_shows_the_page_light_dark_and_narrow(document: dict[str, Any], tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("NOT TESTED: no browser is here to show the worker's page; install chromium")
    file = tmp_path / "page.html"
    file.write_text(page.render(document, "open=vacuum"))
    out = os.environ.get("WEED_SCREENSHOTS") or str(tmp_path)
    for name, width, more in (("light", 1200, ()), ("dark", 1200, ("--force-dark-mode",)), ("narrow", 500, ())):
        shot = Path(out) / f"{name}.png"
        browser = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *more]
        browser += [f"--user-data-dir={tmp_path / name}", f"--window-size={width},900", f"--screenshot={shot}"]
        subprocess.run([*browser, file.as_uri()], capture_output=True, timeout=120, check=True)
        assert shot.stat().st_size > 10_000
    dumped = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", f"--user-data-dir={tmp_path / 'dom'}", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert "<script" not in dumped
    assert "w-test" in dumped
