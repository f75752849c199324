"""What pods ask for: each its limits, Ray's pods exactly what they may use, all together no more than the quota."""

from collections import Counter
from collections.abc import Iterator

from k8s.check.overlay import Fault, Object, Overlay, Pod, ray_cluster_spec
from k8s.check.quantities import amount, amount_or_none
from k8s.check.versions import GPU

OPERATORS_INIT = {"cpu": 0.2, "memory": 256 * 2.0**20}  # wait-gcs-ready, which KubeRay adds to workers


def check_resources(overlay: Overlay) -> Iterator[Fault]:
    """Pods without limits, that are evicted before others, that the quota would not admit."""
    for pod in overlay.pods:
        for path, container in pod.containers():
            for at, told in _container(pod, f"{path}.resources", container.get("resources") or {}):
                yield overlay.fault(pod.object, at, told)
        if pod.role in ("head", "worker"):
            for at, told in _shared_memory(pod):
                yield overlay.fault(pod.object, at, told)
        for position, volume in enumerate(pod.spec.get("volumes") or []):
            if volume.get("emptyDir") is not None and "sizeLimit" not in volume["emptyDir"]:
                yield overlay.fault(
                    pod.object,
                    f"{pod.path}.spec.volumes.{position}.emptyDir.sizeLimit",
                    "missing; it may fill the node",
                )
    yield from _quota(overlay)


def _container(pod: Pod, path: str, resources: Object) -> Iterator[tuple[str, str]]:
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for which, given in (("requests", requests), ("limits", limits)):
        for kind in ("cpu", "memory"):
            if kind not in given:
                yield f"{path}.{which}.{kind}", "missing"
        for kind, quantity in given.items():
            try:
                amount(quantity)
            except ValueError as error:
                yield f"{path}.{which}.{kind}", str(error)
    if pod.role in ("head", "worker") and requests != limits:
        yield (
            path,
            f"requests {requests} are not limits {limits}: Ray believes the limits, the scheduler the requests",
        )


def _shared_memory(pod: Pod) -> Iterator[tuple[str, str]]:
    """PyTorch, NCCL and Ray meet in /dev/shm; in a pod it has 64 MiB unless given more."""
    for position, container in enumerate((pod.spec.get("containers") or [])[:1]):
        path = f"{pod.path}.spec.containers.{position}.volumeMounts"
        mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts") or []}
        volumes = {volume["name"]: volume for volume in pod.spec.get("volumes") or []}
        if (name := mounts.get("/dev/shm")) is None:
            yield path, "/dev/shm is not mounted"
            continue
        memory = (volumes.get(name) or {}).get("emptyDir") or {}
        if memory.get("medium") != "Memory" or "sizeLimit" not in memory:
            yield (
                f"{pod.path}.spec.volumes",
                f"{name}: must be an emptyDir with medium: Memory and a sizeLimit",
            )
            continue
        limit = (container.get("resources", {}).get("limits") or {}).get("memory")
        size, whole = amount_or_none(memory["sizeLimit"]), amount_or_none(limit)
        if size is None:
            yield f"{pod.path}.spec.volumes", f"{name}: sizeLimit {memory['sizeLimit']} is no quantity"
        elif whole is not None and size > whole / 2:
            yield (
                f"{pod.path}.spec.volumes",
                f"{name}: more than half of the container's {limit}, which it is part of",
            )


def _quota(overlay: Overlay) -> Iterator[Fault]:
    asked = total(overlay)
    for quota in overlay.of_kind("ResourceQuota"):
        for key, hard in (quota["spec"].get("hard") or {}).items():
            if key in asked and asked[key] > amount(hard) * (1 + 1e-9):
                yield overlay.fault(
                    quota, f"spec.hard.{key}", f"{hard}; the overlay's pods ask for {asked[key]:g}"
                )
    if not any(overlay.of_kind("ResourceQuota")):
        yield overlay.fault(None, "ResourceQuota", "missing")


def total(overlay: Overlay) -> Counter[str]:
    """What all pods of the overlay ask for at most, by the keys of a ResourceQuota."""
    asked: Counter[str] = Counter()
    for pod in overlay.pods:
        count = _count(pod)
        asked["pods"] += count
        for kind, quantity in _requests(pod).items():
            asked[f"requests.{kind}"] += count * quantity  # type: ignore[assignment]  # cores may be parts
    return asked


def _requests(pod: Pod) -> dict[str, float]:
    """Of one pod: its containers together, or the largest that only starts it."""
    running: Counter[str] = Counter()
    starting: dict[str, float] = dict(OPERATORS_INIT) if pod.role == "worker" else {}
    for path, container in pod.containers():
        for kind, quantity in (container.get("resources", {}).get("requests") or {}).items():
            if (needed := amount_or_none(quantity)) is None:
                continue  # told where it stands
            if "initContainers" in path:
                starting[kind] = max(starting.get(kind, 0), needed)
            else:
                running[kind] += needed  # type: ignore[assignment]
    return {kind: max(running[kind], starting.get(kind, 0)) for kind in {*running, *starting}}


def _count(pod: Pod) -> int:
    """How many of it there may be."""
    if pod.role == "worker":
        group = ray_cluster_spec(pod.object)["workerGroupSpecs"][int(pod.path.split(".")[-2])]
        return int(group.get("maxReplicas") or 0)
    spec = pod.object.get("spec") or {}
    return int(spec.get("replicas", spec.get("parallelism", 1)) or 0) if pod.role == "other" else 1


def gpus_of(pod: Pod) -> int:
    """Of its first container."""
    containers = pod.spec.get("containers") or [{}]
    return int((containers[0].get("resources", {}).get("limits") or {}).get(GPU, 0))
