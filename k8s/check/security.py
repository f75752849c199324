"""Pod Security "restricted" (https://kubernetes.io/docs/concepts/security/pod-security-standards/), and a little more.

Kubernetes asks it of pods; here it is asked of templates, so that a RayJob whose pods nobody would admit is refused.
"""

from collections.abc import Iterator

from k8s.check.overlay import NAMESPACE, Fault, Object, Overlay, Pod, ray_cluster_spec

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
LEVEL = "pod-security.kubernetes.io/enforce"


def check_security(overlay: Overlay) -> Iterator[Fault]:
    """Pods that a restricted namespace refuses, and what lets one be none."""
    for namespace in overlay.of_kind("Namespace"):
        if (namespace["metadata"].get("labels") or {}).get(LEVEL) != "restricted":
            yield overlay.fault(namespace, "metadata.labels", f"{LEVEL}: restricted is missing")
    if not any(thing["metadata"]["name"] == NAMESPACE for thing in overlay.of_kind("Namespace")):
        yield overlay.fault(None, "resources", f"no Namespace {NAMESPACE}, and so no Pod Security")
    for thing in overlay.of_kind("RayJob"):
        if "submitterPodTemplate" not in thing["spec"]:
            yield overlay.fault(
                thing, "spec.submitterPodTemplate", "missing; the operator's own has no securityContext"
            )
    for pod in overlay.pods:
        for path, told in (*_pod_faults(pod), *_token_faults(pod)):
            yield overlay.fault(pod.object, path, told)


def _pod_faults(pod: Pod) -> Iterator[tuple[str, str]]:
    spec, at = pod.spec, f"{pod.path}.spec"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{at}.{key}", "must not be true"
    context = spec.get("securityContext") or {}
    if context.get("sysctls"):
        yield f"{at}.securityContext.sysctls", "must not be set"
    for position, volume in enumerate(spec.get("volumes") or []):
        for kind in set(volume) - VOLUMES - {"name"}:
            yield f"{at}.volumes.{position}.{kind}", "volumes of this kind are not allowed"
    for path, container in pod.containers():
        yield from _container_faults(path, container, context)


def _container_faults(path: str, container: Object, of_pod: Object) -> Iterator[tuple[str, str]]:
    own = container.get("securityContext") or {}
    at, both = f"{path}.securityContext", {**of_pod, **own}
    if not own:
        yield at, "missing"
    if own.get("privileged"):
        yield f"{at}.privileged", "must not be true"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{at}.allowPrivilegeEscalation", "must be false"
    capabilities = own.get("capabilities") or {}
    if capabilities.get("drop") != ["ALL"]:
        yield f"{at}.capabilities.drop", "must be [ALL]"
    for added in set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield f"{at}.capabilities.add", f"{added} is not allowed"
    if both.get("runAsNonRoot") is not True:
        yield f"{at}.runAsNonRoot", "must be true here or for the pod"
    for where, user in (
        (f"{at}.runAsUser", both.get("runAsUser")),
        (f"{at}.runAsGroup", both.get("runAsGroup")),
    ):
        if not user:
            yield where, "must be set, and not 0"
    if (both.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"{at}.seccompProfile.type", "must be RuntimeDefault here or for the pod"
    if own.get("procMount", "Default") != "Default":
        yield f"{at}.procMount", "must be Default"
    if own.get("readOnlyRootFilesystem") is not True:
        yield f"{at}.readOnlyRootFilesystem", "must be true"
    for position, port in enumerate(container.get("ports") or []):
        if port.get("hostPort"):
            yield f"{path}.ports.{position}.hostPort", "must not be set"


def _token_faults(pod: Pod) -> Iterator[tuple[str, str]]:
    """Only the autoscaler asks Kubernetes anything."""
    autoscales = pod.role == "head" and ray_cluster_spec(pod.object).get("enableInTreeAutoscaling")
    mounted = pod.spec.get("automountServiceAccountToken")
    path = f"{pod.path}.spec.automountServiceAccountToken"
    if autoscales and mounted is False:
        yield path, "must be true: the autoscaler asks Kubernetes for workers"
    if not autoscales and mounted is not False:
        yield path, "must be false: nothing here asks Kubernetes"
    if pod.role != "other" and not pod.spec.get("serviceAccountName"):
        yield f"{pod.path}.spec.serviceAccountName", "missing; the namespace's default would be taken"
