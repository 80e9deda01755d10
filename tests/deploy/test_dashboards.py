"""The Grafana dashboard and the alert rules name only what a worker shows, with labels that it has."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from weed_agent.metrics import Metrics
from weed_agent.settings import parse
from weed_agent.snapshot import take
from weed_cluster import security
from weed_cluster.health import Health
from weed_core.model import Detection, Skipped
from weed_core.scrub_ledger import Coverage
from weed_state.identity import claim
from weed_worker import Worker

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "weed_worker.json").read_text())
RULES = yaml.safe_load((DEPLOY / "prometheus" / "weed_worker.rules.yml").read_text())

ADDED_BY_PROMETHEUS = {"instance", "job", "le"}
METRIC = re.compile(r"\b(?:weed_worker|process)_\w+\b")
SELECTOR = re.compile(r"\b(weed_worker_\w+)\{([^}]*)\}")
GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every sample that a worker shows, and the labels it may have."""
    directory = tmp_path_factory.mktemp("worker")
    flags = [f"-workingDir={directory}", "-window=vacuum=00:00-06:00"]
    worker = Worker(parse(flags), claim(directory, "w-test"), security.load())
    metrics: Metrics = worker.metrics
    metrics.stream_event("connected")
    metrics.task_ended("vacuum", "success", 1.0, 10, 20)
    worker.news.looked("vacuum", Detection([], [Skipped(1, "too young", "below the threshold")], seen=1))
    health = Health({("", "14"): 1}, {("", "read_only"): 1}, {"": 1}, {("", "hour"): 1})
    worker.sight.saw(health, Coverage(30, 1, 1), time.time())
    worker.news.looked("balance", None, "no master answers")
    metrics.heartbeat_late(0.1)
    metrics.call("host:1", "VolumeStatus", "OK")
    metrics.show(lambda: take(worker))
    _kind, body = metrics.exposition()
    samples: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, set()).update(sample.labels)
    return samples


def panels() -> Iterator[dict[str, Any]]:
    """The panels that show something."""
    return (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def rules() -> Iterator[dict[str, Any]]:
    """Every alert rule."""
    return (rule for group in RULES["groups"] for rule in group["rules"])


def expressions() -> Iterator[str]:
    """Every expression of dashboard and rules."""
    yield from (target["expr"] for panel in panels() for target in panel["targets"])
    yield from (variable["definition"] for variable in DASHBOARD["templating"]["list"] if "definition" in variable)
    yield from (rule["expr"] for rule in rules())


def test_every_metric_named_is_one_that_a_worker_shows(shown: dict[str, set[str]]) -> None:
    named = {name for expression in expressions() for name in METRIC.findall(expression)}
    assert len(named) > 15
    assert named <= set(shown)


def test_every_metric_of_the_worker_itself_is_on_the_dashboard(shown: dict[str, set[str]]) -> None:
    named = {name for panel in panels() for target in panel["targets"] for name in METRIC.findall(target["expr"])}
    suffix = re.compile(r"_(bucket|count|sum|created)$")
    ours = {suffix.sub("", name) for name in shown if name.startswith("weed_worker_")}
    assert ours - {suffix.sub("", name) for name in named} == {"weed_worker_last_heartbeat_timestamp_seconds"}


def test_every_alert_has_a_section_in_the_runbook_and_no_section_is_without_one() -> None:
    text = (DEPLOY.parent / "docs" / "alerts.md").read_text()
    sections = {f"docs/alerts.md#{name.lower()}" for name in re.findall(r"^## (\w+)$", text, re.M)}
    assert {rule["annotations"]["runbook_url"] for rule in rules()} == sections
    for rule in rules():
        assert rule["annotations"]["runbook_url"].endswith(f"#{rule['alert'].lower()}")


def test_every_label_selected_or_grouped_by_exists(shown: dict[str, set[str]]) -> None:
    every = {label for labels in shown.values() for label in labels} | ADDED_BY_PROMETHEUS
    for expression in expressions():
        for metric, selector in SELECTOR.findall(expression):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!=|=)", selector))
            assert labels <= shown[metric] | ADDED_BY_PROMETHEUS, expression
        for grouping in GROUPING.findall(expression):
            assert {label.strip() for label in grouping.split(",")} <= every, expression


def test_expressions_are_balanced() -> None:
    for expression in expressions():
        for opening, closing in ("()", "{}", "[]"):
            assert expression.count(opening) == expression.count(closing), expression


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= set(DASHBOARD)
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, y) for x in _span(place["x"], place["w"]) for y in _span(place["y"], place["h"])}
        assert cells.isdisjoint(taken), f"{panel['title']} lies over another panel"
        taken |= cells
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)) > 0


def _span(start: int, length: int) -> range:
    return range(start, start + length)


def test_every_rule_has_what_prometheus_and_its_reader_need() -> None:
    assert list(RULES) == ["groups"]
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) > 5
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"WeedWorker[A-Za-z]+", rule["alert"])
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "0s"))
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        for variable in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert variable == "instance" or re.search(rf"by \([^)]*\b{variable}\b", rule["expr"])
