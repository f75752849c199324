"""What a person sees while a sweep runs: a table of trials on a terminal, lines elsewhere."""

import logging
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from optuna.trial import FrozenTrial
from rich.console import Console, RenderableType
from rich.table import Table

from cluster.notes import Note, NoteHandler
from cluster.panel import duration
from cluster.progress import live_on
from cluster.row_parts import HELD_OUT
from tune.config import Sweep
from tune.report.names import short_names
from tune.space import Values, shown
from tune.study import REASON, Assignment, SweepStudy

SHOWN = 15
"""Trials in the table: those under way, then the best, then the newest."""
STATES = {
    "RUNNING": "running",
    "COMPLETE": "complete",
    "PRUNED": "ended early",
    "FAIL": "failed",
    "WAITING": "waiting",
}
STYLES = {"FAIL": "red", "PRUNED": "dim", "RUNNING": "cyan"}


@dataclass
class Line:
    """A trial as it is shown."""

    number: int
    state: str
    values: Values
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    since: float = field(default_factory=time.time)
    seconds: float = 0.0


class Board:
    """The trials of a study; a context manager, because it owns the terminal's last lines meanwhile."""

    def __init__(self, sweep: Sweep, study: SweepStudy, console: Console | None = None) -> None:
        self._sweep = sweep
        self._console = console or Console(stderr=True, soft_wrap=True)
        self._names = short_names(sweep.space)
        self._lines = {trial.number: _line(trial) for trial in study.optuna.get_trials(deepcopy=False)}
        self._live = live_on(self._console, self._render)
        self._notes: NoteHandler | None = None

    def __enter__(self) -> Self:
        self._notes = NoteHandler(self._note, level=logging.WARNING)
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._notes:
            self._notes.close()
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Show a line."""
        self._note(Note(logging.INFO, text))

    def began(self, assignment: Assignment) -> None:
        """See `tune.search.Watcher`."""
        line = Line(assignment.number, "RUNNING", assignment.values)
        self._lines[assignment.number] = line
        changes = ", ".join(
            f"{self._names[path]} {shown(value)}" for path, value in assignment.values.items()
        )
        seed = "" if assignment.seed is None else f", seed {assignment.seed}"
        self._tell(f"trial {line.number}: {changes}{seed}")

    def row(self, number: int, row: dict[str, Any]) -> None:
        """See `tune.search.Watcher`."""
        line = self._lines[number]
        line.step = row["step"]
        metrics = {
            o.metric: row[HELD_OUT + o.metric] for o in self._sweep.objectives if HELD_OUT + o.metric in row
        }
        if metrics:
            line.metrics = metrics
            self._tell(f"trial {number}: step {line.step}/{self._sweep.budget.steps} · {_figures(metrics)}")

    def ended(self, number: int, state: str, reason: str = "") -> None:
        """See `tune.search.Watcher`."""
        line = self._lines[number]
        line.state, line.reason, line.seconds = state, reason, time.time() - line.since
        told = f"trial {number}: {STATES[state]} after step {line.step}"
        if state == "COMPLETE":
            told += f" · {_figures(line.metrics)}{' · best so far' if number == self._best() else ''}"
        self._tell(f"{told}: {reason}" if reason else told)

    def _best(self) -> int | None:
        """Number of the best trial; None without one, or where several objectives are weighed."""
        if len(self._sweep.objectives) > 1:
            return None
        objective = self._sweep.objectives[0]
        sign = 1 if objective.goal == "min" else -1
        complete = [line for line in self._lines.values() if line.state == "COMPLETE" and line.metrics]
        return (
            min(complete, key=lambda line: sign * line.metrics[objective.metric]).number if complete else None
        )

    def _tell(self, text: str) -> None:
        if self._live is None:
            self.say(text)

    def _note(self, note: Note) -> None:
        style = "yellow" if note.level >= logging.WARNING else None
        self._console.print(note.text, style=style, markup=False, highlight=False)

    def _render(self) -> RenderableType:
        lines, best = list(self._lines.values()), self._best()
        done = [line for line in lines if line.state in ("COMPLETE", "PRUNED", "FAIL")]
        title = f"{self._sweep.sweep.name}: {len(done)} of {self._sweep.budget.trials} trials"
        table = Table(box=None, pad_edge=False, title=title, title_justify="left", header_style="bold")
        objectives = [objective.metric for objective in self._sweep.objectives]
        for name in ("trial", "state", "step", *objectives, *self._names.values(), "took"):
            table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
        for line in self._shown(lines, best):
            took = time.time() - line.since if line.state == "RUNNING" else line.seconds
            values = [shown(line.values[path]) if path in line.values else "-" for path in self._names]
            figures = [f"{line.metrics[name]:.4g}" if name in line.metrics else "-" for name in objectives]
            mark = "best" if line.number == best else STATES[line.state]
            cells = [str(line.number), mark, str(line.step or "-"), *figures, *values, duration(took)]
            table.add_row(*cells, style="green" if line.number == best else STYLES.get(line.state, ""))
        return table

    def _shown(self, lines: list[Line], best: int | None) -> list[Line]:
        order = {"RUNNING": 0, "COMPLETE": 1, "PRUNED": 2, "FAIL": 2, "WAITING": 3}
        newest = sorted(lines, key=lambda line: (line.number != best, order[line.state], -line.number))
        return sorted(newest[:SHOWN], key=lambda line: line.number)


def _line(trial: FrozenTrial) -> Line:
    begin, end = trial.datetime_start, trial.datetime_complete
    line = Line(trial.number, trial.state.name, trial.params, trial.last_step or 0)
    line.reason = trial.user_attrs.get(REASON, "")
    line.metrics = trial.user_attrs.get("metrics", {})
    line.seconds = (end - begin).total_seconds() if begin and end else 0.0
    return line


def _figures(metrics: dict[str, float]) -> str:
    return " · ".join(f"{name} {value:.4g}" for name, value in metrics.items())
