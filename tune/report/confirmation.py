"""Whether the best trials stay better than the base with fresh seeds."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from scipy.stats import ttest_ind

from tune.config import Objective, Sweep
from tune.report.results import Result, completed
from tune.report.standing import gain
from tune.study import OF

BETTER, NOT_SHOWN = "better by more than the seed spread", "not shown to be better"
LEAST_SEEDS = 2
"""Completed runs of a configuration from which on it has a spread."""


@dataclass(frozen=True)
class Sample:
    """One objective of one configuration over seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds, with n - 1; None for a single one."""
        return statistics.stdev(self.values) if len(self.values) >= LEAST_SEEDS else None


@dataclass(frozen=True)
class Confirmed:
    """A trial run again with fresh seeds. The search's own run does not count: it was chosen for its luck, too."""

    result: Result
    samples: tuple[Sample, ...]
    """One for each objective, of the runs that completed; with no values where none has."""
    begun: int
    """Runs, those under way and those that failed among them."""

    @property
    def seeds(self) -> int:
        """Runs that completed."""
        return len(self.samples[0].values)

    @property
    def means(self) -> tuple[float, ...]:
        """Of each objective."""
        return tuple(sample.mean for sample in self.samples)


@dataclass(frozen=True)
class Comparison:
    """One objective of a configuration against the base's own settings."""

    difference: float
    """Of the means."""
    p: float | None
    """Of Welch's t-test, two-sided; None where it is not defined."""
    verdict: str


def read_confirmation(
    sweep: Sweep, confirm: optuna.Study | None, results: Sequence[Result]
) -> list[Confirmed]:
    """The trials that were run again, the default first, then by number."""
    trials = confirm.get_trials(deepcopy=False) if confirm else []
    known = {result.number: result for result in results}
    runs: dict[int, list[tuple[float, ...] | None]] = {}
    for trial in trials:
        if (of := trial.user_attrs.get(OF)) in known:
            runs.setdefault(of, []).append(completed(trial))
    confirmed = [_confirmed(sweep, known[of], figures) for of, figures in runs.items()]
    return sorted(confirmed, key=lambda each: (not each.result.is_default, each.result.number))


def is_telling(confirmed: Sequence[Confirmed]) -> bool:
    """Whether the default and at least one other trial have a spread over seeds."""
    having = [each.result.is_default for each in confirmed if each.seeds >= LEAST_SEEDS]
    return True in having and False in having


def compare(objective: Objective, one: Sample, default: Sample) -> Comparison:
    """``one`` against ``default``, each of at least one value."""
    difference = one.mean - default.mean
    if one.sd is None or default.sd is None:
        return Comparison(difference, None, NOT_SHOWN)
    spread = max(one.sd, default.sd)
    verdict = BETTER if gain(objective, one.mean, default.mean) > spread else NOT_SHOWN
    if one.sd == default.sd == 0:
        return Comparison(difference, None, verdict)
    return Comparison(
        difference, float(ttest_ind(one.values, default.values, equal_var=False).pvalue), verdict
    )


def _confirmed(sweep: Sweep, result: Result, runs: Sequence[tuple[float, ...] | None]) -> Confirmed:
    completed = [figures for figures in runs if figures is not None]
    samples = [
        Sample(tuple(figures[index] for figures in completed)) for index in range(len(sweep.objectives))
    ]
    return Confirmed(result, tuple(samples), len(runs))
