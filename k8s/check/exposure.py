"""What can be reached from where. Whoever reaches 8265, 10001 or 6379 of a Ray head may run code on its cluster."""

from collections.abc import Iterator

from k8s.check.overlay import Fault, Object, Overlay, Pod, ray_cluster_spec

PORTS = (8265, 10001, 6379)
OPERATOR = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kuberay-system"}},
    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
}
PEERS = (
    {"podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}}},
    {"podSelector": {"matchLabels": {"app.kubernetes.io/component": "submitter"}}},
    OPERATOR,
)
OPEN_KINDS = ("Ingress", "IngressClass", "Gateway", "HTTPRoute", "TCPRoute", "TLSRoute", "GRPCRoute", "Route")


def check_exposure(overlay: Overlay) -> Iterator[Fault]:
    """Doors to the outside, and holes in the wall around Ray's head."""
    for thing in overlay.of_kind(*OPEN_KINDS):
        yield overlay.fault(
            thing, "kind", "nothing here may be reached from outside; use kubectl port-forward"
        )
    for thing in overlay.of_kind("Service"):
        yield from _service(overlay, thing, thing.get("spec") or {}, "spec")
    for thing in overlay.of_kind("RayJob", "RayCluster"):
        base = "spec.rayClusterSpec.headGroupSpec" if thing["kind"] == "RayJob" else "spec.headGroupSpec"
        head = ray_cluster_spec(thing).get("headGroupSpec") or {}
        if head.get("serviceType", "ClusterIP") != "ClusterIP":
            yield overlay.fault(
                thing, f"{base}.serviceType", f"{head['serviceType']} exposes 8265; use ClusterIP"
            )
        if head.get("enableIngress"):
            yield overlay.fault(thing, f"{base}.enableIngress", "exposes 8265")
        if "headService" in head:
            yield from _service(
                overlay, thing, head["headService"].get("spec") or {}, f"{base}.headService.spec"
            )
    policies = list(overlay.of_kind("NetworkPolicy"))
    if not any(_denies_all(policy.get("spec") or {}) for policy in policies):
        yield overlay.fault(
            None, "NetworkPolicy", "none denies all: podSelector {}, policyTypes [Ingress, Egress], no rules"
        )
    for pod in overlay.pods:
        if pod.role == "head":
            yield from _holes(overlay, pod, policies)


def _service(overlay: Overlay, thing: Object, spec: Object, path: str) -> Iterator[Fault]:
    kind = spec.get("type", "ClusterIP")
    if kind != "ClusterIP":
        yield overlay.fault(thing, f"{path}.type", f"{kind} can be reached from outside; use ClusterIP")
    if spec.get("externalIPs"):
        yield overlay.fault(thing, f"{path}.externalIPs", "can be reached from outside")


def _denies_all(spec: Object) -> bool:
    """Whether this policy walls in every pod both ways."""
    return (
        spec.get("podSelector") == {}
        and set(spec.get("policyTypes") or []) == {"Ingress", "Egress"}
        and not spec.get("ingress")
        and not spec.get("egress")
    )


def _holes(overlay: Overlay, head: Pod, policies: list[Object]) -> Iterator[Fault]:
    """Rules that let somebody else to the ports of ``head`` that run code."""
    for policy in policies:
        spec = policy["spec"]
        if not selects(spec.get("podSelector") or {}, head.labels):
            continue
        for position, rule in enumerate(spec.get("ingress") or []):
            if not (opened := [port for port in PORTS if _covers(rule.get("ports"), port)]):
                continue
            path = f"spec.ingress.{position}.from"
            if not rule.get("from"):
                yield overlay.fault(policy, path, f"missing: opens {opened} of Ray's head to everybody")
            for peer in rule.get("from") or []:
                if peer not in PEERS:
                    yield overlay.fault(
                        policy,
                        path,
                        f"opens {opened} of Ray's head to others than Ray, submitter and operator: {peer}",
                    )


def selects(selector: Object, labels: object) -> bool:
    """Whether a selector of labels, without expressions, takes in a pod."""
    wanted = selector.get("matchLabels") or {}
    return isinstance(labels, dict) and wanted.items() <= labels.items()


def _covers(ports: list[Object] | None, number: int) -> bool:
    if not ports:
        return True
    for port in ports:
        begin = port.get("port")
        if not isinstance(begin, int):  # all, or one by name, which may be any
            return True
        if begin <= number <= port.get("endPort", begin):
            return True
    return False
