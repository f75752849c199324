"""Parameters of a search space, over dotted paths of the experiment."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import yaml
from pydantic import AfterValidator, Field, FiniteFloat, model_validator

from gmvae_drit.config import Settings

if TYPE_CHECKING:
    from optuna import Trial

Whole = int
Values = dict[str, object]
"""Dotted path to value: what a trial changes."""


def _as_numbers(values: list[object]) -> list[object]:
    """PyYAML reads 1e-4 as text."""
    return [_as_number(value) for value in values]


def _as_number(value: object) -> object:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


class Parameter(Settings):
    """Where the values of one setting come from: exactly one of the four kinds."""

    uniform: tuple[FiniteFloat, FiniteFloat] | None = None
    """Lowest and highest number, all between equally likely."""
    loguniform: tuple[FiniteFloat, FiniteFloat] | None = None
    """Lowest and highest positive number, equally likely on a logarithmic scale."""
    int: tuple[Whole, Whole] | None = None
    """Lowest and highest whole number, both included."""
    choice: Annotated[list[object], Field(min_length=2), AfterValidator(_as_numbers)] | None = None
    """Values without an order; sections and lists, too."""
    when: Mapping[str, Annotated[list[object], AfterValidator(_as_numbers)]] = {}
    """Only searched where these parameters, named before this one, have one of these values; else the base's value
    stays."""

    @model_validator(mode="after")
    def _is_one_kind_and_not_empty(self) -> "Parameter":
        kinds = [k for k in ("uniform", "loguniform", "int", "choice") if getattr(self, k) is not None]
        if len(kinds) != 1:
            raise ValueError("must have exactly one of uniform, loguniform, int, choice")
        if self.choice is None:
            low, high = self.bounds
            if low >= high:
                raise ValueError(f"{kinds[0]} = [{low}, {high}]: an empty range; the lower end comes first")
            if self.loguniform is not None and low <= 0:
                raise ValueError(f"loguniform = [{low}, {high}]: must be greater than 0")
        elif len(set(map(label, self.choice))) < len(self.choice):
            raise ValueError(f"choice = {self.choice}: the same value twice")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value of a number."""
        bounds = self.uniform or self.loguniform or self.int
        assert bounds is not None, "a choice has no bounds"
        return bounds

    def examples(self) -> list[object]:
        """Values that show whether the setting takes what this may propose: each choice, or both ends."""
        return list(self.bounds) if self.choice is None else self.choice

    def contains(self, value: object) -> bool:
        """Whether this may propose ``value``."""
        if self.choice is not None:
            return label(value) in map(label, self.choice)
        low, high = self.bounds
        numbers = Whole | float if self.int is None else Whole
        return isinstance(value, numbers) and not isinstance(value, bool) and low <= value <= high

    def is_active(self, values: Mapping[str, object]) -> bool:
        """Whether it is searched beside these values of the parameters before it."""
        return all(
            path in values and label(values[path]) in map(label, allowed)
            for path, allowed in self.when.items()
        )

    def suggest(self, trial: "Trial", path: str) -> object:
        """A value for ``path``. Optuna knows choices by their labels."""
        if self.choice is not None:
            known = {label(value): value for value in self.choice}
            return known[trial.suggest_categorical(path, list(known))]
        low, high = self.bounds
        if self.int is not None:
            return trial.suggest_int(path, *self.int)
        return trial.suggest_float(path, low, high, log=self.loguniform is not None)


def suggest(space: Mapping[str, Parameter], trial: "Trial") -> Values:
    """The values of a trial."""
    values: Values = {}
    for path, parameter in space.items():
        if parameter.is_active(values):
            values[path] = parameter.suggest(trial, path)
    return values


def labels(space: Mapping[str, Parameter], values: Mapping[str, object]) -> dict[str, object]:
    """``values`` as Optuna knows them."""
    return {path: label(value) if space[path].choice is not None else value for path, value in values.items()}


def label(value: object) -> str:
    """A choice in one line of YAML: what tables and charts show, and what the study holds."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()


def shown(value: object) -> str:
    """A value as people are shown it: three digits of a number."""
    return f"{value:.3g}" if isinstance(value, float) else label(value)


def combinations(space: Mapping[str, Parameter]) -> Iterator[Values]:
    """Values that show whether each parameter fits its setting, one parameter at a time beside what it depends on."""
    for path, parameter in space.items():
        needed = _needs(space, path)
        for value in parameter.examples():
            yield needed | {path: value}


def _needs(space: Mapping[str, Parameter], path: str) -> Values:
    """The first values under which a parameter is searched, and those under which these are."""
    needed: Values = {}
    for other, allowed in space[path].when.items():
        needed |= _needs(space, other) | {other: allowed[0]}
    return needed
