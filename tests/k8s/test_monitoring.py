"""Component `monitoring`: rules that fire when they should, stay silent else, and name only what is exported."""

import json
import re
import subprocess

import pytest
import yaml

from cluster import prometheus

from ..cluster.test_prometheus import DASHBOARD, GRAFANA_FILE, asked
from . import alerts
from .kustomize import build, program, the

OURS = {f"ray_gmvae_drit_{name}": {"run", *labels} for name, (_, labels) in prometheus.GAUGES.items()}
OURS |= {f"ray_gmvae_drit_{name}": {"run"} for name in prometheus.COUNTERS}
ADDED = {"namespace", "pod"}
"""Labels that the Prometheus operator adds."""


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    return build(tmp_path_factory.mktemp("overlay"), "monitoring")


@pytest.fixture(scope="module")
def rules(objects):
    groups = the(objects, "PrometheusRule", "gmvae-drit")["spec"]["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_the_dashboard_is_the_file_that_people_import(objects):
    shown = the(objects, "ConfigMap", "grafana-dashboard")
    assert shown["metadata"]["labels"] == {"grafana_dashboard": "1"}
    (text,) = shown["data"].values()
    assert json.loads(text) == DASHBOARD
    assert text == GRAFANA_FILE.read_text(encoding="utf-8")


def test_rules_name_only_metrics_that_are_exported(rules):
    """The scraped run of tests/cluster/test_prometheus.py exports all that the dashboard asks for."""
    for alert, rule in rules.items():
        names = set(re.findall(r"\bray_\w+", rule["expr"]))
        assert names, alert
        assert names <= asked().keys(), alert
        words = re.findall(r"(?:by|on) \((.*?)\)", rule["expr"])
        grouped = {label for text in words for label in text.split(", ")}
        shown = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        known = ADDED.union(*(OURS.get(name, set()) for name in names))
        assert grouped <= known, alert
        assert shown <= grouped, alert


def test_every_rule_says_what_to_do(rules):
    for rule in rules.values():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_rules_are_promql(rules):
    parser = pytest.importorskip("promql_parser", reason="pip install 'gmvae-drit[dev]'")
    for rule in rules.values():
        parser.parse(rule["expr"])
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            parser.parse(target["expr"].replace("$run", "x").replace("$domain", "x"))


def test_every_rule_has_a_story(rules):
    assert alerts.FIRES.keys() == rules.keys()


def test_rules_fire_when_they_should_and_at_nothing_else(rules, objects, tmp_path):
    promtool = program("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    spec = the(objects, "PrometheusRule", "gmvae-drit")["spec"]
    for group in spec["groups"]:
        for rule in group["rules"]:
            rule["annotations"] = {}  # what is said is no matter of when
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(spec))
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(alerts.tests(rules)))
    for command in (["check", "rules", "rules.yml"], ["test", "rules", "tests.yml"]):
        done = subprocess.run([promtool, *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_pods_are_scraped_where_the_wall_has_its_door(objects):
    """KubeRay labels its pods, and gives each container a port of the name `metrics`: 8080."""
    monitor = the(objects, "PodMonitor", "ray")["spec"]
    door = the(objects, "NetworkPolicy", "ray-metrics")["spec"]
    assert monitor["selector"] == door["podSelector"] == {"matchLabels": {"ray.io/is-ray-node": "yes"}}
    assert [end["port"] for end in monitor["podMetricsEndpoints"]] == ["metrics"]
    ((rule,), ports) = door["ingress"], door["ingress"][0]["ports"]
    assert ports == [{"protocol": "TCP", "port": 8080}]
    assert all("namespaceSelector" in source for source in rule["from"])
