"""What must not reach a cluster is refused, with file, object and path: each mutation by its own fault."""

import copy
import dataclasses
import os

import pytest

from k8s.check.__main__ import faults_of
from k8s.check.schemas import CRDS_VARIABLE

RAY_JOB = "k8s/parts/ray-job/ray-job.yaml"
CRDS = pytest.mark.skipif(
    not os.environ.get(CRDS_VARIABLE), reason=f"{CRDS_VARIABLE} names no folder of CRDs"
)
HEAD, WORKERS = "spec.rayClusterSpec.headGroupSpec", "spec.rayClusterSpec.workerGroupSpecs.0"
CONTAINER = f"{WORKERS}.template.spec.containers.0"
REMOVE = object()


def put(path, value):
    """A mutation of an object: ``value`` at the dotted path; \\. is a dot within a key."""

    def mutate(thing):
        *keys, last = [key.replace("\0", ".") for key in path.replace("\\.", "\0").split(".")]
        node = thing
        for key in keys:
            node = node[int(key)] if isinstance(node, list) else node[key]
        if isinstance(node, list):
            if last == "-":
                node.append(value)
            else:
                node[int(last)] = value
        elif value is REMOVE:
            del node[last]
        else:
            node[last] = value

    return mutate


def word(old, new):
    """A mutation of an entrypoint."""

    def mutate(job):
        text = job["spec"]["entrypoint"]
        assert old in text
        job["spec"]["entrypoint"] = text.replace(old, new)

    return mutate


def both(*mutations):
    """One after the other."""

    def mutate(thing):
        for mutation in mutations:
            mutation(thing)

    return mutate


