"""An evaluation as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:  # torch, which the report of a run need not import
    from cluster.evaluation.measure import Figure, Figures

COLUMNS = 4


def tables(title: str, figures: Mapping[str, Figures]) -> list[Table]:
    """A row for each figure, a column for each domain or direction (at most four to a table) and the n of the first."""
    names = list(figures)
    return [
        _table(title, {name: figures[name] for name in names[start : start + COLUMNS]})
        for start in range(0, len(names), COLUMNS)
    ]


def _table(title: str, figures: Mapping[str, Figures]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column()
    for name in (*figures, "n"):
        table.add_column(name, justify="right", no_wrap=True)
    keys = dict.fromkeys(key for column in figures.values() for key in column)
    for key in keys:
        row = [column.get(key) for column in figures.values()]
        first = next(figure for figure in row if figure)
        table.add_row(key, *(_cell(figure) for figure in row), _count(first))
    return table


def cell(value: float, standard_error: float | None) -> str:
    """``0.956 ± 0.009``, or the value alone."""
    return _number(value) + (f" ± {_number(standard_error)}" if standard_error is not None else "")


def _cell(figure: Figure | None) -> str:
    return "-" if figure is None else cell(figure.value, figure.standard_error)


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def _count(figure: Figure) -> str:
    return f"{figure.n}" if figure.n_real is None else f"{figure.n} / {figure.n_real}"
