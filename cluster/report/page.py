"""Renders the page: everything inline, nothing fetched.

python -m cluster report runs/demo
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cluster.evaluation.tables import cell
from cluster.report import panels
from cluster.report.curves import Chart, Mark, Panel, draw
from cluster.report.decimate import evenly
from cluster.report.pictures import data_uri
from cluster.report.read import Run, read_run
from cluster.report.settings import tree
from cluster.report.summary import clock, summarize
from cluster.run_folder import write_atomically

PREVIEWS = 12
PREVIEW_BYTES, PICTURE_BYTES = 130_000, 220_000
EVENTS = 300
"""Newest events that the table shows."""


@dataclass(frozen=True)
class Section:
    """Charts under a heading."""

    title: str
    charts: list[Chart]


@dataclass(frozen=True)
class Picture:
    """An embedded picture."""

    title: str
    uri: str


@dataclass(frozen=True)
class Table:
    """Figures of an evaluation: rows of cells, the first one the name."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def write_report(root: Path, out: Path | None = None) -> Path:
    """Write the page about the run in folder `root`, to its report.html unless `out` is given; returns the path."""
    path = out or root / "report.html"
    page = render(read_run(root), time.time())
    write_atomically(path, lambda file: file.write(page.encode()))
    return path


def render(run: Run, now: float) -> str:
    """The page as it stands at Unix time `now`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clock"] = clock
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    marks = panels.marks(run)
    return environment.get_template("page.html.jinja").render(
        run=run,
        summary=summarize(run, now),
        marks={mark.kind for mark in marks},
        held_out=_charts(panels.held_out(run), marks, run),
        losses=_sections(panels.losses(run), marks, run),
        components=_charts(panels.components(run), marks, run),
        schedules=_charts(panels.schedules(run), marks, run),
        throughput=_sections(panels.throughput(run), marks, run),
        previews=_previews(run),
        events=run.events[-EVENTS:],
        tables=_tables(run.evaluation),
        pictures=_pictures(run),
        settings=tree(run.config) if run.config else [],
    )


def _charts(wanted: list[Panel], marks: list[Mark], run: Run) -> list[Chart]:
    return [draw(panel, marks, run.step) for panel in wanted]


def _sections(groups: list[panels.Group], marks: list[Mark], run: Run) -> list[Section]:
    return [Section(group.title, _charts(group.panels, marks, run)) for group in groups]


def _previews(run: Run) -> list[Picture]:
    chosen = [run.previews[index] for index in evenly(len(run.previews), PREVIEWS)]
    uris = [(preview.step, data_uri(preview.path, PREVIEW_BYTES)) for preview in chosen]
    return [Picture(f"step {step:,}", uri) for step, uri in uris if uri]


def _pictures(run: Run) -> list[Picture]:
    uris = [(path.stem, data_uri(path, PICTURE_BYTES)) for path in run.pictures]
    return [Picture(name, uri) for name, uri in uris if uri]


def _tables(evaluation: dict[str, Any] | None) -> list[Table]:
    if evaluation is None:
        return []
    titles = {"directions": "Translations of test images", "domains": "Test images themselves"}
    return [_table(title, evaluation[key]) for key, title in titles.items() if evaluation.get(key)]


def _table(title: str, columns: dict[str, dict[str, dict[str, float]]]) -> Table:
    names = dict.fromkeys(name for figures in columns.values() for name in figures)
    rows = []
    for name in names:
        figures = [column.get(name) for column in columns.values()]
        first = next(figure for figure in figures if figure)
        rows.append([name, *map(_cell, figures), _count(first)])
    return Table(title, [*columns, "n"], rows)


def _cell(figure: dict[str, float] | None) -> str:
    return "-" if figure is None else cell(figure["value"], figure.get("standard_error"))


def _count(figure: dict[str, float]) -> str:
    return f"{figure['n']:,}" + (f" / {figure['n_real']:,}" if "n_real" in figure else "")
