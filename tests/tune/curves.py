"""A cheap stand-in for training: learning curves over five parameters, and a sweep over them without Ray."""

import math
from dataclasses import dataclass, field

import numpy as np
import optuna

from tune.config import Sweep
from tune.study import SweepStudy, create_study

optuna.logging.set_verbosity(optuna.logging.WARNING)

STEPS, LOOK = 27, 3
DIES_ONCE, DIES, FAILS, UNFIT = 1, 4, 6, 8
"""Trials of `toy_on_ray` that do not come to their end."""
SPACE = {
    "rate": {"loguniform": [1e-5, 1e-1]},
    "weight": {"loguniform": [1e-3, 10.0]},
    "decay": {"loguniform": [1e-3, 1.0]},
    "kind": {"choice": ["plain", "rich"]},
    "noise": {"uniform": [0.0, 1.0]},
}


def toy_sweep(**changes):
    content = {
        "sweep": {"name": "toy", "seed": 5},
        "base": "none.yaml",
        "space": SPACE,
        "objectives": [{"metric": "kid", "goal": "min"}],
        "budget": {"trials": 8, "steps": STEPS},
        "sampler": {"startup": 4},
        "pruner": {"min_steps": LOOK, "factor": 2},
    }
    return Sweep.model_validate(content | changes)


def curve(values, step):
    """What an evaluation after ``step`` steps would show. ``noise`` is without influence but for a ripple."""
    rate = math.log10(values["rate"]) + 3.2  # best at 10^-3.2
    weight = math.log10(values["weight"]) - 0.3
    decay = math.log10(values["decay"]) + 1
    floor = (
        0.1 + 0.15 * rate**2 + 0.1 * weight**2 + 0.1 * decay**2 + (0.0 if values["kind"] == "rich" else 0.12)
    )
    speed = 0.25 * (1 + 0.5 * math.tanh(rate))  # larger rates learn faster
    ripple = 0.004 * math.sin(50 * values["noise"] + step)
    return floor + 1.5 * math.exp(-speed * step) + ripple


@dataclass
class Outside:
    """What is left of trials when the driver dies: how far their runs have come."""

    steps: dict[int, int] = field(default_factory=dict)
    given: list[int] = field(default_factory=list)
    """Numbers of the trials given out, in order."""


def search(sweep, storage, outside=None, figures=curve):
    """Run a sweep, or go on with it, as tune.search does with Ray; ``figures`` is what a trial shows at a step."""
    outside = outside or Outside()
    study = SweepStudy(sweep, create_study(sweep, {}, sweep.sweep.name, storage), sweep.budget.trials)
    looks = range(LOOK, sweep.budget.steps + 1, LOOK)
    while (assignment := study.next()) is not None:
        number, values = assignment.number, assignment.values
        outside.given.append(number)
        for step in looks:  # those before its checkpoint are told again, as a trial's actor does
            shown = figures(values, step)
            outside.steps[number] = max(step, outside.steps.get(number, 0))
            shown = shown if isinstance(shown, dict) else {"kid": shown}
            if study.report(number, step, shown):
                study.prune(number, 1.0)
                break
        else:
            study.complete(number, 1.0)
    return study


def trials_of(study):
    """All that must not depend on deaths."""
    return [
        (trial.number, trial.state.name, trial.params, trial.values, trial.intermediate_values)
        for trial in study.optuna.get_trials(deepcopy=False)
    ]


def best_of(study):
    return min(trial.value for trial in study.optuna.get_trials() if trial.state.name == "COMPLETE")


def steps_of(outside):
    return sum(outside.steps.values())


def wiggle(seed):
    """A curve with noise of its own per trial and step: what two runs of one configuration differ by."""

    def figures(values, step):
        words = np.random.SeedSequence([seed, step, int(values["noise"] * 1e9)])
        return curve(values, step) + 0.01 * np.random.default_rng(words).normal()

    return figures
