"""No key, token or password in what is committed."""

import re
from collections.abc import Iterator

from k8s.check.overlay import Fault, Overlay

NAMES = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|ACCESS_?KEY|API_?KEY|CREDENTIAL)", re.IGNORECASE)
SHAPES = {
    "an AWS access key": re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a password in a URL": re.compile(r"\w://[^/\s:@]+:[^/\s:@]+@"),
    "a GitHub token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{30,}"),
}


def check_secrets(overlay: Overlay) -> Iterator[Fault]:
    """Whatever looks like one."""
    for thing in overlay.objects:
        if thing["kind"] == "Secret":
            for key in ("data", "stringData"):
                for name in thing.get(key) or {}:
                    yield overlay.fault(
                        thing,
                        f"{key}.{name}",
                        "a Secret does not belong in a manifest; let whoever deploys create it",
                    )
        if thing["kind"] == "ConfigMap":
            for name in filter(NAMES.search, thing.get("data") or {}):
                yield overlay.fault(thing, f"data.{name}", "is called like a secret; take it from a Secret")
        for path, text in _texts(thing):
            for what, shape in SHAPES.items():
                if shape.search(text):
                    yield overlay.fault(thing, path, f"looks like {what}")
    for pod in overlay.pods:
        for path, container in pod.containers():
            for position, variable in enumerate(container.get("env") or []):
                if NAMES.search(variable.get("name", "")) and variable.get("value"):
                    yield overlay.fault(
                        pod.object,
                        f"{path}.env.{position}",
                        f"{variable['name']} has its value here; take it from a Secret",
                    )


def _texts(node: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _texts(value, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from _texts(value, f"{path}.{position}")
