"""The study as charts take it: one objective, short names, trials that ended, in memory."""

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from tune.report.names import short_labels


def one_objective(study: optuna.Study, index: int, names: Mapping[str, str]) -> optuna.Study:
    """Objective ``index`` alone, parameters under their short ``names``. Trials keep their numbers."""
    shown = optuna.create_study(direction=study.directions[index])
    for trial in study.get_trials(deepcopy=False):
        shown.add_trial(_renamed(trial, index, names))
    return shown


def with_pruned(shown: optuna.Study) -> optuna.Study:
    """To be minimised: complete trials as they were, ended ones worse than all of those.

    An ended trial's last value belongs to another step, but that it was ended says that it is not among the best.
    """
    sign = 1.0 if shown.direction == StudyDirection.MINIMIZE else -1.0
    complete = {
        trial.number: sign * trial.value
        for trial in shown.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if trial.value is not None
    }
    worse = max(complete.values(), default=0.0) + 1.0
    ranked = optuna.create_study(direction="minimize")
    for trial in shown.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
        value = complete.get(trial.number, worse)
        ranked.add_trial(create_trial(value=value, params=trial.params, distributions=trial.distributions))
    return ranked


def on_grid(shown: optuna.Study, steps: int) -> optuna.Study:
    """With real numbers moved to the nearest of ``steps`` + 1 places between the ends of their range.

    Optuna's contours hold a cell for each pair of values: too many where no two trials have the same.
    """
    coarse = optuna.create_study(direction=shown.direction)
    for trial in shown.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        params = {
            name: _nearest(value, trial.distributions[name], steps) for name, value in trial.params.items()
        }
        coarse.add_trial(create_trial(value=trial.value, params=params, distributions=trial.distributions))
    return coarse


def _nearest(value: Any, distribution: BaseDistribution, steps: int) -> Any:
    if not isinstance(distribution, FloatDistribution):
        return value
    low, high = distribution.low, distribution.high
    if distribution.log:
        place = round(steps * math.log(value / low) / math.log(high / low))
        return min(high, max(low, low * (high / low) ** (place / steps)))
    return min(high, low + (high - low) * round(steps * (value - low) / (high - low)) / steps)


def _renamed(trial: FrozenTrial, index: int, names: Mapping[str, str]) -> FrozenTrial:
    value = trial.values[index] if trial.values else None
    state = trial.state
    if state == TrialState.COMPLETE and not all(map(math.isfinite, trial.values)):
        state = TrialState.FAIL
    if state not in (TrialState.COMPLETE, TrialState.PRUNED):
        return create_trial(state=TrialState.FAIL)  # keeps the numbers of those after it
    params, distributions = {}, {}
    for path, distribution in trial.distributions.items():
        params[names[path]], distributions[names[path]] = _shortened(trial.params[path], distribution)
    return create_trial(state=state, value=value, params=params, distributions=distributions)


def _shortened(value: object, distribution: BaseDistribution) -> tuple[object, BaseDistribution]:
    if not isinstance(distribution, CategoricalDistribution):
        return value, distribution
    labels = short_labels([str(choice) for choice in distribution.choices])
    return labels[str(value)], CategoricalDistribution(list(labels.values()))
