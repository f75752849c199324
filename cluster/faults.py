"""Validation faults in the words of the person who wrote the configuration.

Each fault is one line: the dotted path, the bad value, what is allowed there.
"""

import difflib
from typing import Any

from pydantic import ValidationError

Schema = dict[str, Any]

_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a section of keys",
    "null": "null",
}


def describe_faults(error: ValidationError, raw: dict[str, Any], schema: Schema) -> str:
    """The faults of ``raw`` under the JSON schema ``schema``, one per line in the order of the fields."""
    lines: dict[str, None] = {}  # a union reports the same value once per member
    for fault in error.errors():
        path, node = _walk(fault["loc"], schema)
        value = _value_at(path, raw)
        if fault["type"] == "extra_forbidden":
            line = f"{'.'.join(path)}: unknown key; {_known_keys(fault['loc'], schema)}"
        elif fault["type"] == "missing":
            line = f"{'.'.join(path)}: missing; must be {_allowed(node, schema)}"
        elif fault["type"] == "union_tag_invalid":
            key = fault["ctx"]["discriminator"].strip("'")
            kinds = _resolve(node, schema)["discriminator"]["mapping"]
            line = f"{'.'.join([*path, key])} = {_short(value[key])}: must be one of {', '.join(kinds)}"
        elif fault["type"] == "value_error":
            reason = str(fault["ctx"]["error"])
            line = f"{'.'.join(path)}: {reason}" if path else reason
        else:
            line = f"{'.'.join(path)} = {_short(value)}: must be {_allowed(node, schema)}"
        lines[line] = None
    return "\n".join(lines)


def _resolve(node: Schema, schema: Schema) -> Schema:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return node


def _members(node: Schema, schema: Schema) -> list[Schema]:
    """The alternatives of a union, or the node itself."""
    node = _resolve(node, schema)
    union = node.get("anyOf") or node.get("oneOf")
    return [member for each in union for member in _members(each, schema)] if union else [node]


def _walk(loc: tuple[int | str, ...], schema: Schema) -> tuple[list[str], Schema]:
    """The keys a person wrote (without pydantic's names of union members) and the schema at their end."""
    path: list[str] = []
    node = schema
    for step in loc:
        family = _resolve(node, schema).get("discriminator", {}).get("mapping", {}).get(step)
        if family is not None:
            node = {"$ref": family}
            continue
        for member in _members(node, schema):
            if isinstance(step, int):
                items = member.get("prefixItems")
                child = items[step] if items and step < len(items) else member.get("items")
            else:
                others = member.get("additionalProperties")  # a mapping of a person's own keys
                child = member.get("properties", {}).get(step, others if isinstance(others, dict) else None)
            if child is not None:
                path.append(str(step))
                node = child
                break
        else:
            if (
                step == loc[-1]
                and isinstance(step, str)
                and any(member.get("additionalProperties") is False for member in _members(node, schema))
            ):
                path.append(step)  # the unknown key itself
    return path, node


def _value_at(path: list[str], raw: Any) -> Any:
    for key in path:
        if isinstance(raw, list):
            raw = raw[int(key)] if int(key) < len(raw) else None
        else:
            raw = raw.get(key) if isinstance(raw, dict) else None
    return raw


def _known_keys(loc: tuple[int | str, ...], schema: Schema) -> str:
    _, parent = _walk(loc[:-1], schema)
    known = [key for member in _members(parent, schema) for key in member.get("properties", {})]
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"


def _allowed(node: Schema, schema: Schema) -> str:
    return ", or ".join(dict.fromkeys(_allowed_member(each) for each in _members(node, schema)))


def _allowed_member(node: Schema) -> str:
    if "const" in node:
        return str(node["const"])
    if "enum" in node:
        return f"one of {', '.join(map(str, node['enum']))}"
    words = [_TYPES.get(node.get("type", ""), "another value")]
    words += [f"{sign} {node[bound]}" for bound, sign in _BOUNDS.items() if bound in node]
    if "multipleOf" in node:
        words.append(f"divisible by {node['multipleOf']}")
    if "pattern" in node:
        words.append(f"matching {node['pattern']}")
    if "minItems" in node:
        words.append(f"of {node['minItems']} or more")
    return " ".join(words)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
