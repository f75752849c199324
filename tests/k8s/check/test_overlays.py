"""Every overlay builds, passes every check, and says of each run what the command line would make of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.job_package import STOP_WAIT_SECONDS
from k8s.check import overlay as overlays
from k8s.check.__main__ import faults_of
from k8s.check.overlay import OVERLAYS, REPOSITORY, BuildError, name_of
from k8s.check.schemas import unchecked

NAMES = overlays.names()
LARGEST = 48 * 1024
"""Bytes; `kubectl apply` keeps a copy of each object in an annotation, which may have 256 KiB."""


@pytest.mark.parametrize("name", NAMES)
def test_it_builds_and_passes_every_check(name, built):
    overlay = built[name]
    assert [str(fault) for fault in faults_of(overlay)] == []
    if skipped := unchecked(overlay):
        assert set(skipped) <= {"RayJob.ray.io", "RayCluster.ray.io"}, skipped
        pytest.skip(f"the rest passed; without KUBERAY_CRDS no schema of {', '.join(skipped)}")


def test_there_is_an_overlay_for_each_way_to_use_it():
    assert NAMES == ["dev", "prod", "shared", "sweep", "train"]


@pytest.mark.parametrize("name", NAMES)
def test_no_word_in_capitals_is_left_to_be_filled_in(name, built):
    words = {
        "IMAGE",
        "RAY_VERSION",
        "PRIORITY",
        "ENTRYPOINT",
        "BUCKET",
        "SOURCE",
        "DATA",
        "GPU_TYPE",
        "SPOT_LABEL",
    }

    def texts(node):
        if isinstance(node, dict):
            for key, value in node.items():
                yield from texts(value) if key != "data" else ()
        elif isinstance(node, list):
            for part in node:
                yield from texts(part)
        elif isinstance(node, str):
            yield node

    for thing in built[name].objects:
        for text in texts(thing):
            assert not words & set(text.replace("/", " ").replace("=", " ").split()), (name_of(thing), text)


@pytest.mark.parametrize("name", NAMES)
def test_settings_never_reach_the_cluster_and_all_of_them_are_used(name, built, tmp_path):
    overlay = built[name]
    assert not [thing for thing in overlay.of_kind("ConfigMap") if "settings" in thing["metadata"]["name"]]
    assert not [thing for thing in overlay.of_kind("ConfigMap") if "words" in thing["metadata"]["name"]]
    text = "\n".join(
        file.read_text() for file in (REPOSITORY / "k8s").rglob("*.yaml") if "overlays" not in file.parts
    )
    text += "\n".join(
        file.read_text() for file in (OVERLAYS / name).rglob("*.yaml") if file.name != "settings.yaml"
    )
    unused = [key for key in overlay.settings if f"data.{key}}}" not in text and key != "secrets"]
    assert not unused


@pytest.mark.parametrize("name", NAMES)
def test_objects_are_small_enough_to_apply(name, built):
    for thing in built[name].objects:
        assert len(str(thing)) < LARGEST, name_of(thing)


def test_the_way_to_stop_is_that_of_submitted_jobs(built):
    (job,) = built["train"].of_kind("RayJob")
    assert f'RAY_JOB_STOP_WAIT_TIME_S: "{STOP_WAIT_SECONDS}"' in job["spec"]["runtimeEnvYAML"]
    for pod in built["train"].pods:
        if pod.role != "submitter":
            assert pod.spec["terminationGracePeriodSeconds"] >= STOP_WAIT_SECONDS


def test_the_spot_group_is_a_copy_on_other_machines(built):
    (job,) = built["prod"].of_kind("RayJob")
    lasting, spot = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert (lasting["groupName"], spot["groupName"]) == ("workers", "spot")
    assert lasting["template"]["spec"]["containers"] == spot["template"]["spec"]["containers"]
    (term,) = spot["template"]["spec"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    assert {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]} in term[
        "matchExpressions"
    ]


def test_the_command_tells_faults_and_what_it_skipped(tmp_path):
    """As `make k8s-check` runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "k8s.check", "train", "nothing"],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "train: 18 objects, 3 pod templates, 0 faults" in done.stdout
    assert "train: skipped the schemas of RayJob.ray.io; set KUBERAY_CRDS" in done.stdout
    assert "error: k8s/overlays/nothing: " in done.stderr


def test_an_overlay_that_kustomize_refuses_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(overlays, "OVERLAYS", tmp_path)
    Path(tmp_path, "broken").mkdir()
    Path(tmp_path, "broken", "kustomization.yaml").write_text("resources: [nothing.yaml]\n")
    with pytest.raises(BuildError, match=r"nothing\.yaml"):
        overlays.build("broken")
