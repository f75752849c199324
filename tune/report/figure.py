"""Plotly figures as the page takes them: plain JSON whose colours are the page's, as `var(--name)`.

The page's script puts in what a variable is for a light or a dark reader.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from cluster.report.scale import LOG_RATIO, Scale, tick

Figure = dict[str, Any]
"""`data` and `layout` of plotly.js."""
WEAK_TO_STRONG = [[0, "var(--weak)"], [1, "var(--c0)"]]
PALE_TO_STRONG = [[0, "var(--pale)"], [1, "var(--c0)"]]
"""For dots, all of which must be seen."""
DIGITS = 6
"""Significant digits of a number in the page."""


@dataclass(frozen=True)
class Chart:
    """A chart under a title."""

    title: str
    figure: Figure
    size: Literal["small", "wide"] = "small"
    note: str = ""


def plain(figure: go.Figure) -> Figure:
    """A figure that Optuna drew, without its title and template."""
    drawn: Figure = plain_values(figure.to_plotly_json())
    for key in ("template", "title", "plot_bgcolor"):
        drawn["layout"].pop(key, None)
    return drawn


def plain_values(value: Any) -> Any:
    """``value`` as JSON can hold it, numbers short, those that are not finite as null."""
    if isinstance(value, dict):
        return {key: plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain_values(item) for item in value]
    if isinstance(value, bool | str | int) or value is None:
        return value
    number = float(value)
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else None


def value_axis(values: Sequence[float]) -> Figure:
    """An axis for these values, logarithmic where they are positive and span orders of magnitude."""
    if values and min(values) > 0 and max(values) / min(values) > LOG_RATIO:
        return log_axis(values)
    return {"type": "linear"}


def log_axis(values: Sequence[float]) -> Figure:
    """A logarithmic axis with few round numbers on it."""
    low, high = min(values), max(values)
    if low == high:
        return {"type": "log"}
    ticks = Scale(low / 1.1, high * 1.1, 0, 1, log=True).ticks(5)
    return {"type": "log", "tickvals": ticks, "ticktext": [tick(value) for value in ticks]}
