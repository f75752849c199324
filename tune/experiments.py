"""From a sweep to the experiments of its trials, checked before anything starts."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from optuna.samplers import RandomSampler

from cluster.config import Experiment, held_out_metrics, load
from cluster.driver import with_absolute_paths
from cluster.errors import ConfigError
from tune.config import Sweep
from tune.space import Values, combinations, suggest
from tune.study import Assignment

LOOKS = 4
"""Evaluations of a trial where neither a pruner nor `fixed` says how many."""

DRAWS = 30
"""Random trials whose configuration is tried before anything starts."""
FAULTS = 10
"""Lines of faults that are shown at most."""


@dataclass(frozen=True)
class Recipe:
    """Makes experiments of assignments."""

    sweep: Sweep
    base: Experiment
    """What every trial starts from, `fixed` and the budget applied."""
    default: Values
    """The base's own values of the parameters that are searched in it."""
    infix: str = ""
    """Tells the names of confirming runs from those of the search."""

    def confirming(self) -> "Recipe":
        """The same for runs that confirm."""
        return replace(self, infix="confirm-")

    def experiment(self, assignment: Assignment) -> Experiment:
        """That of a trial. Raises ConfigError."""
        experiment = load(
            self.sweep.base,
            {
                **settings(self.sweep),
                **assignment.values,
                "run.name": run_name(self.sweep, assignment.number, self.infix),
                "run.storage": self.sweep.trials_storage,
                **({} if assignment.seed is None else {"run.seed": assignment.seed}),
            },
        )
        return with_absolute_paths(experiment)


def identity(recipe: Recipe) -> dict[str, object]:
    """Of the base all that decides what a trial gets: neither what it is called nor what it runs on."""
    document = recipe.base.model_dump(mode="json", exclude={"run": {"name", "storage"}, "scaling": True})
    if "://" not in recipe.base.data.uri:
        document["data"]["uri"] = str(Path(recipe.base.data.uri).absolute())
    return document


def check_objectives(recipe: Recipe, labelled: bool) -> None:
    """Raise ConfigError unless trials measure the objectives, on data with labels or without, and towards that end."""
    measured = held_out_metrics(recipe.base, labelled)
    for position, objective in enumerate(recipe.sweep.objectives):
        where, best = f"objectives.{position}", measured.get(objective.metric)
        if best is None:
            close = difflib.get_close_matches(objective.metric, measured, n=1)
            told = f"did you mean {close[0]}?" if close else f"measured are {', '.join(measured)}"
            raise ConfigError(
                f"{where}.metric = {objective.metric}: {told} (kid, diversity and label_kept need train.judge, and "
                f"label_kept labels)"
            )
        if (best == "lowest") != (objective.goal == "min"):
            raise ConfigError(f"{where}.goal = {objective.goal}: the best {objective.metric} is the {best}")


def run_name(sweep: Sweep, number: int, infix: str = "") -> str:
    """`run.name` of a trial."""
    return f"{sweep.sweep.name}-{infix}{number:04}"


def settings(sweep: Sweep) -> dict[str, object]:
    """What all trials differ in from the base, by dotted path."""
    steps = sweep.budget.steps
    every = sweep.pruner.min_steps if sweep.pruner else max(1, steps // LOOKS)
    rhythm = dict.fromkeys(("train.evaluate_every", "train.checkpoint_every", "train.preview_every"), every)
    return {**rhythm, "train.keep_checkpoints": 1, **sweep.fixed, "train.steps": steps}


def prepare(sweep: Sweep) -> Recipe:
    """Check every path, type and range against the experiment. Raises ConfigError with one line per fault."""
    load(sweep.base)  # its own faults first
    base = load(sweep.base, settings(sweep))
    _check_looks(sweep, base)
    _check_each(sweep, combinations(sweep.space))
    _check_each(sweep, drawn(sweep, DRAWS))  # what no parameter does by itself
    return Recipe(sweep, base, _values_of(sweep, base))


def drawn(sweep: Sweep, trials: int) -> Iterator[Values]:
    """Trials as they may come, always the same ones: for settings that do not go with each other."""
    study = optuna.create_study(sampler=RandomSampler(0))
    for _ in range(trials):
        yield suggest(sweep.space, study.ask())


def _check_each(sweep: Sweep, tried: Iterable[Values]) -> None:
    """Raise ConfigError with each fault once, beside the first values that have it."""
    faults: dict[str, Values] = {}
    for values in tried:
        try:
            load(sweep.base, {**settings(sweep), **values})
        except ConfigError as error:
            for line in str(error).splitlines():
                faults.setdefault(line, values)
    if faults:
        shown = list(faults.items())[:FAULTS]
        raise ConfigError("\n".join(f"space: {_given(values)}: {line}" for line, values in shown))


def _given(values: Values) -> str:
    return ", ".join(f"{path} = {value}" for path, value in values.items())


def _check_looks(sweep: Sweep, base: Experiment) -> None:
    every = base.train.evaluate_every
    if not every:
        raise ConfigError("train.evaluate_every = 0: trials are compared by their evaluations")
    if sweep.pruner and sweep.pruner.min_steps % every:
        raise ConfigError(
            f"pruner.min_steps = {sweep.pruner.min_steps}: no multiple of train.evaluate_every = {every}, so that "
            f"there is no figure to judge by then"
        )


def _values_of(sweep: Sweep, base: Experiment) -> Values:
    """The base's own values, as far as they are searched beside each other."""
    values: Values = {}
    document = base.model_dump(mode="json")
    faults = []
    for path, parameter in sweep.space.items():
        if not parameter.is_active(values):
            continue
        found, value = _look_up(document, path)
        if not found:
            faults.append(
                f"space.{path}: the base has no value there, and is the first trial; set it in the base"
            )
        elif parameter.contains(value):
            values[path] = value
        else:
            faults.append(
                f"space.{path}: does not hold {value}, which is the base's own value and the first trial; widen it, or "
                f"set the path in `fixed`"
            )
    if faults:
        raise ConfigError("\n".join(faults))
    return values


def _look_up(document: Mapping[str, object], path: str) -> tuple[bool, object]:
    node: object = document
    for key in path.split("."):
        if not isinstance(node, Mapping) or key not in node:
            return False, None
        node = node[key]
    return True, node