# (overlay, object, mutation, path of the fault, what it says)
OF_OBJECTS = {
    # Schemas
    "typo in a field of Kubernetes": (
        "train",
        "ServiceAccount/ray",
        put("automountServiceAcountToken", False),
        "object",
        "automountServiceAcountToken",
    ),
    "typo in a field of a pod": (
        "dev",
        "Job/build-shards",
        put("spec.template.spec.containers.0.imagePolicy", "Always"),
        "spec.template.spec.containers.0",
        "imagePolicy",
    ),
    "wrong type": ("train", "ResourceQuota/quota", put("spec.hard", []), "spec.hard", "not of type"),
    "no such API": (
        "train",
        "PodDisruptionBudget/train-head",
        put("apiVersion", "policy/v1beta1"),
        "apiVersion",
        "has no PodDisruptionBudget",
    ),
    "typo in a field of Kueue": (
        "prod",
        "LocalQueue/gmvae-drit",
        put("spec.clusterQueu", "x"),
        "spec",
        "clusterQueu",
    ),
    "old API of Kueue": (
        "prod",
        "ClusterQueue/gmvae-drit",
        put("apiVersion", "kueue.x-k8s.io/v1beta1"),
        "apiVersion",
        "the CRD has kueue.x-k8s.io/v1beta2",
    ),
    "typo in a field of the Prometheus operator": (
        "prod",
        "PodMonitor/ray",
        put("spec.podMetricEndpoints", []),
        "spec",
        "podMetricEndpoints",
    ),
    # The operator
    "name of 48 characters": (
        "train",
        "RayJob/train",
        put("metadata.name", "t" * 48),
        "metadata.name",
        "48 characters; the operator allows 47",
    ),
    "name of a cluster of 54 characters": (
        "shared",
        "RayCluster/shared",
        put("metadata.name", "t" * 54),
        "metadata.name",
        "54 characters; the operator allows 53",
    ),
    "name that is no label": (
        "train",
        "RayJob/train",
        put("metadata.name", "Train"),
        "metadata.name",
        "small letters",
    ),
    "no token": (
        "train",
        "RayJob/train",
        put("spec.rayClusterSpec.authOptions", REMOVE),
        "spec.rayClusterSpec.authOptions.mode",
        "must be token",
    ),
    "tokens off": (
        "shared",
        "RayCluster/shared",
        put("spec.authOptions.mode", "disabled"),
        "spec.authOptions.mode",
        "must be token",
    ),
    "another Ray": (
        "train",
        "RayJob/train",
        put("spec.rayClusterSpec.rayVersion", "2.59.0"),
        "spec.rayClusterSpec.rayVersion",
        "constraints.txt has Ray 2.60.0",
    ),
    "a Ray without tokens": (
        "train",
        "RayJob/train",
        put("spec.rayClusterSpec.rayVersion", "2.51.0"),
        "spec.rayClusterSpec.rayVersion",
        "tokens need 2.52",
    ),
    "more workers at least than at most": (
        "shared",
        "RayCluster/shared",
        put("spec.workerGroupSpecs.0.minReplicas", 9),
        "spec.workerGroupSpecs.0.minReplicas",
        "9 is more than maxReplicas = 4",
    ),
    "workers that nothing scales": (
        "train",
        "RayJob/train",
        put(f"{WORKERS}.minReplicas", 1),
        f"{WORKERS}.minReplicas",
        "but nothing scales",
    ),
    "no number of workers": (
        "train",
        "RayJob/train",
        put(f"{WORKERS}.replicas", REMOVE),
        WORKERS,
        "three whole numbers",
    ),
    "deletionRules beside shutdownAfterJobFinishes": (
        "train",
        "RayJob/train",
        put(
            "spec.deletionStrategy",
            {
                "deletionRules": [
                    {"condition": {"jobStatus": "FAILED", "ttlSeconds": 1}, "policy": "DeleteSelf"}
                ]
            },
        ),
        "spec.deletionStrategy.deletionRules",
        "excludes shutdownAfterJobFinishes",
    ),
    "machines that stay": (
        "train",
        "RayJob/train",
        put("spec.shutdownAfterJobFinishes", False),
        "spec.shutdownAfterJobFinishes",
        "must be true",
    ),
    "no retries": ("train", "RayJob/train", put("spec.backoffLimit", 0), "spec.backoffLimit", "must be 2"),
    "no end of waiting": (
        "train",
        "RayJob/train",
        put("spec.preRunningDeadlineSeconds", REMOVE),
        "spec.preRunningDeadlineSeconds",
        "more than 0",
    ),
    "no end at all": (
        "train",
        "RayJob/train",
        put("spec.activeDeadlineSeconds", REMOVE),
        "spec.activeDeadlineSeconds",
        "more than 0",
    ),
    "another way to submit": (
        "train",
        "RayJob/train",
        put("spec.submissionMode", "HTTPMode"),
        "spec.submissionMode",
        "must be K8sJobMode",
    ),
    "three seconds to stop": (
        "train",
        "RayJob/train",
        put("spec.runtimeEnvYAML", "env_vars: {}"),
        "spec.runtimeEnvYAML",
        "RAY_JOB_STOP_WAIT_TIME_S must be 120",
    ),
    "work on the head": (
        "train",
        "RayJob/train",
        put(f"{HEAD}.rayStartParams.num-cpus", REMOVE),
        f"{HEAD}.rayStartParams.num-cpus",
        'must be "0"',
    ),
    "a feature gate that is off": (
        "train",
        "RayJob/train",
        put("spec.rayClusterSpec.networkPolicy", {}),
        "spec.rayClusterSpec.networkPolicy",
        "feature gate",
    ),
    "the first autoscaler": (
        "shared",
        "RayCluster/shared",
        put("spec.autoscalerOptions.version", "v1"),
        "spec.autoscalerOptions.version",
        "must be v2",
    ),
    "restarts under autoscaler v2": (
        "shared",
        "RayCluster/shared",
        put("spec.headGroupSpec.template.spec.restartPolicy", "Always"),
        "spec.headGroupSpec.template.spec.restartPolicy",
        "must be Never",
    ),
    "a label of the operator": (
        "train",
        "RayJob/train",
        put(f"{HEAD}.template.metadata.labels.app\\.kubernetes\\.io/name", "gmvae"),
        f"{HEAD}.template.metadata.labels.app.kubernetes.io/name",
        "is the operator's",
    ),
    "no checkpoint before the pod goes": (
        "train",
        "RayJob/train",
        put(f"{CONTAINER}.lifecycle", REMOVE),
        f"{CONTAINER}.lifecycle.preStop",
        "without a checkpoint",
    ),
    "thirty seconds of grace": (
        "train",
        "RayJob/train",
        put(f"{WORKERS}.template.spec.terminationGracePeriodSeconds", 30),
        f"{WORKERS}.template.spec.terminationGracePeriodSeconds",
        "at least 120",
    ),
    "a command in Ray's place": (
        "train",
        "RayJob/train",
        put(f"{CONTAINER}.command", ["sleep"]),
        f"{CONTAINER}.command",
        "the operator starts Ray here",
    ),
    "a percentage in a budget": (
        "train",
        "PodDisruptionBudget/train-head",
        put("spec.minAvailable", "50%"),
        "spec.minAvailable",
        "a whole number",
    ),
    "another environment than the driver's": (
        "train",
        "ConfigMap/ray-g5278gk5mb",
        put("data.RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "2"),
        "data.RAY_TRAIN_HEALTH_CHECK_INTERVAL_S",
        "cluster/ray_session.py has 0.5",
    ),
    # Pod Security
    "a namespace that admits anything": (
        "train",
        "Namespace/gmvae-drit",
        put("metadata.labels.pod-security\\.kubernetes\\.io/enforce", "privileged"),
        "metadata.labels",
        "restricted is missing",
    ),
    "privileged": (
        "train",
        "RayJob/train",
        put(f"{CONTAINER}.securityContext.privileged", True),
        f"{CONTAINER}.securityContext.privileged",
        "must not be true",
    ),
    "root": (
        "train",
        "RayJob/train",
        put(f"{WORKERS}.template.spec.securityContext.runAsUser", 0),
        f"{CONTAINER}.securityContext.runAsUser",
        "not 0",
    ),
    "root by default": (
        "train",
        "RayJob/train",
        both(
            put(f"{CONTAINER}.securityContext.runAsNonRoot", REMOVE),
            put(f"{WORKERS}.template.spec.securityContext.runAsNonRoot", REMOVE),
        ),
        f"{CONTAINER}.securityContext.runAsNonRoot",
        "must be true",
    ),
    "hostPath": (
        "train",
        "RayJob/train",
        put(f"{WORKERS}.template.spec.volumes.0", {"name": "tmp", "hostPath": {"path": "/"}}),
        f"{WORKERS}.template.spec.volumes.0.hostPath",
        "not allowed",
    ),
    "hostNetwork": (
        "dev",
        "Job/build-shards",
        put("spec.template.spec.hostNetwork", True),
        "spec.template.spec.hostNetwork",
        "must not be true",
    ),
    "hostPort": (
        "train",
        "RayJob/train",
        put(f"{HEAD}.template.spec.containers.0.ports.1.hostPort", 8265),
        f"{HEAD}.template.spec.containers.0.ports.1.hostPort",
        "must not be set",
    ),
    "capabilities": (
        "train",
        "RayJob/train",
        put(f"{CONTAINER}.securityContext.capabilities.add", ["SYS_PTRACE"]),
        f"{CONTAINER}.securityContext.capabilities.add",
        "SYS_PTRACE",
    ),
    "no seccomp": (
        "train",
        "RayJob/train",
        put(f"{WORKERS}.template.spec.securityContext.seccompProfile", REMOVE),
        f"{CONTAINER}.securityContext.seccompProfile.type",
        "RuntimeDefault",
    ),
    "a submitter without a context": (
        "train",
        "RayJob/train",
        put("spec.submitterPodTemplate.spec.containers.0.securityContext", REMOVE),
        "spec.submitterPodTemplate.spec.containers.0.securityContext",
        "missing",
    ),
    "the operator's own submitter": (
        "train",
        "RayJob/train",
        put("spec.submitterPodTemplate", REMOVE),
        "spec.submitterPodTemplate",
        "no securityContext",
    ),
    "an autoscaler without a context": (
        "shared",
        "RayCluster/shared",
        put("spec.autoscalerOptions.securityContext", REMOVE),
        "spec.autoscalerOptions.securityContext",
        "missing",
    ),
    "a token for nothing": (
        "train",
        "RayJob/train",
        put(f"{WORKERS}.template.spec.automountServiceAccountToken", REMOVE),
        f"{WORKERS}.template.spec.automountServiceAccountToken",
        "must be false",
    ),
    # Exposure
    "a head's Service of type LoadBalancer": (
        "train",
        "RayJob/train",
        put(f"{HEAD}.serviceType", "LoadBalancer"),
        f"{HEAD}.serviceType",
        "exposes 8265",
    ),
    "an Ingress to the head": (
        "shared",
        "RayCluster/shared",
        put("spec.headGroupSpec.enableIngress", True),
        "spec.headGroupSpec.enableIngress",
        "exposes 8265",
    ),
    "a Service of type LoadBalancer": (
        "dev",
        "Service/dev-s3",
        put("spec.type", "LoadBalancer"),
        "spec.type",
        "can be reached from outside",
    ),
    "8265 to the whole namespace": (
        "train",
        "NetworkPolicy/jobs",
        put("spec.ingress.0.from.-", {"podSelector": {}}),
        "spec.ingress.0.from",
        "to others than Ray, submitter and operator",
    ),
    "8265 to everybody": (
        "train",
        "NetworkPolicy/jobs",
        put("spec.ingress.0.from", REMOVE),
        "spec.ingress.0.from",
        "to everybody",
    ),
    "metrics policy that opens all ports": (
        "prod",
        "NetworkPolicy/ray-metrics",
        put("spec.ingress.0.ports", REMOVE),
        "spec.ingress.0.from",
        "[8265, 10001, 6379]",
    ),
    # References
    "a ConfigMap that is not there": (
        "train",
        "RayJob/train",
        put(f"{CONTAINER}.envFrom.0.configMapRef.name", "rays"),
        f"{CONTAINER}.envFrom.0.configMapRef.name",
        "there is no ConfigMap rays",
    ),
    "a ConfigMap without its hash": (
        "train",
        "RayJob/train",
        put(f"{HEAD}.template.spec.volumes.2.configMap.name", "experiments"),
        f"{HEAD}.template.spec.volumes.2.configMap.name",
        "kustomize did not know",
    ),
    "a Secret that is not there": (
        "sweep",
        "RayJob/sweep",
        put(f"{HEAD}.template.spec.containers.0.env.1.valueFrom.secretKeyRef.name", "pg"),
        f"{HEAD}.template.spec.containers.0.env.1.valueFrom.secretKeyRef.name",
        "there is no Secret pg",
    ),
    "an account that is not there": (
        "train",
        "RayJob/train",
        put(f"{WORKERS}.template.spec.serviceAccountName", "rays"),
        f"{WORKERS}.template.spec.serviceAccountName",
        "there is no ServiceAccount rays",
    ),
    "a claim that is not there": (
        "train",
        "RayJob/train",
        put(
            f"{WORKERS}.template.spec.volumes.0",
            {"name": "tmp", "persistentVolumeClaim": {"claimName": "data"}},
        ),
        f"{WORKERS}.template.spec.volumes.0.persistentVolumeClaim.claimName",
        "there is no PersistentVolumeClaim data",
    ),
    "a priority that is not there": (
        "train",
        "RayJob/train",
        put(f"{WORKERS}.template.spec.priorityClassName", "high"),
        f"{WORKERS}.template.spec.priorityClassName",
        "there is no PriorityClass high",
    ),
    "a volume that is not there": (
        "train",
        "RayJob/train",
        put(f"{CONTAINER}.volumeMounts.0.name", "temp"),
        f"{CONTAINER}.volumeMounts.0.name",
        "there is no volume temp",
    ),
    "a queue that is not there": (
        "prod",
        "RayJob/train",
        put("metadata.labels.kueue\\.x-k8s\\.io/queue-name", "gmvae"),
        "metadata.labels.kueue.x-k8s.io/queue-name",
        "there is no LocalQueue gmvae",
    ),
    "a budget of nothing": (
        "train",
        "PodDisruptionBudget/train-head",
        put("spec.selector.matchLabels.gmvae-drit/job", "trian"),
        "spec.selector",
        "selects no pod",
    ),
    "another namespace": (
        "train",
        "ServiceAccount/ray",
        put("metadata.namespace", "default"),
        "metadata.namespace",
        "everything here lives in gmvae-drit",
    ),
    "an experiment that is not the file": (
        "train",
        "ConfigMap/experiments-",
        put("data.demo\\.yaml", "run: {name: demo}"),
        "data.demo.yaml",
        "not the file of cluster/configs",
    ),
    "an experiment that was forgotten": (
        "train",
        "ConfigMap/experiments-",
        put("data.adain\\.yaml", REMOVE),
        "data.adain.yaml",
        "name it in cluster/configs/kustomization.yml",
    ),
    # Resources
    "no limit": (
        "train",
        "RayJob/train",
        put(f"{CONTAINER}.resources.limits.memory", REMOVE),
        f"{CONTAINER}.resources.limits.memory",
        "missing",
    ),
    "a quantity that is none": (
        "dev",
        "Job/build-shards",
        put("spec.template.spec.containers.0.resources.limits.memory", "2GB"),
        "spec.template.spec.containers.0.resources.limits.memory",
        "2GB: not a quantity",
    ),
    "half of the memory shared": (
        "train",
        "RayJob/train",
        put(f"{WORKERS}.template.spec.volumes.1.emptyDir.sizeLimit", "13Gi"),
        f"{WORKERS}.template.spec.volumes",
        "more than half of the container's 24Gi",
    ),
    "requests below limits": (
        "train",
        "RayJob/train",
        put(f"{CONTAINER}.resources.requests.memory", "1Gi"),
        f"{CONTAINER}.resources",
        "are not limits",
    ),
    "more than the quota": (
        "train",
        "ResourceQuota/quota",
        put("spec.hard.requests\\.cpu", "8"),
        "spec.hard.requests.cpu",
        "the overlay's pods ask for 30.5",
    ),
    "64 MiB of shared memory": (
        "train",
        "RayJob/train",
        put(f"{CONTAINER}.volumeMounts.1.mountPath", "/shm"),
        f"{CONTAINER}.volumeMounts",
        "/dev/shm is not mounted",
    ),
    "shared memory without end": (
        "train",
        "RayJob/train",
        put(f"{WORKERS}.template.spec.volumes.1.emptyDir", {"medium": "Memory"}),
        f"{WORKERS}.template.spec.volumes",
        "sizeLimit",
    ),
    "an object store larger than its memory": (
        "train",
        "RayJob/train",
        put(f"{WORKERS}.rayStartParams.object-store-memory", "9000000000"),
        f"{WORKERS}.rayStartParams.object-store-memory",
        "does not fit",
    ),
    # Versions
    "latest": (
        "train",
        "RayJob/train",
        put(f"{CONTAINER}.image", "gmvae-drit:latest"),
        f"{CONTAINER}.image",
        "write gmvae-drit:VERSION-rayRAY-TARGET",
    ),
    "another image than Ray's": (
        "train",
        "RayJob/train",
        put(f"{HEAD}.template.spec.containers.0.image", "gmvae-drit:0.1.0-ray2.59.0-cuda"),
        f"{HEAD}.template.spec.containers.0.image",
        "constraints.txt has Ray 2.60.0",
    ),
    "an image of another version": (
        "train",
        "RayJob/train",
        put(f"{CONTAINER}.image", "gmvae-drit:9.9.9-ray2.60.0-cuda"),
        f"{CONTAINER}.image",
        "pyproject.toml has version",
    ),
    "an image without CUDA": (
        "train",
        "RayJob/train",
        put(f"{CONTAINER}.image", "gmvae-drit:0.1.0-ray2.60.0-cpu"),
        f"{CONTAINER}.image",
        "workers have nvidia.com/gpu",
    ),
    "a stranger's image": (
        "train",
        "RayJob/train",
        put(f"{CONTAINER}.image", "rayproject/ray:2.60.0"),
        f"{CONTAINER}.image",
        "Ray's pods run gmvae-drit",
    ),
    "a server without a version": (
        "dev",
        "StatefulSet/dev-s3",
        put("spec.template.spec.containers.0.image", "chrislusf/seaweedfs"),
        "spec.template.spec.containers.0.image",
        "give a version",
    ),
    # Commands
    "a flag that is none": (
        "train",
        "RayJob/train",
        word("train /etc", "train --resume /etc"),
        "spec.entrypoint",
        "No such option",
    ),
    "a command that is none": (
        "train",
        "RayJob/train",
        word("cluster train", "cluster tran"),
        "spec.entrypoint",
        "No such command",
    ),
    "a setting that is none": (
        "train",
        "RayJob/train",
        word("scaling.workers", "scaling.worker"),
        "spec.entrypoint",
        "did you mean workers",
    ),
    "an experiment that is not mounted": (
        "train",
        "RayJob/train",
        word("apple2orange.yaml", "oranges.yaml"),
        "spec.entrypoint",
        "/etc/gmvae/experiments/oranges.yaml: cannot be read",
    ),
    "a folder that pods do not share": (
        "train",
        "RayJob/train",
        word("s3://my-bucket/runs", "/runs"),
        "spec.entrypoint",
        "pods share no folder",
    ),
    "more workers than pods": (
        "train",
        "RayJob/train",
        word("scaling.workers=4", "scaling.workers=3"),
        "spec.entrypoint",
        "asks for 3 workers, and there are 4 pods",
    ),
    "more threads than cores": (
        "train",
        "RayJob/train",
        word("scaling.threads=7", "scaling.threads=8"),
        f"{CONTAINER}.resources.limits.cpu",
        "7 cores, and the command gives each worker 8 threads",
    ),
    "GPUs that nobody uses": (
        "train",
        "RayJob/train",
        word("use_gpu=true", "use_gpu=false"),
        f"{CONTAINER}.resources.limits",
        "1 GPUs, and the command says scaling.use_gpu=false",
    ),
    "a batch too small for the workers": (
        "train",
        "RayJob/train",
        word("global_batch=8", "global_batch=2"),
        "spec.entrypoint",
        "more than the 1 images of each domain",
    ),
    "a run by another name": (
        "train",
        "RayJob/train",
        put("spec.metadata.run", "demo"),
        "spec.metadata.run",
        "the command says apple2orange",
    ),
    "words for a shell": (
        "train",
        "RayJob/train",
        word("scaling.workers=4", "scaling.workers=$N"),
        "spec.entrypoint",
        "plain words only",
    ),
    "a run that cannot do without spot machines": (
        "prod",
        "RayJob/train",
        word("min_workers=2", "min_workers=null"),
        "spec.entrypoint",
        "scaling.min_workers = None: at most 2 stay",
    ),
    "a sweep's base that is not mounted": (
        "sweep",
        "RayJob/sweep",
        word("base=/etc/gmvae/experiments/demo", "base=/etc/gmvae/experiments/demon"),
        "spec.entrypoint",
        "demon.yaml: cannot be read",
    ),
    "a password in a sweep's command": (
        "sweep",
        "RayJob/sweep",
        word("tuner@", "tuner:hunter2@"),
        "spec.entrypoint",
        "a password does not belong",
    ),
    "trials without places": (
        "sweep",
        "RayJob/sweep",
        word("concurrency=4", "concurrency=5"),
        "spec.entrypoint",
        "asks for 5 workers, and there are 4 pods",
    ),
    "a flag of the shard builder that is none": (
        "dev",
        "Job/build-shards",
        put("spec.template.spec.containers.0.command.-", "--size"),
        "spec.template.spec.containers.0.command",
        "No such option",
    ),
    # Secrets
    "a key in an environment": (
        "train",
        "RayJob/train",
        put(f"{CONTAINER}.env.-", {"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}),
        f"{CONTAINER}.env.1",
        "take it from a Secret",
    ),
    "a key in a ConfigMap": (
        "train",
        "ConfigMap/s3-",
        put("data.AWS_ACCESS_KEY_ID", "x"),
        "data.AWS_ACCESS_KEY_ID",
        "called like a secret",
    ),
    "a key by its looks": (
        "train",
        "ConfigMap/s3-",
        put("data.OTHER", "AKIA" + "Q" * 16),
        "data.OTHER",
        "an AWS access key",
    ),
    "a password in a URL": (
        "train",
        "ConfigMap/s3-",
        put("data.AWS_ENDPOINT_URL_S3", "http://me:pass@store"),
        "data.AWS_ENDPOINT_URL_S3",
        "a password in a URL",
    ),
}

OF_CRDS = {
    "typo in a field of a RayJob": (
        "train",
        "RayJob/train",
        put("spec.backofLimit", 2),
        "spec",
        "backofLimit",
    ),
    "typo in a pod of Ray": (
        "train",
        "RayJob/train",
        put(f"{CONTAINER}.imagePulPolicy", "Always"),
        CONTAINER,
        "imagePulPolicy",
    ),
    "wrong type in a RayJob": (
        "train",
        "RayJob/train",
        put("spec.ttlSecondsAfterFinished", "600"),
        "spec.ttlSecondsAfterFinished",
        "is not of type 'integer'",
    ),
    "wrong value in a RayCluster": (
        "shared",
        "RayCluster/shared",
        put("spec.autoscalerOptions.upscalingMode", "Fast"),
        "spec.autoscalerOptions.upscalingMode",
        "'Fast' is not one of",
    ),
    "an API of Ray that is none": (
        "train",
        "RayJob/train",
        put("apiVersion", "ray.io/v2"),
        "apiVersion",
        "the CRD has ray.io/v1",
    ),
}


def refused(built, name, which, mutate):
    """(the object's name after the mutation, faults)."""
    overlay = dataclasses.replace(built[name], objects=copy.deepcopy(built[name].objects))
    (thing,) = [
        thing for thing in overlay.objects if f"{thing['kind']}/{thing['metadata']['name']}".startswith(which)
    ]
    mutate(thing)
    return thing, faults_of(overlay)


def check(built, name, which, mutate, path, told):
    thing, faults = refused(built, name, which, mutate)
    called = f"{thing['kind']}/{thing['metadata']['name']}"
    fitting = [
        fault for fault in faults if fault.object == called and fault.path == path and told in fault.told
    ]
    assert fitting, "\n".join(map(str, faults)) or "nothing is refused"
    assert str(fitting[0]).startswith(f"{fitting[0].file}: {called}: {path}: ")
    assert fitting[0].file.startswith(("k8s/", "cluster/", "tune/"))


@pytest.mark.parametrize("case", OF_OBJECTS.values(), ids=OF_OBJECTS)
def test_it_is_refused(case, built):
    check(built, *case)


@CRDS
@pytest.mark.parametrize("case", OF_CRDS.values(), ids=OF_CRDS)
def test_it_is_refused_by_the_crds(case, built):
    check(built, *case)


OF_OVERLAYS = {
    "no wall": (
        "train",
        lambda things: [t for t in things if t["metadata"]["name"] != "default-deny"],
        "none denies all",
    ),
    "no namespace": (
        "train",
        lambda things: [t for t in things if t["kind"] != "Namespace"],
        "no Namespace gmvae-drit",
    ),
    "no budget": (
        "train",
        lambda things: [t for t in things if t["kind"] != "PodDisruptionBudget"],
        "no PodDisruptionBudget keeps the head",
    ),
    "no quota": (
        "train",
        lambda things: [t for t in things if t["kind"] != "ResourceQuota"],
        "ResourceQuota: missing",
    ),
    "no experiments": (
        "train",
        lambda things: [t for t in things if not t["metadata"]["name"].startswith("experiments-")],
        "there is no ConfigMap experiments-",
    ),
    "an Ingress": (
        "train",
        lambda things: [
            *things,
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "Ingress",
                "metadata": {"name": "ray", "namespace": "gmvae-drit"},
                "spec": {"defaultBackend": {"service": {"name": "x", "port": {"number": 8265}}}},
            },
        ],
        "nothing here may be reached from outside",
    ),
    "a Secret with a value": (
        "train",
        lambda things: [
            *things,
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "s", "namespace": "gmvae-drit"},
                "stringData": {"key": "x"},
            },
        ],
        "a Secret does not belong in a manifest",
    ),
    "a RayCronJob": (
        "train",
        lambda things: [
            *things,
            {
                "apiVersion": "ray.io/v1",
                "kind": "RayCronJob",
                "metadata": {"name": "c", "namespace": "gmvae-drit"},
                "spec": {},
            },
        ],
        "behind a feature gate",
    ),
}


@pytest.mark.parametrize("case", OF_OVERLAYS.values(), ids=OF_OVERLAYS)
def test_an_overlay_is_refused(case, built):
    name, change, told = case
    overlay = dataclasses.replace(built[name], objects=change(built[name].objects))
    assert any(told in str(fault) for fault in faults_of(overlay))


def test_a_fault_names_the_file_that_the_object_comes_from(built):
    _, faults = refused(built, "prod", "RayJob/train", put(f"{CONTAINER}.securityContext.privileged", True))
    assert f"{RAY_JOB}: RayJob/train: {CONTAINER}.securityContext.privileged: must not be true" in map(
        str, faults
    )
    _, faults = refused(built, "prod", "LocalQueue/gmvae-drit", put("spec.clusterQueue", "other"))
    assert [str(fault) for fault in faults] == [
        "k8s/components/kueue/queues.yaml: LocalQueue/gmvae-drit: spec.clusterQueue: there is no ClusterQueue other"
    ]
