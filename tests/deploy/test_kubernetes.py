"""The image and the manifests: valid by Kubernetes' own schemas, and in step with what the worker does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from weed_agent import settings
from weed_agent.settings import UNDO_TIME
from weed_core import goflags

DEPLOY = Path(__file__).parents[2] / "deploy"
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "weed-worker.yaml").read_text()))
BY_KIND = {manifest["kind"]: manifest for manifest in MANIFESTS}
MONITOR: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes" / "service-monitor.yaml").read_text())
CONTAINERFILE = (DEPLOY / "container" / "Containerfile").read_text()

POD = BY_KIND["StatefulSet"]["spec"]["template"]["spec"]
(WORKER,) = POD["containers"]
OPTIONS: str = BY_KIND["ConfigMap"]["data"]["worker.options"]
GIVEN = dict(line.split("=", 1) for line in OPTIONS.splitlines())
WORKER_PROGRAM = "/usr/local/bin/weed_worker.pyz"

KUBERNETES = ("1.28", "1.33")
"""Releases against whose schemas the manifests are held: an old one that is still met, and one of today."""


@pytest.mark.parametrize("release", KUBERNETES)
@pytest.mark.parametrize("kind", BY_KIND)
def test_every_manifest_is_valid(kind: str, release: str) -> None:
    kubernetes_validate.validate(BY_KIND[kind], release, strict=True)


def test_the_schema_would_tell_a_slip() -> None:
    broken = {**BY_KIND["StatefulSet"], "specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES[-1], strict=True)


def test_a_stop_has_five_seconds_more_than_the_worker_takes_for_it() -> None:
    grace = goflags.parse_duration(GIVEN["grace"])
    assert POD["terminationGracePeriodSeconds"] == grace + 5
    assert grace > 2 * UNDO_TIME


def test_the_flags_are_flags_of_the_worker(tmp_path: Path) -> None:
    path = tmp_path / "worker.options"
    path.write_text(OPTIONS.replace("/var/lib/weed_worker", str(tmp_path)))
    (word,) = WORKER["args"]
    assert word == "-options=/etc/weed_worker/worker.options"
    parsed = settings.parse([f"-options={path}"])
    assert str(parsed.admin) == "seaweedfs-admin:23646"
    assert parsed.metrics_port == 9327
    assert not [warning for warning in parsed.warnings if "what is no flag" in warning]


def test_what_is_mounted_is_where_the_flags_say() -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in WORKER["volumeMounts"]}
    assert mounts["state"] == GIVEN["workingDir"]
    assert WORKER["args"][0].partition("=")[2].startswith(mounts["options"])
    (claim,) = BY_KIND["StatefulSet"]["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "state"
    assert {volume["name"] for volume in POD["volumes"]} | {"state"} == {*mounts}


def test_probes_and_monitors_ask_the_port_that_the_worker_serves() -> None:
    (port,) = WORKER["ports"]
    assert (port["name"], str(port["containerPort"])) == ("metrics", GIVEN["metricsPort"])
    assert {WORKER[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe")} == {"metrics"}
    assert WORKER["livenessProbe"]["httpGet"]["path"] == "/health"
    assert WORKER["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert MONITOR["spec"]["endpoints"][0]["port"] == BY_KIND["Service"]["spec"]["ports"][0]["name"]


def test_all_selectors_find_the_pods() -> None:
    labels = BY_KIND["StatefulSet"]["spec"]["template"]["metadata"]["labels"].items()
    chosen = [
        BY_KIND["StatefulSet"]["spec"]["selector"]["matchLabels"],
        BY_KIND["Service"]["spec"]["selector"],
        BY_KIND["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        BY_KIND["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        MONITOR["spec"]["selector"]["matchLabels"],
    ]
    assert all(selector and selector.items() <= labels for selector in chosen)


def test_the_pod_may_do_nothing_but_work() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert WORKER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["automountServiceAccountToken"] is False


def test_the_linter_of_container_files_has_nothing_to_say() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    told = subprocess.run(
        [linter, DEPLOY / "container" / "Containerfile"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (told.returncode, told.stdout) == (0, "")


def test_the_image_runs_as_the_user_of_the_pod_and_unpacks_at_build() -> None:
    user = POD["securityContext"]["runAsUser"]
    assert f"USER {user}:{user}" in CONTAINERFILE
    assert re.search(r"-unpackOnly", CONTAINERFILE)
    assert re.search(r'ENTRYPOINT \["python3", "/usr/local/bin/weed_worker.pyz"\]', CONTAINERFILE)
    words = re.findall(r'"(-[^"]+)"', CONTAINERFILE.partition("CMD ")[2])
    assert goflags.normalise(words, settings.USAGE, settings.WEED_FLAGS) == [f"-{word}" for word in words]
    assert WORKER["image"].partition(":")[2] == "0.1.0"


def test_the_line_by_which_seaweedfs_chart_starts_its_worker_is_read_as_it_is(tmp_path: Path) -> None:
    """Its words, from k8s/charts/seaweedfs/templates/worker of SeaweedFS 4.44, with docs/containers.md's values."""
    page = (DEPLOY.parent / "docs" / "containers.md").read_text()
    values = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])["worker"]
    line = (
        f"-logdir={tmp_path} -v=1 worker -admin=sw-admin.default:23646.33646 -jobType={values['jobType']} -maxDetect=1"
        f" -maxExecute=4 -workingDir={tmp_path} -metricsPort=9327 -metricsIp=0.0.0.0 {' '.join(values['extraArgs'])}"
    )
    parsed = settings.parse(line.split())
    assert (parsed.admin.host, parsed.admin.port, parsed.admin.grpc_port) == ("sw-admin.default", 23646, 33646)
    assert (parsed.log_dir, parsed.verbosity, parsed.max_execute, parsed.metrics_port) == (tmp_path, 1, 4, 9327)
    assert parsed.grace == 55
    assert not [warning for warning in parsed.warnings if "ignored" in warning]
    assert f"ln -s {WORKER_PROGRAM} /usr/bin/weed" in CONTAINERFILE
