"""One Ray everywhere: in the image, in the manifests, in pyproject.toml and constraints.txt."""

import re
import tomllib
from collections.abc import Iterator
from functools import cache

from packaging.requirements import Requirement

from k8s.check.overlay import REPOSITORY, Fault, Overlay, ray_cluster_spec

IMAGE = re.compile(
    r"(?:.*/)?gmvae-drit:(?P<version>[^-@]+)-ray(?P<ray>[^-@]+)-(?P<target>cpu|cuda)(@sha256:[0-9a-f]{64})?"
)
OURS = "gmvae-drit"
GPU = "nvidia.com/gpu"


def check_versions(overlay: Overlay) -> Iterator[Fault]:
    """Images and versions that do not go together."""
    version, ray, wanted = project()
    if ray not in wanted.specifier:
        yield Fault("constraints.txt", "ray", "", f"{ray} is not what pyproject.toml asks for: {wanted}")
    for thing in overlay.of_kind("RayJob", "RayCluster"):
        path = "spec.rayClusterSpec.rayVersion" if thing["kind"] == "RayJob" else "spec.rayVersion"
        if (given := ray_cluster_spec(thing).get("rayVersion")) != ray:
            yield overlay.fault(thing, path, f"{given}; constraints.txt has Ray {ray}")
    for pod in overlay.pods:
        for path, container in pod.containers():
            image = container.get("image")
            if path.endswith("autoscalerOptions") and image is None:
                continue  # that of the head
            at = f"{path}.image"
            if not image:
                yield overlay.fault(pod.object, at, "missing")
            elif image.rpartition("/")[2].partition(":")[0] != OURS:
                if pod.role != "other":
                    yield overlay.fault(pod.object, at, f"{image}: Ray's pods run {OURS}")
                elif not re.search(r":[^/@]+|@sha256:", image) or ":latest" in image:
                    yield overlay.fault(pod.object, at, f"{image}: give a version, and not `latest`")
            elif not (parts := IMAGE.fullmatch(image)):
                yield overlay.fault(pod.object, at, f"{image}: write {OURS}:VERSION-rayRAY-TARGET")
            else:
                if parts["version"] != version:
                    yield overlay.fault(pod.object, at, f"{image}: pyproject.toml has version {version}")
                if parts["ray"] != ray:
                    yield overlay.fault(pod.object, at, f"{image}: constraints.txt has Ray {ray}")
                if pod.role == "worker":
                    has_gpu = GPU in (container.get("resources", {}).get("limits") or {})
                    if has_gpu != (parts["target"] == "cuda"):
                        yield overlay.fault(
                            pod.object, at, f"{image}: workers {'have' if has_gpu else 'have no'} {GPU}"
                        )


@cache
def project() -> tuple[str, str, Requirement]:
    """Version of the project, pinned version of Ray, what pyproject.toml asks of Ray."""
    document = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = next(
        requirement for requirement in map(Requirement, document["dependencies"]) if requirement.name == "ray"
    )
    pins = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    ray = next(line.removeprefix("ray==") for line in pins if line.startswith("ray=="))
    return document["version"], ray, wanted
