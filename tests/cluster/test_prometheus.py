"""The metrics of a run: by themselves, and as a real Ray exports them; the dashboard asks for nothing else."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster import prometheus
from cluster.row_parts import SHARES

REPOSITORY = Path(__file__).parents[2]
GRAFANA_FILE = REPOSITORY / "cluster" / "grafana" / "training.json"
DASHBOARD = json.loads(GRAFANA_FILE.read_text(encoding="utf-8"))
WORKERS = [
    {"images_per_second": 10.0, "data_wait": 0.1, "memory_mib": 512.0},
    {"images_per_second": 12.0, "data_wait": 0.2, "memory_mib": 256.0},
]
ROW = {
    "step": 50,
    "epoch": 2.5,
    "images_per_second": 22.0,
    "data_wait": 0.2,
    "skipped": 3,
    "seconds": 1.7e9,
    "workers": WORKERS,
    SHARES: [[0.75, 0.25], [0.5, 0.5]],
    "lr/translator": 1e-4,
    "held_out/cycle": 0.5,
    "held_out/information": 0.8,
    "kl": 1.5,
    "cycle": math.nan,
    "temperature": 0.9,
}


class Recorder:
    """Stands where Ray's metrics stand."""

    made: ClassVar = {}

    def __init__(self, name, text, labels):
        assert text.endswith(".")
        self.labels, self.set_to, self.total = set(labels), {}, 0
        self.made[name] = self

    def set(self, value, tags):
        assert set(tags) == self.labels
        self.set_to[tuple(tags.values())] = value

    def inc(self, value, tags):
        assert set(tags) == self.labels
        assert value > 0
        self.total += value


@pytest.fixture
def recorded(monkeypatch):
    monkeypatch.setattr(Recorder, "made", {})
    monkeypatch.setattr(prometheus, "Gauge", Recorder)
    monkeypatch.setattr(prometheus, "Counter", Recorder)
    gauges = prometheus.Gauges("digits")
    yield gauges, Recorder.made
    gauges.close()


def test_a_row_sets_every_gauge(recorded):
    gauges, made = recorded
    gauges.target(500)
    gauges.saved(40)
    gauges.row(ROW)
    values = {name.removeprefix("gmvae_drit_"): metric.set_to for name, metric in made.items()}
    del values["skipped_steps_total"], values["restarts_total"]
    assert values == {
        "step": {("digits",): 50},
        "target_steps": {("digits",): 500},
        "last_saved_step": {("digits",): 40},
        "epoch": {("digits",): 2.5},
        "images_per_second": {("digits",): 22.0},
        "data_wait_ratio": {("digits",): 0.2},
        "temperature": {("digits",): 0.9},
        "information_ratio": {("digits",): 0.8},
        "worker_images_per_second": {("digits", "0"): 10.0, ("digits", "1"): 12.0},
        "worker_data_wait_ratio": {("digits", "0"): 0.1, ("digits", "1"): 0.2},
        "worker_memory_bytes": {("digits", "0"): 512 * 2**20, ("digits", "1"): 256 * 2**20},
        "loss": {("digits", "kl"): 1.5},
        "held_out": {("digits", "cycle"): 0.5},
        "learning_rate": {("digits", "translator"): 1e-4},
        "component_share_ratio": {
            ("digits", "0", "0"): 0.75,
            ("digits", "0", "1"): 0.25,
            ("digits", "1", "0"): 0.5,
            ("digits", "1", "1"): 0.5,
        },
    }


def test_totals_are_counted_once_however_often_they_are_told(recorded):
    gauges, made = recorded
    for skipped in (0, 3, 3, 5):
        gauges.row(ROW | {"skipped": skipped})
    for count in (1, 1, 2):
        gauges.restarted(count)
    assert made["gmvae_drit_skipped_steps_total"].total == 5
    assert made["gmvae_drit_restarts_total"].total == 2


