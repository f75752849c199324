"""Which trials end early: asynchronous successive halving (ASHA, arXiv:1810.05934, algorithm 2)."""

import math

from optuna import Study
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from tune.config import PrunerSettings


class Halving(BasePruner):
    """A verdict follows from the reported figures alone. Optuna's own pruner stores that a trial has been judged before
    anybody has heard how, so that one whose driver dies in between is never ended."""

    def __init__(self, settings: PrunerSettings) -> None:
        self._settings = settings

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether ``trial`` shall end: not among the best 1 / factor at a rung min_steps * factor^k that its last
        figure is the first to reach. The first of all goes on, and until there are `factor` figures, a new best."""
        step = trial.last_step
        rung = 0 if step is None else self._rung(step)
        if step is None or not rung or any(rung <= earlier < step for earlier in trial.intermediate_values):
            return False
        ours = trial.intermediate_values[step]
        if math.isnan(ours):
            return True
        trials = study.get_trials(deepcopy=False)
        figures = [ours, *(_at(other, rung) for other in trials if other.number != trial.number)]
        ranked = sorted(
            (value for value in figures if not math.isnan(value)),
            reverse=study.direction == StudyDirection.MAXIMIZE,
        )
        worst = ranked[max(1, len(ranked) // self._settings.factor) - 1]
        return ours < worst if study.direction == StudyDirection.MAXIMIZE else ours > worst

    def _rung(self, step: int) -> int:
        """The last one at or before ``step``; 0 for none."""
        rung, following = 0, self._settings.min_steps
        while following <= step:
            rung, following = following, following * self._settings.factor
        return rung


def _at(trial: FrozenTrial, rung: int) -> float:
    """The first figure of a trial from this step on; NaN without one."""
    return next((v for step, v in sorted(trial.intermediate_values.items()) if step >= rung), math.nan)
