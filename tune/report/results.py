"""The trials of a sweep as the report takes them: from the study, and from the runs' folders what only they hold."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from cluster.errors import RunError
from cluster.report.read import Run, read_run
from cluster.row_parts import HELD_OUT
from cluster.run_folder import RunFolder
from data_shards.errors import DataError
from tune.config import Sweep
from tune.experiments import run_name
from tune.study import DEFAULT, METRICS, REASON, SECONDS

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
Figures = tuple[float | None, ...]
"""One for each objective; None where it is not known or not finite."""


@dataclass(frozen=True)
class Result:
    """What is known of a trial."""

    number: int
    state: str
    """complete, pruned, failed, running or waiting."""
    params: dict[str, Any]
    """By dotted path, as Optuna knows them: choices are labels."""
    figures: Figures
    """Of a complete trial those that it is compared by, else the last ones."""
    curves: tuple[dict[int, float], ...]
    """Of each objective the value by step, where it was finite."""
    seconds: float | None
    """How long it trained."""
    reason: str
    """Why it failed."""
    is_default: bool
    """Whether it is the base itself."""
    values: tuple[float, ...] | None
    """What it is compared by; None unless it is complete and all its figures are finite."""
    heard: float | None = None
    """Unix time of the last sign of life of one that runs."""

    @property
    def step(self) -> int | None:
        """The last step at which it was measured."""
        return max((step for curve in self.curves for step in curve), default=None)


def read_results(folder: RunFolder, sweep: Sweep, study: optuna.Study) -> list[Result]:
    """All trials of the search, by number. ``folder`` is the sweep's. Raises DataError where the storage is away."""
    return [_result(folder, sweep, trial) for trial in study.get_trials(deepcopy=False)]


def completed(trial: FrozenTrial) -> tuple[float, ...] | None:
    """What a trial is compared by; None unless it is complete and all of it is finite."""
    is_complete = trial.state == TrialState.COMPLETE and all(map(math.isfinite, trial.values))
    return tuple(trial.values) if is_complete else None


def trial_place(sweep: Sweep, number: int) -> str:
    """Where the run of a trial lies in the sweep's folder."""
    return f"trials/{run_name(sweep, number)}"


def last_preview(folder: RunFolder, sweep: Sweep, number: int) -> Path | None:
    """The newest preview picture of a trial; None where it left none."""
    beginning = f"{trial_place(sweep, number)}/previews/step-"
    try:
        names = sorted(e.path for e in folder.store.list(beginning) if e.path.endswith(".png"))
    except DataError:  # of a trial without a folder
        return None
    if not names:
        return None
    newest = folder.root / names[-1]
    return newest if folder.fetch(newest) else None


def _result(folder: RunFolder, sweep: Sweep, trial: FrozenTrial) -> Result:
    metrics = [objective.metric for objective in sweep.objectives]
    is_single = len(metrics) == 1
    begun = trial.state != TrialState.WAITING
    run = _run(folder, sweep, trial) if begun and (not is_single or not trial.state.is_finished()) else None
    measured = [trial.intermediate_values] if is_single else [_curve(run, metric) for metric in metrics]
    last = trial.user_attrs.get(METRICS, {})
    figures = trial.values or [last.get(metric) for metric in metrics]
    return Result(
        trial.number,
        STATES[trial.state],
        dict(trial.params),
        tuple(value if value is not None and math.isfinite(value) else None for value in figures),
        tuple(map(_finite, measured)),
        trial.user_attrs.get(SECONDS),
        trial.user_attrs.get(REASON, ""),
        bool(trial.user_attrs.get(DEFAULT)),
        completed(trial),
        run.last_sign if run and trial.state == TrialState.RUNNING else None,
    )


def _run(folder: RunFolder, sweep: Sweep, trial: FrozenTrial) -> Run | None:
    place = trial_place(sweep, trial.number)
    folder.fetch_all(f"{place}/metrics.jsonl", f"{place}/events.jsonl")
    with suppress(RunError):
        return read_run(folder.root / place)
    return None


def _curve(run: Run | None, metric: str) -> dict[int, float | None]:
    return {row.step: row.scalars.get(HELD_OUT + metric) for row in (run.rows if run else [])}


def _finite(curve: Mapping[int, Any]) -> dict[int, float]:
    return {step: value for step, value in curve.items() if value is not None and math.isfinite(value)}
