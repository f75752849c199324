"""Charts of a study of one objective: Optuna computes and draws them, here they take on the look of the page.

Colours: `--c0` is a trial, `--c1` the best one, `--muted` the base; weak to strong is worse to
better.
"""

import ast
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import optuna
from optuna import visualization
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tune.report.figure import PALE_TO_STRONG, WEAK_TO_STRONG, Chart, Figure, log_axis, plain, value_axis
from tune.report.view import on_grid, with_pruned

LEAST_FOR_IMPORTANCE = 10
"""Trials from which on importances are computed."""
LEAST_FOR_CONTOUR = 4
LEAST_FOR_LINES = 2
MOST_IN_CONTOURS = 4
"""Parameters whose pairs are drawn: the most important ones."""
GRID = 40
"""Steps of a parameter's range in a contour."""
CELLS = ("x", "y", "z", "connectgaps", *("colorscale", "reversescale", "showscale", "opacity", "hoverinfo"))
"""What a contour and a heat map of plotly have in common."""
MOST_LINES = 150
"""Best trials that have a line in parallel coordinates."""
TOP_TRIALS, LEAST_GOOD = 5, 2
"""Trials that PED-ANOVA shall have among the good ones, and must have."""
MARKER = {"size": 8, "opacity": 0.8, "line": {"width": 1, "color": "var(--card)"}}
Importances = dict[str, float]
"""Share of each parameter, the most important first; they sum to 1."""


def fanova(shown: optuna.Study) -> Importances | None:
    """How much of the variance of the objective each parameter explains, over complete trials (Hutter et al. 2014).

    Parameters that some trials do not have are left out. None where there are too few trials to tell.
    """
    values = values_of(shown)
    if len(values) < LEAST_FOR_IMPORTANCE or len(set(values)) < 2:
        return None
    return get_param_importances(shown, evaluator=FanovaImportanceEvaluator(seed=0)) or None


def ped_anova(shown: optuna.Study) -> Importances | None:
    """How much the good trials' values of each parameter differ from all trials' (arXiv:2304.11255).

    Trials that were ended early count as not good, so that they are used as well, and so are parameters under
    conditions. None where there are too few trials to tell.
    """
    ranked = with_pruned(shown)
    values = [trial.value for trial in ranked.trials]
    good = good_trials(shown)
    if len(values) < LEAST_FOR_IMPORTANCE or len(set(values)) < 2 or good < LEAST_GOOD:
        return None
    quantile = (good - 0.5) / len(values)  # so that Optuna, which rounds up, takes exactly those
    evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
    return get_param_importances(ranked, evaluator=evaluator) or None


