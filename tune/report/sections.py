"""Which charts the page holds, under which headings, and in words what could not be drawn."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import optuna

from tune.config import Sweep
from tune.report import charts
from tune.report.figure import Chart
from tune.report.learning import front_charts, learning_chart
from tune.report.names import short_names
from tune.report.results import Result
from tune.report.view import one_objective

SHOWN = 12
"""Parameters that have a chart of their own, the most important ones."""


@dataclass
class Section:
    """Charts under a heading."""

    id: str
    title: str
    hint: str
    charts: list[Chart] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What could not be drawn, and why."""


def sections(sweep: Sweep, study: optuna.Study, results: Sequence[Result], best: int | None) -> list[Section]:
    """All charts; ``best`` is the number of the trial that stands out."""
    front = Section(
        "front",
        "Pareto front",
        "Complete trials. One of the front: no other is better in one objective without being worse in another.",
    )
    history = Section("history", "Best so far", "Complete trials in the order in which they began.")
    learning = Section(
        "learning",
        "Learning curves",
        "Held-out figures of every trial. A cross: ended early. Point at a line for its trial; drag to zoom, "
        "double-click to go back.",
    )
    importance = Section("importances", "What matters", _importance_hint(sweep))
    slices = Section("slices", "Parameters", "Complete trials; the later, the stronger the colour.")
    contours = Section(
        "contours",
        "Pairs",
        "The most important ones, with what lies between the trials interpolated: strong is better. Dots are trials.",
    )
    lines = Section(
        "lines",
        "Parallel coordinates",
        f"A line for each complete trial, for the best {charts.MOST_LINES} of many. The better, the stronger; orange: "
        "the best one; -: not searched.",
    )
    everything = [front, history, learning, importance, slices, contours, lines]
    if len(sweep.objectives) > 1:
        front.charts = front_charts(sweep, results, best)
        front.missing = [] if front.charts else ["No trial has completed."]
    else:
        everything.remove(front)
    names = short_names(sweep.space)
    default = next((result.values for result in results if result.is_default), None)
    for index, objective in enumerate(sweep.objectives):
        metric = objective.metric
        if chart := learning_chart(sweep, index, results, best):
            learning.charts.append(chart)
        else:
            learning.missing.append(f"{metric}: no trial has been measured yet.")
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Optuna's remarks on small studies; the page says it in its own words
            _of_objective(
                one_objective(study, index, names),
                metric,
                list(names.values()),
                default[index] if default else None,
                (history, importance, slices, contours, lines),
            )
    return everything


def _of_objective(
    shown: optuna.Study,
    metric: str,
    names: Sequence[str],
    default: float | None,
    into: tuple[Section, Section, Section, Section, Section],
) -> None:
    """Add the charts of one objective to their sections."""
    history, importance, slices, contours, lines = into
    complete = len(charts.complete_trials(shown))
    pruned = len(charts.pruned_trials(shown))
    if not complete:
        for section in into:
            section.missing.append(f"{metric}: no trial has completed.")
        return
    history.charts.append(charts.history_chart(shown, metric, default))
    variance, good = charts.fanova(shown), charts.ped_anova(shown)
    if variance:
        note = "share of the variance that each explains (fANOVA), over complete trials"
        importance.charts.append(charts.importance_chart(metric, note, variance))
    if good:
        note = f"what sets the best {charts.good_trials(shown)} trials apart (PED-ANOVA)" + (
            ", those ended early counted as not good" if pruned else ""
        )
        importance.charts.append(charts.importance_chart(metric, note, good))
    if not (variance and good):
        least = charts.LEAST_FOR_IMPORTANCE
        importance.missing.append(
            f"{metric}: fANOVA needs {least} complete trials, PED-ANOVA {least} of which {charts.LEAST_GOOD} are "
            f"complete and the others may be ended early; there are {complete}, and {pruned} ended early. Their values "
            f"must differ."
        )
    ranked = good or variance or {}
    order = [*ranked, *(name for name in names if name not in ranked)]
    slices.charts += charts.slice_charts(shown, metric, order[:SHOWN])
    if pairs := charts.contour_charts(shown, metric, order):
        contours.charts += pairs
    else:
        contours.missing.append(
            f"{metric}: needs {charts.LEAST_FOR_CONTOUR} complete trials that differ in two parameters."
        )
    if chart := charts.lines_chart(shown, metric, order[:SHOWN]):
        lines.charts.append(chart)
    else:
        lines.missing.append(f"{metric}: needs {charts.LEAST_FOR_LINES} complete trials.")


def _importance_hint(sweep: Sweep) -> str:
    conditional = [path for path, parameter in sweep.space.items() if parameter.when]
    without = (
        f" fANOVA leaves out {', '.join(conditional)}, which not all trials have." if conditional else ""
    )
    return f"Shares sum to 100 %; with few trials they are rough.{without}"
