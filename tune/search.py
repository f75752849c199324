"""What Ray Tune asks, answered by the study: which trial comes next, and whether one shall go on."""

import math
import pickle
import time
from pathlib import Path
from typing import Any, Protocol

from ray.exceptions import RayActorError
from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.schedulers.trial_scheduler import TrialScheduler
from ray.tune.search import Searcher

from cluster.errors import ConfigError
from cluster.row_parts import HELD_OUT, under
from tune.experiments import Recipe
from tune.study import Assignment, SweepStudy

SAVE_SECONDS = 10.0
"""Between two notes of the wall time that the sweep has taken."""
DIED = "its process died: its node was lost, or out of memory"


class Watcher(Protocol):
    """Who is shown what happens."""

    def began(self, assignment: Assignment) -> None:
        """A trial is given out."""

    def row(self, number: int, row: dict[str, Any]) -> None:
        """What it has reported."""

    def ended(self, number: int, state: str, reason: str = "") -> None:
        """It is over: COMPLETE, PRUNED or FAIL."""


class _Unsaved:
    """Tune saves what it is given, to go on from; a sweep goes on from its study."""

    def __getstate__(self) -> dict[str, object]:
        return {}


class StudySearcher(_Unsaved, Searcher):
    """Gives out the trials of a study, so many at a time, and tells it how they ended."""

    def __init__(self, study: SweepStudy, recipe: Recipe, concurrency: int, watcher: Watcher) -> None:
        super().__init__(metric="step", mode="max")
        self.study, self.watcher = study, watcher
        self.pruned: set[int] = set()
        self.errors: dict[int, str] = {}
        self._recipe, self._concurrency = recipe, concurrency
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> Any:
        """The configuration of the next trial; None for not now."""
        while len(self._numbers) < self._concurrency:
            assignment = self.study.next()
            if assignment is None:
                return Searcher.FINISHED
            number = assignment.number
            self.watcher.began(assignment)
            try:
                experiment = self._recipe.experiment(assignment)
            except (
                ConfigError
            ) as error:  # settings that do not go together, as none drawn before the start did
                fault = "; ".join(str(error).splitlines())
                self.study.fail(number, fault, 0.0)
                self.watcher.ended(number, "FAIL", fault)
                continue
            self._numbers[trial_id] = number
            return {"number": number, "experiment": experiment.model_dump(mode="json")}
        return None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """The scheduler hears of results first, and reports them."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial is over."""
        number = self._numbers.pop(trial_id)
        seconds = (result or {}).get("time_total_s", 0.0)
        failed = self.errors.pop(number, DIED) if error else (result or {}).get("failed", "")
        if failed:
            self.study.fail(number, failed, seconds)
            self.watcher.ended(number, "FAIL", failed)
        elif number in self.pruned:
            self.study.prune(number, seconds)
            self.watcher.ended(number, "PRUNED")
        elif self.study.complete(number, seconds):
            self.watcher.ended(number, "COMPLETE")
        else:
            self.watcher.ended(number, "FAIL", "its figures are no numbers")

    def save(self, checkpoint_path: str) -> None:
        """Nothing: everything is in the study."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as above."""


class StudyScheduler(_Unsaved, FIFOScheduler):
    """Ends trials early where the study says so."""

    def __init__(self, searcher: StudySearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher = searcher

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Take down why a trial's actor is lost, which Tune does not tell the searcher."""
        if trial.pickled_error_file:
            error = pickle.loads(Path(trial.pickled_error_file).read_bytes())
            if not isinstance(error, RayActorError):
                self._searcher.errors[trial.config["number"]] = str(error).strip().splitlines()[-1]

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Report held-out figures; whether the trial goes on."""
        number = trial.config["number"]
        metrics = under(HELD_OUT, result)
        self._searcher.watcher.row(number, result)
        if metrics and self._searcher.study.report(number, result["step"], metrics):
            self._searcher.pruned.add(number)
            return TrialScheduler.STOP
        return TrialScheduler.CONTINUE


class Halt(_Unsaved, Stopper):
    """Ends the search when somebody wants it to, or when its time is over."""

    def __init__(self, study: SweepStudy, hours: float | None) -> None:
        self._study, self._limit = study, math.inf if hours is None else hours * 3600
        self._total = study.add_seconds(0)
        self._since = time.monotonic()
        self._stopping = False

    def stop(self) -> None:
        """End it; trials under way keep their checkpoints."""
        self._stopping = True

    @property
    def is_late(self) -> bool:
        """Whether the time is over."""
        return self._total + time.monotonic() - self._since >= self._limit

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No trial by itself."""
        return False

    def stop_all(self) -> bool:
        """Asked by Tune all the time; keeps the study's clock on the way."""
        now = time.monotonic()
        if now - self._since >= SAVE_SECONDS:
            self._total, self._since = self._study.add_seconds(now - self._since), now
        return self._stopping or self.is_late