def good_trials(shown: optuna.Study) -> int:
    """How many trials count as good: a tenth, or five of few, and none that was ended early."""
    complete = len(complete_trials(shown))
    trials = complete + len(pruned_trials(shown))
    return min(max(trials // 10, TOP_TRIALS), trials // 2, complete)


def importance_chart(title: str, note: str, importances: Importances) -> Chart:
    """Bars, the longest on top."""
    names = list(reversed(importances))
    shares = [importances[name] for name in names]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": shares,
        "y": names,
        "marker": {"color": "var(--c0)"},
        "text": [f"{100 * share:.0f} %" for share in shares],
        "textposition": "outside",
        "cliponaxis": False,
        "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
    }
    axes = {
        "xaxis": {"tickformat": ".0%", "range": [0, 1.15 * max(shares)], "rangemode": "tozero"},
        "yaxis": {"type": "category"},
    }
    return Chart(title, {"data": [bars], "layout": axes}, note=note)


def history_chart(shown: optuna.Study, metric: str, default: float | None) -> Chart:
    """The value of each trial, the best so far, and the base's."""
    figure = plain(visualization.plot_optimization_history(shown, target_name=metric))
    trials, best = figure["data"][:2]
    trials |= {"name": "trial", "marker": MARKER | {"color": "var(--c0)"}}
    trials["hovertemplate"] = f"trial %{{x}}<br>{metric} %{{y:.4g}}<extra></extra>"
    best |= {"name": "best so far", "line": {"color": "var(--c1)", "width": 2, "shape": "hv"}}
    best["hoverinfo"] = "skip"
    if default is not None:
        figure["data"].append(_level("the base", [0, max(1, len(shown.trials) - 1)], default))
    figure["layout"] = {
        "xaxis": {"title": {"text": "trial"}, "range": [-0.5, max(1, len(shown.trials) - 1) + 0.5]},
        "yaxis": {"title": {"text": metric}} | value_axis(values_of(shown)),
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
    return Chart(metric, figure, "wide")


def slice_charts(shown: optuna.Study, metric: str, names: Sequence[str]) -> list[Chart]:
    """The objective over each of the parameters."""
    present = {name for trial in complete_trials(shown) for name in trial.params}
    return [_slice(shown, metric, name) for name in names if name in present]


def contour_charts(shown: optuna.Study, metric: str, names: Sequence[str]) -> list[Chart]:
    """The objective over pairs of the first few parameters that vary together in enough trials."""
    trials = complete_trials(shown)
    pairs = combinations([name for name in names if _varies(trials, name)][:MOST_IN_CONTOURS], 2)
    coarse = on_grid(shown, GRID)
    return [_contour(coarse, trials, metric, x, y) for x, y in pairs if _vary_together(trials, x, y)]


def lines_chart(shown: optuna.Study, metric: str, names: Sequence[str]) -> Chart | None:
    """Parallel coordinates: a line through the parameters of each of the best trials; None where there are too few."""
    trials = complete_trials(shown)
    present = [name for name in names if any(name in trial.params for trial in trials)]
    if len(trials) < LEAST_FOR_LINES or not present:
        return None
    figure = plain(visualization.plot_parallel_coordinate(shown, params=present, target_name=metric))
    lines = figure["data"][: len(trials)]
    better = 1 if shown.direction == StudyDirection.MAXIMIZE else -1
    values = values_of(shown)
    order = sorted(range(len(trials)), key=lambda index: better * values[index])
    order = order[-MOST_LINES:]
    for place, index in enumerate(order, start=1):
        line, share = lines[index], place / len(order)
        line["line"] = {"color": "var(--c0)", "width": 1.5}
        line["opacity"] = 0.12 + 0.6 * share**3
        head = f"trial {trials[index].number}<br>"
        line["hovertemplate"] = head + "%{customdata[0]}: %{customdata[1]}<extra></extra>"
    lines[order[-1]] |= {"line": {"color": "var(--c1)", "width": 3}, "opacity": 1}
    figure["data"] = [lines[index] for index in order]
    layout = figure["layout"]
    layout["xaxis"]["tickangle"] = 0
    for shape in layout["shapes"]:
        shape["line"]["color"] = "var(--line)"
    for note in layout.get("annotations", ()):
        note |= {"font": {"size": 11, "color": "var(--muted)"}, "bgcolor": "var(--card)", "borderpad": 0}
        if note["text"] == "None":
            note["text"] = "-"
    return Chart(metric, figure, "wide")


def pruned_trials(shown: optuna.Study) -> list[FrozenTrial]:
    """Those that were ended early."""
    return shown.get_trials(deepcopy=False, states=(TrialState.PRUNED,))


def complete_trials(shown: optuna.Study) -> list[FrozenTrial]:
    """Those that have a value to compare."""
    return shown.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def values_of(shown: optuna.Study) -> list[float]:
    """The objective of each complete trial."""
    return [trial.value for trial in complete_trials(shown) if trial.value is not None]


def _slice(shown: optuna.Study, metric: str, name: str) -> Chart:
    figure = plain(visualization.plot_slice(shown, params=[name], target_name=metric))
    dots, xaxis = figure["data"][0], figure["layout"]["xaxis"]
    numbers = dots["marker"]["color"]
    dots["customdata"] = numbers
    dots["hovertemplate"] = f"trial %{{customdata}}<br>%{{x}}<br>{metric} %{{y:.4g}}<extra></extra>"
    dots["marker"] = MARKER | {"color": numbers, "colorscale": PALE_TO_STRONG, "showscale": False}
    if xaxis.get("type") == "category":  # Optuna writes the choices in Python's quotes
        dots["x"] = [ast.literal_eval(word) for word in dots["x"]]
        xaxis["categoryarray"] = [ast.literal_eval(word) for word in xaxis["categoryarray"]]
        xaxis["range"] = [-0.5, len(xaxis["categoryarray"]) - 0.5]
    elif xaxis.get("type") == "log":
        xaxis |= log_axis(dots["x"])
    xaxis.pop("title", None)
    figure["layout"]["yaxis"] = value_axis(dots["y"])
    return Chart(f"{metric} over {name}", figure)


def _contour(coarse: optuna.Study, trials: Sequence[FrozenTrial], metric: str, x: str, y: str) -> Chart:
    figure = plain(visualization.plot_contour(coarse, params=[x, y], target_name=metric))
    surface, dots = figure["data"][:2]
    first, second = sorted((x, y))  # as Optuna draws them
    surface |= {"colorscale": WEAK_TO_STRONG, "showscale": False, "opacity": 0.75, "line": {"width": 0}}
    surface["hoverinfo"] = "skip"
    dots["marker"] = {"size": 6, "color": "var(--text)", "line": {"width": 1, "color": "var(--card)"}}
    shared = [trial for trial in trials if {x, y} <= trial.params.keys()]
    dots |= _points(shared, first, second)
    dots["customdata"] = [[trial.number, trial.value] for trial in shared]
    dots["hovertemplate"] = (
        f"trial %{{customdata[0]}}<br>{first} %{{x}}<br>{second} %{{y}}<br>"
        f"{metric} %{{customdata[1]:.4g}}<extra></extra>"
    )
    figure["data"] = [surface, dots]
    for side, values in (("xaxis", dots["x"]), ("yaxis", dots["y"])):
        axis = figure["layout"][side]
        if axis.get("type") == "log":
            axis |= log_axis(values)
        elif axis.get("type") == "category":  # between choices there is nothing: bands, not slopes
            axis.pop("range")
            figure["data"][0] = {"type": "heatmap"} | {key: surface[key] for key in CELLS if key in surface}
    return Chart(f"{metric} over {first} and {second}", figure)


def _points(trials: Sequence[FrozenTrial], x: str, y: str) -> Figure:
    return {"x": [trial.params[x] for trial in trials], "y": [trial.params[y] for trial in trials]}


def _varies(trials: Sequence[FrozenTrial], name: str) -> bool:
    return len({trial.params[name] for trial in trials if name in trial.params}) > 1


def _vary_together(trials: Sequence[FrozenTrial], x: str, y: str) -> bool:
    shared = [trial for trial in trials if {x, y} <= trial.params.keys()]
    return len(shared) >= LEAST_FOR_CONTOUR and _varies(shared, x) and _varies(shared, y)


def _level(name: str, across: Sequence[float], value: float) -> dict[str, Any]:
    """A dashed line at ``value``."""
    line = {"color": "var(--muted)", "width": 1.5, "dash": "dash"}
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "line": line,
        "x": list(across),
        "y": [value] * len(across),
        "hoverinfo": "skip",
    }
