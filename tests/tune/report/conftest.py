"""Sweeps of one and of two objectives with everything that can be in them."""

import optuna
import pytest

import tune.storage  # noqa: F401  quiets Optuna

from .by_hand import KID, VARIED, begin, confirmation, drive, folder_of, sweep_of

FAILING = (5, 8, 9, 11)


class Made:
    """A sweep, its folder and its studies."""

    def __init__(self, sweep, folder, study, confirm=None):
        self.sweep, self.folder, self.study, self.confirm = sweep, folder, study, confirm

    @property
    def arguments(self):
        return self.folder, self.sweep, self.study, self.confirm

    @property
    def complete(self):
        return [t for t in self.study.trials if t.state == optuna.trial.TrialState.COMPLETE]


@pytest.fixture(scope="session")
def one(tmp_path_factory):
    """One objective, trials ended early, the two best ones confirmed and the base with them."""
    sweep = sweep_of(tmp_path_factory.mktemp("one"), KID, trials=40, pruned=True)
    folder, driven = folder_of(sweep), begin(sweep)
    drive(driven, folder, 38, FAILING)
    made = Made(sweep, folder, driven.optuna)
    best = sorted(made.complete, key=lambda trial: trial.value)[:2]
    values = {0: made.study.trials[0].value} | {trial.number: trial.value for trial in best}
    spreads = {0: (-0.004, 0.001, 0.002)}
    made.confirm = confirmation(
        sweep,
        {
            number: [[value + off] for off in spreads.get(number, (-0.001, 0.0, 0.003))]
            for number, value in values.items()
        },
    )
    return made


@pytest.fixture(scope="session")
def two(tmp_path_factory):
    """Two objectives, nothing confirmed."""
    sweep = sweep_of(tmp_path_factory.mktemp("two"), KID, VARIED, trials=24)
    folder, driven = folder_of(sweep), begin(sweep)
    drive(driven, folder, 24, FAILING)
    return Made(sweep, folder, driven.optuna)
