"""Whatever an object names must be there: ConfigMaps with their hashes, Secrets, accounts, volumes, queues, pods."""

from collections.abc import Iterator

from k8s.check.exposure import selects
from k8s.check.overlay import NAMESPACE, REPOSITORY, Fault, Object, Overlay, Pod

CLUSTER_WIDE = (
    "Namespace",
    "PriorityClass",
    "ClusterQueue",
    "ResourceFlavor",
    "ClusterRole",
    "ClusterRoleBinding",
)
MADE_BY_HAND = "secrets"
"""Setting of an overlay that names the Secrets which whoever deploys makes, as its README says."""
SHIPPED = {"experiments": "cluster/configs", "sweeps": "tune/configs"}
"""ConfigMaps and the folders whose files they hold."""


def check_references(overlay: Overlay) -> Iterator[Fault]:
    """Names of nothing."""
    for thing in overlay.objects:
        where = thing["metadata"].get("namespace")
        if thing["kind"] not in CLUSTER_WIDE and where != NAMESPACE:
            yield overlay.fault(thing, "metadata.namespace", f"{where}; everything here lives in {NAMESPACE}")
    for pod in overlay.pods:
        for kind, path, name in _named(pod):
            if (told := _missing(overlay, kind, name)) is not None:
                yield overlay.fault(pod.object, path, told)
        yield from _mounts(overlay, pod)
    yield from _selectors(overlay)
    yield from _queues(overlay)
    yield from _shipped(overlay)


def _names(overlay: Overlay, kind: str) -> set[str]:
    found = {thing["metadata"]["name"] for thing in overlay.of_kind(kind)}
    return found | set(overlay.settings.get(MADE_BY_HAND, "").split()) if kind == "Secret" else found


def _missing(overlay: Overlay, kind: str, name: str) -> str | None:
    there = _names(overlay, kind)
    if name in there:
        return None
    hashed = [one for one in there if one.rpartition("-")[0] == name]
    if hashed:
        return f"{kind} {name} is called {hashed[0]}: kustomize did not know that its name stands here"
    hint = f"; Secrets made by hand stand in settings.yaml under `{MADE_BY_HAND}`" if kind == "Secret" else ""
    return f"there is no {kind} {name}{hint}"


def _named(pod: Pod) -> Iterator[tuple[str, str, str]]:
    """(kind, path, name) of what a pod needs."""
    spec, at = pod.spec, f"{pod.path}.spec"
    for key, kind in (("serviceAccountName", "ServiceAccount"), ("priorityClassName", "PriorityClass")):
        if spec.get(key):
            yield kind, f"{at}.{key}", spec[key]
    for position, volume in enumerate(spec.get("volumes") or []):
        here = f"{at}.volumes.{position}"
        sources = [volume, *((volume.get("projected") or {}).get("sources") or [])]
        for source in sources:
            if "configMap" in source:
                yield "ConfigMap", f"{here}.configMap.name", source["configMap"].get("name", "")
            if "secret" in source:
                secret = source["secret"]
                yield "Secret", f"{here}.secret.secretName", secret.get("secretName", secret.get("name", ""))
        if "persistentVolumeClaim" in volume:
            name = volume["persistentVolumeClaim"]["claimName"]
            yield "PersistentVolumeClaim", f"{here}.persistentVolumeClaim.claimName", name
    for path, container in pod.containers():
        for position, source in enumerate(container.get("envFrom") or []):
            for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if key in source:
                    yield kind, f"{path}.envFrom.{position}.{key}.name", source[key].get("name", "")
        for position, variable in enumerate(container.get("env") or []):
            source = variable.get("valueFrom") or {}
            for key, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if key in source:
                    yield kind, f"{path}.env.{position}.valueFrom.{key}.name", source[key].get("name", "")


def _mounts(overlay: Overlay, pod: Pod) -> Iterator[Fault]:
    claims = (pod.object.get("spec") or {}).get("volumeClaimTemplates") or []
    there = {volume["name"] for volume in pod.spec.get("volumes") or []}
    there |= {claim["metadata"]["name"] for claim in claims}
    for path, container in pod.containers():
        for position, mount in enumerate(container.get("volumeMounts") or []):
            if mount.get("name") not in there:
                yield overlay.fault(
                    pod.object,
                    f"{path}.volumeMounts.{position}.name",
                    f"there is no volume {mount.get('name')}",
                )


def _selectors(overlay: Overlay) -> Iterator[Fault]:
    """Walls, doors and budgets of pods that are not there: a typing mistake, and no protection."""
    for thing in overlay.of_kind("PodDisruptionBudget"):
        selector = thing["spec"].get("selector") or {}
        if not any(selects(selector, pod.labels) for pod in overlay.pods):
            yield overlay.fault(thing, "spec.selector", "selects no pod of this overlay")
    for thing in overlay.of_kind("Service"):
        selector = thing["spec"].get("selector") or {}
        if not any(selects({"matchLabels": selector}, pod.labels) for pod in overlay.pods):
            yield overlay.fault(thing, "spec.selector", "selects no pod of this overlay")


def _queues(overlay: Overlay) -> Iterator[Fault]:
    for thing in overlay.of_kind("LocalQueue"):
        name = (thing.get("spec") or {}).get("clusterQueue")
        if name not in _names(overlay, "ClusterQueue"):
            yield overlay.fault(thing, "spec.clusterQueue", f"there is no ClusterQueue {name}")
    for thing in overlay.of_kind("ClusterQueue"):
        for position, group in enumerate((thing.get("spec") or {}).get("resourceGroups") or []):
            for flavor in group.get("flavors") or []:
                if flavor.get("name") not in _names(overlay, "ResourceFlavor"):
                    path = f"spec.resourceGroups.{position}.flavors"
                    yield overlay.fault(thing, path, f"there is no ResourceFlavor {flavor.get('name')}")
    for thing in overlay.of_kind("RayJob", "RayCluster", "Job"):
        queue = (thing["metadata"].get("labels") or {}).get("kueue.x-k8s.io/queue-name")
        if queue is not None and queue not in _names(overlay, "LocalQueue"):
            yield overlay.fault(
                thing, "metadata.labels.kueue.x-k8s.io/queue-name", f"there is no LocalQueue {queue}"
            )


def _shipped(overlay: Overlay) -> Iterator[Fault]:
    """ConfigMaps of experiments hold the files that the command line reads, and all of them."""
    for name, folder in SHIPPED.items():
        files = {file.name: file for file in (REPOSITORY / folder).rglob("*.yaml")}
        held = [one for one in overlay.of_kind("ConfigMap") if without_hash(one) == name]
        if not held:
            yield overlay.fault(None, f"ConfigMap {name}", "missing")
        for thing in held:
            data: Object = thing.get("data") or {}
            for file in sorted({*files, *data}):
                if file not in data:
                    yield overlay.fault(
                        thing, f"data.{file}", f"missing; name it in {folder}/kustomization.yml"
                    )
                elif file not in files or data[file] != files[file].read_text(encoding="utf-8"):
                    yield overlay.fault(thing, f"data.{file}", f"not the file of {folder}")


def without_hash(thing: Object) -> str:
    """Name of a generated ConfigMap as its kustomization has it."""
    name: str = thing["metadata"]["name"]
    return name.rpartition("-")[0] or name
