"""The alert rules as Prometheus evaluates them: each fires where it should, and is silent where all is well."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "weed_worker.rules.yml"
ALERTS = [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]

WHO = 'instance="w1",job="weed_worker"'
INFO = f"weed_worker_info{{{WHO}}}"
DAY = 24 * 60


def series(name: str, values: str, labels: str = "") -> dict[str, str]:
    """A series of one sample a minute."""
    return {"series": f"{name}{{{WHO}{',' + labels if labels else ''}}}", "values": values}


IDLE = series("weed_worker_slots_used", "0x4500", 'lane="execution"')
UP = [series("weed_worker_connected", "1x4500"), series("weed_worker_draining", "0x4500")]

FIRING: dict[str, tuple[list[dict[str, str]], int]] = {
    "WeedWorkerDown": ([series("up", "1x5 0x60"), {"series": INFO, "values": "1x5"}], 20),
    "WeedWorkerNotRegistered": (
        [series("weed_worker_connected", "0x60"), series("weed_worker_draining", "0x60")],
        15,
    ),
    "WeedWorkerPausedForLong": ([series("weed_worker_paused", "1x2000")], DAY + 10),
    "WeedWorkerTasksFail": (
        [series("weed_worker_tasks_total", "0+1x60", 'type="vacuum",result="failure"')],
        30,
    ),
    "WeedWorkerCannotLook": (
        [series("weed_worker_detections_total", "0+1x200", 'type="vacuum",result="failure"')],
        60,
    ),
    "WeedWorkerHeartbeatsLate": (
        [
            series("weed_worker_heartbeat_late_seconds_bucket", "0x200", 'le="5"'),
            series("weed_worker_heartbeat_late_seconds_bucket", "0+1x200", 'le="15"'),
            series("weed_worker_heartbeat_late_seconds_bucket", "0+1x200", 'le="+Inf"'),
        ],
        60,
    ),
    "WeedWorkerCannotUndo": ([series("weed_worker_journal_entries_open", "1x100"), IDLE], 45),
    "WeedWorkerResultsNotTaken": ([series("weed_worker_results_owed", "3x100"), *UP, IDLE], 45),
    "WeedWorkerStuck": (
        [
            series("weed_worker_slots_used", "2x2000", 'lane="execution"'),
            series("weed_worker_slots", "2x2000", 'lane="execution"'),
            series("weed_worker_tasks_total", "5x2000", 'type="vacuum",result="success"'),
        ],
        DAY,
    ),
    "WeedWorkerNoSuccess": (
        [
            series("weed_worker_last_success_timestamp_seconds", "0x4500", 'type="vacuum"'),
            series("weed_worker_jobs_to_do", "4x4500", 'type="vacuum"'),
        ],
        3 * DAY + 120,
    ),
    "WeedWorkerVolumesLackCopies": ([series("weed_worker_jobs_to_do", "25x60", 'type="replication"')], 20),
    "WeedWorkerFaultNotMended": ([series("weed_worker_jobs_to_do", "1x200", 'type="ec_repair"')], 90),
    "WeedWorkerHoldsForLong": ([series("weed_worker_oldest_hold_timestamp_seconds", "60x60")], 30),
    "WeedWorkerCertificateEnds": ([series("weed_worker_certificate_expiry_timestamp_seconds", "86400x60")], 10),
    "WeedWorkerVolumeUnreadable": (
        [series("weed_worker_ec_volumes", "1x200", 'collection="c",state="fewer"')],
        90,
    ),
    "WeedWorkerVolumeInDanger": ([series("weed_worker_ec_volumes", "2x200", 'collection="c",state="11"')], 90),
    "WeedWorkerBadBytesNotMended": ([series("weed_worker_faults_open", "1x200", 'collection="c",state="week"')], 90),
    "WeedWorkerScrubLate": ([series("weed_worker_scrub_oldest_seconds", "6000000x200")], 90),
    "WeedWorkerDiskAlmostFull": ([series("weed_worker_working_directory_free_bytes", "50000000x60")], 10),
}

WELL = [
    series("up", "1x4500"),
    {"series": INFO, "values": "1x4500"},
    *UP,
    IDLE,
    series("weed_worker_paused", "0x4500"),
    series("weed_worker_slots", "2x4500", 'lane="execution"'),
    series("weed_worker_tasks_total", "0+1x4500", 'type="vacuum",result="success"'),
    series("weed_worker_tasks_total", "1x4500", 'type="vacuum",result="failure"'),
    series("weed_worker_detections_total", "0+1x4500", 'type="vacuum",result="success"'),
    series("weed_worker_journal_entries_open", "0x4500"),
    series("weed_worker_results_owed", "0x4500"),
    series("weed_worker_last_success_timestamp_seconds", "0+60x4500", 'type="vacuum"'),
    # A type without work does not fail, however long ago it had some.
    series("weed_worker_last_success_timestamp_seconds", "0x4500", 'type="balance"'),
    series("weed_worker_jobs_to_do", "0x4500", 'type="balance"'),
    # Faults come and go.
    series("weed_worker_jobs_to_do", "0 3 0 _x30 0 2 0 " * 200, 'type="replication"'),
    series("weed_worker_oldest_hold_timestamp_seconds", "0x4500"),
    series("weed_worker_certificate_expiry_timestamp_seconds", "0x4500"),
    series("weed_worker_ec_volumes", "30x4500", 'collection="c",state="14"'),
    series("weed_worker_faults_open", "0x4500", 'collection="c",state="older"'),
    series("weed_worker_scrub_oldest_seconds", "86400x4500"),
    series("weed_worker_working_directory_free_bytes", "50000000000x4500"),
]


def evaluate(directory: Path, tests: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """Have promtool evaluate the rules."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("NOT TESTED: no promtool is here to evaluate the alert rules; install prometheus")
    file = directory / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "5m", "tests": tests}))
    return subprocess.run(
        [promtool, "test", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
    )


def test_every_alert_has_a_case() -> None:
    assert set(FIRING) == set(ALERTS)


def test_each_alert_fires(tmp_path: Path) -> None:
    # promtool is told to expect none of them, and says for each what it got instead.
    tests = [
        {
            "name": alert,
            "interval": "1m",
            "input_series": given,
            "alert_rule_test": [{"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": []}],
        }
        for alert, (given, minute) in FIRING.items()
    ]
    done = evaluate(tmp_path, tests)
    told = done.stdout + done.stderr
    fired = set(re.findall(r"alertname:\s*(\w+),.*?\s+exp:\[\],\s+got:\[\s*\d+:", told, re.S))
    assert fired == set(ALERTS), told


def test_none_fires_where_all_is_well(tmp_path: Path) -> None:
    silent = [
        {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": []}
        for alert in ALERTS
        for minute in (30, DAY + 5, 3 * DAY + 120)
    ]
    done = evaluate(tmp_path, [{"interval": "1m", "input_series": WELL, "alert_rule_test": silent}])
    assert done.returncode == 0, done.stdout + done.stderr
