"""Names and types of fields: Kubernetes' own objects by `kubernetes-validate`, others by their CRDs, strictly.

CRDs are read from the folder that KUBERAY_CRDS names. Rules in CEL (`x-kubernetes-validations`) are not evaluated.
Of objects of Kueue and the Prometheus operator, whose CRDs are not at hand, `crds/` says what this project uses.
"""

import json
import os
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft7Validator

from k8s.check.overlay import Fault, Object, Overlay

CRDS_VARIABLE = "KUBERAY_CRDS"
KUBERNETES = ("1.32", "1.37")
"""The oldest and the newest version that the manifests must go with."""
OWN_CRDS = Path(__file__).parent / "crds"


def check_schemas(overlay: Overlay) -> Iterator[Fault]:
    """Objects that their schemas refuse."""
    for thing in overlay.objects:
        for path, told in _faults(json.dumps(thing, sort_keys=True), os.environ.get(CRDS_VARIABLE)):
            yield overlay.fault(thing, path, told)


def unchecked(overlay: Overlay) -> list[str]:
    """Kinds of which no schema is at hand, KIND.GROUP."""
    crds = _schemas(os.environ.get(CRDS_VARIABLE))
    kinds = {(thing["kind"], thing["apiVersion"]) for thing in overlay.objects if _is_custom(thing)}
    return sorted(
        f"{kind}.{version.partition('/')[0]}" for kind, version in kinds if (version, kind) not in crds
    )


@lru_cache(maxsize=1000)
def _faults(text: str, folder: str | None) -> tuple[tuple[str, str], ...]:
    """(path, what is wrong); cached, for most objects are in several overlays and most mutations change one."""
    thing = json.loads(text)
    if not _is_custom(thing):
        return tuple(dict.fromkeys(fault for version in KUBERNETES for fault in _core(thing, version)))
    schemas = _schemas(folder)
    schema = schemas.get((thing["apiVersion"], thing["kind"]))
    if schema is None:
        served = [version for version, kind in schemas if kind == thing["kind"]]
        return (("apiVersion", f"{thing['apiVersion']}: the CRD has {', '.join(served)}"),) if served else ()
    errors = sorted(Draft7Validator(schema).iter_errors(thing), key=lambda error: list(map(str, error.path)))
    return tuple((".".join(map(str, error.path)) or "object", error.message[:300]) for error in errors)


def _core(thing: Object, version: str) -> Iterator[tuple[str, str]]:
    try:
        kubernetes_validate.validate(thing, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield ".".join(map(str, error.path)) or "object", error.message[:300]
    except kubernetes_validate.SchemaNotFoundError:
        yield "apiVersion", f"Kubernetes {version} has no {thing['kind']} of {thing['apiVersion']}"


def _is_custom(thing: Object) -> bool:
    """Groups of CRDs have dots and are not Kubernetes' own."""
    group = str(thing.get("apiVersion", "")).rpartition("/")[0]
    return ("." in group and not group.endswith(".k8s.io")) or group.startswith("kueue.")


@cache
def _schemas(folder: str | None) -> Mapping[tuple[str, str], Object]:
    """(apiVersion, kind) -> strict schema."""
    found = {}
    files = [*OWN_CRDS.glob("*.yaml"), *(Path(folder).glob("*.yaml") if folder else [])]
    for file in files:
        for crd in yaml.load_all(file.read_text(encoding="utf-8"), yaml.CSafeLoader):
            spec = crd["spec"]
            for version in spec["versions"]:
                name = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                found[name] = _strict(version["schema"]["openAPIV3Schema"], top=True)
    return found


def _strict(schema: Any, top: bool = False) -> Any:
    """A CRD's schema as JSON Schema that refuses fields it does not name."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {
        key: value for key, value in schema.items() if not key.startswith("x-kubernetes") and key != "format"
    }
    for key in ("items", "additionalProperties", "anyOf", "allOf", "oneOf", "not"):
        if key in strict:
            strict[key] = _strict(strict[key])
    if "properties" in strict:
        strict["properties"] = {name: _strict(part) for name, part in strict["properties"].items()}
        if top:
            strict["properties"] |= {"metadata": {"type": "object"}}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            strict.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        strict.pop("type", None)
        strict["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return strict
