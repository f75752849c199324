"""Whether the search is worth it: TPE against random search, early ends against none, over twenty seeds."""

import numpy as np
import pytest
from optuna.storages import InMemoryStorage
from scipy.stats import wilcoxon

from .curves import LOOK, STEPS, Outside, curve, search, steps_of, toy_sweep, wiggle

pytestmark = pytest.mark.slow

SEEDS, TRIALS = range(20), 40
MARGIN = 0.02
"""Two standard deviations of what evaluations of one trial differ by: less is no difference that anybody could see."""


def outcome(seed, **changes):
    """(what the trial that the sweep calls best is worth without noise, steps trained in all)."""
    sweep = toy_sweep(
        **{
            "sweep": {"name": "toy", "seed": seed},
            "budget": {"trials": TRIALS, "steps": STEPS},
            "sampler": {},
            "pruner": None,
            **changes,
        }
    )
    outside = Outside()
    study = search(sweep, InMemoryStorage(), outside, wiggle(seed))
    return curve(study.optuna.best_trial.params, STEPS), steps_of(outside)


@pytest.fixture(scope="module")
def tpe():
    return np.array([outcome(seed) for seed in SEEDS])


def test_tpe_beats_random_search(tpe):
    random = np.array([outcome(seed, sampler={"kind": "random"}) for seed in SEEDS])
    p = wilcoxon(tpe[:, 0], random[:, 0], alternative="less").pvalue
    print(f"medians: TPE {np.median(tpe[:, 0]):.3f}, random {np.median(random[:, 0]):.3f}; p = {p:.2g}")  # noqa: T201
    assert p < 0.01


def test_early_ends_save_steps_at_equal_quality(tpe):
    """Not worse by MARGIN or more: a one-sided signed-rank test of the differences against it, on paired seeds."""
    asha = np.array([outcome(seed, pruner={"min_steps": LOOK, "factor": 3}) for seed in SEEDS])
    saved = 1 - asha[:, 1].sum() / tpe[:, 1].sum()
    worse = asha[:, 0] - tpe[:, 0]
    p = wilcoxon(worse - MARGIN, alternative="less").pvalue
    print(f"saved {saved:.0%}; worse by {np.median(worse):.4f} (median), p = {p:.2g}")  # noqa: T201
    assert saved >= 0.4
    assert p < 0.01
