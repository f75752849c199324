"""Charts of several trials or objectives at once: learning curves, and Pareto fronts of any number of objectives."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from tune.config import Sweep
from tune.report.charts import MARKER
from tune.report.figure import Chart, plain_values, value_axis
from tune.report.results import Result
from tune.report.standing import front

LOOKS: dict[str, dict[str, Any]] = {
    "complete": {"line": {"color": "var(--c0)", "width": 1.5}, "opacity": 0.75},
    "ended early": {"line": {"color": "var(--c5)", "width": 1.3}, "opacity": 0.75},
    "under way": {"line": {"color": "var(--c2)", "width": 1.7}},
    "failed": {"line": {"color": "var(--bad)", "width": 1.3}},
    "the base": {"line": {"color": "var(--muted)", "width": 2.2, "dash": "dash"}},
    "best": {"line": {"color": "var(--c1)", "width": 3}},
}
"""From the bottom to the top."""
KINDS = {"complete": "complete", "pruned": "ended early", "failed": "failed", "running": "under way"}


def learning_chart(sweep: Sweep, index: int, results: Sequence[Result], best: int | None) -> Chart | None:
    """Objective ``index`` over steps, a line for each trial, a cross where one was ended early; None if there is none.

    ``best`` is the number of the trial that stands out.
    """
    metric = sweep.objectives[index].metric
    groups: dict[str, list[Result]] = {kind: [] for kind in LOOKS}
    for result in results:
        if result.curves[index]:
            groups[_kind(result, best)].append(result)
    data = [_lines(kind, index, group, metric) for kind, group in groups.items() if group]
    if not data:
        return None
    values = [value for result in results for value in result.curves[index].values()]
    ended = [result for result in results if result.state == "pruned" and result.curves[index]]
    if ended:
        data.append(_crosses(index, ended))
    layout = {
        "xaxis": {"title": {"text": "step"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": metric}} | value_axis(values),
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
    return Chart(metric, plain_values({"data": data, "layout": layout}), "wide")


def front_charts(sweep: Sweep, results: Sequence[Result], best: int | None) -> list[Chart]:
    """Complete trials over each pair of objectives, those of the front of all objectives standing out."""
    complete = {result.number: result.values for result in results if result.values is not None}
    if not complete:
        return []
    at_front = front(sweep.objectives, complete)
    pairs = combinations(range(len(sweep.objectives)), 2)
    return [_front(sweep, x, y, results, at_front, best) for x, y in pairs]


def _kind(result: Result, best: int | None) -> str:
    if result.number == best:
        return "best"
    return "the base" if result.is_default else KINDS[result.state]


def _lines(kind: str, index: int, group: Sequence[Result], metric: str) -> dict[str, Any]:
    """One trace for all trials of a kind, with a gap between two of them."""
    x: list[int | None] = []
    y: list[float | None] = []
    numbers: list[int | None] = []
    for result in group:
        steps = sorted(result.curves[index])
        x += [*steps, None]
        y += [*(result.curves[index][step] for step in steps), None]
        numbers += [*[result.number] * len(steps), None]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": kind,
        "x": x,
        "y": y,
        "customdata": numbers,
        "marker": {"size": 3.5},
        "hovertemplate": f"trial %{{customdata}}<br>step %{{x:,}}<br>{metric} %{{y:.4g}}<extra>{kind}</extra>",
        **LOOKS[kind],
    }


def _crosses(index: int, ended: Sequence[Result]) -> dict[str, Any]:
    last = [(max(result.curves[index]), result) for result in ended]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "ended early",
        "showlegend": False,
        "x": [step for step, _ in last],
        "y": [result.curves[index][step] for step, result in last],
        "marker": {"symbol": "x-thin", "size": 7, "line": {"width": 1.6, "color": "var(--muted)"}},
        "hoverinfo": "skip",
    }


def _front(
    sweep: Sweep, x: int, y: int, results: Sequence[Result], at_front: Sequence[int], best: int | None
) -> Chart:
    names = [sweep.objectives[index].metric for index in (x, y)]
    words = [f"{sweep.objectives[index].metric}, {sweep.objectives[index].goal}" for index in (x, y)]
    groups: dict[str, list[Result]] = {
        "complete": [],
        "Pareto front": [],
        "best sum of ranks": [],
        "the base": [],
    }
    for result in results:
        if result.values is None:
            continue
        if result.is_default:
            groups["the base"].append(result)
        if result.number == best:
            groups["best sum of ranks"].append(result)
        elif not result.is_default or result.number in at_front:
            groups["Pareto front" if result.number in at_front else "complete"].append(result)
    marks: dict[str, dict[str, Any]] = {
        "complete": MARKER | {"color": "var(--c5)"},
        "Pareto front": MARKER | {"color": "var(--c0)", "size": 10, "opacity": 1},
        "best sum of ranks": MARKER | {"color": "var(--c1)", "size": 13, "symbol": "diamond", "opacity": 1},
        "the base": {"symbol": "circle-open", "size": 16, "line": {"width": 2}, "color": "var(--muted)"},
    }
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "marker": marks[name],
            "x": [result.values[x] for result in group if result.values],
            "y": [result.values[y] for result in group if result.values],
            "customdata": [result.number for result in group],
            "hovertemplate": f"trial %{{customdata}}<br>{names[0]} %{{x:.4g}}<br>{names[1]} %{{y:.4g}}<extra></extra>",
        }
        for name, group in groups.items()
        if group
    ]
    layout = {
        "xaxis": {"title": {"text": words[0]}},
        "yaxis": {"title": {"text": words[1]}},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
    return Chart(f"{names[0]} and {names[1]}", plain_values({"data": data, "layout": layout}), "wide")
