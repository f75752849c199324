"""The study of a sweep: which trials there are, what they got, which come next.

All of it is in Optuna's storage and nothing in memory only, so that a sweep goes on after a SIGKILL at any time. No
Ray here. Proposals depend on the seed of the sweep, the number of the trial and the trials that have ended by then.
"""

import hashlib
import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.storages import BaseStorage
from optuna.trial import Trial, TrialState

from cluster.errors import RunError
from tune.config import PrunerSettings, Sweep
from tune.halving import Halving
from tune.proposals import Proposals
from tune.space import Values, suggest

DEFAULT, SEED, OF, REASON, METRICS, SECONDS = "default", "seed", "of", "reason", "metrics", "seconds"
"""User attributes of a trial: that it is the base itself; of a confirming one its seed, and the number of the trial
that it repeats; why it failed; its last held-out figures; how long it trained."""
HOPELESS = "hopeless"
"""User attribute of a trial that shall end early, until it has."""
JUDGED = "judged"
"""User attribute of a trial: the last step after which it was to go on."""


@dataclass
class _Live:
    """A trial that somebody works on."""

    trial: Trial
    steps: set[int]
    """Those reported so far."""
    metrics: dict[str, float]
    """Reported last."""
    judged: int
    """The last step after which it was to go on; 0 for none."""


@dataclass(frozen=True)
class Assignment:
    """A trial to run."""

    number: int
    values: Values
    """What it changes, by dotted path."""
    seed: int | None = None
    """Of its training; None for the base's."""


class SweepStudy:
    """The trials of one sweep; one process at a time owns it, whoever opened it last."""

    def __init__(self, sweep: Sweep, study: optuna.Study, trials: int) -> None:
        """``trials`` of the study are run, those of dead processes included."""
        self.sweep, self.optuna = sweep, study
        self._budget = trials
        self._session = secrets.token_hex(8)
        study.set_user_attr("session", self._session)
        left = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self._interrupted = [trial for trial in left if HOPELESS not in trial.user_attrs]
        for trial in left:
            if trial not in self._interrupted:  # whoever found it so died before it could say it
                study.tell(trial.number, state=TrialState.PRUNED)
        self._live: dict[int, _Live] = {}
        self._failures, self._reason = 0, ""

    @property
    def is_over(self) -> bool:
        """Whether no trial is left."""
        return not self._interrupted and self._begun() >= self._budget

    def next(self) -> Assignment | None:
        """The next trial: those that a dead process left first, then new ones; None when the budget is used up.

        Raises RunError where another process has taken the sweep over, and where trial after trial fails.
        """
        self.check_owner()
        if self._failures >= self.sweep.budget.failures:
            raise RunError(
                f"{self._failures} trials in a row have failed (budget.failures), the last because of: {self._reason}; "
                f"the same command goes on"
            )
        if self._interrupted:
            left = self._interrupted.pop(0)
            trial = Trial(self.optuna, left._trial_id)  # what it was given is in the storage
            told = left.user_attrs
            live = _Live(trial, set(left.intermediate_values), told.get(METRICS, {}), told.get(JUDGED, 0))
        elif not self.is_over:
            live = _Live(self.optuna.ask(), set(), {}, 0)
        else:
            return None
        self._live[live.trial.number] = live
        values = suggest(self.sweep.space, live.trial)
        return Assignment(live.trial.number, values, live.trial.user_attrs.get(SEED))

    def report(self, number: int, step: int, metrics: Mapping[str, float]) -> bool:
        """Note held-out figures of a trial; whether it shall end early, being among the worse ones.

        A trial that goes on after a death comes through a step twice: noted and judged once. Raises RunError as `next`.
        """
        self.check_owner()
        live = self._live[number]
        live.metrics = dict(metrics)
        live.trial.set_user_attr(METRICS, live.metrics)
        metric = self.sweep.objectives[0].metric
        if len(self.sweep.objectives) > 1 or metric not in metrics or step <= live.judged:
            return False  # Optuna's pruners compare one value
        if step not in live.steps:
            live.steps.add(step)
            live.trial.report(metrics[metric], step)
        hopeless = step < self.sweep.budget.steps and live.trial.should_prune()
        if hopeless:
            live.trial.set_user_attr(HOPELESS, True)
        else:
            live.judged = step
            live.trial.set_user_attr(JUDGED, step)
        return hopeless

    def complete(self, number: int, seconds: float) -> bool:
        """A trial came to its end with the figures reported last. False if these make it a failure."""
        metrics = self._live[number].metrics
        values = [metrics.get(objective.metric, math.nan) for objective in self.sweep.objectives]
        if not all(map(math.isfinite, values)):
            named = ", ".join(
                f"{o.metric} = {value}" for o, value in zip(self.sweep.objectives, values, strict=True)
            )
            self.fail(number, f"no figure to compare by: {named}", seconds)
            return False
        self._end(number, seconds, values)
        return True

    def prune(self, number: int, seconds: float) -> None:
        """A trial was ended early; its value is the one reported last."""
        self._end(number, seconds, state=TrialState.PRUNED)

    def fail(self, number: int, reason: str, seconds: float) -> None:
        """A trial could not come to its end."""
        self.check_owner()
        self._live[number].trial.set_user_attr(REASON, reason)
        self._reason = reason
        self._end(number, seconds, state=TrialState.FAIL)

    def check_owner(self) -> None:
        """Raise where another process goes on with the sweep."""
        if self.optuna.user_attrs.get("session") != self._session:
            raise RunError(
                f"sweep {self.optuna.study_name}: another process has taken it over, and goes on with it"
            )

    def add_seconds(self, seconds: float) -> float:
        """Add to the wall time of the sweep, over all its starts; how much it is now."""
        total: float = self.optuna.user_attrs.get(SECONDS, 0.0) + seconds
        self.optuna.set_user_attr(SECONDS, total)
        return total

    def _end(
        self, number: int, seconds: float, values: list[float] | None = None, state: TrialState | None = None
    ) -> None:
        self.check_owner()  # whoever goes on with the sweep goes on with this trial
        trial = self._live.pop(number).trial
        self._failures = self._failures + 1 if state == TrialState.FAIL else 0
        trial.set_user_attr(SECONDS, trial.user_attrs.get(SECONDS, 0.0) + seconds)
        self.optuna.tell(trial, values, state or TrialState.COMPLETE)

    def _begun(self) -> int:
        trials = self.optuna.get_trials(deepcopy=False)
        return len([trial for trial in trials if trial.state != TrialState.WAITING])


