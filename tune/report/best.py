"""The best configuration of a sweep, as an experiment that `python -m cluster train` takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.config import Experiment, load
from cluster.report.scale import number
from cluster.run_folder import RunFolder
from tune.config import Objective, Sweep
from tune.report.confirmation import LEAST_SEEDS, Confirmed, compare, is_telling
from tune.report.results import Result
from tune.report.standing import by_rank_sum, gain

DIGITS = 4


@dataclass(frozen=True)
class Best:
    """The configuration that a sweep recommends."""

    result: Result
    confirmed: Confirmed | None
    """Its runs with fresh seeds, where it was chosen by them."""


def choose(sweep: Sweep, results: Sequence[Result], confirmed: Sequence[Confirmed]) -> Best | None:
    """By the means over seeds where the confirmation tells, else by the search; None if no trial has completed."""
    complete = {result.number: result.values for result in results if result.values is not None}
    among = list(complete.values())
    if is_telling(confirmed):
        known = {each.result.number: each for each in confirmed if each.seeds >= LEAST_SEEDS}
        means = {number: each.means for number, each in known.items()}
        first = by_rank_sum(sweep.objectives, means, [*means.values(), *among])[0]
        return Best(known[first].result, known[first])
    if not complete:
        return None
    first = by_rank_sum(sweep.objectives, complete, among)[0]
    return Best(next(result for result in results if result.number == first), None)


def best_experiment(folder: RunFolder, sweep: Sweep, best: Best) -> Experiment:
    """The base with the best trial's values. Raises ConfigError where base.yaml is not there."""
    base = folder.root / "base.yaml"
    folder.fetch(base)
    values = {path: best.result.params[path] for path in sweep.space if path in best.result.params}
    return load(base, values | {"run.name": f"{sweep.sweep.name}-best"})


def best_yaml(best: Best, experiment: Experiment, told: Sequence[str], path: Path) -> str:
    """The file at ``path``: the experiment under a header that says where it comes from, as ``told``."""
    searched = [f"  {key}: {value}" for key, value in best.result.params.items()]
    steps = experiment.train.steps
    command = [
        "",
        f"Train it, for {steps:,} steps unless train.steps=… says more:",
        f"  python -m cluster train {path}",
    ]
    lines = [*told, "", "What was searched is here:", *searched, *command]
    header = "\n".join(f"# {line}".rstrip() for line in lines)
    return f"{header}\n\n{experiment.to_yaml()}"


def tell(sweep: Sweep, best: Best, results: Sequence[Result], confirmed: Sequence[Confirmed]) -> list[str]:
    """In plain sentences: which trial it is, why, against what, and how sure that is."""
    result, total = best.result, len(results)
    default = next((each for each in results if each.is_default), None)
    said = [f"Best of sweep {sweep.sweep.name}: trial {result.number} of {total}. {_why(sweep, best)}"]
    if result.is_default:
        said.append("These are the base's own settings: nothing beat them.")
    if result.values is not None:
        said.append(
            f"In the search, after {sweep.budget.steps:,} steps: {_figures(sweep, result.values, default, result)}."
        )
    if best.confirmed is None:
        state = "begun, but does not tell yet" if confirmed else "not done"
        said.append(
            f"Confirmation with fresh seeds: {state}. The best of many trials looks better than it is."
        )
        return said
    said.append(f"Confirmed with {best.confirmed.seeds} fresh seeds, mean ± standard deviation:")
    base = next(each for each in confirmed if each.result.is_default)
    for objective, mine, its in zip(sweep.objectives, best.confirmed.samples, base.samples, strict=True):
        own = f"{objective.metric} {spread(mine.mean, mine.sd)}"
        if result.is_default:
            said.append(f"  {own}")
        else:
            said.append(
                f"  {own} against {spread(its.mean, its.sd)} of the base: {compare(objective, mine, its).verdict}"
            )
    return said


def spread(mean: float, sd: float | None) -> str:
    """A mean and its standard deviation."""
    return number(mean, DIGITS) + ("" if sd is None else f" ± {number(sd, 2)}")


def signed(difference: float) -> str:
    """A difference with its sign."""
    return ("+" if difference > 0 else "") + number(difference, 3)


def against(objective: Objective, value: float, default: float) -> str:
    """A difference in words, such as "0.0027 lower, which is better"."""
    if value == default:
        return "the same"
    direction = "higher" if value > default else "lower"
    sense = "better" if gain(objective, value, default) > 0 else "worse"
    return f"{number(abs(value - default), 3)} {direction}, which is {sense}"


def _why(sweep: Sweep, best: Best) -> str:
    by = "the mean over fresh seeds" if best.confirmed else "its value"
    if len(sweep.objectives) == 1:
        objective = sweep.objectives[0]
        return f"Chosen by {by} of {objective.metric} ({objective.goal})."
    metrics = " and ".join(f"{objective.metric} ({objective.goal})" for objective in sweep.objectives)
    means = " of the means over fresh seeds" if best.confirmed else ""
    return f"Of the Pareto front of {metrics}, the one with the best sum of ranks{means}: a compromise."


def _figures(sweep: Sweep, values: Sequence[float], default: Result | None, result: Result) -> str:
    said = []
    for index, objective in enumerate(sweep.objectives):
        words = f"{objective.metric} {number(values[index], DIGITS)}"
        if default and default.values and default is not result:
            base = default.values[index]
            words += f" (base: {number(base, DIGITS)}; {against(objective, values[index], base)})"
        said.append(words)
    return ", ".join(said)
