"""What the KubeRay operator 1.7 asks beyond its schema, and what this project asks of its RayJobs and RayClusters.

The operator tells the first only in an event once the object is in the cluster; the second nobody tells.
"""

import re
from collections.abc import Iterator

import yaml

from cluster.job_package import STOP_WAIT_SECONDS
from cluster.ray_session import QUIET
from k8s.check.overlay import Fault, Object, Overlay, Pod, ray_cluster_spec
from k8s.check.quantities import amount
from k8s.check.references import without_hash

LONGEST = {"RayJob": 47, "RayCluster": 53}
LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
GATED = ("networkPolicy", "tlsOptions", "historyServerOptions")
"""Fields of a cluster behind feature gates that are off."""
OWN_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/created-by")
"""Of pods, which the operator's Services select by."""
GRACE_SECONDS = 120
FIRST_WITH_TOKENS = (2, 52)


def check_operator(overlay: Overlay) -> Iterator[Fault]:
    """RayJobs and RayClusters that would not run, or not as they should."""
    for thing in overlay.of_kind("RayCronJob"):
        yield overlay.fault(thing, "kind", "RayCronJob is behind a feature gate that is off")
    for thing in overlay.of_kind("RayJob", "RayCluster"):
        base = "spec.rayClusterSpec" if thing["kind"] == "RayJob" else "spec"
        faults = [*_name(thing), *_cluster(thing, ray_cluster_spec(thing), base)]
        faults += _job(thing) if thing["kind"] == "RayJob" else []
        yield from (overlay.fault(thing, path, told) for path, told in faults)
    for pod in overlay.pods:
        if pod.role != "other":
            yield from (overlay.fault(pod.object, path, told) for path, told in _pod(pod))
    yield from _environment(overlay)
    yield from _budgets(overlay)


def _name(thing: Object) -> Iterator[tuple[str, str]]:
    name, longest = thing["metadata"].get("name", ""), LONGEST[thing["kind"]]
    if len(name) > longest:
        yield "metadata.name", f"{len(name)} characters; the operator allows {longest}"
    if not LABEL.fullmatch(name):
        yield "metadata.name", f"{name}: small letters, digits and -, beginning with a letter"


def _job(thing: Object) -> Iterator[tuple[str, str]]:
    spec = thing["spec"]
    if spec.get("submissionMode") != "K8sJobMode":
        yield (
            "spec.submissionMode",
            "must be K8sJobMode: a submitter that dies is replaced, and the driver goes on",
        )
    if spec.get("backoffLimit") != 2:
        yield "spec.backoffLimit", "must be 2: a new cluster goes on by the name of the run"
    if "clusterSelector" in spec:
        yield "spec.clusterSelector", "goes with no backoffLimit; the cluster is that of the job"
    if spec.get("shutdownAfterJobFinishes") is not True:
        yield "spec.shutdownAfterJobFinishes", "must be true, or the machines stay"
    if not _positive(spec.get("ttlSecondsAfterFinished")):
        yield "spec.ttlSecondsAfterFinished", "must be more than 0: time to look at what happened"
    if (spec.get("deletionStrategy") or {}).get("deletionRules") and spec.get("shutdownAfterJobFinishes"):
        yield "spec.deletionStrategy.deletionRules", "excludes shutdownAfterJobFinishes"
    elif "deletionStrategy" in spec:
        yield "spec.deletionStrategy", "use shutdownAfterJobFinishes"
    for key in ("preRunningDeadlineSeconds", "activeDeadlineSeconds"):
        if not _positive(spec.get(key)):
            yield f"spec.{key}", "must be more than 0, or a job that cannot start waits for ever"
    try:
        environment = (yaml.safe_load(spec.get("runtimeEnvYAML") or "{}") or {}).get("env_vars", {})
    except (yaml.YAMLError, AttributeError):
        yield "spec.runtimeEnvYAML", "not a YAML mapping"
        return
    if environment.get("RAY_JOB_STOP_WAIT_TIME_S") != str(STOP_WAIT_SECONDS):
        yield (
            "spec.runtimeEnvYAML",
            f"env_vars.RAY_JOB_STOP_WAIT_TIME_S must be {STOP_WAIT_SECONDS}: Ray kills after 3 s unless told",
        )
    submitter = spec.get("submitterPodTemplate", {}).get("spec", {})
    if submitter.get("restartPolicy") not in ("Never", "OnFailure"):
        yield "spec.submitterPodTemplate.spec.restartPolicy", "must be Never or OnFailure"
    for position, container in enumerate(submitter.get("containers") or []):
        if container.get("command") or container.get("args"):
            path = f"spec.submitterPodTemplate.spec.containers.{position}"
            yield path, "has a command, which replaces the operator's and the entrypoint"


