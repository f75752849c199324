"""A configuration as a tree that tells what was set from what was left at its default."""

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined


@dataclass(frozen=True)
class Setting:
    """A value, or a section of settings."""

    name: str
    help: str
    value: str = ""
    default: str | None = None
    """The default where the value is another one."""
    required: bool = False
    """Whether there is no default to differ from."""
    children: list["Setting"] = field(default_factory=list)

    @property
    def changed(self) -> int:
        """Values in here that are not the defaults."""
        return (
            sum(child.changed for child in self.children) if self.children else int(self.default is not None)
        )


def tree(settings: BaseModel) -> list[Setting]:
    """The sections of a configuration."""
    return _children(settings, None)


def _children(settings: BaseModel, defaults: BaseModel | None) -> list[Setting]:
    """`defaults` is what would stand here if nothing were set; None where each field's own default tells."""
    return [
        _setting(name, info.description or "", getattr(settings, name), _default(name, info, defaults))
        for name, info in type(settings).model_fields.items()
    ]


def _default(name: str, info: Any, defaults: BaseModel | None) -> object:
    return getattr(defaults, name) if defaults is not None else info.get_default(call_default_factory=True)


def _setting(name: str, text: str, value: object, default: object) -> Setting:
    if isinstance(value, BaseModel):
        same_kind = isinstance(default, BaseModel) and type(default) is type(value)
        children = _children(value, default if same_kind and isinstance(default, BaseModel) else None)
        return Setting(name, text, children=children)
    if default is PydanticUndefined:
        return Setting(name, text, _text(value), required=True)
    return Setting(name, text, _text(value), None if value == default else _text(default))


def _text(value: object) -> str:
    if isinstance(value, BaseModel):
        return "a section"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(value)