def create_study(sweep: Sweep, base: Mapping[str, object], name: str, storage: BaseStorage) -> optuna.Study:
    """The study ``name`` in ``storage``, new or as it was left; ``base`` is the resolved experiment of all trials.

    Raises RunError where it belongs to another search.
    """
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        load_if_exists=True,
        directions=["minimize" if objective.goal == "min" else "maximize" for objective in sweep.objectives],
        sampler=Proposals(sweep.sampler, sweep.sweep.seed),
        pruner=make_pruner(sweep.pruner),
    )
    is_now = _identity(sweep, base)
    was = study.user_attrs.get("identity")
    if was is None:
        study.set_user_attr("identity", is_now)
    elif changed := [part for part in is_now if was.get(part) != is_now[part]]:
        raise RunError(
            f"sweep {name} was begun with another {', '.join(changed)}: trials would not compare; use a new sweep.name"
        )
    study.set_metric_names([objective.metric for objective in sweep.objectives])
    return study


def _identity(sweep: Sweep, base: Mapping[str, object]) -> dict[str, str]:
    """What decides how trials compare, in a form that tells whether any of it changed."""
    parts = {
        "base": base,
        "space": {path: parameter.model_dump(mode="json") for path, parameter in sweep.space.items()},
        "objectives": [objective.model_dump() for objective in sweep.objectives],
        "budget.steps": sweep.budget.steps,
        "pruner": sweep.pruner and sweep.pruner.model_dump(),
    }
    return {
        name: hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()
        for name, part in parts.items()
    }


def make_pruner(settings: PrunerSettings | None) -> BasePruner:
    """What ends trials early."""
    return NopPruner() if settings is None else Halving(settings)