def _positive(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _cluster(thing: Object, spec: Object, base: str) -> Iterator[tuple[str, str]]:
    if (spec.get("authOptions") or {}).get("mode") != "token":
        yield f"{base}.authOptions.mode", "must be token: whoever reaches the dashboard may run code"
    version = re.match(r"(\d+)\.(\d+)", str(spec.get("rayVersion")))
    if not version or tuple(map(int, version.groups())) < FIRST_WITH_TOKENS:
        yield f"{base}.rayVersion", f"{spec.get('rayVersion')}: tokens need 2.52"
    for key in GATED:
        if key in spec:
            yield f"{base}.{key}", "is behind a feature gate that is off"
    autoscales = bool(spec.get("enableInTreeAutoscaling"))
    if autoscales:
        options = spec.get("autoscalerOptions") or {}
        if options.get("version") != "v2":
            yield f"{base}.autoscalerOptions.version", "must be v2"
        if "securityContext" not in options:
            yield (
                f"{base}.autoscalerOptions.securityContext",
                "missing; the operator's own autoscaler has none",
            )
        if thing["kind"] == "RayJob":
            yield f"{base}.enableInTreeAutoscaling", "a job knows how many workers it has"
    head = spec.get("headGroupSpec") or {}
    if (head.get("rayStartParams") or {}).get("num-cpus") != "0":
        yield (
            f"{base}.headGroupSpec.rayStartParams.num-cpus",
            'must be "0": workers would crowd out GCS and driver',
        )
    groups = [(f"{base}.headGroupSpec", head)]
    names = []
    for position, group in enumerate(spec.get("workerGroupSpecs") or []):
        path = f"{base}.workerGroupSpecs.{position}"
        groups.append((path, group))
        names.append(group.get("groupName"))
        yield from _replicas(path, group, autoscales)
    for name in {name for name in names if names.count(name) > 1}:
        yield f"{base}.workerGroupSpecs", f"two groups are called {name}"
    for path, group in groups:
        parameters = group.get("rayStartParams") or {}
        if group.get("resources") and {"num-cpus", "num-gpus", "memory", "resources"} & set(parameters):
            yield f"{path}.resources", "excludes num-cpus, num-gpus, memory and resources in rayStartParams"
        if "labels" in parameters:
            yield f"{path}.rayStartParams.labels", "use the group's own `labels`"
        policy = group.get("template", {}).get("spec", {}).get("restartPolicy", "Never")
        if autoscales and policy != "Never":
            yield f"{path}.template.spec.restartPolicy", "must be Never with autoscaler v2"


def _replicas(path: str, group: Object, autoscales: bool) -> Iterator[tuple[str, str]]:
    counts = [group.get(key) for key in ("minReplicas", "replicas", "maxReplicas")]
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        yield path, f"minReplicas, replicas, maxReplicas = {counts}: three whole numbers"
        return
    least, now, most = counts
    if least > most:  # type: ignore[operator]
        yield f"{path}.minReplicas", f"{least} is more than maxReplicas = {most}"
    elif not least <= now <= most:  # type: ignore[operator]
        yield f"{path}.replicas", f"{now} is not between {least} and {most}"
    elif not autoscales and least != most:
        yield (
            f"{path}.minReplicas",
            f"{least} to {most}, but nothing scales: a run waits for all of its workers",
        )


def _pod(pod: Pod) -> Iterator[tuple[str, str]]:
    labels = pod.template.get("metadata", {}).get("labels") or {}
    for label in labels:
        if pod.role != "submitter" and (label in OWN_LABELS or label.startswith("ray.io/")):
            yield f"{pod.path}.metadata.labels.{label}", "is the operator's: its Services select pods by it"
    if pod.role == "submitter":
        if labels.get("app.kubernetes.io/component") != "submitter":
            yield (
                f"{pod.path}.metadata.labels",
                "app.kubernetes.io/component: submitter is missing; the network policy knows it by that",
            )
        return
    containers = pod.spec.get("containers") or []
    if not containers:
        yield f"{pod.path}.spec.containers", "at least one"
        return
    if containers[0].get("command") or containers[0].get("args"):
        yield f"{pod.path}.spec.containers.0.command", "the operator starts Ray here; leave it out"
    hook = ((containers[0].get("lifecycle") or {}).get("preStop") or {}).get("exec", {}).get("command")
    if hook != ["python", "-m", "cluster", "leave"]:
        yield (
            f"{pod.path}.spec.containers.0.lifecycle.preStop",
            "must be python -m cluster leave: without it a pod goes without a checkpoint",
        )
    if pod.spec.get("terminationGracePeriodSeconds", 30) < GRACE_SECONDS:
        yield (
            f"{pod.path}.spec.terminationGracePeriodSeconds",
            f"at least {GRACE_SECONDS}: a checkpoint is stored",
        )
    names = {variable.get("name") for variable in containers[0].get("env") or []}
    for name in names & {
        "RAY_enable_autoscaler_v2",
        "RAY_REDIS_ADDRESS",
        "REDIS_PASSWORD",
        "RAY_CLUSTER_NAME",
    }:
        yield f"{pod.path}.spec.containers.0.env", f"{name} is the operator's"
    yield from _object_store(pod)


def _object_store(pod: Pod) -> Iterator[tuple[str, str]]:
    """It lies in /dev/shm, and Ray goes to the disk where it does not fit."""
    group_path = pod.path.removesuffix(".template")
    cluster = ray_cluster_spec(pod.object)
    group = (
        cluster["headGroupSpec"]
        if pod.role == "head"
        else cluster["workerGroupSpecs"][int(group_path.rpartition(".")[2])]
    )
    size = (group.get("rayStartParams") or {}).get("object-store-memory")
    shared = [v["emptyDir"] for v in pod.spec.get("volumes") or [] if (v.get("emptyDir") or {}).get("medium")]
    if size is None:
        yield f"{group_path}.rayStartParams.object-store-memory", "missing; Ray takes 30 % of the memory"
    elif shared and "sizeLimit" in shared[0] and int(size) > amount(shared[0]["sizeLimit"]):
        yield (
            f"{group_path}.rayStartParams.object-store-memory",
            f"{size} does not fit into {shared[0]['sizeLimit']}",
        )


def _environment(overlay: Overlay) -> Iterator[Fault]:
    """Processes of Ray that a driver does not start need what `cluster.ray_session` sets where it starts them."""
    for thing in overlay.of_kind("ConfigMap"):
        if without_hash(thing) == "ray":
            for name, value in QUIET.items():
                if (given := (thing.get("data") or {}).get(name)) != value:
                    yield overlay.fault(thing, f"data.{name}", f"{given}; cluster/ray_session.py has {value}")
    for pod in overlay.pods:
        if pod.role in ("head", "worker"):
            container = (pod.spec.get("containers") or [{}])[0]
            names = [
                (source.get("configMapRef") or {}).get("name", "")
                for source in container.get("envFrom") or []
            ]
            for wanted in ("ray", "s3"):
                if not any(name.rpartition("-")[0] == wanted for name in names):
                    yield overlay.fault(
                        pod.object, f"{pod.path}.spec.containers.0.envFrom", f"ConfigMap {wanted} is missing"
                    )


def _budgets(overlay: Overlay) -> Iterator[Fault]:
    for thing in overlay.of_kind("PodDisruptionBudget"):
        spec = thing["spec"]
        if "maxUnavailable" in spec or not isinstance(spec.get("minAvailable"), int):
            yield overlay.fault(
                thing,
                "spec.minAvailable",
                "a whole number, and no maxUnavailable: a RayCluster tells no scale",
            )
    guarded = [
        thing["spec"].get("selector", {}).get("matchLabels", {})
        for thing in overlay.of_kind("PodDisruptionBudget")
    ]
    for pod in overlay.pods:
        if pod.role == "head" and not any(labels.items() <= dict(pod.labels).items() for labels in guarded):
            yield overlay.fault(pod.object, pod.path, "no PodDisruptionBudget keeps the head where it is")