def test_gauges_are_set_again_between_rows(monkeypatch, recorded):
    monkeypatch.setattr(prometheus, "SECONDS_BETWEEN_SETS", 0.05)
    gauges = prometheus.Gauges("other")
    gauges.row(ROW)
    made = Recorder.made["gmvae_drit_step"]
    made.set_to.clear()
    for _ in range(100):
        if made.set_to:
            break
        gauges._closed.wait(0.05)
    assert made.set_to == {("other",): 50}
    gauges.close()


def test_without_ray_nothing_happens():
    """In a process of its own: Ray's metrics belong to the process."""
    code = f"""
from math import nan
from cluster.prometheus import Gauges
gauges = Gauges("digits")
gauges.target(500), gauges.row({ROW!r}), gauges.saved(40), gauges.restarted(1), gauges.close()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""


def queries():
    """(panel, PromQL, legend) of every panel and annotation."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"], target["legendFormat"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"], ""


def asked():
    """{metric: labels that are matched, grouped by or shown} of the dashboard."""
    found = {}
    for _, expression, legend in queries():
        grouped = {label for by in re.findall(r"by \((.*?)\)", expression) for label in by.split(", ")}
        assert set(re.findall(r"{{(\w+)}}", legend)) <= grouped, expression
        for name, matchers in re.findall(r"(ray_\w+)({.*?})?", expression):
            found.setdefault(name, set()).update(grouped, re.findall(r"(\w+)=", matchers))
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            name, label = re.fullmatch(r"label_values\((\w+).*, (\w+)\)", variable["definition"]).groups()
            found.setdefault(name, set()).add(label)
    return found


def test_the_dashboard_shows_every_metric():
    ours = {f"ray_gmvae_drit_{name}" for name in (*prometheus.GAUGES, *prometheus.COUNTERS)}
    assert {name for name in asked() if "gmvae" in name} == ours


def test_panels_have_their_own_ids_and_places():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def samples(text):
    """{metric: [(labels, value)]} of an exposition."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@pytest.fixture(scope="module")
def exported():
    """What a real Ray exports of `ROW`."""
    wanted = [name for name in asked() if "_gpus_" not in name and "_gram_" not in name]
    script = Path(__file__).with_name("gauges_in_ray.py")
    done = subprocess.run(
        [sys.executable, script],
        input=json.dumps({"row": ROW, "wanted": wanted}),
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {when: samples(text) for when, text in json.loads(done.stdout.splitlines()[-1]).items()}


@pytest.mark.slow
def test_ray_exports_what_the_dashboard_asks_for(exported):
    from ray.dashboard.modules.reporter.reporter_agent import GPU_TAG_KEYS, METRICS_GAUGES

    missing = {}
    for name, labels in asked().items():
        series = exported["first"].get(name, [])
        if not series and ("_gpus_" in name or "_gram_" in name):  # no GPU here: by Ray's own table
            assert name.removeprefix("ray_") in METRICS_GAUGES
            series = [(dict.fromkeys(GPU_TAG_KEYS), 0.0)]
        if not any(labels <= set(has) for has, _ in series):
            missing[name] = labels, series
    assert not missing


@pytest.mark.slow
def test_exported_values_are_those_of_the_row(exported):
    def value(name, **labels):
        (found,) = [
            value
            for has, value in exported["first"][f"ray_gmvae_drit_{name}"]
            if labels.items() <= has.items()
        ]
        return found

    assert value("step", run="digits") == 50
    assert value("worker_memory_bytes", worker="1") == 256 * 2**20
    assert value("component_share_ratio", domain="0", component="1") == 0.25
    assert value("skipped_steps_total") == 3
    assert value("restarts_total") == 2
    assert [has["name"] for has, _ in exported["first"]["ray_gmvae_drit_loss"]] == ["kl"], "no NaN"


@pytest.mark.slow
def test_gauges_stay_without_new_rows_and_go_with_their_worker(exported):
    ours = {f"ray_gmvae_drit_{name}" for name in prometheus.GAUGES}
    assert ours <= exported["later"].keys()
    assert not ours & exported["gone"].keys()
